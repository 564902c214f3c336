//! The safetensors format: a JSON header over one run of tensor bytes. Zero-copy reader, streaming writer.
//!
//! Rules enforced on reading, beyond JSON: the header is at most 100 MB and inside the file; no key appears
//! twice; ranks are at most 8; every length equals shape × dtype; the tensors cover the data exactly, without
//! holes or overlaps. Each broken rule is an [`Error::Format`] that names the tensor or field.
//!
//! The `safetensors` crate has the last word on every file; its own errors name neither tensor nor values, and it
//! lets the last of two equal keys win, so the rules are checked here first.

mod header;
mod write;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use self::header::Rules;
pub use self::write::{Entry, write};
pub(crate) use self::write::{in_memory, size_in_memory};
use super::mapping::Mapping;
use crate::error::{Error, Result};
use crate::tensor::{Dtype, Shape, TensorView};

/// Longest header that is read or written, in bytes.
pub const MAX_HEADER: usize = 100_000_000;

/// Most dimensions a tensor may have.
pub const MAX_RANK: usize = 8;

/// Metadata key whose value [`write()`] fills with the SHA-256 of the tensor bytes, in lower-case hex.
pub const SHA256_KEY: &str = "softdimo.sha256";

const METADATA: &str = "__metadata__";
const DTYPES: [(Dtype, &str); 10] = [
    (Dtype::Bool, "BOOL"),
    (Dtype::U8, "U8"),
    (Dtype::I8, "I8"),
    (Dtype::I16, "I16"),
    (Dtype::I32, "I32"),
    (Dtype::I64, "I64"),
    (Dtype::F16, "F16"),
    (Dtype::BF16, "BF16"),
    (Dtype::F32, "F32"),
    (Dtype::F64, "F64"),
];

/// What the header says about one tensor, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    pub dtype: Dtype,
    pub shape: Shape,
    /// First byte, counted from the beginning of the file.
    pub offset: usize,
    /// Bytes; `shape.len() * dtype.size()`.
    pub len: usize,
}

/// An opened safetensors file. Thread-safe; views borrow the mapping.
#[derive(Debug)]
pub struct SafeTensors {
    mapping: Arc<Mapping>,
    data_start: usize,
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, Info>,
}

impl SafeTensors {
    /// Parses the header of `mapping`; tensor bytes are not touched. `file` is the name for messages.
    ///
    /// # Errors
    /// `Format`, always.
    pub fn open(mapping: Arc<Mapping>, file: &str) -> Result<SafeTensors> {
        let rules = Rules { file };
        let (data_start, header) = rules.header(mapping.bytes())?;
        let tensors = rules.tensors(header.tensors, data_start, mapping.bytes().len())?;
        let metadata = rules.unique(METADATA, header.metadata)?;
        ::safetensors::SafeTensors::read_metadata(mapping.bytes()).map_err(|e| Error::Format {
            file: file.into(),
            what: "header".into(),
            expected: "one that the safetensors crate accepts".into(),
            found: e.to_string(),
        })?;
        Ok(SafeTensors { mapping, data_start, metadata, tensors })
    }

    /// True when `bytes` begin like a safetensors file: a header length, then `{`.
    pub fn sniff(bytes: &[u8]) -> bool {
        bytes.get(8) == Some(&b'{')
    }

    /// The `__metadata__` of the file; empty when it has none.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, Info> {
        &self.tensors
    }

    /// A view of the named tensor in the mapping.
    pub fn get(&self, name: &str) -> Option<TensorView<'_>> {
        let info = self.tensors.get(name)?;
        let data = &self.mapping.bytes()[info.offset..info.offset + info.len];
        Some(TensorView { dtype: info.dtype, shape: info.shape.clone(), data })
    }

    /// The bytes the file lives in.
    pub fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// SHA-256 of all tensor bytes (reads the whole file), as [`SHA256_KEY`] records it.
    pub fn sha256(&self) -> String {
        hex(Sha256::digest(&self.mapping.bytes()[self.data_start..]).as_slice())
    }
}

/// Bytes of a tensor; `None` when it overflows.
fn byte_len(dtype: Dtype, shape: &Shape) -> Option<usize> {
    // A zero dimension does not excuse the others: their product must not overflow either.
    let nonzero = shape.iter().filter(|&&d| d != 0).try_fold(1usize, |n, &d| n.checked_mul(d))?;
    nonzero.checked_mul(dtype.size())?;
    Some(shape.len() * dtype.size())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

//! The model file, `NAME.softdimo.safetensors`: tensors under component prefixes (`student.`, `teacher.`, `text.`,
//! `encoder.`, `decoder.`; a reward's `reward.`) and official names, everything else in `__metadata__`. Nothing here knows
//! a family; `docs/model-file.md` is the format.

pub(crate) mod finite;
pub(crate) mod header;
pub(crate) mod labels;
pub(crate) mod packed;
pub(crate) mod write;

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::checkpoint::{Mapping, ReadFrom};
use crate::error::Result;

/// Metadata key of the format.
pub(crate) const FORMAT: &str = "softdimo.format";

/// Values of `softdimo.format` that this library writes and reads; the second has matrices that are stored for int8
/// arithmetic, the third some in int4.
pub const FORMATS: [&str; 3] = ["1", "2", "3"];

/// [`FORMATS`] in words.
pub(crate) const KNOWN_FORMATS: &str = "1, 2 or 3";

/// Metadata key that says how the weights are stored: "none", "f16", "int8" or "int4".
pub const QUANTIZATION: &str = "softdimo.quantization";

/// Metadata key that says what transparent pixels are seen against: a colour, `#rrggbb`.
pub const BACKGROUND: &str = "softdimo.background";

/// How a colour is written.
pub(crate) const COLOR: &str = "a colour, #rrggbb";

/// Red, green and blue of [`COLOR`].
pub(crate) fn parse_color(text: &str) -> Option<[u8; 3]> {
    let digits =
        text.strip_prefix('#').filter(|d| d.len() == 6 && d.bytes().all(|b| b.is_ascii_hexdigit()))?;
    let [_, r, g, b] = u32::from_str_radix(digits, 16).ok()?.to_be_bytes();
    Some([r, g, b])
}

/// Prefix of the tensors of a reward's network in its file.
pub const REWARD_COMPONENT: &str = "reward";

/// How the file's bytes are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WeightsMode {
    /// Mapped read-only; pages are shared with other processes and never count as the host's own memory.
    #[default]
    Map,
    /// Copied into memory once; the file may change afterwards.
    Read,
    /// Mapped, with a SIGBUS guard: truncating the file fails the job instead of killing the host.
    MapGuarded,
}

impl WeightsMode {
    /// The file's bytes, held this way.
    pub(crate) fn open(self, path: &Path) -> Result<Arc<Mapping>> {
        Ok(Arc::new(match self {
            WeightsMode::Map => Mapping::map(path),
            WeightsMode::Read => Mapping::read(path),
            WeightsMode::MapGuarded => Mapping::map_guarded(path),
        }?))
    }
}

/// A class label of the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassLabel {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// What to say about a model in its file.
#[derive(Clone, Debug, Default)]
pub struct About {
    pub title: Option<String>,
    pub license: Option<String>,
    pub author: Option<String>,
    pub description: Option<String>,
    /// Where the weights come from, in words (repository, commit).
    pub origin: Option<String>,
    /// Of a generator of pictures with alpha: what transparent pixels are seen against, `#rrggbb`; default: white.
    pub background: Option<String>,
}

/// What was written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Summary {
    pub tensors: usize,
    pub bytes: u64,
    /// Digest of the tensor bytes, also in the file's metadata.
    pub sha256: String,
    /// Of a conversion: the dictionaries that were read, of checkpoints whose tensors lie in one.
    pub read_from: Vec<ReadFrom>,
}

//! The zip form of a PyTorch file: which of its bytes are `data.pkl`, and which are each storage.
//!
//! ZipEntry names are only ever compared, never used as paths.

use std::collections::HashMap;
use std::ops::Range;

use rawzip::{CompressionMethod, ZipArchive};

use crate::error::{Error, Result};

/// Most entries a file may have; one for each storage.
const MAX_ENTRIES: usize = 1 << 20;

/// The entries below the prefix that holds `data.pkl`, as ranges of the file.
pub(super) struct Zip {
    prefix: String,
    entries: HashMap<String, ZipEntry>,
}

struct ZipEntry {
    range: Range<usize>,
    stored: bool,
}

/// What a zip archive without a pickle is, as its entries tell.
fn what_is<'e>(entries: impl Iterator<Item = &'e str> + Clone) -> Option<&'static str> {
    let any = |end: &str| entries.clone().any(|name| name.ends_with(end));
    let all = |end: &str| entries.clone().all(|name| name.ends_with(end));
    match () {
        () if entries.clone().next().is_none() => Some("an empty zip archive"),
        () if all(".npy") => Some("a NumPy .npz archive; save the weights as safetensors"),
        () if any("model.weights.h5") => Some("a Keras model; save its weights as safetensors"),
        () if any("saved_model.pb") => Some("a TensorFlow SavedModel; its weights are not read"),
        () if any(".safetensors") || any(".pth") || any(".ckpt") || any(".bin") || any(".pt") => {
            Some("a zip archive around the checkpoint; unpack it first")
        }
        () if any("[Content_Types].xml") => Some("an office document"),
        () => None,
    }
}

impl Zip {
    /// Reads the central directory.
    ///
    /// # Errors
    /// `Format`.
    pub fn read(bytes: &[u8], file: &str) -> Result<Zip> {
        let broken = |expected: &str, found: String| Error::Format {
            file: file.into(),
            what: "zip archive".into(),
            expected: expected.into(),
            found,
        };
        let unreadable = |e: rawzip::Error| {
            broken(
                "a readable directory at the end of the file (one that was cut short has none)",
                e.to_string(),
            )
        };
        let archive = ZipArchive::from_slice(bytes).map_err(unreadable)?;
        let mut all = HashMap::new();
        let mut records = archive.entries();
        while let Some(record) = records.next_entry().map_err(unreadable)? {
            if all.len() == MAX_ENTRIES {
                return Err(broken(&format!("at most {MAX_ENTRIES} entries"), "more".into()));
            }
            let name = String::from_utf8_lossy(record.file_path().as_bytes()).into_owned();
            let entry = archive.get_entry(record.wayfinder()).map_err(|e| {
                broken("entries inside the file (it may have been cut short)", format!("'{name}': {e}"))
            })?;
            let (start, end) = entry.compressed_data_range();
            // Both fit: rawzip has sliced the file with them.
            let range = start as usize..end as usize;
            let stored = record.compression_method() == CompressionMethod::STORE;
            if stored && record.uncompressed_size_hint() != range.len() as u64 {
                let found = format!("'{name}': {} and {}", record.uncompressed_size_hint(), range.len());
                return Err(broken("equal sizes for an entry stored without compression", found));
            }
            if all.insert(name.clone(), ZipEntry { range, stored }).is_some() {
                return Err(broken("every entry once", format!("'{name}' twice")));
            }
        }
        let mut prefixes: Vec<_> = all.keys().filter_map(|name| name.strip_suffix("data.pkl")).collect();
        prefixes.retain(|prefix| prefix.is_empty() || prefix.ends_with('/'));
        let [prefix] = prefixes[..] else {
            let found = what_is(all.keys().map(String::as_str)).map(str::to_string);
            let found = found.unwrap_or_else(|| format!("{} of {} entries", prefixes.len(), all.len()));
            return Err(broken("one 'data.pkl', as PyTorch 1.6 and later write it", found));
        };
        Ok(Zip { prefix: prefix.into(), entries: all })
    }

    /// The byte range of an entry below the prefix, `None` when there is none.
    ///
    /// # Errors
    /// `Unsupported` when it is compressed.
    pub fn find(&self, name: &str) -> Result<Option<Range<usize>>> {
        match self.entries.get(&format!("{}{name}", self.prefix)) {
            None => Ok(None),
            Some(entry) if entry.stored => Ok(Some(entry.range.clone())),
            Some(_) => Err(Error::Unsupported {
                what: format!("compressed zip entry '{name}'"),
                reason: "PyTorch stores entries uncompressed; load the file and save it again".into(),
            }),
        }
    }
}

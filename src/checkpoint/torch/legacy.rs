//! The form PyTorch wrote before 1.6 (and writes with `_use_new_zipfile_serialization=False`).
//!
//! Five pickles (magic number, protocol, system info, the object, storage keys), then for each key an element
//! count (u64) and the raw elements.

use std::collections::HashMap;
use std::ops::Range;

use super::pickle::Pickle;
use super::value::PickleValue;
use crate::error::{Error, Result};

/// 0x1950a86a20f9469cfc6c, little-endian as the pickle has it.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const PROTOCOL: i64 = 1001;

pub(super) struct Legacy<'a> {
    pub object: Pickle<'a>,
    /// Byte range of each storage, by key.
    pub storages: HashMap<String, Range<usize>>,
}

/// True when `bytes` begin with a pickle of protocol 2 to 5.
pub(super) fn sniff(bytes: &[u8]) -> bool {
    matches!(bytes, [0x80, 2..=5, ..])
}

impl<'a> Legacy<'a> {
    /// Reads the pickles and locates the storages.
    ///
    /// # Errors
    /// `Format`; `Unsupported` for big-endian files.
    pub fn read(bytes: &'a [u8], file: &str) -> Result<Legacy<'a>> {
        let broken = |what: String, expected: String, found: String| Error::Format {
            file: file.into(),
            what,
            expected,
            found,
        };
        let mut at = 0;
        let mut next = |what: &str| -> Result<Pickle<'a>> {
            let pickle = Pickle::read(&bytes[at..], file, what)?;
            at += pickle.len;
            Ok(pickle)
        };

        let magic = next("magic number")?;
        if !matches!(magic.value(magic.root), PickleValue::Bytes(found) if *found == MAGIC) {
            let found = magic.value(magic.root).describe();
            return Err(broken("magic number".into(), "that of a PyTorch file".into(), found));
        }
        let protocol = next("protocol version")?;
        if !matches!(protocol.value(protocol.root), PickleValue::Int(PROTOCOL)) {
            let found = protocol.value(protocol.root).describe();
            return Err(broken("protocol version".into(), PROTOCOL.to_string(), found));
        }
        let system = next("system info")?;
        if let PickleValue::Dict(items) = system.value(system.root)
            && items.iter().any(|&(key, value)| {
                matches!(system.value(key), PickleValue::Text("little_endian"))
                    && !matches!(system.value(value), PickleValue::Bool(true))
            })
        {
            return Err(Error::Unsupported {
                what: "a big-endian checkpoint".into(),
                reason: format!("{file} was written on a big-endian machine; save it again on another"),
            });
        }
        let object = next("object pickle")?;
        let keys = next("storage keys")?;
        let PickleValue::List(order) = keys.value(keys.root) else {
            let found = keys.value(keys.root).describe();
            return Err(broken("storage keys".into(), "a list".into(), found));
        };

        let claimed: HashMap<&str, _> = object
            .values()
            .iter()
            .filter_map(|value| match value {
                PickleValue::Storage(storage) => Some((storage.key, (storage.element, storage.count))),
                _ => None,
            })
            .collect();
        let mut storages = HashMap::new();
        for &key in order {
            let PickleValue::Text(key) = *keys.value(key) else {
                let found = keys.value(key).describe();
                return Err(broken("storage keys".into(), "strings".into(), found));
            };
            let what = || format!("storage '{key}'");
            let Some(&(element, count)) = claimed.get(key) else {
                return Err(broken(what(), "a tensor that uses it".into(), "none".into()));
            };
            let Some(size) = element.size() else {
                let found = format!("{element:?}");
                return Err(broken(what(), "an element type of known size".into(), found));
            };
            let Some((stored, _)) = bytes[at..].split_first_chunk::<8>() else {
                let found = format!("{} bytes (the file was cut short)", bytes.len() - at);
                return Err(broken(what(), "8 bytes of element count".into(), found));
            };
            let stored = u64::from_le_bytes(*stored);
            if stored != count {
                return Err(broken(what(), format!("{count} elements"), format!("{stored} elements")));
            }
            at += 8;
            let end = usize::try_from(stored).ok().and_then(|n| n.checked_mul(size)?.checked_add(at));
            let Some(end) = end.filter(|&end| end <= bytes.len()) else {
                let found = format!("{} bytes (the file was cut short)", bytes.len() - at);
                return Err(broken(what(), format!("{stored} elements of {size} bytes"), found));
            };
            if storages.insert(key.into(), at..end).is_some() {
                return Err(broken(what(), "every storage once".into(), "it twice".into()));
            }
            at = end;
        }
        Ok(Legacy { object, storages })
    }
}

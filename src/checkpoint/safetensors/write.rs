//! The streaming writer of safetensors files.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::super::mapping::Mapping;
use super::{DTYPES, MAX_HEADER, MAX_RANK, METADATA, SHA256_KEY, byte_len, hex};
use crate::atomic_file::AtomicFile;
use crate::error::{Error, Result};
use crate::tensor::{Dtype, Shape};

/// A tensor to be written by [`write()`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Shape,
}

/// Writes a safetensors file, asking `produce` for one tensor's bytes at a time; the same input always gives
/// the same file. Returns the SHA-256 of the tensor bytes, in lower-case hex.
///
/// Tensors are stored by decreasing element size, then by name, whatever the order of `entries`: each is
/// aligned to its dtype, the first one to 64 bytes. `produce` is called in that order, once for each tensor.
/// When `metadata` has the key [`SHA256_KEY`], its value in the file is the returned hash. Memory use is that
/// of the header and one tensor. The file is written beside `path` and renamed over it when complete: readers
/// see the old file or the new one, and after an error `path` is as it was.
///
/// # Errors
/// `InvalidArgument` for a repeated or reserved name, an oversized shape or header, or bytes that do not fill the
/// shape; `Io`; whatever `produce` returns.
pub fn write<'a>(
    path: impl AsRef<Path>,
    metadata: &BTreeMap<String, String>,
    entries: &[Entry],
    mut produce: impl FnMut(&str) -> Result<Cow<'a, [u8]>>,
) -> Result<String> {
    let path = path.as_ref();
    let mut order: Vec<&Entry> = entries.iter().collect();
    order.sort_by(|a, b| (b.dtype.size(), &a.name).cmp(&(a.dtype.size(), &b.name)));
    let header = compose_header(metadata, &order)?;

    let target = AtomicFile::create(path)?;
    let failed = |e| Error::io(path, e);
    let mut out = BufWriter::with_capacity(1 << 20, target.writer());
    let mut hash = Sha256::new();
    out.write_all(&header.bytes).map_err(failed)?;
    for entry in order {
        let bytes = produce(&entry.name)?;
        let expected = byte_len(entry.dtype, &entry.shape).unwrap_or(0);
        if bytes.len() != expected {
            return Err(Error::invalid(
                format!("tensor '{}'", entry.name),
                format!("{expected} bytes for {}{}", entry.dtype, entry.shape),
                format!("{} bytes", bytes.len()),
            ));
        }
        hash.update(&bytes);
        out.write_all(&bytes).map_err(failed)?;
    }
    let hash = hex(hash.finalize().as_slice());
    out.flush().map_err(failed)?;
    drop(out);
    if let Some(at) = header.hash_at {
        let mut file = target.writer();
        file.seek(SeekFrom::Start(at as u64)).map_err(failed)?;
        file.write_all(hash.as_bytes()).map_err(failed)?;
    }
    target.commit()?;
    Ok(hash)
}

/// Bytes of a file of `entries` without metadata, its header included; [`in_memory`] makes one.
///
/// # Errors
/// As those of [`write()`] that are about `entries`.
pub(crate) fn size_in_memory(entries: &[Entry]) -> Result<u64> {
    let order: Vec<&Entry> = entries.iter().collect();
    let data = entries.iter().map(|e| byte_len(e.dtype, &e.shape).unwrap_or(0) as u64);
    Ok(compose_header(&BTreeMap::new(), &order)?.bytes.len() as u64 + data.sum::<u64>())
}

/// A file of `entries` in memory, without metadata, in the order of [`write()`]: `fill` gets every tensor's name and bytes,
/// which are zeros. `name` is the file's in messages.
///
/// # Errors
/// As [`write()`]; `Exhausted` where there is no memory for it.
pub(crate) fn in_memory(
    name: &str,
    entries: &[Entry],
    mut fill: impl FnMut(&str, &mut [u8]) -> Result<()>,
) -> Result<Mapping> {
    let mut order: Vec<&Entry> = entries.iter().collect();
    order.sort_by(|a, b| (b.dtype.size(), &a.name).cmp(&(a.dtype.size(), &b.name)));
    let header = compose_header(&BTreeMap::new(), &order)?.bytes;
    let sizes: Vec<usize> = order.iter().map(|e| byte_len(e.dtype, &e.shape).unwrap_or(0)).collect();
    Mapping::filled(name, header.len() + sizes.iter().sum::<usize>(), |bytes| {
        let (first, mut rest) = bytes.split_at_mut(header.len());
        first.copy_from_slice(&header);
        for (entry, size) in order.iter().zip(sizes) {
            let (tensor, others) = rest.split_at_mut(size);
            fill(&entry.name, tensor)?;
            rest = others;
        }
        Ok(())
    })
}

struct ComposedHeader {
    /// Length, JSON and padding: a multiple of 64 bytes.
    bytes: Vec<u8>,
    /// Where the 64 characters of the hash go, counted from the beginning of the file.
    hash_at: Option<usize>,
}

fn compose_header(metadata: &BTreeMap<String, String>, order: &[&Entry]) -> Result<ComposedHeader> {
    let mut json = String::from("{");
    let mut hash_at = None;
    if !metadata.is_empty() {
        let _ = write!(json, "{}:{{", quoted(METADATA));
        for (i, (key, value)) in metadata.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let _ = write!(json, "{comma}{}:", quoted(key));
            if key == SHA256_KEY {
                hash_at = Some(8 + json.len() + 1);
                let _ = write!(json, "\"{:064}\"", 0);
            } else {
                json += &quoted(value);
            }
        }
        json += "}";
    }
    let mut offset = 0usize;
    let mut names = BTreeSet::new();
    for entry in order {
        let name = &entry.name;
        if name == METADATA || !names.insert(name) {
            let found = if name == METADATA { "the reserved name" } else { "two of it" };
            return Err(Error::invalid(format!("tensor name '{name}'"), "a name used once", found));
        }
        let what = || format!("tensor '{name}'");
        if entry.shape.rank() > MAX_RANK {
            return Err(Error::invalid(what(), format!("at most {MAX_RANK} dimensions"), &entry.shape));
        }
        let end = byte_len(entry.dtype, &entry.shape).and_then(|len| offset.checked_add(len));
        let end = end.ok_or_else(|| Error::invalid(what(), "a size that fits 64 bits", &entry.shape))?;
        let comma = if json.len() > 1 { "," } else { "" };
        let dtype = DTYPES.iter().find(|(dtype, _)| *dtype == entry.dtype).map_or("", |(_, text)| *text);
        let dims: Vec<_> = entry.shape.iter().map(usize::to_string).collect();
        let _ = write!(
            json,
            "{comma}{}:{{\"dtype\":\"{dtype}\",\"shape\":[{}],\"data_offsets\":[{offset},{end}]}}",
            quoted(name),
            dims.join(",")
        );
        offset = end;
    }
    json += "}";
    let padded = (8 + json.len()).next_multiple_of(64) - 8;
    if padded > MAX_HEADER {
        return Err(Error::invalid("header", format!("at most {MAX_HEADER} bytes"), padded));
    }
    let mut bytes = (padded as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(json.as_bytes());
    bytes.resize(8 + padded, b' ');
    Ok(ComposedHeader { bytes, hash_at })
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::SafeTensors;
    use super::*;
    use crate::checkpoint::Mapping;

    fn sample() -> (BTreeMap<String, String>, Vec<Entry>) {
        let metadata = [(SHA256_KEY, ""), ("a \"quoted\"\n key", "välue"), ("format", "pt")];
        let entry =
            |name: &str, dtype, shape: &[usize]| Entry { name: name.into(), dtype, shape: shape.into() };
        let entries = vec![
            entry("bytes", Dtype::U8, &[3]),
            entry("b.weight", Dtype::F32, &[2, 3]),
            entry("a.weight", Dtype::F32, &[]),
            entry("wide", Dtype::I64, &[2]),
            entry("half", Dtype::F16, &[5]),
            entry("empty", Dtype::F64, &[0, 4]),
        ];
        (metadata.map(|(k, v)| (k.to_string(), v.to_string())).into(), entries)
    }

    fn bytes_of(entry: &Entry) -> Vec<u8> {
        (0..byte_len(entry.dtype, &entry.shape).unwrap()).map(|i| i as u8 ^ entry.name.len() as u8).collect()
    }

    fn produce(entries: &[Entry], name: &str) -> Result<Cow<'static, [u8]>> {
        Ok(Cow::Owned(bytes_of(entries.iter().find(|e| e.name == name).unwrap())))
    }

    #[test]
    fn what_is_written_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.safetensors");
        let (metadata, entries) = sample();
        let mut asked = Vec::new();
        let hash = write(&path, &metadata, &entries, |name| {
            asked.push(name.to_string());
            produce(&entries, name)
        })
        .unwrap();
        assert_eq!(asked, ["empty", "wide", "a.weight", "b.weight", "half", "bytes"]);

        let file = SafeTensors::open(Arc::new(Mapping::map(&path).unwrap()), "out").unwrap();
        assert_eq!(file.sha256(), hash);
        assert_eq!(file.metadata()[SHA256_KEY], hash);
        assert_eq!(file.metadata()["a \"quoted\"\n key"], "välue");
        assert_eq!(file.tensors()["empty"].offset % 64, 0);
        for entry in &entries {
            let view = file.get(&entry.name).unwrap();
            assert_eq!((view.dtype, &view.shape), (entry.dtype, &entry.shape));
            assert_eq!(view.data, bytes_of(entry));
            assert_eq!(file.tensors()[&entry.name].offset % entry.dtype.size(), 0);
        }
        // The reference parser reads the same.
        let bytes = std::fs::read(&path).unwrap();
        let reference = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(reference.len(), entries.len());
        for entry in &entries {
            assert_eq!(reference.tensor(&entry.name).unwrap().data(), bytes_of(entry));
        }
    }

    #[test]
    fn writing_is_deterministic() {
        let dir = tempfile::tempdir().unwrap();
        let (metadata, mut entries) = sample();
        let mut files = Vec::new();
        for name in ["1", "2"] {
            write(dir.path().join(name), &metadata, &entries, |name| produce(&entries, name)).unwrap();
            files.push(std::fs::read(dir.path().join(name)).unwrap());
            entries.reverse();
        }
        assert_eq!(files[0], files[1]);
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.safetensors");
        std::fs::write(&path, "old").unwrap();
        let (metadata, mut entries) = sample();
        let short = write(&path, &metadata, &entries, |_| Ok(Cow::Borrowed(&[1, 2][..])));
        assert_eq!(
            short.unwrap_err().to_string(),
            "tensor 'empty': expected 0 bytes for f64[0, 4], found 2 bytes"
        );
        assert!(write(&path, &metadata, &entries, |_| Err(Error::Cancelled)).is_err());
        entries.push(entries[0].clone());
        let twice = write(&path, &metadata, &entries, |name| produce(&entries, name));
        assert_eq!(
            twice.unwrap_err().to_string(),
            "tensor name 'bytes': expected a name used once, found two of it"
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

//! The safetensors format: a JSON header over one run of tensor bytes. Zero-copy reader, streaming writer.
//!
//! Rules enforced on reading, beyond JSON: the header is at most 100 MB and inside the file; no key appears
//! twice; ranks are at most 8; every length equals shape × dtype; the tensors cover the data exactly, without
//! holes or overlaps. Each broken rule is an [`Error::Format`] that names the tensor or field.
//!
//! The `safetensors` crate's parser checks most of this too, but names neither tensor nor values, and lets the
//! last of two equal keys win; it serves as the reference in the tests instead.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use sha2::{Digest, Sha256};

use super::mapping::Mapping;
use crate::error::{Error, Result};
use crate::tensor::{Dtype, Shape, TensorView};

/// Longest header that is read or written, in bytes.
pub const MAX_HEADER: usize = 100_000_000;

/// Most dimensions a tensor may have.
pub const MAX_RANK: usize = 8;

/// Metadata key whose value [`write`] fills with the SHA-256 of the tensor bytes, in lower-case hex.
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
    /// Errors: `Format`, always.
    pub fn open(mapping: Arc<Mapping>, file: &str) -> Result<SafeTensors> {
        let rules = Rules { file };
        let (data_start, header) = rules.header(mapping.bytes())?;
        let tensors = rules.tensors(header.tensors, data_start, mapping.bytes().len())?;
        let metadata = rules.unique(METADATA, header.metadata)?;
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

/// The header as parsed: every key in file order, nothing checked but the JSON types.
#[derive(Default)]
struct Header {
    metadata: Vec<(String, String)>,
    tensors: Vec<(String, RawInfo)>,
}

struct RawInfo {
    dtype: String,
    shape: Vec<u64>,
    begin: u64,
    end: u64,
}

struct Rules<'a> {
    file: &'a str,
}

impl Rules<'_> {
    fn broken(&self, what: impl Into<String>, expected: impl Into<String>, found: impl ToString) -> Error {
        Error::Format {
            file: self.file.into(),
            what: what.into(),
            expected: expected.into(),
            found: found.to_string(),
        }
    }

    /// The parsed header and the offset of the first data byte.
    fn header(&self, bytes: &[u8]) -> Result<(usize, Header)> {
        let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
            let found = format!("{} bytes", bytes.len());
            return Err(self.broken("file size", "at least 8 bytes (safetensors header length)", found));
        };
        let length = u64::from_le_bytes(*length);
        let limit = MAX_HEADER.min(rest.len());
        let text =
            usize::try_from(length).ok().filter(|&n| n <= limit).map(|n| &rest[..n]).ok_or_else(|| {
                let expected =
                    format!("at most {limit} (else it is not a safetensors file, or the file was cut short)");
                self.broken("header length", expected, length)
            })?;
        if text.first() != Some(&b'{') {
            let found = text.first().map_or("an empty header".into(), |b| format!("byte 0x{b:02x}"));
            return Err(self.broken("header", "'{' (is this a safetensors file?)", found));
        }
        let text = std::str::from_utf8(text)
            .map_err(|e| self.broken("header", "UTF-8", format!("{e} in header")))?;
        let mut header = Header::default();
        let mut at = None;
        let mut json = serde_json::Deserializer::from_str(text);
        let parsed = HeaderSeed { header: &mut header, at: &mut at }.deserialize(&mut json);
        parsed.and_then(|()| json.end()).map_err(|e| {
            let what = at.map_or("header".into(), |key| format!("header entry '{key}'"));
            self.broken(what, "safetensors header JSON", e)
        })?;
        Ok((8 + text.len(), header))
    }

    fn tensors(
        &self,
        raw: Vec<(String, RawInfo)>,
        data_start: usize,
        file_len: usize,
    ) -> Result<BTreeMap<String, Info>> {
        let data_len = file_len - data_start;
        let checked = raw.into_iter().map(|(name, raw)| {
            let info = self.info(&name, raw, data_start, data_len)?;
            Ok((name, info))
        });
        let tensors = self.unique("header", checked.collect::<Result<Vec<_>>>()?)?;

        let mut order: Vec<_> = tensors.iter().collect();
        order.sort_by_key(|(_, info)| (info.offset, info.len));
        let mut covered = data_start;
        for (name, info) in order {
            if info.offset != covered {
                let kind = if info.offset < covered { "an overlap" } else { "a hole" };
                return Err(self.broken(
                    format!("tensor '{name}' data_offsets"),
                    format!(
                        "begin {} (tensors follow each other without holes or overlaps)",
                        covered - data_start
                    ),
                    format!("{} ({kind})", info.offset - data_start),
                ));
            }
            covered += info.len;
        }
        if covered != file_len {
            let expected = format!("{} bytes of tensor data, as the header says", covered - data_start);
            return Err(self.broken("file size", expected, format!("{data_len} bytes")));
        }
        Ok(tensors)
    }

    fn info(&self, name: &str, raw: RawInfo, data_start: usize, data_len: usize) -> Result<Info> {
        let dtype = DTYPES.iter().find(|(_, text)| *text == raw.dtype).map(|&(dtype, _)| dtype);
        let dtype = dtype.ok_or_else(|| {
            let known: Vec<_> = DTYPES.iter().map(|&(_, text)| text).collect();
            self.broken(
                format!("tensor '{name}' dtype"),
                format!("one of {}", known.join(" ")),
                format!("'{}'", raw.dtype),
            )
        })?;
        let dims: Option<Vec<usize>> = raw.shape.iter().map(|&d| usize::try_from(d).ok()).collect();
        let shape = dims.map(Shape);
        let Some((shape, len)) = shape.and_then(|shape| {
            let len = byte_len(dtype, &shape)?;
            Some((shape, len))
        }) else {
            let found = format!("{dtype}{:?}", raw.shape);
            return Err(self.broken(format!("tensor '{name}' shape"), "a size that fits 64 bits", found));
        };
        let what = || format!("tensor '{name}' data_offsets");
        let found = || format!("[{}, {}]", raw.begin, raw.end);
        if raw.begin > raw.end {
            return Err(self.broken(what(), "begin not after end", found()));
        }
        let (Ok(begin), Ok(end)) = (usize::try_from(raw.begin), usize::try_from(raw.end)) else {
            return Err(self.broken(what(), format!("offsets up to {data_len}"), found()));
        };
        if end > data_len {
            let expected = format!("offsets up to {data_len} (the file may have been cut short)");
            return Err(self.broken(what(), expected, found()));
        }
        if end - begin != len {
            let found = format!("{} bytes ({})", end - begin, found());
            return Err(self.broken(what(), format!("{len} bytes for {dtype}{shape}"), found));
        }
        Ok(Info { dtype, shape, offset: data_start + begin, len })
    }

    fn unique<T>(&self, what: &str, entries: Vec<(String, T)>) -> Result<BTreeMap<String, T>> {
        let mut map = BTreeMap::new();
        for (key, value) in entries {
            if map.contains_key(&key) {
                return Err(self.broken(what, "every key once", format!("'{key}' twice")));
            }
            map.insert(key, value);
        }
        Ok(map)
    }
}

fn byte_len(dtype: Dtype, shape: &Shape) -> Option<usize> {
    // A zero dimension does not excuse the others: their product must not overflow either.
    let nonzero = shape.iter().filter(|&&d| d != 0).try_fold(1usize, |n, &d| n.checked_mul(d))?;
    nonzero.checked_mul(dtype.size())?;
    Some(shape.len() * dtype.size())
}

/// Reads the top-level object. `at` is the key being read, for the message when something in it is wrong.
struct HeaderSeed<'a> {
    header: &'a mut Header,
    at: &'a mut Option<String>,
}

impl<'de> DeserializeSeed<'de> for HeaderSeed<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeaderSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen_metadata = false;
        while let Some(key) = map.next_key::<String>()? {
            let key = self.at.insert(key);
            if key == METADATA {
                if std::mem::replace(&mut seen_metadata, true) {
                    return Err(serde::de::Error::custom("a second __metadata__"));
                }
                map.next_value_seed(StringsSeed(&mut self.header.metadata))?;
            } else {
                let info = map.next_value_seed(InfoSeed)?;
                self.header.tensors.push((key.clone(), info));
            }
            *self.at = None;
        }
        Ok(())
    }
}

struct StringsSeed<'a>(&'a mut Vec<(String, String)>);

impl<'de> DeserializeSeed<'de> for StringsSeed<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for StringsSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(entry) = map.next_entry()? {
            self.0.push(entry);
        }
        Ok(())
    }
}

struct InfoSeed;

impl<'de> DeserializeSeed<'de> for InfoSeed {
    type Value = RawInfo;
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<RawInfo, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for InfoSeed {
    type Value = RawInfo;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with dtype, shape and data_offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawInfo, A::Error> {
        use serde::de::Error as _;
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        while let Some(field) = map.next_key::<String>()? {
            let again = match field.as_str() {
                "dtype" => dtype.replace(map.next_value::<String>()?).is_some(),
                "shape" => shape.replace(map.next_value_seed(NumbersSeed { most: MAX_RANK })?).is_some(),
                "data_offsets" => offsets.replace(map.next_value_seed(NumbersSeed { most: 2 })?).is_some(),
                // A field that a later version of the format adds may change what the others mean.
                _ => return Err(A::Error::unknown_field(&field, &["dtype", "shape", "data_offsets"])),
            };
            if again {
                return Err(A::Error::custom(format_args!("field '{field}' twice")));
            }
        }
        let dtype = dtype.ok_or_else(|| A::Error::missing_field("dtype"))?;
        let shape = shape.ok_or_else(|| A::Error::missing_field("shape"))?;
        let offsets = offsets.ok_or_else(|| A::Error::missing_field("data_offsets"))?;
        let [begin, end] = offsets[..] else {
            return Err(A::Error::invalid_length(offsets.len(), &"two data_offsets"));
        };
        Ok(RawInfo { dtype, shape, begin, end })
    }
}

/// At most `most` unsigned numbers, so that a long list cannot make a long allocation.
struct NumbersSeed {
    most: usize,
}

impl<'de> DeserializeSeed<'de> for NumbersSeed {
    type Value = Vec<u64>;
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Vec<u64>, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for NumbersSeed {
    type Value = Vec<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {} unsigned numbers", self.most)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u64>, A::Error> {
        let mut numbers = Vec::new();
        while let Some(number) = list.next_element()? {
            if numbers.len() == self.most {
                return Err(serde::de::Error::invalid_length(numbers.len() + 1, &self));
            }
            numbers.push(number);
        }
        Ok(numbers)
    }
}

/// A tensor to be written by [`write`].
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
/// Errors: `InvalidArgument` for a repeated or reserved name, an oversized shape or header, or bytes that do
/// not fill the shape; `Io`; whatever `produce` returns.
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

    let temporary = Temporary::create(path)?;
    let failed = |e| Error::io(&temporary.path, e);
    let mut out = BufWriter::with_capacity(1 << 20, &temporary.file);
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
        let mut file = &temporary.file;
        file.seek(SeekFrom::Start(at as u64)).map_err(failed)?;
        file.write_all(hash.as_bytes()).map_err(failed)?;
    }
    temporary.rename(path)?;
    Ok(hash)
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
    let mut names = std::collections::BTreeSet::new();
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A file beside its destination, removed unless it was renamed into place.
struct Temporary {
    file: File,
    path: PathBuf,
}

impl Temporary {
    fn create(destination: &Path) -> Result<Temporary> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        if destination.file_name().is_none() {
            return Err(Error::invalid("output path", "a file name", destination.display()));
        }
        loop {
            let n = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = destination.with_file_name(format!(".softdimo-{}-{n}.tmp", std::process::id()));
            match File::options().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Temporary { file, path }),
                // Left behind by a process of the same id that was killed.
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::io(destination, e)),
            }
        }
    }

    fn rename(mut self, destination: &Path) -> Result<()> {
        // Before the rename, or a crash could leave an empty file under the final name.
        self.file.sync_all().map_err(|e| Error::io(&self.path, e))?;
        std::fs::rename(&self.path, destination).map_err(|e| Error::io(destination, e))?;
        self.path.clear();
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(header: &str, data: &[u8]) -> Result<SafeTensors> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        SafeTensors::open(Arc::new(Mapping::from_vec(bytes)), "x.safetensors")
    }

    #[track_caller]
    fn rejects(header: &str, data: usize, message: &str) {
        let e = parse(header, &vec![0; data]).unwrap_err();
        assert!(matches!(e, Error::Format { .. }));
        assert_eq!(e.to_string(), format!("x.safetensors: {message}"));
    }

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
        assert_eq!(file.data_start % 64, 0);
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

    #[test]
    fn no_tensors_at_all() {
        let file = parse("{}", &[]).unwrap();
        assert!(file.tensors().is_empty() && file.metadata().is_empty());
        rejects("{}", 4, "file size: expected 0 bytes of tensor data, as the header says, found 4 bytes");
    }

    #[test]
    fn broken_rules_are_named() {
        rejects(
            r#"{"w":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}"#,
            4,
            "tensor 'w' dtype: expected one of BOOL U8 I8 I16 I32 I64 F16 BF16 F32 F64, found 'F8_E4M3'",
        );
        rejects(
            r#"{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,12]}}"#,
            12,
            "tensor 'w' data_offsets: expected 16 bytes for f32[4], found 12 bytes ([0, 12])",
        );
        rejects(
            r#"{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#,
            12,
            "tensor 'w' data_offsets: expected offsets up to 12 (the file may have been cut short), found [0, 16]",
        );
        rejects(
            r#"{"w":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}}"#,
            4,
            "tensor 'w' data_offsets: expected begin not after end, found [4, 0]",
        );
        rejects(
            r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#,
            6,
            "tensor 'b' data_offsets: expected begin 4 (tensors follow each other without holes or overlaps), \
             found 2 (an overlap)",
        );
        rejects(
            r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[1,5]}}"#,
            5,
            "tensor 'a' data_offsets: expected begin 0 (tensors follow each other without holes or overlaps), \
             found 1 (a hole)",
        );
        rejects(
            r#"{"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#,
            0,
            "tensor 'w' shape: expected a size that fits 64 bits, found f32[4294967296, 4294967296]",
        );
        rejects(
            r#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#,
            2,
            "header: expected every key once, found 'w' twice",
        );
        rejects(
            r#"{"__metadata__":{"k":"1","k":"2"}}"#,
            0,
            "__metadata__: expected every key once, found 'k' twice",
        );
        rejects(
            r#"{"__metadata__":{"k":1}}"#,
            0,
            "header entry '__metadata__': expected safetensors header JSON, \
             found invalid type: integer `1`, expected a string at line 1 column 22",
        );
        rejects(
            r#"{"w":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}}"#,
            1,
            "header entry 'w': expected safetensors header JSON, \
             found invalid length 9, expected a list of at most 8 unsigned numbers at line 1 column 46",
        );
        rejects(
            r#"{"w":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}"#,
            1,
            "header entry 'w': expected safetensors header JSON, \
             found invalid value: integer `-1`, expected u64 at line 1 column 30",
        );
    }

    #[test]
    fn not_a_safetensors_file() {
        let message = |bytes: &[u8]| {
            let mapping = Arc::new(Mapping::from_vec(bytes.to_vec()));
            SafeTensors::open(mapping, "x").unwrap_err().to_string()
        };
        assert_eq!(
            message(b"PK"),
            "x: file size: expected at least 8 bytes (safetensors header length), found 2 bytes"
        );
        assert_eq!(
            message(&[0xff; 20]),
            "x: header length: expected at most 12 (else it is not a safetensors file, or the file was cut \
             short), found 18446744073709551615"
        );
        assert_eq!(
            message(b"\x02\0\0\0\0\0\0\0[]"),
            "x: header: expected '{' (is this a safetensors file?), found byte 0x5b"
        );
        assert!(message(b"\x03\0\0\0\0\0\0\0{\xff}").starts_with("x: header: expected UTF-8"));
        assert!(message(b"\x04\0\0\0\0\0\0\0{}{}").contains("trailing characters"));
    }
}

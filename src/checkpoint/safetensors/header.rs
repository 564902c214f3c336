//! The header of a safetensors file: parsed with limits, then held against every rule of the format.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{DTYPES, Info, MAX_HEADER, MAX_RANK, METADATA, byte_len};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// The header as parsed: every key in file order, nothing checked but the JSON types.
#[derive(Default)]
pub(super) struct Header {
    pub metadata: Vec<(String, String)>,
    pub tensors: Vec<(String, RawInfo)>,
}

pub(super) struct RawInfo {
    dtype: String,
    shape: Vec<u64>,
    begin: u64,
    end: u64,
}

/// The checks, each an error about `file`.
pub(super) struct Rules<'a> {
    pub file: &'a str,
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
    pub fn header(&self, bytes: &[u8]) -> Result<(usize, Header)> {
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

    pub fn tensors(
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

    pub fn unique<T>(&self, what: &str, entries: Vec<(String, T)>) -> Result<BTreeMap<String, T>> {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::SafeTensors;
    use super::*;
    use crate::checkpoint::Mapping;

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

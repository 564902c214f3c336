//! Which bytes are read as which format, and what those of none are called.

use super::safetensors::SafeTensors;
use crate::error::Error;

/// How the files of other formats begin, and what they are called.
const BEGINNINGS: [(&[u8], &str); 17] = [
    (b"GGUF", "a GGUF file (llama.cpp); its quantised weights are not read"),
    (b"ggml", "a GGML file (llama.cpp); its quantised weights are not read"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras); save its weights as safetensors"),
    (b"\x93NUMPY", "a NumPy array; save the weights as safetensors"),
    (b"\x1f\x8b", "a gzip file; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
    (b"\xfd7zXZ\0", "an xz file; unpack it first"),
    (b"BZh", "a bzip2 file; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file; unpack it first"),
    (b"\x04\x22\x4d\x18", "an LZ4 file; unpack it first"),
    (b"Rar!\x1a\x07", "a RAR archive; unpack it first"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x7fELF", "a program or library (ELF)"),
    (b"SQLite format 3\0", "an SQLite database"),
];

/// What `bytes` are when they are plainly no tensor file; `None` when they may be one, damaged or not.
fn plain(bytes: &[u8]) -> Option<String> {
    let named = |name: &str| Some(name.to_string());
    if bytes.is_empty() {
        return named("an empty file");
    }
    if bytes.starts_with(b"version https://git-lfs") {
        return named("a Git LFS pointer (fetch the file itself)");
    }
    if let Some((_, name)) = BEGINNINGS.iter().find(|(beginning, _)| bytes.starts_with(beginning)) {
        return named(name);
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return named("a tar archive; unpack it first");
    }
    if bytes.get(4..8) == Some(b"TFL3") {
        return named("a TensorFlow Lite model");
    }
    match bytes {
        // Protocol buffers: the first field is a small number, the second begins with its tag. The third byte of a
        // safetensors header's length would make it megabytes long, and its ninth is a brace.
        [0x08, 1, 0x12, ..] => return named("a TensorFlow SavedModel; its weights are not read"),
        [0x08, 2..=32, 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42, ..] => {
            return named("an ONNX model; convert from the checkpoint that it was exported from");
        }
        // A map with a short text for its first key.
        [0x81..=0x8f, 0xa1..=0xbf, ..] => {
            return named("a MessagePack file (Flax, JAX); save its weights as safetensors");
        }
        _ => {}
    }
    if bytes.len() >= 8 && bytes.iter().take(4096).all(|&b| b == 0) {
        return named("zeros (a download that was not finished?)");
    }
    text(bytes)
}

/// What a text is. Eight bytes of text are no header's length: a damaged safetensors file is not taken for one.
fn text(bytes: &[u8]) -> Option<String> {
    let start = &bytes[..bytes.len().min(256)];
    let printable = |b: &u8| *b >= 0x20 && *b != 0x7f || b.is_ascii_whitespace();
    let valid = match std::str::from_utf8(start) {
        Ok(text) => text,
        // A character that the end of the window cuts.
        Err(e) if start.len() - e.valid_up_to() < 4 => std::str::from_utf8(&start[..e.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    if !start.iter().all(printable) || valid.trim().is_empty() {
        return None;
    }
    let trimmed = valid.trim_start();
    Some(match trimmed.chars().next() {
        Some('<') => "an HTML or XML page".into(),
        Some('{' | '[') => "JSON text".into(),
        _ => {
            let line: String = trimmed.lines().next().unwrap_or_default().chars().take(40).collect();
            format!("text, which begins '{line}'")
        }
    })
}

/// True when `bytes` go to the safetensors reader: for how they begin, or else for the file's name, so that of a damaged
/// file the reader says what is wrong.
pub(super) fn reads_as_safetensors(bytes: &[u8], file: &str) -> bool {
    SafeTensors::sniff(bytes) || (file.ends_with(".safetensors") && plain(bytes).is_none())
}

/// The error for bytes of no format that is read.
pub(super) fn unknown_format(file: &str, bytes: &[u8]) -> Error {
    let found = plain(bytes).unwrap_or_else(|| {
        let start: Vec<_> = bytes.iter().take(8).map(|b| format!("{b:02x}")).collect();
        format!("bytes {}", start.join(" "))
    });
    let expected = "a safetensors or PyTorch file (zip or legacy)".into();
    Error::Format { file: file.into(), what: "file format".into(), expected, found }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Checkpoint, Mapping};

    /// Whatever the name says, of a checkpoint and of a model file alike.
    #[test]
    fn what_is_no_tensor_file_is_named() {
        let tar = [&[b'a'; 257][..], b"ustar"].concat();
        let contents: [(&[u8], &str); 19] = [
            (b"GGUF\x03\0\0\0", "a GGUF file (llama.cpp); its quantised weights are not read"),
            (b"\x89HDF\r\n\x1a\n\0\0", "an HDF5 file (Keras); save its weights as safetensors"),
            (b"\x1f\x8b\x08\0", "a gzip file; unpack it first"),
            (b"7z\xbc\xaf\x27\x1c\0\x04", "a 7z archive; unpack it first"),
            (&tar, "a tar archive; unpack it first"),
            (
                b"\x08\x08\x12\x07pytorch",
                "an ONNX model; convert from the checkpoint that it was exported from",
            ),
            (b"\x08\x01\x12\x9a\x0c", "a TensorFlow SavedModel; its weights are not read"),
            (b"\x18\0\0\0TFL3", "a TensorFlow Lite model"),
            (b"\x82\xa6params\x82\xa7", "a MessagePack file (Flax, JAX); save its weights as safetensors"),
            (&[0; 5000], "zeros (a download that was not finished?)"),
            (b"{\"message\": \"Not found\"}", "JSON text"),
            (b"Repository not found\n", "text, which begins 'Repository not found'"),
            ("Zugriff verweigert: größe\n".as_bytes(), "text, which begins 'Zugriff verweigert: größe'"),
            (b"hi", "text, which begins 'hi'"),
            (b"", "an empty file"),
            (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer (fetch the file itself)"),
            (b"<!DOCTYPE html>\n<html lang=\"en\">", "an HTML or XML page"),
            (b"\n <html><title>404</title>", "an HTML or XML page"),
            (b"<?xml version=\"1.0\"?><Error/>", "an HTML or XML page"),
        ];
        for (bytes, found) in contents {
            for name in ["x", "x.bin", "x.safetensors"] {
                let mapping = Arc::new(Mapping::from_vec(bytes.to_vec()));
                let expected = format!(
                    "{name}: file format: expected a safetensors or PyTorch file (zip or legacy), found {found}"
                );
                let checkpoint = Checkpoint::from_mapping(mapping.clone(), name).unwrap_err();
                assert_eq!(checkpoint.to_string(), expected);
                let model = Checkpoint::from_safetensors(mapping, name).unwrap_err();
                assert_eq!(model.to_string(), expected);
            }
        }
        // 60, which is '<', is also a header's length: such a file, damaged behind it, is still told apart.
        let damaged = Arc::new(Mapping::from_vec(b"<\0\0\0\0\0\0\0 {}".to_vec()));
        let message = Checkpoint::from_mapping(damaged, "x.safetensors").unwrap_err().to_string();
        assert!(message.contains("header length"), "{message}");
    }
}

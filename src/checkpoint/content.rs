//! Which bytes are read as which format, and what those of none are called.

use super::safetensors::SafeTensors;
use crate::error::Error;

/// What `bytes` are when they are plainly no tensor file; `None` when they may be one, damaged or not.
fn plain(bytes: &[u8]) -> Option<&'static str> {
    // Eight bytes of text are no header's length: a damaged safetensors file is not taken for a page.
    let text = || bytes.iter().take(8).all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace());
    match bytes {
        [] => Some("an empty file"),
        _ if bytes.starts_with(b"version https://git-lfs") => {
            Some("a Git LFS pointer (fetch the file itself)")
        }
        _ if bytes.trim_ascii_start().starts_with(b"<") && text() => Some("an HTML or XML page"),
        _ => None,
    }
}

/// True when `bytes` go to the safetensors reader: for how they begin, or else for the file's name, so that of a damaged
/// file the reader says what is wrong.
pub(super) fn reads_as_safetensors(bytes: &[u8], file: &str) -> bool {
    SafeTensors::sniff(bytes) || (file.ends_with(".safetensors") && plain(bytes).is_none())
}

/// The error for bytes of no format that is read.
pub(super) fn unknown_format(file: &str, bytes: &[u8]) -> Error {
    let found = plain(bytes).map_or_else(
        || {
            let start: Vec<_> = bytes.iter().take(8).map(|b| format!("{b:02x}")).collect();
            format!("bytes {}", start.join(" "))
        },
        str::to_string,
    );
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
        let contents: [(&[u8], &str); 5] = [
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

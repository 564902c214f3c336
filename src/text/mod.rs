//! Text to token ids: the CLIP byte-pair encoding and BERT's WordPiece.
//!
//! Both are exact ports: a text encoder sees the ids its weights were trained with, or its pictures and
//! scores drift for no visible reason. Any UTF-8 string encodes without an error and in time
//! O(n log n); only vocabularies can be malformed.

mod clip_bpe;
mod clip_files;
mod clip_text;
mod fit;
mod prompt;
mod wordpiece;

pub use clip_bpe::{ClipBpe, Flavor};
pub use clip_files::ClipFiles;
pub(crate) use clip_files::read_vocabulary;
pub(crate) use fit::{Overflow, overflow};
pub use prompt::PromptTokenizer;
pub use wordpiece::WordPiece;

use crate::error::{Error, Result};

/// The format error of line `number` (from 1) of a vocabulary.
fn bad_line(file: &str, number: usize, expected: &str, found: &[u8]) -> Error {
    let text = String::from_utf8_lossy(&found[..found.len().min(160)]);
    let start: String = text.chars().take(40).collect();
    let dots = if start.len() < found.len() { "..." } else { "" };
    Error::Format {
        file: file.to_string(),
        what: format!("line {number}"),
        expected: expected.to_string(),
        found: format!("{start:?}{dots}"),
    }
}

/// The lines of a vocabulary, numbered from 1, without the empty one after a final line break.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let count = if bytes.is_empty() { 0 } else { usize::MAX };
    body.split(|&byte| byte == b'\n').take(count).enumerate().map(|(i, line)| (i + 1, line))
}

/// One line as text, or the format error that names it.
fn utf8<'a>(file: &str, number: usize, line: &'a [u8]) -> Result<&'a str> {
    std::str::from_utf8(line).map_err(|_| bad_line(file, number, "UTF-8 text", line))
}

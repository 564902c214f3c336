//! The byte-pair encoding of CLIP: 49408 ids = 256 bytes, 256 bytes that end a word, 48894 merges, start, end.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::clip_text::{self, Piece};
use super::{bad_line, lines, utf8};
use crate::error::{Error, Result};

const FILE: &str = "CLIP vocabulary";
const MERGES: usize = 48894;
/// Longest vocabulary that is looked at, in bytes; the real one has 524605.
const VOCABULARY_LIMIT: usize = 4 << 20;
/// Marks a symbol that ends a word.
const END_OF_WORD: &str = "</w>";

/// Whose text handling to follow: the same vocabulary, but not the same ids for every string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flavor {
    /// OpenAI's `simple_tokenizer` as open_clip 2.30 ships it: ftfy, HTML entities decoded twice, white space
    /// collapsed, lower case; the specials are `<start_of_text>` and `<end_of_text>`.
    ///
    /// Of ftfy everything but the repair of mojibake (UTF-8 once read as another encoding) is done.
    OpenClip,
    /// Hugging Face's `CLIPTokenizerFast`: NFC, white space collapsed, lower case (character by character);
    /// the specials are `<|startoftext|>` and `<|endoftext|>`, found after lower-casing.
    HuggingFace,
}

/// The CLIP tokenizer.
pub struct ClipBpe {
    /// The id of each byte inside a word; 256 more where it ends one.
    bytes: Box<[u32; 256]>,
    /// Two adjacent ids → the id that replaces them. A smaller id is merged first.
    merges: HashMap<(u32, u32), u32>,
    /// The merges as text, see [`ClipBpe::vocabulary_bytes`].
    text: String,
}

impl ClipBpe {
    /// Number of ids; the rows of the token embedding.
    pub const VOCABULARY: usize = 49408;
    /// The id that starts every text.
    pub const START: u32 = 49406;
    /// The id that ends every text.
    pub const END: u32 = 49407;
    /// The positions of CLIP's text encoders, for [`ClipBpe::encode_padded`].
    pub const CONTEXT: usize = 77;

    /// Reads a merges file: OpenAI's `bpe_simple_vocab_16e6.txt`, unpacked, or a Hugging Face `merges.txt`.
    ///
    /// A header line with `#version`, then one merge a line; merges after the first 48894 are not used,
    /// as in CLIP. [`Error::Format`] names the first bad line.
    pub fn from_merges(bytes: &[u8]) -> Result<ClipBpe> {
        ClipBpe::parse_merges(FILE, bytes)
    }

    /// [`ClipBpe::from_merges`]; `file` is named in the errors.
    pub(super) fn parse_merges(file: &str, bytes: &[u8]) -> Result<ClipBpe> {
        let mut lines = lines(bytes);
        let (number, header) = lines.next().unwrap_or((1, b""));
        if !header.windows(8).any(|window| window == b"#version") {
            return Err(bad_line(file, number, "a header with '#version'", header));
        }
        ClipBpe::from_lines(file, lines.take(MERGES), MERGES + 1)
    }

    /// Reads what [`ClipBpe::vocabulary_bytes`] wrote: exactly 48894 lines and no header, at most 4 MiB.
    ///
    /// [`Error::Format`] names the first bad line.
    pub fn from_vocabulary_bytes(bytes: &[u8]) -> Result<ClipBpe> {
        ClipBpe::parse_vocabulary(FILE, bytes)
    }

    /// [`ClipBpe::from_vocabulary_bytes`]; `file` is named in the errors.
    pub(super) fn parse_vocabulary(file: &str, bytes: &[u8]) -> Result<ClipBpe> {
        if bytes.len() > VOCABULARY_LIMIT {
            return Err(Error::Format {
                file: file.to_string(),
                what: "size".to_string(),
                expected: format!("at most {VOCABULARY_LIMIT} bytes"),
                found: bytes.len().to_string(),
            });
        }
        match lines(bytes).nth(MERGES) {
            None => ClipBpe::from_lines(file, lines(bytes), MERGES),
            Some((number, line)) => {
                Err(bad_line(file, number, &format!("the end of the {MERGES} merges"), line))
            }
        }
    }

    /// The vocabulary as it is stored in model files: the 48894 used merges, UTF-8, a line break after each.
    ///
    /// About 525 kB, and the same bytes whatever file it was read from.
    pub fn vocabulary_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// Every symbol with its id, the ids ascending; the specials under Hugging Face's names.
    pub(super) fn symbols(&self) -> impl Iterator<Item = (String, u32)> + '_ {
        let (_, bytes) = byte_symbols();
        let inside = bytes.map(|symbol| symbol.to_string());
        let ends = bytes.map(|symbol| format!("{symbol}{END_OF_WORD}"));
        let merged = self.text.lines().map(|merge| merge.replace(' ', ""));
        let specials = ["<|startoftext|>", "<|endoftext|>"].map(String::from);
        inside.into_iter().chain(ends).chain(merged).chain(specials).zip(0..)
    }

    fn from_lines<'a>(
        file: &str,
        lines: impl Iterator<Item = (usize, &'a [u8])>,
        last: usize,
    ) -> Result<ClipBpe> {
        let (bytes, symbols) = byte_symbols();
        let mut ids = HashMap::with_capacity(ClipBpe::VOCABULARY);
        for (i, symbol) in symbols.iter().enumerate() {
            ids.insert(symbol.to_string(), i as u32);
            ids.insert(format!("{symbol}{END_OF_WORD}"), 256 + i as u32);
        }
        let mut merges = HashMap::with_capacity(MERGES);
        let mut text = String::new();
        for (number, line) in lines {
            let merge = utf8(file, number, line)?;
            let bad = |expected| bad_line(file, number, expected, line);
            let (left, right) = merge.split_once(' ').ok_or_else(|| bad("two symbols and a space"))?;
            // Every merge joins symbols made before it; so greedy order and heap order are the same.
            let (Some(&a), Some(&b)) = (ids.get(left), ids.get(right)) else {
                return Err(bad("two symbols that earlier lines define"));
            };
            let id = 512 + merges.len() as u32;
            if ids.insert(format!("{left}{right}"), id).is_some() {
                return Err(bad("a merge that makes a new symbol"));
            }
            merges.insert((a, b), id);
            text.push_str(merge);
            text.push('\n');
        }
        if merges.len() != MERGES {
            return Err(Error::Format {
                file: file.to_string(),
                what: format!("line {}", last - MERGES + merges.len() + 1),
                expected: format!("{MERGES} merges"),
                found: format!("the end of the text after {}", merges.len()),
            });
        }
        Ok(ClipBpe { bytes: Box::new(bytes), merges, text })
    }

    /// The ids of a text, without start and end.
    ///
    /// Never fails; O(n log n) in the length of the text, a single long word included. The literal specials
    /// of the flavor become [`ClipBpe::START`] and [`ClipBpe::END`] wherever the original finds them.
    pub fn encode(&self, text: &str, flavor: Flavor) -> Vec<u32> {
        self.encode_up_to(text, flavor, usize::MAX)
    }

    /// The ids of a text as a text encoder takes them, `[context]`: start, text, end, then `pad_id`.
    ///
    /// A text that is too long is cut to `context` ids, the last of them the end. `context` is 77 for CLIP;
    /// `pad_id` is 0 in open_clip, and [`ClipBpe::END`] in most Hugging Face tokenizers. The attention mask
    /// of the latter is 1 for the first `min(encode(..).len() + 2, context)` ids.
    pub fn encode_padded(&self, text: &str, flavor: Flavor, context: usize, pad_id: u32) -> Vec<u32> {
        let mut ids = vec![ClipBpe::START];
        ids.extend(self.encode_up_to(text, flavor, context));
        ids.push(ClipBpe::END);
        if ids.len() > context {
            ids.truncate(context);
            if let Some(last) = ids.last_mut() {
                *last = ClipBpe::END;
            }
        }
        ids.resize(context, pad_id);
        ids
    }

    /// Stops at the first word that ends at or after `limit` ids.
    fn encode_up_to(&self, text: &str, flavor: Flavor, limit: usize) -> Vec<u32> {
        let mut ids = Vec::new();
        let clean = match flavor {
            Flavor::OpenClip => clip_text::clean_open_clip(text),
            Flavor::HuggingFace => clip_text::clean_hugging_face(text),
        };
        for piece in clip_text::pieces(&clean, flavor) {
            if ids.len() >= limit {
                break;
            }
            match piece {
                Piece::Start => ids.push(ClipBpe::START),
                Piece::End => ids.push(ClipBpe::END),
                Piece::Word(word) => self.encode_word(word, &mut ids),
            }
        }
        ids
    }

    /// Merges the bytes of a word, lowest rank first and leftmost first within a rank.
    fn encode_word(&self, word: &str, ids: &mut Vec<u32>) {
        const GONE: u32 = u32::MAX;
        let mut symbols: Vec<u32> = word.bytes().map(|byte| self.bytes[usize::from(byte)]).collect();
        let Some(last) = symbols.last_mut() else { return };
        *last += 256;

        // A doubly linked list over the symbols and a heap of the merges it allows; entries of the heap that
        // a later merge made stale are recognised by their id when they come up.
        let len = symbols.len();
        let mut next: Vec<usize> = (1..=len).collect();
        let mut previous: Vec<usize> = (0..len).map(|i| i.wrapping_sub(1)).collect();
        let merged = |symbols: &[u32], left: usize, right: usize| {
            self.merges.get(&(*symbols.get(left)?, *symbols.get(right)?)).copied()
        };
        let mut heap: BinaryHeap<Reverse<(u32, usize)>> = (0..len)
            .filter_map(|left| merged(&symbols, left, left + 1).map(|id| Reverse((id, left))))
            .collect();
        while let Some(Reverse((id, left))) = heap.pop() {
            let right = next[left];
            if merged(&symbols, left, right) != Some(id) {
                continue;
            }
            symbols[left] = id;
            symbols[right] = GONE;
            next[left] = next[right];
            if let Some(after) = previous.get_mut(next[left]) {
                *after = left;
            }
            if let Some(id) = merged(&symbols, left, next[left]) {
                heap.push(Reverse((id, left)));
            }
            if let Some(id) = merged(&symbols, previous[left], left) {
                heap.push(Reverse((id, previous[left])));
            }
        }
        ids.extend(symbols.into_iter().filter(|&symbol| symbol != GONE));
    }
}

impl fmt::Debug for ClipBpe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClipBpe").field("merges", &self.merges.len()).finish_non_exhaustive()
    }
}

/// The id of each byte, and the character that stands for each of the first 256 ids in the merges.
///
/// The printable characters of Latin-1 stand for themselves and come first; the other bytes follow as the
/// characters from U+0100 on (OpenAI's `bytes_to_unicode`).
fn byte_symbols() -> ([u32; 256], [char; 256]) {
    let printable = |byte: u8| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let (mut ids, mut symbols) = ([0; 256], ['\0'; 256]);
    let shown = (0..=255).filter(|&byte| printable(byte)).map(|byte| (byte, char::from(byte)));
    let hidden = (0..=255).filter(|&byte| !printable(byte)).zip('\u{100}'..);
    for (id, (byte, symbol)) in shown.chain(hidden).enumerate() {
        ids[usize::from(byte)] = id as u32;
        symbols[id] = symbol;
    }
    (ids, symbols)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_map_to_distinct_symbols() {
        let (ids, symbols) = byte_symbols();
        assert_eq!((ids[b'!' as usize], symbols[0]), (0, '!'));
        assert_eq!((ids[0xFF], symbols[187]), (187, 'ÿ'));
        assert_eq!((ids[0], symbols[188]), (188, 'Ā'));
        assert_eq!((ids[b' ' as usize], symbols[220]), (220, 'Ġ'));
        assert_eq!((ids[0xAD], symbols[255]), (255, 'Ń'));
        let mut sorted = ids;
        sorted.sort_unstable();
        assert!(sorted.iter().enumerate().all(|(i, &id)| i as u32 == id));
    }
}

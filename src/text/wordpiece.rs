//! BERT's uncased WordPiece, for the text encoder of ImageReward.

use std::collections::HashMap;
use std::fmt;

use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

use super::{bad_line, lines, utf8};
use crate::error::{Error, Result};

const FILE: &str = "BERT vocabulary";
/// A longer word is unknown as a whole.
const MAX_WORD_CHARS: usize = 100;
const SPECIALS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
/// Added by BLIP behind the vocabulary: the decoder's and the encoder's start.
const BLIP_SPECIALS: [&str; 2] = ["[DEC]", "[ENC]"];

/// The tokenizer of `bert-base-uncased` as BLIP and ImageReward set it up: Hugging Face's `BertTokenizer`
/// with the tokens `[DEC]` and `[ENC]` added behind its vocabulary.
pub struct WordPiece {
    /// Pieces that start a word.
    words: HashMap<Box<str>, u32>,
    /// Pieces that continue one, without their `##`.
    continuations: HashMap<Box<str>, u32>,
    /// What is matched in the text as it stands, with its id.
    specials: Vec<(&'static str, u32)>,
    pad: u32,
    unknown: u32,
    start: u32,
    end: u32,
    count: usize,
}

impl WordPiece {
    /// The length ImageReward pads and cuts to, for [`WordPiece::encode_padded`].
    pub const CONTEXT: usize = 35;

    /// Reads a `vocab.txt`: one piece a line, the id is the line's number from 0.
    ///
    /// The bytes can be stored in a model file as they are. [`Error::Format`] names the first line that is
    /// empty, repeated or not UTF-8, or the special token that is missing.
    pub fn from_vocabulary(bytes: &[u8]) -> Result<WordPiece> {
        let (mut words, mut continuations) = (HashMap::new(), HashMap::new());
        let mut count = 0;
        for (number, line) in lines(bytes) {
            let piece = utf8(FILE, number, line)?;
            if piece.is_empty() {
                return Err(bad_line(FILE, number, "a piece", line));
            }
            // "##" by itself is an ordinary piece.
            let old = match piece.strip_prefix("##").filter(|rest| !rest.is_empty()) {
                Some(rest) => continuations.insert(rest.into(), count),
                None => words.insert(piece.into(), count),
            };
            if old.is_some() {
                return Err(bad_line(FILE, number, "a piece no earlier line has", line));
            }
            count += 1;
        }
        let id = |special: &str| {
            words.get(special).copied().ok_or_else(|| Error::Format {
                file: FILE.to_string(),
                what: format!("lines 1 to {count}"),
                expected: format!("the piece '{special}'"),
                found: "no such line".to_string(),
            })
        };
        let [pad, unknown, start, end, mask] = SPECIALS.map(id);
        let (pad, unknown, start, end, mask) = (pad?, unknown?, start?, end?, mask?);
        let mut specials: Vec<_> = SPECIALS.into_iter().zip([pad, unknown, start, end, mask]).collect();
        specials.extend(BLIP_SPECIALS.into_iter().zip(count..));
        let count = count as usize + BLIP_SPECIALS.len();
        Ok(WordPiece { words, continuations, specials, pad, unknown, start, end, count })
    }

    /// Number of ids, `[DEC]` and `[ENC]` included; the rows of the token embedding.
    pub fn vocabulary(&self) -> usize {
        self.count
    }

    /// The ids of a text, without `[CLS]` and `[SEP]`.
    ///
    /// Never fails; linear in the length of the text. Special tokens written in the text, in capitals,
    /// become their ids.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.encode_up_to(text, usize::MAX)
    }

    /// Ids and attention mask as the text encoder takes them, both `[max_len]`: `[CLS]`, text, `[SEP]`, then
    /// `[PAD]` with mask 0.
    ///
    /// A text that is too long is cut so that `[SEP]` comes last. `max_len` is 35 for ImageReward; below 2
    /// only what fits of `[CLS]` remains.
    pub fn encode_padded(&self, text: &str, max_len: usize) -> (Vec<u32>, Vec<u32>) {
        let room = max_len.saturating_sub(2);
        let mut ids = vec![self.start];
        ids.extend(self.encode_up_to(text, room).into_iter().take(room));
        ids.push(self.end);
        ids.truncate(max_len);
        let mut mask = vec![1; ids.len()];
        mask.resize(max_len, 0);
        ids.resize(max_len, self.pad);
        (ids, mask)
    }

    /// Stops at the first word that ends at or after `limit` ids.
    fn encode_up_to(&self, text: &str, limit: usize) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut start = 0;
        for (at, _) in text.match_indices('[') {
            let special = self.specials.iter().find(|(special, _)| text[at..].starts_with(special));
            if let Some((special, id)) = special {
                self.encode_plain(&text[start..at], limit, &mut ids);
                start = at + special.len();
                if ids.len() >= limit {
                    return ids;
                }
                ids.push(*id);
            }
        }
        self.encode_plain(&text[start..], limit, &mut ids);
        ids
    }

    fn encode_plain(&self, text: &str, limit: usize, ids: &mut Vec<u32>) {
        let spaced: String = text
            .chars()
            .flat_map(char::to_lowercase)
            .filter(|&c| is_space(c) || !is_control(c))
            .flat_map(|c| if is_cjk(c) { [' ', c, ' '] } else { ['\0', c, '\0'] })
            .filter(|&c| c != '\0')
            .nfc()
            .collect();
        for word in spaced.split(is_space) {
            let plain: String = word
                .chars()
                .flat_map(char::to_lowercase)
                .nfd()
                .filter(|c| c.general_category() != GeneralCategory::NonspacingMark)
                .collect();
            for part in plain.split_inclusive(is_punctuation) {
                // A part is a word, with one punctuation character behind it or not.
                let end = part.char_indices().next_back().filter(|&(_, c)| is_punctuation(c));
                let (word, mark) = part.split_at(end.map_or(part.len(), |(at, _)| at));
                for token in [word, mark].into_iter().filter(|token| !token.is_empty()) {
                    if ids.len() >= limit {
                        return;
                    }
                    self.encode_word(token, ids);
                }
            }
        }
    }

    /// The longest known piece at each position, or one unknown id for the whole word.
    fn encode_word(&self, word: &str, ids: &mut Vec<u32>) {
        if word.chars().nth(MAX_WORD_CHARS).is_some() {
            ids.push(self.unknown);
            return;
        }
        let first = ids.len();
        let mut rest = word;
        while !rest.is_empty() {
            let pieces = if rest.len() == word.len() { &self.words } else { &self.continuations };
            let found = rest.char_indices().rev().find_map(|(at, c)| {
                let end = at + c.len_utf8();
                pieces.get(&rest[..end]).map(|&id| (id, end))
            });
            let Some((id, end)) = found else {
                ids.truncate(first);
                ids.push(self.unknown);
                return;
            };
            ids.push(id);
            rest = &rest[end..];
        }
    }
}

impl fmt::Debug for WordPiece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pieces = self.words.len() + self.continuations.len();
        f.debug_struct("WordPiece").field("pieces", &pieces).finish_non_exhaustive()
    }
}

/// What separates words. NEL, a control character, is dropped before; the separators of lines count.
fn is_space(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r') || c.general_category_group() == GeneralCategoryGroup::Separator
}

fn is_control(c: char) -> bool {
    c == '\u{FFFD}' || c.general_category_group() == GeneralCategoryGroup::Other
}

/// BERT's punctuation: also the ASCII symbols that Unicode does not call so, such as `$` and `^`.
fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || c.general_category_group() == GeneralCategoryGroup::Punctuation
}

/// The blocks of ideographs, each of which BERT takes for a word; Kana and Hangul are not among them.
fn is_cjk(c: char) -> bool {
    matches!(
        u32::from(c),
        0x4E00..=0x9FFF
            | 0x3400..=0x4DBF
            | 0x20000..=0x2A6DF
            | 0x2A700..=0x2B73F
            | 0x2B740..=0x2B81F
            | 0x2B820..=0x2CEAF
            | 0xF900..=0xFAFF
            | 0x2F800..=0x2FA1F
    )
}

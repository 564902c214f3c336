//! From a prompt to the token ids that a reward's text encoder reads.

use serde::{Deserialize, Serialize};

use super::scorer::{TextInput, TokenizerKind};
use crate::error::{Error, Result};
use crate::text::{ClipBpe, Flavor, Overflow, WordPiece, overflow};

/// Most tokens a prompt may be padded to; published text encoders read 77 and 35.
pub(super) const CONTEXT_LIMIT: usize = 1024;

/// How a reward file tokenises; its vocabulary is a tensor of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TokenizerConfig {
    /// CLIP's byte-pair encoding.
    ClipBpe {
        flavor: Flavor,
        /// Ids of a prompt, the padding included; longer prompts are cut.
        context: usize,
    },
    /// BERT's WordPiece.
    WordPiece { context: usize },
}

/// An opened tokenizer.
#[derive(Debug)]
pub(super) enum Tokenizer {
    ClipBpe { bpe: ClipBpe, flavor: Flavor, context: usize },
    WordPiece { pieces: WordPiece, context: usize },
}

/// Token ids of one prompt and their mask, both as long as the tokenizer's context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    pub ids: Vec<i64>,
    /// 1 = text, 0 = padding.
    pub mask: Vec<i64>,
}

impl TokenizerConfig {
    /// Refuse what does not fit the text encoder; `text` is `None` for a reward that reads no prompt. `file` is named in
    /// the error.
    pub fn validate(&self, text: Option<TextInput>, file: &str) -> Result<()> {
        let wrong = |key: &str, expected: String, found: String| {
            Err(Error::Config { file: file.into(), key: format!("tokenizer.{key}"), expected, found })
        };
        let name = |kind: TokenizerKind| match kind {
            TokenizerKind::ClipBpe => "clip_bpe",
            TokenizerKind::WordPiece => "word_piece",
        };
        let (kind, context) = match self {
            TokenizerConfig::ClipBpe { context, .. } => (TokenizerKind::ClipBpe, *context),
            TokenizerConfig::WordPiece { context } => (TokenizerKind::WordPiece, *context),
        };
        let Some(text) = text else {
            return wrong("kind", "none: the reward reads no prompt".into(), name(kind).into());
        };
        if kind != text.kind {
            return wrong("kind", name(text.kind).into(), name(kind).into());
        }
        let limit = text.positions.min(CONTEXT_LIMIT);
        if !(2..=limit).contains(&context) {
            return wrong("context", format!("2 to {limit}"), context.to_string());
        }
        Ok(())
    }
}

impl Tokenizer {
    /// The tokenizer of a vocabulary as it is stored in reward files.
    pub fn new(config: TokenizerConfig, vocabulary: &[u8]) -> Result<Tokenizer> {
        Ok(match config {
            TokenizerConfig::ClipBpe { flavor, context } => {
                Tokenizer::ClipBpe { bpe: ClipBpe::from_vocabulary_bytes(vocabulary)?, flavor, context }
            }
            TokenizerConfig::WordPiece { context } => {
                Tokenizer::WordPiece { pieces: WordPiece::from_vocabulary(vocabulary)?, context }
            }
        })
    }

    /// Number of ids; the text encoder needs a row for each.
    pub fn vocabulary(&self) -> usize {
        match self {
            Tokenizer::ClipBpe { .. } => ClipBpe::VOCABULARY,
            Tokenizer::WordPiece { pieces, .. } => pieces.vocabulary(),
        }
    }

    /// Ids of a prompt.
    pub fn context(&self) -> usize {
        match self {
            Tokenizer::ClipBpe { context, .. } | Tokenizer::WordPiece { context, .. } => *context,
        }
    }

    /// What of a prompt is not read.
    pub fn overflow(&self, prompt: &str) -> Option<Overflow> {
        let room = self.context().saturating_sub(2);
        match self {
            Tokenizer::ClipBpe { bpe, flavor, .. } => {
                overflow(prompt, room, |text| bpe.encode(text, *flavor).len())
            }
            Tokenizer::WordPiece { pieces, .. } => overflow(prompt, room, |text| pieces.encode(text).len()),
        }
    }

    /// Never fails: any text has ids; what does not fit is cut.
    pub fn encode(&self, prompt: &str) -> Tokens {
        let wide = |ids: Vec<u32>| ids.into_iter().map(i64::from).collect();
        match self {
            Tokenizer::ClipBpe { bpe, flavor, context } => {
                // What padding is made of changes nothing: no position looks ahead.
                let pad = match flavor {
                    Flavor::OpenClip => 0,
                    Flavor::HuggingFace => ClipBpe::END,
                };
                let length = (bpe.encode(prompt, *flavor).len() + 2).min(*context);
                let mask = (0..*context).map(|i| i64::from(i < length)).collect();
                Tokens { ids: wide(bpe.encode_padded(prompt, *flavor, *context, pad)), mask }
            }
            Tokenizer::WordPiece { pieces, context } => {
                let (ids, mask) = pieces.encode_padded(prompt, *context);
                Tokens { ids: wide(ids), mask: wide(mask) }
            }
        }
    }
}

//! A text encoder's tokenizer: prompt → the token ids of its input.

use super::clip_bpe::{ClipBpe, Flavor};
use super::fit::{Overflow, overflow};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The vocabulary's bytes and what a text encoder wants of them: prompt → ids of a fixed length.
///
/// A prompt is `start, text, end, pad …`; one that is too long loses the rest of its text, not its end. Both
/// flavors cut and pad alike, they differ in how text is cleaned and in what they pad with.
#[derive(Debug)]
pub struct PromptTokenizer {
    bpe: ClipBpe,
    flavor: Flavor,
    context_length: usize,
    pad_id: u32,
}

impl PromptTokenizer {
    /// `vocabulary` as in a model file, see [`ClipBpe::vocabulary_bytes`]; ids come in rows of
    /// `context_length`, filled up with `pad_id`.
    ///
    /// # Errors
    /// `Format` naming the first bad line of the vocabulary; `InvalidArgument` for a context without room for
    /// start and end, or a pad id outside of the vocabulary.
    pub fn new(
        vocabulary: &[u8],
        flavor: Flavor,
        context_length: usize,
        pad_id: u32,
    ) -> Result<PromptTokenizer> {
        if context_length < 2 {
            return Err(Error::invalid("context_length", "at least 2", context_length));
        }
        if pad_id as usize >= ClipBpe::VOCABULARY {
            return Err(Error::invalid("pad_id", format!("0 to {}", ClipBpe::VOCABULARY - 1), pad_id));
        }
        let bpe = ClipBpe::from_vocabulary_bytes(vocabulary)?;
        Ok(PromptTokenizer { bpe, flavor, context_length, pad_id })
    }

    /// Length of a row of ids.
    pub fn context_length(&self) -> usize {
        self.context_length
    }

    /// The ids of a prompt, \[context_length\]. Any text has some; the empty one is `start, end, pad …`.
    pub fn encode(&self, prompt: &str) -> Vec<i64> {
        let ids = self.bpe.encode_padded(prompt, self.flavor, self.context_length, self.pad_id);
        ids.into_iter().map(i64::from).collect()
    }

    /// What of a prompt is not read.
    pub(crate) fn overflow(&self, prompt: &str) -> Option<Overflow> {
        overflow(prompt, self.context_length - 2, |text| self.bpe.encode(text, self.flavor).len())
    }

    /// The ids of all prompts, [B, context_length] (i64): the input of a text encoder.
    pub fn encode_batch(&self, prompts: &[impl AsRef<str>]) -> Tensor {
        let ids: Vec<i64> = prompts.iter().flat_map(|prompt| self.encode(prompt.as_ref())).collect();
        Tensor::from_i64([prompts.len(), self.context_length], &ids)
    }
}

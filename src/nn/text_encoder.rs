//! The text encoder of a text-to-image model: which tower, which tokens it is given, which of its states are
//! read. Its vocabulary lies beside its weights, so that a model file is complete.
//!
//! Reference: bytedance/1d-tokenizer, modeling/maskgen.py (`open_clip_text_encoding`) and README_MaskGen.md
//! (`text_guidance`); viiika/Meissonic, src/pipeline.py, and yuanzhi-zhu/DiMO, Meissonic_src/dataset_utils.py
//! (`encode_prompt`), which agree.
//! Checked by tests/integration/text/clip_text.rs against golden tensors of the official code.
//!
//! | family | tower | reads | [`TextEncoder::pad_id`] |
//! |---|---|---|---|
//! | MaskGen | OpenAI's ViT-L/14 at 336 pixels, open_clip's names and tokenizer | generator: penultimate and pooled; TA-TiTok's decoder: last | 0 |
//! | Meissonic | LAION's ViT-H/14, Hugging Face's names and tokenizer | `hidden_states[-2]`, which is penultimate, and `text_embeds`, which is pooled | its tokenizer's |
//!
//! | tower | `hidden_size` | `num_hidden_layers` | `num_attention_heads` | `intermediate_size` | `projection_dim` | `hidden_act` |
//! |---|---|---|---|---|---|---|
//! | ViT-L/14 | 768 | 12 | 12 | 3072 | 768 | `quick_gelu`, as trained; open_clip from 2.29 on runs `gelu` |
//! | ViT-H/14 | 1024 | 24 | 16 | 4096 | 1024 | `gelu` |
//!
//! Neither family hides the padding, and both read all hidden states: the pad id is part of a picture.
//! Without a prompt, and as what guidance leads away from, both encode the empty text; Meissonic's
//! pipeline puts the negative prompt in its place where there is one.
//!
//! | tensor | shape |
//! |---|---|
//! | `vocabulary` | \[bytes\], u8: the merges, see [`ClipBpe::vocabulary_bytes`] |
//! | the tower's, see [`clip`] | |

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::nn::clip;
use crate::tensor::{Dtype, Tensor};
use crate::text::{ClipBpe, Flavor, PromptTokenizer};
use crate::weights::Weights;

/// Name of the vocabulary's tensor, below the text encoder's prefix.
pub const VOCABULARY: &str = "vocabulary";

/// The hidden states that condition the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HiddenState {
    /// The last layer's input, without the final LayerNorm.
    Penultimate,
    /// The last layer's result, after the final LayerNorm.
    Last,
}

/// A text encoder as it stands in a model file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextEncoder {
    pub tower: clip::TextConfig,
    /// Whose text cleaning the weights were trained with.
    pub flavor: Flavor,
    /// Tokens of a prompt L, start, end and padding included.
    pub context_length: usize,
    /// The token id after the end.
    pub pad_id: u32,
    pub hidden: HiddenState,
}

impl TextEncoder {
    /// Refuse sizes that contradict each other or the tokenizer. `file` is named in the error.
    pub fn validate(&self, file: &str) -> Result<()> {
        let fail = |key: &str, expected: String, found: String| {
            Err(Error::Config { file: file.into(), key: key.into(), expected, found })
        };
        self.tower.validate(file)?;
        if self.tower.vocab_size != ClipBpe::VOCABULARY {
            let found = self.tower.vocab_size.to_string();
            return fail("vocab_size", format!("CLIP's {}", ClipBpe::VOCABULARY), found);
        }
        let positions = self.tower.max_position_embeddings;
        if self.context_length < 2 || self.context_length > positions {
            let expected = format!("2 to max_position_embeddings {positions}");
            return fail("context_length", expected, self.context_length.to_string());
        }
        if self.pad_id as usize >= ClipBpe::VOCABULARY {
            return fail("pad_id", format!("0 to {}", ClipBpe::VOCABULARY - 1), self.pad_id.to_string());
        }
        Ok(())
    }

    /// The tokenizer of the encoder whose weights are `w`, the scope `text` of a model file.
    ///
    /// # Errors
    /// `MissingTensor`, `TensorMismatch`; `Format` for bytes that are no CLIP vocabulary.
    pub fn tokenizer(&self, w: &Weights) -> Result<PromptTokenizer> {
        PromptTokenizer::new(w.bytes(VOCABULARY)?, self.flavor, self.context_length, self.pad_id)
    }
}

/// The vocabulary as a model file holds it, \[bytes\] (u8), under the name [`VOCABULARY`].
pub fn vocabulary(bpe: &ClipBpe) -> Result<Tensor> {
    let bytes = bpe.vocabulary_bytes();
    Tensor::new(Dtype::U8, [bytes.len()], bytes)
}

/// What the networks are given of a prompt. What nobody reads costs nothing: `simplify` drops it.
#[derive(Clone, Copy, Debug)]
pub struct TextFeatures {
    /// The states that [`TextEncoder::hidden`] names [B, L, E].
    pub hidden: Value,
    /// Result of the last layer after the final LayerNorm [B, L, E], not projected.
    pub last: Value,
    /// `last` at the end of text, projected [B, P].
    pub pooled: Value,
}

/// Token ids [B, L] (i64) → features.
pub fn encode(g: &Graph, w: &Weights, cfg: &TextEncoder, ids: Value) -> Result<TextFeatures> {
    let shape = g.shape(ids);
    if shape.rank() != 2 || shape[1] != cfg.context_length {
        return Err(Error::invalid("token ids", format!("[B, {}]", cfg.context_length), shape));
    }
    let text = clip::text(g, w, &cfg.tower, ids)?;
    let hidden = match cfg.hidden {
        HiddenState::Penultimate => text.penultimate,
        HiddenState::Last => text.last,
    };
    Ok(TextFeatures { hidden, last: text.last, pooled: text.pooled })
}

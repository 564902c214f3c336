//! The model families, behind one interface: [`Architecture`] dispatches, each file holds one network.

pub mod blip;
pub mod clip;
pub mod conv_vqgan;
pub mod efficientnet;
pub mod maskbit;
pub mod maskgit;
pub mod program;
pub mod rewards;
pub mod taming_vqgan;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::sample::GuidanceForm;
use crate::tensor::Dtype;
use crate::weights::Weights;

/// What a model file holds, with the sizes of its networks (key names of the official configurations).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "lowercase")]
pub enum Architecture {
    /// MaskBit: LFQBert over bit tokens, convolutional tokenizer.
    MaskBit { generator: maskbit::Config, tokenizer: conv_vqgan::Config },
}

/// The shapes a pipeline needs to know about a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Image positions N.
    pub positions: usize,
    /// Tokens per position.
    pub splits: usize,
    /// Codes per token, V.
    pub codes: usize,
    /// Id of the mask token.
    pub mask_token: usize,
    /// Width of an input embedding.
    pub embedding: usize,
    /// Class labels, without the null class (whose id equals this number).
    pub classes: usize,
    /// Picture size in pixels.
    pub width: usize,
    pub height: usize,
}

impl Layout {
    /// Tokens of one picture: positions × splits.
    pub fn slots(&self) -> usize {
        self.positions * self.splits
    }
}

/// Largest value any size in a configuration may have; keeps products far from overflow.
const SIZE_LIMIT: usize = 1 << 20;

impl Architecture {
    /// Family name as used by `softdimo convert` and the model file.
    pub fn family(&self) -> &'static str {
        match self {
            Architecture::MaskBit { .. } => "maskbit",
        }
    }

    /// Refuse sizes that contradict each other. `file` is named in the error.
    pub fn validate(&self, file: &str) -> Result<()> {
        let fail = |key: &str, expected: &str, found: String| {
            Err(Error::Config { file: file.into(), key: key.into(), expected: expected.into(), found })
        };
        match self {
            Architecture::MaskBit { generator: g, tokenizer: t } => {
                let sizes = [
                    ("img_size", g.img_size),
                    ("hidden_dim", g.hidden_dim),
                    ("depth", g.depth),
                    ("heads", g.heads),
                    ("mlp_dim", g.mlp_dim),
                    ("nclass", g.nclass),
                    ("token_size", g.token_size),
                    ("codebook_splits", g.codebook_splits),
                    ("input_stride", g.input_stride),
                    ("num_channels", t.num_channels),
                    ("hidden_channels", t.hidden_channels),
                    ("num_resolutions", t.num_resolutions),
                    ("num_res_blocks", t.num_res_blocks),
                ];
                for (key, size) in sizes {
                    if size == 0 || size > SIZE_LIMIT {
                        return fail(key, &format!("1 to {SIZE_LIMIT}"), size.to_string());
                    }
                }
                if g.use_prenorm {
                    return fail(
                        "use_prenorm",
                        "false (the published generators are post-norm)",
                        "true".into(),
                    );
                }
                if g.depth > 1024 || t.num_res_blocks > 64 || t.num_res_blocks_decoder.is_some_and(|n| n > 64)
                {
                    return fail("depth / num_res_blocks", "at most 1024 / 64", g.depth.to_string());
                }
                if !g.hidden_dim.is_multiple_of(g.heads) {
                    let found = format!("{} and {}", g.heads, g.hidden_dim);
                    return fail("heads", "a divisor of hidden_dim", found);
                }
                if g.token_size != t.token_size || g.token_size > 24 {
                    let found = format!("{} and {}", g.token_size, t.token_size);
                    return fail("token_size", "one value of at most 24 in generator and tokenizer", found);
                }
                if !g.token_size.is_multiple_of(g.codebook_splits) || g.split_bits() > 16 {
                    let found = format!("{} of {} bits", g.codebook_splits, g.token_size);
                    return fail("codebook_splits", "a divisor of token_size leaving at most 16 bits", found);
                }
                if t.num_channels != 3 {
                    return fail("num_channels", "3", t.num_channels.to_string());
                }
                if !t.hidden_channels.is_multiple_of(32) {
                    return fail("hidden_channels", "a multiple of 32", t.hidden_channels.to_string());
                }
                if t.channel_mult.len() != t.num_resolutions
                    || t.num_resolutions > 8
                    || t.channel_mult.iter().any(|&m| m == 0 || m > 64)
                {
                    let found = format!("{:?} for {}", t.channel_mult, t.num_resolutions);
                    return fail("channel_mult", "num_resolutions (at most 8) factors of 1 to 64", found);
                }
                if g.input_stride != 1 << (t.num_resolutions - 1) {
                    let expected = format!("2^(num_resolutions − 1) = {}", 1 << (t.num_resolutions - 1));
                    return fail("input_stride", &expected, g.input_stride.to_string());
                }
                if g.img_size > 4096 || !g.img_size.is_multiple_of(g.input_stride) {
                    return fail("img_size", "a multiple of input_stride up to 4096", g.img_size.to_string());
                }
                Ok(())
            }
        }
    }

    /// Shapes of the model.
    pub fn layout(&self) -> Layout {
        match self {
            Architecture::MaskBit { generator: g, .. } => Layout {
                positions: g.positions(),
                splits: g.codebook_splits,
                codes: g.codes(),
                mask_token: g.codes(),
                embedding: g.hidden_dim,
                classes: g.nclass,
                width: g.img_size,
                height: g.img_size,
            },
        }
    }

    /// How the family's teacher combines conditional and unconditional logits.
    pub fn guidance_form(&self) -> GuidanceForm {
        match self {
            Architecture::MaskBit { .. } => GuidanceForm::FromConditional,
        }
    }

    /// Tokens [B, N, splits] (i64) → clean input embedding [B, N, D].
    pub fn embed(&self, g: &Graph, w: &Weights, tokens: Value) -> Result<Value> {
        match self {
            Architecture::MaskBit { generator: cfg, .. } => {
                maskbit::embed_bits(g, w, cfg, maskbit::input_bits(g, cfg, tokens)?)
            }
        }
    }

    /// Token distribution p [B, N, splits, V] → input embedding [B, N, D] of the expected tokens, masked where
    /// `shown` [1, N, splits, 1] is 0.
    pub fn embed_soft(&self, g: &Graph, w: &Weights, p: Value, shown: Value) -> Result<Value> {
        match self {
            Architecture::MaskBit { generator: cfg, .. } => {
                // Masked bits are 0, so hiding a token is scaling its distribution's expectation.
                maskbit::embed_bits(g, w, cfg, maskbit::soft_bits(g, cfg, g.mul(p, shown)?)?)
            }
        }
    }

    /// Class ids [B] (i64) → condition embedding.
    pub fn condition(&self, g: &Graph, w: &Weights, class: Value) -> Result<Value> {
        match self {
            Architecture::MaskBit { generator: cfg, .. } => maskbit::embed_class(g, w, cfg, class),
        }
    }

    /// Input embedding [B, N, D] and condition → logits [B, N, splits, V].
    pub fn logits(&self, g: &Graph, w: &Weights, e_in: Value, condition: Value) -> Result<Value> {
        match self {
            Architecture::MaskBit { generator: cfg, .. } => maskbit::logits(g, w, cfg, e_in, condition),
        }
    }

    /// Token distribution p [B, N, splits, V] → soft embedding in the decoder's space, p·E_Dec.
    pub fn soft_embedding(&self, g: &Graph, p: Value) -> Result<Value> {
        match self {
            Architecture::MaskBit { generator: cfg, .. } => {
                maskbit::decoder_embedding(g, cfg, maskbit::soft_bits(g, cfg, p)?)
            }
        }
    }

    /// Tokens [B, N, splits] (i64, no mask token) → codes in the decoder's space.
    pub fn hard_embedding(&self, g: &Graph, tokens: Value) -> Result<Value> {
        match self {
            Architecture::MaskBit { generator: cfg, .. } => {
                maskbit::decoder_embedding(g, cfg, maskbit::input_bits(g, cfg, tokens)?)
            }
        }
    }

    /// Codes in the decoder's space → image [B, 3, H, W], nominally in [0, 1], not clamped.
    pub fn decode(&self, g: &Graph, w: &Weights, code: Value) -> Result<Value> {
        match self {
            Architecture::MaskBit { tokenizer: cfg, .. } => conv_vqgan::decode(g, w, cfg, code),
        }
    }

    /// Image [B, 3, H, W] in [0, 1] → quantized codes in the decoder's space.
    pub fn encode(&self, g: &Graph, w: &Weights, image: Value) -> Result<Value> {
        match self {
            Architecture::MaskBit { tokenizer: cfg, .. } => {
                conv_vqgan::quantize(g, conv_vqgan::encode(g, w, cfg, image)?)
            }
        }
    }

    /// Quantized codes in the decoder's space → tokens [B, N, splits] (i64).
    pub fn code_tokens(&self, g: &Graph, code: Value) -> Result<Value> {
        match self {
            Architecture::MaskBit { generator: cfg, .. } => maskbit::code_tokens(g, cfg, code),
        }
    }

    /// A tokens input [batch, N, splits].
    pub fn tokens_input(&self, g: &Graph, batch: usize) -> Result<Value> {
        let l = self.layout();
        g.input("tokens", Dtype::I64, [batch, l.positions, l.splits])
    }
}

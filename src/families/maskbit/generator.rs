//! MaskBit's generator `LFQBert`: a post-norm BERT over bit tokens (teacher and one-step student alike).
//!
//! Paper: "MaskBit: Embedding-free Image Generation via Bit Tokens", arXiv 2409.16211.
//! Reference: markweberdev/maskbit, modeling/bert.py (`LFQBert`), modeling/modules/sampling.py.
//! Checked by tests/integration/families/maskbit.rs against golden tensors of the official code.
//!
//! | tensor | shape |
//! |---|---|
//! | `input_proj.{weight,bias}` | [D, bits], \[D\] |
//! | `class_emb.weight` | [classes + 1, D]; the last row is the dropped label |
//! | `pos_emb` | [1, N + 1, D] |
//! | `first_layer.0` | LayerNorm |
//! | `transformer.layers.{i}.0.mha`, `.0.norm` | attention, LayerNorm |
//! | `transformer.layers.{i}.1.net.{0,2}`, `.1.norm` | feed-forward, LayerNorm |
//! | `last_layer.{0,2}` | Linear, LayerNorm |
//! | `prediction_layer.{weight,bias}` | [splits · codes, D], [splits · codes]; rows ordered (split, code) |

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::nn;
use crate::tensor::{Dtype, Tensor};
use crate::weights::Weights;

/// LayerNorm epsilon, everywhere in the generator.
const EPS: f32 = 1e-12;

/// Sizes, under the key names of the official configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Width and height of the picture in pixels.
    pub img_size: usize,
    pub hidden_dim: usize,
    pub depth: usize,
    pub heads: usize,
    pub mlp_dim: usize,
    pub nclass: usize,
    /// Bits of a token; the codebook has 2^token_size entries.
    pub token_size: usize,
    /// Groups a token's bits are predicted in.
    pub codebook_splits: usize,
    /// Pixels of a token's side.
    pub input_stride: usize,
    #[serde(default)]
    pub use_prenorm: bool,
}

impl Config {
    /// Side of the token grid.
    pub fn grid(&self) -> usize {
        self.img_size / self.input_stride
    }

    /// Image positions N.
    pub fn positions(&self) -> usize {
        self.grid() * self.grid()
    }

    /// Bits of one split.
    pub fn split_bits(&self) -> usize {
        self.token_size / self.codebook_splits
    }

    /// Codes of one split, V = 2^split_bits. The mask token has this id.
    pub fn codes(&self) -> usize {
        1 << self.split_bits()
    }
}

/// Rows 0..V: the bits of each code as ±1, least significant first. With `mask`, row V is all zero.
pub fn bits_table(cfg: &Config, mask: bool) -> Tensor {
    let bits = cfg.split_bits();
    let mut rows: Vec<f32> = (0..cfg.codes())
        .flat_map(|code| (0..bits).map(move |k| if code >> k & 1 == 1 { 1.0 } else { -1.0 }))
        .collect();
    if mask {
        rows.extend(std::iter::repeat_n(0.0, bits));
    }
    Tensor::from_f32([rows.len() / bits, bits], &rows)
}

/// Token ids [B, N, splits] (i64, V = mask) → bits [B, N, token_size] in {−1, 0, 1}, split-major.
pub fn input_bits(g: &Graph, cfg: &Config, tokens: Value) -> Result<Value> {
    let b = g.shape(tokens)[0];
    let bits = g.gather(g.constant(bits_table(cfg, true))?, tokens)?; // [B, N, splits, bits]
    g.reshape(bits, [b, cfg.positions(), cfg.token_size])
}

/// Bits [B, N, token_size], hard or expected → token embeddings [B, N, D].
pub fn embed_bits(g: &Graph, w: &Weights, cfg: &Config, bits: Value) -> Result<Value> {
    nn::linear(g, &w.at("input_proj"), bits, cfg.hidden_dim)
}

/// Class ids \[B\] (i64; `nclass` = dropped label) → class embedding [B, D].
pub fn embed_class(g: &Graph, w: &Weights, cfg: &Config, class: Value) -> Result<Value> {
    nn::embedding(g, &w.at("class_emb"), class, cfg.nclass + 1, cfg.hidden_dim)
}

/// Token embeddings e_in [B, N, D] and class embedding [B, D] → logits [B, N, splits, V].
pub fn logits(g: &Graph, w: &Weights, cfg: &Config, e_in: Value, class: Value) -> Result<Value> {
    let (b, n, d) = (g.shape(e_in)[0], cfg.positions(), cfg.hidden_dim);
    let class = g.reshape(class, [b, 1, d])?;
    let x = g.concat(&[e_in, class], 1)?; // [B, N + 1, D], the class token last
    let x = g.add(x, w.get(g, "pos_emb", [1, n + 1, d])?)?;
    let mut x = nn::layer_norm(g, &w.at("first_layer.0"), x, EPS)?;
    for i in 0..cfg.depth {
        let layer = w.at(format!("transformer.layers.{i}"));
        x = g.end_block(attention_block(g, &layer.at("0"), cfg, x)?);
        x = g.end_block(feed_forward(g, &layer.at("1"), cfg, x)?);
    }
    let x = nn::linear(g, &w.at("last_layer.0"), x, d)?;
    let x = nn::layer_norm(g, &w.at("last_layer.2"), g.gelu(x)?, EPS)?;
    let x = g.slice(x, 1, 0, n)?; // the class position predicts nothing
    let x = nn::linear(g, &w.at("prediction_layer"), x, cfg.codebook_splits * cfg.codes())?;
    g.reshape(x, [b, n, cfg.codebook_splits, cfg.codes()])
}

/// `BertAttention`, post-norm: LN(x + MHA(x)).
fn attention_block(g: &Graph, w: &Weights, cfg: &Config, x: Value) -> Result<Value> {
    let y = nn::multihead_attention(g, &w.at("mha"), x, cfg.heads)?;
    nn::layer_norm(g, &w.at("norm"), g.add(y, x)?, EPS)
}

/// `BertFeedForward`, post-norm: LN(x + W₂·gelu(W₁·x)).
fn feed_forward(g: &Graph, w: &Weights, cfg: &Config, x: Value) -> Result<Value> {
    let h = g.gelu(nn::linear(g, &w.at("net.0"), x, cfg.mlp_dim)?)?;
    let y = nn::linear(g, &w.at("net.2"), h, cfg.hidden_dim)?;
    nn::layer_norm(g, &w.at("norm"), g.add(y, x)?, EPS)
}

/// Token distribution p [B, N, splits, V] → expected bits [B, N, token_size]: p·bits_table.
pub fn soft_bits(g: &Graph, cfg: &Config, p: Value) -> Result<Value> {
    let b = g.shape(p)[0];
    let bits = g.matmul(p, g.constant(bits_table(cfg, false))?)?; // [B, N, splits, bits]
    g.reshape(bits, [b, cfg.positions(), cfg.token_size])
}

/// Bits [B, N, token_size] → the decoder's input [B, token_size, grid, grid].
pub fn decoder_embedding(g: &Graph, cfg: &Config, bits: Value) -> Result<Value> {
    let b = g.shape(bits)[0];
    let grid = cfg.grid();
    g.reshape(g.transpose(bits, &[0, 2, 1])?, [b, cfg.token_size, grid, grid])
}

/// Code ±1 [B, token_size, grid, grid] → token ids [B, N, splits] (i64): Σ_k bit_k · 2^k per split.
pub fn code_tokens(g: &Graph, cfg: &Config, code: Value) -> Result<Value> {
    let (b, bits) = (g.shape(code)[0], cfg.split_bits());
    let x = g.reshape(code, [b, cfg.codebook_splits, bits, cfg.positions()])?;
    let place: Vec<f32> = (0..bits).map(|k| (1u32 << k) as f32).collect();
    let place = g.constant(Tensor::from_f32([1, 1, bits, 1], &place))?;
    let ones = g.where_(g.greater(x, g.scalar(0.0)?)?, place, g.scalar(0.0)?)?;
    let ids = g.reshape(g.reduce_sum(ones, &[2])?, [b, cfg.codebook_splits, cfg.positions()])?;
    g.cast(g.transpose(ids, &[0, 2, 1])?, Dtype::I64)
}

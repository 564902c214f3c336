//! MaskGIT's generator `MaskTransformer`: a pre-norm BERT over code tokens, the head tied to the embedding
//! (teacher and one-step student alike).
//!
//! Papers: "A Pytorch Reproduction of Masked Generative Image Transformer", arXiv 2310.14400 (the teacher);
//! "Di\[M\]O", arXiv 2503.15457 (the student).
//! Reference: yuanzhi-zhu/DiMO, MaskGit_src/Network/transformer.py, which is v1.0 of valeoai/Halton-MaskGIT.
//! Checkpoints: llvictorll/Maskgit-pytorch (MaskGIT_ImageNet_256.pth, MaskGIT_ImageNet_512.pth; teachers) and
//! Yuanzhi/DiMO (a student).
//! Checked by tests/integration/families/maskgit against golden tensors of the official code.
//!
//! | tensor | shape |
//! |---|---|
//! | `tok_emb.weight` | [V + 1 + classes + 1, D]: codes, mask, classes, dropped label; also the head |
//! | `pos_emb` | [1, N + 1, D] |
//! | `first_layer.{0,4}`, `.{2,6}` | LayerNorm, Linear |
//! | `transformer.layers.{i}.0.norm`, `.0.fn.mha` | LayerNorm, attention |
//! | `transformer.layers.{i}.1.norm`, `.1.fn.net.{0,3}` | LayerNorm, feed-forward |
//! | `last_layer.{0,4}`, `.2` | LayerNorm, Linear |
//! | `bias` | [N + 1, V + 1 + classes + 1], of the head, per position |

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::nn;
use crate::nn::sizes::{SIZE_LIMIT, check_divisor, check_size, wrong};
use crate::tensor::Tensor;
use crate::weights::Weights;

/// LayerNorm epsilon of the first and last layer, and of the blocks between.
const EPS: f32 = 1e-12;
const BLOCK_EPS: f32 = 1e-5;

/// Pixels of a token's side, fixed in the official code.
pub(crate) const PATCH: usize = 16;

/// Sizes, under the names of the official constructor's arguments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Width and height of the picture in pixels, 16 per token.
    pub img_size: usize,
    pub hidden_dim: usize,
    /// Codes V. The mask token has this id.
    pub codebook_size: usize,
    pub depth: usize,
    pub heads: usize,
    pub mlp_dim: usize,
    /// Classes. The dropped label has this id.
    pub nclass: usize,
}

impl Config {
    /// Side of the token grid.
    pub fn grid(&self) -> usize {
        self.img_size / PATCH
    }

    /// Image positions N.
    pub fn positions(&self) -> usize {
        self.grid() * self.grid()
    }

    /// Rows of the embedding: codes, mask, classes, dropped label.
    fn rows(&self) -> usize {
        self.codebook_size + 1 + self.nclass + 1
    }

    /// Refuse sizes that make no sense. `file` is named in the error.
    pub fn validate(&self, file: &str) -> Result<()> {
        let sizes = [
            ("img_size", self.img_size, 4096),
            ("hidden_dim", self.hidden_dim, SIZE_LIMIT),
            ("codebook_size", self.codebook_size, SIZE_LIMIT),
            ("depth", self.depth, 1024),
            ("heads", self.heads, SIZE_LIMIT),
            ("mlp_dim", self.mlp_dim, SIZE_LIMIT),
            ("nclass", self.nclass, SIZE_LIMIT),
        ];
        sizes.iter().try_for_each(|&(key, size, limit)| check_size(file, key, size, limit))?;
        check_divisor(file, "heads", self.heads, "hidden_dim", self.hidden_dim)?;
        if !self.img_size.is_multiple_of(PATCH) {
            return Err(wrong(file, "img_size", format!("a multiple of {PATCH}"), self.img_size));
        }
        Ok(())
    }
}

/// The embedding matrix [V + 1 + classes + 1, D].
fn token_embedding(g: &Graph, w: &Weights, cfg: &Config) -> Result<Value> {
    w.at("tok_emb").get(g, "weight", [cfg.rows(), cfg.hidden_dim])
}

/// Token ids [B, N] (i64, V = mask) → token embeddings [B, N, D].
pub fn embed(g: &Graph, w: &Weights, cfg: &Config, tokens: Value) -> Result<Value> {
    g.gather(token_embedding(g, w, cfg)?, tokens)
}

/// Class ids \[B\] (i64; `nclass` = dropped label) → class embedding [B, D]: rows after those of codes and mask.
pub fn embed_class(g: &Graph, w: &Weights, cfg: &Config, class: Value) -> Result<Value> {
    let first = g.constant(Tensor::from_i64([1], &[cfg.codebook_size as i64 + 1]))?;
    g.gather(token_embedding(g, w, cfg)?, g.add(class, first)?)
}

/// Token distribution p [B, N, V] → expected token embeddings [B, N, D]; where `shown` (broadcasts to
/// [B, N, 1]) is 0 instead of 1, the mask token's embedding.
pub fn embed_soft(g: &Graph, w: &Weights, cfg: &Config, p: Value, shown: Value) -> Result<Value> {
    let (v, table) = (cfg.codebook_size, token_embedding(g, w, cfg)?);
    let expected = g.matmul(p, g.slice(table, 0, 0, v)?)?; // [B, N, D]
    let mask = g.slice(table, 0, v, v + 1)?; // [1, D]
    let hidden = g.sub(g.scalar(1.0)?, shown)?;
    g.add(g.mul(expected, shown)?, g.mul(mask, hidden)?)
}

/// Token embeddings e_in [B, N, D] and class embedding [B, D] → logits [B, N, V + 1], the mask token's last.
pub fn logits(g: &Graph, w: &Weights, cfg: &Config, e_in: Value, class: Value) -> Result<Value> {
    let (b, n, d) = (g.shape(e_in)[0], cfg.positions(), cfg.hidden_dim);
    let class = g.reshape(class, [b, 1, d])?;
    let x = g.concat(&[e_in, class], 1)?; // [B, N + 1, D], the class token last
    let x = g.add(x, w.get(g, "pos_emb", [1, n + 1, d])?)?;
    let mut x = first_layer(g, &w.at("first_layer"), x)?;
    for i in 0..cfg.depth {
        let layer = w.at(format!("transformer.layers.{i}"));
        x = g.end_block(attention_block(g, &layer.at("0"), cfg, x)?);
        x = g.end_block(feed_forward(g, &layer.at("1"), cfg, x)?);
    }
    let x = g.slice(x, 1, 0, n)?; // the class position predicts nothing
    let x = last_layer(g, &w.at("last_layer"), x)?;
    // The head: rows of codes and mask only; the reference computes classes too and drops them.
    let table = g.slice(token_embedding(g, w, cfg)?, 0, 0, cfg.codebook_size + 1)?;
    let bias = w.get(g, "bias", [n + 1, cfg.rows()])?;
    let bias = g.slice(g.slice(bias, 0, 0, n)?, 1, 0, cfg.codebook_size + 1)?; // [N, V + 1]
    g.add(nn::affine(g, x, table, None)?, bias)
}

/// Logits [B, N, V + 1] → those of the V codes [B, N, V], which is what a picture is made from. The reference
/// returns the mask token's logit too, may sample it and then draws code V − 1 in its place. Here the mask is
/// not a choice: a softmax over these logits, and the soft embedding under it, is renormalised over the codes.
pub fn code_logits(g: &Graph, cfg: &Config, logits: Value) -> Result<Value> {
    g.slice(logits, 2, 0, cfg.codebook_size)
}

/// LayerNorm, Linear, gelu, LayerNorm, Linear; the indices count the reference's dropouts.
fn first_layer(g: &Graph, w: &Weights, x: Value) -> Result<Value> {
    let d = g.shape(x)[2];
    let x = nn::layer_norm(g, &w.at("0"), x, EPS)?;
    let x = g.gelu(nn::linear(g, &w.at("2"), x, d)?)?;
    let x = nn::layer_norm(g, &w.at("4"), x, EPS)?;
    nn::linear(g, &w.at("6"), x, d)
}

/// LayerNorm, Linear, gelu, LayerNorm.
fn last_layer(g: &Graph, w: &Weights, x: Value) -> Result<Value> {
    let d = g.shape(x)[2];
    let x = nn::layer_norm(g, &w.at("0"), x, EPS)?;
    let x = g.gelu(nn::linear(g, &w.at("2"), x, d)?)?;
    nn::layer_norm(g, &w.at("4"), x, EPS)
}

/// `PreNorm(Attention)`: x + MHA(LN(x)).
fn attention_block(g: &Graph, w: &Weights, cfg: &Config, x: Value) -> Result<Value> {
    let y = nn::layer_norm(g, &w.at("norm"), x, BLOCK_EPS)?;
    g.add(nn::multihead_attention(g, &w.at("fn.mha"), y, cfg.heads)?, x)
}

/// `PreNorm(FeedForward)`: x + W₂·gelu(W₁·LN(x)).
fn feed_forward(g: &Graph, w: &Weights, cfg: &Config, x: Value) -> Result<Value> {
    let y = nn::layer_norm(g, &w.at("norm"), x, BLOCK_EPS)?;
    let h = g.gelu(nn::linear(g, &w.at("fn.net.0"), y, cfg.mlp_dim)?)?;
    g.add(nn::linear(g, &w.at("fn.net.3"), h, cfg.hidden_dim)?, x)
}

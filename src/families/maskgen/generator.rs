//! MaskGen's generator `MaskGen_VQ`: an MM-DiT over the tokens of a one-dimensional image tokenizer and those of
//! a prompt (teacher and one-step student alike).
//!
//! Paper: "Democratizing Text-to-Image Masked Generative Models with Compact Text-Aware One-Dimensional
//! Tokens", arXiv 2501.07730.
//! Reference: bytedance/1d-tokenizer, modeling/maskgen.py (`MaskGen_VQ`), modeling/modules/blocks.py
//! (`WeightTiedLMHead`); huggingface/diffusers, models/attention.py (`JointTransformerBlock`).
//! Checkpoints: MaskGen-L and MaskGen-XL over discrete tokens (turkeyju/generator_maskgen_vq_{l,xl}).
//! Checked by tests/integration/families/maskgen against golden tensors of the official code.
//!
//! | tensor | shape |
//! |---|---|
//! | `embeddings.weight` | [V + 1 + classes + 1, D]; codes, the mask, and rows of a class-conditional past that nothing uses |
//! | `pos_embed` | [1, N, D] |
//! | `text_embed_proj` | [D, E] |
//! | `cond_pooled_proj` | [D, E + M] |
//! | `blocks.{i}.norm1.linear`, `.norm1_context.linear` | [6D, D]; the last block's context: [2D, D] |
//! | `blocks.{i}.attn.{to_q,to_k,to_v,to_out.0}` | [D, D], of the image tokens |
//! | `blocks.{i}.attn.{add_q_proj,add_k_proj,add_v_proj,to_add_out}` | [D, D], of the text tokens |
//! | `blocks.{i}.ff.net.{0.proj,2}`, `.ff_context.net.{0.proj,2}` | [4D, D], [D, 4D] |
//! | `norm.linear` | [2D, D] |
//!
//! The head is tied to `embeddings.weight`: no weights of its own, no bias, no logit for the mask. The last block
//! has no `attn.to_add_out` and no `ff_context`, and its `attn.add_q_proj` has no effect on the result.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::nn;
use crate::nn::mmdit;
use crate::nn::sizes::{check_divisor, check_size, wrong};
use crate::weights::Weights;

/// Longest period of the aesthetic score's encoding, and what the score is multiplied with before.
const MAX_PERIOD: f32 = 1000.0;
const SCORE_SCALE: f32 = 100.0;

/// Sizes, under the key names of the official configuration (`model.maskgen`, `model.vq_model`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Codes V. The mask token has this id.
    pub codebook_size: usize,
    /// Image positions N.
    pub num_latent_tokens: usize,
    /// Width E of the text tower's hidden states and of its pooled features.
    #[serde(default = "text_embed_dim")]
    pub text_embed_dim: usize,
    pub decoder_embed_dim: usize,
    pub decoder_depth: usize,
    pub decoder_num_heads: usize,
    /// Whether the pooled condition has the aesthetic score beside the text.
    pub micro_condition: bool,
    /// Width M of the aesthetic score's encoding.
    pub micro_condition_embed_dim: usize,
    /// Classes of the embedding rows that nothing uses.
    pub condition_num_classes: usize,
    #[serde(default = "weight_tying")]
    pub weight_tying: bool,
}

fn text_embed_dim() -> usize {
    768
}

fn weight_tying() -> bool {
    true
}

impl Config {
    /// Rows of `embeddings.weight`: codes, the mask, classes, the dropped class.
    fn rows(&self) -> usize {
        self.codebook_size + 1 + self.condition_num_classes + 1
    }

    /// Refuse sizes that make no sense and variants that were never published. `file` is named in the error.
    pub fn validate(&self, file: &str) -> Result<()> {
        let (width, heads) = (self.decoder_embed_dim, self.decoder_num_heads);
        check_size(file, "codebook_size", self.codebook_size, nn::sizes::SIZE_LIMIT)?;
        check_size(file, "num_latent_tokens", self.num_latent_tokens, nn::sizes::SIZE_LIMIT)?;
        check_size(file, "text_embed_dim", self.text_embed_dim, nn::sizes::SIZE_LIMIT)?;
        check_size(file, "decoder_embed_dim", width, nn::sizes::SIZE_LIMIT)?;
        check_size(file, "decoder_depth", self.decoder_depth, 1024)?;
        check_size(file, "decoder_num_heads", heads, width)?;
        check_divisor(file, "decoder_num_heads", heads, "decoder_embed_dim", width)?;
        check_size(file, "condition_num_classes", self.condition_num_classes, nn::sizes::SIZE_LIMIT)?;
        if !self.micro_condition {
            return Err(wrong(file, "micro_condition", "true, as in the published generators", false));
        }
        check_size(file, "micro_condition_embed_dim", self.micro_condition_embed_dim, nn::sizes::SIZE_LIMIT)?;
        if !self.micro_condition_embed_dim.is_multiple_of(2) {
            let found = self.micro_condition_embed_dim;
            return Err(wrong(file, "micro_condition_embed_dim", "an even width", found));
        }
        if !self.weight_tying {
            return Err(wrong(file, "weight_tying", "true, as in the published generators", false));
        }
        Ok(())
    }
}

/// Token ids [B, N] (i64, V = mask) → token embeddings [B, N, D].
pub fn embed(g: &Graph, w: &Weights, cfg: &Config, tokens: Value) -> Result<Value> {
    nn::embedding(g, &w.at("embeddings"), tokens, cfg.rows(), cfg.decoder_embed_dim)
}

/// Token distribution p [B, N, V] → expected token embeddings [B, N, D]. Where `shown`, which broadcasts to
/// [B, N, 1], is 0 and not 1, the token is hidden: its embedding is the mask's.
pub fn embed_soft(g: &Graph, w: &Weights, cfg: &Config, p: Value, shown: Value) -> Result<Value> {
    let (b, n) = (g.shape(p)[0], g.shape(p)[1]);
    let hidden = g.expand(g.sub(g.scalar(1.0)?, shown)?, [b, n, 1])?;
    let p = g.concat(&[g.mul(p, shown)?, hidden], 2)?; // [B, N, V + 1], the mask last
    let p = g.pad(p, &[0, 0, 0], &[0, 0, cfg.rows() - cfg.codebook_size - 1])?;
    nn::soft_embedding(g, p, embedding_table(g, w, cfg)?)
}

fn embedding_table(g: &Graph, w: &Weights, cfg: &Config) -> Result<Value> {
    w.get(g, "embeddings.weight", [cfg.rows(), cfg.decoder_embed_dim])
}

/// Aesthetic scores \[B\], 0 to 10 → their encoding [B, M]. Sines come first.
pub fn micro_condition(g: &Graph, cfg: &Config, aesthetic: Value) -> Result<Value> {
    let score = g.mul_scalar(aesthetic, SCORE_SCALE)?;
    mmdit::sinusoidal(g, score, cfg.micro_condition_embed_dim, MAX_PERIOD, false)
}

/// Pooled text features [B, E] and aesthetic scores \[B\] → the condition [B, D] of every adaptive LayerNorm.
pub fn pooled_condition(
    g: &Graph,
    w: &Weights,
    cfg: &Config,
    pooled: Value,
    aesthetic: Value,
) -> Result<Value> {
    let c = g.concat(&[pooled, micro_condition(g, cfg, aesthetic)?], 1)?; // [B, E + M]
    nn::linear(g, &w.at("cond_pooled_proj"), c, cfg.decoder_embed_dim)
}

/// Token embeddings e_in [B, N, D]; hidden states [B, L, E] of the text tower's last layer but one, not
/// normalised; its pooled, projected features [B, E]; aesthetic scores \[B\] → logits [B, N, V].
pub fn logits(
    g: &Graph,
    w: &Weights,
    cfg: &Config,
    e_in: Value,
    text: Value,
    pooled: Value,
    aesthetic: Value,
) -> Result<Value> {
    let (b, n, d) = (g.shape(e_in)[0], cfg.num_latent_tokens, cfg.decoder_embed_dim);
    let [rows, _, e] = *g.shape(text) else {
        return Err(Error::invalid("text hidden states", "[B, L, E]", g.shape(text)));
    };
    if (rows, e) != (b, cfg.text_embed_dim) {
        let expected = format!("[{b}, L, {}]", cfg.text_embed_dim);
        return Err(Error::invalid("text hidden states", expected, g.shape(text)));
    }
    let mut context = nn::linear(g, &w.at("text_embed_proj"), text, d)?; // [B, L, D]
    let c = pooled_condition(g, w, cfg, pooled, aesthetic)?; // [B, D]
    let mut x = g.add(e_in, w.get(g, "pos_embed", [1, n, d])?)?;
    let last = cfg.decoder_depth.saturating_sub(1);
    for i in 0..last {
        (x, context) = joint_block(g, &w.at(format!("blocks.{i}")), cfg, x, context, c)?;
        g.end_block(x);
    }
    let x = last_block(g, &w.at(format!("blocks.{last}")), cfg, x, context, c)?;
    let x = mmdit::ada_norm_continuous(g, &w.at("norm"), x, c)?;
    // Over all rows, then cut: a slice of the table would be a copy of it.
    let y = nn::affine(g, x, embedding_table(g, w, cfg)?, None)?;
    g.slice(y, 2, 0, cfg.codebook_size)
}

/// `JointTransformerBlock`: image tokens x [B, N, D] and text tokens [B, L, D] under c [B, D], both returned.
fn joint_block(
    g: &Graph,
    w: &Weights,
    cfg: &Config,
    x: Value,
    context: Value,
    c: Value,
) -> Result<(Value, Value)> {
    let (attn, d) = (w.at("attn"), cfg.decoder_embed_dim);
    let part = |name: &str, from: Value| nn::linear(g, &attn.at(name), from, d);
    let image = mmdit::ada_norm_zero(g, &w.at("norm1"), x, c)?;
    let text = mmdit::ada_norm_zero(g, &w.at("norm1_context"), context, c)?;
    let queries = [part("to_q", image.x)?, part("add_q_proj", text.x)?];
    let keys = [part("to_k", image.x)?, part("add_k_proj", text.x)?];
    let values = [part("to_v", image.x)?, part("add_v_proj", text.x)?];
    let y = mmdit::joint_attention(g, &queries, &keys, &values, cfg.decoder_num_heads)?;
    let x = mmdit::after_attention(g, &w.at("ff"), x, part("to_out.0", y[0])?, &image)?;
    let y = part("to_add_out", y[1])?;
    Ok((x, mmdit::after_attention(g, &w.at("ff_context"), context, y, &text)?))
}

/// The last `JointTransformerBlock`, `context_pre_only`: nothing reads its text tokens, so they are only looked
/// at and neither look themselves nor move on.
fn last_block(g: &Graph, w: &Weights, cfg: &Config, x: Value, context: Value, c: Value) -> Result<Value> {
    let (attn, d) = (w.at("attn"), cfg.decoder_embed_dim);
    let part = |name: &str, from: Value| nn::linear(g, &attn.at(name), from, d);
    let image = mmdit::ada_norm_zero(g, &w.at("norm1"), x, c)?;
    let text = mmdit::ada_norm_continuous(g, &w.at("norm1_context"), context, c)?;
    let keys = [part("to_k", image.x)?, part("add_k_proj", text)?];
    let values = [part("to_v", image.x)?, part("add_v_proj", text)?];
    let y = mmdit::joint_attention(g, &[part("to_q", image.x)?], &keys, &values, cfg.decoder_num_heads)?;
    mmdit::after_attention(g, &w.at("ff"), x, part("to_out.0", y[0])?, &image)
}

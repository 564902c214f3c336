//! BLIP: the vision transformer, and the BERT that reads a prompt while looking at its picture. ImageReward
//! scores with them.
//!
//! Papers: "BLIP: Bootstrapping Language-Image Pre-training for Unified Vision-Language Understanding and
//! Generation", arXiv 2201.12086; "ImageReward: Learning and Evaluating Human Preferences for Text-to-Image
//! Generation", arXiv 2304.05977.
//! Reference: THUDM/ImageReward, ImageReward/models/BLIP/vit.py (`VisionTransformer`),
//! ImageReward/models/BLIP/med.py (`BertModel`), ImageReward/ImageReward.py.
//! Checkpoint: THUDM/ImageReward, ImageReward.pt (ViT-L/16 at 224 pixels, BERT base).
//! Checked by tests/integration/rewards/image_reward.rs against golden tensors of the official code.
//!
//! | tensor, under `blip.visual_encoder` | shape |
//! |---|---|
//! | `patch_embed.proj.{weight,bias}` | [D, 3, patch, patch], \[D\] |
//! | `cls_token` | [1, 1, D] |
//! | `pos_embed` | [1, 1 + patches, D] |
//! | `blocks.{i}.norm1`, `blocks.{i}.norm2` | LayerNorm |
//! | `blocks.{i}.attn.qkv`, `blocks.{i}.attn.proj` | [3D, D] in q, k, v order, [D, D] |
//! | `blocks.{i}.mlp.fc1`, `blocks.{i}.mlp.fc2` | [M, D], [D, M] |
//! | `norm` | LayerNorm |
//!
//! | tensor, under `blip.text_encoder` | shape |
//! |---|---|
//! | `embeddings.word_embeddings.weight` | [vocabulary, T] |
//! | `embeddings.position_embeddings.weight` | [positions, T] |
//! | `embeddings.LayerNorm` | LayerNorm |
//! | `encoder.layer.{i}.attention.self.{query,key,value}` | [T, T] |
//! | `encoder.layer.{i}.crossattention.self.{query,key,value}` | [T, T], [T, D], [T, D] |
//! | `encoder.layer.{i}.{attention,crossattention}.output.{dense,LayerNorm}` | [T, T], LayerNorm |
//! | `encoder.layer.{i}.intermediate.dense`, `encoder.layer.{i}.output.dense` | [M, T], [T, M] |
//! | `encoder.layer.{i}.output.LayerNorm` | LayerNorm |
//!
//! Not read: `blip.text_encoder.embeddings.position_ids` (0, 1, 2, …), `blip.vision_proj`, `blip.text_proj`.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::nn;
use crate::nn::sizes::{SIZE_LIMIT, check_divisor, check_size};
use crate::tensor::Dtype;
use crate::weights::Weights;

/// LayerNorm epsilon of the vision transformer and of BERT.
const VISION_EPS: f32 = 1e-6;
const TEXT_EPS: f32 = 1e-12;

/// Added to the attention scores of padding.
const MASKED: f32 = -10000.0;

/// Sizes of the vision transformer, under the parameter names of the official class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VisionConfig {
    /// Width and height of the picture in pixels.
    pub img_size: usize,
    pub patch_size: usize,
    pub embed_dim: usize,
    pub depth: usize,
    pub num_heads: usize,
    /// Width of the feed-forward network, in multiples of `embed_dim`.
    pub mlp_ratio: usize,
}

/// Sizes of BERT, under the key names of the official med_config.json.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextConfig {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    /// Longest prompt in tokens.
    pub max_position_embeddings: usize,
    /// Width of the image tokens.
    pub encoder_width: usize,
}

impl VisionConfig {
    /// Refuse sizes that make no sense. `file` is named in the error.
    pub fn validate(&self, file: &str) -> Result<()> {
        check_size(file, "img_size", self.img_size, 4096)?;
        check_size(file, "patch_size", self.patch_size, self.img_size)?;
        check_size(file, "embed_dim", self.embed_dim, SIZE_LIMIT)?;
        check_size(file, "depth", self.depth, 1024)?;
        check_size(file, "num_heads", self.num_heads, self.embed_dim)?;
        check_size(file, "mlp_ratio", self.mlp_ratio, 64)?;
        check_divisor(file, "patch_size", self.patch_size, "img_size", self.img_size)?;
        check_divisor(file, "num_heads", self.num_heads, "embed_dim", self.embed_dim)
    }
}

impl TextConfig {
    /// Refuse sizes that make no sense. `file` is named in the error.
    pub fn validate(&self, file: &str) -> Result<()> {
        check_size(file, "vocab_size", self.vocab_size, SIZE_LIMIT)?;
        check_size(file, "hidden_size", self.hidden_size, SIZE_LIMIT)?;
        check_size(file, "intermediate_size", self.intermediate_size, SIZE_LIMIT)?;
        check_size(file, "num_hidden_layers", self.num_hidden_layers, 1024)?;
        check_size(file, "num_attention_heads", self.num_attention_heads, self.hidden_size)?;
        check_size(file, "max_position_embeddings", self.max_position_embeddings, SIZE_LIMIT)?;
        check_size(file, "encoder_width", self.encoder_width, SIZE_LIMIT)?;
        check_divisor(file, "num_attention_heads", self.num_attention_heads, "hidden_size", self.hidden_size)
    }
}

/// Normalised pixels [B, 3, img_size, img_size] → image tokens [B, 1 + patches, D], the class token first.
pub fn vision(g: &Graph, w: &Weights, cfg: &VisionConfig, pixels: Value) -> Result<Value> {
    let (b, d, p) = (g.shape(pixels)[0], cfg.embed_dim, cfg.patch_size);
    let n = (cfg.img_size / p) * (cfg.img_size / p);
    let patch = w.at("patch_embed.proj");
    let weight = g.reshape(patch.get(g, "weight", [d, 3, p, p])?, [d, 3 * p * p])?;
    let x = nn::patches(g, pixels, p)?; // [B, patches, 3·patch²]
    let x = nn::affine(g, x, weight, Some(patch.get(g, "bias", [d])?))?; // [B, patches, D]
    let class = g.expand(w.get(g, "cls_token", [1, 1, d])?, [b, 1, d])?;
    let x = g.concat(&[class, x], 1)?; // [B, 1 + patches, D]
    let mut x = g.add(x, w.get(g, "pos_embed", [1, 1 + n, d])?)?;
    for i in 0..cfg.depth {
        x = g.end_block(vision_block(g, &w.at(format!("blocks.{i}")), cfg, x)?);
    }
    nn::layer_norm(g, &w.at("norm"), x, VISION_EPS)
}

/// `Block`, pre-norm: x + MHA(LN(x)), then x + W₂·gelu(W₁·LN(x)).
fn vision_block(g: &Graph, w: &Weights, cfg: &VisionConfig, x: Value) -> Result<Value> {
    let d = cfg.embed_dim;
    let y = nn::layer_norm(g, &w.at("norm1"), x, VISION_EPS)?;
    let qkv = nn::linear(g, &w.at("attn.qkv"), y, 3 * d)?; // [B, N, 3D]
    let part = |i: usize| g.slice(qkv, 2, i * d, (i + 1) * d);
    let y = nn::attention(g, part(0)?, part(1)?, part(2)?, cfg.num_heads)?;
    let x = g.add(x, nn::linear(g, &w.at("attn.proj"), y, d)?)?;
    let y = nn::layer_norm(g, &w.at("norm2"), x, VISION_EPS)?;
    let y = g.gelu(nn::linear(g, &w.at("mlp.fc1"), y, cfg.mlp_ratio * d)?)?;
    g.add(x, nn::linear(g, &w.at("mlp.fc2"), y, d)?)
}

/// Token ids and their mask [B, L] (i64; 1 = text, 0 = padding), and image tokens [B, N, D] → hidden states
/// [B, L, T]. One prompt, [1, L], serves all pictures.
pub fn text(
    g: &Graph,
    w: &Weights,
    cfg: &TextConfig,
    ids: Value,
    mask: Value,
    image: Value,
) -> Result<Value> {
    let (b, d) = (g.shape(image)[0], cfg.hidden_size);
    let shape = g.shape(ids);
    let [rows, n] = *shape else {
        return Err(Error::invalid("token ids", "[B, L]", shape));
    };
    if (rows != 1 && rows != b) || n == 0 || n > cfg.max_position_embeddings {
        let expected = format!("1 or {b} rows of 1 to {} tokens", cfg.max_position_embeddings);
        return Err(Error::invalid("token ids", expected, shape));
    }
    if g.shape(mask) != shape {
        return Err(Error::invalid("attention mask", shape.to_string(), g.shape(mask)));
    }
    let embeddings = w.at("embeddings");
    let x = nn::embedding(g, &embeddings.at("word_embeddings"), ids, cfg.vocab_size, d)?; // [rows, L, T]
    let positions = embeddings.get(g, "position_embeddings.weight", [cfg.max_position_embeddings, d])?;
    let x = g.add(x, g.slice(positions, 0, 0, n)?)?;
    let x = nn::layer_norm(g, &embeddings.at("LayerNorm"), x, TEXT_EPS)?;
    let mut x = if rows == b { x } else { g.expand(x, [b, n, d])? };
    let padding = g.sub(g.scalar(1.0)?, g.cast(mask, Dtype::F32)?)?;
    let mask = g.reshape(g.mul_scalar(padding, MASKED)?, [rows, 1, 1, n])?;
    for i in 0..cfg.num_hidden_layers {
        let w = w.at(format!("encoder.layer.{i}"));
        x = text_attention(g, &w.at("attention"), cfg, x, x, Some(mask))?;
        x = text_attention(g, &w.at("crossattention"), cfg, x, image, None)?;
        let y = g.gelu(nn::linear(g, &w.at("intermediate.dense"), x, cfg.intermediate_size)?)?;
        x = g.end_block(text_output(g, &w.at("output"), x, y)?);
    }
    Ok(x)
}

/// `BertAttention`: x attends to `source`, itself or the image tokens.
fn text_attention(
    g: &Graph,
    w: &Weights,
    cfg: &TextConfig,
    x: Value,
    source: Value,
    mask: Option<Value>,
) -> Result<Value> {
    let part = |name: &str, from: Value| nn::linear(g, &w.at("self").at(name), from, cfg.hidden_size);
    let (q, k, v) = (part("query", x)?, part("key", source)?, part("value", source)?);
    let y = nn::masked_attention(g, q, k, v, cfg.num_attention_heads, mask)?;
    text_output(g, &w.at("output"), x, y)
}

/// `BertSelfOutput`, `BertOutput`, post-norm: LN(x + W·y).
fn text_output(g: &Graph, w: &Weights, x: Value, y: Value) -> Result<Value> {
    let y = nn::linear(g, &w.at("dense"), y, g.shape(x)[2])?;
    nn::layer_norm(g, &w.at("LayerNorm"), g.add(y, x)?, TEXT_EPS)
}

//! CLIP: the text tower (prompt features, text conditions) and the vision tower (image features).
//!
//! Paper: "Learning Transferable Visual Models From Natural Language Supervision", arXiv 2103.00020.
//! Reference: huggingface/transformers, models/clip/modeling_clip.py (`CLIPTextTransformer`,
//! `CLIPVisionTransformer`); mlfoundations/open_clip, src/open_clip/transformer.py (`TextTransformer`,
//! `VisionTransformer`); openai/CLIP, clip/model.py. One network under two sets of names; both files hold
//! both towers, and `text_projection`, `logit_scale` are at the top of both.
//! Checkpoints: laion/CLIP-ViT-H-14-laion2B-s32B-b79K and yuvalkirstain/PickScore_v1 (Hugging Face names),
//! HPS_v2.1 and OpenAI's ViT-L/14 (open_clip names).
//! Checked by tests/integration/rewards/networks.rs against golden tensors of the official code.
//!
//! | Hugging Face | open_clip, OpenAI | shape |
//! |---|---|---|
//! | `text_model.embeddings.token_embedding.weight` | `token_embedding.weight` | [vocabulary, D] |
//! | `text_model.embeddings.position_embedding.weight` | `positional_embedding` | [context, D] |
//! | `text_model.encoder.layers.{i}` | `transformer.resblocks.{i}` | |
//! | `text_model.final_layer_norm` | `ln_final` | LayerNorm |
//! | `text_projection.weight` | `text_projection` | [P, D] \| [D, P] |
//! | `vision_model.embeddings.class_embedding` | `visual.class_embedding` | \[D\] |
//! | `vision_model.embeddings.patch_embedding.weight` | `visual.conv1.weight` | [D, 3, patch, patch] |
//! | `vision_model.embeddings.position_embedding.weight` | `visual.positional_embedding` | [1 + patches, D] |
//! | `vision_model.pre_layrnorm` (sic) | `visual.ln_pre` | LayerNorm |
//! | `vision_model.encoder.layers.{i}` | `visual.transformer.resblocks.{i}` | |
//! | `vision_model.post_layernorm` | `visual.ln_post` | LayerNorm |
//! | `visual_projection.weight` | `visual.proj` | [P, D] \| [D, P] |
//!
//! | of a layer: Hugging Face | open_clip, OpenAI | shape |
//! |---|---|---|
//! | `layer_norm1`, `layer_norm2` | `ln_1`, `ln_2` | LayerNorm |
//! | `self_attn.{q_proj,k_proj,v_proj}` | `attn.in_proj_{weight,bias}` | 3 × [D, D] \| [3D, D] in q, k, v order |
//! | `self_attn.out_proj` | `attn.out_proj` | [D, D] |
//! | `mlp.fc1`, `mlp.fc2` | `mlp.c_fc`, `mlp.c_proj` | [M, D], [D, M] |

pub(crate) mod sizes;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::nn;
use crate::tensor::{Dtype, Tensor};
use crate::weights::Weights;

/// LayerNorm epsilon, everywhere in both towers.
const EPS: f32 = 1e-5;

/// Whose names a checkpoint's tensors have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyLayout {
    /// `text_model.encoder.layers.0.self_attn.q_proj.weight`
    HuggingFace,
    /// `transformer.resblocks.0.attn.in_proj_weight`
    OpenClip,
}

impl KeyLayout {
    /// The name that this layout has for a thing.
    fn pick<'a>(self, hugging_face: &'a str, open_clip: &'a str) -> &'a str {
        match self {
            KeyLayout::HuggingFace => hugging_face,
            KeyLayout::OpenClip => open_clip,
        }
    }
}

/// Activation between the two layers of a feed-forward network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x·Φ(x), exact.
    Gelu,
    /// x·σ(1.702·x): OpenAI's own weights.
    QuickGelu,
}

/// Sizes of a text tower, under the key names of Hugging Face's configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextConfig {
    pub keys: KeyLayout,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    /// Longest prompt in tokens.
    pub max_position_embeddings: usize,
    /// Width of the features.
    pub projection_dim: usize,
    pub hidden_act: Activation,
}

/// Sizes of a vision tower, under the key names of Hugging Face's configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VisionConfig {
    pub keys: KeyLayout,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    /// Width and height of the picture in pixels.
    pub image_size: usize,
    pub patch_size: usize,
    /// Width of the features.
    pub projection_dim: usize,
    pub hidden_act: Activation,
}

impl TextConfig {
    /// Refuse sizes that make no sense. `file` is named in the error.
    pub fn validate(&self, file: &str) -> Result<()> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("max_position_embeddings", self.max_position_embeddings),
            ("projection_dim", self.projection_dim),
        ];
        check_sizes(file, &sizes, self.hidden_size, self.num_attention_heads)
    }
}

impl VisionConfig {
    /// Refuse sizes that make no sense. `file` is named in the error.
    pub fn validate(&self, file: &str) -> Result<()> {
        let sizes = [
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("image_size", self.image_size),
            ("patch_size", self.patch_size),
            ("projection_dim", self.projection_dim),
        ];
        check_sizes(file, &sizes, self.hidden_size, self.num_attention_heads)?;
        if self.image_size > 4096 || !self.image_size.is_multiple_of(self.patch_size) {
            return Err(wrong(file, "image_size", "a multiple of patch_size up to 4096", self.image_size));
        }
        Ok(())
    }
}

fn wrong(file: &str, key: &str, expected: &str, found: usize) -> Error {
    let found = found.to_string();
    Error::Config { file: file.into(), key: key.into(), expected: expected.into(), found }
}

fn check_sizes(file: &str, sizes: &[(&str, usize)], width: usize, heads: usize) -> Result<()> {
    for &(key, size) in [("hidden_size", width), ("num_attention_heads", heads)].iter().chain(sizes) {
        let limit = if key == "num_hidden_layers" { 1024 } else { nn::sizes::SIZE_LIMIT };
        if size == 0 || size > limit {
            return Err(wrong(file, key, &format!("1 to {limit}"), size));
        }
    }
    if !width.is_multiple_of(heads) {
        return Err(wrong(file, "num_attention_heads", &format!("a divisor of hidden_size {width}"), heads));
    }
    Ok(())
}

/// What the text tower is used for, all from one pass. What nobody uses costs nothing: `simplify` drops it.
#[derive(Clone, Copy, Debug)]
pub struct TextOutput {
    /// Input of the last layer [B, N, D], not normalised.
    pub penultimate: Value,
    /// Result of the last layer after the final LayerNorm [B, N, D].
    pub last: Value,
    /// Features [B, P]: `last` at the first end-of-text token, projected.
    pub pooled: Value,
}

/// Token ids [B, N] (i64, N up to `max_position_embeddings`) → hidden states and features. The end of text
/// is the vocabulary's largest id. Padding after it is not masked: no position looks ahead, so it changes
/// nothing up to the end of text.
pub fn text(g: &Graph, w: &Weights, cfg: &TextConfig, ids: Value) -> Result<TextOutput> {
    let (shape, d, k) = (g.shape(ids), cfg.hidden_size, cfg.keys);
    let (b, n) = (shape[0], shape[1]);
    let tokens = w.at(k.pick("text_model.embeddings.token_embedding", "token_embedding"));
    let x = nn::embedding(g, &tokens, ids, cfg.vocab_size, d)?; // [B, N, D]
    let positions = k.pick("text_model.embeddings.position_embedding.weight", "positional_embedding");
    let positions = w.get(g, positions, [cfg.max_position_embeddings, d])?;
    let mut x = g.add(x, g.slice(positions, 0, 0, n)?)?;
    let mask = nn::causal_mask(g, n)?;
    let mut penultimate = x;
    for i in 0..cfg.num_hidden_layers {
        let layer = w.at(format!("{}.{i}", k.pick("text_model.encoder.layers", "transformer.resblocks")));
        penultimate = x;
        let (heads, m) = (cfg.num_attention_heads, cfg.intermediate_size);
        x = encoder_layer(g, &layer, k, x, heads, m, cfg.hidden_act, Some(mask))?;
    }
    let norm = w.at(k.pick("text_model.final_layer_norm", "ln_final"));
    let last = nn::layer_norm(g, &norm, x, EPS)?; // [B, N, D]

    // argmax(ids), the first of equals; row b of the batch starts at b·N.
    let end = g.arg_max(g.cast(ids, Dtype::F32)?, 1)?; // [B]
    let starts: Vec<i64> = (0..b).map(|row| (row * n) as i64).collect();
    let rows = g.add(end, g.constant(Tensor::from_i64([b], &starts))?)?;
    let end = g.gather(g.reshape(last, [b * n, d])?, rows)?; // [B, D]
    let pooled = projection(g, w, k, ["text_projection.weight", "text_projection"], end, cfg.projection_dim)?;
    Ok(TextOutput { penultimate, last, pooled })
}

/// Normalised pixels [B, 3, image_size, image_size] → image features [B, P].
pub fn vision(g: &Graph, w: &Weights, cfg: &VisionConfig, pixels: Value) -> Result<Value> {
    let (d, k) = (cfg.hidden_size, cfg.keys);
    let x = vision_hidden(g, w, cfg, pixels)?; // [B, 1 + patches, D]
    let b = g.shape(x)[0];
    let class = g.reshape(g.slice(x, 1, 0, 1)?, [b, d])?; // [B, D]
    let class =
        nn::layer_norm(g, &w.at(k.pick("vision_model.post_layernorm", "visual.ln_post")), class, EPS)?;
    projection(g, w, k, ["visual_projection.weight", "visual.proj"], class, cfg.projection_dim)
}

/// Normalised pixels [B, 3, image_size, image_size] → result of the last layer [B, 1 + patches, D], the class
/// token first, not normalised.
pub fn vision_hidden(g: &Graph, w: &Weights, cfg: &VisionConfig, pixels: Value) -> Result<Value> {
    let (b, d, p, k) = (g.shape(pixels)[0], cfg.hidden_size, cfg.patch_size, cfg.keys);
    let name = k.pick("vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight");
    // A convolution whose stride is its kernel, as one Gemm: its gradient is another.
    let grid = cfg.image_size / p;
    let n = grid * grid;
    let x = g.reshape(pixels, [b, 3, grid, p, grid, p])?;
    let x = g.transpose(x, &[0, 2, 4, 1, 3, 5])?; // [B, grid, grid, 3, patch, patch]
    let weight = g.reshape(w.get(g, name, [d, 3, p, p])?, [d, 3 * p * p])?;
    let x = nn::affine(g, g.reshape(x, [b, n, 3 * p * p])?, weight, None)?; // [B, patches, D]
    let name = k.pick("vision_model.embeddings.class_embedding", "visual.class_embedding");
    let class = g.expand(w.get(g, name, [d])?, [b, 1, d])?;
    let x = g.concat(&[class, x], 1)?; // [B, 1 + patches, D]
    let name = k.pick("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding");
    let x = g.add(x, w.get(g, name, [1 + n, d])?)?;
    let mut x = nn::layer_norm(g, &w.at(k.pick("vision_model.pre_layrnorm", "visual.ln_pre")), x, EPS)?;
    for i in 0..cfg.num_hidden_layers {
        let layers = k.pick("vision_model.encoder.layers", "visual.transformer.resblocks");
        let (heads, m) = (cfg.num_attention_heads, cfg.intermediate_size);
        x = encoder_layer(g, &w.at(format!("{layers}.{i}")), k, x, heads, m, cfg.hidden_act, None)?;
        g.end_block(x);
    }
    Ok(x)
}

/// `CLIPEncoderLayer`, `ResidualAttentionBlock`, pre-norm: x + MHA(LN(x)), then x + W₂·act(W₁·LN(x)).
#[allow(clippy::too_many_arguments)] // the same network for two kinds of tower
fn encoder_layer(
    g: &Graph,
    w: &Weights,
    k: KeyLayout,
    x: Value,
    heads: usize,
    mlp: usize,
    act: Activation,
    mask: Option<Value>,
) -> Result<Value> {
    let d = g.shape(x)[2];
    let y = nn::layer_norm(g, &w.at(k.pick("layer_norm1", "ln_1")), x, EPS)?;
    let x = g.add(x, self_attention(g, w, k, y, heads, mask)?)?;
    let y = nn::layer_norm(g, &w.at(k.pick("layer_norm2", "ln_2")), x, EPS)?;
    let y = nn::linear(g, &w.at(k.pick("mlp.fc1", "mlp.c_fc")), y, mlp)?; // [B, N, M]
    let y = match act {
        Activation::Gelu => g.gelu(y)?,
        Activation::QuickGelu => nn::quick_gelu(g, y)?,
    };
    g.add(x, nn::linear(g, &w.at(k.pick("mlp.fc2", "mlp.c_proj")), y, d)?)
}

/// Self-attention of x [B, N, D]: three projections, or one packed.
fn self_attention(
    g: &Graph,
    w: &Weights,
    k: KeyLayout,
    x: Value,
    heads: usize,
    mask: Option<Value>,
) -> Result<Value> {
    match k {
        KeyLayout::HuggingFace => {
            let (w, d) = (w.at("self_attn"), g.shape(x)[2]);
            let part = |name: &str| nn::linear(g, &w.at(name), x, d);
            let y = nn::masked_attention(g, part("q_proj")?, part("k_proj")?, part("v_proj")?, heads, mask)?;
            nn::linear(g, &w.at("out_proj"), y, d)
        }
        KeyLayout::OpenClip => nn::masked_multihead_attention(g, &w.at("attn"), x, heads, mask),
    }
}

/// x [B, D] → [B, P] without bias: x·Wᵀ for a `torch.nn.Linear`, x·W for a bare matrix.
fn projection(
    g: &Graph,
    w: &Weights,
    k: KeyLayout,
    [linear, matrix]: [&str; 2],
    x: Value,
    out: usize,
) -> Result<Value> {
    let d = g.shape(x)[1];
    match k {
        KeyLayout::HuggingFace => nn::affine(g, x, w.get(g, linear, [out, d])?, None),
        KeyLayout::OpenClip => g.matmul(x, w.get(g, matrix, [d, out])?),
    }
}

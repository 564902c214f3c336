//! Meissonic's generator `Transformer2DModel`: an MM-DiT over the tokens of a picture and those of a prompt,
//! first with weights of their own, then with the same ones (teacher and one-step student alike).
//!
//! Paper: "Meissonic: Revitalizing Masked Generative Transformers for Efficient High-Resolution Text-to-Image
//! Synthesis", arXiv 2410.08261.
//! Reference: viiika/Meissonic, src/transformer.py, the same as yuanzhi-zhu/DiMO, Meissonic_src/transformer.py
//! (`Transformer2DModel`, `TransformerBlock`, `SingleTransformerBlock`, `UVit2DConvEmbed`, `ConvMlmLayer`);
//! huggingface/diffusers 0.32, models/attention_processor.py (`FluxAttnProcessor2_0`), models/embeddings.py
//! (`CombinedTimestepTextProjEmbeddings`), models/downsampling.py, models/upsampling.py.
//! Checkpoints: meissonflow/meissonic (1024 pixels), Collov-Labs/Monetico (512 pixels, without down and up block);
//! Di\[M\]O's student, Yuanzhi/DiMO.
//! Checked by tests/integration/families/meissonic against golden tensors of the official code.
//!
//! | tensor | shape |
//! |---|---|
//! | `embed.embeddings.weight` | [vocab, D]; codes, ids without a meaning, the mask last |
//! | `embed.layer_norm.weight`, `embed.conv.weight` | \[D\], [D, D, 1, 1] |
//! | `down_block.downsample.{norm,conv}.weight` | \[D\], [D, D, 2, 2] |
//! | `project_to_hidden_norm.weight`, `project_to_hidden.weight` | \[D\], [D, D] |
//! | `context_embedder`, `encoder_proj_layer_norm.weight` | [D, E], \[D\] |
//! | `cond_embed.linear_{1,2}.weight` | [D, 5·256 + D], [D, D] |
//! | `time_text_embed.{timestep_embedder,text_embedder}.linear_{1,2}` | [D, 256] or [D, D], [D, D] |
//! | `transformer_blocks.{i}.{norm1,norm1_context}.linear` | [6D, D] |
//! | `transformer_blocks.{i}.attn.{to_q,to_k,to_v,to_out.0}` | [D, D], of the image tokens |
//! | `transformer_blocks.{i}.attn.{add_q_proj,add_k_proj,add_v_proj,to_add_out}` | [D, D], of the text tokens |
//! | `transformer_blocks.{i}.attn.{norm_q,norm_k,norm_added_q,norm_added_k}.weight` | \[d\] |
//! | `transformer_blocks.{i}.{ff,ff_context}.net.{0.proj,2}` | [4D, D], [D, 4D] |
//! | `single_transformer_blocks.{i}.norm.linear` | [3D, D] |
//! | `single_transformer_blocks.{i}.attn.{to_q,to_k,to_v}`, `.attn.{norm_q,norm_k}.weight` | [D, D], \[d\] |
//! | `single_transformer_blocks.{i}.proj_mlp`, `.proj_out` | [4D, D], [D, D + 4D] |
//! | `project_from_hidden_norm.weight`, `project_from_hidden.weight` | \[D\], [D, D] |
//! | `up_block.upsample.{norm,conv}.weight` | \[D\], [D, D, 2, 2] |
//! | `mlm_layer.conv1.weight`, `.layer_norm.weight`, `.conv2.weight` | [D, D, 1, 1], \[D\], [V, D, 1, 1] |
//!
//! The picture is a square grid of N tokens, row by row, here always as [B, N, D]; the reference has
//! [B, D, √N, √N] before and after its blocks.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::nn;
use crate::nn::mmdit::{self, Rotation};
use crate::nn::sizes::{check_size, wrong};
use crate::weights::Weights;

/// RMSNorm epsilon, everywhere in the generator.
const EPS: f32 = 1e-6;

/// Micro conditions, the width of the waves each becomes, and their longest period; the timestep's alike.
pub const MICRO: usize = 5;
const WAVES: usize = 256;
const MAX_PERIOD: f32 = 10_000.0;

/// What a timestep is multiplied with before.
const TIME_SCALE: f32 = 1000.0;

/// Sizes, under the key names of the official configuration (`transformer/config.json`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Blocks in which image and text tokens have weights of their own.
    pub num_layers: usize,
    /// Blocks after those, in which they share them.
    pub num_single_layers: usize,
    /// Width d of a head; the width D is that of all of them.
    pub attention_head_dim: usize,
    pub num_attention_heads: usize,
    /// Width E of the text tower's hidden states.
    pub joint_attention_dim: usize,
    /// Width of its pooled features.
    pub pooled_projection_dim: usize,
    /// How a head's width is divided among rotations by a token's number of the picture (always 0), row and
    /// column.
    #[serde(default = "axes_dims_rope")]
    pub axes_dims_rope: [usize; 3],
    /// Rows of the embedding. The last is the mask's.
    #[serde(default = "vocab_size")]
    pub vocab_size: usize,
    /// Codes V.
    #[serde(default = "codebook_size")]
    pub codebook_size: usize,
    /// Whether 2×2 tokens are one in the blocks, and become four again after them.
    #[serde(default)]
    pub downsample: bool,
    #[serde(default)]
    pub upsample: bool,
    #[serde(default)]
    pub guidance_embeds: bool,
}

fn axes_dims_rope() -> [usize; 3] {
    [16, 56, 56]
}

fn vocab_size() -> usize {
    8256
}

fn codebook_size() -> usize {
    8192
}

impl Config {
    /// Width D.
    pub fn width(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }

    pub fn mask_token(&self) -> usize {
        self.vocab_size - 1
    }

    /// Refuse sizes that make no sense and variants that were never published. `file` is named in the error.
    pub fn validate(&self, file: &str) -> Result<()> {
        let (heads, head) = (self.num_attention_heads, self.attention_head_dim);
        check_size(file, "num_layers", self.num_layers, 1024)?;
        check_size(file, "num_single_layers", self.num_single_layers, 1024)?;
        check_size(file, "num_attention_heads", heads, 1024)?;
        check_size(file, "attention_head_dim", head, 1024)?;
        check_size(file, "joint_attention_dim", self.joint_attention_dim, nn::sizes::SIZE_LIMIT)?;
        check_size(file, "vocab_size", self.vocab_size, nn::sizes::SIZE_LIMIT)?;
        check_size(file, "codebook_size", self.codebook_size, nn::sizes::SIZE_LIMIT)?;
        if self.codebook_size >= self.vocab_size {
            let expected = format!("less than vocab_size {}, whose last is the mask", self.vocab_size);
            return Err(wrong(file, "codebook_size", expected, self.codebook_size));
        }
        if self.pooled_projection_dim != self.width() {
            let expected = format!("num_attention_heads · attention_head_dim = {}", self.width());
            return Err(wrong(file, "pooled_projection_dim", expected, self.pooled_projection_dim));
        }
        let axes = self.axes_dims_rope;
        let whole = axes.iter().try_fold(0usize, |sum, &axis| sum.checked_add(axis));
        if whole != Some(head) || axes.iter().any(|axis| !axis.is_multiple_of(2)) {
            let expected = format!("even widths whose sum is attention_head_dim {head}");
            return Err(wrong(file, "axes_dims_rope", expected, format!("{axes:?}")));
        }
        if self.downsample != self.upsample {
            return Err(wrong(file, "upsample", format!("downsample's {}", self.downsample), self.upsample));
        }
        if self.guidance_embeds {
            return Err(wrong(file, "guidance_embeds", "false, as in the published generators", true));
        }
        Ok(())
    }

    /// Side of the grid in the blocks, of that of the tokens.
    fn inner_side(&self, side: usize) -> usize {
        if self.downsample { side / 2 } else { side }
    }
}

/// Token ids [B, N] (i64, vocab − 1 = mask) → token embeddings [B, N, D].
pub fn embed(g: &Graph, w: &Weights, cfg: &Config, tokens: Value) -> Result<Value> {
    let rows = nn::embedding(g, &w.at("embed.embeddings"), tokens, cfg.vocab_size, cfg.width())?;
    embedded(g, w, rows)
}

/// Token distribution p [B, N, V] → token embeddings [B, N, D] of the expected tokens. Where `shown`, which
/// broadcasts to [B, N, 1], is 0 and not 1, the token is hidden: its embedding is the mask's.
pub fn embed_soft(g: &Graph, w: &Weights, cfg: &Config, p: Value, shown: Value) -> Result<Value> {
    embedded(g, w, expected_rows(g, w, cfg, p, shown)?)
}

/// [`embed_soft`] before what every row of the table goes through.
pub fn expected_rows(g: &Graph, w: &Weights, cfg: &Config, p: Value, shown: Value) -> Result<Value> {
    let (b, n) = (g.shape(p)[0], g.shape(p)[1]);
    let hidden = g.expand(g.sub(g.scalar(1.0)?, shown)?, [b, n, 1])?;
    let p = g.pad(g.mul(p, shown)?, &[0, 0, 0], &[0, 0, cfg.mask_token() - cfg.codebook_size])?;
    let p = g.concat(&[p, hidden], 2)?; // [B, N, vocab], the mask last
    nn::soft_embedding(g, p, w.get(g, "embed.embeddings.weight", [cfg.vocab_size, cfg.width()])?)
}

/// `UVit2DConvEmbed` after the table: rows [B, N, D] → embeddings [B, N, D].
fn embedded(g: &Graph, w: &Weights, rows: Value) -> Result<Value> {
    let x = mmdit::rms_norm(g, &w.at("embed.layer_norm"), rows, EPS)?;
    pointwise(g, &w.at("embed.conv"), x, g.shape(x)[2])
}

/// Micro conditions [B, 5] (width, height, top, left, aesthetic score) → their encoding [B, 5·256].
pub fn micro_conditions(g: &Graph, micro: Value) -> Result<Value> {
    let b = g.shape(micro)[0];
    let waves = mmdit::sinusoidal(g, g.reshape(micro, [b * MICRO])?, WAVES, MAX_PERIOD, true)?;
    g.reshape(waves, [b, MICRO * WAVES])
}

/// Pooled text features [B, P] and micro conditions [B, 5] → `cond_embed` of both [B, D].
pub fn pooled_condition(g: &Graph, w: &Weights, cfg: &Config, pooled: Value, micro: Value) -> Result<Value> {
    let (w, d) = (w.at("cond_embed"), cfg.width());
    let c = g.concat(&[pooled, micro_conditions(g, micro)?], 1)?; // [B, P + 5·256]
    let inner = g.shape(c)[1];
    let h = g.silu(nn::affine(g, c, w.get(g, "linear_1.weight", [d, inner])?, None)?)?;
    nn::affine(g, h, w.get(g, "linear_2.weight", [d, d])?, None)
}

/// Timesteps \[B\] → their encoding [B, 256].
pub fn time_waves(g: &Graph, timestep: Value) -> Result<Value> {
    mmdit::sinusoidal(g, g.mul_scalar(timestep, TIME_SCALE)?, WAVES, MAX_PERIOD, true)
}

/// What every adaptive LayerNorm reads [B, D]: the timestep \[B\] and a [`pooled_condition`] [B, D].
pub fn time_text_embed(
    g: &Graph,
    w: &Weights,
    cfg: &Config,
    timestep: Value,
    pooled: Value,
) -> Result<Value> {
    let (w, d) = (w.at("time_text_embed"), cfg.width());
    let mlp = |name: &str, x: Value| {
        let w = w.at(name);
        let h = g.silu(nn::linear(g, &w.at("linear_1"), x, d)?)?;
        nn::linear(g, &w.at("linear_2"), h, d)
    };
    let time = mlp("timestep_embedder", time_waves(g, timestep)?)?;
    g.add(time, mlp("text_embedder", pooled)?)
}

/// Rotations of `text` text tokens, which are not turned, and of a grid of image tokens `side` wide, by row and
/// column: (of the image tokens, of both).
pub fn rotations(g: &Graph, cfg: &Config, text: usize, side: usize) -> Result<(Rotation, Rotation)> {
    let grid = (0..side * side).map(|i| [0, i / side, i % side]);
    let image = Rotation::new(g, &cfg.axes_dims_rope, &grid.clone().collect::<Vec<_>>())?;
    let both: Vec<[usize; 3]> = std::iter::repeat_n([0; 3], text).chain(grid).collect();
    Ok((image, Rotation::new(g, &cfg.axes_dims_rope, &both)?))
}

/// What the generator reads beside tokens.
#[derive(Clone, Copy, Debug)]
pub struct Conditioning {
    /// Hidden states [B, L, E] of the text tower's last layer but one, not normalised.
    pub text: Value,
    /// Its pooled, projected features [B, P].
    pub pooled: Value,
    /// Micro conditions [B, 5]: width, height, top, left, aesthetic score.
    pub micro: Value,
    /// Timestep \[B\]: 0 for one-step students, steps still to come for teachers.
    pub timestep: Value,
}

/// Token embeddings e_in [B, N, D] and what it is conditioned on → logits [B, N, V].
pub fn logits(g: &Graph, w: &Weights, cfg: &Config, e_in: Value, given: Conditioning) -> Result<Value> {
    let (b, n, d, e) = (g.shape(e_in)[0], g.shape(e_in)[1], cfg.width(), cfg.joint_attention_dim);
    let found = g.shape(given.text);
    if found.rank() != 3 || (found[0], found[2]) != (b, e) {
        return Err(Error::invalid("text hidden states", format!("[{b}, L, {e}]"), found));
    }
    let (text, side) = (found[1], n.isqrt());
    if side * side != n || !side.is_multiple_of(if cfg.downsample { 2 } else { 1 }) {
        return Err(Error::invalid("tokens", "a square grid, of even sides where it is halved", n));
    }
    let pooled = pooled_condition(g, w, cfg, given.pooled, given.micro)?;
    let c = time_text_embed(g, w, cfg, given.timestep, pooled)?; // [B, D]
    let context = nn::linear(g, &w.at("context_embedder"), given.text, d)?;
    let mut context = mmdit::rms_norm(g, &w.at("encoder_proj_layer_norm"), context, EPS)?; // [B, L, D]

    let x = if cfg.downsample { downsample(g, &w.at("down_block.downsample"), e_in, side)? } else { e_in };
    let mut x = projected(g, w, "project_to_hidden", x)?; // [B, N', D], N' = N/4 or N
    let (of_image, of_both) = rotations(g, cfg, text, cfg.inner_side(side))?;
    for i in 0..cfg.num_layers {
        let block = w.at(format!("transformer_blocks.{i}"));
        (context, x) = joint_block(g, &block, cfg, context, x, c, of_image)?;
        g.end_block(x);
    }
    let mut x = g.concat(&[context, x], 1)?; // [B, L + N', D]
    for i in 0..cfg.num_single_layers {
        let block = w.at(format!("single_transformer_blocks.{i}"));
        x = g.end_block(single_block(g, &block, cfg, x, c, of_both)?);
    }
    let x = g.slice(x, 1, text, g.shape(x)[1])?;
    let x = projected(g, w, "project_from_hidden", x)?;
    let x = match cfg.upsample {
        true => upsample(g, &w.at("up_block.upsample"), x, cfg.inner_side(side))?,
        false => x,
    };
    let w = w.at("mlm_layer");
    let x = mmdit::rms_norm(g, &w.at("layer_norm"), pointwise(g, &w.at("conv1"), x, d)?, EPS)?;
    pointwise(g, &w.at("conv2"), x, cfg.codebook_size)
}

/// `TransformerBlock`: text tokens [B, L, D] and image tokens x [B, N, D] under c [B, D], both returned.
fn joint_block(
    g: &Graph,
    w: &Weights,
    cfg: &Config,
    context: Value,
    x: Value,
    c: Value,
    rotation: Rotation,
) -> Result<(Value, Value)> {
    let (attn, d) = (w.at("attn"), cfg.width());
    let part = |name: &str, from: Value| nn::linear(g, &attn.at(name), from, d);
    // Text tokens are not turned.
    let turned = |name: &str, norm: &str, from: Value, rotation: Option<Rotation>| {
        turned(g, &attn.at(norm), cfg, part(name, from)?, rotation)
    };
    let image = mmdit::ada_norm_zero(g, &w.at("norm1"), x, c)?;
    let text = mmdit::ada_norm_zero(g, &w.at("norm1_context"), context, c)?;
    let queries = [
        turned("add_q_proj", "norm_added_q", text.x, None)?,
        turned("to_q", "norm_q", image.x, Some(rotation))?,
    ];
    let keys = [
        turned("add_k_proj", "norm_added_k", text.x, None)?,
        turned("to_k", "norm_k", image.x, Some(rotation))?,
    ];
    let values = [part("add_v_proj", text.x)?, part("to_v", image.x)?];
    let y = mmdit::joint_attention(g, &queries, &keys, &values, cfg.num_attention_heads)?;
    let x = mmdit::after_attention(g, &w.at("ff"), x, part("to_out.0", y[1])?, &image)?;
    let y = part("to_add_out", y[0])?;
    Ok((mmdit::after_attention(g, &w.at("ff_context"), context, y, &text)?, x))
}

/// `SingleTransformerBlock`: text and image tokens x [B, L + N, D] under c [B, D]; attention and feed-forward
/// network side by side.
fn single_block(
    g: &Graph,
    w: &Weights,
    cfg: &Config,
    x: Value,
    c: Value,
    rotation: Rotation,
) -> Result<Value> {
    let (attn, d) = (w.at("attn"), cfg.width());
    let part = |name: &str, from: Value| nn::linear(g, &attn.at(name), from, d);
    let (y, gate) = mmdit::ada_norm_zero_single(g, &w.at("norm"), x, c)?;
    let q = turned(g, &attn.at("norm_q"), cfg, part("to_q", y)?, Some(rotation))?;
    let k = turned(g, &attn.at("norm_k"), cfg, part("to_k", y)?, Some(rotation))?;
    let attended = nn::attention(g, q, k, part("to_v", y)?, cfg.num_attention_heads)?;
    let h = g.gelu_tanh(nn::linear(g, &w.at("proj_mlp"), y, 4 * d)?)?;
    let y = nn::linear(g, &w.at("proj_out"), g.concat(&[attended, h], 2)?, d)?;
    g.add(x, g.mul(gate, y)?)
}

/// Queries or keys x [B, M, D], every head's of root mean square 1, and turned.
fn turned(g: &Graph, w: &Weights, cfg: &Config, x: Value, rotation: Option<Rotation>) -> Result<Value> {
    let shape = g.shape(x);
    let (b, m) = (shape[0], shape[1]);
    let x = g.reshape(x, [b, m, cfg.num_attention_heads, cfg.attention_head_dim])?;
    let x = mmdit::rms_norm(g, w, x, EPS)?;
    let x = rotation.map_or(Ok(x), |rotation| rotation.apply(g, x))?;
    g.reshape(x, shape)
}

/// `name`_norm, `name`: x [B, N, D] → [B, N, D].
fn projected(g: &Graph, w: &Weights, name: &str, x: Value) -> Result<Value> {
    let d = g.shape(x)[2];
    let x = mmdit::rms_norm(g, &w.at(format!("{name}_norm")), x, EPS)?;
    nn::affine(g, x, w.get(g, &format!("{name}.weight"), [d, d])?, None)
}

/// A 1×1 convolution without bias of x [B, N, I] → [B, N, O]; `weight` [O, I, 1, 1].
fn pointwise(g: &Graph, w: &Weights, x: Value, out: usize) -> Result<Value> {
    let inner = g.shape(x)[2];
    let weight = g.reshape(w.get(g, "weight", [out, inner, 1, 1])?, [out, inner])?;
    nn::affine(g, x, weight, None)
}

/// `Downsample2D`: RMSNorm, then a 2×2 convolution of stride 2, of x [B, side², D] → [B, side²/4, D]. (Its
/// padding right and below reaches no window of an even side.)
fn downsample(g: &Graph, w: &Weights, x: Value, side: usize) -> Result<Value> {
    let (b, d, half) = (g.shape(x)[0], g.shape(x)[2], side / 2);
    let x = mmdit::rms_norm(g, &w.at("norm"), x, EPS)?;
    let x = g.reshape(x, [b, half, 2, half, 2, d])?;
    let x = g.transpose(x, &[0, 1, 3, 5, 2, 4])?; // [B, half, half, D, 2, 2]
    let weight = g.reshape(w.get(g, "conv.weight", [d, d, 2, 2])?, [d, 4 * d])?;
    nn::affine(g, g.reshape(x, [b, half * half, 4 * d])?, weight, None)
}

/// `Upsample2D`: RMSNorm, then a transposed 2×2 convolution of stride 2, of x [B, side², D] → [B, 4·side², D].
fn upsample(g: &Graph, w: &Weights, x: Value, side: usize) -> Result<Value> {
    let (b, d) = (g.shape(x)[0], g.shape(x)[2]);
    let x = mmdit::rms_norm(g, &w.at("norm"), x, EPS)?;
    let weight = g.reshape(w.get(g, "conv.weight", [d, d, 2, 2])?, [d, 4 * d])?; // in, (out, row, column)
    let x = g.gemm(g.reshape(x, [b * side * side, d])?, weight, None, false, false)?;
    let x = g.transpose(g.reshape(x, [b, side, side, d, 2, 2])?, &[0, 1, 4, 2, 5, 3])?;
    g.reshape(x, [b, 4 * side * side, d])
}

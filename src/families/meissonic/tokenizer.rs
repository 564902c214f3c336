//! diffusers' `VQModel`: convolutional encoder, vector quantizer, decoder; Meissonic's image tokenizer. It is
//! the taming VQGAN under other names.
//!
//! Paper: "Taming Transformers for High-Resolution Image Synthesis", arXiv 2012.09841.
//! Reference: huggingface/diffusers 0.32, models/autoencoders/vq_model.py (`VQModel`), models/autoencoders/vae.py
//! (`Encoder`, `Decoder`, `VectorQuantizer`), models/unets/unet_2d_blocks.py (`UNetMidBlock2D`).
//! Checkpoint: meissonflow/meissonic, vqvae (16 pixels a code, 8192 codes).
//! Checked by tests/integration/families/meissonic against golden tensors of the official code.
//!
//! | tensor | what |
//! |---|---|
//! | `encoder.conv_in`, `.down_blocks.{i}.resnets.{j}`, `.down_blocks.{i}.downsamplers.0.conv`, `.mid_block`, `.conv_norm_out`, `.conv_out` | image → h |
//! | `quant_conv` | h → z |
//! | `quantize.embedding.weight` | [codes, width], the codebook |
//! | `post_quant_conv` | code → h |
//! | `decoder.conv_in`, `.mid_block`, `.up_blocks.{i}.resnets.{j}`, `.up_blocks.{i}.upsamplers.0.conv`, `.conv_norm_out`, `.conv_out` | h → image; `up_blocks.0` is the lowest resolution |
//! | `mid_block.resnets.{0,1}`, and where there is attention `.attentions.0.{group_norm,to_q,to_k,to_v,to_out.0}` | |
//! | `resnets.{j}.{norm1,conv1,norm2,conv2}`, where the channels change `.conv_shortcut` | |
//!
//! Every convolution has a bias.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::nn;
use crate::nn::sizes::{SIZE_LIMIT, check_channels, check_size, wrong};
use crate::nn::vqgan::{
    AttentionNames, EPS, GROUPS, attention_block, downsample, grid, nearest, res_block, upsample,
};
use crate::weights::Weights;

/// Sizes, under the key names of the official configuration (`vqvae/config.json`) and with its defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Channels of the levels, from the highest resolution to the lowest.
    pub block_out_channels: Vec<usize>,
    #[serde(default = "one")]
    pub layers_per_block: usize,
    /// Channels of h.
    pub latent_channels: usize,
    /// Codes of the codebook, and their width where it is not that of h.
    pub num_vq_embeddings: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vq_embed_dim: Option<usize>,
    #[serde(default = "yes")]
    pub mid_block_add_attention: bool,
    /// What must be as it is in every published tokenizer.
    #[serde(default = "three")]
    pub in_channels: usize,
    #[serde(default = "three")]
    pub out_channels: usize,
    #[serde(default = "groups")]
    pub norm_num_groups: usize,
    #[serde(default = "act_fn")]
    pub act_fn: String,
    #[serde(default = "norm_type")]
    pub norm_type: String,
    #[serde(default)]
    pub down_block_types: Vec<String>,
    #[serde(default)]
    pub up_block_types: Vec<String>,
}

fn one() -> usize {
    1
}

fn three() -> usize {
    3
}

fn yes() -> bool {
    true
}

fn groups() -> usize {
    GROUPS
}

fn act_fn() -> String {
    "silu".into()
}

fn norm_type() -> String {
    "group".into()
}

impl Config {
    fn levels(&self) -> usize {
        self.block_out_channels.len()
    }

    /// Pixels of a code's side.
    pub fn stride(&self) -> usize {
        1 << (self.levels() - 1)
    }

    /// Width of a code.
    pub fn code_width(&self) -> usize {
        self.vq_embed_dim.unwrap_or(self.latent_channels)
    }

    /// Refuse sizes that make no sense and variants that Meissonic's checkpoints do not have. `file` is named in
    /// the error.
    pub fn validate(&self, file: &str) -> Result<()> {
        let channels = &self.block_out_channels;
        let fits = |c: &usize| (1..=SIZE_LIMIT).contains(c) && c.is_multiple_of(GROUPS);
        if !(1..=8).contains(&channels.len()) || !channels.iter().all(fits) {
            let expected = format!("1 to 8 multiples of {GROUPS}");
            return Err(wrong(file, "block_out_channels", expected, format!("{channels:?}")));
        }
        check_size(file, "layers_per_block", self.layers_per_block, 64)?;
        check_size(file, "latent_channels", self.latent_channels, SIZE_LIMIT)?;
        check_size(file, "num_vq_embeddings", self.num_vq_embeddings, SIZE_LIMIT)?;
        check_size(file, "vq_embed_dim", self.code_width(), SIZE_LIMIT)?;
        check_channels(file, "out_channels", self.out_channels)?;
        for (key, found, expected) in [
            ("in_channels", self.in_channels, self.out_channels),
            ("norm_num_groups", self.norm_num_groups, GROUPS),
        ] {
            if found != expected {
                return Err(wrong(file, key, expected.to_string(), found));
            }
        }
        for (key, found, expected) in
            [("act_fn", &self.act_fn, "silu"), ("norm_type", &self.norm_type, "group")]
        {
            if found != expected {
                return Err(wrong(file, key, expected, found));
            }
        }
        for (key, types, expected) in [
            ("down_block_types", &self.down_block_types, "DownEncoderBlock2D"),
            ("up_block_types", &self.up_block_types, "UpDecoderBlock2D"),
        ] {
            if let Some(other) = types.iter().find(|found| *found != expected) {
                return Err(wrong(file, key, format!("{expected} only"), other));
            }
        }
        Ok(())
    }
}

const ATTENTION: AttentionNames =
    AttentionNames { norm: "group_norm", q: "to_q", k: "to_k", v: "to_v", out: "to_out.0", kernels: false };

/// The residual blocks of one level, the first of which may change the channels.
fn resnets(g: &Graph, w: &Weights, mut x: Value, out: usize, blocks: usize) -> Result<Value> {
    for j in 0..blocks {
        x = g.end_block(res_block(g, &w.at(format!("resnets.{j}")), x, out, "conv_shortcut")?);
    }
    Ok(x)
}

/// `UNetMidBlock2D`: residual block, attention where the tokenizer has it, residual block.
fn middle(g: &Graph, w: &Weights, cfg: &Config, x: Value) -> Result<Value> {
    let c = g.shape(x)[1];
    let mut x = g.end_block(res_block(g, &w.at("resnets.0"), x, c, "conv_shortcut")?);
    if cfg.mid_block_add_attention {
        x = g.end_block(attention_block(g, &w.at("attentions.0"), x, ATTENTION)?);
    }
    Ok(g.end_block(res_block(g, &w.at("resnets.1"), x, c, "conv_shortcut")?))
}

/// `conv_norm_out`, silu, `conv_out`.
fn head(g: &Graph, w: &Weights, x: Value, out: usize) -> Result<Value> {
    let x = g.silu(nn::group_norm(g, &w.at("conv_norm_out"), x, GROUPS, EPS)?)?;
    nn::conv2d_same(g, &w.at("conv_out"), x, out, 3, 1, true)
}

/// `Encoder`, `quant_conv`: image [B, in_channels, H, W] in [0, 1] → z [B, code width, h, w] before quantization.
pub fn encode(g: &Graph, w: &Weights, cfg: &Config, image: Value) -> Result<Value> {
    let encoder = w.at("encoder");
    let channels = &cfg.block_out_channels;
    let mut x = nn::conv2d_same(g, &encoder.at("conv_in"), image, channels[0], 3, 1, true)?;
    for (i, &out) in channels.iter().enumerate() {
        let down = encoder.at(format!("down_blocks.{i}"));
        x = resnets(g, &down, x, out, cfg.layers_per_block)?;
        if i + 1 < cfg.levels() {
            x = downsample(g, &down.at("downsamplers.0"), x)?;
        }
    }
    let x = middle(g, &encoder.at("mid_block"), cfg, x)?;
    let h = head(g, &encoder, x, cfg.latent_channels)?;
    nn::conv2d_same(g, &w.at("quant_conv"), h, cfg.code_width(), 1, 1, true)
}

/// The codebook [codes, width].
fn codebook(g: &Graph, w: &Weights, cfg: &Config) -> Result<Value> {
    w.get(g, "quantize.embedding.weight", [cfg.num_vq_embeddings, cfg.code_width()])
}

/// z [B, code width, h, w] → ids of the nearest codes [B, h·w] (i64), the lowest of equals.
pub fn nearest_code(g: &Graph, w: &Weights, cfg: &Config, z: Value) -> Result<Value> {
    nearest(g, codebook(g, w, cfg)?, z)
}

/// Ids [B, h·w] (i64) of a square grid → codes [B, code width, h, w].
pub fn embed_codes(g: &Graph, w: &Weights, cfg: &Config, ids: Value) -> Result<Value> {
    grid(g, g.gather(codebook(g, w, cfg)?, ids)?)
}

/// Code distribution p [B, h·w, codes] of a square grid → soft embedding, the expected codes p·codebook
/// [B, code width, h, w].
pub fn embed_soft(g: &Graph, w: &Weights, cfg: &Config, p: Value) -> Result<Value> {
    grid(g, nn::soft_embedding(g, p, codebook(g, w, cfg)?)?)
}

/// `post_quant_conv`, `Decoder`: codes [B, code width, h, w], hard or soft → image [B, out_channels, H, W], nominally in
/// [0, 1], not clamped.
pub fn decode(g: &Graph, w: &Weights, cfg: &Config, code: Value) -> Result<Value> {
    let decoder = w.at("decoder");
    let deepest = cfg.block_out_channels[cfg.levels() - 1];
    let h = nn::conv2d_same(g, &w.at("post_quant_conv"), code, cfg.latent_channels, 1, 1, true)?;
    let x = nn::conv2d_same(g, &decoder.at("conv_in"), h, deepest, 3, 1, true)?;
    let mut x = middle(g, &decoder.at("mid_block"), cfg, x)?;
    for (i, &out) in cfg.block_out_channels.iter().rev().enumerate() {
        let up = decoder.at(format!("up_blocks.{i}"));
        x = resnets(g, &up, x, out, cfg.layers_per_block + 1)?;
        if i + 1 < cfg.levels() {
            x = upsample(g, &up.at("upsamplers.0"), x)?;
        }
    }
    head(g, &decoder, x, cfg.out_channels)
}

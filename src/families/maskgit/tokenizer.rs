//! Taming VQGAN `VQModel`: convolutional encoder with attention, vector quantizer, decoder; MaskGIT's image
//! tokenizer.
//!
//! Paper: "Taming Transformers for High-Resolution Image Synthesis", arXiv 2012.09841.
//! Reference: CompVis/taming-transformers, as in yuanzhi-zhu/DiMO, MaskGit_src/Network/Taming:
//! models/vqgan.py, modules/diffusionmodules/model.py, modules/vqvae/quantize.py (`VectorQuantizer2`).
//! Checkpoint: llvictorll/Maskgit-pytorch, VQGAN/last.ckpt (16 pixels a code, 1024 codes).
//! Checked by tests/integration/families/maskgit against golden tensors of the official code.
//!
//! | tensor | what |
//! |---|---|
//! | `encoder.conv_in`, `.down.{i}.block.{j}`, `.down.{i}.attn.{j}`, `.down.{i}.downsample.conv`, `.mid.{block_1,attn_1,block_2}`, `.norm_out`, `.conv_out` | image → h |
//! | `quant_conv` | h → z |
//! | `quantize.embedding.weight` | [n_embed, embed_dim], the codebook |
//! | `post_quant_conv` | code → h |
//! | `decoder.conv_in`, `.mid.{block_1,attn_1,block_2}`, `.up.{i}.block.{j}`, `.up.{i}.attn.{j}`, `.up.{i}.upsample.conv`, `.norm_out`, `.conv_out` | h → image; `up.0` is the highest resolution |
//!
//! Every convolution has a bias. `attn` exists where the side is one of `attn_resolutions`.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::nn;
use crate::nn::sizes::{SIZE_LIMIT, check_channels, check_size, wrong};
use crate::nn::vqgan::{
    AttentionNames, EPS, GROUPS, attention_block, downsample, grid, nearest, res_block, upsample,
};
use crate::weights::Weights;

/// Sizes, under the key names of the official configuration (`model.params` of `model.yaml`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Codes of the codebook.
    pub n_embed: usize,
    /// Width of a code.
    pub embed_dim: usize,
    pub ddconfig: DdConfig,
}

/// Sizes of encoder and decoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DdConfig {
    #[serde(default)]
    pub double_z: bool,
    pub z_channels: usize,
    /// Width and height that `attn_resolutions` refers to, in pixels.
    pub resolution: usize,
    /// 3, or 4 with alpha, in and out alike.
    pub in_channels: usize,
    pub out_ch: usize,
    /// Channels of the highest resolution; level i has `ch · ch_mult[i]`.
    pub ch: usize,
    pub ch_mult: Vec<usize>,
    pub num_res_blocks: usize,
    /// Sides of the feature maps that get attention after every residual block.
    pub attn_resolutions: Vec<usize>,
}

impl Config {
    /// Pixels of a code's side.
    pub fn stride(&self) -> usize {
        1 << (self.ddconfig.ch_mult.len() - 1)
    }

    /// Refuse sizes that contradict each other. `file` is named in the error.
    pub fn validate(&self, file: &str) -> Result<()> {
        let dd = &self.ddconfig;
        let sizes = [
            ("n_embed", self.n_embed, SIZE_LIMIT),
            ("embed_dim", self.embed_dim, SIZE_LIMIT),
            ("ddconfig.z_channels", dd.z_channels, SIZE_LIMIT),
            ("ddconfig.resolution", dd.resolution, SIZE_LIMIT),
            ("ddconfig.ch", dd.ch, SIZE_LIMIT),
            ("ddconfig.num_res_blocks", dd.num_res_blocks, 64),
        ];
        sizes.iter().try_for_each(|&(key, size, limit)| check_size(file, key, size, limit))?;
        check_channels(file, "ddconfig.out_ch", dd.out_ch)?;
        if dd.in_channels != dd.out_ch {
            return Err(wrong(
                file,
                "ddconfig.in_channels",
                format!("out_ch = {}", dd.out_ch),
                dd.in_channels,
            ));
        }
        if dd.double_z {
            return Err(wrong(file, "ddconfig.double_z", "false (a code has no variance)", true));
        }
        if !dd.ch.is_multiple_of(GROUPS) {
            return Err(wrong(file, "ddconfig.ch", format!("a multiple of {GROUPS}"), dd.ch));
        }
        if !(1..=8).contains(&dd.ch_mult.len()) || dd.ch_mult.iter().any(|m| !(1..=64).contains(m)) {
            let found = format!("{:?}", dd.ch_mult);
            return Err(wrong(file, "ddconfig.ch_mult", "1 to 8 factors of 1 to 64", found));
        }
        if !dd.resolution.is_multiple_of(self.stride()) {
            let expected = format!("a multiple of 2^(levels − 1) = {}", self.stride());
            return Err(wrong(file, "ddconfig.resolution", expected, dd.resolution));
        }
        Ok(())
    }
}

impl DdConfig {
    fn channels(&self, level: usize) -> usize {
        self.ch * self.ch_mult[level]
    }

    fn has_attention(&self, level: usize) -> bool {
        self.attn_resolutions.contains(&(self.resolution >> level))
    }
}

const ATTENTION: AttentionNames =
    AttentionNames { norm: "norm", q: "q", k: "k", v: "v", out: "proj_out", kernels: true };

/// The blocks of one level: `blocks` residual blocks, the first of which may change the channels, each
/// followed by attention where the level has it.
fn level(g: &Graph, w: &Weights, mut x: Value, out: usize, blocks: usize, attention: bool) -> Result<Value> {
    for j in 0..blocks {
        x = g.end_block(res_block(g, &w.at(format!("block.{j}")), x, out, "nin_shortcut")?);
        if attention {
            x = g.end_block(attention_block(g, &w.at(format!("attn.{j}")), x, ATTENTION)?);
        }
    }
    Ok(x)
}

/// `mid`: residual block, attention, residual block, at the lowest resolution.
fn middle(g: &Graph, w: &Weights, x: Value) -> Result<Value> {
    let c = g.shape(x)[1];
    let x = g.end_block(res_block(g, &w.at("block_1"), x, c, "nin_shortcut")?);
    let x = g.end_block(attention_block(g, &w.at("attn_1"), x, ATTENTION)?);
    Ok(g.end_block(res_block(g, &w.at("block_2"), x, c, "nin_shortcut")?))
}

/// `norm_out`, silu, `conv_out`.
fn head(g: &Graph, w: &Weights, x: Value, out: usize) -> Result<Value> {
    let x = g.silu(nn::group_norm(g, &w.at("norm_out"), x, GROUPS, EPS)?)?;
    nn::conv2d_same(g, &w.at("conv_out"), x, out, 3, 1, true)
}

/// `Encoder`, `quant_conv`: image [B, in_channels, H, W] in [−1, 1] → z [B, embed_dim, h, w] before quantization.
pub fn encode(g: &Graph, w: &Weights, cfg: &Config, image: Value) -> Result<Value> {
    let (encoder, dd) = (w.at("encoder"), &cfg.ddconfig);
    let mut x = nn::conv2d_same(g, &encoder.at("conv_in"), image, dd.ch, 3, 1, true)?;
    for i in 0..dd.ch_mult.len() {
        let down = encoder.at(format!("down.{i}"));
        x = level(g, &down, x, dd.channels(i), dd.num_res_blocks, dd.has_attention(i))?;
        if i + 1 < dd.ch_mult.len() {
            x = downsample(g, &down.at("downsample"), x)?;
        }
    }
    let x = middle(g, &encoder.at("mid"), x)?;
    let h = head(g, &encoder, x, dd.z_channels)?;
    nn::conv2d_same(g, &w.at("quant_conv"), h, cfg.embed_dim, 1, 1, true)
}

/// The codebook [n_embed, embed_dim].
fn codebook(g: &Graph, w: &Weights, cfg: &Config) -> Result<Value> {
    w.get(g, "quantize.embedding.weight", [cfg.n_embed, cfg.embed_dim])
}

/// z [B, embed_dim, h, w] → ids of the nearest codes [B, h·w] (i64), the lowest of equals.
pub fn nearest_code(g: &Graph, w: &Weights, cfg: &Config, z: Value) -> Result<Value> {
    nearest(g, codebook(g, w, cfg)?, z)
}

/// Ids [B, h·w] (i64) of a square grid → codes [B, embed_dim, h, w].
pub fn embed_codes(g: &Graph, w: &Weights, cfg: &Config, ids: Value) -> Result<Value> {
    grid(g, g.gather(codebook(g, w, cfg)?, ids)?)
}

/// Code distribution p [B, h·w, n_embed] of a square grid → soft embedding, the expected codes p·codebook
/// [B, embed_dim, h, w].
pub fn embed_soft(g: &Graph, w: &Weights, cfg: &Config, p: Value) -> Result<Value> {
    grid(g, g.matmul(p, codebook(g, w, cfg)?)?)
}

/// `post_quant_conv`, `Decoder`: codes [B, embed_dim, h, w], hard or soft → image [B, out_ch, H, W], nominally in
/// [−1, 1], not clamped.
pub fn decode(g: &Graph, w: &Weights, cfg: &Config, code: Value) -> Result<Value> {
    let (decoder, dd) = (w.at("decoder"), &cfg.ddconfig);
    let deepest = dd.channels(dd.ch_mult.len() - 1);
    let h = nn::conv2d_same(g, &w.at("post_quant_conv"), code, dd.z_channels, 1, 1, true)?;
    let x = nn::conv2d_same(g, &decoder.at("conv_in"), h, deepest, 3, 1, true)?;
    let mut x = middle(g, &decoder.at("mid"), x)?;
    for i in (0..dd.ch_mult.len()).rev() {
        let up = decoder.at(format!("up.{i}"));
        x = level(g, &up, x, dd.channels(i), dd.num_res_blocks + 1, dd.has_attention(i))?;
        if i > 0 {
            x = upsample(g, &up.at("upsample"), x)?;
        }
    }
    head(g, &decoder, x, dd.out_ch)
}

/// Picture in [−1, 1], as [`decode`] gives it → the library's [0, 1]: x/2 + 1/2, as the official sampler saves.
pub fn to_unit_range(g: &Graph, image: Value) -> Result<Value> {
    g.add_scalar(g.mul_scalar(image, 0.5)?, 0.5)
}

/// Picture in the library's [0, 1] → [−1, 1], as [`encode`] takes it: 2x − 1.
pub fn from_unit_range(g: &Graph, image: Value) -> Result<Value> {
    g.add_scalar(g.mul_scalar(image, 2.0)?, -1.0)
}

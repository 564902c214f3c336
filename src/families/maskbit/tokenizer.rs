//! MaskBit's image tokenizer `ConvVQModel`: convolutional encoder, lookup-free quantizer, decoder.
//!
//! Reference: markweberdev/maskbit, modeling/conv_vqgan.py, modeling/modules/autoencoder.py
//! (`ConvEncoder`, `ConvDecoder`), modeling/quantizer/lookup_free.py.
//! Checked by tests/integration/families/maskbit.rs against golden tensors of the official code.
//!
//! | tensor | what |
//! |---|---|
//! | `encoder.conv_in`, `.down.{i}.res_blocks.{j}`, `.down.{i}.down_conv`, `.mid.res_blocks.{j}`, `.norm_out`, `.conv_out` | image → z |
//! | `decoder.conv_in`, `.mid.res_blocks.{j}`, `.up.{i}.res_blocks.{j}`, `.up.{i}.upsample_conv`, `.norm_out`, `.conv_out` | code → image; `up.0` is the lowest resolution |
//!
//! Residual blocks, `nin_shortcut` and the encoder's `conv_in` have no bias; the other convolutions have.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::nn;
use crate::weights::Weights;

/// GroupNorm groups and epsilon, everywhere in the tokenizer.
const GROUPS: usize = 32;
const EPS: f32 = 1e-6;

/// Sizes, under the key names of the official configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// 3, or 4 with alpha.
    pub num_channels: usize,
    /// Bits of a token = channels of the code.
    pub token_size: usize,
    pub hidden_channels: usize,
    pub channel_mult: Vec<usize>,
    pub num_resolutions: usize,
    pub num_res_blocks: usize,
    /// Decoder blocks where they differ from the encoder's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_res_blocks_decoder: Option<usize>,
    pub sample_with_conv: bool,
}

impl Config {
    fn channels(&self, level: usize) -> usize {
        self.hidden_channels * self.channel_mult[level]
    }
}

/// `ResidualBlock`. When channels change, the shortcut is `nin_shortcut(h)` of the block's own output h,
/// not of its input: the published weights are trained that way.
fn res_block(g: &Graph, w: &Weights, x: Value, out: usize) -> Result<Value> {
    let h = g.silu(nn::group_norm(g, &w.at("norm1"), x, GROUPS, EPS)?)?;
    let h = nn::conv2d_same(g, &w.at("conv1"), h, out, 3, 1, false)?;
    let h = g.silu(nn::group_norm(g, &w.at("norm2"), h, GROUPS, EPS)?)?;
    let h = nn::conv2d_same(g, &w.at("conv2"), h, out, 3, 1, false)?;
    let residual = if g.shape(x)[1] == out {
        x
    } else {
        nn::conv2d_same(g, &w.at("nin_shortcut"), h, out, 1, 1, false)?
    };
    g.add(h, residual)
}

/// `ResidualStage`: `blocks` residual blocks, the first of which may change the channels.
fn res_stage(g: &Graph, w: &Weights, mut x: Value, out: usize, blocks: usize) -> Result<Value> {
    for i in 0..blocks {
        x = g.end_block(res_block(g, &w.at(format!("res_blocks.{i}")), x, out)?);
    }
    Ok(x)
}

/// `ConvEncoder`: image [B, num_channels, H, W] in [0, 1] → z [B, token_size, h, w] before quantization.
pub fn encode(g: &Graph, w: &Weights, cfg: &Config, image: Value) -> Result<Value> {
    let w = w.at("encoder");
    let mut x = nn::conv2d_same(g, &w.at("conv_in"), image, cfg.hidden_channels, 3, 1, false)?;
    for level in 0..cfg.num_resolutions {
        let (stage, out) = (w.at(format!("down.{level}")), cfg.channels(level));
        x = res_stage(g, &stage, x, out, cfg.num_res_blocks)?;
        if level + 1 < cfg.num_resolutions {
            x = match cfg.sample_with_conv {
                true => nn::conv2d_same(g, &stage.at("down_conv"), x, out, 3, 2, true)?,
                false => g.average_pool(x, 2)?,
            };
        }
    }
    x = res_stage(g, &w.at("mid"), x, cfg.channels(cfg.num_resolutions - 1), cfg.num_res_blocks)?;
    let x = g.silu(nn::group_norm(g, &w.at("norm_out"), x, GROUPS, EPS)?)?;
    nn::conv2d_same(g, &w.at("conv_out"), x, cfg.token_size, 1, 1, true)
}

/// Lookup-free quantizer: bit = z > 0, as ±1 (z = 0 gives −1).
pub fn quantize(g: &Graph, z: Value) -> Result<Value> {
    g.where_(g.greater(z, g.scalar(0.0)?)?, g.scalar(1.0)?, g.scalar(-1.0)?)
}

/// `ConvDecoder`: code [B, token_size, h, w], hard (±1) or soft → image [B, num_channels, H, W], nominally in
/// [0, 1], not clamped.
pub fn decode(g: &Graph, w: &Weights, cfg: &Config, code: Value) -> Result<Value> {
    let w = w.at("decoder");
    let blocks = cfg.num_res_blocks_decoder.unwrap_or(cfg.num_res_blocks);
    let deepest = cfg.channels(cfg.num_resolutions - 1);
    let mut x = nn::conv2d_same(g, &w.at("conv_in"), code, deepest, 3, 1, true)?;
    x = res_stage(g, &w.at("mid"), x, deepest, blocks)?;
    for (i, level) in (0..cfg.num_resolutions).rev().enumerate() {
        let (stage, out) = (w.at(format!("up.{i}")), cfg.channels(level));
        x = res_stage(g, &stage, x, out, blocks)?;
        if level > 0 {
            x = nn::conv2d_same(g, &stage.at("upsample_conv"), g.resize(x, 2)?, out, 3, 1, true)?;
        }
    }
    let x = g.silu(nn::group_norm(g, &w.at("norm_out"), x, GROUPS, EPS)?)?;
    nn::conv2d_same(g, &w.at("conv_out"), x, cfg.num_channels, 3, 1, true)
}

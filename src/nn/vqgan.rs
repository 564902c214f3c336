//! Blocks of the convolutional image tokenizers that descend from the taming VQGAN, and the look-up of their codes.
//!
//! Reference: CompVis/taming-transformers, modules/diffusionmodules/model.py (`ResnetBlock`, `AttnBlock`, `Downsample`,
//! `Upsample`), modules/vqvae/quantize.py (`VectorQuantizer2`); diffusers' VQModel has the same under other names.

use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::nn;
use crate::weights::Weights;

/// GroupNorm groups and epsilon, everywhere in these tokenizers.
pub const GROUPS: usize = 32;
pub const EPS: f32 = 1e-6;

/// `ResnetBlock`: shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x)))))) for x [B, C, H, W] → [B, out, H, W].
/// Where the channels change, the shortcut is a 1×1 convolution named `shortcut`.
pub fn res_block(g: &Graph, w: &Weights, x: Value, out: usize, shortcut: &str) -> Result<Value> {
    let h = g.silu(nn::group_norm(g, &w.at("norm1"), x, GROUPS, EPS)?)?;
    let h = nn::conv2d_same(g, &w.at("conv1"), h, out, 3, 1, true)?;
    let h = g.silu(nn::group_norm(g, &w.at("norm2"), h, GROUPS, EPS)?)?;
    let h = nn::conv2d_same(g, &w.at("conv2"), h, out, 3, 1, true)?;
    let residual =
        if g.shape(x)[1] == out { x } else { nn::conv2d_same(g, &w.at(shortcut), x, out, 1, 1, true)? };
    g.add(residual, h)
}

/// Names of an attention block's layers.
#[derive(Clone, Copy, Debug)]
pub struct AttentionNames {
    pub norm: &'static str,
    pub q: &'static str,
    pub k: &'static str,
    pub v: &'static str,
    pub out: &'static str,
    /// Whether the maps are stored as 1×1 convolutions [C, C, 1, 1] or as matrices [C, C].
    pub kernels: bool,
}

/// `AttnBlock`: x + out(attention(q, k, v of norm(x))) over the positions of x [B, C, H, W], one head of
/// width C.
pub fn attention_block(g: &Graph, w: &Weights, x: Value, names: AttentionNames) -> Result<Value> {
    let shape = g.shape(x);
    let (b, c, n) = (shape[0], shape[1], shape[2] * shape[3]);
    // A 1×1 convolution is an affine map of every position.
    let map = |name: &str, x: Value| {
        let w = w.at(name);
        let weight = match names.kernels {
            true => g.reshape(w.get(g, "weight", [c, c, 1, 1])?, [c, c])?,
            false => w.get(g, "weight", [c, c])?,
        };
        nn::affine(g, x, weight, Some(w.get(g, "bias", [c])?))
    };
    let y = nn::group_norm(g, &w.at(names.norm), x, GROUPS, EPS)?;
    let y = g.transpose(g.reshape(y, [b, c, n])?, &[0, 2, 1])?; // [B, H·W, C]
    let y = nn::attention(g, map(names.q, y)?, map(names.k, y)?, map(names.v, y)?, 1)?;
    let y = g.transpose(map(names.out, y)?, &[0, 2, 1])?; // [B, C, H·W]
    g.add(x, g.reshape(y, shape)?)
}

/// `Downsample`: x [B, C, H, W] → [B, C, H/2, W/2] by a 3×3 convolution of stride 2 whose padding is one zero
/// right and below. H and W are even, for which that is SAME padding.
pub fn downsample(g: &Graph, w: &Weights, x: Value) -> Result<Value> {
    let c = g.shape(x)[1];
    nn::conv2d_same(g, &w.at("conv"), x, c, 3, 2, true)
}

/// `Upsample`: x [B, C, H, W] → [B, C, 2H, 2W], nearest neighbours, then a 3×3 convolution.
pub fn upsample(g: &Graph, w: &Weights, x: Value) -> Result<Value> {
    let c = g.shape(x)[1];
    nn::conv2d_same(g, &w.at("conv"), g.resize(x, 2)?, c, 3, 1, true)
}

/// z [B, C, h, w] → ids of the nearest rows of `codes` [V, C], [B, h·w] (i64):
/// argmin_j ‖z − e_j‖² = argmax_j z·e_j − ‖e_j‖²/2, the lowest of equals.
pub fn nearest(g: &Graph, codes: Value, z: Value) -> Result<Value> {
    let shape = g.shape(z);
    let (b, d, n) = (shape[0], shape[1], shape[2] * shape[3]);
    let z = g.transpose(g.reshape(z, [b, d, n])?, &[0, 2, 1])?; // [B, h·w, C]
    let half = g.mul_scalar(g.reduce_sum(g.mul(codes, codes)?, &[1])?, -0.5)?; // [V, 1]
    let half = g.reshape(half, [g.shape(codes)[0]])?;
    g.arg_max(nn::affine(g, z, codes, Some(half))?, 2)
}

/// [B, s·s, C] → [B, C, s, s].
pub fn grid(g: &Graph, x: Value) -> Result<Value> {
    let shape = g.shape(x);
    let (b, n, c) = (shape[0], shape[1], shape[2]);
    let side = n.isqrt();
    g.reshape(g.transpose(x, &[0, 2, 1])?, [b, c, side, side])
}

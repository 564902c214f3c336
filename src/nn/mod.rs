//! Layers as free functions over the builder, and the networks that families share. Each reads its weights under the
//! names PyTorch gives them.

pub mod clip;
pub mod mmdit;
pub(crate) mod sizes;
pub mod text_encoder;
pub mod vqgan;

use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::tensor::{Shape, Tensor};
use crate::weights::Weights;

/// `torch.nn.Linear`: x [.., I] → [.., O]; `weight` [O, I], `bias` \[O\].
pub fn linear(g: &Graph, w: &Weights, x: Value, out: usize) -> Result<Value> {
    let inner = *g.shape(x).last().unwrap_or(&1);
    affine(g, x, w.get(g, "weight", [out, inner])?, Some(w.get(g, "bias", [out])?))
}

/// x·Wᵀ + b for x [.., I] and W [O, I], as one Gemm over the flattened rows.
pub fn affine(g: &Graph, x: Value, weight: Value, bias: Option<Value>) -> Result<Value> {
    let shape = g.shape(x);
    let (inner, out) = (*shape.last().unwrap_or(&1), g.shape(weight)[0]);
    let rows = shape.len() / inner.max(1);
    let y = g.gemm(g.reshape(x, [rows, inner])?, weight, bias, false, true)?;
    let mut result: Shape = shape;
    if let Some(last) = result.0.last_mut() {
        *last = out;
    }
    g.reshape(y, result)
}

/// `torch.nn.LayerNorm` over the last axis; `weight` \[D\], `bias` \[D\].
pub fn layer_norm(g: &Graph, w: &Weights, x: Value, eps: f32) -> Result<Value> {
    let d = *g.shape(x).last().unwrap_or(&1);
    g.layer_normalization(x, w.get(g, "weight", [d])?, w.get(g, "bias", [d])?, eps)
}

/// `torch.nn.GroupNorm` of x [B, C, H, W]; `weight` \[C\], `bias` \[C\].
pub fn group_norm(g: &Graph, w: &Weights, x: Value, groups: usize, eps: f32) -> Result<Value> {
    let c = g.shape(x)[1];
    g.group_normalization(x, w.get(g, "weight", [c])?, w.get(g, "bias", [c])?, groups, eps)
}

/// `softmax(q·kᵀ/√d)·v` for q [B, M, D], k and v [B, N, D] split into `heads` of width d = D/heads.
pub fn attention(g: &Graph, q: Value, k: Value, v: Value, heads: usize) -> Result<Value> {
    masked_attention(g, q, k, v, heads, None)
}

/// [`attention`] with `mask`, which broadcasts to [B, heads, M, N]: `softmax(q·kᵀ/√d + mask)·v`.
pub fn masked_attention(
    g: &Graph,
    q: Value,
    k: Value,
    v: Value,
    heads: usize,
    mask: Option<Value>,
) -> Result<Value> {
    let shape = g.shape(q);
    let (b, m, width) = (shape[0], shape[1], shape[2]);
    let n = g.shape(k)[1];
    let d = width / heads;
    let q = g.transpose(g.reshape(q, [b, m, heads, d])?, &[0, 2, 1, 3])?; // [B, heads, M, d]
    let k = g.transpose(g.reshape(k, [b, n, heads, d])?, &[0, 2, 3, 1])?; // [B, heads, d, N]
    let v = g.transpose(g.reshape(v, [b, n, heads, d])?, &[0, 2, 1, 3])?; // [B, heads, N, d]
    let mut scores = g.mul_scalar(g.matmul(q, k)?, (d as f32).powf(-0.5))?; // [B, heads, M, N]
    if let Some(mask) = mask {
        scores = g.add(scores, mask)?;
    }
    let y = g.matmul(g.softmax(scores, 3)?, v)?; // [B, heads, M, d]
    g.reshape(g.transpose(y, &[0, 2, 1, 3])?, [b, m, width])
}

/// Mask [n, n] under which a position sees itself and those before it: 0 where it may look, −∞ elsewhere.
pub fn causal_mask(g: &Graph, n: usize) -> Result<Value> {
    let row = |i: usize| (0..n).map(move |j| if j <= i { 0.0 } else { f32::NEG_INFINITY });
    g.constant(Tensor::from_f32([n, n], &(0..n).flat_map(row).collect::<Vec<_>>()))
}

/// `torch.nn.MultiheadAttention` as self-attention of x [B, N, D]; packed `in_proj_weight` [3D, D] in
/// q, k, v order, `in_proj_bias` \[3D\], `out_proj`.
pub fn multihead_attention(g: &Graph, w: &Weights, x: Value, heads: usize) -> Result<Value> {
    masked_multihead_attention(g, w, x, heads, None)
}

/// [`multihead_attention`] with an additive mask that broadcasts to [B, heads, N, N].
pub fn masked_multihead_attention(
    g: &Graph,
    w: &Weights,
    x: Value,
    heads: usize,
    mask: Option<Value>,
) -> Result<Value> {
    let d = g.shape(x)[2];
    let weight = w.get(g, "in_proj_weight", [3 * d, d])?;
    let qkv = affine(g, x, weight, Some(w.get(g, "in_proj_bias", [3 * d])?))?; // [B, N, 3D]
    let part = |i: usize| g.slice(qkv, 2, i * d, (i + 1) * d);
    let y = masked_attention(g, part(0)?, part(1)?, part(2)?, heads, mask)?;
    linear(g, &w.at("out_proj"), y, d)
}

/// x·σ(1.702·x), OpenAI's approximation of GELU.
pub fn quick_gelu(g: &Graph, x: Value) -> Result<Value> {
    g.mul(x, g.sigmoid(g.mul_scalar(x, 1.702)?)?)
}

/// x [B, D] / ‖x‖₂ per row; a zero row stays zero.
pub fn l2_normalize(g: &Graph, x: Value) -> Result<Value> {
    let square = g.reduce_sum(g.mul(x, x)?, &[1])?; // [B, 1]
    let zero = g.equal(square, g.scalar(0.0)?)?;
    g.div(x, g.sqrt(g.where_(zero, g.scalar(1.0)?, square)?)?)
}

/// 2-D convolution with TensorFlow SAME padding: total `max((⌈i/s⌉−1)·s + k − i, 0)`, the smaller half on
/// the top and left. x [B, C, H, W]; `weight` [O, C, k, k]; `bias` \[O\] where `bias` is set.
pub fn conv2d_same(
    g: &Graph,
    w: &Weights,
    x: Value,
    out: usize,
    k: usize,
    stride: usize,
    bias: bool,
) -> Result<Value> {
    let shape = g.shape(x);
    let total = |i: usize| ((i.div_ceil(stride) - 1) * stride + k).saturating_sub(i);
    let (h, v) = (total(shape[2]), total(shape[3]));
    let pads = [h / 2, v / 2, h - h / 2, v - v / 2];
    let weight = w.get(g, "weight", [out, shape[1], k, k])?;
    let bias = if bias { Some(w.get(g, "bias", [out])?) } else { None };
    g.conv(x, weight, bias, [stride, stride], pads, 1)
}

/// Picture [B, C, H, W] cut into `p`×`p` patches, row by row: [B, patches, C·p·p]. The input of a convolution
/// whose stride is its kernel, as an [`affine`] map: its gradient is another.
pub fn patches(g: &Graph, x: Value, p: usize) -> Result<Value> {
    let s = g.shape(x);
    let (b, c, rows, columns) = (s[0], s[1], s[2] / p, s[3] / p);
    let x = g.reshape(x, [b, c, rows, p, columns, p])?;
    let x = g.transpose(x, &[0, 2, 4, 1, 3, 5])?; // [B, rows, columns, C, p, p]
    g.reshape(x, [b, rows * columns, c * p * p])
}

/// `torch.nn.Embedding`: integer indices of any shape → [.., D]; `weight` [rows, D].
pub fn embedding(g: &Graph, w: &Weights, indices: Value, rows: usize, d: usize) -> Result<Value> {
    w.rows(g, "weight", [rows, d], indices)
}

/// [`embedding`] of a distribution: p [.., V] over the rows of `table` [V, D] → p·table [.., D], as one Gemm.
pub fn soft_embedding(g: &Graph, p: Value, table: Value) -> Result<Value> {
    let (mut shape, rows, d) = (g.shape(p), g.shape(table)[0], g.shape(table)[1]);
    let y = g.gemm(g.reshape(p, [shape.len() / rows.max(1), rows])?, table, None, false, false)?;
    if let Some(last) = shape.0.last_mut() {
        *last = d;
    }
    g.reshape(y, shape)
}

/// Sum over everything but the batch: [B, ..] → \[B\].
pub fn sum_per_picture(g: &Graph, x: Value, batch: usize) -> Result<Value> {
    let axes: Vec<usize> = (1..g.shape(x).rank()).collect();
    g.reshape(g.reduce_sum(x, &axes)?, [batch])
}

/// e_in = √(1−σ²)·E(x_init) + σ·n, on image positions only (arXiv 2503.15457, and the DiMO code).
pub fn perturb(g: &Graph, e: Value, noise: Value, sigma: Value) -> Result<Value> {
    let keep = g.sqrt(g.sub(g.scalar(1.0)?, g.mul(sigma, sigma)?)?)?;
    g.add(g.mul(e, keep)?, g.mul(noise, sigma)?)
}

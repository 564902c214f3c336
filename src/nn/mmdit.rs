//! Pieces of the multimodal diffusion transformer (MM-DiT): adaptive LayerNorms, attention over two kinds of
//! tokens at once, and encodings of numbers as waves. MaskGen and Meissonic are built of them.
//!
//! Paper: "Scaling Rectified Flow Transformers for High-Resolution Image Synthesis", arXiv 2403.03206.
//! Reference: huggingface/diffusers, models/normalization.py (`AdaLayerNormZero`, `AdaLayerNormZeroSingle`,
//! `AdaLayerNormContinuous`, `RMSNorm`), models/attention.py (`JointTransformerBlock`, `FeedForward`),
//! models/attention_processor.py (`JointAttnProcessor2_0`), models/embeddings.py (`get_timestep_embedding`,
//! `get_1d_rotary_pos_embed`, `apply_rotary_emb`).
//! Checked by tests/integration/families/maskgen and tests/integration/families/meissonic: the golden tensors of both families, and by themselves
//! against their definitions.
//!
//! | tensor | shape |
//! |---|---|
//! | `linear` of an adaptive LayerNorm | [chunks · D, C]: 6 (zero), 3 (zero, single) or 2 (continuous) chunks |
//! | `net.0.proj`, `net.2` of a feed-forward network | [4D, D], [D, 4D] |
//! | `weight` of an RMSNorm | \[D\] |

use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::nn;
use crate::tensor::Tensor;
use crate::weights::Weights;

/// LayerNorm epsilon, everywhere in an MM-DiT.
const EPS: f32 = 1e-6;

/// LN(x)·(1 + scale) + shift for x [B, N, D], scale and shift [B, 1, D]. The LayerNorm has no parameters.
pub fn modulated_layer_norm(g: &Graph, x: Value, scale: Value, shift: Value) -> Result<Value> {
    let d = *g.shape(x).last().unwrap_or(&1);
    let ones = g.constant(Tensor::from_f32([d], &vec![1.0; d]))?;
    let zeros = g.constant(Tensor::from_f32([d], &vec![0.0; d]))?;
    let x = g.layer_normalization(x, ones, zeros, EPS)?;
    g.add(g.mul(x, g.add_scalar(scale, 1.0)?)?, shift)
}

/// What a condition c [B, C] does to tokens of width `d`: linear(silu(c)) in chunks, [B, chunks, D].
fn modulation(g: &Graph, w: &Weights, c: Value, d: usize, chunks: usize) -> Result<Value> {
    let b = g.shape(c)[0];
    let m = nn::linear(g, &w.at("linear"), g.silu(c)?, chunks * d)?;
    g.reshape(m, [b, chunks, d])
}

/// Chunk `i` of a [`modulation`], [B, 1, D].
fn chunk(g: &Graph, m: Value, i: usize) -> Result<Value> {
    g.slice(m, 1, i, i + 1)
}

/// Result of [`ada_norm_zero`]: the tokens to attend with, and the modulations [B, 1, D] of what follows.
#[derive(Clone, Copy, Debug)]
pub struct AdaNormZero {
    pub x: Value,
    pub gate_attention: Value,
    pub shift_mlp: Value,
    pub scale_mlp: Value,
    pub gate_mlp: Value,
}

/// `AdaLayerNormZero` of x [B, N, D] under c [B, C]. Chunks: shift, scale and gate of the attention, then of
/// the feed-forward network.
pub fn ada_norm_zero(g: &Graph, w: &Weights, x: Value, c: Value) -> Result<AdaNormZero> {
    let m = modulation(g, w, c, g.shape(x)[2], 6)?;
    Ok(AdaNormZero {
        x: modulated_layer_norm(g, x, chunk(g, m, 1)?, chunk(g, m, 0)?)?,
        gate_attention: chunk(g, m, 2)?,
        shift_mlp: chunk(g, m, 3)?,
        scale_mlp: chunk(g, m, 4)?,
        gate_mlp: chunk(g, m, 5)?,
    })
}

/// `AdaLayerNormZeroSingle` of x [B, N, D] under c [B, C]: the normalised tokens and the gate [B, 1, D].
/// Chunks: shift, scale, gate.
pub fn ada_norm_zero_single(g: &Graph, w: &Weights, x: Value, c: Value) -> Result<(Value, Value)> {
    let m = modulation(g, w, c, g.shape(x)[2], 3)?;
    Ok((modulated_layer_norm(g, x, chunk(g, m, 1)?, chunk(g, m, 0)?)?, chunk(g, m, 2)?))
}

/// `AdaLayerNormContinuous` of x [B, N, D] under c [B, C]. Chunks: scale, shift.
pub fn ada_norm_continuous(g: &Graph, w: &Weights, x: Value, c: Value) -> Result<Value> {
    let m = modulation(g, w, c, g.shape(x)[2], 2)?;
    modulated_layer_norm(g, x, chunk(g, m, 0)?, chunk(g, m, 1)?)
}

/// Attention over several kinds of tokens as one sequence: queries [B, Mᵢ, D] look at all keys [B, Nᵢ, D].
/// Keys and values are of the same kinds in the same order; results are the queries', [B, Mᵢ, D].
pub fn joint_attention(
    g: &Graph,
    queries: &[Value],
    keys: &[Value],
    values: &[Value],
    heads: usize,
) -> Result<Vec<Value>> {
    let y = nn::attention(g, g.concat(queries, 1)?, g.concat(keys, 1)?, g.concat(values, 1)?, heads)?;
    let mut start = 0;
    let mut parts = Vec::new();
    for &q in queries {
        let n = g.shape(q)[1];
        parts.push(g.slice(y, 1, start, start + n)?);
        start += n;
    }
    Ok(parts)
}

/// A block after its attention: x + gate·y, then x + gate·FF(LN(x)·(1 + scale) + shift), for tokens x, their
/// attention's result y [B, N, D] and what `ada_norm_zero` made of x; `w` is the feed-forward network's.
pub fn after_attention(g: &Graph, w: &Weights, x: Value, y: Value, norm: &AdaNormZero) -> Result<Value> {
    let x = g.add(x, g.mul(norm.gate_attention, y)?)?;
    let h = feed_forward(g, w, modulated_layer_norm(g, x, norm.scale_mlp, norm.shift_mlp)?)?;
    g.add(x, g.mul(norm.gate_mlp, h)?)
}

/// `FeedForward` of x [.., D]: W₂·gelu(W₁·x), GELU by tanh.
pub fn feed_forward(g: &Graph, w: &Weights, x: Value) -> Result<Value> {
    let d = *g.shape(x).last().unwrap_or(&1);
    let h = g.gelu_tanh(nn::linear(g, &w.at("net.0.proj"), x, 4 * d)?)?;
    nn::linear(g, &w.at("net.2"), h, d)
}

/// `RMSNorm` over the last axis: x / √(mean x² + eps) · `weight` \[D\].
pub fn rms_norm(g: &Graph, w: &Weights, x: Value, eps: f32) -> Result<Value> {
    let shape = g.shape(x);
    let axis = shape.rank().saturating_sub(1);
    let square = g.reduce_mean(g.mul(x, x)?, &[axis])?;
    let x = g.div(x, g.sqrt(g.add_scalar(square, eps)?)?)?;
    g.mul(x, w.get(g, "weight", [*shape.last().unwrap_or(&1)])?)
}

/// Numbers t \[B\] as waves [B, dim]: the sines of t·fᵢ and their cosines, fᵢ = max_period^(−i/half) for i below half =
/// dim/2. The sines come first, or the cosines.
///
/// # Errors
/// An odd `dim`, which has no such halves.
pub fn sinusoidal(g: &Graph, t: Value, dim: usize, max_period: f32, cosines_first: bool) -> Result<Value> {
    if dim == 0 || !dim.is_multiple_of(2) {
        return Err(Error::invalid("sinusoidal encoding", "an even width", dim));
    }
    let (b, half) = (g.shape(t)[0], dim / 2);
    // Rounded where the reference rounds: angles of hundreds make an error of one f32 step visible.
    let frequency = |i: usize| (-max_period.ln() * i as f32 / half as f32).exp();
    let frequencies = Tensor::from_f32([1, half], &(0..half).map(frequency).collect::<Vec<_>>());
    let angles = g.mul(g.reshape(t, [b, 1])?, g.constant(frequencies)?)?; // [B, half]
    let (sines, cosines) = (g.sin(angles)?, g.cos(angles)?);
    g.concat(&if cosines_first { [cosines, sines] } else { [sines, cosines] }, 1)
}

/// Longest period of a [`Rotation`].
const ROTARY_PERIOD: f64 = 10_000.0;

/// Rotary position encoding: every pair of neighbouring elements of a head is turned by an angle of its own.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// [M, 1, d/2, 1]
    cosines: Value,
    sines: Value,
}

impl Rotation {
    /// Of M tokens at `positions`, for heads that are as wide as `axes` together: pair i of an axis `a` wide is
    /// turned by position · 10000^(−2i/a).
    pub fn new<const A: usize>(g: &Graph, axes: &[usize; A], positions: &[[usize; A]]) -> Result<Rotation> {
        let angle = |a: usize, i: usize| ROTARY_PERIOD.powf(-((2 * i) as f64) / a as f64);
        let frequencies: Vec<(usize, f64)> = (axes.iter().enumerate())
            .flat_map(|(axis, &a)| (0..a / 2).map(move |i| (axis, angle(a, i))))
            .collect();
        let table = |f: fn(f64) -> f64| {
            let turn =
                |at: &[usize; A], &(axis, frequency): &(usize, f64)| f(at[axis] as f64 * frequency) as f32;
            let values: Vec<f32> =
                positions.iter().flat_map(|at| frequencies.iter().map(move |fr| turn(at, fr))).collect();
            g.constant(Tensor::from_f32([positions.len(), 1, frequencies.len(), 1], &values))
        };
        Ok(Rotation { cosines: table(libm::cos)?, sines: table(libm::sin)? })
    }

    /// x [B, M, heads, d] → (x₀·cos − x₁·sin, x₁·cos + x₀·sin) of its pairs.
    pub fn apply(self, g: &Graph, x: Value) -> Result<Value> {
        let shape = g.shape(x);
        let pairs = g.reshape(x, [shape[0], shape[1], shape[2], shape[3] / 2, 2])?;
        let (x0, x1) = (g.slice(pairs, 4, 0, 1)?, g.slice(pairs, 4, 1, 2)?);
        let y0 = g.sub(g.mul(x0, self.cosines)?, g.mul(x1, self.sines)?)?;
        let y1 = g.add(g.mul(x1, self.cosines)?, g.mul(x0, self.sines)?)?;
        g.reshape(g.concat(&[y0, y1], 4)?, shape)
    }

    /// Cosines and sines [M, d/2].
    pub fn tables(self, g: &Graph) -> Result<[Value; 2]> {
        let s = g.shape(self.cosines);
        Ok([g.reshape(self.cosines, [s[0], s[2]])?, g.reshape(self.sines, [s[0], s[2]])?])
    }
}

//! The closed set of operations. Variants are named like the ONNX operators
//! they lower to; matches over `Op` are exhaustive, without a `_` arm.

use crate::tensor::{Dtype, Shape, Tensor};

/// What a node computes. Inputs are listed in order in each comment; `x` is f32 unless said otherwise.
#[derive(Clone, Debug, PartialEq, strum::VariantNames, strum::IntoStaticStr)]
pub enum Op {
    // Sources: no inputs.
    /// A value the caller supplies for every run.
    Input {
        name: String,
        dtype: Dtype,
        shape: Shape,
    },
    /// A tensor of the model file, under its full name, in its stored dtype.
    Weight {
        name: String,
        dtype: Dtype,
        shape: Shape,
    },
    /// A small tensor fixed when the graph is built.
    Constant {
        value: Tensor,
    },

    // Elementwise, one input.
    Abs,
    /// Clamp to [min, max].
    Clip {
        min: f32,
        max: f32,
    },
    Cos,
    Erf,
    Exp,
    /// x·Φ(x) (exact, with erf), or its tanh approximation.
    Gelu {
        tanh: bool,
    },
    Log,
    Neg,
    Reciprocal,
    Relu,
    Sigmoid,
    Sign,
    Sin,
    Sqrt,
    Tanh,

    // Elementwise, two inputs, broadcast as in NumPy.
    Add,
    Div,
    /// bool result.
    Equal,
    /// bool result.
    Greater,
    Max,
    Min,
    Mul,
    Sub,
    /// (condition: bool, a, b): a where the condition holds, else b; all three broadcast.
    Where,

    // Linear algebra.
    /// (q [B, M, D], k [B, N, D], v [B, N, D]) → softmax(scale·q·kᵀ)·v [B, M, D], for each of `heads` parts of D.
    Attention {
        heads: usize,
        scale: f32,
    },
    /// (a [.., M, K], b [.., K, N]) → [.., M, N]; leading dimensions broadcast.
    MatMul,
    /// (a, b[, c]): op(a)·op(b) + c over matrices; c broadcasts to [M, N].
    Gemm {
        trans_a: bool,
        trans_b: bool,
    },
    /// (x [B, C, H, W], w [O, C/group, kh, kw][, bias \[O\]]); pads are top, left, bottom, right.
    Conv {
        strides: [usize; 2],
        pads: [usize; 4],
        group: usize,
    },
    /// (x [B, C, H, W], w [C, O/group, kh, kw][, bias \[O\]]); pads are cropped from the full result.
    ConvTranspose {
        strides: [usize; 2],
        pads: [usize; 4],
        group: usize,
    },

    // Layout.
    /// [B, f·f·C, H, W] → [B, C, f·H, f·W] for a factor f: channel (p·f + q)·C + c is at row p and column q of the f×f
    /// block of each position.
    DepthToSpace {
        factor: usize,
    },
    Concat {
        axis: usize,
    },
    Expand {
        shape: Shape,
    },
    /// (data [V, ..], indices: integers of any shape) → indices.shape ++ data.shape[1..]. Indices lie in
    /// −V..V, negative ones counting from the end; any other fails the run.
    Gather,
    /// (indices: integers) → f32, one more trailing axis of `depth`, 1 at the index. Negative indices count
    /// from the end; one outside −depth..depth gives zeros only.
    OneHot {
        depth: usize,
    },
    /// Zeros added before and after each axis.
    Pad {
        before: Vec<usize>,
        after: Vec<usize>,
    },
    Reshape {
        shape: Shape,
    },
    /// Elements `start..end` along `axis`, every `step`-th.
    Slice {
        axis: usize,
        start: usize,
        end: usize,
        step: usize,
    },
    Transpose {
        perm: Vec<usize>,
    },

    // Reductions.
    /// Index of the largest element along `axis` (lowest index on ties), axis dropped; i64.
    ArgMax {
        axis: usize,
    },
    /// Largest element along `axis`, kept as size 1.
    ReduceMax {
        axis: usize,
    },
    /// Mean over `axes`, kept as size 1.
    ReduceMean {
        axes: Vec<usize>,
    },
    /// Sum over `axes`, kept as size 1.
    ReduceSum {
        axes: Vec<usize>,
    },
    LogSoftmax {
        axis: usize,
    },
    Softmax {
        axis: usize,
    },

    // Normalisation.
    /// (x [B, C, ..], scale \[C\], bias \[C\]): per group of C/groups channels.
    GroupNormalization {
        groups: usize,
        eps: f32,
    },
    /// (x [B, C, H, W], scale \[C\], bias \[C\], dy like x) → x̄: the gradient by x of a GroupNormalization y for the
    /// cotangent dy, with `silu` for that of y·σ(y); only then is bias read.
    GroupNormalizationGradient {
        groups: usize,
        eps: f32,
        silu: bool,
    },
    /// (x [.., D], scale \[D\], bias \[D\]) over the last axis.
    LayerNormalization {
        eps: f32,
    },
    /// The sum of terms, normalised, through x·σ(x), rounded, enlarged, as far as each is asked for. Operands: `levels`
    /// terms (q: u8 [B, C, H, W], scale \[C\], zero_point: u8 \[C\]) that stand for (q − zero_point)·scale; terms of f32
    /// [B, C, H, W]; where `groups` is not 0 the scale \[C\] and bias \[C\] of a GroupNormalization; with `to`, a zero point
    /// and a largest level, the scale \[\] of what is rounded as by QuantizeLinear → u8 [B, C, f·H, f·W] for a factor f.
    /// With `channels_last` the terms, and what is rounded, are [B, H, W, C]. Without `to` → f32 [B, C, H, W].
    SumNormalization {
        levels: usize,
        groups: usize,
        eps: f32,
        silu: bool,
        to: Option<[u8; 2]>,
        factor: usize,
        channels_last: bool,
    },
    /// (x [B, N, D] or [N, D], skip as x or [N, D], scale \[D\], bias \[D\]): LayerNormalization of x + skip.
    SkipLayerNormalization {
        eps: f32,
    },

    // Pooling and resampling of [B, C, H, W].
    /// Mean over non-overlapping `size`×`size` windows.
    AveragePool {
        size: usize,
    },
    /// Nearest-neighbour enlargement by an integer factor.
    Resize {
        factor: usize,
    },

    // Type and gradient control.
    Cast {
        to: Dtype,
    },
    /// (q: i8 or u8, scale \[D\] or \[\][, zero_point like q, shaped like scale]) → f32: (q − zero_point)·scale, D the size
    /// of `axis`. With i8 and no zero point the value of a weight stored in int8.
    DequantizeLinear {
        axis: usize,
    },
    /// Identity whose gradient is zero.
    StopGradient,

    // int8 arithmetic, which passes over a finished graph choose (`int8.rs`): no gradient leads through it.
    /// (a: u8 [M, K], b: i8 [K, N], scale \[N\]) → f32 [M, N]: Σₖ (a − zero_point)·b, exact, times scale.
    MatMulIntegerToFloat {
        zero_point: u8,
    },
    /// (x: u8 [B, C, H, W], w: i8 [O, C, kh, kw], scale \[O\][, bias: i32 \[O\]]) → u8: the exact sums of
    /// (x − x_zero)·w, plus bias, times scale, rounded to nearest, plus y_zero, within 0..=255. Padding is x_zero.
    /// With `channels_last` from x [B, H, W, C] to [B, H, W, O].
    QLinearConv {
        strides: [usize; 2],
        pads: [usize; 4],
        x_zero: u8,
        y_zero: u8,
        channels_last: bool,
    },
    /// x [M, K] → [M, 1]: the largest magnitude of every row times `factor`.
    RowScales {
        factor: f32,
    },
    /// (x [M, N], rows [M, 1], bias \[N\]) → x·rows + bias.
    ScaledRows,
    /// (x, scale \[D\] or \[\]) → u8: x/scale rounded to nearest, ties to even, plus zero_point, within 0..=255; D the
    /// size of axis 0.
    QuantizeLinear {
        zero_point: u8,
    },
}

impl Op {
    /// The ONNX-style name, as printed in SSA text and used in messages.
    pub fn name(&self) -> &'static str {
        self.into()
    }

    /// True for ops without inputs.
    pub fn is_source(&self) -> bool {
        matches!(self, Op::Input { .. } | Op::Weight { .. } | Op::Constant { .. })
    }

    /// True for ops whose result is the input's bytes under another shape.
    pub fn is_view(&self) -> bool {
        matches!(self, Op::Reshape { .. } | Op::StopGradient)
    }
}

//! The builder: one method per op, the only way models add nodes. All take `&self`, so calls nest:
//! `g.add(x, g.mul(a, b)?)?`. Errors are shape mismatches, named by [`Graph::push`].

use super::{Graph, Op, Value};
use crate::error::Result;
use crate::tensor::{Dtype, Shape, Tensor};

macro_rules! unary {
    ($($(#[$doc:meta])* $method:ident => $op:ident),* $(,)?) => {
        $($(#[$doc])* pub fn $method(&self, x: Value) -> Result<Value> {
            self.push(Op::$op, &[x])
        })*
    };
}

macro_rules! binary {
    ($($(#[$doc:meta])* $method:ident => $op:ident),* $(,)?) => {
        $($(#[$doc])* pub fn $method(&self, a: Value, b: Value) -> Result<Value> {
            self.push(Op::$op, &[a, b])
        })*
    };
}

impl Graph {
    /// A value the caller supplies for every run.
    pub fn input(&self, name: &str, dtype: Dtype, shape: impl Into<Shape>) -> Result<Value> {
        self.push(Op::Input { name: name.into(), dtype, shape: shape.into() }, &[])
    }

    /// A tensor of the model file, in its stored dtype.
    pub fn weight(&self, name: &str, dtype: Dtype, shape: impl Into<Shape>) -> Result<Value> {
        self.push(Op::Weight { name: name.into(), dtype, shape: shape.into() }, &[])
    }

    pub fn constant(&self, value: Tensor) -> Result<Value> {
        self.push(Op::Constant { value }, &[])
    }

    /// A scalar f32 constant of rank 0.
    pub fn scalar(&self, value: f32) -> Result<Value> {
        self.constant(Tensor::from_f32([], &[value]))
    }

    unary! {
        abs => Abs, cos => Cos, erf => Erf, exp => Exp, log => Log, neg => Neg, reciprocal => Reciprocal,
        relu => Relu, sigmoid => Sigmoid, sign => Sign, sin => Sin, sqrt => Sqrt, tanh => Tanh,
        /// Identity whose gradient is zero.
        stop_gradient => StopGradient,
    }

    binary! {
        add => Add, div => Div, equal => Equal, greater => Greater, max => Max, min => Min,
        mul => Mul, sub => Sub,
        /// [.., M, K] × [.., K, N] → [.., M, N].
        matmul => MatMul,
        /// Rows of `a` [V, ..] at the integer indices `b`.
        gather => Gather,
    }

    pub fn clip(&self, x: Value, min: f32, max: f32) -> Result<Value> {
        self.push(Op::Clip { min, max }, &[x])
    }

    /// x·Φ(x), exact.
    pub fn gelu(&self, x: Value) -> Result<Value> {
        self.push(Op::Gelu { tanh: false }, &[x])
    }

    /// x·Φ(x) with the tanh approximation.
    pub fn gelu_tanh(&self, x: Value) -> Result<Value> {
        self.push(Op::Gelu { tanh: true }, &[x])
    }

    /// x·σ(x).
    pub fn silu(&self, x: Value) -> Result<Value> {
        self.mul(x, self.sigmoid(x)?)
    }

    /// x + c.
    pub fn add_scalar(&self, x: Value, c: f32) -> Result<Value> {
        self.add(x, self.scalar(c)?)
    }

    /// x · c.
    pub fn mul_scalar(&self, x: Value, c: f32) -> Result<Value> {
        self.mul(x, self.scalar(c)?)
    }

    pub fn where_(&self, condition: Value, a: Value, b: Value) -> Result<Value> {
        self.push(Op::Where, &[condition, a, b])
    }

    /// op(a)·op(b) + c over matrices.
    pub fn gemm(&self, a: Value, b: Value, c: Option<Value>, trans_a: bool, trans_b: bool) -> Result<Value> {
        let mut inputs = vec![a, b];
        inputs.extend(c);
        self.push(Op::Gemm { trans_a, trans_b }, &inputs)
    }

    /// Pads are top, left, bottom, right.
    pub fn conv(
        &self,
        x: Value,
        w: Value,
        bias: Option<Value>,
        strides: [usize; 2],
        pads: [usize; 4],
        group: usize,
    ) -> Result<Value> {
        let mut inputs = vec![x, w];
        inputs.extend(bias);
        self.push(Op::Conv { strides, pads, group }, &inputs)
    }

    /// Pads are cropped from the full result: top, left, bottom, right.
    pub fn conv_transpose(
        &self,
        x: Value,
        w: Value,
        bias: Option<Value>,
        strides: [usize; 2],
        pads: [usize; 4],
        group: usize,
    ) -> Result<Value> {
        let mut inputs = vec![x, w];
        inputs.extend(bias);
        self.push(Op::ConvTranspose { strides, pads, group }, &inputs)
    }

    pub fn concat(&self, inputs: &[Value], axis: usize) -> Result<Value> {
        self.push(Op::Concat { axis }, inputs)
    }

    pub fn expand(&self, x: Value, shape: impl Into<Shape>) -> Result<Value> {
        self.push(Op::Expand { shape: shape.into() }, &[x])
    }

    pub fn one_hot(&self, indices: Value, depth: usize) -> Result<Value> {
        self.push(Op::OneHot { depth }, &[indices])
    }

    pub fn pad(&self, x: Value, before: &[usize], after: &[usize]) -> Result<Value> {
        self.push(Op::Pad { before: before.to_vec(), after: after.to_vec() }, &[x])
    }

    pub fn reshape(&self, x: Value, shape: impl Into<Shape>) -> Result<Value> {
        self.push(Op::Reshape { shape: shape.into() }, &[x])
    }

    /// Elements `start..end` along `axis`.
    pub fn slice(&self, x: Value, axis: usize, start: usize, end: usize) -> Result<Value> {
        self.push(Op::Slice { axis, start, end, step: 1 }, &[x])
    }

    /// Elements `start..end` along `axis`, every `step`-th.
    pub fn slice_step(&self, x: Value, axis: usize, start: usize, end: usize, step: usize) -> Result<Value> {
        self.push(Op::Slice { axis, start, end, step }, &[x])
    }

    pub fn transpose(&self, x: Value, perm: &[usize]) -> Result<Value> {
        self.push(Op::Transpose { perm: perm.to_vec() }, &[x])
    }

    pub fn arg_max(&self, x: Value, axis: usize) -> Result<Value> {
        self.push(Op::ArgMax { axis }, &[x])
    }

    pub fn reduce_max(&self, x: Value, axis: usize) -> Result<Value> {
        self.push(Op::ReduceMax { axis }, &[x])
    }

    pub fn reduce_mean(&self, x: Value, axes: &[usize]) -> Result<Value> {
        self.push(Op::ReduceMean { axes: axes.to_vec() }, &[x])
    }

    pub fn reduce_sum(&self, x: Value, axes: &[usize]) -> Result<Value> {
        self.push(Op::ReduceSum { axes: axes.to_vec() }, &[x])
    }

    pub fn log_softmax(&self, x: Value, axis: usize) -> Result<Value> {
        self.push(Op::LogSoftmax { axis }, &[x])
    }

    pub fn softmax(&self, x: Value, axis: usize) -> Result<Value> {
        self.push(Op::Softmax { axis }, &[x])
    }

    /// x [B, C, ..], scale [C], bias [C].
    pub fn group_normalization(
        &self,
        x: Value,
        scale: Value,
        bias: Value,
        groups: usize,
        eps: f32,
    ) -> Result<Value> {
        self.push(Op::GroupNormalization { groups, eps }, &[x, scale, bias])
    }

    /// x [.., D], scale [D], bias [D], over the last axis.
    pub fn layer_normalization(&self, x: Value, scale: Value, bias: Value, eps: f32) -> Result<Value> {
        self.push(Op::LayerNormalization { eps }, &[x, scale, bias])
    }

    /// LayerNormalization of x + skip, x [B, N, D] or [N, D], skip as x or [N, D].
    pub fn skip_layer_normalization(
        &self,
        x: Value,
        skip: Value,
        scale: Value,
        bias: Value,
        eps: f32,
    ) -> Result<Value> {
        self.push(Op::SkipLayerNormalization { eps }, &[x, skip, scale, bias])
    }

    /// softmax(scale·q·kᵀ)·v of every head, for q [B, M, D], k and v [B, N, D].
    pub fn attention(&self, q: Value, k: Value, v: Value, heads: usize, scale: f32) -> Result<Value> {
        self.push(Op::Attention { heads, scale }, &[q, k, v])
    }

    /// [B, f·f·C, H, W] → [B, C, f·H, f·W] for a factor f.
    pub fn depth_to_space(&self, x: Value, factor: usize) -> Result<Value> {
        self.push(Op::DepthToSpace { factor }, &[x])
    }

    /// Mean over non-overlapping windows of [B, C, H, W].
    pub fn average_pool(&self, x: Value, size: usize) -> Result<Value> {
        self.push(Op::AveragePool { size }, &[x])
    }

    /// Nearest-neighbour enlargement of [B, C, H, W].
    pub fn resize(&self, x: Value, factor: usize) -> Result<Value> {
        self.push(Op::Resize { factor }, &[x])
    }

    /// q: i8 [O, ..] times scale [O] → f32.
    pub fn dequantize_linear(&self, q: Value, scale: Value) -> Result<Value> {
        self.dequantize_along(q, scale, 0)
    }

    /// q: i8 times scale [size of `axis`] → f32.
    pub fn dequantize_along(&self, q: Value, scale: Value, axis: usize) -> Result<Value> {
        self.push(Op::DequantizeLinear { axis }, &[q, scale])
    }

    /// The same values in another dtype; no node when the dtype already matches.
    pub fn cast(&self, x: Value, to: Dtype) -> Result<Value> {
        if self.dtype(x) == to {
            return Ok(x);
        }
        self.push(Op::Cast { to }, &[x])
    }
}

//! The closed set of operations and their shape inference. Variants are named like the ONNX operators
//! they lower to; matches over `Op` are exhaustive, without a `_` arm.

use crate::error::{Error, Result};
use crate::graph::Node;
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
    /// (a [.., M, K], b [.., K, N]) → [.., M, N]; leading dimensions broadcast.
    MatMul,
    /// (a, b[, c]): op(a)·op(b) + c over matrices; c broadcasts to [M, N].
    Gemm {
        trans_a: bool,
        trans_b: bool,
    },
    /// (x [B, C, H, W], w [O, C/group, kh, kw][, bias [O]]); pads are top, left, bottom, right.
    Conv {
        strides: [usize; 2],
        pads: [usize; 4],
        group: usize,
    },
    /// (x [B, C, H, W], w [C, O/group, kh, kw][, bias [O]]); pads are cropped from the full result.
    ConvTranspose {
        strides: [usize; 2],
        pads: [usize; 4],
        group: usize,
    },

    // Layout.
    Concat {
        axis: usize,
    },
    Expand {
        shape: Shape,
    },
    /// (data [V, ..], indices: integers of any shape) → indices.shape ++ data.shape[1..].
    Gather,
    /// (indices: integers) → f32, one more trailing axis of `depth`, 1 at the index.
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
    /// (x [B, C, ..], scale [C], bias [C]): per group of C/groups channels.
    GroupNormalization {
        groups: usize,
        eps: f32,
    },
    /// (x [.., D], scale [D], bias [D]) over the last axis.
    LayerNormalization {
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
    /// Identity whose gradient is zero.
    StopGradient,
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

    /// Attributes as `key=value` text for printing.
    pub fn attributes(&self) -> String {
        match self {
            Op::Constant { value } if value.shape().len() <= 4 => {
                format!("value={:?}", value.to_f64())
            }
            Op::Input { name, .. } | Op::Weight { name, .. } => format!("name={name}"),
            Op::Constant { .. } => "value=...".into(),
            other => {
                let text = format!("{other:?}");
                match text.find('{') {
                    Some(at) => text[at + 1..].trim_end_matches('}').trim().replace(": ", "="),
                    None => String::new(),
                }
            }
        }
    }
}

/// NumPy broadcasting of two shapes.
pub(crate) fn broadcast(a: &Shape, b: &Shape) -> Option<Shape> {
    let rank = a.rank().max(b.rank());
    let dim = |s: &Shape, i: usize| if i + s.rank() < rank { 1 } else { s[i + s.rank() - rank] };
    (0..rank)
        .map(|i| match (dim(a, i), dim(b, i)) {
            (m, n) if m == n => Some(m),
            (1, n) => Some(n),
            (m, 1) => Some(m),
            _ => None,
        })
        .collect::<Option<Vec<_>>>()
        .map(Shape)
}

/// Spatial result size of a convolution, or `None` when the kernel does not fit.
fn conv_dim(size: usize, kernel: usize, pads: usize, stride: usize) -> Option<usize> {
    let padded = size.checked_add(pads)?;
    Some(padded.checked_sub(kernel)? / stride.max(1) + 1)
}

/// Result dtype and shape of `op` on `inputs`, or an error naming the op, its rule and the operands.
pub(super) fn infer(op: &Op, inputs: &[&Node]) -> Result<(Dtype, Shape)> {
    let found = || {
        let operands: Vec<String> = inputs.iter().map(|n| format!("{}{}", n.dtype, n.shape)).collect();
        operands.join(", ")
    };
    let fail = |expected: &str| {
        Err(Error::invalid(format!("op {} {{{}}}", op.name(), op.attributes()), expected, found()))
    };
    let arity = |low: usize, high: usize| {
        if (low..=high).contains(&inputs.len()) {
            Ok(())
        } else {
            fail(&format!("{low} to {high} inputs")).map(|_: (Dtype, Shape)| ())
        }
    };
    let x = inputs.first().map(|n| (n.dtype, n.shape.clone()));
    let unary = || {
        arity(1, 1)?;
        Ok(x.clone().unwrap())
    };
    let binary = |result: Option<Dtype>| {
        arity(2, 2)?;
        if inputs[0].dtype != inputs[1].dtype {
            return fail("operands of one dtype");
        }
        match broadcast(&inputs[0].shape, &inputs[1].shape) {
            Some(shape) => Ok((result.unwrap_or(inputs[0].dtype), shape)),
            None => fail("shapes that broadcast"),
        }
    };
    let check_axis = |axis: usize, rank: usize| {
        if axis < rank { Ok(()) } else { fail("an axis inside the rank").map(|_: (Dtype, Shape)| ()) }
    };
    match op {
        Op::Input { dtype, shape, .. } | Op::Weight { dtype, shape, .. } => {
            arity(0, 0)?;
            Ok((*dtype, shape.clone()))
        }
        Op::Constant { value } => {
            arity(0, 0)?;
            Ok((value.dtype(), value.shape().clone()))
        }
        Op::Abs
        | Op::Clip { .. }
        | Op::Erf
        | Op::Exp
        | Op::Gelu { .. }
        | Op::Log
        | Op::Neg
        | Op::Reciprocal
        | Op::Relu
        | Op::Sigmoid
        | Op::Sign
        | Op::Sqrt
        | Op::Tanh
        | Op::StopGradient => unary(),
        Op::Cast { to } => Ok((*to, unary()?.1)),
        Op::Add | Op::Div | Op::Max | Op::Min | Op::Mul | Op::Sub => binary(None),
        Op::Equal | Op::Greater => binary(Some(Dtype::Bool)),
        Op::Where => {
            arity(3, 3)?;
            if inputs[0].dtype != Dtype::Bool || inputs[1].dtype != inputs[2].dtype {
                return fail("a bool condition and two operands of one dtype");
            }
            match broadcast(&inputs[0].shape, &inputs[1].shape).and_then(|s| broadcast(&s, &inputs[2].shape))
            {
                Some(shape) => Ok((inputs[1].dtype, shape)),
                None => fail("shapes that broadcast"),
            }
        }
        Op::MatMul => {
            arity(2, 2)?;
            let (a, b) = (&inputs[0].shape, &inputs[1].shape);
            if a.rank() < 2 || b.rank() < 2 || a[a.rank() - 1] != b[b.rank() - 2] {
                return fail("[.., M, K] and [.., K, N]");
            }
            let batch = broadcast(&Shape::from(&a[..a.rank() - 2]), &Shape::from(&b[..b.rank() - 2]));
            match batch {
                Some(mut shape) => {
                    shape.0.extend([a[a.rank() - 2], b[b.rank() - 1]]);
                    Ok((inputs[0].dtype, shape))
                }
                None => fail("leading dimensions that broadcast"),
            }
        }
        Op::Gemm { trans_a, trans_b } => {
            arity(2, 3)?;
            let (a, b) = (&inputs[0].shape, &inputs[1].shape);
            if a.rank() != 2 || b.rank() != 2 {
                return fail("two matrices");
            }
            let (m, ka) = if *trans_a { (a[1], a[0]) } else { (a[0], a[1]) };
            let (kb, n) = if *trans_b { (b[1], b[0]) } else { (b[0], b[1]) };
            let shape = Shape::from([m, n]);
            if ka != kb {
                return fail("matrices with one inner dimension");
            }
            if inputs.len() == 3 && broadcast(&inputs[2].shape, &shape).as_ref() != Some(&shape) {
                return fail("a third operand that broadcasts to [M, N]");
            }
            Ok((inputs[0].dtype, shape))
        }
        Op::Conv { strides, pads, group } => {
            arity(2, 3)?;
            let (a, w) = (&inputs[0].shape, &inputs[1].shape);
            if a.rank() != 4
                || w.rank() != 4
                || *group == 0
                || a[1] != w[1] * group
                || !w[0].is_multiple_of(*group)
            {
                return fail("x [B, C, H, W] and w [O, C/group, kh, kw]");
            }
            if inputs.len() == 3 && *inputs[2].shape != [w[0]] {
                return fail("a bias [O]");
            }
            let h = conv_dim(a[2], w[2], pads[0] + pads[2], strides[0]);
            let wd = conv_dim(a[3], w[3], pads[1] + pads[3], strides[1]);
            match (h, wd) {
                (Some(h), Some(wd)) => Ok((inputs[0].dtype, [a[0], w[0], h, wd].into())),
                _ => fail("a kernel that fits the padded input"),
            }
        }
        Op::ConvTranspose { strides, pads, group } => {
            arity(2, 3)?;
            let (a, w) = (&inputs[0].shape, &inputs[1].shape);
            if a.rank() != 4 || w.rank() != 4 || *group == 0 || a[1] != w[0] || !a[1].is_multiple_of(*group) {
                return fail("x [B, C, H, W] and w [C, O/group, kh, kw]");
            }
            let out = w[1] * group;
            if inputs.len() == 3 && *inputs[2].shape != [out] {
                return fail("a bias [O]");
            }
            let full = |size: usize, k: usize, s: usize| size.saturating_sub(1) * s + k;
            let h = full(a[2], w[2], strides[0]).checked_sub(pads[0] + pads[2]);
            let wd = full(a[3], w[3], strides[1]).checked_sub(pads[1] + pads[3]);
            match (h, wd) {
                (Some(h), Some(wd)) => Ok((inputs[0].dtype, [a[0], out, h, wd].into())),
                _ => fail("pads smaller than the full result"),
            }
        }
        Op::Concat { axis } => {
            arity(1, usize::MAX)?;
            let mut shape = inputs[0].shape.clone();
            check_axis(*axis, shape.rank())?;
            for node in &inputs[1..] {
                let same = node.dtype == inputs[0].dtype
                    && node.shape.rank() == shape.rank()
                    && (0..shape.rank()).all(|i| i == *axis || node.shape[i] == shape[i]);
                if !same {
                    return fail("operands equal outside the axis");
                }
                shape.0[*axis] += node.shape[*axis];
            }
            Ok((inputs[0].dtype, shape))
        }
        Op::Expand { shape } => {
            let (dtype, from) = unary()?;
            if broadcast(&from, shape).as_ref() != Some(shape) {
                return fail("a shape the input broadcasts to");
            }
            Ok((dtype, shape.clone()))
        }
        Op::Gather => {
            arity(2, 2)?;
            let (data, indices) = (&inputs[0].shape, &inputs[1].shape);
            if data.rank() == 0 || !matches!(inputs[1].dtype, Dtype::I64 | Dtype::I32) {
                return fail("data of rank 1 or more and integer indices");
            }
            let mut shape = indices.clone();
            shape.0.extend_from_slice(&data[1..]);
            Ok((inputs[0].dtype, shape))
        }
        Op::OneHot { depth } => {
            let (dtype, mut shape) = unary()?;
            if !matches!(dtype, Dtype::I64 | Dtype::I32) {
                return fail("integer indices");
            }
            shape.0.push(*depth);
            Ok((Dtype::F32, shape))
        }
        Op::Pad { before, after } => {
            let (dtype, shape) = unary()?;
            if before.len() != shape.rank() || after.len() != shape.rank() {
                return fail("one padding per axis");
            }
            let dims: Vec<usize> = (0..shape.rank()).map(|i| shape[i] + before[i] + after[i]).collect();
            Ok((dtype, dims.into()))
        }
        Op::Reshape { shape } => {
            let (dtype, from) = unary()?;
            if shape.checked_len() != Some(from.len()) {
                return fail("as many elements as the input");
            }
            Ok((dtype, shape.clone()))
        }
        Op::Slice { axis, start, end, step } => {
            let (dtype, mut shape) = unary()?;
            check_axis(*axis, shape.rank())?;
            if *step == 0 || start > end || *end > shape[*axis] {
                return fail("start <= end <= size and step > 0");
            }
            shape.0[*axis] = (end - start).div_ceil(*step);
            Ok((dtype, shape))
        }
        Op::Transpose { perm } => {
            let (dtype, shape) = unary()?;
            let mut sorted = perm.clone();
            sorted.sort_unstable();
            if sorted != (0..shape.rank()).collect::<Vec<_>>() {
                return fail("a permutation of the axes");
            }
            Ok((dtype, perm.iter().map(|&p| shape[p]).collect::<Vec<_>>().into()))
        }
        Op::ArgMax { axis } => {
            let (_, mut shape) = unary()?;
            check_axis(*axis, shape.rank())?;
            shape.0.remove(*axis);
            Ok((Dtype::I64, shape))
        }
        Op::ReduceMax { axis } => {
            let (dtype, mut shape) = unary()?;
            check_axis(*axis, shape.rank())?;
            shape.0[*axis] = 1;
            Ok((dtype, shape))
        }
        Op::ReduceMean { axes } | Op::ReduceSum { axes } => {
            let (dtype, mut shape) = unary()?;
            for &axis in axes {
                check_axis(axis, shape.rank())?;
                shape.0[axis] = 1;
            }
            Ok((dtype, shape))
        }
        Op::LogSoftmax { axis } | Op::Softmax { axis } => {
            let (dtype, shape) = unary()?;
            check_axis(*axis, shape.rank())?;
            Ok((dtype, shape))
        }
        Op::GroupNormalization { groups, .. } => {
            arity(3, 3)?;
            let shape = &inputs[0].shape;
            if shape.rank() < 2
                || *groups == 0
                || !shape[1].is_multiple_of(*groups)
                || *inputs[1].shape != [shape[1]]
                || *inputs[2].shape != [shape[1]]
            {
                return fail("x [B, C, ..] with groups dividing C, scale [C], bias [C]");
            }
            Ok((inputs[0].dtype, shape.clone()))
        }
        Op::LayerNormalization { .. } => {
            arity(3, 3)?;
            let shape = &inputs[0].shape;
            let last = shape.last().copied();
            if last.is_none() || *inputs[1].shape != [last.unwrap()] || *inputs[2].shape != [last.unwrap()] {
                return fail("x [.., D], scale [D], bias [D]");
            }
            Ok((inputs[0].dtype, shape.clone()))
        }
        Op::AveragePool { size } => {
            let (dtype, shape) = unary()?;
            if shape.rank() != 4
                || *size == 0
                || !shape[2].is_multiple_of(*size)
                || !shape[3].is_multiple_of(*size)
            {
                return fail("x [B, C, H, W] with the window dividing H and W");
            }
            Ok((dtype, [shape[0], shape[1], shape[2] / size, shape[3] / size].into()))
        }
        Op::Resize { factor } => {
            let (dtype, shape) = unary()?;
            if shape.rank() != 4 || *factor == 0 {
                return fail("x [B, C, H, W] and a factor of 1 or more");
            }
            Ok((dtype, [shape[0], shape[1], shape[2] * factor, shape[3] * factor].into()))
        }
    }
}

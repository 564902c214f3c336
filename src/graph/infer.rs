//! Result dtype and shape of every operation, and what it asks of its operands.

use super::{Node, Op, fused};
use crate::error::{Error, Result};
use crate::tensor::{Dtype, Shape};

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

/// Spatial result size of a convolution, ⌊(size + pads − kernel) / stride⌋ + 1, or `None` when the kernel is
/// empty or does not fit.
fn conv_dim(size: usize, kernel: usize, pads: [usize; 2], stride: usize) -> Option<usize> {
    let padded = size.checked_add(pads[0])?.checked_add(pads[1])?;
    let steps = padded.checked_sub(kernel)?.checked_div(stride)?;
    (kernel > 0).then_some(steps + 1)
}

/// Spatial result size of a transposed convolution, (size − 1)·stride + kernel − pads, or `None` when
/// nothing is left.
fn conv_transpose_dim(size: usize, kernel: usize, pads: [usize; 2], stride: usize) -> Option<usize> {
    let full = size.checked_sub(1)?.checked_mul(stride)?.checked_add(kernel)?;
    let cropped = full.checked_sub(pads[0])?.checked_sub(pads[1])?;
    (kernel > 0 && stride > 0 && cropped > 0).then_some(cropped)
}

/// Result of a convolution of x [B, C, H, W] with w [O, C/group, kh, kw], or the rule that they break.
fn conv(
    x: &Shape,
    w: &Shape,
    strides: [usize; 2],
    [top, left, bottom, right]: [usize; 4],
    group: usize,
) -> Result<Shape, &'static str> {
    let fit = x.rank() == 4
        && w.rank() == 4
        && w[1].checked_mul(group) == Some(x[1])
        && group > 0
        && w[0].is_multiple_of(group);
    if !fit {
        return Err("x [B, C, H, W] and w [O, C/group, kh, kw]");
    }
    let h = conv_dim(x[2], w[2], [top, bottom], strides[0]);
    let wd = conv_dim(x[3], w[3], [left, right], strides[1]);
    let (h, wd) = h.zip(wd).ok_or("strides of 1 or more and a kernel that fits the padded input")?;
    Ok([x[0], w[0], h, wd].into())
}

/// Whether `scale` is one for all of x, or one for each index of an axis.
fn scales(x: &Shape, axis: usize, scale: &Shape) -> bool {
    scale.rank() == 0 || (axis < x.rank() && **scale == x[axis..=axis])
}

/// What `op` asks of its operands' element types; the error is the rule that they break.
fn check_dtypes(op: &Op, dtypes: &[Dtype]) -> Result<(), &'static str> {
    let same = dtypes.windows(2).all(|d| d[0] == d[1]);
    let rule = |holds: bool, text| if holds { Ok(()) } else { Err(text) };
    match op {
        // Their lowering brings f32 constants along.
        Op::Attention { .. }
        | Op::Clip { .. }
        | Op::GroupNormalization { .. }
        | Op::GroupNormalizationGradient { .. } => {
            rule(dtypes.iter().all(|&d| d == Dtype::F32), "f32 operands")
        }
        Op::AveragePool { .. }
        | Op::Conv { .. }
        | Op::ConvTranspose { .. }
        | Op::Cos
        // An integer division by zero would end the process.
        | Op::Div
        | Op::Erf
        | Op::Exp
        | Op::Gelu { .. }
        | Op::Gemm { .. }
        | Op::LayerNormalization { .. }
        | Op::Log
        | Op::LogSoftmax { .. }
        | Op::MatMul
        | Op::Reciprocal
        | Op::ReduceMean { .. }
        | Op::Relu
        | Op::RowScales { .. }
        | Op::ScaledRows
        | Op::Sigmoid
        | Op::Sin
        | Op::SkipLayerNormalization { .. }
        | Op::Softmax { .. }
        | Op::Sqrt
        | Op::Tanh => rule(same && dtypes.iter().all(|d| d.is_float()), "operands of one float dtype"),
        Op::Abs
        | Op::Add
        | Op::ArgMax { .. }
        | Op::Greater
        | Op::Max
        | Op::Min
        | Op::Mul
        | Op::Neg
        | Op::ReduceMax { .. }
        | Op::ReduceSum { .. }
        | Op::Sign
        | Op::Sub => rule(same && !dtypes.contains(&Dtype::Bool), "operands of one number dtype"),
        Op::Resize { .. } => rule(
            same && dtypes.iter().all(|d| d.is_float() || *d == Dtype::U8),
            "an operand of floats or u8",
        ),
        Op::Concat { .. } | Op::Equal => rule(same, "operands of one dtype"),
        Op::DequantizeLinear { .. } => rule(
            dtypes.first().is_none_or(|d| matches!(d, Dtype::I8 | Dtype::U8))
                && dtypes.get(1).is_none_or(|&d| d == Dtype::F32)
                && dtypes.get(2).is_none_or(|d| *d == dtypes[0]),
            "i8 or u8 values, f32 scales, and zero points like the values",
        ),
        Op::QuantizeLinear { .. } => rule(dtypes.iter().all(|&d| d == Dtype::F32), "f32 operands"),
        Op::MatMulIntegerToFloat { .. } => rule(
            dtypes.iter().zip([Dtype::U8, Dtype::I8, Dtype::F32]).all(|(d, e)| *d == e),
            "u8 and i8 operands and f32 scales",
        ),
        Op::SumNormalization { levels, .. } => rule(
            dtypes.iter().enumerate().all(|(i, d)| match i < levels.saturating_mul(3) && i % 3 != 1 {
                true => *d == Dtype::U8,
                false => *d == Dtype::F32,
            }),
            "for every term of levels u8, f32 and u8, then f32 operands",
        ),
        Op::QLinearConv { .. } => rule(
            dtypes.iter().zip([Dtype::U8, Dtype::I8, Dtype::F32, Dtype::I32]).all(|(d, e)| *d == e),
            "u8 and i8 operands, f32 scales and an i32 bias",
        ),
        Op::Gather => {
            let integer = |d: &Dtype| matches!(d, Dtype::I64 | Dtype::I32);
            rule(dtypes.get(1).is_none_or(integer), "i64 or i32 indices")
        }
        Op::OneHot { .. } => rule(
            dtypes.iter().all(|d| matches!(d, Dtype::I64 | Dtype::I32)),
            "i64 or i32 indices",
        ),
        Op::Where => {
            let holds = dtypes.first().is_none_or(|&d| d == Dtype::Bool)
                && dtypes.iter().skip(1).is_sorted_by(|a, b| a == b);
            rule(holds, "a bool condition and two operands of one dtype")
        }
        Op::Cast { .. }
        | Op::Constant { .. }
        | Op::DepthToSpace { .. }
        | Op::Expand { .. }
        | Op::Input { .. }
        | Op::Pad { .. }
        | Op::Reshape { .. }
        | Op::Slice { .. }
        | Op::StopGradient
        | Op::Transpose { .. }
        | Op::Weight { .. } => Ok(()),
    }
}

/// Result dtype and shape of `op` on `inputs`, or an error naming the op, its rule and the operands.
pub(super) fn infer(op: &Op, inputs: &[&Node]) -> Result<(Dtype, Shape)> {
    let error = |expected: &str| {
        let attributes = op.attributes();
        let braced = if attributes.is_empty() { attributes } else { format!(" {{{attributes}}}") };
        let operands: Vec<String> = inputs.iter().map(|n| format!("{}{}", n.dtype, n.shape)).collect();
        let found = if operands.is_empty() { "no operands".into() } else { operands.join(", ") };
        Error::invalid(format!("op {}{braced}", op.name()), expected, found)
    };
    let require = |holds: bool, expected: &str| if holds { Ok(()) } else { Err(error(expected)) };
    let arity = |low: usize, high: usize| match (low..=high).contains(&inputs.len()) {
        true => Ok(()),
        false if high == 1 => Err(error("1 operand")),
        false if low == high => Err(error(&format!("{low} operands"))),
        false => Err(error(&format!("{low} or {high} operands"))),
    };
    let unary = || arity(1, 1).map(|()| (inputs[0].dtype, inputs[0].shape.clone()));
    let elementwise = |dtype: Dtype| {
        let mut shapes = inputs.iter().map(|n| &n.shape);
        let shape = shapes.try_fold(Shape::default(), |all, shape| broadcast(&all, shape));
        shape.map(|shape| (dtype, shape)).ok_or_else(|| error("shapes that broadcast"))
    };
    let check_axis = |axis: usize, rank: usize| require(axis < rank, "an axis inside the rank");
    let dtypes: Vec<Dtype> = inputs.iter().map(|n| n.dtype).collect();
    if let Err(rule) = check_dtypes(op, &dtypes) {
        return Err(error(rule));
    }
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
        | Op::Cos
        | Op::Erf
        | Op::Exp
        | Op::Gelu { .. }
        | Op::Log
        | Op::Neg
        | Op::Reciprocal
        | Op::Relu
        | Op::Sigmoid
        | Op::Sign
        | Op::Sin
        | Op::Sqrt
        | Op::Tanh
        | Op::StopGradient => unary(),
        Op::Clip { min, max } => {
            // Also false for NaN.
            require(min <= max, "min <= max")?;
            unary()
        }
        Op::Cast { to } => Ok((*to, unary()?.1)),
        Op::DequantizeLinear { axis } => {
            arity(2, 3)?;
            let (q, scale) = (&inputs[0].shape, &inputs[1].shape);
            require(scales(q, *axis, scale), "q and scale [] or [size of the axis]")?;
            require(inputs.get(2).is_none_or(|zero| zero.shape == *scale), "as many zero points as scales")?;
            Ok((Dtype::F32, q.clone()))
        }
        Op::QuantizeLinear { .. } => {
            arity(2, 2)?;
            let (x, scale) = (&inputs[0].shape, &inputs[1].shape);
            require(scales(x, 0, scale), "x and scale [] or [size of axis 0]")?;
            Ok((Dtype::U8, x.clone()))
        }
        Op::MatMulIntegerToFloat { .. } => {
            arity(3, 3)?;
            let [a, b, scale] = [0, 1, 2].map(|i| &inputs[i].shape);
            let shapes = a.rank() == 2 && b.rank() == 2 && a[1] == b[0] && **scale == b[1..];
            require(shapes, "a [M, K], b [K, N] and scale [N]")?;
            Ok((Dtype::F32, [a[0], b[1]].into()))
        }
        Op::Add | Op::Div | Op::Max | Op::Min | Op::Mul | Op::Sub => {
            arity(2, 2)?;
            elementwise(dtypes[0])
        }
        Op::Equal | Op::Greater => {
            arity(2, 2)?;
            elementwise(Dtype::Bool)
        }
        Op::Where => {
            arity(3, 3)?;
            elementwise(dtypes[1])
        }
        Op::MatMul => {
            arity(2, 2)?;
            let (a, b) = (&inputs[0].shape, &inputs[1].shape);
            let matrices = a.rank() >= 2 && b.rank() >= 2 && a[a.rank() - 1] == b[b.rank() - 2];
            require(matrices, "[.., M, K] and [.., K, N]")?;
            let batch = broadcast(&Shape::from(&a[..a.rank() - 2]), &Shape::from(&b[..b.rank() - 2]));
            let mut shape = batch.ok_or_else(|| error("leading dimensions that broadcast"))?;
            shape.0.extend([a[a.rank() - 2], b[b.rank() - 1]]);
            Ok((dtypes[0], shape))
        }
        Op::Gemm { trans_a, trans_b } => {
            arity(2, 3)?;
            let (a, b) = (&inputs[0].shape, &inputs[1].shape);
            require(a.rank() == 2 && b.rank() == 2, "two matrices")?;
            let (m, ka) = if *trans_a { (a[1], a[0]) } else { (a[0], a[1]) };
            let (kb, n) = if *trans_b { (b[1], b[0]) } else { (b[0], b[1]) };
            require(ka == kb, "matrices with one inner dimension")?;
            let shape = Shape::from([m, n]);
            let c = inputs.get(2).is_none_or(|c| broadcast(&c.shape, &shape).as_ref() == Some(&shape));
            require(c, "a third operand that broadcasts to [M, N]")?;
            Ok((dtypes[0], shape))
        }
        Op::Conv { strides, pads, group } => {
            arity(2, 3)?;
            let shape = conv(&inputs[0].shape, &inputs[1].shape, *strides, *pads, *group).map_err(error)?;
            require(inputs.get(2).is_none_or(|b| *b.shape == shape[1..2]), "a bias [O]")?;
            Ok((dtypes[0], shape))
        }
        Op::QLinearConv { strides, pads, channels_last, .. } => {
            arity(3, 4)?;
            let x = match (channels_last, &inputs[0].shape[..]) {
                (true, &[b, h, w, c]) => [b, c, h, w].into(),
                _ => inputs[0].shape.clone(),
            };
            let s = conv(&x, &inputs[1].shape, *strides, *pads, 1).map_err(error)?;
            require(inputs[2..].iter().all(|v| *v.shape == s[1..2]), "a scale and a bias [O]")?;
            Ok((Dtype::U8, if *channels_last { [s[0], s[2], s[3], s[1]].into() } else { s }))
        }
        Op::ConvTranspose { strides, pads, group } => {
            arity(2, 3)?;
            let (x, w) = (&inputs[0].shape, &inputs[1].shape);
            let shapes =
                x.rank() == 4 && w.rank() == 4 && x[1] == w[0] && *group > 0 && x[1].is_multiple_of(*group);
            require(shapes, "x [B, C, H, W] and w [C, O/group, kh, kw]")?;
            let out = w[1].checked_mul(*group).ok_or_else(|| error("a size without overflow"))?;
            require(inputs.get(2).is_none_or(|b| *b.shape == [out]), "a bias [O]")?;
            let [top, left, bottom, right] = *pads;
            let h = conv_transpose_dim(x[2], w[2], [top, bottom], strides[0]);
            let wd = conv_transpose_dim(x[3], w[3], [left, right], strides[1]);
            match h.zip(wd) {
                Some((h, wd)) => Ok((dtypes[0], [x[0], out, h, wd].into())),
                None => Err(error("strides of 1 or more and pads smaller than the full result")),
            }
        }
        Op::Concat { axis } => {
            let Some((first, rest)) = inputs.split_first() else {
                return Err(error("1 or more operands"));
            };
            let mut shape = first.shape.clone();
            check_axis(*axis, shape.rank())?;
            for node in rest {
                let same = node.shape.rank() == shape.rank()
                    && (0..shape.rank()).all(|i| i == *axis || node.shape[i] == shape[i]);
                require(same, "operands equal outside the axis")?;
                let sum = shape[*axis].checked_add(node.shape[*axis]);
                shape.0[*axis] = sum.ok_or_else(|| error("a size without overflow"))?;
            }
            Ok((first.dtype, shape))
        }
        Op::Expand { shape } => {
            let (dtype, from) = unary()?;
            require(broadcast(&from, shape).as_ref() == Some(shape), "a shape the input broadcasts to")?;
            Ok((dtype, shape.clone()))
        }
        Op::Gather => {
            arity(2, 2)?;
            let data = &inputs[0].shape;
            require(data.rank() > 0, "data of rank 1 or more")?;
            let mut shape = inputs[1].shape.clone();
            shape.0.extend_from_slice(&data[1..]);
            Ok((dtypes[0], shape))
        }
        Op::OneHot { depth } => {
            let (_, mut shape) = unary()?;
            shape.0.push(*depth);
            Ok((Dtype::F32, shape))
        }
        Op::Pad { before, after } => {
            let (dtype, shape) = unary()?;
            let rank = shape.rank();
            require(before.len() == rank && after.len() == rank, "one padding per axis")?;
            let dims = (0..rank).map(|i| shape[i].checked_add(before[i])?.checked_add(after[i]));
            let dims = dims.collect::<Option<Vec<_>>>().ok_or_else(|| error("a size without overflow"))?;
            Ok((dtype, dims.into()))
        }
        Op::Reshape { shape } => {
            let (dtype, from) = unary()?;
            require(shape.checked_len() == Some(from.len()), "as many elements as the input")?;
            Ok((dtype, shape.clone()))
        }
        Op::Slice { axis, start, end, step } => {
            let (dtype, mut shape) = unary()?;
            check_axis(*axis, shape.rank())?;
            let inside = start <= end && *end <= shape[*axis] && *step > 0;
            require(inside, "start <= end <= size and step > 0")?;
            shape.0[*axis] = (end - start).div_ceil(*step);
            Ok((dtype, shape))
        }
        Op::Transpose { perm } => {
            let (dtype, shape) = unary()?;
            let mut sorted = perm.clone();
            sorted.sort_unstable();
            require(sorted.into_iter().eq(0..shape.rank()), "a permutation of the axes")?;
            Ok((dtype, perm.iter().map(|&p| shape[p]).collect::<Vec<_>>().into()))
        }
        Op::ArgMax { axis } => {
            let (_, mut shape) = unary()?;
            check_axis(*axis, shape.rank())?;
            require(shape[*axis] > 0, "an axis that is not empty")?;
            shape.0.remove(*axis);
            Ok((Dtype::I64, shape))
        }
        Op::ReduceMax { axis } => {
            let (dtype, mut shape) = unary()?;
            check_axis(*axis, shape.rank())?;
            require(shape[*axis] > 0, "an axis that is not empty")?;
            shape.0[*axis] = 1;
            Ok((dtype, shape))
        }
        Op::ReduceMean { axes } | Op::ReduceSum { axes } => {
            let (dtype, mut shape) = unary()?;
            for (k, &axis) in axes.iter().enumerate() {
                check_axis(axis, shape.rank())?;
                require(!axes[..k].contains(&axis), "each axis once")?;
                // The mean of nothing is 0/0.
                let mean = matches!(op, Op::ReduceMean { .. });
                require(!mean || shape[axis] > 0, "axes that are not empty")?;
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
            let [x, scale, bias] = [0, 1, 2].map(|i| &inputs[i].shape);
            let shapes = x.rank() >= 2
                && *groups > 0
                && x[1].is_multiple_of(*groups)
                && **scale == [x[1]]
                && **bias == [x[1]];
            require(shapes, "x [B, C, ..] with groups dividing C, scale [C], bias [C]")?;
            Ok((dtypes[0], x.clone()))
        }
        Op::LayerNormalization { .. } => {
            arity(3, 3)?;
            let [x, scale, bias] = [0, 1, 2].map(|i| &inputs[i].shape);
            let shapes = x.last().is_some_and(|&d| **scale == [d] && **bias == [d]);
            require(shapes, "x [.., D], scale [D], bias [D]")?;
            Ok((dtypes[0], x.clone()))
        }
        Op::Attention { .. }
        | Op::DepthToSpace { .. }
        | Op::GroupNormalizationGradient { .. }
        | Op::RowScales { .. }
        | Op::ScaledRows
        | Op::SkipLayerNormalization { .. } => {
            let shape = fused::infer(op, inputs).map_err(&error)?;
            Ok((dtypes[0], shape))
        }
        Op::SumNormalization { to, .. } => {
            let shape = fused::infer(op, inputs).map_err(&error)?;
            Ok((if to.is_some() { Dtype::U8 } else { Dtype::F32 }, shape))
        }
        Op::AveragePool { size } => {
            let (dtype, x) = unary()?;
            let windows =
                *size > 0 && x.rank() == 4 && x[2].is_multiple_of(*size) && x[3].is_multiple_of(*size);
            require(windows, "x [B, C, H, W] with the window dividing H and W")?;
            Ok((dtype, [x[0], x[1], x[2] / size, x[3] / size].into()))
        }
        Op::Resize { factor } => {
            let (dtype, x) = unary()?;
            require(x.rank() == 4 && *factor > 0, "x [B, C, H, W] and a factor of 1 or more")?;
            match x[2].checked_mul(*factor).zip(x[3].checked_mul(*factor)) {
                Some((h, w)) => Ok((dtype, [x[0], x[1], h, w].into())),
                None => Err(error("a size without overflow")),
            }
        }
    }
}

//! Reverse-mode differentiation: a graph-to-graph pass.
//!
//! `vjp` is the rule table, alphabetical, one arm an op, each led by its formula: `x`, `a`, `b` are inputs, `y`
//! the output, `dy` the cotangent of y, and `_̄` what flows to an input. Rules may reuse y. They need not undo
//! broadcasting: the driver sums a cotangent down to its input's shape, once, when it arrives.

use super::recompute::Blocks;
use super::{Graph, Node, Op, Value, fused, normalize};
use crate::error::{Error, Result};
use crate::tensor::{Dtype, Shape, Tensor};

/// Append the gradient of `loss` with respect to each of `wrt` and return its values. A `loss` that is not a
/// scalar counts as the sum of its elements. What `loss` does not depend on gets zeros.
pub fn grad(g: &Graph, loss: Value, wrt: &[Value]) -> Result<Vec<Value>> {
    let one = g.expand(g.scalar(1.0)?, g.shape(loss))?;
    backward(g, loss, one, wrt, Blocks::kept())
}

/// As [`grad`], but of every block that [`Graph::end_block`] marks only the end is kept for the backward part,
/// which computes the rest of the block again: the activations of one block at a time instead of all, for one
/// more forward part. The values are the same.
pub fn grad_recomputing(g: &Graph, loss: Value, wrt: &[Value]) -> Result<Vec<Value>> {
    let one = g.expand(g.scalar(1.0)?, g.shape(loss))?;
    backward(g, loss, one, wrt, Blocks::marked(g))
}

/// As [`grad`], for Σ y·dy: the vector-Jacobian product with a cotangent from elsewhere, e.g. a host's reward.
pub fn grad_with_cotangent(g: &Graph, y: Value, dy: Value, wrt: &[Value]) -> Result<Vec<Value>> {
    if g.shape(y) != g.shape(dy) || g.dtype(y) != Dtype::F32 || g.dtype(dy) != Dtype::F32 {
        let found = format!("{}{} and {}{}", g.dtype(y), g.shape(y), g.dtype(dy), g.shape(dy));
        return Err(Error::invalid("gradient", "an f32 value and a cotangent of its shape", found));
    }
    backward(g, y, dy, wrt, Blocks::kept())
}

/// The driver: from y to its sources, handing every node's cotangent on to its inputs.
fn backward(g: &Graph, y: Value, dy: Value, wrt: &[Value], mut blocks: Blocks) -> Result<Vec<Value>> {
    let end = y.index() + 1;
    // A node matters when it depends on some wrt; only those carry cotangents.
    let depends: Vec<bool> = {
        let nodes = g.nodes();
        let mut depends = vec![false; nodes.len()];
        for (i, node) in nodes.iter().enumerate() {
            depends[i] = wrt.iter().any(|w| w.index() == i) || node.inputs.iter().any(|v| depends[v.index()]);
        }
        depends
    };
    let mut cotangents: Vec<Option<Value>> = vec![None; end];
    cotangents[y.index()] = Some(dy);
    for i in (0..end).rev() {
        let (Some(dy), true) = (cotangents[i], depends[i]) else { continue };
        let node = g.nodes()[i].clone();
        if node.op.is_source() {
            continue;
        }
        // Cotangents nobody asks for (most weights') are not even written down.
        let wanted: Vec<bool> = node.inputs.iter().map(|v| depends[v.index()]).collect();
        let (again, y) = blocks.again(g, i, &node, dy)?;
        let asked: Vec<bool> = node.inputs.iter().map(|v| wrt.contains(v)).collect();
        let flows = vjp(g, &again, y, dy, (&wanted, &asked))?;
        for (&input, flow) in node.inputs.iter().zip(flows) {
            let (Some(flow), true) = (flow, depends[input.index()]) else { continue };
            let flow = unbroadcast(g, flow, &g.shape(input))?;
            cotangents[input.index()] = Some(match cotangents[input.index()] {
                Some(sum) => g.add(sum, flow)?,
                None => flow,
            });
        }
    }
    wrt.iter()
        .map(|w| match cotangents.get(w.index()).copied().flatten() {
            Some(dx) => Ok(dx),
            None => g.expand(g.scalar(0.0)?, g.shape(*w)),
        })
        .collect()
}

/// The rule table: cotangents of the inputs, in input order. `None` is a zero: the op is constant there, or
/// its input is not a float; rules whose inputs cost much apart also skip what is not `wanted`. `asked`: the gradient by that input
/// is a result itself.
fn vjp(
    g: &Graph,
    node: &Node,
    y: Value,
    dy: Value,
    (wanted, asked): (&[bool], &[bool]),
) -> Result<Vec<Option<Value>>> {
    let want = |i: usize, f: &dyn Fn() -> Result<Value>| match wanted.get(i) {
        Some(true) => f().map(Some),
        _ => Ok(None),
    };
    let input = |i: usize| node.inputs[i];
    let (x, a) = (node.inputs.first().copied().unwrap_or(y), node.inputs.first().copied().unwrap_or(y));
    let b = node.inputs.get(1).copied().unwrap_or(y);
    let one = |v: Value| Ok(vec![Some(v)]);
    let two = |v: Value, w: Value| Ok(vec![Some(v), Some(w)]);
    match &node.op {
        // x̄ = dy·sign x
        Op::Abs => one(g.mul(dy, g.sign(x)?)?),
        // ā = dy, b̄ = dy
        Op::Add => two(dy, dy),
        // piecewise constant
        Op::ArgMax { .. } => Ok(vec![None]),
        // that of the plain ops
        Op::Attention { .. }
        | Op::DepthToSpace { .. }
        | Op::GroupNormalizationGradient { .. }
        | Op::RowScales { .. }
        | Op::ScaledRows
        | Op::SkipLayerNormalization { .. } => {
            // Operands apart from each other, whatever they are computed from.
            let apart = node.inputs.iter().map(|&v| g.stop_gradient(v)).collect::<Result<Vec<_>>>()?;
            match fused::plain(g, &node.op, &apart)? {
                Some(y) => Ok(grad_with_cotangent(g, y, dy, &apart)?.into_iter().map(Some).collect()),
                None => Err(Error::internal("a fused op without a meaning")),
            }
        }
        // x̄ = dy / s², repeated over each s×s window
        Op::AveragePool { size } => one(g.mul_scalar(g.resize(dy, *size)?, 1.0 / (size * size) as f32)?),
        // x̄ = dy in x's dtype; integers carry no gradient
        Op::Cast { .. } => Ok(vec![if g.dtype(x).is_float() { Some(g.cast(dy, g.dtype(x))?) } else { None }]),
        // x̄ = dy where min ≤ x ≤ max, else 0
        Op::Clip { min, max } => {
            let inside = g.where_(g.greater(g.scalar(*min)?, x)?, g.scalar(0.0)?, dy)?;
            one(g.where_(g.greater(x, g.scalar(*max)?)?, g.scalar(0.0)?, inside)?)
        }
        // x̄ᵢ = the slice of dy that came from xᵢ
        Op::Concat { axis } => {
            let mut start = 0;
            let mut flows = Vec::new();
            for &v in &node.inputs {
                let n = g.shape(v)[*axis];
                flows.push(Some(g.slice(dy, *axis, start, start + n)?));
                start += n;
            }
            Ok(flows)
        }
        Op::Constant { .. } | Op::Input { .. } | Op::Weight { .. } => Ok(Vec::new()),
        // x̄ = w transposed over dy; w̄ = x correlated with dy; bias: Σ dy
        Op::Conv { strides, pads, group } => {
            let dx = want(0, &|| conv_input(g, &g.shape(x), b, dy, *strides, *pads, *group))?;
            let dw = want(1, &|| conv_weight(g, x, dy, &g.shape(b), *strides, *pads, *group))?;
            Ok(vec![dx, dw, want(2, &|| conv_bias(g, dy))?])
        }
        // x̄ = w over dy (an ordinary convolution); w̄ = dy correlated with x
        Op::ConvTranspose { strides, pads, group } => {
            let dx = want(0, &|| g.conv(dy, b, None, *strides, *pads, *group))?;
            let dw = want(1, &|| conv_weight(g, dy, x, &g.shape(b), *strides, *pads, *group))?;
            Ok(vec![dx, dw, want(2, &|| conv_bias(g, dy))?])
        }
        // x̄ = −dy·sin x
        Op::Cos => one(g.neg(g.mul(dy, g.sin(x)?)?)?),
        // scale: Σ dy·(q − zero_point) over all other axes; those two are integers
        Op::DequantizeLinear { axis } => {
            let scale = || {
                let all = g.shape(b).rank() == 0;
                let rest: Vec<usize> = (0..g.shape(x).rank()).filter(|i| all || i != axis).collect();
                let unit = g.expand(g.scalar(1.0)?, g.shape(b))?;
                let inputs: Vec<Value> = [x, unit].into_iter().chain(node.inputs.get(2).copied()).collect();
                let levels = g.push(node.op.clone(), &inputs)?;
                g.reshape(g.reduce_sum(g.mul(dy, levels)?, &rest)?, g.shape(b))
            };
            Ok(vec![None, want(1, &scale)?, None])
        }
        // ā = dy/b, b̄ = −dy·y/b
        Op::Div => two(g.div(dy, b)?, g.neg(g.div(g.mul(dy, y)?, b)?)?),
        // piecewise constant
        Op::Equal | Op::Greater => Ok(vec![None, None]),
        // x̄ = dy·2/√π·exp(−x²)
        Op::Erf => {
            let e = g.exp(g.neg(g.mul(x, x)?)?)?;
            one(g.mul(dy, g.mul_scalar(e, std::f32::consts::FRAC_2_SQRT_PI)?)?)
        }
        // x̄ = dy·y
        Op::Exp => one(g.mul(dy, y)?),
        // x̄ = dy, summed by the driver
        Op::Expand { .. } => one(dy),
        // data: rows of dy summed where they were read, as OneHot(indices)ᵀ·dy
        Op::Gather => {
            let (shape, n) = (g.shape(x), g.shape(b).len());
            let width = shape[1..].iter().product();
            let hot = g.reshape(g.one_hot(b, shape[0])?, [n, shape[0]])?;
            let rows = g.gemm(hot, g.reshape(dy, [n, width])?, None, true, false)?;
            Ok(vec![Some(g.reshape(rows, shape)?), None])
        }
        // levels are integers
        Op::QLinearConv { .. } | Op::QuantizeLinear { .. } => Ok(vec![None; node.inputs.len()]),
        // the passes that choose them run after this one
        Op::MatMulIntegerToFloat { .. } | Op::SumNormalization { .. } => Err(Error::invalid(
            format!("a gradient through {}", node.op.name()),
            "an op of floats",
            "one of int8",
        )),
        // x̄ = dy·(Φ(x) + x·φ(x)), φ the normal density
        Op::Gelu { tanh: false } => {
            let cdf = g.erf(g.mul_scalar(x, std::f32::consts::FRAC_1_SQRT_2)?)?;
            let cdf = g.mul_scalar(g.add_scalar(cdf, 1.0)?, 0.5)?;
            let density = g.exp(g.mul_scalar(g.mul(x, x)?, -0.5)?)?;
            let density = g.mul_scalar(g.mul(x, density)?, 0.398_942_3)?; // 1/√(2π)
            one(g.mul(dy, g.add(cdf, density)?)?)
        }
        // t = tanh(c·(x + k·x³)):  x̄ = dy·(½(1 + t) + ½·x·(1 − t²)·c·(1 + 3k·x²))
        Op::Gelu { tanh: true } => {
            let (c, k) = (0.797_884_6, 0.044_715);
            let square = g.mul(x, x)?;
            let inner = g.mul(x, g.add_scalar(g.mul_scalar(square, c * k)?, c)?)?;
            let t = g.tanh(inner)?;
            let slope = g.add_scalar(g.mul_scalar(square, 1.5 * c * k)?, 0.5 * c)?;
            let rest = g.mul(g.mul(x, g.sub(g.scalar(1.0)?, g.mul(t, t)?)?)?, slope)?;
            one(g.mul(dy, g.add(g.add_scalar(g.mul_scalar(t, 0.5)?, 0.5)?, rest)?)?)
        }
        // y = op(a)·op(b) + c:  ā, b̄ by the four cases of transposition, c̄ = dy
        Op::Gemm { trans_a, trans_b } => {
            let da = || match trans_a {
                false => g.gemm(dy, b, None, false, !trans_b), // dy·op(b)ᵀ
                true => g.gemm(b, dy, None, *trans_b, true),   // op(b)·dyᵀ
            };
            let db = || match trans_b {
                false => g.gemm(a, dy, None, !trans_a, false), // op(a)ᵀ·dy
                true => g.gemm(dy, a, None, true, *trans_a),   // dyᵀ·op(a)
            };
            Ok(vec![want(0, &da)?, want(1, &db)?, Some(dy)])
        }
        // per group, with x̂ = (x − μ)·r and d = dy·scale:  x̄ = r·(d − mean d − x̂·mean(d·x̂))
        Op::GroupNormalization { groups, eps } => {
            let (dx, normal) = normalize::group_normalized(g, x, input(1), dy, (*groups, *eps))?;
            let channels = g.shape(input(1));
            let rest: Vec<usize> = (0..g.shape(x).rank()).filter(|&i| i != 1).collect();
            let per_channel = |v: Value| g.reshape(g.reduce_sum(v, &rest)?, channels.clone());
            let scale = want(1, &|| per_channel(g.mul(dy, normal)?))?;
            Ok(vec![Some(dx), scale, want(2, &|| per_channel(dy))?])
        }
        // as GroupNormalization, over the last axis
        Op::LayerNormalization { eps } => {
            let last = g.shape(x).rank() - 1;
            let (dx, normal) = normalize::normalized(g, x, g.mul(dy, input(1))?, last, *eps)?;
            Ok(vec![Some(dx), want(1, &|| g.mul(dy, normal))?, Some(dy)])
        }
        // x̄ = dy/x
        Op::Log => one(g.div(dy, x)?),
        // x̄ = dy − exp(y)·Σ dy
        Op::LogSoftmax { axis } => one(g.sub(dy, g.mul(g.exp(y)?, g.reduce_sum(dy, &[*axis])?)?)?),
        // ā = dy·bᵀ, b̄ = aᵀ·dy
        Op::MatMul => Ok(vec![
            want(0, &|| g.matmul(dy, swap_last(g, b)?))?,
            want(1, &|| g.matmul(swap_last(g, a)?, dy))?,
        ]),
        // to the larger one; ties share
        Op::Max => two(g.mul(dy, share(g, a, b)?)?, g.mul(dy, share(g, b, a)?)?),
        Op::Min => two(g.mul(dy, share(g, b, a)?)?, g.mul(dy, share(g, a, b)?)?),
        // y = x·s with s = σ(x): x̄ = dy·(s + y·(1 − s)), all that x gets of both
        Op::Mul if is_sigmoid_of(g, b, a) && wanted[0] && !asked[1] => {
            Ok(vec![Some(normalize::through_silu(g, y, b, dy)?), None])
        }
        // ā = dy·b, b̄ = dy·a
        Op::Mul => two(g.mul(dy, b)?, g.mul(dy, a)?),
        // x̄ = −dy
        Op::Neg => one(g.neg(dy)?),
        // of integers
        Op::OneHot { .. } => Ok(vec![None]),
        // x̄ = dy without the padding
        Op::Pad { before, .. } => {
            let shape = g.shape(x);
            let mut dx = dy;
            for (axis, &n) in shape.iter().enumerate() {
                dx = g.slice(dx, axis, before[axis], before[axis] + n)?;
            }
            one(dx)
        }
        // x̄ = −dy·y²
        Op::Reciprocal => one(g.neg(g.mul(dy, g.mul(y, y)?)?)?),
        // to the largest elements; ties share
        Op::ReduceMax { axis } => {
            let hit = g.cast(g.equal(x, g.expand(y, g.shape(x))?)?, Dtype::F32)?;
            one(g.mul(dy, g.div(hit, g.reduce_sum(hit, &[*axis])?)?)?)
        }
        // x̄ = dy/n
        Op::ReduceMean { .. } => {
            let n = g.shape(x).len() as f32 / g.shape(y).len() as f32;
            one(g.expand(g.mul_scalar(dy, 1.0 / n)?, g.shape(x))?)
        }
        // x̄ = dy, repeated
        Op::ReduceSum { .. } => one(g.expand(dy, g.shape(x))?),
        // x̄ = dy where x > 0
        Op::Relu => one(g.where_(g.greater(x, g.scalar(0.0)?)?, dy, g.scalar(0.0)?)?),
        // x̄ = dy under x's shape
        Op::Reshape { .. } => one(g.reshape(dy, g.shape(x))?),
        // x̄ = Σ dy over each f×f block
        Op::Resize { factor } => one(g.mul_scalar(g.average_pool(dy, *factor)?, (factor * factor) as f32)?),
        // x̄ = dy·y·(1 − y)
        Op::Sigmoid => one(g.mul(dy, g.mul(y, g.sub(g.scalar(1.0)?, y)?)?)?),
        // piecewise constant
        Op::Sign => Ok(vec![None]),
        // x̄ = dy·cos x
        Op::Sin => one(g.mul(dy, g.cos(x)?)?),
        // x̄ = dy, spread to where it was read, zeros elsewhere
        Op::Slice { axis, start, step, .. } => {
            let shape = g.shape(x);
            let dx = dilate(g, dy, *axis, *step)?;
            let (mut before, mut after) = (vec![0; shape.rank()], vec![0; shape.rank()]);
            before[*axis] = *start;
            after[*axis] = shape[*axis] - start - g.shape(dx)[*axis];
            one(g.pad(dx, &before, &after)?)
        }
        // x̄ = y·(dy − Σ dy·y)
        Op::Softmax { axis } => {
            let sum = g.reduce_sum(g.mul(dy, y)?, &[*axis])?;
            one(g.mul(y, g.sub(dy, sum)?)?)
        }
        // x̄ = dy / 2y
        Op::Sqrt => one(g.div(g.mul_scalar(dy, 0.5)?, y)?),
        // zero by definition
        Op::StopGradient => Ok(vec![None]),
        // ā = dy, b̄ = −dy
        Op::Sub => two(dy, g.neg(dy)?),
        // x̄ = dy·(1 − y²)
        Op::Tanh => one(g.mul(dy, g.sub(g.scalar(1.0)?, g.mul(y, y)?)?)?),
        // x̄ = dy under the inverse permutation
        Op::Transpose { perm } => {
            let mut inverse = vec![0; perm.len()];
            for (i, &p) in perm.iter().enumerate() {
                inverse[p] = i;
            }
            one(g.transpose(dy, &inverse)?)
        }
        // to the chosen operand
        Op::Where => {
            let zero = g.scalar(0.0)?;
            Ok(vec![None, Some(g.where_(x, dy, zero)?), Some(g.where_(x, zero, dy)?)])
        }
    }
}

/// Sum a cotangent over the axes its input was broadcast along.
fn unbroadcast(g: &Graph, dy: Value, shape: &Shape) -> Result<Value> {
    let from = g.shape(dy);
    if from == *shape {
        return Ok(dy);
    }
    let lead = from.rank() - shape.rank();
    let axes: Vec<usize> =
        (0..from.rank()).filter(|&i| i < lead || (shape[i - lead] == 1 && from[i] != 1)).collect();
    g.reshape(g.reduce_sum(dy, &axes)?, shape.clone())
}

/// Transpose of the last two axes.
fn swap_last(g: &Graph, x: Value) -> Result<Value> {
    let rank = g.shape(x).rank();
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(rank - 1, rank - 2);
    g.transpose(x, &perm)
}

/// 1 where a > b, ½ where equal, else 0.
fn share(g: &Graph, a: Value, b: Value) -> Result<Value> {
    let half = g.where_(g.equal(a, b)?, g.scalar(0.5)?, g.scalar(0.0)?)?;
    g.where_(g.greater(a, b)?, g.scalar(1.0)?, half)
}

/// Put `step − 1` zeros between neighbours along `axis`.
fn dilate(g: &Graph, x: Value, axis: usize, step: usize) -> Result<Value> {
    let shape = g.shape(x);
    if step == 1 || shape[axis] <= 1 {
        return Ok(x);
    }
    let mut split = shape.clone();
    split.0.insert(axis + 1, 1);
    let (before, mut after) = (vec![0; split.rank()], vec![0; split.rank()]);
    after[axis + 1] = step - 1;
    let mut wide = shape.clone();
    wide.0[axis] *= step;
    let x = g.reshape(g.pad(g.reshape(x, split)?, &before, &after)?, wide)?;
    g.slice(x, axis, 0, (shape[axis] - 1) * step + 1)
}

/// Pictures at least this large get their convolution's input gradient as a convolution with flipped
/// weights, which is faster there than a transposed convolution; below, flipping costs more than it saves.
const FLIP_FROM: usize = 32 * 32;

/// Cotangent of a convolution's input x of shape `shape`: the transposed convolution of dy.
fn conv_input(
    g: &Graph,
    shape: &Shape,
    w: Value,
    dy: Value,
    strides: [usize; 2],
    pads: [usize; 4],
    group: usize,
) -> Result<Value> {
    let (kernel, out) = (g.shape(w), g.shape(dy));
    let k = [kernel[2], kernel[3]];
    if group == 1 && strides == [1, 1] && (0..4).all(|i| pads[i] < k[i % 2]) && out[2] * out[3] >= FLIP_FROM {
        let pads = [0, 1, 2, 3].map(|i| k[i % 2] - 1 - pads[i]);
        return g.conv(dy, flip(g, w)?, None, [1, 1], pads, 1);
    }
    // The transposed result covers what the kernel touched, in padded coordinates: crop the leading pads
    // and what exceeds x, then add the trailing rows that no window reached.
    let mut crop = [pads[0], pads[1], 0, 0];
    let mut missing = [0, 0];
    for i in 0..2 {
        let covered = ((out[2 + i] - 1) * strides[i] + k[i]).saturating_sub(pads[i]);
        if covered.min(shape[2 + i]) == 0 {
            // Every window lies in the padding.
            return g.expand(g.scalar(0.0)?, shape.clone());
        }
        crop[2 + i] = covered.saturating_sub(shape[2 + i]);
        missing[i] = shape[2 + i].saturating_sub(covered);
    }
    let dx = g.conv_transpose(dy, w, None, strides, crop, group)?;
    if missing == [0, 0] {
        return Ok(dx);
    }
    g.pad(dx, &[0; 4], &[0, 0, missing[0], missing[1]])
}

/// Whether s is σ(x).
fn is_sigmoid_of(g: &Graph, s: Value, x: Value) -> bool {
    let node = &g.nodes()[s.index()];
    matches!(node.op, Op::Sigmoid) && node.inputs == [x]
}

/// Largest kernel that is reversed by a product, which is quicker on the CPU than moving single elements: of
/// 512·512 kernels of 3×3, all but 7 of 56 ms went with those.
const TAPS: usize = 64;

/// w [O, I, kh, kw] → [I, O, kh, kw] with both kernel axes reversed.
fn flip(g: &Graph, w: Value) -> Result<Value> {
    let s = g.shape(w);
    let taps = s[2] * s[3];
    if taps == 1 {
        return g.transpose(w, &[1, 0, 2, 3]);
    }
    if taps <= TAPS {
        // Ones where row and column add up to the last of both: exact, of finite weights.
        let ones: Vec<f32> = (0..taps * taps).map(|i| f32::from(i / taps + i % taps == taps - 1)).collect();
        let ones = g.cast(g.constant(Tensor::from_f32([taps, taps], &ones))?, g.dtype(w))?;
        let rows = g.matmul(g.reshape(w, [s[0] * s[1], taps])?, ones)?;
        return g.transpose(g.reshape(rows, s)?, &[1, 0, 2, 3]);
    }
    let reversed: Vec<i64> = (0..taps as i64).rev().collect();
    let order = g.constant(Tensor::from_i64([taps], &reversed))?;
    let rows = g.reshape(g.transpose(w, &[2, 3, 1, 0])?, [taps, s[1] * s[0]])?;
    let rows = g.reshape(g.gather(rows, order)?, [s[2], s[3], s[1], s[0]])?;
    g.transpose(rows, &[2, 3, 0, 1])
}

/// Cotangent of a convolution's weights of shape `shape`: w̄[o, i] = Σ over pictures of x[i] correlated with
/// dy[o]. As one convolution with pictures and channels exchanged, dy dilated by the stride as its kernel.
fn conv_weight(
    g: &Graph,
    x: Value,
    dy: Value,
    shape: &Shape,
    strides: [usize; 2],
    pads: [usize; 4],
    group: usize,
) -> Result<Value> {
    let dy = dilate(g, dilate(g, dy, 2, strides[0])?, 3, strides[1])?;
    let (inner, outer) = (g.shape(x)[1] / group, g.shape(dy)[1] / group);
    let mut parts = Vec::new();
    for i in 0..group {
        let x = g.transpose(g.slice(x, 1, i * inner, (i + 1) * inner)?, &[1, 0, 2, 3])?;
        let dy = g.transpose(g.slice(dy, 1, i * outer, (i + 1) * outer)?, &[1, 0, 2, 3])?;
        let dw = g.conv(x, dy, None, [1, 1], pads, 1)?; // [I, O, ≥ kh, ≥ kw]
        let dw = g.slice(g.slice(dw, 2, 0, shape[2])?, 3, 0, shape[3])?;
        parts.push(g.transpose(dw, &[1, 0, 2, 3])?);
    }
    g.concat(&parts, 0)
}

/// Cotangent of a convolution's bias: Σ dy per channel.
fn conv_bias(g: &Graph, dy: Value) -> Result<Value> {
    let channels = g.shape(dy)[1];
    g.reshape(g.reduce_sum(dy, &[0, 2, 3])?, [channels])
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::graph::eval::{Array, eval_values};

    /// Largest difference of the gradient of Σ conv(x, w)·r, r fixed, from central differences.
    fn conv_error(size: [usize; 2], kernel: [usize; 2], strides: [usize; 2], pads: [usize; 4]) -> f64 {
        let g = Graph::new();
        let [x, w] = [("x", size), ("w", kernel)]
            .map(|(name, [h, w])| g.input(name, Dtype::F32, [2, 2, h, w]).unwrap());
        let y = g.conv(x, w, None, strides, pads, 1).unwrap();
        let weights: Vec<f32> = (0..g.shape(y).len()).map(|i| (i as f32 * 1.3).cos()).collect();
        let r = g.constant(Tensor::from_f32(g.shape(y), &weights)).unwrap();
        let loss = g.reduce_sum(g.mul(y, r).unwrap(), &[0, 1, 2, 3]).unwrap();
        let gradients = grad(&g, loss, &[x, w]).unwrap();
        let mut feeds: HashMap<String, Array> = [("x", x), ("w", w)]
            .map(|(name, v)| {
                let data = (0..g.shape(v).len()).map(|i| (i as f64 * 0.7).sin()).collect();
                (name.to_string(), Array::new(g.shape(v), data))
            })
            .into();
        let found = eval_values(&g, &gradients, &feeds).unwrap();
        let mut worst = 0.0f64;
        for (name, found) in ["x", "w"].into_iter().zip(found) {
            assert_eq!(found.shape, feeds[name].shape);
            for i in 0..found.data.len() {
                let mut at = |delta: f64| {
                    let kept = feeds[name].clone();
                    feeds.get_mut(name).unwrap().data[i] += delta;
                    let value = eval_values(&g, &[loss], &feeds).unwrap()[0].data[0];
                    feeds.insert(name.into(), kept);
                    value
                };
                let slope = (at(1e-3) - at(-1e-3)) / 2e-3;
                worst = worst.max((slope - found.data[i]).abs());
            }
        }
        worst
    }

    /// Padding may exceed the kernel, and a stride may leap over all of the input.
    #[test]
    fn convolutions_whose_padding_exceeds_the_kernel() {
        for (size, kernel, strides, pads) in [
            ([1, 1], [1, 1], [5, 5], [3, 3, 0, 0]),
            ([2, 3], [1, 2], [9, 7], [4, 5, 3, 3]),
            ([2, 3], [1, 2], [4, 1], [4, 5, 3, 3]),
            ([3, 2], [2, 2], [3, 3], [0, 4, 6, 5]),
            ([3, 4], [2, 3], [1, 1], [5, 4, 3, 6]),
            ([4, 4], [3, 3], [2, 2], [1, 1, 1, 1]),
        ] {
            let error = conv_error(size, kernel, strides, pads);
            assert!(error < 1e-9, "{size:?} {kernel:?} {strides:?} {pads:?}: {error}");
        }
    }
}

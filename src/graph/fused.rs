//! Ops that stand for several others, because a runtime has one kernel for all of them: what they mean in plain ops, and what
//! they ask of their operands. Models are written in plain ops; [`super::rewrite`] finds what can be fused.

use super::{Graph, Node, Op, Value, normalize};
use crate::error::Result;
use crate::tensor::{Dtype, Shape};

/// Result shape of a fused op, or the rule that its operands break.
pub(super) fn infer(op: &Op, inputs: &[&Node]) -> Result<Shape, &'static str> {
    let shapes: Vec<&Shape> = inputs.iter().map(|n| &n.shape).collect();
    let rule = |holds: bool, text| if holds { Ok(()) } else { Err(text) };
    match (op, &shapes[..]) {
        (Op::Attention { heads, .. }, [q, k, v]) => {
            let fits = q.rank() == 3
                && k.rank() == 3
                && q[0] == k[0]
                && q[2] == k[2]
                && k == v
                && *heads > 0
                && q[2].is_multiple_of(*heads)
                && q.iter().chain(k.iter()).all(|&n| n > 0);
            rule(fits, "q [B, M, D], k and v [B, N, D], none of them empty, with heads dividing D")?;
            Ok((*q).clone())
        }
        (Op::DepthToSpace { factor: f }, [x]) => {
            let sizes = || {
                let parts =
                    f.checked_mul(*f).filter(|&n| n > 0 && x.rank() == 4 && x[1].is_multiple_of(n))?;
                Some([x[0], x[1] / parts, x[2].checked_mul(*f)?, x[3].checked_mul(*f)?])
            };
            sizes().map(Shape::from).ok_or("x [B, C, H, W] with factor² dividing C")
        }
        (Op::GroupNormalizationGradient { groups, .. }, [x, scale, bias, dy]) => {
            let fits = x.rank() == 4
                && x.iter().all(|&n| n > 0)
                && x == dy
                && ***scale == [x[1]]
                && scale == bias
                && *groups > 0
                && x[1].is_multiple_of(*groups);
            rule(fits, "x and dy [B, C, H, W], not empty, scale and bias [C], groups that divide C")?;
            Ok((*x).clone())
        }
        (Op::RowScales { .. }, [x]) => {
            rule(x.rank() == 2 && x[1] > 0, "x [M, K], K of 1 or more")?;
            Ok([x[0], 1].into())
        }
        (Op::ScaledRows, [x, rows, bias]) => {
            let fits = x.rank() == 2 && ***rows == [x[0], 1] && ***bias == x[1..];
            rule(fits, "x [M, N], rows [M, 1], bias [N]")?;
            Ok((*x).clone())
        }
        (Op::SkipLayerNormalization { .. }, [x, skip, scale, bias]) => {
            let d = x.last().copied().unwrap_or(0);
            let same = x == skip || (x.rank() == 3 && ***skip == x[1..]);
            let fits = same && matches!(x.rank(), 2 | 3) && ***scale == [d] && ***bias == [d];
            rule(fits, "x [B, N, D] or [N, D], skip as x or [N, D], scale [D], bias [D]")?;
            Ok((*x).clone())
        }
        (&Op::SumNormalization { .. }, _) => sum_normalization(op, &shapes),
        (Op::Attention { .. }, _) => Err("3 operands"),
        (Op::DepthToSpace { .. } | Op::RowScales { .. }, _) => Err("1 operand"),
        (Op::ScaledRows, _) => Err("3 operands"),
        (Op::GroupNormalizationGradient { .. } | Op::SkipLayerNormalization { .. }, _) => Err("4 operands"),
        _ => Err("a fused op"),
    }
}

/// The parts of the operands of a [`Op::SumNormalization`]: terms of levels, terms of f32, scale and bias, the scale of what is
/// rounded.
struct Operands<'a, T> {
    levels: &'a [T],
    floats: &'a [T],
    affine: &'a [T],
    unit: &'a [T],
}

impl<'a, T> Operands<'a, T> {
    /// `None` unless there are as many as `op` says, one term among them.
    fn of(op: &Op, operands: &'a [T]) -> Option<Operands<'a, T>> {
        let &Op::SumNormalization { levels, groups, to, .. } = op else { return None };
        let (levels, rest) = operands.split_at_checked(levels.checked_mul(3)?)?;
        let (rest, unit) = rest.split_at_checked(rest.len().checked_sub(to.iter().len())?)?;
        let (floats, affine) = rest.split_at_checked(rest.len().checked_sub(2 * usize::from(groups > 0))?)?;
        (levels.len() + floats.len() > 0).then_some(Operands { levels, floats, affine, unit })
    }
}

fn sum_normalization(op: &Op, shapes: &[&Shape]) -> Result<Shape, &'static str> {
    let &Op::SumNormalization { groups, to, factor, channels_last, .. } = op else { return Err("a sum") };
    let rule = |holds: bool, text| if holds { Ok(()) } else { Err(text) };
    let parts =
        Operands::of(op, shapes).ok_or("one term or more, and a scale and a bias where there are groups")?;
    let first = parts.levels.first().or(parts.floats.first()).map(|s| &s[..]);
    let Some(&[b, m, n, k]) = first else {
        return Err("terms [B, C, H, W], or, channels last, [B, H, W, C]");
    };
    let [c, h, w] = if channels_last { [k, m, n] } else { [m, n, k] };
    let of_channels = |s: &&Shape| ***s == [c];
    let fits = parts.levels.chunks(3).all(|t| t[0][..] == [b, m, n, k] && t[1..].iter().all(of_channels))
        && parts.floats.iter().all(|s| s[..] == [b, m, n, k])
        && parts.affine.iter().all(of_channels)
        && parts.unit.iter().all(|s| s.rank() == 0);
    rule(fits, "terms of one shape, scales, zero points and biases [C], and a scale [] of what is rounded")?;
    rule([b, c, h, w].iter().all(|&n| n > 0), "terms that are not empty")?;
    rule(groups == 0 || c.is_multiple_of(groups), "groups that divide the channels")?;
    let enlarged = factor == 1 || (factor > 1 && to.is_some() && channels_last);
    rule(enlarged, "a factor of 1, or more where levels are written, channels last")?;
    rule(to.is_none_or(|[zero, most]| zero <= most), "a zero point within the levels")?;
    let sizes = h.checked_mul(factor).zip(w.checked_mul(factor)).ok_or("a size without overflow")?;
    Ok(match (to.is_some() && channels_last, sizes) {
        (true, (h, w)) => [b, h, w, c].into(),
        (false, (h, w)) => [b, c, h, w].into(),
    })
}

/// Axes of [B, H, W, C] as [B, C, H, W], and back.
pub(super) const TO_FIRST: [usize; 4] = [0, 3, 1, 2];
pub(super) const TO_LAST: [usize; 4] = [0, 2, 3, 1];

/// The dtype of an operand, where it need not be that of the result.
pub(super) fn operand(op: &Op, i: usize) -> Option<Dtype> {
    match *op {
        Op::SumNormalization { levels, .. } => {
            Some(if i < 3 * levels && i % 3 != 1 { Dtype::U8 } else { Dtype::F32 })
        }
        Op::QLinearConv { .. } => [Dtype::U8, Dtype::I8, Dtype::F32, Dtype::I32].get(i).copied(),
        _ => None,
    }
}

/// The same value in plain ops; `None` for an op that is none of the fused ones.
pub(super) fn plain(g: &Graph, op: &Op, inputs: &[Value]) -> Result<Option<Value>> {
    Ok(Some(match *op {
        // softmax(scale·q·kᵀ)·v of every head
        Op::Attention { heads, scale } => {
            let shape = g.shape(inputs[0]);
            let (b, m, n, d) = (shape[0], shape[1], g.shape(inputs[1])[1], shape[2] / heads);
            let q = g.transpose(g.reshape(inputs[0], [b, m, heads, d])?, &[0, 2, 1, 3])?;
            let k = g.transpose(g.reshape(inputs[1], [b, n, heads, d])?, &[0, 2, 3, 1])?;
            let v = g.transpose(g.reshape(inputs[2], [b, n, heads, d])?, &[0, 2, 1, 3])?;
            let p = g.softmax(g.mul_scalar(g.matmul(q, k)?, scale)?, 3)?; // [B, heads, M, N]
            g.reshape(g.transpose(g.matmul(p, v)?, &[0, 2, 1, 3])?, shape)?
        }
        Op::DepthToSpace { factor: f } => {
            let s = g.shape(inputs[0]);
            let x = g.reshape(inputs[0], [s[0], f, f, s[1] / (f * f), s[2], s[3]])?;
            let x = g.transpose(x, &[0, 3, 4, 1, 5, 2])?; // [B, C, H, f, W, f]
            g.reshape(x, [s[0], s[1] / (f * f), s[2] * f, s[3] * f])?
        }
        Op::GroupNormalizationGradient { groups, eps, silu } => {
            let &[x, scale, bias, dy] = inputs else { return Ok(None) };
            let dy = match silu {
                true => {
                    let y = g.group_normalization(x, scale, bias, groups, eps)?;
                    let s = g.sigmoid(y)?;
                    normalize::through_silu(g, g.mul(y, s)?, s, dy)?
                }
                false => dy,
            };
            normalize::group_normalized(g, x, scale, dy, (groups, eps))?.0
        }
        Op::RowScales { factor } => g.mul_scalar(g.reduce_max(g.abs(inputs[0])?, 1)?, factor)?,
        Op::ScaledRows => g.add(g.mul(inputs[0], inputs[1])?, inputs[2])?,
        Op::QLinearConv { strides, pads, x_zero, y_zero, channels_last: true } => {
            let conv = Op::QLinearConv { strides, pads, x_zero, y_zero, channels_last: false };
            let x = g.transpose(inputs[0], &TO_FIRST)?;
            let operands: Vec<Value> = [x].into_iter().chain(inputs[1..].iter().copied()).collect();
            g.transpose(g.push(conv, &operands)?, &TO_LAST)?
        }
        Op::SumNormalization { groups, eps, silu, to, factor, channels_last, .. } => {
            let Some(parts) = Operands::of(op, inputs) else { return Ok(None) };
            let first = |v: Value| if channels_last { g.transpose(v, &TO_FIRST) } else { Ok(v) };
            let levels = parts
                .levels
                .chunks(3)
                .map(|term| g.push(Op::DequantizeLinear { axis: 1 }, &[first(term[0])?, term[1], term[2]]));
            let terms = levels.chain(parts.floats.iter().map(|&v| first(v))).collect::<Result<Vec<_>>>()?;
            let mut y = terms[0];
            for &term in &terms[1..] {
                y = g.add(y, term)?;
            }
            if let &[scale, bias] = parts.affine {
                y = g.group_normalization(y, scale, bias, groups, eps)?;
            }
            if silu {
                y = g.silu(y)?;
            }
            match (to, parts.unit) {
                (Some([zero_point, most]), &[unit]) => {
                    let levels = g.push(Op::QuantizeLinear { zero_point }, &[y, unit])?;
                    let most = g.scalar(most.into())?;
                    let levels = g.cast(g.min(g.cast(levels, Dtype::F32)?, most)?, Dtype::U8)?;
                    let levels = g.resize(levels, factor)?;
                    if channels_last { g.transpose(levels, &TO_LAST)? } else { levels }
                }
                _ => y,
            }
        }
        Op::SkipLayerNormalization { eps } => {
            g.layer_normalization(g.add(inputs[0], inputs[1])?, inputs[2], inputs[3], eps)?
        }
        _ => return Ok(None),
    }))
}

//! Ops that stand for several others, because a runtime has one kernel for all of them: what they mean in plain ops, and what
//! they ask of their operands. Models are written in plain ops; [`super::rewrite`] finds what can be fused.

use super::{Graph, Node, Op, Value};
use crate::error::Result;
use crate::tensor::Shape;

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
        (Op::SkipLayerNormalization { .. }, [x, skip, scale, bias]) => {
            let d = x.last().copied().unwrap_or(0);
            let same = x == skip || (x.rank() == 3 && ***skip == x[1..]);
            let fits = same && matches!(x.rank(), 2 | 3) && ***scale == [d] && ***bias == [d];
            rule(fits, "x [B, N, D] or [N, D], skip as x or [N, D], scale [D], bias [D]")?;
            Ok((*x).clone())
        }
        (Op::Attention { .. }, _) => Err("3 operands"),
        (Op::DepthToSpace { .. }, _) => Err("1 operand"),
        (Op::SkipLayerNormalization { .. }, _) => Err("4 operands"),
        _ => Err("a fused op"),
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
        Op::SkipLayerNormalization { eps } => {
            g.layer_normalization(g.add(inputs[0], inputs[1])?, inputs[2], inputs[3], eps)?
        }
        _ => return Ok(None),
    }))
}

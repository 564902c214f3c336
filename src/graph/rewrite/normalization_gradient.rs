//! The gradient of a GroupNormalization, as `grad.rs` writes it, or of one and x·σ(x) → one [`Op::GroupNormalizationGradient`].
//! It reads the input and the cotangent instead of what lies between: the normalised value, its σ and their product
//! are not kept, nor read, and what is computed forward can be one operator too.

use super::{Rebuild, rebuild};
use crate::error::Result;
use crate::graph::{Graph, Node, Op, Value};
use crate::tensor::Dtype;

pub(super) fn rewrite(graph: &Graph) -> Result<Graph> {
    rebuild(graph, rule)
}

fn rule(r: &Rebuild<'_>, node: &Node) -> Result<Option<Value>> {
    let Some(found) = gradient(r, node) else { return Ok(None) };
    let operands = [found.x, found.scale, found.bias, found.dy].map(|v| r.now(v));
    let op = Op::GroupNormalizationGradient { groups: found.groups, eps: found.eps, silu: found.silu };
    r.new.push(op, &operands).map(Some)
}

/// The normalisation y of x [B, C, H, W] whose gradient is taken, and its cotangent, or that of y·σ(y).
struct Gradient {
    groups: usize,
    eps: f32,
    silu: bool,
    x: Value,
    scale: Value,
    bias: Value,
    dy: Value,
}

/// x̄ = r·(d − mean d − x̂·mean(d·x̂)) in the shape of x, with x̂ = (x − μ)·r.
fn gradient(r: &Rebuild<'_>, node: &Node) -> Option<Gradient> {
    let &[batch, c, h, w] = &node.shape[..] else { return None };
    if node.op.name() != "Reshape" || node.dtype != Dtype::F32 || node.shape.is_empty() {
        return None;
    }
    let [reciprocal, inner] = operands(r, node.inputs[0], "Mul")?;
    let [less_mean, along] = operands(r, inner, "Sub")?;
    let [d, mean_d] = operands(r, less_mean, "Sub")?;
    let [normal, mean_along] = operands(r, along, "Mul")?;
    let [centred, same] = operands(r, normal, "Mul")?;
    let [x, mean_x] = operands(r, centred, "Sub")?;
    let product = mean_of(r, mean_along)?;
    let means = mean_of(r, mean_d)? == d && mean_of(r, mean_x)? == x && same == reciprocal;
    if !means || operands(r, product, "Mul")? != [d, normal] {
        return None;
    }
    let [root] = operands(r, reciprocal, "Reciprocal")?;
    let [sum] = operands(r, root, "Sqrt")?;
    let [variance, eps] = operands(r, sum, "Add")?;
    let eps = r.number(eps)?;
    if operands(r, mean_of(r, variance)?, "Mul")? != [centred; 2] {
        return None;
    }
    let groups = r.node(x).shape[1];
    if groups == 0 || !c.is_multiple_of(groups) {
        return None;
    }
    let fits = |v: Value, shape: &[usize]| r.node(v).shape[..] == *shape;
    // Whole channels of one picture are a group, and every channel has a scale.
    let grouped = [batch, groups, c / groups * h * w];
    let fit = fits(x, &grouped) && fits(d, &grouped);
    let [x] = operands(r, x, "Reshape")?;
    let [scaled] = operands(r, d, "Reshape")?;
    let [dy, channel] = operands(r, scaled, "Mul")?;
    let [scale] = operands(r, channel, "Reshape")?;
    let fit = fit && fits(x, &node.shape) && fits(dy, &node.shape);
    if !fit || !fits(channel, &[1, c, 1, 1]) || !fits(scale, &[c]) {
        return None;
    }
    let plain = Gradient { groups, eps, silu: false, x, scale, bias: scale, dy };
    Some(through_silu(r, &plain).unwrap_or(plain))
}

/// The same of y·σ(y), where the cotangent of y is dy·(σ(y) + y·σ(y)·(1 − σ(y))).
fn through_silu(r: &Rebuild<'_>, of: &Gradient) -> Option<Gradient> {
    let [dy, slope] = operands(r, of.dy, "Mul")?;
    let [s, rest] = operands(r, slope, "Add")?;
    let [product, other] = operands(r, rest, "Mul")?;
    let [one, same] = operands(r, other, "Sub")?;
    let [y] = operands(r, s, "Sigmoid")?;
    let norm = r.node(y);
    let &[x, scale, bias] = &norm.inputs[..] else { return None };
    let fits = norm.op == Op::GroupNormalization { groups: of.groups, eps: of.eps }
        && [x, scale] == [of.x, of.scale]
        && same == s
        && r.number(one) == Some(1.0)
        && operands(r, product, "Mul")? == [y, s]
        && r.node(dy).shape == norm.shape;
    fits.then_some(Gradient { silu: true, x, scale, bias, dy, ..*of })
}

/// The operands of `v`, where it is the result of such an op.
fn operands<const N: usize>(r: &Rebuild<'_>, v: Value, op: &str) -> Option<[Value; N]> {
    let node = r.node(v);
    (node.op.name() == op).then(|| node.inputs[..].try_into().ok()).flatten()
}

/// What `v` is the mean of, over the last of three axes.
fn mean_of(r: &Rebuild<'_>, v: Value) -> Option<Value> {
    let node = r.node(v);
    (node.op == Op::ReduceMean { axes: vec![2] } && node.shape.rank() == 3).then(|| node.inputs[0])
}

//! Backward formulas of normalisations and of x·σ(x), of more than one place.

use super::{Graph, Value};
use crate::error::Result;

/// Backward of (x − μ)·r over `axis`, with d the cotangent of x̂: (x̄, x̂), x̄ = r·(d − mean d − x̂·mean(d·x̂)).
pub(super) fn normalized(g: &Graph, x: Value, d: Value, axis: usize, eps: f32) -> Result<(Value, Value)> {
    let mean = |v: Value| g.reduce_mean(v, &[axis]);
    let centred = g.sub(x, mean(x)?)?;
    let variance = mean(g.mul(centred, centred)?)?;
    let r = g.reciprocal(g.sqrt(g.add_scalar(variance, eps)?)?)?;
    let normal = g.mul(centred, r)?;
    let inner = g.sub(g.sub(d, mean(d)?)?, g.mul(normal, mean(g.mul(d, normal)?)?)?)?;
    Ok((g.mul(r, inner)?, normal))
}

/// Backward of a GroupNormalization of x [B, C, ..] with the cotangent dy, scale \[C\]: (x̄, x̂).
pub(super) fn group_normalized(
    g: &Graph,
    x: Value,
    scale: Value,
    dy: Value,
    (groups, eps): (usize, f32),
) -> Result<(Value, Value)> {
    let shape = g.shape(x);
    let grouped = [shape[0], groups, shape[1..].iter().product::<usize>() / groups];
    let mut channel = vec![1; shape.rank()];
    channel[1] = shape[1];
    let d = g.mul(dy, g.reshape(scale, channel)?)?;
    let (dx, normal) = normalized(g, g.reshape(x, grouped)?, g.reshape(d, grouped)?, 2, eps)?;
    Ok((g.reshape(dx, shape.clone())?, g.reshape(normal, shape)?))
}

/// Backward of y = x·s, s = σ(x): dy·(s + y·(1 − s)), which reads four values of x's size instead of the six of both rules.
pub(super) fn through_silu(g: &Graph, y: Value, s: Value, dy: Value) -> Result<Value> {
    let slope = g.add(s, g.mul(y, g.sub(g.scalar(1.0)?, s)?)?)?;
    g.mul(dy, slope)
}

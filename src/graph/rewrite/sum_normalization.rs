//! What stands between two convolutions in int8, [levels → f32,] + the other branch, GroupNormalization,
//! x·σ(x), rounding, enlarging → one [`Op::SumNormalization`], and these convolutions channels last, as the
//! runtime's kernel reads and writes them: no pass over memory is left but those of its operators.
//!
//! A sum that several read is computed again by each, from levels, a quarter of its bytes.

use super::{Rebuild, rebuild};
use crate::error::Result;
use crate::graph::fused::{TO_FIRST, TO_LAST};
use crate::graph::{Graph, Node, Op, Value, simplify};
use crate::tensor::Dtype;

/// Most terms of a sum: from then on its f32 are fewer bytes than theirs.
const TERMS: usize = 4;

/// Positions of a picture from which on terms of f32 are summed here: channels first, each channel is prepared for by itself.
const FEWEST_POSITIONS: usize = 64 * 64;

pub(super) fn rewrite(graph: &Graph) -> Result<Graph> {
    let fused = rebuild(graph, rule)?;
    let is_fused = |n: &Node| matches!(n.op, Op::SumNormalization { channels_last: true, .. });
    if !fused.nodes().iter().any(is_fused) {
        return Ok(fused);
    }
    simplify(&rebuild(&fused, channels_last)?)
}

/// A convolution in int8 between layouts: next to an operator that is in the same one, transposes cancel.
fn channels_last(r: &Rebuild<'_>, node: &Node) -> Result<Option<Value>> {
    let Op::QLinearConv { strides, pads, x_zero, y_zero, channels_last: false } = node.op else {
        return Ok(None);
    };
    let mut inputs: Vec<Value> = node.inputs.iter().map(|&v| r.now(v)).collect();
    inputs[0] = r.new.transpose(inputs[0], &TO_LAST)?;
    let conv = Op::QLinearConv { strides, pads, x_zero, y_zero, channels_last: true };
    let y = r.new.push(conv, &inputs)?;
    r.new.transpose(y, &TO_FIRST).map(Some)
}

/// What a value is, read backwards.
struct Found {
    /// Of each term that is levels their operands, then the terms of f32.
    levels: Vec<[Value; 3]>,
    floats: Vec<Value>,
    /// Groups, eps, scale and bias.
    norm: Option<(usize, f32, [Value; 2])>,
    silu: bool,
}

fn rule(r: &Rebuild<'_>, node: &Node) -> Result<Option<Value>> {
    if node.shape.rank() != 4 || node.shape.is_empty() {
        return Ok(None);
    }
    match node.op {
        Op::Resize { factor } => match r.private(node.inputs[0]) {
            Some(n) => levels(r, n, factor),
            None => Ok(None),
        },
        Op::QuantizeLinear { .. } => levels(r, node, 1),
        Op::Mul => match silu_of(r, node) {
            Some(y) => push(r, Found { silu: true, ..found(r, y, 2) }, None, 1),
            None => Ok(None),
        },
        Op::GroupNormalization { groups, eps } => {
            let norm = Some((groups, eps, [node.inputs[1], node.inputs[2]]));
            push(r, Found { norm, ..sum(r, node.inputs[0]) }, None, 1)
        }
        _ => Ok(None),
    }
}

/// What is written instead of levels, enlarged.
fn levels(r: &Rebuild<'_>, node: &Node, factor: usize) -> Result<Option<Value>> {
    let Op::QuantizeLinear { zero_point } = node.op else { return Ok(None) };
    let (mut x, unit) = (node.inputs[0], node.inputs[1]);
    let mut most = u8::MAX;
    if let Some(Node { op: Op::Clip { min, max }, inputs, .. }) = r.private(x) {
        // To whole levels: of what lies between, none is beyond them.
        let Some(unit) = r.number(unit) else { return Ok(None) };
        let [low, high] = [min, max].map(|bound| bound / unit + f32::from(zero_point));
        if low.abs() > 1e-3 || (high - high.round()).abs() > 1e-3 || !(0.0..=255.0).contains(&high.round()) {
            return Ok(None);
        }
        (x, most) = (inputs[0], high.round() as u8);
    }
    if r.node(unit).shape.rank() != 0 || zero_point > most {
        return Ok(None);
    }
    let of = match r.private(x).and_then(|n| silu_of(r, n)) {
        Some(y) => Found { silu: true, ..found(r, y, 2) },
        None => found(r, x, 1),
    };
    push(r, of, Some(([zero_point, most], unit)), factor)
}

/// y of y·σ(y), where nothing else reads σ(y).
fn silu_of(r: &Rebuild<'_>, node: &Node) -> Option<Value> {
    let [a, b] = node.inputs[..] else { return None };
    let sigmoid_of = |s: Value, y: Value| {
        r.private(s).is_some_and(|n| node.op == Op::Mul && n.op == Op::Sigmoid && n.inputs[0] == y)
    };
    match (sigmoid_of(b, a), sigmoid_of(a, b)) {
        (true, _) => Some(a),
        (_, true) => Some(b),
        _ => None,
    }
}

/// A normalised sum, where the normalised value is read just `uses` times, or a sum.
fn found(r: &Rebuild<'_>, v: Value, uses: usize) -> Found {
    match r.node(v) {
        Node { op: Op::GroupNormalization { groups, eps }, inputs, .. } if r.uses[v.index()] == uses => {
            Found { norm: Some((*groups, *eps, [inputs[1], inputs[2]])), ..sum(r, inputs[0]) }
        }
        _ => sum(r, v),
    }
}

/// The terms of a sum, or of one term. What is no levels is a term as it is where others read it too: it is
/// there already.
fn sum(r: &Rebuild<'_>, v: Value) -> Found {
    let mut all = Found { levels: Vec::new(), floats: Vec::new(), norm: None, silu: false };
    let mut open = vec![v];
    while let Some(v) = open.pop() {
        let node = r.node(v);
        match (&node.op, &node.inputs[..]) {
            (Op::Add, &[a, b]) if [a, b].iter().all(|&x| r.node(x).shape == node.shape) => {
                open.extend([b, a])
            }
            (Op::DequantizeLinear { axis: 1 }, &[q, scale, zero])
                if r.node(q).dtype == Dtype::U8 && r.node(scale).shape.rank() == 1 =>
            {
                all.levels.push([q, scale, zero]);
            }
            _ => all.floats.push(v),
        }
    }
    let terms = all.levels.len() + all.floats.len();
    if terms > TERMS || all.floats.len() > 1 || (all.levels.is_empty() && terms > 1) {
        (all.levels, all.floats) = (Vec::new(), vec![v]);
    }
    all
}

/// The node, where it is one for more than one that there was.
fn push(r: &Rebuild<'_>, found: Found, to: Option<([u8; 2], Value)>, factor: usize) -> Result<Option<Value>> {
    let Found { levels, floats, norm, silu } = found;
    let channels_last = floats.is_empty();
    let fits = |v: &Value| {
        let node = r.node(*v);
        node.dtype == Dtype::F32 && node.shape[2..].iter().product::<usize>() >= FEWEST_POSITIONS
    };
    let pays = !levels.is_empty() || norm.is_some();
    if !pays || (factor > 1 && !channels_last) || !floats.iter().all(fits) {
        return Ok(None);
    }
    let g = &r.new;
    let mut inputs = Vec::new();
    for [q, scale, zero] in &levels {
        let q = r.now(*q);
        let q = if channels_last { g.transpose(q, &TO_LAST)? } else { q };
        inputs.extend([q, r.now(*scale), r.now(*zero)]);
    }
    inputs.extend(floats.iter().map(|&v| r.now(v)));
    let (groups, eps) = norm.map_or((0, 0.0), |(groups, eps, _)| (groups, eps));
    inputs.extend(norm.iter().flat_map(|(_, _, affine)| affine).map(|&v| r.now(v)));
    inputs.extend(to.iter().map(|&(_, unit)| r.now(unit)));
    let levels = levels.len();
    let rounds = to.is_some();
    let to = to.map(|(to, _)| to);
    let y = g.push(Op::SumNormalization { levels, groups, eps, silu, to, factor, channels_last }, &inputs)?;
    if rounds && channels_last { g.transpose(y, &TO_FIRST).map(Some) } else { Ok(Some(y)) }
}

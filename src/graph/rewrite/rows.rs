//! What stands around a product in int8: |x|, its largest in a row and a factor → [`Op::RowScales`]; y·rows +
//! bias → [`Op::ScaledRows`]. One pass over memory each, of operators of our own.

use super::{Rebuild, rebuild};
use crate::error::Result;
use crate::graph::{Graph, Node, Op, Value};
use crate::tensor::Dtype;

pub(super) fn rewrite(graph: &Graph) -> Result<Graph> {
    rebuild(graph, rule)
}

fn rule(r: &Rebuild<'_>, node: &Node) -> Result<Option<Value>> {
    if node.shape.rank() != 2 || node.dtype != Dtype::F32 || node.shape.is_empty() {
        return Ok(None);
    }
    match node.op {
        Op::Mul => match largest(r, node) {
            Some((x, factor)) => r.new.push(Op::RowScales { factor }, &[r.now(x)]).map(Some),
            None => Ok(None),
        },
        Op::Add => match scaled(r, node) {
            Some(operands) => r.new.push(Op::ScaledRows, &operands.map(|v| r.now(v))).map(Some),
            None => Ok(None),
        },
        _ => Ok(None),
    }
}

/// x and the factor of max |x|·factor.
fn largest(r: &Rebuild<'_>, node: &Node) -> Option<(Value, f32)> {
    let factor = r.number(node.inputs[1])?;
    let max =
        r.private(node.inputs[0]).filter(|n| n.op == Op::ReduceMax { axis: 1 } && n.shape == node.shape)?;
    let abs = r.private(max.inputs[0]).filter(|n| n.op == Op::Abs)?;
    Some((abs.inputs[0], factor))
}

/// y [M, N], rows [M, 1] and bias [N] of y·rows + bias.
fn scaled(r: &Rebuild<'_>, node: &Node) -> Option<[Value; 3]> {
    let [product, bias] = node.inputs[..] else { return None };
    let product = r.private(product).filter(|n| n.op == Op::Mul && n.shape == node.shape)?;
    let [y, rows] = product.inputs[..] else { return None };
    let [m, n] = node.shape[..] else { return None };
    let fits =
        r.node(y).shape == node.shape && r.node(rows).shape[..] == [m, 1] && r.node(bias).shape[..] == [n];
    fits.then_some([y, rows, bias])
}

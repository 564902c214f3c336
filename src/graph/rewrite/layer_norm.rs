//! LayerNormalization → SkipLayerNormalization, for a runtime whose kernel of the first is slow: of a sum of its operands, of
//! anything else with zeros. The values are those of the same formula.

use super::{Rebuild, rebuild};
use crate::error::Result;
use crate::graph::{Graph, Node, Op, Value};
use crate::tensor::{Dtype, Tensor};

pub(super) fn rewrite(graph: &Graph) -> Result<Graph> {
    rebuild(graph, rule)
}

fn rule(r: &Rebuild<'_>, node: &Node) -> Result<Option<Value>> {
    let Op::LayerNormalization { eps } = node.op else { return Ok(None) };
    if node.dtype != Dtype::F32 || node.shape.is_empty() || node.shape.rank() < 2 {
        return Ok(None);
    }
    let [x, scale, bias] = [0, 1, 2].map(|i| node.inputs[i]);
    let d = node.shape[node.shape.rank() - 1];
    // Rows apart from each other, so that the zeros are those of one.
    let flat = |v: Value| r.new.reshape(r.now(v), [node.shape.len() / d, 1, d]);
    let sum =
        r.private(x).filter(|n| n.op == Op::Add && n.inputs.iter().all(|&v| r.node(v).shape == n.shape));
    let (a, b) = match sum {
        Some(sum) => (flat(sum.inputs[0])?, flat(sum.inputs[1])?),
        None => (flat(x)?, r.new.constant(Tensor::from_f32([1, d], &vec![0.0; d]))?),
    };
    let y = r.new.skip_layer_normalization(a, b, r.now(scale), r.now(bias), eps)?;
    r.new.reshape(y, node.shape.clone()).map(Some)
}

//! Attention in plain ops → [`Op::Attention`], for which the runtime has a kernel that never holds all scores.
//!
//! y = softmax(c·q·kᵀ)·v of heads, as `nn::attention` writes it. Not where something else reads the scores or their
//! softmax, as a gradient does, and not with a mask.

use super::{Rebuild, rebuild};
use crate::error::Result;
use crate::graph::{Graph, Node, Op, Value};
use crate::tensor::Dtype;

pub(super) fn rewrite(graph: &Graph) -> Result<Graph> {
    rebuild(graph, rule)
}

/// Scores of a head from which on the fused kernel is the faster one, and the widest head for which it is. Its processor time was
/// 0.76 of that of the plain ops at 4096² scores of 8 heads of 64, 0.89 at 1101² of 8 of 128, 0.95 at 512² of 8 of 64; between 0.92 and
/// 1.05 at 257²; 1.15 at 1024² of one head of 512 (ONNX Runtime 1.28.0, one core of an AMD EPYC with AVX-512).
const FEWEST_SCORES: usize = 512 * 512;
const WIDEST_HEAD: usize = 256;

/// From [B, N, heads, d] to [B, heads, N, d] and back.
const HEADS_FIRST: [usize; 4] = [0, 2, 1, 3];
/// From [B, N, heads, d] to [B, heads, d, N].
const TRANSPOSED: [usize; 4] = [0, 2, 3, 1];

/// The operand of a Transpose by `perm`.
fn transposed(r: &Rebuild<'_>, v: Value, perm: &[usize]) -> Option<Value> {
    let node = r.node(v);
    matches!(&node.op, Op::Transpose { perm: p } if p == perm).then(|| node.inputs[0])
}

fn rule(r: &Rebuild<'_>, node: &Node) -> Result<Option<Value>> {
    let Some((scale, operands)) = matched(r, node) else { return Ok(None) };
    let heads = r.node(operands[0]).shape[2];
    let flat = operands.map(|v| {
        let s = &r.node(v).shape; // [B, N, heads, d]
        r.new.reshape(r.now(v), [s[0], s[1], s[2] * s[3]])
    });
    let [q, k, v] = flat;
    let y = r.new.attention(q?, k?, v?, heads, scale)?;
    r.new.reshape(y, node.shape.clone()).map(Some)
}

/// The factor, and q, k and v [B, N, heads, d], of the Transpose that ends an attention.
fn matched(r: &Rebuild<'_>, node: &Node) -> Option<(f32, [Value; 3])> {
    if !matches!(&node.op, Op::Transpose { perm } if *perm == HEADS_FIRST) || node.dtype != Dtype::F32 {
        return None;
    }
    let product = r.private(node.inputs[0]).filter(|n| n.op == Op::MatMul)?;
    let softmax = r.private(product.inputs[0]).filter(|n| n.op == Op::Softmax { axis: 3 })?;
    let scaled = r.private(softmax.inputs[0]).filter(|n| n.op == Op::Mul)?;
    let (scores, scale) = (r.private(scaled.inputs[0])?, r.number(scaled.inputs[1])?);
    // The kernel takes a scale of 0 for none given.
    if scale == 0.0 || scores.op != Op::MatMul || scaled.shape != scores.shape || scores.shape.is_empty() {
        return None;
    }
    let q = transposed(r, scores.inputs[0], &HEADS_FIRST)?;
    let k = transposed(r, scores.inputs[1], &TRANSPOSED)?;
    let v = transposed(r, product.inputs[1], &HEADS_FIRST)?;
    let [of_q, of_k, of_v] = [q, k, v].map(|v| &r.node(v).shape);
    if of_q[1] * of_k[1] < FEWEST_SCORES || of_q[3] > WIDEST_HEAD {
        return None;
    }
    // No broadcasting among them.
    (of_k == of_v && of_q[0] == of_k[0] && of_q[2..] == of_k[2..]).then_some((scale, [q, k, v]))
}

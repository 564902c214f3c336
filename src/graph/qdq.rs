//! Graphs for compilers of whole graphs, which know ONNX's own operators only and find int8 arithmetic by itself: a value that
//! is rounded and widened again, [`Op::QuantizeLinear`] and [`Op::DequantizeLinear`], before what reads it, and int8 weights
//! that are widened. With levels x ≈ sₓ·(xq − zₓ) such a compiler computes a convolution with kernels s·q as sₓ·s·Σ (xq − zₓ)·q.

use std::collections::{BTreeMap, BTreeSet};

use super::int8::{Known, Levels, Resolution, int8_kernels};
use super::{Graph, Node, Op, Value};
use crate::error::Result;
use crate::tensor::Dtype;

/// The graph where every convolution of which enough is known reads a rounded value: u8 over the range of what it reads.
/// Products keep their weights, int8 or not. Nothing changes for [`Resolution::Half`]: these compilers have 256 levels or none.
///
/// # Errors
/// None but of a graph that is not sound.
pub fn rounded(graph: &Graph, resolution: Resolution, known: Known) -> Result<Graph> {
    if resolution == Resolution::Half {
        return Ok(graph.clone());
    }
    let nodes = graph.nodes();
    let new = Graph::new();
    let mut map: Vec<Value> = Vec::with_capacity(nodes.len());
    for node in nodes.iter() {
        let mut inputs: Vec<Value> = node.inputs.iter().map(|v| map[v.index()]).collect();
        if let Some(ranges) = int8_kernels(&nodes, node).and_then(known) {
            inputs[0] = round(&new, inputs[0], &Levels::over(ranges.reads, 255.0))?;
        }
        map.push(new.push(node.op.clone(), &inputs)?);
    }
    for (name, v) in graph.outputs() {
        new.output(name, map[v.index()]);
    }
    Ok(new)
}

/// x, as its levels say it.
fn round(g: &Graph, x: Value, levels: &Levels) -> Result<Value> {
    let (scale, zero) = (g.scalar(levels.scale)?, g.cast(g.scalar(levels.zero)?, Dtype::U8)?);
    let rounded = g.push(Op::QuantizeLinear { zero_point: levels.zero as u8 }, &[x, scale])?;
    g.push(Op::DequantizeLinear { axis: 0 }, &[rounded, scale, zero])
}

/// The graph where every matrix is read as it is or as its transpose, not both: a gradient's products get a transposed matrix of
/// their own. OpenVINO 2026.4 takes the one for the other where a matrix is square, in f32.
///
/// # Errors
/// None but of a graph that is not sound.
pub fn read_one_way(graph: &Graph) -> Result<Graph> {
    let nodes = graph.nodes();
    let mut ways: BTreeMap<Value, BTreeSet<bool>> = BTreeMap::new();
    for node in nodes.iter() {
        if let Op::Gemm { trans_b, .. } = node.op {
            ways.entry(node.inputs[1]).or_default().insert(trans_b);
        }
    }
    ways.retain(|_, ways| ways.len() == 2);
    if ways.is_empty() {
        return Ok(graph.clone());
    }
    let new = Graph::new();
    let mut map: Vec<Value> = Vec::with_capacity(nodes.len());
    let mut turned: BTreeMap<Value, Value> = BTreeMap::new();
    for node in nodes.iter() {
        let mut inputs: Vec<Value> = node.inputs.iter().map(|v| map[v.index()]).collect();
        let mut op = node.op.clone();
        if let Op::Gemm { trans_b, .. } = &mut op {
            let old = node.inputs[1];
            let matrix = &nodes[old.index()];
            if ways.contains_key(&old) && *trans_b == is_across(matrix) {
                let own = match turned.get(&old) {
                    Some(&own) => own,
                    None => transposed(&new, matrix, map[old.index()], &map)?,
                };
                turned.insert(old, own);
                (inputs[1], *trans_b) = (own, !*trans_b);
            }
        }
        map.push(new.push(op, &inputs)?);
    }
    for (name, v) in graph.outputs() {
        new.output(name, map[v.index()]);
    }
    Ok(new)
}

/// Whether this matrix lies [K, N], so that its transpose is a gradient's: stored for int8 arithmetic.
fn is_across(matrix: &Node) -> bool {
    matches!(matrix.op, Op::DequantizeLinear { axis: 1 })
}

/// The transpose of a matrix, whose int8 values are turned before they are widened.
fn transposed(g: &Graph, matrix: &Node, now: Value, map: &[Value]) -> Result<Value> {
    match matrix.op {
        Op::DequantizeLinear { axis } if matrix.inputs.len() == 2 => {
            let [q, scale] = [0, 1].map(|i| map[matrix.inputs[i].index()]);
            g.push(Op::DequantizeLinear { axis: 1 - axis }, &[g.transpose(q, &[1, 0])?, scale])
        }
        _ => g.transpose(now, &[1, 0]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::Ranges;

    fn count(graph: &Graph, is: impl Fn(&Op) -> bool) -> usize {
        graph.nodes().iter().filter(|n| is(&n.op)).count()
    }

    #[test]
    fn no_matrix_is_read_both_ways() -> Result<()> {
        for across in [false, true] {
            let g = Graph::new();
            let x = g.input("x", Dtype::F32, [3, 4])?;
            let w = match across {
                false => g.weight("w", Dtype::F32, [4, 4])?,
                true => {
                    let (q, s) = (g.weight("w", Dtype::I8, [4, 4])?, g.weight("s", Dtype::F32, [4])?);
                    g.push(Op::DequantizeLinear { axis: 1 }, &[q, s])?
                }
            };
            for trans_b in [false, true, false, true] {
                let y = g.gemm(x, w, None, false, trans_b)?;
                g.output(format!("y{}", g.nodes().len()), y);
            }
            let separate = read_one_way(&g)?;
            let nodes = separate.nodes();
            let mut ways: BTreeMap<Value, BTreeSet<bool>> = BTreeMap::new();
            for node in nodes.iter() {
                if let Op::Gemm { trans_b, .. } = node.op {
                    ways.entry(node.inputs[1]).or_default().insert(trans_b);
                }
            }
            // Two matrices, and both products that read the matrix as it is stored do so still.
            assert_eq!(ways.values().map(BTreeSet::len).collect::<Vec<_>>(), [1, 1], "{across}");
            assert!(ways.values().all(|ways| ways.contains(&!across)), "{across}: {ways:?}");
            assert_eq!(count(&separate, |op| matches!(op, Op::Transpose { .. })), 1);
        }
        Ok(())
    }

    #[test]
    fn convolutions_of_known_ranges_read_levels() -> Result<()> {
        let g = Graph::new();
        let x = g.input("x", Dtype::F32, [1, 16, 4, 4])?;
        let (q, s) = (g.weight("k", Dtype::I8, [16, 16, 1, 1])?, g.weight("s", Dtype::F32, [16])?);
        let w = g.push(Op::DequantizeLinear { axis: 0 }, &[q, s])?;
        g.output("y", g.conv(x, w, None, [1, 1], [0; 4], 1)?);
        let ranges = Ranges { reads: [-1.0, 3.0], writes: vec![[-1.0, 1.0]; 16] };
        let quantized = |graph: &Graph| count(graph, |op| matches!(op, Op::QuantizeLinear { zero_point: 64 }));
        let known = |name: &str| (name == "k").then(|| ranges.clone());
        assert_eq!(quantized(&rounded(&g, Resolution::Full, &known)?), 1);
        assert_eq!(quantized(&rounded(&g, Resolution::Half, &known)?), 0);
        assert_eq!(quantized(&rounded(&g, Resolution::Full, &|_| None)?), 0);
        Ok(())
    }
}

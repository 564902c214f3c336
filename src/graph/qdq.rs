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

/// Whether values are rounded in `graph`.
pub fn rounds(graph: &Graph) -> bool {
    graph.nodes().iter().any(|n| matches!(n.op, Op::QuantizeLinear { .. }))
}

/// x, as its levels say it.
fn round(g: &Graph, x: Value, levels: &Levels) -> Result<Value> {
    let (scale, zero) = (g.scalar(levels.scale)?, g.cast(g.scalar(levels.zero)?, Dtype::U8)?);
    let rounded = g.push(Op::QuantizeLinear { zero_point: levels.zero as u8 }, &[x, scale])?;
    g.push(Op::DequantizeLinear { axis: 0 }, &[rounded, scale, zero])
}

/// The graph where all that reads a matrix, or kernels, reads them the same way: what a gradient reads the other way round gets
/// weights of its own. OpenVINO 2026.4 packs a square matrix, or kernels of as many channels as they write, once for both ways
/// in f32, and computes one of them with what was packed for the other.
///
/// # Errors
/// None but of a graph that is not sound.
pub fn read_one_way(graph: &Graph) -> Result<Graph> {
    let nodes = graph.nodes();
    let mut ways: BTreeMap<Value, BTreeSet<bool>> = BTreeMap::new();
    for node in nodes.iter() {
        if let Some(back) = reads_back(&nodes, node) {
            ways.entry(node.inputs[1]).or_default().insert(back);
        }
    }
    ways.retain(|_, ways| ways.len() == 2);
    if ways.is_empty() {
        return Ok(graph.clone());
    }
    let new = Graph::new();
    let mut map: Vec<Value> = Vec::with_capacity(nodes.len());
    let mut own: BTreeMap<Value, Value> = BTreeMap::new();
    for node in nodes.iter() {
        let mut inputs: Vec<Value> = node.inputs.iter().map(|v| map[v.index()]).collect();
        if reads_back(&nodes, node) != Some(true) || !ways.contains_key(&node.inputs[1]) {
            map.push(new.push(node.op.clone(), &inputs)?);
            continue;
        }
        let old = node.inputs[1];
        let weights = &nodes[old.index()];
        let turns = matches!((&node.op, &weights.op), (Op::Gemm { .. }, Op::DequantizeLinear { .. }))
            && weights.inputs.len() == 2;
        inputs[1] = match own.get(&old) {
            Some(&weights) => weights,
            None => {
                let weights = if turns { turned(&new, weights, &map)? } else { new.neg(inputs[1])? };
                own.insert(old, weights);
                weights
            }
        };
        map.push(match node.op {
            Op::Gemm { trans_a, trans_b } if turns => {
                new.push(Op::Gemm { trans_a, trans_b: !trans_b }, &inputs)?
            }
            // x·W + c = −(x·(−W) − c), to the last bit. A transposed matrix would be taken for a way to read the first one.
            _ => {
                if let Some(c) = inputs.get_mut(2) {
                    *c = new.neg(*c)?;
                }
                new.neg(new.push(node.op.clone(), &inputs)?)?
            }
        });
    }
    for (name, v) in graph.outputs() {
        new.output(name, map[v.index()]);
    }
    Ok(new)
}

/// The transpose of an int8 matrix: its values are turned before they are widened.
fn turned(g: &Graph, matrix: &Node, map: &[Value]) -> Result<Value> {
    let Op::DequantizeLinear { axis } = matrix.op else { unreachable!("an int8 matrix") };
    let [q, scale] = [0, 1].map(|i| map[matrix.inputs[i].index()]);
    g.push(Op::DequantizeLinear { axis: 1 - axis }, &[g.transpose(q, &[1, 0])?, scale])
}

/// Of what multiplies by weights: whether it reads them as gradients do, against the order in which they are stored.
fn reads_back(nodes: &[Node], node: &Node) -> Option<bool> {
    let weights = &nodes[node.inputs.get(1)?.index()];
    match node.op {
        // [N, K], or [K, N] where they are laid out for int8 arithmetic.
        Op::Gemm { trans_b, .. } => Some(trans_b == matches!(weights.op, Op::DequantizeLinear { axis: 1 })),
        Op::Conv { .. } => Some(false),
        Op::ConvTranspose { .. } => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::graph::eval;
    use crate::quant::Ranges;
    use crate::tensor::Tensor;

    fn count(graph: &Graph, is: impl Fn(&Op) -> bool) -> usize {
        graph.nodes().iter().filter(|n| is(&n.op)).count()
    }

    /// Which weights `graph` reads, and how.
    fn ways(graph: &Graph) -> BTreeMap<Value, BTreeSet<bool>> {
        let nodes = graph.nodes();
        let mut ways: BTreeMap<Value, BTreeSet<bool>> = BTreeMap::new();
        for node in nodes.iter() {
            let way = match node.op {
                Op::Gemm { trans_b, .. } => trans_b,
                Op::Conv { .. } => false,
                Op::ConvTranspose { .. } => true,
                _ => continue,
            };
            ways.entry(node.inputs[1]).or_default().insert(way);
        }
        ways
    }

    #[test]
    fn no_weights_are_read_both_ways() -> Result<()> {
        let random = |shape: &[usize]| {
            let n: usize = shape.iter().product();
            Tensor::from_f32(shape, &(0..n).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>())
        };
        for stored in ["f32", "rows", "across", "kernels"] {
            let g = Graph::new();
            let shape: &[usize] = if stored == "kernels" { &[4, 4, 3, 3] } else { &[4, 4] };
            let int8 = || {
                let q: Vec<i64> = (0..16).map(|i| (i * 37) % 255 - 127).collect();
                let q = g.cast(g.constant(Tensor::from_i64([4, 4], &q))?, Dtype::I8)?;
                Ok::<_, crate::error::Error>([q, g.constant(random(&[4]))?])
            };
            let w = match stored {
                "rows" => g.push(Op::DequantizeLinear { axis: 0 }, &int8()?)?,
                "across" => g.push(Op::DequantizeLinear { axis: 1 }, &int8()?)?,
                _ => g.constant(random(shape))?,
            };
            for back in [false, true, false, true] {
                let y = if stored == "kernels" {
                    let x = g.constant(random(&[1, 4, 5, 5]))?;
                    let (strides, pads) = ([1, 1], [1; 4]);
                    match back {
                        false => g.conv(x, w, None, strides, pads, 1)?,
                        true => g.push(Op::ConvTranspose { strides, pads, group: 1 }, &[x, w])?,
                    }
                } else {
                    let (x, c) = (g.constant(random(&[3, 4]))?, g.constant(random(&[4]))?);
                    g.gemm(x, w, Some(c), false, back != (stored == "f32" || stored == "rows"))?
                };
                g.output(format!("y{}", g.nodes().len()), y);
            }
            let separate = read_one_way(&g)?;
            assert_eq!(ways(&g).len(), 1);
            assert_eq!(ways(&separate).values().map(BTreeSet::len).collect::<Vec<_>>(), [1, 1], "{stored}");
            let turned = count(&separate, |op| matches!(op, Op::Transpose { .. }));
            assert_eq!(turned, usize::from(stored == "rows" || stored == "across"), "{stored}");
            // The same values.
            let [expected, found] = [&g, &separate].map(|g| eval::eval(g, &HashMap::new()).unwrap());
            for ((name, expected), (_, found)) in expected.iter().zip(&found) {
                assert_eq!(expected.data, found.data, "{stored} {name}");
            }
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
        let quantized =
            |graph: &Graph| count(graph, |op| matches!(op, Op::QuantizeLinear { zero_point: 64 }));
        let known = |name: &str| (name == "k").then(|| ranges.clone());
        assert_eq!(quantized(&rounded(&g, Resolution::Full, &known)?), 1);
        assert_eq!(quantized(&rounded(&g, Resolution::Half, &known)?), 0);
        assert_eq!(quantized(&rounded(&g, Resolution::Full, &|_| None)?), 0);
        Ok(())
    }
}

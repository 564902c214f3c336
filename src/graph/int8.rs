//! int8 arithmetic: products with weights that are stored for it become exact products of integers.
//!
//! A matrix is stored for it when its scales belong to the columns of the stored array, W = q·diag(s) with q [K, N]
//! (`DequantizeLinear` along axis 1): the layout in which integer kernels read it. With rows of x rounded to their own
//! scales (per-token dynamic quantisation, arXiv 2211.10438 §4.1), sᵣ = max |x[r, ..]| / L,
//!
//! ```text
//! x·W ≈ diag(sᵣ) · (round(x / sᵣ) · q) · diag(s)
//! x·Wᵀ ≈ diag(sᵣ) · (round(x·diag(s) / sᵣ) · qᵀ)
//! ```
//!
//! The second is a gradient's. Where there is one, products of both kinds add what rounding took off, rounded in its turn:
//! x ≈ sᵣ·(h + l/2L) with integers h and l in −L..L. A gradient follows the function at hand, and one of coarsely rounded
//! activations is another function; and what is rounded on the way back is off through all layers.
//! `the_bundled_models_gradient_is_that_of_f32` prints how near it is. The picture of what was climbed is made without it.
//!
//! No row depends on another one. A convolution whose kernels q [O, C, k, k] are int8
//! with scales of their rows, and of which is known what it reads and writes, rounds both to u8 over these ranges: with levels
//! x ≈ sₓ·(xq − zₓ), ONNX Runtime's kernels compute (Σ (xq − zₓ)·q)·sₓ·s/t + z, rounded. The pass runs over a finished graph, its gradient
//! included: a gradient is that of the widened weights, computed with the same arithmetic.

use std::collections::BTreeSet;

use super::{Graph, Node, Op, Value, recompute};
use crate::error::Result;
use crate::quant::Ranges;
use crate::tensor::{Dtype, Tensor};

/// How finely activations are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// L = 127. For processors whose kernels add products of bytes in 32 bits.
    Full,
    /// L = 63. Kernels of x86 without VNNI add pairs of products u8·i8 in 16 bits, which saturate at 32767: with u8 up
    /// to 127 and |i8| ≤ 127 a pair is at most 2·127·127 = 32258.
    Half,
}

impl Resolution {
    /// L, and the level of 0: levels are 1..=2·L + 1.
    fn levels(self) -> (f32, u8) {
        match self {
            Resolution::Full => (127.0, 128),
            Resolution::Half => (63.0, 64),
        }
    }
}

/// Most products in a sum whose total, at most 255·127 each, is at most 2³⁰.
const LONGEST: usize = (1 << 30) / (255 * 127);

/// What is known of a convolution's values by the name of its kernels.
pub type Known<'a> = &'a dyn Fn(&str) -> Option<Ranges>;

/// The graph with every product of a matrix that is stored for int8, and every convolution of which enough is known, in
/// integers. Values change by rounding.
pub fn in_integers(graph: &Graph, resolution: Resolution, known: Known) -> Result<Graph> {
    let nodes = graph.nodes();
    let new = Graph::new();
    let differentiated =
        nodes.iter().any(|n| StoredMatrix::of_product(&nodes, n).is_some_and(|m| m.transposed));
    let constant = constant(&nodes);
    let mut map: Vec<Value> = Vec::with_capacity(nodes.len());
    for node in nodes.iter() {
        let inputs: Vec<Value> = node.inputs.iter().map(|v| map[v.index()]).collect();
        let product_of = StoredMatrix::of_product(&nodes, node);
        let ranges = int8_kernels(&nodes, node).and_then(known);
        map.push(match (product_of, ranges) {
            (Some(stored), _) => {
                let [q, scale] = stored.values.map(|v| map[v.index()]);
                product(&new, &inputs, (q, scale, stored.transposed), resolution, differentiated)?
            }
            (None, Some(ranges))
                if ranges.writes.len() == node.shape[1] && adds_a_constant(&nodes, &constant, node) =>
            {
                let [q, scale] = stored(&nodes, &nodes[node.inputs[1].index()]).map(|v| map[v.index()]);
                let mut inputs = inputs;
                if let [_, _, bias] = node.inputs[..] {
                    inputs[2] = map[recompute::at_any_time(&nodes, bias).index()];
                }
                convolution(&new, node, &inputs, (q, scale), &ranges, resolution)?
            }
            (None, _) => new.push(node.op.clone(), &inputs)?,
        });
    }
    for (name, v) in graph.outputs() {
        new.output(name, map[v.index()]);
    }
    Ok(new)
}

/// Whether [`in_integers`] may change anything.
pub fn applies(graph: &Graph) -> bool {
    let nodes = graph.nodes();
    nodes.iter().any(|n| StoredMatrix::of_product(&nodes, n).is_some() || int8_kernels(&nodes, n).is_some())
}

/// Whether the graph has a product of a matrix that is stored for int8: not of one that was turned to be read so.
pub fn multiplies(graph: &Graph) -> bool {
    let nodes = graph.nodes();
    let as_it_lies = |m: StoredMatrix| matches!(nodes[m.values[0].index()].op, Op::Weight { .. });
    nodes.iter().any(|n| StoredMatrix::of_product(&nodes, n).is_some_and(as_it_lies))
}

/// Fewest channels, read and written, of a convolution in int8. The first and the last one of a network, which read and write
/// a few, have little to compute and most to lose.
const CHANNELS: usize = 16;

/// The name of the kernels of a convolution that may be computed in int8: that they are int8 weights, or, of a graph in
/// floats, that they are weights.
fn kernels<'a>(nodes: &'a [Node], node: &Node) -> Option<&'a str> {
    let Op::Conv { group: 1, .. } = node.op else { return None };
    let weight = &nodes[node.inputs[1].index()];
    let shape = &weight.shape;
    if shape[0].min(shape[1]) < CHANNELS || shape[1..].iter().product::<usize>() > LONGEST {
        return None;
    }
    let stored = match weight.op {
        Op::DequantizeLinear { axis: 0 } | Op::Cast { .. } => &nodes[weight.inputs[0].index()],
        _ => weight,
    };
    match &stored.op {
        Op::Weight { name, .. } => Some(name),
        _ => None,
    }
}

/// [`kernels`] that are int8: the operand is their values and scales.
pub(super) fn int8_kernels<'a>(nodes: &'a [Node], node: &Node) -> Option<&'a str> {
    let name = kernels(nodes, node)?;
    let weight = &nodes[node.inputs[1].index()];
    (matches!(weight.op, Op::DequantizeLinear { axis: 0 }) && is_symmetric(nodes, weight)).then_some(name)
}

/// The values and scales of a [`Op::DequantizeLinear`], as they are stored: what is not expanded may be read at any time.
fn stored(nodes: &[Node], node: &Node) -> [Value; 2] {
    [0, 1].map(|i| recompute::at_any_time(nodes, node.inputs[i]))
}

/// Of each node, whether it is computed from weights and constants alone.
fn constant(nodes: &[Node]) -> Vec<bool> {
    let mut constant = vec![false; nodes.len()];
    for (i, node) in nodes.iter().enumerate() {
        let source = matches!(node.op, Op::Weight { .. } | Op::Constant { .. });
        constant[i] = source || !node.inputs.is_empty() && node.inputs.iter().all(|v| constant[v.index()]);
    }
    constant
}

/// Whether the bias of a convolution in integers would be constant: ONNX Runtime 1.28's QLinearConv reads it when it packs kernels, and
/// leaves out one that is computed, without a word.
fn adds_a_constant(nodes: &[Node], constant: &[bool], conv: &Node) -> bool {
    let [_, scale] = stored(nodes, &nodes[conv.inputs[1].index()]);
    constant[scale.index()]
        && conv.inputs.get(2).is_none_or(|&bias| constant[recompute::at_any_time(nodes, bias).index()])
}

/// Whether a [`Op::DequantizeLinear`] is of i8 around 0.
fn is_symmetric(nodes: &[Node], node: &Node) -> bool {
    node.inputs.len() == 2 && nodes[node.inputs[0].index()].dtype == Dtype::I8
}

/// The convolutions that may be computed in int8: the name of their kernels, what they read, what they write.
pub fn convolutions(graph: &Graph) -> Vec<(String, [Value; 2])> {
    let nodes = graph.nodes();
    let found = nodes.iter().enumerate().filter_map(|(i, node)| {
        Some((kernels(&nodes, node)?.to_string(), [node.inputs[0], Value(i as u32)]))
    });
    found.collect()
}

/// Weights that convolutions in integers are made of: ONNX Runtime is fast at these only where they are constants.
pub fn constants(graph: &Graph) -> BTreeSet<String> {
    let nodes = graph.nodes();
    let mut needed = vec![false; nodes.len()];
    let mut names = BTreeSet::new();
    for (i, node) in nodes.iter().enumerate().rev() {
        match &node.op {
            Op::QLinearConv { .. } => node.inputs[1..].iter().for_each(|v| needed[v.index()] = true),
            Op::Weight { name, .. } if needed[i] => drop(names.insert(name.clone())),
            _ if needed[i] => node.inputs.iter().for_each(|v| needed[v.index()] = true),
            _ => {}
        }
    }
    names
}

/// Names of the matrices that `graph` reads for nothing but products x·Wᵀ, whatever dtype they are stored in, and of
/// the other weights that it reads.
pub fn matrices(graph: &Graph) -> (BTreeSet<String>, BTreeSet<String>) {
    let nodes = graph.nodes();
    // Of each value, the matrix that it stands for.
    let mut of: Vec<Option<&str>> = vec![None; nodes.len()];
    let (mut matrices, mut others) = (BTreeSet::new(), BTreeSet::new());
    for (i, node) in nodes.iter().enumerate() {
        match &node.op {
            Op::Weight { name, shape, .. } => {
                matrices.insert(name.clone());
                of[i] = Some(name);
                if shape.rank() != 2 {
                    others.insert(name.clone());
                }
            }
            Op::Cast { .. } | Op::DequantizeLinear { axis: 0 } => of[i] = of[node.inputs[0].index()],
            _ => {}
        }
        for (at, input) in node.inputs.iter().enumerate() {
            let Some(name) = of[input.index()] else { continue };
            let read_as_it_is = of[i].is_some() && at == 0;
            let multiplied = at == 1 && matches!(node.op, Op::Gemm { trans_b: true, .. });
            if !(read_as_it_is || multiplied) {
                others.insert(name.into());
            }
        }
    }
    others.extend(graph.outputs().iter().filter_map(|(_, v)| of[v.index()].map(String::from)));
    matrices.retain(|name| !others.contains(name));
    (matrices, others)
}

/// The second operand of a product: q [K, N] with scales of its columns, or its transpose.
struct StoredMatrix {
    /// q and its scales.
    values: [Value; 2],
    transposed: bool,
}

impl StoredMatrix {
    fn of_product(nodes: &[Node], node: &Node) -> Option<StoredMatrix> {
        let Op::Gemm { trans_a: false, trans_b } = node.op else { return None };
        let (mut matrix, mut transposed) = (&nodes[node.inputs[1].index()], trans_b);
        if let Op::Transpose { perm } = &matrix.op
            && perm[..] == [1, 0]
        {
            (matrix, transposed) = (&nodes[matrix.inputs[0].index()], !transposed);
        }
        let Op::DequantizeLinear { axis: 1 } = matrix.op else { return None };
        let values = stored(nodes, matrix);
        let q = &nodes[values[0].index()];
        let fits = is_symmetric(nodes, matrix)
            && nodes[values[1].index()].shape.rank() == 1
            && q.shape[usize::from(transposed)] <= LONGEST;
        fits.then_some(StoredMatrix { values, transposed })
    }
}

/// x [M, K] times the stored matrix, plus c; `finely`, with what rounding took off.
fn product(
    g: &Graph,
    operands: &[Value],
    (q, scale, transposed): (Value, Value, bool),
    resolution: Resolution,
    finely: bool,
) -> Result<Value> {
    let (x, c) = (operands[0], operands.get(2));
    let (largest, zero_point) = resolution.levels();
    let (x, q, scale) = match transposed {
        false => (x, q, scale),
        true => {
            let qt = g.transpose(q, &[1, 0])?;
            let ones = g.expand(g.scalar(1.0)?, [g.shape(qt)[1]])?;
            (g.mul(x, scale)?, qt, ones)
        }
    };
    let rows = g.mul_scalar(g.reduce_max(g.abs(x)?, 1)?, 1.0 / largest)?; // [M, 1]
    let flat = g.reshape(rows, [g.shape(rows)[0]])?;
    let round = |x: Value, scale: Value| g.push(Op::QuantizeLinear { zero_point }, &[x, scale]);
    let times_q = |levels: Value| g.push(Op::MatMulIntegerToFloat { zero_point }, &[levels, q, scale]);
    let levels = round(x, flat)?;
    let mut y = times_q(levels)?;
    if finely {
        let zeros = g.cast(g.expand(g.scalar(zero_point.into())?, g.shape(flat))?, Dtype::U8)?;
        let rest = g.sub(x, g.push(Op::DequantizeLinear { axis: 0 }, &[levels, flat, zeros])?)?;
        let unit = 1.0 / (2.0 * largest);
        y = g.add(y, g.mul_scalar(times_q(round(rest, g.mul_scalar(flat, unit)?)?)?, unit)?)?;
    }
    // A row of zeros has the scale 0: whatever its levels are, the result is 0.
    let y = g.mul(y, rows)?;
    c.map_or(Ok(y), |&c| g.add(y, c))
}

/// What levels of u8 stand for: (level − zero)·scale.
pub(super) struct Levels {
    pub scale: f32,
    pub zero: f32,
}

impl Levels {
    /// Levels 0..=`most` over a range, 0 exactly one of them.
    pub fn over([low, high]: [f32; 2], most: f32) -> Levels {
        let scale = ((high - low) / most).max(f32::MIN_POSITIVE);
        Levels { scale, zero: (-low / scale).round().clamp(0.0, most) }
    }
}

/// A convolution of x with q [O, C, k, k] in units of `scale` \[O\], plus a bias. Every channel of the result has levels of its
/// own: with those of channel o (t, z), the kernel's scale becomes sₓ·s/t, and z is added as a bias of z·t.
fn convolution(
    g: &Graph,
    node: &Node,
    operands: &[Value],
    (q, scale): (Value, Value),
    ranges: &Ranges,
    resolution: Resolution,
) -> Result<Value> {
    let Op::Conv { strides, pads, .. } = node.op else { unreachable!("a convolution") };
    let most = match resolution {
        Resolution::Full => 255.0,
        Resolution::Half => 127.0,
    };
    let x = Levels::over(ranges.reads, most);
    let y: Vec<Levels> = ranges.writes.iter().map(|&range| Levels::over(range, 255.0)).collect();
    let per_channel = |f: &dyn Fn(&Levels) -> f32| {
        g.constant(Tensor::from_f32([y.len()], &y.iter().map(f).collect::<Vec<_>>()))
    };
    let (units, x_zero) = (per_channel(&|y| y.scale)?, x.zero as u8);

    // Enlarged after it was rounded: the same numbers, a sixteenth of the bytes.
    let enlarged = match &g.nodes()[operands[0].index()] {
        Node { op: op @ Op::Resize { .. }, inputs, .. } => Some((op.clone(), inputs[0])),
        _ => None,
    };
    let (resize, mut read) = enlarged.map_or((None, operands[0]), |(op, small)| (Some(op), small));
    if resolution == Resolution::Half {
        read = g.clip(read, -x.zero * x.scale, (most - x.zero) * x.scale)?;
    }
    let mut levels = g.push(Op::QuantizeLinear { zero_point: x_zero }, &[read, g.scalar(x.scale)?])?;
    if let Some(resize) = resize {
        levels = g.push(resize, &[levels])?;
    }
    // Of kernels that are all zeros the scale is 0, in which no bias can be measured: any other does, such as a fraction of a level.
    let fine = per_channel(&|y| y.scale / (256.0 * x.scale))?;
    let scale = g.where_(g.equal(scale, g.scalar(0.0)?)?, fine, scale)?;
    let sums = g.mul_scalar(scale, x.scale)?; // what 1 in a sum of products stands for
    let mut bias = per_channel(&|y| (y.zero - MIDDLE) * y.scale)?;
    if let Some(&given) = operands.get(2) {
        bias = g.add(bias, given)?;
    }
    let bias = g.clip(g.div(bias, sums)?, -BIAS_LIMIT, BIAS_LIMIT)?;
    let bias = g.cast(g.add(bias, g.mul_scalar(g.sign(bias)?, 0.5)?)?, Dtype::I32)?;
    let conv = Op::QLinearConv { strides, pads, x_zero, y_zero: MIDDLE as u8, channels_last: false };
    let result = g.push(conv, &[levels, q, g.div(sums, units)?, bias])?;
    let zero = g.cast(per_channel(&|y| y.zero)?, Dtype::U8)?;
    g.push(Op::DequantizeLinear { axis: 1 }, &[result, units, zero])
}

/// The level of 0 that the kernel knows, one for all channels.
const MIDDLE: f32 = 128.0;

/// Largest bias of a convolution in units of its sums: with them it fits 32 bits.
const BIAS_LIMIT: f32 = (1 << 30) as f32;

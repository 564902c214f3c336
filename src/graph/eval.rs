//! Naive reference evaluator: plain loops in f64, one function per op family. It is the meaning of the
//! ops (tests compare ONNX Runtime and every gradient against it) and folds constants in `simplify`.

use std::collections::HashMap;

use super::{Graph, Node, Op, Value, fused};
use crate::error::{Error, Result};
use crate::tensor::{Dtype, Shape};

/// A tensor of the evaluator: every dtype is held as f64 (exact for integers up to 2^53).
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub shape: Shape,
    pub data: Vec<f64>,
}

impl Array {
    /// Panics when `data` does not fill `shape` (test code only hands in matching sizes).
    pub fn new(shape: impl Into<Shape>, data: Vec<f64>) -> Array {
        let shape = shape.into();
        assert_eq!(shape.len(), data.len(), "data fills shape");
        Array { shape, data }
    }
}

/// Evaluate the named results of `graph`. `feeds` holds inputs and weights by name.
pub fn eval(graph: &Graph, feeds: &HashMap<String, Array>) -> Result<Vec<(String, Array)>> {
    let outputs = graph.outputs();
    let values: Vec<Value> = outputs.iter().map(|(_, v)| *v).collect();
    let results = eval_values(graph, &values, feeds)?;
    Ok(outputs.into_iter().map(|(name, _)| name).zip(results).collect())
}

/// Evaluate any values of `graph`.
pub fn eval_values(graph: &Graph, wanted: &[Value], feeds: &HashMap<String, Array>) -> Result<Vec<Array>> {
    let nodes = graph.nodes();
    let mut needed = vec![false; nodes.len()];
    for v in wanted {
        needed[v.index()] = true;
    }
    for i in (0..nodes.len()).rev() {
        if needed[i] {
            for v in &nodes[i].inputs {
                needed[v.index()] = true;
            }
        }
    }
    let mut done: Vec<Option<Array>> = vec![None; nodes.len()];
    for (i, node) in nodes.iter().enumerate() {
        if needed[i] {
            let inputs: Vec<&Array> = node.inputs.iter().map(|v| done[v.index()].as_ref().unwrap()).collect();
            done[i] = Some(eval_node(node, &inputs, feeds)?);
        }
    }
    Ok(wanted.iter().map(|v| done[v.index()].clone().unwrap()).collect())
}

/// Flat index into an operand of shape `from` for flat index `flat` of the broadcast shape `to`.
fn broadcast_index(flat: usize, to: &Shape, from: &Shape) -> usize {
    let (mut rest, mut index, mut stride) = (flat, 0, 1);
    for axis in (0..to.rank()).rev() {
        let coordinate = rest % to[axis];
        rest /= to[axis];
        if let Some(k) = (axis + from.rank()).checked_sub(to.rank()) {
            if from[k] != 1 {
                index += coordinate * stride;
            }
            stride *= from[k];
        }
    }
    index
}

/// Coordinates of a flat index.
fn coordinates(mut flat: usize, shape: &Shape) -> Vec<usize> {
    let mut c = vec![0; shape.rank()];
    for axis in (0..shape.rank()).rev() {
        c[axis] = flat % shape[axis];
        flat /= shape[axis];
    }
    c
}

/// Build an array by asking `f` for each element's coordinates.
fn tabulate(shape: &Shape, mut f: impl FnMut(&[usize]) -> f64) -> Array {
    let data = (0..shape.len()).map(|i| f(&coordinates(i, shape))).collect();
    Array { shape: shape.clone(), data }
}

/// The number of `scale`, one for all elements or one for each index of `axis`, that goes with a flat index.
fn per_index<'a>(scale: &'a Array, shape: &'a Shape, axis: usize) -> impl Fn(usize) -> f64 + 'a {
    let inner = shape[(axis + 1).min(shape.rank())..].iter().product::<usize>().max(1);
    move |flat| scale.data[if scale.shape.rank() == 0 { 0 } else { flat / inner % scale.data.len() }]
}

/// x, rounded to nearest, ties to even, as a level of u8.
fn to_level(x: f64, zero_point: u8) -> f64 {
    let q = x.round_ties_even() + f64::from(zero_point);
    // What is not a number is a level as well.
    if q.is_nan() { 0.0 } else { q.clamp(0.0, 255.0) }
}

fn at(a: &Array, c: &[usize]) -> f64 {
    a.data[c.iter().zip(a.shape.iter()).fold(0, |flat, (i, n)| flat * n + i)]
}

/// Result `[outer, inner]` lanes along `axis`: calls `f` with each lane's elements and collects its result.
fn lanes(x: &Array, axis: usize, mut f: impl FnMut(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let inner: usize = x.shape[axis + 1..].iter().product();
    let n = x.shape[axis];
    let outer: usize = x.shape[..axis].iter().product();
    let mut result: Vec<Vec<f64>> = Vec::new();
    for o in 0..outer {
        for i in 0..inner {
            let lane: Vec<f64> = (0..n).map(|k| x.data[(o * n + k) * inner + i]).collect();
            result.push(f(&lane));
        }
    }
    let m = result.first().map_or(0, Vec::len);
    let mut data = vec![0.0; outer * m * inner];
    for (j, lane) in result.into_iter().enumerate() {
        let (o, i) = (j / inner, j % inner);
        for (k, v) in lane.into_iter().enumerate() {
            data[(o * m + k) * inner + i] = v;
        }
    }
    data
}

/// Sums over `axes` and the count of elements in each sum.
fn reduce(x: &Array, axes: &[usize], shape: &Shape) -> (Vec<f64>, f64) {
    let mut sums = vec![0.0; shape.len()];
    let strides = shape.strides();
    for (flat, v) in x.data.iter().enumerate() {
        let c = coordinates(flat, &x.shape);
        let at: usize = (0..c.len()).map(|k| if axes.contains(&k) { 0 } else { c[k] * strides[k] }).sum();
        sums[at] += v;
    }
    (sums, x.shape.len() as f64 / shape.len() as f64)
}

/// Φ(x), the standard normal distribution function.
fn phi(x: f64) -> f64 {
    0.5 * (1.0 + libm::erf(x / std::f64::consts::SQRT_2))
}

/// (x − mean) / sqrt(var + eps) over one lane.
fn normalize(lane: &[f64], eps: f64) -> Vec<f64> {
    let n = lane.len() as f64;
    let mean = lane.iter().sum::<f64>() / n;
    let var = lane.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    lane.iter().map(|v| (v - mean) / (var + eps).sqrt()).collect()
}

/// One node on the values of its operands.
pub(super) fn eval_node(node: &Node, inputs: &[&Array], feeds: &HashMap<String, Array>) -> Result<Array> {
    let shape = &node.shape;
    let array = |data: Vec<f64>| Array { shape: shape.clone(), data };
    let map = |f: &dyn Fn(f64) -> f64| array(inputs[0].data.iter().map(|&x| f(x)).collect());
    let zip = |f: &dyn Fn(f64, f64) -> f64| {
        let (a, b) = (inputs[0], inputs[1]);
        array(
            (0..shape.len())
                .map(|i| {
                    f(
                        a.data[broadcast_index(i, shape, &a.shape)],
                        b.data[broadcast_index(i, shape, &b.shape)],
                    )
                })
                .collect(),
        )
    };
    let truth = |b: bool| if b { 1.0 } else { 0.0 };
    Ok(match &node.op {
        Op::Input { name, .. } | Op::Weight { name, .. } => match feeds.get(name) {
            Some(a) if a.shape == *shape => a.clone(),
            Some(a) => return Err(Error::invalid(format!("feed '{name}'"), shape.to_string(), &a.shape)),
            None => return Err(Error::invalid(format!("feed '{name}'"), shape.to_string(), "nothing")),
        },
        Op::Constant { value } => array(value.to_f64()),
        Op::Abs => map(&f64::abs),
        Op::Clip { min, max } => map(&|x| x.clamp(f64::from(*min), f64::from(*max))),
        Op::Cos => map(&f64::cos),
        Op::Erf => map(&libm::erf),
        Op::Exp => map(&f64::exp),
        Op::Gelu { tanh: false } => map(&|x| x * phi(x)),
        Op::Gelu { tanh: true } => map(&|x| {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }),
        Op::Log => map(&f64::ln),
        Op::Neg => map(&|x| -x),
        Op::Reciprocal => map(&|x| 1.0 / x),
        Op::Relu => map(&|x| x.max(0.0)),
        Op::Sigmoid => map(&|x| 1.0 / (1.0 + (-x).exp())),
        Op::Sign => map(&|x| if x == 0.0 { 0.0 } else { x.signum() }),
        Op::Sin => map(&f64::sin),
        Op::Sqrt => map(&f64::sqrt),
        Op::Tanh => map(&f64::tanh),
        Op::StopGradient => inputs[0].clone(),
        Op::Cast { to } => match to {
            Dtype::Bool => map(&|x| truth(x != 0.0)),
            Dtype::U8 | Dtype::I8 | Dtype::I16 | Dtype::I32 | Dtype::I64 => map(&f64::trunc),
            Dtype::F16 => map(&|x| half::f16::from_f64(x).to_f64()),
            Dtype::BF16 => map(&|x| half::bf16::from_f64(x).to_f64()),
            Dtype::F32 => map(&|x| f64::from(x as f32)),
            Dtype::F64 => inputs[0].clone(),
        },
        Op::DequantizeLinear { axis } => {
            let scale = per_index(inputs[1], shape, *axis);
            let zero = inputs.get(2).map(|zero| per_index(zero, shape, *axis));
            let element = |(i, q): (usize, &f64)| (q - zero.as_ref().map_or(0.0, |zero| zero(i))) * scale(i);
            array(inputs[0].data.iter().enumerate().map(element).collect())
        }
        Op::QuantizeLinear { zero_point } => {
            let scale = per_index(inputs[1], shape, 0);
            let element = |(i, x): (usize, &f64)| to_level(x / scale(i), *zero_point);
            array(inputs[0].data.iter().enumerate().map(element).collect())
        }
        Op::MatMulIntegerToFloat { zero_point } => {
            let (a, b, scale) = (inputs[0], inputs[1], inputs[2]);
            let zero = f64::from(*zero_point);
            tabulate(shape, |c| {
                let product = |k| (at(a, &[c[0], k]) - zero) * at(b, &[k, c[1]]);
                scale.data[c[1]] * (0..a.shape[1]).map(product).sum::<f64>()
            })
        }
        Op::QLinearConv { channels_last: true, .. } | Op::SumNormalization { .. } => {
            evaluate_plain(node, inputs)?
        }
        Op::QLinearConv { strides, pads, x_zero, y_zero, channels_last: false } => {
            let levels = inputs[0].data.iter().map(|q| q - f64::from(*x_zero)).collect();
            let x = Array::new(inputs[0].shape.clone(), levels);
            let conv = Op::Conv { strides: *strides, pads: *pads, group: 1 };
            let conv = Node { op: conv, inputs: Vec::new(), dtype: Dtype::F32, shape: shape.clone() };
            let operands: Vec<&Array> = [&x, inputs[1]].into_iter().chain(inputs.get(3).copied()).collect();
            let sums = eval_node(&conv, &operands, feeds)?;
            let scale = per_index(inputs[2], shape, 1);
            let element = |(i, sum): (usize, &f64)| to_level(sum * scale(i), *y_zero);
            array(sums.data.iter().enumerate().map(element).collect())
        }
        Op::Add => zip(&|a, b| a + b),
        Op::Div => zip(&|a, b| a / b),
        Op::Equal => zip(&|a, b| truth(a == b)),
        Op::Greater => zip(&|a, b| truth(a > b)),
        Op::Max => zip(&f64::max),
        Op::Min => zip(&f64::min),
        Op::Mul => zip(&|a, b| a * b),
        Op::Sub => zip(&|a, b| a - b),
        Op::Where => array(
            (0..shape.len())
                .map(|i| {
                    let pick = |k: usize| inputs[k].data[broadcast_index(i, shape, &inputs[k].shape)];
                    if pick(0) != 0.0 { pick(1) } else { pick(2) }
                })
                .collect(),
        ),
        Op::MatMul => {
            let (a, b) = (inputs[0], inputs[1]);
            let rank = shape.rank();
            let k = a.shape[a.shape.rank() - 1];
            tabulate(shape, |c| {
                let element = |x: &Array, last: [usize; 2]| {
                    let lead = x.shape.rank() - 2;
                    let mut i: Vec<usize> =
                        (0..lead).map(|d| if x.shape[d] == 1 { 0 } else { c[rank - 2 - lead + d] }).collect();
                    i.extend(last);
                    at(x, &i)
                };
                (0..k).map(|j| element(a, [c[rank - 2], j]) * element(b, [j, c[rank - 1]])).sum()
            })
        }
        Op::Gemm { trans_a, trans_b } => {
            let (a, b) = (inputs[0], inputs[1]);
            let k = if *trans_a { a.shape[0] } else { a.shape[1] };
            let mut y = tabulate(shape, |c| {
                (0..k)
                    .map(|j| {
                        let l = at(a, &if *trans_a { [j, c[0]] } else { [c[0], j] });
                        let r = at(b, &if *trans_b { [c[1], j] } else { [j, c[1]] });
                        l * r
                    })
                    .sum()
            });
            if let Some(bias) = inputs.get(2) {
                for i in 0..y.data.len() {
                    y.data[i] += bias.data[broadcast_index(i, shape, &bias.shape)];
                }
            }
            y
        }
        Op::Conv { strides, pads, group } => {
            let (x, w) = (inputs[0], inputs[1]);
            let per = w.shape[0] / group;
            tabulate(shape, |c| {
                let mut sum = inputs.get(2).map_or(0.0, |b| b.data[c[1]]);
                for i in 0..w.shape[1] {
                    for ky in 0..w.shape[2] {
                        for kx in 0..w.shape[3] {
                            let (y, xx) = (c[2] * strides[0] + ky, c[3] * strides[1] + kx);
                            if y < pads[0] || xx < pads[1] {
                                continue;
                            }
                            let (y, xx) = (y - pads[0], xx - pads[1]);
                            if y < x.shape[2] && xx < x.shape[3] {
                                let channel = c[1] / per * w.shape[1] + i;
                                sum += at(x, &[c[0], channel, y, xx]) * at(w, &[c[1], i, ky, kx]);
                            }
                        }
                    }
                }
                sum
            })
        }
        Op::ConvTranspose { strides, pads, group } => {
            let (x, w) = (inputs[0], inputs[1]);
            let (per_in, per_out) = (x.shape[1] / group, w.shape[1]);
            tabulate(shape, |c| {
                let mut sum = inputs.get(2).map_or(0.0, |b| b.data[c[1]]);
                let g = c[1] / per_out;
                for i in 0..per_in {
                    for ky in 0..w.shape[2] {
                        for kx in 0..w.shape[3] {
                            // y·stride + k − pad = output row
                            let (Some(y), Some(xx)) =
                                ((c[2] + pads[0]).checked_sub(ky), (c[3] + pads[1]).checked_sub(kx))
                            else {
                                continue;
                            };
                            if y % strides[0] == 0 && xx % strides[1] == 0 {
                                let (y, xx) = (y / strides[0], xx / strides[1]);
                                if y < x.shape[2] && xx < x.shape[3] {
                                    let channel = g * per_in + i;
                                    sum += at(x, &[c[0], channel, y, xx])
                                        * at(w, &[channel, c[1] % per_out, ky, kx]);
                                }
                            }
                        }
                    }
                }
                sum
            })
        }
        Op::Concat { axis } => tabulate(shape, |c| {
            let mut i = c.to_vec();
            let mut k = 0;
            while i[*axis] >= inputs[k].shape[*axis] {
                i[*axis] -= inputs[k].shape[*axis];
                k += 1;
            }
            at(inputs[k], &i)
        }),
        Op::Expand { .. } => array(
            (0..shape.len()).map(|i| inputs[0].data[broadcast_index(i, shape, &inputs[0].shape)]).collect(),
        ),
        Op::Gather => {
            let row: usize = inputs[0].shape[1..].iter().product();
            let mut data = Vec::with_capacity(shape.len());
            let rows = inputs[0].shape[0];
            for &i in &inputs[1].data {
                let from_end = if i < 0.0 { i + rows as f64 } else { i };
                if !(0.0..rows as f64).contains(&from_end) {
                    return Err(Error::invalid("gather index", format!("an index into {rows} rows"), i));
                }
                let k = from_end as usize;
                data.extend_from_slice(&inputs[0].data[k * row..(k + 1) * row]);
            }
            array(data)
        }
        Op::OneHot { depth } => {
            let n = *depth as f64;
            let hot = |i: f64| (0..*depth).map(move |k| truth(k as f64 == if i < 0.0 { i + n } else { i }));
            array(inputs[0].data.iter().flat_map(|&i| hot(i)).collect())
        }
        Op::Pad { before, .. } => tabulate(shape, |c| {
            let i: Option<Vec<usize>> = (0..c.len())
                .map(|k| c[k].checked_sub(before[k]).filter(|&j| j < inputs[0].shape[k]))
                .collect();
            i.map_or(0.0, |i| at(inputs[0], &i))
        }),
        Op::Reshape { .. } => array(inputs[0].data.clone()),
        Op::Slice { axis, start, step, .. } => tabulate(shape, |c| {
            let mut i = c.to_vec();
            i[*axis] = start + i[*axis] * step;
            at(inputs[0], &i)
        }),
        Op::Transpose { perm } => tabulate(shape, |c| {
            let mut i = vec![0; c.len()];
            for (k, &p) in perm.iter().enumerate() {
                i[p] = c[k];
            }
            at(inputs[0], &i)
        }),
        Op::ArgMax { axis } => array(lanes(inputs[0], *axis, |lane| {
            let mut best = 0;
            for (k, v) in lane.iter().enumerate() {
                if *v > lane[best] {
                    best = k;
                }
            }
            vec![best as f64]
        })),
        Op::ReduceMax { axis } => array(lanes(inputs[0], *axis, |lane| {
            vec![lane.iter().copied().fold(f64::NEG_INFINITY, f64::max)]
        })),
        Op::ReduceMean { axes } => {
            let (sums, n) = reduce(inputs[0], axes, shape);
            array(sums.into_iter().map(|s| s / n).collect())
        }
        Op::ReduceSum { axes } => array(reduce(inputs[0], axes, shape).0),
        Op::Softmax { axis } | Op::LogSoftmax { axis } => array(lanes(inputs[0], *axis, |lane| {
            let max = lane.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = lane.iter().map(|x| (x - max).exp()).sum();
            let log = matches!(node.op, Op::LogSoftmax { .. });
            lane.iter().map(|x| if log { x - max - sum.ln() } else { (x - max).exp() / sum }).collect()
        })),
        Op::GroupNormalization { groups, eps } => {
            let x = inputs[0];
            let lane = x.shape[1..].iter().product::<usize>() / groups;
            let per_channel: usize = x.shape[2..].iter().product();
            let mut data: Vec<f64> =
                x.data.chunks(lane.max(1)).flat_map(|l| normalize(l, f64::from(*eps))).collect();
            for (i, v) in data.iter_mut().enumerate() {
                let c = i / per_channel % x.shape[1];
                *v = *v * inputs[1].data[c] + inputs[2].data[c];
            }
            array(data)
        }
        Op::LayerNormalization { eps } => {
            let d = shape[shape.rank() - 1];
            let mut data: Vec<f64> =
                inputs[0].data.chunks(d.max(1)).flat_map(|l| normalize(l, f64::from(*eps))).collect();
            for (i, v) in data.iter_mut().enumerate() {
                *v = *v * inputs[1].data[i % d] + inputs[2].data[i % d];
            }
            array(data)
        }
        Op::Attention { .. }
        | Op::DepthToSpace { .. }
        | Op::GroupNormalizationGradient { .. }
        | Op::RowScales { .. }
        | Op::ScaledRows
        | Op::SkipLayerNormalization { .. } => evaluate_plain(node, inputs)?,
        Op::AveragePool { size } => tabulate(shape, |c| {
            let mut sum = 0.0;
            for y in 0..*size {
                for x in 0..*size {
                    sum += at(inputs[0], &[c[0], c[1], c[2] * size + y, c[3] * size + x]);
                }
            }
            sum / (size * size) as f64
        }),
        Op::Resize { factor } => {
            tabulate(shape, |c| at(inputs[0], &[c[0], c[1], c[2] / factor, c[3] / factor]))
        }
    })
}

/// A fused op as the plain ops that it stands for.
fn evaluate_plain(node: &Node, inputs: &[&Array]) -> Result<Array> {
    let g = Graph::new();
    let names: Vec<String> = (0..inputs.len()).map(|i| format!("x{i}")).collect();
    let dtype = |i: usize| fused::operand(&node.op, i).unwrap_or(node.dtype);
    let values = names.iter().zip(inputs).enumerate();
    let values = values.map(|(i, (name, x))| g.input(name, dtype(i), x.shape.clone()));
    let values = values.collect::<Result<Vec<_>>>()?;
    let feeds = names.iter().cloned().zip(inputs.iter().map(|&x| x.clone())).collect();
    match fused::plain(&g, &node.op, &values)? {
        Some(y) => Ok(eval_values(&g, &[y], &feeds)?.remove(0)),
        None => Err(Error::internal("a fused op without a meaning")),
    }
}

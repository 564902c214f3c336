//! Large pictures in strips of rows: what is computed between two convolutions of a strip lies in the processor's cache and
//! takes the memory of a strip, not of a picture.
//!
//! A strip of a convolution reads the rows beside it too. A group normalisation needs all strips for its means and variances
//! and is then a factor and a summand of every channel; the moments of strips are put together as in Chan, Golub and LeVeque,
//! "Updating formulae and a pairwise algorithm for computing sample variances" (1979): with nₛ elements of mean mₛ and
//! variance vₛ, mean m = Σ nₛ·mₛ / n and variance Σ nₛ·(vₛ + (mₛ − m)²) / n.

use std::cell::{Ref, RefCell};

use crate::error::Result;
use crate::graph::{Graph, Node, Op, Value, simplify};
use crate::tensor::{Dtype, Shape, Tensor};

/// Bytes of a result from which on it is computed in strips.
const LARGE: usize = 64 << 20;

/// Positions of a strip of all pictures of a batch.
const POSITIONS: usize = 1 << 15;

/// Rows of strips are multiples of this, so that enlarging and halving keep to them.
const ALIGNED: usize = 8;

pub(super) fn rewrite(graph: &Graph) -> Result<Graph> {
    in_strips(graph, LARGE, POSITIONS)
}

/// `graph` in strips; itself where nothing is large, or where something needs a large value whole that is there in strips, as a
/// gradient does: it would be there twice. So does int8 arithmetic, for which this is as well: between its convolutions one operator
/// writes bytes (`sum_normalization`), which strips would come in between of: they were tried on Meissonic's decoder, and were slower and larger.
fn in_strips(graph: &Graph, large: usize, positions: usize) -> Result<Graph> {
    let mut s = Strips { old: graph.nodes(), new: Graph::new(), made: Vec::new(), positions };
    let is_large = |node: &Node| 4 * node.shape.len() >= large;
    let mut any = false;
    for node in s.old.iter() {
        let in_strips = |v: &Value| !s.made[v.index()].strips.is_empty();
        let fits = node.dtype == Dtype::F32 && node.shape.rank() == 4 && s.cuts(&node.shape).len() > 1;
        let wanted = fits && (is_large(node) || node.inputs.iter().any(in_strips));
        let made = match if wanted { s.strips(node)? } else { None } {
            Some(strips) => {
                any = true;
                Made { whole: RefCell::new(None), strips }
            }
            None => {
                if node.inputs.iter().any(|v| in_strips(v) && is_large(&s.old[v.index()])) {
                    return Ok(graph.clone());
                }
                let inputs = node.inputs.iter().map(|&v| s.whole(v)).collect::<Result<Vec<_>>>()?;
                Made { whole: RefCell::new(Some(s.new.push(node.op.clone(), &inputs)?)), strips: Vec::new() }
            }
        };
        s.made.push(made);
    }
    if !any {
        return Ok(graph.clone());
    }
    for (name, v) in graph.outputs() {
        s.new.output(name, s.whole(v)?);
    }
    simplify(&s.new)
}

struct Strips<'a> {
    old: Ref<'a, Vec<Node>>,
    new: Graph,
    /// What stands for the old nodes so far.
    made: Vec<Made>,
    positions: usize,
}

/// A value of the new graph, whole or in strips.
struct Made {
    /// `None`: nobody has asked for it yet.
    whole: RefCell<Option<Value>>,
    /// Rows between the [`Strips::cuts`] of its shape; empty where it was made whole.
    strips: Vec<Value>,
}

impl Strips<'_> {
    /// First and last row, exclusive, of the strips of [B, C, H, W].
    fn cuts(&self, shape: &Shape) -> Vec<(usize, usize)> {
        let rows = (self.positions / (shape[0] * shape[3]).max(1) / ALIGNED).max(1) * ALIGNED;
        (0..shape[2]).step_by(rows).map(|a| (a, (a + rows).min(shape[2]))).collect()
    }

    fn whole(&self, v: Value) -> Result<Value> {
        let made = &self.made[v.index()];
        if let Some(value) = *made.whole.borrow() {
            return Ok(value);
        }
        let value = self.new.concat(&made.strips, 2)?;
        *made.whole.borrow_mut() = Some(value);
        Ok(value)
    }

    /// Rows a..b of an old value [B, C, H, W].
    fn rows(&self, v: Value, a: usize, b: usize) -> Result<Value> {
        let (made, shape) = (&self.made[v.index()], &self.old[v.index()].shape);
        if made.strips.is_empty() {
            return self.slice(self.whole(v)?, a, b);
        }
        let mut parts = Vec::new();
        for (&strip, (from, to)) in made.strips.iter().zip(self.cuts(shape)) {
            let (a, b) = (a.max(from), b.min(to));
            if a < b {
                parts.push(self.slice(strip, a - from, b - from)?);
            }
        }
        if parts.len() == 1 { Ok(parts[0]) } else { self.new.concat(&parts, 2) }
    }

    fn slice(&self, x: Value, a: usize, b: usize) -> Result<Value> {
        if (a, b) == (0, self.new.shape(x)[2]) { Ok(x) } else { self.new.slice(x, 2, a, b) }
    }

    /// The strips of a node, or `None` for what is not computed in strips.
    fn strips(&self, node: &Node) -> Result<Option<Vec<Value>>> {
        let g = &self.new;
        let cuts = self.cuts(&node.shape);
        let each = |f: &dyn Fn(usize, usize) -> Result<Value>| {
            cuts.iter().map(|&(a, b)| f(a, b)).collect::<Result<Vec<_>>>().map(Some)
        };
        let x = node.inputs.first().copied();
        let of_x = x.map(|x| &self.old[x.index()].shape);
        match (&node.op, x, of_x) {
            (
                Op::Abs
                | Op::Add
                | Op::Clip { .. }
                | Op::Cos
                | Op::Div
                | Op::Erf
                | Op::Exp
                | Op::Gelu { .. }
                | Op::Log
                | Op::Max
                | Op::Min
                | Op::Mul
                | Op::Neg
                | Op::Reciprocal
                | Op::Relu
                | Op::Sigmoid
                | Op::Sign
                | Op::Sin
                | Op::Sqrt
                | Op::StopGradient
                | Op::Sub
                | Op::Tanh,
                ..,
            ) => each(&|a, b| {
                let operand = |&v: &Value| match &self.old[v.index()].shape {
                    s if s.rank() == 4 && s[2] == node.shape[2] => self.rows(v, a, b),
                    s if s.rank() == 3 && s[1] == node.shape[2] => g.slice(self.whole(v)?, 1, a, b),
                    s if s.rank() == 2 && s[0] == node.shape[2] => g.slice(self.whole(v)?, 0, a, b),
                    _ => self.whole(v),
                };
                let operands = node.inputs.iter().map(operand).collect::<Result<Vec<_>>>()?;
                g.push(node.op.clone(), &operands)
            }),
            (Op::Concat { axis: 1 }, ..) => each(&|a, b| {
                let parts = node.inputs.iter().map(|&v| self.rows(v, a, b)).collect::<Result<Vec<_>>>()?;
                g.concat(&parts, 1)
            }),
            (Op::AveragePool { size }, Some(x), _) => {
                each(&|a, b| g.average_pool(self.rows(x, a * size, b * size)?, *size))
            }
            (Op::Resize { factor: f } | Op::DepthToSpace { factor: f }, Some(x), _)
                if ALIGNED.is_multiple_of(*f) =>
            {
                // The last row is a multiple of the factor, as all of them are.
                each(&|a, b| g.push(node.op.clone(), &[self.rows(x, a / f, b / f)?]))
            }
            (Op::Conv { strides, pads, group }, Some(x), Some(of_x)) => {
                let (height, kernel) = (of_x[2], self.old[node.inputs[1].index()].shape[2]);
                // Rows that a strip reads, the padding's before row 0 included.
                let reach = |a: usize, b: usize| (a * strides[0], (b - 1) * strides[0] + kernel);
                let all_padding = |&(a, b): &(usize, usize)| {
                    let (first, last) = reach(a, b);
                    last <= pads[0] || first >= pads[0] + height
                };
                if cuts.iter().any(all_padding) {
                    return Ok(None);
                }
                let weights = node.inputs[1..].iter().map(|&v| self.whole(v)).collect::<Result<Vec<_>>>()?;
                each(&|a, b| {
                    let (first, last) = reach(a, b);
                    let (top, bottom) =
                        (pads[0].saturating_sub(first), last.saturating_sub(pads[0] + height));
                    let rows = self.rows(x, (first + top) - pads[0], last - bottom - pads[0])?;
                    let pads = [top, pads[1], bottom, pads[3]];
                    g.conv(rows, weights[0], weights.get(1).copied(), *strides, pads, *group)
                })
            }
            (Op::GroupNormalization { groups, eps }, Some(x), _) => {
                let (factor, summand) = self.normalization(node, x, *groups, *eps)?;
                each(&|a, b| g.add(g.mul(self.rows(x, a, b)?, factor)?, summand))
            }
            _ => Ok(None),
        }
    }

    /// Factor and summand [B, C, 1, 1] of the channels of a group normalisation of x.
    fn normalization(&self, node: &Node, x: Value, groups: usize, eps: f32) -> Result<(Value, Value)> {
        let (g, s) = (&self.new, &node.shape);
        let (channels, n) = (s[1] / groups, s[1] / groups * s[2] * s[3]);
        let mut moments = Vec::new();
        for (a, b) in self.cuts(s) {
            let part = channels * (b - a) * s[3];
            let strip = g.reshape(self.rows(x, a, b)?, [s[0], groups, part])?;
            let mean = g.reduce_mean(strip, &[2])?; // [B, groups, 1]
            let centred = g.sub(strip, mean)?;
            moments.push((part, mean, g.reduce_mean(g.mul(centred, centred)?, &[2])?));
        }
        let weights: Vec<f32> = moments.iter().map(|&(part, ..)| (part as f64 / n as f64) as f32).collect();
        let weights = g.constant(Tensor::from_f32([weights.len(), 1], &weights))?;
        let [means, variances] = [0, 1].map(|which| {
            let of = |&(_, mean, variance): &(usize, Value, Value)| if which == 0 { mean } else { variance };
            g.concat(&moments.iter().map(of).collect::<Vec<_>>(), 2) // [B, groups, strips]
        });
        let (means, variances) = (means?, variances?);
        let mean = g.matmul(means, weights)?; // [B, groups, 1]
        let off = g.sub(means, mean)?;
        let variance = g.matmul(g.add(variances, g.mul(off, off)?)?, weights)?;
        let inverse = g.reciprocal(g.sqrt(g.add_scalar(variance, eps)?)?)?;
        let [scale, bias] = [1, 2].map(|i| g.reshape(self.whole(node.inputs[i])?, [1, groups, channels]));
        let factor = g.mul(inverse, scale?)?; // [B, groups, channels]
        let summand = g.sub(bias?, g.mul(mean, factor)?)?;
        Ok((g.reshape(factor, [s[0], s[1], 1, 1])?, g.reshape(summand, [s[0], s[1], 1, 1])?))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::graph::eval::{Array, eval};

    /// The graph in strips of 8 rows, where something has so many bytes, and how much its results differ.
    fn difference(g: &Graph, large: usize) -> (Graph, f64) {
        let strips = in_strips(g, large, 8).unwrap();
        let mut feeds = HashMap::new();
        for node in g.nodes().iter() {
            if let Op::Input { name, shape, .. } = &node.op {
                let seed = feeds.len() as f64;
                let data = (0..shape.len()).map(|i| (i as f64 * 0.7 + seed).sin() + 0.3).collect();
                feeds.insert(name.clone(), Array::new(shape.clone(), data));
            }
        }
        let (expected, found) = (eval(g, &feeds).unwrap(), eval(&strips, &feeds).unwrap());
        let mut worst = 0.0f64;
        for ((name, expected), (other, found)) in expected.iter().zip(&found) {
            assert_eq!((name, &expected.shape), (other, &found.shape));
            worst = expected.data.iter().zip(&found.data).fold(worst, |w, (e, f)| w.max((e - f).abs()));
        }
        (strips, worst)
    }

    fn input(g: &Graph, name: &str, shape: impl Into<Shape>) -> Value {
        g.input(name, Dtype::F32, shape).unwrap()
    }

    /// A residual block, enlarged: what a decoder is made of.
    #[test]
    fn a_residual_block_in_strips_is_the_same() {
        for (b, h, w) in [(1, 20, 3), (2, 17, 5), (1, 16, 24), (1, 33, 1)] {
            let g = Graph::new();
            let x = input(&g, "x", [b, 4, h, w]);
            let [scale, bias] = ["scale", "bias"].map(|name| input(&g, name, [4]));
            let [first, second] = ["first", "second"].map(|name| input(&g, name, [4, 4, 3, 3]));
            let block = |x: Value, kernel| {
                let y = g.group_normalization(x, scale, bias, 2, 1e-6).unwrap();
                g.conv(g.silu(y).unwrap(), kernel, Some(bias), [1, 1], [1; 4], 1).unwrap()
            };
            let y = g.add(x, block(block(x, first), second)).unwrap();
            let y = g.conv(g.resize(y, 2).unwrap(), first, None, [1, 1], [1; 4], 1).unwrap();
            g.output("y", g.depth_to_space(y, 2).unwrap());
            g.output("half", g.average_pool(y, 2).unwrap());
            g.output("concat", g.concat(&[y, y], 1).unwrap());
            let (strips, error) = difference(&g, 0);
            assert!(error < 1e-5, "{error}"); // weights of strips are f32
            let nodes = strips.nodes();
            assert!(nodes.iter().filter(|n| matches!(n.op, Op::Conv { .. })).count() > 3, "{strips}");
            assert!(nodes.iter().all(|n| !matches!(n.op, Op::GroupNormalization { .. })), "{strips}");
        }
    }

    #[test]
    fn convolutions_of_every_stride_and_padding_read_the_rows_beside_a_strip() {
        for (kernel, stride, pads) in [
            ([3, 3], 1, [1; 4]),
            ([2, 2], 1, [1, 0, 0, 1]),
            ([2, 2], 1, [0, 1, 1, 0]),
            ([3, 3], 2, [0, 0, 1, 1]),
            ([1, 1], 1, [0; 4]),
            ([5, 3], 3, [3, 1, 2, 0]),
            ([3, 1], 1, [0; 4]),
        ] {
            let g = Graph::new();
            let x = input(&g, "x", [1, 2, 61, 2]);
            let w = input(&g, "w", [3, 2, kernel[0], kernel[1]]);
            g.output("y", g.conv(x, w, None, [stride; 2], pads, 1).unwrap());
            let (strips, error) = difference(&g, 0);
            assert!(error < 1e-12, "{kernel:?} {stride} {pads:?}: {error}");
            assert!(strips.nodes().len() > g.nodes().len(), "{strips}");
        }
    }

    #[test]
    fn operands_that_have_rows_too_are_cut() {
        let g = Graph::new();
        let x = input(&g, "x", [2, 3, 40, 2]);
        let others = [
            ("a", &[40, 1][..]),
            ("b", &[3, 40, 2]),
            ("c", &[2, 1, 1, 2]),
            ("d", &[]),
            ("e", &[1, 3, 40, 1]),
        ];
        let y = others.into_iter().fold(x, |y, (name, shape)| g.mul(y, input(&g, name, shape)).unwrap());
        g.output("y", g.softmax(g.average_pool(y, 2).unwrap(), 3).unwrap());
        let (strips, error) = difference(&g, 4 * 2 * 3 * 40 * 2);
        assert!(error < 1e-12 && strips.nodes().len() > 40, "{error}\n{strips}");
        // What is needed whole is not there in strips.
        g.output("of all", g.softmax(y, 2).unwrap());
        assert_eq!(difference(&g, 0).0.to_string(), g.to_string());
    }

    #[test]
    fn small_pictures_stay_whole() {
        let g = Graph::new();
        let x = input(&g, "x", [1, 2, 64, 64]);
        g.output("y", g.relu(x).unwrap());
        assert_eq!(rewrite(&g).unwrap().to_string(), g.to_string());
    }
}

//! Simplification on random graphs: the evaluator before and after, and ONNX Runtime on some.
//!
//! Only continuous ops on computed values: a comparison or an arg-max of nearly equal operands may go either
//! way once folding has rounded a constant to f32.

use super::case::{close, evaluate, floats, random};
use super::runtime;
use softdimo::graph::{Graph, Op, Value, simplify};
use softdimo::rng::{Philox, Stream};
use softdimo::tensor::{Dtype, Tensor};

/// Draws of one seed.
pub struct Draw {
    rng: Philox,
    next: u64,
}

impl Draw {
    pub fn new(seed: u64) -> Draw {
        Draw { rng: Philox::new(seed), next: 0 }
    }

    /// Uniform in 0..n.
    pub fn below(&mut self, n: usize) -> usize {
        self.next += 1;
        (self.rng.uniform_at(Stream::StartCodes, 1, self.next) * n as f64) as usize
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// A node on random earlier values; operands that do not fit are an error, and the caller draws again.
fn random_node(g: &Graph, d: &mut Draw, values: &[Value]) -> softdimo::Result<Value> {
    // Half of the time a recent value, so that chains grow.
    let recent = &values[values.len().saturating_sub(3)..];
    let x = if d.below(2) == 0 { d.pick(recent) } else { d.pick(values) };
    let y = d.pick(values);
    let shape = g.shape(x);
    let axis = d.below(shape.rank().max(1));
    let bounded = |x| g.tanh(x);
    match d.below(26) {
        0 => g.add(x, y),
        1 => g.mul(bounded(x)?, y),
        2 => g.sub(x, y),
        3 => g.max(x, y),
        4 => g.min(x, y),
        5 => g.div(x, g.add_scalar(g.abs(y)?, 1.0)?),
        6 => g.exp(bounded(x)?),
        7 => g.sigmoid(x),
        8 => g.gelu(x),
        9 => g.neg(x),
        10 => g.clip(x, -1.5, 1.5),
        11 => g.mul_scalar(x, d.pick(&[0.0, 1.0, 0.5])),
        12 => g.add_scalar(x, d.pick(&[0.0, 1.0])),
        13 => g.reshape(x, [shape.len()]),
        14 => g.reshape(x, [1, shape.len()]),
        15 | 16 => {
            let mut perm: Vec<usize> = (0..shape.rank()).collect();
            perm.rotate_left(axis);
            g.transpose(x, &perm)
        }
        17 => g.slice(x, axis, 0, shape.get(axis).copied().unwrap_or(0).div_ceil(2)),
        18 => g.slice(x, axis, 0, shape.get(axis).copied().unwrap_or(0)),
        19 => g.concat(&[x, x], axis),
        20 => g.concat(&[x], axis),
        21 => g.softmax(x, axis),
        22 => g.reduce_mean(x, &[axis]),
        23 => g.matmul(bounded(x)?, g.softmax(y, 0)?),
        24 => g.expand(x, shape),
        _ => g.stop_gradient(x),
    }
}

/// A graph of about `size` nodes with three outputs, and its feeds.
fn random_graph(seed: u64, size: usize) -> (Graph, Vec<(String, Tensor)>) {
    let (g, mut d) = (Graph::new(), Draw::new(seed));
    let mut values = Vec::new();
    let mut feeds = Vec::new();
    let shapes: [&[usize]; 4] = [&[2, 3, 4], &[4], &[3, 4], &[]];
    for (i, shape) in shapes.into_iter().enumerate() {
        let tensor = random(1000 * seed + i as u64, shape);
        values.push(g.input(&format!("x{i}"), Dtype::F32, shape).unwrap());
        feeds.push((format!("x{i}"), tensor));
    }
    // Equal and neutral constants too.
    for constant in [random(7, [3, 4]), random(7, [3, 4]), floats([4], &[0.0; 4]), floats([1], &[1.0])] {
        values.push(g.constant(constant).unwrap());
    }
    while g.nodes().len() < size {
        if let Ok(v) = random_node(&g, &mut d, &values)
            && g.shape(v).len() <= 200
        {
            values.push(v);
        }
    }
    for i in 0..3 {
        let v = if i == 0 { *values.last().unwrap() } else { d.pick(&values) };
        g.output(format!("y{i}"), v);
    }
    (g, feeds)
}

#[test]
fn simplify_keeps_the_values_of_random_graphs() {
    let engine = runtime::engine(runtime::LEAN);
    let (mut before, mut after) = (0, 0);
    for seed in 0..200 {
        let (g, feeds) = random_graph(seed, 40);
        let s = simplify(&g).unwrap();
        before += g.nodes().len();
        after += s.nodes().len();
        let inputs = |g: &Graph| -> Vec<Op> {
            g.nodes().iter().filter(|n| matches!(n.op, Op::Input { .. })).map(|n| n.op.clone()).collect()
        };
        assert_eq!(inputs(&g), inputs(&s), "the signature changed");
        assert_eq!(simplify(&s).unwrap().to_string(), s.to_string(), "a second pass changed\n{s}");
        let expected = evaluate(&g, &feeds);
        for (found, expected) in evaluate(&s, &feeds).iter().zip(&expected) {
            assert_eq!(found.shape, expected.shape);
            close(&found.data, &expected.data, 1e-5)
                .unwrap_or_else(|e| panic!("seed {seed}: {e}\n{g}\nsimplified:\n{s}"));
        }
        if seed % 10 == 0 {
            for graph in [&g, &s] {
                let results = engine.run_graph(graph.clone(), feeds.clone()).unwrap();
                for ((_, found), expected) in results.iter().zip(&expected) {
                    close(&found.to_f64(), &expected.data, 2e-5)
                        .unwrap_or_else(|e| panic!("seed {seed}: {e}\n{graph}"));
                }
            }
        }
    }
    println!("200 random graphs: {before} nodes before, {after} after");
    assert!(after < before / 2);
}

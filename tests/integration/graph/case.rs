//! One row of the op table, and how values are compared.

use std::collections::HashMap;

use softdimo::Result;
use softdimo::graph::eval::{Array, eval};
use softdimo::graph::{Graph, Value};
use softdimo::rng::{Philox, Stream};
use softdimo::tensor::{Dtype, Shape, Tensor};

type Build = Box<dyn Fn(&Graph, &[Value]) -> Result<Value>>;

/// A graph around one op, its inputs, and the result where it is known.
pub struct Case {
    pub op: &'static str,
    inputs: Vec<Tensor>,
    build: Build,
    pub expected: Option<Vec<f64>>,
}

pub fn case<const N: usize>(
    op: &'static str,
    inputs: [Tensor; N],
    build: impl Fn(&Graph, [Value; N]) -> Result<Value> + 'static,
) -> Case {
    Case::new(op, inputs.into(), move |g, v| build(g, v.try_into().unwrap()))
}

impl Case {
    /// As [`case`], with any number of inputs.
    pub fn new(
        op: &'static str,
        inputs: Vec<Tensor>,
        build: impl Fn(&Graph, &[Value]) -> Result<Value> + 'static,
    ) -> Case {
        Case { op, inputs, build: Box::new(build), expected: None }
    }

    /// The literal result.
    pub fn gives(mut self, expected: impl Into<Vec<f64>>) -> Case {
        self.expected = Some(expected.into());
        self
    }

    /// Inputs `x0`, `x1`, ..; output `y` as f32 or i64, which sessions can return.
    pub fn graph(&self) -> Graph {
        let g = Graph::new();
        let inputs = self.inputs.iter().enumerate();
        let inputs: Vec<Value> =
            inputs.map(|(i, t)| g.input(&format!("x{i}"), t.dtype(), t.shape().clone()).unwrap()).collect();
        let y = (self.build)(&g, &inputs).unwrap_or_else(|e| panic!("{}: {e}\n{g}", self.op));
        let plain = if g.dtype(y) == Dtype::I64 { y } else { g.cast(y, Dtype::F32).unwrap() };
        g.output("y", plain);
        assert!(g.nodes().iter().any(|n| n.op.name() == self.op), "no {} in\n{g}", self.op);
        g
    }

    pub fn feeds(&self) -> Vec<(String, Tensor)> {
        self.inputs.iter().enumerate().map(|(i, t)| (format!("x{i}"), t.clone())).collect()
    }

    pub fn evaluate(&self, graph: &Graph) -> Array {
        evaluate(graph, &self.feeds()).remove(0)
    }
}

/// The graph's results by the evaluator.
pub fn evaluate(graph: &Graph, feeds: &[(String, Tensor)]) -> Vec<Array> {
    let feeds: HashMap<String, Array> =
        feeds.iter().map(|(n, t)| (n.clone(), Array::new(t.shape().clone(), t.to_f64()))).collect();
    let results = eval(graph, &feeds).unwrap_or_else(|e| panic!("{e}\n{graph}"));
    results.into_iter().map(|(_, a)| a).collect()
}

/// |found − expected| ≤ tolerance · (|expected| + 0.1 · max |expected|): relative, with a floor for elements
/// that cancel. Equal infinities and NaN pass.
pub fn close(found: &[f64], expected: &[f64], tolerance: f64) -> std::result::Result<(), String> {
    if found.len() != expected.len() {
        return Err(format!("expected {} elements, found {}", expected.len(), found.len()));
    }
    let max = expected.iter().map(|e| e.abs()).filter(|e| e.is_finite()).fold(0.0, f64::max);
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let same = f == e || (f.is_nan() && e.is_nan());
        let near = (f - e).abs() <= tolerance * (e.abs() + 0.1 * max);
        if !same && !near {
            return Err(format!("element {i}: expected {e}, found {f}"));
        }
    }
    Ok(())
}

pub fn assert_close(found: &[f64], expected: &[f64], tolerance: f64, graph: &Graph) {
    close(found, expected, tolerance).unwrap_or_else(|e| panic!("{e}\n{graph}"));
}

/// Uniform in (low, high).
pub fn uniform(seed: u64, shape: impl Into<Shape>, low: f64, high: f64) -> Tensor {
    let (shape, rng) = (shape.into(), Philox::new(seed));
    let element = |i| low + (high - low) * rng.uniform_at(Stream::Gumbel, 0, i as u64);
    let data: Vec<f32> = (0..shape.len()).map(|i| element(i) as f32).collect();
    Tensor::from_f32(shape, &data)
}

/// Uniform in (−2, 2).
pub fn random(seed: u64, shape: impl Into<Shape>) -> Tensor {
    uniform(seed, shape, -2.0, 2.0)
}

/// Uniform in (0.2, 2).
pub fn positive(seed: u64, shape: impl Into<Shape>) -> Tensor {
    uniform(seed, shape, 0.2, 2.0)
}

/// Integers in low..high.
pub fn random_ints(seed: u64, shape: impl Into<Shape>, low: i64, high: i64) -> Tensor {
    let floats = uniform(seed, shape, low as f64, high as f64);
    let data: Vec<i64> = floats.to_f64().iter().map(|x| (x.floor() as i64).min(high - 1)).collect();
    Tensor::from_i64(floats.shape().clone(), &data)
}

pub fn floats(shape: impl Into<Shape>, data: &[f32]) -> Tensor {
    Tensor::from_f32(shape, data)
}

pub fn ints(shape: impl Into<Shape>, data: &[i64]) -> Tensor {
    Tensor::from_i64(shape, data)
}

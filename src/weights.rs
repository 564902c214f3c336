//! Scoped, shape-checked lookup of a model's weights: the bridge from tensor names to graph values.
//! Names below the component prefix are the official ones, so a model file reads like its reference.
//!
//! A graph may read several files, whose tensors may have the same names: [`Sources`] tells them apart.

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::quant;
use crate::tensor::{Dtype, Shape, TensorView};

/// A scope of tensor names inside a checkpoint.
#[derive(Clone, Debug)]
pub struct Weights<'a> {
    checkpoint: &'a Checkpoint,
    namespace: &'a str,
    prefix: String,
}

impl<'a> Weights<'a> {
    /// All of `checkpoint`, whose tensors have their own names in the graph.
    pub fn new(checkpoint: &'a Checkpoint) -> Weights<'a> {
        Weights::named("", checkpoint)
    }

    /// All of `checkpoint`, for a graph that reads it beside others; see [`Sources`].
    pub fn named(namespace: &'a str, checkpoint: &'a Checkpoint) -> Weights<'a> {
        Weights { checkpoint, namespace, prefix: String::new() }
    }

    /// The scope `path` inside this one: `w.at("transformer.layers.3")`.
    pub fn at(&self, path: impl std::fmt::Display) -> Weights<'a> {
        let prefix = format!("{}{path}.", self.prefix);
        Weights { checkpoint: self.checkpoint, namespace: self.namespace, prefix }
    }

    /// Full name of a tensor of this scope.
    pub fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Whether the scope holds the tensor.
    pub fn has(&self, name: &str) -> bool {
        self.checkpoint.get(&self.name(name)).is_some()
    }

    /// Whether anything lies in the scope `path` inside this one.
    pub fn has_scope(&self, path: &str) -> bool {
        let prefix = self.at(path).prefix;
        self.checkpoint.names().any(|name| name.starts_with(&prefix))
    }

    /// The tensor as an f32 graph value. Narrower storage is expanded in the graph, so that the stored bytes
    /// stay where they are: floats by a cast, int8 (see [`quant`]) by its scales. Errors give the full name,
    /// what was expected, what was found and the file.
    pub fn get(&self, g: &Graph, name: &str, shape: impl Into<Shape>) -> Result<Value> {
        match self.stored(g, name, shape.into())? {
            (values, None) => g.cast(values, Dtype::F32),
            (q, Some(scale)) => g.dequantize_linear(q, scale),
        }
    }

    /// Rows of the tensor at integer `indices` of any shape: [.., D] in f32. They are read as they are stored
    /// and only then expanded; a table is mostly rows that nobody asks for.
    pub fn rows(&self, g: &Graph, name: &str, shape: [usize; 2], indices: Value) -> Result<Value> {
        let (table, scale) = self.stored(g, name, shape.into())?;
        let Some(scale) = scale else { return g.cast(g.gather(table, indices)?, Dtype::F32) };
        let mut result = g.shape(indices);
        let flat = g.reshape(indices, [result.len()])?;
        let rows = g.dequantize_linear(g.gather(table, flat)?, g.gather(scale, flat)?)?; // [n, D]
        result.0.push(shape[1]);
        g.reshape(rows, result)
    }

    /// The bytes of a u8 tensor with one axis: data that travels with the weights and is no graph value.
    pub fn bytes(&self, name: &str) -> Result<&'a [u8]> {
        let name = self.name(name);
        let view = self.view(&name, "[bytes]")?;
        if view.dtype != Dtype::U8 || view.shape.rank() != 1 {
            return Err(self.mismatch(name, "u8[bytes]".into(), &view));
        }
        Ok(view.data)
    }

    /// The tensor in its stored dtype and, for int8, its scales.
    fn stored(&self, g: &Graph, name: &str, shape: Shape) -> Result<(Value, Option<Value>)> {
        let name = self.name(name);
        let view = self.view(&name, &shape.to_string())?;
        let int8 = view.dtype == Dtype::I8 && quant::has_rows(&shape);
        if view.shape != shape || !(view.dtype.is_float() || int8) {
            return Err(self.mismatch(name, format!("a float tensor of shape {shape}"), &view));
        }
        let values = g.weight(&graph_name(self.namespace, &name), view.dtype, shape.clone())?;
        if !int8 {
            return Ok((values, None));
        }
        let (scale, rows) = (quant::scale_name(&name), Shape::from(&shape[..1]));
        let view = self.view(&scale, &format!("{rows} of the scales of int8 '{name}'"))?;
        if view.shape != rows || view.dtype != Dtype::F32 {
            return Err(self.mismatch(scale, format!("f32{rows}, one scale a row of '{name}'"), &view));
        }
        if let Some(bad) = view.to_f32().into_iter().find(|s| !(s.is_finite() && *s >= 0.0)) {
            return Err(Error::TensorMismatch {
                name: scale,
                expected: "finite scales, none negative".into(),
                found: bad.to_string(),
                file: self.checkpoint.file(),
            });
        }
        Ok((values, Some(g.weight(&graph_name(self.namespace, &scale), Dtype::F32, rows)?)))
    }

    fn view(&self, name: &str, expected: &str) -> Result<TensorView<'a>> {
        self.checkpoint.get(name).ok_or_else(|| Error::MissingTensor {
            name: name.into(),
            expected: expected.into(),
            file: self.checkpoint.file(),
        })
    }

    fn mismatch(&self, name: String, expected: String, view: &TensorView) -> Error {
        let found = format!("{}{}", view.dtype, view.shape);
        Error::TensorMismatch { name, expected, found, file: self.checkpoint.file() }
    }
}

/// Between a namespace and the tensor's name in its checkpoint.
const SEPARATOR: char = ':';

fn graph_name(namespace: &str, tensor: &str) -> String {
    if namespace.is_empty() { tensor.into() } else { format!("{namespace}{SEPARATOR}{tensor}") }
}

/// The checkpoints that one graph reads: the first under its tensors' own names, every other one under
/// `NAMESPACE:TENSOR`.
#[derive(Clone, Debug)]
pub struct Sources<'a> {
    first: &'a Checkpoint,
    others: Vec<(&'a str, &'a Checkpoint)>,
}

/// Where a weight of a graph comes from.
#[derive(Clone, Copy, Debug)]
pub struct StoredWeight<'a, 'n> {
    /// Empty for the first checkpoint.
    pub namespace: &'n str,
    pub checkpoint: &'a Checkpoint,
    /// The tensor's name in the checkpoint.
    pub tensor: &'n str,
}

impl<'a> Sources<'a> {
    /// One checkpoint.
    pub fn of(checkpoint: &'a Checkpoint) -> Sources<'a> {
        Sources { first: checkpoint, others: Vec::new() }
    }

    /// Add another; a namespace that is there already stays what it is.
    pub fn add(&mut self, namespace: &'a str, checkpoint: &'a Checkpoint) {
        if self.others.iter().all(|(taken, _)| *taken != namespace) {
            self.others.push((namespace, checkpoint));
        }
    }

    /// The checkpoints that have a namespace.
    pub fn others(&self) -> &[(&'a str, &'a Checkpoint)] {
        &self.others
    }

    /// Where the weight that a graph names `weight` comes from.
    pub fn find<'n>(&self, weight: &'n str) -> StoredWeight<'a, 'n> {
        if let Some((namespace, tensor)) = weight.split_once(SEPARATOR)
            && let Some((_, checkpoint)) = self.others.iter().find(|(name, _)| *name == namespace)
        {
            return StoredWeight { namespace, checkpoint, tensor };
        }
        StoredWeight { namespace: "", checkpoint: self.first, tensor: weight }
    }
}

//! Scoped, shape-checked lookup of a model's weights: the bridge from tensor names to graph values.
//! Names below the component prefix are the official ones, so a model file reads like its reference.
//!
//! A graph may read several files, whose tensors may have the same names: [`Sources`] tells them apart.

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::tensor::{Dtype, Shape};

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

    /// The tensor as an f32 graph value (narrower floats are cast in the graph, so the stored bytes stay
    /// where they are). Errors give the full name, the shape expected, the shape found and the file.
    pub fn get(&self, g: &Graph, name: &str, shape: impl Into<Shape>) -> Result<Value> {
        let (name, shape) = (self.name(name), shape.into());
        let Some(view) = self.checkpoint.get(&name) else {
            return Err(Error::MissingTensor {
                name,
                expected: shape.to_string(),
                file: self.checkpoint.file(),
            });
        };
        if view.shape != shape || !view.dtype.is_float() {
            return Err(Error::TensorMismatch {
                name,
                expected: format!("a float tensor of shape {shape}"),
                found: format!("{}{}", view.dtype, view.shape),
                file: self.checkpoint.file(),
            });
        }
        g.cast(g.weight(&graph_name(self.namespace, &name), view.dtype, shape)?, Dtype::F32)
    }

    /// The bytes of a u8 tensor with one axis: data that travels with the weights and is no graph value.
    pub fn bytes(&self, name: &str) -> Result<&'a [u8]> {
        let (name, file) = (self.name(name), self.checkpoint.file());
        let Some(view) = self.checkpoint.get(&name) else {
            return Err(Error::MissingTensor { name, expected: "[bytes]".into(), file });
        };
        if view.dtype != Dtype::U8 || view.shape.rank() != 1 {
            let (expected, found) = ("u8[bytes]".into(), format!("{}{}", view.dtype, view.shape));
            return Err(Error::TensorMismatch { name, expected, found, file });
        }
        Ok(view.data)
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
pub struct Source<'a, 'n> {
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
    pub fn find<'n>(&self, weight: &'n str) -> Source<'a, 'n> {
        if let Some((namespace, tensor)) = weight.split_once(SEPARATOR)
            && let Some((_, checkpoint)) = self.others.iter().find(|(name, _)| *name == namespace)
        {
            return Source { namespace, checkpoint, tensor };
        }
        Source { namespace: "", checkpoint: self.first, tensor: weight }
    }
}

//! Scoped, shape-checked lookup of a model's weights: the bridge from tensor names to graph values.
//! Names below the component prefix are the official ones, so a model file reads like its reference.

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::tensor::{Dtype, Shape};

/// A scope of tensor names inside a checkpoint.
#[derive(Clone, Debug)]
pub struct Weights<'a> {
    checkpoint: &'a Checkpoint,
    prefix: String,
}

impl<'a> Weights<'a> {
    /// The whole namespace of `checkpoint`.
    pub fn new(checkpoint: &'a Checkpoint) -> Weights<'a> {
        Weights { checkpoint, prefix: String::new() }
    }

    /// The scope `path` inside this one: `w.at("transformer.layers.3")`.
    pub fn at(&self, path: impl std::fmt::Display) -> Weights<'a> {
        Weights { checkpoint: self.checkpoint, prefix: format!("{}{path}.", self.prefix) }
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
        g.cast(g.weight(&name, view.dtype, shape)?, Dtype::F32)
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

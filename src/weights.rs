//! Scoped, shape-checked lookup of a model's weights: the bridge from tensor names to graph values.
//! Names below the component prefix are the official ones, so a model file reads like its reference.

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::quant;
use crate::tensor::{Dtype, Shape, TensorView};

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

    /// The tensor in its stored dtype and, for int8, its scales.
    fn stored(&self, g: &Graph, name: &str, shape: Shape) -> Result<(Value, Option<Value>)> {
        let name = self.name(name);
        let view = self.view(&name, &shape.to_string())?;
        let int8 = view.dtype == Dtype::I8 && quant::has_rows(&shape);
        if view.shape != shape || !(view.dtype.is_float() || int8) {
            return Err(self.mismatch(name, format!("a float tensor of shape {shape}"), &view));
        }
        let values = g.weight(&name, view.dtype, shape.clone())?;
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
        Ok((values, Some(g.weight(&scale, Dtype::F32, rows)?)))
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

//! Scoped, shape-checked lookup of a model's weights: the bridge from tensor names to graph values.
//! Names below the component prefix are the official ones, so a model file reads like its reference.
//!
//! A graph may read several files, whose tensors may have the same names: [`Sources`] tells them apart.

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::quant::{self, Ranges};
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

    /// Whether the scope holds the tensor, however it is stored.
    pub fn has(&self, name: &str) -> bool {
        let name = self.name(name);
        [&name, &quant::transposed_name(&name)].into_iter().any(|name| self.checkpoint.get(name).is_some())
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
            StoredForm::Floats(values) => g.cast(values, Dtype::F32),
            StoredForm::Int8(q, scale) => g.dequantize_linear(q, scale),
            StoredForm::Transposed(q, scale) => g.transpose(g.dequantize_along(q, scale, 1)?, &[1, 0]),
        }
    }

    /// Rows of the tensor at integer `indices` of any shape: [.., D] in f32. They are read as they are stored
    /// and only then expanded; a table is mostly rows that nobody asks for.
    pub fn rows(&self, g: &Graph, name: &str, shape: [usize; 2], indices: Value) -> Result<Value> {
        let (table, scale) = match self.stored(g, name, shape.into())? {
            StoredForm::Floats(table) => return g.cast(g.gather(table, indices)?, Dtype::F32),
            StoredForm::Int8(table, scale) => (table, scale),
            StoredForm::Transposed(..) => {
                let name = quant::transposed_name(&self.name(name));
                let view = self.view(&name, "")?;
                return Err(self.mismatch(name, "a table that is stored by its rows".into(), &view));
            }
        };
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

    /// The tensor as it is stored.
    fn stored(&self, g: &Graph, name: &str, shape: Shape) -> Result<StoredForm> {
        let name = self.name(name);
        let transposed = quant::transposed_name(&name);
        if shape.rank() == 2
            && self.checkpoint.get(&name).is_none()
            && let Some(view) = self.checkpoint.get(&transposed)
        {
            let across = Shape::from([shape[1], shape[0]]);
            if view.shape != across || view.dtype != Dtype::I8 {
                return Err(self.mismatch(transposed, format!("i8{across}"), &view));
            }
            let q = g.weight(&graph_name(self.namespace, &transposed), Dtype::I8, across)?;
            return Ok(StoredForm::Transposed(q, self.scale(g, &name, shape[0])?));
        }
        let view = self.view(&name, &shape.to_string())?;
        let int8 = view.dtype == Dtype::I8 && quant::has_rows(&shape);
        if view.shape != shape || !(view.dtype.is_float() || int8) {
            return Err(self.mismatch(name, format!("a float tensor of shape {shape}"), &view));
        }
        let values = g.weight(&graph_name(self.namespace, &name), view.dtype, shape.clone())?;
        match int8 {
            false => Ok(StoredForm::Floats(values)),
            true => {
                self.check_ranges(&name, shape[0])?;
                Ok(StoredForm::Int8(values, self.scale(g, &name, shape[0])?))
            }
        }
    }

    /// That the ranges of the int8 tensor of this full name, where it has any, are some.
    fn check_ranges(&self, name: &str, channels: usize) -> Result<()> {
        let name = quant::ranges_name(name);
        match self.checkpoint.get(&name) {
            Some(view) if Ranges::read(&view).is_none_or(|ranges| ranges.writes.len() != channels) => {
                let expected = format!("f32[{}, 2], finite ranges (lowest, highest) around 0", 1 + channels);
                Err(self.mismatch(name, expected, &view))
            }
            _ => Ok(()),
        }
    }

    /// The scales of the int8 tensor of this full name, one for each of `rows` rows of the weight.
    fn scale(&self, g: &Graph, name: &str, rows: usize) -> Result<Value> {
        let (scale, rows) = (quant::scale_name(name), Shape::from([rows]));
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
        g.weight(&graph_name(self.namespace, &scale), Dtype::F32, rows)
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

/// A weight as it is stored: values, and scales of int8 (see [`quant`]).
enum StoredForm {
    Floats(Value),
    /// [O, ..] with scales \[O\].
    Int8(Value, Value),
    /// [I, O] of a weight [O, I], with scales \[O\].
    Transposed(Value, Value),
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

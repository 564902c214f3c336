//! A compiled graph, and running it.

use std::collections::BTreeMap;
use std::sync::Arc;

use ort::memory::MemoryInfo;
use ort::session::SessionInputValue;
use ort::value::DynValue;

use super::cancel::Cancel;
use super::cost::Cost;
use super::error::runtime_error;
use super::exit;
use crate::checkpoint::Mapping;
use crate::error::{Error, Result};
use crate::tensor::{Dtype, Shape, Tensor};

/// A compiled graph. One run at a time.
#[derive(Debug)]
pub struct Session {
    pub(super) session: ort::session::Session,
    /// It has run: the runtime has built what it builds on first use.
    pub(super) used: bool,
    pub(super) inputs: Vec<Input>,
    /// Weights that are bound for every run.
    pub(super) weights: Vec<(String, Arc<DynValue>)>,
    /// Where the provider computes.
    pub(super) memory: Arc<MemoryInfo<'static>>,
    /// Nodes each execution provider was given, as the runtime reports it.
    pub assignment: BTreeMap<String, usize>,
    /// What it adds to memory while it lives.
    pub(crate) cost: Arc<Cost>,
    /// The bytes of its weights: dropped last.
    pub(super) _files: Vec<Arc<Mapping>>,
}

/// An input of a graph that the caller supplies.
#[derive(Debug)]
pub(super) struct Input {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Shape,
}

impl Input {
    /// A value for it in host memory: a typed copy, aligned whatever the bytes of `tensor` are.
    pub fn value(&self, tensor: &Tensor) -> Result<DynValue> {
        let Input { name, dtype, shape } = self;
        if tensor.shape() != shape || tensor.dtype() != *dtype {
            let found = format!("{}{}", tensor.dtype(), tensor.shape());
            return Err(Error::internal(format!(
                "graph input '{name}': expected {dtype}{shape}, found {found}"
            )));
        }
        let failed = runtime_error("filling an input");
        match dtype {
            Dtype::F32 => ort::value::Tensor::from_array((shape.to_vec(), tensor.to_f32()))
                .map(|v| v.into_dyn())
                .map_err(failed),
            Dtype::I64 => ort::value::Tensor::from_array((shape.to_vec(), tensor.to_i64()))
                .map(|v| v.into_dyn())
                .map_err(failed),
            other => Err(Error::internal(format!("graph input '{name}' is {other}"))),
        }
    }
}

impl Session {
    /// As [`Session::run`], from a list that may hold more than the graph has inputs.
    pub(crate) fn run_some(
        &mut self,
        feeds: &[(String, Tensor)],
        cancel: &Cancel,
    ) -> Result<Vec<(String, Tensor)>> {
        let feeds: Vec<(&str, &Tensor)> = feeds.iter().map(|(n, t)| (n.as_str(), t)).collect();
        self.run(&feeds, cancel)
    }

    /// Run with `inputs` by name (every input of the graph exactly once) and return the results in the
    /// graph's order. Ends with [`Error::Cancelled`] soon after `cancel` is set.
    pub fn run(&mut self, inputs: &[(&str, &Tensor)], cancel: &Cancel) -> Result<Vec<(String, Tensor)>> {
        let mut feeds: Vec<(&str, SessionInputValue<'_>)> = Vec::with_capacity(inputs.len());
        for input in &self.inputs {
            let Some((_, tensor)) = inputs.iter().find(|(name, _)| *name == input.name) else {
                return Err(Error::internal(format!("graph input '{}' not supplied", input.name)));
            };
            feeds.push((&input.name, input.value(tensor)?.into()));
        }
        for (name, value) in &self.weights {
            feeds.push((name, value.as_ref().into()));
        }
        let running = cancel.begin()?;
        let outputs = self.session.run_with_options(feeds, &running.options);
        if !std::mem::replace(&mut self.used, true) {
            exit::install();
        }
        let outputs = running.outcome(outputs)?;
        outputs.iter().map(|(name, value)| Ok((name.to_string(), to_tensor(&value)?))).collect()
    }
}

/// A copy of a result in host memory.
pub(super) fn to_tensor(value: &DynValue) -> Result<Tensor> {
    Ok(match value.try_extract_tensor::<f32>() {
        Ok((shape, data)) => Tensor::from_f32(dims(shape), data),
        Err(_) => {
            let (shape, data) =
                value.try_extract_tensor::<i64>().map_err(runtime_error("reading a result"))?;
            Tensor::from_i64(dims(shape), data)
        }
    })
}

fn dims(shape: &[i64]) -> Vec<usize> {
    shape.iter().map(|&d| d as usize).collect()
}

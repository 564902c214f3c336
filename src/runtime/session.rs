//! A compiled graph, and running it: the runtime reads the elements of our tensors where they lie, and writes its
//! results where we keep them.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use ort::AsPointer;
use ort::memory::MemoryInfo;
use ort::session::RunOptions;
use ort::value::{
    DynValue, DynValueRef, DynValueRefMut, Tensor as OrtTensor, TensorElementType, TensorRef, TensorRefMut,
};

use super::cancel::Cancel;
use super::cost::Cost;
use super::error::runtime_error;
use super::exit;
use super::heap::release_heap;
use crate::checkpoint::Mapping;
use crate::error::{Error, Result};
use crate::shortage;
use crate::tensor::{Dtype, Shape, Tensor};

/// A compiled graph. One run at a time.
#[derive(Debug)]
pub struct Session {
    pub(super) session: ort::session::Session,
    /// See [`exit::after_run`].
    pub(super) used: bool,
    pub(super) inputs: Vec<Input>,
    /// Weights that are bound for every run.
    pub(super) weights: Vec<(String, Arc<DynValue>)>,
    /// Where the provider computes.
    pub(super) memory: Arc<MemoryInfo<'static>>,
    /// Nodes each execution provider was given, as the runtime reports it.
    pub assignment: BTreeMap<String, usize>,
    /// What it adds to memory while it lives.
    pub(crate) cost: Rc<Cost>,
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
    fn check(&self, tensor: &Tensor) -> Result<()> {
        let Input { name, dtype, shape } = self;
        if tensor.shape() == shape && tensor.dtype() == *dtype {
            return Ok(());
        }
        let found = format!("{}{}", tensor.dtype(), tensor.shape());
        Err(Error::internal(format!("graph input '{name}': expected {dtype}{shape}, found {found}")))
    }

    fn unknown(&self) -> Error {
        Error::internal(format!("graph input '{}' is {}", self.name, self.dtype))
    }

    /// A value over the elements of `tensor`, for one run.
    fn borrow<'a>(&self, tensor: &'a Tensor) -> Result<DynValueRef<'a>> {
        self.check(tensor)?;
        let dims = self.shape.to_vec();
        let value = match self.dtype {
            Dtype::F32 => TensorRef::from_array_view((dims, tensor.f32s()?)).map(|v| v.into_dyn()),
            Dtype::I64 => TensorRef::from_array_view((dims, tensor.i64s()?)).map(|v| v.into_dyn()),
            _ => return Err(self.unknown()),
        };
        value.map_err(runtime_error("filling an input"))
    }

    /// A value with a copy of the elements of `tensor`, to be bound for many runs.
    pub fn value(&self, tensor: &Tensor) -> Result<DynValue> {
        self.check(tensor)?;
        let dims = self.shape.to_vec();
        let value = match self.dtype {
            Dtype::F32 => OrtTensor::from_array((dims, tensor.to_f32())).map(|v| v.into_dyn()),
            Dtype::I64 => OrtTensor::from_array((dims, tensor.to_i64())).map(|v| v.into_dyn()),
            _ => return Err(self.unknown()),
        };
        value.map_err(runtime_error("filling an input"))
    }
}

/// A result of a graph, and the memory that a run writes it into.
struct SessionOutput {
    name: String,
    shape: Vec<usize>,
    elements: OutputElements,
}

enum OutputElements {
    F32(Vec<f32>),
    I64(Vec<i64>),
}

impl SessionOutput {
    fn new(outlet: &ort::value::Outlet) -> Result<SessionOutput> {
        let (name, dtype) = (outlet.name(), outlet.dtype());
        let dims = dtype.tensor_shape().map(|shape| shape.iter().map(|&d| usize::try_from(d).ok()));
        let shape: Option<Vec<usize>> = dims.and_then(|dims| dims.collect());
        let (Some(shape), Some(element)) = (shape, dtype.tensor_type()) else {
            return Err(Error::internal(format!(
                "graph output '{name}': expected a known shape, found {dtype}"
            )));
        };
        let n = shape.iter().product();
        let elements = match element {
            TensorElementType::Float32 => OutputElements::F32(shortage::filled(name, n, 0.0)?),
            TensorElementType::Int64 => OutputElements::I64(shortage::filled(name, n, 0)?),
            other => return Err(Error::internal(format!("graph output '{name}' is {other}"))),
        };
        Ok(SessionOutput { name: name.into(), shape, elements })
    }

    /// A value over the elements, for one run.
    fn borrow(&mut self) -> Result<DynValueRefMut<'_>> {
        let dims = self.shape.as_slice();
        let value = match &mut self.elements {
            OutputElements::F32(data) => {
                TensorRefMut::from_array_view_mut((dims, data.as_mut_slice())).map(|v| v.into_dyn())
            }
            OutputElements::I64(data) => {
                TensorRefMut::from_array_view_mut((dims, data.as_mut_slice())).map(|v| v.into_dyn())
            }
        };
        value.map_err(runtime_error("preparing a result"))
    }

    fn into_tensor(self) -> (String, Tensor) {
        let tensor = match self.elements {
            OutputElements::F32(data) => Tensor::from_f32_vec(self.shape, data),
            OutputElements::I64(data) => Tensor::from_i64_vec(self.shape, data),
        };
        (self.name, tensor)
    }
}

impl Session {
    /// As [`Session::run`], from a list that may hold more than the graph has inputs.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub(crate) fn run_some(
        &mut self,
        feeds: &[(String, Tensor)],
        cancel: &Cancel,
    ) -> Result<Vec<(String, Tensor)>> {
        let feeds: Vec<(&str, &Tensor)> = feeds.iter().map(|(n, t)| (n.as_str(), t)).collect();
        self.run(&feeds, cancel)
    }

    /// Run with `inputs` by name (every input of the graph exactly once) and return the results in the graph's
    /// order. Nothing is copied on the way between tensors and the CPU's kernels; results from another device
    /// are copied once, from there into the tensors.
    ///
    /// # Errors
    /// [`Error::Cancelled`] soon after `cancel` is set; [`Error::Internal`] for an input that is missing or has
    /// another dtype or shape than the graph's; [`Error::Runtime`].
    pub fn run(&mut self, inputs: &[(&str, &Tensor)], cancel: &Cancel) -> Result<Vec<(String, Tensor)>> {
        let feed = |input: &Input| match inputs.iter().find(|(name, _)| *name == input.name) {
            Some((_, tensor)) => input.borrow(tensor),
            None => Err(Error::internal(format!("graph input '{}' not supplied", input.name))),
        };
        let feeds = self.inputs.iter().map(feed).collect::<Result<Vec<_>>>()?;
        let mut outputs =
            self.session.outputs().iter().map(SessionOutput::new).collect::<Result<Vec<_>>>()?;
        let mut results = outputs.iter_mut().map(SessionOutput::borrow).collect::<Result<Vec<_>>>()?;

        let names =
            self.inputs.iter().map(|input| &input.name).chain(self.weights.iter().map(|(name, _)| name));
        let input_names = c_strings(names.map(String::as_str))?;
        let output_names = c_strings(self.session.outputs().iter().map(|outlet| outlet.name()))?;
        let weights = self.weights.iter().map(|(_, value)| value.as_ref());
        let values: Vec<&DynValue> = feeds.iter().map(|feed| &**feed).chain(weights).collect();

        let running = cancel.begin(!self.cost.gives_back)?;
        self.cost.preflight()?;
        let began = Instant::now();
        let ended =
            call(&mut self.session, &running.options, (&input_names, &values), (&output_names, &mut results));
        exit::after_run(&mut self.used);
        running.outcome(ended)?;
        self.cost.has_taken(began.elapsed());
        if self.cost.gives_back {
            release_heap();
        }
        drop(results);
        Ok(outputs.into_iter().map(SessionOutput::into_tensor).collect())
    }
}

/// One run that reads the inputs' memory and writes the outputs', a name for each value.
#[allow(unsafe_code)]
fn call(
    session: &mut ort::session::Session,
    options: &RunOptions,
    (input_names, inputs): (&[CString], &[&DynValue]),
    (output_names, outputs): (&[CString], &mut [DynValueRefMut<'_>]),
) -> ort::Result<()> {
    assert_eq!((input_names.len(), output_names.len()), (inputs.len(), outputs.len()));
    let pointers = |names: &[CString]| names.iter().map(|name| name.as_ptr()).collect::<Vec<*const c_char>>();
    let inputs: Vec<*const ort::sys::OrtValue> = inputs.iter().map(|value| value.ptr()).collect();
    let mut outputs: Vec<*mut ort::sys::OrtValue> =
        outputs.iter_mut().map(|value| value.ptr().cast_mut()).collect();
    // SAFETY: as many names as values, which borrow their memory for longer than the call, outputs exclusively.
    // The runtime checks dtypes and shapes, writes outputs that are given in place, and keeps nothing. One run at
    // a time: the session is borrowed exclusively.
    unsafe {
        let status = (ort::api().Run)(
            session.ptr_mut(),
            options.ptr(),
            pointers(input_names).as_ptr(),
            inputs.as_ptr(),
            inputs.len(),
            pointers(output_names).as_ptr(),
            outputs.len(),
            outputs.as_mut_ptr(),
        );
        ort::Error::result_from_status(status)
    }
}

fn c_strings<'a>(names: impl Iterator<Item = &'a str>) -> Result<Vec<CString>> {
    let name = |name| CString::new(name).map_err(|_| Error::internal(format!("NUL in the name '{name}'")));
    names.map(name).collect()
}

//! The session of a loop: what one run hands to the next stays where the provider computes.

use std::rc::Rc;
use std::time::{Duration, Instant};

use ort::memory::Allocator;
use ort::session::IoBinding;
use ort::value::{DynValue, Tensor as OrtTensor};

use super::cancel::Cancel;
use super::cost::Cost;
use super::error::runtime_error;
use super::exit;
use super::provider::Provider;
use super::session::Session;
use crate::error::{Error, Result};
use crate::tensor::{Dtype, Tensor};

/// A compiled graph whose inputs stay bound from run to run. A carried value, an output that is an input of the
/// next run, never passes through the host: it has two buffers in the provider's memory, of which a run reads
/// one and writes the other.
#[derive(Debug)]
pub(crate) struct Bound {
    binding: IoBinding,
    carried: Vec<Carried>,
    /// Runs that [`Bound::advance`] has followed.
    advanced: usize,
    session: Session,
}

#[derive(Debug)]
struct Carried {
    output: String,
    input: String,
    buffers: [OrtTensor<f32>; 2],
}

impl Session {
    /// Keep the inputs bound; `carried` are pairs of an f32 output and the input that it is in the next run.
    ///
    /// # Errors
    /// [`Error::Internal`] for a carried input that the graph does not have; [`Error::Runtime`].
    pub(crate) fn bind(self, carried: &[(String, String)]) -> Result<Bound> {
        let failed = runtime_error("binding a loop's values");
        let mut binding = self.session.create_binding().map_err(&failed)?;
        let host = Provider::Cpu.memory(0)?;
        for output in self.session.outputs() {
            if !carried.iter().any(|(name, _)| name == output.name()) {
                binding.bind_output_to_device(output.name(), &host).map_err(&failed)?;
            }
        }
        let allocator = Allocator::new(&self.session, (*self.memory).to_owned()).map_err(&failed)?;
        let buffers = |name: &str| {
            let input = self.inputs.iter().find(|i| i.name == name && i.dtype == Dtype::F32);
            let input = input.ok_or_else(|| Error::internal(format!("no f32 graph input '{name}'")))?;
            let new = || OrtTensor::<f32>::new(&allocator, input.shape.to_vec()).map_err(&failed);
            Ok::<_, Error>([new()?, new()?])
        };
        let carry = |(output, input): &(String, String)| {
            Ok(Carried { output: output.clone(), input: input.clone(), buffers: buffers(input)? })
        };
        let carried = carried.iter().map(carry).collect::<Result<Vec<_>>>()?;
        let mut bound = Bound { binding, carried, advanced: 0, session: self };
        bound.restart()?;
        Ok(bound)
    }
}

impl Bound {
    /// Forget all inputs: what follows is another loop.
    ///
    /// # Errors
    /// [`Error::Runtime`].
    pub fn restart(&mut self) -> Result<()> {
        self.binding.clear_inputs();
        for (name, value) in &self.session.weights {
            self.binding.bind_input(name, &**value).map_err(runtime_error("binding weights"))?;
        }
        self.advanced = 0;
        self.bind_results()
    }

    /// What it adds to memory.
    pub fn cost(&self) -> &Rc<Cost> {
        &self.session.cost
    }

    /// How long the fastest run took.
    pub fn took(&self) -> Option<Duration> {
        self.session.cost.took.get()
    }

    /// Set inputs from host memory, by one copy, for all runs until they are set again or carried over. Names that
    /// the graph does not have are left out.
    ///
    /// # Errors
    /// [`Error::Internal`] for another dtype or shape than the graph's; [`Error::Runtime`].
    pub fn feed<'a>(&mut self, feeds: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> Result<()> {
        for (name, tensor) in feeds {
            if let Some(input) = self.session.inputs.iter().find(|i| i.name == name) {
                let value = input.value(tensor)?;
                self.binding.bind_input(name, &value).map_err(runtime_error("binding an input"))?;
            }
        }
        Ok(())
    }

    /// Read the other loop's carried values of these inputs' names from where they lie.
    ///
    /// # Errors
    /// [`Error::Runtime`].
    pub fn follow(&mut self, other: &Bound) -> Result<()> {
        for c in other.carried.iter().filter(|_| other.advanced > 0) {
            if self.session.inputs.iter().any(|i| i.name == c.input) {
                let value = &c.buffers[(other.advanced - 1) % 2];
                self.binding.bind_input(&c.input, value).map_err(runtime_error("binding an input"))?;
            }
        }
        Ok(())
    }

    /// Run, and return copies of the results that are not carried, in the graph's order: the next run writes
    /// where this one wrote. The inputs are what they were.
    ///
    /// # Errors
    /// [`Error::Cancelled`] soon after `cancel` is set; [`Error::Runtime`].
    pub fn run(&mut self, cancel: &Cancel) -> Result<Vec<(String, Tensor)>> {
        let running = cancel.begin(!self.session.cost.gives_back)?;
        self.session.cost.preflight()?;
        let began = Instant::now();
        running.outcome(self.binding.synchronize_inputs())?;
        let outputs = self.session.session.run_binding_with_options(&self.binding, &running.options);
        exit::after_run(&mut self.session.used);
        let outputs = running.outcome(outputs)?;
        running.outcome(self.binding.synchronize_outputs())?;
        self.session.cost.has_taken(began.elapsed());
        let host = outputs.iter().filter(|(name, _)| !self.carried.iter().any(|c| c.output == *name));
        host.map(|(name, value)| Ok((name.to_string(), to_tensor(&value)?))).collect()
    }

    /// What the last run wrote is what the next one reads.
    ///
    /// # Errors
    /// [`Error::Runtime`].
    pub fn advance(&mut self) -> Result<()> {
        for c in &self.carried {
            let written = &c.buffers[self.advanced % 2];
            self.binding.bind_input(&c.input, written).map_err(runtime_error("binding an input"))?;
        }
        self.advanced += 1;
        self.bind_results()
    }

    fn bind_results(&mut self) -> Result<()> {
        for c in &mut self.carried {
            let free = &mut c.buffers[self.advanced % 2];
            self.binding.bind_output(&c.output, free).map_err(runtime_error("binding a result"))?;
        }
        Ok(())
    }
}

/// A copy of a result in host memory.
fn to_tensor(value: &DynValue) -> Result<Tensor> {
    let dims = |shape: &[i64]| shape.iter().map(|&d| d as usize).collect::<Vec<_>>();
    if let Ok((shape, data)) = value.try_extract_tensor::<f32>() {
        return Ok(Tensor::from_f32(dims(shape), data));
    }
    let (shape, data) = value.try_extract_tensor::<i64>().map_err(runtime_error("reading a result"))?;
    Ok(Tensor::from_i64(dims(shape), data))
}

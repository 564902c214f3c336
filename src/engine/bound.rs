//! The session of a loop: what one run hands to the next stays where the provider computes.

use ort::memory::Allocator;
use ort::session::IoBinding;
use ort::value::Tensor as OrtTensor;

use super::cancel::Cancel;
use super::exit;
use super::provider::Provider;
use super::session::{Session, runtime_error, to_tensor};
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
    pub(crate) fn bind(self, carried: &[(String, String)]) -> Result<Bound> {
        let failed = runtime_error("binding a loop's values");
        let mut binding = self.session.create_binding().map_err(&failed)?;
        for (name, value) in &self.weights {
            binding.bind_input(name, value).map_err(&failed)?;
        }
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
        bound.bind_results()?;
        Ok(bound)
    }
}

impl Bound {
    /// Set inputs from host memory, for all runs until they are set again or carried over. Names that the graph
    /// does not have are left out.
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
    pub fn follow(&mut self, other: &Bound) -> Result<()> {
        for c in other.carried.iter().filter(|_| other.advanced > 0) {
            if self.session.inputs.iter().any(|i| i.name == c.input) {
                let value = &c.buffers[(other.advanced - 1) % 2];
                self.binding.bind_input(&c.input, value).map_err(runtime_error("binding an input"))?;
            }
        }
        Ok(())
    }

    /// Run, and return copies of the results that are not carried, in the graph's order. Ends with
    /// [`Error::Cancelled`] soon after `cancel` is set; the inputs are what they were.
    pub fn run(&mut self, cancel: &Cancel) -> Result<Vec<(String, Tensor)>> {
        let running = cancel.begin()?;
        running.outcome(self.binding.synchronize_inputs())?;
        let outputs = self.session.session.run_binding_with_options(&self.binding, &running.options);
        if !std::mem::replace(&mut self.session.used, true) {
            exit::install();
        }
        let outputs = running.outcome(outputs)?;
        running.outcome(self.binding.synchronize_outputs())?;
        let host = outputs.iter().filter(|(name, _)| !self.carried.iter().any(|c| c.output == *name));
        host.map(|(name, value)| Ok((name.to_string(), to_tensor(&value)?))).collect()
    }

    /// What the last run wrote is what the next one reads.
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

#[cfg(test)]
mod tests {
    use crate::graph::Graph;
    use crate::{Engine, Options};

    use super::*;

    /// x ← x·a + s, s ← s + x, with the sum of x as a result for the host.
    fn graph() -> Graph {
        let g = Graph::new();
        let [x, s] = ["x", "s"].map(|name| g.input(name, Dtype::F32, [2, 3]).unwrap());
        let a = g.input("a", Dtype::F32, [1]).unwrap();
        g.output("sum", g.reduce_sum(x, &[0, 1]).unwrap());
        g.output("next.x", g.add(g.mul(x, a).unwrap(), s).unwrap());
        g.output("next.s", g.add(s, x).unwrap());
        g
    }

    /// Bit for bit what runs through the host give, and a run that was cancelled can be run again.
    #[test]
    fn carried_values_equal_values_through_the_host() {
        let model =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/emoji-32.softdimo.safetensors");
        let engine = Engine::open(model, Options::default()).unwrap();
        engine
            .call(|sessions| {
                let cancel = Cancel::default();
                let carried = ["x", "s"].map(|name| (format!("next.{name}"), name.to_string()));
                let mut plain = sessions.compile("plain", &graph())?;
                let mut bound = sessions.compile("bound", &graph())?.bind(&carried)?;
                let read = Graph::new();
                let s = read.input("s", Dtype::F32, [2, 3])?;
                read.output("s again", read.mul_scalar(s, 2.0)?);
                let mut read = sessions.compile("read", &read)?.bind(&[])?;

                let mut x = Tensor::from_f32([2, 3], &[0.1, -2.0, 3.3, 0.7, 1e-3, 5.0]);
                let mut s = Tensor::from_f32([2, 3], &[0.0; 6]);
                bound.feed([("x", &x), ("s", &s), ("unknown", &x)])?;
                read.feed([("s", &s)])?;
                for step in 0..5 {
                    let a = Tensor::from_f32([1], &[0.3 + step as f32]);
                    bound.feed([("a", &a)])?;
                    let mut expected = plain.run(&[("x", &x), ("s", &s), ("a", &a)], &cancel)?;
                    let ended = Cancel::default();
                    ended.cancel();
                    assert!(matches!(bound.run(&ended), Err(Error::Cancelled)));
                    let first = bound.run(&cancel)?;
                    assert_eq!(first, bound.run(&cancel)?, "a run does not change its inputs");
                    assert_eq!(first, [expected.remove(0)]);
                    (x, s) = (expected.remove(0).1, expected.remove(0).1);
                    bound.advance()?;
                    read.follow(&bound)?;
                    let twice: Vec<f32> = s.to_f32().iter().map(|s| 2.0 * s).collect();
                    assert_eq!(read.run(&cancel)?[0].1.to_f32(), twice);
                }
                let refused = sessions.compile("bad", &graph())?.bind(&[("sum".into(), "y".into())]);
                assert_eq!(
                    refused.unwrap_err().to_string(),
                    "internal error (please report it): no f32 graph input 'y'"
                );
                Ok(())
            })
            .unwrap();
    }
}

//! Which convolutions for int8 arithmetic are faster in f32 on the machine at hand: measured one kind after the other, judged
//! by the whole networks, remembered for later engines.
//!
//! Only networks that make pictures of tokens, or tokens of pictures, are looked at. The products of a student or teacher stay
//! as the processor's kernels allow: a seed must not give other tokens after a measurement.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::Engine;
use super::warmup::Preparing;
use crate::error::{Error, Result};
use crate::graph::{Graph, Op, Value, int8};
use crate::host::{Host, Progress};
use crate::program::Program;
use crate::runtime::{Arithmetic, Cancel, Provider, Session};
use crate::sessions::Sessions;
use crate::sessions::tuned::{self, ENV_CACHE};
use crate::shortage;
use crate::tensor::{Dtype, Tensor};

/// int8 goes where it takes longer than f32 by this factor. Where the two are alike it stays: its rounding is what the file
/// was judged with, and noise decides nothing.
const SLOWER: f64 = 1.05;

/// Runs of each form that are timed: between these, until there was time enough to meet a quiet moment.
const RUNS: std::ops::RangeInclusive<usize> = 3..=15;
const ENOUGH: Duration = Duration::from_millis(400);

/// The networks whose convolutions are chosen; that of [`Program::DecodeSoft`] is [`Program::DecodeHard`]'s.
const PROGRAMS: [Program; 2] = [Program::DecodeHard, Program::Encode];

/// What [`Engine::tune`] found.
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct Tuning {
    /// One for each kind of convolution.
    pub layers: Vec<TunedLayer>,
    /// The networks that they belong to.
    pub programs: Vec<TunedProgram>,
    /// Kernels whose convolutions are computed in f32 here, ascending.
    pub in_f32: Vec<String>,
    /// Where that is remembered.
    pub file: PathBuf,
}

/// Convolutions of one shape, measured alone: rounding and widening are part of int8.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct TunedLayer {
    /// What is read and written, channels × height × width, and the size of the kernels.
    pub shape: String,
    /// How many there are.
    pub count: usize,
    /// The fastest run of one.
    pub f32_milliseconds: f64,
    pub int8_milliseconds: f64,
}

impl TunedLayer {
    /// Whether f32 is faster by more than what noise makes of equals.
    pub fn is_faster_in_f32(&self) -> bool {
        self.int8_milliseconds > SLOWER * self.f32_milliseconds
    }
}

/// A whole network, for one picture.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct TunedProgram {
    pub name: String,
    /// The fastest run with every convolution in int8 that may be.
    pub int8_milliseconds: f64,
    /// The same with those in f32 that are faster so; `None` where there are none.
    pub chosen_milliseconds: Option<f64>,
}

impl TunedProgram {
    /// Whether the choice holds for the whole: layers measured alone may be faster than among others.
    fn gains(&self) -> bool {
        self.chosen_milliseconds.is_some_and(|chosen| chosen < self.int8_milliseconds)
    }
}

impl Engine {
    /// Measure which convolutions of a model for int8 arithmetic (format 2) this machine computes faster in f32, with this
    /// engine's threads and memory mode, and remember it in the user's cache folder: `$SOFTDIMO_CACHE`, else
    /// `$XDG_CACHE_HOME/softdimo`, `~/.cache/softdimo`, `%LOCALAPPDATA%\softdimo\cache` or `~/Library/Caches/softdimo`. This
    /// engine computes so from now on, as do those that are opened later with the same model, processor, ONNX Runtime, number of
    /// threads and memory mode, unless [`Options::untuned`](crate::Options::untuned) is set. Pictures change by what int8
    /// rounds off; the tokens of a seed do not.
    ///
    /// Takes about a second for each kind of convolution, and drops prepared sessions. `progress` is called on this thread
    /// after each step, and 20 times a second without news; `Break` ends it, and nothing is remembered. Waits for the jobs
    /// before it.
    ///
    /// # Errors
    /// Those of [`Engine::check`]; [`Error::Unsupported`] where nothing is to be chosen; [`Error::InvalidArgument`] where
    /// `SOFTDIMO_CACHE` is `off` or no folder that can be written; [`Error::Cancelled`] after `Break`; those of preparing and running networks.
    pub fn tune(&self, progress: impl FnMut(Progress) -> ControlFlow<()>) -> Result<Tuning> {
        self.check()?;
        let work = |sessions: &mut Sessions, host: &Preparing<Tuning>| {
            let tuned = tune(sessions, host);
            // What was prepared by turns goes, whatever came of it.
            sessions.trim();
            shortage::checked("tuning", tuned)
        };
        self.wait_for(work, progress)
    }
}

/// Convolutions of one shape.
struct Kind {
    /// One of them.
    graph: Graph,
    kernels: BTreeSet<String>,
    shape: String,
}

fn tune(sessions: &mut Sessions, host: &dyn Host) -> Result<Tuning> {
    let cancel = host.cancel();
    let nothing =
        |reason: &str| Error::Unsupported { what: "tuning this engine".into(), reason: reason.into() };
    let model = sessions.model().clone();
    if sessions.provider() != Provider::Cpu || sessions.arithmetic() != Arithmetic::Auto {
        return Err(nothing("int8 is computed on the CPU with the arithmetic AUTO"));
    }
    let here = sessions.tuned_for().ok_or_else(|| nothing("the model states no hash of its tensors"))?;
    let Some(folder) = sessions.cache() else {
        return Err(Error::invalid(
            ENV_CACHE,
            "a folder to remember it in, or none given and a home",
            "none",
        ));
    };
    let file = here.path(folder);

    let mut kinds: BTreeMap<String, Kind> = BTreeMap::new();
    let mut programs = Vec::new();
    for program in PROGRAMS {
        if !program.available(model.architecture(), &model.weights()) {
            continue;
        }
        let graph = program.graph(model.architecture(), &model.weights(), 1)?;
        let found: Vec<_> =
            int8::convolutions(&graph).into_iter().filter(|(name, _)| sessions.chooses(name)).collect();
        for (kernels, [_, writes]) in &found {
            let (shape, of) = kind(&graph, *writes);
            let kind = match kinds.get_mut(&of) {
                Some(kind) => kind,
                None => {
                    let (graph, kernels) = (graph.alone(*writes)?, BTreeSet::new());
                    kinds.entry(of).or_insert(Kind { graph, kernels, shape })
                }
            };
            kind.kernels.insert(kernels.clone());
        }
        if !found.is_empty() {
            let kernels: BTreeSet<String> = found.into_iter().map(|(kernels, _)| kernels).collect();
            programs.push((program, graph, kernels));
        }
    }
    if kinds.is_empty() {
        return Err(nothing("the model has no convolution for int8 arithmetic"));
    }
    // Before the work, not after it.
    tuned::make_room(&file)?;
    sessions.trim();

    let total = (kinds.len() + programs.len()) as u32;
    let mut step = 0..total;
    let mut advance = || host.advance(Progress { step: step.next().map_or(total, |step| step + 1), total });
    let (mut layers, mut slow, mut fast) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for Kind { graph, kernels, shape } in kinds.into_values() {
        let [f32, int8] = compare(sessions, "layer", &graph, [&kernels, &BTreeSet::new()], cancel)?;
        let layer =
            TunedLayer { shape, count: kernels.len(), f32_milliseconds: f32, int8_milliseconds: int8 };
        if layer.is_faster_in_f32() { &mut slow } else { &mut fast }.extend(kernels);
        layers.push(layer);
        advance();
    }
    // Kernels may be read at two sizes.
    slow.retain(|kernels| !fast.contains(kernels));

    let (mut judged, mut in_f32) = (Vec::new(), BTreeSet::new());
    for (program, graph, kernels) in &programs {
        let chosen: BTreeSet<String> = kernels.intersection(&slow).cloned().collect();
        let [with, without] = compare(sessions, program.name(), graph, [&chosen, &BTreeSet::new()], cancel)?;
        let tuned = TunedProgram {
            name: program.name().into(),
            int8_milliseconds: without,
            chosen_milliseconds: (!chosen.is_empty()).then_some(with),
        };
        if tuned.gains() {
            in_f32.extend(chosen);
        }
        judged.push(tuned);
        advance();
    }
    cancel.check()?;
    here.write(&file, &in_f32)?;
    sessions.compute_in_floats(in_f32.clone());
    Ok(Tuning { layers, programs: judged, in_f32: in_f32.into_iter().collect(), file })
}

/// What is read, written and done by a convolution: for people, and so that two of the same text take the same time.
fn kind(graph: &Graph, value: Value) -> (String, String) {
    let nodes = graph.nodes();
    let node = &nodes[value.index()];
    let (reads, kernels) = (&nodes[node.inputs[0].index()], &nodes[node.inputs[1].index()].shape);
    let enlarged = match &reads.op {
        resize @ Op::Resize { .. } => format!("{resize:?} of {:?}", nodes[reads.inputs[0].index()].shape),
        _ => String::new(),
    };
    let size = |shape: &[usize]| shape[1..].iter().map(usize::to_string).collect::<Vec<_>>().join("×");
    let (from, to) = (size(&reads.shape), size(&node.shape));
    let mut shape = format!("{from} → {to}, {}×{}", kernels[2], kernels[3]);
    if !enlarged.is_empty() {
        shape += ", enlarged";
    }
    let of = format!("{:?} {:?} {kernels:?} {} {enlarged}", node.op, reads.shape, node.inputs.len());
    (shape, of)
}

/// Milliseconds that a graph takes with these convolutions in f32, and with those. Without a difference it is measured once.
fn compare(
    sessions: &mut Sessions,
    name: &str,
    graph: &Graph,
    in_f32: [&BTreeSet<String>; 2],
    cancel: &Cancel,
) -> Result<[f64; 2]> {
    let inputs: Vec<(String, Tensor)> = graph.nodes().iter().filter_map(|n| input(&n.op)).collect();
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, value)| (name.as_str(), value)).collect();
    let mut forms: Vec<Session> = Vec::new();
    for in_f32 in if in_f32[0] == in_f32[1] { &in_f32[..1] } else { &in_f32[..] } {
        forms.push(sessions.compile_with(name, graph, in_f32, cancel)?);
        // The first run packs, plans and touches memory.
        forms.last_mut().map_or(Ok(vec![]), |session| session.run(&inputs, cancel))?;
    }
    let least = least(forms.len(), |form| {
        let began = Instant::now();
        forms[form].run(&inputs, cancel)?;
        Ok(began.elapsed())
    })?;
    let milliseconds = |form: usize| least[form.min(least.len() - 1)].as_secs_f64() * 1e3;
    Ok([milliseconds(0), milliseconds(1)])
}

/// The fastest run of each form. They take turns, so that what else runs on the machine slows all of them alike.
fn least(forms: usize, mut time: impl FnMut(usize) -> Result<Duration>) -> Result<Vec<Duration>> {
    let (mut least, mut sum) = (vec![Duration::MAX; forms], Duration::ZERO);
    for run in 1..=*RUNS.end() {
        for (form, fastest) in least.iter_mut().enumerate() {
            let took = time(form)?;
            *fastest = took.min(*fastest);
            sum += took;
        }
        if RUNS.contains(&run) && sum >= ENOUGH * forms as u32 {
            break;
        }
    }
    Ok(least)
}

/// Something for an input: tokens 0, numbers between 0.25 and 0.75.
fn input(op: &Op) -> Option<(String, Tensor)> {
    let Op::Input { name, dtype, shape } = op else { return None };
    let value = match dtype {
        Dtype::I64 => Tensor::from_i64_vec(shape.to_vec(), vec![0; shape.len()]),
        _ => {
            // The upper bits of multiples of an odd number are spread evenly.
            let spread = |i: usize| ((i as u32).wrapping_mul(0x9e37_79b9) >> 8) as f32 / (1 << 24) as f32;
            let values = (0..shape.len()).map(|i| 0.25 + spread(i) / 2.0).collect();
            Tensor::from_f32_vec(shape.to_vec(), values)
        }
    };
    Some((name.clone(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(f32: u64, int8: u64) -> TunedLayer {
        // A clock that stands still between runs, and a neighbour that slows every other run to its double.
        let mut runs = 0;
        let times = least(2, |form| {
            runs += 1;
            Ok(Duration::from_micros([f32, int8][form]) * (1 + (runs / 2) % 2))
        });
        let [f32_milliseconds, int8_milliseconds] =
            [0, 1].map(|i| times.as_ref().unwrap()[i].as_secs_f64() * 1e3);
        TunedLayer { shape: String::new(), count: 1, f32_milliseconds, int8_milliseconds }
    }

    #[test]
    fn int8_goes_only_where_it_is_clearly_slower() {
        for (f32, int8, goes) in [
            (1000, 400, false),
            (1000, 1000, false),
            (1000, 1040, false),
            (1000, 1060, true),
            (10, 1000, true),
        ] {
            let layer = layer(f32, int8);
            assert_eq!(layer.is_faster_in_f32(), goes, "{layer:?}");
            assert_eq!(layer.f32_milliseconds, f32 as f64 / 1e3);
        }
        let program = |chosen| TunedProgram {
            name: String::new(),
            int8_milliseconds: 2.0,
            chosen_milliseconds: chosen,
        };
        assert_eq!(
            [None, Some(1.9), Some(2.0), Some(2.1)].map(|ms| program(ms).gains()),
            [false, true, false, false]
        );
    }

    #[test]
    fn runs_are_as_many_as_are_needed() {
        let count = |took: Duration| {
            let mut runs = 0;
            let time = |_| {
                runs += 1;
                Ok(took)
            };
            least(2, time).unwrap();
            runs
        };
        assert_eq!(count(Duration::from_secs(1)), 2 * RUNS.start());
        assert_eq!(count(Duration::from_micros(1)), 2 * RUNS.end());
        assert!(least(2, |_| Err(Error::Cancelled)).is_err());
    }
}

//! Which convolutions for int8 arithmetic are faster in f32 on the machine at hand: measured one kind after the other, judged
//! by the whole networks, remembered for later engines.
//!
//! Only networks that make pictures of tokens, or tokens of pictures, are looked at. The products of a student or teacher stay
//! as the processor's kernels allow: a seed must not give other tokens after a measurement.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use super::Engine;
use super::warmup::Preparing;
use crate::error::{Error, Result};
use crate::graph::{Graph, Op, Value, int8};
use crate::host::{Host, Progress};
use crate::program::Program;
use crate::runtime::{Arithmetic, Cancel, Provider};
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
    /// The networks with convolutions that are faster in f32.
    pub programs: Vec<TunedProgram>,
    /// Names of the kernels whose convolutions are computed in f32 here, ascending.
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
    /// The same with those in f32 that are faster so alone.
    pub chosen_milliseconds: f64,
}

impl TunedProgram {
    /// Whether the choice holds for the whole: layers measured alone may be faster than among others.
    pub fn gains(&self) -> bool {
        SLOWER * self.chosen_milliseconds < self.int8_milliseconds
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
            let tuned = tune(sessions, host, &mut |_, run| run());
            // What was prepared by turns goes, whatever came of it.
            sessions.trim();
            shortage::checked("tuning", tuned)
        };
        self.wait_for(work, progress)
    }
}

/// Names of kernels.
type KernelNames = BTreeSet<String>;

/// How long a run takes with the convolutions of these kernels in f32.
type Stopwatch<'a> =
    &'a mut dyn FnMut(&KernelNames, &mut dyn FnMut() -> Result<Duration>) -> Result<Duration>;

/// Convolutions of one shape.
struct Kind {
    /// One of them.
    graph: Graph,
    kernels: KernelNames,
    shape: String,
}

fn tune(sessions: &mut Sessions, host: &dyn Host, watch: Stopwatch) -> Result<Tuning> {
    let cancel = host.cancel();
    let nothing =
        |reason: &str| Error::Unsupported { what: "tuning this engine".into(), reason: reason.into() };
    let model = sessions.model().clone();
    if sessions.provider() != Provider::Cpu || sessions.arithmetic() != Arithmetic::Auto {
        return Err(nothing("int8 is computed on the CPU with the arithmetic AUTO"));
    }
    let here = sessions.tuned_for().ok_or_else(|| nothing("the model states no hash of its tensors"))?;
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
                    let (graph, kernels) = (graph.alone(*writes)?, KernelNames::new());
                    kinds.entry(of).or_insert(Kind { graph, kernels, shape })
                }
            };
            kind.kernels.insert(kernels.clone());
        }
        if !found.is_empty() {
            let kernels: KernelNames = found.into_iter().map(|(kernels, _)| kernels).collect();
            programs.push((program, graph, kernels));
        }
    }
    if kinds.is_empty() {
        return Err(nothing("the model has no convolution for int8 arithmetic"));
    }
    let Some(folder) = sessions.cache() else {
        let expected = "a folder to remember it in, or none given and a home";
        let off = std::env::var_os(ENV_CACHE).is_some_and(|given| !given.is_empty());
        return Err(Error::invalid(ENV_CACHE, expected, if off { "'off'" } else { "no home" }));
    };
    let file = here.path(folder);
    // Before the work, not after it.
    tuned::make_room(&file)?;
    sessions.trim();

    let total = (kinds.len() + programs.len()) as u32;
    let mut step = 0..total;
    let mut advance = || host.advance(Progress { step: step.next().map_or(total, |step| step + 1), total });
    let (mut layers, mut slow, mut fast) = (Vec::new(), KernelNames::new(), KernelNames::new());
    for Kind { graph, kernels, shape } in kinds.into_values() {
        let [f32, int8] = compare(sessions, "layer", &graph, &kernels, watch, cancel)?;
        let layer =
            TunedLayer { shape, count: kernels.len(), f32_milliseconds: f32, int8_milliseconds: int8 };
        if layer.is_faster_in_f32() { &mut slow } else { &mut fast }.extend(kernels);
        layers.push(layer);
        advance();
    }
    // Kernels may be used at two sizes.
    slow.retain(|kernels| !fast.contains(kernels));

    let (mut judged, mut in_f32) = (Vec::new(), KernelNames::new());
    for (program, graph, kernels) in &programs {
        let chosen: KernelNames = kernels.intersection(&slow).cloned().collect();
        if !chosen.is_empty() {
            let name = program.name();
            let [chosen_milliseconds, int8_milliseconds] =
                compare(sessions, name, graph, &chosen, watch, cancel)?;
            let tuned = TunedProgram { name: name.into(), int8_milliseconds, chosen_milliseconds };
            if tuned.gains() {
                in_f32.extend(chosen);
            }
            judged.push(tuned);
        }
        advance();
    }
    model.mapping().recheck()?;
    // From now on what was found is handed over, also to whoever ends it.
    host.holds_best();
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

/// Milliseconds that a graph takes with the convolutions of these kernels in f32, and with all in int8.
fn compare(
    sessions: &mut Sessions,
    name: &str,
    graph: &Graph,
    in_f32: &KernelNames,
    watch: Stopwatch,
    cancel: &Cancel,
) -> Result<[f64; 2]> {
    let inputs: Vec<(String, Tensor)> = graph.nodes().iter().filter_map(|n| input(&n.op)).collect();
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, value)| (name.as_str(), value)).collect();
    let choices = [in_f32, &KernelNames::new()];
    let mut forms = Vec::new();
    for in_f32 in choices {
        let mut session = sessions.compile_with(name, graph, in_f32, cancel)?;
        // The first run packs, plans and touches memory.
        session.run(&inputs, cancel)?;
        forms.push(session);
    }
    // The fastest run so far, without what a paused engine, or one with a share of the processor, waits before it.
    let mut fastest = |form: usize| {
        forms[form].run(&inputs, cancel)?;
        Ok(forms[form].cost.took.get().unwrap_or_default())
    };
    let least = least(|form| watch(choices[form], &mut || fastest(form)))?;
    Ok(least.map(|least| least.as_secs_f64() * 1e3))
}

/// The fastest run of each of two forms. They take turns, so that what else runs on the machine slows both alike.
fn least(mut time: impl FnMut(usize) -> Result<Duration>) -> Result<[Duration; 2]> {
    let (mut least, mut sum) = ([Duration::MAX; 2], Duration::ZERO);
    for run in 1..=*RUNS.end() {
        for (form, fastest) in least.iter_mut().enumerate() {
            let took = time(form)?;
            *fastest = took.min(*fastest);
            sum += took;
        }
        if RUNS.contains(&run) && sum >= 2 * ENOUGH {
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
    use std::path::Path;

    use super::*;
    use crate::calibrate::{calibrate, quantize_calibrated};
    use crate::convert::Storage;
    use crate::generate::tests::Alone;
    use crate::runtime::Options;
    use crate::sessions::tests::on_model;

    #[test]
    fn int8_goes_only_where_it_is_clearly_slower() {
        let layer = |f32: u64, int8: u64| {
            // A neighbour slows every other pair of runs to its double.
            let mut runs = 0;
            let times = least(|form| {
                runs += 1;
                Ok(Duration::from_micros([f32, int8][form]) * (1 + (runs / 2) % 2))
            });
            let [f32_milliseconds, int8_milliseconds] = times.unwrap().map(|time| time.as_secs_f64() * 1e3);
            TunedLayer { shape: String::new(), count: 1, f32_milliseconds, int8_milliseconds }
        };
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
    }

    #[test]
    fn runs_are_as_many_as_are_needed() {
        let count = |took: Duration| {
            let mut runs = 0;
            let time = |_| {
                runs += 1;
                Ok(took)
            };
            least(time).unwrap();
            runs
        };
        assert_eq!(count(Duration::from_secs(1)), 2 * RUNS.start());
        assert_eq!(count(Duration::from_micros(1)), 2 * RUNS.end());
        assert!(least(|_| Err(Error::Cancelled)).is_err());
    }

    /// By a watch on which one kind of convolution is slow in int8: all of that kind are computed in f32 if the whole network
    /// is faster for it, and are remembered.
    #[test]
    fn the_faster_form_is_taken_and_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let first = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/emoji-32.softdimo.safetensors");
        let path = dir.path().join("int8.softdimo.safetensors");
        let seen = calibrate(&first, &Options::default(), 1, |_, _| ()).unwrap();
        quantize_calibrated(&first, Storage::Int8, seen.ranges(), &path, |_, _| ()).unwrap();
        let cache = dir.path().join("cache");
        for whole_gains in [true, false] {
            let cache = cache.clone();
            on_model(&path, Options::default(), move |sessions| {
                sessions.remember_in(cache);
                let ms = Duration::from_millis;
                // In int8 all take 5 ms; in f32 one kind of convolution 1 ms, all others 9, as may a network with that kind.
                let mut runs_of_kind = 0;
                let mut watch = |in_f32: &KernelNames, run: &mut dyn FnMut() -> Result<Duration>| {
                    run()?;
                    let is_kind = in_f32.contains("decoder.mid.res_blocks.0.conv1.weight");
                    runs_of_kind += usize::from(is_kind);
                    Ok(match (in_f32.is_empty(), is_kind) {
                        (true, _) => ms(5),
                        (false, true) if whole_gains || runs_of_kind <= *RUNS.end() => ms(1),
                        (false, _) => ms(9),
                    })
                };
                let tuned = tune(sessions, &Alone::default(), &mut watch)?;
                let chosen: Vec<&TunedLayer> = tuned.layers.iter().filter(|l| l.is_faster_in_f32()).collect();
                println!("{tuned:?}");
                assert_eq!(chosen.len(), 1);
                // The encoder has convolutions of that kind too, and is not faster for it on this watch.
                let gains: Vec<bool> = tuned.programs.iter().map(TunedProgram::gains).collect();
                assert_eq!(gains, [whole_gains, false]);
                assert_eq!(tuned.in_f32.is_empty(), !whole_gains);
                assert!(tuned.in_f32.len() < chosen[0].count);
                assert!(tuned.in_f32.iter().all(|name| name.starts_with("decoder.")), "{tuned:?}");
                let kind = "decoder.mid.res_blocks.0.conv1.weight";
                assert_eq!(tuned.in_f32.iter().any(|name| name == kind), whole_gains);
                let here = sessions.tuned_for().unwrap();
                let found = here.read(&tuned.file, |_| true).unwrap().unwrap();
                assert!(found.iter().eq(&tuned.in_f32));
                Ok(())
            });
        }
    }
}

//! One combination in this process: what its parent reads from its stdout, as JSON.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use softdimo::program::Program;
use softdimo::{Engine, Options, Request, Result};

use super::peak;
use super::profile::{self, Profile};
use super::resident::{Resident, most_anon};

/// What is run.
#[derive(Clone, Copy)]
pub struct Work {
    pub batch: usize,
    pub steps: u32,
    /// Timed ones, after the first.
    pub runs: usize,
    /// Run once more, to see where the time goes.
    pub profile: bool,
}

/// Times are milliseconds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Measurement {
    /// Version of ONNX Runtime.
    pub runtime: String,
    pub threads: usize,
    pub open: f64,
    /// It prepares sessions.
    pub first: f64,
    pub runs: Vec<Run>,
    /// Multiply-adds of one call of each network that ran.
    pub work: BTreeMap<String, u64>,
    /// KiB of activations that are alive at once in a call of each network that ran, at least.
    pub activations: BTreeMap<String, u64>,
    /// GFLOP/s of a large f32 product, see [`peak::rate`].
    pub peak_rate: f64,
    /// Beyond what the process held before.
    pub opened: Resident,
    pub after: Resident,
    /// RssAnon in the middle of a run of its own, at its most, in KiB, beyond the same.
    pub peak_anon: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    pub milliseconds: f64,
    pub networks: BTreeMap<String, f64>,
}

/// `said` is told the measurement while the engine is still open, unless it was profiled.
pub fn measure(
    path: &Path,
    options: Options,
    work: Work,
    said: impl FnOnce(&Measurement) -> Result<()>,
) -> Result<()> {
    let before = Resident::now();
    let clock = Instant::now();
    let engine = Engine::open(path, options.clone())?;
    let open = milliseconds(clock);
    let opened = Resident::now() - before;

    let request = Request { batch: work.batch, steps: work.steps, ..Request::default() };
    let clock = Instant::now();
    engine.generate(&request)?;
    let first = milliseconds(clock);
    let mut runs = Vec::new();
    for seed in 0..work.runs {
        let request = request.clone().with_seed(seed as u64);
        let clock = Instant::now();
        let generated = engine.generate(&request)?;
        let networks = generated.report.network_milliseconds.iter();
        runs.push(Run {
            milliseconds: milliseconds(clock),
            networks: networks.map(|(name, ms)| (name.to_string(), *ms)).collect(),
        });
    }
    let after = Resident::now() - before;
    let (watched, peak_anon) = most_anon(|| engine.generate(&request));
    watched?;
    let peak_anon = peak_anon - before.anon;

    let ran = Program::ALL.into_iter().filter(|p| runs.iter().any(|r| r.networks.contains_key(p.name())));
    let model = engine.model();
    let (mut counted, mut activations) = (BTreeMap::new(), BTreeMap::new());
    for program in ran {
        let graph = program.graph(model.architecture(), &model.weights(), work.batch)?;
        counted.insert(program.name().to_string(), graph.work());
        activations.insert(program.name().to_string(), graph.peak_activation_bytes() / 1024);
    }
    let (runtime, threads) = (engine.runtime().version.clone(), engine.threads());
    let peak_rate = peak::rate(&engine)?;
    let mut kept = Some(engine);
    let profile = match work.profile {
        true => {
            drop(kept.take());
            Some(profile::take(path, options, &request, work.runs)?)
        }
        false => None,
    };
    let work = counted;
    let measured = Measurement {
        peak_anon,
        runtime,
        threads,
        open,
        first,
        runs,
        work,
        activations,
        peak_rate,
        opened,
        after,
        profile,
    };
    said(&measured)
}

fn milliseconds(clock: Instant) -> f64 {
    clock.elapsed().as_secs_f64() * 1e3
}

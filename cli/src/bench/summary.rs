//! What the rounds of a combination say together.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use softdimo::{Error, Result};

use super::alone::Measurement;
use super::generate::Combination;
use super::machine::Machine;
use super::resident::Resident;
use super::spread::Spread;
use super::table::table;
use crate::provenance::value_name;
use crate::say::say;

/// Times are milliseconds, rates GFLOP/s, memory KiB.
#[derive(Debug, Serialize)]
pub struct Summary {
    pub model: String,
    pub bytes: u64,
    pub memory: String,
    pub threads: usize,
    pub batch: usize,
    pub open: Spread,
    /// It prepares sessions.
    pub first: Spread,
    pub run: Spread,
    /// Time a picture over that of the first combination, of each round: what both suffer from cancels out.
    pub ratio: Spread,
    pub networks: BTreeMap<String, Network>,
    /// All networks together, over the whole run.
    pub rate: Option<f64>,
    /// The fastest large f32 product of all combinations with as many threads.
    pub peak_rate: f64,
    /// The most of all rounds.
    pub opened: Resident,
    pub after: Resident,
}

/// One of the networks of a run.
#[derive(Debug, Serialize)]
pub struct Network {
    pub milliseconds: Spread,
    /// Multiply-adds counted twice, in 10⁹; `None` of a network that a run calls more than once.
    pub gflop: Option<f64>,
    pub rate: Option<f64>,
}

pub fn of(combinations: &[Combination], measured: &[Vec<Measurement>]) -> Result<Vec<Summary>> {
    let nothing = || Error::internal("a combination was not measured");
    // Of each round.
    let a_picture = |at: usize| -> Vec<f64> {
        let median = |m: &Measurement| Spread::of(m.runs.iter().map(|run| run.milliseconds));
        let median = |m| median(m).map_or(f64::NAN, |s| s.median / combinations[at].batch as f64);
        measured[at].iter().map(median).collect()
    };
    let first = a_picture(0);
    let peak = |threads: usize| {
        let same = measured.iter().flatten().filter(|m| m.threads == threads);
        same.map(|m| m.peak_rate).fold(0.0, f64::max)
    };
    let summary = |(at, combination): (usize, &Combination)| {
        let rounds = &measured[at];
        let runs = || rounds.iter().flat_map(|round| &round.runs);
        let last = rounds.last().ok_or_else(nothing)?;
        let run = Spread::of(runs().map(|run| run.milliseconds)).ok_or_else(nothing)?;
        let names = runs().flat_map(|run| run.networks.keys());
        let network = |name: &String| {
            let milliseconds = Spread::of(runs().filter_map(|run| run.networks.get(name).copied()))?;
            // Calls of the teacher are as many as the sampler makes.
            let once = name != "teacher";
            let gflop = last.work.get(name).filter(|_| once).map(|work| 2.0 * *work as f64 / 1e9);
            let rate = gflop.map(|gflop| gflop / milliseconds.median * 1e3);
            Some((name.clone(), Network { milliseconds, gflop, rate }))
        };
        let networks: BTreeMap<String, Network> = names.filter_map(network).collect();
        let gflop: Option<f64> = networks.values().map(|n| n.gflop).sum();
        let most = |of: &dyn Fn(&Measurement) -> Resident| {
            let all: Vec<Resident> = rounds.iter().map(of).collect();
            let most = |field: Figure| all.iter().map(field).max().unwrap_or(0);
            Resident {
                anon: most(|r| r.anon),
                file: most(|r| r.file),
                peak: most(|r| r.peak),
                pss: most(|r| r.pss),
            }
        };
        let path = &combination.model;
        Ok(Summary {
            model: path.display().to_string(),
            bytes: std::fs::metadata(path).map_or(0, |file| file.len()),
            memory: value_name(combination.memory).unwrap_or_default(),
            threads: last.threads,
            batch: combination.batch,
            open: Spread::of(rounds.iter().map(|round| round.open)).ok_or_else(nothing)?,
            first: Spread::of(rounds.iter().map(|round| round.first)).ok_or_else(nothing)?,
            run,
            ratio: Spread::of(a_picture(at).iter().zip(&first).map(|(own, first)| own / first))
                .ok_or_else(nothing)?,
            networks,
            rate: gflop.map(|gflop| gflop / run.median * 1e3),
            peak_rate: peak(last.threads),
            opened: most(&|round| round.opened),
            after: most(&|round| round.after),
        })
    };
    combinations.iter().enumerate().map(summary).collect()
}

impl Summary {
    pub fn title(&self) -> String {
        let Summary { model, memory, threads, batch, .. } = self;
        format!("{model}, {memory}, {threads} threads, batch {batch}")
    }

    /// With everything that was measured.
    pub fn json(&self, rounds: &[Measurement]) -> Value {
        let mut all = json!(self);
        all["rounds"] = json!(rounds);
        all
    }

    /// One combination, a line for each figure.
    pub fn print(&self, provider: &str, machine: &Machine, rounds: &[Measurement]) -> Result<()> {
        let Spread { min, median, max } = self.run;
        say!("model          {} ({} bytes)", self.model, self.bytes)?;
        say!("runtime        {}, {provider}", runtime(rounds))?;
        say!("mode           {}, {} threads, batch {}", self.memory, self.threads, self.batch)?;
        say!("cpu            {machine}")?;
        say!("open           {:.1} ms", self.open.median)?;
        say!("first run      {:.1} ms (prepares sessions)", self.first.median)?;
        say!("run            median {median:.1} ms (min {min:.1}, max {max:.1})")?;
        for (name, Network { milliseconds: Spread { min, median, max }, .. }) in &self.networks {
            let work = self.work_of(name);
            say!("  {name:<15} median {median:.1} ms (min {min:.1}, max {max:.1}){work}")?;
        }
        let rate = self.rate.map(|rate| format!("; {rate:.0} GFLOP/s over the run")).unwrap_or_default();
        say!("large product  {:.0} GFLOP/s (f32){rate}", self.peak_rate)?;
        let (opened, after) = (&self.opened, &self.after);
        for (name, of) in MEMORY {
            say!("{name:<14} +{} KiB after open, +{} KiB after runs", of(opened), of(after))?;
        }
        let most = |of: &dyn Fn(&Measurement) -> i64| rounds.iter().map(of).max().unwrap_or(0);
        let largest = most(&|round| round.activations.values().max().map_or(0, |kib| *kib as i64));
        let peak = most(&|round| round.peak_anon);
        let ratio = peak as f64 / largest.max(1) as f64;
        say!(
            "activations    {largest} KiB at once in the largest network, at least; RssAnon +{peak} KiB in a run, {ratio:.2} of it"
        )?;
        say!("peak resident  {} KiB", after.peak)
    }

    fn work_of(&self, network: &str) -> String {
        let Some(Network { gflop: Some(gflop), rate: Some(rate), .. }) = self.networks.get(network) else {
            return String::new();
        };
        if *gflop < 0.1 {
            return String::new();
        }
        format!(", {gflop:.1} GFLOP, {rate:.0} GFLOP/s, {:.0} % of a large product", self.percent(*rate))
    }

    fn percent(&self, rate: f64) -> f64 {
        100.0 * rate / self.peak_rate.max(f64::MIN_POSITIVE)
    }

    /// The medians of networks whose names begin so, together.
    fn part(&self, names: &[&str]) -> String {
        let of = self.networks.iter().filter(|(name, _)| names.iter().any(|n| name.starts_with(n)));
        format!("{:.1}", of.map(|(_, network)| network.milliseconds.median).sum::<f64>())
    }

    /// Several combinations, a row for each.
    pub fn print_all(
        all: &[Summary],
        provider: &str,
        machine: &Machine,
        measured: &[Vec<Measurement>],
    ) -> Result<()> {
        let rounds = measured.first().map_or(0, Vec::len);
        say!(
            "{machine}; {}, {provider}; {rounds} rounds",
            measured.first().map_or(String::new(), |m| runtime(m))
        )?;
        say!(
            "Milliseconds, medians of all runs; ratio: time a picture over that of the first row, median of rounds; MiB."
        )?;
        say!("")?;
        let heading = [
            "model",
            "memory",
            "threads",
            "batch",
            "open",
            "first",
            "run",
            "min",
            "max",
            "ratio",
            "student",
            "decode",
            "GFLOP/s",
            "% of product",
            "anon open",
            "anon runs",
            "file runs",
            "PSS",
            "peak",
        ];
        let mib = |kib: i64| format!("{:.1}", kib as f64 / 1024.0);
        let name = |path: &str| {
            let name = std::path::Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
            name.unwrap_or_default().replace(".softdimo.safetensors", "")
        };
        let row = |s: &Summary| {
            let rate = |of: fn(&Summary, f64) -> f64| {
                s.rate.map_or("–".into(), |rate| format!("{:.0}", of(s, rate)))
            };
            vec![
                name(&s.model),
                s.memory.clone(),
                s.threads.to_string(),
                s.batch.to_string(),
                format!("{:.1}", s.open.median),
                format!("{:.1}", s.first.median),
                format!("{:.1}", s.run.median),
                format!("{:.1}", s.run.min),
                format!("{:.1}", s.run.max),
                format!("{:.3}", s.ratio.median),
                s.part(&["student", "teacher"]),
                s.part(&["decode"]),
                rate(|_, rate| rate),
                rate(Summary::percent),
                mib(s.opened.anon),
                mib(s.after.anon),
                mib(s.after.file),
                mib(s.after.pss),
                mib(s.after.peak),
            ]
        };
        let heading = heading.map(str::to_string).to_vec();
        let rows: Vec<Vec<String>> = std::iter::once(heading).chain(all.iter().map(row)).collect();
        table(&rows).iter().try_for_each(|line| say!("{line}"))
    }
}

type Figure = fn(&Resident) -> i64;

/// Figures of memory that grow with a model.
const MEMORY: [(&str, Figure); 3] = [("RssAnon", |r| r.anon), ("RssFile", |r| r.file), ("PSS", |r| r.pss)];

fn runtime(rounds: &[Measurement]) -> String {
    rounds.first().map_or("no runtime".into(), |m| format!("ONNX Runtime {}", m.runtime))
}

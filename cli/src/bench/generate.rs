//! `softdimo bench generate`: every combination of models, memory modes, threads and batch sizes, in turn.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};

use clap::builder::RangedU64ValueParser;
use serde_json::json;
use softdimo::{Error, Result};

use super::alone::{Measurement, Work, measure};
use super::child;
use super::machine::Machine;
use super::summary::{self, Summary};
use crate::engine::{Memory, PlaceArgs, model_path};
use crate::progress::Progress;
use crate::provenance::value_name;
use crate::say::say;

/// How often combinations take turns, where there are several.
const ROUNDS: usize = 3;

#[derive(clap::Args)]
pub struct Args {
    /// Model file, as often as wanted; default: $SOFTDIMO_MODEL, else the bundled emoji-32
    #[arg(long)]
    model: Vec<PathBuf>,
    #[command(flatten)]
    place: PlaceArgs,
    /// Threads that compute, a list; 0 = one per core, at most 8
    #[arg(long, value_delimiter = ',', default_value = "0")]
    threads: Vec<usize>,
    /// Weights straight from the mapped file, or packed for speed, or both
    #[arg(long, value_enum, value_delimiter = ',', default_value = "lean")]
    memory: Vec<Memory>,
    /// Pictures per run, a list
    #[arg(long, value_delimiter = ',', default_value = "1", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    batch: Vec<usize>,
    /// Timed runs after the first, in each round
    #[arg(long, default_value_t = 5, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    runs: usize,
    /// How often every combination is opened anew, in turn with the others; default: 3, of a single one 1
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    rounds: Option<usize>,
    /// 1 = student; more = teacher
    #[arg(long, default_value_t = 0)]
    steps: u32,
    /// Add where the time goes, by operation and by layer, from runs of their own
    #[arg(long)]
    profile: bool,
    /// Other processes that hold the same open, with a picture made: pages that they share count in parts (PSS)
    #[arg(long, value_name = "PROCESSES", default_value_t = 0, value_parser = RangedU64ValueParser::<usize>::new().range(..=16))]
    beside: usize,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Stay, with everything that was measured, until the input ends
    #[arg(long, hide = true, requires = "alone")]
    stay: bool,
    /// Measure the one combination here, and print it for the process that compares
    #[arg(long, hide = true)]
    alone: bool,
}

/// What is compared.
pub struct Combination {
    pub model: PathBuf,
    pub memory: Memory,
    /// As asked for.
    pub threads: usize,
    pub batch: usize,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let combinations = args.combinations()?;
    if args.alone {
        let [Combination { model, memory, threads, batch }] = &combinations[..] else {
            return Err(Error::invalid("--alone", "one combination", combinations.len()));
        };
        let work = Work { batch: *batch, steps: args.steps, runs: args.runs, profile: args.profile };
        let said = |measured: &Measurement| {
            say!("{}", json!(measured))?;
            if args.stay {
                let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            }
            Ok(())
        };
        measure(model, args.place.options(*memory, *threads)?, work, said)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rounds = args.rounds.unwrap_or(if combinations.len() > 1 { ROUNDS } else { 1 });
    let mut measured: Vec<Vec<Measurement>> = combinations.iter().map(|_| Vec::new()).collect();
    let mut progress = Progress::new("measuring");
    for round in 0..rounds {
        for (at, combination) in combinations.iter().enumerate() {
            progress.set((round * combinations.len() + at) as u64, (rounds * combinations.len()) as u64);
            match args.measured(combination, args.profile && round == 0)? {
                Ok(measurement) => measured[at].push(measurement),
                // It has said why.
                Err(code) => return Ok(code),
            }
        }
    }
    progress.finish();

    let machine = Machine::this();
    let summaries = summary::of(&combinations, &measured)?;
    if args.json {
        let runtime = measured.iter().flatten().next().map(|m| &m.runtime);
        let rounds: Vec<_> = summaries.iter().zip(&measured).map(|(s, rounds)| s.json(rounds)).collect();
        let document = json!({
            "machine": machine, "library": env!("CARGO_PKG_VERSION"), "runtime": runtime,
            "provider": args.place.provider, "steps": args.steps, "runs": args.runs, "combinations": rounds,
        });
        say!("{document}")?;
        return Ok(ExitCode::SUCCESS);
    }
    match (&summaries[..], &measured[..]) {
        ([one], [rounds]) => one.print(&args.place.provider, &machine, rounds)?,
        _ => Summary::print_all(&summaries, &args.place.provider, &machine, &measured)?,
    }
    for (summary, rounds) in summaries.iter().zip(&measured) {
        if let Some(profile) = rounds.iter().find_map(|round| round.profile.as_ref()) {
            say!("")?;
            say!("{}", summary.title())?;
            profile.print()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn combinations(&self) -> Result<Vec<Combination>> {
        let models = if self.model.is_empty() { vec![model_path(None)?] } else { self.model.clone() };
        let mut all = Vec::new();
        for model in models {
            for &memory in &self.memory {
                for &threads in &self.threads {
                    for &batch in &self.batch {
                        all.push(Combination { model: model.clone(), memory, threads, batch });
                    }
                }
            }
        }
        Ok(all)
    }

    /// What this program measures of a combination in a process of its own: memory is that of the combination. The inner
    /// result is what that process ended with.
    fn measured(
        &self,
        combination: &Combination,
        profile: bool,
    ) -> Result<std::result::Result<Measurement, ExitCode>> {
        let mut others = Vec::new();
        for _ in 0..self.beside {
            match Beside::start(self.command(combination, 1, false)?)? {
                Ok(other) => others.push(other),
                Err(code) => return Ok(Err(code)),
            }
        }
        let command = self.command(combination, self.runs, profile)?;
        child::measured(command, &combination.model.display().to_string())
    }

    /// This program, to measure a combination in so many runs.
    fn command(&self, combination: &Combination, runs: usize, profile: bool) -> Result<Command> {
        let mut command = child::command()?;
        command.args(["bench", "generate", "--alone", "--model"]).arg(&combination.model);
        command.args(["--memory", &value_name(combination.memory).unwrap_or_default()]);
        let place = &self.place;
        let numbers = [
            ("--threads", combination.threads.to_string()),
            ("--batch", combination.batch.to_string()),
            ("--runs", runs.to_string()),
            ("--steps", self.steps.to_string()),
            ("--device", place.device.to_string()),
            ("--memory-limit", place.memory_limit.to_string()),
            ("--work-limit", place.work_limit.to_string()),
            ("--provider", place.provider.clone()),
            ("--arithmetic", value_name(place.arithmetic).unwrap_or_default()),
        ];
        command.args(numbers.into_iter().map(|(name, value)| format!("{name}={value}")));
        command.args(place.read.then_some("--read")).args(profile.then_some("--profile"));
        if let Some(library) = &place.ort_library {
            command.arg("--ort-library").arg(library);
        }
        Ok(command)
    }
}

/// A process that holds what it has measured until this is dropped.
struct Beside(Child);

impl Beside {
    /// The inner result is what it ended with before.
    fn start(mut command: Command) -> Result<std::result::Result<Beside, ExitCode>> {
        let program = command.get_program().to_owned();
        command.arg("--stay").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|e| Error::io(&program, e))?;
        let mut said = String::new();
        let read = child.stdout.as_mut().map(|out| BufReader::new(out).read_line(&mut said));
        let mut other = Beside(child);
        if matches!(read, Some(Ok(1..))) {
            return Ok(Ok(other));
        }
        let status = other.0.wait().map_err(|e| Error::io(&program, e))?;
        Ok(Err(ExitCode::from(status.code().unwrap_or(1) as u8)))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

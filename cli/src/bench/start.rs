//! `softdimo bench start`: from the start of a process to its first picture as a PNG, and where that time goes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::builder::RangedU64ValueParser;
use serde::{Deserialize, Serialize};
use serde_json::json;
use softdimo::image::{PictureStyle, RgbaImage, write_png};
use softdimo::{Engine, Optimize, Options, Request, Result, Reward, RewardTerm};

use super::child;
use super::machine::Machine;
use super::spread::Spread;
use super::table::table;
use crate::engine::EngineArgs;
use crate::progress::Progress;
use crate::say::say;

/// Iterates of the optimisations.
const ITERATES: u32 = 5;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    engine: EngineArgs,
    /// Processes that are started, one after the other
    #[arg(long, default_value_t = 10, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    rounds: usize,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Start up here, for the process that measures, which began so many nanoseconds after 1970
    #[arg(long, hide = true)]
    since: Option<u64>,
}

/// Milliseconds.
#[derive(Debug, Serialize, Deserialize)]
struct StartUp {
    /// Until `main`: the system loads the program.
    process: f64,
    /// Loading ONNX Runtime and starting it: what a first opening takes beyond a second one.
    runtime: f64,
    /// Opening the model.
    open: f64,
    /// Preparing sessions: what a first picture takes beyond a second one.
    prepare: f64,
    picture: f64,
    png: f64,
    /// From the start of the process until the PNG is there.
    total: f64,
    /// Preparing the sessions of an optimisation, likewise.
    prepare_optimization: f64,
    /// Of [`ITERATES`] iterates and a picture.
    optimization: f64,
}

/// The part's key in JSON, its name, and its time.
type Row = (&'static str, &'static str, fn(&StartUp) -> f64);

pub fn run(args: &Args) -> Result<ExitCode> {
    if let Some(since) = args.since {
        let (began, main) = (UNIX_EPOCH + Duration::from_nanos(since), SystemTime::now());
        let started = start_up(&args.engine.path()?, args.engine.run.options()?, began, main)?;
        say!("{}", json!(started))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rounds = Vec::new();
    let mut progress = Progress::new("starting");
    for round in 0..args.rounds {
        progress.set(round as u64, args.rounds as u64);
        match started()? {
            Ok(started) => rounds.push(started),
            // It has said why.
            Err(code) => return Ok(code),
        }
    }
    progress.finish();
    let rows: [Row; 9] = [
        ("process", "process, until main", |s| s.process),
        ("runtime", "ONNX Runtime, loaded and started", |s| s.runtime),
        ("open", "model, opened", |s| s.open),
        ("prepare", "sessions of a picture, prepared", |s| s.prepare),
        ("picture", "picture", |s| s.picture),
        ("png", "PNG, written", |s| s.png),
        ("total", "until the PNG is there", |s| s.total),
        ("prepare_optimization", "then: sessions of an optimisation, prepared", |s| s.prepare_optimization),
        ("optimization", "its iterates and the picture", |s| s.optimization),
    ];
    let spreads =
        rows.iter().filter_map(|(key, name, of)| Some((key, name, Spread::of(rounds.iter().map(of))?)));
    let spreads: Vec<_> = spreads.collect();
    let machine = Machine::this();
    if args.json {
        let spreads: serde_json::Map<_, _> =
            spreads.iter().map(|(key, _, spread)| (key.to_string(), json!(spread))).collect();
        say!("{}", json!({ "machine": machine, "rounds": rounds, "milliseconds": spreads }))?;
        return Ok(ExitCode::SUCCESS);
    }
    say!("model          {}", args.engine.path()?.display())?;
    say!("cpu            {machine}")?;
    let mut lines = vec![["ms", "min", "median", "max"].map(String::from).to_vec()];
    lines.extend(spreads.iter().map(|(_, name, s)| {
        let numbers = [s.min, s.median, s.max].map(|ms| format!("{ms:.1}"));
        [vec![name.to_string()], numbers.to_vec()].concat()
    }));
    for line in table(&lines) {
        say!("{line}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// This command in a process of its own.
fn started() -> Result<std::result::Result<StartUp, ExitCode>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut command = child::command()?;
    command.args(std::env::args_os().skip(1)).arg(format!("--since={}", now.as_nanos()));
    child::measured(command, "a start-up")
}

fn start_up(path: &Path, options: Options, began: SystemTime, main: SystemTime) -> Result<StartUp> {
    let file = Scratch(std::env::temp_dir().join(format!("softdimo-start-{}.png", std::process::id())));
    let (engine, first_open) = timed(|| Engine::open(path, options.clone()))?;
    let (generated, first_picture) = timed(|| engine.generate(&Request::default()))?;
    let size = (generated.report.width as u32, generated.report.height as u32);
    let picture = || RgbaImage::from_decoded(generated.picture(0)?, size, &PictureStyle::default(), 1);
    let ((), png) = timed(|| write_png(&file.0, &picture()?.view(), &[]))?;
    let total = between(began, SystemTime::now());

    let (_, picture) = timed(|| engine.generate(&Request::default().with_seed(1)))?;
    let layout = engine.layout();
    let target = vec![0.5; 3 * layout.width * layout.height];
    let reward = Arc::new(Reward::Target { target, mask: None });
    let optimize = Optimize::new(vec![RewardTerm { reward, weight: 1.0 }], ITERATES);
    let request = Request { optimize: Some(optimize), ..Request::default() };
    let (_, first_optimization) = timed(|| engine.generate(&request))?;
    let (_, optimization) = timed(|| engine.generate(&request))?;
    let (_, open) = timed(|| Engine::open(path, options.clone()))?;
    Ok(StartUp {
        process: between(began, main),
        runtime: (first_open - open).max(0.0),
        open,
        prepare: (first_picture - picture).max(0.0),
        picture,
        png,
        total,
        prepare_optimization: (first_optimization - optimization).max(0.0),
        optimization,
    })
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let clock = Instant::now();
    let done = work()?;
    Ok((done, clock.elapsed().as_secs_f64() * 1e3))
}

/// 0 where the clock was set back meanwhile.
fn between(from: SystemTime, to: SystemTime) -> f64 {
    to.duration_since(from).unwrap_or_default().as_secs_f64() * 1e3
}

/// Gone with this.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

//! `softdimo bench`: one process, one mode: open, prepare, run, memory. Compare modes by running it twice.

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use softdimo::{Decode, Engine, Optimize, Request, Result, Reward, RewardTerm};

use crate::engine::EngineArgs;
use crate::say::say;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// One-step generation
    Generate(Generate),
    /// One step of test-time optimisation (pixel-target reward) against one forward pass, in turn
    Optimize(Optimise),
}

#[derive(clap::Args)]
struct Optimise {
    #[command(flatten)]
    engine: EngineArgs,
    /// Pictures per run
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Pairs of forward passes and steps
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Take less memory and more time for the same result
    #[arg(long)]
    recompute: bool,
}

#[derive(clap::Args)]
struct Generate {
    #[command(flatten)]
    engine: EngineArgs,
    /// Pictures per run
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Timed runs after the first
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// 1 = student; more = teacher
    #[arg(long, default_value_t = 0)]
    steps: u32,
}

pub fn run(args: Args) -> Result<ExitCode> {
    match args.what {
        What::Generate(args) => generate(&args),
        What::Optimize(args) => optimize(&args),
    }
}

fn generate(args: &Generate) -> Result<ExitCode> {
    let path = args.engine.path()?;
    let options = args.engine.run.options()?;
    let before = Memory::now();
    let clock = Instant::now();
    let engine = Engine::open(&path, options)?;
    let open = clock.elapsed();
    let opened = Memory::now();

    let request = Request { batch: args.batch, steps: args.steps, ..Request::default() };
    let clock = Instant::now();
    engine.generate(&request)?;
    let first = clock.elapsed();
    let mut times: Vec<f64> = Vec::new();
    for seed in 0..args.runs {
        let clock = Instant::now();
        engine.generate(&request.clone().with_seed(seed as u64))?;
        times.push(clock.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let after = Memory::now();

    say!("model          {}", path.display())?;
    say!("runtime        ONNX Runtime {}, {}", engine.runtime().version, args.engine.run.provider)?;
    say!("mode           {:?}, {} threads, batch {}", args.engine.run.memory, engine.threads(), args.batch)?;
    say!("cpu            {}", cpu())?;
    say!("open           {:.1} ms", open.as_secs_f64() * 1e3)?;
    say!("first run      {:.1} ms (prepares sessions)", first.as_secs_f64() * 1e3)?;
    if let (Some(best), Some(worst)) = (times.first(), times.last()) {
        say!("run            median {:.1} ms (min {best:.1}, max {worst:.1})", times[times.len() / 2])?;
    }
    say!(
        "RssAnon        +{} KiB after open, +{} KiB after runs",
        opened.anon - before.anon,
        after.anon - before.anon
    )?;
    say!(
        "RssFile        +{} KiB after open, +{} KiB after runs",
        opened.file - before.file,
        after.file - before.file
    )?;
    say!("peak resident  {} KiB", after.peak)?;
    Ok(ExitCode::SUCCESS)
}

/// Forward = the student and its soft picture from a given embedding; step = the fused session of
/// forward, reward, gradient and update. Times are the engine's own, in turn, so that both see the same load.
fn optimize(args: &Optimise) -> Result<ExitCode> {
    let path = args.engine.path()?;
    let before = Memory::now();
    let engine = Engine::open(&path, args.engine.run.options()?)?;
    let layout = engine.layout();
    let seeded = engine.generate(&Request::default().with_batch(args.batch))?;
    let e_in = seeded.e_in.as_ref().map(|e| e.to_f32());
    let request = Request { e_in, batch: args.batch, decode: Decode::Soft, ..Request::default() };
    let target = vec![0.5; 3 * layout.width * layout.height];
    let reward = Arc::new(Reward::Target { target, mask: None });
    let step = |steps: u32| {
        let term = RewardTerm { reward: reward.clone(), weight: 1.0 };
        Optimize { recompute: args.recompute, ..Optimize::new(vec![term], steps) }
    };
    let activations = step(1).activation_bytes(engine.model(), args.batch)?;
    let step = |steps: u32| Request { optimize: Some(step(steps)), ..request.clone() };
    engine.generate(&request)?;
    let (mut forward, mut steps, mut peak) = (Vec::new(), Vec::new(), 0);
    for _ in 0..args.runs.max(1) {
        forward.push(engine.generate(&request)?.report.milliseconds);
        // Preparing takes more for a moment than the loop holds: looked at after each iterate.
        let optimized = engine.submit(&step(3))?.wait(None, |_| {
            peak = Memory::now().anon.max(peak);
            ControlFlow::Continue(())
        })?;
        let optimization = optimized.report.optimization.clone();
        // The first iterates of a session allocate its memory, piecewise and then as one plan; the last one
        // is what a loop costs.
        steps.extend(optimization.and_then(|c| c.iterations.last().map(|i| i.milliseconds)));
    }
    let ratios = forward.iter().zip(&steps).map(|(f, s)| s / f);
    let mut ratios: Vec<f64> = ratios.collect();
    for list in [&mut forward, &mut steps, &mut ratios] {
        list.sort_by(f64::total_cmp);
    }
    let median = |v: &[f64]| v[v.len() / 2];
    say!("model          {}", path.display())?;
    say!("runtime        ONNX Runtime {}, {}", engine.runtime().version, args.engine.run.provider)?;
    say!(
        "mode           {:?}, {} threads, batch {}{}",
        args.engine.run.memory,
        engine.threads(),
        args.batch,
        if args.recompute { ", recomputing" } else { "" }
    )?;
    say!("cpu            {}", cpu())?;
    say!("forward        median {:.1} ms (min {:.1})", median(&forward), forward[0])?;
    say!("step           median {:.1} ms (min {:.1})", median(&steps), steps[0])?;
    say!(
        "step/forward   median {:.2} (min {:.2}, max {:.2})",
        median(&ratios),
        ratios[0],
        ratios[ratios.len() - 1]
    )?;
    say!("activations    {} KiB at once in a step, at least", activations / 1024)?;
    say!("RssAnon        +{} KiB in a step", peak - before.anon)?;
    say!("peak resident  {} KiB", Memory::now().peak)?;
    Ok(ExitCode::SUCCESS)
}

/// Resident memory of this process in KiB, from /proc; zeros elsewhere.
#[derive(Clone, Copy, Default)]
struct Memory {
    anon: i64,
    file: i64,
    peak: i64,
}

impl Memory {
    fn now() -> Memory {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find(|l| l.starts_with(name));
            line.and_then(|l| l.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
        };
        Memory { anon: field("RssAnon:"), file: field("RssFile:"), peak: field("VmHWM:") }
    }
}

/// The processor's name, for figures that leave this machine.
fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|l| l.starts_with(name));
        line.and_then(|l| l.split(": ").nth(1)).unwrap_or("unknown").to_string()
    };
    let flags = field("flags");
    let known = ["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8"];
    let flags: Vec<&str> = known.into_iter().filter(|k| flags.split(' ').any(|f| f == *k)).collect();
    format!("{} ({})", field("model name"), flags.join(" "))
}

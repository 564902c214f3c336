//! `softdimo bench`: one process, one mode: open, prepare, run, memory. Compare modes by running it twice.

use std::process::ExitCode;
use std::time::Instant;

use softdimo::{Engine, Request, Result};

use crate::engine::EngineArgs;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// One-step generation
    Generate(Generate),
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

    println!("model          {}", path.display());
    println!("runtime        ONNX Runtime {}, {}", engine.runtime().version, args.engine.run.provider);
    println!(
        "mode           {:?}, {} threads, batch {}",
        args.engine.run.memory,
        engine.threads(),
        args.batch
    );
    println!("cpu            {}", cpu());
    println!("open           {:.1} ms", open.as_secs_f64() * 1e3);
    println!("first run      {:.1} ms (prepares sessions)", first.as_secs_f64() * 1e3);
    if let (Some(best), Some(worst)) = (times.first(), times.last()) {
        println!("run            median {:.1} ms (min {best:.1}, max {worst:.1})", times[times.len() / 2]);
    }
    println!(
        "RssAnon        +{} KiB after open, +{} KiB after runs",
        opened.anon - before.anon,
        after.anon - before.anon
    );
    println!(
        "RssFile        +{} KiB after open, +{} KiB after runs",
        opened.file - before.file,
        after.file - before.file
    );
    println!("peak resident  {} KiB", after.peak);
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

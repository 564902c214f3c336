//! `softdimo tune`: which layers of a model for int8 arithmetic are faster in f32 on this machine.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use softdimo::{Engine, Options, Result};

use crate::engine::RunArgs;
use crate::progress::Progress;
use crate::say::say;

#[derive(clap::Args)]
pub struct Args {
    /// Model file for int8 arithmetic, as `softdimo quantize --dtype int8` makes it
    model: PathBuf,
    #[command(flatten)]
    run: RunArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let engine = Engine::open(&args.model, Options { untuned: true, ..args.run.options()? })?;
    let mut measured = Progress::new("measured");
    let tuned = engine.tune(|p| {
        measured.set(p.step.into(), p.total.into());
        ControlFlow::Continue(())
    })?;
    measured.finish();
    if args.json {
        say!("{}", serde_json::json!(tuned))?;
        return Ok(ExitCode::SUCCESS);
    }
    say!("{:>5}  {:<44} {:>9} {:>9}  faster", "count", "convolution", "f32 ms", "int8 ms")?;
    for layer in &tuned.layers {
        let faster = if layer.is_faster_in_f32() { "f32" } else { "int8" };
        let (f32, int8) = (layer.f32_milliseconds, layer.int8_milliseconds);
        say!("{:>5}  {:<44} {f32:>9.3} {int8:>9.3}  {faster}", layer.count, layer.shape)?;
    }
    for program in &tuned.programs {
        let (int8, chosen) = (program.int8_milliseconds, program.chosen_milliseconds);
        let kept = if program.gains() { "f32 there" } else { "int8 everywhere" };
        say!("{}: {int8:.1} ms in int8, {chosen:.1} ms with f32 where it is faster: {kept}", program.name)?;
    }
    let (n, threads) = (tuned.in_f32.len(), engine.threads());
    say!("{n} convolutions in f32 with {threads} threads, remembered in {}", tuned.file.display())?;
    Ok(ExitCode::SUCCESS)
}

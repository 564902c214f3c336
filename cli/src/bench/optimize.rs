//! `softdimo bench optimize`: one step of an optimisation against one forward pass.

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;

use clap::builder::RangedU64ValueParser;
use softdimo::{Decode, Engine, Optimize, Request, Result, Reward, RewardTerm};

use super::machine::Machine;
use super::profile;
use super::resident::Resident;
use crate::engine::EngineArgs;
use crate::say::say;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    engine: EngineArgs,
    /// Pictures per run
    #[arg(long, default_value_t = 1, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    batch: usize,
    /// Pairs of forward passes and steps
    #[arg(long, default_value_t = 5, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    runs: usize,
    /// Take less memory and more time for the same result
    #[arg(long)]
    recompute: bool,
    /// Print where a step spends its time, by operation and by layer, in runs of its own
    #[arg(long)]
    profile: bool,
}

/// Forward = the student and its soft picture from a given embedding; step = the fused session of
/// forward, reward, gradient and update. Times are the engine's own, in turn, so that both see the same load.
pub fn run(args: &Args) -> Result<ExitCode> {
    let path = args.engine.path()?;
    let before = Resident::now();
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
            peak = Resident::now().anon.max(peak);
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
    say!("runtime        ONNX Runtime {}, {}", engine.runtime().version, args.engine.run.place.provider)?;
    say!(
        "mode           {:?}, {} threads, batch {}{}",
        args.engine.run.memory,
        engine.threads(),
        args.batch,
        if args.recompute { ", recomputing" } else { "" }
    )?;
    say!("cpu            {}", Machine::this())?;
    say!("forward        median {:.1} ms (min {:.1})", median(&forward), forward[0])?;
    say!("step           median {:.1} ms (min {:.1})", median(&steps), steps[0])?;
    say!(
        "step/forward   median {:.2} (min {:.2}, max {:.2})",
        median(&ratios),
        ratios[0],
        ratios[ratios.len() - 1]
    )?;
    say!("activations    {} KiB at once in a step, as its graph is written", activations / 1024)?;
    say!("RssAnon        +{} KiB in a step", peak - before.anon)?;
    say!("peak resident  {} KiB", Resident::now().peak)?;
    drop(engine);
    if args.profile {
        profile::take(&path, args.engine.run.options()?, &step(1), args.runs.max(1))?.print()?;
    }
    Ok(ExitCode::SUCCESS)
}

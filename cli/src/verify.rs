//! `softdimo verify`: replay a golden file, one line per tensor.

use std::path::PathBuf;
use std::process::ExitCode;

use softdimo::{Engine, Result};

use crate::engine::RunArgs;
use crate::say::say;

#[derive(clap::Args)]
pub struct Args {
    /// Model file
    model: PathBuf,
    /// Golden file: b*/in/* and b*/out/* of the reference
    golden: PathBuf,
    #[command(flatten)]
    run: RunArgs,
    /// Largest absolute difference of float tensors; default 1e-4 for f32 weights, 2e-2 for f16, and for int8
    /// bounds of the relative L2 distance
    #[arg(long)]
    tolerance: Option<f64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let engine = Engine::open(&args.model, args.run.options()?)?;
    let result = engine.verify(&args.golden, args.tolerance)?;
    if args.json {
        say!("{}", result.json())?;
    } else {
        say!("{:<42} {:>18} {:>10} {:>10} {:>9}", "tensor", "shape", "max abs", "rel L2", "bound")?;
        for row in &result.rows {
            say!(
                "{:<42} {:>18} {:>10.2e} {:>10.2e} {:>9.1e} {}",
                row.name,
                format!("{:?}", row.shape),
                row.max_abs,
                row.relative,
                row.tolerance,
                if row.passed { "ok" } else { "FAILED" }
            )?;
        }
        for name in &result.not_checked {
            say!("{name:<42} not checked")?;
        }
        if result.rows.iter().any(|row| row.name.contains("tteo/")) {
            let growth = result.growth;
            say!(
                "tteo/grad_K, and e_in_(K+1) that it moves: the first gradient's bound times {growth}^K, as each step \
                 moves the point where the next gradient is taken by the error of the last"
            )?;
        }
        let failed = result.rows.iter().filter(|r| !r.passed).count();
        say!("{} checked, {failed} failed, {} not checked", result.rows.len(), result.not_checked.len())?;
    }
    Ok(if result.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

//! `softdimo compare`: what another form of a model, such as int8, does to its pictures.

use std::path::PathBuf;
use std::process::ExitCode;

use softdimo::Result;
use softdimo::calibrate::compare;

use crate::engine::RunArgs;
use crate::progress::Progress;
use crate::say::say;

#[derive(clap::Args)]
pub struct Args {
    /// The model, computed in f32
    model: PathBuf,
    /// The same model in another form, such as `softdimo quantize` makes
    other: PathBuf,
    /// Pictures to make
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pictures: u32,
    #[command(flatten)]
    run: RunArgs,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let mut made = Progress::new("pictures made");
    let found = compare(&args.model, &args.other, &args.run.options()?, args.pictures, |done, total| {
        made.set(done as u64, total as u64);
    })?;
    made.finish();
    let psnr = &found.psnr;
    let least = psnr.iter().copied().fold(f64::INFINITY, f64::min);
    // The mean of what differs, not of its logarithms.
    let mean = psnr.iter().map(|db| 10f64.powf(-db / 10.0)).sum::<f64>() / psnr.len().max(1) as f64;
    if args.json {
        say!(
            "{}",
            serde_json::json!({"comparison": found, "psnr_mean": -10.0 * mean.log10(), "psnr_least": least})
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    say!("pictures of the same tokens   {:.1} dB, at least {least:.1} dB", -10.0 * mean.log10())?;
    if let (Some(tokens), Some(divergence)) = (found.tokens, found.divergence) {
        say!("most probable tokens          {:.2} % are the same", 100.0 * tokens)?;
        say!("KL of the logits              {divergence:.6}")?;
    }
    Ok(ExitCode::SUCCESS)
}

//! `softdimo compare`: what another form of a model, such as int8, does to its pictures.

use std::path::PathBuf;
use std::process::ExitCode;

use softdimo::Result;
use softdimo::compare::{CompareOptions, compare};

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
    /// Compare gradients as well, as an optimisation climbs them
    #[arg(long)]
    gradients: bool,
    #[command(flatten)]
    run: RunArgs,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let mut made = Progress::new("pictures");
    let asked = CompareOptions { pictures: args.pictures, gradients: args.gradients };
    let found = compare(&args.model, &args.other, &args.run.options()?, asked, |done, total| {
        made.set(done as u64, total as u64);
    })?;
    made.finish();
    let psnr = &found.psnr;
    // The mean of what differs, not of its logarithms.
    let differs: Vec<f64> = psnr.iter().map(|db| 10f64.powf(-db / 10.0)).collect();
    let (mean_db, least_db) = (-10.0 * mean(&differs).log10(), least(psnr));
    if args.json {
        say!("{}", serde_json::json!({"comparison": found, "psnr_mean": mean_db, "psnr_least": least_db}))?;
        return Ok(ExitCode::SUCCESS);
    }
    say!("pictures of the same tokens   {mean_db:.1} dB, at least {least_db:.1} dB")?;
    if let (Some(tokens), Some(divergence)) = (found.tokens, found.divergence) {
        say!("most probable tokens          {:.2} % are the same", 100.0 * tokens)?;
        say!("KL of the logits              {divergence:.6}")?;
    }
    if let Some(gradients) = found.gradients {
        for (reward, cosines) in [("grey", gradients.grey), ("noise", gradients.noise)] {
            let (mean, least) = (mean(&cosines), least(&cosines));
            say!("gradient towards {reward:12} cosine {mean:.5}, at least {least:.5}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

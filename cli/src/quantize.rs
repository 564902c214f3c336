//! `softdimo quantize`: a model file to one with narrower weights.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use softdimo::Result;
use softdimo::atomic_file::Scratch;
use softdimo::calibrate::{calibrate, quantize_calibrated};
use softdimo::checkpoint::Checkpoint;
use softdimo::convert::{Storage, quantize};
use softdimo::model_file::REWARD_COMPONENT;

use crate::convert::write;
use crate::engine::RunArgs;
use crate::progress::Progress;
use crate::say::tell;

#[derive(clap::Args)]
pub struct Args {
    /// Model file with float weights, a generator's or a reward's
    model: PathBuf,
    /// How matrices and kernels are stored; vectors are f32
    #[arg(long, value_enum)]
    dtype: Dtype,
    /// Pictures that a generator makes in f32 first, to see what its convolutions read and write: with int8 and int4 they are then
    /// computed in int8. 0: in f32, as before
    #[arg(long, default_value_t = 16)]
    calibrate: u32,
    /// How near a picture must be to that of f32 for the same tokens, in dB: convolutions that add most to the difference stay
    /// in f32, and so do those that no picture of tokens shows. Looking for them takes a picture's time for each. 0: all in int8
    #[arg(long, default_value_t = 38.0, value_parser = decibels)]
    psnr: f64,
    #[command(flatten)]
    run: RunArgs,
    /// Model file to write, NAME.softdimo.safetensors
    #[arg(short, long)]
    output: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Dtype {
    F16,
    Int8,
    /// int8 that is computed with in f32 on every processor
    Int8Rows,
    /// int4 in blocks for what makes tokens, int8 for what makes pictures of them: the smallest file
    Int4,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let storage = match args.dtype {
        Dtype::F16 => Storage::F16,
        Dtype::Int8 => Storage::Int8,
        Dtype::Int8Rows => Storage::Int8Rows,
        Dtype::Int4 => Storage::Int4,
    };
    let model = &args.model;
    write(&args.output, &[("MODEL", model)], |output, progress| {
        let for_int8 = matches!(args.dtype, Dtype::Int8 | Dtype::Int4);
        if !for_int8 || args.calibrate == 0 || !is_generator(model)? {
            return quantize(model, storage, output, progress);
        }
        let options = args.run.options()?;
        let mut made = Progress::new("pictures made");
        let seen =
            calibrate(model, &options, args.calibrate, |done, total| made.set(done as u64, total as u64))?;
        made.finish();
        // All of it first, beside, to see what that does to pictures.
        let trial = Scratch::beside(output)?;
        quantize_calibrated(model, storage, seen.ranges(), trial.path(), |_, _| ())?;
        let mut looked = Progress::new("convolutions looked at");
        let near = seen
            .near(args.psnr, trial.path(), &options, |done, total| looked.set(done as u64, total as u64))?;
        looked.finish();
        drop(trial);
        tell!(
            "{} of {} convolutions in int8; pictures of the same tokens: {:.1} dB or more",
            near.ranges.len(),
            seen.ranges().len(),
            near.psnr
        );
        if near.psnr < args.psnr {
            tell!("warning: less than --psnr {}: that is what rounding the weights does", args.psnr);
        }
        quantize_calibrated(model, storage, &near.ranges, output, progress)
    })
}

fn decibels(text: &str) -> std::result::Result<f64, String> {
    let db = text.parse().map_err(|_| "expected a number")?;
    if (0.0..=200.0).contains(&db) { Ok(db) } else { Err("expected 0 to 200".into()) }
}

/// A reward's convolutions, if it has any, are computed in f32.
fn is_generator(model: &Path) -> Result<bool> {
    let file = Checkpoint::open(model)?;
    let is_of_reward = |name: &str| name.starts_with(&format!("{REWARD_COMPONENT}."));
    Ok(!file.names().any(is_of_reward))
}

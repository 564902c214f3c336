//! `softdimo quantize`: a model file to one with narrower weights.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use softdimo::Result;
use softdimo::convert::{Storage, quantize};

use crate::convert::write;

#[derive(clap::Args)]
pub struct Args {
    /// Model file with float weights, a generator's or a reward's
    model: PathBuf,
    /// How matrices and kernels are stored; vectors are f32
    #[arg(long, value_enum)]
    dtype: Dtype,
    /// Model file to write, NAME.softdimo.safetensors
    #[arg(short, long)]
    output: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Dtype {
    F16,
    Int8,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let storage = match args.dtype {
        Dtype::F16 => Storage::F16,
        Dtype::Int8 => Storage::Int8,
    };
    write(&args.output, &[("MODEL", &args.model)], |output, progress| {
        quantize(&args.model, storage, output, progress)
    })
}

//! `softdimo convert`: official checkpoints to one model file; `softdimo quantize`: a model file to a narrower
//! one.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use softdimo::Result;
use softdimo::convert::{Source, Storage, Summary, maskbit, quantize};

use crate::engine::progress_bar;

#[derive(clap::Args)]
pub struct Args {
    /// Model family
    #[arg(value_enum)]
    family: Family,
    /// One-step student's generator: safetensors, or a PyTorch file (never executed)
    #[arg(long)]
    generator: Option<PathBuf>,
    /// Multi-step teacher's generator (a public MaskBit generator is one)
    #[arg(long)]
    teacher: Option<PathBuf>,
    /// Image tokenizer
    #[arg(long)]
    tokenizer: PathBuf,
    /// JSON with the official sizes; default: the generator file's own metadata
    #[arg(long)]
    config: Option<PathBuf>,
    /// JSON list of class names
    #[arg(long)]
    labels: Option<PathBuf>,
    /// How matrices and kernels are stored; vectors are f32 where this is narrower
    #[arg(long, value_enum, default_value_t = Dtype::Keep)]
    dtype: Dtype,
    #[arg(long)]
    title: Option<String>,
    #[arg(long)]
    license: Option<String>,
    #[arg(long)]
    author: Option<String>,
    #[arg(long)]
    description: Option<String>,
    /// Where the weights come from, in words
    #[arg(long)]
    origin: Option<String>,
    /// Model file to write, NAME.softdimo.safetensors
    #[arg(short, long)]
    output: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "lowercase")]
enum Family {
    MaskBit,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Dtype {
    Keep,
    F16,
    Int8,
}

#[derive(clap::Args)]
pub struct QuantizeArgs {
    /// Model file with float weights
    model: PathBuf,
    /// How matrices and kernels are stored; vectors are f32
    #[arg(long, value_enum)]
    dtype: Narrow,
    /// Model file to write, NAME.softdimo.safetensors
    #[arg(short, long)]
    output: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Narrow {
    F16,
    Int8,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let source = Source {
        generator: args.generator,
        teacher: args.teacher,
        tokenizer: args.tokenizer,
        config: args.config,
        labels: args.labels,
        storage: match args.dtype {
            Dtype::Keep => Storage::Keep,
            Dtype::F16 => Storage::F16,
            Dtype::Int8 => Storage::Int8,
        },
        title: args.title,
        license: args.license,
        author: args.author,
        description: args.description,
        origin: args.origin,
    };
    report(&args.output, |progress| match args.family {
        Family::MaskBit => maskbit(&source, &args.output, progress),
    })
}

pub fn run_quantize(args: QuantizeArgs) -> Result<ExitCode> {
    let storage = match args.dtype {
        Narrow::F16 => Storage::F16,
        Narrow::Int8 => Storage::Int8,
    };
    report(&args.output, |progress| quantize(&args.model, storage, &args.output, progress))
}

/// Write the file `output` under a progress bar and say what it is.
fn report(
    output: &Path,
    write: impl FnOnce(&mut dyn FnMut(usize, usize)) -> Result<Summary>,
) -> Result<ExitCode> {
    let bar = progress_bar(0, "writing");
    let summary = write(&mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    println!(
        "{}: {} tensors, {} bytes, sha256 {}",
        output.display(),
        summary.tensors,
        summary.bytes,
        summary.sha256
    );
    Ok(ExitCode::SUCCESS)
}

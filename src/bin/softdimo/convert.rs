//! `softdimo convert`: official checkpoints to one model file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use softdimo::Result;
use softdimo::convert::{Source, Storage, maskbit};

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
    /// Float storage
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
        },
        title: args.title,
        license: args.license,
        author: args.author,
        description: args.description,
        origin: args.origin,
    };
    let bar = progress_bar(0, "converting");
    let progress = |done: usize, total: usize| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    };
    let summary = match args.family {
        Family::MaskBit => maskbit(&source, &args.output, progress)?,
    };
    bar.finish_and_clear();
    println!(
        "{}: {} tensors, {} bytes, sha256 {}",
        args.output.display(),
        summary.tensors,
        summary.bytes,
        summary.sha256
    );
    Ok(ExitCode::SUCCESS)
}

//! `softdimo convert`: official checkpoints to one model file.

mod generator;
mod reward;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use softdimo::Result;
use softdimo::convert::{About, Storage, Summary};

use crate::engine::progress_bar;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    family: Family,
}

#[derive(Subcommand)]
enum Family {
    /// A MaskBit student, teacher or both, and its image tokenizer
    #[command(name = "maskbit")]
    MaskBit(generator::ClassArgs),
    /// A MaskGen student, teacher or both, its TA-TiTok and its text encoder
    #[command(name = "maskgen")]
    MaskGen(generator::PromptArgs),
    /// A MaskGIT student, teacher or both, and its VQGAN; the sizes are read off the tensors
    #[command(name = "maskgit")]
    MaskGit(generator::ClassArgs),
    /// A Meissonic student, teacher or both, its VQ-VAE and its text encoder; each may be a pipeline's directory
    Meissonic(generator::PromptArgs),
    /// CLIP, scored by its own similarity of picture and prompt
    ClipScore(reward::PromptArgs),
    /// PickScore_v1
    #[command(name = "pickscore")]
    PickScore(reward::PromptArgs),
    /// HPS_v2.1
    #[command(name = "hpsv2")]
    HpsV2(reward::PromptArgs),
    /// ImageReward
    ImageReward(reward::PromptArgs),
    /// LAION's aesthetic predictor over OpenAI's ViT-L/14
    Aesthetic(reward::AestheticArgs),
    /// EfficientNet-Lite0
    Classifier(reward::ClassifierArgs),
}

/// What is said about any model file.
#[derive(clap::Args)]
struct Common {
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
enum Dtype {
    Keep,
    F16,
    Int8,
}

impl Common {
    fn storage(&self) -> Storage {
        match self.dtype {
            Dtype::Keep => Storage::Keep,
            Dtype::F16 => Storage::F16,
            Dtype::Int8 => Storage::Int8,
        }
    }

    fn about(&self) -> About {
        About {
            title: self.title.clone(),
            license: self.license.clone(),
            author: self.author.clone(),
            description: self.description.clone(),
            origin: self.origin.clone(),
        }
    }

    /// Run a conversion to the output and print what was written.
    fn run(
        &self,
        convert: impl FnOnce(&Path, &mut dyn FnMut(usize, usize)) -> Result<Summary>,
    ) -> Result<ExitCode> {
        write(&self.output, convert)
    }
}

/// Have a model file written under a progress bar, and print what it is.
pub fn write(
    output: &Path,
    make: impl FnOnce(&Path, &mut dyn FnMut(usize, usize)) -> Result<Summary>,
) -> Result<ExitCode> {
    let bar = progress_bar(0, "writing");
    let summary = make(output, &mut |done, total| {
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

pub fn run(args: Args) -> Result<ExitCode> {
    use softdimo::convert::{self, RewardFamily};
    match args.family {
        Family::MaskBit(args) => args.run(|s, output, progress| convert::maskbit(s, output, progress)),
        Family::MaskGen(args) => args.run(|s, output, progress| convert::maskgen(s, output, progress)),
        Family::MaskGit(args) => args.run(|s, output, progress| convert::maskgit(s, output, progress)),
        Family::Meissonic(args) => args.run(|s, output, progress| convert::meissonic(s, output, progress)),
        Family::ClipScore(args) => args.run(RewardFamily::ClipScore),
        Family::PickScore(args) => args.run(RewardFamily::PickScore),
        Family::HpsV2(args) => args.run(RewardFamily::HpsV2),
        Family::ImageReward(args) => args.run(RewardFamily::ImageReward),
        Family::Aesthetic(args) => args.run(),
        Family::Classifier(args) => args.run(),
    }
}

//! `softdimo convert` for the networks that score pictures.

use std::path::PathBuf;
use std::process::ExitCode;

use softdimo::Result;
use softdimo::convert::{RewardFamily, RewardSource, reward};

use super::Common;

/// What every reward's conversion reads.
#[derive(clap::Args)]
struct Network {
    /// Weights: safetensors, a PyTorch file (never executed), a sharded index, or a directory
    #[arg(long)]
    checkpoint: PathBuf,
    /// JSON with the official sizes; default: config.json or its like beside the checkpoint, else the shapes
    #[arg(long)]
    config: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// A reward that reads a prompt.
#[derive(clap::Args)]
pub struct PromptArgs {
    #[command(flatten)]
    network: Network,
    /// CLIP's merges.txt or BERT's vocab.txt; default: beside the checkpoint
    #[arg(long)]
    vocabulary: Option<PathBuf>,
}

#[derive(clap::Args)]
pub struct AestheticArgs {
    #[command(flatten)]
    network: Network,
    /// The layers over CLIP's features; default: in the checkpoint itself
    #[arg(long)]
    head: Option<PathBuf>,
}

#[derive(clap::Args)]
pub struct ClassifierArgs {
    #[command(flatten)]
    network: Network,
    /// JSON list of class names
    #[arg(long)]
    labels: Option<PathBuf>,
}

impl Network {
    fn run(self, family: RewardFamily, change: impl FnOnce(&mut RewardSource)) -> Result<ExitCode> {
        let mut source = RewardSource {
            config: self.config,
            storage: self.common.storage(),
            about: self.common.about(),
            ..RewardSource::new(family, self.checkpoint)
        };
        change(&mut source);
        self.common.run(|output, progress| reward(&source, output, progress))
    }
}

impl PromptArgs {
    pub fn run(self, family: RewardFamily) -> Result<ExitCode> {
        self.network.run(family, |source| source.vocabulary = self.vocabulary)
    }
}

impl AestheticArgs {
    pub fn run(self) -> Result<ExitCode> {
        self.network.run(RewardFamily::Aesthetic, |source| source.head = self.head)
    }
}

impl ClassifierArgs {
    pub fn run(self) -> Result<ExitCode> {
        self.network.run(RewardFamily::Classifier, |source| source.labels = self.labels)
    }
}

//! `softdimo convert maskbit`.

use std::path::PathBuf;
use std::process::ExitCode;

use softdimo::Result;
use softdimo::convert::{Source, maskbit};

use super::Common;

#[derive(clap::Args)]
pub struct Args {
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
    #[command(flatten)]
    common: Common,
}

impl Args {
    pub fn run(self) -> Result<ExitCode> {
        let source = Source {
            generator: self.generator,
            teacher: self.teacher,
            tokenizer: self.tokenizer,
            config: self.config,
            labels: self.labels,
            storage: self.common.storage(),
            about: self.common.about(),
        };
        self.common.run(|output, progress| maskbit(&source, output, progress))
    }
}

//! `softdimo convert` for the generator families.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use softdimo::Result;
use softdimo::convert::{Source, Summary};

use super::Common;

/// A family's conversion.
type Convert = fn(&Source, &Path, &mut dyn FnMut(usize, usize)) -> Result<Summary>;

/// Families conditioned on class labels.
#[derive(clap::Args)]
pub struct ClassArgs {
    #[command(flatten)]
    networks: Networks,
    /// JSON list of class names
    #[arg(long)]
    labels: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// Families conditioned on a prompt.
#[derive(clap::Args)]
pub struct PromptArgs {
    #[command(flatten)]
    networks: Networks,
    /// Text encoder: a file, or a directory with its config.json
    #[arg(long)]
    text_encoder: Option<PathBuf>,
    /// Its vocabulary: bpe_simple_vocab_16e6.txt.gz, merges.txt, tokenizer.json, or their directory; default:
    /// beside the text encoder
    #[arg(long)]
    vocabulary: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[derive(clap::Args)]
struct Networks {
    /// One-step student's generator: safetensors, or a PyTorch file (never executed), or a directory
    #[arg(long)]
    generator: Option<PathBuf>,
    /// Multi-step teacher's generator (public checkpoints are teachers)
    #[arg(long)]
    teacher: Option<PathBuf>,
    /// Image tokenizer
    #[arg(long)]
    tokenizer: PathBuf,
    /// JSON with the official sizes; default: what lies with the checkpoints
    #[arg(long)]
    config: Option<PathBuf>,
}

impl Networks {
    fn source(self, common: &Common) -> Source {
        Source {
            generator: self.generator,
            teacher: self.teacher,
            tokenizer: self.tokenizer,
            config: self.config,
            storage: common.storage(),
            about: common.about(),
            ..Source::default()
        }
    }
}

impl ClassArgs {
    pub fn run(self, convert: Convert) -> Result<ExitCode> {
        let source = Source { labels: self.labels, ..self.networks.source(&self.common) };
        self.common.run(|output, progress| convert(&source, output, progress))
    }
}

impl PromptArgs {
    pub fn run(self, convert: Convert) -> Result<ExitCode> {
        let source = Source {
            text_encoder: self.text_encoder,
            vocabulary: self.vocabulary,
            ..self.networks.source(&self.common)
        };
        self.common.run(|output, progress| convert(&source, output, progress))
    }
}

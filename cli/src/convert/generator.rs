//! `softdimo convert` for the generator families.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgMatches, Args as _, Command, FromArgMatches};
use softdimo::Result;
use softdimo::convert::{About, Source, WhichWeights, generator};
use softdimo::families::family::{ConditionKind, FamilyDescription};

use super::Common;

/// What a family is converted from, and what is said about it.
pub struct Args {
    source: Source,
    common: Common,
}

/// Families conditioned on class labels.
#[derive(clap::Args)]
struct Class {
    #[command(flatten)]
    networks: Networks,
    /// JSON list of class names
    #[arg(long)]
    labels: Option<PathBuf>,
    /// Attention heads of the generator, where neither its tensors nor a configuration show them (published MaskGit: 16)
    #[arg(long)]
    heads: Option<usize>,
    #[command(flatten)]
    common: Common,
}

/// Families conditioned on a prompt.
#[derive(clap::Args)]
struct Prompt {
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
    /// Weights of the generators, where a checkpoint has several sets: auto (averaged ones first), averaged, raw, or the
    /// name of their dictionary
    #[arg(long, default_value_t)]
    weights: WhichWeights,
    /// Of pictures with alpha: what rewards see transparent pixels against, #rrggbb; default: white
    #[arg(long)]
    background: Option<String>,
}

impl Networks {
    fn source(self, family: &FamilyDescription, common: &Common) -> Source {
        Source {
            generator: self.generator,
            teacher: self.teacher,
            tokenizer: self.tokenizer,
            config: self.config,
            weights: self.weights,
            storage: common.storage(),
            about: About { background: self.background, ..common.about() },
            ..Source::new(family.name)
        }
    }
}

impl Args {
    /// The options of a family, by what it is conditioned on.
    pub fn augment(command: Command, condition: ConditionKind) -> Command {
        match condition {
            ConditionKind::ClassLabel => Class::augment_args(command),
            ConditionKind::Prompt => Prompt::augment_args(command),
        }
    }

    pub fn read(matches: &ArgMatches, family: &FamilyDescription) -> Result<Args, clap::Error> {
        Ok(match family.condition {
            ConditionKind::ClassLabel => {
                let Class { networks, labels, heads, common } = Class::from_arg_matches(matches)?;
                Args { source: Source { labels, heads, ..networks.source(family, &common) }, common }
            }
            ConditionKind::Prompt => {
                let Prompt { networks, text_encoder, vocabulary, common } =
                    Prompt::from_arg_matches(matches)?;
                Args {
                    source: Source { text_encoder, vocabulary, ..networks.source(family, &common) },
                    common,
                }
            }
        })
    }

    pub fn run(self) -> Result<ExitCode> {
        let s = &self.source;
        let inputs = [
            ("--generator", s.generator.as_ref()),
            ("--teacher", s.teacher.as_ref()),
            ("--tokenizer", Some(&s.tokenizer)),
            ("--config", s.config.as_ref()),
            ("--labels", s.labels.as_ref()),
            ("--text-encoder", s.text_encoder.as_ref()),
            ("--vocabulary", s.vocabulary.as_ref()),
        ];
        self.common.run(&inputs, |output, progress| generator(s, output, progress))
    }
}

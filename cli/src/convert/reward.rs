//! `softdimo convert` for the networks that score pictures.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgMatches, Args as _, Command, FromArgMatches};
use softdimo::Result;
use softdimo::convert::{RewardSource, WhichWeights, reward};
use softdimo::rewards::scorer::{RewardDescription, Takes};

use super::Common;

/// What a reward is converted from, and what is said about it.
pub struct Args {
    source: RewardSource,
    common: Common,
}

/// What every reward's conversion reads.
#[derive(clap::Args)]
struct Network {
    /// Weights: safetensors, a PyTorch file (never executed), a sharded index, or a directory
    #[arg(long)]
    checkpoint: PathBuf,
    /// JSON with the official sizes; default: config.json or its like beside the checkpoint, else the shapes
    #[arg(long)]
    config: Option<PathBuf>,
    /// Which weights, where a checkpoint has several sets: auto (averaged ones first), averaged, raw, or the name of their
    /// dictionary
    #[arg(long, default_value_t)]
    weights: WhichWeights,
    #[command(flatten)]
    common: Common,
}

/// A reward that reads a prompt.
#[derive(clap::Args)]
struct Vocabulary {
    /// CLIP's bpe_simple_vocab_16e6.txt.gz, merges.txt or tokenizer.json, or BERT's vocab.txt, packed or not; or their
    /// directory; default: beside the checkpoint
    #[arg(long)]
    vocabulary: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Head {
    /// The layers over CLIP's features; default: in the checkpoint itself
    #[arg(long)]
    head: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Labels {
    /// JSON list of class names
    #[arg(long)]
    labels: Option<PathBuf>,
}

impl Args {
    /// The options of a reward, by what it takes beside its checkpoint.
    pub fn augment(command: Command, takes: Takes) -> Command {
        let command = Network::augment_args(command);
        match takes {
            Takes::Vocabulary => Vocabulary::augment_args(command),
            Takes::Head => Head::augment_args(command),
            Takes::Labels => Labels::augment_args(command),
        }
    }

    pub fn read(matches: &ArgMatches, d: &RewardDescription) -> Result<Args, clap::Error> {
        let Network { checkpoint, config, weights, common } = Network::from_arg_matches(matches)?;
        let (storage, about) = (common.storage(), common.about());
        let mut source =
            RewardSource { config, weights, storage, about, ..RewardSource::new(d.name, checkpoint) };
        match d.takes {
            Takes::Vocabulary => source.vocabulary = Vocabulary::from_arg_matches(matches)?.vocabulary,
            Takes::Head => source.head = Head::from_arg_matches(matches)?.head,
            Takes::Labels => source.labels = Labels::from_arg_matches(matches)?.labels,
        }
        Ok(Args { source, common })
    }

    pub fn run(self) -> Result<ExitCode> {
        let s = &self.source;
        let inputs = [
            ("--checkpoint", Some(&s.checkpoint)),
            ("--config", s.config.as_ref()),
            ("--vocabulary", s.vocabulary.as_ref()),
            ("--head", s.head.as_ref()),
            ("--labels", s.labels.as_ref()),
        ];
        self.common.run(&inputs, |output, progress| reward(s, output, progress))
    }
}

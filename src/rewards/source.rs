//! What the conversions of all rewards share: where the checkpoint is, and what a reward finds in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::prompt::TokenizerConfig;
use super::scorer::{Scorer, TextInput, TokenizerKind};
use crate::checkpoint::json::read_json;
use crate::checkpoint::sizes::Given;
use crate::checkpoint::{Checkpoint, Sought, WhichWeights};
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::model_file::About;
use crate::quant::Storage;
use crate::tensor::Dtype;
use crate::text::{ClipBpe, ClipFiles, Flavor, WordPiece, read_vocabulary};
use crate::weights::Weights;

/// BERT's vocabulary, beside a checkpoint or in its folder.
const BERT: [&str; 1] = ["vocab.txt"];

/// What to convert and what to say about it.
#[derive(Clone, Debug, Default)]
pub struct RewardSource {
    /// As the table of rewards names it.
    pub reward: String,
    pub checkpoint: PathBuf,
    /// Aesthetic: the layers over the features; default: in the checkpoint itself.
    pub head: Option<PathBuf>,
    /// JSON with what shapes do not tell; default: the official configuration beside the checkpoint, where there is one.
    pub config: Option<PathBuf>,
    /// CLIP's vocabulary in any of [`ClipFiles`]' forms, or BERT's `vocab.txt`, packed or not, or its folder; default: what
    /// lies beside the checkpoint.
    pub vocabulary: Option<PathBuf>,
    /// Which weights, where the checkpoint has several sets.
    pub weights: WhichWeights,
    /// Classifier: JSON list of class names, or of objects with `name`.
    pub labels: Option<PathBuf>,
    pub storage: Storage,
    pub about: About,
}

/// Appends what is read of a checkpoint to a graph.
pub(crate) type Build = Box<dyn Fn(&Graph, &Weights) -> Result<Value>>;

/// What a reward found in its checkpoint.
pub struct RewardPieces<A> {
    /// The sizes.
    pub architecture: A,
    /// The checkpoints, and what is read of each.
    pub(crate) networks: Vec<(Arc<Checkpoint>, Build)>,
    /// Of rewards that read a prompt: the tokenizer, and its vocabulary as a reward file holds it.
    pub tokenizer: Option<(TokenizerConfig, Vec<u8>)>,
}

impl<A> RewardPieces<A> {
    /// The same pieces of another type of architecture.
    pub fn map<B>(self, f: impl FnOnce(A) -> B) -> RewardPieces<B> {
        let RewardPieces { architecture, networks, tokenizer } = self;
        RewardPieces { architecture: f(architecture), networks, tokenizer }
    }
}

impl<A> std::fmt::Debug for RewardPieces<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let files: Vec<String> = self.networks.iter().map(|(checkpoint, _)| checkpoint.file()).collect();
        write!(f, "RewardPieces({files:?})")
    }
}

impl RewardSource {
    /// A checkpoint with everything else at its default.
    pub fn new(reward: impl Into<String>, checkpoint: impl Into<PathBuf>) -> RewardSource {
        RewardSource { reward: reward.into(), checkpoint: checkpoint.into(), ..RewardSource::default() }
    }

    /// The checkpoint, whatever wraps its names: `what` in words, known by one of the tensors `anchors`.
    pub(super) fn open(&self, what: &str, anchors: &[&str]) -> Result<Arc<Checkpoint>> {
        let sought = Sought { what, anchors, which: self.weights.clone() };
        Ok(Arc::new(Checkpoint::open_network(&self.checkpoint, &sought)?))
    }

    /// The first of these that lies in the checkpoint's directory.
    fn beside(&self, names: &[&str]) -> Option<PathBuf> {
        let folder = match self.checkpoint.is_dir() {
            true => Some(self.checkpoint.as_path()),
            false => self.checkpoint.parent(),
        }?;
        names.iter().map(|name| folder.join(name)).find(|path| path.is_file())
    }

    /// The configuration that was given, or the first of these beside the checkpoint.
    pub(super) fn config(&self, beside: &[&str]) -> Result<Option<Given>> {
        let Some(path) = self.config.clone().or_else(|| self.beside(beside)) else { return Ok(None) };
        Ok(Some(Given { file: path.display().to_string(), json: read_json(&path)? }))
    }

    /// The tokenizer for a text encoder of `checkpoint`, and its vocabulary as it is stored. `flavor` is of CLIP's.
    pub(super) fn tokenizer(
        &self,
        text: TextInput,
        flavor: Flavor,
        checkpoint: &Checkpoint,
    ) -> Result<Option<(TokenizerConfig, Vec<u8>)>> {
        let (names, what) = match text.kind {
            TokenizerKind::ClipBpe => (&ClipFiles::NAMES[..], "CLIP's merges"),
            TokenizerKind::WordPiece => (&BERT[..], "BERT's vocabulary"),
        };
        let Some(path) = self.vocabulary.clone().or_else(|| self.beside(names)) else {
            let expected = format!("{what}, since there is no {} beside {}", names[0], checkpoint.file());
            return Err(Error::invalid("--vocabulary", expected, "none"));
        };
        let (tokenizer, ids, stored) = tokenizer_of(&path, text, flavor)?;
        if ids > text.rows {
            return Err(Error::Config {
                file: checkpoint.file(),
                key: "vocab_size".into(),
                expected: format!("{ids} or more, as {} has", path.display()),
                found: text.rows.to_string(),
            });
        }
        Ok(Some((tokenizer, stored)))
    }
}

/// The tokenizer of a vocabulary file or of its folder, its number of ids, and its bytes as a reward file holds them.
fn tokenizer_of(path: &Path, text: TextInput, flavor: Flavor) -> Result<(TokenizerConfig, usize, Vec<u8>)> {
    Ok(match text.kind {
        TokenizerKind::WordPiece => {
            let path = if path.is_dir() { &path.join(BERT[0]) } else { path };
            let bytes = read_vocabulary(path)?;
            let pieces = WordPiece::from_vocabulary(&bytes).map_err(|e| match e {
                Error::Format { what, expected, found, .. } => {
                    Error::Format { file: path.display().to_string(), what, expected, found }
                }
                other => other,
            })?;
            let context = WordPiece::CONTEXT.min(text.positions);
            (TokenizerConfig::WordPiece { context }, pieces.vocabulary(), bytes)
        }
        TokenizerKind::ClipBpe => {
            let bpe = ClipFiles::open(path)?.bpe;
            let tokenizer = TokenizerConfig::ClipBpe { flavor, context: text.positions };
            (tokenizer, ClipBpe::VOCABULARY, bpe.vocabulary_bytes().to_vec())
        }
    })
}

/// Everything that scoring reads, of one checkpoint.
pub(super) fn whole(
    network: impl Scorer + Clone + 'static,
    checkpoint: Arc<Checkpoint>,
) -> Vec<(Arc<Checkpoint>, Build)> {
    let build = move |g: &Graph, w: &Weights| {
        let image = g.input("image", Dtype::F32, [1, 3, 32, 32])?;
        if network.classes() > 0 {
            return network.score(g, w, image, Some(g.input("class", Dtype::I64, [1])?));
        }
        let (ids, mask) = (g.input("ids", Dtype::I64, [1, 2])?, g.input("mask", Dtype::I64, [1, 2])?);
        network.score_tokens(g, w, image, ids, mask)
    };
    vec![(checkpoint, Box::new(build))]
}

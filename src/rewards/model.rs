//! An opened reward file: a network that scores pictures, and all it needs to read a prompt.
//!
//! The format is that of a generator's (`NAME.softdimo.safetensors`, see [`crate::model_file`]): `softdimo.config` is
//! a [`RewardConfig`], tensors have official names under `reward.`, and the tokenizer's vocabulary is the U8
//! tensor `reward.vocabulary`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use serde::{Deserialize, Serialize};

use super::architecture::{RewardArchitecture, names};
use super::prompt::{Tokenizer, TokenizerConfig, Tokens};
use crate::checkpoint::{Checkpoint, Mapping};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::model::Limits;
use crate::model_file::header::{ModelHeader, wrong};
use crate::model_file::labels::find_label;
use crate::model_file::packed::is_packed;
use crate::model_file::{ClassLabel, FORMAT, FORMATS, REWARD_COMPONENT, WeightsMode};
use crate::runtime::threads::float_mode::by_default;
use crate::shortage;
use crate::tensor::Dtype;
use crate::text::Overflow;
use crate::weights::Weights;

/// The tensor that holds the tokenizer's vocabulary.
pub const VOCABULARY: &str = "reward.vocabulary";

/// `softdimo.config` of a reward file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RewardConfig {
    #[serde(flatten)]
    pub architecture: RewardArchitecture,
    /// Of rewards that read a prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<TokenizerConfig>,
}

/// An opened, validated reward file. Immutable and shared between threads; its bytes stay mapped as long as a
/// reward, a job or a session uses it.
#[derive(Debug)]
pub struct RewardModel {
    checkpoint: Checkpoint,
    mapping: Arc<Mapping>,
    config: RewardConfig,
    tokenizer: Option<Tokenizer>,
    labels: Vec<ClassLabel>,
    namespace: String,
    keepers: Keepers,
}

/// Whoever keeps something of a reward file after a job.
pub(crate) trait Keeper: Send + Sync {
    /// Nobody has the file of this namespace open any more. Called on whatever thread let go of it last.
    fn closed(self: Arc<Self>, namespace: &str);
}

#[derive(Default)]
struct Keepers(Mutex<Vec<Weak<dyn Keeper>>>);

impl std::fmt::Debug for Keepers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keepers")
    }
}

impl Drop for RewardModel {
    fn drop(&mut self) {
        let keepers = self.keepers.0.get_mut().unwrap_or_else(|e| e.into_inner());
        keepers.iter().filter_map(Weak::upgrade).for_each(|keeper| keeper.closed(&self.namespace));
    }
}

impl RewardModel {
    /// Open and validate a reward file: header, configuration, vocabulary, and that every tensor is there with
    /// the right shape. No weight page is touched.
    ///
    /// # Errors
    /// `NotFound`, `Io`, `Format`; `Config` for a generator's file or a configuration that makes no sense;
    /// `MissingTensor`, `TensorMismatch`.
    pub fn open(path: impl AsRef<Path>, mode: WeightsMode) -> Result<RewardModel> {
        let path = path.as_ref();
        RewardModel::from_mapping(mode.open(path)?, &path.display().to_string())
    }

    /// Validate a reward file whose bytes are already at hand; `file` is its name in messages.
    #[doc(hidden)]
    pub fn from_mapping(mapping: Arc<Mapping>, file: &str) -> Result<RewardModel> {
        by_default(|| RewardModel::read(mapping, file))
    }

    fn read(mapping: Arc<Mapping>, file: &str) -> Result<RewardModel> {
        let checkpoint = Checkpoint::from_safetensors(mapping.clone(), file)?;
        let header = ModelHeader::read(&checkpoint, file)?;
        header.require_reward(&names())?;
        if is_packed(&checkpoint) {
            return Err(header.wrong(FORMAT, "1 or 2 of a reward", FORMATS[2]));
        }
        let config: RewardConfig = header.config()?;
        config.validate(file)?;
        let labels = header.labels(config.architecture.classes())?;
        let tokenizer =
            config.tokenizer.map(|t| read_tokenizer(t, &config, &checkpoint, file)).transpose()?;
        static OPENED: AtomicU64 = AtomicU64::new(0);
        let namespace = format!("reward{}", OPENED.fetch_add(1, Ordering::Relaxed));
        let keepers = Keepers::default();
        let model = RewardModel { checkpoint, mapping, config, tokenizer, labels, namespace, keepers };
        model.check_tensors()?;
        shortage::checked("the reward", Ok(model))
    }

    /// Build every graph a request may need, so that what is missing shows now.
    fn check_tensors(&self) -> Result<()> {
        let (g, w, a) = (Graph::new(), self.weights(), self.architecture());
        let image = g.input("image", Dtype::F32, [1, 3, 32, 32])?;
        let tokens = |name: &str, n: usize| g.input(name, Dtype::I64, [1, n]);
        match &self.tokenizer {
            Some(t) => {
                let (ids, mask) = (tokens("ids", t.context())?, tokens("mask", t.context())?);
                a.score_tokens(&g, &w, image, ids, mask)
            }
            None if a.classes() > 0 => a.score(&g, &w, image, Some(g.input("class", Dtype::I64, [1])?)),
            None => a.score(&g, &w, image, None),
        }
        .map(drop)?;
        Limits::default().check_graph("reward", &g, self.mapping.name())
    }

    #[doc(hidden)]
    pub fn architecture(&self) -> &RewardArchitecture {
        &self.config.architecture
    }

    #[doc(hidden)]
    pub fn config(&self) -> &RewardConfig {
        &self.config
    }

    #[doc(hidden)]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    pub fn metadata(&self) -> &BTreeMap<String, String> {
        self.checkpoint.metadata()
    }

    /// Class names of a classifier in order of their id; empty when the file has none.
    #[doc(hidden)]
    pub fn labels(&self) -> &[ClassLabel] {
        &self.labels
    }

    /// What tells this file's weights from those of the others that a graph reads; no two opened files share it.
    #[doc(hidden)]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Have this keeper told when nobody has the file open any more, once.
    pub(crate) fn kept_by<R: Keeper + 'static>(&self, keeper: &Arc<R>) {
        let mut keepers = self.keepers.0.lock().unwrap_or_else(|e| e.into_inner());
        keepers.retain(|other| other.strong_count() > 0);
        if keepers.iter().all(|other| !std::ptr::addr_eq(other.as_ptr(), Arc::as_ptr(keeper))) {
            let keeper: Weak<R> = Arc::downgrade(keeper);
            keepers.push(keeper);
        }
    }

    /// The network's weights, for graphs that read several files.
    #[doc(hidden)]
    pub fn weights(&self) -> Weights<'_> {
        Weights::named(&self.namespace, &self.checkpoint).at(REWARD_COMPONENT)
    }

    /// Token ids of a prompt; `None` for rewards that read none.
    #[doc(hidden)]
    pub fn tokens(&self, prompt: &str) -> Option<Tokens> {
        Some(self.tokenizer.as_ref()?.encode(prompt))
    }

    /// What of a prompt the reward does not read.
    pub(crate) fn overflow(&self, prompt: &str) -> Option<Overflow> {
        self.tokenizer.as_ref()?.overflow(prompt)
    }

    /// Number of classes of a classifier, 0 for others.
    pub fn classes(&self) -> usize {
        self.architecture().classes()
    }

    /// Class id of a classifier's label by its name or one of its synonyms; case, spaces, hyphens, underscores and an
    /// English plural do not matter.
    ///
    /// # Errors
    /// [`Error::UnknownLabel`], which suggests close names; [`Error::InvalidArgument`] for a name of several classes.
    pub fn class_of(&self, label: &str) -> Result<usize> {
        find_label(&self.labels, label)
    }

    /// Checks that the mapped file has not shrunk; see [`Mapping::recheck`].
    pub(crate) fn recheck(&self) -> Result<()> {
        self.mapping.recheck()
    }

    /// Family, title, licence, configuration, classes and size.
    pub(crate) fn info(&self) -> serde_json::Value {
        let metadata = self.metadata();
        serde_json::json!({
            "family": self.architecture().name(),
            "title": metadata.get("modelspec.title"),
            "license": metadata.get("modelspec.license"),
            "classes": self.classes(),
            "labels": self.labels.len(),
            "config": self.config,
            "quantization": metadata.get("softdimo.quantization"),
            "bytes": self.mapping.bytes().len(),
            "mapped": self.mapping.is_mapped(),
        })
    }
}

impl RewardConfig {
    /// Refuse sizes and a tokenizer that make no sense together. `file` is named in the error.
    pub fn validate(&self, file: &str) -> Result<()> {
        self.architecture.validate(file)?;
        match &self.tokenizer {
            Some(tokenizer) => tokenizer.validate(self.architecture.text(), file),
            None if self.architecture.reads_prompt() => {
                Err(wrong(file, "tokenizer", "the tokenizer of a reward that reads a prompt", "none"))
            }
            None => Ok(()),
        }
    }
}

/// The tokenizer over the file's vocabulary. Every id it can give must have a row in the text encoder.
fn read_tokenizer(
    tokenizer: TokenizerConfig,
    config: &RewardConfig,
    checkpoint: &Checkpoint,
    file: &str,
) -> Result<Tokenizer> {
    let expected = "[n] of u8";
    let Some(view) = checkpoint.get(VOCABULARY) else {
        let (name, expected) = (VOCABULARY.into(), expected.into());
        return Err(Error::MissingTensor { name, expected, file: checkpoint.file() });
    };
    if view.dtype != Dtype::U8 || view.shape.rank() != 1 {
        return Err(Error::TensorMismatch {
            name: VOCABULARY.into(),
            expected: expected.into(),
            found: format!("{}{}", view.dtype, view.shape),
            file: checkpoint.file(),
        });
    }
    let tokenizer = Tokenizer::new(tokenizer, view.data).map_err(|e| match e {
        Error::Format { file: vocabulary, what, expected, found } => {
            Error::Format { file: file.into(), what: format!("{vocabulary}: {what}"), expected, found }
        }
        other => other,
    })?;
    let (ids, rows) = (tokenizer.vocabulary(), config.architecture.text().map_or(0, |text| text.rows));
    if ids > rows {
        return Err(wrong(file, "vocab_size", &format!("{ids} or more, as the vocabulary has"), rows));
    }
    Ok(tokenizer)
}

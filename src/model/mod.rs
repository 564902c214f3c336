//! An opened model file: mapped weights, architecture, labels and request defaults.
//!
//! The format: [`crate::model_file`].

mod limits;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::limits::{DEFAULT_WORK, Limits};
use crate::checkpoint::{Checkpoint, Mapping};
use crate::error::{Error, Result};
use crate::families::defaults::Defaults;
use crate::families::{Architecture, FAMILIES};
use crate::model_file::header::{ModelHeader, wrong};
use crate::model_file::labels::{find_label, labels_like};
use crate::model_file::packed::{is_packed, unpack, unpacked_bytes};
use crate::model_file::{ClassLabel, WeightsMode};
use crate::program::Program;
use crate::tensor::Tensor;
use crate::text::{Overflow, PromptTokenizer};
use crate::weights::Weights;

/// Components a generator's file may hold.
const COMPONENTS: [&str; 5] = ["student", "teacher", "text", "encoder", "decoder"];

/// `softdimo.config`: the architecture and what a request means when it leaves a field to the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    #[serde(flatten)]
    pub architecture: Architecture,
    pub request_defaults: Defaults,
}

impl Config {
    /// Refuse sizes that contradict each other, and defaults that no request could carry. `file` is named in the error.
    pub fn validate(&self, file: &str) -> Result<()> {
        self.architecture.validate(file)?;
        self.request_defaults.validate(file)?;
        self.architecture.rule(&self.request_defaults.teacher).map(drop).map_err(|error| match error {
            Error::InvalidArgument { what, expected, found } => {
                wrong(file, &format!("request_defaults.teacher.{what}"), &expected, found)
            }
            other => other,
        })
    }
}

/// An opened, validated model file. Immutable and shared between threads.
#[derive(Debug)]
pub struct Model {
    checkpoint: Checkpoint,
    mapping: Arc<Mapping>,
    config: Config,
    labels: Vec<ClassLabel>,
    background: [u8; 3],
    /// Of models that read prompts.
    tokenizer: Option<PromptTokenizer>,
}

impl Model {
    /// Open and validate a model file: header, configuration, and that every tensor of every component
    /// is there with the right shape. Of the weights, only the scales of int8 are read; those in int4 are unpacked into memory, and
    /// the file is read no more.
    /// Models too large for `limits` are refused before a session is prepared.
    pub fn open(path: &Path, mode: WeightsMode, limits: Limits) -> Result<Model> {
        Model::from_mapping(mode.open(path)?, &path.display().to_string(), limits)
    }

    /// Validate a model file whose bytes are already at hand; `file` is its name in messages.
    pub fn from_mapping(mapping: Arc<Mapping>, file: &str, limits: Limits) -> Result<Model> {
        let (mut checkpoint, mut mapping) = (Checkpoint::from_safetensors(mapping.clone(), file)?, mapping);
        let families: Vec<&str> = FAMILIES.iter().map(|family| family.description.name).collect();
        if is_packed(&checkpoint) {
            // What is no generator is refused before it takes memory.
            let header = ModelHeader::read(&checkpoint, file)?;
            header.refuse_reward(&families)?;
            header.config::<Config>()?.validate(file)?;
            let needed = unpacked_bytes(&checkpoint)?;
            if limits.memory != 0 && needed > limits.memory {
                let what = format!("unpacking {file}");
                return Err(Error::OutOfMemory { what, needed, limit: limits.memory });
            }
            (checkpoint, mapping) = unpack(&checkpoint, file)?;
        }
        let header = ModelHeader::read(&checkpoint, file)?;
        header.refuse_reward(&families)?;
        let config: Config = header.config()?;
        config.validate(file)?;
        limits.check_layout(&config.architecture.layout(), file)?;
        let labels = header.labels(config.architecture.layout().classes)?;
        let background = header.background()?;
        let text = config.architecture.text();
        let tokenizer = text.map(|text| text.tokenizer(&Weights::new(&checkpoint).at("text"))).transpose()?;
        let model = Model { checkpoint, mapping, config, labels, background, tokenizer };
        if !model.has_component("decoder")
            || !(model.has_component("student") || model.has_component("teacher"))
        {
            let found = format!("components: {}", model.components().join(", "));
            return Err(wrong(file, "components", "a decoder and a student or teacher", found));
        }
        for program in Program::ALL {
            if program.available(model.architecture(), &model.weights()) {
                let graph = program.graph(model.architecture(), &model.weights(), 1)?;
                limits.check_graph(program.name(), &graph, file)?;
            }
        }
        Ok(model)
    }

    pub fn architecture(&self) -> &Architecture {
        &self.config.architecture
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn defaults(&self) -> &Defaults {
        &self.config.request_defaults
    }

    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    pub fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// All weights, unscoped.
    pub fn weights(&self) -> Weights<'_> {
        Weights::new(&self.checkpoint)
    }

    pub fn metadata(&self) -> &BTreeMap<String, String> {
        self.checkpoint.metadata()
    }

    /// Class labels in order of their id; empty when the file has none.
    pub fn labels(&self) -> &[ClassLabel] {
        &self.labels
    }

    /// What transparent pixels are seen against: red, green, blue.
    pub fn background(&self) -> [u8; 3] {
        self.background
    }

    /// Whether tensors of the component (`student`, `teacher`, `text`, `encoder`, `decoder`) are in the file.
    pub fn has_component(&self, component: &str) -> bool {
        self.weights().has_scope(component)
    }

    /// Components in the file.
    pub fn components(&self) -> Vec<&'static str> {
        COMPONENTS.into_iter().filter(|c| self.has_component(c)).collect()
    }

    /// Token ids [1, L] of a prompt, for the model's text encoder. An error for models that read none.
    pub(crate) fn prompt_ids(&self, prompt: &str) -> Result<Tensor> {
        let tokenizer = self.tokenizer.as_ref();
        Ok(tokenizer.ok_or_else(|| Error::internal("a prompt for a class model"))?.encode_batch(&[prompt]))
    }

    /// What of a prompt the model's text encoder does not read.
    pub(crate) fn overflow(&self, prompt: &str) -> Option<Overflow> {
        self.tokenizer.as_ref()?.overflow(prompt)
    }

    /// Class id of a label by its name or one of its synonyms; case, spaces, hyphens, underscores and an English plural
    /// do not matter. The error suggests close names, or lists the classes that share this one.
    pub fn class_of(&self, label: &str) -> Result<usize> {
        find_label(&self.labels, label)
    }

    /// Ids of the classes whose label holds `filter`; where none does, of those with a similar one, the most similar first.
    pub fn classes_like(&self, filter: &str) -> Vec<usize> {
        labels_like(&self.labels, filter)
    }
}

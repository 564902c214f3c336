//! An opened model file: mapped weights, architecture, labels and request defaults.
//!
//! The format is one safetensors file (`NAME.softdimo.safetensors`): tensors under component prefixes
//! (`student.`, `teacher.`, `text.`, `encoder.`, `decoder.`) and official names, everything else in `__metadata__`.

pub(crate) mod header;
mod teacher;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::header::Header;
pub use self::teacher::{TeacherDefaults, TeacherSampler};
use crate::checkpoint::{Checkpoint, Mapping};
use crate::error::{Error, Result};
use crate::models::program::Program;
use crate::models::{Architecture, MicroConditions};
use crate::tensor::Tensor;
use crate::tokenizer::PromptTokenizer;
use crate::weights::Weights;

/// Value of `softdimo.format` this library writes and reads.
pub const FORMAT: &str = "1";

/// Metadata key that says how the weights are stored: "none", "f16" or "int8".
pub const QUANTIZATION: &str = "softdimo.quantization";

/// `softdimo.config`: the architecture and what a request means when it leaves a field to the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    #[serde(flatten)]
    pub architecture: Architecture,
    pub request_defaults: Defaults,
}

/// Per-model request defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Defaults {
    /// Share of start tokens that are masked, r_init.
    pub mask_ratio: f32,
    /// Standard deviation σ of the perturbation of the start embedding.
    pub sigma: f32,
    /// Sampling temperature of the one-step student; 0 = arg-max.
    pub temperature: f32,
    #[serde(default)]
    pub top_k: u32,
    #[serde(default = "one")]
    pub top_p: f32,
    #[serde(default)]
    pub teacher: TeacherDefaults,
    /// Of text-to-image models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro: Option<MicroConditions>,
}

impl Defaults {
    /// Refuse values that no request could carry. `file` is named in the error.
    pub fn validate(&self, file: &str) -> Result<()> {
        let t = &self.teacher;
        let ranges = [
            ("mask_ratio", self.mask_ratio, 0.0, 1.0),
            ("sigma", self.sigma, 0.0, 1.0),
            ("temperature", self.temperature, 0.0, 1e4),
            ("top_p", self.top_p, f32::MIN_POSITIVE, 1.0),
            ("teacher.temperature", t.temperature, f32::MIN_POSITIVE, 1e4),
            ("teacher.guidance_scale", t.guidance_scale, 0.0, 1e4),
            ("teacher.guidance_power", t.guidance_power, 0.0, 1e4),
            ("teacher.randomize_temperature", t.randomize_temperature, 0.0, 1e4),
            ("teacher.steps", t.steps as f32, 1.0, 1e4),
        ];
        for (key, value, low, high) in ranges {
            if !(value.is_finite() && (low..=high).contains(&value)) {
                return Err(Error::Config {
                    file: file.into(),
                    key: format!("request_defaults.{key}"),
                    expected: format!("{low} to {high}"),
                    found: value.to_string(),
                });
            }
        }
        t.validate(file)
    }
}

fn one() -> f32 {
    1.0
}

/// How the file's bytes are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightsMode {
    /// Mapped read-only; pages are shared with other processes and never count as the host's own memory.
    #[default]
    Map,
    /// Copied into memory once; the file may change afterwards.
    Read,
    /// Mapped, with a SIGBUS guard: truncating the file fails the job instead of killing the host.
    MapGuarded,
}

impl WeightsMode {
    /// The file's bytes, held this way.
    pub fn open(self, path: &Path) -> Result<Arc<Mapping>> {
        Ok(Arc::new(match self {
            WeightsMode::Map => Mapping::map(path),
            WeightsMode::Read => Mapping::read(path),
            WeightsMode::MapGuarded => Mapping::map_guarded(path),
        }?))
    }
}

/// A class label of the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// An opened, validated model file. Immutable and shared between threads.
#[derive(Debug)]
pub struct Model {
    checkpoint: Checkpoint,
    mapping: Arc<Mapping>,
    config: Config,
    labels: Vec<Label>,
    /// Of models that read prompts.
    tokenizer: Option<PromptTokenizer>,
}

impl Model {
    /// Open and validate a model file: header, configuration, and that every tensor of every component
    /// is there with the right shape. Of the weights, only the scales of int8 are read.
    pub fn open(path: &Path, mode: WeightsMode) -> Result<Model> {
        Model::from_mapping(mode.open(path)?, &path.display().to_string())
    }

    /// Validate a model file whose bytes are already at hand; `file` is its name in messages.
    pub fn from_mapping(mapping: Arc<Mapping>, file: &str) -> Result<Model> {
        let checkpoint = Checkpoint::from_mapping(mapping.clone(), file)?;
        let header = Header::read(&checkpoint, file)?;
        header.refuse_reward()?;
        let config: Config = header.config()?;
        config.architecture.validate(file)?;
        config.request_defaults.validate(file)?;
        let labels = header.labels(config.architecture.layout().classes)?;
        let text = config.architecture.text();
        let tokenizer = text.map(|text| text.tokenizer(&Weights::new(&checkpoint).at("text"))).transpose()?;
        let model = Model { checkpoint, mapping, config, labels, tokenizer };
        if !model.has_component("decoder")
            || !(model.has_component("student") || model.has_component("teacher"))
        {
            let found = format!("components: {}", model.components().join(", "));
            return Err(header::wrong(file, "components", "a decoder and a student or teacher", found));
        }
        for program in Program::ALL {
            if program.available(&model) {
                program.graph(&model, 1)?;
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
    pub fn labels(&self) -> &[Label] {
        &self.labels
    }

    /// Whether tensors of the component (`student`, `teacher`, `text`, `encoder`, `decoder`) are in the file.
    pub fn has_component(&self, component: &str) -> bool {
        self.checkpoint.names().any(|n| n.strip_prefix(component).is_some_and(|rest| rest.starts_with('.')))
    }

    /// Components in the file.
    pub fn components(&self) -> Vec<&'static str> {
        ["student", "teacher", "text", "encoder", "decoder"]
            .into_iter()
            .filter(|c| self.has_component(c))
            .collect()
    }

    /// Token ids [1, L] of a prompt, for the model's text encoder. An error for models that read none.
    pub(crate) fn prompt_ids(&self, prompt: &str) -> Result<Tensor> {
        let tokenizer = self.tokenizer.as_ref();
        Ok(tokenizer.ok_or_else(|| Error::internal("a prompt for a class model"))?.encode_batch(&[prompt]))
    }

    /// Class id of a label by its name, ignoring case; the error suggests close names.
    pub fn class_of(&self, label: &str) -> Result<usize> {
        header::find_label(&self.labels, label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_checked() {
        let good = r#"{"mask_ratio": 0.6, "sigma": 0.1, "temperature": 1.0}"#;
        let parse = |text: &str| serde_json::from_str::<Defaults>(text).unwrap();
        parse(good).validate("f").unwrap();
        for (from, to) in [("0.6", "1.5"), ("0.1", "-0.1"), ("1.0", "-3")] {
            let error = parse(&good.replace(from, to)).validate("f").unwrap_err();
            assert!(error.to_string().contains(to), "{error}");
        }
    }
}

//! An opened model file: mapped weights, architecture, labels and request defaults.
//!
//! The format is one safetensors file (`NAME.softdimo.safetensors`): tensors under component prefixes
//! (`student.`, `teacher.`, `encoder.`, `decoder.`) and official names, everything else in `__metadata__`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::checkpoint::{Checkpoint, Mapping};
use crate::error::{Error, Result};
use crate::models::Architecture;
use crate::models::program::Program;
use crate::sample::{Annealing, Schedule};
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
        Ok(())
    }
}

fn one() -> f32 {
    1.0
}

/// Defaults of the teacher's multi-step sampler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TeacherDefaults {
    pub steps: u32,
    pub temperature: f32,
    pub guidance_scale: f32,
    pub guidance_annealing: Annealing,
    /// Exponent of the cosine annealing.
    pub guidance_power: f32,
    pub randomize_temperature: f32,
    pub schedule: Schedule,
    /// Lower the softmax temperature from 1.3 to 0.5 over the steps.
    pub sampling_annealing: bool,
}

impl Default for TeacherDefaults {
    fn default() -> TeacherDefaults {
        TeacherDefaults {
            steps: 64,
            temperature: 1.0,
            guidance_scale: 0.0,
            guidance_annealing: Annealing::None,
            guidance_power: 3.0,
            randomize_temperature: 4.5,
            schedule: Schedule::Arccos,
            sampling_annealing: false,
        }
    }
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
}

impl Model {
    /// Open and validate a model file: header, configuration, and that every tensor of every component
    /// is there with the right shape. Of the weights, only the scales of int8 are read.
    pub fn open(path: &Path, mode: WeightsMode) -> Result<Model> {
        let mapping = match mode {
            WeightsMode::Map => Mapping::map(path),
            WeightsMode::Read => Mapping::read(path),
            WeightsMode::MapGuarded => Mapping::map_guarded(path),
        }?;
        Model::from_mapping(Arc::new(mapping), &path.display().to_string())
    }

    /// Validate a model file whose bytes are already at hand; `file` is its name in messages.
    pub fn from_mapping(mapping: Arc<Mapping>, file: &str) -> Result<Model> {
        let checkpoint = Checkpoint::from_mapping(mapping.clone(), file)?;
        let metadata = checkpoint.metadata();
        let config_error = |key: &str, expected: &str, found: String| Error::Config {
            file: file.into(),
            key: key.into(),
            expected: expected.into(),
            found,
        };
        let get = |key: &str| {
            metadata.get(key).ok_or_else(|| {
                config_error(key, "a model file made by 'softdimo convert'", "no such metadata".into())
            })
        };
        let format = get("softdimo.format")?;
        if format != FORMAT {
            return Err(config_error("softdimo.format", FORMAT, format.clone()));
        }
        let config: Config = serde_json::from_str(get("softdimo.config")?)
            .map_err(|e| config_error("softdimo.config", "a valid configuration", e.to_string()))?;
        config.architecture.validate(file)?;
        config.request_defaults.validate(file)?;
        let labels: Vec<Label> = match metadata.get("softdimo.labels") {
            None => Vec::new(),
            Some(text) => serde_json::from_str(text)
                .map_err(|e| config_error("softdimo.labels", "a list of labels", e.to_string()))?,
        };
        let classes = config.architecture.layout().classes;
        if !labels.is_empty() && labels.len() != classes {
            let found = format!("{} labels", labels.len());
            return Err(config_error("softdimo.labels", &format!("{classes} labels, or none"), found));
        }
        let model = Model { checkpoint, mapping, config, labels };
        if !model.has_component("decoder")
            || !(model.has_component("student") || model.has_component("teacher"))
        {
            let found = format!("components: {}", model.components().join(", "));
            return Err(config_error("components", "a decoder and a student or teacher", found));
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

    /// Whether tensors of the component (`student`, `teacher`, `encoder`, `decoder`) are in the file.
    pub fn has_component(&self, component: &str) -> bool {
        self.checkpoint.names().any(|n| n.strip_prefix(component).is_some_and(|rest| rest.starts_with('.')))
    }

    /// Components in the file.
    pub fn components(&self) -> Vec<&'static str> {
        ["student", "teacher", "encoder", "decoder"].into_iter().filter(|c| self.has_component(c)).collect()
    }

    /// Class id of a label by its name, ignoring case; the error suggests close names.
    pub fn class_of(&self, label: &str) -> Result<usize> {
        let wanted = label.trim().to_lowercase();
        if let Some(i) = self.labels.iter().position(|l| l.name.to_lowercase() == wanted) {
            return Ok(i);
        }
        let near: Vec<&str> = self
            .labels
            .iter()
            .map(|l| l.name.as_str())
            .filter(|n| {
                let n = n.to_lowercase();
                wanted.split_whitespace().any(|word| n.split_whitespace().any(|w| w == word))
                    || (!wanted.is_empty() && n.contains(&wanted))
            })
            .take(5)
            .collect();
        let hint = if near.is_empty() { String::new() } else { format!(" (close: {})", near.join(", ")) };
        Err(Error::UnknownLabel { label: label.into(), count: self.labels.len(), hint })
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

//! What every model file says in its `__metadata__`, a generator's or a reward's: format, configuration, labels.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use super::{BACKGROUND, COLOR, ClassLabel, FORMAT, FORMATS, KNOWN_FORMATS, REWARD_COMPONENT, parse_color};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};

/// The metadata of a model file of the right format.
pub(crate) struct ModelHeader<'a> {
    metadata: &'a BTreeMap<String, String>,
    /// Whether it holds tensors of a reward's network.
    reward: bool,
    /// Its name in messages.
    file: &'a str,
}

impl<'a> ModelHeader<'a> {
    /// # Errors
    /// `Config` when the file is none of `softdimo convert`, or of another format.
    pub fn read(checkpoint: &'a Checkpoint, file: &'a str) -> Result<ModelHeader<'a>> {
        let reward = checkpoint.names().any(|name| in_component(name, REWARD_COMPONENT));
        let header = ModelHeader { metadata: checkpoint.metadata(), reward, file };
        let format = header.get(FORMAT)?;
        if !FORMATS.contains(&format) {
            return Err(header.wrong(FORMAT, KNOWN_FORMATS, format));
        }
        Ok(header)
    }

    pub fn wrong(&self, key: &str, expected: &str, found: impl ToString) -> Error {
        wrong(self.file, key, expected, found)
    }

    fn get(&self, key: &str) -> Result<&'a str> {
        let value = self.metadata.get(key).map(String::as_str);
        value.ok_or_else(|| self.wrong(key, "a model file made by 'softdimo convert'", "no such metadata"))
    }

    /// `softdimo.config`.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(self.get("softdimo.config")?)
            .map_err(|e| self.wrong("softdimo.config", "a valid configuration", e))
    }

    /// The family the file claims, before anything else of its configuration is believed.
    fn family(&self) -> Result<Option<String>> {
        let config: serde_json::Value = self.config()?;
        Ok(config["family"].as_str().map(String::from))
    }

    /// `Config` when the file is a reward's and none of the `generators`: it makes no pictures.
    pub fn refuse_reward(&self, generators: &[&str]) -> Result<()> {
        let family = self.family()?.unwrap_or_default();
        if self.reward && !generators.contains(&family.as_str()) {
            let found = format!("the reward '{family}', which is opened as a reward");
            return Err(self.wrong("family", "a generator", found));
        }
        Ok(())
    }

    /// `Config` when the file is anything but one of these `rewards`.
    pub fn require_reward(&self, rewards: &[&str]) -> Result<()> {
        match self.family()? {
            Some(family) if rewards.contains(&family.as_str()) => Ok(()),
            family => Err(self.wrong(
                "family",
                &format!("a reward ({})", rewards.join(", ")),
                format!("'{}'; a generator is opened as an engine", family.unwrap_or_default()),
            )),
        }
    }

    /// Whether the file holds tensors of a reward's network.
    pub fn is_reward(&self) -> bool {
        self.reward
    }

    /// `softdimo.background`, or white.
    pub fn background(&self) -> Result<[u8; 3]> {
        let Some(text) = self.metadata.get(BACKGROUND) else { return Ok([255; 3]) };
        parse_color(text).ok_or_else(|| self.wrong(BACKGROUND, COLOR, text))
    }

    /// `softdimo.labels`: one for each class, or none.
    pub fn labels(&self, classes: usize) -> Result<Vec<ClassLabel>> {
        let Some(text) = self.metadata.get("softdimo.labels") else { return Ok(Vec::new()) };
        let labels: Vec<ClassLabel> =
            serde_json::from_str(text).map_err(|e| self.wrong("softdimo.labels", "a list of labels", e))?;
        if !labels.is_empty() && labels.len() != classes {
            let found = format!("{} labels", labels.len());
            return Err(self.wrong("softdimo.labels", &format!("{classes} labels, or none"), found));
        }
        Ok(labels)
    }
}

/// Whether a tensor belongs to a component (`student`, `teacher`, `text`, `encoder`, `decoder`, `reward`).
pub(crate) fn in_component(tensor: &str, component: &str) -> bool {
    tensor.strip_prefix(component).is_some_and(|rest| rest.starts_with('.'))
}

/// An [`Error::Config`] of a model file.
pub(crate) fn wrong(file: &str, key: &str, expected: &str, found: impl ToString) -> Error {
    let (expected, found) = (expected.into(), found.to_string());
    Error::Config { file: file.into(), key: key.into(), expected, found }
}

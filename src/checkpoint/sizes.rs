//! Sizes of a network: from the shapes of a checkpoint's tensors, and what shapes do not tell (the number of attention
//! heads, the activation) from a configuration. Sizes in both must agree: a configuration of another checkpoint would give
//! other numbers, not an error.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use super::Checkpoint;
use crate::error::{Error, Result};

/// Sizes of one network while they are gathered.
pub(crate) struct Sizes<'a> {
    /// `text` or `vision`.
    pub part: &'a str,
    checkpoint: &'a Checkpoint,
    pub values: Map<String, Json>,
}

/// A configuration and the name to blame for it.
pub(crate) struct Given {
    pub file: String,
    pub json: Json,
}

pub(crate) fn wrong(file: &str, key: &str, expected: &str, found: impl ToString) -> Error {
    let (expected, found) = (expected.into(), found.to_string());
    Error::Config { file: file.into(), key: key.into(), expected, found }
}

/// The shape of a tensor that must be there with this rank, nothing of it empty.
pub(crate) fn shape(checkpoint: &Checkpoint, name: &str, rank: usize) -> Result<Vec<usize>> {
    let Some(view) = checkpoint.get(name) else {
        let expected = format!("of rank {rank}");
        return Err(Error::MissingTensor { name: name.into(), expected, file: checkpoint.file() });
    };
    if view.shape.rank() != rank || view.shape.is_empty() {
        return Err(Error::TensorMismatch {
            name: name.into(),
            expected: format!("rank {rank}, nothing empty"),
            found: format!("{}{}", view.dtype, view.shape),
            file: checkpoint.file(),
        });
    }
    Ok(view.shape.to_vec())
}

impl<'a> Sizes<'a> {
    pub(crate) fn new(part: &'a str, checkpoint: &'a Checkpoint) -> Sizes<'a> {
        Sizes { part, checkpoint, values: Map::new() }
    }

    pub(crate) fn known(&mut self, key: &str, value: usize) {
        self.values.insert(key.into(), value.into());
    }

    /// A size that is one dimension of a tensor.
    pub(crate) fn dimension(&mut self, key: &str, tensor: &str, rank: usize, axis: usize) -> Result<usize> {
        let size = shape(self.checkpoint, tensor, rank)?[axis];
        self.known(key, size);
        Ok(size)
    }

    /// The picture's side: position embeddings of the class token and of a square of patches.
    pub(crate) fn image(&mut self, key: &str, positions: &str, rank: usize, patch: usize) -> Result<()> {
        let shape = shape(self.checkpoint, positions, rank)?;
        let patches = shape[rank - 2] - 1;
        let side = patches.isqrt();
        if side * side != patches || side == 0 {
            return Err(Error::TensorMismatch {
                name: positions.into(),
                expected: "rows for the class token and a square of patches".into(),
                found: format!("{} rows", shape[rank - 2]),
                file: self.checkpoint.file(),
            });
        }
        self.known(key, side * patch);
        Ok(())
    }

    /// The number of layers, which are numbered from 0 after `prefix`.
    pub(crate) fn layers(&mut self, key: &str, prefix: &str) -> Result<()> {
        let number = |name: &str| name.strip_prefix(prefix)?.split('.').next()?.parse::<usize>().ok();
        let Some(last) = self.checkpoint.names().filter_map(number).max() else {
            let expected = "of any shape".into();
            let name = format!("{prefix}0.*");
            return Err(Error::MissingTensor { name, expected, file: self.checkpoint.file() });
        };
        self.known(key, last.saturating_add(1));
        Ok(())
    }

    /// A value of a configuration, called `path` there; absent ones change nothing, sizes that the tensors
    /// have already must agree.
    pub(crate) fn set(&mut self, file: &str, path: &str, key: &str, value: &Json) -> Result<()> {
        match self.values.get(key) {
            _ if value.is_null() => Ok(()),
            Some(known) if known == value => Ok(()),
            Some(known) => {
                Err(wrong(file, path, &format!("{known}, as in {}", self.checkpoint.file()), value))
            }
            None => {
                self.values.insert(key.into(), value.clone());
                Ok(())
            }
        }
    }

    /// The keys of a reward file's own configuration.
    pub(crate) fn section(&mut self, given: &Given, section: &Json, path: &str) -> Result<()> {
        for (key, value) in section.as_object().into_iter().flatten() {
            self.set(&given.file, &format!("{path}.{key}"), key, value)?;
        }
        Ok(())
    }

    /// The number of heads by their usual width, unless it is known or no multiple.
    pub(crate) fn heads(&mut self, key: &str, width: usize, head: usize) {
        if width.is_multiple_of(head) {
            self.values.entry(key).or_insert((width / head).into());
        }
    }

    pub(crate) fn finish<T: DeserializeOwned>(self, heads: &str) -> Result<T> {
        let file = self.checkpoint.file();
        if !self.values.contains_key(heads) {
            let expected = "--config FILE that gives it, since the width is no multiple of the usual head's";
            return Err(wrong(&file, &format!("{}.{heads}", self.part), expected, "none"));
        }
        serde_json::from_value(Json::Object(self.values))
            .map_err(|e| wrong(&file, self.part, "the sizes of the official configuration", e))
    }
}

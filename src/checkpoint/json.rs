//! JSON that lies beside a checkpoint: official configurations.

use std::path::Path;

use serde_json::Value as Json;

use crate::error::{Error, Result};

/// The JSON in a file.
pub(crate) fn read_json(path: &Path) -> Result<Json> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    parse_json(&path.display().to_string(), &text)
}

/// `file` is named in the error.
pub(crate) fn parse_json(file: &str, text: &str) -> Result<Json> {
    serde_json::from_str(text).map_err(|e| Error::Config {
        file: file.into(),
        key: "config".into(),
        expected: "a JSON object".into(),
        found: e.to_string(),
    })
}

//! Which file of a directory is its checkpoint.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What is looked for in a directory, in this order; after these, a single `*.safetensors`.
const IN_DIRECTORY: [&str; 6] = [
    "model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

pub(super) fn find_in_directory(directory: &Path) -> Result<PathBuf> {
    let candidate = IN_DIRECTORY.iter().map(|name| directory.join(name)).find(|path| path.is_file());
    if let Some(path) = candidate {
        return Ok(path);
    }
    let entries = std::fs::read_dir(directory).map_err(|e| Error::io(directory, e))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| Error::io(directory, e))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let single: Vec<_> = names.iter().filter(|name| name.ends_with(".safetensors")).collect();
    if let [name] = single[..] {
        return Ok(directory.join(name));
    }
    let found = match names.len() {
        0 => "nothing".into(),
        n if n > 20 => format!("{} and {} more", names[..20].join(", "), n - 20),
        _ => names.join(", "),
    };
    Err(Error::Format {
        file: directory.display().to_string(),
        what: "checkpoint directory".into(),
        expected: format!("{} or a single *.safetensors", IN_DIRECTORY.join(", ")),
        found,
    })
}

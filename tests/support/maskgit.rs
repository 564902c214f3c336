//! The tiny MaskGIT of `tests/data/maskgit` as a model file.

use std::path::{Path, PathBuf};

use softdimo::convert::{self, Source};

use super::data;

/// The fixture as published: student and teacher, and a configuration with what no tensor shows.
pub fn source(folder: &Path, generator: &str) -> Source {
    let config = folder.join("heads.json");
    std::fs::write(&config, r#"{"heads": 4}"#).unwrap();
    Source {
        generator: Some(data("maskgit").join(generator)),
        teacher: Some(data("maskgit/MaskGIT.pth")),
        tokenizer: data("maskgit/last.ckpt"),
        config: Some(config),
        ..Source::new("maskgit")
    }
}

/// The fixture as a model file, its student from the file `generator`.
pub fn model(folder: &Path, generator: &str) -> PathBuf {
    let output = folder.join(format!("{generator}.softdimo.safetensors"));
    convert::generator(&source(folder, generator), &output, |_, _| ()).unwrap();
    output
}

//! The tiny MaskBit of `tests/data/maskbit` as a model file.

use std::path::{Path, PathBuf};

use softdimo::convert::{self, Source, Storage};

use super::data;
use super::safetensors_file::File;

/// Class names that tests give it where they need names.
pub const LABELS: [&str; 10] =
    ["red apple", "green apple", "apple pie", "dog", "cat", "bird", "fish", "sun", "moon", "rain cloud"];

/// The student and its tokenizer, as published.
pub fn student() -> Source {
    Source {
        generator: Some(data("maskbit/generator.safetensors")),
        tokenizer: data("maskbit/tokenizer.safetensors"),
        ..Source::new("maskbit")
    }
}

/// Student and teacher.
pub fn source() -> Source {
    Source { teacher: Some(data("maskbit/generator.safetensors")), ..student() }
}

/// Student and teacher as a model file.
pub fn model(folder: &Path) -> PathBuf {
    converted(&source(), &folder.join("maskbit.softdimo.safetensors"))
}

/// The student in a storage.
pub fn stored(folder: &Path, storage: Storage) -> PathBuf {
    let source = Source { storage, ..student() };
    converted(&source, &folder.join(format!("{storage:?}.softdimo.safetensors")))
}

/// Student and teacher with [`LABELS`].
pub fn labelled(folder: &Path) -> PathBuf {
    let labels = folder.join("labels.json");
    std::fs::write(&labels, serde_json::json!(LABELS).to_string()).unwrap();
    let source = Source { labels: Some(labels), ..source() };
    converted(&source, &folder.join("fixture.softdimo.safetensors"))
}

/// The student with `layers` copies of its first layer: a network whose sessions take long to prepare.
pub fn deep(folder: &Path, layers: usize) -> PathBuf {
    let mut file = File::read(&converted(&student(), &folder.join("shallow")));
    let first = "student.transformer.layers.0.";
    let names: Vec<String> =
        file.header.as_object().unwrap().keys().filter(|name| name.starts_with(first)).cloned().collect();
    for name in names {
        let (bytes, entry) = (file.tensor(&name).to_vec(), file.header[&name].clone());
        for layer in 3..layers {
            let (from, to) = (file.data.len(), file.data.len() + bytes.len());
            let mut entry = entry.clone();
            entry["data_offsets"] = serde_json::json!([from, to]);
            file.header[name.replace("layers.0.", &format!("layers.{layer}."))] = entry;
            file.data.extend(&bytes);
        }
    }
    file.config(|config| config["generator"]["depth"] = layers.into());
    let path = folder.join("deep.softdimo.safetensors");
    std::fs::write(&path, file.bytes()).unwrap();
    path
}

pub fn converted(source: &Source, output: &Path) -> PathBuf {
    convert::generator(source, output, |_, _| ()).unwrap();
    output.to_path_buf()
}

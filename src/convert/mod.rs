//! Official checkpoints → one model file. The networks' own graph builders say which tensors are needed,
//! so a missing or misshapen one is reported before anything is written, and nothing else is copied.
//! [`quantize`] writes a model file again with narrower weights.

mod generator;
mod maskbit;
mod maskgen;
mod maskgit;
mod meissonic;
mod quantize;
mod reward;
mod text_encoder;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

pub use generator::Source;
pub use maskbit::maskbit;
pub use maskgen::maskgen;
pub use maskgit::maskgit;
pub use meissonic::meissonic;
pub use quantize::quantize;
pub use reward::{RewardFamily, RewardSource, reward};

use crate::checkpoint::{Checkpoint, safetensors};
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::model::{FORMAT, Label, QUANTIZATION};
use crate::quant;
use crate::tensor::{Dtype, Shape, TensorView};
use crate::weights::Weights;

/// How the written weights are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// As in the checkpoint.
    #[default]
    Keep,
    /// f16 for matrices and kernels; vectors (norms, biases) stay f32.
    F16,
    /// int8 with a scale per row for matrices and kernels, as in [`quant`]; f16 for what else is no vector.
    Int8,
}

impl Storage {
    /// Value of `softdimo.quantization`.
    fn name(self) -> &'static str {
        match self {
            Storage::Keep => "none",
            Storage::F16 => "f16",
            Storage::Int8 => "int8",
        }
    }

    /// Dtype in which a tensor is stored. What is no float is no weight.
    fn dtype(self, view: &TensorView) -> Dtype {
        match self {
            Storage::Keep => view.dtype,
            Storage::F16 | Storage::Int8 if !view.dtype.is_float() => view.dtype,
            Storage::F16 | Storage::Int8 if view.shape.rank() < 2 => Dtype::F32,
            Storage::Int8 if quant::has_rows(&view.shape) => Dtype::I8,
            Storage::F16 | Storage::Int8 => Dtype::F16,
        }
    }
}

/// What to say about a model in its file.
#[derive(Clone, Debug, Default)]
pub struct About {
    pub title: Option<String>,
    pub license: Option<String>,
    pub author: Option<String>,
    pub description: Option<String>,
    /// Where the weights come from, in words (repository, commit).
    pub origin: Option<String>,
}

/// What was written.
#[derive(Clone, Debug)]
pub struct Summary {
    pub tensors: usize,
    pub bytes: u64,
    /// Digest of the tensor bytes, also in the file's metadata.
    pub sha256: String,
}

/// One weight of the model file, where its bytes come from, and its dtype there; I8 brings its scales along.
struct Part<'a> {
    name: String,
    view: TensorView<'a>,
    stored: Dtype,
}

/// What the metadata of every model file is made of.
struct Metadata<'a, C: Serialize> {
    family: &'a str,
    /// Width and height of a picture.
    resolution: (usize, usize),
    config: &'a C,
    labels: &'a [Label],
    about: &'a About,
    storage: Storage,
}

/// Add the tensors that `build` reads from `checkpoint`, under `prefix`.
fn collect<'a>(
    parts: &mut Vec<Part<'a>>,
    checkpoint: &'a Checkpoint,
    prefix: &str,
    storage: Storage,
    build: impl FnOnce(&Graph, &Weights) -> Result<Value>,
) -> Result<()> {
    let g = Graph::new();
    build(&g, &Weights::new(checkpoint))?;
    for name in g.weights() {
        let view =
            checkpoint.get(&name).ok_or_else(|| Error::internal(format!("tensor '{name}' vanished")))?;
        let stored = storage.dtype(&view);
        parts.push(Part { name: format!("{prefix}{name}"), view, stored });
    }
    Ok(())
}

/// The JSON in a file.
fn read_json(path: &Path) -> Result<Json> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    parse_json(&path.display().to_string(), &text)
}

/// `file` is named in the error.
fn parse_json(file: &str, text: &str) -> Result<Json> {
    serde_json::from_str(text).map_err(|e| Error::Config {
        file: file.into(),
        key: "config".into(),
        expected: "a JSON object".into(),
        found: e.to_string(),
    })
}

/// Class names: a JSON list of names, or of objects with `name`. None without a path.
fn read_labels(path: Option<&PathBuf>, classes: usize) -> Result<Vec<Label>> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    let error = |expected: &str, found: String| Error::Config {
        file: path.display().to_string(),
        key: "labels".into(),
        expected: expected.into(),
        found,
    };
    let names: std::result::Result<Vec<String>, _> = serde_json::from_str(&text);
    let labels: Vec<Label> = match names {
        Ok(names) => names.into_iter().map(|name| Label { name, group: None }).collect(),
        Err(_) => serde_json::from_str(&text)
            .map_err(|e| error("a list of names, or of objects with 'name'", e.to_string()))?,
    };
    if labels.len() != classes {
        return Err(error(&format!("{classes} labels"), labels.len().to_string()));
    }
    Ok(labels)
}

impl<C: Serialize> Metadata<'_, C> {
    fn entries(&self, parts: &[Part]) -> Result<BTreeMap<String, String>> {
        let json = |v: Result<String, serde_json::Error>| v.map_err(|e| Error::internal(e.to_string()));
        let (about, (width, height)) = (self.about, self.resolution);
        let mut m = BTreeMap::new();
        let mut set = |key: &str, value: String| m.insert(key.to_string(), value);
        set("modelspec.sai_model_spec", "1.0.1".into());
        set("modelspec.architecture", self.family.into());
        set("modelspec.implementation", "libsoftdimo".into());
        set("modelspec.title", about.title.clone().unwrap_or_else(|| self.family.into()));
        set("modelspec.resolution", format!("{width}x{height}"));
        let optional = [
            ("modelspec.license", &about.license),
            ("modelspec.author", &about.author),
            ("modelspec.description", &about.description),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                set(key, value.clone());
            }
        }
        set("softdimo.format", FORMAT.into());
        set("softdimo.config", json(serde_json::to_string(self.config))?);
        set(QUANTIZATION, self.storage.name().into());
        if !self.labels.is_empty() {
            set("softdimo.labels", json(serde_json::to_string(self.labels))?);
        }
        let digest = source_digest(parts);
        let origin = serde_json::json!({ "origin": about.origin, "sha256": digest });
        set("softdimo.source", origin.to_string());
        set(safetensors::SHA256_KEY, String::new());
        Ok(m)
    }
}

/// Digest of the source tensors (name, dtype, shape, bytes), whatever container they came in.
fn source_digest(parts: &[Part]) -> String {
    let mut order: Vec<&Part> = parts.iter().collect();
    order.sort_by(|a, b| a.name.cmp(&b.name));
    let mut hash = Sha256::new();
    for part in order {
        hash.update(format!("{} {}{}\n", part.name, part.view.dtype, part.view.shape));
        hash.update(part.view.data);
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

fn write(
    parts: &[Part],
    metadata: &BTreeMap<String, String>,
    output: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Summary> {
    let mut entries = Vec::new();
    let mut sources: BTreeMap<String, (&Part, Content)> = BTreeMap::new();
    let by_name: BTreeMap<&str, &Part> = parts.iter().map(|p| (p.name.as_str(), p)).collect();
    for part in by_name.into_values() {
        let mut add = |name: String, dtype: Dtype, shape: Shape, content: Content| {
            sources.insert(name.clone(), (part, content));
            entries.push(safetensors::Entry { name, dtype, shape });
        };
        add(part.name.clone(), part.stored, part.view.shape.clone(), Content::Values);
        if part.stored == Dtype::I8 && part.view.dtype.is_float() {
            let rows = Shape::from(&part.view.shape[..1]);
            add(quant::scale_name(&part.name), Dtype::F32, rows, Content::Scales);
        }
    }
    let mut done = 0;
    let sha256 = safetensors::write(output, metadata, &entries, |name| {
        let (part, content) = sources[name];
        done += 1;
        progress(done, entries.len());
        store(part, content)
    })?;
    let bytes = std::fs::metadata(output).map_err(|e| Error::io(output, e))?.len();
    Ok(Summary { tensors: entries.len(), bytes, sha256 })
}

/// Which of a weight's tensors is written.
#[derive(Clone, Copy)]
enum Content {
    Values,
    Scales,
}

/// The bytes of one tensor of a weight: its values in their stored dtype, or the scales of int8.
fn store<'a>(part: &Part<'a>, content: Content) -> Result<Cow<'a, [u8]>> {
    if part.stored == part.view.dtype {
        return Ok(Cow::Borrowed(part.view.data));
    }
    let values = part.view.to_f32();
    let f32_bytes = |v: &[f32]| v.iter().flat_map(|v| v.to_le_bytes()).collect();
    Ok(Cow::Owned(match part.stored {
        Dtype::F16 => values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect(),
        Dtype::I8 => {
            let scales = quant::scales(&part.name, &values, part.view.shape[0])?;
            match content {
                Content::Values => quant::quantize(&values, &scales).iter().map(|&q| q as u8).collect(),
                Content::Scales => f32_bytes(&scales),
            }
        }
        _ => f32_bytes(&values),
    }))
}

//! Writing a model file: which tensors of a checkpoint a graph reads, how they are stored, what is said about them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::finite::require_finite;
use super::header::in_component;
use super::{
    About, BACKGROUND, COLOR, ClassLabel, FORMAT, FORMATS, QUANTIZATION, REWARD_COMPONENT, Summary,
    parse_color,
};
use crate::checkpoint::{Checkpoint, ReadFrom, safetensors};
use crate::error::{Error, Result};
use crate::graph::{Graph, Value, int8};
use crate::quant::{self, Ranges, Storage};
use crate::tensor::{Dtype, Shape, TensorView};
use crate::weights::Weights;

/// How the values of a weight are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// In its own shape.
    Rows,
    /// An int8 matrix the other way round.
    Transposed,
    /// A matrix of floats in int4.
    Int4,
}

/// One weight of the model file, where its bytes come from, and its dtype there; I8 brings the scales of floats along.
pub(crate) struct Part<'a> {
    pub name: String,
    pub view: TensorView<'a>,
    pub stored: Dtype,
    /// See [`quant`].
    pub form: Form,
    /// What a convolution with these kernels reads and writes, where int8 arithmetic is to know it.
    pub ranges: Option<Ranges>,
    /// The file it is from, for messages.
    pub file: String,
}

/// What the metadata of every model file is made of.
pub(crate) struct Metadata<'a, C: Serialize> {
    pub family: &'a str,
    /// Width and height of a picture.
    pub resolution: (usize, usize),
    pub config: &'a C,
    pub labels: &'a [ClassLabel],
    pub about: &'a About,
    pub storage: Storage,
}

/// Add the tensors that `build` reads from `checkpoint`, under `prefix`.
pub(crate) fn collect<'a>(
    parts: &mut Vec<Part<'a>>,
    checkpoint: &'a Checkpoint,
    prefix: &str,
    storage: Storage,
    build: impl FnOnce(&Graph, &Weights) -> Result<Value>,
) -> Result<()> {
    let g = Graph::new();
    let result = build(&g, &Weights::new(checkpoint)).map_err(|error| with_neighbours(error, checkpoint))?;
    g.output("result", result);
    let (matrices, _) = int8::matrices(&g);
    for name in g.weights() {
        let view =
            checkpoint.get(&name).ok_or_else(|| Error::internal(format!("tensor '{name}' vanished")))?;
        let stored = storage.dtype(&view);
        // A reward is computed in f32.
        let for_products = matrices.contains(&name) && !prefix.starts_with(REWARD_COMPONENT);
        let name = format!("{prefix}{name}");
        let form = form_of(&name, &view, storage, for_products);
        parts.push(Part { name, view, stored, form, ranges: None, file: checkpoint.file() });
    }
    Ok(())
}

/// The networks that make tokens.
const OF_TOKENS: [&str; 2] = ["student", "teacher"];

/// The form of a weight, which `for_products` says that nothing but products read.
pub(crate) fn form_of(name: &str, view: &TensorView, storage: Storage, for_products: bool) -> Form {
    if !(storage.is_for_products() && for_products) {
        return Form::Rows;
    }
    let makes_tokens = OF_TOKENS.iter().any(|component| in_component(name, component));
    let is_new = view.dtype.is_float() && quant::has_int4(&view.shape);
    match storage {
        Storage::Int4 if makes_tokens && is_new => Form::Int4,
        _ => Form::Transposed,
    }
}

/// A missing tensor's error, with the names in the checkpoint that are most like it: of a network of other sizes or
/// another version, they show what it has instead.
fn with_neighbours(error: Error, checkpoint: &Checkpoint) -> Error {
    const SHOWN: usize = 3;
    let Error::MissingTensor { name, expected, file } = error else { return error };
    let mut names: Vec<(f64, &str)> =
        checkpoint.names().map(|have| (strsim::jaro_winkler(have, &name), have)).collect();
    names.sort_by(|a, b| b.0.total_cmp(&a.0));
    let tensor = |(_, name): &(f64, &str)| {
        let shape = checkpoint.get(name).map(|view| format!(" {}{}", view.dtype, view.shape));
        let short: String = name.chars().take(80).collect();
        format!("'{short}'{}", shape.unwrap_or_default())
    };
    let near: Vec<String> = names.iter().take(SHOWN).map(tensor).collect();
    let file = format!("{file} ({} tensors; nearest: {})", names.len(), near.join(", "));
    Error::MissingTensor { name, expected, file }
}

/// The dictionaries that checkpoints were read from, each once; those without any are left out.
pub(crate) fn read_from<'a>(checkpoints: impl Iterator<Item = &'a Checkpoint>) -> Vec<ReadFrom> {
    let mut all: Vec<ReadFrom> = Vec::new();
    for found in checkpoints.filter_map(Checkpoint::read_from) {
        let plain = found.dictionary.is_empty() && found.others.is_empty();
        if !plain && !all.contains(found) {
            all.push(found.clone());
        }
    }
    all
}

/// Class names: a JSON list of names, or of objects with `name`. None without a path.
pub(crate) fn read_labels(path: Option<&PathBuf>, classes: usize) -> Result<Vec<ClassLabel>> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    let error = |expected: &str, found: String| Error::Config {
        file: path.display().to_string(),
        key: "labels".into(),
        expected: expected.into(),
        found,
    };
    let names: std::result::Result<Vec<String>, _> = serde_json::from_str(&text);
    let labels: Vec<ClassLabel> = match names {
        Ok(names) => names.into_iter().map(|name| ClassLabel { name, group: None }).collect(),
        Err(_) => serde_json::from_str(&text)
            .map_err(|e| error("a list of names, or of objects with 'name'", e.to_string()))?,
    };
    if labels.len() != classes {
        return Err(error(&format!("{classes} labels"), labels.len().to_string()));
    }
    Ok(labels)
}

impl<C: Serialize> Metadata<'_, C> {
    pub fn entries(&self, parts: &[Part]) -> Result<BTreeMap<String, String>> {
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
        set(FORMAT, format_of(parts).into());
        if let Some(background) = &about.background {
            parse_color(background).ok_or_else(|| Error::invalid("background", COLOR, background))?;
            set(BACKGROUND, background.clone());
        }
        set("softdimo.config", json(serde_json::to_string(self.config))?);
        set(QUANTIZATION, self.storage.name().into());
        if !self.labels.is_empty() {
            set("softdimo.labels", json(serde_json::to_string(self.labels))?);
        }
        let digest = source_digest(parts)?;
        let origin = serde_json::json!({ "origin": about.origin, "sha256": digest });
        set("softdimo.source", origin.to_string());
        set(safetensors::SHA256_KEY, String::new());
        Ok(m)
    }
}

/// The value of `softdimo.format` of a file of these parts.
pub(crate) fn format_of(parts: &[Part]) -> &'static str {
    let of = |part: &Part| match part.form {
        Form::Int4 => 2,
        Form::Transposed => 1,
        Form::Rows => usize::from(part.ranges.is_some()),
    };
    FORMATS[parts.iter().map(of).max().unwrap_or(0)]
}

/// Digest of the source tensors (name, dtype, shape, bytes), whatever container they came in.
fn source_digest(parts: &[Part]) -> Result<String> {
    let mut order: Vec<&Part> = parts.iter().collect();
    order.sort_by(|a, b| a.name.cmp(&b.name));
    let mut hash = Sha256::new();
    for part in order {
        hash.update(format!("{} {}{}\n", part.name, part.view.dtype, part.view.shape));
        hash.update(part.view.data);
        require_finite(&part.name, &part.view, part.stored, &part.file)?;
    }
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

pub(crate) fn write(
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
        let shape = &part.view.shape;
        match part.form {
            Form::Rows => add(part.name.clone(), part.stored, shape.clone(), Content::Values),
            Form::Transposed => {
                let across = [shape[1], shape[0]].into();
                add(quant::transposed_name(&part.name), part.stored, across, Content::Values);
            }
            Form::Int4 => {
                let [packed, scales] = quant::int4_shapes(shape[0], shape[1]);
                add(quant::int4_name(&part.name), Dtype::U8, packed, Content::Values);
                add(quant::scale_name(&part.name), Dtype::F16, scales, Content::Scales);
            }
        }
        if part.stored == Dtype::I8 && part.view.dtype.is_float() && part.form != Form::Int4 {
            let rows = Shape::from(&part.view.shape[..1]);
            add(quant::scale_name(&part.name), Dtype::F32, rows, Content::Scales);
        }
        if let Some(ranges) = &part.ranges {
            let shape = [1 + ranges.writes.len(), 2].into();
            add(quant::ranges_name(&part.name), Dtype::F32, shape, Content::Ranges);
        }
    }
    let mut done = 0;
    // Scales of int4 are written before what they belong to, and looked for once.
    let mut int4 = BTreeMap::new();
    let sha256 = safetensors::write(output, metadata, &entries, |name| {
        let (part, content) = sources[name];
        done += 1;
        progress(done, entries.len());
        store(part, content, &mut int4)
    })?;
    let bytes = std::fs::metadata(output).map_err(|e| Error::io(output, e))?.len();
    Ok(Summary { tensors: entries.len(), bytes, sha256, read_from: Vec::new() })
}

/// Which of a weight's tensors is written.
#[derive(Clone, Copy)]
enum Content {
    Values,
    Scales,
    Ranges,
}

/// The bytes of one tensor of a weight: its values in their stored dtype, or the scales of int8 or int4, or ranges. `int4` keeps
/// scales of int4 until their values are written.
fn store<'a>(
    part: &Part<'a>,
    content: Content,
    int4: &mut BTreeMap<String, Vec<half::f16>>,
) -> Result<Cow<'a, [u8]>> {
    let f32_bytes = |v: &[f32]| v.iter().flat_map(|v| v.to_le_bytes()).collect();
    if let (Content::Ranges, Some(ranges)) = (content, &part.ranges) {
        return Ok(Cow::Owned(f32_bytes(&ranges.rows())));
    }
    if part.stored == part.view.dtype {
        return Ok(match part.form {
            Form::Transposed => Cow::Owned(quant::transpose(part.view.data, part.view.shape[0])),
            Form::Rows | Form::Int4 => Cow::Borrowed(part.view.data),
        });
    }
    let values = part.view.to_f32();
    if part.form == Form::Int4 {
        let outputs = part.view.shape[0];
        let scales = match int4.remove(&part.name) {
            Some(scales) => scales,
            None => quant::int4_scales(&part.name, &values, outputs)?,
        };
        return Ok(Cow::Owned(match content {
            Content::Values => quant::int4_pack(&values, &scales, outputs),
            _ => {
                let bytes = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
                int4.insert(part.name.clone(), scales);
                bytes
            }
        }));
    }
    Ok(Cow::Owned(match part.stored {
        Dtype::F16 => values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect(),
        Dtype::I8 => {
            let scales = quant::scales(&part.name, &values, part.view.shape[0])?;
            match content {
                Content::Values => {
                    let q: Vec<u8> = quant::quantize(&values, &scales).iter().map(|&q| q as u8).collect();
                    if part.form == Form::Transposed { quant::transpose(&q, scales.len()) } else { q }
                }
                _ => f32_bytes(&scales),
            }
        }
        _ => f32_bytes(&values),
    }))
}

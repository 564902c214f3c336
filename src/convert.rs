//! Official checkpoints → one model file. The networks' own graph builders say which tensors are needed,
//! so a missing or misshapen one is reported before anything is written, and nothing else is copied.
//! [`quantize`] writes a model file again with narrower weights.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use crate::checkpoint::{Checkpoint, safetensors};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::model::{Config, Defaults, FORMAT, Label, Model, QUANTIZATION, TeacherDefaults, WeightsMode};
use crate::models::{Architecture, conv_vqgan, maskbit};
use crate::quant;
use crate::sample::{Annealing, Schedule};
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

    /// Dtype in which a weight is stored.
    fn dtype(self, view: &TensorView) -> Dtype {
        match self {
            Storage::Keep => view.dtype,
            Storage::F16 | Storage::Int8 if view.shape.rank() < 2 => Dtype::F32,
            Storage::Int8 if quant::has_rows(&view.shape) => Dtype::I8,
            Storage::F16 | Storage::Int8 => Dtype::F16,
        }
    }
}

/// What to convert and what to say about it.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// One-step student's generator checkpoint.
    pub generator: Option<PathBuf>,
    /// Multi-step teacher's generator checkpoint.
    pub teacher: Option<PathBuf>,
    /// Image tokenizer checkpoint: decoder, and encoder where present.
    pub tokenizer: PathBuf,
    /// JSON with the official configuration's keys; default: the generator file's `__metadata__.config`.
    pub config: Option<PathBuf>,
    /// JSON list of class names, or of objects with `name`.
    pub labels: Option<PathBuf>,
    pub storage: Storage,
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

/// Convert a MaskBit generator (student, teacher or both) and its tokenizer to `output`. `progress` gets
/// (tensors written, tensors in all). Errors: unreadable files, missing or misshapen tensors (all official
/// names), an incomplete configuration. Memory: one tensor at a time.
pub fn maskbit(source: &Source, output: &Path, mut progress: impl FnMut(usize, usize)) -> Result<Summary> {
    let generators = [("student", &source.generator), ("teacher", &source.teacher)];
    let generators = generators.into_iter().filter_map(|(role, path)| Some((role, path.as_ref()?)));
    let generators = generators
        .map(|(role, path)| Ok((role, open_generator(path)?)))
        .collect::<Result<Vec<(&str, Checkpoint)>>>()?;
    let Some((_, first)) = generators.first() else {
        return Err(Error::invalid(
            "--generator",
            "a student (--generator) or a teacher (--teacher)",
            "neither",
        ));
    };
    let tokenizer = Checkpoint::open(&source.tokenizer)?;

    let (file, json) = read_config(source, first)?;
    let config = maskbit_config(&file, &json)?;
    config.architecture.validate(&file)?;
    let Architecture::MaskBit { generator: sizes, tokenizer: tokenizer_sizes } = &config.architecture;

    let mut parts = Vec::new();
    for (role, checkpoint) in &generators {
        collect(&mut parts, checkpoint, &format!("{role}."), source.storage, |g, w| {
            let tokens = config.architecture.tokens_input(g, 1)?;
            let class = g.input("class", Dtype::I64, [1])?;
            let e_in = config.architecture.embed(g, w, tokens)?;
            maskbit::logits(g, w, sizes, e_in, maskbit::embed_class(g, w, sizes, class)?)
        })?;
    }
    let grid = sizes.grid();
    collect(&mut parts, &tokenizer, "", source.storage, |g, w| {
        let code = g.input("code", Dtype::F32, [1, sizes.token_size, grid, grid])?;
        conv_vqgan::decode(g, w, tokenizer_sizes, code)
    })?;
    if tokenizer.names().any(|n| n.starts_with("encoder.")) {
        collect(&mut parts, &tokenizer, "", source.storage, |g, w| {
            let image = g.input("image", Dtype::F32, [1, 3, sizes.img_size, sizes.img_size])?;
            conv_vqgan::encode(g, w, tokenizer_sizes, image)
        })?;
    }
    let labels = read_labels(source, sizes.nclass)?;
    let metadata = metadata(source, &config, &labels, &parts)?;
    write(&parts, &metadata, output, &mut progress)
}

/// Write the model file `input` again with its weights in `storage`, everything else as it is. The weights of
/// `input` must be floats: int8 cannot be widened again, and rounding twice would only lose. `progress` as in
/// [`maskbit`]. Errors: those of [`Model::open`]; weights that are int8 already, or not finite.
pub fn quantize(
    input: &Path,
    storage: Storage,
    output: &Path,
    mut progress: impl FnMut(usize, usize),
) -> Result<Summary> {
    let model = Model::open(input, WeightsMode::Map)?;
    let checkpoint = model.checkpoint();
    let mut parts = Vec::new();
    for name in checkpoint.names() {
        let Some(view) = checkpoint.get(name) else { continue };
        if !view.dtype.is_float() {
            return Err(Error::TensorMismatch {
                name: name.into(),
                expected: "float weights to quantise".into(),
                found: format!("{}{}", view.dtype, view.shape),
                file: checkpoint.file(),
            });
        }
        let stored = storage.dtype(&view);
        parts.push(Part { name: name.into(), view, stored });
    }
    let mut metadata = model.metadata().clone();
    metadata.insert(QUANTIZATION.into(), storage.name().into());
    metadata.insert(safetensors::SHA256_KEY.into(), String::new());
    write(&parts, &metadata, output, &mut progress)
}

/// Public generator files may name `input_proj` as `token_emb` (the official loader renames it too), and
/// files saved from a wrapped module carry `module.`.
fn open_generator(path: &Path) -> Result<Checkpoint> {
    let mut checkpoint = Checkpoint::open(path)?;
    checkpoint.rename_prefix("module.", "");
    checkpoint.rename_prefix("token_emb.", "input_proj.");
    Ok(checkpoint)
}

/// Add the tensors that `build` reads from `checkpoint`, under `prefix`.
fn collect<'a>(
    parts: &mut Vec<Part<'a>>,
    checkpoint: &'a Checkpoint,
    prefix: &str,
    storage: Storage,
    build: impl FnOnce(&Graph, &Weights) -> Result<crate::graph::Value>,
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

/// The configuration's text and the name to blame for it.
fn read_config(source: &Source, generator: &Checkpoint) -> Result<(String, Json)> {
    let (file, text) = match &source.config {
        Some(path) => {
            (path.display().to_string(), std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?)
        }
        None => match generator.metadata().get("config") {
            Some(text) => (generator.file(), text.clone()),
            None => {
                return Err(Error::Config {
                    file: generator.file(),
                    key: "config".into(),
                    expected: "--config FILE, or '__metadata__.config' in the generator file".into(),
                    found: "neither".into(),
                });
            }
        },
    };
    let json = serde_json::from_str(&text).map_err(|e| Error::Config {
        file: file.clone(),
        key: "config".into(),
        expected: "a JSON object".into(),
        found: e.to_string(),
    })?;
    Ok((file, json))
}

/// The official flat key set → our configuration.
fn maskbit_config(file: &str, json: &Json) -> Result<Config> {
    let mut json = json.clone();
    let error = |key: &str, found: String| Error::Config {
        file: file.into(),
        key: key.into(),
        expected: "the sizes of the official configuration (img_size, hidden_dim, depth, heads, ...)".into(),
        found,
    };
    let Some(object) = json.as_object_mut() else {
        return Err(error("config", "something else than an object".into()));
    };
    if !object.contains_key("input_stride") {
        let resolutions = object.get("num_resolutions").and_then(Json::as_u64).unwrap_or(1).clamp(1, 16);
        object.insert("input_stride".into(), (1u64 << (resolutions - 1)).into());
    }
    let defaults = object.remove("request_defaults");
    let parse = |e: serde_json::Error| error("config", e.to_string());
    let generator: maskbit::Config = serde_json::from_value(json.clone()).map_err(parse)?;
    let tokenizer: conv_vqgan::Config = serde_json::from_value(json).map_err(parse)?;
    let request_defaults = match defaults {
        Some(defaults) => {
            serde_json::from_value(defaults).map_err(|e| error("request_defaults", e.to_string()))?
        }
        None => maskbit_defaults(),
    };
    Ok(Config { architecture: Architecture::MaskBit { generator, tokenizer }, request_defaults })
}

/// MaskBit's request defaults where the configuration has none: the teacher's from its official sampling
/// configuration, the student's as in Di[M]O's MaskGit.
fn maskbit_defaults() -> Defaults {
    Defaults {
        mask_ratio: 0.6,
        sigma: 0.1,
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        teacher: TeacherDefaults {
            steps: 64,
            temperature: 1.0,
            guidance_scale: 7.1,
            guidance_annealing: Annealing::Cosine,
            guidance_power: 3.0,
            randomize_temperature: 7.8,
            schedule: Schedule::Arccos,
            sampling_annealing: false,
        },
    }
}

fn read_labels(source: &Source, classes: usize) -> Result<Vec<Label>> {
    let Some(path) = &source.labels else { return Ok(Vec::new()) };
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

fn metadata(
    source: &Source,
    config: &Config,
    labels: &[Label],
    parts: &[Part],
) -> Result<BTreeMap<String, String>> {
    let layout = config.architecture.layout();
    let json = |v: Result<String, serde_json::Error>| v.map_err(|e| Error::internal(e.to_string()));
    let family = config.architecture.family();
    let mut m = BTreeMap::new();
    let mut set = |key: &str, value: String| m.insert(key.to_string(), value);
    set("modelspec.sai_model_spec", "1.0.1".into());
    set("modelspec.architecture", family.into());
    set("modelspec.implementation", "libsoftdimo".into());
    set("modelspec.title", source.title.clone().unwrap_or_else(|| family.into()));
    set("modelspec.resolution", format!("{}x{}", layout.width, layout.height));
    let optional = [
        ("modelspec.license", &source.license),
        ("modelspec.author", &source.author),
        ("modelspec.description", &source.description),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            set(key, value.clone());
        }
    }
    set("softdimo.format", FORMAT.into());
    set("softdimo.config", json(serde_json::to_string(config))?);
    set(QUANTIZATION, source.storage.name().into());
    if !labels.is_empty() {
        set("softdimo.labels", json(serde_json::to_string(labels))?);
    }
    let digest = source_digest(parts);
    let origin = serde_json::json!({ "origin": source.origin, "sha256": digest });
    set("softdimo.source", origin.to_string());
    set(safetensors::SHA256_KEY, String::new());
    Ok(m)
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
        if part.stored == Dtype::I8 {
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

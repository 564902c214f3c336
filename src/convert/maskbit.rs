//! A MaskBit student, teacher or both, and its image tokenizer.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::{About, Metadata, Storage, Summary, collect, parse_json, read_json, read_labels, write};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::model::{Config, Defaults, TeacherDefaults};
use crate::models::{Architecture, conv_vqgan, maskbit};
use crate::sample::{Annealing, Schedule};
use crate::tensor::Dtype;

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
    pub about: About,
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
    let labels = read_labels(source.labels.as_ref(), sizes.nclass)?;
    let metadata = Metadata {
        family: config.architecture.family(),
        resolution: (sizes.img_size, sizes.img_size),
        config: &config,
        labels: &labels,
        about: &source.about,
        storage: source.storage,
    };
    write(&parts, &metadata.entries(&parts)?, output, &mut progress)
}

/// Public generator files may name `input_proj` as `token_emb` (the official loader renames it too), and
/// files saved from a wrapped module carry `module.`.
fn open_generator(path: &Path) -> Result<Checkpoint> {
    let mut checkpoint = Checkpoint::open(path)?;
    checkpoint.rename_prefix("module.", "");
    checkpoint.rename_prefix("token_emb.", "input_proj.");
    Ok(checkpoint)
}

/// The configuration's text and the name to blame for it.
fn read_config(source: &Source, generator: &Checkpoint) -> Result<(String, Json)> {
    if let Some(path) = &source.config {
        return Ok((path.display().to_string(), read_json(path)?));
    }
    let Some(text) = generator.metadata().get("config") else {
        return Err(Error::Config {
            file: generator.file(),
            key: "config".into(),
            expected: "--config FILE, or '__metadata__.config' in the generator file".into(),
            found: "neither".into(),
        });
    };
    Ok((generator.file(), parse_json(&generator.file(), text)?))
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

//! A Meissonic student, teacher or both, its VQ-VAE, and the CLIP text tower that it reads prompts with.
//!
//! | piece | public layouts | in a pipeline's directory |
//! |---|---|---|
//! | generator | a diffusers directory (`config.json`, `diffusion_pytorch_model.safetensors`, also sharded); a PyTorch state dict | `transformer` |
//! | image tokenizer | the same | `vqvae` |
//! | text encoder (ViT-H/14, LAION's) | Hugging Face's directory or open_clip's file, see `families::text_encoder` | `text_encoder` |
//! | vocabulary | see `families::text_encoder` | `tokenizer` |
//! | mask token and schedule | `scheduler_config.json` | `scheduler` |
//!
//! Every path may be a pipeline's directory, and the text encoder and its vocabulary are found in one that another
//! piece came from. The configuration is `config.json` beside generator and tokenizer; before it goes `--config`, a
//! JSON with some of `transformer`, `vqvae` (the same keys), `resolution` (pixels a side; none of the official files
//! has it), `text` (keys of the text tower) and `request_defaults`.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use super::{Meissonic, generator, sampler};
use crate::checkpoint::json::read_json;
use crate::error::{Error, Result};
use crate::families::condition::MicroConditions;
use crate::families::defaults::{Defaults, TeacherDefaults};
use crate::families::family::Family;
use crate::families::source::{Pieces, Source, open_network};
use crate::families::text_encoder::{self, Wanted, beside};
use crate::nn::clip::Activation;
use crate::nn::text_encoder::HiddenState;
use crate::sample::Schedule;
use crate::text::Flavor;

/// Hugging Face's text encoding, as the official pipeline has it.
const TEXT: Wanted = Wanted {
    name: "LAION's CLIP ViT-H/14, which Meissonic reads prompts with",
    flavor: Flavor::HuggingFace,
    hidden: HiddenState::Penultimate,
    pad_id: None,
    activation: Activation::Gelu,
};

/// Read a Meissonic generator (student, teacher or both), its image tokenizer and its text encoder.
///
/// # Errors
/// Unreadable files, missing or misshapen tensors (all official names), no text encoder or vocabulary, an incomplete
/// configuration or one of a variant that is not supported.
pub fn read(source: &Source) -> Result<Pieces<Meissonic>> {
    let source = &located(source);
    let generators = source.generators("a Meissonic transformer's tensors", "context_embedder.weight")?;
    let tokenizer = open_network(&source.tokenizer, "a VQ-VAE's tensors", &["post_quant_conv.weight"])?;
    let official = MeissonicConfiguration::read(source)?;
    let (text, checkpoint, bpe) = text_encoder::open(source, &TEXT)?;
    let sizes = official.generator(source)?;
    let family = Meissonic {
        resolution: official.resolution(&sizes)?,
        tokenizer: official.section("vqvae", &source.tokenizer)?,
        text,
        generator: sizes,
    };
    let request_defaults = official.request_defaults(source, &family)?;
    let (config_file, text) = (official.file, Some((checkpoint, bpe)));
    Ok(Pieces { family, request_defaults, config_file, generators, tokenizer, text })
}

/// The source with its pieces found in the pipelines they are in.
fn located(source: &Source) -> Source {
    let part = |path: &PathBuf, name: &str| {
        let inside = path.join(name);
        if inside.is_dir() { inside } else { path.clone() }
    };
    // Any piece's pipeline has the whole text encoder.
    let given = [source.teacher.as_ref(), Some(&source.tokenizer), source.generator.as_ref()];
    let pipeline = || given.into_iter().flatten().find(|path| path.join("text_encoder").is_dir());
    let text_encoder = source.text_encoder.as_ref().or_else(pipeline);
    let text_encoder = text_encoder.map(|path| part(path, "text_encoder"));
    let vocabulary = match &source.vocabulary {
        Some(path) => Some(part(path, "tokenizer")),
        None => {
            let folder = text_encoder.as_ref().filter(|path| path.ends_with("text_encoder"));
            folder.map(|path| path.with_file_name("tokenizer")).filter(|path| path.is_dir())
        }
    };
    Source {
        generator: source.generator.as_ref().map(|path| part(path, "transformer")),
        teacher: source.teacher.as_ref().map(|path| part(path, "transformer")),
        tokenizer: part(&source.tokenizer, "vqvae"),
        text_encoder,
        vocabulary,
        ..source.clone()
    }
}

/// The official configuration.
struct MeissonicConfiguration {
    /// The file to blame where it does not fit together.
    file: String,
    /// `--config`, or nothing.
    json: Json,
}

impl MeissonicConfiguration {
    fn read(source: &Source) -> Result<MeissonicConfiguration> {
        Ok(match &source.config {
            Some(path) => MeissonicConfiguration { file: path.display().to_string(), json: read_json(path)? },
            None => MeissonicConfiguration { file: "config.json".into(), json: json!({}) },
        })
    }

    fn wrong(&self, key: &str, expected: &str, found: impl ToString) -> Error {
        wrong(&self.file, key, expected, found)
    }

    /// The configuration of a piece: this section, or what lies with its checkpoint.
    fn section<T: DeserializeOwned>(&self, name: &str, checkpoint: &Path) -> Result<T> {
        let (file, section) = match (&self.json[name], beside(checkpoint, &["config.json"])) {
            (section @ Json::Object(_), _) => (self.file.clone(), section.clone()),
            (Json::Null, Some(path)) => (path.display().to_string(), read_json(&path)?),
            (Json::Null, None) => {
                let file = checkpoint.display().to_string();
                let expected = format!("config.json beside it, or --config FILE with '{name}'");
                return Err(wrong(&file, "config", &expected, "neither"));
            }
            (other, _) => return Err(self.wrong(name, "an object", other)),
        };
        serde_json::from_value(section)
            .map_err(|e| wrong(&file, name, "the sizes of the official configuration", e))
    }

    /// Sizes of the generators: student and teacher have the same.
    fn generator(&self, source: &Source) -> Result<generator::Config> {
        let mut sizes = [&source.generator, &source.teacher].into_iter().flatten();
        let Some(first) = sizes.next() else { return Err(Error::internal("no generator")) };
        let found: generator::Config = self.section("transformer", first)?;
        for other in sizes.filter(|other| beside(other, &["config.json"]).is_some()) {
            let teacher: generator::Config = self.section("transformer", other)?;
            if teacher != found {
                let expected = format!("the student's sizes, {found:?}");
                let (file, found) = (other.display().to_string(), format!("{teacher:?}"));
                return Err(wrong(&file, "transformer", &expected, found));
            }
        }
        Ok(found)
    }

    /// Meissonic makes pictures of 1024 pixels, Monetico, which does not halve its grid, of 512.
    fn resolution(&self, sizes: &generator::Config) -> Result<usize> {
        match &self.json["resolution"] {
            Json::Null => Ok(if sizes.downsample { 1024 } else { 512 }),
            value => match value.as_u64().and_then(|side| usize::try_from(side).ok()) {
                Some(side) => Ok(side),
                None => Err(self.wrong("resolution", "a number of pixels", value)),
            },
        }
    }

    /// The configuration's own, or: the student's as Di\[M\]O trained it, the teacher's by its pipeline.
    fn request_defaults(&self, source: &Source, family: &Meissonic) -> Result<Defaults> {
        let layout = family.layout();
        let scheduler = scheduler(source, layout.mask_token)?;
        if let Some(defaults) = self.json.get("request_defaults") {
            return serde_json::from_value(defaults.clone())
                .map_err(|e| self.wrong("request_defaults", "a request's defaults", e));
        }
        let teacher = sampler::teacher_defaults();
        Ok(Defaults {
            mask_ratio: 0.5,
            sigma: 0.3,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            teacher: TeacherDefaults { schedule: scheduler.unwrap_or(teacher.schedule), ..teacher },
            micro: Some(MicroConditions {
                aesthetic_score: 6.0,
                original_size: [layout.width as u32, layout.height as u32],
                crop: [0, 0],
            }),
        })
    }
}

/// The schedule that a generator's pipeline has, where there is one: its mask token must be the generator's.
fn scheduler(source: &Source, mask_token: usize) -> Result<Option<Schedule>> {
    let inside = [&source.teacher, &source.generator].into_iter().flatten();
    let inside = inside.filter(|path| path.ends_with("transformer"));
    let files = inside.map(|path| path.with_file_name("scheduler").join("scheduler_config.json"));
    let Some(path) = files.into_iter().find(|path| path.is_file()) else { return Ok(None) };
    let (file, json) = (path.display().to_string(), read_json(&path)?);
    match &json["mask_token_id"] {
        Json::Null => {}
        id if id.as_u64() == Some(mask_token as u64) => {}
        id => {
            let expected = format!("{mask_token}, the last of the generator's vocab_size");
            return Err(wrong(&file, "mask_token_id", &expected, id));
        }
    }
    match &json["masking_schedule"] {
        Json::Null => Ok(None),
        Json::String(name) if name == "cosine" => Ok(Some(Schedule::Cosine)),
        Json::String(name) if name == "linear" => Ok(Some(Schedule::Linear)),
        other => Err(wrong(&file, "masking_schedule", "cosine or linear", other)),
    }
}

fn wrong(file: &str, key: &str, expected: &str, found: impl ToString) -> Error {
    let (file, key, expected) = (file.into(), key.into(), expected.into());
    Error::Config { file, key, expected, found: found.to_string() }
}

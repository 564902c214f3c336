//! A MaskGen student, teacher or both, a TA-TiTok, and the CLIP text tower that both read.
//!
//! | piece | public layouts |
//! |---|---|
//! | generator (MaskGen-L, MaskGen-XL) | a Hugging Face directory (`config.json`, `model.safetensors`, where the tied `lm_head.weight` is left out); `maskgen_vq_{l,xl}.bin`, which has both names |
//! | tokenizer (32, 64, 128 tokens) | a Hugging Face directory; `tatitok_bl{32,64,128}_vq.bin` |
//! | text encoder (ViT-L/14 at 336 pixels, OpenAI's) | open_clip's file or Hugging Face's directory, see `families::text_encoder` |
//!
//! The configuration is `config.json` beside generator and tokenizer, or `--config`: the official yaml as JSON,
//! with `model.maskgen`, `model.vq_model` and `dataset.preprocessing`. `--config` may also have `text`, keys of the
//! text tower, and `request_defaults`.

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::{MaskGen, generator, sampler, tokenizer};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::json::read_json;
use crate::error::{Error, Result};
use crate::families::condition::MicroConditions;
use crate::families::defaults::{Defaults, TeacherDefaults};
use crate::families::source::{Pieces, Source, open_network};
use crate::families::text_encoder::{self, Wanted};
use crate::nn::clip::Activation;
use crate::nn::text_encoder::HiddenState;
use crate::text::Flavor;

/// open_clip's text encoding as the official code has it. OpenAI trained this tower with QuickGELU; open_clip
/// from 2.29 on runs it with GELU where nothing says otherwise.
const TEXT: Wanted = Wanted {
    name: "OpenAI's CLIP ViT-L/14 at 336 pixels, which MaskGen reads prompts with",
    flavor: Flavor::OpenClip,
    hidden: HiddenState::Penultimate,
    pad_id: Some(0),
    activation: Activation::QuickGelu,
};

/// Read a MaskGen generator (student, teacher or both), its image tokenizer and its text encoder.
///
/// # Errors
/// Unreadable files, missing or misshapen tensors (all official names), no text encoder or vocabulary, an incomplete
/// configuration or one of a variant that is not supported.
pub fn read(source: &Source) -> Result<Pieces<MaskGen>> {
    let generators = source.generators("a MaskGen generator's tensors", "text_embed_proj.weight")?;
    for (_, generator) in &generators {
        check_head(generator)?;
    }
    let tokenizer = open_network(&source.tokenizer, "a TA-TiTok's tensors", &["latent_tokens"])?;
    let official = MaskGenConfiguration::read(source, &generators[0].1, &tokenizer)?;
    let (text, checkpoint, bpe) = text_encoder::open(source, &TEXT)?;
    let family = MaskGen { generator: official.generator()?, tokenizer: official.tokenizer()?, text };
    let request_defaults = official.request_defaults()?;
    let (config_file, text) = (official.file, Some((checkpoint, bpe)));
    Ok(Pieces { family, request_defaults, config_file, generators, tokenizer, text })
}

/// The head is the embedding: a file that has both must have the same twice.
fn check_head(generator: &Checkpoint) -> Result<()> {
    let [head, table] = ["lm_head.weight", "embeddings.weight"].map(|name| generator.get(name));
    match (head, table) {
        (Some(head), Some(table)) if (head.dtype, head.data) != (table.dtype, table.data) => {
            Err(Error::TensorMismatch {
                name: "lm_head.weight".into(),
                expected: "the values of embeddings.weight, which it is tied to".into(),
                found: format!("others, {}{}", head.dtype, head.shape),
                file: generator.file(),
            })
        }
        _ => Ok(()),
    }
}

/// The official configuration.
struct MaskGenConfiguration {
    /// The file to blame.
    file: String,
    /// What lies with the generator, or `--config`.
    json: Json,
    /// What lies with the tokenizer, or the same.
    of_tokenizer: Json,
}

impl MaskGenConfiguration {
    fn read(source: &Source, generator: &Checkpoint, tokenizer: &Checkpoint) -> Result<MaskGenConfiguration> {
        if let Some(path) = &source.config {
            let json = read_json(path)?;
            return Ok(MaskGenConfiguration {
                file: path.display().to_string(),
                of_tokenizer: json.clone(),
                json,
            });
        }
        let Some(json) = generator.config_json()? else {
            return Err(Error::Config {
                file: generator.file(),
                key: "config".into(),
                expected: "--config FILE, or config.json beside the generator".into(),
                found: "neither".into(),
            });
        };
        let of_tokenizer = tokenizer.config_json()?.unwrap_or_else(|| json.clone());
        Ok(MaskGenConfiguration { file: "config.json".into(), json, of_tokenizer })
    }

    fn wrong(&self, key: &str, expected: &str, found: impl ToString) -> Error {
        let (expected, found) = (expected.into(), found.to_string());
        Error::Config { file: self.file.clone(), key: key.into(), expected, found }
    }

    /// The keys of these sections in one object.
    fn sections<T: DeserializeOwned>(&self, json: &Json, paths: [[&str; 2]; 2]) -> Result<T> {
        let mut all = serde_json::Map::new();
        for [outer, inner] in paths {
            let key = format!("{outer}.{inner}");
            let Some(section) = json[outer][inner].as_object() else {
                let expected = "a section of the official configuration";
                return Err(self.wrong(&key, expected, &json[outer][inner]));
            };
            all.extend(section.clone());
        }
        let key = paths.map(|path| path.join(".")).join(", ");
        serde_json::from_value(Json::Object(all))
            .map_err(|e| self.wrong(&key, "the sizes of the official configuration", e))
    }

    fn generator(&self) -> Result<generator::Config> {
        self.sections(&self.json, [["model", "vq_model"], ["model", "maskgen"]])
    }

    fn tokenizer(&self) -> Result<tokenizer::Config> {
        let json = &self.of_tokenizer;
        match json["model"]["vq_model"]["quantize_mode"].as_str() {
            None | Some("vq") => {}
            Some(other) => {
                return Err(self.wrong("model.vq_model.quantize_mode", "vq (discrete tokens)", other));
            }
        }
        self.sections(json, [["model", "vq_model"], ["dataset", "preprocessing"]])
    }

    /// The configuration's own, or: the student's as assumed for all of Soft-Di[M]O's class of students, the
    /// teacher's and the aesthetic score from the official sampling configuration.
    fn request_defaults(&self) -> Result<Defaults> {
        if let Some(defaults) = self.json.get("request_defaults") {
            return serde_json::from_value(defaults.clone())
                .map_err(|e| self.wrong("request_defaults", "a request's defaults", e));
        }
        let sampling = &self.json["model"]["maskgen"];
        let number = |key: &str, default: f64| match &sampling[key] {
            Json::Null => Ok(default),
            value => {
                value.as_f64().ok_or_else(|| self.wrong(&format!("model.maskgen.{key}"), "a number", value))
            }
        };
        let teacher = sampler::teacher_defaults();
        Ok(Defaults {
            mask_ratio: 0.6,
            sigma: 0.1,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            teacher: TeacherDefaults {
                steps: number("num_iter", teacher.steps.into())? as u32,
                guidance_scale: number("cfg", teacher.guidance_scale.into())? as f32,
                randomize_temperature: number("temperature", teacher.randomize_temperature.into())? as f32,
                ..teacher
            },
            micro: Some(MicroConditions {
                aesthetic_score: number("sample_aesthetic_score", 6.0)? as f32,
                ..MicroConditions::default()
            }),
        })
    }
}

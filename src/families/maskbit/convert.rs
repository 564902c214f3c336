//! A MaskBit student, teacher or both, and its image tokenizer.

use serde_json::Value as Json;

use super::{MaskBit, generator, sampler, tokenizer};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::json::{parse_json, read_json};
use crate::error::{Error, Result};
use crate::families::defaults::Defaults;
use crate::families::source::{Pieces, Source, open_network};

/// Read a MaskBit generator (student, teacher or both) and its tokenizer.
///
/// # Errors
/// Unreadable files, missing or misshapen tensors (all official names), an incomplete configuration.
pub fn read(source: &Source) -> Result<Pieces<MaskBit>> {
    let mut generators = source.generators("a MaskBit generator's tensors", "class_emb.weight")?;
    for (_, generator) in &mut generators {
        // Public files may have this name, which the official loader renames too.
        generator.rename_prefix("token_emb.", "input_proj.");
    }
    let (config_file, mut json) = read_config(source, &generators[0].1)?;
    if let (Some(heads), Some(object)) = (source.heads, json.as_object_mut()) {
        object.insert("heads".into(), heads.into());
    }
    let (family, request_defaults) = config(&config_file, &json)?;
    let tokenizer =
        open_network(&source.tokenizer, "a MaskBit tokenizer's tensors", &["decoder.conv_in.weight"])?;
    Ok(Pieces { family, request_defaults, config_file, generators, tokenizer, text: None })
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
fn config(file: &str, json: &Json) -> Result<(MaskBit, Defaults)> {
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
    let generator: generator::Config = serde_json::from_value(json.clone()).map_err(parse)?;
    let tokenizer: tokenizer::Config = serde_json::from_value(json).map_err(parse)?;
    let request_defaults = match defaults {
        Some(defaults) => {
            serde_json::from_value(defaults).map_err(|e| error("request_defaults", e.to_string()))?
        }
        None => request_defaults(),
    };
    Ok((MaskBit { generator, tokenizer }, request_defaults))
}

/// MaskBit's request defaults where the configuration has none: the teacher's from its official sampling
/// configuration, the student's as in Di[M]O's MaskGit.
fn request_defaults() -> Defaults {
    Defaults {
        mask_ratio: 0.6,
        sigma: 0.1,
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        teacher: sampler::teacher_defaults(),
        micro: None,
    }
}

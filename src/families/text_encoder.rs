//! The text encoder of a text-to-image family: its tower, and its vocabulary.
//!
//! | container | configuration beside it | vocabulary beside it |
//! |---|---|---|
//! | a directory of Hugging Face's, or a file in it | `config.json` | `merges.txt`, `tokenizer.json` |
//! | open_clip's `open_clip_model.safetensors`, `open_clip_pytorch_model.bin` | `open_clip_config.json` | `bpe_simple_vocab_16e6.txt.gz`, also unpacked |
//!
//! Any vocabulary goes with any tower. Sizes come from the tensors, what those do not tell from the configuration,
//! as for rewards; the section `text` of `--config` goes before it.

use std::path::{Path, PathBuf};

use super::source::{Source, open_network};
use crate::checkpoint::json::read_json;
use crate::checkpoint::sizes::Given;
use crate::checkpoint::{Checkpoint, unknown};
use crate::error::{Error, Result};
use crate::nn::clip::sizes::clip_text;
use crate::nn::clip::{Activation, KeyLayout};
use crate::nn::text_encoder::{HiddenState, TextEncoder};
use crate::text::{ClipBpe, ClipFiles, Flavor};

/// What a family asks of its text encoder.
pub(super) struct Wanted {
    /// In words, for the error where none is given.
    pub name: &'static str,
    pub flavor: Flavor,
    pub hidden: HiddenState,
    /// The token id after the end; `None`: what the vocabulary's container says.
    pub pad_id: Option<u32>,
    /// The tower's where no configuration says.
    pub activation: Activation,
}

/// The source's text encoder.
///
/// # Errors
/// None given, an unreadable file, tensors of something else, no vocabulary.
pub(super) fn open(source: &Source, wanted: &Wanted) -> Result<(TextEncoder, Checkpoint, ClipBpe)> {
    let Some(path) = &source.text_encoder else {
        return Err(Error::invalid("--text-encoder", wanted.name, "none"));
    };
    let checkpoint = open_network(path, "a CLIP text tower's tensors", &ANCHORS)?;
    let given = match &source.config {
        Some(config) => Some(Given { file: config.display().to_string(), json: read_json(config)? }),
        None => None,
    };
    let given = match given.filter(|given| given.json["text"].is_object()) {
        Some(given) => Some(given),
        None => match beside(path, &["config.json", "open_clip_config.json"]) {
            Some(file) => Some(Given { file: file.display().to_string(), json: read_json(&file)? }),
            None => None,
        },
    };
    let tower = clip_text(&checkpoint, key_layout(&checkpoint)?, given.as_ref(), wanted.activation)?;
    let files = vocabulary(source, path)?;
    let encoder = TextEncoder {
        context_length: tower.max_position_embeddings,
        tower,
        flavor: wanted.flavor,
        pad_id: wanted.pad_id.unwrap_or(files.pad_id),
        hidden: wanted.hidden,
    };
    Ok((encoder, checkpoint, files.bpe))
}

/// One of these is in every checkpoint of a text tower.
const ANCHORS: [&str; 2] = ["text_model.embeddings.token_embedding.weight", "token_embedding.weight"];

/// Whose names the text tower's tensors have; a file may hold no other tower.
fn key_layout(checkpoint: &Checkpoint) -> Result<KeyLayout> {
    let [hugging_face, open_clip] = ANCHORS;
    if checkpoint.get(hugging_face).is_some() {
        return Ok(KeyLayout::HuggingFace);
    }
    if checkpoint.get(open_clip).is_some() {
        return Ok(KeyLayout::OpenClip);
    }
    Err(unknown(
        checkpoint,
        &format!("a CLIP text tower's tensors, such as '{hugging_face}' or '{open_clip}'"),
    ))
}

/// The first of these files in the checkpoint's directory.
pub(super) fn beside(checkpoint: &Path, names: &[&str]) -> Option<PathBuf> {
    let folder = if checkpoint.is_dir() { Some(checkpoint) } else { checkpoint.parent() }?;
    names.iter().map(|name| folder.join(name)).find(|path| path.is_file())
}

fn vocabulary(source: &Source, checkpoint: &Path) -> Result<ClipFiles> {
    if let Some(path) = &source.vocabulary {
        return ClipFiles::open(path);
    }
    let Some(path) = beside(checkpoint, &ClipFiles::NAMES) else {
        let expected =
            format!("a file, since none of {} is beside the text encoder", ClipFiles::NAMES.join(", "));
        return Err(Error::invalid("--vocabulary", expected, "none"));
    };
    // With its vocab.json, merges.txt is a folder's: the ids are checked.
    let folder =
        path.parent().filter(|folder| path.ends_with("merges.txt") && folder.join("vocab.json").is_file());
    ClipFiles::open(folder.unwrap_or(&path))
}

//! The networks that score pictures, one reward file each.
//!
//! | family | checkpoints | vocabulary |
//! |---|---|---|
//! | `clip_score` | CLIP under Hugging Face's or open_clip's names, e.g. laion/CLIP-ViT-H-14-laion2B-s32B-b79K | CLIP merges |
//! | `pickscore` | yuvalkirstain/PickScore_v1 | CLIP merges |
//! | `hpsv2` | HPS_v2.1_compressed.pt | CLIP merges |
//! | `aesthetic` | OpenAI's ViT-L/14 under either set of names, and sac+logos+ava1-l14-linearMSE.pth as the head | none |
//! | `image_reward` | ImageReward.pt | BERT's vocab.txt |
//! | `classifier` | efficientnet-lite0-57934424.pth | none |
//!
//! Directories, sharded indices, safetensors and PyTorch files are read alike. Sizes: see [`sizes`]. A vocabulary
//! that is not named is looked for beside the checkpoint, as `merges.txt` or `vocab.txt`.

pub(super) mod sizes;

use std::path::{Path, PathBuf};

use self::sizes::{Given, blip_text, blip_vision, clip_text, clip_vision, key_layout, unknown};
use super::{About, Metadata, Part, Storage, Summary, collect, read_json, read_labels, write};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::models::clip::{Activation, KeyLayout};
use crate::models::rewards::{self, RewardArchitecture};
use crate::models::{blip, clip};
use crate::reward::{COMPONENT, RewardConfig, TokenizerConfig, VOCABULARY};
use crate::tensor::{Dtype, TensorView};
use crate::tokenizer::{ClipBpe, Flavor, WordPiece};

/// Which reward a checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RewardFamily {
    ClipScore,
    PickScore,
    HpsV2,
    Aesthetic,
    ImageReward,
    Classifier,
}

/// What to convert and what to say about it.
#[derive(Clone, Debug)]
pub struct RewardSource {
    pub family: RewardFamily,
    pub checkpoint: PathBuf,
    /// Aesthetic: the layers over the features; default: in the checkpoint itself.
    pub head: Option<PathBuf>,
    /// JSON with what shapes do not tell; default: `config.json` or `open_clip_config.json` beside the checkpoint,
    /// where there is one.
    pub config: Option<PathBuf>,
    /// CLIP's merges or BERT's vocabulary; default: `merges.txt` or `vocab.txt` beside the checkpoint.
    pub vocabulary: Option<PathBuf>,
    /// Classifier: JSON list of class names, or of objects with `name`.
    pub labels: Option<PathBuf>,
    pub storage: Storage,
    pub about: About,
}

impl RewardSource {
    /// A checkpoint with everything else at its default.
    pub fn new(family: RewardFamily, checkpoint: impl Into<PathBuf>) -> RewardSource {
        RewardSource {
            family,
            checkpoint: checkpoint.into(),
            head: None,
            config: None,
            vocabulary: None,
            labels: None,
            storage: Storage::Keep,
            about: About::default(),
        }
    }

    /// The first of these that lies in the checkpoint's directory.
    fn beside(&self, names: &[&str]) -> Option<PathBuf> {
        let folder = match self.checkpoint.is_dir() {
            true => Some(self.checkpoint.as_path()),
            false => self.checkpoint.parent(),
        }?;
        names.iter().map(|name| folder.join(name)).find(|path| path.is_file())
    }

    fn read_config(&self) -> Result<Option<Given>> {
        let beside = || match self.family {
            RewardFamily::Classifier => None,
            RewardFamily::ImageReward => self.beside(&["med_config.json"]),
            _ => self.beside(&["config.json", "open_clip_config.json"]),
        };
        let Some(path) = self.config.clone().or_else(beside) else { return Ok(None) };
        Ok(Some(Given { file: path.display().to_string(), json: read_json(&path)? }))
    }
}

/// Convert a reward's network to `output`. `progress` gets (tensors written, tensors in all). Errors: unreadable
/// files, missing or misshapen tensors (all official names), sizes that neither shapes nor a configuration give
/// or that contradict each other, a vocabulary that is absent or does not fit. Memory: one tensor at a time.
pub fn reward(
    source: &RewardSource,
    output: &Path,
    mut progress: impl FnMut(usize, usize),
) -> Result<Summary> {
    let mut checkpoint = Checkpoint::open(&source.checkpoint)?;
    checkpoint.rename_prefix("module.", "");
    let head = match (&source.head, source.family) {
        (Some(path), RewardFamily::Aesthetic) => Some(Checkpoint::open(path)?),
        (Some(_), _) => return Err(Error::invalid("--head", "none: only 'aesthetic' has one", "a file")),
        (None, _) => None,
    };
    let architecture = architecture(source, &checkpoint)?;
    let (tokenizer, vocabulary) = match vocabulary(source, &architecture, &checkpoint)? {
        Some((tokenizer, bytes)) => (Some(tokenizer), bytes),
        None => (None, Vec::new()),
    };
    let config = RewardConfig { architecture, tokenizer };
    config.validate(&checkpoint.file())?;
    let architecture = &config.architecture;

    let prefix = format!("{COMPONENT}.");
    let mut parts = Vec::new();
    if let RewardArchitecture::Aesthetic { vision } = architecture {
        collect(&mut parts, &checkpoint, &prefix, source.storage, |g, w| {
            let size = vision.image_size;
            clip::vision(g, w, vision, g.input("pixels", Dtype::F32, [1, 3, size, size])?)
        })?;
        collect(&mut parts, head.as_ref().unwrap_or(&checkpoint), &prefix, source.storage, |g, w| {
            rewards::mark(g, w, g.input("features", Dtype::F32, [1, vision.projection_dim])?)
        })?;
    } else {
        collect(&mut parts, &checkpoint, &prefix, source.storage, |g, w| {
            let image = g.input("image", Dtype::F32, [1, 3, 32, 32])?;
            if architecture.reads_class() {
                return architecture.score(g, w, image, Some(g.input("class", Dtype::I64, [1])?));
            }
            let (ids, mask) = (g.input("ids", Dtype::I64, [1, 2])?, g.input("mask", Dtype::I64, [1, 2])?);
            architecture.score_tokens(g, w, image, ids, mask)
        })?;
    }
    if !vocabulary.is_empty() {
        let (shape, data) = ([vocabulary.len()].into(), vocabulary.as_slice());
        let view = TensorView { dtype: Dtype::U8, shape, data };
        parts.push(Part { name: VOCABULARY.into(), view, stored: Dtype::U8 });
    }

    let (size, classes) = match architecture {
        RewardArchitecture::ClipScore { vision, .. }
        | RewardArchitecture::PickScore { vision, .. }
        | RewardArchitecture::HpsV2 { vision, .. }
        | RewardArchitecture::Aesthetic { vision } => (vision.image_size, 0),
        RewardArchitecture::ImageReward { vision, .. } => (vision.img_size, 0),
        RewardArchitecture::Classifier { classifier } => (classifier.image_size, classifier.num_classes),
    };
    let metadata = Metadata {
        family: architecture.family(),
        resolution: (size, size),
        config: &config,
        labels: &read_labels(source.labels.as_ref(), classes)?,
        about: &source.about,
        storage: source.storage,
    };
    write(&parts, &metadata.entries(&parts)?, output, &mut progress)
}

/// The family's networks with the checkpoint's sizes.
fn architecture(source: &RewardSource, checkpoint: &Checkpoint) -> Result<RewardArchitecture> {
    let given = source.read_config()?;
    let given = given.as_ref();
    let towers = |activation: Activation| -> Result<(clip::TextConfig, clip::VisionConfig)> {
        let keys = key_layout(checkpoint)?;
        let vision = clip_vision(checkpoint, keys, given, activation)?;
        Ok((clip_text(checkpoint, keys, given, activation)?, vision))
    };
    Ok(match source.family {
        RewardFamily::ClipScore => {
            let (text, vision) = towers(Activation::Gelu)?;
            RewardArchitecture::ClipScore { text, vision }
        }
        RewardFamily::PickScore => {
            let (text, vision) = towers(Activation::Gelu)?;
            RewardArchitecture::PickScore { text, vision }
        }
        RewardFamily::HpsV2 => {
            let (text, vision) = towers(Activation::Gelu)?;
            RewardArchitecture::HpsV2 { text, vision }
        }
        RewardFamily::Aesthetic => {
            let keys = key_layout(checkpoint)?;
            let vision = clip_vision(checkpoint, keys, given, Activation::QuickGelu)?;
            RewardArchitecture::Aesthetic { vision }
        }
        RewardFamily::ImageReward => {
            if checkpoint.get("blip.visual_encoder.cls_token").is_none() {
                let expected = "ImageReward's tensors, such as 'blip.visual_encoder.cls_token'";
                return Err(unknown(checkpoint, expected));
            }
            let (text, vision): (blip::TextConfig, blip::VisionConfig) =
                (blip_text(checkpoint, given)?, blip_vision(checkpoint, given)?);
            RewardArchitecture::ImageReward { text, vision }
        }
        RewardFamily::Classifier => {
            RewardArchitecture::Classifier { classifier: sizes::classifier(checkpoint, given)? }
        }
    })
}

/// The tokenizer of a family that reads a prompt, and its vocabulary as it is stored.
fn vocabulary(
    source: &RewardSource,
    architecture: &RewardArchitecture,
    checkpoint: &Checkpoint,
) -> Result<Option<(TokenizerConfig, Vec<u8>)>> {
    let (name, what, rows, positions) = match architecture {
        RewardArchitecture::ClipScore { text, .. }
        | RewardArchitecture::PickScore { text, .. }
        | RewardArchitecture::HpsV2 { text, .. } => {
            ("merges.txt", "CLIP's merges", text.vocab_size, text.max_position_embeddings)
        }
        RewardArchitecture::ImageReward { text, .. } => {
            ("vocab.txt", "BERT's vocabulary", text.vocab_size, text.max_position_embeddings)
        }
        RewardArchitecture::Aesthetic { .. } | RewardArchitecture::Classifier { .. } => {
            return match &source.vocabulary {
                None => Ok(None),
                Some(_) => Err(Error::invalid(
                    "--vocabulary",
                    format!("none: '{}' reads no prompt", architecture.family()),
                    "a file",
                )),
            };
        }
    };
    let Some(path) = source.vocabulary.clone().or_else(|| source.beside(&[name])) else {
        return Err(Error::invalid(
            "--vocabulary",
            format!("{what}, since there is no {name} beside {}", checkpoint.file()),
            "none",
        ));
    };
    let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, e))?;
    let named = |e: Error| match e {
        Error::Format { what, expected, found, .. } => {
            Error::Format { file: path.display().to_string(), what, expected, found }
        }
        other => other,
    };
    if bytes.starts_with(&[0x1f, 0x8b]) {
        return Err(Error::Format {
            file: path.display().to_string(),
            what: "vocabulary".into(),
            expected: "text".into(),
            found: "a gzip file; unpack it first".into(),
        });
    }
    let (tokenizer, ids, stored) = match name {
        "vocab.txt" => {
            let ids = WordPiece::from_vocabulary(&bytes).map_err(named)?.vocabulary();
            let context = WordPiece::CONTEXT.min(positions);
            (TokenizerConfig::WordPiece { context }, ids, bytes)
        }
        _ => {
            let bpe = ClipBpe::from_merges(&bytes).map_err(named)?;
            let flavor = match key_layout(checkpoint)? {
                KeyLayout::HuggingFace => Flavor::HuggingFace,
                KeyLayout::OpenClip => Flavor::OpenClip,
            };
            let tokenizer = TokenizerConfig::ClipBpe { flavor, context: positions };
            (tokenizer, ClipBpe::VOCABULARY, bpe.vocabulary_bytes().to_vec())
        }
    };
    if ids > rows {
        return Err(Error::Config {
            file: checkpoint.file(),
            key: "vocab_size".into(),
            expected: format!("{ids} or more, as {} has", path.display()),
            found: rows.to_string(),
        });
    }
    Ok(Some((tokenizer, stored)))
}

//! What the fuzz targets do with their bytes: plain functions, which a test of the library replays the corpora with. Whatever
//! the bytes, each returns; a panic is a finding.

use std::io::Cursor;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use softdimo::checkpoint::safetensors::SafeTensors;
use softdimo::checkpoint::torch::TorchFile;
use softdimo::checkpoint::{Checkpoint, Mapping};
use softdimo::image::RgbaImage;
use softdimo::model::{Limits, Model};
use softdimo::text::{ClipBpe, Flavor, WordPiece};
use softdimo::{RewardModel, WeightsMode};

/// A target's name, which is that of its corpus, and its function.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 7] = [
    ("safetensors", safetensors),
    ("torch", torch),
    ("png", png),
    ("model", model),
    ("golden", golden),
    ("reward", reward),
    ("tokenizer", tokenizer),
];

fn mapping(bytes: &[u8]) -> Arc<Mapping> {
    Arc::new(Mapping::from_vec(bytes.to_vec()))
}

pub fn safetensors(bytes: &[u8]) {
    let Ok(file) = SafeTensors::open(mapping(bytes), "fuzz") else { return };
    for name in file.tensors().keys() {
        let view = file.get(name).unwrap();
        assert_eq!(view.data.len(), view.shape.len() * view.dtype.size());
    }
}

pub fn torch(bytes: &[u8]) {
    let Ok(file) = TorchFile::open(mapping(bytes), "fuzz") else { return };
    for name in file.names() {
        let view = file.get(name).unwrap();
        assert_eq!(view.data.len(), view.shape.len() * view.dtype.size());
    }
}

pub fn png(bytes: &[u8]) {
    let name = Path::new("fuzz");
    let alone = RgbaImage::text_of_png(&mut Cursor::new(bytes), name);
    match RgbaImage::from_png(bytes, name) {
        Ok((image, text)) => {
            assert_eq!(image.data().len() as u64, 4 * u64::from(image.width()) * u64::from(image.height()));
            assert!(alone.is_ok_and(|alone| alone.len() >= text.len()));
        }
        // The decoder's own panics are caught; what leads there is to be refused before.
        Err(error) => assert!(!error.to_string().contains("panics"), "{error}"),
    }
}

/// Header, configuration, labels, tokenizer, shapes, and every graph of the model, within a small work limit.
pub fn model(bytes: &[u8]) {
    let _ = Model::from_mapping(mapping(bytes), "fuzz", Limits { work: 100, ..Limits::default() });
}

/// Against the bundled model.
pub fn golden(bytes: &[u8]) {
    static MODEL: OnceLock<Arc<Model>> = OnceLock::new();
    let model = MODEL.get_or_init(|| {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/models/emoji-32.softdimo.safetensors");
        let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/emoji-32.softdimo.safetensors");
        let file = if Path::new(file).exists() { file } else { beside };
        Arc::new(Model::open(Path::new(file), WeightsMode::Map, Limits::default()).unwrap())
    });
    if let Ok(golden) = Checkpoint::from_mapping(mapping(bytes), "fuzz") {
        let _ = model.replay_graphs(&golden);
    }
}

pub fn reward(bytes: &[u8]) {
    if let Ok(model) = RewardModel::from_mapping(mapping(bytes), "fuzz") {
        let _ = model.tokens("a red apple on a table");
    }
}

/// The first line of the bytes is a prompt, the rest the vocabulary.
pub fn tokenizer(bytes: &[u8]) {
    let at = bytes.iter().position(|&b| b == b'\n').unwrap_or(bytes.len());
    let (prompt, rest) = bytes.split_at(at);
    let vocabulary = rest.strip_prefix(b"\n").unwrap_or(rest);
    let prompt = String::from_utf8_lossy(prompt);
    for clip in
        [ClipBpe::from_merges(vocabulary), ClipBpe::from_vocabulary_bytes(vocabulary)].into_iter().flatten()
    {
        for flavor in [Flavor::OpenClip, Flavor::HuggingFace] {
            assert_eq!(clip.encode_padded(&prompt, flavor, 77, 0).len(), 77);
        }
    }
    if let Ok(bert) = WordPiece::from_vocabulary(vocabulary) {
        assert_eq!(bert.encode_padded(&prompt, 35).0.len(), 35);
        let most = bert.vocabulary() as u32;
        assert!(bert.encode(&prompt).iter().all(|&id| id < most));
    }
}

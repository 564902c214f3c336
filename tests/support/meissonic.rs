//! The tiny Meissonic of `tests/data/meissonic` as the official pipeline's directory, and as a model file.

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};
use softdimo::convert::{self, Source};

use super::checkpoints::{self, Tensors, Tower};
use super::data;

/// Pixels of the fixture's pictures: 4 codes of 2.
pub const SIDE: usize = 8;

/// `config.json` of `transformer` or `vqvae`.
pub fn config(part: &str) -> Json {
    serde_json::from_str(&std::fs::read_to_string(data(&format!("meissonic/{part}.json"))).unwrap()).unwrap()
}

pub fn tensors(part: &str) -> Tensors {
    checkpoints::tensors(&data(&format!("meissonic/{part}.safetensors")))
}

/// A random text tower that fits the generator, under open_clip's names.
pub fn tower() -> Tensors {
    checkpoints::tower(Tower { width: 24, layers: 2, positions: 7, projection: 32 })
}

/// A diffusers directory: `diffusion_pytorch_model.safetensors` and `config.json`.
pub fn diffusers(folder: &Path, tensors: &Tensors, config: &Json) {
    std::fs::create_dir_all(folder).unwrap();
    checkpoints::safetensors(&folder.join("diffusion_pytorch_model.safetensors"), tensors);
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

/// The text tower of a pipeline, `text_encoder`, and its vocabulary, `tokenizer`, which pads with `!`.
pub fn text(folder: &Path) {
    let config = json!({
        "model_type": "clip_text_model", "hidden_size": 24, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 7, "projection_dim": 32, "vocab_size": 49408,
        "hidden_act": "gelu", "eos_token_id": 2,
    });
    let tower = checkpoints::hugging_face(&tower());
    checkpoints::directory(&folder.join("text_encoder"), &tower, &config);
    let vocabulary = folder.join("tokenizer");
    std::fs::create_dir_all(&vocabulary).unwrap();
    checkpoints::vocabulary(&vocabulary.join("merges.txt"));
    std::fs::write(vocabulary.join("vocab.json"), checkpoints::vocabulary_ids().to_string()).unwrap();
    std::fs::write(vocabulary.join("tokenizer_config.json"), r#"{"pad_token": "!"}"#).unwrap();
}

pub fn scheduler(folder: &Path, mask_token_id: usize, schedule: &str) {
    std::fs::create_dir_all(folder.join("scheduler")).unwrap();
    let config = json!({ "mask_token_id": mask_token_id, "masking_schedule": schedule });
    std::fs::write(folder.join("scheduler/scheduler_config.json"), config.to_string()).unwrap();
}

/// The whole pipeline.
pub fn pipeline(folder: &Path) -> PathBuf {
    for part in ["transformer", "vqvae"] {
        diffusers(&folder.join(part), &tensors(part), &config(part));
    }
    text(folder);
    scheduler(folder, 55, "cosine");
    folder.to_path_buf()
}

/// A pipeline as student and teacher. Only the size of its pictures is nowhere in it.
pub fn source(folder: &Path) -> Source {
    let pipeline = pipeline(&folder.join("meissonic"));
    let config = folder.join("resolution.json");
    std::fs::write(&config, json!({ "resolution": SIDE }).to_string()).unwrap();
    Source {
        generator: Some(pipeline.clone()),
        teacher: Some(pipeline.clone()),
        tokenizer: pipeline,
        config: Some(config),
        ..Source::new("meissonic")
    }
}

pub fn convert(source: &Source, output: &Path) -> Result<(), String> {
    convert::generator(source, output, |_, _| ()).map(|_| ()).map_err(|e| e.to_string())
}

/// The model file of the fixture.
pub fn model(folder: &Path) -> PathBuf {
    let output = folder.join("meissonic.softdimo.safetensors");
    convert(&source(folder), &output).unwrap();
    output
}

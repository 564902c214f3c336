//! The tiny MaskGen of `tests/data/maskgen` in every container that MaskGen is published in, with a text tower of its
//! width, and as a model file.

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};
use softdimo::convert::{self, Source};
use softdimo::text::ClipBpe;

use super::checkpoints::{self, Tower};
pub use super::checkpoints::{Tensors, directory, hugging_face, safetensors, tensors, torch, vocabulary};
use super::data;

/// What the official `config.json` would say of the fixture.
pub fn config() -> Json {
    json!({
        "model": {
            "vq_model": {
                "quantize_mode": "vq", "codebook_size": 96, "token_size": 16, "use_l2_norm": false,
                "commitment_cost": 0.25, "clustering_vq": false,
                "vit_enc_model_size": { "width": 48, "num_layers": 2, "num_heads": 4 },
                "vit_dec_model_size": { "width": 64, "num_layers": 3, "num_heads": 4 },
                "vit_enc_patch_size": 8, "vit_dec_patch_size": 8, "num_latent_tokens": 24,
                "finetune_decoder": false, "is_legacy": false, "text_context_length": 13,
                "text_embed_dim": 40,
            },
            "maskgen": {
                "decoder_embed_dim": 64, "decoder_depth": 3, "decoder_num_heads": 4,
                "micro_condition": true, "micro_condition_embed_dim": 24, "text_drop_prob": 0.1,
                "condition_num_classes": 10, "cfg": 9.0, "num_iter": 4, "temperature": 1.75,
                "sample_aesthetic_score": 6.25,
            },
        },
        "dataset": { "preprocessing": { "crop_size": 32 } },
    })
}

const TOWER: Tower = Tower { width: 40, layers: 2, positions: 13, projection: 40 };

/// A random text tower that fits the fixture, under open_clip's names.
pub fn tower() -> Tensors {
    checkpoints::tower(TOWER)
}

/// open_clip's file, its configuration and its vocabulary in a folder; returns the file.
pub fn open_clip(folder: &Path) -> PathBuf {
    std::fs::create_dir_all(folder).unwrap();
    let config = json!({
        "model_cfg": {
            "embed_dim": TOWER.projection, "quick_gelu": true,
            "text_cfg": { "context_length": TOWER.positions, "vocab_size": ClipBpe::VOCABULARY, "width": TOWER.width, "heads": 4,
                "layers": TOWER.layers },
        },
    });
    std::fs::write(folder.join("open_clip_config.json"), config.to_string()).unwrap();
    vocabulary(&folder.join("bpe_simple_vocab_16e6.txt"));
    let file = folder.join("open_clip_model.safetensors");
    safetensors(&file, &tower());
    file
}

/// The fixture as student and teacher, from single files and `--config`.
pub fn source(folder: &Path) -> Source {
    let sizes = folder.join("sizes.json");
    std::fs::write(&sizes, config().to_string()).unwrap();
    Source {
        generator: Some(data("maskgen/generator.safetensors")),
        teacher: Some(data("maskgen/generator.safetensors")),
        tokenizer: data("maskgen/tokenizer.safetensors"),
        text_encoder: Some(open_clip(&folder.join("open_clip"))),
        config: Some(sizes),
        ..Source::new("maskgen")
    }
}

pub fn convert(source: &Source, output: &Path) -> Result<(), String> {
    convert::generator(source, output, |_, _| ()).map(|_| ()).map_err(|e| e.to_string())
}

/// The model file of the fixture.
pub fn model(folder: &Path) -> PathBuf {
    let output = folder.join("maskgen.softdimo.safetensors");
    convert(&source(folder), &output).unwrap();
    output
}

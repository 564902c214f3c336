//! ImageReward.pt, with BERT's vocab.txt. Sizes are those of the tensors and of BLIP's `med_config.json`, whose keys are
//! those of [`blip::TextConfig`], at the top.

use super::{ImageReward, blip};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::sizes::{Given, Sizes, shape};
use crate::error::Result;
use crate::rewards::scorer::{TextInput, TokenizerKind};
use crate::rewards::source::{RewardPieces, RewardSource, whole};
use crate::text::Flavor;

pub fn read(source: &RewardSource) -> Result<RewardPieces<ImageReward>> {
    let checkpoint = source.open("ImageReward's tensors", &["blip.visual_encoder.cls_token"])?;
    let given = source.config(&["med_config.json"])?;
    let text = blip_text(&checkpoint, given.as_ref())?;
    let vision = blip_vision(&checkpoint, given.as_ref())?;
    let input = TextInput {
        kind: TokenizerKind::WordPiece,
        rows: text.vocab_size,
        positions: text.max_position_embeddings,
    };
    let tokenizer = source.tokenizer(input, Flavor::HuggingFace, &checkpoint)?;
    let architecture = ImageReward { text, vision };
    Ok(RewardPieces { networks: whole(architecture.clone(), checkpoint), architecture, tokenizer })
}

/// ImageReward's BERT.
fn blip_text(checkpoint: &Checkpoint, given: Option<&Given>) -> Result<blip::TextConfig> {
    let mut sizes = Sizes::new("text", checkpoint);
    let at = |name: &str| format!("blip.text_encoder.{name}");
    let words = at("embeddings.word_embeddings.weight");
    sizes.dimension("vocab_size", &words, 2, 0)?;
    let width = sizes.dimension("hidden_size", &words, 2, 1)?;
    sizes.dimension("max_position_embeddings", &at("embeddings.position_embeddings.weight"), 2, 0)?;
    sizes.layers("num_hidden_layers", &at("encoder.layer."))?;
    sizes.dimension("intermediate_size", &at("encoder.layer.0.intermediate.dense.weight"), 2, 0)?;
    sizes.dimension("encoder_width", &at("encoder.layer.0.crossattention.self.key.weight"), 2, 1)?;
    if let Some(given) = given {
        sizes.section(given, &given.json["text"], "text")?;
        // The official code replaces its own encoder_width by the vision transformer's.
        let keys = ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"];
        for key in keys.into_iter().chain(["vocab_size", "max_position_embeddings"]) {
            sizes.set(&given.file, key, key, &given.json[key])?;
        }
    }
    sizes.heads("num_attention_heads", width, 64);
    sizes.finish("num_attention_heads")
}

/// ImageReward's vision transformer.
fn blip_vision(checkpoint: &Checkpoint, given: Option<&Given>) -> Result<blip::VisionConfig> {
    let mut sizes = Sizes::new("vision", checkpoint);
    let at = |name: &str| format!("blip.visual_encoder.{name}");
    let width = sizes.dimension("embed_dim", &at("patch_embed.proj.weight"), 4, 0)?;
    let patch = sizes.dimension("patch_size", &at("patch_embed.proj.weight"), 4, 2)?;
    sizes.image("img_size", &at("pos_embed"), 3, patch)?;
    sizes.layers("depth", &at("blocks."))?;
    let mlp = shape(checkpoint, &at("blocks.0.mlp.fc1.weight"), 2)?[0];
    sizes.known("mlp_ratio", mlp / width.max(1));
    if let Some(given) = given {
        sizes.section(given, &given.json["vision"], "vision")?;
    }
    sizes.heads("num_heads", width, 64);
    sizes.finish("num_heads")
}

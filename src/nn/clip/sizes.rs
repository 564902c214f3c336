//! Sizes of CLIP's towers, read off a checkpoint's tensors and the configuration that lies with it.
//!
//! | configuration | keys |
//! |---|---|
//! | Hugging Face, `config.json` | `text_config`, `vision_config`, `projection_dim`; what is left out has its defaults |
//! | Hugging Face, a text tower's alone | `model_type` is `clip_text_model`, the keys of `text_config` at the top |
//! | open_clip, `open_clip_config.json` | `embed_dim`, `text_cfg`, `vision_cfg`, `quick_gelu`, at the top or in `model_cfg` |
//! | any | `text`, `vision`: the keys of a model file's own configuration |
//!
//! Without one, a head is 64 wide, in the vision tower 80 at width 1280 (ViT-H), 88 at 1408 (ViT-g) and 104 at 1664
//! (ViT-bigG).

use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use super::{Activation, KeyLayout, TextConfig, VisionConfig};
use crate::checkpoint::sizes::{Given, Sizes, wrong};
use crate::checkpoint::{Checkpoint, unknown};
use crate::error::{Error, Result};

/// One of these is in every checkpoint of both towers.
pub(crate) const ANCHORS: [&str; 2] = ["vision_model.embeddings.class_embedding", "visual.class_embedding"];

/// Which of the two sets of names a CLIP checkpoint has.
pub(crate) fn key_layout(checkpoint: &Checkpoint) -> Result<KeyLayout> {
    let [hugging_face, open_clip] = ANCHORS;
    if checkpoint.get(hugging_face).is_some() {
        return Ok(KeyLayout::HuggingFace);
    }
    if checkpoint.get(open_clip).is_some() {
        return Ok(KeyLayout::OpenClip);
    }
    Err(unknown(checkpoint, &format!("CLIP's tensors, such as '{hugging_face}' or '{open_clip}'")))
}

/// The text tower. `activation` is what it has without a configuration.
pub(crate) fn clip_text(
    checkpoint: &Checkpoint,
    keys: KeyLayout,
    given: Option<&Given>,
    activation: Activation,
) -> Result<TextConfig> {
    let open = keys == KeyLayout::OpenClip;
    let name =
        |hugging_face: &'static str, open_clip: &'static str| if open { open_clip } else { hugging_face };
    let mut sizes = Sizes::new("text", checkpoint);
    let tokens = name("text_model.embeddings.token_embedding.weight", "token_embedding.weight");
    sizes.dimension("vocab_size", tokens, 2, 0)?;
    let width = sizes.dimension("hidden_size", tokens, 2, 1)?;
    let positions = name("text_model.embeddings.position_embedding.weight", "positional_embedding");
    sizes.dimension("max_position_embeddings", positions, 2, 0)?;
    let projection = name("text_projection.weight", "text_projection");
    sizes.dimension("projection_dim", projection, 2, usize::from(open))?;
    let layers = name("text_model.encoder.layers.", "transformer.resblocks.");
    sizes.layers("num_hidden_layers", layers)?;
    let mlp = format!("{layers}0.{}", name("mlp.fc1.weight", "mlp.c_fc.weight"));
    sizes.dimension("intermediate_size", &mlp, 2, 0)?;
    sizes.configure_clip(given, ("text_config", 8), "text_cfg", width)?;
    sizes.heads("num_attention_heads", width, 64);
    sizes.finish_clip(keys, activation)
}

/// The vision tower. `activation` is what it has without a configuration.
pub(crate) fn clip_vision(
    checkpoint: &Checkpoint,
    keys: KeyLayout,
    given: Option<&Given>,
    activation: Activation,
) -> Result<VisionConfig> {
    let open = keys == KeyLayout::OpenClip;
    let name =
        |hugging_face: &'static str, open_clip: &'static str| if open { open_clip } else { hugging_face };
    let mut sizes = Sizes::new("vision", checkpoint);
    let patches = name("vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight");
    let width = sizes.dimension("hidden_size", patches, 4, 0)?;
    let patch = sizes.dimension("patch_size", patches, 4, 2)?;
    let positions = name("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding");
    sizes.image("image_size", positions, 2, patch)?;
    let projection = name("visual_projection.weight", "visual.proj");
    sizes.dimension("projection_dim", projection, 2, usize::from(open))?;
    let layers = name("vision_model.encoder.layers.", "visual.transformer.resblocks.");
    sizes.layers("num_hidden_layers", layers)?;
    let mlp = format!("{layers}0.{}", name("mlp.fc1.weight", "mlp.c_fc.weight"));
    sizes.dimension("intermediate_size", &mlp, 2, 0)?;
    sizes.configure_clip(given, ("vision_config", 12), "vision_cfg", width)?;
    let head = match width {
        1280 => 80,
        1408 => 88,
        1664 => 104,
        _ => 64,
    };
    sizes.heads("num_attention_heads", width, head);
    sizes.finish_clip(keys, activation)
}

/// Whether a CLIP tower has the key at all.
fn reads(part: &str, key: &str) -> bool {
    match key {
        "vocab_size" | "max_position_embeddings" => part == "text",
        "image_size" | "patch_size" => part == "vision",
        _ => true,
    }
}

impl Sizes<'_> {
    /// What a configuration of any kind says about a CLIP tower `width` wide. `hugging_face` is the name of
    /// the section and the number of heads that is meant when it gives none.
    fn configure_clip(
        &mut self,
        given: Option<&Given>,
        hugging_face: (&str, usize),
        open_clip: &str,
        width: usize,
    ) -> Result<()> {
        let Some(given) = given else { return Ok(()) };
        self.section(given, &given.json[self.part], self.part)?;
        let (section, heads) = hugging_face;
        if given.json[section].is_object() {
            self.configure_hugging_face(given, section, heads)?;
        } else if self.part == "text" && given.json["model_type"] == "clip_text_model" {
            let projection = &given.json["projection_dim"];
            let json = json!({ section: given.json, "projection_dim": projection });
            self.configure_hugging_face(&Given { file: given.file.clone(), json }, section, heads)?;
        }
        let model = match &given.json["model_cfg"] {
            Json::Null => &given.json,
            model => model,
        };
        if model[open_clip].is_object() {
            self.configure_open_clip(&given.file, model, open_clip, width)?;
        }
        Ok(())
    }

    /// As transformers reads it: `<section>_dict`, where old files have it, goes before the section.
    fn configure_hugging_face(&mut self, given: &Given, section: &str, heads: usize) -> Result<()> {
        let older = format!("{section}_dict");
        let keys = [
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "max_position_embeddings",
            "image_size",
            "patch_size",
            "hidden_act",
        ];
        let part = self.part;
        for key in keys.into_iter().filter(|key| reads(part, key)) {
            let first = &given.json[&older][key];
            let (name, value) = match first {
                Json::Null => (section, &given.json[section][key]),
                value => (older.as_str(), value),
            };
            self.set(&given.file, &format!("{name}.{key}"), key, value)?;
        }
        self.set(&given.file, "projection_dim", "projection_dim", &given.json["projection_dim"])?;
        self.values.entry("num_attention_heads").or_insert(heads.into());
        self.values.entry("hidden_act").or_insert("quick_gelu".into());
        Ok(())
    }

    fn configure_open_clip(&mut self, file: &str, model: &Json, section: &str, width: usize) -> Result<()> {
        let keys = [
            ("vocab_size", "vocab_size"),
            ("context_length", "max_position_embeddings"),
            ("width", "hidden_size"),
            ("layers", "num_hidden_layers"),
            ("heads", "num_attention_heads"),
            ("image_size", "image_size"),
            ("patch_size", "patch_size"),
        ];
        let part = self.part;
        for (from, to) in keys.into_iter().filter(|(_, to)| reads(part, to)) {
            self.set(file, &format!("{section}.{from}"), to, &model[section][from])?;
        }
        self.set(file, "embed_dim", "projection_dim", &model["embed_dim"])?;
        let heads = match &model[section]["head_width"] {
            Json::Null if self.part == "text" => 8,
            Json::Null => width / 64,
            head => match head.as_u64().map(|head| head as usize) {
                Some(head) if head > 0 && width.is_multiple_of(head) => width / head,
                _ => {
                    let expected = format!("a divisor of width {width}");
                    return Err(wrong(file, &format!("{section}.head_width"), &expected, head));
                }
            },
        };
        self.values.entry("num_attention_heads").or_insert(heads.into());
        let quick = model["quick_gelu"].as_bool().unwrap_or(false);
        self.values.entry("hidden_act").or_insert(if quick { "quick_gelu" } else { "gelu" }.into());
        Ok(())
    }

    fn finish_clip<T: DeserializeOwned>(mut self, keys: KeyLayout, activation: Activation) -> Result<T> {
        let json = |value: serde_json::Result<Json>| value.map_err(|e| Error::internal(e.to_string()));
        self.values.insert("keys".into(), json(serde_json::to_value(keys))?);
        let activation = json(serde_json::to_value(activation))?;
        self.values.entry("hidden_act").or_insert(activation);
        self.finish("num_attention_heads")
    }
}

//! Sizes of a reward's networks: from the shapes of the tensors, and what shapes do not tell (the number of
//! attention heads, the activation) from a configuration. Sizes in both must agree: a configuration of another
//! checkpoint would give other scores, not an error.
//!
//! | configuration | keys |
//! |---|---|
//! | Hugging Face, `config.json` | `text_config`, `vision_config`, `projection_dim`; what is left out has its defaults |
//! | Hugging Face, a text tower's alone | `model_type` is `clip_text_model`, the keys of `text_config` at the top |
//! | open_clip, `open_clip_config.json` | `embed_dim`, `text_cfg`, `vision_cfg`, `quick_gelu`, at the top or in `model_cfg` |
//! | BLIP, `med_config.json` | the keys of [`blip::TextConfig`], at the top |
//! | any | `text`, `vision`: the keys of a reward file's own configuration |
//!
//! Without one, a head is 64 wide, in CLIP's vision tower 80 at width 1280 (ViT-H), 88 at 1408 (ViT-g) and 104
//! at 1664 (ViT-bigG).

use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json, json};

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::models::clip::{Activation, KeyLayout};
use crate::models::{blip, clip, efficientnet};

/// Sizes of one network while they are gathered.
struct Sizes<'a> {
    /// `text` or `vision`.
    part: &'a str,
    checkpoint: &'a Checkpoint,
    values: Map<String, Json>,
}

/// A configuration and the name to blame for it.
pub(in crate::convert) struct Given {
    pub file: String,
    pub json: Json,
}

/// Which of the two sets of names a CLIP checkpoint has.
pub(super) fn key_layout(checkpoint: &Checkpoint) -> Result<KeyLayout> {
    let [hugging_face, open_clip] = ["vision_model.embeddings.class_embedding", "visual.class_embedding"];
    if checkpoint.get(hugging_face).is_some() {
        return Ok(KeyLayout::HuggingFace);
    }
    if checkpoint.get(open_clip).is_some() {
        return Ok(KeyLayout::OpenClip);
    }
    Err(unknown(checkpoint, &format!("CLIP's tensors, such as '{hugging_face}' or '{open_clip}'")))
}

/// The error for a checkpoint of something else.
pub(in crate::convert) fn unknown(checkpoint: &Checkpoint, expected: &str) -> Error {
    let names: Vec<&str> = checkpoint.names().collect();
    let some: Vec<String> = names.iter().take(6).map(|name| format!("'{name}'")).collect();
    let found = match names.len() {
        0 => "none".into(),
        n if n > some.len() => format!("{n} tensors, among them {}", some.join(", ")),
        _ => some.join(", "),
    };
    let (what, expected) = ("tensors".into(), expected.into());
    Error::Format { file: checkpoint.file(), what, expected, found }
}

/// The text tower. `activation` is what it has without a configuration.
pub(in crate::convert) fn clip_text(
    checkpoint: &Checkpoint,
    keys: KeyLayout,
    given: Option<&Given>,
    activation: Activation,
) -> Result<clip::TextConfig> {
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
pub(super) fn clip_vision(
    checkpoint: &Checkpoint,
    keys: KeyLayout,
    given: Option<&Given>,
    activation: Activation,
) -> Result<clip::VisionConfig> {
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

/// ImageReward's BERT.
pub(super) fn blip_text(checkpoint: &Checkpoint, given: Option<&Given>) -> Result<blip::TextConfig> {
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
pub(super) fn blip_vision(checkpoint: &Checkpoint, given: Option<&Given>) -> Result<blip::VisionConfig> {
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

/// EfficientNet-Lite0; the picture's size is 224 unless `image_size` says otherwise.
pub(super) fn classifier(checkpoint: &Checkpoint, given: Option<&Given>) -> Result<efficientnet::Config> {
    let Some(view) = checkpoint.get("_fc.weight") else {
        return Err(unknown(checkpoint, "EfficientNet-Lite0's tensors, such as '_fc.weight'"));
    };
    let num_classes = view.shape.first().copied().unwrap_or(0);
    let image_size = match given.map(|given| (given, &given.json["image_size"])) {
        None | Some((_, Json::Null)) => 224,
        Some((given, size)) => {
            let number = size.as_u64().and_then(|n| usize::try_from(n).ok());
            number.ok_or_else(|| wrong(&given.file, "image_size", "a number of pixels", size))?
        }
    };
    Ok(efficientnet::Config { image_size, num_classes })
}

fn wrong(file: &str, key: &str, expected: &str, found: impl ToString) -> Error {
    let (expected, found) = (expected.into(), found.to_string());
    Error::Config { file: file.into(), key: key.into(), expected, found }
}

/// The shape of a tensor that must be there with this rank, nothing of it empty.
fn shape(checkpoint: &Checkpoint, name: &str, rank: usize) -> Result<Vec<usize>> {
    let Some(view) = checkpoint.get(name) else {
        let expected = format!("of rank {rank}");
        return Err(Error::MissingTensor { name: name.into(), expected, file: checkpoint.file() });
    };
    if view.shape.rank() != rank || view.shape.is_empty() {
        return Err(Error::TensorMismatch {
            name: name.into(),
            expected: format!("rank {rank}, nothing empty"),
            found: format!("{}{}", view.dtype, view.shape),
            file: checkpoint.file(),
        });
    }
    Ok(view.shape.to_vec())
}

/// Whether a CLIP tower has the key at all.
fn reads(part: &str, key: &str) -> bool {
    match key {
        "vocab_size" | "max_position_embeddings" => part == "text",
        "image_size" | "patch_size" => part == "vision",
        _ => true,
    }
}

impl<'a> Sizes<'a> {
    fn new(part: &'a str, checkpoint: &'a Checkpoint) -> Sizes<'a> {
        Sizes { part, checkpoint, values: Map::new() }
    }

    fn known(&mut self, key: &str, value: usize) {
        self.values.insert(key.into(), value.into());
    }

    /// A size that is one dimension of a tensor.
    fn dimension(&mut self, key: &str, tensor: &str, rank: usize, axis: usize) -> Result<usize> {
        let size = shape(self.checkpoint, tensor, rank)?[axis];
        self.known(key, size);
        Ok(size)
    }

    /// The picture's side: position embeddings of the class token and of a square of patches.
    fn image(&mut self, key: &str, positions: &str, rank: usize, patch: usize) -> Result<()> {
        let shape = shape(self.checkpoint, positions, rank)?;
        let patches = shape[rank - 2] - 1;
        let side = patches.isqrt();
        if side * side != patches || side == 0 {
            return Err(Error::TensorMismatch {
                name: positions.into(),
                expected: "rows for the class token and a square of patches".into(),
                found: format!("{} rows", shape[rank - 2]),
                file: self.checkpoint.file(),
            });
        }
        self.known(key, side * patch);
        Ok(())
    }

    /// The number of layers, which are numbered from 0 after `prefix`.
    fn layers(&mut self, key: &str, prefix: &str) -> Result<()> {
        let number = |name: &str| name.strip_prefix(prefix)?.split('.').next()?.parse::<usize>().ok();
        let Some(last) = self.checkpoint.names().filter_map(number).max() else {
            let expected = "of any shape".into();
            let name = format!("{prefix}0.*");
            return Err(Error::MissingTensor { name, expected, file: self.checkpoint.file() });
        };
        self.known(key, last.saturating_add(1));
        Ok(())
    }

    /// A value of a configuration, called `path` there; absent ones change nothing, sizes that the tensors
    /// have already must agree.
    fn set(&mut self, file: &str, path: &str, key: &str, value: &Json) -> Result<()> {
        match self.values.get(key) {
            _ if value.is_null() => Ok(()),
            Some(known) if known == value => Ok(()),
            Some(known) => {
                Err(wrong(file, path, &format!("{known}, as in {}", self.checkpoint.file()), value))
            }
            None => {
                self.values.insert(key.into(), value.clone());
                Ok(())
            }
        }
    }

    /// The keys of a reward file's own configuration.
    fn section(&mut self, given: &Given, section: &Json, path: &str) -> Result<()> {
        for (key, value) in section.as_object().into_iter().flatten() {
            self.set(&given.file, &format!("{path}.{key}"), key, value)?;
        }
        Ok(())
    }

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

    /// The number of heads by their usual width, unless it is known or no multiple.
    fn heads(&mut self, key: &str, width: usize, head: usize) {
        if width.is_multiple_of(head) {
            self.values.entry(key).or_insert((width / head).into());
        }
    }

    fn finish_clip<T: DeserializeOwned>(mut self, keys: KeyLayout, activation: Activation) -> Result<T> {
        let json = |value: serde_json::Result<Json>| value.map_err(|e| Error::internal(e.to_string()));
        self.values.insert("keys".into(), json(serde_json::to_value(keys))?);
        let activation = json(serde_json::to_value(activation))?;
        self.values.entry("hidden_act").or_insert(activation);
        self.finish("num_attention_heads")
    }

    fn finish<T: DeserializeOwned>(self, heads: &str) -> Result<T> {
        let file = self.checkpoint.file();
        if !self.values.contains_key(heads) {
            let expected = "--config FILE that gives it, since the width is no multiple of the usual head's";
            return Err(wrong(&file, &format!("{}.{heads}", self.part), expected, "none"));
        }
        serde_json::from_value(Json::Object(self.values))
            .map_err(|e| wrong(&file, self.part, "the sizes of the official configuration", e))
    }
}

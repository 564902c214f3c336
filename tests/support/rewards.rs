//! Checkpoints as they are published, out of the tiny networks of tests/data/rewards: with whole vocabularies,
//! whose tokens of some words have the rows that the golden prompts read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use softdimo::checkpoint::Checkpoint;
use softdimo::checkpoint::safetensors::{self, Entry};
use softdimo::convert::{self, RewardSource};
use softdimo::tensor::Tensor;
use softdimo::text::{ClipBpe, Flavor, WordPiece};

use super::checkpoints::{MERGES, vocabulary};
use super::data;

/// Words that are one token each, in either vocabulary.
const WORDS: [&str; 26] = [
    "red", "apple", "dog", "cat", "sun", "moon", "tree", "house", "car", "bird", "fish", "star", "sky",
    "boat", "rain", "snow", "fire", "rock", "hill", "lake", "road", "king", "rose", "wolf", "bear", "ship",
];

/// A network of tests/data/rewards as an official checkpoint, and what its golden prompts are in words.
pub struct Official {
    pub source: RewardSource,
    pub golden: Checkpoint,
    pub prompts: Vec<String>,
}

/// Tensors by name, changed and written again.
pub struct Tensors(BTreeMap<String, Tensor>);

impl Tensors {
    pub fn read(path: &Path) -> Tensors {
        let file = Checkpoint::open(path).unwrap();
        Tensors(file.names().map(|name| (name.into(), file.get(name).unwrap().to_tensor())).collect())
    }

    pub fn write(&self, path: &Path) {
        let entry = |(name, t): (&String, &Tensor)| Entry {
            name: name.clone(),
            dtype: t.dtype(),
            shape: t.shape().clone(),
        };
        let entries: Vec<Entry> = self.0.iter().map(entry).collect();
        safetensors::write(path, &[].into(), &entries, |name| Ok(self.0[name].bytes().into())).unwrap();
    }

    pub fn negate(&mut self, name: &str) {
        let tensor = self.0.get_mut(name).unwrap();
        let values: Vec<f32> = tensor.to_f32().iter().map(|x| -x).collect();
        *tensor = Tensor::from_f32(tensor.shape().clone(), &values);
    }

    /// Give an embedding `rows` rows: those of `placed`, (row, old row), and zeros.
    fn spread(&mut self, name: &str, rows: usize, placed: &[(usize, usize)]) {
        let tensor = &self.0[name];
        let (old, width) = (tensor.to_f32(), tensor.shape()[1]);
        let mut new = vec![0f32; rows * width];
        for &(to, from) in placed {
            new[to * width..][..width].copy_from_slice(&old[from * width..][..width]);
        }
        self.0.insert(name.into(), Tensor::from_f32([rows, width], &new));
    }
}

pub fn read(golden: &Checkpoint, name: &str) -> Tensor {
    golden.get(name).unwrap_or_else(|| panic!("no {name}")).to_tensor()
}

fn golden(name: &str) -> Checkpoint {
    Checkpoint::open(data(&format!("rewards/{name}.golden.safetensors"))).unwrap()
}

/// The golden prompts in words, and the (old row, word) of each word used.
fn in_words(golden: &Checkpoint, is_word: impl Fn(i64) -> bool) -> (Vec<String>, Vec<(usize, &'static str)>) {
    let ids = read(golden, "in/input_ids");
    let mut known: Vec<(usize, &str)> = Vec::new();
    let mut prompts = Vec::new();
    for row in ids.to_i64().chunks_exact(ids.shape()[1]) {
        let mut words = Vec::new();
        for &id in row.iter().filter(|&&id| is_word(id)) {
            if !known.iter().any(|(old, _)| *old == id as usize) {
                known.push((id as usize, WORDS[known.len()]));
            }
            words.push(known.iter().find(|(old, _)| *old == id as usize).unwrap().1);
        }
        prompts.push(words.join(" "));
    }
    (prompts, known)
}

/// Spread a CLIP text tower's tokens over the real vocabulary. The start's and the end's row are the golden
/// prompts' largest two.
fn with_clip_vocabulary(tensors: &mut Tensors, embedding: &str, golden: &Checkpoint) -> Vec<String> {
    let largest = read(golden, "in/input_ids").to_i64().into_iter().max().unwrap();
    let rows = read(golden, "in/input_ids");
    let padded = rows.shape()[1] == ClipBpe::CONTEXT;
    // Where padding is id 0, no word of these prompts is.
    let is_word = |id: i64| id < largest - 1 && !(padded && id == 0);
    let (prompts, known) = in_words(golden, is_word);
    let bpe = ClipBpe::from_vocabulary_bytes(MERGES.as_bytes()).unwrap();
    let mut placed =
        vec![(ClipBpe::START as usize, largest as usize - 1), (ClipBpe::END as usize, largest as usize)];
    for (old, word) in known {
        let [id] = bpe.encode(word, Flavor::OpenClip)[..] else { panic!("'{word}' is not one token") };
        placed.push((id as usize, old));
    }
    tensors.spread(embedding, ClipBpe::VOCABULARY, &placed);
    prompts
}

/// CLIP as a Hugging Face directory: config.json, model.safetensors, merges.txt.
pub fn clip_score(folder: &Path) -> Official {
    clip_score_with(folder, |_| ())
}

pub fn clip_score_with(folder: &Path, change: impl FnOnce(&mut Tensors)) -> Official {
    std::fs::create_dir_all(folder).unwrap();
    let golden = golden("clip_score");
    let mut tensors = Tensors::read(&data("rewards/clip_score.safetensors"));
    let embedding = "text_model.embeddings.token_embedding.weight";
    let prompts = with_clip_vocabulary(&mut tensors, embedding, &golden);
    change(&mut tensors);
    tensors.write(&folder.join("model.safetensors"));
    vocabulary(&folder.join("merges.txt"));
    let config = serde_json::json!({
        "model_type": "clip", "projection_dim": 24, "logit_scale_init_value": 2.6592,
        "text_config": {
            "hidden_act": "gelu", "hidden_size": 32, "intermediate_size": 128, "num_attention_heads": 4,
            "num_hidden_layers": 2, "vocab_size": 49408, "projection_dim": 512, "model_type": "clip_text_model",
        },
        "vision_config": {
            "hidden_act": "gelu", "hidden_size": 48, "image_size": 32, "intermediate_size": 192,
            "num_attention_heads": 6, "num_hidden_layers": 3, "patch_size": 8, "projection_dim": 512,
        },
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    Official { source: RewardSource::new("clip_score", folder), golden, prompts }
}

/// CLIP under open_clip's names with open_clip's configuration.
pub fn hpsv2(folder: &Path) -> Official {
    let golden = golden("hpsv2");
    let mut tensors = Tensors::read(&data("rewards/hpsv2.safetensors"));
    let prompts = with_clip_vocabulary(&mut tensors, "token_embedding.weight", &golden);
    let (weights, config) = (folder.join("HPS_v2.1.safetensors"), folder.join("open_clip_config.json"));
    tensors.write(&weights);
    vocabulary(&folder.join("bpe_simple_vocab_16e6.txt"));
    let json = serde_json::json!({ "model_cfg": {
        "embed_dim": 24,
        "vision_cfg": { "image_size": 32, "layers": 3, "width": 48, "head_width": 12, "patch_size": 8 },
        "text_cfg": { "context_length": 77, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 2 },
    }});
    std::fs::write(config, json.to_string()).unwrap();
    let mut source = RewardSource::new("hpsv2", weights);
    source.vocabulary = Some(folder.join("bpe_simple_vocab_16e6.txt"));
    Official { source, golden, prompts }
}

/// ImageReward, with the numbers of heads in a configuration of this library's own form.
pub fn image_reward(folder: &Path) -> Official {
    let golden = golden("image_reward");
    let mut tensors = Tensors::read(&data("rewards/image_reward.safetensors"));
    let pieces = std::fs::read(data("tokenizer/bert-vocab.txt")).unwrap();
    let tokenizer = WordPiece::from_vocabulary(&pieces).unwrap();
    let (pad, cls, sep) = (0, 101, 102);
    let (prompts, known) = in_words(&golden, |id| ![pad, cls, sep].contains(&id));
    let mut placed: Vec<(usize, usize)> = [pad, cls, sep].map(|id| (id as usize, id as usize)).to_vec();
    for (old, word) in known {
        let [id] = tokenizer.encode(word)[..] else { panic!("'{word}' is not one piece") };
        placed.push((id as usize, old));
    }
    tensors.spread("blip.text_encoder.embeddings.word_embeddings.weight", tokenizer.vocabulary(), &placed);
    tensors.write(&folder.join("ImageReward.safetensors"));
    std::fs::write(folder.join("vocab.txt"), pieces).unwrap();
    let config = serde_json::json!({ "text": { "num_attention_heads": 4 }, "vision": { "num_heads": 4 } });
    std::fs::write(folder.join("heads.json"), config.to_string()).unwrap();
    let mut source = RewardSource::new("image_reward", folder.join("ImageReward.safetensors"));
    source.config = Some(folder.join("heads.json"));
    Official { source, golden, prompts }
}

/// OpenAI's vision tower and the predictor's layers, two files and no configuration.
pub fn aesthetic() -> Official {
    let mut source = RewardSource::new("aesthetic", data("rewards/aesthetic.safetensors"));
    source.head = Some(data("rewards/aesthetic.mlp.safetensors"));
    Official { source, golden: golden("aesthetic"), prompts: Vec::new() }
}

/// Convert to `NAME.softdimo.safetensors` in the folder.
pub fn convert(source: &RewardSource, folder: &Path, name: &str) -> PathBuf {
    let output = folder.join(format!("{name}.softdimo.safetensors"));
    convert::reward(source, &output, |_, _| ()).unwrap();
    output
}

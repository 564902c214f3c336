//! Checkpoints as published, for tests: tensors in every container, and text towers of any size with their
//! vocabulary.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use rawzip::{CompressionMethod, ZipArchiveWriter};
use serde_json::{Value as Json, json};
use softdimo::checkpoint::Checkpoint;
use softdimo::checkpoint::safetensors::{Entry, write};
use softdimo::rng::{Philox, Stream};
use softdimo::tensor::{Dtype, Shape, Tensor};
use softdimo::text::ClipBpe;

pub type Tensors = Vec<(String, Tensor)>;

/// All tensors of a checkpoint.
pub fn tensors(path: &Path) -> Tensors {
    let file = Checkpoint::open(path).unwrap();
    file.names().map(|name| (name.to_string(), file.get(name).unwrap().to_tensor())).collect()
}

pub fn safetensors(path: &Path, tensors: &[(String, Tensor)]) {
    let entry = |(name, t): &(String, Tensor)| Entry {
        name: name.clone(),
        dtype: t.dtype(),
        shape: t.shape().clone(),
    };
    let find = |name: &str| tensors.iter().find(|(n, _)| n == name).unwrap().1.bytes().to_vec();
    let entries: Vec<Entry> = tensors.iter().map(entry).collect();
    write(path, &BTreeMap::new(), &entries, |name| Ok(Cow::Owned(find(name)))).unwrap();
}

/// A Hugging Face directory: `model.safetensors` and `config.json`.
pub fn directory(folder: &Path, tensors: &[(String, Tensor)], config: &Json) -> PathBuf {
    std::fs::create_dir_all(folder).unwrap();
    safetensors(&folder.join("model.safetensors"), tensors);
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    folder.to_path_buf()
}

/// What `torch.save` is given.
pub enum Saved<'a> {
    /// A state dict.
    Tensors(&'a [(String, Tensor)]),
    /// A list of tensors without names.
    List(&'a [(String, Tensor)]),
    Dictionaries(Vec<(&'a str, Saved<'a>)>),
}

/// A state dict of f32 tensors as `torch.save` writes it. `tied` are (name, name of the tensor whose storage it
/// shares).
pub fn torch(path: &Path, tensors: &[(String, Tensor)], tied: &[(&str, &str)]) {
    let key = |name: &str| tensors.iter().position(|(n, _)| n == name).unwrap();
    let own = tensors.iter().map(|(name, _)| (name.as_str(), key(name)));
    let mut pickle = b"\x80\x02}(".to_vec(); // protocol 2, a dict, its items
    for (name, key) in own.chain(tied.iter().map(|(name, of)| (*name, key(of)))) {
        text(&mut pickle, name);
        rebuild(&mut pickle, key, &tensors[key].1);
    }
    pickle.extend(b"u.");
    let storages: Vec<&Tensor> = tensors.iter().map(|(_, t)| t).collect();
    archive(path, &pickle, &storages);
}

/// Dictionaries of f32 tensors as `torch.save` writes them.
pub fn torch_nested(path: &Path, saved: &Saved) {
    fn add<'a>(pickle: &mut Vec<u8>, storages: &mut Vec<&'a Tensor>, saved: &Saved<'a>) {
        match saved {
            Saved::Dictionaries(all) => {
                pickle.extend(b"}(");
                for (name, saved) in all {
                    text(pickle, name);
                    add(pickle, storages, saved);
                }
                pickle.push(b'u');
            }
            Saved::Tensors(tensors) => {
                pickle.extend(b"}(");
                for (name, tensor) in tensors.iter() {
                    text(pickle, name);
                    rebuild(pickle, storages.len(), tensor);
                    storages.push(tensor);
                }
                pickle.push(b'u');
            }
            Saved::List(tensors) => {
                pickle.extend(b"](");
                for (_, tensor) in tensors.iter() {
                    rebuild(pickle, storages.len(), tensor);
                    storages.push(tensor);
                }
                pickle.push(b'e');
            }
        }
    }
    let (mut pickle, mut storages) = (b"\x80\x02".to_vec(), Vec::new());
    add(&mut pickle, &mut storages, saved);
    pickle.push(b'.');
    archive(path, &pickle, &storages);
}

/// A tensor in its own storage, which is all of it.
fn rebuild(pickle: &mut Vec<u8>, key: usize, tensor: &Tensor) {
    let (shape, strides) = (tensor.shape(), tensor.shape().strides());
    pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    text(pickle, "storage");
    pickle.extend(b"ctorch\nFloatStorage\n");
    text(pickle, &key.to_string());
    text(pickle, "cpu");
    integers(pickle, &[shape.len()]);
    pickle.extend(b"tQ"); // the persistent id of a storage
    integers(pickle, &[0]);
    for list in [&shape[..], &strides] {
        pickle.push(b'(');
        integers(pickle, list);
        pickle.push(b't');
    }
    pickle.extend(b"\x89ccollections\nOrderedDict\n)RtR"); // requires_grad, hooks; call
}

fn archive(path: &Path, pickle: &[u8], storages: &[&Tensor]) {
    let mut archive = ZipArchiveWriter::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let file = archive.new_file(name).compression_method(CompressionMethod::STORE);
        let (mut entry, config) = file.start().unwrap();
        let mut writer = config.wrap(&mut entry);
        writer.write_all(bytes).unwrap();
        let (_, descriptor) = writer.finish().unwrap();
        entry.finish(descriptor).unwrap();
    };
    add("archive/data.pkl", pickle);
    add("archive/byteorder", b"little");
    for (key, t) in storages.iter().enumerate() {
        add(&format!("archive/data/{key}"), t.bytes());
    }
    std::fs::write(path, archive.finish().unwrap()).unwrap();
}

fn text(pickle: &mut Vec<u8>, text: &str) {
    pickle.push(b'X');
    pickle.extend((text.len() as u32).to_le_bytes());
    pickle.extend(text.as_bytes());
}

fn integers(pickle: &mut Vec<u8>, values: &[usize]) {
    for &value in values {
        pickle.push(b'J');
        pickle.extend((value as u32).to_le_bytes());
    }
}

/// Sizes of a text tower.
#[derive(Clone, Copy, Debug)]
pub struct Tower {
    pub width: usize,
    pub layers: usize,
    pub positions: usize,
    pub projection: usize,
}

/// A random text tower, under open_clip's names.
pub fn tower(sizes: Tower) -> Tensors {
    let Tower { width: d, layers, positions, projection } = sizes;
    let rng = Philox::new(77);
    let mut all = Tensors::new();
    let mut add = |name: String, shape: &[usize]| {
        let (i, shape) = (all.len() as u32, Shape::from(shape));
        let (scale, base) = match shape.rank() {
            1 if name.ends_with("weight") => (0.2, 1.0),
            1 => (0.2, 0.0),
            _ => (1.7 / (shape[1] as f32).sqrt(), 0.0),
        };
        let value = |k| base + scale * (2.0 * rng.uniform_at(Stream::StartCodes, i, k) as f32 - 1.0);
        let values: Vec<f32> = (0..shape.len() as u64).map(value).collect();
        all.push((name, Tensor::from_f32(shape, &values)));
    };
    add("token_embedding.weight".into(), &[ClipBpe::VOCABULARY, d]);
    add("positional_embedding".into(), &[positions, d]);
    for i in 0..layers {
        let layer = format!("transformer.resblocks.{i}");
        for (name, out, inner) in [("attn.out_proj", d, d), ("mlp.c_fc", 4 * d, d), ("mlp.c_proj", d, 4 * d)]
        {
            add(format!("{layer}.{name}.weight"), &[out, inner]);
            add(format!("{layer}.{name}.bias"), &[out]);
        }
        add(format!("{layer}.attn.in_proj_weight"), &[3 * d, d]);
        add(format!("{layer}.attn.in_proj_bias"), &[3 * d]);
        for norm in ["ln_1", "ln_2"] {
            add(format!("{layer}.{norm}.weight"), &[d]);
            add(format!("{layer}.{norm}.bias"), &[d]);
        }
    }
    add("ln_final.weight".into(), &[d]);
    add("ln_final.bias".into(), &[d]);
    add("text_projection".into(), &[d, projection]);
    all
}

/// The tower under Hugging Face's names: q, k and v apart, the projection transposed.
pub fn hugging_face(tower: &[(String, Tensor)]) -> Tensors {
    let mut all = Tensors::new();
    for (name, t) in tower {
        let name = match name.as_str() {
            "token_embedding.weight" => "text_model.embeddings.token_embedding.weight".into(),
            "positional_embedding" => "text_model.embeddings.position_embedding.weight".into(),
            "text_projection" => {
                let (x, d, p) = (t.to_f32(), t.shape()[0], t.shape()[1]);
                let transposed: Vec<f32> = (0..d * p).map(|i| x[i % d * p + i / d]).collect();
                all.push(("text_projection.weight".into(), Tensor::from_f32([p, d], &transposed)));
                continue;
            }
            other => other
                .replace("transformer.resblocks", "text_model.encoder.layers")
                .replace("ln_final", "text_model.final_layer_norm")
                .replace("ln_1", "layer_norm1")
                .replace("ln_2", "layer_norm2")
                .replace("mlp.c_fc", "mlp.fc1")
                .replace("mlp.c_proj", "mlp.fc2")
                .replace("attn.", "self_attn."),
        };
        let Some((layer, kind)) = name.split_once("in_proj_") else {
            all.push((name, t.clone()));
            continue;
        };
        for (part, bytes) in ["q_proj", "k_proj", "v_proj"].iter().zip(t.bytes().chunks(t.bytes().len() / 3))
        {
            let shape = [&[t.shape()[0] / 3], &t.shape()[1..]].concat();
            all.push((format!("{layer}{part}.{kind}"), Tensor::new(Dtype::F32, shape, bytes).unwrap()));
        }
    }
    all
}

/// The merges that CLIP uses, one a line.
pub const MERGES: &str = include_str!("../data/tokenizer/clip-merges.txt");

/// CLIP's merges under their header.
pub fn vocabulary(path: &Path) {
    std::fs::write(path, format!("#version: 0.2\n{MERGES}")).unwrap();
}

/// The ids of `vocab.json`: OpenAI's `bytes_to_unicode`, then the merges in order, then the specials.
pub fn vocabulary_ids() -> Json {
    let printable: Vec<u32> = (0x21..=0x7E).chain(0xA1..=0xAC).chain(0xAE..=0xFF).collect();
    let hidden = (0..256).filter(|byte| !printable.contains(byte)).count() as u32;
    let bytes = printable.iter().copied().chain(256..256 + hidden);
    let bytes: Vec<String> = bytes.map(|c| char::from_u32(c).unwrap().to_string()).collect();
    let mut symbols = bytes.clone();
    symbols.extend(bytes.iter().map(|symbol| format!("{symbol}</w>")));
    symbols.extend(MERGES.lines().map(|merge| merge.replace(' ', "")));
    symbols.extend(["<|startoftext|>".to_string(), "<|endoftext|>".to_string()]);
    assert_eq!(symbols.len(), ClipBpe::VOCABULARY);
    symbols.into_iter().enumerate().map(|(id, symbol)| (symbol, json!(id))).collect()
}

//! The official checkpoints of the published models as names and shapes, and files of them with random weights.

mod maskbit;
mod maskgen;
mod maskgit;
mod meissonic;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use softdimo::checkpoint::safetensors::{Entry, write};
use softdimo::convert::Source;
use softdimo::rng::{Philox, Stream};
use softdimo::{Dtype, Error, Result, Shape};

pub type Tensors = Vec<(String, Vec<usize>)>;

/// The checkpoints of one model.
pub struct Published {
    /// As `softdimo convert` calls it.
    pub family: &'static str,
    pub generator: Tensors,
    pub tokenizer: Tensors,
    pub text_encoder: Option<Tensors>,
    /// What goes to `--config`, or nothing.
    pub config: Option<Value>,
}

impl Published {
    pub fn of(model: &str) -> Result<Published> {
        match model {
            "maskbit" => Ok(maskbit::published()),
            "maskgit" => Ok(maskgit::published()),
            "maskgen-l" => Ok(maskgen::published(1024, 16)),
            "maskgen-xl" => Ok(maskgen::published(1280, 20)),
            "meissonic" => Ok(meissonic::published()),
            _ => Err(Error::invalid("model", "maskbit, maskgit, maskgen-l, maskgen-xl or meissonic", model)),
        }
    }

    /// Number of parameters of each checkpoint, by its file's name.
    pub fn parameters(&self) -> Vec<(&'static str, usize)> {
        let count = |t: &Tensors| t.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        self.checkpoints().map(|(name, tensors)| (name, count(tensors))).collect()
    }

    fn checkpoints(&self) -> impl Iterator<Item = (&'static str, &Tensors)> {
        let always = [("generator", &self.generator), ("tokenizer", &self.tokenizer)];
        always.into_iter().chain(self.text_encoder.iter().map(|t| ("text_encoder", t)))
    }

    /// Write them into a folder, gigabytes in all, with random weights, the same ones every time.
    pub fn write(&self, folder: &Path) -> Result<Source> {
        let io = |e| Error::io(folder, e);
        std::fs::create_dir_all(folder).map_err(io)?;
        let path = |name: &str| -> PathBuf { folder.join(name).with_extension("safetensors") };
        for (name, tensors) in self.checkpoints() {
            write_random(&path(name), tensors)?;
        }
        if let Some(config) = &self.config {
            std::fs::write(folder.join("sizes.json"), config.to_string()).map_err(io)?;
        }
        if self.text_encoder.is_some() {
            let merges = include_str!("../../../../tests/data/tokenizer/clip-merges.txt");
            std::fs::write(folder.join("merges.txt"), format!("#version: 0.2\n{merges}")).map_err(io)?;
        }
        Ok(Source {
            generator: Some(path("generator")),
            tokenizer: path("tokenizer"),
            text_encoder: self.text_encoder.is_some().then(|| path("text_encoder")),
            config: self.config.is_some().then(|| folder.join("sizes.json")),
            ..Source::new(self.family)
        })
    }
}

/// Names and shapes while they are listed.
#[derive(Default)]
struct List(Tensors);

impl List {
    fn add(&mut self, name: &str, shape: &[usize]) {
        self.0.push((name.into(), shape.to_vec()));
    }

    fn linear(&mut self, name: &str, out: usize, inner: usize) {
        self.add(&format!("{name}.weight"), &[out, inner]);
        self.add(&format!("{name}.bias"), &[out]);
    }

    fn norm(&mut self, name: &str, d: usize) {
        self.add(&format!("{name}.weight"), &[d]);
        self.add(&format!("{name}.bias"), &[d]);
    }

    /// `add` of a weight only.
    fn weight(&mut self, name: &str, shape: &[usize]) {
        self.add(&format!("{name}.weight"), shape);
    }

    fn conv(&mut self, name: &str, out: usize, inner: usize, k: usize) {
        self.add(&format!("{name}.weight"), &[out, inner, k, k]);
        self.add(&format!("{name}.bias"), &[out]);
    }

    /// open_clip's `ResidualAttentionBlock`.
    fn block(&mut self, name: &str, d: usize) {
        self.norm(&format!("{name}.ln_1"), d);
        self.norm(&format!("{name}.ln_2"), d);
        self.add(&format!("{name}.attn.in_proj_weight"), &[3 * d, d]);
        self.add(&format!("{name}.attn.in_proj_bias"), &[3 * d]);
        self.linear(&format!("{name}.attn.out_proj"), d, d);
        self.linear(&format!("{name}.mlp.c_fc"), 4 * d, d);
        self.linear(&format!("{name}.mlp.c_proj"), d, 4 * d);
    }
}

/// A text tower of CLIP: 12 layers 768 wide in ViT-L/14, 24 layers 1024 wide in ViT-H/14.
fn clip_text(width: usize, layers: usize) -> Tensors {
    let mut t = List::default();
    t.add("token_embedding.weight", &[49408, width]);
    t.add("positional_embedding", &[77, width]);
    (0..layers).for_each(|i| t.block(&format!("transformer.resblocks.{i}"), width));
    t.norm("ln_final", width);
    t.add("text_projection", &[width, width]);
    t.0
}

/// Weights that keep activations in range: uniform with variance 1/fan-in; norms 1, biases 0.
fn write_random(path: &Path, tensors: &Tensors) -> Result<()> {
    let entry = |(name, shape): &(String, Vec<usize>)| Entry {
        name: name.clone(),
        dtype: Dtype::F32,
        shape: Shape::from(shape.clone()),
    };
    let entries: Vec<Entry> = tensors.iter().map(entry).collect();
    let places = || entries.iter().enumerate();
    let shapes: BTreeMap<&str, (usize, &Shape)> =
        places().map(|(i, e)| (e.name.as_str(), (i, &e.shape))).collect();
    let rng = Philox::new(568);
    let noise: Vec<f32> =
        (0..1 << 18).map(|i| rng.uniform_at(Stream::StartCodes, 0, i) as f32 * 2.0 - 1.0).collect();
    write(path, &BTreeMap::new(), &entries, |name| {
        let (place, shape) = shapes[name];
        let fan_in: usize = shape.iter().skip(1).product();
        let scale = if shape.rank() > 1 { (3.0 / fan_in as f32).sqrt() } else { 0.0 };
        let base = if shape.rank() == 1 && name.ends_with("weight") { 1.0 } else { 0.0 };
        // From elsewhere for each tensor: runtimes keep equal ones once, and would then read less memory.
        let noise = noise.iter().cycle().skip(place * 31 % noise.len()).take(noise.len());
        let block: Vec<u8> = noise.flat_map(|v| (base + v * scale).to_le_bytes()).collect();
        let mut bytes = block.repeat((shape.len() * 4).div_ceil(block.len()));
        bytes.truncate(shape.len() * 4);
        Ok(Cow::Owned(bytes))
    })?;
    Ok(())
}

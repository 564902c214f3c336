//! The tiny networks with a fourth channel, alpha, whose weights are made up: models of pictures with alpha.

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};
use softdimo::checkpoint::Checkpoint;
use softdimo::convert::{self, About, Source};
use softdimo::tensor::Tensor;

use super::checkpoints::{Tensors, safetensors, tensors};
use super::{data, maskbit, maskgen, maskgit, meissonic};

/// What transparent pixels of these models are seen against.
pub const BACKGROUND: [u8; 3] = [0x33, 0x66, 0x99];

/// Every group of three along `axis` of a tensor becomes four.
fn widened(tensor: &Tensor, axis: usize) -> Tensor {
    let values = tensor.to_f32();
    let mut shape = tensor.shape().to_vec();
    assert!(shape[axis].is_multiple_of(3), "{shape:?}");
    let inner: usize = shape[axis + 1..].iter().product();
    let largest = values.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
    let made_up = |i: usize| ((i * 2_654_435_761 % 1009) as f32 / 504.5 - 1.0) * largest;
    let mut all = Vec::new();
    for (group, three) in values.chunks(3 * inner).enumerate() {
        all.extend_from_slice(three);
        // A bias in the middle of the range, weights of either sign.
        all.extend((0..inner).map(|i| if shape.len() == 1 { 0.4 } else { made_up(group * inner + i + 1) }));
    }
    shape[axis] = shape[axis] / 3 * 4;
    Tensor::from_f32(shape, &all)
}

fn widen(tensors: &mut Tensors, axes: &[(&str, usize)]) {
    for (name, axis) in axes {
        let found = tensors.iter_mut().find(|(have, _)| have == name);
        let (_, tensor) = found.unwrap_or_else(|| panic!("no {name}"));
        *tensor = widened(tensor, *axis);
    }
}

/// The convolutions at both ends of a convolutional tokenizer.
const ENDS: [(&str, usize); 3] =
    [("encoder.conv_in.weight", 1), ("decoder.conv_out.weight", 0), ("decoder.conv_out.bias", 0)];

fn written(folder: &Path, name: &str, json: &Json) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, json.to_string()).unwrap();
    path
}

fn converted(source: Source, folder: &Path) -> PathBuf {
    let [r, g, b] = BACKGROUND;
    let background = Some(format!("#{r:02x}{g:02x}{b:02X}"));
    let output = folder.join(format!("{}-alpha.softdimo.safetensors", source.family));
    let about = About { background, ..source.about.clone() };
    convert::generator(&Source { about, ..source }, &output, |_, _| ()).unwrap();
    output
}

pub fn maskbit_model(folder: &Path) -> PathBuf {
    let mut all = tensors(&data("maskbit/tokenizer.safetensors"));
    // The official tokenizer's first convolution has no bias.
    widen(&mut all, &ENDS);
    let tokenizer = folder.join("maskbit-tokenizer.safetensors");
    safetensors(&tokenizer, &all);
    let generator = Checkpoint::open(data("maskbit/generator.safetensors")).unwrap();
    let mut config: Json = serde_json::from_str(&generator.metadata()["config"]).unwrap();
    config["num_channels"] = json!(4);
    let config = Some(written(folder, "maskbit.json", &config));
    converted(Source { tokenizer, config, ..maskbit::source() }, folder)
}

/// Nothing but the tensors says that there are four channels.
pub fn maskgit_model(folder: &Path) -> PathBuf {
    let last = Checkpoint::open(data("maskgit/last.ckpt")).unwrap();
    let names = last.names().filter(|name| !name.starts_with("loss."));
    let mut all: Tensors = names.map(|n| (n.to_string(), last.get(n).unwrap().to_tensor())).collect();
    widen(&mut all, &ENDS);
    let tokenizer = folder.join("maskgit-tokenizer.safetensors");
    safetensors(&tokenizer, &all);
    converted(Source { tokenizer, ..maskgit::source(folder, "pytorch_model.bin") }, folder)
}

pub fn meissonic_model(folder: &Path) -> PathBuf {
    let source = meissonic::source(folder);
    let mut all = meissonic::tensors("vqvae");
    widen(&mut all, &ENDS);
    let mut config = meissonic::config("vqvae");
    (config["in_channels"], config["out_channels"]) = (json!(4), json!(4));
    meissonic::diffusers(&source.tokenizer.join("vqvae"), &all, &config);
    converted(source, folder)
}

pub fn maskgen_model(folder: &Path) -> PathBuf {
    let source = maskgen::source(folder);
    let mut all = maskgen::tensors(&source.tokenizer);
    widen(
        &mut all,
        &[
            ("encoder.patch_embed.weight", 1),
            ("decoder.ffn.0.weight", 0),
            ("decoder.ffn.0.bias", 0),
            ("decoder.conv_out.weight", 0),
            ("decoder.conv_out.weight", 1),
            ("decoder.conv_out.bias", 0),
        ],
    );
    let tokenizer = folder.join("maskgen-tokenizer.safetensors");
    safetensors(&tokenizer, &all);
    let mut config = maskgen::config();
    config["model"]["vq_model"]["num_channels"] = json!(4);
    let config = Some(written(folder, "maskgen.json", &config));
    converted(Source { tokenizer, config, ..source }, folder)
}

//! Meissonic and diffusers' VQModel against the official code: every golden tensor, the gradient and three steps along
//! it, in ONNX Runtime LEAN and FAST, the forward pass also in the f64 evaluator. Then what those networks leave open:
//! variants, definitions, configurations; and the model file: conversion and the pipelines.

mod config;
mod convert;
mod definition;
mod pipeline;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use softdimo::checkpoint::Checkpoint;
use softdimo::families::meissonic::generator::{self, Conditioning};
use softdimo::families::meissonic::tokenizer;
use softdimo::graph::eval::Array;
use softdimo::graph::{Graph, Value, simplify};
use softdimo::nn::perturb;
use softdimo::tensor::Tensor;
use softdimo::weights::Weights;
use softdimo::{Engine, MemoryMode, Options};
use support::compute;
use support::{checkpoints, meissonic as files};

use super::{climbing, prompted};

fn data(name: &str) -> PathBuf {
    support::data("meissonic").join(name)
}

/// The tiny networks of the golden file.
fn configs() -> (generator::Config, tokenizer::Config) {
    let [transformer, vqvae] = ["transformer", "vqvae"].map(files::config);
    (serde_json::from_value(transformer).unwrap(), serde_json::from_value(vqvae).unwrap())
}

/// Generator and tokenizer in one file, as a model file holds them: their names do not collide. With `more`.
fn checkpoint(more: checkpoints::Tensors) -> Checkpoint {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.safetensors");
    let parts =
        ["transformer", "vqvae"].map(|part| checkpoints::tensors(&data(&format!("{part}.safetensors"))));
    checkpoints::safetensors(&path, &[parts.concat(), more].concat());
    Checkpoint::open(path).unwrap()
}

/// A golden batch.
struct Batch {
    file: Checkpoint,
    name: &'static str,
}

impl Batch {
    fn open(name: &'static str) -> Batch {
        Batch { file: Checkpoint::open(data("golden.safetensors")).unwrap(), name }
    }

    fn read(&self, name: &str) -> Tensor {
        let name = format!("{}/{name}", self.name);
        self.file.get(&name).unwrap_or_else(|| panic!("no {name}")).to_tensor()
    }
}

/// [B, D, P, P] → [B, P·P, D].
fn from_grid(g: &Graph, x: Value) -> Value {
    let s = g.shape(x);
    g.transpose(g.reshape(x, [s[0], s[1], s[2] * s[3]]).unwrap(), &[0, 2, 1]).unwrap()
}

/// What the generator is told in a batch.
fn told(g: &Graph, batch: &Batch) -> Conditioning {
    let fixed = |name: &str| g.constant(batch.read(&format!("in/{name}"))).unwrap();
    let b = batch.read("in/tokens").shape()[0];
    Conditioning {
        text: fixed("encoder_hidden_states"),
        pooled: fixed("pooled"),
        micro: fixed("micro_conds"),
        timestep: g.expand(fixed("timestep"), [b]).unwrap(),
    }
}

/// The values of a graph, its weights from `weights`, in the f64 evaluator.
fn evaluate(g: &Graph, weights: &Checkpoint) -> HashMap<String, Array> {
    compute::evaluate(weights, g, &Vec::new())
}

/// Largest absolute difference; NaN never passes for agreement.
fn distance(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |worst, d| if d > worst || d.is_nan() { d } else { worst })
}

/// The definition itself, without a runtime: the forward pass of a batch in f64.
#[test]
fn the_evaluator_agrees_with_the_golden_tensors() {
    let (weights, batch, (cfg, tok)) = (&checkpoint(Vec::new()), &Batch::open("b1"), &configs());
    let (g, w) = (&Graph::new(), &Weights::new(weights));
    let fixed = |name: &str| g.constant(batch.read(name)).unwrap();
    let (b, n) = (2, 16);
    let ids = |name: &str| g.reshape(fixed(name), [b, n]).unwrap();
    let told = told(g, batch);

    let e_clean = generator::embed(g, w, cfg, ids("in/tokens")).unwrap();
    let e_in = perturb(g, e_clean, from_grid(g, fixed("in/noise")), fixed("in/sigma")).unwrap();
    g.output("e_in", e_in);
    let z = generator::logits(g, w, cfg, e_in, told).unwrap();
    g.output("logits", z);
    let uncond = Conditioning {
        text: fixed("in/uncond_encoder_hidden_states"),
        pooled: fixed("in/uncond_pooled"),
        ..told
    };
    g.output("logits_uncond", generator::logits(g, w, cfg, e_in, uncond).unwrap());
    let p = g.softmax(z, 2).unwrap();
    let code = tokenizer::embed_soft(g, w, tok, p).unwrap();
    g.output("soft_emb_decoder", code);
    g.output("image_soft", tokenizer::decode(g, w, tok, code).unwrap());
    let soft = generator::embed_soft(g, w, cfg, p, g.scalar(1.0).unwrap()).unwrap();
    g.output("soft_emb_generator_e_in", soft);
    let code = tokenizer::embed_codes(g, w, tok, ids("out/tokens_argmax")).unwrap();
    g.output("image_hard", tokenizer::decode(g, w, tok, code).unwrap());
    let enc_z = tokenizer::encode(g, w, tok, fixed("in/enc_image")).unwrap();
    g.output("enc_z", enc_z);
    g.output("enc_indices", tokenizer::nearest_code(g, w, tok, enc_z).unwrap());

    let read: BTreeSet<String> = g.weights().into_iter().collect();
    assert_eq!(read, weights.names().map(String::from).collect(), "a weight is not read");
    for (name, found) in evaluate(&simplify(g).unwrap(), weights) {
        let mut expected = batch.read(&format!("out/{name}")).to_f64();
        if ["e_in", "soft_emb_generator_e_in"].contains(&&*name) {
            // [B, D, N] there
            let d = cfg.width();
            let flat = |i: usize| expected[i / (n * d) * n * d + i % d * n + i / d % n];
            expected = (0..b * n * d).map(flat).collect();
        }
        let worst = distance(&found.data, &expected);
        println!("{name:<26} {worst:.1e}");
        // The reference rounds the angles of timestep and micro conditions, up to 1024, to f32.
        assert!(if name == "enc_indices" { worst == 0.0 } else { worst < 2e-4 }, "{name}: {worst}");
    }
}

/// Every golden tensor of both batches through ONNX Runtime, with the gradient and three steps along it.
#[test]
fn every_golden_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let path = files::model(folder.path());
    for memory in [MemoryMode::Lean, MemoryMode::Fast] {
        let engine = Engine::open(&path, Options { memory, ..Options::default() }).unwrap();
        let result = engine.verify(data("golden.safetensors"), Some(1e-4)).unwrap();
        assert!(result.passed, "{:#?}", result.rows.iter().filter(|r| !r.passed).collect::<Vec<_>>());
        assert!(result.not_checked.is_empty(), "{:?}", result.not_checked);
        assert_eq!(result.rows.len(), 64);
        // The file's weights are f16, exactly: none of the slack that rounded weights have is needed.
        for row in &result.rows {
            println!("{memory:?} {:<40} {:.1e} {:.1e}", row.name, row.max_abs, row.relative);
            let (found, bound) = match row.name.rsplit('/').next().unwrap() {
                "tokens_argmax" | "enc_indices" => (row.max_abs, 0.0),
                "reward" => (row.max_abs, 2e-3),
                name if name.starts_with("grad_") => (row.relative, 1e-4),
                name if name.starts_with("e_in_") => (row.relative, 2e-4),
                // Three steps carry the gradient's noise into the picture.
                "image_final" => (row.max_abs, 1e-3),
                _ => (row.max_abs, 1e-4),
            };
            assert!(found <= bound, "{memory:?} {}: {found}", row.name);
        }
    }
}

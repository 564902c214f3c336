//! Full-size MaskBit (302 M parameters, random weights under the official names): it converts, opens lean in
//! milliseconds without taking memory, generates, and climbs with and without recomputation. Figures are printed;
//! what is bounded is opening, and what recomputation may change and must.
//! The other families are in their own files.

#[path = "full_size/maskgit.rs"]
mod maskgit;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use softdimo::checkpoint::safetensors::{Entry, write};
use softdimo::graph::{Graph, grad, grad_recomputing, simplify};
use softdimo::models::Condition;
use softdimo::rng::{Philox, Stream};
use softdimo::tensor::{Dtype, Shape, Tensor};
use softdimo::{Engine, Options};

/// configs/generator/maskbit_generator_14bit.yaml and its tokenizer, as JSON.
const CONFIG: &str = r#"{"img_size": 256, "hidden_dim": 1024, "depth": 24, "heads": 16, "mlp_dim": 4096,
    "nclass": 1000, "codebook_splits": 2, "use_prenorm": false, "token_size": 14, "num_channels": 3,
    "hidden_channels": 128, "channel_mult": [1, 1, 2, 2, 4], "num_resolutions": 5, "num_res_blocks": 2,
    "sample_with_conv": true, "input_stride": 16}"#;

type Tensors = Vec<(String, Vec<usize>)>;

fn generator() -> Tensors {
    let (d, mlp) = (1024, 4096);
    let mut t: Tensors = Vec::new();
    let mut add = |name: String, shape: &[usize]| t.push((name, shape.to_vec()));
    add("class_emb.weight".into(), &[1001, d]);
    add("input_proj.weight".into(), &[d, 14]);
    add("input_proj.bias".into(), &[d]);
    add("pos_emb".into(), &[1, 257, d]);
    let mut norms = vec!["first_layer.0".to_string(), "last_layer.2".to_string()];
    for i in 0..24 {
        let layer = format!("transformer.layers.{i}");
        add(format!("{layer}.0.mha.in_proj_weight"), &[3 * d, d]);
        add(format!("{layer}.0.mha.in_proj_bias"), &[3 * d]);
        add(format!("{layer}.0.mha.out_proj.weight"), &[d, d]);
        add(format!("{layer}.0.mha.out_proj.bias"), &[d]);
        add(format!("{layer}.1.net.0.weight"), &[mlp, d]);
        add(format!("{layer}.1.net.0.bias"), &[mlp]);
        add(format!("{layer}.1.net.2.weight"), &[d, mlp]);
        add(format!("{layer}.1.net.2.bias"), &[d]);
        norms.extend([format!("{layer}.0.norm"), format!("{layer}.1.norm")]);
    }
    for norm in norms {
        add(format!("{norm}.weight"), &[d]);
        add(format!("{norm}.bias"), &[d]);
    }
    add("last_layer.0.weight".into(), &[d, d]);
    add("last_layer.0.bias".into(), &[d]);
    add("prediction_layer.weight".into(), &[256, d]);
    add("prediction_layer.bias".into(), &[256]);
    t
}

fn res_blocks(t: &mut Tensors, stage: &str, mut channels: usize, out: usize) {
    for i in 0..2 {
        let block = format!("{stage}.res_blocks.{i}");
        for (norm, c) in [("norm1", channels), ("norm2", out)] {
            t.push((format!("{block}.{norm}.weight"), vec![c]));
            t.push((format!("{block}.{norm}.bias"), vec![c]));
        }
        t.push((format!("{block}.conv1.weight"), vec![out, channels, 3, 3]));
        t.push((format!("{block}.conv2.weight"), vec![out, out, 3, 3]));
        if channels != out {
            t.push((format!("{block}.nin_shortcut.weight"), vec![out, out, 1, 1]));
        }
        channels = out;
    }
}

fn tokenizer() -> Tensors {
    let width = [128, 128, 256, 256, 512];
    let mut t: Tensors = Vec::new();
    let conv = |t: &mut Tensors, name: &str, out: usize, inner: usize, k: usize| {
        t.push((format!("{name}.weight"), vec![out, inner, k, k]));
        t.push((format!("{name}.bias"), vec![out]));
    };
    t.push(("encoder.conv_in.weight".into(), vec![128, 3, 3, 3]));
    for level in 0..5 {
        let stage = format!("encoder.down.{level}");
        res_blocks(&mut t, &stage, width[level.max(1) - 1], width[level]);
        if level < 4 {
            conv(&mut t, &format!("{stage}.down_conv"), width[level], width[level], 3);
        }
    }
    res_blocks(&mut t, "encoder.mid", 512, 512);
    conv(&mut t, "encoder.conv_out", 14, 512, 1);
    conv(&mut t, "decoder.conv_in", 512, 14, 3);
    res_blocks(&mut t, "decoder.mid", 512, 512);
    let mut channels = 512;
    for (i, level) in (0..5).rev().enumerate() {
        let stage = format!("decoder.up.{i}");
        res_blocks(&mut t, &stage, channels, width[level]);
        channels = width[level];
        if level > 0 {
            conv(&mut t, &format!("{stage}.upsample_conv"), channels, channels, 3);
        }
    }
    conv(&mut t, "decoder.conv_out", 3, 128, 3);
    for (part, c) in [("encoder", 512), ("decoder", 128)] {
        t.push((format!("{part}.norm_out.weight"), vec![c]));
        t.push((format!("{part}.norm_out.bias"), vec![c]));
    }
    t
}

/// Weights that keep activations in range: uniform with variance 1/fan-in; norms 1, biases 0.
fn write_random(path: &Path, tensors: &Tensors, metadata: BTreeMap<String, String>) {
    let entry = |(name, shape): &(String, Vec<usize>)| Entry {
        name: name.clone(),
        dtype: Dtype::F32,
        shape: Shape::from(shape.clone()),
    };
    let entries: Vec<Entry> = tensors.iter().map(entry).collect();
    let rng = Philox::new(302);
    let noise: Vec<f32> =
        (0..1 << 18).map(|i| rng.uniform_at(Stream::StartCodes, 0, i) as f32 * 2.0 - 1.0).collect();
    write(path, &metadata, &entries, |name| {
        let entry = entries.iter().find(|e| e.name == name).unwrap();
        let fan_in: usize = entry.shape.iter().skip(1).product();
        let scale = if entry.shape.rank() > 1 { (3.0 / fan_in as f32).sqrt() } else { 0.0 };
        let base = if entry.shape.rank() == 1 && name.ends_with("weight") { 1.0 } else { 0.0 };
        let block: Vec<u8> = noise.iter().flat_map(|v| (base + v * scale).to_le_bytes()).collect();
        let mut bytes = block.repeat((entry.shape.len() * 4).div_ceil(block.len()));
        bytes.truncate(entry.shape.len() * 4);
        Ok(Cow::Owned(bytes))
    })
    .unwrap();
}

fn softdimo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_softdimo")).args(arguments).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "softdimo {arguments:?}: {out}{err}");
    out.into_owned()
}

/// Run `softdimo` and return the most memory it had beside mapped files, in KiB, as /proc shows it; 0 elsewhere.
fn peak_anonymous(arguments: &[&str]) -> i64 {
    let mut command = Command::new(env!("CARGO_BIN_EXE_softdimo"));
    let mut child = command.args(arguments).stdout(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let exit = loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("RssAnon:"));
        let anon = line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0);
        peak = anon.max(peak);
        match child.try_wait().unwrap() {
            Some(exit) => break exit,
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    assert!(exit.success(), "softdimo {arguments:?}");
    peak
}

/// Held by a test while it measures, and while its gigabytes lie on the disk.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number that follows `before` in a line of `softdimo bench`.
fn figure(report: &str, line: &str, before: &str) -> f64 {
    let line = report.lines().find(|l| l.starts_with(line)).unwrap();
    let rest = &line[line.find(before).unwrap() + before.len()..];
    rest.trim_start_matches([' ', '+']).split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn full_size_maskbit_opens_lean() {
    let _alone = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (generator_file, tokenizer_file, model) =
        (path("generator.safetensors"), path("tokenizer.safetensors"), path("full.softdimo.safetensors"));
    let tensors = generator();
    let parameters: usize = tensors.iter().map(|(_, s)| s.iter().product::<usize>()).sum();
    println!("generator: {parameters} parameters");
    assert!((300_000_000..306_000_000).contains(&parameters));
    write_random(Path::new(&generator_file), &tensors, BTreeMap::from([("config".into(), CONFIG.into())]));
    write_random(Path::new(&tokenizer_file), &tokenizer(), BTreeMap::new());
    softdimo(&[
        "convert",
        "maskbit",
        "--generator",
        &generator_file,
        "--tokenizer",
        &tokenizer_file,
        "-o",
        &model,
    ]);
    std::fs::remove_file(&generator_file).unwrap();
    std::fs::remove_file(&tokenizer_file).unwrap();

    for memory in ["lean", "fast"] {
        let report = softdimo(&["bench", "generate", "--model", &model, "--memory", memory, "--runs", "2"]);
        println!("{report}");
        if memory == "lean" {
            // The file is warm: conversion has just written it.
            let milliseconds = figure(&report, "open", "open");
            assert!(milliseconds < 200.0, "open: expected less than 200 ms, found {milliseconds}");
            let anon = figure(&report, "RssAnon", "RssAnon");
            assert!(anon < 60.0 * 1024.0, "RssAnon after open: expected less than 60 MB, found {anon} KiB");
        }
        let optimize = ["bench", "optimize", "--model", &model, "--memory", memory, "--runs", "2"];
        let plain = softdimo(&optimize);
        println!("{plain}");
        let again = softdimo(&[&optimize[..], &["--recompute"]].concat());
        println!("{again}");
        for (line, share) in [("activations", 0.5), ("RssAnon", 0.8)] {
            let [all, few] = [&plain, &again].map(|report| figure(report, line, line));
            assert!(few < share * all, "{memory} {line}: {few} KiB with recomputation, {all} without");
        }
    }
    the_gradient_is_the_same(&model);
}

/// ∂(mean square of the soft picture)/∂e_in with and without recomputation.
fn the_gradient_is_the_same(model: &str) {
    let engine = Engine::open(model, Options::default()).unwrap();
    let (a, w) = (engine.model().architecture(), engine.model().weights());
    let (l, s) = (a.layout(), w.at("student"));
    let rng = Philox::new(1);
    let mut e_in = vec![0f32; l.positions * l.embedding];
    rng.fill_gaussian(Stream::Perturbation, 0, &mut e_in);
    let gradient = |recompute: bool| -> Vec<f64> {
        let g = Graph::new();
        let e = g.input("e", Dtype::F32, [1, l.positions, l.embedding]).unwrap();
        let class = g.constant(Tensor::from_i64([1], &[207])).unwrap();
        let condition = Condition::class(a.embed_class(&g, &s, class).unwrap());
        let p = g.softmax(a.logits(&g, &s, e, &condition).unwrap(), 3).unwrap();
        let image = a.decode(&g, &w, a.soft_embedding(&g, &w, p).unwrap(), None).unwrap();
        let loss = g.reduce_mean(g.mul(image, image).unwrap(), &[0, 1, 2, 3]).unwrap();
        let differentiate = if recompute { grad_recomputing } else { grad };
        g.output("gradient", differentiate(&g, loss, &[e]).unwrap()[0]);
        let e_in = Tensor::from_f32([1, l.positions, l.embedding], &e_in);
        let mut results = engine.run_graph(simplify(&g).unwrap(), vec![("e".into(), e_in)]).unwrap();
        results.remove(0).1.to_f64()
    };
    let (plain, again) = (gradient(false), gradient(true));
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    let size = norm(&mut plain.iter().copied());
    let error = norm(&mut plain.iter().zip(&again).map(|(a, b)| a - b)) / size;
    println!("gradient of norm {size:.3e}; with recomputation {error:.1e} apart");
    assert!(size > 0.0 && error <= 1e-6, "{error}");
}

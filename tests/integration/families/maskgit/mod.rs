//! MaskGIT and its VQGAN against the official code: every golden tensor, in ONNX Runtime and, forward, in the
//! f64 evaluator; three steps along the reward's gradient. Then the same as a model file, through the pipelines.

mod pipeline;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use softdimo::MemoryMode;
use softdimo::checkpoint::Checkpoint;
use softdimo::checkpoint::safetensors::{Entry, write};
use softdimo::families::maskgit::generator as maskgit;
use softdimo::families::maskgit::tokenizer as taming_vqgan;
use softdimo::graph::{Graph, Value, grad, simplify};
use softdimo::nn::perturb;
use softdimo::tensor::{Dtype, Tensor};
use softdimo::weights::Weights;
use support::compare::difference;
use support::compute::{BACKENDS, Named, compute, run};

fn data() -> PathBuf {
    support::data("maskgit")
}

/// The tiny generator and its tokenizer, in one f32 file, and what they should compute.
struct Fixture {
    generator: maskgit::Config,
    tokenizer: taming_vqgan::Config,
    weights: Arc<Checkpoint>,
    golden: Checkpoint,
    _folder: tempfile::TempDir,
}

impl Fixture {
    fn open(data: &Path) -> Fixture {
        let parts =
            ["generator.safetensors", "last.ckpt"].map(|part| Checkpoint::open(data.join(part)).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("both.safetensors");
        let view = |name: &str| parts.iter().find_map(|p| p.get(name)).unwrap();
        let names = parts.iter().flat_map(|p| p.names().map(String::from));
        let entries: Vec<Entry> =
            names.map(|name| Entry { dtype: Dtype::F32, shape: view(&name).shape.clone(), name }).collect();
        let bytes = |name: &str| view(name).to_f32().iter().flat_map(|x| x.to_le_bytes()).collect();
        write(&path, &BTreeMap::new(), &entries, |name| Ok(Cow::Owned(bytes(name)))).unwrap();
        let config = &parts[0].metadata()["config"];
        let fixture = Fixture {
            generator: serde_json::from_str(config).unwrap(),
            tokenizer: serde_json::from_str(config).unwrap(),
            weights: Arc::new(Checkpoint::open(&path).unwrap()),
            golden: Checkpoint::open(data.join("golden.safetensors")).unwrap(),
            _folder: folder,
        };
        fixture.generator.validate("the test").unwrap();
        fixture.tokenizer.validate("the test").unwrap();
        fixture
    }

    fn golden(&self, name: &str) -> Tensor {
        self.golden.get(name).unwrap_or_else(|| panic!("no golden '{name}'")).to_tensor()
    }

    /// Tokens of the golden file, a grid there, in a row.
    fn tokens(&self, name: &str) -> Tensor {
        let t = self.golden(name);
        t.reshaped([t.shape()[0], self.generator.positions()]).unwrap()
    }

    /// Labels, the null class where they are dropped.
    fn class(&self, batch: &str) -> Tensor {
        let labels = self.golden(&format!("{batch}/in/labels"));
        let dropped = self.golden(&format!("{batch}/in/drop_label")).to_i64();
        let null = self.generator.nclass as i64;
        let pairs = labels.to_i64().into_iter().zip(dropped);
        let class: Vec<i64> = pairs.map(|(label, dropped)| if dropped > 0 { null } else { label }).collect();
        Tensor::from_i64(labels.shape().clone(), &class)
    }
}

/// Graph inputs with the tensors to feed.
#[derive(Default)]
struct Inputs(Named);

impl Inputs {
    fn add(&mut self, g: &Graph, name: &str, t: Tensor) -> Value {
        let value = g.input(name, t.dtype(), t.shape().clone()).unwrap();
        self.0.push((name.into(), t));
        value
    }
}

/// One graph with every golden tensor of a batch that needs no gradient, under its name.
fn forward(f: &Fixture, batch: &str) -> (Graph, Named) {
    let (g, w, cfg, tok) = (Graph::new(), Weights::new(&f.weights), &f.generator, &f.tokenizer);
    let mut inputs = Inputs::default();
    let read = |name: &str| f.golden(&format!("{batch}/in/{name}"));
    let v = cfg.codebook_size;
    let integer = |x: usize| g.constant(Tensor::from_i64([1], &[x as i64])).unwrap();

    let tokens = inputs.add(&g, "tokens", f.tokens(&format!("{batch}/in/tokens")));
    let b = g.shape(tokens)[0];
    let class = inputs.add(&g, "class", f.class(batch));
    let (noise, sigma) = (inputs.add(&g, "noise", read("noise")), inputs.add(&g, "sigma", read("sigma")));
    let class = maskgit::embed_class(&g, &w, cfg, class).unwrap();
    g.output("class_embedding", class);
    let e_clean = maskgit::embed(&g, &w, cfg, tokens).unwrap();
    g.output("e_clean", e_clean);
    let logits = |e: Value, class: Value| maskgit::logits(&g, &w, cfg, e, class).unwrap();
    g.output("logits_clean", logits(e_clean, class));
    let e_in = perturb(&g, e_clean, noise, sigma).unwrap();
    g.output("e_in", e_in);
    g.output("tteo/e_in_0", e_in);
    let null = g.expand(integer(cfg.nclass), [b]).unwrap();
    let null = maskgit::embed_class(&g, &w, cfg, null).unwrap();
    g.output("logits_uncond", logits(e_in, null));
    let z = logits(e_in, class);
    g.output("logits", z);
    let argmax = g.arg_max(z, 2).unwrap();
    g.output("tokens_argmax_raw", argmax);
    g.output("tokens_argmax", g.min(argmax, integer(v - 1)).unwrap());

    // The library's reading: no mask, the softmax over codes.
    let codes = maskgit::code_logits(&g, cfg, z).unwrap();
    g.output("code_argmax", g.arg_max(codes, 2).unwrap());
    let p = g.softmax(codes, 2).unwrap();
    let decode = |code: Value| taming_vqgan::decode(&g, &w, tok, code).unwrap();
    let soft = taming_vqgan::embed_soft(&g, &w, tok, p).unwrap();
    g.output("soft_emb_decoder", soft);
    g.output("image_soft", decode(soft));
    let one = g.scalar(1.0).unwrap();
    let soft = maskgit::embed_soft(&g, &w, cfg, p, one).unwrap();
    g.output("soft_emb_generator", soft);
    g.output("logits_from_soft_emb_generator", logits(soft, class));

    // The other reading: the mask keeps its share of the softmax.
    let with_mask = g.softmax(z, 2).unwrap();
    let soft = taming_vqgan::embed_soft(&g, &w, tok, g.slice(with_mask, 2, 0, v).unwrap()).unwrap();
    g.output("soft_emb_decoder_trunc", soft);
    g.output("image_soft_trunc", decode(soft));
    let shown = g.sub(one, g.slice(with_mask, 2, v, v + 1).unwrap()).unwrap(); // [B, N, 1]
    g.output("soft_emb_generator_withmask", maskgit::embed_soft(&g, &w, cfg, p, shown).unwrap());

    // Of certain tokens, the soft embedding is the embedding.
    let certain = g.one_hot(tokens, v).unwrap();
    let masked = g.equal(tokens, integer(v)).unwrap();
    let shown = g.where_(masked, g.scalar(0.0).unwrap(), one).unwrap();
    let shown = g.reshape(shown, [b, cfg.positions(), 1]).unwrap();
    g.output("e_clean of certain tokens", maskgit::embed_soft(&g, &w, cfg, certain, shown).unwrap());

    let code = |inputs: &mut Inputs, name: &str| {
        let tokens = inputs.add(&g, &format!("{name} given"), f.tokens(&format!("{batch}/out/{name}")));
        taming_vqgan::embed_codes(&g, &w, tok, tokens).unwrap()
    };
    let image = decode(code(&mut inputs, "tokens_argmax"));
    g.output("image_hard", image);
    g.output("image_hard in [0, 1]", taming_vqgan::to_unit_range(&g, image).unwrap());
    g.output("enc_recon", decode(code(&mut inputs, "enc_indices")));
    let image = read("enc_image");
    let unit: Vec<f32> = image.to_f64().iter().map(|x| (x / 2.0 + 0.5) as f32).collect();
    let image = inputs.add(&g, "enc_image", Tensor::from_f32(image.shape().clone(), &unit));
    let image = taming_vqgan::from_unit_range(&g, image).unwrap();
    let z = taming_vqgan::encode(&g, &w, tok, image).unwrap();
    g.output("enc_z", z);
    g.output("enc_indices", taming_vqgan::nearest_code(&g, &w, tok, z).unwrap());
    (simplify(&g).unwrap(), inputs.0)
}

/// What a result under a name of the test's own should be.
fn expected(f: &Fixture, batch: &str, name: &str) -> Tensor {
    let read = |name: &str| f.golden(&format!("{batch}/out/{name}"));
    match name {
        "e_clean of certain tokens" => read("e_clean"),
        "image_hard in [0, 1]" => {
            let image = read("image_hard");
            let unit: Vec<f32> = image.to_f64().iter().map(|x| (x / 2.0 + 0.5) as f32).collect();
            Tensor::from_f32(image.shape().clone(), &unit)
        }
        "code_argmax" => {
            let (logits, width) = (read("logits").to_f64(), f.generator.codebook_size + 1);
            let best = |row: &[f64]| {
                let codes = &row[..width - 1];
                (0..codes.len()).fold(0, |best, k| if codes[k] > codes[best] { k } else { best }) as i64
            };
            let ids: Vec<i64> = logits.chunks_exact(width).map(best).collect();
            Tensor::from_i64([ids.len()], &ids)
        }
        golden => read(golden),
    }
}

const BATCHES: [&str; 2] = ["b0", "b1"];

#[test]
fn every_golden_tensor() {
    let f = Fixture::open(&data());
    for batch in BATCHES {
        let (g, inputs) = forward(&f, batch);
        let outputs = g.outputs();
        for name in f.golden.names().filter_map(|n| n.strip_prefix(&format!("{batch}/out/"))) {
            let of_gradient = name.starts_with("tteo/") || ["grad_e_in", "reward"].contains(&name);
            assert!(of_gradient || outputs.iter().any(|(n, _)| n == name), "{batch} {name}: not computed");
        }
        for backend in BACKENDS {
            let found = compute(backend, &f.weights, &g, &inputs);
            assert_eq!(found.len(), outputs.len());
            for (name, _) in &outputs {
                let expected = expected(&f, batch, name);
                let (absolute, relative) = difference(&found[name].data, &expected.to_f64());
                println!("{batch} {backend:?} {name:<32} {absolute:.1e} {relative:.1e}");
                let bound = if expected.dtype() == Dtype::I64 { 0.0 } else { 1e-4 };
                assert!(absolute <= bound, "{batch} {backend:?} {name}: {absolute}");
            }
        }
    }
}

/// R = mean(image_soft · target), its gradient, and e + 0.2·∂R/∂e.
fn climb(f: &Fixture, batch: &str) -> (Graph, Named) {
    let (g, w, cfg, tok) = (Graph::new(), Weights::new(&f.weights), &f.generator, &f.tokenizer);
    let mut inputs = Inputs::default();
    let e = inputs.add(&g, "e", f.golden(&format!("{batch}/out/e_in")));
    let target = inputs.add(&g, "target", f.golden(&format!("{batch}/in/target")));
    let class = inputs.add(&g, "class", f.class(batch));
    let class = maskgit::embed_class(&g, &w, cfg, class).unwrap();
    let logits = maskgit::logits(&g, &w, cfg, e, class).unwrap();
    let p = g.softmax(maskgit::code_logits(&g, cfg, logits).unwrap(), 2).unwrap();
    let soft = taming_vqgan::embed_soft(&g, &w, tok, p).unwrap();
    let image = taming_vqgan::decode(&g, &w, tok, soft).unwrap();
    let reward = g.reduce_mean(g.mul(image, target).unwrap(), &[0, 1, 2, 3]).unwrap();
    let gradient = grad(&g, reward, &[e]).unwrap()[0];
    g.output("image", image);
    g.output("reward", reward);
    g.output("gradient", gradient);
    g.output("next", g.add(e, g.mul_scalar(gradient, 0.2).unwrap()).unwrap());
    (simplify(&g).unwrap(), inputs.0)
}

#[test]
fn three_steps_along_the_gradient() {
    let f = Fixture::open(&data());
    for (batch, memory) in BATCHES.iter().flat_map(|b| [(*b, MemoryMode::Lean), (*b, MemoryMode::Fast)]) {
        let (g, mut inputs) = climb(&f, batch);
        let mut rewards = Vec::new();
        let check = |name: &str, found: &[f64], bound: f64| {
            let expected = f.golden(&format!("{batch}/out/{name}")).to_f64();
            let (absolute, relative) = difference(found, &expected);
            println!("{batch} {memory:?} {name:<16} {absolute:.1e} {relative:.1e}");
            let of_embeddings = name.contains("grad_") || name.contains("e_in_");
            let error = if of_embeddings { relative } else { absolute };
            assert!(error < bound, "{batch} {memory:?} {name}: {absolute} {relative}");
        };
        for k in 0..=3 {
            let found = run(memory, &f.weights, &g, &inputs);
            rewards.extend(found["reward"].to_f64());
            let gradient = found["gradient"].to_f64();
            match k {
                0 => {
                    check("grad_e_in", &gradient, 1e-4);
                    check("reward", &rewards, 2e-3);
                    check("tteo/grad_0", &gradient, 1e-4);
                }
                1 => check("tteo/grad_1", &gradient, 1e-4),
                2 => check("tteo/grad_2", &gradient, 1e-4),
                // Three steps carry the gradient's noise into the picture.
                _ => check("tteo/image_final", &found["image"].to_f64(), 1e-3),
            }
            if k < 3 {
                check(&format!("tteo/e_in_{}", k + 1), &found["next"].to_f64(), 2e-4);
            }
            inputs[0].1 = found["next"].clone();
        }
        check("tteo/reward", &rewards, 2e-3);
    }
}

/// One wrong size at a time is refused by its name.
#[test]
fn sizes_that_contradict_each_other_are_refused() {
    let f = Fixture::open(&data());
    let generator = serde_json::to_value(&f.generator).unwrap();
    for (key, value) in [("img_size", 72), ("heads", 5), ("depth", 0), ("nclass", 1 << 30)] {
        let mut json = generator.clone();
        json[key] = value.into();
        let cfg: maskgit::Config = serde_json::from_value(json).unwrap();
        let message = cfg.validate("f.json").unwrap_err().to_string();
        assert!(message.starts_with(&format!("f.json: config '{key}': expected ")), "{message}");
        assert!(message.ends_with(&format!("found {value}")), "{message}");
    }
    let tokenizer = serde_json::to_value(&f.tokenizer).unwrap();
    for (key, value) in [
        ("ch", serde_json::json!(48)),
        ("ch_mult", serde_json::json!([])),
        ("double_z", serde_json::json!(true)),
        ("out_ch", serde_json::json!(5)),
        ("resolution", serde_json::json!(9)),
    ] {
        let mut json = tokenizer.clone();
        json["ddconfig"][key] = value.clone();
        let cfg: taming_vqgan::Config = serde_json::from_value(json).unwrap();
        let message = cfg.validate("f.json").unwrap_err().to_string();
        assert!(message.starts_with(&format!("f.json: config 'ddconfig.{key}': expected ")), "{message}");
        assert!(message.ends_with(&format!("found {value}")), "{message}");
    }
}

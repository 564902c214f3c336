//! The same networks as a model file: conversion from every published layout, verification, and the pipelines
//! against the golden tensors.

use std::ops::ControlFlow;
use std::sync::OnceLock;

use softdimo::checkpoint::Checkpoint;
use softdimo::convert::{self, Source};
use softdimo::{Decode, Engine, Label, MemoryMode, Optimize, Options, Request, Reward, RewardTerm};
use softdimo::{Edit, Keep};

use support::compare::{assert_close, difference};
use support::maskgit::{model as convert, source};
use support::tokens;

use super::{BATCHES, data};

/// Classes of the fixture; the null class has this id.
const CLASSES: u32 = 7;

/// The model, for all tests together: they queue up on its worker.
fn model() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        Engine::open(convert(folder.path(), "pytorch_model.bin"), Options::default()).unwrap()
    })
}

#[test]
fn every_published_layout_gives_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let files = ["pytorch_model.bin", "MaskGIT.pth", "generator.safetensors"]
        .map(|generator| std::fs::read(convert(folder.path(), generator)).unwrap());
    assert!(files[0] == files[1], "a bare state dict differs from a training checkpoint's");
    assert!(files[0] == files[2], "a PyTorch file differs from safetensors");
    let full = Source { config: None, ..source(folder.path(), "generator.safetensors") };
    let output = folder.path().join("full.softdimo.safetensors");
    convert::generator(&full, &output, |_, _| ()).unwrap();
    assert!(
        files[0] == std::fs::read(&output).unwrap(),
        "the tensors' sizes differ from the configuration's"
    );
    let file = Checkpoint::open(&output).unwrap();
    assert!(file.names().all(|name| !name.contains("loss.")));

    // No tensor shows the heads: without a configuration they are asked for.
    let bare = Source { config: None, ..source(folder.path(), "MaskGIT.pth") };
    let error = convert::generator(&bare, &output, |_, _| ()).unwrap_err().to_string();
    assert!(error.contains("config 'heads': expected the number of attention heads, by --heads"), "{error}");
    convert::generator(&Source { heads: Some(4), ..bare }, &output, |_, _| ()).unwrap();
    assert!(
        files[0] == std::fs::read(&output).unwrap(),
        "heads given alone differ from those of a configuration"
    );
}

/// A tokenizer without its encoder: `ch` is not in it, the products are.
#[test]
fn a_decoder_alone_decodes() {
    use softdimo::checkpoint::safetensors::{Entry, write};
    use std::{borrow::Cow, collections::BTreeMap};
    let folder = tempfile::tempdir().unwrap();
    let full = Checkpoint::open(data().join("last.ckpt")).unwrap();
    let names = full.names().filter(|n| !n.starts_with("encoder.") && !n.starts_with("quant_conv."));
    let entries: Vec<Entry> = names
        .map(|name| full.get(name).map(|v| Entry { name: name.into(), dtype: v.dtype, shape: v.shape }))
        .collect::<Option<_>>()
        .unwrap();
    let path = folder.path().join("decoder.safetensors");
    write(&path, &BTreeMap::new(), &entries, |n| Ok(Cow::Borrowed(full.get(n).unwrap().data))).unwrap();
    let source = Source { tokenizer: path, ..source(folder.path(), "pytorch_model.bin") };
    let output = folder.path().join("decoder.softdimo.safetensors");
    convert::generator(&source, &output, |_, _| ()).unwrap();
    let engine = Engine::open(&output, Options::default()).unwrap();
    let request = Request::class(3).with_seed(1);
    let (alone, full) = (engine.generate(&request).unwrap(), model().generate(&request).unwrap());
    assert_eq!(alone.images.to_f32(), full.images.to_f32());
    let message = engine.encode(&vec![0.5; 3 * 64]).unwrap_err().to_string();
    assert!(message.starts_with("'encode' on this model is not supported"), "{message}");
}

#[test]
fn what_is_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("x.softdimo.safetensors");
    let good = source(folder.path(), "pytorch_model.bin");
    let fails = |source: Source| convert::generator(&source, &output, |_, _| ()).unwrap_err().to_string();
    let swapped = Source { tokenizer: data().join("pytorch_model.bin"), ..good.clone() };
    let message = fails(swapped);
    assert!(
        message.contains("a taming VQGAN's tensors, such as 'post_quant_conv.weight'")
            && message.contains("pytorch_model.bin"),
        "{message}"
    );
    let swapped = Source { generator: Some(data().join("last.ckpt")), ..good.clone() };
    let message = fails(swapped);
    assert!(message.contains("'tok_emb.weight'") && message.contains("last.ckpt"), "{message}");
    let config = folder.path().join("codes.json");
    std::fs::write(&config, r#"{"codebook_size": 47, "nclass": 8, "heads": 4}"#).unwrap();
    let message = fails(Source { config: Some(config.clone()), ..good.clone() });
    assert!(message.contains("'codebook_size': expected the tokenizer's n_embed 48, found 47"), "{message}");
    std::fs::write(&config, "[1]").unwrap();
    let message = fails(Source { config: Some(config), ..good });
    assert!(message.contains("config 'config': expected a JSON object, found [1]"), "{message}");
    assert!(!output.exists());
}

/// The weights are f16 numbers, so nothing but f32 rounding may differ: bounds are those of an f32 model.
#[test]
fn verify_passes() {
    let folder = tempfile::tempdir().unwrap();
    let path = convert(folder.path(), "MaskGIT.pth");
    for memory in [MemoryMode::Lean, MemoryMode::Fast] {
        let engine = Engine::open(&path, Options { memory, ..Options::default() }).unwrap();
        let result = engine.verify(data().join("golden.safetensors"), Some(1e-4)).unwrap();
        for row in &result.rows {
            println!("{memory:?} {:<40} {:.1e} {:.1e}", row.name, row.max_abs, row.relative);
            let of_gradient = row.name.contains("grad_") || row.name.contains("tteo/e_in");
            assert!(row.passed && (!of_gradient || row.relative < 1e-4), "{row:?}");
        }
        assert!(result.passed && result.not_checked.is_empty(), "{:?}", result.not_checked);
        assert_eq!(result.rows.len(), 60);
    }
}

/// Golden tensors of a batch, pictures in the library's range.
struct Golden {
    file: Checkpoint,
    batch: &'static str,
}

impl Golden {
    fn open(batch: &'static str) -> Golden {
        Golden { file: Checkpoint::open(data().join("golden.safetensors")).unwrap(), batch }
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.file.get(&format!("{}/{name}", self.batch)).unwrap().to_f32()
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        let ids = self.file.get(&format!("{}/{name}", self.batch)).unwrap().to_i64();
        ids.into_iter().map(|id| id as u32).collect()
    }

    /// [−1, 1] → [0, 1]
    fn picture(&self, name: &str) -> Vec<f32> {
        self.floats(name).into_iter().map(|x| x / 2.0 + 0.5).collect()
    }

    /// Arg-max without noise, from the golden start.
    fn request(&self) -> Request {
        let labels = self.ids("in/labels").into_iter().zip(self.ids("in/drop_label"));
        let labels: Vec<Label> =
            labels.map(|(l, dropped)| Label::Class(if dropped > 0 { CLASSES } else { l })).collect();
        Request { batch: labels.len(), labels, temperature: Some(0.0), ..Request::default() }
    }
}

/// From tokens, from an embedding, hard and soft. Where the mask is the most probable token, the best code is
/// taken instead.
#[test]
fn one_step_makes_the_golden_pictures() {
    for golden in BATCHES.map(Golden::open) {
        let logits = golden.floats("out/logits");
        let best = |row: &[f32]| (0..48).fold(0, |best, k| if row[k] > row[best] { k } else { best }) as u32;
        let codes: Vec<u32> = logits.chunks_exact(49).map(best).collect();
        let start = Request { e_in: Some(golden.floats("out/e_in")), ..golden.request() };
        let done = model().generate(&start).unwrap();
        assert_eq!(tokens(&done), codes);
        let raw = golden.ids("out/tokens_argmax_raw");
        assert!(raw.contains(&48) && raw.iter().zip(&codes).all(|(raw, code)| raw == code || *raw == 48));
        let soft = model().generate(&Request { decode: Decode::Soft, ..start }).unwrap();
        assert_close(&soft.images.to_f32(), &golden.picture("out/image_soft"), 1e-4, "soft picture");
        if golden.floats("in/sigma") == [0.0] {
            let tokens = Some(golden.ids("in/tokens"));
            let request = Request { start_tokens: tokens, sigma: Some(0.0), ..golden.request() };
            let done = model().generate(&request).unwrap();
            assert_eq!(done.picture_e_in(0).unwrap(), &golden.floats("out/e_clean")[..16 * 32]);
            assert_eq!(done.tokens.to_i64(), codes.iter().map(|&c| i64::from(c)).collect::<Vec<_>>());
        }
    }
}

/// Keeping all of a picture is the tokenizer's reconstruction, keeping nothing is plain generation.
#[test]
fn edits_keep_what_they_should() {
    let golden = Golden::open("b1");
    let (ids, n) = (golden.ids("out/enc_indices"), 16);
    let (pictures, rebuilt) = (golden.picture("in/enc_image"), golden.picture("out/enc_recon"));
    let size = 3 * 64;
    for i in 0..3 {
        let image = pictures[i * size..(i + 1) * size].to_vec();
        let known = &ids[i * n..(i + 1) * n];
        assert_eq!(model().encode(&image).unwrap(), known);
        let edit = |keep| Request {
            edit: Some(Edit { image: image.clone(), keep }),
            ..Request::class(2).with_seed(8)
        };
        let all = model().generate(&edit(Keep::Share(1.0))).unwrap();
        assert_eq!(tokens(&all), known);
        assert_close(&all.images.to_f32(), &rebuilt[i * size..(i + 1) * size], 1e-4, "reconstruction");
        let none = model().generate(&edit(Keep::Share(0.0))).unwrap();
        let plain = model().generate(&Request::class(2).with_seed(8)).unwrap();
        assert_eq!((tokens(&none), none.images.to_f32()), (tokens(&plain), plain.images.to_f32()));
        // The lower half is painted anew: two of the four rows of tokens.
        let mask = (0..64).map(|pixel| if pixel < 32 { 0.0 } else { 1.0 }).collect();
        let half = tokens(&model().generate(&edit(Keep::Outside(mask))).unwrap());
        assert!(half[..8] == known[..8] && half[8..] != known[8..]);
    }
}

/// The teacher unmasks everything, under guidance and without, and its seed decides.
#[test]
fn the_teacher_samples() {
    let request = Request { steps: 4, batch: 2, ..Request::class(5).with_seed(3) };
    let done = model().generate(&request).unwrap();
    assert!(tokens(&done).iter().all(|&t| t < 48));
    assert_eq!(tokens(&done), tokens(&model().generate(&request).unwrap()));
    let unguided = model().generate(&Request { guidance_scale: Some(0.0), ..request.clone() }).unwrap();
    assert_ne!(tokens(&done), tokens(&unguided));
    assert_ne!(tokens(&done), tokens(&model().generate(&request.with_seed(4)).unwrap()));
}

/// The official code's three steps, by the loop of the product: the golden reward as a callback. It is a mean
/// over the batch, so every picture's own mean has the weight 1/B; and it is of pictures in [−1, 1].
#[test]
fn golden_trajectory() {
    for golden in BATCHES.map(Golden::open) {
        let request = golden.request();
        let (target, b) = (golden.floats("in/target"), request.batch);
        let values = target.len() / b;
        let reward = Reward::callback(move |image, answer| {
            answer.scores.fill(0.0);
            for (i, (x, t)) in image.pixels.iter().zip(&target).enumerate() {
                answer.scores[i / values] += (2.0 * x - 1.0) * t / values as f32;
                answer.gradient[i] = 2.0 * t / values as f32;
            }
            ControlFlow::Continue(())
        });
        let terms = vec![RewardTerm::new(reward, 1.0 / b as f32)];
        let request = Request {
            e_in: Some(golden.floats("out/e_in")),
            optimize: Some(Optimize::new(terms, 3)),
            ..request
        };
        let done = model().generate(&request).unwrap();
        let course = done.report.optimization.as_ref().unwrap();
        for (iteration, expected) in course.iterations.iter().zip(golden.floats("out/tteo/reward")) {
            let found: f32 = iteration.total.iter().sum();
            println!("{} step {}: {found} {expected}", golden.batch, iteration.step);
            assert!((found - expected).abs() <= 2e-3, "{found} is not {expected}");
        }
        let last: Vec<usize> = (0..b).filter(|&i| course.best_step[i] == 3).collect();
        assert!(!last.is_empty(), "{:?}", course.best_step);
        let expected = golden.floats("out/tteo/e_in_3");
        let size = expected.len() / b;
        let wide = |v: &[f32]| v.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        for i in last {
            let found = done.picture_e_in(i).unwrap();
            let (_, relative) = difference(&wide(found), &wide(&expected[i * size..(i + 1) * size]));
            assert!(relative <= 2e-4, "{} picture {i}: {relative}", golden.batch);
        }
    }
}

/// The prior reads soft tokens, hidden ones masked, with the teacher: its gradient is uphill.
#[test]
fn the_prior_climbs() {
    let terms = vec![RewardTerm::new(Reward::Prior { seed: 1 }, 1.0)];
    let optimize = Some(Optimize { lr: 0.5, ..Optimize::new(terms, 6) });
    let done = model().generate(&Request { optimize, ..Request::class(1).with_seed(2) }).unwrap();
    let course = done.report.optimization.as_ref().unwrap();
    let totals: Vec<f32> = course.iterations.iter().map(|i| i.total[0]).collect();
    println!("{totals:?}");
    assert!(totals.iter().all(|t| *t <= 0.0) && totals[6] > totals[0], "{totals:?}");
}

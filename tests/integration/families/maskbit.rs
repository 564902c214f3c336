//! MaskBit against the official code: every golden tensor, both batches, LEAN and FAST; conversion from
//! safetensors and from PyTorch files; the bundled model; the teacher's sampler against a plain reference.

use softdimo::convert::{self, Source};
use softdimo::families::condition::Condition;
use softdimo::{Decode, Engine, Label, MemoryMode, Options, Request, WeightsMode};
use support::maskbit::model as fixture;
use support::{bundled, data};

#[test]
fn every_golden_tensor_of_maskbit() {
    let folder = tempfile::tempdir().unwrap();
    let model = fixture(folder.path());
    for memory in [MemoryMode::Lean, MemoryMode::Fast] {
        let engine = Engine::open(&model, Options { memory, ..Options::default() }).unwrap();
        let result = engine.verify(data("maskbit/golden.safetensors"), None).unwrap();
        for row in &result.rows {
            println!("{memory:?} {:<40} {:.2e} {:.2e}", row.name, row.max_abs, row.relative);
        }
        assert!(result.passed, "{:#?}", result.rows.iter().filter(|r| !r.passed).collect::<Vec<_>>());
        let checked: Vec<&str> = result.rows.iter().map(|r| r.name.as_str()).collect();
        for batch in ["b0", "b1"] {
            for name in [
                "e_in",
                "logits",
                "logits_uncond",
                "soft_emb_decoder",
                "soft_emb_generator",
                "image_hard",
                "image_soft",
                "tokens_argmax",
                "enc_indices",
                "enc_recon",
            ] {
                assert!(
                    checked.contains(&format!("{batch}/out/{name}").as_str()),
                    "{batch}/{name} not checked"
                );
            }
        }
    }
}

/// A verification that cannot fail proves nothing: one changed weight must be noticed.
#[test]
fn verify_notices_a_wrong_weight() {
    let folder = tempfile::tempdir().unwrap();
    let model = fixture(folder.path());
    let file = softdimo::checkpoint::Checkpoint::open(&model).unwrap();
    let (offset, _) = file.tensor_range("decoder.conv_out.bias").unwrap();
    drop(file);
    let mut bytes = std::fs::read(&model).unwrap();
    bytes[offset..offset + 4].copy_from_slice(&1.0f32.to_le_bytes());
    std::fs::write(&model, bytes).unwrap();
    let engine = Engine::open(&model, Options::default()).unwrap();
    let result = engine.verify(data("maskbit/golden.safetensors"), None).unwrap();
    assert!(!result.passed);
    let failed: Vec<&str> = result.rows.iter().filter(|r| !r.passed).map(|r| r.name.as_str()).collect();
    assert!(failed.contains(&"b0/out/image_hard") && !failed.contains(&"b0/out/logits"), "{failed:?}");
}

#[test]
fn conversion_does_not_depend_on_the_container() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for generator in ["generator.safetensors", "generator.bin", "generator.legacy.bin"] {
        let output = folder.path().join(format!("{generator}.softdimo.safetensors"));
        let config = folder.path().join("config.json");
        let official = softdimo::checkpoint::Checkpoint::open(data("maskbit/generator.safetensors")).unwrap();
        std::fs::write(&config, &official.metadata()["config"]).unwrap();
        let source = Source {
            generator: Some(data(&format!("maskbit/{generator}"))),
            tokenizer: data("maskbit/tokenizer.safetensors"),
            config: Some(config),
            ..Source::new("maskbit")
        };
        convert::generator(&source, &output, |_, _| ()).unwrap();
        files.push(std::fs::read(output).unwrap());
    }
    assert!(files[0] == files[1], "zip .bin differs from safetensors");
    assert!(files[0] == files[2], "legacy .bin differs from safetensors");
}

/// The bundled model is stored in int8, its reference is f32. Measured, LEAN and FAST alike: logits 1.5e-2 of
/// their norm, pictures 2.3e-3 to 2.7e-3, the gradient of a reward 4.9e-2, 1 token in 128 (in f16: 4e-4, 6e-5,
/// 2e-3, none). A model that is wrong somewhere is off by far more.
#[test]
fn bundled_model_matches_its_reference() {
    let bounds = [
        ("logits", 0.02),
        ("logits_uncond", 0.025),
        ("image_hard", 0.005),
        ("image_soft", 0.005),
        ("enc_z", 0.01),
        ("enc_recon", 0.005),
        ("grad_e_in", 0.08),
    ];
    for memory in [MemoryMode::Lean, MemoryMode::Fast] {
        let engine = Engine::open(bundled(), Options { memory, ..Options::default() }).unwrap();
        let result = engine.verify(data("emoji-32.golden.safetensors"), None).unwrap();
        assert!(result.passed, "{:#?}", result.rows);
        let row = |name: &str| result.rows.iter().find(|r| r.name == format!("b0/out/{name}")).unwrap();
        for (name, bound) in bounds {
            let found = row(name).relative;
            println!("{memory:?} {name:<16} {found:.1e} of {bound}");
            assert!(found <= bound, "{memory:?} {name}: {found}");
        }
        for name in ["tokens_argmax", "tokens_combined", "enc_indices"] {
            let share = row(name).max_abs;
            assert!(share <= 0.02, "{memory:?} {name}: {share} of the tokens differ");
        }
    }
}

/// int8 has looser bounds, but not so loose that one wrong scale passes.
#[test]
fn verify_notices_a_wrong_scale() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong.softdimo.safetensors");
    let (file, bytes) =
        (softdimo::checkpoint::Checkpoint::open(bundled()).unwrap(), std::fs::read(bundled()).unwrap());
    let wrong = |tensor: &str, row: usize| -> Vec<String> {
        let (offset, _) = file.tensor_range(tensor).unwrap();
        let at = offset + 4 * row..offset + 4 * row + 4;
        let mut bytes = bytes.clone();
        let scale = f32::from_le_bytes(bytes[at.clone()].try_into().unwrap());
        bytes[at].copy_from_slice(&(1.5 * scale).to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
        let engine = Engine::open(&path, Options::default()).unwrap();
        let result = engine.verify(data("emoji-32.golden.safetensors"), None).unwrap();
        result.rows.into_iter().filter(|r| !r.passed).map(|r| r.name).collect()
    };
    let failed = wrong("decoder.conv_out.weight.scale", 1);
    assert!(failed.iter().any(|n| n == "b0/out/image_hard"), "{failed:?}");
    assert!(failed.iter().all(|n| n != "b0/out/logits"), "{failed:?}");
    let failed = wrong("student.class_emb.weight.scale", 181);
    assert!(failed.iter().all(|n| n == "b0/out/logits_uncond"), "{failed:?}");
    assert!(!failed.is_empty());
}

/// Every way to hold the bytes gives the same picture.
#[test]
fn weights_modes_agree() {
    let request = Request::label("red apple").with_seed(5);
    let mut tokens = Vec::new();
    for weights in [WeightsMode::Map, WeightsMode::Read, WeightsMode::MapGuarded] {
        for memory in [MemoryMode::Lean, MemoryMode::Fast] {
            let engine = Engine::open(bundled(), Options { weights, memory, ..Options::default() }).unwrap();
            tokens.push(engine.generate(&request).unwrap().tokens.to_i64());
        }
    }
    assert!(tokens.windows(2).all(|w| w[0] == w[1]));
}

#[test]
fn pictures_are_pictures() {
    let engine = Engine::open(bundled(), Options::default()).unwrap();
    let labels = ["red apple", "dog", "rocket"].map(|l| Label::Name(l.into())).to_vec();
    let request = Request { labels, batch: 3, report_gap: true, ..Request::default() };
    let hard = engine.generate(&request).unwrap();
    let pixels = hard.images.to_f32();
    let planes: Vec<&[f32]> = pixels.chunks_exact(32 * 32).collect();
    let mean = |p: &[f32]| p.iter().sum::<f32>() / p.len() as f32;
    for plane in &planes {
        let m = mean(plane);
        let deviation = (plane.iter().map(|x| (x - m).powi(2)).sum::<f32>() / 1024.0).sqrt();
        assert!(deviation > 0.05, "a grey square: {deviation}");
    }
    // A red apple is red: in its middle, red is well above green and blue.
    let middle = |plane: &[f32]| plane[16 * 32 + 16];
    assert!(middle(planes[0]) > middle(planes[1]) + 0.2 && middle(planes[0]) > middle(planes[2]) + 0.2);
    // The student is sure of itself, so soft and hard pictures are close.
    let gap = hard.report.soft_hard_difference.clone().unwrap();
    assert!(gap.iter().all(|g| *g < 0.05), "{gap:?}");
    let soft = engine.generate(&Request { decode: Decode::Soft, ..request }).unwrap();
    assert!(soft.images.to_f32() != pixels);
    assert!(soft.tokens == hard.tokens);
}

/// The teacher, step by step, against the published sampler written plainly (markweberdev/maskbit,
/// modeling/modules/sampling.py), sharing only the network and the random numbers.
#[test]
fn teacher_matches_a_plain_reference() {
    use softdimo::rng::{Philox, Stream};
    use softdimo::tensor::{Dtype, Tensor};

    let engine = Engine::open(bundled(), Options::default()).unwrap();
    let (steps, seed, scale, randomize) = (6u32, 11u64, 1.5f64, 3.0f64);
    let request = Request {
        steps,
        guidance_scale: Some(scale as f32),
        randomize_temperature: Some(randomize as f32),
        ..Request::label("rocket").with_seed(seed)
    };
    let found = engine.generate(&request).unwrap();

    let model = engine.model().clone();
    let (slots, codes, mask) = (128usize, 128usize, 128u32);
    let class = model.class_of("rocket").unwrap() as i64;
    let network = |tokens: &[u32], class: i64| -> Vec<f64> {
        let g = softdimo::graph::Graph::new();
        let a = model.architecture();
        let w = model.weights().at("teacher");
        let t = g.input("tokens", Dtype::I64, [1, 64, 2]).unwrap();
        let c = g.input("class", Dtype::I64, [1]).unwrap();
        let e = a.embed(&g, &w, t).unwrap();
        let c = Condition::class(a.embed_class(&g, &w, c).unwrap());
        g.output("logits", a.logits(&g, &w, e, &c).unwrap());
        let ids: Vec<i64> = tokens.iter().map(|&t| i64::from(t)).collect();
        let inputs = vec![
            ("tokens".to_string(), Tensor::from_i64([1, 64, 2], &ids)),
            ("class".to_string(), Tensor::from_i64([1], &[class])),
        ];
        engine.run_graph(g, inputs).unwrap().remove(0).1.to_f64()
    };
    let rng = Philox::new(seed);
    let mut masked = vec![mask; slots];
    let mut predicted = masked.clone();
    for i in 0..steps {
        let progress = f64::from(i + 1) / f64::from(steps);
        let (c, u) = (network(&masked, class), network(&masked, 181));
        let num_masked = masked.iter().filter(|&&t| t == mask).count();
        let mut confidence = vec![f64::INFINITY; slots];
        for s in 0..slots {
            predicted[s] = masked[s];
            if masked[s] != mask {
                continue;
            }
            let z: Vec<f64> = (0..codes)
                .map(|k| c[s * codes + k] + scale * (c[s * codes + k] - u[s * codes + k]))
                .collect();
            let noisy: Vec<f64> =
                (0..codes).map(|k| z[k] + rng.gumbel_at(Stream::Gumbel, i, (s * codes + k) as u64)).collect();
            let best = (0..codes).fold(0, |b, k| if noisy[k] > noisy[b] { k } else { b });
            let total: f64 = z.iter().map(|v| v.exp()).sum();
            let noise = rng.gumbel_at(Stream::Confidence, i, s as u64) * randomize * (1.0 - progress);
            predicted[s] = best as u32;
            confidence[s] = (z[best].exp() / total).ln() + noise;
        }
        let ratio = (progress as f32).acos() / (std::f32::consts::PI * 0.5);
        let mask_len = ((ratio.clamp(1e-6, 1.0) * slots as f32).floor() as usize).clamp(1, num_masked - 1);
        let mut sorted = confidence.clone();
        sorted.sort_by(f64::total_cmp);
        let threshold = sorted[mask_len - 1];
        masked = (0..slots).map(|s| if confidence[s] <= threshold { mask } else { predicted[s] }).collect();
    }
    let expected: Vec<i64> = predicted.iter().map(|&t| i64::from(t)).collect();
    assert_eq!(found.tokens.to_i64(), expected);
}

/// The provider report is the runtime's own, per prepared session; trimming forgets the sessions.
#[test]
fn the_provider_report_says_what_runs_where() {
    let engine = Engine::open(bundled(), Options::default()).unwrap();
    assert!(engine.assignments().is_empty());
    engine.generate(&Request::class(0)).unwrap();
    let sessions = engine.assignments();
    assert!(sessions.contains_key("student x1"), "{sessions:?}");
    for (name, providers) in &sessions {
        assert_eq!(providers.keys().collect::<Vec<_>>(), ["CPUExecutionProvider"], "{name}");
        assert!(providers["CPUExecutionProvider"] > 0, "{name}");
    }
    assert!(engine.info_json().contains("CPUExecutionProvider"));
    engine.trim().unwrap();
    assert!(engine.assignments().is_empty());
}

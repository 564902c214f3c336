//! ImageReward against the official code: every golden tensor and both gradients, on ONNX Runtime.

use std::sync::Arc;

use softdimo::MemoryMode;
use softdimo::checkpoint::Checkpoint;
use softdimo::graph::{Graph, Value, grad, simplify};
use softdimo::rewards::architecture::RewardArchitecture;
use softdimo::rewards::image_reward::ImageReward;
use softdimo::rewards::image_reward::blip;
use softdimo::tensor::{Dtype, Tensor};
use softdimo::weights::Weights;
use support::compare::difference;
use support::compute::{Backend, compute};
use support::data;

fn open(name: &str) -> Arc<Checkpoint> {
    Arc::new(Checkpoint::open(data("rewards").join(name)).unwrap())
}

/// The tiny fixture network.
fn config() -> serde_json::Value {
    serde_json::json!({
        "family": "image_reward",
        "text": {
            "vocab_size": 200, "hidden_size": 36, "intermediate_size": 144, "num_hidden_layers": 3,
            "num_attention_heads": 4, "max_position_embeddings": 64, "encoder_width": 48,
        },
        "vision": {
            "img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 4, "mlp_ratio": 4,
        },
    })
}

fn architecture() -> RewardArchitecture {
    let architecture: RewardArchitecture = serde_json::from_value(config()).unwrap();
    assert_eq!(serde_json::to_value(&architecture).unwrap(), config());
    architecture.validate("the test").unwrap();
    architecture
}

#[test]
fn every_golden_tensor() {
    let (checkpoint, golden) = (open("image_reward.safetensors"), open("image_reward.golden.safetensors"));
    let (a, g, w) = (architecture(), Graph::new(), Weights::new(&checkpoint));
    assert!(a.name() == "image_reward" && a.reads_prompt());
    let RewardArchitecture::ImageReward(ImageReward { text, vision }) = &a else { unreachable!() };
    let read = |name: &str| golden.get(name).unwrap().to_tensor();
    let inputs: Vec<(String, Tensor)> = [
        ("image", "in/image"),
        ("ids", "in/input_ids"),
        ("mask", "in/attention_mask"),
        ("pixels", "out/preprocessed"),
    ]
    .map(|(name, from)| (name.to_string(), read(from)))
    .to_vec();
    let [image, ids, mask, pixels] = [0, 1, 2, 3]
        .map(|i| g.input(&inputs[i].0, inputs[i].1.dtype(), inputs[i].1.shape().clone()).unwrap());
    let sum = |x: Value| g.reduce_sum(x, &[0]).unwrap();

    g.output("preprocessed", a.preprocess(&g, image).unwrap());
    let tokens = blip::vision(&g, &w.at("blip.visual_encoder"), vision, pixels).unwrap();
    g.output("vit_embeds", tokens);
    let hidden = blip::text(&g, &w.at("blip.text_encoder"), text, ids, mask, tokens).unwrap();
    g.output("text_last_hidden", hidden);
    g.output("cls_feature", g.slice(hidden, 1, 0, 1).unwrap());
    let score = a.score_tokens(&g, &w, image, ids, mask).unwrap();
    g.output("score", score);
    let mark = g.add_scalar(g.mul_scalar(score, 1.033_339_5).unwrap(), 0.167_173_63).unwrap();
    g.output("mlp_raw", mark);
    g.output("grad_image", grad(&g, sum(score), &[image]).unwrap()[0]);
    let score = a.score_pixels_tokens(&g, &w, pixels, ids, mask).unwrap();
    g.output("score_of_preprocessed", score);
    g.output("grad_preprocessed", grad(&g, sum(score), &[pixels]).unwrap()[0]);

    // One prompt for all pictures is that prompt once per picture.
    let one = |x: Value| g.slice(x, 0, 0, 1).unwrap();
    let score = |ids: Value, mask: Value| a.score_tokens(&g, &w, image, ids, mask).unwrap();
    let twice = |x: Value| g.concat(&[one(x), one(x)], 0).unwrap();
    g.output("one_prompt", score(one(ids), one(mask)));
    g.output("one_prompt_repeated", score(twice(ids), twice(mask)));
    // Padding changes nothing but its own rows.
    let short = |x: Value| g.slice(one(x), 1, 0, 8).unwrap();
    g.output("one_prompt_unpadded", score(short(ids), short(mask)));
    let g = simplify(&g).unwrap();

    for memory in [MemoryMode::Lean, MemoryMode::Fast] {
        let found = compute(Backend::Runtime(memory), &checkpoint, &g, &inputs);
        let mut checked = 0;
        for name in golden.names().filter_map(|n| n.strip_prefix("out/")) {
            let expected = read(&format!("out/{name}")).to_f64();
            let results = if name == "score" { vec![name, "score_of_preprocessed"] } else { vec![name] };
            for result in results {
                let (absolute, relative) = difference(&found[result].data, &expected);
                println!("{memory:?} {result:<24} {absolute:.1e} {relative:.1e}");
                let error = if name.starts_with("grad_") { relative } else { absolute };
                let bound = if name == "preprocessed" { 1e-5 } else { 1e-4 };
                assert!(error < bound, "{memory:?} {result}: {absolute} {relative}");
            }
            checked += 1;
        }
        assert_eq!(checked, 8);
        for other in ["one_prompt_repeated", "one_prompt_unpadded"] {
            assert!(difference(&found["one_prompt"].data, &found[other].data).0 < 1e-5, "{other}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let checkpoint = open("image_reward.safetensors");
    let (a, g, w) = (architecture(), Graph::new(), Weights::new(&checkpoint));
    let image = g.input("image", Dtype::F32, [3, 3, 40, 32]).unwrap();
    let ids = |shape: &[usize]| {
        let n = shape.iter().product();
        g.constant(Tensor::from_i64(shape, &vec![1; n])).unwrap()
    };
    let score = |i: &[usize], m: &[usize]| a.score_tokens(&g, &w, image, ids(i), ids(m));
    assert_eq!(*g.shape(score(&[1, 5], &[1, 5]).unwrap()), [3]);
    assert_eq!(*g.shape(score(&[3, 64], &[3, 64]).unwrap()), [3]);
    let message = |i: &[usize], m: &[usize]| score(i, m).unwrap_err().to_string();
    for wrong in [[2, 5], [3, 65], [1, 0]] {
        let message = message(&wrong, &wrong);
        assert!(
            message.starts_with("token ids: expected 1 or 3 rows of 1 to 64 tokens, found "),
            "{message}"
        );
    }
    assert!(message(&[5], &[5]).starts_with("token ids: expected [B, L], found [5]"));
    assert!(message(&[3, 5], &[1, 5]).starts_with("attention mask: expected [3, 5], found [1, 5]"));
    // No features: the text looks at the picture.
    for result in [a.text_features(&g, &w, ids(&[1, 5])), a.score(&g, &w, image, None)] {
        assert!(result.unwrap_err().to_string().contains("score from token ids"));
    }
}

#[test]
fn sizes_that_contradict_each_other_are_refused() {
    for (part, key, value) in [
        ("text", "encoder_width", 47),
        ("text", "num_attention_heads", 5),
        ("text", "num_hidden_layers", 0),
        ("text", "vocab_size", 1 << 30),
        ("vision", "patch_size", 7),
        ("vision", "patch_size", 0),
        ("vision", "num_heads", 5),
        ("vision", "img_size", 8192),
    ] {
        let mut config = config();
        config[part][key] = value.into();
        let architecture: RewardArchitecture = serde_json::from_value(config).unwrap();
        let message = architecture.validate("the test").unwrap_err().to_string();
        assert!(message.contains(key), "{key}: {message}");
    }
}

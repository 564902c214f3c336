//! The same networks as a model file: conversion from every published layout, verification, and the pipelines
//! under a prompt.

use std::sync::OnceLock;

use serde_json::json;
use softdimo::convert::Source;
use softdimo::families::Architecture;
use softdimo::families::condition::Condition;
use softdimo::program::Program;
use softdimo::tensor::Tensor;
use softdimo::{Decode, Engine, Generated, Keep, MemoryMode, Options, Request};

use support::compare::assert_close;
use support::maskgen::{self as files, convert, model as fixture, source};
use support::{prompt, tokens};

use super::{climbing, data, prompted};

/// The model, for all tests together: they queue up on its worker.
fn model() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        Engine::open(fixture(folder.path()), Options::default()).unwrap()
    })
}

fn generate(request: &Request) -> Generated {
    (*model().generate(request).unwrap()).clone()
}

#[test]
fn a_warm_engine_prepares_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::open(fixture(folder.path()), Options::default()).unwrap();
    prompted::a_warm_engine_prepares_nothing_more(&engine);
    prompted::what_is_not_read_is_told(&engine);
}

#[test]
fn every_published_layout_gives_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let read = |source: &Source| {
        convert(source, &at("model")).unwrap();
        std::fs::read(at("model")).unwrap()
    };
    let plain = source(folder.path());
    let expected = read(&plain);

    // Hugging Face's directories: each has its configuration.
    let (generator, tokenizer) =
        (files::tensors(&data("generator.safetensors")), files::tensors(&data("tokenizer.safetensors")));
    let mut of_tokenizer = files::config();
    of_tokenizer["model"].as_object_mut().unwrap().remove("maskgen");
    let directory = files::directory(&at("generator"), &generator, &files::config());
    let directories = Source {
        generator: Some(directory.clone()),
        teacher: Some(directory),
        tokenizer: files::directory(&at("tokenizer"), &tokenizer, &of_tokenizer),
        config: None,
        ..plain.clone()
    };
    assert!(read(&directories) == expected, "directories differ from files");

    // PyTorch's files: the tied head under both its names, as `module.` saved it, with unread buffers.
    let wrapped = |tensors: &files::Tensors| -> files::Tensors {
        tensors.iter().map(|(name, t)| (format!("module.{name}"), t.clone())).collect()
    };
    files::torch(&at("maskgen_vq_l.bin"), &generator, &[("lm_head.weight", "embeddings.weight")]);
    let mut buffers = wrapped(&tokenizer);
    buffers.push(("module.quantize.embed_prob".into(), Tensor::from_f32([96], &[0.0; 96])));
    files::torch(&at("tatitok_bl128_vq.bin"), &buffers, &[]);
    let pytorch = Source {
        generator: Some(at("maskgen_vq_l.bin")),
        teacher: Some(at("maskgen_vq_l.bin")),
        tokenizer: at("tatitok_bl128_vq.bin"),
        ..plain.clone()
    };
    assert!(read(&pytorch) == expected, "PyTorch files differ from safetensors");

    // The text tower beside a vision tower, as open_clip's PyTorch file; the vocabulary named.
    let mut both = files::tower();
    both.push(("visual.class_embedding".into(), Tensor::from_f32([8], &[0.5; 8])));
    std::fs::create_dir(at("pt")).unwrap();
    files::torch(&at("pt/open_clip_pytorch_model.bin"), &both, &[]);
    std::fs::copy(at("open_clip/open_clip_config.json"), at("pt/open_clip_config.json")).unwrap();
    let towers = Source {
        text_encoder: Some(at("pt/open_clip_pytorch_model.bin")),
        vocabulary: Some(at("open_clip/bpe_simple_vocab_16e6.txt")),
        ..plain
    };
    assert!(read(&towers) == expected, "a PyTorch text tower differs");
}

/// Hugging Face's directory of the text tower makes the same pictures; what is read of text is MaskGen's either way.
#[test]
fn a_text_tower_under_hugging_face_names() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({
        "projection_dim": 40,
        "text_config": { "num_attention_heads": 4, "hidden_act": "quick_gelu" },
    });
    let tower = files::hugging_face(&files::tower());
    let text_encoder = files::directory(&folder.path().join("clip"), &tower, &config);
    files::vocabulary(&text_encoder.join("merges.txt"));
    let source = Source { text_encoder: Some(text_encoder), ..source(folder.path()) };
    let output = folder.path().join("hf.softdimo.safetensors");
    convert(&source, &output).unwrap();
    let engine = Engine::open(&output, Options::default()).unwrap();
    let request = prompt("A red apple &amp; a dog").with_seed(4);
    let (found, expected) = (engine.generate(&request).unwrap(), generate(&request));
    assert_eq!(tokens(&found), tokens(&expected));
    assert_close(&found.images.to_f32(), &expected.images.to_f32(), 1e-4, "picture");
}

#[test]
fn the_configuration_is_in_the_file() {
    let model = model().model();
    let Architecture::MaskGen(family) = model.architecture() else { panic!("another family") };
    assert_eq!((family.generator.clone(), family.tokenizer.clone()), super::configs());
    assert_eq!((family.text.context_length, family.text.pad_id), (13, 0));
    let defaults = model.defaults();
    assert_eq!((defaults.mask_ratio, defaults.sigma, defaults.temperature), (0.6, 0.1, 1.0));
    assert_eq!(defaults.micro.unwrap().aesthetic_score, 6.25);
    let teacher = &defaults.teacher;
    assert_eq!((teacher.steps, teacher.guidance_scale, teacher.randomize_temperature), (4, 9.0, 1.75));
    assert_eq!(model.components(), ["student", "teacher", "text", "encoder", "decoder"]);
    // Of the last block's text tokens and of the head there is nothing to keep.
    let unread = |n: &str| n.contains("add_q_proj") && n.contains("blocks.2") || n.contains("lm_head");
    assert!(!model.checkpoint().names().any(unread));
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (output, good) = (folder.path().join("x.softdimo.safetensors"), source(folder.path()));
    let fails = |source: Source| convert(&source, &output).unwrap_err();
    let message = fails(Source { text_encoder: None, ..good.clone() });
    let expected = "--text-encoder: expected OpenAI's CLIP ViT-L/14 at 336 pixels, \
        which MaskGen reads prompts with, found none";
    assert_eq!(message, expected);
    let message = fails(Source { text_encoder: Some(data("generator.safetensors")), ..good.clone() });
    assert!(message.contains("expected a CLIP text tower's tensors"), "{message}");
    let tower = folder.path().join("alone.safetensors");
    files::safetensors(&tower, &files::tower());
    let heads = r#"{"text": {"num_attention_heads": 4}}"#;
    let mut config = files::config();
    config["text"] = serde_json::from_str::<serde_json::Value>(heads).unwrap()["text"].clone();
    let path = folder.path().join("text.json");
    std::fs::write(&path, config.to_string()).unwrap();
    let alone = Source { text_encoder: Some(tower), config: Some(path), ..good.clone() };
    assert!(fails(alone.clone()).starts_with("--vocabulary: expected a file, since none of merges.txt"));
    let vocabulary = Some(folder.path().join("open_clip/bpe_simple_vocab_16e6.txt"));
    convert(&Source { vocabulary, ..alone }, &output).unwrap();
    std::fs::remove_file(&output).unwrap();

    let message = fails(Source { config: None, ..good.clone() });
    assert!(message.ends_with("expected --config FILE, or config.json beside the generator, found neither"));
    let swapped = Source { tokenizer: data("generator.safetensors"), ..good.clone() };
    assert!(fails(swapped).contains("expected a TA-TiTok's tensors, such as 'latent_tokens', found"));
    let swapped = Source { generator: Some(data("tokenizer.safetensors")), ..good.clone() };
    assert!(
        fails(swapped)
            .contains("expected a MaskGen generator's tensors, such as 'text_embed_proj.weight', found")
    );

    let with = |pointer: &str, value: serde_json::Value| {
        let mut config = files::config();
        *config.pointer_mut(pointer).unwrap() = value;
        let path = folder.path().join("wrong.json");
        std::fs::write(&path, config.to_string()).unwrap();
        fails(Source { config: Some(path), ..good.clone() })
    };
    let message = with("/model/vq_model/quantize_mode", json!("vae"));
    assert!(message.contains("'model.vq_model.quantize_mode': expected vq (discrete tokens), found vae"));
    let message = with("/model/vq_model/text_embed_dim", json!(48));
    assert!(message.contains("'text.hidden_size': expected text_embed_dim 48, found 40"), "{message}");
    let message = with("/model/maskgen/cfg", json!("much"));
    assert!(message.contains("'model.maskgen.cfg': expected a number, found \"much\""), "{message}");
    let message = with("/model/maskgen", json!(null));
    assert!(
        message.contains("'model.maskgen': expected a section of the official configuration"),
        "{message}"
    );

    let mut untied = files::tensors(&data("generator.safetensors"));
    untied.push(("lm_head.weight".into(), Tensor::from_f32([108, 64], &vec![0.1; 108 * 64])));
    let path = folder.path().join("untied.bin");
    files::torch(&path, &untied, &[]);
    let message = fails(Source { generator: Some(path), ..good });
    assert!(message.contains("'lm_head.weight': expected the values of embeddings.weight"), "{message}");
    assert!(!output.exists());
}

#[test]
fn verify_passes() {
    let folder = tempfile::tempdir().unwrap();
    let path = fixture(folder.path());
    for memory in [MemoryMode::Lean, MemoryMode::Fast] {
        let engine = Engine::open(&path, Options { memory, ..Options::default() }).unwrap();
        let result = engine.verify(data("golden.safetensors"), None).unwrap();
        for row in &result.rows {
            println!("{memory:?} {:<40} {:.1e} {:.1e}", row.name, row.max_abs, row.relative);
        }
        assert!(result.passed, "{:#?}", result.rows.iter().filter(|r| !r.passed).collect::<Vec<_>>());
        assert!(result.not_checked.is_empty(), "{:?}", result.not_checked);
        // The vocabulary's bytes do not make it a narrow model.
        assert!(result.rows.iter().filter(|r| r.name.ends_with("logits")).all(|r| r.tolerance <= 1e-4));
    }
}

/// A prompt, its case apart, decides with the aesthetic score; pictures of a batch are those made alone.
#[test]
fn prompts_make_pictures() {
    let apple = generate(&prompt("a red apple").with_seed(7));
    assert!(tokens(&apple).iter().all(|&t| t < 96));
    assert_eq!(**apple.images.shape(), [1, 3, 32, 32]);
    assert_eq!(apple.report.prompts, ["a red apple"]);
    assert_eq!(tokens(&apple), tokens(&generate(&prompt("A  Red Apple").with_seed(7))));
    let others =
        [prompt("a blue dog"), prompt(""), Request { aesthetic_score: Some(2.0), ..prompt("a red apple") }];
    for other in others {
        let other = generate(&other.with_seed(7));
        assert_ne!(other.images.to_f32(), apple.images.to_f32());
    }
    let plain = generate(&Request::default().with_seed(7));
    assert_eq!(plain.images.to_f32(), generate(&prompt("").with_seed(7)).images.to_f32());

    prompted::pictures_of_a_batch_are_those_made_alone(model(), &apple);

    let soft = Request { decode: Decode::Soft, report_gap: true, ..prompt("a red apple").with_seed(7) };
    let soft = generate(&soft);
    let gap = soft.report.soft_hard_difference.as_ref().unwrap()[0];
    assert!(gap > 0.0 && gap < 1.0, "{gap}");

    let message = |request: Request| model().generate(&request).unwrap_err().to_string();
    assert!(message(Request::class(3)).contains("conditioned on a prompt"));
    assert!(
        message(Request { crop: Some([0, 70_000]), ..prompt("x") }).contains("crop: expected 0 to 65536")
    );
}

/// Keeping all of a picture is the tokenizer's reconstruction under the prompt, keeping nothing is plain
/// generation; a mask has no cells to open.
#[test]
fn edits_keep_what_they_should() {
    let batch = super::Batch::open();
    let (pictures, ids) = (batch.read("in/enc_image").to_f32(), batch.read("out/enc_indices").to_i64());
    let (size, n) = (3 * 32 * 32, 24);
    let features = features("a red apple");
    for i in 0..3 {
        let image = pictures[i * size..(i + 1) * size].to_vec();
        let known: Vec<u32> = ids[i * n..(i + 1) * n].iter().map(|&id| id as u32).collect();
        let all = prompted::edits_keep_all_half_or_nothing(model(), &image, &known);
        let decoded = decode(&all.tokens, &features);
        assert_close(&all.images.to_f32(), &decoded, 1e-5, "reconstruction");
        let mask = prompted::edit(&image, Keep::Outside(vec![1.0; 32 * 32]));
        let message = model().generate(&mask).unwrap_err().to_string();
        assert!(message.contains("every token of this model stands for the whole picture"), "{message}");
    }
}

/// The prompt's guidance of the decoder.
fn features(prompt: &str) -> Tensor {
    let m = model().model();
    let text = m.architecture().text().unwrap();
    let ids = text.tokenizer(&m.weights().at("text")).unwrap().encode_batch(&[prompt]);
    let graph = Program::Prompt.graph(m.architecture(), &m.weights(), 1).unwrap();
    let results = model().run_graph(graph, vec![("ids".into(), ids)]).unwrap();
    results.into_iter().find(|(name, _)| name == Condition::GUIDANCE).unwrap().1
}

fn decode(tokens: &Tensor, guidance: &Tensor) -> Vec<f32> {
    let graph =
        Program::DecodeHard.graph(model().model().architecture(), &model().model().weights(), 1).unwrap();
    let inputs = vec![("tokens".into(), tokens.clone()), (Condition::GUIDANCE.into(), guidance.clone())];
    model().run_graph(graph, inputs).unwrap()[0].1.to_f32()
}

#[test]
fn the_teacher_samples() {
    prompted::the_teacher_samples(model(), 96);
}

#[test]
fn the_gradient_is_the_slope() {
    climbing::the_gradient_is_the_slope(model(), &prompt("a red apple").with_seed(1), 0.05);
}

#[test]
fn recomputation_does_not_change_the_course() {
    climbing::recomputation_does_not_change_the_course(model(), &prompt("a red apple").with_seed(1), 2.0);
}

#[test]
fn the_prior_climbs() {
    climbing::the_prior_climbs(model(), &prompt("a red apple").with_seed(2));
}

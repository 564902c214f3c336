//! Conversion: every published layout, what a model file says, storage, and what is missing or wrong.

use serde_json::{Value as Json, json};
use softdimo::convert::{Source, Storage};
use softdimo::families::Architecture;
use softdimo::model::Model;
use softdimo::sample::Schedule;
use softdimo::tensor::{Dtype, Tensor};
use softdimo::{Engine, Options, WeightsMode};

use support::checkpoints;
use support::meissonic::{self as files, convert};

use super::{configs, data};

#[test]
fn every_published_layout_gives_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let read = |source: &Source| {
        convert(source, &at("model")).unwrap();
        std::fs::read(at("model")).unwrap()
    };
    let plain = files::source(folder.path());
    let expected = read(&plain);

    // The pieces' own directories, and the student as a bare PyTorch state dict out of distributed training.
    let (inside, pipeline) = (plain.tokenizer.join("transformer"), plain.tokenizer.clone());
    let wide = |tensors: checkpoints::Tensors, prefix: &str| -> checkpoints::Tensors {
        let f32s = |t: Tensor| Tensor::from_f32(t.shape().clone(), &t.to_f32());
        tensors.into_iter().map(|(name, t)| (format!("{prefix}{name}"), f32s(t))).collect()
    };
    checkpoints::torch(&at("pytorch_model.bin"), &wide(files::tensors("transformer"), "module."), &[]);
    std::fs::copy(inside.join("config.json"), at("config.json")).unwrap();
    let pieces = Source {
        generator: Some(at("pytorch_model.bin")),
        teacher: Some(inside.clone()),
        tokenizer: pipeline.join("vqvae/diffusion_pytorch_model.safetensors"),
        text_encoder: Some(pipeline.join("text_encoder")),
        ..plain.clone()
    };
    let open = |bytes: Vec<u8>| {
        std::fs::write(at("copy"), bytes).unwrap();
        checkpoints::tensors(&at("copy"))
    };
    // The PyTorch file of this test is f32, the others are f16.
    let (found, known) = (open(read(&pieces)), open(expected.clone()));
    assert_eq!(found.len(), known.len());
    for ((name, found), (other, known)) in found.iter().zip(&known) {
        assert_eq!((name, found.to_f32()), (other, known.to_f32()));
        assert!(found.dtype() == known.dtype() || name.starts_with("student."), "{name}");
    }

    // Shards under an index.
    let mut index = serde_json::Map::new();
    std::fs::create_dir(at("sharded")).unwrap();
    for (i, shard) in files::tensors("transformer").chunks(50).enumerate() {
        let name = format!("diffusion_pytorch_model-{i:05}.safetensors");
        checkpoints::safetensors(&at("sharded").join(&name), shard);
        index.extend(shard.iter().map(|(tensor, _)| (tensor.clone(), json!(name))));
    }
    assert!(index.len() > 50);
    let index = json!({ "metadata": {}, "weight_map": index }).to_string();
    std::fs::write(at("sharded/diffusion_pytorch_model.safetensors.index.json"), index).unwrap();
    std::fs::copy(inside.join("config.json"), at("sharded/config.json")).unwrap();
    let sharded = Source { generator: Some(at("sharded")), teacher: Some(at("sharded")), ..plain.clone() };
    assert!(read(&sharded) == expected, "shards differ from one file");

    // Files that say nothing of themselves, and all sizes in one configuration; any vocabulary's container.
    let mut config = json!({ "resolution": files::SIDE, "text": { "num_attention_heads": 4 } });
    for part in ["transformer", "vqvae"] {
        config[part] = files::config(part);
    }
    std::fs::write(at("all.json"), config.to_string()).unwrap();
    let bare = Source {
        generator: Some(data("transformer.safetensors")),
        teacher: Some(data("transformer.safetensors")),
        tokenizer: data("vqvae.safetensors"),
        text_encoder: Some(at("tower.safetensors")),
        vocabulary: Some(pipeline.clone()),
        config: Some(at("all.json")),
        ..plain
    };
    checkpoints::safetensors(&at("tower.safetensors"), &checkpoints::hugging_face(&files::tower()));
    assert!(read(&bare) == expected, "files differ from directories");
}

#[test]
fn the_configuration_is_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::open(&files::model(folder.path()), WeightsMode::Map, Default::default()).unwrap();
    let Architecture::Meissonic(family) = model.architecture() else { panic!("another family") };
    assert_eq!((family.generator.clone(), family.tokenizer.clone()), configs());
    // The folder's padding, not the default.
    assert_eq!((family.resolution, family.text.context_length, family.text.pad_id), (8, 7, 0));
    let defaults = model.defaults();
    assert_eq!((defaults.mask_ratio, defaults.sigma, defaults.temperature), (0.5, 0.3, 1.0));
    let micro = defaults.micro.unwrap();
    assert_eq!((micro.aesthetic_score, micro.original_size, micro.crop), (6.0, [8, 8], [0, 0]));
    let teacher = &defaults.teacher;
    assert_eq!(teacher.sampler, softdimo::families::meissonic::sampler::teacher_defaults().sampler);
    assert_eq!((teacher.steps, teacher.guidance_scale, teacher.schedule), (64, 9.0, Schedule::Cosine));
    assert_eq!(model.components(), ["student", "teacher", "text", "encoder", "decoder"]);
}

#[test]
fn the_pipeline_decides_the_schedule() {
    let folder = tempfile::tempdir().unwrap();
    let (source, output) = (files::source(folder.path()), folder.path().join("x"));
    files::scheduler(&source.tokenizer, 55, "linear");
    convert(&source, &output).unwrap();
    let model = Model::open(&output, WeightsMode::Map, Default::default()).unwrap();
    assert_eq!(model.defaults().teacher.schedule, Schedule::Linear);
    let fails = |mask: usize, schedule: &str| {
        files::scheduler(&source.tokenizer, mask, schedule);
        convert(&source, &output).unwrap_err()
    };
    let message = fails(54, "cosine");
    assert!(
        message.ends_with("'mask_token_id': expected 55, the last of the generator's vocab_size, found 54")
    );
    let message = fails(55, "root");
    assert!(message.ends_with("'masking_schedule': expected cosine or linear, found \"root\""), "{message}");
}

/// f16 is exact for this fixture, whose weights are f16 numbers; int8 is what it is for random weights.
#[test]
fn narrow_storage() {
    let folder = tempfile::tempdir().unwrap();
    let source = files::source(folder.path());
    let stored = |storage: Storage| {
        let output = folder.path().join("narrow");
        convert(&Source { storage, ..source.clone() }, &output).unwrap();
        let file = checkpoints::tensors(&output);
        let is = |n: &str, name: &str| n.strip_suffix(".transposed").unwrap_or(n) == name;
        let dtype = |name: &str| file.iter().find(|(n, _)| is(n, name)).unwrap().1.dtype();
        let dtypes =
            ["student.context_embedder.weight", "student.down_block.downsample.conv.weight"].map(dtype);
        let norms = ["student.embed.layer_norm.weight", "decoder.conv_norm_out.bias"].map(dtype);
        assert_eq!(norms, [if storage == Storage::Keep { Dtype::F16 } else { Dtype::F32 }; 2]);
        let engine = Engine::open(&output, Options::default()).unwrap();
        let rows = engine.verify(data("golden.safetensors"), None).unwrap().rows;
        let row = |name: &str| rows.iter().find(|row| row.name == name).unwrap().relative;
        let offs = ["logits", "image_hard", "grad_e_in"].map(|name| row(&format!("b1/out/{name}")));
        println!("{storage:?}: {offs:?}");
        (dtypes, offs)
    };
    let (dtypes, offs) = stored(Storage::Keep);
    assert!(dtypes == [Dtype::F16; 2] && offs.iter().all(|&off| off < 1e-4));
    let (dtypes, offs) = stored(Storage::F16);
    assert!(dtypes == [Dtype::F16; 2] && offs.iter().all(|&off| off < 1e-4));
    let (dtypes, [logits, image, gradient]) = stored(Storage::Int8);
    assert_eq!(dtypes, [Dtype::I8; 2]);
    assert!(logits > 1e-4 && logits < 0.06 && image < 0.05 && gradient < 0.3);
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (output, good) = (folder.path().join("x"), files::source(folder.path()));
    let at = |name: &str| folder.path().join(name);
    let fails = |source: Source| convert(&source, &output).unwrap_err();
    let pipeline = good.tokenizer.clone();

    let message = fails(Source { generator: None, teacher: None, ..good.clone() });
    let expected = "--generator: expected a student (--generator) or a teacher (--teacher), found neither";
    assert_eq!(message, expected);
    let pieces = Source {
        generator: Some(pipeline.join("transformer")),
        teacher: None,
        tokenizer: pipeline.join("vqvae"),
        ..good.clone()
    };
    let expected =
        "--text-encoder: expected LAION's CLIP ViT-H/14, which Meissonic reads prompts with, found none";
    assert_eq!(fails(pieces.clone()), expected);
    std::fs::create_dir(at("alone")).unwrap();
    checkpoints::safetensors(&at("alone/model.safetensors"), &checkpoints::hugging_face(&files::tower()));
    std::fs::copy(pipeline.join("text_encoder/config.json"), at("alone/config.json")).unwrap();
    let message = fails(Source { text_encoder: Some(at("alone")), ..pieces.clone() });
    assert!(message.starts_with("--vocabulary: expected a file, since none of merges.txt"), "{message}");
    let swapped = Source { text_encoder: Some(pipeline.join("vqvae")), ..good.clone() };
    assert!(fails(swapped).contains("expected a CLIP text tower's tensors"));
    let bare = Source { teacher: Some(data("transformer.safetensors")), generator: None, ..good.clone() };
    let message = fails(bare);
    let expected =
        "config 'config': expected config.json beside it, or --config FILE with 'transformer', found neither";
    assert!(message.ends_with(expected), "{message}");
    let swapped = Source { tokenizer: pipeline.join("transformer"), ..good.clone() };
    assert!(fails(swapped).contains("expected a VQ-VAE's tensors, such as 'post_quant_conv.weight', found"));

    // A tensor that is missing, and one of another shape.
    let mut tensors = files::tensors("transformer");
    tensors.retain(|(name, _)| name != "single_transformer_blocks.1.attn.norm_k.weight");
    files::diffusers(&at("less"), &tensors, &files::config("transformer"));
    let message = fails(Source { generator: Some(at("less")), ..good.clone() });
    assert!(
        message.contains("tensor 'single_transformer_blocks.1.attn.norm_k.weight': expected shape [16]"),
        "{message}"
    );
    let mut config = files::config("transformer");
    config["vocab_size"] = json!(57);
    files::diffusers(&at("more"), &files::tensors("transformer"), &config);
    let message = fails(Source { generator: Some(at("more")), teacher: None, ..good.clone() });
    let expected =
        "tensor 'embed.embeddings.weight': expected a float tensor of shape [57, 32], found f16[56, 32]";
    assert!(message.contains(expected), "{message}");
    // A student of other sizes than its teacher.
    let message = fails(Source { generator: Some(at("more")), ..good.clone() });
    assert!(message.contains("config 'transformer': expected the student's sizes"), "{message}");

    let with = |config: Json| {
        std::fs::write(at("wrong.json"), config.to_string()).unwrap();
        fails(Source { config: Some(at("wrong.json")), ..good.clone() })
    };
    let message = with(json!({ "resolution": "big" }));
    assert!(message.ends_with("'resolution': expected a number of pixels, found \"big\""), "{message}");
    let message = with(json!({ "resolution": 10 }));
    assert!(message.ends_with("'resolution': expected a multiple of 4 pixels, found 10"), "{message}");
    let message = with(json!({ "resolution": 8, "vqvae": 3 }));
    assert!(message.ends_with("'vqvae': expected an object, found 3"), "{message}");
    let message = with(json!({ "resolution": 8, "request_defaults": { "sigma": 1 } }));
    assert!(
        message.contains("'request_defaults': expected a request's defaults, found missing field"),
        "{message}"
    );
    assert!(!output.exists());
}

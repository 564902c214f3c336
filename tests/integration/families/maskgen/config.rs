//! Configurations: the official ones, their defaults, and what is refused.

use serde_json::{Value as Json, json};
use softdimo::families::Architecture;
use softdimo::families::maskgen::tokenizer::{ModelSize, SizeName};

/// configs/infer/MaskGen/maskgen_vq_l.yaml: `model.vq_model` and `dataset.preprocessing`.
fn official_tokenizer() -> Json {
    json!({
        "quantize_mode": "vq", "codebook_size": 8192, "token_size": 64, "use_l2_norm": false,
        "commitment_cost": 0.25, "clustering_vq": false, "vit_enc_model_size": "base",
        "vit_dec_model_size": "large", "vit_enc_patch_size": 16, "vit_dec_patch_size": 16,
        "num_latent_tokens": 128, "finetune_decoder": false, "is_legacy": false, "crop_size": 256,
    })
}

/// The same file: `model.maskgen`, with what it takes from `model.vq_model`.
fn official_generator() -> Json {
    json!({
        "codebook_size": 8192, "num_latent_tokens": 128, "decoder_embed_dim": 1024, "decoder_depth": 16,
        "decoder_num_heads": 16, "micro_condition": true, "micro_condition_embed_dim": 256,
        "text_drop_prob": 0.1, "condition_num_classes": 1000, "cfg": 12.0, "num_iter": 16,
        "temperature": 2.0, "sample_aesthetic_score": 6.5,
    })
}

/// OpenAI's ViT-L/14 as open_clip reads prompts with it.
fn text_encoder() -> Json {
    json!({
        "tower": {
            "keys": "open_clip", "vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072,
            "num_hidden_layers": 12, "num_attention_heads": 12, "max_position_embeddings": 77,
            "projection_dim": 768, "hidden_act": "quick_gelu",
        },
        "flavor": "open_clip", "context_length": 77, "pad_id": 0, "hidden": "penultimate",
    })
}

fn official() -> Json {
    json!({
        "family": "maskgen", "generator": official_generator(), "tokenizer": official_tokenizer(),
        "text": text_encoder(),
    })
}

fn architecture(config: Json) -> Result<Architecture, String> {
    let architecture: Architecture = serde_json::from_value(config).map_err(|e| e.to_string())?;
    architecture.validate("f").map_err(|e| e.to_string())?;
    Ok(architecture)
}

fn maskgen(config: Json) -> softdimo::families::maskgen::MaskGen {
    match architecture(config).unwrap() {
        Architecture::MaskGen(family) => family,
        other => panic!("{other:?}"),
    }
}

#[test]
fn official_configurations() {
    let family = maskgen(official());
    let (g, t) = (&family.generator, &family.tokenizer);
    assert_eq!((g.text_embed_dim, g.weight_tying), (768, true));
    assert_eq!((t.text_context_length, t.text_embed_dim), (77, 768));
    assert_eq!(t.vit_enc_model_size, ModelSize::Named(SizeName::Base));
    let sizes = |s: ModelSize| [s.width(), s.num_layers(), s.num_heads()];
    assert_eq!(sizes(t.vit_enc_model_size), [768, 12, 12]);
    assert_eq!(sizes(t.vit_dec_model_size), [1024, 24, 16]);
    assert_eq!(sizes(ModelSize::Named(SizeName::Small)), [512, 8, 8]);
    // What a model file says of them is read back as it was.
    let architecture = architecture(official()).unwrap();
    let again = serde_json::from_value(serde_json::to_value(&architecture).unwrap()).unwrap();
    assert_eq!(architecture, again);

    let layout = architecture.layout();
    assert_eq!((layout.positions, layout.splits, layout.codes, layout.mask_token), (128, 1, 8192, 8192));
    assert_eq!((layout.embedding, layout.classes, layout.grid), (1024, 0, None));
    assert_eq!((layout.width, layout.height), (256, 256));
    let condition = architecture.condition_layout();
    assert_eq!((condition.embedding, condition.pooled), (vec![77, 768], Some(768)));
    assert_eq!((condition.guidance, condition.micro, condition.timestep), (Some([77, 768]), 1, false));
}

#[test]
fn wrong_configurations_are_named() {
    let published = "true, as in the published generators, found false";
    let pixels = "false (a TA-TiTok over discrete tokens that predicts pixels itself), found true";
    let narrow = json!({ "width": 48, "num_layers": 2, "num_heads": 5 });
    let flat = json!({ "width": 48, "num_layers": 0, "num_heads": 4 });
    for (part, key, value, at, expected) in [
        ("generator", "codebook_size", json!(0), "codebook_size", "1 to 1048576, found 0"),
        ("generator", "codebook_size", json!(96), "codebook_size", "the tokenizer's 8192, found 96"),
        ("generator", "num_latent_tokens", json!(32), "num_latent_tokens", "the tokenizer's 128, found 32"),
        ("generator", "text_embed_dim", json!(40), "text_embed_dim", "the tokenizer's 768, found 40"),
        ("generator", "decoder_embed_dim", json!(0), "decoder_embed_dim", "1 to 1048576, found 0"),
        ("generator", "decoder_depth", json!(1025), "decoder_depth", "1 to 1024, found 1025"),
        (
            "generator",
            "decoder_num_heads",
            json!(12),
            "decoder_num_heads",
            "a divisor of decoder_embed_dim 1024, found 12",
        ),
        ("generator", "condition_num_classes", json!(0), "condition_num_classes", "1 to 1048576, found 0"),
        ("generator", "micro_condition", json!(false), "micro_condition", published),
        (
            "generator",
            "micro_condition_embed_dim",
            json!(7),
            "micro_condition_embed_dim",
            "an even width, found 7",
        ),
        ("generator", "weight_tying", json!(false), "weight_tying", published),
        ("tokenizer", "crop_size", json!(8192), "crop_size", "1 to 4096, found 8192"),
        ("tokenizer", "token_size", json!(0), "token_size", "1 to 1048576, found 0"),
        (
            "tokenizer",
            "text_context_length",
            json!(64),
            "text.context_length",
            "text_context_length 64, found 77",
        ),
        ("tokenizer", "vit_enc_patch_size", json!(0), "vit_enc_patch_size", "1 to 256, found 0"),
        (
            "tokenizer",
            "vit_dec_patch_size",
            json!(48),
            "vit_dec_patch_size",
            "a divisor of crop_size 256, found 48",
        ),
        (
            "tokenizer",
            "vit_enc_model_size",
            narrow,
            "vit_enc_model_size.num_heads",
            "a divisor of width 48, found 5",
        ),
        ("tokenizer", "vit_dec_model_size", flat, "vit_dec_model_size.num_layers", "1 to 1024, found 0"),
        ("tokenizer", "is_legacy", json!(true), "is_legacy", pixels),
        ("tokenizer", "finetune_decoder", json!(true), "finetune_decoder", pixels),
        ("text", "context_length", json!(50), "text.context_length", "text_context_length 77, found 50"),
    ] {
        let mut config = official();
        config[part][key] = value;
        let message = architecture(config).unwrap_err();
        assert_eq!(message, format!("f: config '{at}': expected {expected}"));
    }
    for key in ["hidden_size", "projection_dim"] {
        let mut config = official();
        config["text"]["tower"][key] = json!(480);
        let message = architecture(config).unwrap_err();
        assert_eq!(message, format!("f: config 'text.{key}': expected text_embed_dim 768, found 480"));
    }
    let mut config = official();
    config["tokenizer"]["vit_dec_model_size"] = json!("huge");
    assert!(architecture(config).is_err());
    // Silence means what it means to the official code.
    let mut config = official();
    config["tokenizer"].as_object_mut().unwrap().remove("is_legacy");
    assert!(architecture(config).unwrap_err().contains("'is_legacy'"));
}

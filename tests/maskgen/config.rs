//! Configurations: the official ones, their defaults, and what is refused.

use serde_json::{Value as Json, json};
use softdimo::models::tatitok::{ModelSize, SizeName};
use softdimo::models::{maskgen, tatitok};

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

fn with(mut config: Json, key: &str, value: Json) -> Json {
    config[key] = value;
    config
}

fn generator(config: Json) -> Result<maskgen::Config, String> {
    let config: maskgen::Config = serde_json::from_value(config).map_err(|e| e.to_string())?;
    config.validate("config.json").map_err(|e| e.to_string())?;
    Ok(config)
}

fn tokenizer(config: Json) -> Result<tatitok::Config, String> {
    let config: tatitok::Config = serde_json::from_value(config).map_err(|e| e.to_string())?;
    config.validate("config.json").map_err(|e| e.to_string())?;
    Ok(config)
}

#[test]
fn official_configurations() {
    let g = generator(official_generator()).unwrap();
    assert_eq!((g.text_embed_dim, g.weight_tying), (768, true));
    let t = tokenizer(official_tokenizer()).unwrap();
    assert_eq!((t.text_context_length, t.text_embed_dim), (77, 768));
    assert_eq!(t.vit_enc_model_size, ModelSize::Named(SizeName::Base));
    let sizes = |s: ModelSize| [s.width(), s.num_layers(), s.num_heads()];
    assert_eq!(sizes(t.vit_enc_model_size), [768, 12, 12]);
    assert_eq!(sizes(t.vit_dec_model_size), [1024, 24, 16]);
    assert_eq!(sizes(ModelSize::Named(SizeName::Small)), [512, 8, 8]);
    // What a model file says of them is read back as it was.
    assert_eq!(generator(serde_json::to_value(&g).unwrap()).unwrap(), g);
    assert_eq!(tokenizer(serde_json::to_value(&t).unwrap()).unwrap(), t);
}

#[test]
fn wrong_configurations_are_named() {
    for (key, value, expected) in [
        ("codebook_size", json!(0), "1 to 1048576, found 0"),
        ("num_latent_tokens", json!(0), "1 to 1048576, found 0"),
        ("text_embed_dim", json!(1 << 21), "1 to 1048576, found 2097152"),
        ("decoder_embed_dim", json!(0), "1 to 1048576, found 0"),
        ("decoder_depth", json!(1025), "1 to 1024, found 1025"),
        ("decoder_num_heads", json!(12), "a divisor of decoder_embed_dim 1024, found 12"),
        ("condition_num_classes", json!(0), "1 to 1048576, found 0"),
        ("micro_condition", json!(false), "true, as in the published generators, found false"),
        ("micro_condition_embed_dim", json!(7), "an even width, found 7"),
        ("weight_tying", json!(false), "true, as in the published generators, found false"),
    ] {
        let message = generator(with(official_generator(), key, value)).unwrap_err();
        assert_eq!(message, format!("config.json: config '{key}': expected {expected}"));
    }
    let pixels = "false (a TA-TiTok over discrete tokens that predicts pixels itself), found true";
    for (key, value, at, expected) in [
        ("crop_size", json!(8192), "crop_size", "1 to 4096, found 8192"),
        ("codebook_size", json!(0), "codebook_size", "1 to 1048576, found 0"),
        ("token_size", json!(0), "token_size", "1 to 1048576, found 0"),
        ("num_latent_tokens", json!(0), "num_latent_tokens", "1 to 1048576, found 0"),
        ("text_context_length", json!(0), "text_context_length", "1 to 1048576, found 0"),
        ("text_embed_dim", json!(0), "text_embed_dim", "1 to 1048576, found 0"),
        ("vit_enc_patch_size", json!(0), "vit_enc_patch_size", "1 to 256, found 0"),
        ("vit_dec_patch_size", json!(48), "vit_dec_patch_size", "a divisor of crop_size 256, found 48"),
        (
            "vit_enc_model_size",
            json!({ "width": 48, "num_layers": 2, "num_heads": 5 }),
            "vit_enc_model_size.num_heads",
            "a divisor of width 48, found 5",
        ),
        (
            "vit_dec_model_size",
            json!({ "width": 48, "num_layers": 0, "num_heads": 4 }),
            "vit_dec_model_size.num_layers",
            "1 to 1024, found 0",
        ),
        ("is_legacy", json!(true), "is_legacy", pixels),
        ("finetune_decoder", json!(true), "finetune_decoder", pixels),
    ] {
        let message = tokenizer(with(official_tokenizer(), key, value)).unwrap_err();
        assert_eq!(message, format!("config.json: config '{at}': expected {expected}"));
    }
    assert!(tokenizer(with(official_tokenizer(), "vit_dec_model_size", json!("huge"))).is_err());
    // Silence means what it means to the official code.
    let mut silent = official_tokenizer();
    silent.as_object_mut().unwrap().remove("is_legacy");
    assert!(tokenizer(silent).unwrap_err().contains("'is_legacy'"));
}

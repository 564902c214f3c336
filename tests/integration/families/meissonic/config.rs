//! Configurations: the official ones, their defaults, and what is refused.

use serde_json::{Value as Json, json};
use softdimo::families::Architecture;
use softdimo::families::condition::MicroConditions;

/// meissonflow/meissonic, with what it is silent about left out.
fn official() -> Json {
    json!({
        "family": "meissonic",
        "resolution": 1024,
        "generator": {
            "patch_size": 1, "in_channels": 64, "num_layers": 14, "num_single_layers": 28,
            "attention_head_dim": 128, "num_attention_heads": 8, "joint_attention_dim": 1024,
            "pooled_projection_dim": 1024, "downsample": true, "upsample": true,
        },
        "tokenizer": {
            "block_out_channels": [128, 256, 256, 512, 768], "layers_per_block": 2, "latent_channels": 64,
            "num_vq_embeddings": 8192, "vq_embed_dim": null, "mid_block_add_attention": false,
            "lookup_from_codebook": true, "sample_size": 32, "force_upcast": true,
        },
        "text": {
            "tower": {
                "keys": "hugging_face", "vocab_size": 49408, "hidden_size": 1024, "intermediate_size": 4096,
                "num_hidden_layers": 24, "num_attention_heads": 16, "max_position_embeddings": 77,
                "projection_dim": 1024, "hidden_act": "gelu",
            },
            "flavor": "hugging_face", "context_length": 77, "pad_id": 49407, "hidden": "penultimate",
        },
    })
}

fn architecture(config: Json) -> Result<Architecture, String> {
    let architecture: Architecture = serde_json::from_value(config).map_err(|e| e.to_string())?;
    architecture.validate("f").map_err(|e| e.to_string())?;
    Ok(architecture)
}

#[test]
fn official_configurations() {
    let a = architecture(official()).unwrap();
    let Architecture::Meissonic(family) = &a else { panic!("{a:?}") };
    let g = &family.generator;
    assert_eq!((g.axes_dims_rope, g.vocab_size, g.codebook_size), ([16, 56, 56], 8256, 8192));
    assert_eq!((g.width(), g.mask_token(), g.guidance_embeds), (1024, 8255, false));
    let t = &family.tokenizer;
    assert_eq!((t.stride(), t.code_width(), t.norm_num_groups, t.act_fn.as_str()), (16, 64, 32, "silu"));
    // What a model file says of them is read back as it was.
    assert_eq!(a, serde_json::from_value(serde_json::to_value(&a).unwrap()).unwrap());

    let layout = a.layout();
    assert_eq!((layout.positions, layout.splits, layout.codes, layout.mask_token), (4096, 1, 8192, 8255));
    assert_eq!((layout.embedding, layout.classes, layout.grid), (1024, 0, Some((64, 64))));
    assert_eq!((layout.width, layout.height), (1024, 1024));
    let condition = a.condition_layout();
    assert_eq!((condition.embedding, condition.pooled), (vec![77, 1024], Some(1024)));
    assert_eq!((condition.guidance, condition.micro, condition.timestep), (None, 5, true));
    // Width and height, then top and left.
    let micro = MicroConditions { aesthetic_score: 6.5, original_size: [640, 480], crop: [30, 20] };
    assert_eq!(a.micro(&micro), [640.0, 480.0, 20.0, 30.0, 6.5]);

    // Monetico: 512 pixels, one token each in the blocks.
    let mut half = official();
    half["resolution"] = json!(512);
    for key in ["downsample", "upsample"] {
        half["generator"].as_object_mut().unwrap().remove(key);
    }
    assert_eq!(architecture(half).unwrap().layout().positions, 1024);
}

#[test]
fn wrong_configurations_are_named() {
    let inner = "num_attention_heads · attention_head_dim = 1024, found 768";
    let rotations = "even widths whose sum is attention_head_dim 128, found";
    let channels = "1 to 8 multiples of 32, found";
    let huge = usize::MAX;
    for (part, key, value, at, expected) in [
        ("generator", "num_layers", json!(0), "num_layers", "1 to 1024, found 0".into()),
        ("generator", "num_single_layers", json!(1025), "num_single_layers", "1 to 1024, found 1025".into()),
        ("generator", "num_attention_heads", json!(0), "num_attention_heads", "1 to 1024, found 0".into()),
        (
            "generator",
            "attention_head_dim",
            json!(huge),
            "attention_head_dim",
            format!("1 to 1024, found {huge}"),
        ),
        ("generator", "joint_attention_dim", json!(0), "joint_attention_dim", "1 to 1048576, found 0".into()),
        ("generator", "pooled_projection_dim", json!(768), "pooled_projection_dim", inner.into()),
        ("generator", "vocab_size", json!(0), "vocab_size", "1 to 1048576, found 0".into()),
        (
            "generator",
            "codebook_size",
            json!(8256),
            "codebook_size",
            "less than vocab_size 8256, whose last is the mask, found 8256".into(),
        ),
        (
            "generator",
            "codebook_size",
            json!(4096),
            "codebook_size",
            "the tokenizer's num_vq_embeddings 8192, found 4096".into(),
        ),
        (
            "generator",
            "axes_dims_rope",
            json!([16, 56, 58]),
            "axes_dims_rope",
            format!("{rotations} [16, 56, 58]"),
        ),
        (
            "generator",
            "axes_dims_rope",
            json!([15, 56, 57]),
            "axes_dims_rope",
            format!("{rotations} [15, 56, 57]"),
        ),
        (
            "generator",
            "axes_dims_rope",
            json!([huge, 2, 128]),
            "axes_dims_rope",
            format!("{rotations} [{huge}, 2, 128]"),
        ),
        ("generator", "upsample", json!(false), "upsample", "downsample's true, found false".into()),
        (
            "generator",
            "guidance_embeds",
            json!(true),
            "guidance_embeds",
            "false, as in the published generators, found true".into(),
        ),
        ("tokenizer", "block_out_channels", json!([]), "block_out_channels", format!("{channels} []")),
        ("tokenizer", "block_out_channels", json!([48]), "block_out_channels", format!("{channels} [48]")),
        ("tokenizer", "block_out_channels", json!([0]), "block_out_channels", format!("{channels} [0]")),
        ("tokenizer", "layers_per_block", json!(0), "layers_per_block", "1 to 64, found 0".into()),
        ("tokenizer", "latent_channels", json!(0), "latent_channels", "1 to 1048576, found 0".into()),
        ("tokenizer", "vq_embed_dim", json!(0), "vq_embed_dim", "1 to 1048576, found 0".into()),
        ("tokenizer", "in_channels", json!(4), "in_channels", "3, found 4".into()),
        ("tokenizer", "out_channels", json!(4), "in_channels", "4, found 3".into()),
        ("tokenizer", "out_channels", json!(5), "out_channels", "3, or 4 with alpha, found 5".into()),
        ("tokenizer", "norm_num_groups", json!(16), "norm_num_groups", "32, found 16".into()),
        ("tokenizer", "act_fn", json!("relu"), "act_fn", "silu, found relu".into()),
        ("tokenizer", "norm_type", json!("spatial"), "norm_type", "group, found spatial".into()),
        (
            "tokenizer",
            "down_block_types",
            json!(["DownEncoderBlock2D", "AttnDownEncoderBlock2D"]),
            "down_block_types",
            "DownEncoderBlock2D only, found AttnDownEncoderBlock2D".into(),
        ),
        (
            "tokenizer",
            "up_block_types",
            json!(["AttnUpDecoderBlock2D"]),
            "up_block_types",
            "UpDecoderBlock2D only, found AttnUpDecoderBlock2D".into(),
        ),
    ] {
        let mut config = official();
        config[part][key] = value;
        let message = architecture(config).unwrap_err();
        assert_eq!(message, format!("f: config '{at}': expected {expected}"));
    }
    for (resolution, expected) in [(0, "1 to 4096"), (8192, "1 to 4096"), (1008, "a multiple of 32 pixels")] {
        let mut config = official();
        config["resolution"] = json!(resolution);
        let message = architecture(config).unwrap_err();
        assert_eq!(message, format!("f: config 'resolution': expected {expected}, found {resolution}"));
    }
    for (key, of) in [("hidden_size", "joint_attention_dim"), ("projection_dim", "pooled_projection_dim")] {
        let mut config = official();
        config["text"]["tower"][key] = json!(512);
        let message = architecture(config).unwrap_err();
        assert_eq!(message, format!("f: config 'text.{key}': expected {of} 1024, found 512"));
    }
    for (part, key) in [("generator", "num_layers"), ("tokenizer", "num_vq_embeddings")] {
        let mut config = official();
        config[part].as_object_mut().unwrap().remove(key);
        assert!(architecture(config).unwrap_err().contains(key));
    }
}

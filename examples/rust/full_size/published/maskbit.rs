//! MaskBit of 14 bits at 256×256, 302 M parameters: configs/generator/maskbit_generator_14bit.yaml and its tokenizer.

use serde_json::json;

use super::{List, Published, Tensors};

pub fn published() -> Published {
    let config = json!({"img_size": 256, "hidden_dim": 1024, "depth": 24, "heads": 16, "mlp_dim": 4096,
    "nclass": 1000, "codebook_splits": 2, "use_prenorm": false, "token_size": 14, "num_channels": 3,
    "hidden_channels": 128, "channel_mult": [1, 1, 2, 2, 4], "num_resolutions": 5, "num_res_blocks": 2,
    "sample_with_conv": true, "input_stride": 16});
    Published {
        family: "maskbit",
        generator: generator(),
        tokenizer: tokenizer(),
        text_encoder: None,
        config: Some(config),
    }
}

fn generator() -> Tensors {
    let (d, mlp) = (1024, 4096);
    let mut t = List::default();
    t.add("class_emb.weight", &[1001, d]);
    t.linear("input_proj", d, 14);
    t.add("pos_emb", &[1, 257, d]);
    t.norm("first_layer.0", d);
    for i in 0..24 {
        let layer = format!("transformer.layers.{i}");
        t.add(&format!("{layer}.0.mha.in_proj_weight"), &[3 * d, d]);
        t.add(&format!("{layer}.0.mha.in_proj_bias"), &[3 * d]);
        t.linear(&format!("{layer}.0.mha.out_proj"), d, d);
        t.norm(&format!("{layer}.0.norm"), d);
        t.linear(&format!("{layer}.1.net.0"), mlp, d);
        t.linear(&format!("{layer}.1.net.2"), d, mlp);
        t.norm(&format!("{layer}.1.norm"), d);
    }
    t.linear("last_layer.0", d, d);
    t.norm("last_layer.2", d);
    t.linear("prediction_layer", 256, d);
    t.0
}

fn res_blocks(t: &mut List, stage: &str, mut channels: usize, out: usize) {
    for i in 0..2 {
        let block = format!("{stage}.res_blocks.{i}");
        t.norm(&format!("{block}.norm1"), channels);
        t.norm(&format!("{block}.norm2"), out);
        t.add(&format!("{block}.conv1.weight"), &[out, channels, 3, 3]);
        t.add(&format!("{block}.conv2.weight"), &[out, out, 3, 3]);
        if channels != out {
            t.add(&format!("{block}.nin_shortcut.weight"), &[out, out, 1, 1]);
        }
        channels = out;
    }
}

fn tokenizer() -> Tensors {
    let width = [128, 128, 256, 256, 512];
    let mut t = List::default();
    t.add("encoder.conv_in.weight", &[128, 3, 3, 3]);
    for level in 0..5 {
        let stage = format!("encoder.down.{level}");
        res_blocks(&mut t, &stage, width[level.max(1) - 1], width[level]);
        if level < 4 {
            t.conv(&format!("{stage}.down_conv"), width[level], width[level], 3);
        }
    }
    res_blocks(&mut t, "encoder.mid", 512, 512);
    t.conv("encoder.conv_out", 14, 512, 1);
    t.conv("decoder.conv_in", 512, 14, 3);
    res_blocks(&mut t, "decoder.mid", 512, 512);
    let mut channels = 512;
    for (i, level) in (0..5).rev().enumerate() {
        let stage = format!("decoder.up.{i}");
        res_blocks(&mut t, &stage, channels, width[level]);
        channels = width[level];
        if level > 0 {
            t.conv(&format!("{stage}.upsample_conv"), channels, channels, 3);
        }
    }
    t.conv("decoder.conv_out", 3, 128, 3);
    t.norm("encoder.norm_out", 512);
    t.norm("decoder.norm_out", 128);
    t.0
}

//! MaskGIT at 256×256 as published: a generator of 174 M parameters, the VQGAN of 16 pixels and 1024 codes. The
//! files carry no configuration, as the published ones: only the heads are given.

use serde_json::json;

use super::{List, Published, Tensors};

pub fn published() -> Published {
    Published {
        family: "maskgit",
        generator: generator(),
        tokenizer: vqgan(),
        text_encoder: None,
        config: Some(json!({ "heads": 16 })),
    }
}

fn generator() -> Tensors {
    let (d, mlp, rows) = (768, 3072, 1024 + 1 + 1000 + 1);
    let mut t = List::default();
    t.add("tok_emb.weight", &[rows, d]);
    t.add("pos_emb", &[1, 257, d]);
    t.add("bias", &[257, rows]);
    for name in ["first_layer.0", "first_layer.4", "last_layer.0", "last_layer.4"] {
        t.norm(name, d);
    }
    for name in ["first_layer.2", "first_layer.6", "last_layer.2"] {
        t.linear(name, d, d);
    }
    for i in 0..24 {
        let layer = format!("transformer.layers.{i}");
        t.norm(&format!("{layer}.0.norm"), d);
        t.add(&format!("{layer}.0.fn.mha.in_proj_weight"), &[3 * d, d]);
        t.add(&format!("{layer}.0.fn.mha.in_proj_bias"), &[3 * d]);
        t.linear(&format!("{layer}.0.fn.mha.out_proj"), d, d);
        t.norm(&format!("{layer}.1.norm"), d);
        t.linear(&format!("{layer}.1.fn.net.0"), mlp, d);
        t.linear(&format!("{layer}.1.fn.net.3"), d, mlp);
    }
    t.0
}

fn res_block(t: &mut List, name: &str, inner: usize, out: usize) {
    t.norm(&format!("{name}.norm1"), inner);
    t.conv(&format!("{name}.conv1"), out, inner, 3);
    t.norm(&format!("{name}.norm2"), out);
    t.conv(&format!("{name}.conv2"), out, out, 3);
    if inner != out {
        t.conv(&format!("{name}.nin_shortcut"), out, inner, 1);
    }
}

fn attention(t: &mut List, name: &str, c: usize) {
    t.norm(&format!("{name}.norm"), c);
    ["q", "k", "v", "proj_out"].iter().for_each(|map| t.conv(&format!("{name}.{map}"), c, c, 1));
}

/// One level's blocks; the lowest, 16×16, has attention.
fn level(t: &mut List, name: &str, blocks: usize, mut channels: usize, out: usize, lowest: bool) {
    for j in 0..blocks {
        res_block(t, &format!("{name}.block.{j}"), channels, out);
        if lowest {
            attention(t, &format!("{name}.attn.{j}"), out);
        }
        channels = out;
    }
}

fn vqgan() -> Tensors {
    let width = [128, 128, 256, 256, 512];
    let mut t = List::default();
    t.add("quantize.embedding.weight", &[1024, 256]);
    t.conv("encoder.conv_in", 128, 3, 3);
    for i in 0..5 {
        let down = format!("encoder.down.{i}");
        level(&mut t, &down, 2, width[i.max(1) - 1], width[i], i == 4);
        if i < 4 {
            t.conv(&format!("{down}.downsample.conv"), width[i], width[i], 3);
        }
    }
    t.conv("decoder.conv_in", 512, 256, 3);
    let mut channels = 512;
    for i in (0..5).rev() {
        let up = format!("decoder.up.{i}");
        level(&mut t, &up, 3, channels, width[i], i == 4);
        channels = width[i];
        if i > 0 {
            t.conv(&format!("{up}.upsample.conv"), channels, channels, 3);
        }
    }
    for (part, channels, out) in [("encoder", 512, 256), ("decoder", 128, 3)] {
        for block in ["block_1", "block_2"] {
            res_block(&mut t, &format!("{part}.mid.{block}"), 512, 512);
        }
        attention(&mut t, &format!("{part}.mid.attn_1"), 512);
        t.norm(&format!("{part}.norm_out"), channels);
        t.conv(&format!("{part}.conv_out"), out, channels, 3);
    }
    t.conv("quant_conv", 256, 256, 1);
    t.conv("post_quant_conv", 256, 256, 1);
    t.0
}

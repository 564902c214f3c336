//! Meissonic of 1 B parameters at 1024×1024, its VQ-VAE of 16 pixels and 8192 codes, the text tower of CLIP ViT-H/14.

use serde_json::json;

use super::{List, Published, Tensors, clip_text};

pub fn published() -> Published {
    let config = json!({
        "transformer": {
            "num_layers": 14, "num_single_layers": 28, "attention_head_dim": 128, "num_attention_heads": 8,
            "joint_attention_dim": 1024, "pooled_projection_dim": 1024, "downsample": true, "upsample": true,
        },
        "vqvae": {
            "block_out_channels": CHANNELS, "layers_per_block": 2, "latent_channels": 64,
            "num_vq_embeddings": V, "mid_block_add_attention": false,
        },
    });
    Published {
        family: "meissonic",
        generator: meissonic(),
        tokenizer: vqvae(),
        text_encoder: Some(clip_text(1024, 24)),
        config: Some(config),
    }
}

/// Number of codes.
const V: usize = 8192;

/// diffusers' `ResnetBlock2D`.
fn resnet(t: &mut List, name: &str, inner: usize, out: usize) {
    t.norm(&format!("{name}.norm1"), inner);
    t.conv(&format!("{name}.conv1"), out, inner, 3);
    t.norm(&format!("{name}.norm2"), out);
    t.conv(&format!("{name}.conv2"), out, out, 3);
    if inner != out {
        t.conv(&format!("{name}.conv_shortcut"), out, inner, 1);
    }
}

/// Meissonic's `Transformer2DModel`: 8 heads of 128, 14 blocks and 28 single ones.
fn meissonic() -> Tensors {
    let (d, head, vocab) = (1024, 128, V + 64);
    let mut t = List::default();
    t.weight("embed.embeddings", &[vocab, d]);
    t.weight("embed.conv", &[d, d, 1, 1]);
    for norm in ["embed.layer_norm", "mlm_layer.layer_norm", "encoder_proj_layer_norm"] {
        t.weight(norm, &[d]);
    }
    for name in ["project_to_hidden", "project_from_hidden"] {
        t.weight(&format!("{name}_norm"), &[d]);
        t.weight(name, &[d, d]);
    }
    for name in ["down_block.downsample", "up_block.upsample"] {
        t.weight(&format!("{name}.norm"), &[d]);
        t.weight(&format!("{name}.conv"), &[d, d, 2, 2]);
    }
    t.weight("cond_embed.linear_1", &[d, d + 5 * 256]);
    t.weight("cond_embed.linear_2", &[d, d]);
    for (name, inner) in [("timestep_embedder", 256), ("text_embedder", d)] {
        t.linear(&format!("time_text_embed.{name}.linear_1"), d, inner);
        t.linear(&format!("time_text_embed.{name}.linear_2"), d, d);
    }
    t.linear("context_embedder", d, d);
    for i in 0..14 {
        let block = format!("transformer_blocks.{i}");
        for name in ["norm1", "norm1_context"] {
            t.linear(&format!("{block}.{name}.linear"), 6 * d, d);
        }
        for name in
            ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"]
        {
            t.linear(&format!("{block}.attn.{name}"), d, d);
        }
        for name in ["norm_q", "norm_k", "norm_added_q", "norm_added_k"] {
            t.weight(&format!("{block}.attn.{name}"), &[head]);
        }
        for name in ["ff", "ff_context"] {
            t.linear(&format!("{block}.{name}.net.0.proj"), 4 * d, d);
            t.linear(&format!("{block}.{name}.net.2"), d, 4 * d);
        }
    }
    for i in 0..28 {
        let block = format!("single_transformer_blocks.{i}");
        t.linear(&format!("{block}.norm.linear"), 3 * d, d);
        ["to_q", "to_k", "to_v"].iter().for_each(|name| t.linear(&format!("{block}.attn.{name}"), d, d));
        ["norm_q", "norm_k"].iter().for_each(|name| t.weight(&format!("{block}.attn.{name}"), &[head]));
        t.linear(&format!("{block}.proj_mlp"), 4 * d, d);
        t.linear(&format!("{block}.proj_out"), d, 5 * d);
    }
    t.weight("mlm_layer.conv1", &[d, d, 1, 1]);
    t.weight("mlm_layer.conv2", &[V, d, 1, 1]);
    t.0
}

/// Channels of Meissonic's `VQModel`, 16 pixels a code.
const CHANNELS: [usize; 5] = [128, 256, 256, 512, 768];

fn vqvae() -> Tensors {
    let (c, deepest) = (64, CHANNELS[4]);
    let mut t = List::default();
    t.weight("quantize.embedding", &[V, c]);
    t.conv("quant_conv", c, c, 1);
    t.conv("post_quant_conv", c, c, 1);
    t.conv("encoder.conv_in", CHANNELS[0], 3, 3);
    t.conv("decoder.conv_in", deepest, c, 3);
    let (mut of_encoder, mut of_decoder) = (CHANNELS[0], deepest);
    for i in 0..5 {
        let (down, up) = (format!("encoder.down_blocks.{i}"), format!("decoder.up_blocks.{i}"));
        for j in 0..3 {
            if j < 2 {
                resnet(&mut t, &format!("{down}.resnets.{j}"), of_encoder, CHANNELS[i]);
            }
            resnet(&mut t, &format!("{up}.resnets.{j}"), of_decoder, CHANNELS[4 - i]);
            (of_encoder, of_decoder) = (CHANNELS[i], CHANNELS[4 - i]);
        }
        if i < 4 {
            t.conv(&format!("{down}.downsamplers.0.conv"), of_encoder, of_encoder, 3);
            t.conv(&format!("{up}.upsamplers.0.conv"), of_decoder, of_decoder, 3);
        }
    }
    for (part, last, out) in [("encoder", deepest, c), ("decoder", CHANNELS[0], 3)] {
        (0..2).for_each(|j| resnet(&mut t, &format!("{part}.mid_block.resnets.{j}"), deepest, deepest));
        t.norm(&format!("{part}.conv_norm_out"), last);
        t.conv(&format!("{part}.conv_out"), out, last, 3);
    }
    t.0
}

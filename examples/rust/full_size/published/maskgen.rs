//! MaskGen-VQ L (width 1024, depth 16) and XL (1280, 20), TA-TiTok of 128 tokens, the text tower of CLIP ViT-L/14.

use serde_json::json;

use super::{List, Published, Tensors, clip_text};

pub fn published(width: usize, depth: usize) -> Published {
    let config = json!({
        "model": {
            "vq_model": {
                "quantize_mode": "vq", "codebook_size": V, "token_size": 64, "use_l2_norm": false,
                "vit_enc_model_size": "base", "vit_dec_model_size": "large", "vit_enc_patch_size": 16,
                "vit_dec_patch_size": 16, "num_latent_tokens": N, "finetune_decoder": false,
                "is_legacy": false,
            },
            "maskgen": {
                "decoder_embed_dim": width, "decoder_depth": depth, "decoder_num_heads": 16,
                "micro_condition": true, "micro_condition_embed_dim": 256, "condition_num_classes": 1000,
                "cfg": 12.0, "num_iter": 16, "temperature": 2.0, "sample_aesthetic_score": 6.5,
            },
        },
        "dataset": { "preprocessing": { "crop_size": 256 } },
    });
    Published {
        family: "maskgen",
        generator: maskgen(width, depth),
        tokenizer: tatitok(),
        text_encoder: Some(clip_text(E, 12)),
        config: Some(config),
    }
}

/// Codes, tokens of a picture, text length and width of the published models.
const V: usize = 8192;
const N: usize = 128;
const L: usize = 77;
const E: usize = 768;

/// `MaskGen_VQ` of a width and depth.
fn maskgen(d: usize, depth: usize) -> Tensors {
    let mut t = List::default();
    t.add("embeddings.weight", &[V + 1 + 1000 + 1, d]);
    t.add("pos_embed", &[1, N, d]);
    t.linear("text_embed_proj", d, E);
    t.linear("cond_pooled_proj", d, E + 256);
    t.linear("norm.linear", 2 * d, d);
    for i in 0..depth {
        let block = format!("blocks.{i}");
        let last = i + 1 == depth;
        t.linear(&format!("{block}.norm1.linear"), 6 * d, d);
        t.linear(&format!("{block}.norm1_context.linear"), if last { 2 * d } else { 6 * d }, d);
        for name in ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj"] {
            t.linear(&format!("{block}.attn.{name}"), d, d);
        }
        t.linear(&format!("{block}.ff.net.0.proj"), 4 * d, d);
        t.linear(&format!("{block}.ff.net.2"), d, 4 * d);
        if !last {
            t.linear(&format!("{block}.attn.to_add_out"), d, d);
            t.linear(&format!("{block}.ff_context.net.0.proj"), 4 * d, d);
            t.linear(&format!("{block}.ff_context.net.2"), d, 4 * d);
        }
    }
    t.0
}

/// `TATiTok` with encoder base and decoder large, 256 pixels in patches of 16.
fn tatitok() -> Tensors {
    let (patches, c) = (256, 64);
    let mut t = List::default();
    t.add("latent_tokens", &[N, 768]);
    t.add("quantize.embedding.weight", &[V, c]);
    for (part, d, layers) in [("encoder", 768, 12), ("decoder", 1024, 24)] {
        t.add(&format!("{part}.class_embedding"), &[1, d]);
        t.add(&format!("{part}.positional_embedding"), &[1 + patches, d]);
        t.add(&format!("{part}.latent_token_positional_embedding"), &[N, d]);
        t.norm(&format!("{part}.ln_pre"), d);
        t.norm(&format!("{part}.ln_post"), d);
        (0..layers).for_each(|i| t.block(&format!("{part}.transformer.{i}"), d));
    }
    t.add("encoder.patch_embed.weight", &[768, 3, 16, 16]);
    t.add("encoder.patch_embed.bias", &[768]);
    t.add("encoder.conv_out.weight", &[c, 768, 1, 1]);
    t.add("encoder.conv_out.bias", &[c]);
    t.linear("decoder.decoder_embed", 1024, c);
    t.add("decoder.mask_token", &[1, 1, 1024]);
    t.linear("decoder.text_guidance_proj", 1024, E);
    t.add("decoder.text_guidance_positional_embedding", &[L, 1024]);
    t.add("decoder.ffn.0.weight", &[16 * 16 * 3, 1024, 1, 1]);
    t.add("decoder.ffn.0.bias", &[16 * 16 * 3]);
    t.add("decoder.conv_out.weight", &[3, 3, 3, 3]);
    t.add("decoder.conv_out.bias", &[3]);
    t.0
}

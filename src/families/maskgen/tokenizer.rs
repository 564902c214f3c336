//! TA-TiTok: an image tokenizer with one-dimensional tokens. Vision transformers encode and decode; a prompt
//! guides the decoder.
//!
//! Paper: "Democratizing Text-to-Image Masked Generative Models with Compact Text-Aware One-Dimensional
//! Tokens", arXiv 2501.07730; before it, "An Image is Worth 32 Tokens for Reconstruction and Generation",
//! arXiv 2406.07550.
//! Reference: bytedance/1d-tokenizer, modeling/tatitok.py (`TATiTok`), modeling/modules/blocks.py
//! (`TiTokEncoder`, `TATiTokDecoder`, `ResidualAttentionBlock`), modeling/quantizer/quantizer.py
//! (`VectorQuantizer`).
//! Checkpoints: TA-TiTok with 32, 64 and 128 discrete tokens (turkeyju/tokenizer_tatitok_bl{32,64,128}_vq).
//! Checked by tests/integration/families/maskgen against golden tensors of the official code.
//!
//! | tensor | shape |
//! |---|---|
//! | `latent_tokens` | [N, D] of the encoder |
//! | `encoder.patch_embed.{weight,bias}` | [D, 3, patch, patch], \[D\] |
//! | `encoder.conv_out.{weight,bias}` | [C, D, 1, 1], \[C\] |
//! | `quantize.embedding.weight` | [V, C] |
//! | `decoder.decoder_embed` | [D, C] |
//! | `decoder.mask_token` | [1, 1, D] |
//! | `decoder.text_guidance_proj` | [D, E] |
//! | `decoder.text_guidance_positional_embedding` | [L, D] |
//! | `decoder.ffn.0.{weight,bias}` | [patch · patch · 3, D, 1, 1]; rows ordered (row, column, colour) |
//! | `decoder.conv_out.{weight,bias}` | [3, 3, 3, 3], \[3\] |
//!
//! | of `encoder` and `decoder` | shape |
//! |---|---|
//! | `class_embedding` | [1, D] |
//! | `positional_embedding` | [1 + patches, D] |
//! | `latent_token_positional_embedding` | [N, D] |
//! | `ln_pre`, `ln_post`, `transformer.{i}.ln_1`, `transformer.{i}.ln_2` | LayerNorm |
//! | `transformer.{i}.attn` | attention, packed |
//! | `transformer.{i}.mlp.c_fc`, `transformer.{i}.mlp.c_proj` | [4D, D], [D, 4D] |

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::nn;
use crate::nn::sizes::{check_channels, check_divisor, check_size, wrong};
use crate::weights::Weights;

/// LayerNorm epsilon, everywhere in the tokenizer.
const EPS: f32 = 1e-5;

/// A vision transformer's size by the official name, or spelt out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ModelSize {
    Named(SizeName),
    Sizes { width: usize, num_layers: usize, num_heads: usize },
}

/// The sizes that have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SizeName {
    Small,
    Base,
    Large,
}

impl ModelSize {
    /// Width D.
    pub fn width(self) -> usize {
        self.sizes()[0]
    }

    pub fn num_layers(self) -> usize {
        self.sizes()[1]
    }

    pub fn num_heads(self) -> usize {
        self.sizes()[2]
    }

    fn sizes(self) -> [usize; 3] {
        match self {
            ModelSize::Named(SizeName::Small) => [512, 8, 8],
            ModelSize::Named(SizeName::Base) => [768, 12, 12],
            ModelSize::Named(SizeName::Large) => [1024, 24, 16],
            ModelSize::Sizes { width, num_layers, num_heads } => [width, num_layers, num_heads],
        }
    }
}

/// Sizes, under the key names of the official configuration (`model.vq_model`, `dataset.preprocessing`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Width and height of the picture in pixels.
    pub crop_size: usize,
    /// Channels of the picture: 3, as in all official code, or 4 with alpha.
    #[serde(default = "num_channels", skip_serializing_if = "is_opaque")]
    pub num_channels: usize,
    /// Codes V.
    pub codebook_size: usize,
    /// Width C of a code.
    pub token_size: usize,
    /// Whether codes have length 1.
    #[serde(default)]
    pub use_l2_norm: bool,
    pub vit_enc_model_size: ModelSize,
    pub vit_dec_model_size: ModelSize,
    pub vit_enc_patch_size: usize,
    pub vit_dec_patch_size: usize,
    /// Tokens N of a picture.
    pub num_latent_tokens: usize,
    /// Length L of the text guidance in tokens, and its width E.
    #[serde(default = "text_context_length")]
    pub text_context_length: usize,
    #[serde(default = "text_embed_dim")]
    pub text_embed_dim: usize,
    /// Latent tokens reshaped where they should be transposed, and a decoder that ends in logits.
    #[serde(default = "official_default")]
    pub is_legacy: bool,
    /// Whether a convolutional network makes the pixels.
    #[serde(default = "official_default")]
    pub finetune_decoder: bool,
}

fn num_channels() -> usize {
    3
}

fn is_opaque(channels: &usize) -> bool {
    *channels == num_channels()
}

fn text_context_length() -> usize {
    77
}

fn text_embed_dim() -> usize {
    768
}

/// What the official code takes these switches for where the configuration is silent.
fn official_default() -> bool {
    true
}

impl Config {
    /// Patches of the encoder's and of the decoder's picture.
    fn patches(&self, patch_size: usize) -> usize {
        (self.crop_size / patch_size) * (self.crop_size / patch_size)
    }

    /// Refuse sizes that make no sense and variants that TA-TiTok's checkpoints do not have. `file` is named in
    /// the error.
    pub fn validate(&self, file: &str) -> Result<()> {
        check_size(file, "crop_size", self.crop_size, 4096)?;
        check_channels(file, "num_channels", self.num_channels)?;
        check_size(file, "codebook_size", self.codebook_size, nn::sizes::SIZE_LIMIT)?;
        check_size(file, "token_size", self.token_size, nn::sizes::SIZE_LIMIT)?;
        check_size(file, "num_latent_tokens", self.num_latent_tokens, nn::sizes::SIZE_LIMIT)?;
        check_size(file, "text_context_length", self.text_context_length, nn::sizes::SIZE_LIMIT)?;
        check_size(file, "text_embed_dim", self.text_embed_dim, nn::sizes::SIZE_LIMIT)?;
        for (key, size, patch_key, patch_size) in [
            ("vit_enc_model_size", self.vit_enc_model_size, "vit_enc_patch_size", self.vit_enc_patch_size),
            ("vit_dec_model_size", self.vit_dec_model_size, "vit_dec_patch_size", self.vit_dec_patch_size),
        ] {
            check_size(file, &format!("{key}.width"), size.width(), nn::sizes::SIZE_LIMIT)?;
            check_size(file, &format!("{key}.num_layers"), size.num_layers(), 1024)?;
            check_size(file, &format!("{key}.num_heads"), size.num_heads(), size.width())?;
            check_divisor(file, &format!("{key}.num_heads"), size.num_heads(), "width", size.width())?;
            check_size(file, patch_key, patch_size, self.crop_size)?;
            check_divisor(file, patch_key, patch_size, "crop_size", self.crop_size)?;
        }
        for (key, switch) in [("is_legacy", self.is_legacy), ("finetune_decoder", self.finetune_decoder)] {
            if switch {
                let expected = "false (a TA-TiTok over discrete tokens that predicts pixels itself)";
                return Err(wrong(file, key, expected, switch));
            }
        }
        Ok(())
    }
}

/// `TiTokEncoder`: image [B, channels, crop_size, crop_size] in [0, 1] → z [B, C, 1, N] before quantisation.
pub fn encode(g: &Graph, w: &Weights, cfg: &Config, image: Value) -> Result<Value> {
    let (b, n, c) = (g.shape(image)[0], cfg.num_latent_tokens, cfg.token_size);
    let (d, p) = (cfg.vit_enc_model_size.width(), cfg.vit_enc_patch_size);
    let (patches, channels) = (cfg.patches(p), cfg.num_channels);
    let latents = w.get(g, "latent_tokens", [n, d])?;
    let w = w.at("encoder");
    let patch = w.at("patch_embed");
    let weight = g.reshape(patch.get(g, "weight", [d, channels, p, p])?, [d, channels * p * p])?;
    let x = nn::patches(g, image, p)?; // [B, patches, channels·patch²]
    let x = nn::affine(g, x, weight, Some(patch.get(g, "bias", [d])?))?; // [B, patches, D]
    let class = g.expand(w.get(g, "class_embedding", [1, d])?, [b, 1, d])?;
    let x = g.concat(&[class, x], 1)?;
    let x = g.add(x, w.get(g, "positional_embedding", [1 + patches, d])?)?;
    let latents = g.add(latents, w.get(g, "latent_token_positional_embedding", [n, d])?)?;
    let x = g.concat(&[x, g.expand(latents, [b, n, d])?], 1)?; // [B, 1 + patches + N, D]
    let x = transformer(g, &w, cfg.vit_enc_model_size, x)?;
    let x = g.slice(x, 1, 1 + patches, 1 + patches + n)?; // the latent tokens
    let x = nn::layer_norm(g, &w.at("ln_post"), x, EPS)?;
    let z = pointwise(g, &w.at("conv_out"), x, c)?; // [B, N, C]
    g.reshape(g.transpose(z, &[0, 2, 1])?, [b, c, 1, n])
}

/// `VectorQuantizer`: z [B, C, 1, N] → ids [B, N] (i64) of the nearest codes.
pub fn quantize(g: &Graph, w: &Weights, cfg: &Config, z: Value) -> Result<Value> {
    let (b, n, c) = (g.shape(z)[0], cfg.num_latent_tokens, cfg.token_size);
    let z = g.transpose(g.reshape(z, [b, c, n])?, &[0, 2, 1])?;
    let z = unit(g, cfg, g.reshape(z, [b * n, c])?)?; // [B·N, C]
    let codes = unit(g, cfg, codebook(g, w, cfg)?)?; // [V, C]
    // argmin ‖z − e‖² = argmax z·e − ‖e‖²/2
    let square = g.reduce_sum(g.mul(codes, codes)?, &[1])?;
    let offset = g.mul_scalar(g.reshape(square, [1, cfg.codebook_size])?, -0.5)?;
    let score = g.gemm(z, codes, Some(offset), false, true)?; // [B·N, V]
    g.reshape(g.arg_max(score, 1)?, [b, n])
}

/// Ids [B, N] (i64, no mask token) → their codes in the decoder's space [B, C, 1, N].
pub fn lookup(g: &Graph, w: &Weights, cfg: &Config, ids: Value) -> Result<Value> {
    layout(g, cfg, g.gather(codebook(g, w, cfg)?, ids)?)
}

/// Token distribution p [B, N, V] → expected codes in the decoder's space, p·E [B, C, 1, N].
pub fn soft_lookup(g: &Graph, w: &Weights, cfg: &Config, p: Value) -> Result<Value> {
    layout(g, cfg, nn::soft_embedding(g, p, codebook(g, w, cfg)?)?)
}

fn codebook(g: &Graph, w: &Weights, cfg: &Config) -> Result<Value> {
    w.at("quantize.embedding").get(g, "weight", [cfg.codebook_size, cfg.token_size])
}

/// Codes [B, N, C] as the decoder takes them: brought to length 1 where `use_l2_norm` is set, [B, C, 1, N].
fn layout(g: &Graph, cfg: &Config, codes: Value) -> Result<Value> {
    let (b, n, c) = (g.shape(codes)[0], cfg.num_latent_tokens, cfg.token_size);
    let codes = unit(g, cfg, g.reshape(codes, [b * n, c])?)?;
    g.reshape(g.transpose(g.reshape(codes, [b, n, c])?, &[0, 2, 1])?, [b, c, 1, n])
}

/// Rows [.., C] of length 1, where `use_l2_norm` is set.
fn unit(g: &Graph, cfg: &Config, rows: Value) -> Result<Value> {
    if cfg.use_l2_norm { nn::l2_normalize(g, rows) } else { Ok(rows) }
}

/// `TATiTokDecoder`: codes [B, C, 1, N], hard or soft, and text guidance [B, L, E], the text tower's last hidden
/// states after its final LayerNorm → image [B, channels, crop_size, crop_size], nominally in [0, 1], not clamped.
pub fn decode(g: &Graph, w: &Weights, cfg: &Config, code: Value, guidance: Value) -> Result<Value> {
    let (b, n, c) = (g.shape(code)[0], cfg.num_latent_tokens, cfg.token_size);
    let (d, p) = (cfg.vit_dec_model_size.width(), cfg.vit_dec_patch_size);
    let (l, patches, grid) = (cfg.text_context_length, cfg.patches(p), cfg.crop_size / p);
    if *g.shape(guidance) != [b, l, cfg.text_embed_dim] {
        let expected = format!("[{b}, {l}, {}]", cfg.text_embed_dim);
        return Err(Error::invalid("text guidance", expected, g.shape(guidance)));
    }
    let w = w.at("decoder");
    let class = g.reshape(w.get(g, "class_embedding", [1, d])?, [1, 1, d])?;
    let masks = g.expand(w.get(g, "mask_token", [1, 1, d])?, [1, patches, d])?;
    let canvas = g.concat(&[class, masks], 1)?;
    let canvas = g.add(canvas, w.get(g, "positional_embedding", [1 + patches, d])?)?;
    let canvas = g.expand(canvas, [b, 1 + patches, d])?;
    let x = g.transpose(g.reshape(code, [b, c, n])?, &[0, 2, 1])?; // [B, N, C]
    let x = nn::linear(g, &w.at("decoder_embed"), x, d)?;
    let x = g.add(x, w.get(g, "latent_token_positional_embedding", [n, d])?)?;
    let text = nn::linear(g, &w.at("text_guidance_proj"), guidance, d)?;
    let text = g.add(text, w.get(g, "text_guidance_positional_embedding", [l, d])?)?;
    let x = g.concat(&[canvas, x, text], 1)?; // [B, 1 + patches + N + L, D]
    let x = transformer(g, &w, cfg.vit_dec_model_size, x)?;
    let x = g.slice(x, 1, 1, 1 + patches)?; // the canvas without its class token
    let x = nn::layer_norm(g, &w.at("ln_post"), x, EPS)?;
    let channels = cfg.num_channels;
    let x = pointwise(g, &w.at("ffn.0"), x, p * p * channels)?;
    let x = g.reshape(x, [b, grid, grid, p, p, channels])?;
    let x = g.transpose(x, &[0, 5, 1, 3, 2, 4])?; // [B, channels, grid, patch, grid, patch]
    let x = g.reshape(x, [b, channels, cfg.crop_size, cfg.crop_size])?;
    nn::conv2d_same(g, &w.at("conv_out"), x, channels, 3, 1, true)
}

/// A 1×1 convolution, of x [B, N, I] → [B, N, O]; `weight` [O, I, 1, 1], `bias` [O].
fn pointwise(g: &Graph, w: &Weights, x: Value, out: usize) -> Result<Value> {
    let inner = g.shape(x)[2];
    let weight = g.reshape(w.get(g, "weight", [out, inner, 1, 1])?, [out, inner])?;
    nn::affine(g, x, weight, Some(w.get(g, "bias", [out])?))
}

/// `ln_pre` and the layers, over x [B, N, D].
fn transformer(g: &Graph, w: &Weights, size: ModelSize, x: Value) -> Result<Value> {
    let mut x = nn::layer_norm(g, &w.at("ln_pre"), x, EPS)?;
    for i in 0..size.num_layers() {
        let layer = w.at(format!("transformer.{i}"));
        x = g.end_block(residual_attention_block(g, &layer, size.num_heads(), x)?);
    }
    Ok(x)
}

/// `ResidualAttentionBlock`, pre-norm: x + MHA(LN(x)), then x + W₂·gelu(W₁·LN(x)).
fn residual_attention_block(g: &Graph, w: &Weights, heads: usize, x: Value) -> Result<Value> {
    let d = g.shape(x)[2];
    let y = nn::layer_norm(g, &w.at("ln_1"), x, EPS)?;
    let x = g.add(x, nn::multihead_attention(g, &w.at("attn"), y, heads)?)?;
    let y = nn::layer_norm(g, &w.at("ln_2"), x, EPS)?;
    let y = g.gelu(nn::linear(g, &w.at("mlp.c_fc"), y, 4 * d)?)?;
    g.add(x, nn::linear(g, &w.at("mlp.c_proj"), y, d)?)
}

//! MaskGen: an MM-DiT over one-dimensional tokens and a prompt's, TA-TiTok as the image tokenizer, prompts.

use serde::{Deserialize, Serialize};

use super::{Condition, ConditionLayout, Family, Layout, MicroConditions, bad_size, check_sizes};
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::models::text_encoder::TextEncoder;
use crate::models::{maskgen, tatitok};
use crate::sample::GuidanceForm;
use crate::weights::Weights;

/// Sizes of a MaskGen model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaskGen {
    pub generator: maskgen::Config,
    pub tokenizer: tatitok::Config,
    pub text: TextEncoder,
}

impl Family for MaskGen {
    fn name(&self) -> &'static str {
        "maskgen"
    }

    fn validate(&self, file: &str) -> Result<()> {
        let MaskGen { generator: g, tokenizer: t, text } = self;
        check_generator(file, g)?;
        check_tokenizer(file, t)?;
        text.validate(file)?;
        for (key, of_generator, of_tokenizer) in [
            ("codebook_size", g.codebook_size, t.codebook_size),
            ("num_latent_tokens", g.num_latent_tokens, t.num_latent_tokens),
            ("text_embed_dim", g.text_embed_dim, t.text_embed_dim),
        ] {
            if of_generator != of_tokenizer {
                let found = format!("{of_generator} and {of_tokenizer}");
                return Err(bad_size(file, key, "one value in generator and tokenizer", found));
            }
        }
        for (key, of_text, expected) in [
            ("hidden_size", text.tower.hidden_size, g.text_embed_dim),
            ("projection_dim", text.tower.projection_dim, g.text_embed_dim),
            ("context_length", text.context_length, t.text_context_length),
        ] {
            if of_text != expected {
                let expected = format!("{expected}, which generator and tokenizer read of a text");
                return Err(bad_size(file, &format!("text.{key}"), &expected, of_text));
            }
        }
        Ok(())
    }

    fn layout(&self) -> Layout {
        let g = &self.generator;
        Layout {
            positions: g.num_latent_tokens,
            splits: 1,
            codes: g.codebook_size,
            mask_token: g.codebook_size,
            embedding: g.decoder_embed_dim,
            classes: 0,
            width: self.tokenizer.crop_size,
            height: self.tokenizer.crop_size,
            grid: None,
        }
    }

    fn condition_layout(&self) -> ConditionLayout {
        let (l, e) = (self.tokenizer.text_context_length, self.tokenizer.text_embed_dim);
        ConditionLayout {
            embedding: vec![l, e],
            pooled: Some(e),
            guidance: Some([l, e]),
            micro: 1,
            timestep: false,
        }
    }

    fn guidance_form(&self) -> GuidanceForm {
        GuidanceForm::FromConditional
    }

    fn text(&self) -> Option<&TextEncoder> {
        Some(&self.text)
    }

    fn micro(&self, micro: &MicroConditions) -> Vec<f32> {
        vec![micro.aesthetic_score]
    }

    fn embed(&self, g: &Graph, w: &Weights, tokens: Value) -> Result<Value> {
        maskgen::embed(g, w, &self.generator, flat(g, tokens)?)
    }

    fn embed_soft(&self, g: &Graph, w: &Weights, p: Value, shown: Value) -> Result<Value> {
        maskgen::embed_soft(g, w, &self.generator, without_splits(g, p)?, without_splits(g, shown)?)
    }

    fn logits(&self, g: &Graph, w: &Weights, e_in: Value, condition: &Condition) -> Result<Value> {
        let (Some(pooled), Some(micro)) = (condition.pooled, condition.micro) else {
            return Err(Error::internal("MaskGen's condition has pooled features and an aesthetic score"));
        };
        let (cfg, b) = (&self.generator, g.shape(e_in)[0]);
        let aesthetic = g.reshape(micro, [b])?;
        let z = maskgen::logits(g, w, cfg, e_in, condition.embedding, pooled, aesthetic)?;
        g.reshape(z, [b, cfg.num_latent_tokens, 1, cfg.codebook_size])
    }

    fn soft_embedding(&self, g: &Graph, w: &Weights, p: Value) -> Result<Value> {
        tatitok::soft_lookup(g, w, &self.tokenizer, without_splits(g, p)?)
    }

    fn hard_embedding(&self, g: &Graph, w: &Weights, tokens: Value) -> Result<Value> {
        tatitok::lookup(g, w, &self.tokenizer, flat(g, tokens)?)
    }

    fn decode(&self, g: &Graph, w: &Weights, code: Value, guidance: Option<Value>) -> Result<Value> {
        let guidance = guidance.ok_or_else(|| Error::internal("TA-TiTok decodes under a prompt"))?;
        tatitok::decode(g, w, &self.tokenizer, code, guidance)
    }

    fn encode(&self, g: &Graph, w: &Weights, image: Value) -> Result<Value> {
        let (cfg, b) = (&self.tokenizer, g.shape(image)[0]);
        let ids = tatitok::quantize(g, w, cfg, tatitok::encode(g, w, cfg, image)?)?;
        g.reshape(ids, [b, cfg.num_latent_tokens, 1])
    }
}

/// Tokens [B, N, 1] → [B, N].
fn flat(g: &Graph, tokens: Value) -> Result<Value> {
    let s = g.shape(tokens);
    g.reshape(tokens, [s[0], s[1]])
}

/// A distribution, or a mask of one: [B, N, 1, V] → [B, N, V].
fn without_splits(g: &Graph, p: Value) -> Result<Value> {
    let s = g.shape(p);
    g.reshape(p, [s[0], s[1], s[3]])
}

fn check_generator(file: &str, g: &maskgen::Config) -> Result<()> {
    let sizes = [
        ("codebook_size", g.codebook_size),
        ("num_latent_tokens", g.num_latent_tokens),
        ("text_embed_dim", g.text_embed_dim),
        ("decoder_embed_dim", g.decoder_embed_dim),
        ("decoder_depth", g.decoder_depth),
        ("decoder_num_heads", g.decoder_num_heads),
        ("micro_condition_embed_dim", g.micro_condition_embed_dim),
        ("condition_num_classes", g.condition_num_classes),
    ];
    check_sizes(file, &sizes)?;
    let fail = |key: &str, expected: &str, found: String| Err(bad_size(file, key, expected, found));
    if g.decoder_depth > 1024 {
        return fail("decoder_depth", "at most 1024", g.decoder_depth.to_string());
    }
    if !g.decoder_embed_dim.is_multiple_of(g.decoder_num_heads) {
        let found = format!("{} and {}", g.decoder_num_heads, g.decoder_embed_dim);
        return fail("decoder_num_heads", "a divisor of decoder_embed_dim", found);
    }
    if !g.micro_condition_embed_dim.is_multiple_of(2) {
        let found = g.micro_condition_embed_dim.to_string();
        return fail("micro_condition_embed_dim", "an even number", found);
    }
    for (key, switch) in [("micro_condition", g.micro_condition), ("weight_tying", g.weight_tying)] {
        if !switch {
            return fail(key, "true (as in the published generators)", "false".into());
        }
    }
    Ok(())
}

fn check_tokenizer(file: &str, t: &tatitok::Config) -> Result<()> {
    let (encoder, decoder) = (t.vit_enc_model_size, t.vit_dec_model_size);
    let sizes = [
        ("crop_size", t.crop_size),
        ("codebook_size", t.codebook_size),
        ("token_size", t.token_size),
        ("num_latent_tokens", t.num_latent_tokens),
        ("text_context_length", t.text_context_length),
        ("text_embed_dim", t.text_embed_dim),
        ("vit_enc_patch_size", t.vit_enc_patch_size),
        ("vit_dec_patch_size", t.vit_dec_patch_size),
        ("vit_enc_model_size.width", encoder.width()),
        ("vit_enc_model_size.num_layers", encoder.num_layers()),
        ("vit_enc_model_size.num_heads", encoder.num_heads()),
        ("vit_dec_model_size.width", decoder.width()),
        ("vit_dec_model_size.num_layers", decoder.num_layers()),
        ("vit_dec_model_size.num_heads", decoder.num_heads()),
    ];
    check_sizes(file, &sizes)?;
    let fail = |key: &str, expected: &str, found: String| Err(bad_size(file, key, expected, found));
    if t.crop_size > 4096 {
        return fail("crop_size", "at most 4096", t.crop_size.to_string());
    }
    for (key, patch) in
        [("vit_enc_patch_size", t.vit_enc_patch_size), ("vit_dec_patch_size", t.vit_dec_patch_size)]
    {
        if !t.crop_size.is_multiple_of(patch) {
            return fail(key, "a divisor of crop_size", format!("{patch} and {}", t.crop_size));
        }
    }
    for (key, size) in [("vit_enc_model_size", encoder), ("vit_dec_model_size", decoder)] {
        if size.num_layers() > 1024 {
            return fail(&format!("{key}.num_layers"), "at most 1024", size.num_layers().to_string());
        }
        if !size.width().is_multiple_of(size.num_heads()) {
            let found = format!("{} and {}", size.num_heads(), size.width());
            return fail(&format!("{key}.num_heads"), "a divisor of width", found);
        }
    }
    for (key, switch) in [("is_legacy", t.is_legacy), ("finetune_decoder", t.finetune_decoder)] {
        if switch {
            let expected = "false (a TA-TiTok over discrete tokens, which predicts pixels itself)";
            return fail(key, expected, "true".into());
        }
    }
    Ok(())
}

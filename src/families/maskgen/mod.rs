//! MaskGen: an MM-DiT over one-dimensional tokens and a prompt's, TA-TiTok as the image tokenizer, prompts.

pub mod convert;
pub mod generator;
mod golden;
pub mod sampler;
pub mod tokenizer;

use serde::{Deserialize, Serialize};

use super::condition::{Condition, ConditionLayout, MicroConditions};
use super::family::{ConditionKind, Family, FamilyDescription, Layout, Sampler, without_splits};
use super::golden::Replay;
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::nn::sizes::wrong;
use crate::nn::text_encoder::TextEncoder;
use crate::weights::Weights;

pub const DESCRIPTION: FamilyDescription = FamilyDescription {
    name: "maskgen",
    about: "A MaskGen student, teacher or both, its TA-TiTok and its text encoder",
    condition: ConditionKind::Prompt,
};

/// Sizes of a MaskGen model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaskGen {
    pub generator: generator::Config,
    pub tokenizer: tokenizer::Config,
    pub text: TextEncoder,
}

impl Family for MaskGen {
    fn description(&self) -> &'static FamilyDescription {
        &DESCRIPTION
    }

    fn validate(&self, file: &str) -> Result<()> {
        let MaskGen { generator: g, tokenizer: t, text } = self;
        g.validate(file)?;
        t.validate(file)?;
        text.validate(file)?;
        let (widths, length) = (g.text_embed_dim, t.text_context_length);
        for (key, found, of, expected) in [
            ("num_latent_tokens", g.num_latent_tokens, "the tokenizer's", t.num_latent_tokens),
            ("codebook_size", g.codebook_size, "the tokenizer's", t.codebook_size),
            ("text_embed_dim", g.text_embed_dim, "the tokenizer's", t.text_embed_dim),
            ("text.hidden_size", text.tower.hidden_size, "text_embed_dim", widths),
            ("text.projection_dim", text.tower.projection_dim, "text_embed_dim", widths),
            ("text.context_length", text.context_length, "text_context_length", length),
        ] {
            if found != expected {
                return Err(wrong(file, key, format!("{of} {expected}"), found));
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
            channels: self.tokenizer.num_channels,
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

    fn text(&self) -> Option<&TextEncoder> {
        Some(&self.text)
    }

    fn micro(&self, micro: &MicroConditions) -> Vec<f32> {
        vec![micro.aesthetic_score]
    }

    fn embed(&self, g: &Graph, w: &Weights, tokens: Value) -> Result<Value> {
        generator::embed(g, w, &self.generator, without_splits(g, tokens)?)
    }

    fn embed_soft(&self, g: &Graph, w: &Weights, p: Value, shown: Value) -> Result<Value> {
        generator::embed_soft(g, w, &self.generator, without_splits(g, p)?, without_splits(g, shown)?)
    }

    fn logits(&self, g: &Graph, w: &Weights, e_in: Value, condition: &Condition) -> Result<Value> {
        let (Some(pooled), Some(micro)) = (condition.pooled, condition.micro) else {
            return Err(Error::internal("MaskGen's condition has pooled features and an aesthetic score"));
        };
        let (cfg, b) = (&self.generator, g.shape(e_in)[0]);
        let aesthetic = g.reshape(micro, [b])?;
        let z = generator::logits(g, w, cfg, e_in, condition.embedding, pooled, aesthetic)?;
        g.reshape(z, [b, cfg.num_latent_tokens, 1, cfg.codebook_size])
    }

    fn soft_embedding(&self, g: &Graph, w: &Weights, p: Value) -> Result<Value> {
        tokenizer::soft_lookup(g, w, &self.tokenizer, without_splits(g, p)?)
    }

    fn hard_embedding(&self, g: &Graph, w: &Weights, tokens: Value) -> Result<Value> {
        tokenizer::lookup(g, w, &self.tokenizer, without_splits(g, tokens)?)
    }

    fn decode(&self, g: &Graph, w: &Weights, code: Value, guidance: Option<Value>) -> Result<Value> {
        let guidance = guidance.ok_or_else(|| Error::internal("TA-TiTok decodes under a prompt"))?;
        tokenizer::decode(g, w, &self.tokenizer, code, guidance)
    }

    fn encode(&self, g: &Graph, w: &Weights, image: Value) -> Result<Value> {
        let (cfg, b) = (&self.tokenizer, g.shape(image)[0]);
        let ids = tokenizer::quantize(g, w, cfg, tokenizer::encode(g, w, cfg, image)?)?;
        g.reshape(ids, [b, cfg.num_latent_tokens, 1])
    }

    fn samplers(&self) -> &'static [Sampler] {
        &[sampler::SAMPLER]
    }

    fn golden_outputs(&self, g: &Graph, replay: &Replay) -> Result<()> {
        golden::outputs(g, replay, &self.generator, &self.tokenizer)
    }

    fn golden_soft_image(&self, g: &Graph, replay: &Replay, e: Value) -> Result<Value> {
        golden::soft_image(g, replay, &self.generator, &self.tokenizer, e)
    }
}

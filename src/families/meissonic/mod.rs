//! Meissonic: an MM-DiT over code tokens and a prompt's, diffusers' VQModel, prompts.

pub mod convert;
pub mod generator;
mod golden;
pub mod sampler;
pub mod tokenizer;

use serde::{Deserialize, Serialize};

use super::condition::{Condition, ConditionLayout, MicroConditions};
use super::family::{ConditionKind, Family, FamilyDescription, Layout, Sampler, with_splits, without_splits};
use super::golden::Replay;
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::nn::sizes::{check_size, wrong};
use crate::nn::text_encoder::TextEncoder;
use crate::weights::Weights;

pub const DESCRIPTION: FamilyDescription = FamilyDescription {
    name: "meissonic",
    about: "A Meissonic student, teacher or both, its VQ-VAE and its text encoder; each may be a pipeline's directory",
    condition: ConditionKind::Prompt,
};

/// Sizes of a Meissonic model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Meissonic {
    /// Width and height of a picture in pixels. No tensor and no official configuration shows it.
    pub resolution: usize,
    pub generator: generator::Config,
    pub tokenizer: tokenizer::Config,
    pub text: TextEncoder,
}

impl Meissonic {
    /// Rows and columns of the token grid.
    pub fn side(&self) -> usize {
        self.resolution / self.tokenizer.stride()
    }
}

impl Family for Meissonic {
    fn description(&self) -> &'static FamilyDescription {
        &DESCRIPTION
    }

    fn validate(&self, file: &str) -> Result<()> {
        let Meissonic { resolution, generator: g, tokenizer: t, text } = self;
        g.validate(file)?;
        t.validate(file)?;
        text.validate(file)?;
        check_size(file, "resolution", *resolution, 4096)?;
        let unit = t.stride() * if g.downsample { 2 } else { 1 };
        if !resolution.is_multiple_of(unit) {
            let expected = format!("a multiple of {unit} pixels");
            return Err(wrong(file, "resolution", expected, resolution));
        }
        for (key, found, of, expected) in [
            ("codebook_size", g.codebook_size, "the tokenizer's num_vq_embeddings", t.num_vq_embeddings),
            ("text.hidden_size", text.tower.hidden_size, "joint_attention_dim", g.joint_attention_dim),
            ("text.projection_dim", text.tower.projection_dim, "pooled_projection_dim", g.width()),
        ] {
            if found != expected {
                return Err(wrong(file, key, format!("{of} {expected}"), found));
            }
        }
        Ok(())
    }

    fn layout(&self) -> Layout {
        let (g, side) = (&self.generator, self.side());
        Layout {
            positions: side * side,
            splits: 1,
            codes: g.codebook_size,
            mask_token: g.mask_token(),
            embedding: g.width(),
            classes: 0,
            width: self.resolution,
            height: self.resolution,
            channels: self.tokenizer.out_channels,
            grid: Some((side, side)),
        }
    }

    fn condition_layout(&self) -> ConditionLayout {
        ConditionLayout {
            embedding: vec![self.text.context_length, self.generator.joint_attention_dim],
            pooled: Some(self.generator.pooled_projection_dim),
            guidance: None,
            micro: generator::MICRO,
            timestep: true,
        }
    }

    fn text(&self) -> Option<&TextEncoder> {
        Some(&self.text)
    }

    /// Width, height, top, left, score: the crop is the other way round, as in training.
    fn micro(&self, micro: &MicroConditions) -> Vec<f32> {
        let ([width, height], [left, top]) = (micro.original_size, micro.crop);
        vec![width as f32, height as f32, top as f32, left as f32, micro.aesthetic_score]
    }

    fn embed(&self, g: &Graph, w: &Weights, tokens: Value) -> Result<Value> {
        generator::embed(g, w, &self.generator, without_splits(g, tokens)?)
    }

    fn embed_soft(&self, g: &Graph, w: &Weights, p: Value, shown: Value) -> Result<Value> {
        let (p, shown) = (without_splits(g, p)?, without_splits(g, shown)?);
        generator::embed_soft(g, w, &self.generator, p, shown)
    }

    fn logits(&self, g: &Graph, w: &Weights, e_in: Value, condition: &Condition) -> Result<Value> {
        let &Condition {
            embedding: text,
            pooled: Some(pooled),
            micro: Some(micro),
            timestep: Some(timestep),
            ..
        } = condition
        else {
            return Err(Error::internal(
                "Meissonic's condition has pooled features, micro conditions and a timestep",
            ));
        };
        let given = generator::Conditioning { text, pooled, micro, timestep };
        with_splits(g, generator::logits(g, w, &self.generator, e_in, given)?)
    }

    fn soft_embedding(&self, g: &Graph, w: &Weights, p: Value) -> Result<Value> {
        tokenizer::embed_soft(g, w, &self.tokenizer, without_splits(g, p)?)
    }

    fn hard_embedding(&self, g: &Graph, w: &Weights, tokens: Value) -> Result<Value> {
        tokenizer::embed_codes(g, w, &self.tokenizer, without_splits(g, tokens)?)
    }

    fn decode(&self, g: &Graph, w: &Weights, code: Value, _: Option<Value>) -> Result<Value> {
        tokenizer::decode(g, w, &self.tokenizer, code)
    }

    fn encode(&self, g: &Graph, w: &Weights, image: Value) -> Result<Value> {
        let z = tokenizer::encode(g, w, &self.tokenizer, image)?;
        with_splits(g, tokenizer::nearest_code(g, w, &self.tokenizer, z)?)
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

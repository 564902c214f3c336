//! MaskGIT: MaskTransformer over code tokens, taming VQGAN, class labels.

pub mod convert;
pub mod generator;
mod golden;
pub mod halton;
pub mod sampler;
pub mod tokenizer;

use serde::{Deserialize, Serialize};

use super::condition::{Condition, ConditionLayout};
use super::family::{ConditionKind, Family, FamilyDescription, Layout, Sampler, with_splits, without_splits};
use super::golden::Replay;
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::nn::sizes::wrong;
use crate::weights::Weights;

pub const DESCRIPTION: FamilyDescription = FamilyDescription {
    name: "maskgit",
    about: "A MaskGIT student, teacher or both, and its VQGAN; the sizes are read off the tensors",
    condition: ConditionKind::ClassLabel,
};

/// Sizes of a MaskGIT model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaskGit {
    pub generator: generator::Config,
    pub tokenizer: tokenizer::Config,
}

impl MaskGit {
    /// Width and height of a picture: what the tokenizer makes of the generator's grid. (`img_size` assumes 16
    /// pixels a token; the published tokenizers have them.)
    fn side(&self) -> usize {
        self.generator.grid() * self.tokenizer.stride()
    }
}

impl Family for MaskGit {
    fn description(&self) -> &'static FamilyDescription {
        &DESCRIPTION
    }

    fn validate(&self, file: &str) -> Result<()> {
        let MaskGit { generator: g, tokenizer: t } = self;
        g.validate(file)?;
        t.validate(file)?;
        if g.codebook_size != t.n_embed {
            let expected = format!("the tokenizer's n_embed {}", t.n_embed);
            return Err(wrong(file, "codebook_size", expected, g.codebook_size));
        }
        if self.side() > 4096 {
            return Err(wrong(file, "img_size", "pictures of at most 4096 pixels a side", self.side()));
        }
        Ok(())
    }

    fn layout(&self) -> Layout {
        let g = &self.generator;
        Layout {
            positions: g.positions(),
            splits: 1,
            codes: g.codebook_size,
            mask_token: g.codebook_size,
            embedding: g.hidden_dim,
            classes: g.nclass,
            width: self.side(),
            height: self.side(),
            channels: self.tokenizer.ddconfig.out_ch,
            grid: Some((g.grid(), g.grid())),
        }
    }

    fn condition_layout(&self) -> ConditionLayout {
        ConditionLayout {
            embedding: vec![self.generator.hidden_dim],
            pooled: None,
            guidance: None,
            micro: 0,
            timestep: false,
        }
    }

    fn embed_class(&self, g: &Graph, w: &Weights, class: Value) -> Result<Value> {
        generator::embed_class(g, w, &self.generator, class)
    }

    fn embed(&self, g: &Graph, w: &Weights, tokens: Value) -> Result<Value> {
        generator::embed(g, w, &self.generator, without_splits(g, tokens)?)
    }

    fn embed_soft(&self, g: &Graph, w: &Weights, p: Value, shown: Value) -> Result<Value> {
        let (p, shown) = (without_splits(g, p)?, without_splits(g, shown)?);
        generator::embed_soft(g, w, &self.generator, p, shown)
    }

    fn logits(&self, g: &Graph, w: &Weights, e_in: Value, condition: &Condition) -> Result<Value> {
        let logits = generator::logits(g, w, &self.generator, e_in, condition.embedding)?;
        with_splits(g, generator::code_logits(g, &self.generator, logits)?)
    }

    fn soft_embedding(&self, g: &Graph, w: &Weights, p: Value) -> Result<Value> {
        tokenizer::embed_soft(g, w, &self.tokenizer, without_splits(g, p)?)
    }

    fn hard_embedding(&self, g: &Graph, w: &Weights, tokens: Value) -> Result<Value> {
        tokenizer::embed_codes(g, w, &self.tokenizer, without_splits(g, tokens)?)
    }

    fn decode(&self, g: &Graph, w: &Weights, code: Value, _: Option<Value>) -> Result<Value> {
        tokenizer::to_unit_range(g, tokenizer::decode(g, w, &self.tokenizer, code)?)
    }

    fn encode(&self, g: &Graph, w: &Weights, image: Value) -> Result<Value> {
        let image = tokenizer::from_unit_range(g, image)?;
        let z = tokenizer::encode(g, w, &self.tokenizer, image)?;
        with_splits(g, tokenizer::nearest_code(g, w, &self.tokenizer, z)?)
    }

    fn samplers(&self) -> &'static [Sampler] {
        &[sampler::SAMPLER, halton::SAMPLER]
    }

    fn golden_outputs(&self, g: &Graph, replay: &Replay) -> Result<()> {
        golden::outputs(g, replay, &self.generator, &self.tokenizer)
    }

    fn golden_soft_image(&self, g: &Graph, replay: &Replay, e: Value) -> Result<Value> {
        golden::soft_image(g, replay, &self.generator, &self.tokenizer, e)
    }
}

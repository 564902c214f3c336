//! MaskGIT: MaskTransformer over code tokens, taming VQGAN, class labels.

use serde::{Deserialize, Serialize};

use super::{Condition, ConditionLayout, Family, Layout, with_splits, without_splits};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::models::sizes::wrong;
use crate::models::{maskgit, taming_vqgan};
use crate::weights::Weights;

/// Sizes of a MaskGIT model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaskGit {
    pub generator: maskgit::Config,
    pub tokenizer: taming_vqgan::Config,
}

impl MaskGit {
    /// Width and height of a picture: what the tokenizer makes of the generator's grid. (`img_size` assumes 16
    /// pixels a token; the published tokenizers have them.)
    fn side(&self) -> usize {
        self.generator.grid() * self.tokenizer.stride()
    }
}

impl Family for MaskGit {
    fn name(&self) -> &'static str {
        "maskgit"
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
        maskgit::embed_class(g, w, &self.generator, class)
    }

    fn embed(&self, g: &Graph, w: &Weights, tokens: Value) -> Result<Value> {
        maskgit::embed(g, w, &self.generator, without_splits(g, tokens)?)
    }

    fn embed_soft(&self, g: &Graph, w: &Weights, p: Value, shown: Value) -> Result<Value> {
        let (p, shown) = (without_splits(g, p)?, without_splits(g, shown)?);
        maskgit::embed_soft(g, w, &self.generator, p, shown)
    }

    fn logits(&self, g: &Graph, w: &Weights, e_in: Value, condition: &Condition) -> Result<Value> {
        let logits = maskgit::logits(g, w, &self.generator, e_in, condition.embedding)?;
        with_splits(g, maskgit::code_logits(g, &self.generator, logits)?)
    }

    fn soft_embedding(&self, g: &Graph, w: &Weights, p: Value) -> Result<Value> {
        taming_vqgan::embed_soft(g, w, &self.tokenizer, without_splits(g, p)?)
    }

    fn hard_embedding(&self, g: &Graph, w: &Weights, tokens: Value) -> Result<Value> {
        taming_vqgan::embed_codes(g, w, &self.tokenizer, without_splits(g, tokens)?)
    }

    fn decode(&self, g: &Graph, w: &Weights, code: Value, _: Option<Value>) -> Result<Value> {
        taming_vqgan::to_unit_range(g, taming_vqgan::decode(g, w, &self.tokenizer, code)?)
    }

    fn encode(&self, g: &Graph, w: &Weights, image: Value) -> Result<Value> {
        let image = taming_vqgan::from_unit_range(g, image)?;
        let z = taming_vqgan::encode(g, w, &self.tokenizer, image)?;
        with_splits(g, taming_vqgan::nearest_code(g, w, &self.tokenizer, z)?)
    }
}

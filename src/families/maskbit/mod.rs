//! MaskBit: LFQBert over bit tokens, convolutional tokenizer, class labels.

pub mod convert;
pub mod generator;
mod golden;
pub mod sampler;
pub mod tokenizer;

use serde::{Deserialize, Serialize};

use super::condition::{Condition, ConditionLayout};
use super::family::{ConditionKind, Family, FamilyDescription, Layout, Sampler};
use super::golden::Replay;
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::nn::sizes::{SIZE_LIMIT, check_channels, check_size, wrong};
use crate::weights::Weights;

pub const DESCRIPTION: FamilyDescription = FamilyDescription {
    name: "maskbit",
    about: "A MaskBit student, teacher or both, and its image tokenizer",
    condition: ConditionKind::ClassLabel,
};

/// Sizes of a MaskBit model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaskBit {
    pub generator: generator::Config,
    pub tokenizer: tokenizer::Config,
}

impl Family for MaskBit {
    fn description(&self) -> &'static FamilyDescription {
        &DESCRIPTION
    }

    fn validate(&self, file: &str) -> Result<()> {
        let MaskBit { generator: g, tokenizer: t } = self;
        let sizes = [
            ("img_size", g.img_size),
            ("hidden_dim", g.hidden_dim),
            ("depth", g.depth),
            ("heads", g.heads),
            ("mlp_dim", g.mlp_dim),
            ("nclass", g.nclass),
            ("token_size", g.token_size),
            ("codebook_splits", g.codebook_splits),
            ("input_stride", g.input_stride),
            ("num_channels", t.num_channels),
            ("hidden_channels", t.hidden_channels),
            ("num_resolutions", t.num_resolutions),
            ("num_res_blocks", t.num_res_blocks),
        ];
        sizes.iter().try_for_each(|&(key, size)| check_size(file, key, size, SIZE_LIMIT))?;
        let fail = |key: &str, expected: &str, found: String| Err(wrong(file, key, expected, found));
        if g.use_prenorm {
            return fail("use_prenorm", "false (the published generators are post-norm)", "true".into());
        }
        if g.depth > 1024 || t.num_res_blocks > 64 || t.num_res_blocks_decoder.is_some_and(|n| n > 64) {
            return fail("depth / num_res_blocks", "at most 1024 / 64", g.depth.to_string());
        }
        if !g.hidden_dim.is_multiple_of(g.heads) {
            return fail("heads", "a divisor of hidden_dim", format!("{} and {}", g.heads, g.hidden_dim));
        }
        if g.token_size != t.token_size || g.token_size > 24 {
            let found = format!("{} and {}", g.token_size, t.token_size);
            return fail("token_size", "one value of at most 24 in generator and tokenizer", found);
        }
        if !g.token_size.is_multiple_of(g.codebook_splits) || g.split_bits() > 16 {
            let found = format!("{} of {} bits", g.codebook_splits, g.token_size);
            return fail("codebook_splits", "a divisor of token_size leaving at most 16 bits", found);
        }
        check_channels(file, "num_channels", t.num_channels)?;
        if !t.hidden_channels.is_multiple_of(32) {
            return fail("hidden_channels", "a multiple of 32", t.hidden_channels.to_string());
        }
        if t.channel_mult.len() != t.num_resolutions
            || t.num_resolutions > 8
            || t.channel_mult.iter().any(|&m| m == 0 || m > 64)
        {
            let found = format!("{:?} for {}", t.channel_mult, t.num_resolutions);
            return fail("channel_mult", "num_resolutions (at most 8) factors of 1 to 64", found);
        }
        if g.input_stride != 1 << (t.num_resolutions - 1) {
            let expected = format!("2^(num_resolutions − 1) = {}", 1 << (t.num_resolutions - 1));
            return fail("input_stride", &expected, g.input_stride.to_string());
        }
        if g.img_size > 4096 || !g.img_size.is_multiple_of(g.input_stride) {
            return fail("img_size", "a multiple of input_stride up to 4096", g.img_size.to_string());
        }
        Ok(())
    }

    fn layout(&self) -> Layout {
        let g = &self.generator;
        Layout {
            positions: g.positions(),
            splits: g.codebook_splits,
            codes: g.codes(),
            mask_token: g.codes(),
            embedding: g.hidden_dim,
            classes: g.nclass,
            width: g.img_size,
            height: g.img_size,
            channels: self.tokenizer.num_channels,
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
        generator::embed_bits(g, w, &self.generator, generator::input_bits(g, &self.generator, tokens)?)
    }

    fn embed_soft(&self, g: &Graph, w: &Weights, p: Value, shown: Value) -> Result<Value> {
        // Masked bits are 0, so hiding a token is scaling its distribution's expectation.
        let bits = generator::soft_bits(g, &self.generator, g.mul(p, shown)?)?;
        generator::embed_bits(g, w, &self.generator, bits)
    }

    fn logits(&self, g: &Graph, w: &Weights, e_in: Value, condition: &Condition) -> Result<Value> {
        generator::logits(g, w, &self.generator, e_in, condition.embedding)
    }

    fn soft_embedding(&self, g: &Graph, _: &Weights, p: Value) -> Result<Value> {
        generator::decoder_embedding(g, &self.generator, generator::soft_bits(g, &self.generator, p)?)
    }

    fn hard_embedding(&self, g: &Graph, _: &Weights, tokens: Value) -> Result<Value> {
        generator::decoder_embedding(g, &self.generator, generator::input_bits(g, &self.generator, tokens)?)
    }

    fn decode(&self, g: &Graph, w: &Weights, code: Value, _: Option<Value>) -> Result<Value> {
        tokenizer::decode(g, w, &self.tokenizer, code)
    }

    fn encode(&self, g: &Graph, w: &Weights, image: Value) -> Result<Value> {
        let code = tokenizer::quantize(g, tokenizer::encode(g, w, &self.tokenizer, image)?)?;
        generator::code_tokens(g, &self.generator, code)
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

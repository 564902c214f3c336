//! ImageReward: BLIP tuned on people's rankings of pictures for a prompt. The score, about −2 to 2, is five linear layers
//! over the text's first hidden state, `mlp.layers.{0,2,4,6,7}`, standardised.
//!
//! Reference: ExplainableML/ReNO, rewards/imagereward.py. Checked by the tests of rewards against golden tensors of the
//! official code.

pub mod blip;
pub mod convert;

use serde::{Deserialize, Serialize};

use super::scorer::{Reads, RewardDescription, Scorer, Takes, TextInput, TokenizerKind};
use super::{mark, preprocess};
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::weights::Weights;

pub const DESCRIPTION: RewardDescription =
    RewardDescription { name: "image_reward", about: "ImageReward", takes: Takes::Vocabulary };

/// What the marks are standardised by, as published.
const MEAN: f64 = 0.16717362830052426;
const STD: f64 = 1.0333394966054072;

/// Sizes of ImageReward.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageReward {
    pub text: blip::TextConfig,
    pub vision: blip::VisionConfig,
}

impl Scorer for ImageReward {
    fn description(&self) -> &'static RewardDescription {
        &DESCRIPTION
    }

    fn validate(&self, file: &str) -> Result<()> {
        let ImageReward { text, vision } = self;
        text.validate(file)?;
        vision.validate(file)?;
        if text.encoder_width != vision.embed_dim {
            return Err(Error::Config {
                file: file.into(),
                key: "encoder_width".into(),
                expected: format!("the vision transformer's embed_dim {}", vision.embed_dim),
                found: text.encoder_width.to_string(),
            });
        }
        Ok(())
    }

    fn image_size(&self) -> usize {
        self.vision.img_size
    }

    fn reads(&self) -> Reads {
        Reads::Tokens
    }

    fn text(&self) -> Option<TextInput> {
        let (rows, positions) = (self.text.vocab_size, self.text.max_position_embeddings);
        Some(TextInput { kind: TokenizerKind::WordPiece, rows, positions })
    }

    fn preprocess(&self, g: &Graph, image: Value) -> Result<Value> {
        preprocess::clip_image(g, image, self.vision.img_size)
    }

    fn score_pixels(&self, g: &Graph, w: &Weights, pixels: Value, _: Option<Value>) -> Result<Value> {
        // There are no features to score from: the default names the reason.
        self.text_features(g, w, pixels)
    }

    fn score_pixels_tokens(
        &self,
        g: &Graph,
        w: &Weights,
        pixels: Value,
        ids: Value,
        mask: Value,
    ) -> Result<Value> {
        let b = g.shape(pixels)[0];
        let image = blip::vision(g, &w.at("blip.visual_encoder"), &self.vision, pixels)?; // [B, N, D]
        let x = blip::text(g, &w.at("blip.text_encoder"), &self.text, ids, mask, image)?; // [B, L, T]
        let first = g.reshape(g.slice(x, 1, 0, 1)?, [b, self.text.hidden_size])?; // at [CLS]
        let mark = mark::mark(g, &w.at("mlp"), first)?; // [B, 1]
        let score = g.mul_scalar(g.add_scalar(mark, -MEAN as f32)?, (1.0 / STD) as f32)?;
        g.reshape(score, [b])
    }
}

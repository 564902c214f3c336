//! Rewards that compare a picture with a prompt by CLIP: CLIP itself, PickScore and HPSv2, which are CLIP tuned on what
//! people prefer.
//!
//! Reference: ExplainableML/ReNO, rewards/{clip,pickscore,hps}.py, with one score per picture and prompt of a pair.
//! Checked by the tests of rewards against golden tensors of the official code.

pub mod convert;

use serde::{Deserialize, Serialize};

use super::preprocess;
use super::scorer::{Reads, RewardDescription, Scorer, Takes, TextInput, TokenizerKind};
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::nn::{self, clip};
use crate::weights::Weights;

/// Both towers of CLIP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Towers {
    pub text: clip::TextConfig,
    pub vision: clip::VisionConfig,
}

impl Towers {
    fn validate(&self, file: &str) -> Result<()> {
        let Towers { text, vision } = self;
        text.validate(file)?;
        vision.validate(file)?;
        if text.projection_dim != vision.projection_dim {
            return Err(Error::Config {
                file: file.into(),
                key: "projection_dim".into(),
                expected: "one value in text and vision".into(),
                found: format!("{} and {}", text.projection_dim, vision.projection_dim),
            });
        }
        Ok(())
    }

    /// cos(image, text) [B, 1].
    fn similarity(&self, g: &Graph, w: &Weights, pixels: Value, condition: Option<Value>) -> Result<Value> {
        cosine(g, clip::vision(g, w, &self.vision, pixels)?, condition)
    }

    /// exp(`logit_scale`)·cos(image, text) [B], −100 to 100.
    fn scaled_similarity(
        &self,
        g: &Graph,
        w: &Weights,
        pixels: Value,
        condition: Option<Value>,
    ) -> Result<Value> {
        let scale = g.exp(w.get(g, "logit_scale", [])?)?;
        let score = g.mul(self.similarity(g, w, pixels, condition)?, scale)?;
        g.reshape(score, [g.shape(pixels)[0]])
    }

    /// cos(image, text) [B], −1 to 1.
    fn plain_similarity(
        &self,
        g: &Graph,
        w: &Weights,
        pixels: Value,
        condition: Option<Value>,
    ) -> Result<Value> {
        let score = self.similarity(g, w, pixels, condition)?;
        g.reshape(score, [g.shape(pixels)[0]])
    }

    pub(crate) fn text_input(&self) -> TextInput {
        let (rows, positions) = (self.text.vocab_size, self.text.max_position_embeddings);
        TextInput { kind: TokenizerKind::ClipBpe, rows, positions }
    }

    fn text_features(&self, g: &Graph, w: &Weights, ids: Value) -> Result<Value> {
        nn::l2_normalize(g, clip::text(g, w, &self.text, ids)?.pooled)
    }
}

/// A reward over both towers: its description and how it scores.
macro_rules! over_towers {
    ($(#[$doc:meta])* $name:ident, $description:ident, $score:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Towers);

        impl Scorer for $name {
            fn description(&self) -> &'static RewardDescription {
                &$description
            }

            fn validate(&self, file: &str) -> Result<()> {
                self.0.validate(file)
            }

            fn image_size(&self) -> usize {
                self.0.vision.image_size
            }

            fn reads(&self) -> Reads {
                Reads::Features { width: self.0.vision.projection_dim }
            }

            fn text(&self) -> Option<TextInput> {
                Some(self.0.text_input())
            }

            fn preprocess(&self, g: &Graph, image: Value) -> Result<Value> {
                preprocess::clip_image(g, image, self.0.vision.image_size)
            }

            fn text_features(&self, g: &Graph, w: &Weights, ids: Value) -> Result<Value> {
                self.0.text_features(g, w, ids)
            }

            fn score_pixels(
                &self,
                g: &Graph,
                w: &Weights,
                pixels: Value,
                condition: Option<Value>,
            ) -> Result<Value> {
                self.0.$score(g, w, pixels, condition)
            }
        }
    };
}

pub const CLIP_SCORE: RewardDescription = RewardDescription {
    name: "clip_score",
    about: "CLIP, scored by its own similarity of picture and prompt",
    takes: Takes::Vocabulary,
};
pub const PICK_SCORE: RewardDescription =
    RewardDescription { name: "pickscore", about: "PickScore_v1", takes: Takes::Vocabulary };
pub const HPS_V2: RewardDescription =
    RewardDescription { name: "hpsv2", about: "HPS_v2.1", takes: Takes::Vocabulary };

over_towers! {
    /// CLIP's own similarity of picture and prompt: exp(`logit_scale`)·cos(image, text).
    ClipScore, CLIP_SCORE, scaled_similarity
}
over_towers! {
    /// CLIP tuned on people's choices between pictures for their prompt: exp(`logit_scale`)·cos(image, text).
    PickScore, PICK_SCORE, scaled_similarity
}
over_towers! {
    /// Human Preference Score v2, CLIP tuned on ranked pictures: cos(image, text).
    HpsV2, HPS_V2, plain_similarity
}

/// Image features [B, P] and text features of length 1 [B, P] or [1, P] → cosine of their angle [B, 1].
fn cosine(g: &Graph, image: Value, text: Option<Value>) -> Result<Value> {
    let shape = g.shape(image);
    let fits = |t: &Value| matches!(*g.shape(*t), [b, p] if (b == 1 || b == shape[0]) && p == shape[1]);
    let Some(text) = text.filter(fits) else {
        let found = text.map_or("none".into(), |t| g.shape(t).to_string());
        return Err(Error::invalid("text features", format!("{shape} or one row of it"), found));
    };
    g.reduce_sum(g.mul(nn::l2_normalize(g, image)?, text)?, &[1])
}

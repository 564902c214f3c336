//! Rewards: how well a picture fits a prompt, or how pleasing it is, as functions over the graph.
//!
//! [`RewardArchitecture`] dispatches. A prompt's features are computed once
//! ([`RewardArchitecture::text_features`]) and fed to every scoring ([`RewardArchitecture::score`]).
//! ImageReward has none: its text tokens look at the picture, so it scores from token ids
//! ([`RewardArchitecture::score_tokens`], which serves every family). A classifier reads a class instead of a
//! prompt.
//!
//! Reference: ExplainableML/ReNO, rewards/{clip,pickscore,hps,aesthetic,imagereward}.py, with one score
//! per picture and prompt of a pair. ReNO rounds the aesthetic network's input to half precision; this does not.
//! Checked by tests/rewards.rs and tests/image_reward.rs against golden tensors of the official code; the
//! classifier, which is not ReNO's, by tests/classifier.rs.
//!
//! | family | networks | score | range |
//! |---|---|---|---|
//! | `clip_score`, `pickscore` | CLIP | exp(`logit_scale`)·cos(image, text) | −100 to 100 |
//! | `hpsv2` | CLIP | cos(image, text) | −1 to 1 |
//! | `aesthetic` | CLIP's vision tower, `layers.{0,2,4,6,7}` | five linear layers over the normalised features | about 1 to 10 |
//! | `image_reward` | BLIP, `mlp.layers.{0,2,4,6,7}` | five linear layers over the text's first hidden state, standardised | about −2 to 2 |
//! | `classifier` | EfficientNet-Lite0 | ln p(class of the picture) | up to 0 |

pub mod preprocess;

use serde::{Deserialize, Serialize};

use super::{blip, clip, efficientnet};
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::nn;
use crate::weights::Weights;

/// The family names of [`RewardArchitecture`], as in the file.
pub const FAMILIES: [&str; 6] =
    ["clip_score", "pickscore", "hpsv2", "aesthetic", "image_reward", "classifier"];

/// What a reward file holds, with the sizes of its networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "lowercase")]
pub enum RewardArchitecture {
    /// CLIP's own similarity of picture and prompt.
    #[serde(rename = "clip_score")]
    ClipScore { text: clip::TextConfig, vision: clip::VisionConfig },
    /// CLIP tuned on people's choices between pictures for their prompt.
    PickScore { text: clip::TextConfig, vision: clip::VisionConfig },
    /// Human Preference Score v2: CLIP tuned on ranked pictures.
    HpsV2 { text: clip::TextConfig, vision: clip::VisionConfig },
    /// LAION's aesthetic predictor: a mark for the picture alone.
    Aesthetic { vision: clip::VisionConfig },
    /// ImageReward: BLIP tuned on people's rankings of pictures for a prompt.
    #[serde(rename = "image_reward")]
    ImageReward { text: blip::TextConfig, vision: blip::VisionConfig },
    /// An ImageNet classifier's belief in a class.
    Classifier { classifier: efficientnet::Config },
}

/// Widths of the layers that turn features into a mark, for `aesthetic` and `image_reward`, by their index in
/// the official modules; the indices between are dropout. No activation follows any of them.
const MARK_LAYERS: [(usize, usize); 5] = [(0, 1024), (2, 128), (4, 64), (6, 16), (7, 1)];

/// What ImageReward standardises its marks by, as published.
const IMAGE_REWARD_MEAN: f64 = 0.16717362830052426;
const IMAGE_REWARD_STD: f64 = 1.0333394966054072;

impl RewardArchitecture {
    /// Family name as in the file.
    pub fn family(&self) -> &'static str {
        match self {
            RewardArchitecture::ClipScore { .. } => "clip_score",
            RewardArchitecture::PickScore { .. } => "pickscore",
            RewardArchitecture::HpsV2 { .. } => "hpsv2",
            RewardArchitecture::Aesthetic { .. } => "aesthetic",
            RewardArchitecture::ImageReward { .. } => "image_reward",
            RewardArchitecture::Classifier { .. } => "classifier",
        }
    }

    /// Refuse sizes that contradict each other. `file` is named in the error.
    pub fn validate(&self, file: &str) -> Result<()> {
        match self {
            RewardArchitecture::ClipScore { text, vision }
            | RewardArchitecture::PickScore { text, vision }
            | RewardArchitecture::HpsV2 { text, vision } => {
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
            RewardArchitecture::Aesthetic { vision } => vision.validate(file),
            RewardArchitecture::ImageReward { text, vision } => {
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
            RewardArchitecture::Classifier { classifier } => classifier.validate(file),
        }
    }

    /// Whether a score depends on a prompt.
    pub fn reads_prompt(&self) -> bool {
        match self {
            RewardArchitecture::ClipScore { .. }
            | RewardArchitecture::PickScore { .. }
            | RewardArchitecture::HpsV2 { .. }
            | RewardArchitecture::ImageReward { .. } => true,
            RewardArchitecture::Aesthetic { .. } | RewardArchitecture::Classifier { .. } => false,
        }
    }

    /// Whether a score depends on a class id.
    pub fn reads_class(&self) -> bool {
        matches!(self, RewardArchitecture::Classifier { .. })
    }

    /// Token ids [B, N] (i64) → the prompts' features [B, P], of length 1. An error for rewards that read
    /// no prompt, or read it together with the picture.
    pub fn text_features(&self, g: &Graph, w: &Weights, ids: Value) -> Result<Value> {
        match self {
            RewardArchitecture::ClipScore { text, .. }
            | RewardArchitecture::PickScore { text, .. }
            | RewardArchitecture::HpsV2 { text, .. } => {
                nn::l2_normalize(g, clip::text(g, w, text, ids)?.pooled)
            }
            RewardArchitecture::Aesthetic { .. } => Err(Error::Unsupported {
                what: "text features".into(),
                reason: "an aesthetic score reads no prompt".into(),
            }),
            RewardArchitecture::ImageReward { .. } => Err(text_meets_picture()),
            RewardArchitecture::Classifier { .. } => Err(Error::Unsupported {
                what: "text features".into(),
                reason: "a classifier reads class ids, not a prompt".into(),
            }),
        }
    }

    /// Image [B, 3, H, W] in [0, 1] and its condition → score [B], higher is better. The condition is the
    /// prompts' features, [B, P] or [1, P] for one prompt of all pictures; of a classifier, class ids (i64),
    /// [B] or [1].
    pub fn score(&self, g: &Graph, w: &Weights, image: Value, condition: Option<Value>) -> Result<Value> {
        self.score_pixels(g, w, self.preprocess(g, image)?, condition)
    }

    /// Image [B, 3, H, W] in [0, 1] → what the network reads.
    pub fn preprocess(&self, g: &Graph, image: Value) -> Result<Value> {
        match self {
            RewardArchitecture::ClipScore { vision, .. }
            | RewardArchitecture::PickScore { vision, .. }
            | RewardArchitecture::HpsV2 { vision, .. }
            | RewardArchitecture::Aesthetic { vision } => preprocess::clip_image(g, image, vision.image_size),
            RewardArchitecture::ImageReward { vision, .. } => {
                preprocess::clip_image(g, image, vision.img_size)
            }
            RewardArchitecture::Classifier { classifier } => {
                efficientnet::preprocess(g, image, classifier.image_size)
            }
        }
    }

    /// [`RewardArchitecture::score`] of a preprocessed image.
    pub fn score_pixels(
        &self,
        g: &Graph,
        w: &Weights,
        pixels: Value,
        condition: Option<Value>,
    ) -> Result<Value> {
        let b = g.shape(pixels)[0];
        let score = match self {
            RewardArchitecture::ClipScore { vision, .. } | RewardArchitecture::PickScore { vision, .. } => {
                let scale = g.exp(w.get(g, "logit_scale", [])?)?;
                g.mul(cosine(g, clip::vision(g, w, vision, pixels)?, condition)?, scale)?
            }
            RewardArchitecture::HpsV2 { vision, .. } => {
                cosine(g, clip::vision(g, w, vision, pixels)?, condition)?
            }
            RewardArchitecture::Aesthetic { vision } => {
                mark(g, w, nn::l2_normalize(g, clip::vision(g, w, vision, pixels)?)?)?
            }
            RewardArchitecture::ImageReward { .. } => return Err(text_meets_picture()),
            RewardArchitecture::Classifier { classifier } => {
                let Some(ids) = condition else {
                    return Err(Error::invalid("class ids", "one or one a picture", "none"));
                };
                let logits = efficientnet::classify(g, w, classifier, pixels)?.logits;
                efficientnet::log_probability(g, logits, ids)?
            }
        };
        g.reshape(score, [b])
    }

    /// Image [B, 3, H, W] in [0, 1], and token ids with their mask (i64, [B, N] or [1, N] for one prompt of
    /// all pictures; 1 = text, 0 = padding) → score [B], for every family in one graph. Only ImageReward
    /// reads the mask.
    pub fn score_tokens(
        &self,
        g: &Graph,
        w: &Weights,
        image: Value,
        ids: Value,
        mask: Value,
    ) -> Result<Value> {
        self.score_pixels_tokens(g, w, self.preprocess(g, image)?, ids, mask)
    }

    /// [`RewardArchitecture::score_tokens`] of a preprocessed image.
    pub fn score_pixels_tokens(
        &self,
        g: &Graph,
        w: &Weights,
        pixels: Value,
        ids: Value,
        mask: Value,
    ) -> Result<Value> {
        let RewardArchitecture::ImageReward { text, vision } = self else {
            let features = if self.reads_prompt() { Some(self.text_features(g, w, ids)?) } else { None };
            return self.score_pixels(g, w, pixels, features);
        };
        let b = g.shape(pixels)[0];
        let image = blip::vision(g, &w.at("blip.visual_encoder"), vision, pixels)?; // [B, N, D]
        let x = blip::text(g, &w.at("blip.text_encoder"), text, ids, mask, image)?; // [B, L, T]
        let first = g.reshape(g.slice(x, 1, 0, 1)?, [b, text.hidden_size])?; // at [CLS]
        let mark = mark(g, &w.at("mlp"), first)?; // [B, 1]
        let score =
            g.mul_scalar(g.add_scalar(mark, -IMAGE_REWARD_MEAN as f32)?, (1.0 / IMAGE_REWARD_STD) as f32)?;
        g.reshape(score, [b])
    }
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

/// Features [B, P] → a mark [B, 1], by linear layers alone: `layers.{0,2,4,6,7}`.
pub fn mark(g: &Graph, w: &Weights, mut x: Value) -> Result<Value> {
    for (i, out) in MARK_LAYERS {
        x = nn::linear(g, &w.at(format!("layers.{i}")), x, out)?;
    }
    Ok(x)
}

fn text_meets_picture() -> Error {
    Error::Unsupported {
        what: "text features".into(),
        reason: "ImageReward reads the prompt while looking at the picture: score from token ids".into(),
    }
}

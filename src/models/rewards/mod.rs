//! Rewards: how well a picture fits a prompt, or how pleasing it is, as functions over the graph.
//!
//! [`RewardArchitecture`] dispatches. A prompt's features are computed once
//! ([`RewardArchitecture::text_features`]) and fed to every scoring ([`RewardArchitecture::score`]).
//! A classifier reads a class instead of a prompt.
//!
//! Reference: ExplainableML/ReNO, rewards/{clip,pickscore,hps,aesthetic}.py, with one score per picture and
//! prompt of a pair. ReNO rounds the aesthetic network's input to half precision; this does not.
//! Checked by tests/rewards.rs against golden tensors of the official code; the classifier, which is not
//! ReNO's, by tests/classifier.rs.
//!
//! | family | networks | score | range |
//! |---|---|---|---|
//! | `clip_score`, `pickscore` | CLIP | exp(`logit_scale`)·cos(image, text) | −100 to 100 |
//! | `hpsv2` | CLIP | cos(image, text) | −1 to 1 |
//! | `aesthetic` | CLIP's vision tower, `layers.{0,2,4,6,7}` | five linear layers over the normalised features | about 1 to 10 |
//! | `classifier` | EfficientNet-Lite0 | ln p(class of the picture) | up to 0 |

pub mod preprocess;

use serde::{Deserialize, Serialize};

use super::{clip, efficientnet};
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::nn;
use crate::weights::Weights;

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
    /// An ImageNet classifier's belief in a class.
    Classifier { classifier: efficientnet::Config },
}

/// Widths of the aesthetic predictor's layers, by their index in the official module; the indices between
/// are dropout. No activation follows any of them.
const AESTHETIC_LAYERS: [(usize, usize); 5] = [(0, 1024), (2, 128), (4, 64), (6, 16), (7, 1)];

impl RewardArchitecture {
    /// Family name as in the file.
    pub fn family(&self) -> &'static str {
        match self {
            RewardArchitecture::ClipScore { .. } => "clip_score",
            RewardArchitecture::PickScore { .. } => "pickscore",
            RewardArchitecture::HpsV2 { .. } => "hpsv2",
            RewardArchitecture::Aesthetic { .. } => "aesthetic",
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
            RewardArchitecture::Classifier { classifier } => classifier.validate(file),
        }
    }

    /// Whether a score depends on a prompt.
    pub fn reads_prompt(&self) -> bool {
        match self {
            RewardArchitecture::ClipScore { .. }
            | RewardArchitecture::PickScore { .. }
            | RewardArchitecture::HpsV2 { .. } => true,
            RewardArchitecture::Aesthetic { .. } | RewardArchitecture::Classifier { .. } => false,
        }
    }

    /// Whether a score depends on a class id.
    pub fn reads_class(&self) -> bool {
        matches!(self, RewardArchitecture::Classifier { .. })
    }

    /// Token ids [B, N] (i64) → the prompts' features [B, P], of length 1. An error for rewards that read
    /// no prompt.
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
                let mut x = nn::l2_normalize(g, clip::vision(g, w, vision, pixels)?)?; // [B, P]
                for (i, out) in AESTHETIC_LAYERS {
                    x = nn::linear(g, &w.at(format!("layers.{i}")), x, out)?;
                }
                x // [B, 1]
            }
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

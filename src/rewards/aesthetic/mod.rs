//! LAION's aesthetic predictor: a mark for the picture alone, about 1 to 10, by five linear layers over the normalised
//! features of CLIP's vision tower, `layers.{0,2,4,6,7}`.
//!
//! Reference: ExplainableML/ReNO, rewards/aesthetic.py, which rounds the network's input to half precision; this does
//! not. Checked by the tests of rewards against golden tensors of the official code.

pub mod convert;

use serde::{Deserialize, Serialize};

use super::scorer::{Reads, RewardDescription, Scorer, Takes};
use super::{mark, preprocess};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::nn::{self, clip};
use crate::weights::Weights;

pub const DESCRIPTION: RewardDescription = RewardDescription {
    name: "aesthetic",
    about: "LAION's aesthetic predictor over OpenAI's ViT-L/14",
    takes: Takes::Head,
};

/// Sizes of the aesthetic predictor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Aesthetic {
    pub vision: clip::VisionConfig,
}

impl Scorer for Aesthetic {
    fn description(&self) -> &'static RewardDescription {
        &DESCRIPTION
    }

    fn validate(&self, file: &str) -> Result<()> {
        self.vision.validate(file)
    }

    fn image_size(&self) -> usize {
        self.vision.image_size
    }

    fn reads(&self) -> Reads {
        Reads::Nothing
    }

    fn preprocess(&self, g: &Graph, image: Value) -> Result<Value> {
        preprocess::clip_image(g, image, self.vision.image_size)
    }

    fn score_pixels(&self, g: &Graph, w: &Weights, pixels: Value, _: Option<Value>) -> Result<Value> {
        let features = nn::l2_normalize(g, clip::vision(g, w, &self.vision, pixels)?)?;
        g.reshape(mark::mark(g, w, features)?, [g.shape(pixels)[0]])
    }
}

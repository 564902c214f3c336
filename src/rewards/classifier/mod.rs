//! An ImageNet classifier's belief in a class: ln p(class of the picture), up to 0, by EfficientNet-Lite0.
//!
//! Not one of ReNO's. Checked by the tests of the classifier against independent arithmetic.

pub mod convert;
pub mod efficientnet;

use serde::{Deserialize, Serialize};

use super::scorer::{Reads, RewardDescription, Scorer, Takes};
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::weights::Weights;

pub const DESCRIPTION: RewardDescription =
    RewardDescription { name: "classifier", about: "EfficientNet-Lite0", takes: Takes::Labels };

/// Sizes of the classifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Classifier {
    pub classifier: efficientnet::Config,
}

impl Scorer for Classifier {
    fn description(&self) -> &'static RewardDescription {
        &DESCRIPTION
    }

    fn validate(&self, file: &str) -> Result<()> {
        self.classifier.validate(file)
    }

    fn image_size(&self) -> usize {
        self.classifier.image_size
    }

    fn reads(&self) -> Reads {
        Reads::Class { classes: self.classifier.num_classes }
    }

    fn preprocess(&self, g: &Graph, image: Value) -> Result<Value> {
        efficientnet::preprocess(g, image, self.classifier.image_size)
    }

    fn score_pixels(&self, g: &Graph, w: &Weights, pixels: Value, condition: Option<Value>) -> Result<Value> {
        let Some(ids) = condition else {
            return Err(Error::invalid("class ids", "one or one a picture", "none"));
        };
        let logits = efficientnet::classify(g, w, &self.classifier, pixels)?.logits;
        g.reshape(efficientnet::log_probability(g, logits, ids)?, [g.shape(pixels)[0]])
    }
}

//! The linear layers that turn features into a mark, of the aesthetic predictor and of ImageReward.

use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::nn;
use crate::weights::Weights;

/// Widths of the layers, by their index in the official modules; the indices between are dropout. No activation follows any of them.
const LAYERS: [(usize, usize); 5] = [(0, 1024), (2, 128), (4, 64), (6, 16), (7, 1)];

/// Features [B, P] → a mark [B, 1], by linear layers alone: `layers.{0,2,4,6,7}`.
pub fn mark(g: &Graph, w: &Weights, mut x: Value) -> Result<Value> {
    for (i, out) in LAYERS {
        x = nn::linear(g, &w.at(format!("layers.{i}")), x, out)?;
    }
    Ok(x)
}

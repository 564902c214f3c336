//! What a job made.

use crate::error::{Error, Result};
use crate::report::Report;
use crate::tensor::Tensor;

/// The result of a job.
#[derive(Clone, Debug)]
pub struct Generated {
    /// Decoder output [B, 3, H, W], nominally in [0, 1], not clamped.
    pub images: Tensor,
    /// Codes [B, N, splits] (i64): the picture, bit for bit.
    pub tokens: Tensor,
    /// Largest softmax probability of each token, [B, N, splits], of a one-step job.
    pub max_probability: Option<Tensor>,
    /// Start embedding [B, N, D] of a one-step job.
    pub e_in: Option<Tensor>,
    pub report: Report,
}

impl Generated {
    /// Elements of picture `index` of a [B, ..] tensor.
    fn part(&self, tensor: &Tensor, index: usize) -> Result<Vec<f32>> {
        if index >= self.report.batch {
            return Err(Error::invalid("picture index", format!("below {}", self.report.batch), index));
        }
        let per_picture = tensor.shape().len() / self.report.batch;
        let start = index * per_picture * tensor.dtype().size();
        let bytes = &tensor.bytes()[start..start + per_picture * tensor.dtype().size()];
        Ok(Tensor::new(tensor.dtype(), [per_picture], bytes)?.to_f32())
    }

    /// Decoder output [3, H, W] of one picture.
    pub fn picture(&self, index: usize) -> Result<Vec<f32>> {
        self.part(&self.images, index)
    }

    /// Tokens [N, splits] of one picture.
    pub fn picture_tokens(&self, index: usize) -> Result<Vec<u32>> {
        Ok(self.part(&self.tokens, index)?.into_iter().map(|t| t as u32).collect())
    }

    /// Largest softmax probability of each token [N, splits] of one picture; [`Error::Unsupported`] after
    /// a multi-step job.
    pub fn picture_max_probability(&self, index: usize) -> Result<Vec<f32>> {
        self.part(self.max_probability.as_ref().ok_or_else(only_one_step)?, index)
    }

    /// Start embedding [N, D] of one picture; [`Error::Unsupported`] after a multi-step job.
    pub fn picture_e_in(&self, index: usize) -> Result<Vec<f32>> {
        self.part(self.e_in.as_ref().ok_or_else(only_one_step)?, index)
    }
}

fn only_one_step() -> Error {
    Error::Unsupported {
        what: "this result of a multi-step job".into(),
        reason: "start embedding and token probabilities belong to the one-step student".into(),
    }
}

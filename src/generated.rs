//! What a job made.

use crate::error::{Error, Result};
use crate::report::Report;
use crate::tensor::{Tensor, to_u32};

/// The result of a job.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Generated {
    /// Decoder output [B, channels, H, W], nominally in [0, 1], not clamped.
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
    /// The part of picture `index` of the elements [B, ..] of all.
    fn part<'a, T>(&self, elements: &'a [T], index: usize) -> Result<&'a [T]> {
        let batch = self.report.batch;
        let part = elements.chunks_exact((elements.len() / batch).max(1)).nth(index);
        part.filter(|_| index < batch)
            .ok_or_else(|| Error::invalid("picture index", format!("below {batch}"), index))
    }

    /// Decoder output [channels, H, W] of one picture, where it lies in `images`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an index beyond the batch.
    pub fn picture(&self, index: usize) -> Result<&[f32]> {
        self.part(self.images.f32s()?, index)
    }

    /// Tokens [N, splits] of one picture.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an index beyond the batch.
    pub fn picture_tokens(&self, index: usize) -> Result<Vec<u32>> {
        to_u32(self.part(self.tokens.i64s()?, index)?)
    }

    /// Largest softmax probability of each token [N, splits] of one picture.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an index beyond the batch, [`Error::Unsupported`] after a multi-step job.
    pub fn picture_max_probability(&self, index: usize) -> Result<&[f32]> {
        self.part(self.max_probability.as_ref().ok_or_else(only_one_step)?.f32s()?, index)
    }

    /// Start embedding [N, D] of one picture.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an index beyond the batch, [`Error::Unsupported`] after a multi-step job.
    pub fn picture_e_in(&self, index: usize) -> Result<&[f32]> {
        self.part(self.e_in.as_ref().ok_or_else(only_one_step)?.f32s()?, index)
    }
}

fn only_one_step() -> Error {
    Error::Unsupported {
        what: "this result of a multi-step job".into(),
        reason: "start embedding and token probabilities belong to the one-step student".into(),
    }
}

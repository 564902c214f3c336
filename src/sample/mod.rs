//! From logits to tokens, on the host: x_init, one-step sampling, the teachers' masked-diffusion samplers.
//!
//! Pure functions of their arguments and a [`Philox`](crate::rng::Philox); nothing here knows a model.
//! A *slot* is one token to be decided: position × split (split fastest) for models that factorise
//! their codes, plain position otherwise.

pub(crate) mod masked_diffusion;
mod one_step;
pub(crate) mod schedule;
mod start;

pub use masked_diffusion::{Decision, MaskedDiffusion, Rule, Step};
pub use one_step::{SampleOptions, Sampled, sample_tokens};
pub use schedule::{Annealing, Guidance, GuidanceForm, Schedule};
pub use start::start_tokens;

use crate::error::{Error, Result};

/// Logits of one picture: `[slots, stride]`, of which the first `codes` columns are real codes.
///
/// Models that also return a logit for the mask token keep it in the ignored tail of the row.
#[derive(Clone, Copy, Debug)]
pub struct Logits<'a> {
    data: &'a [f32],
    stride: usize,
    codes: usize,
}

impl<'a> Logits<'a> {
    /// Rows of exactly `codes` logits.
    ///
    /// # Errors
    /// As [`Logits::with_stride`].
    pub fn new(data: &'a [f32], codes: usize) -> Result<Logits<'a>> {
        Logits::with_stride(data, codes, codes)
    }

    /// Rows of `stride` logits of which the first `codes` are used.
    ///
    /// # Errors
    /// `InvalidArgument` when `codes` is not in 1..=stride, does not fit a u32, or `data` is not whole rows.
    pub fn with_stride(data: &'a [f32], stride: usize, codes: usize) -> Result<Logits<'a>> {
        if codes == 0 || codes > stride || u32::try_from(codes).is_err() {
            return Err(Error::invalid("logits codes", format!("1 to the row stride {stride}"), codes));
        }
        if !data.len().is_multiple_of(stride) {
            return Err(Error::invalid("logits", format!("whole rows of {stride}"), data.len()));
        }
        Ok(Logits { data, stride, codes })
    }

    /// Number of rows.
    pub fn slots(&self) -> usize {
        self.data.len() / self.stride
    }

    /// Number of codes a slot can take.
    pub fn codes(&self) -> usize {
        self.codes
    }

    /// The `codes` logits of a slot.
    pub fn row(&self, slot: usize) -> &'a [f32] {
        &self.data[slot * self.stride..][..self.codes]
    }
}

/// An error unless every logit of the slot is finite; a NaN here is a fault of the model's run.
fn check_finite(row: &[f32], slot: usize) -> Result<()> {
    match row.iter().position(|z| !z.is_finite()) {
        None => Ok(()),
        Some(code) => Err(Error::Runtime {
            stage: "sampling".into(),
            message: format!(
                "logit of slot {slot}, code {code}: expected a finite number, found {}",
                row[code]
            ),
        }),
    }
}

/// The largest value and its index, the lowest index among equals.
pub(crate) fn arg_max(values: impl IntoIterator<Item = f64>) -> (usize, f64) {
    values
        .into_iter()
        .enumerate()
        .fold((0, f64::NEG_INFINITY), |best, (i, x)| if x > best.1 { (i, x) } else { best })
}

/// `ln Σ exp z`, given max z.
fn log_sum_exp(z: impl Iterator<Item = f64>, max: f64) -> f64 {
    max + libm::log(z.map(|z| libm::exp(z - max)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_take_whole_rows_and_hide_the_tail() {
        let data = [0.0, 1.0, 9.0, 2.0, 3.0, 9.0];
        let logits = Logits::with_stride(&data, 3, 2).unwrap();
        assert_eq!((logits.slots(), logits.codes(), logits.row(1)), (2, 2, &data[3..5]));
        assert!(Logits::with_stride(&data, 4, 2).is_err());
        assert!(Logits::with_stride(&data, 3, 4).is_err());
        assert!(Logits::new(&data, 0).is_err());
    }

    #[test]
    fn arg_max_prefers_the_lower_index() {
        assert_eq!(arg_max([1.0, 3.0, 3.0]), (1, 3.0));
        assert_eq!(arg_max([-5.0]), (0, -5.0));
    }
}

//! The teacher's many-step sampler: predict every masked slot, keep the confident ones, mask the rest again.
//!
//! MaskGIT (arXiv 2202.04200) as MaskBit runs it (arXiv 2409.16211). Per sample; the caller runs the
//! network between two calls of [`MaskedDiffusion::step`].

use super::one_step::gumbel_max;
use super::schedule::{Guidance, Schedule};
use super::{Logits, arg_max, check_finite, log_sum_exp};
use crate::error::{Error, Result};
use crate::rng::{Philox, Stream};

/// Settings of [`MaskedDiffusion`]. Defaults belong to the model file, so there is no `Default`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaskedDiffusionOptions {
    /// Number of steps n, at least 1.
    pub steps: u32,
    pub schedule: Schedule,
    pub guidance: Guidance,
    /// T of softmax(logits / T).
    pub softmax_temperature: f32,
    /// Replaces T by 0.5 + 0.8·(1 - r) at progress r = (i + 1)/n.
    pub sampling_annealing: bool,
    /// Weight of the Gumbel noise on the confidence; multiplied by 1 - r.
    pub randomize_temperature: f32,
}

impl MaskedDiffusionOptions {
    /// `InvalidArgument` unless steps ≥ 1, temperature > 0 and all numbers are finite; pow and
    /// randomize_temperature must not be negative.
    pub fn validate(&self) -> Result<()> {
        if self.steps == 0 {
            return Err(Error::invalid("steps", "at least 1", self.steps));
        }
        if !(self.softmax_temperature.is_finite() && self.softmax_temperature > 0.0) {
            return Err(Error::invalid(
                "softmax_temperature",
                "a finite number above 0",
                self.softmax_temperature,
            ));
        }
        if !self.guidance.scale.is_finite() {
            return Err(Error::invalid("guidance scale", "a finite number", self.guidance.scale));
        }
        for (what, x) in
            [("guidance pow", self.guidance.pow), ("randomize_temperature", self.randomize_temperature)]
        {
            if !(x.is_finite() && x >= 0.0) {
                return Err(Error::invalid(what, "a finite number, 0 or more", x));
            }
        }
        Ok(())
    }
}

/// The state of one picture between the steps of the sampler.
#[derive(Clone, Debug)]
pub struct MaskedDiffusion {
    options: MaskedDiffusionOptions,
    mask_token: u32,
    /// Slots that were masked at the start; the schedule's share is of these.
    maskable: usize,
    done: u32,
    tokens: Vec<u32>,
    predicted: Vec<u32>,
}

impl MaskedDiffusion {
    /// Starts from `tokens` (one per slot): all `mask_token` for a picture from nothing; known codes stay as they are.
    ///
    /// # Errors
    /// `InvalidArgument` as [`MaskedDiffusionOptions::validate`].
    pub fn new(
        options: MaskedDiffusionOptions,
        tokens: Vec<u32>,
        mask_token: u32,
    ) -> Result<MaskedDiffusion> {
        options.validate()?;
        let maskable = tokens.iter().filter(|&&t| t == mask_token).count();
        Ok(MaskedDiffusion { options, mask_token, maskable, done: 0, predicted: tokens.clone(), tokens })
    }

    /// The network's next input: one token per slot, undecided ones masked.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The last step's complete prediction: a preview, and after the last step the result. Before the
    /// first step it is the start.
    pub fn predicted(&self) -> &[u32] {
        &self.predicted
    }

    /// True once all steps are done.
    pub fn is_finished(&self) -> bool {
        self.done == self.options.steps
    }

    /// Step `i` (0, 1, … in order) on the network's logits for [`MaskedDiffusion::tokens`]; returns
    /// the new [`MaskedDiffusion::predicted`].
    ///
    /// With r = (i + 1)/n and z the guided logits, each masked slot gets a token, sampled from
    /// p = softmax(z/T) by Gumbel-max (noise: element slot · codes + code of ([`Stream::Gumbel`], i)), and a
    /// confidence `ln p(token) + g · randomize_temperature · (1 - r)` (g: element slot of
    /// ([`Stream::Confidence`], i)). The `mask_len` least confident of them and their ties are masked
    /// again, `mask_len = ⌊mask_ratio(r) · maskable⌋` clamped to \[1, masked - 1\].
    ///
    /// Where a single slot is masked that interval is empty; the slot then stays masked, to be predicted
    /// once more. (The reference's index wraps round there and masks the whole picture again.)
    ///
    /// # Errors
    /// `InvalidArgument` when logits do not have a row per slot, or `uncond` is missing while
    /// [`Guidance::needs_unconditional`]; `Runtime` when a masked slot's logit is NaN or infinite;
    /// `Internal` for a step out of order. The state is unchanged on error.
    pub fn step(
        &mut self,
        i: u32,
        cond: Logits<'_>,
        uncond: Option<Logits<'_>>,
        rng: &Philox,
    ) -> Result<&[u32]> {
        let MaskedDiffusionOptions { steps, guidance, .. } = self.options;
        if i != self.done || i >= steps {
            return Err(Error::internal(format!(
                "sampler step: expected {} of {steps}, found {i}",
                self.done
            )));
        }
        let uncond = uncond.filter(|_| guidance.needs_unconditional(i, steps));
        if uncond.is_none() && guidance.needs_unconditional(i, steps) {
            return Err(Error::invalid(format!("unconditional logits of step {i}"), "logits", "none"));
        }
        for logits in [Some(cond), uncond].into_iter().flatten() {
            if logits.slots() != self.tokens.len() || logits.codes() != cond.codes() {
                return Err(Error::invalid(
                    "logits",
                    format!("[{}, {}]", self.tokens.len(), cond.codes()),
                    format!("[{}, {}]", logits.slots(), logits.codes()),
                ));
            }
        }

        let progress = f64::from(i + 1) / f64::from(steps);
        let temperature = match self.options.sampling_annealing {
            true => 0.5 + 0.8 * (1.0 - progress),
            false => f64::from(self.options.softmax_temperature),
        };
        let scale = guidance.scale_at(i, steps);
        let noise_scale = f64::from(self.options.randomize_temperature) * (1.0 - progress);

        let mut predicted = self.tokens.clone();
        let mut confidence = Vec::with_capacity(self.maskable);
        let mut z = Vec::with_capacity(cond.codes());
        for (slot, token) in predicted.iter_mut().enumerate().filter(|(_, token)| **token == self.mask_token)
        {
            let c = cond.row(slot);
            check_finite(c, slot)?;
            z.clear();
            match uncond.map(|uncond| uncond.row(slot)) {
                None => z.extend(c.iter().map(|&c| f64::from(c) / temperature)),
                Some(u) => {
                    check_finite(u, slot)?;
                    z.extend(c.iter().zip(u).map(|(&c, &u)| guidance.combine(scale, c, u) / temperature));
                }
            }
            let words = rng.words(Stream::Gumbel, i, (slot * z.len()) as u64);
            let code = gumbel_max(z.iter().copied().zip(words));
            let log_probability = z[code] - log_sum_exp(z.iter().copied(), arg_max(z.iter().copied()).1);
            let noise = rng.gumbel_at(Stream::Confidence, i, slot as u64) * noise_scale;
            *token = code as u32;
            confidence.push((log_probability + noise, slot));
        }

        self.tokens.clone_from(&predicted);
        if let Some(most) = confidence.len().checked_sub(1) {
            let share = self.options.schedule.mask_ratio(progress) * self.maskable as f32;
            let mask_len = (share.floor() as usize).min(most).max(1);
            let mut sorted = confidence.clone();
            let threshold = sorted.select_nth_unstable_by(mask_len - 1, |a, b| a.0.total_cmp(&b.0)).1.0;
            for &(_, slot) in confidence.iter().filter(|(value, _)| *value <= threshold) {
                self.tokens[slot] = self.mask_token;
            }
        }
        self.predicted = predicted;
        self.done += 1;
        Ok(&self.predicted)
    }
}

#[cfg(test)]
mod tests {
    use super::super::schedule::{Annealing, GuidanceForm};
    use super::*;

    const MASK: u32 = 16;
    const CODES: usize = 16;

    /// MaskBit's settings, with the number of steps of the tests.
    const MASKBIT: MaskedDiffusionOptions = MaskedDiffusionOptions {
        steps: 8,
        schedule: Schedule::Arccos,
        guidance: Guidance {
            form: GuidanceForm::FromConditional,
            scale: 7.1,
            annealing: Annealing::Cosine,
            pow: 3.0,
        },
        softmax_temperature: 1.0,
        sampling_annealing: false,
        randomize_temperature: 7.8,
    };

    /// Stand-in for a network: logits that depend on the step only.
    fn network(i: u32, branch: u64, slots: usize) -> Vec<f32> {
        let mut z = vec![0.0; slots * CODES];
        Philox::new(1000 + branch).fill_gaussian(Stream::Perturbation, i, &mut z);
        z.iter_mut().for_each(|z| *z *= 2.0);
        z
    }

    /// One step of the published sampler, formula by formula; returns (predicted, next tokens).
    fn reference(
        o: &MaskedDiffusionOptions,
        tokens: &[u32],
        maskable: usize,
        i: u32,
        rng: &Philox,
    ) -> (Vec<u32>, Vec<u32>) {
        let (n, slots) = (f64::from(o.steps), tokens.len());
        let (c, u) = (network(i, 0, slots), network(i, 1, slots));
        let r = (f64::from(i) + 1.0) / n;
        let t = f64::from(i) / n;
        let s = f64::from(o.guidance.scale)
            * match o.guidance.annealing {
                Annealing::None => 1.0,
                Annealing::Linear => t,
                Annealing::Cosine => {
                    (1.0 - (t.powf(f64::from(o.guidance.pow)) * std::f64::consts::PI).cos()) / 2.0
                }
            };
        let temperature =
            if o.sampling_annealing { 0.5 + 0.8 * (1.0 - r) } else { f64::from(o.softmax_temperature) };
        let mut predicted = tokens.to_vec();
        let mut confidence = vec![f64::INFINITY; slots];
        for slot in 0..slots {
            if tokens[slot] != MASK {
                continue;
            }
            let z: Vec<f64> = (slot * CODES..(slot + 1) * CODES)
                .map(|e| (f64::from(c[e]) + s * (f64::from(c[e]) - f64::from(u[e]))) / temperature)
                .collect();
            let sum: f64 = z.iter().map(|z| z.exp()).sum();
            let p: Vec<f64> = z.iter().map(|z| z.exp() / sum).collect();
            let noisy =
                |code: usize| p[code].ln() + rng.gumbel_at(Stream::Gumbel, i, (slot * CODES + code) as u64);
            let code = (0..CODES).max_by(|&a, &b| noisy(a).total_cmp(&noisy(b))).unwrap();
            predicted[slot] = code as u32;
            let g = rng.gumbel_at(Stream::Confidence, i, slot as u64);
            confidence[slot] = p[code].ln() + g * f64::from(o.randomize_temperature) * (1.0 - r);
        }
        let ratio = match o.schedule {
            Schedule::Linear => 1.0 - r,
            Schedule::Root => 1.0 - r.sqrt(),
            Schedule::Square => 1.0 - r.powi(2),
            Schedule::Cosine => (r * std::f64::consts::FRAC_PI_2).cos(),
            Schedule::Arccos => r.acos() / std::f64::consts::FRAC_PI_2,
        };
        // Progress is in eighths: only f64's cos(π/2) and the like need the nudge to land on the f32 side.
        let mask_len = (ratio * maskable as f64 + 1e-6).floor();
        let masked = tokens.iter().filter(|&&t| t == MASK).count() as f64;
        let mask_len = mask_len.min(masked - 1.0).max(1.0);
        let mut sorted = confidence.clone();
        sorted.sort_by(f64::total_cmp);
        let threshold = sorted[mask_len as usize - 1];
        let next = (0..slots).map(|k| if confidence[k] <= threshold { MASK } else { predicted[k] }).collect();
        (predicted, next)
    }

    #[test]
    fn every_step_equals_the_published_formulas() {
        let schedules =
            [Schedule::Linear, Schedule::Root, Schedule::Square, Schedule::Cosine, Schedule::Arccos];
        let annealings = [Annealing::None, Annealing::Linear, Annealing::Cosine];
        let (slots, rng) = (64, Philox::new(42));
        for (schedule, annealing, sampling_annealing) in schedules
            .into_iter()
            .flat_map(|s| annealings.map(|a| (s, a)))
            .flat_map(|(s, a)| [(s, a, false), (s, a, true)])
        {
            let guidance = Guidance { annealing, ..MASKBIT.guidance };
            let options = MaskedDiffusionOptions { schedule, guidance, sampling_annealing, ..MASKBIT };
            // Two known codes: they must survive, and the share is of the other 62.
            let mut start = vec![MASK; slots];
            (start[3], start[9]) = (5, 7);
            let mut sampler = MaskedDiffusion::new(options, start, MASK).unwrap();
            for i in 0..options.steps {
                let (predicted, next) = reference(&options, sampler.tokens(), 62, i, &rng);
                let (c, u) = (network(i, 0, slots), network(i, 1, slots));
                let (c, u) = (Logits::new(&c, CODES).unwrap(), Logits::new(&u, CODES).unwrap());
                let found = sampler.step(i, c, Some(u), &rng).unwrap();
                assert_eq!(found, predicted, "{options:?}, step {i}");
                assert_eq!(sampler.tokens(), next, "{options:?}, step {i}");
                assert_eq!((found_at(&sampler, 3), found_at(&sampler, 9)), (5, 7));
            }
            assert!(sampler.is_finished());
            assert!(!sampler.predicted().contains(&MASK));
        }
    }

    fn found_at(sampler: &MaskedDiffusion, slot: usize) -> u32 {
        sampler.predicted()[slot]
    }

    #[test]
    fn more_steps_than_slots_end_cleanly() {
        let options = MaskedDiffusionOptions {
            steps: 12,
            schedule: Schedule::Linear,
            guidance: Guidance::OFF,
            ..MASKBIT
        };
        for slots in [1, 3] {
            let mut sampler = MaskedDiffusion::new(options, vec![MASK; slots], MASK).unwrap();
            let mut masked = slots;
            for i in 0..options.steps {
                let c = network(i, 0, slots);
                sampler.step(i, Logits::new(&c, CODES).unwrap(), None, &Philox::new(0)).unwrap();
                let left = sampler.tokens().iter().filter(|&&t| t == MASK).count();
                assert!(left >= 1 && left <= masked, "step {i}: {masked} masked, then {left}");
                masked = left;
            }
            assert!(sampler.is_finished() && !sampler.predicted().contains(&MASK));
        }
        // Nothing to do is not an error.
        let mut sampler = MaskedDiffusion::new(options, vec![1, 2], MASK).unwrap();
        let c = network(0, 0, 2);
        let found = sampler.step(0, Logits::new(&c, CODES).unwrap(), None, &Philox::new(0)).unwrap();
        assert_eq!(found, [1, 2]);
    }

    #[test]
    fn faults_are_named_and_leave_the_state_alone() {
        let guidance = Guidance { annealing: Annealing::None, ..MASKBIT.guidance };
        let options = MaskedDiffusionOptions { guidance, ..MASKBIT };
        let mut sampler = MaskedDiffusion::new(options, vec![MASK; 4], MASK).unwrap();
        let (good, mut bad) = (network(0, 0, 4), network(0, 1, 4));
        bad[2 * CODES] = f32::NAN;
        let logits = |z| Logits::new(z, CODES).unwrap();
        let rng = Philox::new(0);
        let mut message = |i, c, u| sampler.step(i, c, u, &rng).unwrap_err().to_string();
        assert_eq!(
            message(0, logits(&good), None),
            "unconditional logits of step 0: expected logits, found none"
        );
        assert!(message(1, logits(&good), None).contains("expected 0 of 8, found 1"));
        assert!(message(0, logits(&bad), Some(logits(&good))).contains("slot 2, code 0"));
        assert!(message(0, logits(&good), Some(logits(&bad))).contains("slot 2, code 0"));
        assert!(
            message(0, logits(&good[CODES..]), Some(logits(&bad)))
                .contains("expected [4, 16], found [3, 16]")
        );
        assert_eq!(sampler.tokens(), [MASK; 4]);
        sampler.step(0, logits(&good), Some(logits(&good)), &rng).unwrap();

        for bad in [
            MaskedDiffusionOptions { steps: 0, ..MASKBIT },
            MaskedDiffusionOptions { softmax_temperature: 0.0, ..MASKBIT },
            MaskedDiffusionOptions { randomize_temperature: f32::NAN, ..MASKBIT },
            MaskedDiffusionOptions { guidance: Guidance { scale: f32::INFINITY, ..guidance }, ..MASKBIT },
            MaskedDiffusionOptions { guidance: Guidance { pow: -1.0, ..guidance }, ..MASKBIT },
        ] {
            assert!(MaskedDiffusion::new(bad, vec![], MASK).is_err(), "{bad:?}");
        }
    }

    /// A picture must not change between releases.
    #[test]
    fn frozen_tokens() {
        for (seed, expected) in [
            (0, [3, 6, 11, 15, 4, 8, 10, 2, 15, 12, 11, 6]),
            (0x0123456789abcdef, [4, 14, 3, 2, 8, 8, 11, 7, 10, 3, 14, 6]),
        ] {
            let mut sampler = MaskedDiffusion::new(MASKBIT, vec![MASK; 12], MASK).unwrap();
            for i in 0..MASKBIT.steps {
                let (c, u) = (network(i, 0, 12), network(i, 1, 12));
                let (c, u) = (Logits::new(&c, CODES).unwrap(), Logits::new(&u, CODES).unwrap());
                sampler.step(i, c, Some(u), &Philox::new(seed)).unwrap();
            }
            assert_eq!(sampler.predicted(), expected, "seed {seed:#x}");
        }
    }
}

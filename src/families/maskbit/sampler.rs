//! MaskBit's sampler: a share of the predictions, the least confident ones, is masked again.
//!
//! MaskGIT (arXiv 2202.04200) as MaskBit runs it (arXiv 2409.16211).
//! Reference: markweberdev/maskbit, modeling/modules/sampling.py. Checked by the tests of this file against
//! its formulas, step by step.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::families::defaults::{SamplerChoice, TeacherDefaults};
use crate::families::family::Sampler;
use crate::sample::masked_diffusion::{Decision, Rule, Step, check_temperature, not_negative};
use crate::sample::schedule::{Annealing, Guidance, GuidanceForm, Schedule};

/// Settings of MaskBit's sampler. Defaults belong to the model file, so there is no `Default`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaskBitOptions {
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

/// As a model file names it.
pub const SAMPLER: Sampler = Sampler { name: "maskbit", rule: |t| Ok(Arc::new(options(t)?)) };

/// MaskBit's official sampling configuration.
pub fn teacher_defaults() -> TeacherDefaults {
    TeacherDefaults {
        guidance_scale: 7.1,
        guidance_annealing: Annealing::Cosine,
        randomize_temperature: 7.8,
        ..TeacherDefaults::default()
    }
}

/// The settings as a model file has them.
fn options(t: &TeacherDefaults) -> Result<MaskBitOptions> {
    t.sampler.iter().try_for_each(SamplerChoice::settings::<()>)?;
    Ok(MaskBitOptions {
        steps: t.steps,
        schedule: t.schedule,
        guidance: Guidance {
            form: GuidanceForm::FromConditional,
            scale: t.guidance_scale,
            annealing: t.guidance_annealing,
            pow: t.guidance_power,
        },
        softmax_temperature: t.temperature,
        sampling_annealing: t.sampling_annealing,
        randomize_temperature: t.randomize_temperature,
    })
}

impl Rule for MaskBitOptions {
    fn steps(&self) -> u32 {
        self.steps
    }

    /// `InvalidArgument` unless temperature > 0 and all numbers are finite; pow and randomize_temperature
    /// must not be negative.
    fn validate(&self) -> Result<()> {
        check_temperature(self.softmax_temperature)?;
        if !self.guidance.scale.is_finite() {
            return Err(Error::invalid("guidance scale", "a finite number", self.guidance.scale));
        }
        not_negative("guidance pow", self.guidance.pow)?;
        not_negative("randomize_temperature", self.randomize_temperature)
    }

    fn guidance_at(&self, i: u32) -> Option<(GuidanceForm, f64)> {
        let scale = self.guidance.scale_at(i, self.steps);
        self.guidance.needs_unconditional(i, self.steps).then_some((self.guidance.form, scale))
    }

    /// With r = (i + 1)/n and z the guided logits, each masked slot gets a token, sampled from
    /// p = softmax(z/T), and a confidence `ln p(token) + g · randomize_temperature · (1 - r)`. The `mask_len`
    /// least confident of them and their ties are masked again, `mask_len = ⌊mask_ratio(r) · maskable⌋`
    /// clamped to \[1, masked - 1\].
    ///
    /// Where a single slot is masked that interval is empty; the slot then stays masked, to be predicted
    /// once more. (The reference's index wraps round there and masks the whole picture again.)
    fn step(&self, s: &Step) -> Result<Decision> {
        let progress = f64::from(s.i + 1) / f64::from(self.steps);
        let temperature = match self.sampling_annealing {
            true => 0.5 + 0.8 * (1.0 - progress),
            false => f64::from(self.softmax_temperature),
        };
        let noise_scale = f64::from(self.randomize_temperature) * (1.0 - progress);
        let (predicted, mut confidence) = s.draw(temperature, noise_scale, |slot, z| s.sampled(slot, z))?;

        let mut tokens = predicted.clone();
        if !confidence.is_empty() {
            let mask_len = self.schedule.mask_len(progress, s.maskable.len(), confidence.len());
            s.mask_up_to(mask_len, &mut confidence, &mut tokens);
        }
        Ok(Decision { predicted, tokens })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Philox, Stream};
    use crate::sample::masked_diffusion::stand_in::{CODES, MASK, network};
    use crate::sample::schedule::Annealing;
    use crate::sample::{Logits, MaskedDiffusion};

    /// MaskBit's settings, with the number of steps of the tests.
    const MASKBIT: MaskBitOptions = MaskBitOptions {
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

    /// One step of the published sampler, formula by formula; returns (predicted, next tokens).
    fn reference(
        o: &MaskBitOptions,
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
            let options = MaskBitOptions { schedule, guidance, sampling_annealing, ..MASKBIT };
            // Two known codes: they must survive, and the share is of the other 62.
            let mut start = vec![MASK; slots];
            (start[3], start[9]) = (5, 7);
            let mut sampler = MaskedDiffusion::new(Arc::new(options), start, MASK).unwrap();
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
        let options =
            MaskBitOptions { steps: 12, schedule: Schedule::Linear, guidance: Guidance::OFF, ..MASKBIT };
        for slots in [1, 3] {
            let mut sampler = MaskedDiffusion::new(Arc::new(options), vec![MASK; slots], MASK).unwrap();
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
        let mut sampler = MaskedDiffusion::new(Arc::new(options), vec![1, 2], MASK).unwrap();
        let c = network(0, 0, 2);
        let found = sampler.step(0, Logits::new(&c, CODES).unwrap(), None, &Philox::new(0)).unwrap();
        assert_eq!(found, [1, 2]);
    }

    #[test]
    fn faults_are_named_and_leave_the_state_alone() {
        let guidance = Guidance { annealing: Annealing::None, ..MASKBIT.guidance };
        let options = MaskBitOptions { guidance, ..MASKBIT };
        let mut sampler = MaskedDiffusion::new(Arc::new(options), vec![MASK; 4], MASK).unwrap();
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
            MaskBitOptions { steps: 0, ..MASKBIT },
            MaskBitOptions { softmax_temperature: 0.0, ..MASKBIT },
            MaskBitOptions { randomize_temperature: f32::NAN, ..MASKBIT },
            MaskBitOptions { guidance: Guidance { scale: f32::INFINITY, ..guidance }, ..MASKBIT },
            MaskBitOptions { guidance: Guidance { pow: -1.0, ..guidance }, ..MASKBIT },
        ] {
            assert!(MaskedDiffusion::new(Arc::new(bad), vec![], MASK).is_err(), "{bad:?}");
        }
    }

    /// A picture must not change between releases.
    #[test]
    fn frozen_tokens() {
        for (seed, expected) in [
            (0, [3, 6, 11, 15, 4, 8, 10, 2, 15, 12, 11, 6]),
            (0x0123456789abcdef, [4, 14, 3, 2, 8, 8, 11, 7, 10, 3, 14, 6]),
        ] {
            let mut sampler = MaskedDiffusion::new(Arc::new(MASKBIT), vec![MASK; 12], MASK).unwrap();
            for i in 0..MASKBIT.steps {
                let (c, u) = (network(i, 0, 12), network(i, 1, 12));
                let (c, u) = (Logits::new(&c, CODES).unwrap(), Logits::new(&u, CODES).unwrap());
                sampler.step(i, c, Some(u), &Philox::new(seed)).unwrap();
            }
            assert_eq!(sampler.predicted(), expected, "seed {seed:#x}");
        }
    }
}

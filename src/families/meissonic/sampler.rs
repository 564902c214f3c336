//! Meissonic's sampler, aMUSEd's with another network: a share of the predictions is masked again.
//!
//! Paper: "Meissonic: Revitalizing Masked Generative Transformers for Efficient High-Resolution Text-to-Image
//! Synthesis", arXiv 2410.08261.
//! Reference: viiika/Meissonic, src/pipeline.py (guidance) and src/scheduler.py, the same as yuanzhi-zhu/DiMO,
//! Meissonic_src/scheduler.py (`Scheduler`). Checked by the tests of this file against its formulas, step by
//! step.
//!
//! What differs: where nothing is masked, nothing is masked again. (The reference masks a known token there.)

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::families::defaults::{SamplerChoice, TeacherDefaults};
use crate::families::family::Sampler;
use crate::sample::masked_diffusion::{Decision, Rule, Step, check_temperature, not_negative};
use crate::sample::schedule::{GuidanceForm, Schedule, linspace};

/// MeissonicSettings of Meissonic's sampler. Published: 64 steps (the pipeline's own default is 48), cosine, guidance 9,
/// T = 1, randomize 2 to 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeissonicOptions {
    /// Number of steps n, at least 1.
    pub steps: u32,
    pub schedule: Schedule,
    /// s of u + s·(c - u); up to 1 there is no guidance. u is the negative prompt's, or the empty one's.
    pub guidance_scale: f32,
    /// T of softmax(logits / T); the reference has none.
    pub softmax_temperature: f32,
    /// Weight R of the Gumbel noise on the confidence at the first step and at the last.
    pub randomize_temperature: [f32; 2],
}

/// What only this sampler is set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeissonicSettings {
    /// What `randomize_temperature` has fallen to at the last step.
    pub last_randomize_temperature: f32,
}

/// As a model file names it.
pub const SAMPLER: Sampler = Sampler { name: "meissonic", rule: |t| Ok(Arc::new(options(t)?)) };

/// Meissonic as Di\[M\]O samples it; its own pipeline takes 48 steps.
pub fn teacher_defaults() -> TeacherDefaults {
    TeacherDefaults {
        sampler: Some(SamplerChoice::with(
            SAMPLER.name,
            MeissonicSettings { last_randomize_temperature: 0.0 },
        )),
        steps: 64,
        guidance_scale: 9.0,
        randomize_temperature: 2.0,
        schedule: Schedule::Cosine,
        ..TeacherDefaults::default()
    }
}

/// The settings as a model file has them.
fn options(t: &TeacherDefaults) -> Result<MeissonicOptions> {
    let own: MeissonicSettings = match &t.sampler {
        Some(choice) => choice.settings()?,
        None => MeissonicSettings { last_randomize_temperature: 0.0 },
    };
    Ok(MeissonicOptions {
        steps: t.steps,
        schedule: t.schedule,
        guidance_scale: t.guidance_scale,
        softmax_temperature: t.temperature,
        randomize_temperature: [t.randomize_temperature, own.last_randomize_temperature],
    })
}

impl Rule for MeissonicOptions {
    fn steps(&self) -> u32 {
        self.steps
    }

    /// n - 1 at the first step, 0 at the last; the network multiplies it by 1000.
    fn timestep(&self, i: u32) -> Option<u32> {
        Some(self.steps.saturating_sub(1).saturating_sub(i))
    }

    fn validate(&self) -> Result<()> {
        check_temperature(self.softmax_temperature)?;
        not_negative("guidance_scale", self.guidance_scale)?;
        self.randomize_temperature.iter().try_for_each(|&r| not_negative("randomize_temperature", r))
    }

    fn guidance_at(&self, _: u32) -> Option<(GuidanceForm, f64)> {
        let scale = f64::from(self.guidance_scale);
        (scale > 1.0).then_some((GuidanceForm::FromUnconditional, scale))
    }

    /// Each masked slot gets a token, sampled from p = softmax(z/T), and a confidence `ln p(token) + g·R(i)`,
    /// R going evenly from the first to the last. Those less confident than the one at place `mask_len` from
    /// below are masked again, `mask_len = ⌊mask_ratio((i + 1)/n) · maskable⌋` clamped to \[1, masked - 1\];
    /// after the last step, none.
    fn step(&self, s: &Step) -> Result<Decision> {
        let temperature = f64::from(self.softmax_temperature);
        let [first, last] = self.randomize_temperature;
        let noise_scale = f64::from(linspace(first, last, self.steps, s.i));
        let (predicted, mut confidence) = s.draw(temperature, noise_scale, |slot, z| s.sampled(slot, z))?;

        let mut tokens = predicted.clone();
        if !confidence.is_empty() && s.i + 1 < self.steps {
            let progress = f64::from(s.i + 1) / f64::from(self.steps);
            let mask_len = self.schedule.mask_len(progress, s.maskable.len(), confidence.len());
            s.mask_below(mask_len, &mut confidence, &mut tokens);
        }
        Ok(Decision { predicted, tokens })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Philox, Stream};
    use crate::sample::masked_diffusion::stand_in::{CODES, MASK, check_every_step, frozen};

    const MEISSONIC: MeissonicOptions = MeissonicOptions {
        steps: 64,
        schedule: Schedule::Cosine,
        guidance_scale: 9.0,
        softmax_temperature: 1.0,
        randomize_temperature: [2.0, 0.0],
    };

    /// One step of the published sampler, formula by formula; returns (predicted, next tokens).
    fn reference(
        o: &MeissonicOptions,
        tokens: &[u32],
        maskable: usize,
        i: u32,
        [c, u]: [&[f32]; 2],
        rng: &Philox,
    ) -> (Vec<u32>, Vec<u32>) {
        let n = f64::from(o.steps);
        let [first, last] = o.randomize_temperature.map(f64::from);
        let noise_scale = first + (last - first) * f64::from(i) / (n - 1.0);
        let mut predicted = tokens.to_vec();
        let mut confidence = vec![f64::INFINITY; tokens.len()];
        for slot in (0..tokens.len()).filter(|&slot| tokens[slot] == MASK) {
            let z: Vec<f64> = (slot * CODES..(slot + 1) * CODES)
                .map(|e| [c[e], u[e]].map(f64::from))
                .map(
                    |[c, u]| {
                        if o.guidance_scale > 1.0 { u + f64::from(o.guidance_scale) * (c - u) } else { c }
                    },
                )
                .collect();
            let sum: f64 = z.iter().map(|z| z.exp()).sum();
            let log_p = |code: usize| (z[code].exp() / sum).ln();
            let noisy =
                |code: usize| log_p(code) + rng.gumbel_at(Stream::Gumbel, i, (slot * CODES + code) as u64);
            let code = (0..CODES).max_by(|&a, &b| noisy(a).total_cmp(&noisy(b))).unwrap();
            predicted[slot] = code as u32;
            confidence[slot] = log_p(code) + noise_scale * rng.gumbel_at(Stream::Confidence, i, slot as u64);
        }
        if o.timestep(i) == Some(0) {
            return (predicted.clone(), predicted);
        }
        let ratio = match o.schedule {
            Schedule::Cosine => ((f64::from(i) + 1.0) / n * std::f64::consts::FRAC_PI_2).cos(),
            Schedule::Linear => 1.0 - (f64::from(i) + 1.0) / n,
            other => panic!("{other:?} is not published"),
        };
        let masked = tokens.iter().filter(|&&t| t == MASK).count() as f64;
        // The share of the whole picture that was masked at the start, times the schedule's.
        let share = maskable as f64 / tokens.len() as f64 * ratio;
        let mask_len = (tokens.len() as f64 * share + 1e-6).floor().min(masked - 1.0).max(1.0);
        let mut sorted = confidence.clone();
        sorted.sort_by(f64::total_cmp);
        let cut_off = sorted[mask_len as usize];
        let next = confidence.iter().zip(&predicted).map(|(&c, &p)| if c < cut_off { MASK } else { p });
        (predicted.clone(), next.collect())
    }

    #[test]
    fn every_step_equals_the_published_formulas() {
        for (steps, schedule, guidance_scale) in [
            (8, Schedule::Cosine, 9.0),
            (64, Schedule::Cosine, 9.0),
            (7, Schedule::Linear, 2.0),
            (8, Schedule::Cosine, 1.0),
        ] {
            let options = MeissonicOptions { steps, schedule, guidance_scale, ..MEISSONIC };
            check_every_step(options, |tokens, maskable, i, logits, rng| {
                reference(&options, tokens, maskable, i, logits, rng)
            });
        }
    }

    #[test]
    fn timesteps_count_down() {
        let options = MEISSONIC;
        let timesteps: Vec<u32> = (0..64).map(|i| options.timestep(i).unwrap()).collect();
        assert_eq!(timesteps, (0..64).rev().collect::<Vec<_>>());
    }

    #[test]
    fn guidance_up_to_one_is_off() {
        for (scale, on) in [(0.0, false), (1.0, false), (1.5, true), (9.0, true)] {
            let options = MeissonicOptions { guidance_scale: scale, ..MEISSONIC };
            assert!((0..64).all(|i| options.needs_unconditional(i) == on), "{scale}");
        }
    }

    /// A picture must not change between releases.
    #[test]
    fn frozen_tokens() {
        for (seed, expected) in [
            (0, [3, 7, 7, 1, 6, 5, 4, 2, 7, 3, 5, 11, 2, 7, 13, 2]),
            (0x0123456789abcdef, [4, 12, 2, 7, 9, 2, 15, 15, 0, 4, 2, 11, 15, 4, 0, 12]),
        ] {
            assert_eq!(frozen(MEISSONIC, seed), expected, "seed {seed:#x}");
        }
    }
}

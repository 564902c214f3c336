//! MaskGIT's sampler of Halton-MaskGIT v1.0 and Di\[M\]O: a quota of the most confident predictions is kept.
//!
//! Paper: "A Pytorch Reproduction of Masked Generative Image Transformer", arXiv 2310.14400.
//! Reference: yuanzhi-zhu/DiMO, MaskGit_src/Trainer/vit.py (`adap_sche`, `sample`), which is v1.0 of
//! valeoai/Halton-MaskGIT; valeoai/Halton-MaskGIT, Sampler/confidence_sampler.py ([`Quota::Total`]).
//! Checked by the tests of this file against its formulas, step by step.
//!
//! What differs: the reference lets the mask token be sampled and decodes it as the last code, here it has no
//! logit; and its quotas are of all tokens where some are known, so that it ends before the last step.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::families::defaults::{SamplerChoice, TeacherDefaults};
use crate::families::family::Sampler;
use crate::sample::masked_diffusion::{Decision, Rule, Step, check_temperature, not_negative};
use crate::sample::schedule::{GuidanceForm, Schedule, linspace};

/// MaskGitSettings of MaskGIT's sampler. Published: 12 steps, arccos, guidance 3, T = 1, randomize 4.5; for FID 8
/// steps, guidance 4.5, T = 1/1.3, randomize 7.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaskGitOptions {
    /// Number of steps n, at least 1.
    pub steps: u32,
    pub schedule: Schedule,
    pub quota: Quota,
    /// s of c + s·i/(n - 1)·(c - u).
    pub guidance_scale: f32,
    /// T of softmax(logits / T); the reference's `sm_temp` multiplies, it is 1/T.
    pub softmax_temperature: f32,
    /// Weight R of the Gumbel noise on the confidence; multiplied by 1 - i/(n - 1).
    pub randomize_temperature: f32,
}

/// How many slots a step decides. ρ is the schedule, N the slots that were masked at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quota {
    /// Step i decides N·ρ(1 - i/(n - 1)) / Σⱼ ρ(1 - j/(n - 1)), rounded, one at least: v1.0 and Di\[M\]O.
    #[default]
    PerStep,
    /// ⌊N·(1 - ρ(i/(n - 1)))⌋ are decided after step i, and i + 1 at least: `confidence_sampler`.
    Total,
}

/// What only this sampler is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MaskGitSettings {
    #[serde(default)]
    pub quota: Quota,
}

/// As a model file names it.
pub const SAMPLER: Sampler = Sampler { name: "maskgit", rule: |t| Ok(Arc::new(options(t)?)) };

/// Defaults of MaskGIT's `sample`, v1.0 and Di\[M\]O.
pub fn teacher_defaults() -> TeacherDefaults {
    TeacherDefaults {
        sampler: Some(SamplerChoice::with(SAMPLER.name, MaskGitSettings { quota: Quota::PerStep })),
        steps: 12,
        guidance_scale: 3.0,
        ..TeacherDefaults::default()
    }
}

/// The settings as a model file has them.
fn options(t: &TeacherDefaults) -> Result<MaskGitOptions> {
    let own: MaskGitSettings = match &t.sampler {
        Some(choice) => choice.settings()?,
        None => MaskGitSettings { quota: Quota::PerStep },
    };
    Ok(MaskGitOptions {
        steps: t.steps,
        schedule: t.schedule,
        quota: own.quota,
        guidance_scale: t.guidance_scale,
        softmax_temperature: t.temperature,
        randomize_temperature: t.randomize_temperature,
    })
}

impl MaskGitOptions {
    /// i/(n - 1), and 0 for a single step.
    fn time(&self, i: u32) -> f64 {
        f64::from(i) / f64::from(self.steps.saturating_sub(1).max(1))
    }

    /// How many of the `masked` slots step `i` decides.
    fn quota(&self, i: u32, maskable: usize, masked: usize) -> usize {
        if i + 1 == self.steps {
            return masked;
        }
        let quota = match self.quota {
            Quota::PerStep => {
                let ratio = |i| self.schedule.ratio(linspace(1.0, 0.0, self.steps, i));
                let share = ratio(i) / (0..self.steps).map(ratio).sum::<f32>();
                ((share * maskable as f32).round_ties_even() as usize).max(1)
            }
            Quota::Total => {
                let share = 1.0 - self.schedule.ratio(linspace(0.0, 1.0, self.steps, i));
                let total = ((share * maskable as f32) as usize).max(i as usize + 1);
                total.saturating_sub(maskable - masked)
            }
        };
        quota.min(masked)
    }
}

impl Rule for MaskGitOptions {
    fn steps(&self) -> u32 {
        self.steps
    }

    fn validate(&self) -> Result<()> {
        check_temperature(self.softmax_temperature)?;
        not_negative("guidance_scale", self.guidance_scale)?;
        not_negative("randomize_temperature", self.randomize_temperature)
    }

    fn guidance_at(&self, i: u32) -> Option<(GuidanceForm, f64)> {
        let scale = f64::from(self.guidance_scale) * self.time(i);
        (scale != 0.0).then_some((GuidanceForm::FromConditional, scale))
    }

    /// Each masked slot gets a token, sampled from p = softmax(z/T), and a confidence
    /// `ln p(token) + g·R·(1 - i/(n - 1))`. The quota's most confident ones stay, the lower slot of equals.
    fn step(&self, s: &Step) -> Result<Decision> {
        let temperature = f64::from(self.softmax_temperature);
        let noise_scale = f64::from(self.randomize_temperature) * (1.0 - self.time(s.i));
        let (predicted, mut confidence) = s.draw(temperature, noise_scale, |slot, z| s.sampled(slot, z))?;
        confidence.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut tokens = s.tokens.to_vec();
        for &(_, slot) in &confidence[..self.quota(s.i, s.maskable.len(), confidence.len())] {
            tokens[slot] = predicted[slot];
        }
        Ok(Decision { predicted, tokens })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Philox, Stream};
    use crate::sample::masked_diffusion::stand_in::{CODES, MASK, check_every_step, frozen};

    const MASKGIT: MaskGitOptions = MaskGitOptions {
        steps: 12,
        schedule: Schedule::Arccos,
        quota: Quota::PerStep,
        guidance_scale: 3.0,
        softmax_temperature: 1.0,
        randomize_temperature: 4.5,
    };

    #[test]
    fn quotas_are_the_published_ones() {
        let quotas = |quota, steps| {
            let options = MaskGitOptions { quota, steps, ..MASKGIT };
            let mut masked = 256;
            let all = (0..steps).map(|i| {
                let quota = options.quota(i, 256, masked);
                masked -= quota;
                quota
            });
            all.collect::<Vec<_>>()
        };
        // `adap_sche` and `build_sequence` for 16 × 16 tokens, arccos.
        assert_eq!(quotas(Quota::PerStep, 12), [1, 9, 13, 17, 19, 22, 24, 26, 28, 30, 32, 35]);
        assert_eq!(quotas(Quota::PerStep, 8), [1, 18, 26, 32, 38, 43, 48, 50]);
        let total: Vec<usize> = quotas(Quota::Total, 12)
            .iter()
            .scan(0, |sum, quota| {
                *sum += quota;
                Some(*sum)
            })
            .collect();
        assert_eq!(total, [1, 14, 29, 45, 60, 76, 94, 112, 132, 156, 185, 256]);
        assert_eq!(quotas(Quota::PerStep, 1), [256]);
    }

    /// One step of the published sampler, formula by formula; returns (predicted, next tokens).
    fn reference(
        o: &MaskGitOptions,
        tokens: &[u32],
        maskable: usize,
        i: u32,
        [c, u]: [&[f32]; 2],
        rng: &Philox,
    ) -> (Vec<u32>, Vec<u32>) {
        let n = o.steps as usize;
        let t = f64::from(i) / (n as f64 - 1.0);
        let s = f64::from(o.guidance_scale) * t;
        let rho = |r: f64| match o.schedule {
            Schedule::Linear => 1.0 - r,
            Schedule::Root => 1.0 - r.sqrt(),
            Schedule::Square => 1.0 - r.powi(2),
            Schedule::Cosine => (r * std::f64::consts::FRAC_PI_2).cos(),
            Schedule::Arccos => r.acos() / std::f64::consts::FRAC_PI_2,
        };
        let mut predicted = tokens.to_vec();
        let mut candidates = Vec::new();
        for slot in (0..tokens.len()).filter(|&slot| tokens[slot] == MASK) {
            let z: Vec<f64> = (slot * CODES..(slot + 1) * CODES)
                .map(|e| (1.0 + s) * f64::from(c[e]) - s * f64::from(u[e]))
                .map(|z| z / f64::from(o.softmax_temperature))
                .collect();
            let sum: f64 = z.iter().map(|z| z.exp()).sum();
            let noisy = |code: usize| {
                (z[code].exp() / sum).ln() + rng.gumbel_at(Stream::Gumbel, i, (slot * CODES + code) as u64)
            };
            let code = (0..CODES).max_by(|&a, &b| noisy(a).total_cmp(&noisy(b))).unwrap();
            predicted[slot] = code as u32;
            let g = rng.gumbel_at(Stream::Confidence, i, slot as u64);
            let noise = g * f64::from(o.randomize_temperature) * (1.0 - t);
            candidates.push(((z[code].exp() / sum).ln() + noise, slot));
        }
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0));

        let all = maskable as f64;
        let quota = |i: usize| match o.quota {
            Quota::PerStep => {
                let share = |i: usize| rho(1.0 - i as f64 / (n as f64 - 1.0));
                let sum: f64 = (0..n).map(share).sum();
                (share(i) / sum * all).round().max(1.0) as usize
            }
            Quota::Total => {
                let total = |i: usize| {
                    // f64's cos(π/2) and the like lie a hair below.
                    let share = 1.0 - rho(i as f64 / (n as f64 - 1.0));
                    ((share * all + 1e-5).floor() as usize).max(i + 1)
                };
                total(i) - if i == 0 { 0 } else { total(i - 1) }
            }
        };
        let decided: usize = (0..i as usize).map(quota).sum();
        let keep = if i as usize == n - 1 { maskable - decided } else { quota(i as usize) };
        let mut next = tokens.to_vec();
        for (_, slot) in &candidates[..keep] {
            next[*slot] = predicted[*slot];
        }
        (predicted, next)
    }

    #[test]
    fn every_step_equals_the_published_formulas() {
        let schedules =
            [Schedule::Linear, Schedule::Root, Schedule::Square, Schedule::Cosine, Schedule::Arccos];
        for (schedule, quota) in schedules.into_iter().flat_map(|s| [(s, Quota::PerStep), (s, Quota::Total)])
        {
            for softmax_temperature in [1.0, 1.0 / 1.3] {
                let options = MaskGitOptions { steps: 6, schedule, quota, softmax_temperature, ..MASKGIT };
                check_every_step(options, |tokens, maskable, i, logits, rng| {
                    reference(&options, tokens, maskable, i, logits, rng)
                });
            }
        }
    }

    #[test]
    fn guidance_grows_from_none() {
        let options = MASKGIT;
        assert!(!options.needs_unconditional(0) && (1..12).all(|i| options.needs_unconditional(i)));
        assert_eq!(MASKGIT.guidance_at(11), Some((GuidanceForm::FromConditional, 3.0)));
        let off = MaskGitOptions { guidance_scale: 0.0, ..MASKGIT };
        assert!((0..12).all(|i| !off.needs_unconditional(i)));
    }

    /// A picture must not change between releases.
    #[test]
    fn frozen_tokens() {
        for (seed, expected) in [
            (0, [3, 3, 4, 1, 1, 6, 10, 2, 15, 4, 6, 11, 2, 13, 11, 4]),
            (0x0123456789abcdef, [4, 12, 12, 2, 8, 2, 11, 7, 9, 4, 14, 0, 7, 4, 11, 10]),
        ] {
            assert_eq!(frozen(MASKGIT, seed), expected, "seed {seed:#x}");
        }
    }
}

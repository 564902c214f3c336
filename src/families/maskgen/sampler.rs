//! MaskGen's sampler: as MaskBit's, but logits are ranked and the tokens' own noise cools down too.
//!
//! Paper: "Democratizing Text-to-Image Masked Generative Models with Compact Text-Aware One-Dimensional
//! Tokens", arXiv 2501.07730.
//! Reference: bytedance/1d-tokenizer, modeling/maskgen.py (`MaskGen_VQ.generate`, after MUSE-Pytorch).
//! Checked by the tests of this file against its formulas, step by step.
//!
//! What differs: shares are of the slots that were masked at the start, the reference takes them of all; and a
//! guidance scale of 0 is no guidance, where the reference's would fall from 1 to 0.

use std::sync::Arc;

use crate::error::Result;
use crate::families::defaults::{SamplerChoice, TeacherDefaults};
use crate::families::family::Sampler;
use crate::sample::arg_max;
use crate::sample::masked_diffusion::{Decision, Rule, Step, check_temperature, not_negative};
use crate::sample::schedule::{Annealing, GuidanceForm, Schedule};

/// Settings of MaskGen's sampler. Published: 16 steps, arccos, guidance 12 (cosine, power 1), sampling
/// annealing, randomize 2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaskGenOptions {
    /// Number of steps n, at least 1.
    pub steps: u32,
    pub schedule: Schedule,
    /// s of c + (1 + (s - 1)·f((i + 1)/n))·(c - u); without annealing, of c + s·(c - u).
    pub guidance_scale: f32,
    /// f, the reference's `guidance_decay`.
    pub guidance_annealing: Annealing,
    /// Exponent of [`Annealing::Cosine`]; ignored by the others.
    pub guidance_power: f32,
    /// T of z = logits / T.
    pub softmax_temperature: f32,
    /// Replaces T by 0.5 + 0.8·(1 - r) at progress r = (i + 1)/n.
    pub sampling_annealing: bool,
    /// Weight R of the Gumbel noise on logits and on the confidence; multiplied by 1 - r.
    pub randomize_temperature: f32,
}

/// As a model file names it.
pub const SAMPLER: Sampler = Sampler { name: "maskgen", rule: |t| Ok(Arc::new(options(t)?)) };

/// MaskGen-VQ's configs/infer/MaskGen/maskgen_vq_l.yaml and defaults of its `generate`.
pub fn teacher_defaults() -> TeacherDefaults {
    TeacherDefaults {
        sampler: Some(SamplerChoice::named(SAMPLER.name)),
        steps: 16,
        guidance_scale: 12.0,
        guidance_annealing: Annealing::Cosine,
        guidance_power: 1.0,
        randomize_temperature: 2.0,
        sampling_annealing: true,
        ..TeacherDefaults::default()
    }
}

/// The settings as a model file has them.
fn options(t: &TeacherDefaults) -> Result<MaskGenOptions> {
    t.sampler.iter().try_for_each(SamplerChoice::settings::<()>)?;
    Ok(MaskGenOptions {
        steps: t.steps,
        schedule: t.schedule,
        guidance_scale: t.guidance_scale,
        guidance_annealing: t.guidance_annealing,
        guidance_power: t.guidance_power,
        softmax_temperature: t.temperature,
        sampling_annealing: t.sampling_annealing,
        randomize_temperature: t.randomize_temperature,
    })
}

impl MaskGenOptions {
    /// r = (i + 1)/n.
    fn progress(&self, i: u32) -> f64 {
        f64::from(i + 1) / f64::from(self.steps)
    }
}

impl Rule for MaskGenOptions {
    fn steps(&self) -> u32 {
        self.steps
    }

    fn validate(&self) -> Result<()> {
        check_temperature(self.softmax_temperature)?;
        not_negative("guidance_scale", self.guidance_scale)?;
        not_negative("guidance_power", self.guidance_power)?;
        not_negative("randomize_temperature", self.randomize_temperature)
    }

    fn guidance_at(&self, i: u32) -> Option<(GuidanceForm, f64)> {
        let scale = f64::from(self.guidance_scale);
        let factor = self.guidance_annealing.factor(self.progress(i), self.guidance_power);
        (scale != 0.0).then_some((GuidanceForm::FromConditional, 1.0 + (scale - 1.0) * factor))
    }

    /// With a = R·(1 - r), each masked slot gets the token of the largest z + g·a, and a confidence
    /// `z(token) + g'·a`: a logit, not a probability. The `mask_len` least confident of them and their ties
    /// are masked again, `mask_len = ⌊mask_ratio(r) · maskable⌋` clamped to \[1, masked - 1\]; after the last
    /// step, none.
    fn step(&self, s: &Step) -> Result<Decision> {
        let progress = self.progress(s.i);
        let temperature = match self.sampling_annealing {
            true => 0.5 + 0.8 * (1.0 - progress),
            false => f64::from(self.softmax_temperature),
        };
        let noise_scale = f64::from(self.randomize_temperature) * (1.0 - progress);
        let (predicted, mut confidence) = s.draw(temperature, noise_scale, |slot, z| {
            let code = match noise_scale > 0.0 {
                // arg max of z + g·a is a sample of softmax(z/a).
                true => s.sample_at(slot, z, noise_scale),
                false => arg_max(z.iter().copied()).0,
            };
            (code, z[code])
        })?;

        let mut tokens = predicted.clone();
        if !confidence.is_empty() && s.i + 1 < self.steps {
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
    use crate::sample::masked_diffusion::stand_in::{CODES, MASK, check_every_step, frozen};

    const MASKGEN: MaskGenOptions = MaskGenOptions {
        steps: 16,
        schedule: Schedule::Arccos,
        guidance_scale: 12.0,
        guidance_annealing: Annealing::Cosine,
        guidance_power: 1.0,
        softmax_temperature: 1.0,
        sampling_annealing: true,
        randomize_temperature: 2.0,
    };

    /// One step of the published sampler, formula by formula; returns (predicted, next tokens).
    fn reference(
        o: &MaskGenOptions,
        tokens: &[u32],
        maskable: usize,
        i: u32,
        [c, u]: [&[f32]; 2],
        rng: &Philox,
    ) -> (Vec<u32>, Vec<u32>) {
        let r = (f64::from(i) + 1.0) / f64::from(o.steps);
        let annealed = f64::from(o.randomize_temperature) * (1.0 - r);
        let grown = f64::from(o.guidance_scale) - 1.0;
        let s = match o.guidance_annealing {
            Annealing::None => f64::from(o.guidance_scale),
            Annealing::Linear => r * grown + 1.0,
            Annealing::Cosine => {
                let power = r.powf(f64::from(o.guidance_power));
                grown * ((1.0 - (power * std::f64::consts::PI).cos()) / 2.0) + 1.0
            }
        };
        let temperature =
            if o.sampling_annealing { 0.5 + 0.8 * (1.0 - r) } else { f64::from(o.softmax_temperature) };
        let mut predicted = tokens.to_vec();
        let mut confidence = vec![f64::INFINITY; tokens.len()];
        for slot in (0..tokens.len()).filter(|&slot| tokens[slot] == MASK) {
            let z: Vec<f64> = (slot * CODES..(slot + 1) * CODES)
                .map(|e| (f64::from(c[e]) + (f64::from(c[e]) - f64::from(u[e])) * s) / temperature)
                .collect();
            let noisy = |code: usize| {
                z[code] + annealed * rng.gumbel_at(Stream::Gumbel, i, (slot * CODES + code) as u64)
            };
            let code = (0..CODES).max_by(|&a, &b| noisy(a).total_cmp(&noisy(b))).unwrap();
            predicted[slot] = code as u32;
            confidence[slot] = z[code] + annealed * rng.gumbel_at(Stream::Confidence, i, slot as u64);
        }
        if i + 1 == o.steps {
            return (predicted.clone(), predicted);
        }
        let ratio = match o.schedule {
            Schedule::Linear => 1.0 - r,
            Schedule::Root => 1.0 - r.sqrt(),
            Schedule::Square => 1.0 - r.powi(2),
            Schedule::Cosine => (r * std::f64::consts::FRAC_PI_2).cos(),
            Schedule::Arccos => r.acos() / std::f64::consts::FRAC_PI_2,
        };
        let masked = tokens.iter().filter(|&&t| t == MASK).count() as f64;
        // The nudge puts f64 on f32's side of whole numbers.
        let mask_len = (ratio * maskable as f64 + 1e-6).floor().min(masked - 1.0).max(1.0);
        let mut sorted = confidence.clone();
        sorted.sort_by(f64::total_cmp);
        let cut_off = sorted[mask_len as usize - 1];
        let next = confidence.iter().zip(&predicted).map(|(&c, &p)| if c <= cut_off { MASK } else { p });
        (predicted.clone(), next.collect())
    }

    #[test]
    fn every_step_equals_the_published_formulas() {
        let annealings = [(Annealing::None, 1.0), (Annealing::Linear, 1.0), (Annealing::Cosine, 1.0)];
        for (guidance_annealing, guidance_power) in annealings.into_iter().chain([(Annealing::Cosine, 2.5)]) {
            for (schedule, sampling_annealing) in
                [(Schedule::Arccos, true), (Schedule::Cosine, true), (Schedule::Linear, false)]
            {
                let options = MaskGenOptions {
                    steps: 8,
                    schedule,
                    guidance_annealing,
                    guidance_power,
                    sampling_annealing,
                    ..MASKGEN
                };
                check_every_step(options, |tokens, maskable, i, logits, rng| {
                    reference(&options, tokens, maskable, i, logits, rng)
                });
            }
        }
    }

    #[test]
    fn guidance_grows_from_one() {
        let scale = |i| MASKGEN.guidance_at(i).unwrap().1;
        // (1 - cos(π/16))/2 = 0.0096.
        assert!((scale(0) - 1.1057).abs() < 1e-4 && (scale(15) - 12.0).abs() < 1e-12);
        assert!((scale(7) - 6.5).abs() < 1e-12);
        let off = MaskGenOptions { guidance_scale: 0.0, ..MASKGEN };
        assert!((0..16).all(|i| off.guidance_at(i).is_none()));
        let constant = MaskGenOptions { guidance_annealing: Annealing::None, ..MASKGEN };
        assert_eq!(constant.guidance_at(0), Some((GuidanceForm::FromConditional, 12.0)));
    }

    /// Without noise the most probable codes are taken, whatever the seed.
    #[test]
    fn no_noise_is_arg_max() {
        let options = MaskGenOptions { randomize_temperature: 0.0, ..MASKGEN };
        assert_eq!(frozen(options, 0), frozen(options, 1));
    }

    /// A picture must not change between releases.
    #[test]
    fn frozen_tokens() {
        for (seed, expected) in [
            (0, [3, 14, 3, 6, 14, 1, 11, 0, 7, 12, 7, 2, 4, 12, 13, 7]),
            (0x0123456789abcdef, [6, 3, 13, 7, 14, 7, 11, 10, 10, 3, 4, 2, 7, 14, 9, 7]),
        ] {
            assert_eq!(frozen(MASKGEN, seed), expected, "seed {seed:#x}");
        }
    }
}

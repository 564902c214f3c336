//! The Halton sampler for MaskGIT: slots are decided in the order of a low-discrepancy sequence, not by
//! confidence, so that those decided together are far apart.
//!
//! Paper: "Halton Scheduler for Masked Generative Image Transformer", arXiv 2503.17076.
//! Reference: valeoai/Halton-MaskGIT, Sampler/halton_sampler.py. Checked by the tests of this file against its
//! formulas, step by step.
//!
//! As the reference does it, a step also decides anew what earlier steps decided. Left out is what no published
//! setting uses: top-k, the exponent of the temperature and its warm-up. What differs: shares are of the slots
//! that were masked at the start.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::families::defaults::{SamplerChoice, TeacherDefaults};
use crate::families::family::Sampler;
use crate::rng::Stream;
use crate::sample::masked_diffusion::{Decision, Rule, Step, check_temperature, not_negative};
use crate::sample::schedule::{GuidanceForm, Schedule, linspace};

/// HaltonSettings of the Halton sampler, for square token grids. Published: 32 steps with guidance 3 and 1 to 1, or
/// with guidance 2, 1 to 1.2 and `roll`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HaltonOptions {
    /// Number of steps n, at least 1.
    pub steps: u32,
    /// s of c + s·(c - u).
    pub guidance_scale: f32,
    /// T of softmax(logits·β(i) / T).
    pub softmax_temperature: f32,
    /// β at the first step and at the last, the reference's `sm_temp_min` and `sm_temp_max`; it goes evenly.
    pub inverse_temperature: [f32; 2],
    /// Begin the sequence at a seeded place instead of its first.
    pub roll: bool,
}

/// What only this sampler is set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HaltonSettings {
    /// Factor on the logits at the first step and at the last.
    pub inverse_temperature: [f32; 2],
    /// Begin the sequence at a seeded place.
    pub roll: bool,
}

/// As a model file names it.
pub const SAMPLER: Sampler = Sampler { name: "halton", rule: |t| Ok(Arc::new(options(t)?)) };

/// MaskGIT by the Halton sampler, as in Halton-MaskGIT's Config/base_cls2img.yaml.
pub fn teacher_defaults() -> TeacherDefaults {
    TeacherDefaults {
        sampler: Some(SamplerChoice::with(
            SAMPLER.name,
            HaltonSettings { inverse_temperature: [1.0, 1.0], roll: false },
        )),
        steps: 32,
        guidance_scale: 3.0,
        ..TeacherDefaults::default()
    }
}

/// The settings as a model file has them.
fn options(t: &TeacherDefaults) -> Result<HaltonOptions> {
    let own: HaltonSettings = match &t.sampler {
        Some(choice) => choice.settings()?,
        None => HaltonSettings { inverse_temperature: [1.0, 1.0], roll: false },
    };
    Ok(HaltonOptions {
        steps: t.steps,
        guidance_scale: t.guidance_scale,
        softmax_temperature: t.temperature,
        inverse_temperature: own.inverse_temperature,
        roll: own.roll,
    })
}

impl HaltonOptions {
    /// How many of `maskable` slots are decided after step `i`: ⌊maskable·(1 - acos((i + 1)/n)/(π/2))⌋, i + 1
    /// at least.
    fn decided(&self, i: u32, maskable: usize) -> usize {
        let progress = f64::from(i + 1) / f64::from(self.steps);
        let share = 1.0 - Schedule::Arccos.ratio(progress as f32);
        match i + 1 == self.steps {
            true => maskable,
            false => ((share * maskable as f32) as usize).max(i as usize + 1).min(maskable),
        }
    }
}

impl Rule for HaltonOptions {
    fn steps(&self) -> u32 {
        self.steps
    }

    fn validate(&self) -> Result<()> {
        check_temperature(self.softmax_temperature)?;
        not_negative("guidance_scale", self.guidance_scale)?;
        match self.inverse_temperature.iter().find(|beta| !(beta.is_finite() && **beta > 0.0)) {
            Some(beta) => Err(Error::invalid("inverse_temperature", "finite numbers above 0", beta)),
            None => Ok(()),
        }
    }

    fn fits(&self, slots: usize) -> Result<()> {
        match slots.isqrt().pow(2) == slots {
            true => Ok(()),
            false => Err(Error::Unsupported {
                what: format!("the Halton sampler for {slots} tokens"),
                reason: "its sequence is that of a square grid".into(),
            }),
        }
    }

    fn guidance_at(&self, _: u32) -> Option<(GuidanceForm, f64)> {
        let scale = f64::from(self.guidance_scale);
        (scale != 0.0).then_some((GuidanceForm::FromConditional, scale))
    }

    /// Every slot that was masked at the start gets a token, sampled from softmax(z·β(i)/T); the first
    /// `decided(i)` of the sequence take it, whether or not they had one.
    fn step(&self, s: &Step) -> Result<Decision> {
        let [first, last] = self.inverse_temperature;
        let beta = f64::from(linspace(first, last, self.steps, s.i));
        let temperature = f64::from(self.softmax_temperature) / beta;
        let mut predicted = s.tokens.to_vec();
        let mut z = Vec::new();
        for &slot in s.maskable {
            s.logits(slot, temperature, &mut z)?;
            predicted[slot] = s.sample(slot, &z) as u32;
        }

        let mut order = sequence(s.tokens.len().isqrt());
        if self.roll && !order.is_empty() {
            // ⌊u32 · N / 2³²⌋; this sampler ranks nothing else with the stream.
            let word = u64::from(s.rng.u32_at(Stream::Confidence, 0, 0));
            let places = (word * order.len() as u64) >> 32;
            order.rotate_right(places as usize);
        }
        order.retain(|slot| s.maskable.binary_search(slot).is_ok());
        let mut tokens = s.tokens.to_vec();
        for &slot in &order[..self.decided(s.i, s.maskable.len())] {
            tokens[slot] = predicted[slot];
        }
        Ok(Decision { predicted, tokens })
    }
}

/// All cells of a `side` × `side` grid, row-major slots, in the order in which the two-dimensional Halton
/// sequence (base 2 down, base 3 to the right) first comes to them.
fn sequence(side: usize) -> Vec<usize> {
    let mut seen = vec![false; side * side];
    let mut order = Vec::with_capacity(side * side);
    // Every 2^a·3^b points in a row, 2^a and 3^b at least twice the side, are in every cell: this ends.
    let mut k = 0;
    while order.len() < seen.len() {
        k += 1;
        let slot = cell(2, k, side) * side + cell(3, k, side);
        if !std::mem::replace(&mut seen[slot], true) {
            order.push(slot);
        }
    }
    order
}

/// ⌊φ(k) · side⌋, where φ mirrors the digits of k in `base` at the point.
fn cell(base: u64, mut k: u64, side: usize) -> usize {
    let (mut mirrored, mut power) = (0, 1);
    while k > 0 {
        mirrored = mirrored * base + k % base;
        power *= base;
        k /= base;
    }
    (mirrored * side as u64 / power) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Philox;
    use crate::sample::MaskedDiffusion;
    use crate::sample::masked_diffusion::stand_in::{CODES, MASK, check_every_step, frozen};

    const HALTON: HaltonOptions = HaltonOptions {
        steps: 8,
        guidance_scale: 3.0,
        softmax_temperature: 1.0,
        inverse_temperature: [1.0, 1.2],
        roll: true,
    };

    /// `build_halton_mask`, as published: its iteration for the next point, in floating point.
    fn published_sequence(side: usize) -> Vec<usize> {
        let halton = |base: i64| {
            let (mut n, mut d) = (0i64, 1i64);
            std::iter::repeat_with(move || {
                let x = d - n;
                if x == 1 {
                    n = 1;
                    d *= base;
                } else {
                    let mut y = d / base;
                    while x <= y {
                        y /= base;
                    }
                    n = (base + 1) * y - x;
                }
                n as f32 / d as f32
            })
        };
        let mut order: Vec<usize> = Vec::new();
        for (x, y) in halton(2).zip(halton(3)).take(10_000) {
            let slot = (x * side as f32).floor() as usize * side + (y * side as f32).floor() as usize;
            if !order.contains(&slot) {
                order.push(slot);
            }
        }
        order
    }

    #[test]
    fn the_sequence_is_the_published_one() {
        for side in [1, 2, 8, 16, 24, 32] {
            let found = sequence(side);
            assert_eq!(found.len(), side * side);
            assert_eq!(found, published_sequence(side), "{side}");
        }
        assert!(sequence(0).is_empty());
        assert_eq!(sequence(4), [9, 6, 12, 1, 11, 4, 14, 3, 8, 5, 0, 7, 13, 2, 15, 10]);
    }

    #[test]
    fn shares_are_the_published_ones() {
        let options = HaltonOptions { steps: 32, ..HALTON };
        let decided: Vec<usize> = (0..32).map(|i| options.decided(i, 576)).collect();
        let published = [
            11, 22, 34, 45, 57, 69, 80, 92, 104, 116, 128, 140, 153, 166, 178, 191, 205, 219, 233, 247, 262,
            277, 294, 310, 328, 347, 368, 390, 415, 445, 484, 576,
        ];
        assert_eq!(decided, published);
    }

    /// One step of the published sampler, formula by formula; returns (predicted, next tokens). `known` is
    /// what stands at the start.
    fn reference(
        o: &HaltonOptions,
        tokens: &[u32],
        known: &[usize],
        i: u32,
        [c, u]: [&[f32]; 2],
        rng: &Philox,
    ) -> (Vec<u32>, Vec<u32>) {
        let n = f64::from(o.steps);
        let [first, last] = o.inverse_temperature.map(f64::from);
        let beta = first + (last - first) * f64::from(i) / (n - 1.0);
        let w = f64::from(o.guidance_scale);
        let mut predicted = tokens.to_vec();
        for slot in (0..tokens.len()).filter(|slot| !known.contains(slot)) {
            let noisy = |code: usize| {
                let e = slot * CODES + code;
                ((1.0 + w) * f64::from(c[e]) - w * f64::from(u[e])) * beta
                    + rng.gumbel_at(Stream::Gumbel, i, e as u64)
            };
            let code = (0..CODES).max_by(|&a, &b| noisy(a).total_cmp(&noisy(b))).unwrap();
            predicted[slot] = code as u32;
        }
        let mut order = published_sequence(tokens.len().isqrt());
        if o.roll {
            let shift = rng.uniform_at(Stream::Confidence, 0, 0) * order.len() as f64;
            order.rotate_right(shift as usize);
        }
        order.retain(|slot| !known.contains(slot));
        let r = 1.0 - ((f64::from(i) + 1.0) / n).acos() / std::f64::consts::FRAC_PI_2;
        let r = ((r * order.len() as f64 + 1e-6) as usize).max(i as usize + 1);
        let mut next = tokens.to_vec();
        for &slot in &order[..r] {
            next[slot] = predicted[slot];
        }
        (predicted, next)
    }

    #[test]
    fn every_step_equals_the_published_formulas() {
        for (roll, guidance_scale) in [(false, 3.0), (true, 2.0), (true, 0.0)] {
            let options = HaltonOptions { roll, guidance_scale, ..HALTON };
            check_every_step(options, |tokens, maskable, i, logits, rng| {
                let known: &[usize] = if maskable == tokens.len() { &[] } else { &[3, 9] };
                reference(&options, tokens, known, i, logits, rng)
            });
        }
    }

    #[test]
    fn only_squares_have_a_sequence() {
        let error = MaskedDiffusion::new(Arc::new(HALTON), vec![MASK; 12], MASK).unwrap_err().to_string();
        assert!(error.starts_with("the Halton sampler for 12 tokens is not supported"), "{error}");
    }

    /// A picture must not change between releases.
    #[test]
    fn frozen_tokens() {
        // The last step decides every slot anew: T makes the seed matter.
        let options = HaltonOptions { softmax_temperature: 8.0, ..HALTON };
        for (seed, expected) in [
            (0, [14, 12, 15, 1, 1, 3, 11, 2, 1, 11, 6, 8, 6, 11, 9, 8]),
            (0x0123456789abcdef, [7, 12, 15, 3, 7, 3, 4, 2, 13, 7, 5, 6, 3, 7, 5, 8]),
        ] {
            assert_eq!(frozen(options, seed), expected, "seed {seed:#x}");
        }
    }
}

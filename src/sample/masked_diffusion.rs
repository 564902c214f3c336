//! The teachers' many-step samplers: predict every masked slot, keep some of the predictions, mask the rest
//! again.
//!
//! [`MaskedDiffusion`] is one picture between two calls of its network; what a step decides is a [`Rule`], which lies
//! with its family. n is the number of steps, i the step from 0, g Gumbel noise, c and u the logits with and without the
//! condition.
//!
//! In all of them codes that are known at the start stay, shares and quotas are of the slots that were masked
//! at the start, and the last step decides everything. A guidance scale of 0 is no guidance.

use std::sync::Arc;

use super::one_step::gumbel_max;
use super::schedule::GuidanceForm;
use super::{Logits, arg_max, check_finite, log_sum_exp};
use crate::error::{Error, Result};
use crate::rng::{Philox, Stream};

/// What a sampler decides at every step; a family's, with its settings.
pub trait Rule: std::fmt::Debug + Send + Sync {
    /// Number of steps n, at least 1.
    fn steps(&self) -> u32;

    /// `InvalidArgument` for settings that make no sense: temperatures that divide are > 0, all numbers finite. The
    /// number of steps is checked by [`MaskedDiffusion::new`].
    fn validate(&self) -> Result<()>;

    /// `Unsupported` for a number of slots the rule has no place for.
    fn fits(&self, _slots: usize) -> Result<()> {
        Ok(())
    }

    /// How step `i` combines the logits; `None` reads the conditional ones alone.
    fn guidance_at(&self, i: u32) -> Option<(GuidanceForm, f64)>;

    /// The timestep that the network is given at step `i`. `None`: the network reads none.
    fn timestep(&self, _i: u32) -> Option<u32> {
        None
    }

    /// Whether step `i` reads the unconditional logits; where not, that half of the network's batch can be saved.
    fn needs_unconditional(&self, i: u32) -> bool {
        self.guidance_at(i).is_some()
    }

    /// What step `s.i` predicts and decides.
    fn step(&self, s: &Step) -> Result<Decision>;
}

/// One token per slot, known ones where they were.
#[derive(Debug)]
pub struct Decision {
    /// Every slot decided.
    pub predicted: Vec<u32>,
    /// The network's next input.
    pub tokens: Vec<u32>,
}

/// How sure a token is, and its slot.
pub(crate) type Confidence = (f64, usize);

/// A step as a rule sees it.
#[derive(Debug)]
pub struct Step<'a> {
    pub i: u32,
    /// The network's input.
    pub tokens: &'a [u32],
    /// Slots that were masked at the start, ascending.
    pub maskable: &'a [usize],
    pub mask_token: u32,
    pub rng: &'a Philox,
    cond: Logits<'a>,
    uncond: Option<(Logits<'a>, GuidanceForm, f64)>,
}

impl Step<'_> {
    /// Slots that are masked now, ascending.
    pub fn masked(&self) -> impl Iterator<Item = usize> + '_ {
        self.maskable.iter().copied().filter(|&slot| self.tokens[slot] == self.mask_token)
    }

    /// Guided logits / T of a slot, into `z`; `Runtime` when one is NaN or infinite.
    pub fn logits(&self, slot: usize, temperature: f64, z: &mut Vec<f64>) -> Result<()> {
        let c = self.cond.row(slot);
        check_finite(c, slot)?;
        z.clear();
        match self.uncond {
            None => z.extend(c.iter().map(|&c| f64::from(c) / temperature)),
            Some((uncond, form, scale)) => {
                let u = uncond.row(slot);
                check_finite(u, slot)?;
                z.extend(c.iter().zip(u).map(|(&c, &u)| form.combine(scale, c, u) / temperature));
            }
        }
        Ok(())
    }

    /// A code sampled from softmax(z) by Gumbel-max (noise: element slot · codes + code of
    /// ([`Stream::Gumbel`], i)).
    pub fn sample(&self, slot: usize, z: &[f64]) -> usize {
        let words = self.rng.words(Stream::Gumbel, self.i, (slot * z.len()) as u64);
        gumbel_max(z.iter().copied().zip(words))
    }

    /// A code sampled from softmax(z / scale), that is, the code of the largest z + scale·g, with the noise of
    /// [`Step::sample`]; scale > 0.
    pub fn sample_at(&self, slot: usize, z: &[f64], scale: f64) -> usize {
        let words = self.rng.words(Stream::Gumbel, self.i, (slot * z.len()) as u64);
        gumbel_max(z.iter().map(|z| z / scale).zip(words))
    }

    /// ln softmax(z) of a code.
    pub fn log_probability(&self, z: &[f64], code: usize) -> f64 {
        z[code] - log_sum_exp(z.iter().copied(), arg_max(z.iter().copied()).1)
    }

    /// The Gumbel noise of a slot's confidence (element slot of ([`Stream::Confidence`], i)).
    pub fn confidence_noise(&self, slot: usize) -> f64 {
        self.rng.gumbel_at(Stream::Confidence, self.i, slot as u64)
    }

    /// A token for every masked slot, `draw(slot, z)` = (code, its confidence without noise) on the guided
    /// logits z = logits / T: the complete prediction, and (confidence + noise_scale · g, slot) of each,
    /// ascending by slot.
    pub fn draw(
        &self,
        temperature: f64,
        noise_scale: f64,
        draw: impl Fn(usize, &[f64]) -> (usize, f64),
    ) -> Result<(Vec<u32>, Vec<Confidence>)> {
        let mut predicted = self.tokens.to_vec();
        let mut confidence = Vec::with_capacity(self.maskable.len());
        let mut z = Vec::new();
        for slot in self.masked() {
            self.logits(slot, temperature, &mut z)?;
            let (code, value) = draw(slot, &z);
            predicted[slot] = code as u32;
            confidence.push((value + self.confidence_noise(slot) * noise_scale, slot));
        }
        Ok((predicted, confidence))
    }

    /// A sample of softmax(z) and ln softmax(z) of it.
    pub fn sampled(&self, slot: usize, z: &[f64]) -> (usize, f64) {
        let code = self.sample(slot, z);
        (code, self.log_probability(z, code))
    }

    /// Masks the `mask_len` least confident slots and their ties; 1 ≤ mask_len ≤ their number.
    pub fn mask_up_to(&self, mask_len: usize, confidence: &mut [Confidence], tokens: &mut [u32]) {
        let threshold = confidence.select_nth_unstable_by(mask_len - 1, |a, b| a.0.total_cmp(&b.0)).1.0;
        for &(_, slot) in confidence.iter().filter(|(value, _)| *value <= threshold) {
            tokens[slot] = self.mask_token;
        }
    }

    /// Masks the slots that are less confident than the one at place `mask_len`, from below and from 0; all
    /// where there is no such place.
    pub fn mask_below(&self, mask_len: usize, confidence: &mut [Confidence], tokens: &mut [u32]) {
        let threshold = match mask_len < confidence.len() {
            true => confidence.select_nth_unstable_by(mask_len, |a, b| a.0.total_cmp(&b.0)).1.0,
            false => f64::INFINITY,
        };
        for &(_, slot) in confidence.iter().filter(|(value, _)| *value < threshold) {
            tokens[slot] = self.mask_token;
        }
    }
}

/// `InvalidArgument` unless T is a temperature to divide by.
pub(crate) fn check_temperature(temperature: f32) -> Result<()> {
    match temperature.is_finite() && temperature > 0.0 {
        true => Ok(()),
        false => Err(Error::invalid("softmax_temperature", "a finite number above 0", temperature)),
    }
}

/// `InvalidArgument` unless x is finite and not negative.
pub(crate) fn not_negative(what: &str, x: f32) -> Result<()> {
    match x.is_finite() && x >= 0.0 {
        true => Ok(()),
        false => Err(Error::invalid(what, "a finite number, 0 or more", x)),
    }
}

/// The state of one picture between the steps of a sampler.
#[derive(Clone, Debug)]
pub struct MaskedDiffusion {
    rule: Arc<dyn Rule>,
    mask_token: u32,
    /// Slots that were masked at the start; shares are of these.
    maskable: Vec<usize>,
    done: u32,
    tokens: Vec<u32>,
    predicted: Vec<u32>,
}

impl MaskedDiffusion {
    /// Starts from `tokens` (one per slot): all `mask_token` for a picture from nothing; known codes stay as
    /// they are.
    ///
    /// # Errors
    /// `InvalidArgument` for no steps, or as [`Rule::validate`]; `Unsupported` as [`Rule::fits`].
    pub fn new(rule: Arc<dyn Rule>, tokens: Vec<u32>, mask_token: u32) -> Result<MaskedDiffusion> {
        if rule.steps() == 0 {
            return Err(Error::invalid("steps", "at least 1", 0));
        }
        rule.validate()?;
        rule.fits(tokens.len())?;
        let masked = tokens.iter().enumerate().filter(|(_, token)| **token == mask_token);
        let maskable = masked.map(|(slot, _)| slot).collect();
        Ok(MaskedDiffusion { rule, mask_token, maskable, done: 0, predicted: tokens.clone(), tokens })
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
        self.done == self.rule.steps()
    }

    /// Step `i` (0, 1, … in order) on the network's logits for [`MaskedDiffusion::tokens`]; returns
    /// the new [`MaskedDiffusion::predicted`]. All random numbers are elements of `rng`'s step `i`.
    ///
    /// # Errors
    /// `InvalidArgument` when logits do not have a row per slot, or `uncond` is missing while
    /// [`Rule::needs_unconditional`]; `Runtime` when a logit that is read is NaN or infinite;
    /// `Internal` for a step out of order. The state is unchanged on error.
    pub fn step(
        &mut self,
        i: u32,
        cond: Logits<'_>,
        uncond: Option<Logits<'_>>,
        rng: &Philox,
    ) -> Result<&[u32]> {
        let steps = self.rule.steps();
        if i != self.done || i >= steps {
            return Err(Error::internal(format!(
                "sampler step: expected {} of {steps}, found {i}",
                self.done
            )));
        }
        let uncond = match (self.rule.guidance_at(i), uncond) {
            (None, _) => None,
            (Some((form, scale)), Some(uncond)) => Some((uncond, form, scale)),
            (Some(_), None) => {
                return Err(Error::invalid(format!("unconditional logits of step {i}"), "logits", "none"));
            }
        };
        for logits in [Some(cond), uncond.map(|(uncond, ..)| uncond)].into_iter().flatten() {
            if logits.slots() != self.tokens.len() || logits.codes() != cond.codes() {
                return Err(Error::invalid(
                    "logits",
                    format!("[{}, {}]", self.tokens.len(), cond.codes()),
                    format!("[{}, {}]", logits.slots(), logits.codes()),
                ));
            }
        }
        let (tokens, maskable, mask_token) = (&self.tokens, &self.maskable, self.mask_token);
        let step = Step { i, tokens, maskable, mask_token, rng, cond, uncond };
        let Decision { predicted, tokens } = self.rule.step(&step)?;
        (self.predicted, self.tokens) = (predicted, tokens);
        self.done += 1;
        Ok(&self.predicted)
    }
}

/// What the tests of all samplers share.
#[cfg(test)]
pub(crate) mod stand_in {
    use super::*;

    pub const MASK: u32 = 16;
    pub const CODES: usize = 16;

    /// Stand-in for a network: logits that depend on the step only.
    pub fn network(i: u32, branch: u64, slots: usize) -> Vec<f32> {
        let mut z = vec![0.0; slots * CODES];
        Philox::new(1000 + branch).fill_gaussian(Stream::Perturbation, i, &mut z);
        z.iter_mut().for_each(|z| *z *= 2.0);
        z
    }

    /// Every step of two pictures of 64 slots against `reference`: (tokens, slots masked at the start, i,
    /// logits, rng) → (predicted, next tokens). One starts from nothing, one from two known codes.
    pub fn check_every_step(
        rule: impl Rule + Clone + 'static,
        reference: impl Fn(&[u32], usize, u32, [&[f32]; 2], &Philox) -> (Vec<u32>, Vec<u32>),
    ) {
        let (slots, rng) = (64, Philox::new(42));
        for known in [false, true] {
            let mut start = vec![MASK; slots];
            if known {
                (start[3], start[9]) = (5, 7);
            }
            let maskable = start.iter().filter(|&&t| t == MASK).count();
            let mut sampler = MaskedDiffusion::new(Arc::new(rule.clone()), start, MASK).unwrap();
            for i in 0..rule.steps() {
                let (c, u) = (network(i, 0, slots), network(i, 1, slots));
                let (predicted, next) = reference(sampler.tokens(), maskable, i, [&c, &u], &rng);
                let (c, u) = (Logits::new(&c, CODES).unwrap(), Logits::new(&u, CODES).unwrap());
                let found = sampler.step(i, c, Some(u), &rng).unwrap();
                assert_eq!(found, predicted, "{rule:?}, step {i}");
                assert_eq!(sampler.tokens(), next, "{rule:?}, step {i}");
            }
            assert!(sampler.is_finished());
            assert!(!known || (sampler.predicted()[3], sampler.predicted()[9]) == (5, 7));
        }
    }

    /// The result for 16 slots from nothing.
    pub fn frozen(rule: impl Rule + Clone + 'static, seed: u64) -> Vec<u32> {
        run(rule, vec![MASK; 16], seed).predicted().to_vec()
    }

    /// All steps from `start`; the logits have a tail that must not be looked at.
    pub fn run(rule: impl Rule + 'static, start: Vec<u32>, seed: u64) -> MaskedDiffusion {
        run_rule(Arc::new(rule), start, seed)
    }

    /// [`run`] of a shared rule.
    pub fn run_rule(rule: Arc<dyn Rule>, start: Vec<u32>, seed: u64) -> MaskedDiffusion {
        let slots = start.len();
        let mut sampler = MaskedDiffusion::new(rule.clone(), start, MASK).unwrap();
        for i in 0..rule.steps() {
            let with_tail = |branch| {
                let z = network(i, branch, slots);
                z.chunks(CODES).flat_map(|row| row.iter().copied().chain([1e9])).collect::<Vec<f32>>()
            };
            let (c, u) = (with_tail(0), with_tail(1));
            let logits = |z| Logits::with_stride(z, CODES + 1, CODES).unwrap();
            let uncond = rule.needs_unconditional(i).then(|| logits(&u));
            sampler.step(i, logits(&c), uncond, &Philox::new(seed)).unwrap();
        }
        sampler
    }
}

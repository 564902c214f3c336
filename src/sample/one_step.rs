//! Tokens from a student's logits: arg-max, or Gumbel-max sampling with temperature, top-k and top-p.

use super::{Logits, arg_max, check_finite, log_sum_exp};
use crate::error::{Error, Result};
use crate::rng::{Philox, Stream, gumbel};

/// How tokens are drawn from logits. The default samples the model's own distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleOptions {
    /// T of softmax(z / T); 0 is arg-max, which ignores `top_k` and `top_p`.
    pub temperature: f32,
    /// Keep the k most probable codes; 0 keeps all. Ties go to the lower code.
    pub top_k: u32,
    /// Of those, keep the smallest set of most probable codes whose softmax(z / T), renormalised over
    /// the top-k set, adds up to at least this; 1 keeps all. Ties go to the lower code.
    pub top_p: f32,
}

impl Default for SampleOptions {
    fn default() -> SampleOptions {
        SampleOptions { temperature: 1.0, top_k: 0, top_p: 1.0 }
    }
}

impl SampleOptions {
    /// `InvalidArgument` unless temperature is finite and not negative and `top_p` is in (0, 1].
    pub fn validate(&self) -> Result<()> {
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Err(Error::invalid("temperature", "a finite number, 0 or more", self.temperature));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(Error::invalid("top_p", "more than 0 and at most 1", self.top_p));
        }
        Ok(())
    }
}

/// Result of [`sample_tokens`], one entry per slot.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// The chosen codes.
    pub tokens: Vec<u32>,
    /// max softmax(z) at T = 1, over all codes: how confident the model was, whatever was chosen. Near 1
    /// everywhere, the soft and the hard picture agree.
    pub max_probability: Vec<f32>,
}

/// One token per slot: `argmax over kept codes of z/T + g`, a sample of softmax(z/T) over the kept set.
///
/// g is element slot · codes + code of ([`Stream::Gumbel`], `step`). A code's noise does not depend on
/// the options, so raising T or k changes as few tokens as possible. Computed in f64.
///
/// # Errors
/// `InvalidArgument` for bad options; `Runtime` naming the slot when a logit is NaN or infinite.
pub fn sample_tokens(
    logits: Logits<'_>,
    options: &SampleOptions,
    rng: &Philox,
    step: u32,
) -> Result<Sampled> {
    options.validate()?;
    let slots = logits.slots();
    let mut sampled =
        Sampled { tokens: Vec::with_capacity(slots), max_probability: Vec::with_capacity(slots) };
    for slot in 0..slots {
        let row = logits.row(slot);
        check_finite(row, slot)?;
        let (top, max) = arg_max(row.iter().copied().map(f64::from));
        let normalizer = log_sum_exp(row.iter().copied().map(f64::from), max);
        sampled.max_probability.push(libm::exp(max - normalizer) as f32);

        let start = (slot * logits.codes()) as u64;
        let temperature = f64::from(options.temperature);
        let token = if options.temperature == 0.0 {
            top
        } else {
            match kept(row, options) {
                None => {
                    let words = rng.words(Stream::Gumbel, step, start);
                    gumbel_max(row.iter().zip(words).map(|(&z, word)| (f64::from(z) / temperature, word)))
                }
                Some(codes) => {
                    let best = gumbel_max(codes.iter().map(|&code| {
                        let word = rng.u32_at(Stream::Gumbel, step, start + code as u64);
                        (f64::from(row[code]) / temperature, word)
                    }));
                    codes[best]
                }
            }
        };
        sampled.tokens.push(token as u32);
    }
    Ok(sampled)
}

/// The index of the largest z + g over (z, word of g), the lowest among equals.
///
/// A Gumbel is two logarithms, the most costly part of sampling, so hopeless entries are passed over:
/// with v = 1 - u, -ln u ≥ v, hence g = -ln(-ln u) ≤ -ln v, and v ≥ 2⁻ᵏ⁻¹ for k leading zeros of ¬word
/// gives g ≤ (k + 1) ln 2. Exact: an entry is only skipped when it cannot win.
pub(super) fn gumbel_max(entries: impl Iterator<Item = (f64, u32)>) -> usize {
    let (mut best, mut winner) = (f64::NEG_INFINITY, 0);
    for (i, (z, word)) in entries.enumerate() {
        let bound = f64::from((!word).leading_zeros() + 1) * std::f64::consts::LN_2;
        if z + bound < best {
            continue;
        }
        let value = z + gumbel(word);
        if value > best {
            (best, winner) = (value, i);
        }
    }
    winner
}

/// The codes that top-k and then top-p keep, in ascending order; `None` when both are off.
fn kept(row: &[f32], options: &SampleOptions) -> Option<Vec<usize>> {
    let top_k = match options.top_k as usize {
        0 => row.len(),
        k => k.min(row.len()),
    };
    if top_k == row.len() && options.top_p >= 1.0 {
        return None;
    }
    let mut codes: Vec<usize> = (0..row.len()).collect();
    let descending =
        |&a: &usize, &b: &usize| row[b].partial_cmp(&row[a]).expect("logits are finite").then(a.cmp(&b));
    if top_k < codes.len() {
        codes.select_nth_unstable_by(top_k, descending);
        codes.truncate(top_k);
    }
    if options.top_p < 1.0 {
        codes.sort_unstable_by(descending);
        let temperature = f64::from(options.temperature);
        let scaled = |code: &usize| f64::from(row[*code]) / temperature;
        let normalizer = log_sum_exp(codes.iter().map(scaled), scaled(&codes[0]));
        let mut cumulative = 0.0;
        let reaches = codes.iter().position(|code| {
            cumulative += libm::exp(scaled(code) - normalizer);
            cumulative >= f64::from(options.top_p)
        });
        codes.truncate(reaches.map_or(codes.len(), |last| last + 1));
    }
    codes.sort_unstable();
    Some(codes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: SampleOptions = SampleOptions { temperature: 1.0, top_k: 0, top_p: 1.0 };

    /// Rows with a wide spread of logits, including ties.
    fn random_logits(len: usize) -> Vec<f32> {
        let mut z = vec![0.0; len];
        Philox::new(99).fill_gaussian(Stream::Perturbation, 0, &mut z);
        z.into_iter().map(|x| (x * 12.0).round() / 4.0).collect()
    }

    /// softmax(z / T), straight from the formula.
    fn softmax(z: &[f32], temperature: f64) -> Vec<f64> {
        let e: Vec<f64> = z.iter().map(|&z| (f64::from(z) / temperature).exp()).collect();
        let sum: f64 = e.iter().sum();
        e.into_iter().map(|e| e / sum).collect()
    }

    #[test]
    fn equals_the_naive_gumbel_arg_max() {
        let (slots, codes, stride) = (40, 129, 131);
        let data = random_logits(slots * stride);
        let logits = Logits::with_stride(&data, stride, codes).unwrap();
        let rng = Philox::new(5);
        for temperature in [0.05_f32, 1.0, 7.0] {
            let found = sample_tokens(logits, &SampleOptions { temperature, ..SAMPLE }, &rng, 3).unwrap();
            for slot in 0..slots {
                let row = &data[slot * stride..][..codes];
                let value = |code: usize| {
                    let g = rng.gumbel_at(Stream::Gumbel, 3, (slot * codes + code) as u64);
                    f64::from(row[code]) / f64::from(temperature) + g
                };
                let best = (0..codes).max_by(|&a, &b| value(a).total_cmp(&value(b))).unwrap();
                assert_eq!(found.tokens[slot] as usize, best, "slot {slot}, T {temperature}");
                let confidence = softmax(row, 1.0).into_iter().fold(0.0, f64::max);
                assert!((f64::from(found.max_probability[slot]) - confidence).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn frequencies_match_softmax() {
        let row = [1.0_f32, 0.0, -1.0, 2.0, 0.5, -3.0];
        let slots = 20_000;
        let data = row.repeat(slots);
        for temperature in [0.7_f32, 1.0, 2.5] {
            let options = SampleOptions { temperature, ..SAMPLE };
            let sampled =
                sample_tokens(Logits::new(&data, 6).unwrap(), &options, &Philox::new(1), 0).unwrap();
            let mut counts = [0.0; 6];
            sampled.tokens.iter().for_each(|&t| counts[t as usize] += 1.0);
            let n = slots as f64;
            let chi_square: f64 = softmax(&row, f64::from(temperature))
                .into_iter()
                .zip(counts)
                .map(|(p, count)| (count - n * p) * (count - n * p) / (n * p))
                .sum();
            // 5 degrees of freedom: P(chi² > 20.5) = 0.001.
            assert!(chi_square < 20.5, "T {temperature}: chi² {chi_square}, counts {counts:?}");
        }
    }

    #[test]
    fn top_k_and_top_p_table() {
        // Probabilities at T = 1: 0.1, 0.4, 0.1, 0.2, 0.2.
        let row = [0.1_f32, 0.4, 0.1, 0.2, 0.2].map(f32::ln);
        for (temperature, top_k, top_p, expected) in [
            (1.0, 0, 1.0, None),
            (1.0, 5, 1.0, None),
            (1.0, 9, 1.0, None),
            (1.0, 1, 1.0, Some(vec![1])),
            (1.0, 2, 1.0, Some(vec![1, 3])),
            (1.0, 4, 1.0, Some(vec![0, 1, 3, 4])),
            (1.0, 0, 0.01, Some(vec![1])),
            (1.0, 0, 0.39, Some(vec![1])),
            (1.0, 0, 0.5, Some(vec![1, 3])),
            (1.0, 0, 0.7, Some(vec![1, 3, 4])),
            (1.0, 0, 0.85, Some(vec![0, 1, 3, 4])),
            (1.0, 0, 0.95, Some(vec![0, 1, 2, 3, 4])),
            // Renormalised over the top three: 0.5, 0.25, 0.25.
            (1.0, 3, 0.49, Some(vec![1])),
            (1.0, 3, 0.74, Some(vec![1, 3])),
            (1.0, 3, 0.8, Some(vec![1, 3, 4])),
            // T = 0.5 squares the probabilities: 0.615, 0.154, 0.154, 0.038, 0.038.
            (0.5, 0, 0.6, Some(vec![1])),
            (0.5, 0, 0.76, Some(vec![1, 3])),
        ] {
            let options = SampleOptions { temperature, top_k, top_p };
            assert_eq!(kept(&row, &options), expected, "{options:?}");
        }
        let zeros = [0.0, -0.0, 0.0, -0.0];
        assert_eq!(kept(&zeros, &SampleOptions { top_k: 2, ..SAMPLE }), Some(vec![0, 1]));
    }

    #[test]
    fn filters_only_remove_codes() {
        let data = random_logits(64 * 32);
        let logits = Logits::new(&data, 32).unwrap();
        let rng = Philox::new(8);
        let all = sample_tokens(logits, &SAMPLE, &rng, 0).unwrap();
        let options = SampleOptions { top_k: 4, top_p: 0.9, ..SAMPLE };
        let few = sample_tokens(logits, &options, &rng, 0).unwrap();
        for slot in 0..64 {
            let codes = kept(logits.row(slot), &options).unwrap();
            assert!(codes.contains(&(few.tokens[slot] as usize)));
            if codes.contains(&(all.tokens[slot] as usize)) {
                assert_eq!(few.tokens[slot], all.tokens[slot], "same noise, so the same winner");
            }
        }
        assert_eq!(few.max_probability, all.max_probability);
    }

    #[test]
    fn zero_temperature_is_arg_max() {
        let data = [1.0, 5.0, 5.0, -1.0, -1.0, -2.0];
        let options = SampleOptions { temperature: 0.0, ..SAMPLE };
        let sampled = sample_tokens(Logits::new(&data, 3).unwrap(), &options, &Philox::new(0), 0).unwrap();
        assert_eq!(sampled.tokens, [1, 0]);
    }

    #[test]
    fn extreme_logits_stay_finite() {
        let data = [f32::MAX, f32::MIN, 0.0, f32::MIN];
        let options = SampleOptions { temperature: f32::MIN_POSITIVE, top_p: 0.5, ..SAMPLE };
        let sampled = sample_tokens(Logits::new(&data, 2).unwrap(), &options, &Philox::new(0), 0).unwrap();
        assert_eq!((sampled.tokens, sampled.max_probability), (vec![0, 0], vec![1.0, 1.0]));
    }

    #[test]
    fn faults_are_named() {
        let message = |data: &[f32], options: &SampleOptions| {
            let logits = Logits::with_stride(data, 3, 2).unwrap();
            sample_tokens(logits, options, &Philox::new(0), 0).unwrap_err().to_string()
        };
        let data = [0.0, 0.0, f32::NAN, 0.0, f32::NEG_INFINITY, 0.0];
        let expected =
            "ONNX Runtime failed in sampling: logit of slot 1, code 1: expected a finite number, found -inf";
        assert_eq!(message(&data, &SAMPLE), expected);
        let bad = SampleOptions { temperature: -1.0, ..SAMPLE };
        assert_eq!(message(&data, &bad), "temperature: expected a finite number, 0 or more, found -1");
        let bad = SampleOptions { top_p: 0.0, ..SAMPLE };
        assert_eq!(message(&data, &bad), "top_p: expected more than 0 and at most 1, found 0");
        assert!(SampleOptions { top_p: f32::NAN, ..SAMPLE }.validate().is_err());
        assert!(SampleOptions { temperature: f32::INFINITY, ..SAMPLE }.validate().is_err());
    }

    /// A picture must not change between releases.
    #[test]
    fn frozen_tokens() {
        let data = random_logits(8 * 128);
        let logits = Logits::new(&data, 128).unwrap();
        let options = SampleOptions { temperature: 7.0, top_k: 100, top_p: 0.95 };
        for (seed, expected) in
            [(0, [125, 74, 28, 2, 85, 98, 127, 79]), (0x0123456789abcdef, [28, 96, 90, 41, 76, 84, 67, 77])]
        {
            let found = sample_tokens(logits, &options, &Philox::new(seed), 0).unwrap().tokens;
            assert_eq!(found, expected, "seed {seed:#x}");
        }
    }
}

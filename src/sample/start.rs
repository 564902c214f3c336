//! x_init: random codes with a share of the slots masked.

use crate::error::{Error, Result};
use crate::rng::{Philox, Stream};

/// Random codes in every slot, then exactly `round(slots · mask_ratio)` slots masked at random.
///
/// code(slot) = ⌊u32 · codes / 2³²⌋ from [`Stream::StartCodes`] (bias below codes / 2³²). The masked
/// slots are the first in the order of (u32 key from [`Stream::StartMask`], slot). Halves round away
/// from zero.
///
/// # Errors
/// `InvalidArgument` when `codes` is 0 or `mask_ratio` is not in \[0, 1\].
pub fn start_tokens(
    rng: &Philox,
    slots: usize,
    codes: u32,
    mask_token: u32,
    mask_ratio: f32,
) -> Result<Vec<u32>> {
    if codes == 0 {
        return Err(Error::invalid("codes", "at least 1", codes));
    }
    if !(0.0..=1.0).contains(&mask_ratio) {
        return Err(Error::invalid("mask_ratio", "0 to 1", mask_ratio));
    }
    let mut tokens: Vec<u32> = rng
        .words(Stream::StartCodes, 0, 0)
        .take(slots)
        .map(|word| ((u64::from(word) * u64::from(codes)) >> 32) as u32)
        .collect();

    let masked = (slots as f64 * f64::from(mask_ratio)).round() as usize;
    let mut order: Vec<(u32, usize)> = rng.words(Stream::StartMask, 0, 0).zip(0..slots).collect();
    order.sort_unstable();
    for &(_, slot) in &order[..masked] {
        tokens[slot] = mask_token;
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_rounded_share_is_masked() {
        for (slots, ratio, expected) in [
            (256, 0.6, 154),
            (512, 0.6, 307),
            (4096, 0.5, 2048),
            (5, 0.5, 3),
            (32, 0.0, 0),
            (32, 1.0, 32),
            (0, 0.6, 0),
        ] {
            for seed in 0..20 {
                let tokens = start_tokens(&Philox::new(seed), slots, 1024, 1024, ratio).unwrap();
                assert_eq!(tokens.len(), slots);
                assert_eq!(tokens.iter().filter(|&&t| t == 1024).count(), expected, "{slots} slots, {ratio}");
            }
        }
    }

    #[test]
    fn every_code_and_every_slot_is_reached() {
        let (mut codes, mut masked) = ([0; 8], [0; 16]);
        for seed in 0..2000 {
            for (slot, token) in
                start_tokens(&Philox::new(seed), 16, 8, 8, 0.5).unwrap().into_iter().enumerate()
            {
                match token {
                    8 => masked[slot] += 1,
                    code => codes[code as usize] += 1,
                }
            }
        }
        // 16000 codes over 8, 2000 draws at 1/2: five standard deviations are 209 and 112.
        assert!(codes.iter().all(|n: &i32| n.abs_diff(2000) < 209), "{codes:?}");
        assert!(masked.iter().all(|n: &i32| n.abs_diff(1000) < 112), "{masked:?}");
    }

    #[test]
    fn a_larger_ratio_only_masks_more() {
        let at = |ratio| start_tokens(&Philox::new(3), 64, 1024, 1024, ratio).unwrap();
        for (few, many) in at(0.3).into_iter().zip(at(0.6)) {
            assert!(many == 1024 || many == few);
        }
    }

    #[test]
    fn bad_arguments_are_named() {
        let call = |codes, ratio| start_tokens(&Philox::new(0), 4, codes, 9, ratio).unwrap_err().to_string();
        assert_eq!(call(0, 0.5), "codes: expected at least 1, found 0");
        assert_eq!(call(8, 1.5), "mask_ratio: expected 0 to 1, found 1.5");
        assert_eq!(call(8, f32::NAN), "mask_ratio: expected 0 to 1, found NaN");
    }

    /// A picture must not change between releases.
    #[test]
    fn frozen_tokens() {
        for (seed, expected) in [
            (0, [1024, 901, 1024, 1024, 995, 370, 1024, 1024, 19, 327, 1024, 1024]),
            (0x0123456789abcdef, [737, 1024, 1024, 1024, 695, 1024, 405, 1024, 1024, 1024, 319, 106]),
        ] {
            let found = start_tokens(&Philox::new(seed), 12, 1024, 1024, 0.6).unwrap();
            assert_eq!(found, expected, "seed {seed:#x}");
        }
    }
}

//! Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011).
//!
//! Counter-based: element `i` of a (stream, step) is a pure function of (seed, stream, step, i), so
//! neither thread count nor order of evaluation can change a picture. Everything here is frozen by
//! test vectors; a changed value would change every picture ever made from a seed.

use std::f64::consts::TAU;

/// The seed of a place in a world: the same for the same numbers, on every machine; other places and other worlds get others.
///
/// Frozen, and simple enough to be computed by anybody. All arithmetic wraps at 2⁶⁴, coordinates are two's complement, and
/// `mix` is the finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), a bijection:
///
/// ```text
/// mix(h):                                  seed(world, [x, y, z]):
///     h ^= h >> 30                             h = mix(world + 0x9E3779B97F4A7C15)
///     h *= 0xBF58476D1CE4E5B9                  h = mix(h + x + 0x9E3779B97F4A7C15)
///     h ^= h >> 27                             h = mix(h + y + 0x9E3779B97F4A7C15)
///     h *= 0x94D049BB133111EB                  h = mix(h + z + 0x9E3779B97F4A7C15)
///     h ^= h >> 31
/// ```
///
/// Two places share a seed with a probability of about n²/2⁶⁵ for n places: 1e-7 for 128 × 128 × 128 of them. Picture b of a
/// batch has seed + b, so batches of up to 256 pictures at neighbouring places do not meet either.
pub fn seed(world: u64, place: [i64; 3]) -> u64 {
    place.into_iter().fold(mix(world.wrapping_add(GOLDEN)), |h, coordinate| {
        mix(h.wrapping_add(coordinate as u64).wrapping_add(GOLDEN))
    })
}

/// 2⁶⁴ over the golden ratio, odd.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// See [`seed`].
fn mix(mut h: u64) -> u64 {
    h = (h ^ (h >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    h = (h ^ (h >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    h ^ (h >> 31)
}

/// What a random number is used for. Streams of one seed are independent of each other.
///
/// Values are part of the meaning of a seed: new streams are appended, none is ever renumbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stream {
    /// The random codes of x_init; element = slot, step 0.
    StartCodes = 0,
    /// The sort keys that choose x_init's masked slots; element = slot, step 0.
    StartMask = 1,
    /// The Gaussian perturbation n of e_in; element = position · d + channel, step 0.
    Perturbation = 2,
    /// Gumbel noise of token sampling; element = slot · codes + code, step = sampling step.
    Gumbel = 3,
    /// Gumbel noise of the confidence ranking; element = slot, step = sampling step. The Halton sampler, which
    /// has no confidence: where its sequence begins; element 0, step 0.
    Confidence = 4,
    /// The sort keys that choose the tokens a variation keeps; element = slot, step 0.
    Keep = 5,
}

/// The random numbers of one picture.
///
/// Key = \[seed low, seed high\]; counter = \[⌊i/4⌋ low, ⌊i/4⌋ high, stream, step\]; element i is word
/// i mod 4 of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Philox {
    key: [u32; 2],
}

impl Philox {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Philox {
        Philox { key: [seed as u32, (seed >> 32) as u32] }
    }

    /// The generator of picture `index` of a request: that of seed `seed + index`, wrapping.
    ///
    /// So picture b of a request with seed s equals picture 0 of a request with seed s + b.
    pub fn for_picture(seed: u64, index: u32) -> Philox {
        Philox::new(seed.wrapping_add(u64::from(index)))
    }

    /// Element `i` as 32 uniform bits.
    pub fn u32_at(&self, stream: Stream, step: u32, i: u64) -> u32 {
        self.block(stream, step, i / 4)[(i % 4) as usize]
    }

    /// Element `i`, uniform on the open interval (0, 1): `(u32_at + 0.5) / 2³²`, exact in f64.
    ///
    /// The range is \[2⁻³³, 1 - 2⁻³³\]. It stays f64 because rounding to f32 would reach 1.
    pub fn uniform_at(&self, stream: Stream, step: u32, i: u64) -> f64 {
        unit_interval(self.u32_at(stream, step, i))
    }

    /// Element `i`, standard Gumbel: `-ln(-ln u)` with u = [`Philox::uniform_at`].
    ///
    /// Lies within (-3.2, 22.9).
    pub fn gumbel_at(&self, stream: Stream, step: u32, i: u64) -> f64 {
        gumbel(self.u32_at(stream, step, i))
    }

    /// Element `i`, standard normal; see [`Philox::fill_gaussian`].
    pub fn gaussian_at(&self, stream: Stream, step: u32, i: u64) -> f32 {
        let block = self.block(stream, step, i / 4);
        gaussians(block)[(i % 4) as usize]
    }

    /// Elements 0.. of a (stream, step), standard normal, by Box-Muller.
    ///
    /// Elements 2j and 2j+1 share u = `uniform_at(2j)` and v = `uniform_at(2j + 1)`:
    /// `√(-2 ln u) · cos 2πv` is element 2j and `√(-2 ln u) · sin 2πv` element 2j+1. Computed in f64,
    /// then rounded to f32. |element| < 6.77.
    ///
    /// ln, cos and sin come from the `libm` crate, not from the platform's C library, and √ is exact
    /// by IEEE 754: the bits are the same on every platform.
    pub fn fill_gaussian(&self, stream: Stream, step: u32, out: &mut [f32]) {
        for (index, chunk) in out.chunks_mut(4).enumerate() {
            let values = gaussians(self.block(stream, step, index as u64));
            chunk.copy_from_slice(&values[..chunk.len()]);
        }
    }

    /// Elements `start`.. of a (stream, step) as 32 uniform bits each, one block computed per four.
    pub(crate) fn words(&self, stream: Stream, step: u32, start: u64) -> impl Iterator<Item = u32> + use<> {
        let rng = *self;
        let mut block = rng.block(stream, step, start / 4);
        let mut i = start;
        std::iter::from_fn(move || {
            if i.is_multiple_of(4) && i != start {
                block = rng.block(stream, step, i / 4);
            }
            let word = block[(i % 4) as usize];
            i += 1;
            Some(word)
        })
    }

    fn block(&self, stream: Stream, step: u32, index: u64) -> [u32; 4] {
        philox4x32_10([index as u32, (index >> 32) as u32, stream as u32, step], self.key)
    }
}

/// (0, 1) from 32 bits; see [`Philox::uniform_at`].
pub(crate) fn unit_interval(word: u32) -> f64 {
    (f64::from(word) + 0.5) * (1.0 / 4294967296.0)
}

/// Standard Gumbel from 32 bits; see [`Philox::gumbel_at`].
pub(crate) fn gumbel(word: u32) -> f64 {
    -libm::log(-libm::log(unit_interval(word)))
}

fn gaussians(block: [u32; 4]) -> [f32; 4] {
    let pair = |a, b| {
        let radius = (-2.0 * libm::log(unit_interval(a))).sqrt();
        let (sin, cos) = libm::sincos(TAU * unit_interval(b));
        [(radius * cos) as f32, (radius * sin) as f32]
    };
    let ([a, b], [c, d]) = (pair(block[0], block[1]), pair(block[2], block[3]));
    [a, b, c, d]
}

/// One block: ten rounds of multiply-high/low and xor, the key bumped by Weyl constants in between.
fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let ([mut c0, mut c1, mut c2, mut c3], [mut k0, mut k1]) = (counter, key);
    for _ in 0..10 {
        let (p0, p1) = (u64::from(c0) * 0xD251_1F53, u64::from(c2) * 0xCD9E_8D57);
        (c0, c1, c2, c3) = ((p1 >> 32) as u32 ^ c1 ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c3 ^ k1, p0 as u32);
        k0 = k0.wrapping_add(0x9E37_79B9);
        k1 = k1.wrapping_add(0xBB67_AE85);
    }
    [c0, c1, c2, c3]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vectors of `docs/embedding.md`, computed by an independent program straight from the definition.
    #[test]
    fn frozen_seeds_of_places() {
        assert_eq!(seed(0, [0, 0, 0]), 0x2130_748A_AAC8_0268);
        assert_eq!(seed(0, [1, 0, 0]), 0xD100_827A_A323_C935);
        assert_eq!(seed(0, [0, 1, 0]), 0x62A4_ED40_55D2_78DB);
        assert_eq!(seed(0, [0, 0, 1]), 0x698D_FBA9_F1FC_1B53);
        assert_eq!(seed(7, [-1, 2, 0]), 0xE42C_80F9_F3B5_D023);
        assert_eq!(seed(7, [1200, -340, 5]), 0x6276_5EC3_B38E_F71A);
        assert_eq!(seed(u64::MAX, [i64::MIN, i64::MAX, -1]), 0xB48E_CFB7_1D16_58D2);
    }

    /// Seeds of a cube of places around the origin, sorted.
    fn seeds(world: u64, half: i64) -> Vec<u64> {
        let along = || -half..half;
        let places = along().flat_map(|x| along().flat_map(move |y| along().map(move |z| [x, y, z])));
        let mut seeds: Vec<u64> = places.map(|place| seed(world, place)).collect();
        seeds.sort_unstable();
        seeds
    }

    #[test]
    fn places_do_not_share_seeds() {
        for world in [0, 1, u64::MAX] {
            assert!(seeds(world, 64).windows(2).all(|pair| pair[0] != pair[1]), "world {world}");
        }
    }

    /// Nor do the pictures of their batches, which have the seeds after theirs.
    #[test]
    fn batches_of_neighbours_do_not_overlap() {
        for world in [0, 1, 7, 1 << 63] {
            let seeds = seeds(world, 32);
            assert!(seeds.windows(2).all(|pair| pair[1] - pair[0] >= 256), "world {world}");
            assert!(seeds[0].wrapping_sub(seeds[seeds.len() - 1]) >= 256, "world {world}");
        }
    }

    /// Neither is a world another one moved, nor a place another one turned.
    #[test]
    fn worlds_and_axes_are_apart() {
        assert_ne!(seed(1, [0, 0, 0]), seed(0, [1, 0, 0]));
        let turned = [[1, 2, 3], [2, 1, 3], [3, 2, 1], [1, 3, 2], [-1, 2, 3]].map(|place| seed(5, place));
        assert!((1..5).all(|i| !turned[..i].contains(&turned[i])));
        // One bit of a coordinate changes half of the bits of the seed.
        let flips: u32 = (0..64).map(|bit| (seed(9, [1 << bit, 0, 0]) ^ seed(9, [0; 3])).count_ones()).sum();
        assert!((28 * 64..36 * 64).contains(&flips), "{flips}");
    }

    /// Known answers of the Random123 distribution (kat_vectors, philox4x32 10).
    #[test]
    fn known_answers() {
        for (counter, key, expected) in [
            ([0; 4], [0; 2], [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]),
            (
                [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
                [0xa4093822, 0x299f31d0],
                [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
            ),
        ] {
            assert_eq!(philox4x32_10(counter, key), expected);
        }
    }

    const STREAMS: [Stream; 5] =
        [Stream::StartCodes, Stream::StartMask, Stream::Perturbation, Stream::Gumbel, Stream::Confidence];
    const SEEDS: [u64; 2] = [0, 0x0123456789abcdef];

    /// `u32_at` at elements 0, 1, 6 and 2^34 + 3; per seed, per stream, steps 0 and 63.
    /// Computed by an independent program straight from the definition.
    #[test]
    fn frozen_words() {
        #[rustfmt::skip]
        let expected: [[[[u32; 4]; 2]; 5]; 2] = [
            [
                [[0x6627e8d5, 0xe169c58d, 0xb1a574eb, 0x074944b3], [0x0e06fa6d, 0x12b95b51, 0x416f89cf, 0xe8120bd3]],
                [[0x844515e1, 0xf08d6eaa, 0x7e66d954, 0xe0597c97], [0x56bacda2, 0xd19f2e73, 0x5fb995a6, 0x9c88438d]],
                [[0x0661d677, 0xb6826759, 0xd8704c11, 0x09ffcc82], [0xd66209ac, 0x434f7206, 0xa1a1435b, 0x0a425847]],
                [[0xf0a90abc, 0x115896b8, 0xf6be726b, 0x22fcf971], [0x4377c2a0, 0xc73c5970, 0xa7e36bc7, 0xc72b3a75]],
                [[0xf2237f09, 0x8f1a3087, 0x2df0ceb6, 0xd76516a0], [0x299a9cdd, 0x97874fb6, 0x349e2a9d, 0x538ac12d]],
            ],
            [
                [[0xb850222e, 0xc58cb04b, 0x65401425, 0x5d27ddd9], [0xecab7634, 0x8a3f9c75, 0x69a23f7e, 0x2ac2841c]],
                [[0xfa9dff5e, 0x6c10844b, 0x9df0c5a5, 0xc1f35ae2], [0x0384b04f, 0x35ff9f0c, 0xd93e61a4, 0x2bb302a3]],
                [[0x98e8077e, 0x44cfbc2c, 0x3bc08ddb, 0x9cea385e], [0x92598ccb, 0x89d22415, 0x6973c645, 0x4de9918a]],
                [[0x4f1c02a1, 0x416988c3, 0x349cc23d, 0xde0c9364], [0xad90dbd9, 0x8921e884, 0xbf20f334, 0x67e26e5b]],
                [[0x023ef42a, 0x77b464b5, 0x6267d3ce, 0x698beaf3], [0x5d801792, 0x406c787f, 0xd600c34c, 0xb1e8439b]],
            ],
        ];
        for (seed, expected) in SEEDS.into_iter().zip(expected) {
            for (stream, expected) in STREAMS.into_iter().zip(expected) {
                for (step, expected) in [0, 63].into_iter().zip(expected) {
                    let found = [0, 1, 6, (1 << 34) + 3].map(|i| Philox::new(seed).u32_at(stream, step, i));
                    assert_eq!(found, expected, "seed {seed:#x}, {stream:?}, step {step}");
                }
            }
        }
    }

    #[test]
    fn frozen_gaussians() {
        let expected = [
            [0xbf20920e_u32, 0xc02934c5, 0xbff40907, 0x3ed545b3, 0x3f5015eb, 0x3f6c7f09],
            [0xbdf4f70f, 0x3f810b8c, 0x3eab154a, 0x3d9d0682, 0xbd76d936, 0x3d0bb1ae],
        ];
        for (seed, expected) in SEEDS.into_iter().zip(expected) {
            let mut out = [0.0; 6];
            Philox::new(seed).fill_gaussian(Stream::Perturbation, 0, &mut out);
            assert_eq!(out.map(f32::to_bits), expected, "seed {seed:#x}");
        }
    }

    #[test]
    fn frozen_gumbels() {
        let expected = [
            [2.484258994142909, -0.5711757290404987, 1.7299954018576498, 0.08612457307751087],
            [1.2213148468588417, 0.595610461041279, 0.4049026419086017, -0.25635514436813994],
        ];
        for (seed, expected) in SEEDS.into_iter().zip(expected) {
            let found = [0, 1, 2, 3].map(|i| Philox::new(seed).gumbel_at(Stream::Gumbel, 1, i));
            assert_eq!(found, expected, "seed {seed:#x}");
        }
    }

    #[test]
    fn fills_and_iterators_agree_with_single_elements() {
        let rng = Philox::new(7);
        for start in 0..6 {
            let words: Vec<u32> = rng.words(Stream::Gumbel, 3, start).take(9).collect();
            let single: Vec<u32> = (start..start + 9).map(|i| rng.u32_at(Stream::Gumbel, 3, i)).collect();
            assert_eq!(words, single);
        }
        let mut out = [0.0; 7];
        rng.fill_gaussian(Stream::Perturbation, 0, &mut out);
        for (i, x) in out.into_iter().enumerate() {
            assert_eq!(x, rng.gaussian_at(Stream::Perturbation, 0, i as u64));
        }
    }

    #[test]
    fn picture_b_of_seed_s_is_picture_0_of_seed_s_plus_b() {
        assert_eq!(Philox::for_picture(5, 3), Philox::for_picture(8, 0));
        assert_eq!(Philox::for_picture(u64::MAX, 2), Philox::new(1));
    }

    #[test]
    fn ranges_hold_at_the_extreme_words() {
        assert_eq!(unit_interval(0), 2f64.powi(-33));
        assert_eq!(unit_interval(u32::MAX), 1.0 - 2f64.powi(-33));
        assert!(gumbel(0) > -3.2 && gumbel(u32::MAX) < 22.9);
        for block in [[0; 4], [u32::MAX; 4], [0, u32::MAX, u32::MAX, 0], [0, 1 << 30, 0, 3 << 30]] {
            assert!(gaussians(block).iter().all(|x| x.abs() < 6.77));
        }
    }

    #[test]
    fn gaussian_moments() {
        let mut out = vec![0.0; 1 << 16];
        Philox::new(11).fill_gaussian(Stream::Perturbation, 0, &mut out);
        let n = out.len() as f64;
        let moment = |k| out.iter().map(|&x| f64::from(x).powi(k)).sum::<f64>() / n;
        // Four standard errors: sqrt(Var(x^k) / n), with Var = 1, 2, 15, 96.
        for (k, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
            let error: f64 = moment(k) - expected;
            assert!(error.abs() < 4.0 * f64::sqrt(variance / n), "moment {k}: off by {error}");
        }
    }
}

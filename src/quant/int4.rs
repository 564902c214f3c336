//! int4 storage: blocks of 32 weights under one scale.
//!
//! W[o, i] ≈ (n[o, i] − 8)·s[o, ⌊i/32⌋] with n in 0..=15 and s in f16, which may be negative: what is largest in a block is most
//! often −8 times its scale. Stored the way integer kernels read matrices, by inputs: `NAME.int4` (U8 [I, O/2]) holds n of two
//! neighbouring outputs in a byte, the even one in its low half, and `NAME.scale` (F16 [⌈I/32⌉, O]) the scales.
//!
//! Opening a file makes int8 of it ([`widen`]), a scale an output: int8 arithmetic then runs as of a file of int8. Products that
//! unpack four bits where they read them (`MatMulNBits`) could leave weights in the mapped file, but have no integer kernels there.
//! With S\[o\] = 8/127·max |s[o, ..]| every weight moves once more, by up to S/2: a hundredth of what rounding to 4 bits did.

use half::f16;

use crate::error::{Error, Result};
use crate::tensor::Shape;

/// Weights of an output under one scale; the last block may have fewer.
pub const BLOCK: usize = 32;

/// n of the weight 0.
const ZERO: f32 = 8.0;

/// Scales that are tried, in quarters and every other one: the largest weight of a block becomes ±6 to ±8.5 times its scale.
const LARGEST: std::ops::RangeInclusive<u8> = 24..=34;

/// Name of the tensor that holds the matrix `name` in int4.
pub fn int4_name(name: &str) -> String {
    format!("{name}.int4")
}

/// Whether a matrix of this shape [O, I] has an int4 form that is smaller: pairs of outputs, and no block mostly scale.
pub fn has_int4(shape: &Shape) -> bool {
    shape.rank() == 2 && shape[0] > 0 && shape[0].is_multiple_of(2) && shape[1] >= BLOCK
}

/// Shapes of n (in bytes) and of the scales of a matrix [O, I].
pub fn int4_shapes(outputs: usize, inputs: usize) -> [Shape; 2] {
    [[inputs, outputs / 2].into(), [inputs.div_ceil(BLOCK), outputs].into()]
}

/// Scales of `values` [O, I] in the order they are stored: of each block the one under which its squared error is least, of
/// `LARGEST` with either sign, the best then fitted by least squares. `name` is the tensor's, for the error.
///
/// # Errors
/// A value that is not finite or whose scale f16 cannot hold.
pub fn int4_scales(name: &str, values: &[f32], outputs: usize) -> Result<Vec<f16>> {
    let inputs = values.len() / outputs.max(1);
    let mut scales = vec![f16::ZERO; inputs.div_ceil(BLOCK) * outputs];
    for (o, row) in values.chunks(inputs.max(1)).enumerate() {
        for (b, block) in row.chunks(BLOCK).enumerate() {
            let scale = best_scale(block);
            if !scale.is_finite() {
                let worst = block.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs()));
                let expected = "finite values of at most 393024";
                return Err(Error::invalid(
                    format!("tensor '{name}' in int4"),
                    expected,
                    worst.unwrap_or(0.0),
                ));
            }
            scales[b * outputs + o] = scale;
        }
    }
    Ok(scales)
}

/// n of `values` [O, I] under their scales, rounded to nearest, two in a byte: [I, O/2].
pub fn int4_pack(values: &[f32], scales: &[f16], outputs: usize) -> Vec<u8> {
    let inputs = values.len() / outputs.max(1);
    let half = outputs / 2;
    let mut packed = vec![0u8; inputs * half];
    for (o, row) in values.chunks(inputs.max(1)).enumerate() {
        for (b, block) in row.chunks(BLOCK).enumerate() {
            let inverse = inverse(scales[b * outputs + o].to_f32());
            for (i, &x) in block.iter().enumerate() {
                let n = (level(x, inverse) + ZERO) as u8;
                packed[(b * BLOCK + i) * half + o / 2] |= n << (4 * (o % 2));
            }
        }
    }
    packed
}

/// The int8 form of a matrix in int4: `q` [I, O], and the scales \[O\] by which it is multiplied.
///
/// `packed` and `scales` (bytes of f16) have the shapes that [`int4_shapes`] gives for O = `row_scales.len()`.
///
/// # Errors
/// The first scale that is not finite, and where it is.
pub fn widen(
    packed: &[u8],
    scales: &[u8],
    q: &mut [u8],
    row_scales: &mut [f32],
) -> std::result::Result<(), (usize, f16)> {
    let outputs = row_scales.len();
    let scale = |bytes: &[u8; 2]| f16::from_le_bytes(*bytes);
    let (scales, _) = scales.as_chunks::<2>();
    row_scales.fill(0.0);
    for (at, bytes) in scales.iter().enumerate() {
        let s = scale(bytes);
        if !s.is_finite() {
            return Err((at, s));
        }
        let largest = &mut row_scales[at % outputs];
        *largest = largest.max(ZERO / 127.0 * s.to_f32().abs());
    }
    // What 1 of n is in units of the row's scale.
    let mut units = vec![0f32; outputs];
    let rows = packed.chunks_exact(outputs / 2).zip(q.chunks_exact_mut(outputs));
    for (i, (packed, q)) in rows.enumerate() {
        if i.is_multiple_of(BLOCK) {
            let block = &scales[i / BLOCK * outputs..][..outputs];
            for ((unit, bytes), row) in units.iter_mut().zip(block).zip(row_scales.iter()) {
                *unit = scale(bytes).to_f32() * inverse(*row);
            }
        }
        let (pairs, _) = q.as_chunks_mut::<2>();
        let (units, _) = units.as_chunks::<2>();
        for ((pair, &byte), unit) in pairs.iter_mut().zip(packed).zip(units) {
            // Within ±127 but for rounding: the low byte of the bits is the integer.
            let whole = |n: u8, unit: f32| ((f32::from(n) - ZERO) * unit + UNITS).to_bits() as u8;
            *pair = [whole(byte & 15, unit[0]), whole(byte >> 4, unit[1])];
        }
    }
    Ok(())
}

/// 1/x, and 0 of 0.
fn inverse(x: f32) -> f32 {
    let inverse = 1.0 / x;
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// 1.5·2²³: the bits of what is near it count in units of 1. Adding it rounds to nearest, ties to even, where `round` would be a
/// call on processors that the compiler knows little of.
const UNITS: f32 = 12_582_912.0;

/// The level −8..=7 of `x`.
fn level(x: f32, inverse: f32) -> f32 {
    (x * inverse).clamp(-ZERO, ZERO - 1.0) + UNITS - UNITS
}

/// Values of which sums are made side by side.
const LANES: usize = 8;

/// Squared error of a block under a scale, Σ x·n and Σ n² over its levels n.
fn fit(block: &[f32; BLOCK], scale: f32) -> [f32; 3] {
    let inverse = inverse(scale);
    let mut sums = [[0f32; LANES]; 3];
    for values in block.as_chunks::<LANES>().0 {
        for (lane, &x) in values.iter().enumerate() {
            let n = level(x, inverse);
            let off = x - n * scale;
            sums[0][lane] += off * off;
            sums[1][lane] += x * n;
            sums[2][lane] += n * n;
        }
    }
    sums.map(|lanes| lanes.iter().sum())
}

/// The scale under which the squared error of `block` is least of those that are tried. Infinite where f16 cannot hold it.
fn best_scale(block: &[f32]) -> f16 {
    let largest = block.iter().fold(0f32, |m, &x| if x.abs() > m.abs() || x.is_nan() { x } else { m });
    if largest == 0.0 || !largest.is_finite() {
        return f16::from_f32(if largest == 0.0 { 0.0 } else { f32::INFINITY });
    }
    let mut values = [0f32; BLOCK];
    values[..block.len()].copy_from_slice(block);
    let mut best = (f32::INFINITY, f16::INFINITY, f32::NAN);
    let mut consider = |scale: f32| {
        let rounded = f16::from_f32(scale);
        let [error, cross, square] = fit(&values, rounded.to_f32());
        if error < best.0 {
            best = (error, rounded, cross / square);
        }
        best.2
    };
    let mut fitted = f32::NAN;
    for quarters in LARGEST.step_by(2) {
        for sign in [-1.0, 1.0] {
            fitted = consider(sign * largest * 4.0 / f32::from(quarters));
        }
    }
    // The levels stay, and the scale becomes the one that fits them best; twice.
    for _ in 0..2 {
        if fitted.is_finite() {
            fitted = consider(fitted);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Philox, Stream};

    fn gaussian(n: usize) -> Vec<f32> {
        let rng = Philox::new(5);
        (0..n).map(|i| rng.gaussian_at(Stream::Perturbation, 0, i as u64)).collect()
    }

    /// What the stored form stands for, by the definition: [O, I].
    fn expanded(packed: &[u8], scales: &[f16], outputs: usize, inputs: usize) -> Vec<f32> {
        let value = |(o, i): (usize, usize)| {
            let n = packed[i * (outputs / 2) + o / 2] >> (4 * (o % 2)) & 15;
            (f32::from(n) - 8.0) * scales[i / BLOCK * outputs + o].to_f32()
        };
        (0..outputs).flat_map(|o| (0..inputs).map(move |i| (o, i))).map(value).collect()
    }

    fn relative(a: &[f32], b: &[f32]) -> f64 {
        let square = |v: &mut dyn Iterator<Item = f32>| v.map(|x| f64::from(x) * f64::from(x)).sum::<f64>();
        (square(&mut a.iter().zip(b).map(|(x, y)| x - y)) / square(&mut b.iter().copied())).sqrt()
    }

    #[test]
    fn literal_block() {
        // −8·0.25 is the largest; a second output of zeros.
        let values = [-2.0, 0.25, 1.75, 0.0, 0.0, 0.0, 0.0, 0.0];
        let mut wide = vec![0.0; 2 * BLOCK];
        wide[..4].copy_from_slice(&values[..4]);
        let scales = int4_scales("w", &wide, 2).unwrap();
        assert_eq!(scales.iter().map(|s| s.to_f32()).collect::<Vec<_>>(), [0.25, 0.0]);
        let packed = int4_pack(&wide, &scales, 2);
        assert_eq!(packed[..5], [0x80, 0x89, 0x8f, 0x88, 0x88]);
        assert_eq!(expanded(&packed, &scales, 2, BLOCK), wide);
    }

    /// Scales by least error against those by the largest weight, and what the int8 form adds.
    #[test]
    fn scales_of_least_error_and_the_int8_form() {
        let (outputs, inputs) = (64, 200); // the last block has 8
        let values = gaussian(outputs * inputs);
        let scales = int4_scales("w", &values, outputs).unwrap();
        let packed = int4_pack(&values, &scales, outputs);
        let found = expanded(&packed, &scales, outputs, inputs);
        let mut by_largest = vec![f16::ZERO; scales.len()];
        for (o, row) in values.chunks(inputs).enumerate() {
            for (b, block) in row.chunks(BLOCK).enumerate() {
                let largest = block.iter().fold(0f32, |m, x| m.max(x.abs()));
                by_largest[b * outputs + o] = f16::from_f32(largest / 7.0);
            }
        }
        let plain = expanded(&int4_pack(&values, &by_largest, outputs), &by_largest, outputs, inputs);
        let (best, largest) = (relative(&found, &values), relative(&plain, &values));

        let (mut q, mut rows) = (vec![0u8; outputs * inputs], vec![0f32; outputs]);
        let bytes: Vec<u8> = scales.iter().flat_map(|s| s.to_le_bytes()).collect();
        widen(&packed, &bytes, &mut q, &mut rows).unwrap();
        let at = |o: usize, i: usize| f32::from(q[i * outputs + o] as i8) * rows[o];
        let widened: Vec<f32> =
            (0..outputs).flat_map(|o| (0..inputs).map(move |i| (o, i))).map(|(o, i)| at(o, i)).collect();
        let (added, total) = (relative(&widened, &found), relative(&widened, &values));
        println!("‖ΔW‖/‖W‖: {best:.4} by least error, {largest:.4} by the largest, {total:.4} as int8");
        assert!(best < 0.85 * largest && best < 0.085, "{best} {largest}");
        assert!(added < 0.02 && total < 1.02 * best, "{added} {total}");
        for (i, (a, b)) in widened.iter().zip(&found).enumerate() {
            assert!((a - b).abs() <= 0.501 * rows[i / inputs], "{i}: {a} {b}");
        }
    }

    #[test]
    fn what_has_no_int4_form_is_refused() {
        for x in [f32::NAN, f32::INFINITY, 1e6] {
            let mut values = vec![1.0; 64];
            values[40] = x;
            let error = int4_scales("a.weight", &values, 2).unwrap_err().to_string();
            assert!(error.starts_with("tensor 'a.weight' in int4: expected finite values"), "{error}");
        }
        let shapes = [[2usize, 32], [3, 32], [2, 31], [0, 32]].map(|shape| has_int4(&Shape::from(shape)));
        assert_eq!(shapes, [true, false, false, false]);
        let (mut q, mut rows) = ([0; 4], [0.0; 2]);
        let bad = [f16::ONE, f16::NAN].map(f16::to_le_bytes).concat();
        assert_eq!(widen(&[0, 0], &bad, &mut q, &mut rows).unwrap_err().0, 1);
    }

    /// Subnormal and vanishing scales give numbers.
    #[test]
    fn tiny_blocks_stay_tiny() {
        let values: Vec<f32> = gaussian(64).iter().map(|x| x * 1e-8).collect();
        let scales = int4_scales("w", &values, 2).unwrap();
        let found = expanded(&int4_pack(&values, &scales, 2), &scales, 2, 32);
        assert!(found.iter().zip(&values).all(|(a, b)| (a - b).abs() <= 4e-8), "{found:?}");
    }
}

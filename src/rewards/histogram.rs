//! Colours by their histogram: how much of each shade a region holds, wherever in it that is.
//!
//! A value x in [0, 1] falls into the two nearest of K bins at 0, 1/(K−1), …, 1 with weights that add up to 1
//! (linear binning), so that moving it moves the histogram smoothly. Two histograms are compared by their
//! running sums, whose difference pulls colours over any distance; bin by bin they would feel only their
//! neighbours. With h and t the running sums over the first k bins of channel c, of the picture and the target,
//!
//! score = −mean over c and k < K of (h_ck − t_ck)²: 0 when they agree, −1 when one is black and the other white.

use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::tensor::Tensor;

/// Bins of a histogram made from a picture.
pub const BINS: usize = 16;

/// Fewest and most bins of a channel.
const MIN_BINS: usize = 2;
const MAX_BINS: usize = 256;

/// Histogram [3, bins] of the colours of `pixels` [3, n]; each channel adds up to 1. Values outside [0, 1] count
/// as the nearest inside.
///
/// # Errors
/// Fewer than 2 or more than 256 bins; no pixels, or other than three channels of them.
pub fn histogram(pixels: &[f32], bins: usize) -> Result<Vec<f32>> {
    if !(MIN_BINS..=MAX_BINS).contains(&bins) {
        return Err(Error::invalid("bins of a histogram", format!("{MIN_BINS} to {MAX_BINS}"), bins));
    }
    if pixels.is_empty() || !pixels.len().is_multiple_of(3) {
        return Err(Error::invalid("pixels of a histogram", "[3, n], n above 0", pixels.len()));
    }
    let n = pixels.len() / 3;
    let mut sums = vec![0f64; 3 * bins];
    for (i, &x) in pixels.iter().enumerate() {
        let at = f64::from(x.clamp(0.0, 1.0)) * (bins - 1) as f64;
        let low = (at as usize).min(bins - 2);
        let row = (i / n) * bins;
        sums[row + low] += 1.0 - (at - low as f64);
        sums[row + low + 1] += at - low as f64;
    }
    Ok(sums.into_iter().map(|s| (s / n as f64) as f32).collect())
}

/// Refuse what is no histogram [3, bins].
pub(super) fn validate(histogram: &[f32]) -> Result<()> {
    let bins = histogram.len() / 3;
    if !histogram.len().is_multiple_of(3) || !(MIN_BINS..=MAX_BINS).contains(&bins) {
        let expected = format!("3 channels of {MIN_BINS} to {MAX_BINS} bins");
        return Err(Error::invalid("reward histogram", expected, format!("{} floats", histogram.len())));
    }
    for channel in histogram.chunks_exact(bins) {
        let sum: f32 = channel.iter().sum();
        if channel.iter().any(|&share| share.is_nan() || share < 0.0) || sum <= 0.0 || sum.is_infinite() {
            let expected = "shares of 0 or more with a finite sum above 0 in each channel";
            return Err(Error::invalid("reward histogram", expected, format!("a sum of {sum}")));
        }
    }
    Ok(())
}

/// Image [B, 3, H, W], weights [H·W, 1] of its pixels that add up to 1, and the target's running sums
/// [1, 3, K−1, 1] → score [B].
pub(super) fn build(g: &Graph, image: Value, weights: Value, target: Value) -> Result<Value> {
    let (shape, steps) = (g.shape(image), g.shape(target)[2]);
    let (b, pixels) = (shape[0], shape[2] * shape[3]);
    let x = g.mul_scalar(g.reshape(image, [b, 3, 1, pixels])?, steps as f32)?;
    // Of one value, the running sum of its two weights over the first k + 1 bins is clip(k + 1 − (K−1)·x).
    let ends: Vec<f32> = (1..=steps).map(|k| k as f32).collect();
    let ends = g.constant(Tensor::from_f32([1, 1, steps, 1], &ends))?;
    let share = g.clip(g.sub(ends, x)?, 0.0, 1.0)?; // [B, 3, K−1, H·W]
    let d = g.sub(g.matmul(share, weights)?, target)?; // [B, 3, K−1, 1]
    g.reshape(g.mul_scalar(g.reduce_mean(g.mul(d, d)?, &[1, 2, 3])?, -1.0)?, [b])
}

/// Running sums [1, 3, K−1, 1] of a histogram [3, K], each channel scaled to add up to 1; the last, which is 1,
/// is left out.
pub(super) fn running_sums(histogram: &[f32]) -> Tensor {
    let bins = histogram.len() / 3;
    let mut sums = Vec::with_capacity(histogram.len() - 3);
    for channel in histogram.chunks_exact(bins) {
        let whole: f64 = channel.iter().map(|&share| f64::from(share)).sum();
        let mut sum = 0.0;
        for &share in &channel[..bins - 1] {
            sum += f64::from(share) / whole;
            sums.push(sum as f32);
        }
    }
    Tensor::from_f32([1, 3, bins - 1, 1], &sums)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::graph::eval::{Array, eval};
    use crate::graph::grad;
    use crate::tensor::Dtype;

    #[test]
    fn a_value_falls_into_its_two_nearest_bins() {
        let h = histogram(&[0.0, 1.0, 0.5, 0.625, -3.0, 7.0], 5).unwrap();
        assert_eq!(h[..5], [0.5, 0.0, 0.0, 0.0, 0.5]);
        assert_eq!(h[5..10], [0.0, 0.0, 0.75, 0.25, 0.0]);
        assert_eq!(h[10..], [0.5, 0.0, 0.0, 0.0, 0.5]);
        assert_eq!(running_sums(&h).to_f32()[..4], [0.5; 4]);
        assert_eq!(running_sums(&h).to_f32()[4..8], [0.0, 0.0, 0.75, 1.0]);
        assert_eq!(running_sums(&h.iter().map(|x| x * 8.0).collect::<Vec<_>>()), running_sums(&h));
    }

    /// Score and gradient of 2 pictures of 3×2 against the definition and its central differences, in f64.
    #[test]
    fn the_gradient_is_the_derivative() {
        const H: f64 = 1e-6;
        let (b, n, bins) = (2, 6, 5);
        let shares = [0.1, 0.4, 0.0, 0.2, 0.3, 1.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 7.0];
        let weights = [0.3, 0.1, 0.0, 0.2, 0.15, 0.25];
        let g = Graph::new();
        let image = g.input("image", Dtype::F32, [b, 3, 2, 3]).unwrap();
        let w = g.input("weights", Dtype::F32, [n, 1]).unwrap();
        let target = g.constant(running_sums(&shares)).unwrap();
        let score = build(&g, image, w, target).unwrap();
        g.output("score", score);
        let sum = g.reduce_sum(score, &[0]).unwrap();
        g.output("gradient", grad(&g, sum, &[image]).unwrap()[0]);
        // Away from the bins' centres, where the slope jumps, and outside [0, 1].
        let x: Vec<f64> = (0..b * 3 * n).map(|i| -0.2 + 1.4 * ((i * 29 % 36) as f64 + 0.37) / 36.0).collect();
        let feeds = |x: &[f64]| -> HashMap<String, Array> {
            [
                ("image".into(), Array::new([b, 3, 2, 3], x.to_vec())),
                ("weights".into(), Array::new([n, 1], weights.to_vec())),
            ]
            .into()
        };
        let run = |x: &[f64]| -> HashMap<String, Vec<f64>> {
            eval(&g, &feeds(x)).unwrap().into_iter().map(|(name, a)| (name, a.data)).collect()
        };
        let found = run(&x);
        let defined = |x: &[f64]| -> f64 {
            let mut square = 0.0;
            for (c, (row, shares)) in x.chunks_exact(n).zip(shares.chunks_exact(bins)).enumerate() {
                assert!(c < 3);
                let whole: f64 = shares.iter().map(|&s| f64::from(s)).sum();
                for k in 0..bins - 1 {
                    let wanted: f64 = shares[..=k].iter().map(|&s| f64::from(s) / whole).sum();
                    let share = |x: f64| -> f64 {
                        let at = x.clamp(0.0, 1.0) * (bins - 1) as f64;
                        (0..=k).map(|j| (1.0 - (at - j as f64).abs()).max(0.0)).sum()
                    };
                    let h: f64 = row.iter().zip(weights).map(|(&x, w)| w * share(x)).sum();
                    square += (h - wanted) * (h - wanted);
                }
            }
            -square / (3 * (bins - 1)) as f64
        };
        for (picture, score) in x.chunks_exact(3 * n).zip(&found["score"]) {
            assert!((defined(picture) - score).abs() < 1e-6, "{score}, not {}", defined(picture));
        }
        for i in 0..x.len() {
            let moved = |step: f64| {
                let mut x = x.clone();
                x[i] += step;
                run(&x)["score"].iter().sum::<f64>()
            };
            let slope = (moved(H) - moved(-H)) / (2.0 * H);
            let gradient = found["gradient"][i];
            assert!((slope - gradient).abs() < 1e-7, "at {} ({i}): {slope}, not {gradient}", x[i]);
            let still = !(0.0..1.0).contains(&x[i]) || weights[i % n] == 0.0;
            assert!(still == (gradient == 0.0), "{i}");
        }
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        for bad in [&[][..], &[1.0; 3], &[1.0; 7], &[1.0; 771]] {
            assert!(validate(bad).is_err(), "{} floats", bad.len());
        }
        for value in [f32::NAN, -0.1, f32::INFINITY] {
            assert!(validate(&[1.0, value, 1.0, 1.0, 1.0, 1.0]).is_err(), "{value}");
        }
        assert!(validate(&[1.0, 0.0, 0.0, 0.0, 1.0, 1.0]).is_err(), "an empty channel");
        validate(&[1.0, 0.0, 0.0, 2.0, 0.5, 0.5]).unwrap();
        assert!(histogram(&[0.5; 3], 1).is_err() && histogram(&[0.5; 4], 8).is_err());
        assert!(histogram(&[], 8).is_err());
    }
}

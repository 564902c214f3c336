//! How a reward sees a picture: resize, centre crop, normalise. Linear but for a constant, so its gradient
//! is two MatMuls more.
//!
//! Reference: ExplainableML/ReNO, rewards/utils.py (`clip_img_transform`), on float tensors: torchvision's
//! `Resize` (bicubic, antialias), `CenterCrop`, `Normalize`. The resize overshoots [0, 1] and is not clamped.
//! Checked by tests/integration/rewards/networks.rs against golden tensors of the official code.

use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::tensor::Tensor;

/// CLIP's mean and standard deviation of red, green, blue, as published.
const MEAN: [f32; 3] = [0.48145466, 0.4578275, 0.40821073];
#[allow(clippy::excessive_precision)]
const STD: [f32; 3] = [0.26862954, 0.26130258, 0.27577711];

/// Image [B, 3, H, W] in [0, 1] → pixels [B, 3, size, size] as CLIP wants them: (A_h·x·A_wᵀ − mean) / std.
pub fn clip_image(g: &Graph, image: Value, size: usize) -> Result<Value> {
    let shape = g.shape(image);
    if shape.rank() != 4 || shape[1] != 3 || shape.is_empty() || size == 0 {
        return Err(Error::invalid("a reward's image", "[B, 3, H, W], nothing empty", &shape));
    }
    let (h, w) = (shape[2], shape[3]);
    let short = h.min(w);
    // The longer side is rounded down.
    let (columns, rows) = (axis(w, size * w / short, size), axis(h, size * h / short, size));
    let columns = g.transpose(g.constant(Tensor::from_f32([size, w], &columns))?, &[1, 0])?; // A_wᵀ [W, size]
    let rows = g.constant(Tensor::from_f32([size, h], &rows))?; // A_h [size, H]
    let x = g.matmul(rows, g.matmul(image, columns)?)?; // [B, 3, size, size]
    let mean = g.constant(Tensor::from_f32([1, 3, 1, 1], &MEAN))?;
    let std = g.constant(Tensor::from_f32([1, 3, 1, 1], &STD))?;
    g.div(g.sub(x, mean)?, std)
}

/// Matrix [size, from] that resizes one axis `from` → `to` and cuts the middle `size` out of it.
fn axis(from: usize, to: usize, size: usize) -> Vec<f32> {
    // Python's round(): half to even.
    let offset = ((to - size) as f64 / 2.0).round_ties_even() as usize;
    (offset..offset + size).flat_map(|i| resize_row(from, to, i)).collect()
}

/// Weights [from] of output sample `i`: the kernel about the sample's centre, stretched by the scale when
/// shrinking (antialias), cut off at the border and scaled to sum 1. Scale and centre are f32, as PyTorch
/// has them: their rounding moves a pixel by up to 2e-5.
fn resize_row(from: usize, to: usize, i: usize) -> Vec<f32> {
    let scale = f64::from(from as f32 / to as f32);
    let centre = f64::from((scale * (i as f64 + 0.5)) as f32);
    let stretch = scale.max(1.0);
    let support = 2.0 * stretch;
    let first = (centre - support + 0.5).max(0.0) as usize;
    let end = ((centre + support + 0.5) as usize).min(from);
    let weight = |j: usize| match (first..end).contains(&j) {
        true => bicubic((j as f64 - centre + 0.5) / stretch),
        false => 0.0,
    };
    let sum: f64 = (first..end).map(weight).sum();
    (0..from).map(|j| (weight(j) / sum) as f32).collect()
}

/// Keys' cubic kernel with a = −1/2.
fn bicubic(x: f64) -> f64 {
    let (a, x) = (-0.5, x.abs());
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_sums_to_one_and_equal_sizes_copy() {
        for (from, to, size) in
            [(37, 16, 16), (53, 22, 16), (20, 32, 32), (64, 60, 31), (512, 224, 224), (1, 4, 4)]
        {
            for row in axis(from, to, size).chunks(from) {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{from} to {to}");
            }
        }
        let identity = axis(5, 5, 5);
        assert!((0..25).all(|i| identity[i] == f32::from(i % 6 == 0)));
    }

    #[test]
    fn the_crop_rounds_half_to_even() {
        // (7 − 2) / 2 = 2.5 and (9 − 2) / 2 = 3.5
        for (to, offset) in [(7, 2), (9, 4)] {
            assert_eq!(axis(to, to, 2).iter().position(|&x| x == 1.0), Some(offset));
        }
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        let g = Graph::new();
        let grey = g.input("x", crate::tensor::Dtype::F32, [1, 1, 8, 8]).unwrap();
        assert!(clip_image(&g, grey, 4).is_err());
    }
}

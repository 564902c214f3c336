//! The kernel of [`GroupNormalizationGradient`](crate::graph::Op::GroupNormalizationGradient): three passes over
//! a group of channels, of which a cache keeps what it can from one to the next, in place of a node and a tensor
//! in memory for each step of the formula.
//!
//! With x̂ = (x − μ)·r and y = x̂·scale + bias, d = dy·scale, or dy·scale·(y·σ(y))′:
//! x̄ = r·(d − mean d − x̂·mean(d·x̂)), means over the group.
//!
//! A group is one thread's, and its sums are added up in their order: results are the same on any number of
//! threads.

use ort::operator::{ComputeContext, KernelContext};

use super::operands::elements_of;
use super::parallel::{Shared, in_parallel};
use super::simd::{self, Loops, mul_add};
use crate::graph::onnx::sum_normalization as attributes;

/// Elements that are computed at once.
const TILE: usize = 1 << 10;

/// Elements whose mean stands for the group's while its moments are summed, so that squares do not cancel.
const SAMPLES: usize = 16;

/// What the node says.
#[derive(Clone, Debug)]
pub(super) struct NormalizationGradient {
    groups: usize,
    eps: f32,
    silu: bool,
}

fn wrong(what: &str) -> ort::Error {
    ort::Error::new(format!("GroupNormalizationGradient: expected {what}"))
}

impl NormalizationGradient {
    /// # Errors
    /// An attribute is missing or out of range.
    pub fn of(context: &KernelContext<'_>) -> ort::Result<NormalizationGradient> {
        let int = |name: &str| context.get::<i64>(name).ok_or_else(|| wrong(&format!("attribute '{name}'")));
        let groups = int(attributes::GROUPS)?.try_into().ok().filter(|&n| n > 0);
        Ok(NormalizationGradient {
            groups: groups.ok_or_else(|| wrong("attribute 'groups' of 1 or more"))?,
            eps: context.get(attributes::EPS).ok_or_else(|| wrong("attribute 'eps'"))?,
            silu: int(attributes::SILU)? != 0,
        })
    }

    /// # Errors
    /// Operands do not fit each other; the runtime's.
    pub fn compute(&self, context: &ComputeContext) -> ort::Result<()> {
        let input = |i: usize| context.input(i)?.ok_or_else(|| wrong("four operands"));
        let [x, scale, bias, dy] = [input(0)?, input(1)?, input(2)?, input(3)?];
        let shape: Vec<usize> = x.shape().iter().map(|&d| d as usize).collect();
        let &[batch, c, h, w] = &shape[..] else { return Err(wrong("an input of 4 axes")) };
        if shape.contains(&0) || !c.is_multiple_of(self.groups) {
            return Err(wrong("an input that is not empty, groups that divide its channels"));
        }
        if dy.shape() != x.shape() {
            return Err(wrong("a cotangent of the input's shape"));
        }
        let n = batch * c * h * w;
        let mut output = context.output(0, [batch, c, h, w])?;
        let output = output.as_mut().ok_or_else(|| wrong("an output"))?;
        let (_, to) = output.try_extract_tensor_mut::<f32>()?;
        let operation = Operation {
            of: self,
            x: elements_of(&x, n, wrong)?,
            dy: elements_of(&dy, n, wrong)?,
            scale: elements_of(&scale, c, wrong)?,
            bias: elements_of(&bias, c, wrong)?,
            positions: h * w,
            to: Shared::new(to, n).ok_or_else(|| wrong("an output of the input's shape"))?,
        };
        in_parallel(context, batch * self.groups, |group| simd::run(Group { operation: &operation, group }))
    }
}

struct Operation<'a> {
    of: &'a NormalizationGradient,
    x: &'a [f32],
    dy: &'a [f32],
    scale: &'a [f32],
    bias: &'a [f32],
    positions: usize,
    to: Shared<'a, f32>,
}

/// A group of a picture, counted over all pictures.
struct Group<'a> {
    operation: &'a Operation<'a>,
    group: usize,
}

impl Loops for Group<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Operation { of, scale, positions, .. } = *self.operation;
        let members = scale.len() / of.groups;
        let n = members * positions;
        let start = self.group * n;
        let x = &self.operation.x[start..start + n];

        let samples = SAMPLES.min(n);
        let pivot =
            ((0..samples).map(|i| f64::from(x[i * n / samples])).sum::<f64>() / samples as f64) as f32;
        let [mut sum, mut square] = [0.0; 2];
        for x in x.chunks(TILE) {
            let [s, q] = simd::moments(x, pivot);
            (sum, square) = (sum + s, square + q);
        }
        let off = sum / n as f64;
        let variance = square / n as f64 - off * off;
        // NaN stays one.
        let variance = if variance < 0.0 { 0.0 } else { variance };
        let (mean, r) = (f64::from(pivot) + off, (variance + f64::from(of.eps)).sqrt().recip());
        // What the mean loses as f32 goes into the summands.
        let lost = f64::from(mean as f32) - mean;
        let norm = Norm {
            mean: mean as f32,
            r: r as f32,
            lost: (lost * r) as f32,
            first: self.group % of.groups * members,
        };

        let (mut sum, mut along) = (0.0, 0.0);
        self.tiles::<FMA>(start, members, norm, |_, x, d| {
            let [s, p] = simd::products(d, x, norm.mean);
            (sum, along) = (sum + s, along + p);
        });
        along += lost * sum;
        // x̄ = r·d + (x − μ)·factor + summand
        let factor = -r * r * r * along / n as f64;
        let (factor, summand) = (factor as f32, (-r * sum / n as f64 + lost * factor) as f32);
        self.tiles::<FMA>(start, members, norm, |at, x, d| {
            for (d, x) in d.iter_mut().zip(x) {
                *d = mul_add::<FMA>(*d, norm.r, mul_add::<FMA>(x - norm.mean, factor, summand));
            }
            // SAFETY: groups are apart, and so are their results.
            #[allow(unsafe_code)]
            unsafe {
                self.operation.to.write(at, d)
            };
        });
    }
}

/// The mean of a group, 1 over its deviation, what x̂ lacks as the mean is rounded, and the group's first channel.
#[derive(Clone, Copy)]
struct Norm {
    mean: f32,
    r: f32,
    lost: f32,
    first: usize,
}

impl Group<'_> {
    /// `f` of some elements' place, their x and their d, one run of them after another.
    #[inline(always)]
    fn tiles<const FMA: bool>(
        &self,
        start: usize,
        members: usize,
        norm: Norm,
        mut f: impl FnMut(usize, &[f32], &mut [f32]),
    ) {
        let Operation { of, x, dy, scale, bias, positions, .. } = *self.operation;
        let mut tile = [0.0; TILE];
        for member in 0..members {
            let (scale, bias) = (scale[norm.first + member], bias[norm.first + member]);
            let (factor, bias) = (norm.r * scale, norm.lost * scale + bias);
            let channel = start + member * positions;
            for done in (0..positions).step_by(TILE) {
                let at = channel + done;
                let d = &mut tile[..TILE.min(positions - done)];
                let (x, dy) = (&x[at..at + d.len()], &dy[at..at + d.len()]);
                if of.silu {
                    for (d, x) in d.iter_mut().zip(x) {
                        *d = mul_add::<FMA>(x - norm.mean, factor, bias);
                    }
                    simd::silu_slope::<FMA>(d);
                    for (d, dy) in d.iter_mut().zip(dy) {
                        *d *= dy * scale;
                    }
                } else {
                    for (d, dy) in d.iter_mut().zip(dy) {
                        *d = dy * scale;
                    }
                }
                f(at, x, d);
            }
        }
    }
}

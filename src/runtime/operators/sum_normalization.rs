//! The kernel of [`SumNormalization`](crate::graph::Op::SumNormalization): one pass over its terms for the
//! moments of groups and one for the results, in place of a node and a tensor in memory for each of the sum,
//! the normalisation, the activation and the rounding.
//!
//! Work is cut into chunks of a size that depends on shapes alone, and the moments of chunks are added up in
//! their order: results are the same on any number of threads.

use ort::operator::{ComputeContext, KernelContext};
use ort::value::{DynValueTypeMarker, ValueRef};

use super::operands::elements_of;
use super::parallel::{Shared, in_parallel};
use super::simd::{self, Loops, Map, Number, Rounding};
use crate::graph::onnx::sum_normalization as attributes;

/// Elements of a chunk: so few that the chunk lies in the nearest cache, so many that handing it out costs
/// nothing.
const CHUNK: usize = 1 << 14;

/// Elements that are computed at once.
const TILE: usize = 1 << 11;

/// Positions whose mean stands for a channel's while its moments are summed, so that squares do not cancel.
const SAMPLES: usize = 16;

/// What the node says.
#[derive(Clone, Debug)]
pub(super) struct SumNormalization {
    levels: usize,
    groups: usize,
    eps: f32,
    silu: bool,
    /// Level of 0 and largest level.
    to: Option<[u8; 2]>,
    factor: usize,
    channels_last: bool,
}

fn wrong(what: &str) -> ort::Error {
    ort::Error::new(format!("SumNormalization: expected {what}"))
}

impl SumNormalization {
    /// # Errors
    /// An attribute is missing or out of range.
    pub fn of(context: &KernelContext<'_>, rounds: bool) -> ort::Result<SumNormalization> {
        let int = |name: &str| context.get::<i64>(name).ok_or_else(|| wrong(&format!("attribute '{name}'")));
        let size = |name: &str| {
            int(name)?.try_into().map_err(|_| wrong(&format!("attribute '{name}' of 0 or more")))
        };
        let level =
            |name: &str| int(name)?.try_into().map_err(|_| wrong(&format!("attribute '{name}' of 0 to 255")));
        Ok(SumNormalization {
            levels: size(attributes::LEVELS)?,
            groups: size(attributes::GROUPS)?,
            eps: context.get(attributes::EPS).ok_or_else(|| wrong("attribute 'eps'"))?,
            silu: int(attributes::SILU)? != 0,
            to: match rounds {
                true => Some([level(attributes::ZERO)?, level(attributes::MOST)?]),
                false => None,
            },
            factor: size(attributes::FACTOR)?,
            channels_last: int(attributes::CHANNELS_LAST)? != 0,
        })
    }

    /// # Errors
    /// Operands do not fit each other; the runtime's.
    pub fn compute(&self, context: &ComputeContext) -> ort::Result<()> {
        let inputs = (0..context.num_inputs()?)
            .map(|i| context.input(i)?.ok_or_else(|| wrong("every operand")))
            .collect::<ort::Result<Vec<ValueRef<'_, DynValueTypeMarker>>>>()?;
        let first = inputs.first().ok_or_else(|| wrong("a term"))?;
        let shape: Vec<usize> = first.shape().iter().map(|&d| d as usize).collect();
        let layout = self.layout(&shape)?;
        let (c, n) = (layout.channels, layout.batch * layout.channels * layout.positions());
        let trailing = 2 * usize::from(self.groups > 0) + usize::from(self.to.is_some());
        let floats = inputs.len().checked_sub(3 * self.levels + trailing);
        let floats =
            floats.filter(|n| n + self.levels > 0).ok_or_else(|| wrong("as many operands as it says"))?;

        let mut at = 0;
        let mut next = || {
            at += 1;
            &inputs[at - 1]
        };
        let mut terms = Vec::new();
        for _ in 0..self.levels {
            let (q, scale, zero) = (
                elements_of(next(), n, wrong)?,
                elements_of(next(), c, wrong)?,
                elements_of(next(), c, wrong)?,
            );
            terms.push(Term::Levels { q, scale, zero });
        }
        for _ in 0..floats {
            terms.push(Term::Floats(elements_of(next(), n, wrong)?));
        }
        let affine = match self.groups {
            0 => None,
            _ => Some([elements_of(next(), c, wrong)?, elements_of(next(), c, wrong)?]),
        };
        let rounding = match self.to {
            Some([zero, most]) => {
                Some(Rounding { inverse: elements_of::<f32>(next(), 1, wrong)?[0].recip(), zero, most })
            }
            None => None,
        };

        let task = SumOfTerms::new(layout, terms, (self.silu, self.factor), self.groups > 0);
        let maps = match affine {
            Some([scale, bias]) => self.normalization(context, &task, scale, bias)?,
            None => vec![(1.0, 0.0); layout.batch * c],
        };
        let (h, w) = (layout.height * self.factor, layout.width * self.factor);
        let out = match layout.last && rounding.is_some() {
            true => [layout.batch, h, w, c],
            false => [layout.batch, c, h, w],
        };
        let out = out.map(|d| d as i64);
        let mut output = context.output(0, out)?.ok_or_else(|| wrong("an output"))?;
        let expected = n * self.factor * self.factor;
        match rounding {
            Some(rounding) => {
                let (_, to) = output.try_extract_tensor_mut::<u8>()?;
                let to = Shared::new(to, expected).ok_or_else(|| wrong("an output of the terms' shape"))?;
                in_parallel(context, layout.chunks(), |chunk| {
                    simd::run(Results { task: &task, maps: &maps, chunk, to: To::Levels(&to, rounding) });
                })
            }
            None => {
                let (_, to) = output.try_extract_tensor_mut::<f32>()?;
                let to = Shared::new(to, expected).ok_or_else(|| wrong("an output of the terms' shape"))?;
                in_parallel(context, layout.chunks(), |chunk| {
                    simd::run(Results { task: &task, maps: &maps, chunk, to: To::Floats(&to) });
                })
            }
        }
    }

    fn layout(&self, shape: &[usize]) -> ort::Result<Planes> {
        let &[batch, m, n, k] = shape else { return Err(wrong("terms of 4 axes")) };
        let [channels, height, width] = if self.channels_last { [k, m, n] } else { [m, n, k] };
        let grouped = self.groups == 0 || channels.is_multiple_of(self.groups);
        if shape.contains(&0) || !grouped || self.factor == 0 || (self.factor > 1 && !self.channels_last) {
            return Err(wrong("terms that are not empty, groups that divide their channels"));
        }
        Ok(Planes { batch, channels, height, width, last: self.channels_last })
    }

    /// Of every picture and channel, the factor and the summand that normalise the sum of the terms less its
    /// shifts.
    fn normalization(
        &self,
        context: &ComputeContext,
        task: &SumOfTerms<'_>,
        scale: &[f32],
        bias: &[f32],
    ) -> ort::Result<Vec<(f64, f64)>> {
        let (layout, c) = (task.layout, task.layout.channels);
        let pivots: Vec<f64> = (0..layout.batch * c).map(|i| task.pivot(i)).collect();
        // Of each chunk its sums, then its sums of squares, of every channel that it holds.
        let (chunks, held) = (layout.chunks(), layout.held());
        let mut moments = vec![0.0; chunks * 2 * held];
        let shared = Shared::new(&mut moments, chunks * 2 * held).ok_or_else(|| wrong("room"))?;
        in_parallel(context, chunks, |chunk| {
            simd::run(Moments { task, pivots: &pivots, chunk, moments: &shared });
        })?;
        let mut sums = vec![(0.0f64, 0.0f64); layout.batch * c];
        for (i, of_chunk) in moments.chunks_exact(2 * held).enumerate() {
            let (s, q) = of_chunk.split_at(held);
            let first = layout.chunk(i).channel;
            for ((sum, s), q) in sums[first..first + held].iter_mut().zip(s).zip(q) {
                *sum = (sum.0 + f64::from(*s), sum.1 + f64::from(*q));
            }
        }
        let (wide, members) = (layout.positions() as f64, c / self.groups);
        let mut maps = Vec::with_capacity(sums.len());
        for (group, of_group) in sums.chunks_exact(members).enumerate() {
            let first = group * members;
            let mean_of = |i: usize| pivots[first + i] + of_group[i].0 / wide;
            let mean = (0..members).map(mean_of).sum::<f64>() / members as f64;
            let square = |i: usize| {
                let off = of_group[i].0 / wide;
                of_group[i].1 / wide - off * off + (mean_of(i) - mean).powi(2)
            };
            let variance = (0..members).map(square).sum::<f64>() / members as f64;
            // NaN stays one.
            let variance = if variance < 0.0 { 0.0 } else { variance };
            let inverse = (variance + f64::from(self.eps)).sqrt().recip();
            maps.extend((first..first + members).map(|i| {
                let factor = f64::from(scale[i % c]) * inverse;
                (factor, f64::from(bias[i % c]) + (task.shift(i) - mean) * factor)
            }));
        }
        Ok(maps)
    }
}

/// [B, C, H, W], or, channels last, [B, H, W, C].
#[derive(Clone, Copy, Debug)]
struct Planes {
    batch: usize,
    channels: usize,
    height: usize,
    width: usize,
    last: bool,
}

/// A run of elements.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    /// Of all elements, the first one and how many.
    start: usize,
    len: usize,
    /// Of the channels of all pictures, the first one that it holds.
    channel: usize,
    /// The first of its elements' positions among those of all pictures, channels last.
    position: usize,
}

impl Planes {
    fn positions(&self) -> usize {
        self.height * self.width
    }

    /// Channels that a chunk holds.
    fn held(&self) -> usize {
        if self.last { self.channels } else { 1 }
    }

    /// Positions of a chunk.
    fn of_chunk(&self) -> usize {
        (CHUNK / self.held()).max(1)
    }

    fn chunks(&self) -> usize {
        let planes = if self.last { self.batch } else { self.batch * self.channels };
        planes * self.positions().div_ceil(self.of_chunk())
    }

    fn chunk(&self, i: usize) -> Chunk {
        let per_plane = self.positions().div_ceil(self.of_chunk());
        let (plane, from) = (i / per_plane, i % per_plane * self.of_chunk());
        let n = self.of_chunk().min(self.positions() - from);
        let position = plane * self.positions() + from;
        let held = self.held();
        Chunk { start: position * held, len: n * held, channel: plane * held, position }
    }

    /// The mean of `f` over some elements of a channel, counted over all pictures.
    fn mean(&self, i: usize, f: impl Fn(usize) -> f64) -> f64 {
        let n = SAMPLES.min(self.positions());
        let (picture, channel) = (i / self.channels, i % self.channels);
        let sample = |k: usize| {
            let p = k * self.positions() / n;
            match self.last {
                true => f((picture * self.positions() + p) * self.channels + channel),
                false => f(i * self.positions() + p),
            }
        };
        (0..n).map(sample).sum::<f64>() / n as f64
    }

    /// Elements whose factors differ: those of a position, or as many as are computed at once.
    fn lanes(&self) -> usize {
        if self.last { self.channels } else { self.positions().min(256) }
    }
}

enum Term<'a> {
    Levels { q: &'a [u8], scale: &'a [f32], zero: &'a [u8] },
    Floats(&'a [f32]),
}

struct SumOfTerms<'a> {
    layout: Planes,
    terms: Vec<Term<'a>>,
    /// Of each term of f32, of every picture's channels, about its mean: differences from it are exact. Empty
    /// where no mean is taken.
    shifts: Vec<Vec<f32>>,
    silu: bool,
    factor: usize,
}

/// What is made of the terms, by lane: Σ (x − shift)·factor + summand.
struct Coefficients {
    shifts: Vec<Vec<f32>>,
    factors: Vec<Vec<f32>>,
    summands: Vec<f32>,
}

impl<'a> SumOfTerms<'a> {
    fn new(
        layout: Planes,
        terms: Vec<Term<'a>>,
        (silu, factor): (bool, usize),
        has_means: bool,
    ) -> SumOfTerms<'a> {
        let all = if has_means { layout.batch * layout.channels } else { 0 };
        let of = |term: &Term<'a>| match term {
            Term::Levels { .. } => None,
            Term::Floats(x) => Some((0..all).map(|i| layout.mean(i, |at| f64::from(x[at])) as f32).collect()),
        };
        let shifts = terms.iter().filter_map(of).collect();
        SumOfTerms { layout, terms, shifts, silu, factor }
    }

    /// The sum of the shifts of a picture's channel that are not zero points.
    fn shift(&self, i: usize) -> f64 {
        self.shifts.iter().filter_map(|of_term| of_term.get(i)).map(|&x| f64::from(x)).sum()
    }

    /// Of each term, what is taken off its elements of a picture's channel, and what one stands for.
    fn maps(&self, i: usize) -> impl Iterator<Item = (f32, f64)> + '_ {
        let mut shifts = self.shifts.iter();
        let channel = i % self.layout.channels;
        self.terms.iter().map(move |term| match term {
            Term::Levels { scale, zero, .. } => (f32::from(zero[channel]), f64::from(scale[channel])),
            Term::Floats(_) => {
                (shifts.next().and_then(|of_term| of_term.get(i)).copied().unwrap_or(0.0), 1.0)
            }
        })
    }

    /// About the mean of a picture's channel.
    fn pivot(&self, i: usize) -> f64 {
        let number = |term: &Term<'_>, at: usize| match term {
            Term::Levels { q, .. } => f64::from(q[at]),
            Term::Floats(x) => f64::from(x[at]),
        };
        let less_shifts = |at: usize| {
            let terms = self.terms.iter().zip(self.maps(i));
            terms.map(|(term, (shift, scale))| (number(term, at) - f64::from(shift)) * scale).sum::<f64>()
        };
        self.layout.mean(i, less_shifts) + self.shift(i)
    }

    /// What makes factor·(Σ terms − shifts) + summand of the terms of a chunk.
    fn coefficients(&self, chunk: Chunk, map: impl Fn(usize) -> (f64, f64)) -> Coefficients {
        let l = self.layout;
        let (lanes, terms) = (l.lanes(), self.terms.len());
        let rows = || vec![vec![0.0; lanes]; terms];
        let mut all = Coefficients { shifts: rows(), factors: rows(), summands: vec![0.0; lanes] };
        for channel in chunk.channel..chunk.channel + l.held() {
            let (factor, summand) = map(channel);
            // One lane, or all of them.
            let lane = channel - chunk.channel;
            let lanes = if l.last { lane..lane + 1 } else { 0..lanes };
            for (k, (shift, scale)) in self.maps(channel).enumerate() {
                all.shifts[k][lanes.clone()].fill(shift);
                all.factors[k][lanes.clone()].fill((scale * factor) as f32);
            }
            all.summands[lanes].fill(summand as f32);
        }
        all
    }

    /// y = what the coefficients make of the elements from `start` on, for whole runs of lanes and a part of
    /// one.
    #[inline(always)]
    fn evaluate<const FMA: bool>(&self, with: &Coefficients, start: usize, y: &mut [f32]) {
        let lanes = with.summands.len();
        for (i, y) in y.chunks_mut(lanes).enumerate() {
            let range = start + i * lanes..start + i * lanes + y.len();
            for (k, term) in self.terms.iter().enumerate() {
                let map = Map { shift: &with.shifts[k][..y.len()], factor: &with.factors[k][..y.len()] };
                let summands = (k == 0).then(|| &with.summands[..y.len()]);
                match term {
                    Term::Levels { q, .. } => accumulate::<FMA, _>(y, &q[range.clone()], map, summands),
                    Term::Floats(x) => accumulate::<FMA, _>(y, &x[range.clone()], map, summands),
                }
            }
        }
    }
}

#[inline(always)]
fn accumulate<const FMA: bool, T: Number>(y: &mut [f32], x: &[T], map: Map<'_>, summands: Option<&[f32]>) {
    match summands {
        Some(summands) => simd::set::<FMA, T>(y, x, &map, summands),
        None => simd::add::<FMA, T>(y, x, &map),
    }
}

/// Elements of a chunk at once: whole runs of lanes.
fn tile(lanes: usize, chunk: Chunk) -> usize {
    ((TILE / lanes).max(1) * lanes).min(chunk.len)
}

/// Sums and sums of squares of a chunk's elements less their pivots.
struct Moments<'a> {
    task: &'a SumOfTerms<'a>,
    pivots: &'a [f64],
    chunk: usize,
    moments: &'a Shared<'a, f32>,
}

impl Loops for Moments<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let layout = self.task.layout;
        let (chunk, lanes, held) = (layout.chunk(self.chunk), layout.lanes(), layout.held());
        let with =
            self.task.coefficients(chunk, |channel| (1.0, self.task.shift(channel) - self.pivots[channel]));
        let (mut sums, mut squares) = (vec![0.0; lanes], vec![0.0; lanes]);
        let mut y = vec![0.0; tile(lanes, chunk)];
        for done in (0..chunk.len).step_by(y.len()) {
            let n = y.len().min(chunk.len - done);
            self.task.evaluate::<FMA>(&with, chunk.start + done, &mut y[..n]);
            for y in y[..n].chunks(lanes) {
                simd::add_moments::<FMA>(y, &mut sums, &mut squares);
            }
        }
        if !layout.last {
            sums = vec![sums.iter().map(|&x| f64::from(x)).sum::<f64>() as f32];
            squares = vec![squares.iter().map(|&x| f64::from(x)).sum::<f64>() as f32];
        }
        let at = self.chunk * 2 * held;
        // SAFETY: no other chunk has these moments.
        #[allow(unsafe_code)]
        unsafe {
            self.moments.write(at, &sums);
            self.moments.write(at + held, &squares);
        }
    }
}

enum To<'a> {
    Levels(&'a Shared<'a, u8>, Rounding),
    Floats(&'a Shared<'a, f32>),
}

/// The results of a chunk.
struct Results<'a> {
    task: &'a SumOfTerms<'a>,
    /// Factor and summand of every picture's channels.
    maps: &'a [(f64, f64)],
    chunk: usize,
    to: To<'a>,
}

impl Loops for Results<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let layout = self.task.layout;
        let (chunk, lanes) = (layout.chunk(self.chunk), layout.lanes());
        let with = self.task.coefficients(chunk, |channel| self.maps[channel]);
        let mut y = vec![0.0; tile(lanes, chunk)];
        let mut levels = vec![0; if matches!(self.to, To::Levels(..)) { y.len() } else { 0 }];
        for done in (0..chunk.len).step_by(y.len()) {
            let n = y.len().min(chunk.len - done);
            let y = &mut y[..n];
            self.task.evaluate::<FMA>(&with, chunk.start + done, y);
            if self.task.silu {
                simd::silu::<FMA>(y);
            }
            match &self.to {
                To::Levels(to, rounding) => {
                    simd::round(y, *rounding, &mut levels[..n]);
                    self.write(to, chunk, done, &levels[..n]);
                }
                To::Floats(to) => self.write_channels(to, chunk, done, y),
            }
        }
    }
}

impl Results<'_> {
    /// Write the elements of a chunk from the `done`-th on, channels first.
    fn write_channels(&self, to: &Shared<'_, f32>, chunk: Chunk, done: usize, elements: &[f32]) {
        let l = self.task.layout;
        if !l.last {
            return put(to, chunk.start + done, elements);
        }
        let first = chunk.position + done / l.channels;
        let (picture, position) = (first / l.positions(), first % l.positions());
        // Squares of elements, whose rows are those of channels when they are turned.
        const SIDE: usize = 16;
        let mut turned = [[0.0; SIDE]; SIDE];
        for (i, positions) in elements.chunks(SIDE * l.channels).enumerate() {
            let n = positions.len() / l.channels;
            for channel in (0..l.channels).step_by(SIDE) {
                let held = SIDE.min(l.channels - channel);
                for (k, of_position) in positions.chunks_exact(l.channels).enumerate() {
                    for (row, x) in turned.iter_mut().zip(&of_position[channel..channel + held]) {
                        row[k] = *x;
                    }
                }
                for (j, row) in turned[..held].iter().enumerate() {
                    let of_channel = (picture * l.channels + channel + j) * l.positions();
                    put(to, of_channel + position + i * SIDE, &row[..n]);
                }
            }
        }
    }

    /// Write the elements of a chunk from the `done`-th on, each to a square of positions.
    fn write<T: Copy>(&self, to: &Shared<'_, T>, chunk: Chunk, done: usize, elements: &[T]) {
        let (l, f) = (self.task.layout, self.task.factor);
        if f == 1 {
            return put(to, chunk.start + done, elements);
        }
        for (i, of_position) in elements.chunks(l.channels).enumerate() {
            let position = chunk.position + done / l.channels + i;
            let (row, column) = (position / l.width, position % l.width); // rows of all pictures
            for y in row * f..(row + 1) * f {
                for x in column * f..(column + 1) * f {
                    put(to, (y * l.width * f + x) * l.channels, of_position);
                }
            }
        }
    }
}

/// Write results of a chunk.
#[allow(unsafe_code)]
fn put<T: Copy>(to: &Shared<'_, T>, at: usize, elements: &[T]) {
    // SAFETY: chunks are apart, and so are their results.
    unsafe { to.write(at, elements) }
}

//! How weights are stored, and int8 storage in particular: symmetric, one scale per row. int4: [`int4_name`] and what follows it.
//!
//! A row is what makes one output channel: row o of a matrix [O, I], kernel o of [O, C, k, k], one entry of an
//! embedding. W[o, ..] ≈ q[o, ..]·scale\[o\] with scale\[o\] = max |W[o, ..]| / 127 and q an integer in −127..127,
//! so zero is exact and no weight moves by more than scale\[o\] / 2. A model file holds q as the tensor `NAME`
//! (I8, the weight's shape) and the scales as `NAME.scale` (F32 \[O\]); `softdimo.quantization` is "int8".
//!
//! A matrix that only products read, y = x·Wᵀ, is stored the other way round, as `NAME.transposed` (I8 [I, O]): integer
//! kernels read it so, straight from the file ([`crate::graph::int8`]). Such a file has format 2.
//!
//! Clipping rows where that lowers their squared error was tried on the bundled model and changes it by 1.3 %
//! of itself (7.14e-3 → 7.05e-3 of ‖W‖): the largest weight of a row stays what it is.

mod int4;

pub use self::int4::{BLOCK, has_int4, int4_name, int4_pack, int4_scales, int4_shapes, widen};
use crate::error::{Error, Result};
use crate::tensor::{Dtype, Shape, TensorView};

/// Largest |q|.
const LEVELS: f32 = 127.0;

/// How the written weights are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Storage {
    /// As in the checkpoint.
    #[default]
    Keep,
    /// f16 for matrices and kernels; vectors (norms, biases) stay f32.
    F16,
    /// int8 with a scale per row for matrices and kernels, as in this module, and laid out for int8 arithmetic where products
    /// alone read it; f16 for what else is no vector.
    Int8,
    /// The same in rows throughout (format 1): computed with in f32 on every processor.
    Int8Rows,
    /// int4 in blocks for matrices that nothing but products read, in the networks that make tokens (format 3); what is left, as
    /// [`Storage::Int8`]: the image tokenizer, whose errors are seen.
    Int4,
}

impl Storage {
    /// Value of `softdimo.quantization`.
    pub fn name(self) -> &'static str {
        match self {
            Storage::Keep => "none",
            Storage::F16 => "f16",
            Storage::Int8 | Storage::Int8Rows => "int8",
            Storage::Int4 => "int4",
        }
    }

    /// Whether matrices that nothing but products read are laid out for int8 arithmetic.
    pub(crate) fn is_for_products(self) -> bool {
        matches!(self, Storage::Int8 | Storage::Int4)
    }

    /// Dtype in which a tensor is stored, but for int4. What is no float is no weight.
    pub(crate) fn dtype(self, view: &TensorView) -> Dtype {
        match self {
            Storage::Keep => view.dtype,
            _ if !view.dtype.is_float() => view.dtype,
            _ if view.shape.rank() < 2 => Dtype::F32,
            Storage::Int8 | Storage::Int8Rows | Storage::Int4 if has_rows(&view.shape) => Dtype::I8,
            Storage::F16 | Storage::Int8 | Storage::Int8Rows | Storage::Int4 => Dtype::F16,
        }
    }
}

/// Name of the tensor that holds the scales of the int8 tensor `name`.
pub fn scale_name(name: &str) -> String {
    format!("{name}.scale")
}

/// Name of the tensor that holds the int8 matrix `name` the other way round.
pub fn transposed_name(name: &str) -> String {
    format!("{name}.transposed")
}

/// Name of the tensor that holds the [`Ranges`] of the int8 kernels `name`.
pub fn ranges_name(name: &str) -> String {
    format!("{name}.ranges")
}

/// What a convolution reads, and what each of its O channels writes, as seen: (lowest, highest), 0 among them. `NAME.ranges` (F32
/// [1 + O, 2]) holds them, reading first. They say how finely its activations can be rounded in int8 arithmetic.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranges {
    pub reads: [f32; 2],
    pub writes: Vec<[f32; 2]>,
}

impl Ranges {
    /// Of a convolution with so many channels, of which nothing was seen.
    pub(crate) fn zeros(channels: usize) -> Ranges {
        Ranges { reads: [0.0; 2], writes: vec![[0.0; 2]; channels] }
    }

    /// None where `view` holds no ranges: another shape or dtype, numbers that are not finite, or 0 not among them.
    pub fn read(view: &TensorView) -> Option<Ranges> {
        if view.dtype != Dtype::F32 || view.shape.rank() != 2 || view.shape[0] == 0 || view.shape[1] != 2 {
            return None;
        }
        let mut ranges = Ranges::zeros(view.shape[0] - 1);
        let values = view.to_f32();
        ranges.extend(&values);
        (ranges.are_sound() && ranges.rows() == values).then_some(ranges)
    }

    pub(crate) fn are_sound(&self) -> bool {
        let mut all = [&self.reads].into_iter().chain(&self.writes);
        all.all(|[low, high]| low.is_finite() && high.is_finite() && (high - low).is_finite())
    }

    /// Ranges that are wider by a factor.
    pub(crate) fn widen(&mut self, factor: f32) {
        let all = [&mut self.reads].into_iter().chain(&mut self.writes);
        all.flatten().for_each(|bound| *bound *= factor);
    }

    /// See the rows of others too.
    pub(crate) fn extend(&mut self, rows: &[f32]) {
        let mine = [&mut self.reads].into_iter().chain(&mut self.writes);
        for ([low, high], row) in mine.zip(rows.chunks_exact(2)) {
            (*low, *high) = (low.min(row[0]), high.max(row[1]));
        }
    }

    /// The rows of their tensor.
    pub fn rows(&self) -> Vec<f32> {
        [&self.reads].into_iter().chain(&self.writes).flatten().copied().collect()
    }
}

/// Columns of a matrix of `rows` rows as rows. Elements that fill no row are left out.
pub(crate) fn transpose<T: Copy>(values: &[T], rows: usize) -> Vec<T> {
    let columns = values.len() / rows.max(1);
    (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect()
}

/// Whether a tensor of this shape has rows worth a scale each: matrices and kernels. Vectors and position
/// embeddings [1, N, D] have none.
pub fn has_rows(shape: &Shape) -> bool {
    matches!(shape.rank(), 2 | 4)
}

/// Scales of `values` [O, ..] in `rows` = O rows. `name` is the tensor's, for the error: a value that is not
/// finite has no int8 form.
pub fn scales(name: &str, values: &[f32], rows: usize) -> Result<Vec<f32>> {
    if let Some(x) = values.iter().find(|x| !x.is_finite()) {
        return Err(Error::invalid(format!("tensor '{name}' in int8"), "finite values", x));
    }
    let largest = |row: &[f32]| row.iter().fold(0f32, |m, x| m.max(x.abs()));
    let width = (values.len() / rows.max(1)).max(1);
    Ok(values.chunks(width).map(|row| largest(row) / LEVELS).collect())
}

/// The integers of `values` under `scales`, one per row, rounded to nearest. A row of zeros has scale 0.
pub fn quantize(values: &[f32], scales: &[f32]) -> Vec<i8> {
    let width = (values.len() / scales.len().max(1)).max(1);
    let rows = values.chunks(width).zip(scales);
    rows.flat_map(|(row, &scale)| {
        // `as` saturates, and makes 0 of the NaN that 0/0 is.
        row.iter().map(move |x| (x / scale).round().clamp(-LEVELS, LEVELS) as i8)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_moves_by_more_than_half_a_step() {
        let values: Vec<f32> = (0..600).map(|i| (i as f32 * 0.37).sin() * (1 + i / 100) as f32).collect();
        let scales = scales("w", &values, 6).unwrap();
        let q = quantize(&values, &scales);
        for (i, (x, q)) in values.iter().zip(&q).enumerate() {
            let scale = scales[i / 100];
            assert!((x - f32::from(*q) * scale).abs() <= 0.5001 * scale, "{i}: {x} {q} {scale}");
        }
        for (row, q) in values.chunks(100).zip(q.chunks(100)) {
            // The largest weight of a row is exact, and so is its sign.
            let at = (0..100).fold(0, |b, i| if row[i].abs() > row[b].abs() { i } else { b });
            assert_eq!(f32::from(q[at]), LEVELS.copysign(row[at]));
        }
    }

    #[test]
    fn literal_rows() {
        let values = [0.0, 0.0, 1.27, -0.635, 254.0, -3.0];
        let scales = scales("w", &values, 3).unwrap();
        assert_eq!(scales, [0.0, 0.01, 2.0]);
        // −63.5 and −1.5 are halfway: away from zero.
        assert_eq!(quantize(&values, &scales), [0, 0, 127, -64, 127, -2]);
        assert_eq!(quantize(&[], &super::scales("w", &[], 0).unwrap()), [0i8; 0]);
    }

    #[test]
    fn transposing_twice_is_nothing() {
        assert_eq!(transpose(&[1, 2, 3, 4, 5, 6], 2), [1, 4, 2, 5, 3, 6]);
        assert_eq!(transpose(&transpose(&[1, 2, 3, 4, 5, 6], 2), 3), [1, 2, 3, 4, 5, 6]);
        assert!(transpose::<i8>(&[], 0).is_empty());
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        for x in [f32::NAN, f32::INFINITY] {
            let error = scales("a.weight", &[1.0, x], 1).unwrap_err().to_string();
            assert_eq!(error, format!("tensor 'a.weight' in int8: expected finite values, found {x}"));
        }
    }

    /// Subnormal scales have few bits, but still no value overflows or turns NaN.
    #[test]
    fn tiny_rows_stay_tiny() {
        let values = [1e-44f32, -1e-45, 0.0, 1e-40];
        let scales = scales("w", &values, 2).unwrap();
        let q = quantize(&values, &scales);
        for (i, (x, q)) in values.iter().zip(&q).enumerate() {
            assert!((x - f32::from(*q) * scales[i / 2]).abs() <= x.abs(), "{i}");
        }
    }
}

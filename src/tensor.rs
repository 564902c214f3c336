//! Dtype, Shape, Tensor, TensorView: bytes with a type and a shape. No arithmetic lives here.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};

/// Element type of a tensor. Little-endian in memory and on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dtype {
    Bool,
    U8,
    I8,
    I16,
    I32,
    I64,
    F16,
    BF16,
    F32,
    F64,
}

impl Dtype {
    /// Size of one element in bytes.
    pub const fn size(self) -> usize {
        match self {
            Dtype::Bool | Dtype::U8 | Dtype::I8 => 1,
            Dtype::I16 | Dtype::F16 | Dtype::BF16 => 2,
            Dtype::I32 | Dtype::F32 => 4,
            Dtype::I64 | Dtype::F64 => 8,
        }
    }

    /// True for f16, bf16, f32 and f64.
    pub const fn is_float(self) -> bool {
        matches!(self, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64)
    }

    /// Lower-case name as used in messages, the CLI and the model file's metadata.
    pub const fn name(self) -> &'static str {
        match self {
            Dtype::Bool => "bool",
            Dtype::U8 => "u8",
            Dtype::I8 => "i8",
            Dtype::I16 => "i16",
            Dtype::I32 => "i32",
            Dtype::I64 => "i64",
            Dtype::F16 => "f16",
            Dtype::BF16 => "bf16",
            Dtype::F32 => "f32",
            Dtype::F64 => "f64",
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Dimensions of a tensor, outermost first. `[]` is a scalar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape(pub Vec<usize>);

impl Shape {
    /// Number of elements, or `None` when the product overflows `usize`.
    pub fn checked_len(&self) -> Option<usize> {
        self.0.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
    }

    /// Number of elements of a shape that is known not to overflow (every [`Tensor`] and graph node).
    pub fn len(&self) -> usize {
        self.0.iter().product()
    }

    /// True when some dimension is zero.
    pub fn is_empty(&self) -> bool {
        self.0.contains(&0)
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// Row-major strides in elements.
    pub fn strides(&self) -> Vec<usize> {
        let mut strides = vec![1; self.rank()];
        for axis in (1..self.rank()).rev() {
            strides[axis - 1] = strides[axis] * self.0[axis];
        }
        strides
    }
}

impl std::ops::Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Shape {
        Shape(dims.to_vec())
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Shape {
        Shape(dims.to_vec())
    }
}

impl From<Vec<usize>> for Shape {
    fn from(dims: Vec<usize>) -> Shape {
        Shape(dims)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, d) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{d}")?;
        }
        f.write_str("]")
    }
}

/// A borrowed tensor: row-major, contiguous, possibly unaligned bytes (they may lie in a mapped file).
#[derive(Clone, Debug)]
pub struct TensorView<'a> {
    pub dtype: Dtype,
    pub shape: Shape,
    /// Exactly `shape.len() * dtype.size()` bytes.
    pub data: &'a [u8],
}

impl TensorView<'_> {
    /// All elements as f32 (f16, bf16, f64 and integers are converted).
    pub fn to_f32(&self) -> Vec<f32> {
        self.to_f64().into_iter().map(|x| x as f32).collect()
    }

    /// All elements as f64. Integers above 2^53 lose precision.
    pub fn to_f64(&self) -> Vec<f64> {
        let mut out = Vec::with_capacity(self.shape.len());
        macro_rules! read {
            ($t:ty, $conv:expr) => {
                out.extend(
                    self.data
                        .chunks_exact(std::mem::size_of::<$t>())
                        .map(|b| $conv(<$t>::from_le_bytes(b.try_into().unwrap()))),
                )
            };
        }
        match self.dtype {
            Dtype::Bool | Dtype::U8 => out.extend(self.data.iter().map(|&b| f64::from(b))),
            Dtype::I8 => out.extend(self.data.iter().map(|&b| f64::from(b as i8))),
            Dtype::I16 => read!(i16, f64::from),
            Dtype::I32 => read!(i32, f64::from),
            Dtype::I64 => read!(i64, |x| x as f64),
            Dtype::F16 => read!(u16, |x| half::f16::from_bits(x).to_f64()),
            Dtype::BF16 => read!(u16, |x| half::bf16::from_bits(x).to_f64()),
            Dtype::F32 => read!(f32, f64::from),
            Dtype::F64 => read!(f64, |x| x),
        }
        out
    }

    /// All elements as i64 (floats are truncated).
    pub fn to_i64(&self) -> Vec<i64> {
        match self.dtype {
            Dtype::I64 => {
                self.data.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect()
            }
            _ => self.to_f64().into_iter().map(|x| x as i64).collect(),
        }
    }

    /// An owned copy.
    pub fn to_tensor(&self) -> Tensor {
        Tensor { dtype: self.dtype, shape: self.shape.clone(), data: self.data.into() }
    }
}

/// An owned tensor: row-major, contiguous; cloning shares the bytes.
#[derive(Clone, PartialEq)]
pub struct Tensor {
    dtype: Dtype,
    shape: Shape,
    data: Arc<[u8]>,
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({}{})", self.dtype, self.shape)
    }
}

impl Tensor {
    /// A tensor over `data`; an error when the byte count does not fit dtype and shape.
    pub fn new(dtype: Dtype, shape: impl Into<Shape>, data: impl Into<Arc<[u8]>>) -> Result<Tensor> {
        let (shape, data) = (shape.into(), data.into());
        let bytes = shape.checked_len().and_then(|n| n.checked_mul(dtype.size()));
        if bytes != Some(data.len()) {
            return Err(Error::invalid(
                format!("tensor {dtype}{shape}"),
                match bytes {
                    Some(n) => format!("{n} bytes"),
                    None => "a size that fits the address space".into(),
                },
                format!("{} bytes", data.len()),
            ));
        }
        Ok(Tensor { dtype, shape, data })
    }

    /// An f32 tensor. Panics when `data` does not fill `shape` (a bug of the caller in this crate).
    pub fn from_f32(shape: impl Into<Shape>, data: &[f32]) -> Tensor {
        let bytes: Vec<u8> = data.iter().flat_map(|x| x.to_le_bytes()).collect();
        Tensor::new(Dtype::F32, shape, bytes).expect("data fills shape")
    }

    /// An i64 tensor. Panics when `data` does not fill `shape` (a bug of the caller in this crate).
    pub fn from_i64(shape: impl Into<Shape>, data: &[i64]) -> Tensor {
        let bytes: Vec<u8> = data.iter().flat_map(|x| x.to_le_bytes()).collect();
        Tensor::new(Dtype::I64, shape, bytes).expect("data fills shape")
    }

    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    pub fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// The same elements under another shape of equal length.
    pub fn reshaped(&self, shape: impl Into<Shape>) -> Result<Tensor> {
        Tensor::new(self.dtype, shape, self.data.clone())
    }

    pub fn view(&self) -> TensorView<'_> {
        TensorView { dtype: self.dtype, shape: self.shape.clone(), data: &self.data }
    }

    /// All elements as f32; see [`TensorView::to_f32`].
    pub fn to_f32(&self) -> Vec<f32> {
        match self.dtype {
            Dtype::F32 => {
                self.data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
            }
            _ => self.view().to_f32(),
        }
    }

    /// All elements as f64; see [`TensorView::to_f64`].
    pub fn to_f64(&self) -> Vec<f64> {
        self.view().to_f64()
    }

    /// All elements as i64; see [`TensorView::to_i64`].
    pub fn to_i64(&self) -> Vec<i64> {
        self.view().to_i64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_byte_count_is_an_error() {
        let e = Tensor::new(Dtype::F32, [2, 3], vec![0u8; 23]).unwrap_err();
        assert_eq!(e.to_string(), "tensor f32[2, 3]: expected 24 bytes, found 23 bytes");
        assert!(Tensor::new(Dtype::F64, vec![usize::MAX, 2], vec![]).is_err());
    }

    #[test]
    fn conversions() {
        let t = Tensor::new(Dtype::F16, [2], vec![0x00, 0x3c, 0x00, 0xc0]).unwrap();
        assert_eq!(t.to_f32(), [1.0, -2.0]);
        assert_eq!(Tensor::from_i64([2], &[3, -4]).to_f32(), [3.0, -4.0]);
        assert_eq!(Shape::from([2, 3, 4]).strides(), [12, 4, 1]);
    }
}

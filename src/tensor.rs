//! Dtype, Shape, Tensor, TensorView: elements with a type and a shape. No arithmetic lives here.

use std::fmt;
use std::sync::Arc;

use zerocopy::IntoBytes;

use crate::error::{Error, Result};

/// Element type of a tensor. Little-endian in memory and on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
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
    /// A copy of all elements as f32 (f16, bf16, f64 and integers are converted).
    pub fn to_f32(&self) -> Vec<f32> {
        match self.dtype {
            Dtype::F32 => {
                copies::count(self.data.len());
                self.data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
            }
            _ => self.to_f64().into_iter().map(|x| x as f32).collect(),
        }
    }

    /// A copy of all elements as f64. Integers above 2^53 lose precision.
    pub fn to_f64(&self) -> Vec<f64> {
        copies::count(self.data.len());
        macro_rules! read {
            ($t:ty, $conv:expr) => {
                self.data.as_chunks().0.iter().map(|b| $conv(<$t>::from_le_bytes(*b))).collect()
            };
        }
        match self.dtype {
            Dtype::Bool | Dtype::U8 => read!(u8, f64::from),
            Dtype::I8 => read!(i8, f64::from),
            Dtype::I16 => read!(i16, f64::from),
            Dtype::I32 => read!(i32, f64::from),
            Dtype::I64 => read!(i64, |x| x as f64),
            Dtype::F16 => read!(u16, |x| half::f16::from_bits(x).to_f64()),
            Dtype::BF16 => read!(u16, |x| half::bf16::from_bits(x).to_f64()),
            Dtype::F32 => read!(f32, f64::from),
            Dtype::F64 => read!(f64, |x| x),
        }
    }

    /// A copy of all elements as i64 (floats are truncated).
    pub fn to_i64(&self) -> Vec<i64> {
        match self.dtype {
            Dtype::I64 => {
                copies::count(self.data.len());
                self.data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()
            }
            _ => self.to_f64().into_iter().map(|x| x as i64).collect(),
        }
    }

    /// An owned copy.
    pub fn to_tensor(&self) -> Tensor {
        let elements = match self.dtype {
            Dtype::F32 => Elements::F32(self.to_f32().into()),
            Dtype::I64 => Elements::I64(self.to_i64().into()),
            _ => Elements::Other(self.data.into()),
        };
        Tensor { dtype: self.dtype, shape: self.shape.clone(), elements }
    }
}

/// An owned tensor: row-major, contiguous. Cloning shares the elements. f32 and i64, which networks read and write,
/// are held as what they are and are borrowed without a copy.
#[derive(Clone)]
pub struct Tensor {
    dtype: Dtype,
    shape: Shape,
    elements: Elements,
}

#[derive(Clone)]
enum Elements {
    F32(Arc<Vec<f32>>),
    I64(Arc<Vec<i64>>),
    /// The bytes of any other dtype.
    Other(Arc<[u8]>),
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({}{})", self.dtype, self.shape)
    }
}

/// Equal are the same bytes under the same dtype and shape: a NaN equals itself, -0 is not 0.
impl PartialEq for Tensor {
    fn eq(&self, other: &Tensor) -> bool {
        self.dtype == other.dtype && self.shape == other.shape && self.bytes() == other.bytes()
    }
}

impl Tensor {
    /// A tensor of little-endian bytes; f32 and i64 are copied out of them.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the byte count does not fit dtype and shape.
    pub fn new(dtype: Dtype, shape: impl Into<Shape>, data: impl Into<Arc<[u8]>>) -> Result<Tensor> {
        let (shape, data) = (shape.into(), data.into());
        check_size(dtype, &shape, data.len())?;
        match dtype {
            Dtype::F32 | Dtype::I64 => Ok(TensorView { dtype, shape, data: &data }.to_tensor()),
            _ => Ok(Tensor { dtype, shape, elements: Elements::Other(data) }),
        }
    }

    /// An f32 tensor with a copy of `data`. Panics when it does not fill `shape` (a bug of the caller in this crate).
    #[doc(hidden)]
    pub fn from_f32(shape: impl Into<Shape>, data: &[f32]) -> Tensor {
        copies::count(size_of_val(data));
        Tensor::from_f32_vec(shape, data.to_vec())
    }

    /// An i64 tensor with a copy of `data`. Panics when it does not fill `shape` (a bug of the caller in this crate).
    #[doc(hidden)]
    pub fn from_i64(shape: impl Into<Shape>, data: &[i64]) -> Tensor {
        copies::count(size_of_val(data));
        Tensor::from_i64_vec(shape, data.to_vec())
    }

    /// An f32 tensor of these elements, without a copy. Panics as [`Tensor::from_f32`].
    #[doc(hidden)]
    pub fn from_f32_vec(shape: impl Into<Shape>, data: Vec<f32>) -> Tensor {
        let shape = shape.into();
        assert_eq!(shape.checked_len(), Some(data.len()), "data fills shape {shape}");
        Tensor { dtype: Dtype::F32, shape, elements: Elements::F32(data.into()) }
    }

    /// An i64 tensor of these elements, without a copy. Panics as [`Tensor::from_i64`].
    #[doc(hidden)]
    pub fn from_i64_vec(shape: impl Into<Shape>, data: Vec<i64>) -> Tensor {
        let shape = shape.into();
        assert_eq!(shape.checked_len(), Some(data.len()), "data fills shape {shape}");
        Tensor { dtype: Dtype::I64, shape, elements: Elements::I64(data.into()) }
    }

    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The elements as they lie in memory: `shape.len() * dtype.size()` bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.elements {
            Elements::F32(data) => data.as_bytes(),
            Elements::I64(data) => data.as_bytes(),
            Elements::Other(data) => data,
        }
    }

    /// The elements of an f32 tensor, where they lie.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for any other dtype.
    pub fn f32s(&self) -> Result<&[f32]> {
        match &self.elements {
            Elements::F32(data) => Ok(data),
            _ => Err(self.not(Dtype::F32)),
        }
    }

    /// The elements of an i64 tensor, where they lie.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for any other dtype.
    pub fn i64s(&self) -> Result<&[i64]> {
        match &self.elements {
            Elements::I64(data) => Ok(data),
            _ => Err(self.not(Dtype::I64)),
        }
    }

    fn not(&self, expected: Dtype) -> Error {
        Error::invalid("elements of a tensor", expected.name(), format!("{}{}", self.dtype, self.shape))
    }

    /// The same elements under another shape, shared.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a shape of another length.
    pub fn reshaped(&self, shape: impl Into<Shape>) -> Result<Tensor> {
        let shape = shape.into();
        check_size(self.dtype, &shape, self.bytes().len())?;
        Ok(Tensor { shape, ..self.clone() })
    }

    #[doc(hidden)]
    pub fn view(&self) -> TensorView<'_> {
        TensorView { dtype: self.dtype, shape: self.shape.clone(), data: self.bytes() }
    }

    /// A copy of all elements as f32; see [`TensorView::to_f32`].
    pub fn to_f32(&self) -> Vec<f32> {
        self.view().to_f32()
    }

    /// A copy of all elements as f64; see [`TensorView::to_f64`].
    pub fn to_f64(&self) -> Vec<f64> {
        self.view().to_f64()
    }

    /// A copy of all elements as i64; see [`TensorView::to_i64`].
    pub fn to_i64(&self) -> Vec<i64> {
        self.view().to_i64()
    }
}

fn check_size(dtype: Dtype, shape: &Shape, found: usize) -> Result<()> {
    let bytes = shape.checked_len().and_then(|n| n.checked_mul(dtype.size()));
    if bytes == Some(found) {
        return Ok(());
    }
    let expected = match bytes {
        Some(n) => format!("{n} bytes"),
        None => "a size that fits the address space".into(),
    };
    Err(Error::invalid(format!("tensor {dtype}{shape}"), expected, format!("{found} bytes")))
}

/// Integers of a graph as u32, exactly.
///
/// # Errors
/// [`Error::Internal`] for one that is none.
pub(crate) fn to_u32(integers: &[i64]) -> Result<Vec<u32>> {
    let exact = |&i| u32::try_from(i).map_err(|_| Error::internal(format!("expected a u32, found {i}")));
    integers.iter().map(exact).collect()
}

/// Bytes of elements that were copied on this thread, for tests of what must not be copied.
pub(crate) mod copies {
    #[cfg(test)]
    thread_local! {
        static BYTES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }

    pub(super) fn count(_bytes: usize) {
        #[cfg(test)]
        BYTES.set(BYTES.get() + _bytes);
    }

    /// What `work` gives, and the bytes of elements that it copied.
    #[cfg(test)]
    pub fn of<T>(work: impl FnOnce() -> T) -> (T, usize) {
        let before = BYTES.get();
        let result = work();
        (result, BYTES.get() - before)
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

    #[test]
    fn elements_are_borrowed_and_shared() {
        let numbers = vec![1.5f32, -0.0, f32::NAN];
        let at = numbers.as_ptr();
        let ((t, again), copied) = copies::of(|| {
            let t = Tensor::from_f32_vec([3], numbers);
            let again = t.clone().reshaped([3, 1]).unwrap();
            (t, again)
        });
        assert_eq!(copied, 0);
        assert_eq!([t.f32s().unwrap().as_ptr(), again.f32s().unwrap().as_ptr()], [at, at]);
        assert_eq!(t.bytes().as_ptr(), at.cast());
        assert_eq!(copies::of(|| t.to_f32()).1, 12);
        assert_eq!(copies::of(|| Tensor::from_f32([1], &[1.0])).1, 4);

        let same = Tensor::new(Dtype::F32, [3], t.bytes()).unwrap();
        assert_eq!(same, t, "bit for bit, NaN as well");
        assert_ne!(Tensor::from_f32([1], &[0.0]), Tensor::from_f32([1], &[-0.0]));
        assert_ne!(t, again, "another shape");
        assert_eq!(t.i64s().unwrap_err().to_string(), "elements of a tensor: expected i64, found f32[3]");
        assert!(Tensor::new(Dtype::U8, [1], [7u8]).unwrap().f32s().is_err());
    }

    /// f32 holds integers up to 2^24.
    #[test]
    fn large_integers_stay_what_they_are() {
        let ids = [(1 << 24) + 1, i64::from(u32::MAX), i64::MAX, i64::MIN + 1];
        let t = Tensor::from_i64([4], &ids);
        let again = Tensor::new(Dtype::I64, [4], t.bytes()).unwrap();
        assert_eq!(t.i64s().unwrap(), ids);
        assert_eq!(again.i64s().unwrap(), ids);
        assert_eq!(again.view().to_tensor().to_i64(), ids);
        assert_eq!(to_u32(&ids[..2]).unwrap(), [(1 << 24) + 1, u32::MAX]);
        for bad in [-1, 1 << 32] {
            let message = to_u32(&[0, bad]).unwrap_err().to_string();
            assert!(message.ends_with(&format!("expected a u32, found {bad}")), "{message}");
        }
    }
}

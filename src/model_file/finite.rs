//! Weights that no picture could be made of are refused before a model file is written.

use crate::error::{Error, Result};
use crate::tensor::{Dtype, TensorView};

/// Values whose bits are compared at once; blocks without a branch inside are what the compiler makes vectors of.
const BLOCK: usize = 4096;
/// Least value that rounds to infinity in f16.
const F16_OVERFLOW: f32 = 65520.0;

/// Refuse a tensor with NaN, infinite values or such as its stored dtype cannot hold. Nothing is copied.
///
/// # Errors
/// `TensorMismatch` with the first such value, its index and their number.
pub(crate) fn require_finite(name: &str, view: &TensorView, stored: Dtype, file: &str) -> Result<()> {
    let narrow = stored == Dtype::F16 && view.dtype != Dtype::F16;
    let Some((first, count)) = not_finite(view, if narrow { F16_OVERFLOW } else { f32::INFINITY }) else {
        return Ok(());
    };
    let (mut index, mut rest) = (Vec::new(), first);
    for stride in view.shape.strides() {
        index.push(rest / stride.max(1));
        rest %= stride.max(1);
    }
    let size = view.dtype.size();
    let value = TensorView { dtype: view.dtype, shape: [1].into(), data: &view.data[first * size..][..size] };
    let expected = match narrow {
        true => "finite values, for f16 of at most 65504",
        false => "finite values",
    };
    Err(Error::TensorMismatch {
        name: name.into(),
        expected: expected.into(),
        found: format!("{} at {index:?}, {count} such in {}{}", value.to_f32()[0], view.dtype, view.shape),
        file: file.into(),
    })
}

/// Index of the first value that is NaN or of a magnitude of `limit` or more, and how many are.
fn not_finite(view: &TensorView, limit: f32) -> Option<(usize, usize)> {
    let single = limit.to_bits();
    // Of numbers without their sign, bits are in the order of values, and NaN is above infinity.
    match view.dtype {
        Dtype::F32 => find::<4>(view.data, |v| u32::from_le_bytes(v) & 0x7fff_ffff >= single),
        Dtype::BF16 => find::<2>(view.data, |v| u32::from(u16::from_le_bytes(v) & 0x7fff) << 16 >= single),
        Dtype::F16 => find::<2>(view.data, |v| u16::from_le_bytes(v) & 0x7fff >= 0x7c00),
        // It is stored narrower, which its values must survive.
        Dtype::F64 => {
            find::<8>(view.data, |v| (f64::from_le_bytes(v) as f32).to_bits() & 0x7fff_ffff >= single)
        }
        _ => None,
    }
}

fn find<const N: usize>(data: &[u8], bad: impl Fn([u8; N]) -> bool) -> Option<(usize, usize)> {
    let (values, _) = data.as_chunks::<N>();
    let count = values.chunks(BLOCK).map(|block| block.iter().filter(|value| bad(**value)).count()).sum();
    match count {
        0 => None,
        count => Some((values.iter().position(|value| bad(*value))?, count)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Shape;

    fn message(dtype: Dtype, data: &[u8], stored: Dtype) -> Option<String> {
        let shape = Shape::from([2, data.len() / dtype.size() / 2]);
        let view = TensorView { dtype, shape, data };
        require_finite("w", &view, stored, "x.pth").err().map(|e| e.to_string())
    }

    #[test]
    fn the_first_value_and_the_number_are_told() {
        let mut values = vec![1.0f32; 10_000];
        let bytes = |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
        assert_eq!(message(Dtype::F32, &bytes(&values), Dtype::F32), None);
        values[5003] = -f32::NAN;
        values[9999] = f32::NEG_INFINITY;
        assert_eq!(
            message(Dtype::F32, &bytes(&values), Dtype::I8).unwrap(),
            "tensor 'w': expected finite values, found NaN at [1, 3], 2 such in f32[2, 5000] in x.pth"
        );
    }

    #[test]
    fn every_dtype_and_what_f16_cannot_hold() {
        for good in [0.0, -65504.0, f32::MIN_POSITIVE, 65519.0] {
            assert_eq!(message(Dtype::F32, &[good, 1.0].map(f32::to_le_bytes).concat(), Dtype::F16), None);
        }
        let large = [1.0, -65520.0f32].map(f32::to_le_bytes).concat();
        assert_eq!(message(Dtype::F32, &large, Dtype::F32), None);
        let e = message(Dtype::F32, &large, Dtype::F16).unwrap();
        assert!(
            e.contains("expected finite values, for f16 of at most 65504, found -65520 at [1, 0]"),
            "{e}"
        );
        let half = [half::f16::MAX, half::f16::NEG_INFINITY].map(half::f16::to_le_bytes).concat();
        assert!(message(Dtype::F16, &half, Dtype::F16).unwrap().contains("found -inf at [1, 0]"));
        assert_eq!(message(Dtype::F16, &half[..2].repeat(2), Dtype::F16), None);
        let brain = [half::bf16::MAX, half::bf16::NAN].map(half::bf16::to_le_bytes).concat();
        assert!(message(Dtype::BF16, &brain, Dtype::BF16).unwrap().contains("found NaN at [1, 0]"));
        let double = [1.0, 1e300f64].map(f64::to_le_bytes).concat();
        assert!(message(Dtype::F64, &double, Dtype::F32).unwrap().contains("found inf at [1, 0]"));
        assert_eq!(message(Dtype::I64, &[0xff; 16], Dtype::I64), None);
    }
}

//! Operands of operators as slices.

use ort::value::PrimitiveTensorElementType;
use ort::value::{DynValueTypeMarker, ValueRef};

/// The elements of an operand.
///
/// # Errors
/// `wrong`, of what is expected, where it has not `n` of them; the runtime's.
pub(super) fn elements_of<'a, T: PrimitiveTensorElementType>(
    value: &'a ValueRef<'_, DynValueTypeMarker>,
    n: usize,
    wrong: fn(&str) -> ort::Error,
) -> ort::Result<&'a [T]> {
    let (_, data) = value.try_extract_tensor::<T>()?;
    if data.len() == n { Ok(data) } else { Err(wrong("operands that fit each other")) }
}

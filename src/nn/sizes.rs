//! Rules that sizes in a configuration obey, and their errors: `file` and `key` say whose size it is.

use crate::error::{Error, Result};

/// Largest value any size in a configuration may have; keeps products far from overflow.
pub(crate) const SIZE_LIMIT: usize = 1 << 20;

/// Refuse a size outside 1..=`limit`.
pub(crate) fn check_size(file: &str, key: &str, size: usize, limit: usize) -> Result<()> {
    if (1..=limit).contains(&size) {
        return Ok(());
    }
    Err(wrong(file, key, format!("1 to {limit}"), size))
}

/// Refuse a size that does not divide another one, `of`.
pub(crate) fn check_divisor(file: &str, key: &str, size: usize, of: &str, whole: usize) -> Result<()> {
    if whole.is_multiple_of(size) {
        return Ok(());
    }
    Err(wrong(file, key, format!("a divisor of {of} {whole}"), size))
}

/// The error for a value of `key` that is not `expected`.
pub(crate) fn wrong(
    file: &str,
    key: &str,
    expected: impl Into<String>,
    found: impl std::fmt::Display,
) -> Error {
    let found = found.to_string();
    Error::Config { file: file.into(), key: key.into(), expected: expected.into(), found }
}

/// Refuse pictures of other channels than red, green, blue, and alpha.
pub(crate) fn check_channels(file: &str, key: &str, channels: usize) -> Result<()> {
    match channels {
        3 | 4 => Ok(()),
        _ => Err(wrong(file, key, "3, or 4 with alpha", channels)),
    }
}

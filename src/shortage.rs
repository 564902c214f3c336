//! What is done when memory is short. Rust ends the process when an allocation fails, which a library must not do to its
//! host, so
//!
//! - buffers whose size comes from a request or a file are reserved fallibly ([`filled`], [`copied`]), and never in the
//!   reserve below ([`is_fallible`]);
//! - before ONNX Runtime is given work, in whose threads a failed allocation ends the process, [`room`] looks whether the
//!   memory can be had;
//! - `libsoftdimo` has an allocator that serves everything else from a reserve, and [`note`]s it: the call that did so ends
//!   with [`Error::Exhausted`] at its next [`check`], which gives back what it took.

use std::cell::Cell;

use crate::error::{Error, Result};

thread_local! {
    static SPENT: Cell<bool> = const { Cell::new(false) };
    static FALLIBLE: Cell<bool> = const { Cell::new(false) };
}

/// This thread was served from the reserve. Allocates nothing.
pub fn note() {
    // A thread that is being torn down checks nothing any more.
    let _ = SPENT.try_with(|spent| spent.set(true));
}

/// Whether this thread was, since the last look, which this is none of.
pub fn noted() -> bool {
    SPENT.try_with(Cell::get).unwrap_or(false)
}

/// Forget what earlier work of this thread noted.
pub fn forget() {
    let _ = SPENT.try_with(|spent| spent.set(false));
}

/// Whether this thread can do without what it is allocating: an allocator then serves it from no reserve. Allocates nothing.
pub fn is_fallible() -> bool {
    FALLIBLE.try_with(Cell::get).unwrap_or(false)
}

/// That nothing was noted since the last look.
///
/// # Errors
/// [`Error::Exhausted`].
pub fn check(what: &str) -> Result<()> {
    match SPENT.try_with(|spent| spent.replace(false)) {
        Ok(true) => Err(Error::Exhausted { what: what.into(), bytes: 0 }),
        _ => Ok(()),
    }
}

/// `result`, unless making it took from the reserve.
///
/// # Errors
/// As [`check`], and those of `result`.
pub fn checked<T>(what: &str, result: Result<T>) -> Result<T> {
    let value = result?;
    check(what)?;
    Ok(value)
}

/// That `bytes` can be had at this moment: they are mapped and given back, untouched. Says nothing about a cgroup's limit,
/// which only pages that are written to meet.
///
/// # Errors
/// [`Error::Exhausted`].
pub fn room(what: &str, bytes: u64) -> Result<()> {
    let exhausted = || Error::Exhausted { what: what.into(), bytes };
    let length = usize::try_from(bytes.max(1)).map_err(|_| exhausted())?;
    let map = memmap2::MmapOptions::new().len(length).no_reserve_swap().map_anon();
    map.map(drop).map_err(|_| exhausted())
}

/// `n` times `value`.
///
/// # Errors
/// [`Error::Exhausted`].
pub fn filled<T: Clone>(what: &str, n: usize, value: T) -> Result<Vec<T>> {
    let mut values = reserved(what, n)?;
    values.resize(n, value);
    Ok(values)
}

/// A copy of `values`.
///
/// # Errors
/// [`Error::Exhausted`].
pub fn copied<T: Copy>(what: &str, values: &[T]) -> Result<Vec<T>> {
    let mut copy = reserved(what, values.len())?;
    copy.extend_from_slice(values);
    Ok(copy)
}

/// The `n` values that `values` yields.
///
/// # Errors
/// [`Error::Exhausted`].
pub fn collected<T>(what: &str, n: usize, values: impl IntoIterator<Item = T>) -> Result<Vec<T>> {
    let mut all = reserved(what, n)?;
    all.extend(values.into_iter().take(n));
    Ok(all)
}

/// An empty vector with room for `n` values.
///
/// # Errors
/// [`Error::Exhausted`].
pub fn reserved<T>(what: &str, n: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    let bytes = (n as u64).saturating_mul(size_of::<T>() as u64);
    fallibly(|| values.try_reserve_exact(n)).map_err(|_| Error::Exhausted { what: what.into(), bytes })?;
    Ok(values)
}

/// Do what allocates fallibly, with no help of a reserve.
pub(crate) fn fallibly<T>(work: impl FnOnce() -> T) -> T {
    let _ = FALLIBLE.try_with(|fallible| fallible.set(true));
    let done = work();
    let _ = FALLIBLE.try_with(|fallible| fallible.set(false));
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_an_error() {
        let huge = 1 << 60;
        let text = "a test: needs 1152921504606846976 bytes more, found no such memory free";
        assert_eq!(room("a test", huge).unwrap_err().to_string(), text);
        assert_eq!(reserved::<u8>("a test", huge as usize).unwrap_err().to_string(), text);
        assert!(room("a test", u64::MAX).is_err() && filled("a test", usize::MAX, 0_u64).is_err());
        room("a test", 1 << 20).unwrap();
        assert_eq!(filled("a test", 3, 7).unwrap(), [7; 3]);
        assert_eq!(copied("a test", &[1, 2]).unwrap(), [1, 2]);
        assert_eq!(collected("a test", 2, 5..).unwrap(), [5, 6]);
        assert!(!is_fallible());
    }

    #[test]
    fn a_note_is_told_once_and_only_to_its_thread() {
        note();
        assert!(std::thread::spawn(|| check("elsewhere")).join().unwrap().is_ok());
        assert_eq!(checked("here", Ok(1)).unwrap_err().to_string(), "here: found no more memory free");
        check("here").unwrap();
        note();
        forget();
        check("here").unwrap();
    }
}

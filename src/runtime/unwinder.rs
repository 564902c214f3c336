//! The unwinder is ready before it is needed. glibc loads libgcc_s for itself when an exception first passes through one
//! of its functions, and ends the process ("libgcc_s.so.1 must be installed for unwinding to work") where there is no
//! memory for that: a `std::bad_alloc` inside ONNX Runtime is just such an exception, at just such a moment.

use crate::error::Result;

/// Have the C library load its unwinder. Costs microseconds once it is there.
///
/// # Errors
/// [`Error::Exhausted`] where it cannot.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
pub(super) fn warm() -> Result<()> {
    let mut frames = [std::ptr::null_mut(); 2];
    // SAFETY: the buffer has room for as many frames.
    match unsafe { libc::backtrace(frames.as_mut_ptr(), 2) } {
        0 => Err(crate::error::Error::Exhausted { what: "loading the unwinder".into(), bytes: 0 }),
        _ => Ok(()),
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn warm() -> Result<()> {
    Ok(())
}

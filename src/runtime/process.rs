//! Which process this is: ONNX Runtime does not survive a fork.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Error, Result};

/// The process that first opened an engine; 0 before that.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// [`Error::Forked`] in a forked child of the process that first opened an engine: ONNX Runtime and this
/// library's locks are not usable there.
pub fn check_process() -> Result<()> {
    match PROCESS.load(Ordering::SeqCst) {
        0 => Ok(()),
        parent if parent == std::process::id() => Ok(()),
        parent => Err(Error::Forked { parent }),
    }
}

/// This process opens an engine; the first to do so is the one where engines work.
pub(crate) fn claim() -> Result<()> {
    let _ = PROCESS.compare_exchange(0, std::process::id(), Ordering::SeqCst, Ordering::SeqCst);
    check_process()
}

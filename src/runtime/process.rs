//! Which process this is, and whether the threads of engines are there: ONNX Runtime does not survive a fork, and on
//! Windows the end of a process begins with the end of all other threads.

use std::fs::Metadata;
use std::sync::atomic::{AtomicU32, Ordering};

use super::loader;
use crate::error::{Error, Result};

/// The process that first opened an engine; 0 before that.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// [`Error::Forked`] in a forked child of the process that first opened an engine: ONNX Runtime and this
/// library's locks are not usable there. [`Error::Cancelled`] where the process has ended but for this thread, as in a
/// destructor of a library on Windows: locks may be held by threads that are gone.
pub fn check_process() -> Result<()> {
    match PROCESS.load(Ordering::SeqCst) {
        0 => Ok(()),
        opener => check_opener(opener),
    }
}

/// The same of what the process `opener` made.
pub(crate) fn check_opener(opener: u32) -> Result<()> {
    if opener != std::process::id() {
        return Err(Error::Forked { parent: opener });
    }
    if is_over() { Err(Error::Cancelled) } else { Ok(()) }
}

/// This process opens an engine; the first to do so is the one where engines work. From here on threads may run in this
/// code, which stays mapped.
pub(crate) fn claim() -> Result<()> {
    let _ = PROCESS.compare_exchange(0, std::process::id(), Ordering::SeqCst, Ordering::SeqCst);
    check_process()?;
    loader::pin()
}

/// The owner of a file that is neither this process's user's nor the administrator's.
#[cfg(unix)]
#[allow(unsafe_code)]
pub(crate) fn foreign_owner(found: &Metadata) -> Option<u32> {
    let owner = std::os::unix::fs::MetadataExt::uid(found);
    // SAFETY: the call has no preconditions.
    let us = unsafe { libc::geteuid() };
    (owner != us && owner != 0).then_some(owner)
}

/// Whoever may write into the user's folder there is told from the user by the system alone.
#[cfg(not(unix))]
pub(crate) fn foreign_owner(_: &Metadata) -> Option<u32> {
    None
}

/// Whether all other threads have been ended, so that libraries are told of the end by the last one.
#[cfg(windows)]
#[allow(unsafe_code)]
fn is_over() -> bool {
    // By its name alone: no import library needs to have it.
    #[link(name = "ntdll", kind = "raw-dylib")]
    unsafe extern "system" {
        // In every Windows since 2000, and in no header: it reads one byte.
        safe fn RtlDllShutdownInProgress() -> u8;
    }
    RtlDllShutdownInProgress() != 0
}

/// Elsewhere threads run until there is no process.
#[cfg(not(windows))]
fn is_over() -> bool {
    false
}

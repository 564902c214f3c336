//! The heap of the process, which ONNX Runtime shares with its host.

/// Give freed heap pages back to the system where the C library can.
#[allow(unsafe_code)]
pub(crate) fn release_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim only returns free pages; it has no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}

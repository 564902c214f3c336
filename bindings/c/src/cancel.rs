//! `pthread_cancel` of a thread that is inside a call takes effect after the call. The C library would unwind the thread at its
//! next write or wait, through frames that hold locks and that others wait for.

/// This thread is not cancelled until the guard is dropped.
pub(super) struct Deferred(#[cfg(target_os = "linux")] std::ffi::c_int);

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::c_int;

    use super::Deferred;

    /// `PTHREAD_CANCEL_DISABLE` of glibc and musl.
    const DISABLE: c_int = 1;

    unsafe extern "C" {
        // POSIX; the libc crate does not declare it for Linux.
        fn pthread_setcancelstate(state: c_int, before: *mut c_int) -> c_int;
    }

    impl Deferred {
        pub fn new() -> Deferred {
            let mut before = 0;
            // SAFETY: a state that POSIX defines, and a place for the one before.
            unsafe { pthread_setcancelstate(DISABLE, &mut before) };
            Deferred(before)
        }
    }

    impl Drop for Deferred {
        fn drop(&mut self) {
            let mut disabled = 0;
            // SAFETY: as above. This is no point at which a thread is cancelled.
            unsafe { pthread_setcancelstate(self.0, &mut disabled) };
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Deferred {
    pub fn new() -> Deferred {
        Deferred()
    }
}

//! Writing under a limit of a file's size (`ulimit -f`). What exceeds it raises SIGXFSZ, which ends a process that does not
//! expect it; here it is the error of the write alone, and the host's handler and mask stay as they are.

use std::fs::File;
use std::io::{Result, Seek, SeekFrom, Write};

/// A file whose writes raise no signal.
#[derive(Debug)]
pub(crate) struct Limited<'a>(pub &'a File);

impl Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        without_signal(|| self.0.write(bytes))
    }

    fn flush(&mut self) -> Result<()> {
        self.0.flush()
    }
}

impl Seek for Limited<'_> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        self.0.seek(to)
    }
}

/// Block SIGXFSZ in this thread, which is the one it is sent to, and take back what `write` has raised.
#[cfg(unix)]
#[allow(unsafe_code)]
fn without_signal<T>(write: impl FnOnce() -> Result<T>) -> Result<T> {
    use std::ptr::null_mut;
    // SAFETY: plain libc calls on sets that live on this stack; the old mask is restored below.
    unsafe {
        let mut signal = std::mem::zeroed::<libc::sigset_t>();
        let mut before = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&mut signal);
        libc::sigaddset(&mut signal, libc::SIGXFSZ);
        libc::pthread_sigmask(libc::SIG_BLOCK, &signal, &mut before);
        let is_pending = || {
            let mut pending = std::mem::zeroed::<libc::sigset_t>();
            libc::sigpending(&mut pending) == 0 && libc::sigismember(&pending, libc::SIGXFSZ) == 1
        };
        // One that the host has blocked and not looked at is the host's.
        let was_pending = is_pending();
        let result = write();
        let exceeded = result.as_ref().is_err_and(|e| e.raw_os_error() == Some(libc::EFBIG));
        if exceeded && !was_pending && is_pending() {
            let mut taken = 0;
            libc::sigwait(&signal, &mut taken);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, null_mut());
        result
    }
}

#[cfg(not(unix))]
fn without_signal<T>(write: impl FnOnce() -> Result<T>) -> Result<T> {
    write()
}

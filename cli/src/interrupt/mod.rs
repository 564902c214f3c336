//! SIGINT, SIGTERM, SIGHUP, and the limit of processor time; on Windows Ctrl-C, Ctrl-Break, and the end of the console. Work
//! that has something to hand over is asked to end; everything else ends here, and leaves no file behind that is not whole. A
//! second signal ends the program at once.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use softdimo::atomic_file::abandon_all;

#[cfg(unix)]
pub use self::unix::{outlive_size_limits, watch};
#[cfg(windows)]
pub use self::windows::{outlive_size_limits, watch};

/// The first signal, by its number on Unix; 0 before it.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// Somebody looks at [`interrupted`], and ends.
static HANDED_OVER: AtomicBool = AtomicBool::new(false);

/// What a signal does: the first one is left to whoever looks, if somebody does.
fn caught(signal: i32) {
    let first = SIGNAL.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst).is_ok();
    if !first || !HANDED_OVER.load(Ordering::SeqCst) {
        abandon_all();
        std::process::exit(status(signal));
    }
}

/// Until the guard is dropped, the first signal only shows in [`interrupted`].
pub fn hand_over() -> HandOver {
    HANDED_OVER.store(true, Ordering::SeqCst);
    HandOver
}

/// See [`hand_over`].
pub struct HandOver;

impl Drop for HandOver {
    fn drop(&mut self) {
        HANDED_OVER.store(false, Ordering::SeqCst);
    }
}

/// Whether there was a signal.
pub fn interrupted() -> bool {
    SIGNAL.load(Ordering::SeqCst) != 0
}

/// End here after a signal, once everything is handed over: an engine may take long to let go of what it prepares.
pub fn end_if_interrupted() {
    if interrupted() {
        std::process::exit(status(SIGNAL.load(Ordering::SeqCst)));
    }
}

/// What a shell reports of a program that a signal ended; success if there was none.
pub fn exit_code() -> ExitCode {
    match SIGNAL.load(Ordering::SeqCst) {
        0 => ExitCode::SUCCESS,
        signal => ExitCode::from(status(signal) as u8),
    }
}

fn status(signal: i32) -> i32 {
    128 + signal
}

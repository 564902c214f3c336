//! SIGINT, SIGTERM, SIGHUP, and the limit of processor time. Work that has something to hand over is asked to end; everything
//! else ends here, and leaves no file behind that is not whole. A second signal ends the program at once.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use softdimo::atomic_file::abandon_all;

/// The first signal; 0 before it.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// Somebody looks at [`interrupted`], and ends.
static HANDED_OVER: AtomicBool = AtomicBool::new(false);

/// Have signals end the program as above, but for those that it was started to ignore, as by `nohup` and in the background of
/// a script. Where no thread can be had, they do so in the system's way.
pub fn watch() {
    #[cfg(unix)]
    {
        let mut signals = vec![libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGXCPU];
        signals.retain(|signal| !is_ignored(*signal));
        let (ready, caught) = std::sync::mpsc::channel();
        // Signals are caught by the thread itself: once they are, somebody looks.
        let look = move || {
            let Ok(mut signals) = signal_hook::iterator::Signals::new(signals) else { return };
            drop(ready);
            for signal in signals.forever() {
                let first = SIGNAL.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst).is_ok();
                if !first || !HANDED_OVER.load(Ordering::SeqCst) {
                    abandon_all();
                    std::process::exit(status(signal));
                }
            }
        };
        let _ = std::thread::Builder::new().name("signals".into()).spawn(look);
        // Nothing is ever sent: once the other end is gone, signals are caught, or there is no thread.
        let _: Result<(), _> = caught.recv();
    }
}

/// Writing beyond a limit (`ulimit -f`) is an error that is told, after which nothing is left behind; not the end.
pub fn outlive_size_limits() {
    #[cfg(unix)]
    // SAFETY: ignoring a signal needs nothing.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    // SAFETY: only asks; the structure is plain data, which the call fills.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
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

//! The handler of `atexit`.

use std::sync::TryLockError;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::super::process::check_process;
use super::super::statics;
use super::{CLOSING, INSIDE, IS_INSIDE, LEFT};

/// Most times the handler is installed where objects may be built after it; what has not been built by then is not
/// built any more.
const INSTALLS: u32 = 256;

/// Longest wait for the threads of engines, for what is left of a node or of a session's preparation: an exit takes no
/// longer than a second.
const PATIENCE: Duration = Duration::from_millis(800);

/// The same where a thread that is left inside would crash.
const SAFETY: Duration = Duration::from_secs(60);

/// Run before every destructor that has been registered so far.
#[allow(unsafe_code)]
pub(crate) fn install() {
    static INSTALLED: AtomicU32 = AtomicU32::new(0);
    extern "C" fn handler() {
        // A forked child never had workers, and may have inherited locked mutexes.
        if check_process().is_ok() {
            let _ = std::panic::catch_unwind(close);
        }
    }
    let most = if statics::kept() { 1 } else { INSTALLS };
    if INSTALLED.fetch_add(1, Ordering::SeqCst) < most {
        // SAFETY: the handler is a plain function of this library, which is never unloaded.
        unsafe { libc::atexit(handler) };
    }
}

/// End everything that is under way, let nothing else begin, and wait until every other thread is out.
fn close() {
    if CLOSING.swap(true, Ordering::SeqCst) {
        return;
    }
    let deadline = Instant::now() + if statics::kept() { PATIENCE } else { SAFETY };
    // A host that exits in a signal handler may have interrupted a thread that holds the lock.
    let mut inside = loop {
        match INSIDE.try_lock() {
            Ok(inside) => break inside,
            Err(TryLockError::Poisoned(e)) => break e.into_inner(),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return,
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    inside.calls.iter().for_each(|(_, end)| end());
    // A callback on the thread of an engine may be what exits.
    let own = usize::from(IS_INSIDE.get());
    while inside.threads > own {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        inside = LEFT.wait_timeout(inside, left).unwrap_or_else(|e| e.into_inner()).0;
    }
}

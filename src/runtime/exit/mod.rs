//! The end of the process. At `exit()` a C++ library's static objects are destroyed, so no thread of an engine may be
//! inside ONNX Runtime then, nor enter it afterwards.
//!
//! The handler ends every run and every preparation and waits, once in a process, for the threads to come out. Handlers
//! run in reverse order. Where [`super::statics`] keeps the objects that ONNX Runtime builds on first use, one handler,
//! installed when the library is loaded, comes before all destructors that are left, and a thread that takes longer than
//! `PATIENCE` finds what it uses alive. Elsewhere the handler is installed after a rehearsal that has most of those
//! objects built, and once more after each of the first sessions was prepared and used, and waits as long as a node may
//! take; an exit in the milliseconds in which another thread opens the first engine may crash there. Windows ends
//! processes in another way: `windows.rs`.

#[cfg(not(windows))]
mod handler;
#[cfg(windows)]
mod windows;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};

#[cfg(not(windows))]
pub(crate) use self::handler::install;
#[cfg(windows)]
pub(crate) use self::windows::install;
use crate::error::{Error, Result};

/// The process is exiting. Never unset.
static CLOSING: AtomicBool = AtomicBool::new(false);

static INSIDE: Mutex<Inside> = Mutex::new(Inside { threads: 0, calls: Vec::new(), next: 0 });
static LEFT: Condvar = Condvar::new();

type End = Box<dyn Fn() + Send>;

/// What is under way in ONNX Runtime.
struct Inside {
    threads: usize,
    /// How to end each call that can be ended.
    calls: Vec<(u64, End)>,
    next: u64,
}

thread_local! {
    /// Whether this thread is one of [`Inside::threads`].
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
}

fn lock() -> MutexGuard<'static, Inside> {
    INSIDE.lock().unwrap_or_else(|e| e.into_inner())
}

/// Whether the process is exiting: nothing may enter ONNX Runtime any more.
pub(crate) fn closing() -> bool {
    CLOSING.load(Ordering::SeqCst)
}

/// Let this thread use ONNX Runtime until the guard is dropped; exit waits for that. `None` once the process is
/// exiting.
pub(crate) fn enter() -> Option<Entered> {
    let mut inside = lock();
    if closing() {
        return None;
    }
    inside.threads += 1;
    IS_INSIDE.set(true);
    Some(Entered)
}

/// See [`enter`].
pub(crate) struct Entered;

impl Drop for Entered {
    fn drop(&mut self) {
        lock().threads -= 1;
        IS_INSIDE.set(false);
        LEFT.notify_all();
    }
}

/// Have `end` called when the process exits before the guard is dropped. [`Error::Cancelled`] when it does already.
pub(super) fn ended_by(end: impl Fn() + Send + 'static) -> Result<Call> {
    let mut inside = lock();
    if closing() {
        return Err(Error::Cancelled);
    }
    let id = inside.next;
    inside.next += 1;
    inside.calls.push((id, Box::new(end)));
    Ok(Call(id))
}

/// See [`ended_by`].
pub(super) struct Call(u64);

impl Drop for Call {
    fn drop(&mut self) {
        let mut inside = lock();
        let ended =
            inside.calls.iter().position(|(id, _)| *id == self.0).map(|at| inside.calls.swap_remove(at));
        drop(inside);
        drop(ended);
    }
}

/// To be called after every run of a session: the first one has the runtime build objects that exit must find alive.
/// `used`: whether the session has run before.
pub(super) fn after_run(used: &mut bool) {
    if !std::mem::replace(used, true) {
        install();
    }
}

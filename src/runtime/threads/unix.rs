//! Threads of Unix: signals, and on Linux clocks and priorities.

#![allow(unsafe_code)]

use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// A thread that was spawned.
#[derive(Debug)]
pub struct Thread(JoinHandle<()>);

impl Thread {
    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// Wait for its end. Whether that was none by a panic.
    pub fn join(self) -> bool {
        self.0.join().is_ok()
    }
}

/// With all signals blocked in this thread meanwhile: a new thread inherits the mask from its parent.
pub(super) fn spawn(builder: Builder, run: impl FnOnce() + Send + 'static) -> std::io::Result<Thread> {
    // SAFETY: plain libc calls on sets that live on this stack; the old mask is restored below.
    unsafe {
        let mut all = std::mem::zeroed::<libc::sigset_t>();
        let mut before = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&mut all);
        // Synchronous faults stay deliverable: the host's crash reporter (and the SIGBUS guard) need them.
        for fault in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT, libc::SIGTRAP] {
            libc::sigdelset(&mut all, fault);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let thread = builder.spawn(run);
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        thread.map(Thread)
    }
}

/// The CPU clock of a thread.
#[derive(Debug)]
pub(super) struct Clock(#[cfg(target_os = "linux")] libc::clockid_t);

#[cfg(target_os = "linux")]
impl Clock {
    pub fn of_this_thread() -> Option<Clock> {
        let mut clock = 0;
        // SAFETY: of this thread, into a place for the answer.
        let failed = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &mut clock) };
        (failed == 0).then_some(Clock(clock))
    }

    /// Nothing for a thread that is gone.
    pub fn time(&self) -> Duration {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: into a place for the answer.
        match unsafe { libc::clock_gettime(self.0, &mut time) } {
            0 => Duration::new(time.tv_sec as u64, time.tv_nsec as u32),
            _ => Duration::ZERO,
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Clock {
    pub fn of_this_thread() -> Option<Clock> {
        None
    }

    pub fn time(&self) -> Duration {
        Duration::ZERO
    }
}

/// Add to the niceness of the calling thread only (Linux threads have their own).
pub(super) fn lower_priority(niceness: i32) {
    #[cfg(target_os = "linux")]
    if niceness != 0 {
        // SAFETY: plain syscalls about the calling thread; failing leaves the priority as it was.
        unsafe {
            let thread = libc::syscall(libc::SYS_gettid) as libc::id_t;
            let now = libc::getpriority(libc::PRIO_PROCESS, thread);
            libc::setpriority(libc::PRIO_PROCESS, thread, (now + niceness).min(19));
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = niceness;
}

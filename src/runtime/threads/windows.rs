//! Threads of Windows: their ends, clocks and priorities.

#![allow(unsafe_code)]

use std::os::windows::io::{AsRawHandle, BorrowedHandle, OwnedHandle};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use windows_sys::Win32::Foundation::FILETIME;
use windows_sys::Win32::System::Threading::{
    GetCurrentThread, GetThreadTimes, SetThreadPriority, THREAD_PRIORITY, THREAD_PRIORITY_BELOW_NORMAL,
    THREAD_PRIORITY_IDLE, THREAD_PRIORITY_LOWEST,
};

/// A thread that was spawned.
///
/// The end of a thread is told to every library under the lock of the loader. A host that frees an engine while it holds
/// that lock, as in the destructor of a static object of a library that is unloaded, would wait for ever: so nobody waits
/// longer than until there is nothing left to do. What comes after that runs in code that stays mapped (`loader::pin`).
#[derive(Debug)]
pub struct Thread {
    thread: JoinHandle<()>,
    /// Sent to when all is done, and closed after a panic. A Mutex only to be Sync.
    done: Mutex<Receiver<()>>,
}

impl Thread {
    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Wait until it has nothing left to do. Whether that was none by a panic.
    pub fn join(self) -> bool {
        self.done.into_inner().is_ok_and(|done| done.recv().is_ok())
    }
}

pub(super) fn spawn(builder: Builder, run: impl FnOnce() + Send + 'static) -> std::io::Result<Thread> {
    let (tell, done) = channel();
    let thread = builder.spawn(move || {
        run();
        // Nobody listens where the thread is not waited for.
        let _ = tell.send(());
    })?;
    Ok(Thread { thread, done: Mutex::new(done) })
}

/// The CPU clock of a thread, which goes on to tell its time when the thread has ended. It advances in ticks, of 16 ms at
/// most.
#[derive(Debug)]
pub(super) struct Clock(OwnedHandle);

impl Clock {
    pub fn of_this_thread() -> Option<Clock> {
        // SAFETY: the handle that every thread has of itself, which needs no closing and means another thread in another.
        let own = unsafe { BorrowedHandle::borrow_raw(GetCurrentThread()) };
        own.try_clone_to_owned().ok().map(Clock)
    }

    pub fn time(&self) -> Duration {
        let mut times = [FILETIME::default(); 4];
        let [created, ended, kernel, user] = &mut times;
        // SAFETY: a handle that is open, and places for the answers.
        match unsafe { GetThreadTimes(self.0.as_raw_handle(), created, ended, kernel, user) } {
            0 => Duration::ZERO,
            _ => duration(kernel) + duration(user),
        }
    }
}

/// From steps of 100 ns.
fn duration(time: &FILETIME) -> Duration {
    let steps = u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime);
    Duration::new(steps / 10_000_000, (steps % 10_000_000) as u32 * 100)
}

/// Give the calling thread the priority that stands for `niceness` within the class of the process.
pub(super) fn lower_priority(niceness: i32) {
    if let Some(priority) = priority_of(niceness) {
        // SAFETY: about the calling thread; failing leaves the priority as it was.
        unsafe { SetThreadPriority(GetCurrentThread(), priority) };
    }
}

/// Windows has no shares of a core: of the threads that want one, those of the highest priority take turns, and the others
/// wait, but for a moment every few seconds. One step down lets a host's threads go first, and stands for any niceness
/// that leaves something; two steps, from where on Linux gives a tenth, let those that a host has put one step down go
/// first as well; at 19 anything goes first.
fn priority_of(niceness: i32) -> Option<THREAD_PRIORITY> {
    match niceness {
        ..=0 => None,
        1..=9 => Some(THREAD_PRIORITY_BELOW_NORMAL),
        10..=18 => Some(THREAD_PRIORITY_LOWEST),
        19.. => Some(THREAD_PRIORITY_IDLE),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::time::Instant;

    use windows_sys::Win32::System::Threading::{GetThreadPriority, THREAD_PRIORITY_NORMAL};

    use super::super::Threads;
    use super::*;

    #[test]
    fn niceness_is_a_priority_and_the_hosts_stays() {
        // SAFETY: asks about the calling thread.
        let own = || unsafe { GetThreadPriority(GetCurrentThread()) };
        for (niceness, expected) in [
            (0, THREAD_PRIORITY_NORMAL),
            (1, THREAD_PRIORITY_BELOW_NORMAL),
            (9, THREAD_PRIORITY_BELOW_NORMAL),
            (10, THREAD_PRIORITY_LOWEST),
            (18, THREAD_PRIORITY_LOWEST),
            (19, THREAD_PRIORITY_IDLE),
        ] {
            let (tell, told) = channel();
            let thread = Threads::new(1, niceness).spawn("test", move || tell.send(own()).unwrap()).unwrap();
            assert!(thread.join());
            assert_eq!(told.recv().unwrap(), expected, "{niceness}");
            assert_eq!(own(), THREAD_PRIORITY_NORMAL);
        }
    }

    #[test]
    fn time_is_that_of_the_engines_threads_also_when_they_have_ended() {
        const SPENT: Duration = Duration::from_millis(200);
        let threads = Arc::new(Threads::new(1, 0));
        let (spent, seen) = channel();
        let (go, gone) = channel::<()>();
        let thread = threads
            .spawn("test", move || {
                let clock = Clock::of_this_thread().unwrap();
                let begun = Instant::now();
                while clock.time() < SPENT {
                    assert!(begun.elapsed() < 100 * SPENT, "{:?}", clock.time());
                    std::hint::spin_loop();
                }
                spent.send(()).unwrap();
                let _ = gone.recv();
            })
            .unwrap();
        seen.recv().unwrap();
        let running = threads.cpu_time();
        drop(go);
        assert!(thread.join());
        let ended = threads.cpu_time();
        assert!(running >= SPENT && running <= ended && ended < 5 * SPENT, "{running:?}, {ended:?}");
        assert!(Threads::new(1, 0).cpu_time().is_zero());
    }
}

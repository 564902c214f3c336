//! The engine's own threads: named, at a chosen priority, with every signal blocked, so that the host
//! keeps its signals and can tell our threads from its own.

pub(crate) mod float_mode;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::Builder;
use std::time::Duration;

use ort::environment::ThreadManager;

pub use self::system::Thread;
use self::system::{Clock, lower_priority};
#[cfg(unix)]
use self::unix as system;
#[cfg(windows)]
use self::windows as system;
use super::heap::release_thread;
use crate::error::{Error, Result};
use crate::shortage;

/// Most sessions of an engine that have a pool of threads; the others compute on the worker alone.
///
/// They cannot share one: ONNX Runtime shares pools between sessions only as the global pool of its environment
/// (`DisablePerSessionThreads`), and there is one environment in a process. Its size and its threads' priority are fixed
/// when it is made, by whichever engine is the first, and its threads outlive every engine, while this library promises
/// that an engine's threads are as many and as nice as its options say and end with it. Nor can pools share threads from
/// outside: `SessionOptionsSetCustomCreateThreadFn` hands out a loop that ends with its pool and blocks in between, so
/// each takes a thread of the system.
pub(crate) const MOST_POOLS: usize = 8;

/// Bytes of a thread's stack.
const STACK: usize = 2 << 20;

/// The same of what a thread needs beside it to begin.
const BESIDE: u64 = 2 << 20;

/// How many threads compute, and how nice they are.
#[derive(Debug)]
pub struct Threads {
    count: usize,
    /// As [`super::Options::niceness`] says.
    niceness: i32,
    spent: Arc<Spent>,
}

/// The CPU time of threads.
#[derive(Debug, Default)]
struct Spent(Mutex<Clocks>);

#[derive(Debug, Default)]
struct Clocks {
    /// Of those that run.
    running: Vec<Arc<Clock>>,
    /// Of those that have ended, in all.
    ended: Duration,
}

impl Spent {
    fn lock(&self) -> MutexGuard<'_, Clocks> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// This thread's clock counts until it is dropped, at the end of the thread.
struct Counted(Arc<Spent>, Arc<Clock>);

impl Counted {
    fn this_thread(spent: &Arc<Spent>) -> Option<Counted> {
        let clock = Arc::new(Clock::of_this_thread()?);
        spent.lock().running.push(clock.clone());
        Some(Counted(spent.clone(), clock))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut clocks = self.0.lock();
        clocks.running.retain(|clock| !Arc::ptr_eq(clock, &self.1));
        clocks.ended += self.1.time();
    }
}

impl Threads {
    /// `count` 0 means one per available core, at most 8.
    pub fn new(count: usize, niceness: i32) -> Threads {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from).min(8);
        Threads { count: if count == 0 { cores() } else { count }, niceness, spent: Arc::default() }
    }

    /// Threads that take part in one run, the worker included.
    pub fn count(&self) -> usize {
        self.count
    }

    /// CPU time of all of them since the engine was opened. Linux and Windows: nothing elsewhere.
    pub fn cpu_time(&self) -> Duration {
        let clocks = self.spent.lock();
        clocks.running.iter().map(|clock| clock.time()).sum::<Duration>() + clocks.ended
    }

    /// Spawn a thread of this engine.
    pub fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<Thread> {
        // The standard library takes a thread's handle from the system itself, past any reserve, and ends the process where
        // there is none: a block of that size shows first whether there is.
        drop(std::hint::black_box(Box::new([0_u64; 8])));
        if shortage::noted() {
            return Err(Error::Exhausted { what: "starting a thread".into(), bytes: 0 });
        }
        // What the C library sets aside in the new thread, it ends the process for if it cannot.
        shortage::room("starting a thread", STACK as u64 + BESIDE)?;
        let (niceness, spent) = (self.niceness, self.spent.clone());
        let run = move || {
            let _counted = Counted::this_thread(&spent);
            lower_priority(niceness);
            float_mode::set();
            work();
            release_thread();
        };
        system::spawn(builder(name), run)
            .map_err(|e| Error::Runtime { stage: "starting a thread".into(), message: e.to_string() })
    }

    /// For ONNX Runtime's intra-op pool.
    pub fn manager(self: &Arc<Threads>) -> Manager {
        Manager(self.clone())
    }
}

/// Creates ONNX Runtime's pool threads through [`Threads::spawn`].
#[derive(Debug)]
pub struct Manager(Arc<Threads>);

impl ThreadManager for Manager {
    type Thread = Thread;

    fn create(&self, work: impl FnOnce() + Send + 'static) -> ort::Result<Thread> {
        self.0.spawn("softdimo-pool", work).map_err(|e| ort::Error::new(e.to_string()))
    }

    fn join(thread: Thread) -> ort::Result<()> {
        // A panic inside ONNX Runtime's worker loop cannot be reported any further.
        thread.join();
        Ok(())
    }
}

/// Of a thread with a stack of our own choice: the environment of the host, RUST_MIN_STACK, may have another.
fn builder(name: &str) -> Builder {
    Builder::new().name(name.into()).stack_size(STACK)
}

/// Spawn a thread that waits for a moment; `None` where none can be had.
pub(super) fn spawn_timer(wait: impl FnOnce() + Send + 'static) -> Option<Thread> {
    system::spawn(builder("softdimo-timer"), wait).ok()
}

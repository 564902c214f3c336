//! The engine's own threads: named, at a chosen priority, with every signal blocked, so that the host
//! keeps its signals and can tell our threads from its own.

use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use ort::environment::ThreadManager;

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
    /// Unix nice value added to the host's (0 = same priority, 19 = lowest).
    niceness: i32,
    spent: Arc<Spent>,
}

/// The CPU time of threads.
#[derive(Debug, Default)]
struct Spent(Mutex<Clocks>);

#[derive(Debug, Default)]
struct Clocks {
    /// Of those that run.
    running: Vec<Clock>,
    /// Of those that have ended, in all.
    ended: Duration,
}

impl Spent {
    fn lock(&self) -> MutexGuard<'_, Clocks> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// This thread's clock counts until it is dropped, at the end of the thread.
struct Counted(Arc<Spent>, Clock);

impl Counted {
    fn this_thread(spent: &Arc<Spent>) -> Option<Counted> {
        let clock = Clock::of_this_thread()?;
        spent.lock().running.push(clock);
        Some(Counted(spent.clone(), clock))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut clocks = self.0.lock();
        clocks.running.retain(|clock| *clock != self.1);
        clocks.ended += self.1.time();
    }
}

/// The CPU clock of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Clock(#[cfg(target_os = "linux")] libc::clockid_t);

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
impl Clock {
    fn of_this_thread() -> Option<Clock> {
        let mut clock = 0;
        // SAFETY: of this thread, into a place for the answer.
        let failed = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &mut clock) };
        (failed == 0).then_some(Clock(clock))
    }

    /// Nothing for a thread that is gone.
    fn time(self) -> Duration {
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
    fn of_this_thread() -> Option<Clock> {
        None
    }

    fn time(self) -> Duration {
        Duration::ZERO
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

    /// CPU time of all of them since the engine was opened. Linux only: nothing elsewhere.
    pub fn cpu_time(&self) -> Duration {
        let clocks = self.spent.lock();
        clocks.running.iter().map(|clock| clock.time()).sum::<Duration>() + clocks.ended
    }

    /// Spawn a thread of this engine.
    pub fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
        // The standard library takes a thread's handle from the system itself, past any reserve, and ends the process where
        // there is none: a block of that size shows first whether there is.
        drop(std::hint::black_box(Box::new([0_u64; 8])));
        if shortage::noted() {
            return Err(Error::Exhausted { what: "starting a thread".into(), bytes: 0 });
        }
        // What the C library sets aside in the new thread, it ends the process for if it cannot.
        shortage::room("starting a thread", STACK as u64 + BESIDE)?;
        let (niceness, spent) = (self.niceness, self.spent.clone());
        let spawn = || {
            builder(name).spawn(move || {
                let _counted = Counted::this_thread(&spent);
                lower_priority(niceness);
                default_float_mode();
                work();
                release_thread();
            })
        };
        with_signals_blocked(spawn)
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
    type Thread = JoinHandle<()>;

    fn create(&self, work: impl FnOnce() + Send + 'static) -> ort::Result<JoinHandle<()>> {
        self.0.spawn("softdimo-pool", work).map_err(|e| ort::Error::new(e.to_string()))
    }

    fn join(thread: JoinHandle<()>) -> ort::Result<()> {
        // A panic inside ONNX Runtime's worker loop cannot be reported any further.
        let _ = thread.join();
        Ok(())
    }
}

/// Of a thread with a stack of our own choice: the environment of the host, RUST_MIN_STACK, may have another.
fn builder(name: &str) -> Builder {
    Builder::new().name(name.into()).stack_size(STACK)
}

/// Spawn a thread that waits for a moment; `None` where none can be had.
pub(super) fn spawn_timer(wait: impl FnOnce() + Send + 'static) -> Option<JoinHandle<()>> {
    with_signals_blocked(|| builder("softdimo-timer").spawn(wait)).ok()
}

/// Run `spawn` with all signals blocked in this thread: a new thread inherits the mask from its parent.
#[cfg(unix)]
#[allow(unsafe_code)]
fn with_signals_blocked<T>(spawn: impl FnOnce() -> T) -> T {
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
        let result = spawn();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        result
    }
}

#[cfg(not(unix))]
fn with_signals_blocked<T>(spawn: impl FnOnce() -> T) -> T {
    spawn()
}

/// Round to nearest, keep denormals, trap nothing. A new thread inherits the mode of the one that made it, and
/// a host that flushes denormals or traps divisions must neither get other pictures nor a signal.
#[allow(unsafe_code)]
fn default_float_mode() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: loads the documented power-on value into this thread's MXCSR.
    unsafe {
        let mode: u32 = 0x1f80;
        std::arch::asm!("ldmxcsr [{}]", in(reg) &mode, options(nostack, readonly));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: FPCR 0 is the architecture's default mode.
    unsafe {
        std::arch::asm!("msr fpcr, xzr", options(nostack, nomem));
    }
}

/// Add to the niceness of the calling thread only (Linux threads have their own).
#[allow(unsafe_code)]
fn lower_priority(niceness: i32) {
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

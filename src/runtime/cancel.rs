//! Cancelling a job: a token that any thread may set, and runs and preparations that end by it.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use ort::session::RunOptions;
use ort::session::builder::{LoadCanceler, SessionBuilder};

use super::error::runtime_error;
use super::exit;
use super::pace::Pace;
use super::threads::{Thread, spawn_timer};
use crate::error::{Error, Result};
use crate::shortage;

thread_local! {
    static WORKING: RefCell<Working> = RefCell::default();
}

/// What this thread computes for.
#[derive(Default)]
struct Working {
    pace: Option<Arc<Pace>>,
    /// The jobs at hand, each inside a step of the one before it.
    jobs: Vec<Arc<Cancel>>,
}

/// Everything that this thread computes from now on keeps this pace.
pub(crate) fn keep_pace(pace: Arc<Pace>) {
    WORKING.with_borrow_mut(|working| working.pace = Some(pace));
}

/// This thread works for the job until the guard is dropped: once it is cancelled, what is left to do for it (the best picture
/// of an optimisation) is not held back.
pub(crate) fn working_for(job: Arc<Cancel>) -> WorkingFor {
    WORKING.with_borrow_mut(|working| working.jobs.push(job));
    WorkingFor
}

/// In the middle of a run on this thread: wait until the engine may compute. A run whose job is cancelled goes on to its end.
pub(super) fn hold_in_run() {
    let working = WORKING.with_borrow(|working| Some((working.pace.clone()?, working.jobs.last().cloned())));
    if let Some((pace, job)) = working {
        pace.hold(|| exit::closing() || job.as_ref().is_some_and(|job| job.is_cancelled()));
    }
}

/// See [`working_for`].
pub(crate) struct WorkingFor;

impl Drop for WorkingFor {
    fn drop(&mut self) {
        WORKING.with_borrow_mut(|working| drop(working.jobs.pop()));
    }
}

/// Cancellation of one job: sticky, settable from any thread, effective between graph nodes and, while a session is
/// prepared, between the passes of the runtime's optimisers. When the process exits every token is cancelled.
#[derive(Default)]
pub struct Cancel {
    flag: AtomicBool,
    under_way: Mutex<UnderWay>,
    deadline: Mutex<Option<Instant>>,
}

/// What the runtime does for the job.
#[derive(Default)]
enum UnderWay {
    #[default]
    Nothing,
    Run(Arc<RunOptions>),
    Load(LoadCanceler),
}

impl std::fmt::Debug for Cancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cancel({})", self.is_cancelled())
    }
}

impl Cancel {
    /// Ask for the end; returns at once, and waits for no lock. Idempotent, and counts even before the job starts.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let under_way = match self.under_way.try_lock() {
            Ok(under_way) => under_way,
            Err(TryLockError::Poisoned(e)) => e.into_inner(),
            // The engine's thread holds it while it stores what begins, after which it looks at the flag (the fences order the
            // two), or what has ended; another thread that cancels holds it while it does what is left to do here.
            Err(TryLockError::WouldBlock) => return,
        };
        // Setting the flag of live options cannot fail.
        match &*under_way {
            UnderWay::Nothing => {}
            UnderWay::Run(run) => drop(run.terminate()),
            UnderWay::Load(load) => drop(load.cancel()),
        }
    }

    /// Until when sessions may be prepared. Runs are not ended by it.
    pub(crate) fn prepare_until(&self, deadline: Option<Instant>) {
        *self.deadline.lock().unwrap_or_else(|e| e.into_inner()) = deadline;
    }

    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::SeqCst) || exit::closing()
    }

    /// That the job may go on.
    ///
    /// # Errors
    /// [`Error::Cancelled`]; [`Error::Exhausted`] where this thread was served from the reserve.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { shortage::check("the job") }
    }

    /// That a session may be prepared.
    ///
    /// # Errors
    /// As [`Cancel::check`]; [`Error::Timeout`] after the deadline.
    pub(crate) fn check_preparing(&self) -> Result<()> {
        self.check()?;
        let late = self.deadline().map(|deadline| Instant::now().saturating_duration_since(deadline));
        match late.filter(|late| *late > Duration::ZERO) {
            Some(late) => Err(Error::Timeout { milliseconds: late.as_millis() as u64 }),
            None => Ok(()),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        *self.deadline.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Wait until the engine whose thread this is may compute: see [`Pace`].
    fn hold(&self) -> Result<()> {
        let working =
            WORKING.with_borrow(|working| Some((working.pace.clone()?, working.jobs.last().cloned())));
        if let Some((pace, job)) = working {
            pace.hold(|| self.is_cancelled() || job.as_ref().is_some_and(|job| job.is_cancelled()));
        }
        self.check()
    }

    /// Begin a run, once the engine may compute: until it is dropped, cancelling ends it early. The session's arena keeps what it
    /// has for the next run, or gives it back.
    pub(super) fn begin(&self, keeps: bool) -> Result<Running<'_>> {
        self.hold()?;
        let options = options(keeps).map_err(runtime_error("running a graph"))?;
        let at_exit = options.clone();
        let call = exit::ended_by(move || drop(at_exit.terminate()))?;
        self.store(UnderWay::Run(options.clone()));
        let running = Running { cancel: self, options, _call: call };
        self.check()?;
        Ok(running)
    }

    /// Begin the preparation of a session, once the engine may compute: until it is dropped, cancelling and the exit of the
    /// process end it early, and so does the deadline, unless it `goes_on` then.
    pub(super) fn begin_load(&self, builder: &SessionBuilder, goes_on: bool) -> Result<Loading<'_>> {
        self.hold()?;
        let at_exit = builder.canceler();
        let call = exit::ended_by(move || drop(at_exit.cancel()))?;
        let deadline = self.deadline().filter(|_| !goes_on);
        let timer = deadline.and_then(|deadline| Timer::start(deadline, builder.canceler()));
        self.store(UnderWay::Load(builder.canceler()));
        let loading = Loading { cancel: self, _timer: timer, _call: call };
        loading.check()?;
        Ok(loading)
    }

    /// What can be ended from now on. To be followed by a look at the flag: see [`Cancel::cancel`].
    fn store(&self, under_way: UnderWay) {
        *self.lock() = under_way;
        fence(Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn options(keeps: bool) -> ort::Result<Arc<RunOptions>> {
    let mut options = RunOptions::new()?;
    if !keeps {
        options.set("memory.enable_memory_arena_shrinkage", "cpu:0")?;
    }
    Ok(Arc::new(options))
}

/// A run that its token can end.
pub(super) struct Running<'a> {
    cancel: &'a Cancel,
    /// To run under.
    pub options: Arc<RunOptions>,
    _call: exit::Call,
}

impl Running<'_> {
    /// What a call into the runtime gave. One that failed after the cancel is [`Error::Cancelled`], whatever the
    /// runtime said.
    pub fn outcome<T>(&self, result: ort::Result<T>) -> Result<T> {
        result.map_err(|e| match self.cancel.check() {
            Err(cancelled) => cancelled,
            Ok(()) => runtime_error("running a graph")(e),
        })
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        *self.cancel.lock() = UnderWay::Nothing;
    }
}

/// A preparation that its token can end.
pub(super) struct Loading<'a> {
    cancel: &'a Cancel,
    _timer: Option<Timer>,
    _call: exit::Call,
}

impl Loading<'_> {
    /// As [`Cancel::check_preparing`].
    pub fn check(&self) -> Result<()> {
        self.cancel.check_preparing()
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        *self.cancel.lock() = UnderWay::Nothing;
    }
}

/// A thread that ends a preparation at its deadline; it is gone when this is.
struct Timer {
    stop: Option<Sender<()>>,
    thread: Option<Thread>,
}

impl Timer {
    /// `None` where no thread can be had: then the deadline counts once the preparation is over.
    fn start(deadline: Instant, load: LoadCanceler) -> Option<Timer> {
        let (stop, stopped) = channel();
        let wait = move || {
            let left = deadline.saturating_duration_since(Instant::now());
            if stopped.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                let _ = load.cancel();
            }
        };
        let thread = spawn_timer(wait)?;
        Some(Timer { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
    }
}

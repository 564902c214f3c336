//! Opening an engine on a thread of its own, and preparing it there.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use super::state::Phase;
use super::turns::LOOK;
use super::{Engine, worker};
use crate::error::{Error, Result};
use crate::host::Progress;
use crate::request::Request;
use crate::runtime::threads::{Thread, Threads};
use crate::runtime::{Cancel, Options, process};

/// An engine that is being opened, and then prepared, on a thread of its own. Dropping it cancels what is left of that, and
/// waits for the thread; the engine stays with whoever has it.
///
/// Looking ([`Opening::phase`], [`Opening::progress`]) and cancelling wait for nothing.
#[derive(Debug)]
pub struct Opening {
    shared: Arc<OpeningState>,
    thread: Option<Thread>,
    /// Process that opens: a forked child has no such thread.
    process: u32,
}

#[derive(Debug, Default)]
struct OpeningState {
    cancel: Arc<Cancel>,
    /// A [`Phase`].
    phase: AtomicU32,
    /// Step and total.
    progress: AtomicU64,
    /// There once the file is open.
    engine: Mutex<Option<Engine>>,
    taken: AtomicBool,
    error: OnceLock<Error>,
    looking: Mutex<()>,
    changed: Condvar,
}

impl OpeningState {
    fn phase(&self) -> Phase {
        let all = [Phase::Queued, Phase::Running, Phase::Done, Phase::Failed];
        let phase = self.phase.load(SeqCst);
        all.into_iter().find(|p| *p as u32 == phase).unwrap_or(Phase::Cancelled)
    }

    fn engine(&self) -> MutexGuard<'_, Option<Engine>> {
        self.engine.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn end(&self, result: Result<()>) {
        let phase = match result {
            Ok(()) => Phase::Done,
            Err(Error::Cancelled) => Phase::Cancelled,
            Err(e) => {
                let _ = self.error.set(e);
                Phase::Failed
            }
        };
        self.phase.store(phase as u32, SeqCst);
        drop(self.looking.lock());
        self.changed.notify_all();
    }

    /// What the thread does. The engine is there for others as soon as it is open.
    fn work(&self, open: impl FnOnce() -> Result<Engine>, request: Option<&Request>) -> Result<()> {
        self.phase.store(Phase::Running as u32, SeqCst);
        self.cancel.check()?;
        let engine = open()?;
        self.cancel.check()?;
        *self.engine() = Some(engine.clone());
        let told = |p: Progress| {
            // Opening is a step as well.
            let all = Progress { step: 1 + p.step, total: 1 + p.total };
            self.progress.store(all.pack(), SeqCst);
            if self.cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        engine.prepare_for(request, told)
    }
}

impl Engine {
    /// Open the model file at `path` on a thread of its own, and then prepare the engine for `request`, as
    /// [`Engine::warmup_request`] does; `None`: for one picture, as [`Engine::warmup`]. Returns at once.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for options out of range; that no thread can be had. What goes wrong later is the opening's.
    pub fn open_in_background(
        path: impl AsRef<std::path::Path>,
        options: Options,
        request: Option<Request>,
    ) -> Result<Opening> {
        process::claim()?;
        worker::check(&options)?;
        let shared = Arc::<OpeningState>::default();
        let (state, path) = (shared.clone(), path.as_ref().to_path_buf());
        let threads = Threads::new(1, options.niceness);
        let thread = threads.spawn("softdimo-open", move || {
            let open = || Engine::open(path, options);
            let work = std::panic::AssertUnwindSafe(|| state.work(open, request.as_ref()));
            let done = crate::panic_wall::quietly(|| std::panic::catch_unwind(work));
            let panicked = |payload: Box<dyn std::any::Any + Send>| {
                Err(Error::internal(crate::panic_wall::message(payload.as_ref())))
            };
            state.end(crate::shortage::checked("the engine", done.unwrap_or_else(panicked)));
        })?;
        Ok(Opening { shared, thread: Some(thread), process: std::process::id() })
    }
}

impl Opening {
    /// Queued, running, or how it ended: done once the engine is prepared.
    pub fn phase(&self) -> Phase {
        self.shared.phase()
    }

    /// The file that was opened, and sessions that were prepared, of all; a total of 0 before the file is open.
    pub fn progress(&self) -> Progress {
        Progress::unpack(self.shared.progress.load(SeqCst))
    }

    /// Ask for the end; returns at once. An engine that is open already stays so, and goes with the opening unless it was
    /// taken.
    pub fn cancel(&self) {
        self.shared.cancel.cancel();
    }

    /// The engine, once, as soon as the file is open: jobs that are submitted while it is being prepared wait for that.
    ///
    /// # Errors
    /// [`Error::NotReady`] before; [`Error::InvalidArgument`] where it was taken; what opening failed with;
    /// [`Error::Cancelled`].
    pub fn take(&self) -> Result<Engine> {
        let phase = self.phase();
        let engine = self.shared.engine().take();
        match (engine, self.shared.error.get(), phase) {
            (Some(engine), ..) => {
                self.shared.taken.store(true, SeqCst);
                Ok(engine)
            }
            _ if self.shared.taken.load(SeqCst) => {
                Err(Error::invalid("opening", "one whose engine was not taken yet", "one whose engine was"))
            }
            (None, Some(e), _) => Err(e.clone()),
            (None, None, Phase::Cancelled) => Err(Error::Cancelled),
            (None, None, phase) => {
                Err(Error::NotReady { what: "opening of the engine", state: phase.name() })
            }
        }
    }

    /// What opening or preparing failed with.
    pub fn error(&self) -> Option<Error> {
        self.shared.error.get().cloned()
    }

    /// Wait until the engine is prepared, at most `timeout`; then opening goes on.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::Cancelled`]; what opening or preparing failed with: where it was preparing,
    /// [`Opening::take`] gives the engine even so.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<()> {
        let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
        let mut looking = self.shared.looking.lock().unwrap_or_else(|e| e.into_inner());
        loop {
            match self.phase() {
                Phase::Done => return Ok(()),
                Phase::Cancelled => return Err(Error::Cancelled),
                Phase::Failed => {
                    return Err(self.shared.error.get().cloned().unwrap_or(Error::Cancelled));
                }
                _ => {}
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(Error::Timeout { milliseconds: timeout.unwrap_or_default().as_millis() as u64 });
            }
            let look = left.unwrap_or(LOOK).min(LOOK);
            let waited = self.shared.changed.wait_timeout(looking, look);
            looking = waited.unwrap_or_else(|e| e.into_inner()).0;
        }
    }

    /// Whether its thread is not here: see `process::check_opener`.
    pub fn is_foreign_process(&self) -> bool {
        process::check_opener(self.process).is_err()
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if self.is_foreign_process() {
            std::mem::forget((self.thread.take(), self.shared.clone()));
            return;
        }
        self.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
        // Here, and not by the task that may still hold this on the engine's own thread.
        let engine = self.shared.engine().take();
        drop(engine);
    }
}

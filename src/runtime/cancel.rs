//! Cancelling a job: a token that any thread may set, and runs that end by it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use ort::session::RunOptions;

use super::error::runtime_error;
use super::exit;
use crate::error::{Error, Result};

/// Cancellation of one job: sticky, settable from any thread, effective between graph nodes. When the process
/// exits every token is cancelled.
#[derive(Default)]
pub struct Cancel {
    flag: AtomicBool,
    running: Mutex<Option<Arc<RunOptions>>>,
}

impl std::fmt::Debug for Cancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cancel({})", self.is_cancelled())
    }
}

impl Cancel {
    /// Ask for the end; returns at once. Idempotent, and counts even before the job starts.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::SeqCst);
        if let Some(run) = self.lock().as_ref() {
            // Setting the flag of a live RunOptions cannot fail.
            let _ = run.terminate();
        }
    }

    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::SeqCst) || exit::closing()
    }

    /// [`Error::Cancelled`] once cancelled.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Begin a run: until it is dropped, cancelling ends it early.
    pub(super) fn begin(&self) -> Result<Running<'_>> {
        let options = Arc::new(RunOptions::new().map_err(runtime_error("running a graph"))?);
        let at_exit = options.clone();
        let call = exit::ended_by(move || drop(at_exit.terminate()))?;
        *self.lock() = Some(options.clone());
        let running = Running { cancel: self, options, _call: call };
        self.check()?;
        Ok(running)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<RunOptions>>> {
        self.running.lock().unwrap_or_else(|e| e.into_inner())
    }
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
        *self.cancel.lock() = None;
    }
}

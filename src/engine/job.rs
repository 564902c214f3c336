//! A submitted request: progress, waiting, cancelling, and its result.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::state::{JobState, Phase, Served};
use super::turns::{LOOK, Turn};
use super::worker::Worker;
use crate::error::{Error, Result};
use crate::generated::Generated;
use crate::host::Progress;
use crate::rewards::Reward;
use crate::runtime::Cancel;

/// How often a thread looks whether another has left the callback that it should call.
const BUSY: Duration = Duration::from_millis(1);

/// A submitted request. Dropping it cancels the job and waits for it to end.
///
/// Looking at a job ([`Job::phase`], [`Job::progress`], [`Job::poll`]) and cancelling it wait for no lock that a thread of the
/// engine may hold, whatever that thread's priority.
#[derive(Debug)]
pub struct Job {
    shared: Arc<JobState>,
    /// Step and total that [`Job::poll`] told last.
    told: AtomicU64,
    /// Alive until the job is gone.
    worker: Arc<Worker>,
}

impl Job {
    /// Of a request with this callback among its rewards.
    pub(super) fn new(worker: Arc<Worker>, callback: Option<Arc<Reward>>) -> Job {
        let cancel = Arc::<Cancel>::default();
        let turn = Turn::new(worker.turns().clone(), cancel.clone(), callback);
        Job { shared: Arc::new(JobState::new(cancel, turn)), told: AtomicU64::new(0), worker }
    }

    pub(super) fn shared(&self) -> &Arc<JobState> {
        &self.shared
    }

    /// Ask for the end; returns at once. Any thread, any time, any number of times. A job without a picture to hand over
    /// ends here: it waits neither for the ones before it nor for the engine, which goes on to the next one once it has
    /// left the node that it runs or the session that it prepares. An optimisation that has finished an iterate ends as
    /// soon as its best picture is made.
    pub fn cancel(&self) {
        self.shared.cancel();
    }

    pub fn phase(&self) -> Phase {
        self.shared.phase()
    }

    pub fn progress(&self) -> Progress {
        self.shared.progress()
    }

    /// For how long the reward callback has been due that a wait or poll of this job is to serve; `None` where none is
    /// ([`Phase::Waiting`]).
    pub fn waiting(&self) -> Option<Duration> {
        self.shared.turn.asked().filter(|_| self.phase() == Phase::Waiting)
    }

    pub(super) fn worker(&self) -> &Arc<Worker> {
        &self.worker
    }

    /// The phase, without waiting for the job: for frame loops. Calls `progress` on this thread if there is news since the
    /// last poll (`Break` cancels the job), and the reward callback that the job waits for. [`Phase::Waiting`] where that
    /// could not be called: another thread is inside it, or this one.
    pub fn poll(&self, mut progress: impl FnMut(Progress) -> ControlFlow<()>) -> Phase {
        loop {
            let ended = self.shared.is_final();
            self.serve(&mut progress);
            let phase = self.phase();
            // The last step is told before the end is.
            if ended || !phase.is_final() {
                return phase;
            }
        }
    }

    /// Do what a poll is to do, if there is anything.
    fn serve(&self, progress: &mut dyn FnMut(Progress) -> ControlFlow<()>) {
        let now = self.progress();
        let packed = now.pack();
        let news = self.told.swap(packed, SeqCst) != packed;
        let asked = || self.shared.is_asked() && !self.shared.is_final();
        if !news && !asked() {
            return;
        }
        // Not on a thread that must not wait for the engine here: what there is to serve is left to others.
        let waiting = self.shared.turn.wait(false);
        if waiting.is_err() && !self.shared.is_final() {
            return self.told.store(0, SeqCst);
        }
        if news {
            let away = self.shared.turn.leave();
            if progress(now).is_break() {
                self.cancel();
            }
            drop(away);
        }
        // A callback may have forked: in the child nothing goes on.
        if asked() && self.worker.check_process().is_ok() {
            // What the callback came to is the job's, and so is that it cannot be called now.
            let _ = self.shared.serve(|| self.worker.check_process());
        }
    }

    /// Wait for the end, at most `timeout`; then the job goes on. `progress` is called on this thread after each
    /// step; `Break` cancels the job.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::Cancelled`], also where [`Job::result`] has a best picture, or [`Error::Replaced`]; or
    /// what the job failed with.
    pub fn wait(
        &self,
        timeout: Option<Duration>,
        mut progress: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Arc<Generated>> {
        // What the clock cannot hold is as long as it takes.
        let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
        let _waiting = match self.shared.turn.wait(deadline.is_none()) {
            // Nothing is waited for where the end is there.
            Err(e) if !self.phase().is_final() => return Err(e),
            waiting => waiting,
        };
        let mut reported = Progress::default();
        loop {
            // The last step is told before the end is.
            let ended = self.shared.is_final();
            let now = self.progress();
            if now != reported {
                reported = now;
                let away = self.shared.turn.leave();
                if progress(reported).is_break() {
                    self.cancel();
                }
                drop(away);
                // A callback may have forked: in the child nothing goes on.
                self.worker.check_process()?;
                continue;
            }
            if ended && self.phase() == Phase::Cancelled {
                return Err(self.shared.cancelled());
            }
            if let Some(result) = self.shared.result().filter(|_| ended) {
                return result;
            }
            let served = self.shared.serve(|| self.worker.check_process())?;
            if served == Served::Answered {
                continue;
            }
            let look = if served == Served::Busy { BUSY } else { LOOK };
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(Error::Timeout { milliseconds: timeout.unwrap_or_default().as_millis() as u64 });
            }
            let something = || {
                let asked = served == Served::Nothing && self.shared.is_asked();
                self.progress() != reported || self.shared.is_final() || asked
            };
            if self.shared.wait_for_change(left.unwrap_or(look).min(look), something) {
                let turn = self.shared.turn.check();
                // The engine may have come to the end meanwhile, and to the next job's callback.
                if !self.phase().is_final() {
                    turn?;
                }
            }
        }
    }

    /// The result of a finished job, also the best picture of a cancelled optimisation. Does not wait.
    ///
    /// # Errors
    /// [`Error::NotReady`] before the end; what the job failed with.
    pub fn result(&self) -> Result<Arc<Generated>> {
        let state = self.phase().name();
        self.shared.result().unwrap_or(Err(Error::NotReady { what: "job result", state }))
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.worker.is_foreign_process() {
            return;
        }
        self.shared.abandon();
        self.cancel();
        if self.shared.is_final() {
            return;
        }
        let _queued = self.shared.turn.queue();
        // Where the worker waits for this thread the job ends without it.
        while !self.shared.is_final() && self.shared.turn.check().is_ok() {
            self.shared.wait_for_change(LOOK, || self.shared.is_final());
        }
    }
}

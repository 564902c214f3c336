//! A job that the worker does, and its host: the job's own state, and the jobs that may go before its next step.

use std::sync::Arc;

use super::state::JobState;
use super::worker::WorkerState;
use crate::error::{Error, Result};
use crate::generate;
use crate::host::{Host, Progress};
use crate::request::Resolved;
use crate::rewards::Reward;
use crate::runtime::Cancel;
use crate::sessions::Sessions;
use crate::shortage;
use crate::tensor::Tensor;
use crate::tteo::Optimize;

/// A job as the worker does it.
pub(super) struct Order {
    pub shared: Arc<JobState>,
    pub worker: Arc<WorkerState>,
    pub priority: i32,
    pub resolved: Resolved,
}

impl Order {
    /// Do the job to its end. One that stands inside another and finds no room beside it begins again after that one.
    pub fn carry_out(self, sessions: &mut Sessions) {
        let host = AtWork { job: &self.shared, worker: &self.worker, priority: self.priority };
        let result = generate::execute(sessions, &host, &self.resolved);
        let result = shortage::checked("the result", result);
        // A truncated or rewritten file shows as wrong numbers, not as an error, when the guard is on.
        let intact = sessions.model().mapping().recheck();
        let intact = intact.and_then(|()| self.resolved.optimize.iter().try_for_each(Optimize::recheck));
        match intact.and(result) {
            Ok((best, true)) => self.shared.finish_cancelled(best),
            Err(Error::OutOfMemory { .. } | Error::Budget { .. })
                if self.worker.is_nested() && !self.shared.shows_best() =>
            {
                let (worker, shared, broken) =
                    (self.worker.clone(), self.shared.clone(), self.shared.clone());
                let priority = self.priority;
                let work = move |sessions: &mut Sessions| self.carry_out(sessions);
                worker.again(shared, priority, work, move |e| broken.finish(Err(e)));
            }
            other => self.shared.finish(other.map(|(done, _)| done)),
        }
    }
}

pub(super) struct AtWork<'a> {
    pub job: &'a JobState,
    pub worker: &'a WorkerState,
    pub priority: i32,
}

impl Host for AtWork<'_> {
    fn cancel(&self) -> &Cancel {
        &self.job.cancel
    }

    fn advance(&self, progress: Progress) {
        self.job.advance(progress);
    }

    fn give_way(&self, sessions: &mut Sessions) -> Result<()> {
        // The job is about to see that itself.
        if self.job.cancel.is_cancelled() {
            return Ok(());
        }
        self.worker.serve_above(self.priority, sessions)
    }

    fn holds_best(&self) {
        self.job.holds_best();
    }

    fn ask(&self, reward: &Arc<Reward>, image: Tensor) -> Result<Option<(Tensor, Tensor)>> {
        self.job.ask(reward, image)
    }

    fn is_abandoned(&self) -> bool {
        self.job.is_abandoned()
    }
}

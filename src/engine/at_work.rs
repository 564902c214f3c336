//! The host of a job that the worker does: the job's own state, and the jobs that may go before its next step.

use std::sync::Arc;

use super::state::JobState;
use super::worker::WorkerState;
use crate::error::Result;
use crate::host::{Host, Progress};
use crate::rewards::Reward;
use crate::runtime::Cancel;
use crate::sessions::Sessions;
use crate::tensor::Tensor;

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

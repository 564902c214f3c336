//! Whoever waits for a job, as the pipelines see it.

use std::sync::Arc;

use crate::error::Result;
use crate::rewards::Reward;
use crate::runtime::Cancel;
use crate::sessions::Sessions;
use crate::tensor::Tensor;

/// Steps done of the steps a job consists of (one network call each).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    pub step: u32,
    pub total: u32,
}

impl Progress {
    /// As one word, for an atomic.
    pub(crate) fn pack(self) -> u64 {
        u64::from(self.step) << 32 | u64::from(self.total)
    }

    pub(crate) fn unpack(word: u64) -> Progress {
        Progress { step: (word >> 32) as u32, total: word as u32 }
    }
}

/// Whoever waits for a job: ends it, hears how far it is, answers for its own rewards.
pub(crate) trait Host {
    fn cancel(&self) -> &Cancel;

    /// One more step done.
    fn advance(&self, progress: Progress);

    /// Between two steps: let jobs go first that should, on this thread, to their ends.
    ///
    /// # Errors
    /// One of them panicked, and the sessions must not be used any more.
    fn give_way(&self, sessions: &mut Sessions) -> Result<()>;

    /// An iterate of an optimisation is done: from now on a cancelled job hands over the best one.
    fn holds_best(&self);

    /// Put a callback's question to the thread that waits for the job, and wait for its answer: scores [B] and gradient
    /// [B, 3, H, W]. `None`: the callback said stop, or the job was cancelled first.
    fn ask(&self, reward: &Arc<Reward>, image: Tensor) -> Result<Option<(Tensor, Tensor)>>;

    /// Whether nobody will read a result any more.
    fn is_abandoned(&self) -> bool;
}

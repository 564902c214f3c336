//! A job as the worker, the threads that wait for it and those that only look at it see it. Looking and cancelling take no
//! lock that the worker may hold: a worker of low priority may be without a processor for long while it does.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use super::turns::{LOOK, Turn, inside_its_callback};
use crate::error::{Error, Result};
use crate::generated::Generated;
use crate::host::Progress;
use crate::rewards::callback::{Admitted, Busy};
use crate::rewards::{Reward, RewardAnswer, RewardImage};
use crate::runtime::{Cancel, exit};
use crate::shortage;
use crate::tensor::Tensor;

/// Where a job is; the values are those of the C ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u32)]
pub enum Phase {
    Queued = 0,
    Running = 1,
    Done = 2,
    Failed = 3,
    Cancelled = 4,
    /// It stands still until a wait or poll of it serves its reward callback.
    Waiting = 5,
}

impl Phase {
    /// Lower-case word for messages.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Queued => "queued",
            Phase::Running => "running",
            Phase::Done => "done",
            Phase::Failed => "failed",
            Phase::Cancelled => "cancelled",
            Phase::Waiting => "waiting",
        }
    }

    /// True once the job will not change any more.
    pub fn is_final(self) -> bool {
        matches!(self, Phase::Done | Phase::Failed | Phase::Cancelled)
    }
}

/// How far a job is, as it is stored. The order is that of time.
mod life {
    pub const QUEUED: u32 = 0;
    pub const RUNNING: u32 = 1;
    /// From here on it has ended, and what `result` holds is read: in the next three.
    pub const DONE: u32 = 2;
    pub const FAILED: u32 = 3;
    /// Cancelled, with pictures to read.
    pub const BEST: u32 = 4;
    /// Cancelled, whatever the worker makes of it.
    pub const CANCELLED: u32 = 5;
}

/// Whose the question is: what [`JobState::question`] holds is touched by nobody else.
mod stage {
    /// The worker's, which asks nothing.
    pub const NONE: u32 = 0;
    /// Of whoever takes it: to answer it, or back.
    pub const ASKED: u32 = 1;
    /// Of the thread that answers.
    pub const ANSWERING: u32 = 2;
    /// The worker's, answered.
    pub const ANSWERED: u32 = 3;
}

/// A callback reward in flight: the worker asks, a thread that waits for the job answers.
#[derive(Debug, Default)]
enum Question {
    #[default]
    None,
    Asked(Arc<Reward>, Tensor),
    /// Scores [B] and gradient [B, 3, H, W]; `None` when the callback said stop.
    Answered(Result<Option<(Tensor, Tensor)>>),
}

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// There was none.
    Nothing,
    /// Another thread is inside the callback.
    Busy,
    Answered,
}

/// The shared side of a job.
#[derive(Debug)]
pub(super) struct JobState {
    pub cancel: Arc<Cancel>,
    pub turn: Arc<Turn>,
    life: AtomicU32,
    /// Step and total.
    progress: AtomicU64,
    /// Key of the newer job that has taken its place; 0 for none.
    replaced: AtomicU64,
    /// There is something to hand over when the job is cancelled.
    holds_best: AtomicBool,
    /// The owner is gone: end without a last picture.
    abandoned: AtomicBool,
    stage: AtomicU32,
    /// Its lock is never waited for: see [`stage`].
    question: Mutex<Question>,
    /// Set by the worker alone.
    result: OnceLock<Result<Arc<Generated>>>,
    /// Held while looking whether there is something to wait for.
    looking: Mutex<()>,
    changed: Condvar,
}

impl JobState {
    pub fn new(cancel: Arc<Cancel>, turn: Arc<Turn>) -> JobState {
        JobState {
            cancel,
            turn,
            life: AtomicU32::new(life::QUEUED),
            progress: AtomicU64::new(0),
            replaced: AtomicU64::new(0),
            holds_best: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            stage: AtomicU32::new(stage::NONE),
            question: Mutex::default(),
            result: OnceLock::new(),
            looking: Mutex::new(()),
            changed: Condvar::new(),
        }
    }

    pub fn phase(&self) -> Phase {
        match self.life.load(SeqCst) {
            life::QUEUED => Phase::Queued,
            life::RUNNING if self.is_asked() => Phase::Waiting,
            life::RUNNING => Phase::Running,
            life::DONE => Phase::Done,
            life::FAILED => Phase::Failed,
            _ => Phase::Cancelled,
        }
    }

    pub fn is_final(&self) -> bool {
        self.life.load(SeqCst) >= life::DONE
    }

    pub fn progress(&self) -> Progress {
        Progress::unpack(self.progress.load(SeqCst))
    }

    /// Whether a callback is to be called, and nobody is inside it for this job.
    pub fn is_asked(&self) -> bool {
        self.stage.load(SeqCst) == stage::ASKED
    }

    /// What the job came to; `None` before its end.
    pub fn result(&self) -> Option<Result<Arc<Generated>>> {
        match self.life.load(SeqCst) {
            life::QUEUED | life::RUNNING => None,
            life::CANCELLED => Some(Err(self.cancelled())),
            _ => self.result.get().cloned(),
        }
    }

    /// How waiting for a cancelled job ends.
    pub fn cancelled(&self) -> Error {
        match self.replaced.load(SeqCst) {
            0 => Error::Cancelled,
            key => Error::Replaced { key },
        }
    }

    /// The end by its result.
    pub fn finish(&self, result: Result<Generated>) {
        match result {
            Ok(done) => self.end(life::DONE, Some(Ok(done))),
            Err(Error::Cancelled) => self.end(life::CANCELLED, None),
            Err(e) => self.end(life::FAILED, Some(Err(e))),
        }
    }

    /// The end of a cancelled job that has something to show: waiting reports the cancellation, the result
    /// can be read.
    pub fn finish_cancelled(&self, best: Generated) {
        self.end(life::BEST, Some(Ok(best)));
    }

    /// The end, unless the job has one already. By the worker where there is a result.
    fn end(&self, life: u32, result: Option<Result<Generated>>) {
        if self.is_final() {
            return;
        }
        if let Some(result) = result {
            let _ = self.result.set(result.map(Arc::new));
        }
        let _ = self.life.fetch_update(SeqCst, SeqCst, |now| (now < life::DONE).then_some(life));
        self.tell();
    }

    /// The job runs, and this is how far it is.
    pub fn advance(&self, progress: Progress) {
        self.progress.store(progress.pack(), SeqCst);
        let _ = self.life.compare_exchange(life::QUEUED, life::RUNNING, SeqCst, SeqCst);
        self.tell();
    }

    pub fn holds_best(&self) {
        self.holds_best.store(true, SeqCst);
    }

    /// Whether it was said that there is something to hand over.
    pub fn shows_best(&self) -> bool {
        self.holds_best.load(SeqCst)
    }

    /// Nobody will read a result.
    pub fn abandon(&self) {
        self.abandoned.store(true, SeqCst);
    }

    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(SeqCst) || self.is_final() || exit::closing()
    }

    /// See [`super::Job::cancel`]. Waits for nothing.
    pub fn cancel(&self) {
        self.cancel.cancel();
        // Of this and a thread that takes the question to answer it at least one sees the other: no callback is called after a
        // STOP, and one that is running may use what its host frees when the job has ended.
        let _ = self.stage.compare_exchange(stage::ASKED, stage::NONE, SeqCst, SeqCst);
        let shown = self.holds_best.load(SeqCst) && !self.abandoned.load(SeqCst);
        if !shown && self.stage.load(SeqCst) != stage::ANSWERING {
            let _ =
                self.life.fetch_update(SeqCst, SeqCst, |now| (now < life::DONE).then_some(life::CANCELLED));
        }
        // Where the lock is not to be had, whoever holds it may be about to wait, and looks again in a moment.
        drop(self.looking.try_lock());
        self.changed.notify_all();
    }

    /// The end of a job that has not begun, by a newer one with its key.
    pub fn replace(&self, key: u64) {
        self.replaced.store(key, SeqCst);
        self.cancel();
    }

    /// Wake whoever waits.
    fn tell(&self) {
        drop(self.look());
        self.changed.notify_all();
    }

    fn look(&self) -> MutexGuard<'_, ()> {
        self.looking.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Wait for a change, at most `time`, unless there is something to do. Whether the time has gone by.
    pub fn wait_for_change(&self, time: Duration, something: impl Fn() -> bool) -> bool {
        let looking = self.look();
        if something() {
            return false;
        }
        self.changed.wait_timeout(looking, time).unwrap_or_else(|e| e.into_inner()).1.timed_out()
    }

    fn question(&self) -> MutexGuard<'_, Question> {
        self.question.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// See [`crate::host::Host::ask`].
    pub fn ask(&self, reward: &Arc<Reward>, image: Tensor) -> Result<Option<(Tensor, Tensor)>> {
        self.turn.asks();
        *self.question() = Question::Asked(reward.clone(), image);
        self.stage.store(stage::ASKED, SeqCst);
        self.tell();
        let answer = self.wait_for_answer();
        self.turn.goes_on();
        answer
    }

    /// Have a thread that waits for the job answer, and wait for that.
    fn wait_for_answer(&self) -> Result<Option<(Tensor, Tensor)>> {
        loop {
            let stage = self.stage.load(SeqCst);
            match stage {
                stage::ANSWERED => {
                    let answer = std::mem::take(&mut *self.question());
                    self.stage.store(stage::NONE, SeqCst);
                    return match answer {
                        // Whoever cancels the job inside its callback need not write anything any more.
                        Question::Answered(Err(_)) if self.cancel.is_cancelled() => Ok(None),
                        Question::Answered(answer) => answer,
                        _ => Err(Error::internal("an answer that is none")),
                    };
                }
                // Between asking and answering, cancelling takes the question back.
                stage::NONE => {
                    *self.question() = Question::None;
                    return Ok(None);
                }
                stage::ASKED if self.cancel.is_cancelled() => {
                    let _ = self.stage.compare_exchange(stage::ASKED, stage::NONE, SeqCst, SeqCst);
                    continue;
                }
                // The thread that answers may be the one that exits, or that frees the job.
                stage::ANSWERING if exit::closing() || self.abandoned.load(SeqCst) => return Ok(None),
                _ => {}
            }
            self.wait_for_change(LOOK, || {
                self.stage.load(SeqCst) != stage || (stage == stage::ASKED && self.cancel.is_cancelled())
            });
        }
    }

    /// Answer what the worker asks, on this thread. Waits for nothing but the callback.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where this thread is inside the callback already; those of `check`, to be called after it.
    pub fn serve(&self, check: impl FnOnce() -> Result<()>) -> Result<Served> {
        let take = || self.stage.compare_exchange(stage::ASKED, stage::ANSWERING, SeqCst, SeqCst);
        if self.cancel.is_cancelled() || take().is_err() {
            return Ok(Served::Nothing);
        }
        let Question::Asked(reward, image) = std::mem::take(&mut *self.question()) else {
            return Err(Error::internal("a question that is none"));
        };
        let entered = match reward.as_callback()?.enter() {
            Ok(entered) if !self.cancel.is_cancelled() => Ok(entered),
            Ok(_) => Err(Ok(Served::Nothing)),
            Err(Busy::Elsewhere) => Err(Ok(Served::Busy)),
            Err(Busy::Here) => Err(Err(inside_its_callback("waiting for a job"))),
        };
        let mut entered = match entered {
            Ok(entered) => entered,
            Err(instead) => {
                *self.question() = Question::Asked(reward.clone(), image);
                self.stage.store(stage::ASKED, SeqCst);
                match self.cancel.is_cancelled() {
                    // Who cancelled has taken this for an answer under way.
                    true => self.cancel(),
                    false => self.changed.notify_all(),
                }
                return instead;
            }
        };
        self.turn.answers();
        // A panicking callback must not leave the worker waiting.
        let answered =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| answer(&mut entered, &image)));
        drop(entered);
        check()?;
        self.turn.answered();
        let answered = answered.unwrap_or_else(|_| Err(Error::internal("the reward callback panicked")));
        *self.question() = Question::Answered(answered);
        self.stage.store(stage::ANSWERED, SeqCst);
        // The worker may hold the lock, about to wait: it looks again in a moment.
        drop(self.looking.try_lock());
        self.changed.notify_all();
        Ok(Served::Answered)
    }
}

/// What the arrays of an answer hold before the callback: zeros to whoever adds to them, of signs that nobody writes, in a
/// whole gradient, but who writes none.
fn unwritten() -> impl Iterator<Item = f32> {
    // Of the golden ratio's multiples, the highest bit; the first is negative: a score alone is more often 0 than -0.
    (0..u32::MAX).map(|i| if (i.wrapping_mul(0x9e37_79b9) as i32) < 0 { 0.0 } else { -0.0 })
}

/// Run the callback on this thread and check its answer.
fn answer(callback: &mut Admitted, image: &Tensor) -> Result<Option<(Tensor, Tensor)>> {
    let shape = image.shape().clone();
    let pixels = image.f32s()?;
    let mut scores = shortage::collected("scores of the reward callback", shape[0], unwritten())?;
    let mut gradient = shortage::collected("gradient of the reward callback", pixels.len(), unwritten())?;
    let view = RewardImage { pixels, batch: shape[0], width: shape[3], height: shape[2] };
    let mut answer = RewardAnswer { scores: &mut scores, gradient: &mut gradient };
    if callback.call(&view, &mut answer).is_break() {
        return Ok(None);
    }
    let untouched = |values: &[f32]| {
        values.iter().map(|v| v.to_bits()).eq(unwritten().map(f32::to_bits).take(values.len()))
    };
    if untouched(&scores) && untouched(&gradient) {
        return Err(Error::invalid("reward callback", "a score for each picture", "none written"));
    }
    Ok(Some((Tensor::from_f32_vec([shape[0]], scores), Tensor::from_f32_vec(shape, gradient))))
}

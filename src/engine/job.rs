//! A submitted request: progress, waiting, cancelling, and its result.

use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::turns::{LOOK, Turn, inside_its_callback};
use super::worker::Worker;
use crate::error::{Error, Result};
use crate::generated::Generated;
use crate::host::{Host, Progress};
use crate::rewards::callback::{Admitted, Busy};
use crate::rewards::{Reward, RewardAnswer, RewardImage};
use crate::runtime::{Cancel, exit};
use crate::shortage;
use crate::tensor::Tensor;

/// How often a thread looks whether another has left the callback that it should call.
const BUSY: Duration = Duration::from_millis(1);

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
        }
    }

    /// True once the job will not change any more.
    pub fn is_final(self) -> bool {
        matches!(self, Phase::Done | Phase::Failed | Phase::Cancelled)
    }
}

#[derive(Debug)]
struct State {
    phase: Phase,
    progress: Progress,
    result: Option<Result<Arc<Generated>>>,
    question: Question,
    /// There is something to hand over when the job is cancelled.
    holds_best: bool,
    /// The owner is gone: end without a last picture.
    abandoned: bool,
}

/// A callback reward in flight: the worker asks, the thread that waits for the job answers.
#[derive(Debug, Default)]
enum Question {
    #[default]
    None,
    Asked(Arc<Reward>, Tensor),
    Answering,
    /// Scores [B] and gradient [B, 3, H, W]; `None` when the callback said stop.
    Answered(Result<Option<(Tensor, Tensor)>>),
}

/// The side of a job that the worker thread fills in.
#[derive(Debug)]
pub(super) struct JobState {
    pub cancel: Arc<Cancel>,
    state: Mutex<State>,
    changed: Condvar,
    turn: Arc<Turn>,
}

impl JobState {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The end by its result.
    pub fn finish(&self, result: Result<Generated>) {
        let phase = match &result {
            Ok(_) => Phase::Done,
            Err(Error::Cancelled) => Phase::Cancelled,
            Err(_) => Phase::Failed,
        };
        self.end(phase, result);
    }

    /// The end of a cancelled job that has something to show: waiting reports the cancellation, the result
    /// can be read.
    pub fn finish_cancelled(&self, best: Generated) {
        self.end(Phase::Cancelled, Ok(best));
    }

    /// The end, unless the job has one already.
    fn end(&self, phase: Phase, result: Result<Generated>) {
        let mut state = self.lock();
        if state.phase.is_final() {
            return;
        }
        state.phase = phase;
        state.result = Some(result.map(Arc::new));
        self.changed.notify_all();
    }
}

impl Host for JobState {
    fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    fn advance(&self, progress: Progress) {
        let mut state = self.lock();
        if state.phase.is_final() {
            return;
        }
        state.phase = Phase::Running;
        state.progress = progress;
        self.changed.notify_all();
    }

    fn holds_best(&self) {
        self.lock().holds_best = true;
    }

    fn ask(&self, reward: &Arc<Reward>, image: Tensor) -> Result<Option<(Tensor, Tensor)>> {
        self.turn.asks(reward);
        let answer = self.wait_for_answer(reward, image);
        self.turn.goes_on();
        answer
    }

    fn is_abandoned(&self) -> bool {
        let state = self.lock();
        state.abandoned || state.phase.is_final() || exit::closing()
    }
}

impl JobState {
    /// Have a thread that waits for the job answer, and wait for that.
    fn wait_for_answer(&self, reward: &Arc<Reward>, image: Tensor) -> Result<Option<(Tensor, Tensor)>> {
        let mut state = self.lock();
        state.question = Question::Asked(reward.clone(), image);
        self.changed.notify_all();
        loop {
            match std::mem::take(&mut state.question) {
                // Whoever cancels the job inside its callback need not write anything any more.
                Question::Answered(Err(_)) if self.cancel.is_cancelled() => return Ok(None),
                Question::Answered(answer) => return answer,
                // Between asking and answering, cancelling takes the question back.
                Question::Asked(..) | Question::None if self.cancel.is_cancelled() => return Ok(None),
                // The thread that answers may be the one that exits, or that frees the job.
                Question::Answering if exit::closing() || state.abandoned => return Ok(None),
                other => state.question = other,
            }
            let wait = self.changed.wait_timeout(state, Duration::from_millis(50));
            state = wait.unwrap_or_else(|e| e.into_inner()).0;
        }
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

/// A submitted request. Dropping it cancels the job and waits for it to end.
#[derive(Debug)]
pub struct Job {
    shared: Arc<JobState>,
    /// Alive until the job is gone.
    worker: Arc<Worker>,
}

impl Job {
    pub(super) fn new(worker: Arc<Worker>) -> Job {
        let state = State {
            phase: Phase::Queued,
            progress: Progress::default(),
            result: None,
            question: Question::None,
            holds_best: false,
            abandoned: false,
        };
        let cancel = Arc::<Cancel>::default();
        let turn = Turn::new(worker.turns().clone(), cancel.clone());
        let shared = Arc::new(JobState { cancel, state: Mutex::new(state), changed: Condvar::new(), turn });
        Job { shared, worker }
    }

    pub(super) fn shared(&self) -> &Arc<JobState> {
        &self.shared
    }

    /// Ask for the end; returns at once. Any thread, any time, any number of times. A job without a picture to hand over
    /// ends here: it waits neither for the ones before it nor for the engine, which goes on to the next one once it has
    /// left the node that it runs or the session that it prepares. An optimisation that has finished an iterate ends as
    /// soon as its best picture is made.
    pub fn cancel(&self) {
        self.shared.cancel.cancel();
        let state = self.shared.lock();
        // A callback that is running may use what its host frees when the job has ended.
        let ends = !state.holds_best && !matches!(state.question, Question::Answering);
        // A worker that waits for a callback's answer sees it now, not at its next look.
        self.shared.changed.notify_all();
        drop(state);
        if ends {
            self.shared.finish(Err(Error::Cancelled));
        }
    }

    pub fn phase(&self) -> Phase {
        self.shared.lock().phase
    }

    pub fn progress(&self) -> Progress {
        self.shared.lock().progress
    }

    pub(super) fn worker(&self) -> &Arc<Worker> {
        &self.worker
    }

    /// Wait for the end, at most `timeout`; then the job goes on. `progress` is called on this thread after each
    /// step; `Break` cancels the job.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::Cancelled`], also where [`Job::result`] has a best picture; or what the job failed
    /// with.
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
        let mut state = self.shared.lock();
        loop {
            if state.progress != reported {
                reported = state.progress;
                drop(state);
                let away = self.shared.turn.leave();
                if progress(reported).is_break() {
                    self.cancel();
                }
                drop(away);
                // A callback may have forked: in the child nothing goes on.
                self.worker.check_process()?;
                state = self.shared.lock();
                continue;
            }
            if state.phase == Phase::Cancelled {
                return Err(Error::Cancelled);
            }
            if let Some(result) = &state.result {
                return result.clone();
            }
            // After a cancel the worker takes the question back: no callback is called after a STOP.
            let mut look = LOOK;
            let asked = match &state.question {
                Question::Asked(reward, image) if !self.shared.cancel.is_cancelled() => {
                    Some((reward.clone(), image.clone()))
                }
                _ => None,
            };
            let entered = match &asked {
                Some((reward, image)) => match reward.as_callback()?.enter() {
                    Ok(entered) => Some((entered, image)),
                    Err(Busy::Here) => return Err(inside_its_callback("waiting for a job")),
                    Err(Busy::Elsewhere) => {
                        look = BUSY;
                        None
                    }
                },
                None => None,
            };
            if let Some((mut entered, image)) = entered {
                state.question = Question::Answering;
                self.shared.turn.answers();
                drop(state);
                // A panicking callback must not leave the worker waiting.
                let answered =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| answer(&mut entered, image)));
                drop(entered);
                self.worker.check_process()?;
                state = self.shared.lock();
                self.shared.turn.answered();
                let answered =
                    answered.unwrap_or_else(|_| Err(Error::internal("the reward callback panicked")));
                state.question = Question::Answered(answered);
                self.shared.changed.notify_all();
                continue;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(Error::Timeout { milliseconds: timeout.unwrap_or_default().as_millis() as u64 });
            }
            let look = left.unwrap_or(look).min(look);
            let (again, woken) =
                self.shared.changed.wait_timeout(state, look).unwrap_or_else(|e| e.into_inner());
            state = again;
            if woken.timed_out() {
                drop(state);
                let turn = self.shared.turn.check();
                state = self.shared.lock();
                // The engine may have come to the end meanwhile, and to the next job's callback.
                if !state.phase.is_final() {
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
        let state = self.shared.lock();
        match &state.result {
            Some(result) => result.clone(),
            None => Err(Error::NotReady { what: "job result", state: state.phase.name() }),
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.worker.is_foreign_process() {
            return;
        }
        self.shared.lock().abandoned = true;
        self.cancel();
        let _queued = self.shared.turn.queue();
        // Where the worker waits for this thread the job ends without it.
        while !self.phase().is_final() && self.shared.turn.check().is_ok() {
            let state = self.shared.lock();
            if !state.phase.is_final() {
                drop(self.shared.changed.wait_timeout(state, LOOK));
            }
        }
    }
}

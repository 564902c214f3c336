//! Whose turn it is: the worker waits for a callback's answer, and the thread that should give it must not wait for the
//! worker. The worker itself takes none of the locks here.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::rewards::Reward;
use crate::runtime::Cancel;

/// How long nobody may wait for a job that asks until the thread that has submitted it is taken to be the one that
/// should: another may be about to.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often a thread that waits for the worker looks whether the worker waits for it.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// The jobs of an engine that may ask a callback: one does so at a time.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<Vec<Weak<Turn>>>);

/// Which worker each thread of the process waits for, as long as it takes; a thread inside a callback may wait for several.
static WAITS: Mutex<Vec<(ThreadId, Weak<Turns>)>> = Mutex::new(Vec::new());

/// Engines whose callbacks wait for one another that are looked through: more are not taken to be a circle.
const CHAIN: usize = 64;

/// Threads that wait for one another, the last for a worker that waits for the first.
type Circle = [Option<ThreadId>; CHAIN];

/// A job asks the callback that this thread is inside for another one.
pub(super) fn inside_its_callback(what: &str) -> Error {
    Error::Unsupported {
        what: what.into(),
        reason: "a job of its engine waits for its reward callback, which this thread is inside for another job: wait \
                 outside it"
            .into(),
    }
}

fn waits() -> MutexGuard<'static, Vec<(ThreadId, Weak<Turns>)>> {
    WAITS.lock().unwrap_or_else(|e| e.into_inner())
}

/// This thread waits for a worker, as long as it takes, until the guard is dropped.
pub(super) struct Queued(Weak<Turns>);

impl Drop for Queued {
    fn drop(&mut self) {
        let this = std::thread::current().id();
        let mut waits = waits();
        if let Some(at) = waits.iter().rposition(|(thread, on)| *thread == this && on.ptr_eq(&self.0)) {
            waits.remove(at);
        }
    }
}

impl Turns {
    /// Tell threads in callbacks of other engines that this one waits for the worker.
    pub fn queue(self: &Arc<Turns>) -> Queued {
        let turns = Arc::downgrade(self);
        waits().push((std::thread::current().id(), turns.clone()));
        Queued(turns)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Turn>>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The job whose callback the worker waits for.
    fn asking(&self) -> Option<Arc<Turn>> {
        self.lock().iter().filter_map(Weak::upgrade).find(|turn| turn.asked().is_some())
    }

    /// The threads that the worker waits for, each by way of the one before it, up to this one, if it does wait for this
    /// one. `answers`: this one is about to wait for the job that asks.
    fn chain(&self, answers: bool) -> Option<Circle> {
        let this = std::thread::current().id();
        let mut chain = [None; CHAIN];
        let mut asking = self.asking();
        let mut answers = answers;
        for link in &mut chain {
            let thread = asking?.awaits(std::mem::take(&mut answers))?;
            *link = Some(thread);
            if thread == this {
                return Some(chain);
            }
            let on =
                waits().iter().rev().find(|(waiting, _)| *waiting == thread).and_then(|(_, on)| on.upgrade());
            asking = on?.asking();
        }
        None
    }

    /// See [`Turns::chain`]: of links that were there one after the other, those that were there at the same time.
    fn circle(&self, answers: bool) -> Option<Circle> {
        self.chain(answers).filter(|circle| self.chain(answers).as_ref() == Some(circle))
    }

    /// That this thread may wait for the worker. `own`: of the job that it is about to wait for, and so to answer.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where nobody else can be expected to answer: this thread is inside a callback of the job
    /// that asks, be it for another one, or in one that the thread inside that callback waits for, or has submitted that
    /// job and nobody waits for it.
    pub fn check(&self, what: &str, own: Option<&Arc<Turn>>) -> Result<()> {
        let Some(asking) = self.asking() else { return Ok(()) };
        let waits = own.is_some_and(|own| Arc::ptr_eq(own, &asking));
        let reason = if asking.is_up_to(std::thread::current().id(), waits) {
            "a job of this engine waits for its reward callback, which this thread answers: wait for that job, and from \
             outside its callbacks"
        } else if let Some(circle) = self.circle(waits) {
            if circle[1].is_none() {
                return Err(inside_its_callback(what));
            }
            "a job of this engine waits for its reward callback, which waits for the callback that this thread is in: do \
             not wait for other engines inside callbacks"
        } else {
            return Ok(());
        };
        Err(Error::Unsupported { what: what.into(), reason: reason.into() })
    }
}

/// The threads that answer a job's callbacks.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    /// Of the job.
    cancel: Arc<Cancel>,
    /// The callback that the job asks, if any.
    reward: Option<Arc<Reward>>,
    submitter: ThreadId,
    submitted: Instant,
    /// When the worker asked, in milliseconds after 1 before that; 0 while it does not wait.
    asked: AtomicU64,
    state: Mutex<TurnState>,
}

#[derive(Debug, Default)]
struct TurnState {
    /// Threads inside a wait for the job, callbacks included.
    waiting: Vec<ThreadId>,
    /// How many of those waits are inside the job's progress callback, and do not answer meanwhile.
    away: usize,
    answering: Option<ThreadId>,
}

impl Turn {
    /// Of a job that this thread submits, and the callback among its rewards.
    pub fn new(turns: Arc<Turns>, cancel: Arc<Cancel>, reward: Option<Arc<Reward>>) -> Arc<Turn> {
        let turn = Arc::new(Turn {
            turns,
            cancel,
            submitter: std::thread::current().id(),
            submitted: Instant::now(),
            asked: AtomicU64::new(0),
            state: Mutex::default(),
            reward,
        });
        if turn.reward.is_some() {
            let mut jobs = turn.turns.lock();
            jobs.retain(|job| job.strong_count() > 0);
            jobs.push(Arc::downgrade(&turn));
        }
        turn
    }

    fn lock(&self) -> MutexGuard<'_, TurnState> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The worker waits for an answer of the callback.
    pub fn asks(&self) {
        self.asked.store(self.submitted.elapsed().as_millis() as u64 + 1, SeqCst);
    }

    /// The worker does not wait any more.
    pub fn goes_on(&self) {
        self.asked.store(0, SeqCst);
    }

    /// For how long the worker has waited for an answer, if it does.
    pub fn asked(&self) -> Option<Duration> {
        let asked = Duration::from_millis(self.asked.load(SeqCst).checked_sub(1)?);
        Some(self.submitted.elapsed().saturating_sub(asked))
    }

    /// This thread answers until it says that it is done.
    pub fn answers(&self) {
        self.lock().answering = Some(std::thread::current().id());
    }

    /// See [`Turn::answers`].
    pub fn answered(&self) {
        self.lock().answering = None;
    }

    /// This thread waits for the job, and answers what it asks, until the guard is dropped; `forever`, or for some time.
    ///
    /// # Errors
    /// As [`Turns::check`].
    pub fn wait(self: &Arc<Turn>, forever: bool) -> Result<Waiting<'_>> {
        let queued = forever.then(|| self.turns.queue());
        self.check()?;
        self.lock().waiting.push(std::thread::current().id());
        Ok(Waiting(self, queued))
    }

    /// See [`Turns::queue`].
    pub fn queue(&self) -> Queued {
        self.turns.queue()
    }

    /// That this thread may wait for the job.
    ///
    /// # Errors
    /// As [`Turns::check`].
    pub fn check(self: &Arc<Turn>) -> Result<()> {
        self.turns.check("waiting for a job", Some(self))
    }

    /// This thread, which waits for the job, is inside its progress callback until the guard is dropped.
    pub fn leave(&self) -> Away<'_> {
        self.lock().away += 1;
        Away(self)
    }

    /// The thread that must come out of a callback before the worker goes on: out of the one that is asked, whichever job
    /// it is inside for, or out of the progress callback, unless another one `answers`.
    fn awaits(&self, answers: bool) -> Option<ThreadId> {
        let state = self.lock();
        // The worker of a cancelled job takes back what it asks.
        if state.answering.is_some() || self.cancel.is_cancelled() {
            return state.answering;
        }
        self.asked()?;
        let inside = self.reward.as_ref()?.as_callback().ok()?.inside();
        let only = || {
            let (first, others) = state.waiting.split_first()?;
            let only = state.away == state.waiting.len() && others.iter().all(|other| other == first);
            only.then_some(*first)
        };
        if answers { inside } else { inside.or_else(only) }
    }

    fn is_up_to(&self, thread: ThreadId, waits: bool) -> bool {
        let state = self.lock();
        match (state.answering, self.asked()) {
            (Some(answering), _) => answering == thread,
            (None, Some(_)) if waits => false,
            (None, Some(asked)) if state.waiting.is_empty() => self.submitter == thread && asked > PATIENCE,
            (None, Some(_)) => state.waiting.iter().all(|waiting| *waiting == thread),
            (None, None) => false,
        }
    }
}

/// See [`Turn::leave`].
pub(super) struct Away<'a>(&'a Turn);

impl Drop for Away<'_> {
    fn drop(&mut self) {
        self.0.lock().away -= 1;
    }
}

/// See [`Turn::wait`].
pub(super) struct Waiting<'a>(&'a Turn, #[allow(dead_code)] Option<Queued>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let this = std::thread::current().id();
        let mut state = self.0.lock();
        if let Some(at) = state.waiting.iter().position(|thread| *thread == this) {
            state.waiting.swap_remove(at);
        }
    }
}

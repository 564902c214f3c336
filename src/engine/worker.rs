//! The worker thread that owns an engine's sessions and runs one task after the other.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, OnceLock};

use super::queue::{Queue, Rank, Task};
use super::state::JobState;
use super::turns::{LOOK, Turns};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::panic_wall;
use crate::rewards::model::Keeper;
use crate::runtime::cancel::{keep_pace, working_for};
use crate::runtime::heap::release_heap;
use crate::runtime::pace::Pace;
use crate::runtime::threads::{Thread, Threads};
use crate::runtime::{Cancel, Options, Runtime, exit, load, process};
use crate::sessions::Sessions;
use crate::sessions::log::LogQueue;
use crate::shortage;

/// Address space that the worker thread should find: its stack, and twice the 64 MiB of a heap of its own, which glibc
/// aligns. Where it gets none, glibc serves each of its allocations with a page, and soon there is nothing left.
const THREAD: u64 = if cfg!(all(target_os = "linux", target_env = "gnu")) { 132 << 20 } else { 4 << 20 };

/// Most jobs that go before the next step of another, each inside the one before it: the thread's stack is bounded.
const NESTED: u32 = 4;

/// The worker of an opened model. Whoever drops it last waits for its thread.
#[derive(Debug)]
pub(super) struct Worker {
    pub model: Arc<Model>,
    pub options: Options,
    pub runtime: Runtime,
    /// Threads that take part in one run.
    pub threads: usize,
    state: Arc<WorkerState>,
    thread: Option<Thread>,
    /// Process that opened the engine: a forked child has no worker thread.
    process: u32,
}

/// What the thread and whoever queues work for it both see.
#[derive(Debug)]
pub(super) struct WorkerState {
    /// The first panic.
    poison: OnceLock<String>,
    queue: Queue,
    pace: Arc<Pace>,
    /// Jobs that are inside the steps of others.
    nested: AtomicU32,
    turns: Arc<Turns>,
    log: Arc<LogQueue>,
}

impl WorkerState {
    fn new(threads: &Arc<Threads>) -> WorkerState {
        let (poison, queue, nested, turns, log) = Default::default();
        WorkerState { poison, queue, pace: Arc::new(Pace::new(threads.clone())), nested, turns, log }
    }

    fn check_poison(&self) -> Result<()> {
        match self.poison.get() {
            None => Ok(()),
            Some(first) => Err(Error::internal(format!(
                "an earlier job of this engine panicked ({first}); free it and open it again"
            ))),
        }
    }

    /// `work` as a task: see [`Worker::enqueue`].
    fn walled(
        self: &Arc<WorkerState>,
        cancel: Option<Arc<Cancel>>,
        work: impl FnOnce(&mut Sessions) + Send + 'static,
        panicked: impl FnOnce(Error) + Send + 'static,
    ) -> Task {
        let state = self.clone();
        Box::new(move |sessions: &mut Sessions| {
            if let Err(e) = state.check_poison() {
                return panicked(e);
            }
            if exit::closing() {
                return panicked(Error::Cancelled);
            }
            shortage::forget();
            let _working = cancel.map(working_for);
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                panic_wall::quietly(|| {
                    work(sessions);
                    sessions.settle();
                })
            }));
            if let Err(payload) = outcome {
                let first = panic_wall::message(payload.as_ref());
                let trace = panic_wall::take_backtrace().unwrap_or_default();
                state.log.error(format!("a job panicked: {first}\n{trace}"));
                let _ = state.poison.set(first.clone());
                panicked(Error::internal(first));
            }
        })
    }

    /// Do `work` before any other task. Nobody waits for it.
    fn first(self: &Arc<WorkerState>, work: impl FnOnce(&mut Sessions) + Send + 'static) {
        let rank = Rank { priority: i32::MAX, ..Rank::default() };
        self.queue.push(rank, self.walled(None, work, |_| ()));
    }

    /// On the worker thread: whether what it does stands inside a step of another job.
    pub fn is_nested(&self) -> bool {
        self.nested.load(SeqCst) > 0
    }

    /// Do `work` for a job that has begun already, inside no other one. `panicked`: see [`Worker::enqueue`].
    pub fn again(
        self: &Arc<WorkerState>,
        job: Arc<JobState>,
        priority: i32,
        work: impl FnOnce(&mut Sessions) + Send + 'static,
        panicked: impl FnOnce(Error) + Send + 'static,
    ) {
        let task = self.walled(Some(job.cancel.clone()), work, panicked);
        // It has begun: no newer job takes its place.
        self.queue.push(Rank { priority, key: 0, job: Some(job), alone: true }, task);
    }

    /// On the worker thread, between two steps of a job of this priority: do the jobs first that go before it, to their ends.
    ///
    /// # Errors
    /// [`Error::Internal`] once one has panicked.
    pub fn serve_above(&self, priority: i32, sessions: &mut Sessions) -> Result<()> {
        if self.nested.load(SeqCst) >= NESTED {
            return Ok(());
        }
        self.nested.fetch_add(1, SeqCst);
        let noted = shortage::noted();
        while let Some(task) = self.queue.pop_above(priority) {
            task(sessions);
            shortage::forget();
        }
        if noted {
            shortage::note();
        }
        self.nested.fetch_sub(1, SeqCst);
        self.check_poison()
    }
}

/// The worker lets go of what it keeps of the file, before it goes on to another task.
impl Keeper for WorkerState {
    fn closed(self: Arc<WorkerState>, namespace: &str) {
        let namespace = namespace.to_string();
        self.first(move |sessions| sessions.forget_file(&namespace));
    }
}

impl Worker {
    /// Start a worker for the model: its thread, and ONNX Runtime on it.
    ///
    /// # Errors
    /// `InvalidArgument` for options out of range; that ONNX Runtime or the provider is not usable.
    pub fn start(model: Model, options: Options) -> Result<Worker> {
        process::claim()?;
        check(&options)?;
        let model = Arc::new(model);
        let threads = Arc::new(Threads::new(options.threads, options.niceness));
        let state = Arc::new(WorkerState::new(&threads));
        shortage::room("starting a thread", THREAD)?;
        let (reply, ready) = channel::<Result<Runtime>>();
        let thread = {
            let (model, options, threads, state) =
                (model.clone(), options.clone(), threads.clone(), state.clone());
            let pool = threads.clone();
            threads.spawn("softdimo-worker", move || {
                let library = options.ort_library.clone();
                let worker = state.clone();
                let Some(entered) = exit::enter() else {
                    return drop(reply.send(Err(Error::Unsupported {
                        what: "opening an engine".into(),
                        reason: "the process is exiting".into(),
                    })));
                };
                let started = load(library.as_deref()).and_then(|runtime| {
                    let log = state.log.clone();
                    log.info(format!("ONNX Runtime {} from {}", runtime.version, runtime.path.display()));
                    let mut sessions = Sessions::new(model, options, runtime.clone(), pool, log);
                    sessions.check_provider()?;
                    sessions.rehearse();
                    let weak = Arc::downgrade(&state);
                    sessions.share().on_demand(move || {
                        if let Some(state) = weak.upgrade() {
                            state.first(|sessions| sessions.give_back());
                        }
                    });
                    exit::install();
                    shortage::check("the engine")?;
                    Ok((runtime, sessions))
                });
                drop(entered);
                match started {
                    Ok((runtime, sessions)) => {
                        keep_pace(worker.pace.clone());
                        if reply.send(Ok(runtime)).is_ok() {
                            serve(&worker.queue, sessions);
                        }
                    }
                    Err(e) => drop(reply.send(Err(e))),
                }
            })?
        };
        let started =
            ready.recv().unwrap_or_else(|_| Err(Error::internal("the worker thread died while starting")));
        let runtime = match started {
            Ok(runtime) => runtime,
            Err(e) => {
                thread.join();
                return Err(e);
            }
        };
        Ok(Worker {
            model,
            options,
            runtime,
            threads: threads.count(),
            state,
            thread: Some(thread),
            process: std::process::id(),
        })
    }

    pub fn state(&self) -> &Arc<WorkerState> {
        &self.state
    }

    pub fn queue(&self) -> &Queue {
        &self.state.queue
    }

    /// Compute nothing from now on, or go on. Jobs that have not begun stay where they are.
    pub fn pause(&self, paused: bool) {
        self.state.queue.pause(paused);
        self.state.pace.pause(paused);
    }

    pub fn pace(&self) -> &Pace {
        &self.state.pace
    }

    pub fn turns(&self) -> &Arc<Turns> {
        &self.state.turns
    }

    pub fn log(&self) -> &LogQueue {
        &self.state.log
    }

    /// Whether the engine's threads are not here: see [`Worker::check_process`].
    pub fn is_foreign_process(&self) -> bool {
        self.check_process().is_err()
    }

    /// [`Error::Forked`] in a child process of the one that opened the engine; see [`process::check_opener`].
    pub fn check_process(&self) -> Result<()> {
        process::check_opener(self.process)
    }

    /// [`Worker::check_process`], and [`Error::Internal`] after a caught panic.
    pub fn check(&self) -> Result<()> {
        self.check_process()?;
        self.state.check_poison()
    }

    /// Queue `work` for the worker thread; tasks run one after the other, by their places. A panic in `work`
    /// calls `panicked` and poisons the engine: of the tasks behind it, only `panicked` is called. So it is, with
    /// [`Error::Cancelled`], once the process is exiting.
    pub fn enqueue(
        &self,
        rank: Rank,
        work: impl FnOnce(&mut Sessions) + Send + 'static,
        panicked: impl FnOnce(Error) + Send + 'static,
    ) -> Result<()> {
        self.check()?;
        self.model.mapping().recheck()?;
        let cancel = rank.job.as_ref().map(|job| job.cancel.clone());
        self.state.queue.push(rank, self.state.walled(cancel, work, panicked));
        Ok(())
    }

    /// Run `work` on the worker thread and wait for its result.
    ///
    /// # Errors
    /// What `work` returns; as [`Worker::enqueue`]; [`Error::Unsupported`] where the worker waits for this thread.
    pub fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Sessions) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let check_turn = || self.state.turns.check("waiting for the engine", None);
        let _queued = self.state.turns.queue();
        check_turn()?;
        let (reply, result) = channel();
        let panicked = reply.clone();
        let work = move |sessions: &mut Sessions| {
            let result = shortage::checked("the engine", work(sessions));
            let intact = sessions.model().mapping().recheck();
            drop(reply.send(intact.and(result)));
        };
        self.enqueue(Rank::default(), work, move |e| drop(panicked.send(Err(e))))?;
        loop {
            match result.recv_timeout(LOOK) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(e) = check_turn() {
                        // The worker may have answered meanwhile, and gone on to a job that asks.
                        return result.try_recv().unwrap_or(Err(e));
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::internal("the worker thread is gone"));
                }
            }
        }
    }
}

/// That the numbers of the options are in their ranges.
///
/// # Errors
/// [`Error::InvalidArgument`].
pub(super) fn check(options: &Options) -> Result<()> {
    if options.threads > 256 {
        return Err(Error::invalid("threads", "0 (automatic) to 256", options.threads));
    }
    if !(0..=19).contains(&options.niceness) {
        return Err(Error::invalid("niceness", "0 to 19", options.niceness));
    }
    Ok(())
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.is_foreign_process() {
            // A forked child has neither the threads nor the right to touch their sessions.
            std::mem::forget(self.thread.take());
            std::mem::forget((self.model.clone(), self.state.clone()));
            return;
        }
        self.state.queue.close();
        self.state.pace.close();
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
    }
}

/// The worker's loop: one task at a time until the engine goes.
fn serve(queue: &Queue, mut sessions: Sessions) {
    while let Some(task) = queue.pop() {
        // While the process exits a task still runs, to say so to whom waits for it.
        let _entered = exit::enter();
        task(&mut sessions);
    }
    match exit::enter() {
        // ONNX Runtime's statics may be gone already; the kernel takes the memory back.
        None => std::mem::forget(sessions),
        Some(_entered) => {
            // What an engine held goes back to the system with it, not only to the heap of a thread that ends.
            drop(sessions);
            release_heap();
        }
    }
}

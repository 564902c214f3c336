//! The worker thread that owns an engine's sessions, and the handle the rest of the library holds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::cancel::Cancel;
use super::log::LogQueue;
use super::threads::Threads;
use super::{MemoryUse, Options, Runtime, Sessions, exit, runtime};
use crate::checkpoint::{Checkpoint, Mapping};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::model::Model;
use crate::program::{Program, Role};
use crate::request::BATCH_LIMIT;
use crate::tensor::Tensor;

/// Work for the worker thread.
type Task = Box<dyn FnOnce(&mut Sessions) + Send>;

/// An opened model on a provider. Cloning shares it; the last clone to go stops and joins its threads.
/// All methods may be called from any thread.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    model: Arc<Model>,
    options: Options,
    runtime: Runtime,
    threads: usize,
    shared: Arc<Shared>,
    queue: Option<Sender<Task>>,
    worker: Option<JoinHandle<()>>,
    /// Process that opened the engine: a forked child has no worker thread.
    process: u32,
}

/// What the worker and the engine both see.
#[derive(Debug, Default)]
struct Shared {
    poisoned: AtomicBool,
    log: Arc<LogQueue>,
}

impl Shared {
    fn check_poison(&self) -> Result<()> {
        if self.poisoned.load(Ordering::SeqCst) {
            return Err(Error::internal("an earlier job of this engine panicked; free it and open it again"));
        }
        Ok(())
    }
}

/// The process that first opened an engine; 0 before that.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// [`Error::Forked`] in a forked child of the process that first opened an engine: ONNX Runtime and this
/// library's locks are not usable there.
pub fn check_process() -> Result<()> {
    match PROCESS.load(Ordering::SeqCst) {
        0 => Ok(()),
        parent if parent == std::process::id() => Ok(()),
        parent => Err(Error::Forked { parent }),
    }
}

impl Engine {
    /// Open a model file. Nothing is read of the weights and no session is prepared: that happens on the
    /// first job, or in [`Engine::warmup`]. Errors: the file's, or that ONNX Runtime or the provider is
    /// not usable.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Engine> {
        Engine::start(Model::open(path.as_ref(), options.weights)?, options)
    }

    /// Open a model whose bytes are already in memory; `file` is its name in messages.
    pub fn from_mapping(mapping: Arc<Mapping>, file: &str, options: Options) -> Result<Engine> {
        Engine::start(Model::from_mapping(mapping, file)?, options)
    }

    fn start(model: Model, options: Options) -> Result<Engine> {
        let _ = PROCESS.compare_exchange(0, std::process::id(), Ordering::SeqCst, Ordering::SeqCst);
        check_process()?;
        if options.threads > 256 {
            return Err(Error::invalid("threads", "0 (automatic) to 256", options.threads));
        }
        if !(0..=19).contains(&options.niceness) {
            return Err(Error::invalid("niceness", "0 to 19", options.niceness));
        }
        let model = Arc::new(model);
        let threads = Arc::new(Threads::new(options.threads, options.niceness));
        let shared = Arc::new(Shared::default());
        let (queue, tasks) = channel::<Task>();
        let (reply, ready) = channel::<Result<Runtime>>();
        let worker = {
            let (model, options, threads, shared) =
                (model.clone(), options.clone(), threads.clone(), shared.clone());
            let pool = threads.clone();
            threads.spawn("softdimo-worker", move || {
                let library = options.ort_library.clone();
                let Some(entered) = exit::enter() else {
                    return drop(reply.send(Err(Error::Unsupported {
                        what: "opening an engine".into(),
                        reason: "the process is exiting".into(),
                    })));
                };
                let started = runtime::load(library.as_deref()).and_then(|runtime| {
                    let log = shared.log.clone();
                    log.info(format!("ONNX Runtime {} from {}", runtime.version, runtime.path.display()));
                    let mut sessions = Sessions::new(model, options, runtime.clone(), pool, log);
                    sessions.check_provider()?;
                    sessions.rehearse();
                    exit::install();
                    Ok((runtime, sessions))
                });
                drop(entered);
                match started {
                    Ok((runtime, sessions)) => {
                        if reply.send(Ok(runtime)).is_ok() {
                            serve(tasks, sessions);
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
                let _ = worker.join();
                return Err(e);
            }
        };
        let inner = Inner {
            model,
            options,
            runtime,
            threads: threads.count(),
            shared,
            queue: Some(queue),
            worker: Some(worker),
            process: std::process::id(),
        };
        Ok(Engine { inner: Arc::new(inner) })
    }

    pub fn model(&self) -> &Arc<Model> {
        &self.inner.model
    }

    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// The ONNX Runtime this engine runs on.
    pub fn runtime(&self) -> &Runtime {
        &self.inner.runtime
    }

    /// Threads that take part in one run.
    pub fn threads(&self) -> usize {
        self.inner.threads
    }

    /// Which execution provider runs how many nodes of each prepared session, as ONNX Runtime reports it.
    pub fn assignments(&self) -> BTreeMap<String, BTreeMap<String, usize>> {
        self.inner.shared.log.assignments()
    }

    /// Messages since the last call, oldest first, with their `SOFTDIMO_LOG_*` level.
    pub fn take_log(&self) -> Vec<(i32, String)> {
        self.inner.shared.log.take()
    }

    /// [`Error::Forked`] in a child process of the one that opened the engine.
    pub fn check_process(&self) -> Result<()> {
        if self.is_foreign_process() {
            return Err(Error::Forked { parent: self.inner.process });
        }
        Ok(())
    }

    /// [`Engine::check_process`], and [`Error::Internal`] after a caught panic.
    pub fn check(&self) -> Result<()> {
        self.check_process()?;
        self.inner.shared.check_poison()
    }

    /// Whether this process is a fork of the one that opened the engine.
    pub fn is_foreign_process(&self) -> bool {
        self.inner.process != std::process::id()
    }

    /// Queue `work` for the worker thread; tasks run one after the other, in order. A panic in `work`
    /// calls `panicked` and poisons the engine: of the tasks behind it, only `panicked` is called. So it is, with
    /// [`Error::Cancelled`], once the process is exiting.
    pub(crate) fn enqueue(
        &self,
        work: impl FnOnce(&mut Sessions) + Send + 'static,
        panicked: impl FnOnce(Error) + Send + 'static,
    ) -> Result<()> {
        self.check()?;
        self.inner.model.mapping().recheck()?;
        let shared = self.inner.shared.clone();
        let work = move |sessions: &mut Sessions| {
            if let Err(e) = shared.check_poison() {
                return panicked(e);
            }
            if exit::closing() {
                return panicked(Error::Cancelled);
            }
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                crate::panic_wall::quietly(|| work(sessions))
            }));
            if let Err(payload) = outcome {
                shared.poisoned.store(true, Ordering::SeqCst);
                panicked(Error::internal(crate::panic_wall::message(payload.as_ref())));
            }
        };
        let queue = self.inner.queue.as_ref().expect("the queue lives as long as the engine");
        queue.send(Box::new(work)).map_err(|_| Error::internal("the worker thread is gone"))
    }

    /// Run `work` on the worker thread and wait for its result.
    pub(crate) fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Sessions) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, result) = channel();
        let panicked = reply.clone();
        self.enqueue(move |sessions| drop(reply.send(work(sessions))), move |e| drop(panicked.send(Err(e))))?;
        result.recv().unwrap_or_else(|_| Err(Error::internal("the worker thread is gone")))
    }

    /// Compile a graph over this model's weights, run it once and return its named results. For checks and
    /// experiments; pipelines use prepared programs.
    pub fn run_graph(&self, graph: Graph, inputs: Vec<(String, Tensor)>) -> Result<Vec<(String, Tensor)>> {
        let token = Cancel::default();
        self.call(move |sessions| {
            let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
            sessions.run_graph("graph", &graph, &inputs, &token)
        })
    }

    /// [`Engine::run_graph`] over the weights of another checkpoint, on this engine's provider and threads.
    pub fn run_graph_over(
        &self,
        checkpoint: Arc<Checkpoint>,
        graph: Graph,
        inputs: Vec<(String, Tensor)>,
    ) -> Result<Vec<(String, Tensor)>> {
        let token = Cancel::default();
        self.call(move |sessions| {
            let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
            sessions.run_graph_over(&checkpoint, &graph, &inputs, &token)
        })
    }

    /// Prepare the sessions of a one-step job of `batch` pictures, so that the first job is as fast as the
    /// next. With a teacher-only file, prepares the teacher.
    pub fn warmup(&self, batch: usize) -> Result<()> {
        if !(1..=BATCH_LIMIT).contains(&batch) {
            return Err(Error::invalid("batch", format!("1 to {BATCH_LIMIT}"), batch));
        }
        let token = Cancel::default();
        self.call(move |sessions| {
            let model = sessions.model().clone();
            let wanted: &[Program] = match Program::Student.available(model.architecture(), &model.weights())
            {
                true => {
                    &[Program::Class(Role::Student), Program::Embed, Program::Student, Program::DecodeHard]
                }
                false => &[Program::Class(Role::Teacher), Program::Teacher, Program::DecodeHard],
            };
            let mut wanted = wanted.iter().filter(|p| p.available(model.architecture(), &model.weights()));
            wanted.try_for_each(|&p| sessions.prepare(p, batch, &token))
        })
    }

    /// Drop prepared sessions and packed weights; the next job prepares again.
    pub fn trim(&self) -> Result<()> {
        self.call(|sessions| {
            sessions.trim();
            Ok(())
        })
    }

    /// Bytes held, by kind. Waits for the running job.
    pub fn memory(&self) -> Result<MemoryUse> {
        self.call(|sessions| Ok(sessions.memory()))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            // A forked child has neither the threads nor the right to touch their sessions.
            std::mem::forget(self.worker.take());
            std::mem::forget(self.queue.take());
            std::mem::forget((self.model.clone(), self.shared.clone()));
            return;
        }
        drop(self.queue.take());
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

/// The worker's loop: one task at a time until the engine goes.
fn serve(tasks: Receiver<Task>, mut sessions: Sessions) {
    for task in tasks {
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
            super::release_heap();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Phase;
    use crate::panic_wall::stderr_of_test;
    use crate::request::Request;

    fn engine() -> Engine {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        Engine::open(folder.join("models/emoji-32.softdimo.safetensors"), Options::default()).unwrap()
    }

    #[test]
    fn a_panic_fails_its_job_and_poisons_its_engine_only() {
        let (broken, other) = (engine(), engine());
        let finished = broken.submit(&Request::default()).unwrap();
        finished.wait(None, |_| std::ops::ControlFlow::Continue(())).unwrap();

        // A job queued behind the panic never computes on what the panic left.
        let (start, started) = channel::<()>();
        let panics = std::thread::spawn({
            let broken = broken.clone();
            move || {
                broken.call(move |_| -> Result<()> {
                    let _ = started.recv();
                    panic!("on purpose: {}", 40 + 2)
                })
            }
        });
        std::thread::sleep(std::time::Duration::from_millis(50));
        let queued = broken.submit(&Request::default()).unwrap();
        drop(start);
        let error = panics.join().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "internal error (please report it): on purpose: 42");
        let poisoned = |error: Error| {
            let refused = "an earlier job of this engine panicked; free it and open it again";
            assert_eq!(error.to_string(), format!("internal error (please report it): {refused}"));
        };
        poisoned(queued.wait(None, |_| std::ops::ControlFlow::Continue(())).unwrap_err());
        assert_eq!(queued.phase(), Phase::Failed);

        poisoned(broken.submit(&Request::default()).unwrap_err());
        poisoned(broken.warmup(1).unwrap_err());
        poisoned(broken.memory().unwrap_err());
        finished.result().unwrap();
        other.generate(&Request::default()).unwrap();
        let worker = Arc::downgrade(&broken.inner.shared);
        drop((finished, queued, broken));
        assert!(worker.upgrade().is_none(), "the worker thread is joined");
        other.generate(&Request::default()).unwrap();
    }

    #[test]
    fn a_panic_on_the_worker_prints_nothing() {
        let name = "engine::worker::tests::a_panic_fails_its_job_and_poisons_its_engine_only";
        assert_eq!(stderr_of_test(name), "");
    }
}

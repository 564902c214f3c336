//! Engines: an opened model on an execution provider, with a worker thread that owns its sessions and runs one job after
//! the other. Jobs, their queue and the worker live here, and nothing below knows a thread.

mod at_work;
mod info;
mod job;
mod opening;
mod queue;
mod state;
mod tune;
mod turns;
mod warmup;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use self::at_work::Order;
pub use self::job::Job;
pub use self::opening::Opening;
use self::queue::Rank;
pub use self::state::Phase;
pub use self::tune::{TunedLayer, TunedProgram, Tuning};
use self::worker::Worker;
use crate::checkpoint::{Checkpoint, Mapping};
use crate::error::{Error, LogLevel, Result};
use crate::families::family::Layout;
use crate::generated::Generated;
use crate::graph::Graph;
use crate::model::{Limits, Model};
use crate::request::{BATCH_LIMIT, Request};
use crate::runtime::threads::float_mode::by_default;
use crate::runtime::{Cancel, Options, Runtime};
use crate::sessions::MemoryUse;
use crate::sessions::observe::{Observed, ProgramCall};
use crate::shortage;
use crate::tensor::Tensor;
use crate::tteo::Optimize;
use crate::verify::{self, Verification};
use crate::{edit, generate};

/// An opened model on a provider. Cloning shares it; the last clone to go stops and joins its threads.
/// All methods may be called from any thread.
#[derive(Clone, Debug)]
pub struct Engine {
    worker: Arc<Worker>,
}

impl Job {
    /// The engine the job was submitted to.
    pub fn engine(&self) -> Engine {
        Engine { worker: self.worker().clone() }
    }
}

impl Engine {
    /// Open a model file. Nothing is read of the weights and no session is prepared: that happens on the first job,
    /// or in [`Engine::warmup`].
    ///
    /// # Errors
    /// The file's, or that ONNX Runtime or the provider is not usable.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Engine> {
        by_default(|| Engine::of(Model::open(path.as_ref(), options.weights, limits(&options))?, options))
    }

    /// Open a model whose bytes are already in memory; `file` is its name in messages.
    #[doc(hidden)]
    pub fn from_mapping(mapping: Arc<Mapping>, file: &str, options: Options) -> Result<Engine> {
        by_default(|| Engine::of(Model::from_mapping(mapping, file, limits(&options))?, options))
    }

    fn of(model: Model, options: Options) -> Result<Engine> {
        shortage::check("the model")?;
        let engine = Engine { worker: Arc::new(Worker::start(model, options)?) };
        shortage::checked("the engine", Ok(engine))
    }

    #[doc(hidden)]
    pub fn model(&self) -> &Arc<Model> {
        &self.worker.model
    }

    /// Sizes of the model's pictures, tokens and embeddings.
    pub fn layout(&self) -> Layout {
        self.model().architecture().layout()
    }

    /// The colour that transparent pixels of the model's pictures are seen against, by rewards and where there is no alpha:
    /// red, green, blue.
    pub fn background(&self) -> [u8; 3] {
        self.model().background()
    }

    /// Names of the model's classes in order of their id; none where it reads prompts, or its file holds no names.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = &str> {
        self.model().labels().iter().map(|label| label.name.as_str())
    }

    pub fn options(&self) -> &Options {
        &self.worker.options
    }

    /// The ONNX Runtime this engine runs on.
    #[doc(hidden)]
    pub fn runtime(&self) -> &Runtime {
        &self.worker.runtime
    }

    /// Threads that take part in one run.
    pub fn threads(&self) -> usize {
        self.worker.threads
    }

    /// Which execution provider runs how many nodes of each prepared session, as ONNX Runtime reports it.
    pub fn assignments(&self) -> BTreeMap<String, BTreeMap<String, usize>> {
        self.worker.log().assignments()
    }

    /// Messages since the last call, oldest first, 256 at most.
    pub fn take_log(&self) -> Vec<(LogLevel, String)> {
        self.worker.log().take()
    }

    /// [`Engine::take_log`] for frame loops: none where it would have to wait for a thread of the engine that adds one.
    pub fn take_log_now(&self) -> Vec<(LogLevel, String)> {
        self.worker.log().take_now()
    }

    /// Whether this process may use the engine.
    ///
    /// # Errors
    /// [`Error::Forked`] in a child process of the one that opened the engine.
    pub fn check_process(&self) -> Result<()> {
        self.worker.check_process()
    }

    /// Whether the engine takes work.
    ///
    /// # Errors
    /// Those of [`Engine::check_process`]; [`Error::Internal`] after a caught panic.
    pub fn check(&self) -> Result<()> {
        self.worker.check()
    }

    /// Whether this process is a fork of the one that opened the engine.
    pub fn is_foreign_process(&self) -> bool {
        self.worker.is_foreign_process()
    }

    /// Generate and wait.
    ///
    /// # Errors
    /// A bad request ([`crate::Error::InvalidArgument`] and friends, before anything runs), or what went wrong while
    /// running; the engine stays usable after either.
    pub fn generate(&self, request: &Request) -> Result<Arc<Generated>> {
        self.submit(request)?.wait(None, |_| std::ops::ControlFlow::Continue(()))
    }

    /// Queue a request; jobs of one engine run one after the other, those of higher [priority](Request::priority) first,
    /// and else in the order of their submission. Queued jobs with the same [key](Request::queue_key) end.
    ///
    /// # Errors
    /// Those of [`Engine::check`]; a bad request ([`Error::InvalidArgument`], [`Error::UnknownLabel`],
    /// [`Error::Unsupported`]); [`Error::Format`] where the model's file has lost bytes. What goes wrong later is the
    /// job's: [`Job::wait`].
    pub fn submit(&self, request: &Request) -> Result<Job> {
        self.check()?;
        let resolved = request.resolve(self.model())?;
        let terms = || request.optimize.iter().flat_map(|o| &o.terms);
        let callback = terms().map(|term| &term.reward).find(|reward| reward.is_callback());
        let job = Job::new(self.worker.clone(), callback.cloned());
        let (shared, broken) = (job.shared().clone(), job.shared().clone());
        let (worker, priority) = (self.worker.state().clone(), request.priority);
        request.optimize.iter().flat_map(Optimize::files).for_each(|file| file.kept_by(&worker));
        let rank = Rank { priority, key: request.queue_key, job: Some(shared.clone()), alone: false };
        let order = Order { shared, worker, priority, resolved };
        let queued = self.worker.enqueue(
            rank,
            move |sessions| order.carry_out(sessions),
            move |e| broken.finish(Err(e)),
        );
        if let Err(e) = queued {
            job.shared().finish(Err(e.clone()));
            return Err(e);
        }
        shortage::checked("the job", Ok(job))
    }

    /// End every job that has not begun, as [`Job::cancel`] does; the running one goes on. How many there were.
    ///
    /// # Errors
    /// Those of [`Engine::check_process`].
    pub fn cancel_pending(&self) -> Result<usize> {
        self.check_process()?;
        Ok(self.worker.queue().cancel_jobs())
    }

    /// Compute nothing until [`Engine::resume`]: the network call that runs (with [`Options::yielding`] the few nodes of it),
    /// or the session that is being prepared, is finished first. Idempotent, and returns at once.
    ///
    /// Meanwhile jobs can be submitted, looked at, cancelled and dropped, and the engine as well; a job that has not begun
    /// does not. What waits for the end of a job, or for the engine to compute, waits until it is resumed. A cancelled
    /// optimisation still makes its best picture: that is all that is computed. Deadlines go on.
    ///
    /// # Errors
    /// Those of [`Engine::check_process`].
    pub fn pause(&self) -> Result<()> {
        self.check_process()?;
        self.worker.pause(true);
        Ok(())
    }

    /// Go on after [`Engine::pause`]. Idempotent.
    ///
    /// # Errors
    /// Those of [`Engine::check_process`].
    pub fn resume(&self) -> Result<()> {
        self.check_process()?;
        self.worker.pause(false);
        Ok(())
    }

    /// Have the engine's threads, together, compute for at most so many percent of the time of one core: 1 to 100 times
    /// [`Engine::threads`]; 0 for no limit. After a network call, or the preparation of a session, the engine computes nothing
    /// until its share has come up to what that took, so the share holds over times that are longer than a call, with
    /// [`Options::yielding`] over those that are longer than some milliseconds. Returns at once, and counts from the next call
    /// on. Linux and Windows; no effect elsewhere.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for more; those of [`Engine::check_process`].
    pub fn set_cpu_share(&self, percent: u32) -> Result<()> {
        self.check_process()?;
        let most = 100 * self.threads() as u32;
        if percent > most {
            let expected = format!("0 (no limit) to {most}: 100 for each of {} threads", self.threads());
            return Err(Error::invalid("percent", expected, percent));
        }
        self.worker.pace().set_share(percent);
        Ok(())
    }

    /// A picture [channels, H, W] in [0, 1] of the model's size → its tokens [N, splits], by the model's own image
    /// tokenizer. Waits for the jobs before it.
    ///
    /// # Errors
    /// A wrong size; a model file without an encoder.
    pub fn encode(&self, image: &[f32]) -> Result<Vec<u32>> {
        let layout = self.layout();
        edit::check_image("image", image, &layout)?;
        let image = shortage::copied("the image", image)?;
        self.worker.call(move |sessions| edit::encode(sessions, &image, &layout, &Cancel::default()))
    }

    /// Replay the golden file at `path`: recompute every tensor it holds from its inputs and compare. `tolerance` replaces
    /// the default bound for float tensors (1e-4 for f32 models, looser for narrower storage) by an absolute one. Waits
    /// for the jobs before it.
    ///
    /// # Errors
    /// The file's, or that nothing in it is known.
    pub fn verify(&self, path: impl AsRef<Path>, tolerance: Option<f64>) -> Result<Verification> {
        let golden = Checkpoint::open(path.as_ref())?;
        self.worker.call(move |sessions| verify::verify(sessions, &golden, tolerance))
    }

    /// Compile a graph over this model's weights, run it once and return its named results. For checks and
    /// experiments; pipelines use prepared programs.
    #[doc(hidden)]
    pub fn run_graph(&self, graph: Graph, inputs: Vec<(String, Tensor)>) -> Result<Vec<(String, Tensor)>> {
        let token = Cancel::default();
        self.worker.call(move |sessions| {
            let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
            sessions.run_graph("graph", &graph, &inputs, &token)
        })
    }

    /// From now on see what programs do, or no longer; what was seen until now. Programs are prepared anew. For
    /// [`crate::calibrate`].
    pub(crate) fn observe(&self, from_now_on: Option<Observed>) -> Result<Observed> {
        self.worker.call(move |sessions| Ok(sessions.observe(from_now_on)))
    }

    /// Run a program as another engine ran it; its results by name.
    #[doc(hidden)]
    pub fn replay(&self, call: &ProgramCall) -> Result<Vec<(String, Tensor)>> {
        let (call, token) = (call.clone(), Cancel::default());
        self.worker.call(move |sessions| {
            let inputs: Vec<(&str, &Tensor)> = call.inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
            sessions.run_all(call.program, call.batch, &inputs, &token)
        })
    }

    /// Have the convolutions with these kernels computed in f32, whatever the file knows of them. Programs are prepared anew.
    #[doc(hidden)]
    pub fn compute_in_floats(&self, kernels: BTreeSet<String>) -> Result<()> {
        self.worker.call(move |sessions| {
            sessions.compute_in_floats(kernels);
            Ok(())
        })
    }

    /// [`Engine::run_graph`] over the weights of another checkpoint, on this engine's provider and threads.
    #[doc(hidden)]
    pub fn run_graph_over(
        &self,
        checkpoint: Arc<Checkpoint>,
        graph: Graph,
        inputs: Vec<(String, Tensor)>,
    ) -> Result<Vec<(String, Tensor)>> {
        let token = Cancel::default();
        self.worker.call(move |sessions| {
            let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
            sessions.run_graph_over(&checkpoint, &graph, &inputs, &token)
        })
    }

    /// Prepare the sessions of a one-step job of `batch` pictures, so that the first job is as fast as the
    /// next. With a teacher-only file, prepares the teacher.
    ///
    /// # Errors
    /// Those of [`Engine::check`]; [`Error::InvalidArgument`] for a batch out of range; [`Error::Format`] where the model's
    /// file has lost bytes; [`Error::OutOfMemory`] where the sessions would exceed the memory limit; that ONNX Runtime or
    /// the provider refuses a graph.
    pub fn warmup(&self, batch: usize) -> Result<()> {
        if !(1..=BATCH_LIMIT).contains(&batch) {
            return Err(Error::invalid("batch", format!("1 to {BATCH_LIMIT}"), batch));
        }
        self.worker
            .call(move |sessions| generate::prepare(sessions, batch, &Cancel::default(), &mut |_, _| ()))
    }

    /// Drop prepared sessions and packed weights; the next job prepares again.
    ///
    /// # Errors
    /// Those of [`Engine::check`]; [`Error::Format`] where the model's file has lost bytes.
    pub fn trim(&self) -> Result<()> {
        self.worker.call(|sessions| {
            sessions.trim();
            Ok(())
        })
    }

    /// Bytes held, by kind. Waits for the running job.
    ///
    /// # Errors
    /// Those of [`Engine::check`]; [`Error::Format`] where the model's file has lost bytes.
    pub fn memory(&self) -> Result<MemoryUse> {
        self.worker.call(|sessions| Ok(sessions.memory()))
    }
}

/// What the options allow a model.
fn limits(options: &Options) -> Limits {
    Limits { work: options.work_limit, memory: options.memory_limit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panic_wall::stderr_of_test;
    use std::sync::mpsc::channel;

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
        let (begin, begun) = channel::<()>();
        let panics = std::thread::spawn({
            let broken = broken.clone();
            move || {
                broken.worker.call(move |_| -> Result<()> {
                    begin.send(()).unwrap();
                    let _ = started.recv();
                    panic!("on purpose: {}", 40 + 2)
                })
            }
        });
        begun.recv().unwrap();
        let queued = broken.submit(&Request::default()).unwrap();
        drop(start);
        let error = panics.join().unwrap().unwrap_err();
        let (error, first) = (error.to_string(), format!("on purpose: 42, at {}:", file!()));
        assert!(error.starts_with(&format!("internal error (please report it): {first}")), "{error}");
        let logged = broken.take_log();
        let logged = logged.iter().find(|(level, _)| *level == LogLevel::Error).unwrap();
        assert!(logged.1.starts_with(&format!("a job panicked: {first}")), "{}", logged.1);
        assert!(logged.1.contains("a_panic_fails_its_job"), "no backtrace: {}", logged.1);
        let poisoned = |error: Error| {
            let error = error.to_string();
            let refused = format!("an earlier job of this engine panicked ({first}");
            assert!(error.contains(&refused) && error.ends_with("); free it and open it again"), "{error}");
        };
        poisoned(queued.wait(None, |_| std::ops::ControlFlow::Continue(())).unwrap_err());
        assert_eq!(queued.phase(), Phase::Failed);

        poisoned(broken.submit(&Request::default()).unwrap_err());
        poisoned(broken.warmup(1).unwrap_err());
        poisoned(broken.memory().unwrap_err());
        finished.result().unwrap();
        other.generate(&Request::default()).unwrap();
        let worker = Arc::downgrade(&broken.worker);
        drop((finished, queued, broken));
        assert!(worker.upgrade().is_none(), "the worker thread is joined");
        other.generate(&Request::default()).unwrap();
    }

    /// A job that went before the steps of another has panicked: that other one does not go on with what the panic left.
    #[test]
    fn a_panic_between_the_steps_of_a_job_fails_it() {
        let engine = engine();
        let slow = engine.submit(&Request { steps: 10_000, ..Request::class(3) }).unwrap();
        while slow.progress().step < 2 {
            std::thread::yield_now();
        }
        let panics = Job::new(engine.worker.clone(), None);
        let (shared, rank) = (panics.shared().clone(), Some(panics.shared().clone()));
        let rank = Rank { priority: 1, job: rank, ..Rank::default() };
        engine.worker.enqueue(rank, |_| panic!("on purpose"), move |e| shared.finish(Err(e))).unwrap();
        for (job, words) in [(&panics, "on purpose"), (&slow, "an earlier job of this engine panicked")] {
            let error = job.wait(None, |_| std::ops::ControlFlow::Continue(())).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
            assert_eq!(job.phase(), Phase::Failed);
        }
    }

    #[test]
    fn a_panic_on_the_worker_prints_nothing() {
        let name = "engine::tests::a_panic_fails_its_job_and_poisons_its_engine_only";
        assert_eq!(stderr_of_test(name), "");
    }

    /// Sessions are prepared for what runs: without guidance there is none for the condition of both halves.
    #[test]
    fn no_condition_is_prepared_for_guidance_that_is_off() {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/emoji-32.softdimo.safetensors");
        for (guidance_scale, sessions) in [(0.0, 3), (2.0, 4)] {
            let engine = Engine::open(&model, Options::default()).unwrap();
            engine
                .generate(&Request { steps: 2, guidance_scale: Some(guidance_scale), ..Request::class(3) })
                .unwrap();
            assert_eq!(engine.memory().unwrap().sessions, sessions, "guidance {guidance_scale}");
        }
    }

    /// A timeout that the clock cannot hold is none.
    #[test]
    fn the_longest_timeout_waits_for_the_end() {
        let job = engine().submit(&Request::default()).unwrap();
        job.wait(Some(std::time::Duration::MAX), |_| std::ops::ControlFlow::Continue(())).unwrap();
    }
}

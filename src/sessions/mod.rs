//! The sessions of one opened model: its programs, prepared for each batch size and kept while there is room, and graphs
//! of the pipelines' own. All are made in one place, [`Sessions::build`].

mod ahead;
pub(crate) mod budget;
pub(crate) mod condition;
mod features;
mod kept;
pub(crate) mod log;
mod memory;
pub(crate) mod observe;
mod room;
mod store;
pub(crate) mod tuned;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::budget::Share;
use self::features::Features;
use self::kept::{Kept, key};
use self::log::LogQueue;
use self::memory::Ledger;
pub use self::memory::MemoryUse;
use self::observe::Observed;
use self::store::Store;
use self::tuned::TunedFor;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::safetensors::SHA256_KEY;
use crate::error::{Error, Result};
use crate::graph::{Graph, Op, int8};
use crate::model::Model;
use crate::program::Program;
use crate::quant::ranges_name;
use crate::runtime::aside::Key;
use crate::runtime::bound::Bound;
use crate::runtime::compiler::{Compiler, Sharing};
use crate::runtime::cost::{ARENA_LIMIT, Cost, GIVES_BACK_FROM, copied_width, pays_for_a_pool};
use crate::runtime::heap::release_heap;
use crate::runtime::threads::Threads;
use crate::runtime::{
    Arithmetic, Cancel, MemoryMode, Options, Provider, Runtime, Session, processor, rehearsal, statics,
};
use crate::shortage;
use crate::tensor::Tensor;
use crate::weights::Sources;

/// A checkpoint beside the model's, with its namespace.
pub(crate) type Other<'a> = (&'a str, &'a Checkpoint);

/// Most shapes of an optimisation whose sessions are kept.
const MOST_SHAPES: usize = 8;

/// How often a session will run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runs {
    Many,
    /// Packing its weights would not pay.
    Once,
}

/// The sessions of one engine; owned by its worker thread.
#[derive(Debug)]
pub struct Sessions {
    // Fields are dropped in the order of their declaration. Sessions use the values and packed weights of the
    // compiler, and those the bytes of the model.
    kept: Store<Key, Kept>,
    compiler: Compiler,
    model: Arc<Model>,
    options: Options,
    /// Of every session that lives, kept programs and the pipelines' own.
    ledger: Ledger,
    features: Features,
    /// What it holds of the process's budget.
    share: Arc<Share>,
    /// Bytes of the buffers of the job at hand, and of those it stands inside.
    host: u64,
    /// Whether a network of the job at hand has given back what it took.
    gave_back: bool,
    /// Milliseconds that each program has run for the job at hand.
    pub(crate) spent: BTreeMap<&'static str, f64>,
    log: Arc<LogQueue>,
    /// What convolutions read and write, while somebody wants to know.
    observed: Option<Observed>,
    /// Where is remembered what is faster here.
    cache: Option<PathBuf>,
    /// Whether it was looked there, or is not to be.
    recalled: bool,
}

impl Sessions {
    pub(crate) fn new(
        model: Arc<Model>,
        options: Options,
        runtime: Runtime,
        threads: Arc<Threads>,
        log: Arc<LogQueue>,
    ) -> Sessions {
        let compiler = Compiler::new(runtime, options.clone(), threads);
        let (ledger, features, spent) = Default::default();
        let share = Share::new();
        let sessions = Sessions {
            model,
            options,
            kept: Store::new(),
            compiler,
            ledger,
            features,
            share,
            host: 0,
            gave_back: false,
            spent,
            log,
            observed: None,
            cache: tuned::folder(),
            recalled: false,
        };
        // Weights that were read, or unpacked.
        sessions.share.hold(sessions.reserved_with(None));
        sessions
    }

    /// What the engine holds of the process's memory budget.
    pub(crate) fn share(&self) -> &Arc<Share> {
        &self.share
    }

    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    pub fn runtime(&self) -> &Runtime {
        self.compiler.runtime()
    }

    pub fn provider(&self) -> Provider {
        self.options.provider
    }

    pub(crate) fn arithmetic(&self) -> Arithmetic {
        self.options.arithmetic
    }

    /// Tell the host of something that it may not have meant.
    pub(crate) fn warn(&self, message: String) {
        self.log.warn(message);
    }

    /// Prompt features that are known already.
    pub(crate) fn features(&mut self) -> &mut Features {
        &mut self.features
    }

    /// Run a program for `batch` pictures, preparing its session on first use; its first result.
    pub fn run(
        &mut self,
        program: Program,
        batch: usize,
        inputs: &[(&str, &Tensor)],
        cancel: &Cancel,
    ) -> Result<Tensor> {
        Ok(self.run_all(program, batch, inputs, cancel)?.remove(0).1)
    }

    /// As [`Sessions::run`], with all results by name.
    pub fn run_all(
        &mut self,
        program: Program,
        batch: usize,
        inputs: &[(&str, &Tensor)],
        cancel: &Cancel,
    ) -> Result<Vec<(String, Tensor)>> {
        self.prepare(program, batch, cancel)?;
        let Some(Kept::Session(session)) = self.kept.get(&key(program, batch)) else {
            return Err(Error::internal(format!("'{}' was prepared and is not there", program.name())));
        };
        let began = Instant::now();
        self.gave_back |= session.cost.gives_back;
        let results = session.run(inputs, cancel);
        *self.spent.entry(program.name()).or_default() += began.elapsed().as_secs_f64() * 1e3;
        self.settle();
        let results = results?;
        match &mut self.observed {
            Some(observed) => Ok(observed.take((program, batch), inputs, results)),
            None => Ok(results),
        }
    }

    /// From now on see what programs do, or no longer; what was seen until now. Programs are prepared anew.
    pub(crate) fn observe(&mut self, from_now_on: Option<Observed>) -> Observed {
        self.trim();
        std::mem::replace(&mut self.observed, from_now_on).unwrap_or_default()
    }

    /// Have the convolutions with these kernels computed in f32, whatever is known of them. Programs are prepared anew.
    pub(crate) fn compute_in_floats(&mut self, kernels: BTreeSet<String>) {
        self.trim();
        self.recalled = true;
        self.compiler.compute_in_floats(kernels);
    }

    /// The model's kernels for int8 arithmetic whose convolutions may be chosen: none where it is not used.
    pub(crate) fn chooses(&self, kernels: &str) -> bool {
        self.options.provider == Provider::Cpu
            && self.options.arithmetic == Arithmetic::Auto
            && self.model.checkpoint().get(&ranges_name(kernels)).is_some()
    }

    /// What a measurement made here holds for; `None` for a model that states no hash.
    pub(crate) fn tuned_for(&self) -> Option<TunedFor> {
        let model = self.model.metadata().get(SHA256_KEY).filter(|hash| hash.len() == 64)?.clone();
        let (runtime, library) = (self.runtime().version.to_string(), env!("CARGO_PKG_VERSION").to_string());
        let (threads, memory) = (self.compiler.threads(), format!("{:?}", self.options.memory));
        Some(TunedFor { model, processor: processor::name(), runtime, library, threads, memory })
    }

    /// The folder in which is remembered what is faster here; `None`: the user wants none.
    pub(crate) fn cache(&self) -> Option<&Path> {
        self.cache.as_deref()
    }

    /// Another folder than the user's.
    #[cfg(test)]
    pub(crate) fn remember_in(&mut self, folder: PathBuf) {
        self.cache = Some(folder);
    }

    /// Before the first session: have those convolutions computed in f32 that were faster so when [`crate::Engine::tune`]
    /// measured them.
    fn recall(&mut self) {
        if std::mem::replace(&mut self.recalled, true) || self.options.untuned {
            return;
        }
        let mut ranges = self.model.checkpoint().names().filter_map(|name| name.strip_suffix(".ranges"));
        if !ranges.any(|kernels| self.chooses(kernels)) {
            return;
        }
        let (Some(folder), Some(here)) = (self.cache(), self.tuned_for()) else { return };
        let path = here.path(folder);
        match here.read(&path, |kernels| self.chooses(kernels)) {
            Ok(None) => self.log.info("int8: nothing was measured here, see 'softdimo tune'".into()),
            Ok(Some(kernels)) => {
                let (n, place) = (kernels.len(), path.display());
                self.log.info(format!("int8: {n} convolutions in f32, as measured here ({place})"));
                self.compiler.compute_in_floats(kernels);
            }
            Err(why) => self.log.info(format!("int8: ignored {}: {why}", path.display())),
        }
    }

    /// [`Sessions::compile`] with the convolutions of these kernels in f32, and all others in int8.
    pub(crate) fn compile_with(
        &mut self,
        name: &str,
        graph: &Graph,
        in_f32: &BTreeSet<String>,
        cancel: &Cancel,
    ) -> Result<Session> {
        self.recall();
        let usual = self.compiler.compute_in_floats(in_f32.clone());
        let session = self.compile(name, graph, cancel);
        self.compiler.compute_in_floats(usual);
        session
    }

    /// How long the fastest run of a program took, where it is prepared and has run.
    pub fn took(&self, program: Program, batch: usize) -> Option<Duration> {
        self.kept.find(&key(program, batch))?.cost().took.get()
    }

    /// Build and compile a program's session unless it is there already. It is kept until it is the one used longest
    /// ago and room is needed.
    pub fn prepare(&mut self, program: Program, batch: usize, cancel: &Cancel) -> Result<()> {
        let key = key(program, batch);
        if self.kept.contains(&key) {
            return Ok(());
        }
        cancel.check()?;
        if !program.available(self.model.architecture(), &self.model.weights()) {
            return Err(Error::Unsupported {
                what: format!("'{}' on this model", program.name()),
                reason: format!("the file holds only: {}", self.model.components().join(", ")),
            });
        }
        let model = self.model.clone();
        let observing = self.observed.is_some();
        let graph = || {
            let graph = program.graph(model.architecture(), &model.weights(), batch)?;
            if observing { observe::with_ranges(&graph) } else { Ok(graph) }
        };
        let session = self.prepared(&key, graph, &[], &[], cancel)?;
        self.kept.insert(key, Kept::Session(session));
        Ok(())
    }

    /// Take out the session of a loop over `carried` values, see [`Session::bind`], which may read other files as well;
    /// prepare it where it is not kept. To be given back with [`Sessions::keep_loop`].
    ///
    /// # Errors
    /// Those of `graph`; as [`Sessions::compile`]; [`Error::Timeout`] after the deadline of `cancel`.
    pub(crate) fn take_loop(
        &mut self,
        key: &Key,
        graph: impl FnOnce() -> Result<Graph>,
        others: &[Other],
        carried: impl Fn(&Graph) -> Vec<(String, String)>,
        cancel: &Cancel,
    ) -> Result<Bound> {
        self.adopt();
        if let Some(kept) = self.kept.take(key) {
            return match kept {
                Kept::Loop(bound) => Ok(*bound),
                Kept::Session(session) => session.bind(&carried(&graph()?)),
            };
        }
        cancel.check_preparing()?;
        let graph = graph()?;
        let carried = carried(&graph);
        self.prepared(key, || Ok(graph), others, &carried, cancel)?.bind(&carried)
    }

    /// Keep the session of a loop that has come to its end, and nothing of what was computed.
    pub(crate) fn keep_loop(&mut self, key: Key, mut bound: Bound) {
        if !self.kept.contains(&key) && bound.restart().is_ok() {
            self.keep(key, Kept::Loop(Box::new(bound)));
        }
    }

    /// Keep a session. Of loops, whose shapes are any number, those used last.
    fn keep(&mut self, key: Key, kept: Kept) {
        let (name, is_loop) = (key.name, !key.shape.is_empty());
        self.kept.insert(key, kept);
        let same = |other: &Key| is_loop && other.name == name;
        let why = || format!("at most {MOST_SHAPES} shapes of it are kept");
        while self.kept.count(same) > MOST_SHAPES && self.drop_oldest(|other, _| same(other), why) {}
    }

    /// The session of a key that is not kept: what a late job has left under way, or a new one.
    fn prepared(
        &mut self,
        key: &Key,
        graph: impl FnOnce() -> Result<Graph>,
        others: &[Other],
        carried: &[(String, String)],
        cancel: &Cancel,
    ) -> Result<Session> {
        let start = Instant::now();
        let session = match self.compiler.resume(key, cancel)? {
            Some(session) => {
                release_heap();
                session
            }
            None => {
                let graph = graph()?;
                self.build_over_model((key.name, Some(key)), &graph, others, carried, Runs::Many, cancel)?
            }
        };
        self.log.prepared(key, start.elapsed().as_millis(), &session.assignment);
        Ok(session)
    }

    /// Keep what late jobs have left under way and is ready now. How many others are still under way that nobody waits
    /// for.
    fn adopt(&mut self) -> usize {
        let ready = self.compiler.ready();
        let any = !ready.is_empty();
        for (key, session) in ready {
            self.log.prepared_aside(&key, &session.assignment);
            if !self.kept.contains(&key) {
                self.keep(key, Kept::Session(session));
            }
        }
        // Preparing takes and frees much more than it leaves.
        if any {
            release_heap();
        }
        self.compiler.left()
    }

    /// Let go of everything that reads the file of this namespace, which nobody has open any more.
    pub(crate) fn forget_file(&mut self, namespace: &str) {
        self.compiler.give_up_of(namespace);
        self.adopt();
        let reads = |_: &Key, kept: &Kept| kept.cost().files.contains_key(namespace);
        while self.drop_oldest(reads, || "its file was closed".into()) {}
        self.features.forget(namespace);
        self.settle();
    }

    /// Compile a graph of the caller's over this model's weights; the caller keeps the session. Refused when
    /// it would exceed the memory limit.
    pub(crate) fn compile(&mut self, name: &str, graph: &Graph, cancel: &Cancel) -> Result<Session> {
        self.build_over_model((name, None), graph, &[], &[], Runs::Many, cancel)
    }

    /// [`Sessions::compile`] of a graph that reads other files as well, for a single run, and that run.
    pub(crate) fn run_once(
        &mut self,
        name: &str,
        graph: &Graph,
        others: &[Other],
        inputs: &[(&str, &Tensor)],
        cancel: &Cancel,
    ) -> Result<Vec<(String, Tensor)>> {
        let start = Instant::now();
        let mut session = self.build_over_model((name, None), graph, others, &[], Runs::Once, cancel)?;
        let outputs = session.run(inputs, cancel)?;
        self.log.info(format!("computed {name} in {} ms", start.elapsed().as_millis()));
        Ok(outputs)
    }

    fn build_over_model(
        &mut self,
        (name, key): (&str, Option<&Key>),
        graph: &Graph,
        others: &[Other],
        carried: &[(String, String)],
        runs: Runs,
        cancel: &Cancel,
    ) -> Result<Session> {
        let model = self.model.clone();
        let mut sources = Sources::of(model.checkpoint());
        others.iter().for_each(|(namespace, checkpoint)| sources.add(namespace, checkpoint));
        self.recall();
        let graph = &self.compiler.for_running(graph, &sources)?;
        let mut cost = self.cost(graph, &sources, runs, Sharing::Model);
        // A carried value has two buffers, beside what the runtime plans.
        let is_carried = |input: &str| carried.iter().any(|(_, name)| name == input);
        let inputs = graph
            .nodes()
            .iter()
            .filter_map(|n| match &n.op {
                Op::Input { name, dtype, shape } if is_carried(name) => {
                    Some((shape.len() * dtype.size()) as u64)
                }
                _ => None,
            })
            .sum::<u64>();
        cost.planned = cost.planned.saturating_add(2 * inputs);
        // Its next step comes at once.
        cost.gives_back &= carried.is_empty();
        self.build((name, key), graph, &sources, Sharing::Model, cost, cancel)
    }

    /// Every session of the engine is made here: after room was made for it, and counted while it lives.
    fn build(
        &mut self,
        (name, key): (&str, Option<&Key>),
        graph: &Graph,
        sources: &Sources,
        sharing: Sharing,
        cost: Cost,
        cancel: &Cancel,
    ) -> Result<Session> {
        let cost = self.admit(name, cost, cancel)?;
        let session = self.compiler.compile((name, key), graph, sources, cost, sharing, cancel);
        // Preparing takes and frees much more than it leaves.
        release_heap();
        session
    }

    /// Make room for a session, and count it while it lives.
    fn admit(&mut self, name: &str, cost: Cost, cancel: &Cancel) -> Result<Rc<Cost>> {
        // Shared with the session and, weakly, with the ledger, all on this thread.
        let cost = Rc::new(cost);
        self.make_room(name, &cost, cancel)?;
        shortage::room(&format!("preparing '{name}'"), cost.preparing())?;
        self.ledger.add(&cost);
        Ok(cost)
    }

    fn cost(&self, graph: &Graph, sources: &Sources, runs: Runs, sharing: Sharing) -> Cost {
        let wanted = runs == Runs::Once || self.options.memory == MemoryMode::Lean;
        let in_place = wanted && self.options.provider.weights_in_place();
        let (copies, kept) = (self.options.provider.copies(), self.options.provider.keeps_int8(graph));
        let bytes = |name: &String| {
            let source = sources.find(name);
            let width = copies * copied_width(graph, name, kept);
            source.checkpoint.get(source.tensor).map_or(0, |v| width * v.shape.len() as u64)
        };
        let copied = if in_place { int8::constants(graph).into_iter().collect() } else { graph.weights() };
        let packed = match self.options.memory {
            // Packed by the runtime itself.
            MemoryMode::Fast if !in_place && copies == 1 => sharing.packed(graph, sources),
            _ => Default::default(),
        };
        let own = copied.iter().filter(|name| !packed.iter().any(|(packed, _)| packed == *name));
        let files = sources.others().iter().map(|(namespace, checkpoint)| {
            let mapping = checkpoint.as_safetensors().map(|file| file.mapping());
            let of = mapping.map(|m| (m.bytes().len() as u64, m.is_mapped())).unwrap_or_default();
            (namespace.to_string(), of)
        });
        let planned = graph.planned_activation_bytes();
        Cost {
            in_place,
            copied: own.map(bytes).sum(),
            shared: packed.into_iter().map(|key| (key.clone(), bytes(&key.0))).collect(),
            files: files.collect(),
            nodes: graph.computing_nodes(),
            pooled: self.compiler.threads() > 1
                && !self.options.provider.has_threads()
                && pays_for_a_pool(graph),
            planned,
            gives_back: in_place && (GIVES_BACK_FROM..ARENA_LIMIT).contains(&planned),
            ..Cost::default()
        }
    }

    /// Compile and run a graph of the caller's over this model's weights, once.
    pub fn run_graph(
        &mut self,
        name: &str,
        graph: &Graph,
        inputs: &[(&str, &Tensor)],
        cancel: &Cancel,
    ) -> Result<Vec<(String, Tensor)>> {
        self.compile(name, graph, cancel)?.run(inputs, cancel)
    }

    /// Compile and run a graph over the weights of `checkpoint` instead of this model's, once. Nothing is
    /// shared: a weight of either must not stand in for one of the same name of the other.
    pub fn run_graph_over(
        &mut self,
        checkpoint: &Checkpoint,
        graph: &Graph,
        inputs: &[(&str, &Tensor)],
        cancel: &Cancel,
    ) -> Result<Vec<(String, Tensor)>> {
        checkpoint.recheck()?;
        let (sources, sharing) = (Sources::of(checkpoint), Sharing::Nothing);
        let graph = &self.compiler.for_running(graph, &sources)?;
        let cost = self.cost(graph, &sources, Runs::Many, sharing);
        self.build(("graph", None), graph, &sources, sharing, cost, cancel)?.run(inputs, cancel)
    }

    /// Prove that the provider works before the engine is handed out: compile and run one addition.
    pub(crate) fn check_provider(&mut self) -> Result<()> {
        if !self.options.provider.needs_proof() {
            return Ok(());
        }
        let g = Graph::new();
        let x = g.input("x", crate::tensor::Dtype::F32, [1])?;
        g.output("y", g.add(x, x)?);
        let x = Tensor::from_f32([1], &[1.0]);
        self.run_graph("provider check", &g, &[("x", &x)], &Cancel::default()).map(drop)
    }

    /// Have ONNX Runtime build its static objects, once per process, where they do not outlive it; see [`rehearsal`]. A failure is none yet:
    /// the first job will say what is wrong. It is the process's and not this engine's, whatever its memory limit.
    pub(crate) fn rehearse(&mut self) {
        static ONCE: std::sync::Once = std::sync::Once::new();
        if statics::kept() {
            return;
        }
        ONCE.call_once(|| {
            let inputs = rehearsal::inputs();
            let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (*name, tensor)).collect();
            let limit = std::mem::take(&mut self.options.memory_limit);
            let _ = rehearsal::graph()
                .and_then(|graph| self.run_graph("rehearsal", &graph, &inputs, &Cancel::default()));
            self.options.memory_limit = limit;
        });
    }

    /// Drop every prepared session and packed copy; the next run prepares again.
    pub fn trim(&mut self) {
        self.compiler.end_preparations();
        self.kept.clear();
        self.features.clear();
        self.log.trimmed();
        self.compiler.clear();
        release_heap();
        self.settle();
    }
}

#[cfg(test)]
pub(crate) mod tests;

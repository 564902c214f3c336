//! Engine: an opened model on an execution provider. Everything that touches ONNX Runtime happens on the
//! engine's own worker thread; this module is the only place in the crate that names `ort`.

mod bound;
mod cancel;
mod exit;
mod features;
mod info;
mod log;
mod provider;
mod rehearsal;
mod runtime;
mod session;
mod threads;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Instant;

pub use cancel::Cancel;
pub(crate) use exit::closing;
pub use provider::Provider;
pub use runtime::{ENV_LIBRARY, Runtime, loaded as loaded_runtime};
pub use session::Session;
pub use worker::{Engine, check_process};

/// A checkpoint beside the model's, with its namespace.
pub(crate) type Other<'a> = (&'a str, &'a Checkpoint);

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::model::{Model, WeightsMode};
use crate::models::program::Program;
use crate::tensor::Tensor;
use crate::weights::Sources;

/// Trade of memory against speed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryMode {
    /// Weights are used straight from the mapped pages: opens in milliseconds, memory is page cache.
    #[default]
    Lean,
    /// Weights are packed for the CPU's kernels when first used: faster runs, one more copy in memory.
    Fast,
}

/// How an engine is opened.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub provider: Provider,
    /// GPU index for `cuda`.
    pub device_id: i32,
    pub memory: MemoryMode,
    pub weights: WeightsMode,
    /// Threads that compute one run; 0 = one per core, at most 8.
    pub threads: usize,
    /// Unix niceness added to the engine's threads, 0 to 19.
    pub niceness: i32,
    /// Bytes this engine may hold beyond mapped pages; 0 = no limit.
    pub memory_limit: u64,
    /// The ONNX Runtime library file; `None` searches.
    pub ort_library: Option<PathBuf>,
}

/// Bytes an engine holds, by kind. Estimates from tensor sizes, except that mapped bytes are exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Bytes of the model file, and of other files that sessions read, that are mapped (shared, reclaimable).
    pub mapped: u64,
    /// Weights held as copies: read instead of mapped, packed (FAST), or on the device.
    pub weights: u64,
    /// Largest activation working set of the prepared sessions.
    pub activations: u64,
    /// Sessions prepared.
    pub sessions: u64,
}

/// The sessions of one engine; owned by its worker thread.
#[derive(Debug)]
pub struct Sessions {
    // Fields are dropped in the order of their declaration. Sessions use the values and packed weights of the
    // compiler, and those the bytes of the model.
    cache: HashMap<(Program, usize), Session>,
    compiler: session::Compiler,
    model: Arc<Model>,
    options: Options,
    /// Of every session that lives, prepared programs and the pipelines' own.
    costs: Vec<Weak<Cost>>,
    features: features::Features,
    log: Arc<log::LogQueue>,
}

/// What a session adds to memory.
#[derive(Debug, Default)]
struct Cost {
    /// Weights are used where they are.
    in_place: bool,
    /// Bytes of the weights, by name, that are copied otherwise. Copies are f32: packed for the CPU, or
    /// uploaded to the device.
    weights: BTreeMap<String, u64>,
    /// Bytes of the files beside the model's, by namespace, and whether they are mapped.
    files: BTreeMap<String, (u64, bool)>,
    activations: u64,
}

/// Activations from which on a session on the CPU allocates each value by itself. Up to there the runtime's arena
/// saves page faults; but it grows by doubling, which a session this large cannot afford.
const ARENA_LIMIT: u64 = 4 << 30;

impl Cost {
    /// Whether the runtime keeps an arena for the session's values.
    fn arena(&self) -> bool {
        self.activations < ARENA_LIMIT
    }
}

/// How often a session will run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runs {
    Many,
    /// Packing its weights would not pay.
    Once,
}

impl Sessions {
    fn new(
        model: Arc<Model>,
        options: Options,
        runtime: Runtime,
        threads: Arc<threads::Threads>,
        log: Arc<log::LogQueue>,
    ) -> Sessions {
        let compiler = session::Compiler::new(runtime, options.clone(), threads);
        let (cache, costs) = Default::default();
        Sessions { model, options, cache, compiler, costs, features: Default::default(), log }
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

    /// Prompt features that are known already.
    pub(crate) fn features(&mut self) -> &mut features::Features {
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
        let session = self.cache.get_mut(&(program, batch)).expect("just prepared");
        session.run(inputs, cancel)
    }

    /// Build and compile a program's session unless it is there already.
    pub fn prepare(&mut self, program: Program, batch: usize, cancel: &Cancel) -> Result<()> {
        if self.cache.contains_key(&(program, batch)) {
            return Ok(());
        }
        cancel.check()?;
        if !program.available(&self.model) {
            return Err(Error::Unsupported {
                what: format!("'{}' on this model", program.name()),
                reason: format!("the file holds only: {}", self.model.components().join(", ")),
            });
        }
        let graph = program.graph(&self.model, batch)?;
        let start = Instant::now();
        let session = self.build(program.name(), &graph, &[], Runs::Many)?;
        let milliseconds = start.elapsed().as_millis();
        self.log.prepared(program.name(), batch, milliseconds, &session.assignment);
        self.cache.insert((program, batch), session);
        Ok(())
    }

    /// Compile a graph of the caller's over this model's weights; the caller keeps the session. Refused when
    /// it would exceed the memory limit.
    pub(crate) fn compile(&mut self, name: &str, graph: &Graph) -> Result<Session> {
        self.build(name, graph, &[], Runs::Many)
    }

    /// [`Sessions::compile`] of a graph that reads other files as well.
    pub(crate) fn compile_over(&mut self, name: &str, graph: &Graph, others: &[Other]) -> Result<Session> {
        self.build(name, graph, others, Runs::Many)
    }

    /// [`Sessions::compile_over`] for a single run, and that run.
    pub(crate) fn run_once(
        &mut self,
        name: &str,
        graph: &Graph,
        others: &[Other],
        inputs: &[(&str, &Tensor)],
        cancel: &Cancel,
    ) -> Result<Vec<(String, Tensor)>> {
        let start = Instant::now();
        let outputs = self.build(name, graph, others, Runs::Once)?.run(inputs, cancel)?;
        self.log.info(format!("computed {name} in {} ms", start.elapsed().as_millis()));
        Ok(outputs)
    }

    fn build(&mut self, name: &str, graph: &Graph, others: &[Other], runs: Runs) -> Result<Session> {
        let model = self.model.clone();
        let mut sources = Sources::of(model.checkpoint());
        others.iter().for_each(|(namespace, checkpoint)| sources.add(namespace, checkpoint));
        let cost = Arc::new(self.cost(graph, &sources, runs));
        self.check_limit(name, &cost)?;
        let session = self.compiler.compile(name, graph, &sources, cost.clone())?;
        self.costs.retain(|c| c.strong_count() > 0);
        self.costs.push(Arc::downgrade(&cost));
        Ok(session)
    }

    fn cost(&self, graph: &Graph, sources: &Sources, runs: Runs) -> Cost {
        let cpu = self.options.provider == Provider::Cpu;
        let in_place = cpu && (runs == Runs::Once || self.options.memory == MemoryMode::Lean);
        let bytes = |name: &String| {
            let source = sources.find(name);
            source.checkpoint.get(source.tensor).map_or(0, |v| 4 * v.shape.len() as u64)
        };
        let names = if in_place { Vec::new() } else { graph.weights() };
        let files = sources.others().iter().map(|(namespace, checkpoint)| {
            let mapping = checkpoint.as_safetensors().map(|file| file.mapping());
            let of = mapping.map(|m| (m.bytes().len() as u64, m.is_mapped())).unwrap_or_default();
            (namespace.to_string(), of)
        });
        Cost {
            in_place,
            weights: names.iter().map(|name| (name.clone(), bytes(name))).collect(),
            files: files.collect(),
            activations: graph.peak_activation_bytes(),
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
        let sources = Sources::of(self.model.checkpoint());
        let cost = Arc::new(self.cost(graph, &sources, Runs::Many));
        self.compiler.compile(name, graph, &sources, cost)?.run(inputs, cancel)
    }

    /// Compile and run a graph over the weights of `checkpoint` instead of this model's, once. Nothing is
    /// kept: a weight of either must not stand in for one of the same name of the other.
    pub fn run_graph_over(
        &mut self,
        checkpoint: &Checkpoint,
        graph: &Graph,
        inputs: &[(&str, &Tensor)],
        cancel: &Cancel,
    ) -> Result<Vec<(String, Tensor)>> {
        checkpoint.recheck()?;
        let sources = Sources::of(checkpoint);
        let cost = Arc::new(self.cost(graph, &sources, Runs::Many));
        let mut compiler = self.compiler.fresh();
        let mut session = compiler.compile("graph", graph, &sources, cost)?;
        session.run(inputs, cancel)
    }

    /// Refuse a session that would exceed the memory limit, before anything is allocated for it.
    fn check_limit(&self, name: &str, cost: &Cost) -> Result<()> {
        if self.options.memory_limit == 0 {
            return Ok(());
        }
        let used = self.use_with(Some(cost));
        let needed = used.weights + used.activations;
        if needed > self.options.memory_limit {
            return Err(Error::OutOfMemory {
                what: format!("preparing '{name}'"),
                needed,
                limit: self.options.memory_limit,
            });
        }
        Ok(())
    }

    /// Bytes held now.
    pub fn memory(&self) -> MemoryUse {
        self.use_with(None)
    }

    /// Bytes held by the living sessions, and by one more.
    fn use_with(&self, more: Option<&Cost>) -> MemoryUse {
        let living: Vec<Arc<Cost>> = self.costs.iter().filter_map(Weak::upgrade).collect();
        let costs: Vec<&Cost> = living.iter().map(Arc::as_ref).chain(more).collect();
        let copies: BTreeMap<&String, u64> =
            costs.iter().flat_map(|c| &c.weights).map(|(name, bytes)| (name, *bytes)).collect();
        let mut files: BTreeMap<&str, (u64, bool)> =
            costs.iter().flat_map(|c| &c.files).map(|(name, file)| (name.as_str(), *file)).collect();
        let own = self.model.mapping();
        files.insert("", (own.bytes().len() as u64, own.is_mapped()));
        let bytes = |kind: bool| -> u64 {
            files.values().filter(|(_, mapped)| *mapped == kind).map(|(bytes, _)| bytes).sum()
        };
        MemoryUse {
            mapped: bytes(true),
            weights: copies.values().sum::<u64>() + bytes(false),
            activations: costs.iter().map(|c| c.activations).max().unwrap_or(0),
            sessions: costs.len() as u64,
        }
    }

    /// Prove that the provider works before the engine is handed out: compile and run one addition.
    fn check_provider(&mut self) -> Result<()> {
        if self.options.provider == Provider::Cpu {
            return Ok(());
        }
        let g = Graph::new();
        let x = g.input("x", crate::tensor::Dtype::F32, [1])?;
        g.output("y", g.add(x, x)?);
        let x = Tensor::from_f32([1], &[1.0]);
        self.run_graph("provider check", &g, &[("x", &x)], &Cancel::default()).map(drop)
    }

    /// Have ONNX Runtime build its static objects, once per process; see [`rehearsal`]. A failure is none yet:
    /// the first job will say what is wrong.
    fn rehearse(&mut self) {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            let inputs = rehearsal::inputs();
            let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (*name, tensor)).collect();
            let _ = rehearsal::graph()
                .and_then(|graph| self.run_graph("rehearsal", &graph, &inputs, &Cancel::default()));
        });
    }

    /// Drop every prepared session and packed copy; the next run prepares again.
    pub fn trim(&mut self) {
        self.cache.clear();
        self.features.clear();
        self.log.trimmed();
        self.compiler.clear();
        release_heap();
    }
}

/// Give freed heap pages back to the system where the C library can.
#[allow(unsafe_code)]
fn release_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim only returns free pages; it has no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sessions without an arena compute the same, run after run.
    #[test]
    fn large_sessions_have_no_arena() {
        let model =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/emoji-32.softdimo.safetensors");
        let engine = Engine::open(model, Options::default()).unwrap();
        engine
            .call(|sessions| {
                let g = Graph::new();
                let x = g.input("x", crate::tensor::Dtype::F32, [64, 64])?;
                g.output("y", g.softmax(g.matmul(x, g.tanh(x)?)?, 1)?);
                let values: Vec<f32> = (0..64 * 64).map(|i| (i % 37) as f32 / 37.0 - 0.5).collect();
                let x = Tensor::from_f32([64, 64], &values);
                let model = sessions.model.clone();
                let sources = Sources::of(model.checkpoint());
                let mut run = |activations: u64| {
                    let cost = Cost { activations, ..sessions.cost(&g, &sources, Runs::Once) };
                    assert_eq!(cost.arena(), activations < ARENA_LIMIT);
                    let mut session = sessions.compiler.compile("test", &g, &sources, Arc::new(cost))?;
                    let first = session.run(&[("x", &x)], &Cancel::default())?;
                    assert_eq!(session.run(&[("x", &x)], &Cancel::default())?, first);
                    Ok::<_, Error>(first)
                };
                assert_eq!(run(ARENA_LIMIT)?, run(0)?);
                Ok(())
            })
            .unwrap();
    }
}

//! The sessions of one opened model: its programs, prepared once for each batch size, and graphs of the pipelines' own.

pub(crate) mod condition;
mod features;
pub(crate) mod log;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Instant;

use self::features::Features;
use self::log::LogQueue;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::model::Model;
use crate::program::Program;
use crate::runtime::compiler::Compiler;
use crate::runtime::cost::Cost;
use crate::runtime::threads::Threads;
use crate::runtime::{Cancel, MemoryMode, Options, Provider, Runtime, Session, rehearsal};
use crate::tensor::Tensor;
use crate::weights::Sources;

/// A checkpoint beside the model's, with its namespace.
pub(crate) type Other<'a> = (&'a str, &'a Checkpoint);

/// How often a session will run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runs {
    Many,
    /// Packing its weights would not pay.
    Once,
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
    compiler: Compiler,
    model: Arc<Model>,
    options: Options,
    /// Of every session that lives, prepared programs and the pipelines' own.
    costs: Vec<Weak<Cost>>,
    features: Features,
    log: Arc<LogQueue>,
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
        let session = self.cache.get_mut(&(program, batch)).expect("just prepared");
        session.run(inputs, cancel)
    }

    /// Build and compile a program's session unless it is there already.
    pub fn prepare(&mut self, program: Program, batch: usize, cancel: &Cancel) -> Result<()> {
        if self.cache.contains_key(&(program, batch)) {
            return Ok(());
        }
        cancel.check()?;
        if !program.available(self.model.architecture(), &self.model.weights()) {
            return Err(Error::Unsupported {
                what: format!("'{}' on this model", program.name()),
                reason: format!("the file holds only: {}", self.model.components().join(", ")),
            });
        }
        let graph = program.graph(self.model.architecture(), &self.model.weights(), batch)?;
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
    pub(crate) fn check_provider(&mut self) -> Result<()> {
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
    pub(crate) fn rehearse(&mut self) {
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
pub(crate) fn release_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim only returns free pages; it has no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
pub(crate) mod tests;

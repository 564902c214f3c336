//! Engine: an opened model on an execution provider. Everything that touches ONNX Runtime happens on the
//! engine's own worker thread; this module is the only place in the crate that names `ort`.

mod info;
mod log;
mod provider;
mod rehearsal;
mod runtime;
mod session;
mod threads;
mod worker;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

pub use provider::Provider;
pub use runtime::{ENV_LIBRARY, Runtime, loaded as loaded_runtime};
pub use session::{Cancel, Session};
pub use worker::{Engine, check_process};

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::model::{Model, WeightsMode};
use crate::models::program::Program;
use crate::tensor::Tensor;

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
    /// Bytes of the model file that are mapped (shared, reclaimable).
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
    model: Arc<Model>,
    options: Options,
    /// Dropped before `compiler` and `model`: sessions borrow their bytes.
    cache: HashMap<(Program, usize), (Session, Cost)>,
    compiler: session::Compiler,
    log: Arc<log::LogQueue>,
}

/// What a prepared session adds to memory.
#[derive(Clone, Debug, Default)]
struct Cost {
    weights: Vec<String>,
    activations: u64,
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
        Sessions { model, options, cache: HashMap::new(), compiler, log }
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

    /// Run a program for `batch` pictures, preparing its session on first use.
    pub fn run(
        &mut self,
        program: Program,
        batch: usize,
        inputs: &[(&str, &Tensor)],
        cancel: &Cancel,
    ) -> Result<Tensor> {
        let first = !self.cache.contains_key(&(program, batch));
        self.prepare(program, batch, cancel)?;
        let (session, _) = self.cache.get_mut(&(program, batch)).expect("just prepared");
        let outputs = session.run(inputs, cancel);
        if first {
            worker::exit::install();
        }
        let mut outputs = outputs?;
        Ok(outputs.remove(0).1)
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
        let cost = Cost { weights: graph.weights(), activations: graph.peak_activation_bytes() };
        self.check_limit(program.name(), &cost)?;
        let start = Instant::now();
        let session = self.compiler.compile(program.name(), &graph, self.model.checkpoint());
        worker::exit::install();
        let session = session?;
        let milliseconds = start.elapsed().as_millis();
        self.log.prepared(program.name(), batch, milliseconds, &session.assignment);
        self.cache.insert((program, batch), (session, cost));
        Ok(())
    }

    /// Compile a graph of the caller's over this model's weights; the caller keeps the session. Refused when
    /// its activations alone would exceed the memory limit.
    pub(crate) fn compile(&mut self, name: &str, graph: &Graph) -> Result<Session> {
        let cost = Cost { weights: graph.weights(), activations: graph.peak_activation_bytes() };
        self.check_limit(name, &cost)?;
        self.compiler.compile(name, graph, self.model.checkpoint())
    }

    /// Compile and run a graph of the caller's over this model's weights, once.
    pub fn run_graph(
        &mut self,
        name: &str,
        graph: &Graph,
        inputs: &[(&str, &Tensor)],
        cancel: &Cancel,
    ) -> Result<Vec<(String, Tensor)>> {
        self.compiler.compile(name, graph, self.model.checkpoint())?.run(inputs, cancel)
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
        let in_place = self.options.memory == MemoryMode::Lean && self.options.provider == Provider::Cpu;
        if !in_place && checkpoint.as_safetensors().is_none() {
            return Err(Error::Unsupported {
                what: format!("running a graph over {}", checkpoint.file()),
                reason: "only LEAN on the CPU reads weights from anything but one safetensors file".into(),
            });
        }
        let mut compiler = self.compiler.fresh();
        let mut session = compiler.compile("graph", graph, checkpoint)?;
        session.run(inputs, cancel)
    }

    /// Refuse a session that would exceed the memory limit, before anything is allocated for it.
    fn check_limit(&self, name: &str, cost: &Cost) -> Result<()> {
        if self.options.memory_limit == 0 {
            return Ok(());
        }
        let all: Vec<&Cost> = self.cache.values().map(|(_, c)| c).chain([cost]).collect();
        let needed = self.use_of(&all);
        let needed = needed.weights + needed.activations;
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
        self.use_of(&self.cache.values().map(|(_, c)| c).collect::<Vec<_>>())
    }

    fn use_of(&self, costs: &[&Cost]) -> MemoryUse {
        let file = self.model.mapping().bytes().len() as u64;
        let mapped = self.options.weights != WeightsMode::Read && self.model.mapping().is_mapped();
        let mut names: Vec<&String> = costs.iter().flat_map(|c| &c.weights).collect();
        names.sort_unstable();
        names.dedup();
        // Copies are f32: packed for the CPU, or uploaded to the device.
        let copied = self.options.memory == MemoryMode::Fast || self.options.provider != Provider::Cpu;
        let packed: u64 = if copied {
            let views = names.iter().filter_map(|n| self.model.checkpoint().get(n));
            views.map(|v| 4 * v.shape.len() as u64).sum()
        } else {
            0
        };
        MemoryUse {
            mapped: if mapped { file } else { 0 },
            weights: packed + if mapped { 0 } else { file },
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

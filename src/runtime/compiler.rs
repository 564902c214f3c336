//! Graph → ONNX Runtime session over weights that stay in their files' mappings.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

use ort::memory::Allocator;
use ort::session::builder::{AutoDevicePolicy, GraphOptimizationLevel, PrepackedWeights, SessionBuilder};
use ort::value::{DynValue, TensorElementType};

use super::aside::{Aside, Draft, Key, Parts, takes_long};
use super::cancel::Cancel;
use super::cost::{Arena, Cost, Packed};
use super::error::{builder_error, runtime_error};
use super::exit;
use super::library::Runtime;
use super::operators;
use super::options::{Arithmetic, MemoryMode, Options};
use super::processor::int8_resolution;
use super::provider::{Asked, GraphForm, Provider};
use super::session::{Input, Session};
use super::threads::Threads;
use crate::checkpoint::Mapping;
use crate::error::{Error, Result};
use crate::graph::onnx::{self, LoweringOptions, Placement};
use crate::graph::{Graph, Op, int8, qdq, rewrite, simplify};
use crate::quant::{Ranges, ranges_name};
use crate::tensor::Dtype;
use crate::weights::Sources;

/// Everything sessions of one engine share: the runtime, and one OrtValue per weight over the model's mapping.
#[derive(Debug)]
pub(crate) struct Compiler {
    runtime: Runtime,
    options: Options,
    threads: Arc<Threads>,
    weights: HashMap<String, Arc<DynValue>>,
    prepacked: Option<PrepackedWeights>,
    /// What `prepacked` holds, also of sessions that are gone.
    packed: Packed,
    aside: Aside,
    /// Kernels whose convolutions are computed in f32, whatever is known of them.
    in_floats: BTreeSet<String>,
}

/// Which weights of a session are those of other sessions too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Those of the model.
    Model,
    /// None: what is the model's in other sessions is another checkpoint's in this one.
    Nothing,
}

impl Sharing {
    fn shares(self, namespace: &str) -> bool {
        self == Sharing::Model && namespace.is_empty()
    }

    /// The weights of `graph` whose packed copies are made once for all sessions, and whether transposed: matrices of
    /// the model that only products read.
    pub fn packed(self, graph: &Graph, sources: &Sources) -> BTreeSet<(String, bool)> {
        let mut packed = packed_by_products(graph);
        packed.retain(|(name, _)| self.shares(sources.find(name).namespace));
        packed
    }
}

/// Files under the names by which the runtime knows their bytes.
struct Files(Vec<Arc<Mapping>>);

impl Files {
    /// The files of the named weights, each once.
    fn of(weights: &[String], sources: &Sources) -> Files {
        let mut files: Vec<Arc<Mapping>> = Vec::new();
        for weight in weights {
            let source = sources.find(weight);
            let Some(mapping) = source.checkpoint.mapping(source.tensor) else { continue };
            if !files.iter().any(|f| Arc::ptr_eq(f, mapping)) {
                files.push(mapping.clone());
            }
        }
        Files(files)
    }

    fn name(index: usize) -> String {
        format!("weights{index}")
    }

    /// The name of a weight's file and its offset there.
    fn place(&self, weight: &str, sources: &Sources) -> Option<(String, usize)> {
        let source = sources.find(weight);
        let (offset, _) = source.checkpoint.tensor_range(source.tensor)?;
        let mapping = source.checkpoint.mapping(source.tensor)?;
        let index = self.0.iter().position(|f| Arc::ptr_eq(f, mapping))?;
        Some((Files::name(index), offset))
    }
}

impl Compiler {
    pub fn new(runtime: Runtime, options: Options, threads: Arc<Threads>) -> Compiler {
        let prepacked = (options.memory == MemoryMode::Fast).then(PrepackedWeights::new);
        Compiler {
            runtime,
            options,
            threads,
            weights: HashMap::new(),
            prepacked,
            packed: Packed::new(),
            aside: Aside::default(),
            in_floats: BTreeSet::new(),
        }
    }

    /// Have the convolutions with these kernels computed in f32 from now on, in sessions that are compiled from now on; those
    /// that were until now.
    pub fn compute_in_floats(&mut self, kernels: BTreeSet<String>) -> BTreeSet<String> {
        std::mem::replace(&mut self.in_floats, kernels)
    }

    /// Threads that take part in one run of a session with a pool.
    pub fn threads(&self) -> usize {
        self.threads.count()
    }

    /// `graph` as it is run here: in which arithmetic, and rewritten for the CPU's kernels.
    ///
    /// # Errors
    /// None but of a graph that cannot be simplified.
    pub fn for_running<'a>(&self, graph: &'a Graph, sources: &Sources) -> Result<Cow<'a, Graph>> {
        let form = self.options.provider.form();
        if form == GraphForm::Plain {
            return Ok(Cow::Borrowed(graph));
        }
        let graph = self.arithmetic(graph, sources)?;
        match form {
            GraphForm::Rounded => Ok(Cow::Owned(qdq::read_one_way(&graph)?)),
            _ => Ok(Cow::Owned(rewrite::for_running(&graph, self.runtime.kernels())?)),
        }
    }

    fn arithmetic<'a>(&self, graph: &'a Graph, sources: &Sources) -> Result<Cow<'a, Graph>> {
        if self.options.arithmetic != Arithmetic::Auto || !int8::applies(graph) {
            return Ok(Cow::Borrowed(graph));
        }
        let known = |kernels: &str| {
            if self.in_floats.contains(kernels) {
                return None;
            }
            let source = sources.find(kernels);
            Ranges::read(&source.checkpoint.get(&ranges_name(source.tensor))?)
        };
        if self.options.provider.form() == GraphForm::Rounded {
            return Ok(Cow::Owned(simplify(&qdq::rounded(graph, int8_resolution(), &known)?)?));
        }
        // Products of one operand share its rounded form.
        Ok(Cow::Owned(simplify(&int8::in_integers(graph, int8_resolution(), &known)?)?))
    }

    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Forget shared weights and packed copies; sessions that read packed copies must be dropped first.
    pub fn clear(&mut self) {
        self.weights.clear();
        self.prepacked = (self.options.memory == MemoryMode::Fast).then(PrepackedWeights::new);
        self.packed.clear();
    }

    /// The session of this key that a late job has left under way, once it is there. `None`: there is none.
    ///
    /// # Errors
    /// As [`Cancel::check_preparing`]; that the runtime refused it.
    pub fn resume(&mut self, key: &Key, cancel: &Cancel) -> Result<Option<Session>> {
        let resumed = self.aside.resume(key, cancel)?;
        resumed.map(|(session, draft)| self.finish(session, draft)).transpose()
    }

    /// Whether the session of this key is not under way, and may be.
    pub fn may_begin(&mut self, key: &Key) -> bool {
        !self.aside.is_under_way(key) && self.aside.has_room()
    }

    /// Bytes that preparations under way need.
    pub fn preparing(&self) -> u64 {
        self.aside.preparing()
    }

    /// Have preparations end that were begun ahead: nobody will want them.
    pub fn give_up_ahead(&mut self) {
        self.aside.give_up_ahead();
    }

    /// The sessions that late jobs have left, or that were begun ahead, and that are ready now. One that the runtime refused is none: whoever wants
    /// it again will hear why.
    pub fn ready(&mut self) -> Vec<(Key, Session)> {
        let ready = self.aside.ready().into_iter();
        ready.filter_map(|(key, session, draft)| Some((key, self.finish(session, draft).ok()?))).collect()
    }

    /// Have every preparation that was left end, and wait for it: nobody will want it.
    pub fn end_preparations(&mut self) {
        self.aside.end();
    }

    /// Have those end that read the file of this namespace.
    pub fn give_up_of(&mut self, namespace: &str) {
        self.aside.give_up_of(namespace);
    }

    /// Whether this is the cost of a preparation that was left.
    pub fn is_left(&self, cost: &Rc<Cost>) -> bool {
        self.aside.is_left(cost)
    }

    /// How many preparations that were left are still under way.
    pub fn left(&mut self) -> usize {
        self.aside.left()
    }

    /// Packed copies that are held until [`Compiler::clear`], whichever sessions they were made for.
    pub fn packed(&self) -> &Packed {
        &self.packed
    }

    /// Compile `graph` over the weights of `sources`. In place: weights are inputs of the session, bound over
    /// the files' own bytes for every run. Otherwise they are initializers, which the runtime folds and packs
    /// once; those of the model are shared by all sessions of the engine, those of other files belong to
    /// the session and go with it. With a `key`, what takes long goes on when the deadline of `cancel` is over:
    /// [`Compiler::resume`].
    pub fn compile(
        &mut self,
        (name, key): (&str, Option<&Key>),
        graph: &Graph,
        sources: &Sources,
        cost: Rc<Cost>,
        sharing: Sharing,
        cancel: &Cancel,
    ) -> Result<Session> {
        let (parts, draft) = self.draft(name, graph, sources, cost, sharing)?;
        let aside = takes_long(graph.nodes().len(), &draft.cost);
        let loading = cancel.begin_load(&parts.builder, aside && key.is_some())?;
        // A session that fails may have packed some of them.
        self.packed.extend(draft.cost.shared.clone());
        let (session, draft) = self.aside.commit(parts, draft, (aside, key), &self.threads, &loading)?;
        // One that was ready too late is none; it goes before what it reads.
        if let Err(e) = loading.check() {
            drop(session);
            return Err(e);
        }
        drop(loading);
        self.finish(session, draft)
    }

    /// Begin to compile `graph` over the model's weights, beside what this thread does; [`Compiler::resume`] has the session.
    ///
    /// # Errors
    /// That as many preparations as may be are under way; those of [`Compiler::compile`].
    pub fn begin(
        &mut self,
        key: &Key,
        graph: &Graph,
        sources: &Sources,
        cost: Rc<Cost>,
        cancel: &Cancel,
    ) -> Result<()> {
        let (parts, draft) = self.draft(key.name, graph, sources, cost, Sharing::Model)?;
        // The engine may not compute just now.
        drop(cancel.begin_load(&parts.builder, true)?);
        let shared = draft.cost.shared.clone();
        self.aside.begin(parts, draft, key, &self.threads)?;
        self.packed.extend(shared);
        Ok(())
    }

    #[allow(clippy::result_large_err)] // ort's builder errors carry the builder
    fn draft(
        &mut self,
        name: &str,
        graph: &Graph,
        sources: &Sources,
        cost: Rc<Cost>,
        sharing: Sharing,
    ) -> Result<(Parts, Draft)> {
        let stage = format!("preparing '{name}'");
        let b = SessionBuilder::new(&self.runtime.environment).map_err(runtime_error(&stage))?;
        let b = b
            // ort's default policy may pick a registered accelerator by itself.
            .with_auto_device(AutoDevicePolicy::PreferCPU)
            .and_then(|b| b.with_log_level(ort::logging::LogLevel::Fatal))
            .and_then(|b| b.with_optimization_level(GraphOptimizationLevel::All))
            .and_then(|b| b.with_intra_threads(if cost.pooled { self.threads.count() } else { 1 }))
            .and_then(|b| b.with_inter_threads(1))
            .and_then(|b| b.with_memory_pattern(self.options.provider.memory_pattern()))
            .and_then(|b| b.with_intra_op_spinning(false))
            .and_then(|b| b.with_inter_op_spinning(false))
            .and_then(|b| b.with_thread_manager(self.threads.manager()))
            .and_then(|b| b.with_config_entry("session.record_ep_graph_assignment_info", "1"))
            // Folds DequantizeLinear like any other op. Otherwise the runtime keeps it for int8 kernels that it
            // then picks by itself: they round the activations too, and are slow for this storage.
            .and_then(|b| b.with_config_entry("session.disable_quant_qdq", "1"))
            .map_err(builder_error(&stage))?;
        let b = match &self.options.profile {
            Some(folder) => b.with_profiling(folder.join(name)).map_err(builder_error(&stage))?,
            None => b,
        };
        let provider = self.options.provider;
        let every =
            if self.options.yielding && provider == Provider::Cpu { operators::EVERY } else { u64::MAX };
        let b = match every == u64::MAX && !operators::are_in(graph) {
            true => b,
            false => {
                operators::introduce(&self.runtime.environment)?;
                b.with_operators(operators::domain().map_err(runtime_error(&stage))?)
                    .map_err(builder_error(&stage))?
            }
        };
        let asked = Asked {
            device_id: self.options.device_id,
            arena: cost.has_arena(),
            threads: self.threads.count(),
            exact: self.options.arithmetic == Arithmetic::F32,
            rounds: self.options.arithmetic == Arithmetic::Auto && int8::multiplies(graph),
        };
        let mut b = provider.register(b, &self.runtime, &asked)?;

        let names = graph.weights();
        let values = names.iter().map(|n| Ok((n.clone(), self.weight(n, sources, sharing)?)));
        let values = values.collect::<Result<Vec<_>>>()?;
        let constants = if cost.in_place { int8::constants(graph) } else { names.iter().cloned().collect() };
        let files = Files::of(&names, sources);
        let lowering = LoweringOptions { yield_every: every, by_layer: self.options.profile.is_some() };
        let model = if constants.is_empty() {
            onnx::lower_with(graph, Placement::Inputs, lowering)
        } else {
            b = self.place_initializers(b, &values, &files, &cost.shared, &stage)?;
            if let Some(name) = constants.iter().find(|n| files.place(n, sources).is_none()) {
                let source = sources.find(name);
                return Err(Error::Unsupported {
                    what: format!("packing the weights of {}", source.checkpoint.file()),
                    reason: format!(
                        "'{}' is not in a safetensors file; convert it, or use LEAN on the CPU",
                        source.tensor
                    ),
                });
            }
            let place = |n: &str| files.place(n, sources).filter(|_| constants.contains(n));
            onnx::lower_with(graph, Placement::External(&place), lowering)
        };
        let inputs = graph
            .nodes()
            .iter()
            .filter_map(|n| match &n.op {
                Op::Input { name, dtype, shape } => {
                    Some(Input { name: name.clone(), dtype: *dtype, shape: shape.clone() })
                }
                _ => None,
            })
            .collect();
        let parts = Parts { builder: b, model, _weights: values.clone(), _files: files.0.clone() };
        let weights = values.into_iter().filter(|(name, _)| !constants.contains(name)).collect();
        let draft = Draft { stage, inputs, weights, cost, files: files.0 };
        Ok((parts, draft))
    }

    fn finish(&self, session: ort::Result<ort::session::Session>, draft: Draft) -> Result<Session> {
        let Draft { stage, inputs, weights, cost, files } = draft;
        exit::install();
        let session = session.map_err(|e| self.options.provider.failure(&stage, e))?;
        let assignment = assignment(&session)?;
        let memory = Arc::new(self.options.provider.memory(self.options.device_id)?);
        let allocator = Allocator::new(&session, (*memory).to_owned()).map_err(runtime_error(&stage))?;
        let _ = cost.arena.set(Arena::new(allocator, cost.gives_back));
        Ok(Session { session, used: false, inputs, weights, memory, assignment, cost, _files: files })
    }

    /// Hand the weights to a session as initializers in "files", which are our own mappings under names.
    /// Those in `packed`, matrices of the model that only products read, are also given as shared values, so that
    /// their packed copies are made once per engine and not once per session. Others must not be: the runtime's
    /// optimisers may rewrite an initializer under its own name (a Transpose pushed through an Add does), and a
    /// value given by that name would silently undo it.
    #[allow(unsafe_code)]
    fn place_initializers(
        &self,
        mut b: SessionBuilder,
        values: &[(String, Arc<DynValue>)],
        files: &Files,
        packed: &Packed,
        stage: &str,
    ) -> Result<SessionBuilder> {
        if values.is_empty() {
            return Ok(b);
        }
        let os_name = |i| Files::name(i).bytes().chain([0]).map(|c| c as ort::sys::os_char).collect();
        let names: Vec<Vec<_>> = (0..files.0.len()).map(os_name).collect();
        let names: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        let bytes: Vec<_> = files.0.iter().map(|f| f.bytes().as_ptr().cast_mut().cast()).collect();
        let lengths: Vec<usize> = files.0.iter().map(|f| f.bytes().len()).collect();
        // SAFETY: as many names, pointers and lengths as files; names are NUL-terminated; the bytes are
        // mappings that the session keeps as long as it lives, and are only read.
        let status = unsafe {
            (ort::api().AddExternalInitializersFromMemory)(
                ort::AsPointer::ptr_mut(&mut b),
                names.as_ptr(),
                bytes.as_ptr(),
                lengths.as_ptr(),
                lengths.len(),
            )
        };
        // SAFETY: a status of the API, taken over here.
        unsafe { ort::Error::result_from_status(status) }.map_err(runtime_error(stage))?;
        let is_packed = |name: &str| packed.keys().any(|(packed, _)| packed == name);
        for (name, value) in values.iter().filter(|(name, _)| is_packed(name)) {
            b = b.with_initializer(name, value.clone()).map_err(builder_error(stage))?;
        }
        match &self.prepacked {
            _ if packed.is_empty() => Ok(b),
            Some(prepacked) => b.with_prepacked_weights(prepacked).map_err(builder_error(stage)),
            None => Ok(b),
        }
    }

    /// The OrtValue over one tensor's bytes. One for all sessions where the tensor is the model's: another
    /// file may be closed while the engine lives.
    #[allow(unsafe_code)]
    fn weight(&mut self, name: &str, sources: &Sources, sharing: Sharing) -> Result<Arc<DynValue>> {
        let source = sources.find(name);
        let shared = sharing.shares(source.namespace);
        if let Some(value) = self.weights.get(name).filter(|_| shared) {
            return Ok(value.clone());
        }
        let view = source
            .checkpoint
            .get(source.tensor)
            .ok_or_else(|| Error::internal(format!("weight '{name}' vanished")))?;
        let element = match view.dtype {
            Dtype::Bool => TensorElementType::Bool,
            Dtype::U8 => TensorElementType::Uint8,
            Dtype::I8 => TensorElementType::Int8,
            Dtype::I16 => TensorElementType::Int16,
            Dtype::I32 => TensorElementType::Int32,
            Dtype::I64 => TensorElementType::Int64,
            Dtype::F16 => TensorElementType::Float16,
            Dtype::BF16 => TensorElementType::Bfloat16,
            Dtype::F32 => TensorElementType::Float32,
            Dtype::F64 => TensorElementType::Float64,
        };
        let dims: Vec<i64> = view.shape.iter().map(|&d| d as i64).collect();
        let allocator = Allocator::default();
        let mut value: *mut ort::sys::OrtValue = std::ptr::null_mut();
        // SAFETY: the bytes belong to a mapping that outlives the value: the model's, which the worker drops
        // last, or one that the session keeps; ONNX Runtime only reads initializers. The memory info is
        // valid for the call, and a NULL status means `value` is set.
        let value = unsafe {
            let status = (ort::api().CreateTensorWithDataAsOrtValue)(
                ort::AsPointer::ptr(allocator.memory_info()),
                view.data.as_ptr().cast_mut().cast(),
                view.data.len(),
                dims.as_ptr(),
                dims.len(),
                element.into(),
                &mut value,
            );
            ort::Error::result_from_status(status).map_err(runtime_error("binding weights"))?;
            let value =
                NonNull::new(value).ok_or_else(|| Error::internal("ONNX Runtime returned no value"))?;
            DynValue::from_ptr(value, Some(&allocator))
        };
        let value = Arc::new(value);
        if shared {
            self.weights.insert(name.into(), value.clone());
        }
        Ok(value)
    }
}

/// Weights whose every use is the second operand of a product, and whether as its transpose: kernels pack them, no
/// optimiser rewrites them.
fn packed_by_products(graph: &Graph) -> BTreeSet<(String, bool)> {
    let nodes = graph.nodes();
    let mut packed = BTreeSet::new();
    let mut others = HashSet::new();
    for node in nodes.iter() {
        for (at, input) in node.inputs.iter().enumerate() {
            if let Op::Weight { name, .. } = &nodes[input.index()].op {
                match node.op {
                    Op::Gemm { trans_b, .. } if at == 1 => drop(packed.insert((name.clone(), trans_b))),
                    Op::MatMulIntegerToFloat { .. } if at == 1 => drop(packed.insert((name.clone(), false))),
                    _ => drop(others.insert(name.clone())),
                }
            }
        }
    }
    let outputs = graph.outputs();
    others.extend(outputs.iter().filter_map(|(_, v)| match &nodes[v.index()].op {
        Op::Weight { name, .. } => Some(name.clone()),
        _ => None,
    }));
    packed.retain(|(name, _)| !others.contains(name));
    packed
}

/// Which execution provider runs how many nodes: what was really done with the graph, not what was asked.
#[allow(unsafe_code)]
fn assignment(session: &ort::session::Session) -> Result<BTreeMap<String, usize>> {
    let failed = runtime_error("reading the provider assignment");
    let api = ort::api();
    let mut counts = BTreeMap::new();
    // SAFETY: the session is alive for the whole function; arrays and names that the API hands out belong to it
    // and live as long; every out pointer is valid.
    unsafe {
        let (mut parts, mut n) = (std::ptr::null(), 0);
        let status = (api.Session_GetEpGraphAssignmentInfo)(ort::AsPointer::ptr(session), &mut parts, &mut n);
        ort::Error::result_from_status(status).map_err(&failed)?;
        for i in 0..n {
            let part = *parts.add(i);
            let (mut name, mut nodes, mut count) = (std::ptr::null(), std::ptr::null(), 0);
            let status = (api.EpAssignedSubgraph_GetEpName)(part, &mut name);
            ort::Error::result_from_status(status).map_err(&failed)?;
            let status = (api.EpAssignedSubgraph_GetNodes)(part, &mut nodes, &mut count);
            ort::Error::result_from_status(status).map_err(&failed)?;
            let name = std::ffi::CStr::from_ptr(name).to_string_lossy().into_owned();
            *counts.entry(name).or_insert(0) += count;
        }
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_read_both_ways_is_packed_twice() {
        let g = Graph::new();
        let [x, y] = ["x", "y"].map(|name| g.input(name, Dtype::F32, [1, 4]).unwrap());
        let [a, b, c] = ["a", "b", "c"].map(|name| g.weight(name, Dtype::F32, [4, 4]).unwrap());
        let product = |x, w, trans_b| g.gemm(x, w, None, false, trans_b).unwrap();
        g.output("a", product(x, a, false));
        g.output("a transposed", product(y, a, true));
        g.output("b", product(x, b, true));
        // Not c, which something else reads too.
        g.output("c", g.add(product(x, c, false), c).unwrap());
        let expected =
            [("a", false), ("a", true), ("b", true)].map(|(name, trans)| (name.to_string(), trans));
        assert_eq!(packed_by_products(&g), expected.into());
    }
}

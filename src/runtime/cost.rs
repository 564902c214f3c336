//! What a session adds to memory, and how much there is for it to compute.

use std::cell::{Cell, OnceCell};
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::time::Duration;

use ort::memory::Allocator;

use crate::error::Result;
use crate::graph::{Graph, Op, Value};
use crate::shortage;
use crate::tensor::Dtype;

/// Bytes of packed copies, of f32 or of int8 arithmetic's bytes, by the weight's name and whether it is packed transposed: a gradient reads both
/// ways what the forward reads one way.
pub(crate) type Packed = BTreeMap<(String, bool), u64>;

/// What a session adds to memory.
#[derive(Debug, Default)]
pub(crate) struct Cost {
    /// Weights are used where they are.
    pub in_place: bool,
    /// Weights whose packed copies are made once for all sessions.
    pub shared: Packed,
    /// Bytes of the weights that the session copies for itself: expanded, packed, or uploaded to the device.
    pub copied: u64,
    /// Bytes of the files beside the model's, by namespace, and whether they are mapped.
    pub files: BTreeMap<String, (u64, bool)>,
    /// Bytes of values that the runtime plans with, see [`Graph::planned_activation_bytes`].
    pub planned: u64,
    /// Nodes of the graph.
    pub nodes: usize,
    /// Whether it has a thread pool: the engine has threads, and it computes enough for one to pay.
    pub pooled: bool,
    /// The memory of its values goes back to the system after every run.
    pub gives_back: bool,
    /// How long the fastest run took of those that came to their ends. Slower ones had to share the processor.
    pub took: Cell<Option<Duration>>,
    /// The allocator of its values, once it is compiled.
    pub(crate) arena: OnceCell<Arena>,
}

/// Planned bytes from which on a session on the CPU allocates each value by itself. Up to there the runtime's arena
/// saves page faults; but it grows by doubling, which a session this large cannot afford.
pub(crate) const ARENA_LIMIT: u64 = 4 << 30;

/// Planned bytes from which on a session over weights that are used in place gives its memory back after each run: else what the
/// networks of a picture need one after the other they would hold all at once, and between pictures. Page faults cost
/// MaskBit-256 one to three parts in a hundred; less memory is not worth that.
pub(crate) const GIVES_BACK_FROM: u64 = 16 << 20;

/// Bytes of the runtime's own that a session takes for each node of its graph: kernels, plans, names. Between 5 and 8 KiB
/// in the networks of the bundled model; `tests/capi/memory.c` holds the sums against what the kernel says.
const NODE: u64 = 6 << 10;

/// Bytes that kernels take for the length of a run beside the values of the graph.
const SCRATCH: u64 = 8 << 20;

/// What the runtime takes beyond the plan at most, as a part of it: sizes are rounded up.
const SLACK: u64 = 10;

/// Multiplications and results from which on a graph is computed by more than one thread.
const POOL_WORK: u64 = 1 << 20;

impl Cost {
    /// Whether the runtime keeps an arena for the session's values.
    pub fn has_arena(&self) -> bool {
        self.planned < ARENA_LIMIT
    }

    /// Most bytes of values that were alive at once, of all runs so far.
    pub fn values(&self) -> u64 {
        self.arena.get().map_or(0, |arena| arena.most_in_use().saturating_sub(arena.prepared))
    }

    /// A run has come to its end.
    pub fn has_taken(&self, time: Duration) {
        self.took.set(Some(self.took.get().map_or(time, |fastest| fastest.min(time))));
    }

    fn has_run(&self) -> bool {
        self.took.get().is_some()
    }

    /// Bytes of weights that preparing it reads and copies.
    pub fn expanded(&self) -> u64 {
        self.copied + self.shared.values().sum::<u64>()
    }

    /// Bytes that must be free to prepare it.
    pub fn preparing(&self) -> u64 {
        // The graph in three forms, and what optimisers make of weights that they may read.
        (self.nodes as u64 * 4 * NODE).saturating_add(2 * self.expanded()).saturating_add(SCRATCH)
    }

    /// That the runtime will find memory for a run: in one of its threads a failed allocation would end the process.
    ///
    /// # Errors
    /// [`Error::Exhausted`](crate::Error::Exhausted).
    pub fn preflight(&self) -> Result<()> {
        let has_them = self.has_run() && self.has_arena() && !self.gives_back;
        let values = if has_them { 0 } else { self.planned };
        shortage::room("running a network", values.saturating_add(SCRATCH))
    }

    /// Bytes beside weights that the session has held at most: it does between runs, too, unless it gives back.
    pub fn held(&self) -> u64 {
        self.values().saturating_add(self.itself())
    }

    /// Bytes in use before the first run.
    fn prepared(&self) -> u64 {
        self.arena.get().map_or(0, |arena| arena.prepared)
    }

    /// Bytes beside weights that it holds once it has run: foreseen before the first run, known after it. A session
    /// without an arena holds no values between its runs.
    pub fn reserved(&self) -> u64 {
        let values = match self.has_run() {
            true => self.values(),
            false => self.values().max(self.planned.saturating_add(self.planned / SLACK)),
        };
        values.saturating_add(self.itself())
    }

    /// Bytes of the weights that it has for itself.
    pub fn own_weights(&self) -> u64 {
        match self.in_place {
            true => self.copied,
            false => self.copied.max(self.prepared()),
        }
    }

    /// Bytes of the session itself, constants included.
    pub fn itself(&self) -> u64 {
        let constants = if self.in_place { self.prepared() } else { 0 };
        NODE * self.nodes as u64 + constants
    }
}

/// The allocator of a session's values, which knows how much it has given out.
#[derive(Debug)]
pub(crate) struct Arena {
    allocator: Allocator,
    /// Bytes in use before the first run: weights that the session has copied for itself, or, where weights are used in
    /// place, the constants of its graph.
    prepared: u64,
}

impl Arena {
    /// Of a session that was just prepared. An arena that gives back keeps its first region all the same (onnxruntime,
    /// `BFCArena::Shrink`): that one is to be of a MiB and not of the largest value.
    pub fn new(allocator: Allocator, gives_back: bool) -> Arena {
        if gives_back {
            drop(allocator.alloc::<u8>(1));
        }
        let mut arena = Arena { allocator, prepared: 0 };
        arena.prepared = arena.most_in_use();
        arena
    }

    /// What the arena holds of the system's memory is more, as it grows by doubling; but pages that were never given
    /// out were never touched. 0 where the allocator keeps no statistics.
    #[allow(unsafe_code)]
    fn most_in_use(&self) -> u64 {
        let api = ort::api();
        // SAFETY: the allocator lives; the pairs are the call's own until they are released, and the value found
        // belongs to them.
        unsafe {
            let mut pairs = std::ptr::null_mut();
            let status = (api.AllocatorGetStats)(ort::AsPointer::ptr(&self.allocator), &mut pairs);
            if ort::Error::result_from_status(status).is_err() || pairs.is_null() {
                return 0;
            }
            let value = (api.GetKeyValue)(pairs, c"MaxInUse".as_ptr());
            let bytes = match value.is_null() {
                true => None,
                false => CStr::from_ptr(value).to_str().ok().and_then(|v| v.parse().ok()),
            };
            (api.ReleaseKeyValuePairs)(pairs);
            bytes.unwrap_or(0)
        }
    }
}

/// Bytes that copies of a weight for kernels take for each of its elements: those of f32, but for int8 that is nowhere
/// widened, of which there may be a transposed one as well. `kept`: what widens int8 leaves it as it is.
pub(crate) fn copied_width(graph: &Graph, weight: &str, kept: bool) -> u64 {
    let nodes = graph.nodes();
    let is_it = |v: &Value| matches!(&nodes[v.index()].op, Op::Weight { name, dtype: Dtype::I8, .. } if name == weight);
    let readers: Vec<&Op> =
        nodes.iter().filter(|node| node.inputs.iter().any(is_it)).map(|node| &node.op).collect();
    let turned = readers.iter().any(|op| matches!(op, Op::Transpose { .. }));
    let int8 = |op: &&Op| {
        matches!(op, Op::MatMulIntegerToFloat { .. } | Op::QLinearConv { .. } | Op::Transpose { .. })
            || kept && matches!(op, Op::DequantizeLinear { .. })
    };
    match !readers.is_empty() && readers.iter().all(int8) {
        true => 1 + u64::from(turned),
        false => size_of::<f32>() as u64,
    }
}

/// Whether computing `graph` is worth waking other threads: by its multiplications and results.
pub(crate) fn pays_for_a_pool(graph: &Graph) -> bool {
    graph.work() >= POOL_WORK
}

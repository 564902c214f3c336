//! How an engine is opened.

use std::path::PathBuf;

use super::provider::Provider;
use crate::model_file::WeightsMode;

/// Trade of memory against speed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemoryMode {
    /// Weights are used straight from the mapped pages: opens in milliseconds, memory is page cache.
    #[default]
    Lean,
    /// Weights are packed for the CPU's kernels when first used: faster runs, one more copy in memory.
    Fast,
}

/// The arithmetic of weights that are laid out for int8 (format 2, `softdimo quantize --dtype int8`). That of all others
/// is f32, but for [`Provider::OpenVino`] with `Auto`: bf16 on processors that are fast at it (AMX, AMD's AVX-512).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Arithmetic {
    /// int8 where the provider is fast at it: on the CPU, also with OpenVINO.
    #[default]
    Auto,
    /// f32: weights are widened.
    F32,
}

/// How an engine is opened. Later versions may add fields: end a literal with `..Options::default()`.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub provider: Provider,
    /// GPU index for `cuda`.
    pub device_id: i32,
    pub memory: MemoryMode,
    pub arithmetic: Arithmetic,
    pub weights: WeightsMode,
    /// Threads that compute one run; 0 = one per core, at most 8.
    pub threads: usize,
    /// Niceness added to the engine's threads on Linux, 0 to 19. On Windows their priority within the class of the process:
    /// 1 to 9 below normal, 10 to 18 lowest, 19 idle. Elsewhere it does nothing.
    pub niceness: i32,
    /// Bytes this engine may hold beyond mapped pages; 0 = no limit.
    pub memory_limit: u64,
    /// Billions of multiply-adds that one network may take for a picture; 0 = 40000, more than four times what
    /// Meissonic needs at 1024×1024. A model that takes more is refused when it is opened, as is one with a node for every two billion.
    pub work_limit: u32,
    /// Networks look every millisecond or so of computing, instead of once a call, whether the engine is paused or has used up
    /// its share of the processor. The pictures are the same. CPU only.
    pub yielding: bool,
    /// What [`Engine::tune`](crate::Engine::tune) remembered of this model and machine is not read: int8 is used wherever the
    /// processor's kernels allow it.
    pub untuned: bool,
    /// The ONNX Runtime library file; `None` searches.
    pub ort_library: Option<PathBuf>,
    /// A folder: every session writes its profile there, as ONNX Runtime's JSON, when it is dropped. Values and nodes are then
    /// named by their layers, see [`Graph::layers`](crate::graph::Graph::layers).
    #[doc(hidden)]
    pub profile: Option<PathBuf>,
}

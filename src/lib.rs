#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]
#![warn(missing_debug_implementations)]

// The public interface has three tiers. What stands at the root, in `convert` and in `image` is stable: `docs/stable-api.txt`
// records it, and a test holds it. What is `#[doc(hidden)]`, modules as well as methods and variants of stable types, is for
// the members of this workspace and for experiments: it may change in any release. The rest is private. A stable signature
// names no type of another tier.
//
// `bindings/c` is built from the stable tier, and from what only the C ABI promises: files in the host's memory
// (`checkpoint::Mapping`, for `from_mapping`), a wall against panics (`panic_wall`) and against calls in a forked process
// (`runtime::check_process`), what is told when memory is short (`shortage`), and how much a
// request brings before it is copied (`check_counts`).
//
// The order in which modules may use each other is in `ARCHITECTURE.md`.

#[doc(hidden)]
pub mod atomic_file;
#[doc(hidden)]
pub mod calibrate;
#[doc(hidden)]
pub mod checkpoint;
#[doc(hidden)]
pub mod compare;
pub mod convert;
mod edit;
mod engine;
mod error;
#[doc(hidden)]
pub mod families;
mod file_id;
mod file_limit;
mod generate;
mod generated;
#[doc(hidden)]
pub mod graph;
mod host;
pub mod image;
mod label;
#[doc(hidden)]
pub mod model;
#[doc(hidden)]
pub mod model_file;
#[doc(hidden)]
pub mod nn;
#[doc(hidden)]
pub mod panic_wall;
#[doc(hidden)]
pub mod program;
#[doc(hidden)]
pub mod quant;
mod report;
mod request;
#[doc(hidden)]
pub mod rewards;
#[doc(hidden)]
pub mod rng;
#[doc(hidden)]
pub mod runtime;
#[doc(hidden)]
pub mod sample;
mod sessions;
#[doc(hidden)]
pub mod shortage;
#[doc(hidden)]
pub mod tensor;
#[doc(hidden)]
pub mod text;
mod tteo;
mod verify;
#[doc(hidden)]
pub mod weights;

pub use edit::{Edit, Keep};
pub use engine::{Engine, Job, Opening, Phase, TunedLayer, TunedProgram, Tuning};
pub use error::{Error, LogLevel, Result, Status};
pub use families::family::Layout;
pub use generated::Generated;
pub use host::Progress;
pub use label::Label;
pub use model_file::WeightsMode;
pub use report::Report;
pub use request::{BATCH_LIMIT, Decode, Request};
pub use rewards::{BINS, Reward, RewardAnswer, RewardImage, RewardModel, RewardTerm, histogram};
pub use rng::seed;
pub use runtime::{Arithmetic, MemoryMode, Options, Provider};
pub use sessions::MemoryUse;
pub use sessions::budget::{memory_in_use, set_memory_budget};
pub use tensor::{Dtype, Shape, Tensor};
pub use tteo::{Iteration, OptimizationReport, Optimize, Optimizer, Variables};
pub use verify::{Row, Verification};

// Hosts share these between threads.
const _: () = {
    const fn is_shared<T: Send + Sync>() {}
    is_shared::<Engine>();
    is_shared::<Job>();
    is_shared::<Opening>();
    is_shared::<Reward>();
    is_shared::<RewardModel>();
    is_shared::<Generated>();
    is_shared::<Error>();
};

/// The Rust of `docs/` is tested as the README's is.
#[cfg(doctest)]
#[doc = include_str!("../docs/optimize.md")]
struct Docs;

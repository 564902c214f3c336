#![doc = include_str!("../README.md")]
// Shapes are written [B, N, D] throughout; rustdoc would take every one for a link.
#![allow(rustdoc::broken_intra_doc_links)]
#![deny(unsafe_code)]
#![warn(missing_debug_implementations)]

mod atomic_file;
pub mod checkpoint;
pub mod convert;
pub mod edit;
pub mod engine;
pub mod error;
pub mod families;
mod generate;
pub mod generated;
pub mod graph;
mod host;
pub mod image;
mod label;
pub mod model;
pub mod model_file;
pub mod nn;
#[doc(hidden)]
pub mod panic_wall;
pub mod program;
pub mod quant;
pub mod report;
pub mod request;
pub mod rewards;
pub mod rng;
pub mod runtime;
pub mod sample;
mod sessions;
pub mod tensor;
pub mod text;
pub mod tteo;
pub mod verify;
pub mod weights;

pub use edit::{Edit, Keep};
pub use engine::{Engine, Job, Phase};
pub use error::{Error, Result, Status};
pub use generated::Generated;
pub use host::Progress;
pub use label::Label;
pub use model_file::WeightsMode;
pub use report::Report;
pub use request::{Decode, Request};
pub use rewards::{Reward, RewardTerm};
pub use runtime::{Cancel, MemoryMode, Options, Provider};
pub use tteo::{Optimize, Optimizer};

/// The Rust of `docs/` is tested as the README's is.
#[cfg(doctest)]
#[doc = include_str!("../docs/optimize.md")]
struct Docs;

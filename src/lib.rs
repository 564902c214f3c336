#![doc = include_str!("../README.md")]
// Shapes are written [B, N, D] throughout; rustdoc would take every one for a link.
#![allow(rustdoc::broken_intra_doc_links)]
#![deny(unsafe_code)]
#![warn(missing_debug_implementations)]

mod atomic_file;
pub mod checkpoint;
mod condition;
pub mod convert;
pub mod edit;
pub mod engine;
pub mod error;
pub mod families;
pub mod generate;
pub mod graph;
pub mod image;
pub mod job;
mod label;
pub mod model;
pub mod model_file;
pub mod nn;
#[doc(hidden)]
pub mod panic_wall;
pub mod program;
pub mod quant;
pub mod request;
pub mod rewards;
pub mod rng;
pub mod sample;
pub mod tensor;
pub mod text;
pub mod tteo;
pub mod verify;
pub mod weights;

pub use edit::{Edit, Keep};
pub use engine::{Engine, MemoryMode, Options, Provider};
pub use error::{Error, Result, Status};
pub use generate::Generated;
pub use job::Job;
pub use label::Label;
pub use model_file::WeightsMode;
pub use request::{Decode, Request};
pub use rewards::{Reward, RewardTerm};
pub use tteo::{Optimize, Optimizer};

/// The Rust of `docs/` is tested as the README's is.
#[cfg(doctest)]
#[doc = include_str!("../docs/optimize.md")]
struct Docs;

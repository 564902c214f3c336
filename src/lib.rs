//! libsoftdimo: one-step image generation from masked-diffusion students, in process.

#![deny(unsafe_code)]
#![warn(missing_debug_implementations)]

pub mod checkpoint;
pub mod error;
pub mod image;
pub mod rng;
pub mod sample;
pub mod tensor;

pub use error::{Error, Result, Status};

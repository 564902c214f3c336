//! Open a checkpoint (a file, a directory or a sharded index) as one namespace of tensor views.

#[allow(unsafe_code)]
mod mapping;
pub mod safetensors;
#[allow(unsafe_code)]
pub mod sigbus;

pub use mapping::Mapping;

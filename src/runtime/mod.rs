//! ONNX Runtime: its library, its providers, sessions over mapped weights, and everything that keeps it from surprising a
//! host. The only place in the crate that names `ort`, and nothing here knows a model.
//!
//! All of it is used on engine threads (`threads`): ONNX Runtime may change the floating-point mode of its caller.

pub(crate) mod aside;
pub(crate) mod bound;
pub(crate) mod cancel;
pub(crate) mod compiler;
pub(crate) mod cost;
mod error;
pub(crate) mod exit;
pub(crate) mod heap;
mod library;
mod library_file;
mod loader;
mod operators;
mod options;
pub(crate) mod pace;
pub(crate) mod process;
pub(crate) mod processor;
mod provider;
pub(crate) mod rehearsal;
mod session;
pub(crate) mod statics;
pub(crate) mod threads;
mod unwinder;

pub use self::cancel::Cancel;
pub use self::library::{ENV_LIBRARY, Runtime, load, loaded};
pub use self::options::{Arithmetic, MemoryMode, Options};
pub use self::process::check_process;
pub use self::processor::int8_resolution;
pub use self::provider::Provider;
pub use self::session::Session;

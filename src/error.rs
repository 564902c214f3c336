//! The one error type of the library, and its mapping to the C ABI's status codes; and the severity of messages.
//!
//! Every message names the thing, what was expected and what was found.

use std::path::PathBuf;
use std::sync::Arc;

/// Result of every fallible call in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, grouped by the stage that noticed it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument of a call or a field of a request is out of range, of the wrong kind or missing.
    #[error("{what}: expected {expected}, found {found}")]
    InvalidArgument { what: String, expected: String, found: String },
    /// A required pointer was NULL (C ABI only).
    #[error("argument '{what}' is NULL: expected a valid pointer")]
    NullArgument { what: &'static str },
    /// A versioned struct carries a `struct_size` this library cannot read (C ABI only).
    #[error(
        "{what}.struct_size: expected at least {minimum} (sizeof({what}), which its _init sets where it has one), found {found}"
    )]
    StructSize { what: &'static str, minimum: usize, found: usize },
    /// The named file does not exist.
    #[error("file '{path}' not found")]
    NotFound { path: PathBuf },
    /// Reading or writing a file failed.
    #[error("file '{path}': {source}")]
    Io { path: PathBuf, source: Arc<std::io::Error> },
    /// A checkpoint or model file breaks a rule of its format.
    #[error("{file}: {what}: expected {expected}, found {found}")]
    Format { file: String, what: String, expected: String, found: String },
    /// A tensor the model needs is not in the checkpoint.
    #[error("tensor '{name}': expected shape {expected}, found no such tensor in {file}")]
    MissingTensor { name: String, expected: String, file: String },
    /// A tensor is in the checkpoint with another shape or dtype than the model needs.
    #[error("tensor '{name}': expected {expected}, found {found} in {file}")]
    TensorMismatch { name: String, expected: String, found: String, file: String },
    /// A configuration value is missing or makes no sense.
    #[error("{file}: config '{key}': expected {expected}, found {found}")]
    Config { file: String, key: String, expected: String, found: String },
    /// The label is not one of the model's class names.
    #[error("label '{label}': expected one of the model's {count} labels{hint}, found no match")]
    UnknownLabel { label: String, count: usize, hint: String },
    /// The request is well formed, but this model or build cannot do it.
    #[error("{what} is not supported: {reason}")]
    Unsupported { what: String, reason: String },
    /// A caller-owned buffer is too small or absent.
    #[error("{what}: expected at least {expected} bytes, found {found}")]
    BufferTooSmall { what: String, expected: usize, found: usize },
    /// No usable ONNX Runtime library was found; every place tried is listed with its reason.
    #[error("ONNX Runtime library: expected version 1.25 to 1.32 in one of the places tried, found none usable; tried: {}", .tried.join("; "))]
    RuntimeNotFound { tried: Vec<String> },
    /// ONNX Runtime refused a graph or failed while running it.
    #[error("ONNX Runtime failed in {stage}: {message}")]
    Runtime { stage: String, message: String },
    /// An execution provider was asked for and cannot be used here.
    #[error("execution provider '{provider}' is not usable: {reason}")]
    Provider { provider: String, reason: String },
    /// The work would exceed the engine's memory limit.
    #[error("{what}: needs {needed} bytes, expected at most the memory limit of {limit} bytes")]
    OutOfMemory { what: String, needed: u64, limit: u64 },
    /// The work would exceed the memory budget of all engines of the process.
    #[error(
        "{what} beside {others} bytes of other engines: needs {needed} bytes, expected at most the process's memory budget of {budget} bytes"
    )]
    Budget { what: String, others: u64, needed: u64, budget: u64 },
    /// The system has no memory left for what the call needs: `bytes`, 0 where many small things may have been refused.
    #[error("{what}: {}", shortage(*.bytes))]
    Exhausted { what: String, bytes: u64 },
    /// The job was cancelled by its owner.
    #[error("the job was cancelled")]
    Cancelled,
    /// The job was cancelled before it had begun: a newer one with its key was submitted.
    #[error("the job was cancelled: replaced by a newer job with the key {key}")]
    Replaced { key: u64 },
    /// The job has not finished, so its result cannot be read yet.
    #[error("{what}: expected a finished job, found one that is {state}")]
    NotReady { what: &'static str, state: &'static str },
    /// Waiting ended before the job did; the job goes on.
    #[error("the job did not finish within {milliseconds} ms")]
    Timeout { milliseconds: u64 },
    /// The process was forked after the library was first used; the child must not use it.
    #[error(
        "this process was forked from the one that opened the engine (pid {parent}); open it again after exec"
    )]
    Forked { parent: u32 },
    /// A bug in this library, caught before it could reach the host.
    #[error("internal error (please report it): {message}")]
    Internal { message: String },
}

/// For [`Error::Exhausted`].
fn shortage(bytes: u64) -> String {
    match bytes {
        0 => "found no more memory free".into(),
        _ => format!("needs {bytes} bytes more, found no such memory free"),
    }
}

/// The C ABI's status codes. Values are frozen: new ones are appended, none is ever reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
#[non_exhaustive]
pub enum Status {
    Ok = 0,
    InvalidArgument = 1,
    NullArgument = 2,
    StructSize = 3,
    NotFound = 4,
    Io = 5,
    Format = 6,
    MissingTensor = 7,
    TensorMismatch = 8,
    Config = 9,
    UnknownLabel = 10,
    Unsupported = 11,
    BufferTooSmall = 12,
    RuntimeNotFound = 13,
    Runtime = 14,
    Provider = 15,
    OutOfMemory = 16,
    Cancelled = 17,
    NotReady = 18,
    Timeout = 19,
    Forked = 20,
    Internal = 21,
}

impl Status {
    /// Every status, in the order of its value.
    pub const ALL: &'static [Status] = &[
        Status::Ok,
        Status::InvalidArgument,
        Status::NullArgument,
        Status::StructSize,
        Status::NotFound,
        Status::Io,
        Status::Format,
        Status::MissingTensor,
        Status::TensorMismatch,
        Status::Config,
        Status::UnknownLabel,
        Status::Unsupported,
        Status::BufferTooSmall,
        Status::RuntimeNotFound,
        Status::Runtime,
        Status::Provider,
        Status::OutOfMemory,
        Status::Cancelled,
        Status::NotReady,
        Status::Timeout,
        Status::Forked,
        Status::Internal,
    ];

    /// The name of the constant in `softdimo.h`.
    pub fn name(self) -> &'static std::ffi::CStr {
        match self {
            Status::Ok => c"SOFTDIMO_OK",
            Status::InvalidArgument => c"SOFTDIMO_ERR_INVALID_ARGUMENT",
            Status::NullArgument => c"SOFTDIMO_ERR_NULL_ARGUMENT",
            Status::StructSize => c"SOFTDIMO_ERR_STRUCT_SIZE",
            Status::NotFound => c"SOFTDIMO_ERR_NOT_FOUND",
            Status::Io => c"SOFTDIMO_ERR_IO",
            Status::Format => c"SOFTDIMO_ERR_FORMAT",
            Status::MissingTensor => c"SOFTDIMO_ERR_MISSING_TENSOR",
            Status::TensorMismatch => c"SOFTDIMO_ERR_TENSOR_MISMATCH",
            Status::Config => c"SOFTDIMO_ERR_CONFIG",
            Status::UnknownLabel => c"SOFTDIMO_ERR_UNKNOWN_LABEL",
            Status::Unsupported => c"SOFTDIMO_ERR_UNSUPPORTED",
            Status::BufferTooSmall => c"SOFTDIMO_ERR_BUFFER_TOO_SMALL",
            Status::RuntimeNotFound => c"SOFTDIMO_ERR_RUNTIME_NOT_FOUND",
            Status::Runtime => c"SOFTDIMO_ERR_RUNTIME",
            Status::Provider => c"SOFTDIMO_ERR_PROVIDER",
            Status::OutOfMemory => c"SOFTDIMO_ERR_OUT_OF_MEMORY",
            Status::Cancelled => c"SOFTDIMO_ERR_CANCELLED",
            Status::NotReady => c"SOFTDIMO_ERR_NOT_READY",
            Status::Timeout => c"SOFTDIMO_ERR_TIMEOUT",
            Status::Forked => c"SOFTDIMO_ERR_FORKED",
            Status::Internal => c"SOFTDIMO_ERR_INTERNAL",
        }
    }
}

/// How severe a message is, the most severe first; the values are those of the C ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
#[repr(i32)]
pub enum LogLevel {
    Error = 1,
    Warning = 2,
    Info = 3,
}

impl TryFrom<i32> for LogLevel {
    type Error = Error;

    fn try_from(value: i32) -> Result<LogLevel> {
        match value {
            1 => Ok(LogLevel::Error),
            2 => Ok(LogLevel::Warning),
            3 => Ok(LogLevel::Info),
            _ => Err(Error::invalid("options.log_level", "1 (error) to 3 (info)", value)),
        }
    }
}

impl Error {
    /// The C ABI status this error is reported as.
    pub fn status(&self) -> Status {
        match self {
            Error::InvalidArgument { .. } => Status::InvalidArgument,
            Error::NullArgument { .. } => Status::NullArgument,
            Error::StructSize { .. } => Status::StructSize,
            Error::NotFound { .. } => Status::NotFound,
            Error::Io { .. } => Status::Io,
            Error::Format { .. } => Status::Format,
            Error::MissingTensor { .. } => Status::MissingTensor,
            Error::TensorMismatch { .. } => Status::TensorMismatch,
            Error::Config { .. } => Status::Config,
            Error::UnknownLabel { .. } => Status::UnknownLabel,
            Error::Unsupported { .. } => Status::Unsupported,
            Error::BufferTooSmall { .. } => Status::BufferTooSmall,
            Error::RuntimeNotFound { .. } => Status::RuntimeNotFound,
            Error::Runtime { .. } => Status::Runtime,
            Error::Provider { .. } => Status::Provider,
            Error::OutOfMemory { .. } | Error::Budget { .. } | Error::Exhausted { .. } => Status::OutOfMemory,
            Error::Cancelled | Error::Replaced { .. } => Status::Cancelled,
            Error::NotReady { .. } => Status::NotReady,
            Error::Timeout { .. } => Status::Timeout,
            Error::Forked { .. } => Status::Forked,
            Error::Internal { .. } => Status::Internal,
        }
    }

    /// An [`Error::InvalidArgument`] from anything printable.
    pub fn invalid(what: impl Into<String>, expected: impl Into<String>, found: impl ToString) -> Error {
        Error::InvalidArgument { what: what.into(), expected: expected.into(), found: found.to_string() }
    }

    /// An [`Error::Internal`]: a broken invariant of this library itself.
    pub fn internal(message: impl Into<String>) -> Error {
        Error::Internal { message: message.into() }
    }

    /// An [`Error::NotFound`] or [`Error::Io`] for a failed file operation.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Error {
        let path = path.into();
        match source.kind() {
            std::io::ErrorKind::NotFound => Error::NotFound { path },
            std::io::ErrorKind::OutOfMemory => {
                Error::Exhausted { what: format!("file '{}'", path.display()), bytes: 0 }
            }
            _ => Error::Io { path, source: Arc::new(source) },
        }
    }
}

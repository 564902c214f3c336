//! Every call that can fail returns a status. The words for a person, which name the thing, what was expected
//! and what was found, are the thread's last error.

use super::*;

/// Success.
pub const SOFTDIMO_OK: i32 = 0;
/// An argument or a field is out of range, of the wrong kind, or not zero where reserved.
pub const SOFTDIMO_ERR_INVALID_ARGUMENT: i32 = 1;
/// A required pointer is NULL.
pub const SOFTDIMO_ERR_NULL_ARGUMENT: i32 = 2;
/// `struct_size` is not one this library knows, or was not set.
pub const SOFTDIMO_ERR_STRUCT_SIZE: i32 = 3;
/// The file does not exist.
pub const SOFTDIMO_ERR_NOT_FOUND: i32 = 4;
/// Reading or writing a file failed.
pub const SOFTDIMO_ERR_IO: i32 = 5;
/// The file breaks a rule of its format (truncated, overlapping, not a model file), or has lost bytes since.
pub const SOFTDIMO_ERR_FORMAT: i32 = 6;
/// A tensor the model needs is not in the file.
pub const SOFTDIMO_ERR_MISSING_TENSOR: i32 = 7;
/// A tensor has another shape or dtype than the model needs.
pub const SOFTDIMO_ERR_TENSOR_MISMATCH: i32 = 8;
/// The file's configuration is missing, makes no sense, or is of the other kind (generator, reward).
pub const SOFTDIMO_ERR_CONFIG: i32 = 9;
/// The label is not one of the model's; the message suggests close ones.
pub const SOFTDIMO_ERR_UNKNOWN_LABEL: i32 = 10;
/// The model or this build cannot do what was asked.
pub const SOFTDIMO_ERR_UNSUPPORTED: i32 = 11;
/// A caller-owned buffer or picture is too small.
pub const SOFTDIMO_ERR_BUFFER_TOO_SMALL: i32 = 12;
/// No usable ONNX Runtime library; the message lists every place tried.
pub const SOFTDIMO_ERR_RUNTIME_NOT_FOUND: i32 = 13;
/// ONNX Runtime reported a failure.
pub const SOFTDIMO_ERR_RUNTIME: i32 = 14;
/// The execution provider asked for is not usable; the message says what is missing.
pub const SOFTDIMO_ERR_PROVIDER: i32 = 15;
/// The work would exceed the engine's memory_limit.
pub const SOFTDIMO_ERR_OUT_OF_MEMORY: i32 = 16;
/// The job was cancelled.
pub const SOFTDIMO_ERR_CANCELLED: i32 = 17;
/// The job has not finished yet.
pub const SOFTDIMO_ERR_NOT_READY: i32 = 18;
/// The wait ended before the job did; the job goes on.
pub const SOFTDIMO_ERR_TIMEOUT: i32 = 19;
/// Called in a forked child of a process that has opened an engine.
pub const SOFTDIMO_ERR_FORKED: i32 = 20;
/// A bug in this library; the engine refuses further work and the host is unharmed.
pub const SOFTDIMO_ERR_INTERNAL: i32 = 21;

/// Copy the message of this thread's last failed call, NUL-terminated and cut between characters to `capacity`
/// bytes; a NULL `buffer` or a capacity of 0 copies nothing. Returns the bytes the whole message needs, its NUL
/// included: 1 where no call of this thread has failed yet. Calls that succeed leave the message alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_last_error(buffer: *mut c_char, capacity: u64) -> u64 {
    // SAFETY: the caller owns `capacity` bytes at `buffer`.
    unsafe { wall::copy_last_error(buffer, capacity) }
}

/// Name of a status, e.g. "SOFTDIMO_ERR_IO"; "SOFTDIMO_ERR_UNKNOWN" for other values. Static string.
#[unsafe(no_mangle)]
pub extern "C" fn softdimo_status_name(status: i32) -> *const c_char {
    let known = Status::ALL.iter().find(|s| **s as i32 == status);
    known.map_or(c"SOFTDIMO_ERR_UNKNOWN", |s| s.name()).as_ptr()
}

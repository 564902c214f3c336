//! The C ABI: every `extern "C"` function there is, and nothing else: its types here, its functions in the files
//! below. Each body is one conversion of arguments and one call of the library's public face; `wall` turns errors and panics into a status and the thread's last error.
//! `include/softdimo.h` is generated from these files by cbindgen (`BLESS=1 cargo test -p libsoftdimo --test header`).

#![allow(unsafe_code, non_camel_case_types, missing_debug_implementations, clippy::missing_safety_doc)]

mod engine;
mod job;
mod picture;
mod read;
mod request;
mod reward;
mod wall;

use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use read::{
    array, cstr, handle, init_struct, optional_cstr, out, read_struct, write_floats, write_struct, write_text,
};
use wall::{guard, wall};

use softdimo::Label;
use softdimo::edit::{Edit, Keep};
use softdimo::engine::{Engine, MemoryMode, Options, Provider, check_process};
use softdimo::error::{Error, Result, Status};
use softdimo::generate::Generated;
use softdimo::image;
use softdimo::job::{Job, Phase};
use softdimo::request::{Decode, Request};
use softdimo::rewards::{BINS, Reward, RewardModel, RewardTerm};
use softdimo::tteo::{Optimize, Optimizer, Variables};

/// ABI of this header: major << 16 | minor. A library with another major number must be refused; one with
/// a larger minor number only adds to what is declared here.
pub const SOFTDIMO_ABI_VERSION: u32 = 0x0001_0000;

/// Result of every fallible call. Values are frozen.
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
/// The file breaks a rule of its format (truncated, overlapping, not a model file).
pub const SOFTDIMO_ERR_FORMAT: i32 = 6;
/// A tensor the model needs is not in the file.
pub const SOFTDIMO_ERR_MISSING_TENSOR: i32 = 7;
/// A tensor has another shape or dtype than the model needs.
pub const SOFTDIMO_ERR_TENSOR_MISMATCH: i32 = 8;
/// The file's configuration is missing or makes no sense.
pub const SOFTDIMO_ERR_CONFIG: i32 = 9;
/// The label is not one of the model's.
pub const SOFTDIMO_ERR_UNKNOWN_LABEL: i32 = 10;
/// The model or this build cannot do what was asked.
pub const SOFTDIMO_ERR_UNSUPPORTED: i32 = 11;
/// A caller-owned buffer or image is too small.
pub const SOFTDIMO_ERR_BUFFER_TOO_SMALL: i32 = 12;
/// No usable ONNX Runtime library; the message lists every place tried.
pub const SOFTDIMO_ERR_RUNTIME_NOT_FOUND: i32 = 13;
/// ONNX Runtime reported a failure.
pub const SOFTDIMO_ERR_RUNTIME: i32 = 14;
/// The execution provider asked for is not usable; the message says what is missing.
pub const SOFTDIMO_ERR_PROVIDER: i32 = 15;
/// The work would exceed the engine's memory limit.
pub const SOFTDIMO_ERR_OUT_OF_MEMORY: i32 = 16;
/// The job was cancelled.
pub const SOFTDIMO_ERR_CANCELLED: i32 = 17;
/// The job has not finished yet.
pub const SOFTDIMO_ERR_NOT_READY: i32 = 18;
/// The wait ended before the job did.
pub const SOFTDIMO_ERR_TIMEOUT: i32 = 19;
/// Called in a forked child of the process that opened the engine.
pub const SOFTDIMO_ERR_FORKED: i32 = 20;
/// A bug in this library; the engine refuses further work and the host is unharmed.
pub const SOFTDIMO_ERR_INTERNAL: i32 = 21;

/// Weights are used from the mapped file: opens in milliseconds, memory is shared page cache (default).
pub const SOFTDIMO_MEMORY_LEAN: u32 = 0;
/// Weights are packed for the processor on first use: faster, one more copy in memory.
pub const SOFTDIMO_MEMORY_FAST: u32 = 1;

/// The file is mapped (default). Replace it by rename; never truncate it in place.
pub const SOFTDIMO_WEIGHTS_MAP: u32 = 0;
/// The file is copied into memory once.
pub const SOFTDIMO_WEIGHTS_READ: u32 = 1;
/// Mapped, and a SIGBUS handler (chained to the host's) turns truncation into an error. Process-wide.
pub const SOFTDIMO_WEIGHTS_MAP_GUARDED: u32 = 2;

/// Sample codes and decode those (default).
pub const SOFTDIMO_DECODE_HARD: u32 = 0;
/// Decode the expected code, the soft embedding.
pub const SOFTDIMO_DECODE_SOFT: u32 = 1;

/// 8 bits a channel, R G B A, sRGB.
pub const SOFTDIMO_FORMAT_RGBA8: u32 = 0;
/// 8 bits a channel, R G B, sRGB.
pub const SOFTDIMO_FORMAT_RGB8: u32 = 1;
/// 8 bits a channel, B G R A, sRGB.
pub const SOFTDIMO_FORMAT_BGRA8: u32 = 2;
/// 32-bit float a channel, R G B A, sRGB-encoded values in [0, 1].
pub const SOFTDIMO_FORMAT_RGBA32F: u32 = 3;

/// The first row in memory is the top of the picture (default).
pub const SOFTDIMO_ORIGIN_TOP_LEFT: u32 = 0;
/// The first row in memory is the bottom of the picture (OpenGL, Unity).
pub const SOFTDIMO_ORIGIN_BOTTOM_LEFT: u32 = 1;

/// Callback result: go on.
pub const SOFTDIMO_CONTINUE: i32 = 0;
/// Callback result: stop (progress: cancel the job; log: no more messages).
pub const SOFTDIMO_STOP: i32 = 1;

/// Job states of `softdimo_job_poll`; the last three are final.
pub const SOFTDIMO_JOB_QUEUED: u32 = 0;
pub const SOFTDIMO_JOB_RUNNING: u32 = 1;
pub const SOFTDIMO_JOB_DONE: u32 = 2;
pub const SOFTDIMO_JOB_FAILED: u32 = 3;
pub const SOFTDIMO_JOB_CANCELLED: u32 = 4;

/// Gradient ascent, with momentum where set (default; the paper's choice).
pub const SOFTDIMO_OPTIMIZER_SGD: u32 = 0;
/// Adam with its usual constants.
pub const SOFTDIMO_OPTIMIZER_ADAM: u32 = 1;

/// What an optimisation moves: the start embedding (default).
pub const SOFTDIMO_VARIABLE_EMBEDDING: u32 = 1;
/// Only the noise part of the start embedding.
pub const SOFTDIMO_VARIABLE_NOISE: u32 = 2;
/// The class embedding, or the prompt's features.
pub const SOFTDIMO_VARIABLE_CLASS: u32 = 4;

/// Severity of log messages; a callback gets those at its level and below.
pub const SOFTDIMO_LOG_ERROR: i32 = 1;
pub const SOFTDIMO_LOG_WARNING: i32 = 2;
pub const SOFTDIMO_LOG_INFO: i32 = 3;

/// Called with the steps done and the steps in all, on the thread that is inside `softdimo_generate`,
/// `softdimo_job_wait` or `softdimo_job_poll`. Must not throw, and must not free the job.
pub type softdimo_progress_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, step: u32, total: u32) -> i32>;

/// Called with a UTF-8 message that is valid during the call, on a thread that is inside a call with this
/// engine or one of its jobs. Must not throw and must not call back into this library.
pub type softdimo_log_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, level: i32, message: *const c_char) -> i32>;

/// Called once, when nothing reads the bytes given to `softdimo_engine_open_memory` or
/// `softdimo_reward_open_memory` any more.
pub type softdimo_release_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, data: *const c_void, length: u64)>;

/// An opened model on an execution provider. Thread-safe; may be shared.
pub struct softdimo_engine {
    engine: Engine,
    labels: Vec<CString>,
    log: LogSink,
}

/// A submitted request. Thread-safe, except that it must not be freed while another call uses it.
pub struct softdimo_job {
    job: Job,
    log: LogSink,
    progress: softdimo_progress_fn,
    progress_user_data: *mut c_void,
    /// Last (step, total) handed to the callback by `softdimo_job_poll`.
    reported: std::sync::Mutex<(u32, u32)>,
}

/// Options of an engine. Call `softdimo_engine_options_init` first, then change what you need.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct softdimo_engine_options {
    /// Set by `softdimo_engine_options_init`.
    pub struct_size: u32,
    /// `SOFTDIMO_MEMORY_*`.
    pub memory_mode: u32,
    /// `SOFTDIMO_WEIGHTS_*`.
    pub weights_mode: u32,
    /// Threads that compute one run; 0 = one per core, at most 8.
    pub threads: u32,
    /// Unix niceness added to the engine's threads, 0 (default) to 19.
    pub niceness: i32,
    /// GPU index for "cuda".
    pub device_id: i32,
    /// Bytes the engine may hold beyond mapped pages; 0 = no limit.
    pub memory_limit: u64,
    /// "cpu" (also NULL) or "cuda". Asked for and not usable is an error, never a silent fallback.
    pub provider: *const c_char,
    /// Path of the ONNX Runtime library, UTF-8. NULL: the environment variable SOFTDIMO_ORT_LIBRARY, then
    /// the folder of this library, then the system loader.
    pub ort_library: *const c_char,
    /// Receives log messages; NULL for none. The library never prints.
    pub log: softdimo_log_fn,
    pub log_user_data: *mut c_void,
    /// `SOFTDIMO_LOG_*`.
    pub log_level: i32,
    /// Must be zero.
    pub reserved: [u32; 7],
}

/// A request. Call `softdimo_request_init` first. Pointers need to live only during the call that takes
/// the request. A float or top_k of -1 takes the model's default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct softdimo_request {
    /// Set by `softdimo_request_init`.
    pub struct_size: u32,
    /// Pictures to make, 1 to 256. Picture b uses seed + b and equals the one picture of that seed.
    pub batch: u32,
    pub seed: u64,
    /// Class name for all pictures, UTF-8, case ignored; NULL when class_labels is used, or for no label.
    pub label: *const c_char,
    /// Class ids, one for all pictures or one each; the number of labels means no label. NULL for none.
    pub class_labels: *const i32,
    pub class_label_count: u32,
    /// 0: the model's own way (one step where it has a student). 1: one step. More: the multi-step teacher.
    pub steps: u32,
    /// Text prompt for all pictures, UTF-8: for text-to-image models and for rewards that read one; an error
    /// where nothing does. NULL for none.
    pub prompt: *const c_char,
    /// Text-to-image models, with steps > 1: what guidance leads away from.
    pub negative_prompt: *const c_char,
    /// Sampling temperature; 0 = arg-max.
    pub temperature: f32,
    /// Keep the most probable codes up to this probability, 0 to 1.
    pub top_p: f32,
    /// Keep the k most probable codes; 0 = all.
    pub top_k: i32,
    /// Share of start tokens that are masked, 0 to 1.
    pub mask_ratio: f32,
    /// Standard deviation of the start embedding's perturbation, 0 to 1.
    pub sigma: f32,
    /// Teacher: classifier-free guidance scale.
    pub guidance_scale: f32,
    /// Teacher: temperature of the confidence noise.
    pub randomize_temperature: f32,
    /// `SOFTDIMO_DECODE_*`.
    pub decode: u32,
    /// 1: also decode the other way and report how much hard and soft picture differ.
    pub report_gap: u32,
    /// Must be zero.
    pub reserved0: u32,
    /// Start tokens [batch, positions, splits], the mask token allowed; NULL: seeded.
    pub start_tokens: *const u32,
    pub start_token_count: u64,
    /// Start embedding [batch, positions, dim]; NULL: made from the start tokens.
    pub e_in: *const f32,
    pub e_in_count: u64,
    /// Called after each step; NULL for none.
    pub progress: softdimo_progress_fn,
    pub progress_user_data: *mut c_void,
    /// Test-time embedding optimisation: what to maximise, Σ weight·reward per picture; NULL for none.
    pub rewards: *const softdimo_reward_term,
    pub reward_count: u32,
    /// Updates; the start counts as iterate 0, and the best iterate is kept.
    pub optimize_steps: u32,
    /// Learning rate; -1 = 0.2.
    pub lr: f32,
    /// `SOFTDIMO_OPTIMIZER_*`.
    pub optimizer: u32,
    /// Of SGD, 0 to below 1.
    pub momentum: f32,
    /// Scale each picture's gradient down to this norm; 0 = off.
    pub clip: f32,
    /// Weight of the pull of the noise's norm towards its prior; 0 = off; needs SOFTDIMO_VARIABLE_NOISE.
    pub norm_regularizer: f32,
    /// `SOFTDIMO_VARIABLE_*`, added up; 0 = the embedding.
    pub variables: u32,
    /// Milliseconds for the optimisation, whose iterate under way is finished; -1 = no deadline.
    pub deadline_ms: i64,
    /// Start from this picture (the model's size) instead of from nothing; NULL for none. Its kept tokens are
    /// known at the start and, with SOFTDIMO_DECODE_HARD, in the result. Not with start_tokens.
    pub edit_image: *const softdimo_image,
    /// Inpainting: weights [height, width] from the top; tokens whose cell has no pixel above 0 are kept. NULL:
    /// edit_keep says what is kept. Only for models whose tokens stand for places.
    pub edit_mask: *const f32,
    pub edit_mask_count: u64,
    /// Variation: share of the picture's tokens that are kept, chosen by seed, 0 to 1; -1 with a mask or
    /// without a picture.
    pub edit_keep: f32,
    /// Text-to-image models: aesthetic score the picture should have; -1 = the model's default.
    pub aesthetic_score: f32,
    /// Text-to-image models: the size the picture is said to have had, and the left and top of its crop, in
    /// pixels; -1 = the model's default.
    pub original_width: i32,
    pub original_height: i32,
    pub crop_left: i32,
    pub crop_top: i32,
    /// 1: a step of the optimisation takes less memory and more time; the result is the same.
    pub recompute: u32,
    /// Must be zero.
    pub reserved: [u32; 9],
}

/// A caller-owned picture buffer. Call `softdimo_image_init` first.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct softdimo_image {
    /// Set by `softdimo_image_init`. In an array, also the distance of its elements.
    pub struct_size: u32,
    /// Must equal the model's picture size (`softdimo_engine_info`).
    pub width: u32,
    pub height: u32,
    /// Bytes from one row to the next; 0 = tightly packed.
    pub stride: u32,
    /// `SOFTDIMO_FORMAT_*`.
    pub format: u32,
    /// `SOFTDIMO_ORIGIN_*`.
    pub origin: u32,
    pub data: *mut c_void,
    /// Bytes at `data`.
    pub capacity: u64,
}

/// Memory of an engine in bytes. Set struct_size before the call.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct softdimo_memory {
    pub struct_size: u32,
    /// Prepared sessions.
    pub sessions: u32,
    /// Mapped bytes of the model file: shared, reclaimable.
    pub mapped: u64,
    /// Weights held as copies (read, packed or on the device).
    pub weights: u64,
    /// Working memory of the largest session.
    pub activations: u64,
}

/// Progress of a job. Set struct_size before the call.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct softdimo_progress {
    pub struct_size: u32,
    /// `SOFTDIMO_JOB_*`.
    pub state: u32,
    pub step: u32,
    pub total: u32,
}

/// Shapes of a model. Set struct_size before the call.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct softdimo_layout {
    pub struct_size: u32,
    /// Picture size in pixels.
    pub width: u32,
    pub height: u32,
    /// Tokens of a picture are [positions, splits].
    pub positions: u32,
    pub splits: u32,
    /// Codes per token: ids below this.
    pub codes: u32,
    /// Id of the mask token, not below `codes`; ids between them are no tokens.
    pub mask_token: u32,
    /// Width of a start embedding [positions, embedding].
    pub embedding: u32,
    /// Class ids are below this; this number itself means no label.
    pub classes: u32,
    /// Zero.
    pub reserved: u32,
}

/// A reward that optimisation climbs. Immutable; may be used by several jobs; must outlive the call that takes
/// it, not the job.
pub struct softdimo_reward {
    reward: Arc<Reward>,
}

/// How the network of a reward file is opened. Call `softdimo_reward_options_init` first.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct softdimo_reward_options {
    /// Set by `softdimo_reward_options_init`.
    pub struct_size: u32,
    /// `SOFTDIMO_WEIGHTS_*`.
    pub weights_mode: u32,
    /// Of a classifier: what pictures should show. -1: class_label, or what the request's label says, by its
    /// name where both files name their classes, else by its id where both have as many.
    pub class_id: i32,
    /// Must be zero.
    pub reserved0: u32,
    /// The same by its name, UTF-8, case ignored; NULL when class_id is used, or for neither.
    pub class_label: *const c_char,
    /// Must be zero.
    pub reserved: [u32; 10],
}

/// A reward with its weight in the sum that is maximised.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct softdimo_reward_term {
    pub reward: *const softdimo_reward,
    pub weight: f32,
    /// Must be zero.
    pub reserved: u32,
}

/// Scores `batch` soft pictures [batch, 3, height, width] (nominally in [0, 1], not clamped): fill scores [batch]
/// and gradient = dscore/dpixels, of the pictures' shape (zeros at first). Called only on the thread that is
/// inside `softdimo_generate` or `softdimo_job_wait` for the job; without such a thread the job stands still.
/// SOFTDIMO_STOP ends the optimisation like a cancel. Must not throw, and must not free the job.
pub type softdimo_reward_fn = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        pixels: *const f32,
        batch: u32,
        width: u32,
        height: u32,
        scores: *mut f32,
        gradient: *mut f32,
    ) -> i32,
>;

/// Where an engine's log messages go.
#[derive(Clone)]
struct LogSink {
    engine: Engine,
    log: softdimo_log_fn,
    user_data: *mut c_void,
    level: i32,
    stopped: Arc<AtomicBool>,
}

impl LogSink {
    /// Hand queued messages to the callback, on this thread.
    fn drain(&self) {
        for (level, message) in self.engine.take_log() {
            let Some(log) = self.log else { continue };
            if level <= self.level && !self.stopped.load(Ordering::SeqCst) {
                let text = CString::new(message.replace('\0', " ")).unwrap_or_default();
                // SAFETY: the caller promised a callback of this signature when it opened the engine.
                if unsafe { log(self.user_data, level, text.as_ptr()) } != SOFTDIMO_CONTINUE {
                    self.stopped.store(true, Ordering::SeqCst);
                }
            }
        }
    }
}

/// `SOFTDIMO_ABI_VERSION` of the loaded library. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn softdimo_abi_version() -> u32 {
    SOFTDIMO_ABI_VERSION
}

/// Version of the loaded library, e.g. "0.1.0". Static string. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn softdimo_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(v) => v,
            Err(_) => panic!("version has a NUL"),
        };
    VERSION.as_ptr()
}

/// Name of a status, e.g. "SOFTDIMO_ERR_IO"; "SOFTDIMO_ERR_UNKNOWN" for other values. Static string.
#[unsafe(no_mangle)]
pub extern "C" fn softdimo_status_name(status: i32) -> *const c_char {
    let known = Status::ALL.iter().find(|s| **s as i32 == status);
    known.map_or(c"SOFTDIMO_ERR_UNKNOWN", |s| s.name()).as_ptr()
}

/// Copy the message of the last failed call on this thread, NUL-terminated and cut to `capacity` bytes.
/// Returns the bytes the whole message needs, NUL included; 1 when there was no failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_last_error(buffer: *mut c_char, capacity: u64) -> u64 {
    // SAFETY: the caller owns `capacity` bytes at `buffer`.
    unsafe { wall::copy_last_error(buffer, capacity) }
}

/// Number of execution providers this library knows.
#[unsafe(no_mangle)]
pub extern "C" fn softdimo_provider_count() -> u32 {
    Provider::ALL.len() as u32
}

/// JSON about provider `index`: `{"name", "available", "reason"}`. Availability is known once an engine was
/// opened. Text convention: see `softdimo_engine_info`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_provider_info(
    index: u32,
    buffer: *mut c_char,
    capacity: u64,
    needed: *mut u64,
) -> i32 {
    wall(|| {
        let provider = Provider::ALL.get(index as usize).ok_or_else(|| {
            Error::invalid("provider index", format!("below {}", Provider::ALL.len()), index)
        })?;
        // SAFETY: caller-owned buffer, as documented.
        unsafe { write_text(&provider.info_json(), buffer, capacity, needed) }
    })
}

//! The C ABI: every `extern "C"` function of the library, and nothing else. Each body is one conversion of
//! arguments and one call; `wall` turns errors and panics into a status and the thread's last error.
//! `include/softdimo.h` is generated from this file by cbindgen (`BLESS=1 cargo test --test header`).

#![allow(unsafe_code, non_camel_case_types, missing_debug_implementations, clippy::missing_safety_doc)]

mod read;
mod wall;

use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use read::{
    array, cstr, handle, init_struct, optional_cstr, out, read_struct, write_floats, write_struct, write_text,
};
use wall::{guard, wall};

use crate::checkpoint::Mapping;
use crate::engine::{Engine, MemoryMode, Options, Provider, check_process};
use crate::error::{Error, Result, Status};
use crate::generate::Generated;
use crate::image;
use crate::job::{Job, Phase};
use crate::model::WeightsMode;
use crate::request::{Decode, Label, Request};
use crate::reward::{Reward, RewardTerm};
use crate::tteo::{Optimize, Optimizer, Variables};

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

/// What an optimisation moves: the start embedding (default), only its noise part, the class embedding.
pub const SOFTDIMO_VARIABLE_EMBEDDING: u32 = 1;
pub const SOFTDIMO_VARIABLE_NOISE: u32 = 2;
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

/// Called once, when the engine no longer reads the bytes given to `softdimo_engine_open_memory`.
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
    /// Text prompt, for text-to-image models; must be NULL for class-conditional ones.
    pub prompt: *const c_char,
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
    /// Must be zero.
    pub reserved: [u32; 10],
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
    /// Codes per token; the mask token has this id.
    pub codes: u32,
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

/// Fill `options` with defaults; `struct_size` is `sizeof(softdimo_engine_options)`. Errors: NULL, unknown size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_engine_options_init(
    options: *mut softdimo_engine_options,
    struct_size: u32,
) -> i32 {
    wall(|| {
        let value = softdimo_engine_options {
            struct_size: 0,
            memory_mode: SOFTDIMO_MEMORY_LEAN,
            weights_mode: SOFTDIMO_WEIGHTS_MAP,
            threads: 0,
            niceness: 0,
            device_id: 0,
            memory_limit: 0,
            provider: std::ptr::null(),
            ort_library: std::ptr::null(),
            log: None,
            log_user_data: std::ptr::null_mut(),
            log_level: SOFTDIMO_LOG_WARNING,
            reserved: [0; 7],
        };
        // SAFETY: NULL, or the caller's struct of `struct_size` bytes.
        unsafe { init_struct(options, struct_size, "options", value) }
    })
}

/// Open the model file at `path` (UTF-8). `options` may be NULL for defaults. On success `*engine` is to be
/// freed with `softdimo_engine_free`. Blocks for milliseconds: weights are mapped, not read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_engine_open(
    path: *const c_char,
    options: *const softdimo_engine_options,
    engine: *mut *mut softdimo_engine,
) -> i32 {
    wall(|| {
        // SAFETY: pointers are NULL or valid as documented.
        unsafe {
            read::required(engine, "engine")?;
            let path = cstr(path, "path")?;
            let (options, log) = read_options(options)?;
            out(engine, "engine", engine_handle(Engine::open(path, options)?, log))
        }
    })
}

/// Open a model whose file is in memory. The bytes must stay unchanged until `release` is called (once,
/// possibly on another thread); a NULL `release` means they outlive the engine. On failure `release` is not
/// called and the bytes stay the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_engine_open_memory(
    data: *const c_void,
    length: u64,
    release: softdimo_release_fn,
    user_data: *mut c_void,
    options: *const softdimo_engine_options,
    engine: *mut *mut softdimo_engine,
) -> i32 {
    wall(|| {
        // SAFETY: pointers are NULL or valid as documented.
        unsafe {
            read::required(engine, "engine")?;
            read::required(data.cast_mut(), "data")?;
            let size = read::size(length, "length")?;
            let (options, log) = read_options(options)?;
            let armed = Arc::new(AtomicBool::new(false));
            let call = read::Release { release, user_data, data, length, armed: armed.clone() };
            let mapping = Mapping::foreign(data.cast(), size, Some(Box::new(move || call.call())));
            let opened = Engine::from_mapping(Arc::new(mapping), "(memory)", options)?;
            armed.store(true, Ordering::SeqCst);
            out(engine, "engine", engine_handle(opened, log))
        }
    })
}

type Log = (softdimo_log_fn, *mut c_void, i32);

unsafe fn read_options(options: *const softdimo_engine_options) -> Result<(Options, Log)> {
    if options.is_null() {
        return Ok((Options::default(), (None, std::ptr::null_mut(), 0)));
    }
    // SAFETY: non-NULL, so a struct that starts with struct_size.
    let o = unsafe { read_struct(options, "softdimo_engine_options")? };
    read::zero(&o.reserved, "options.reserved")?;
    // SAFETY: NULL or NUL-terminated strings, as documented.
    let (provider, library) = unsafe {
        (optional_cstr(o.provider, "options.provider")?, optional_cstr(o.ort_library, "options.ort_library")?)
    };
    let options = Options {
        provider: provider.map_or(Ok(Provider::Cpu), Provider::parse)?,
        device_id: match o.device_id {
            0.. => o.device_id,
            other => return Err(Error::invalid("options.device_id", "0 or more", other)),
        },
        memory: match o.memory_mode {
            SOFTDIMO_MEMORY_LEAN => MemoryMode::Lean,
            SOFTDIMO_MEMORY_FAST => MemoryMode::Fast,
            other => return Err(Error::invalid("options.memory_mode", "0 (lean) or 1 (fast)", other)),
        },
        weights: match o.weights_mode {
            SOFTDIMO_WEIGHTS_MAP => WeightsMode::Map,
            SOFTDIMO_WEIGHTS_READ => WeightsMode::Read,
            SOFTDIMO_WEIGHTS_MAP_GUARDED => WeightsMode::MapGuarded,
            other => {
                return Err(Error::invalid(
                    "options.weights_mode",
                    "0 (map), 1 (read) or 2 (guarded)",
                    other,
                ));
            }
        },
        threads: o.threads as usize,
        niceness: o.niceness,
        memory_limit: o.memory_limit,
        ort_library: library.map(Into::into),
    };
    if !(SOFTDIMO_LOG_ERROR..=SOFTDIMO_LOG_INFO).contains(&o.log_level) {
        return Err(Error::invalid("options.log_level", "1 (error) to 3 (info)", o.log_level));
    }
    Ok((options, (o.log, o.log_user_data, o.log_level)))
}

fn engine_handle(engine: Engine, (log, user_data, level): Log) -> *mut softdimo_engine {
    let labels = engine.model().labels().iter();
    let labels = labels.map(|l| CString::new(l.name.replace('\0', " ")).unwrap_or_default()).collect();
    let sink = LogSink { engine: engine.clone(), log, user_data, level, stopped: Arc::default() };
    sink.drain();
    Box::into_raw(Box::new(softdimo_engine { engine, labels, log: sink }))
}

/// JSON about the engine: model, architecture, picture size, tokens, labels, defaults, provider, runtime.
///
/// Text convention of this library: `*needed` (if not NULL) gets the bytes of the whole text with its NUL.
/// With capacity 0 that is all; with a capacity too small nothing is copied and the status is
/// SOFTDIMO_ERR_BUFFER_TOO_SMALL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_engine_info(
    engine: *const softdimo_engine,
    buffer: *mut c_char,
    capacity: u64,
    needed: *mut u64,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle and a caller-owned buffer.
        unsafe { write_text(&handle(engine, "engine")?.engine.info_json(), buffer, capacity, needed) }
    })
}

/// Number of class labels of the model; 0 when it has no names for them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_engine_label_count(engine: *const softdimo_engine, count: *mut u32) -> i32 {
    // SAFETY: a live handle and an out pointer.
    wall(|| unsafe { out(count, "count", handle(engine, "engine")?.labels.len() as u32) })
}

/// Name of class `index`, UTF-8; valid until the engine is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_engine_label(
    engine: *const softdimo_engine,
    index: u32,
    label: *mut *const c_char,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle and an out pointer.
        let e = unsafe { handle(engine, "engine")? };
        let name = e
            .labels
            .get(index as usize)
            .ok_or_else(|| Error::invalid("label index", format!("below {}", e.labels.len()), index))?;
        // SAFETY: as above.
        unsafe { out(label, "label", name.as_ptr()) }
    })
}

/// Picture size, tokens and embedding of the model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_engine_layout(
    engine: *const softdimo_engine,
    layout: *mut softdimo_layout,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle and a struct of the caller's.
        let l = unsafe { handle(engine, "engine")? }.engine.model().architecture().layout();
        let value = softdimo_layout {
            struct_size: 0,
            width: l.width as u32,
            height: l.height as u32,
            positions: l.positions as u32,
            splits: l.splits as u32,
            codes: l.codes as u32,
            mask_token: l.mask_token as u32,
            embedding: l.embedding as u32,
            classes: l.classes as u32,
            reserved: 0,
        };
        // SAFETY: as above.
        unsafe { write_struct(layout, "softdimo_layout", value) }
    })
}

/// Bytes the engine holds, by kind. Waits for the running job.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_engine_memory(
    engine: *const softdimo_engine,
    memory: *mut softdimo_memory,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle and a struct of the caller's.
        let used = unsafe { handle(engine, "engine")? }.engine.memory()?;
        let value = softdimo_memory {
            struct_size: 0,
            sessions: used.sessions as u32,
            mapped: used.mapped,
            weights: used.weights,
            activations: used.activations,
        };
        // SAFETY: as above.
        unsafe { write_struct(memory, "softdimo_memory", value) }
    })
}

/// Prepare everything a one-step job of `batch` pictures needs, so that the first job is as fast as the
/// next. Blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_engine_warmup(engine: *const softdimo_engine, batch: u32) -> i32 {
    wall(|| {
        // SAFETY: a live handle.
        let e = unsafe { handle(engine, "engine")? };
        let done = e.engine.warmup(batch as usize);
        e.log.drain();
        done
    })
}

/// Give back what can be prepared again: sessions, packed weights. Waits for the running job.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_engine_trim(engine: *const softdimo_engine) -> i32 {
    // SAFETY: a live handle.
    wall(|| unsafe { handle(engine, "engine")? }.engine.trim())
}

/// Replay a golden file (safetensors with `b*/in/..` and `b*/out/..`) and write a JSON report with the
/// largest difference of every tensor: proof that this model file computes what its reference computes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_engine_verify(
    engine: *const softdimo_engine,
    golden: *const c_char,
    buffer: *mut c_char,
    capacity: u64,
    needed: *mut u64,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle, a string and a caller-owned buffer.
        unsafe {
            let report =
                crate::verify::verify(&handle(engine, "engine")?.engine, cstr(golden, "golden")?, None)?;
            write_text(&report.json(), buffer, capacity, needed)
        }
    })
}

/// Free an engine: NULL is fine. Its threads are joined unless jobs of it are still alive, which keep it
/// running until they are freed. In a forked child this does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_engine_free(engine: *mut softdimo_engine) {
    guard(|| {
        if !engine.is_null() && check_process().is_ok() {
            // SAFETY: made by `engine_handle`, freed once.
            drop(unsafe { Box::from_raw(engine) });
        }
    });
}

/// Fill `request` with defaults: one picture, seed 0, no label; `struct_size` is `sizeof(softdimo_request)`.
/// Errors: NULL, unknown size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_request_init(request: *mut softdimo_request, struct_size: u32) -> i32 {
    wall(|| {
        let value = softdimo_request {
            struct_size: 0,
            batch: 1,
            seed: 0,
            label: std::ptr::null(),
            class_labels: std::ptr::null(),
            class_label_count: 0,
            steps: 0,
            prompt: std::ptr::null(),
            negative_prompt: std::ptr::null(),
            temperature: -1.0,
            top_p: -1.0,
            top_k: -1,
            mask_ratio: -1.0,
            sigma: -1.0,
            guidance_scale: -1.0,
            randomize_temperature: -1.0,
            decode: SOFTDIMO_DECODE_HARD,
            report_gap: 0,
            reserved0: 0,
            start_tokens: std::ptr::null(),
            start_token_count: 0,
            e_in: std::ptr::null(),
            e_in_count: 0,
            progress: None,
            progress_user_data: std::ptr::null_mut(),
            rewards: std::ptr::null(),
            reward_count: 0,
            optimize_steps: 0,
            lr: -1.0,
            optimizer: SOFTDIMO_OPTIMIZER_SGD,
            momentum: 0.0,
            clip: 0.0,
            norm_regularizer: 0.0,
            variables: 0,
            deadline_ms: -1,
            reserved: [0; 10],
        };
        // SAFETY: NULL, or the caller's struct of `struct_size` bytes.
        unsafe { init_struct(request, struct_size, "request", value) }
    })
}

/// Fill `image` with defaults: RGBA8, top-left origin, no buffer; `struct_size` is `sizeof(softdimo_image)`.
/// Errors: NULL, unknown size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_image_init(image: *mut softdimo_image, struct_size: u32) -> i32 {
    wall(|| {
        let value = softdimo_image {
            struct_size: 0,
            width: 0,
            height: 0,
            stride: 0,
            format: SOFTDIMO_FORMAT_RGBA8,
            origin: SOFTDIMO_ORIGIN_TOP_LEFT,
            data: std::ptr::null_mut(),
            capacity: 0,
        };
        // SAFETY: NULL, or the caller's struct of `struct_size` bytes.
        unsafe { init_struct(image, struct_size, "image", value) }
    })
}

unsafe fn read_request(request: *const softdimo_request) -> Result<(Request, softdimo_request)> {
    // SAFETY: NULL or a struct that starts with struct_size; its pointers are as documented.
    unsafe {
        let r = read_struct(request, "softdimo_request")?;
        read::zero(&r.reserved, "request.reserved")?;
        read::zero(&[r.reserved0], "request.reserved0")?;
        for (text, what) in [(r.prompt, "request.prompt"), (r.negative_prompt, "request.negative_prompt")] {
            if optional_cstr(text, what)?.is_some() {
                return Err(Error::Unsupported {
                    what: what.into(),
                    reason: "this model is conditioned on class labels; use label or class_labels".into(),
                });
            }
        }
        let ids = array(r.class_labels, u64::from(r.class_label_count), "request.class_labels")?;
        let mut labels: Vec<Label> = Vec::new();
        for &id in ids.unwrap_or_default() {
            let id = u32::try_from(id)
                .map_err(|_| Error::invalid("request.class_labels", "ids of 0 or more", id))?;
            labels.push(Label::Class(id));
        }
        if let Some(name) = optional_cstr(r.label, "request.label")? {
            if !labels.is_empty() {
                return Err(Error::invalid(
                    "request.label",
                    "NULL when class_labels is set",
                    format!("'{name}'"),
                ));
            }
            labels.push(Label::Name(name.into()));
        }
        let value = Request {
            labels,
            batch: match r.batch {
                0 => return Err(Error::invalid("request.batch", "1 to 256", 0)),
                n => n as usize,
            },
            seed: r.seed,
            steps: r.steps,
            decode: match r.decode {
                SOFTDIMO_DECODE_HARD => Decode::Hard,
                SOFTDIMO_DECODE_SOFT => Decode::Soft,
                other => return Err(Error::invalid("request.decode", "0 (hard) or 1 (soft)", other)),
            },
            temperature: read::or_default(r.temperature),
            top_k: match r.top_k {
                -1 => None,
                k => Some(u32::try_from(k).map_err(|_| Error::invalid("request.top_k", "-1 or more", k))?),
            },
            top_p: read::or_default(r.top_p),
            mask_ratio: read::or_default(r.mask_ratio),
            sigma: read::or_default(r.sigma),
            guidance_scale: read::or_default(r.guidance_scale),
            randomize_temperature: read::or_default(r.randomize_temperature),
            start_tokens: array(r.start_tokens, r.start_token_count, "request.start_tokens")?
                .map(<[_]>::to_vec),
            e_in: array(r.e_in, r.e_in_count, "request.e_in")?.map(<[_]>::to_vec),
            report_gap: match r.report_gap {
                0 => false,
                1 => true,
                other => return Err(Error::invalid("request.report_gap", "0 or 1", other)),
            },
            optimize: read_optimize(&r)?,
        };
        Ok((value, r))
    }
}

/// The optimisation a request asks for, if any.
unsafe fn read_optimize(r: &softdimo_request) -> Result<Option<Optimize>> {
    // SAFETY: NULL with 0, or `reward_count` terms with live rewards, as documented.
    let terms = unsafe { array(r.rewards, u64::from(r.reward_count), "request.rewards")? };
    let Some(terms) = terms else {
        if r.optimize_steps > 0 {
            return Err(Error::invalid("request.rewards", "at least one with optimize_steps", "NULL"));
        }
        return Ok(None);
    };
    let mut list = Vec::new();
    for term in terms {
        read::zero(&[term.reserved], "request.rewards[..].reserved")?;
        // SAFETY: a live handle, or NULL.
        let reward = unsafe { handle(term.reward, "request.rewards[..].reward")? }.reward.clone();
        list.push(RewardTerm { reward, weight: term.weight });
    }
    let known = SOFTDIMO_VARIABLE_EMBEDDING | SOFTDIMO_VARIABLE_NOISE | SOFTDIMO_VARIABLE_CLASS;
    if r.variables & !known != 0 {
        return Err(Error::invalid("request.variables", "a sum of SOFTDIMO_VARIABLE_*", r.variables));
    }
    let has = |bit: u32| r.variables & bit != 0;
    let mut optimize = Optimize::new(list, r.optimize_steps);
    if r.lr != -1.0 {
        optimize.lr = r.lr;
    }
    optimize.optimizer = match r.optimizer {
        SOFTDIMO_OPTIMIZER_SGD => Optimizer::Sgd { momentum: r.momentum },
        SOFTDIMO_OPTIMIZER_ADAM if r.momentum == 0.0 => Optimizer::ADAM,
        SOFTDIMO_OPTIMIZER_ADAM => return Err(Error::invalid("request.momentum", "0 with Adam", r.momentum)),
        other => return Err(Error::invalid("request.optimizer", "0 (SGD) or 1 (Adam)", other)),
    };
    optimize.clip = r.clip;
    optimize.norm_regularizer = r.norm_regularizer;
    optimize.report_gap = r.report_gap == 1;
    optimize.deadline = match r.deadline_ms {
        -1 => None,
        ms => Some(Duration::from_millis(
            u64::try_from(ms).map_err(|_| Error::invalid("request.deadline_ms", "-1 or more", ms))?,
        )),
    };
    if r.variables != 0 {
        optimize.variables = Variables {
            embedding: has(SOFTDIMO_VARIABLE_EMBEDDING),
            noise: has(SOFTDIMO_VARIABLE_NOISE),
            class: has(SOFTDIMO_VARIABLE_CLASS),
        };
    }
    Ok(Some(optimize))
}

unsafe fn submit(engine: *const softdimo_engine, request: *const softdimo_request) -> Result<softdimo_job> {
    // SAFETY: a live handle and a request, as documented.
    unsafe {
        let e = handle(engine, "engine")?;
        let (request, raw) = read_request(request)?;
        Ok(softdimo_job {
            job: e.engine.submit(&request)?,
            log: e.log.clone(),
            progress: raw.progress,
            progress_user_data: raw.progress_user_data,
            reported: Default::default(),
        })
    }
}

/// Generate `image_count` (= request.batch) pictures into caller-owned buffers and wait. Nothing is written
/// unless all succeed. `images` is an array whose elements are `images[0].struct_size` bytes apart.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_generate(
    engine: *const softdimo_engine,
    request: *const softdimo_request,
    images: *mut softdimo_image,
    image_count: u32,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle, a request and image views, as documented.
        unsafe {
            let e = handle(engine, "engine")?;
            let views = read::images(images, image_count)?;
            let batch = read_struct(request, "softdimo_request")?.batch;
            if image_count != batch {
                return Err(Error::invalid("image_count", format!("request.batch = {batch}"), image_count));
            }
            let layout = e.engine.model().architecture().layout();
            for view in &views {
                read::view(view)?.validate(layout.width as u32, layout.height as u32)?;
            }
            let job = submit(engine, request)?;
            let done = job.wait(None)?;
            for (i, view) in views.iter().enumerate() {
                image::write_f32_chw(&done.picture(i)?, &mut read::view(view)?)?;
            }
            Ok(())
        }
    })
}

/// Queue a request and return at once. On success `*job` is to be freed with `softdimo_job_free`. Jobs of
/// one engine run one after the other, in order.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_submit(
    engine: *const softdimo_engine,
    request: *const softdimo_request,
    job: *mut *mut softdimo_job,
) -> i32 {
    wall(|| {
        // SAFETY: as documented.
        unsafe {
            read::required(job, "job")?;
            let submitted = submit(engine, request)?;
            out(job, "job", Box::into_raw(Box::new(submitted)))
        }
    })
}

impl softdimo_job {
    /// Call the progress callback if there is news; its STOP cancels.
    fn report(&self, step: u32, total: u32) -> std::ops::ControlFlow<()> {
        let Some(progress) = self.progress else { return std::ops::ControlFlow::Continue(()) };
        {
            let mut reported = self.reported.lock().unwrap_or_else(|e| e.into_inner());
            if *reported == (step, total) {
                return std::ops::ControlFlow::Continue(());
            }
            *reported = (step, total);
        }
        // SAFETY: the caller promised a callback of this signature in its request.
        match unsafe { progress(self.progress_user_data, step, total) } {
            SOFTDIMO_CONTINUE => std::ops::ControlFlow::Continue(()),
            _ => std::ops::ControlFlow::Break(()),
        }
    }

    fn wait(&self, timeout: Option<Duration>) -> Result<Arc<Generated>> {
        let done = self.job.wait(timeout, |p| self.report(p.step, p.total));
        self.log.drain();
        done
    }
}

fn state_code(phase: Phase) -> u32 {
    match phase {
        Phase::Queued => SOFTDIMO_JOB_QUEUED,
        Phase::Running => SOFTDIMO_JOB_RUNNING,
        Phase::Done => SOFTDIMO_JOB_DONE,
        Phase::Failed => SOFTDIMO_JOB_FAILED,
        Phase::Cancelled => SOFTDIMO_JOB_CANCELLED,
    }
}

/// State of the job (`SOFTDIMO_JOB_*`), without waiting; calls the progress callback if there is news.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_poll(job: *const softdimo_job, state: *mut u32) -> i32 {
    wall(|| {
        // SAFETY: a live handle and an out pointer.
        unsafe {
            let j = handle(job, "job")?;
            read::required(state, "state")?;
            let p = j.job.progress();
            if p.total > 0 && j.report(p.step, p.total).is_break() {
                j.job.cancel();
            }
            j.log.drain();
            out(state, "state", state_code(j.job.phase()))
        }
    })
}

/// Wait for the end of the job, at most `timeout_ms` milliseconds (negative: as long as it takes). Returns
/// SOFTDIMO_OK, SOFTDIMO_ERR_TIMEOUT (the job goes on), SOFTDIMO_ERR_CANCELLED, or the job's failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_wait(job: *const softdimo_job, timeout_ms: i64) -> i32 {
    wall(|| {
        // SAFETY: a live handle.
        let j = unsafe { handle(job, "job")? };
        let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
        j.wait(timeout).map(drop)
    })
}

/// Ask the job to end; returns at once. Any thread, any number of times; counts even before the job starts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_cancel(job: *const softdimo_job) -> i32 {
    wall(|| {
        // SAFETY: a live handle.
        let j = unsafe { handle(job, "job")? };
        j.job.cancel();
        Ok(())
    })
}

/// State and steps of the job, without waiting.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_progress(
    job: *const softdimo_job,
    progress: *mut softdimo_progress,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle and a struct of the caller's.
        unsafe {
            let j = &handle(job, "job")?.job;
            let p = j.progress();
            let value = softdimo_progress {
                struct_size: 0,
                state: state_code(j.phase()),
                step: p.step,
                total: p.total,
            };
            write_struct(progress, "softdimo_progress", value)
        }
    })
}

/// Copy picture `index` of a finished job into a caller-owned buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_image(
    job: *const softdimo_job,
    index: u32,
    image: *mut softdimo_image,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle and an image view.
        unsafe {
            let j = &handle(job, "job")?.job;
            let view = read::images(image, 1)?.remove(0);
            let layout = j.engine().model().architecture().layout();
            read::view(&view)?.validate(layout.width as u32, layout.height as u32)?;
            let picture = j.result()?.picture(index as usize)?;
            image::write_f32_chw(&picture, &mut read::view(&view)?)
        }
    })
}

/// Copy picture `index` of a finished job as the decoder's floats [3, height, width], not clamped.
/// Array convention: as the text convention of `softdimo_engine_info`, counted in elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_image_f32(
    job: *const softdimo_job,
    index: u32,
    pixels: *mut f32,
    capacity: u64,
    needed: *mut u64,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle and a caller-owned array.
        unsafe {
            let picture = handle(job, "job")?.job.result()?.picture(index as usize)?;
            write_floats(&picture, pixels, capacity, needed)
        }
    })
}

/// Copy the tokens [positions, splits] of picture `index` of a finished job: the picture, bit for bit.
/// Array convention: see `softdimo_job_image_f32`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_tokens(
    job: *const softdimo_job,
    index: u32,
    tokens: *mut u32,
    capacity: u64,
    needed: *mut u64,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle and a caller-owned array.
        unsafe {
            let ids = handle(job, "job")?.job.result()?.picture_tokens(index as usize)?;
            read::write_array(&ids, tokens, capacity, needed, "tokens")
        }
    })
}

/// Copy the largest softmax probability of each token [positions, splits] of picture `index`.
/// Array convention: see `softdimo_job_image_f32`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_max_probability(
    job: *const softdimo_job,
    index: u32,
    probabilities: *mut f32,
    capacity: u64,
    needed: *mut u64,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle and a caller-owned array.
        unsafe {
            let p = handle(job, "job")?.job.result()?.picture_max_probability(index as usize)?;
            write_floats(&p, probabilities, capacity, needed)
        }
    })
}

/// Copy the start embedding [positions, dim] of picture `index` of a finished one-step job; give it back in
/// `request.e_in` to start from the same point. Array convention: see `softdimo_job_image_f32`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_embedding(
    job: *const softdimo_job,
    index: u32,
    e_in: *mut f32,
    capacity: u64,
    needed: *mut u64,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle and a caller-owned array.
        unsafe {
            let e = handle(job, "job")?.job.result()?.picture_e_in(index as usize)?;
            write_floats(&e, e_in, capacity, needed)
        }
    })
}

/// JSON about a finished job: the request with every default filled in, model, runtime, confidence, time.
/// Text convention: see `softdimo_engine_info`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_report(
    job: *const softdimo_job,
    buffer: *mut c_char,
    capacity: u64,
    needed: *mut u64,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle and a caller-owned buffer.
        unsafe { write_text(&handle(job, "job")?.job.result()?.report.json(), buffer, capacity, needed) }
    })
}

/// Why a job failed; empty text for a job that did not. Text convention: see `softdimo_engine_info`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_error(
    job: *const softdimo_job,
    buffer: *mut c_char,
    capacity: u64,
    needed: *mut u64,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle and a caller-owned buffer.
        unsafe {
            let text = match handle(job, "job")?.job.result() {
                Ok(_) | Err(Error::NotReady { .. }) => String::new(),
                Err(e) => e.to_string(),
            };
            write_text(&text, buffer, capacity, needed)
        }
    })
}

/// Free a job: NULL is fine. A running job is cancelled and waited for. In a forked child this does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_free(job: *mut softdimo_job) {
    guard(|| {
        if !job.is_null() && check_process().is_ok() {
            // SAFETY: made by `softdimo_submit`, freed once.
            drop(unsafe { Box::from_raw(job) });
        }
    });
}

unsafe fn new_reward(reward: Reward, out_reward: *mut *mut softdimo_reward) -> Result<()> {
    let handle = Box::into_raw(Box::new(softdimo_reward { reward: Arc::new(reward) }));
    // SAFETY: an out pointer, checked by the callers before anything is made.
    unsafe { out(out_reward, "reward", handle) }
}

/// A mask over pixels, row-major from the top: `count` = width·height weights of 0 or more, or NULL for all.
unsafe fn read_mask(mask: *const f32, count: u64) -> Result<Option<Vec<f32>>> {
    // SAFETY: NULL with 0, or `count` floats.
    Ok(unsafe { array(mask, count, "mask")? }.map(<[_]>::to_vec))
}

/// A reward for looking like `target` (the model's picture size): −mean squared difference over the mask.
/// `mask` holds `mask_count` = width·height weights of 0 or more, top row first, or is NULL for all pixels.
/// Free with `softdimo_reward_free`; a size that does not fit shows when a request uses it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_reward_target(
    target: *const softdimo_image,
    mask: *const f32,
    mask_count: u64,
    reward: *mut *mut softdimo_reward,
) -> i32 {
    wall(|| {
        // SAFETY: an image view, an array and an out pointer, as documented.
        unsafe {
            read::required(reward, "reward")?;
            let view = read::images(target.cast_mut(), 1)?.remove(0);
            let target = image::read_f32_chw(&read::read_view(&view)?)?;
            new_reward(Reward::Target { target, mask: read_mask(mask, mask_count)? }, reward)
        }
    })
}

/// A reward for a direction in colour space: mean over the mask of r·R + g·G + b·B. Mask: see
/// `softdimo_reward_target`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_reward_color(
    r: f32,
    g: f32,
    b: f32,
    mask: *const f32,
    mask_count: u64,
    reward: *mut *mut softdimo_reward,
) -> i32 {
    wall(|| {
        // SAFETY: an array and an out pointer, as documented.
        unsafe {
            read::required(reward, "reward")?;
            new_reward(Reward::Color { rgb: [r, g, b], mask: read_mask(mask, mask_count)? }, reward)
        }
    })
}

/// A reward for staying what the label says, by the model's own teacher: its log-likelihood of the tokens
/// under two complementary seeded masks, in nats per token. Add it to any simple reward.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_reward_prior(seed: u64, reward: *mut *mut softdimo_reward) -> i32 {
    wall(|| {
        // SAFETY: an out pointer.
        unsafe {
            read::required(reward, "reward")?;
            new_reward(Reward::Prior { seed }, reward)
        }
    })
}

/// A reward for staying near the start embedding: −mean squared distance.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_reward_closeness(reward: *mut *mut softdimo_reward) -> i32 {
    wall(|| {
        // SAFETY: an out pointer.
        unsafe {
            read::required(reward, "reward")?;
            new_reward(Reward::Closeness, reward)
        }
    })
}

/// The host's own reward. `callback` and `user_data` must stay valid until the reward is freed and every job
/// that uses it has ended.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_reward_from_callback(
    callback: softdimo_reward_fn,
    user_data: *mut c_void,
    reward: *mut *mut softdimo_reward,
) -> i32 {
    wall(|| {
        read::required(reward, "reward")?;
        let callback = callback.ok_or(Error::NullArgument { what: "callback" })?;
        let host = read::HostReward { callback, user_data };
        // SAFETY: an out pointer, checked above.
        unsafe { new_reward(Reward::callback(move |image, answer| host.call(image, answer)), reward) }
    })
}

/// Free a reward: NULL is fine. Jobs that use it keep what they need.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_reward_free(reward: *mut softdimo_reward) {
    guard(|| {
        if !reward.is_null() {
            // SAFETY: made by a softdimo_reward_* function, freed once.
            drop(unsafe { Box::from_raw(reward) });
        }
    });
}

/// Write a picture as PNG (RGB8 becomes RGB, all else RGBA). `text` holds `pair_count` pairs of keyword and
/// value for `tEXt`/`iTXt` chunks (NULL for none): put `softdimo_job_report` there to reproduce the picture.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_image_write_png(
    image: *const softdimo_image,
    path: *const c_char,
    text: *const *const c_char,
    pair_count: u32,
) -> i32 {
    wall(|| {
        // SAFETY: an image view, a string, and 2 × pair_count strings.
        unsafe {
            let view = read::images(image.cast_mut(), 1)?.remove(0);
            let path = cstr(path, "path")?;
            let strings = array(text, 2 * u64::from(pair_count), "text")?.unwrap_or_default();
            let mut pairs = Vec::new();
            for pair in strings.chunks_exact(2) {
                pairs.push((
                    cstr(pair[0], "text keyword")?.to_string(),
                    cstr(pair[1], "text value")?.to_string(),
                ));
            }
            image::write_png(path, &read::read_view(&view)?, &pairs)
        }
    })
}

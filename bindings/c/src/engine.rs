//! An engine is an opened model with its own threads. Opening one takes milliseconds; the options say where
//! to compute, and with how much memory.

use super::*;

/// An opened model on an execution provider. Thread-safe; may be shared.
pub struct softdimo_engine {
    pub(super) engine: Engine,
    pub(super) labels: Vec<CString>,
    pub(super) log: LogSink,
    pub(super) jobs: Arc<JobHandles>,
}

/// Weights are used where they lie: opens in milliseconds, memory is shared page cache (default).
pub const SOFTDIMO_MEMORY_LEAN: u32 = 0;
/// Weights are packed for the processor on first use: faster, one more copy in memory.
pub const SOFTDIMO_MEMORY_FAST: u32 = 1;

/// Weights that are laid out for int8 arithmetic are computed with in int8 where the provider is fast at it: on the CPU, also with
/// "openvino", which computes with others in bf16 on processors that are fast at it (default).
pub const SOFTDIMO_ARITHMETIC_AUTO: u32 = 0;
/// They are widened, and computed with in f32.
pub const SOFTDIMO_ARITHMETIC_F32: u32 = 1;

/// The file is mapped (default). Replace it by rename; never truncate it in place.
pub const SOFTDIMO_WEIGHTS_MAP: u32 = 0;
/// The file is copied into memory once.
pub const SOFTDIMO_WEIGHTS_READ: u32 = 1;
/// Mapped, and a SIGBUS handler (chained to the host's) turns truncation into SOFTDIMO_ERR_FORMAT.
/// Process-wide. Windows: nobody can write the file until it is closed, and one of a network or of a medium that can be taken
/// out is copied into memory; one of an external disk is mapped.
pub const SOFTDIMO_WEIGHTS_MAP_GUARDED: u32 = 2;

/// Severity of log messages: an error.
pub const SOFTDIMO_LOG_ERROR: i32 = 1;
/// A warning.
pub const SOFTDIMO_LOG_WARNING: i32 = 2;
/// Information: the runtime that was loaded, sessions that were prepared.
pub const SOFTDIMO_LOG_INFO: i32 = 3;

/// Result of every callback: go on.
pub const SOFTDIMO_CONTINUE: i32 = 0;
/// Stop, as does any other value (progress, reward: cancel the job; log: no more messages).
pub const SOFTDIMO_STOP: i32 = 1;

/// Called with a UTF-8 message that is valid during the call, on a thread that is inside opening or warming
/// up this engine, taking it out of an opening, `softdimo_generate`, or a wait or poll of one of its jobs. Must not throw and must not
/// call back into this library.
pub type softdimo_log_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, level: i32, message: *const c_char) -> i32>;

/// Options of an engine. Call `softdimo_engine_options_init` first, then change what you need. Strings are
/// copied when the engine is opened.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct softdimo_engine_options {
    /// Set by `softdimo_engine_options_init`.
    pub struct_size: u32,
    /// `SOFTDIMO_MEMORY_*`.
    pub memory_mode: u32,
    /// `SOFTDIMO_WEIGHTS_*`; not read for a model in memory.
    pub weights_mode: u32,
    /// Threads that compute one run, 0 to 256; 0 = one per core, at most 8. Each of the 8 sessions used last may have
    /// as many, less the worker; they sleep between runs.
    pub threads: u32,
    /// Niceness added to the engine's threads on Linux, 0 (default) to 19. On Windows their priority within the class of the
    /// process: 1 to 9 below normal, 10 to 18 lowest, 19 idle; what wants the core and has a higher one goes first.
    /// Elsewhere it does nothing.
    pub niceness: i32,
    /// GPU index for "cuda", 0 or more.
    pub device_id: i32,
    /// Bytes the engine may hold beyond mapped pages; 0 = no limit. Sessions used longest ago are dropped to make room;
    /// work that would exceed it even so is refused with SOFTDIMO_ERR_OUT_OF_MEMORY before anything is allocated.
    pub memory_limit: u64,
    /// "cpu" (also NULL), "cuda" or "openvino". Asked for and not usable is an error, never a silent fallback.
    pub provider: *const c_char,
    /// Path of the ONNX Runtime library, UTF-8. NULL: the environment variable SOFTDIMO_ORT_LIBRARY, then the
    /// folder of this library, then the system loader. One runtime serves the whole process: the first engine
    /// chooses it.
    pub ort_library: *const c_char,
    /// Receives log messages; NULL for none. The library never prints.
    pub log: softdimo_log_fn,
    /// Given to `log`; both must stay valid until the engine and all its jobs are freed.
    pub log_user_data: *mut c_void,
    /// Least severe messages wanted, `SOFTDIMO_LOG_*`; default SOFTDIMO_LOG_WARNING.
    pub log_level: i32,
    /// Billions of multiply-adds that one network may take for a picture; 0 = 40000, more than four times what
    /// Meissonic needs at 1024x1024. What takes more, or has a node for every two billion, is refused when it is opened:
    /// SOFTDIMO_ERR_UNSUPPORTED. Since ABI 1.1.
    pub work_limit: u32,
    /// 1: networks look every millisecond or so of computing, instead of once a call, whether the engine is paused or has used
    /// up its share of the processor; the pictures are the same. CPU only. 0 (default): they do not. Since ABI 1.2.
    pub yielding: u32,
    /// What weights that are laid out for int8 arithmetic are computed with, `SOFTDIMO_ARITHMETIC_*`: int8 where the provider is
    /// fast at it (default), or f32 always. All other weights are computed with in f32, with "openvino" also in bf16. Since ABI 1.2.
    pub arithmetic: u32,
    /// 1: what `softdimo_engine_tune` remembered of this model and machine is not read. 0 (default): it is. Since ABI 1.2.
    pub untuned: u32,
    /// Must be zero.
    pub reserved: [u32; 3],
}

/// Fill `options` with defaults; `struct_size` is `sizeof(softdimo_engine_options)`. Errors: NULL, unknown
/// size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_engine_options_init(
    options: *mut softdimo_engine_options,
    struct_size: u32,
) -> i32 {
    wall(|| {
        // SAFETY: NULL, or the caller's struct of `struct_size` bytes.
        unsafe { init_struct(options, struct_size, "options", DEFAULTS) }
    })
}

const DEFAULTS: softdimo_engine_options = softdimo_engine_options {
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
    work_limit: 0,
    yielding: 0,
    arithmetic: SOFTDIMO_ARITHMETIC_AUTO,
    untuned: 0,
    reserved: [0; 3],
};

/// The same for an engine beside a game's own threads, which are not to miss a frame for it: `threads` is 1, the worker,
/// so that no more than one core is taken, and `niceness` is 10, with which the worker gets a tenth of a core that another
/// thread wants too (on Windows what that thread leaves), and all of one that is free. Memory stays as lean as by default; what else suits a game depends on
/// it. Errors: NULL, unknown size. Since ABI 1.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_engine_options_init_game(
    options: *mut softdimo_engine_options,
    struct_size: u32,
) -> i32 {
    wall(|| {
        let value = softdimo_engine_options { threads: 1, niceness: 10, ..DEFAULTS };
        // SAFETY: NULL, or the caller's struct of `struct_size` bytes.
        unsafe { init_struct(options, struct_size, "options", value) }
    })
}

/// Open the model file at `path` (UTF-8). `options` may be NULL for defaults. On success `*engine` is to be
/// freed with `softdimo_engine_free`; on failure it is not written. Blocks for milliseconds, longer for a model in int4, which is unpacked: weights are
/// mapped, not read. Errors: those of files (`SOFTDIMO_ERR_NOT_FOUND` to `SOFTDIMO_ERR_CONFIG`, the latter
/// also for a reward file), of the runtime and its provider, bad options.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_engine_open(
    path: *const c_char,
    options: *const softdimo_engine_options,
    engine: *mut *mut softdimo_engine,
) -> i32 {
    // SAFETY: pointers are NULL or valid as documented.
    unsafe {
        wall_making(engine, "engine", || {
            let path = cstr(path, "path")?;
            let (options, log) = read_options(options)?;
            Ok(engine_handle(Engine::open(path, options)?, log))
        })
    }
}

const _: () = {
    assert!(LogLevel::Error as i32 == SOFTDIMO_LOG_ERROR);
    assert!(LogLevel::Warning as i32 == SOFTDIMO_LOG_WARNING);
    assert!(LogLevel::Info as i32 == SOFTDIMO_LOG_INFO);
};

pub(super) type Log = (softdimo_log_fn, *mut c_void, LogLevel);

pub(super) unsafe fn read_options(options: *const softdimo_engine_options) -> Result<(Options, Log)> {
    if options.is_null() {
        return Ok((Options::default(), (None, std::ptr::null_mut(), LogLevel::Warning)));
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
        arithmetic: match o.arithmetic {
            SOFTDIMO_ARITHMETIC_AUTO => Arithmetic::Auto,
            SOFTDIMO_ARITHMETIC_F32 => Arithmetic::F32,
            other => return Err(Error::invalid("options.arithmetic", "0 (auto) or 1 (f32)", other)),
        },
        memory: match o.memory_mode {
            SOFTDIMO_MEMORY_LEAN => MemoryMode::Lean,
            SOFTDIMO_MEMORY_FAST => MemoryMode::Fast,
            other => return Err(Error::invalid("options.memory_mode", "0 (lean) or 1 (fast)", other)),
        },
        weights: read::weights_mode(o.weights_mode)?,
        threads: o.threads as usize,
        niceness: o.niceness,
        memory_limit: o.memory_limit,
        work_limit: o.work_limit,
        yielding: match o.yielding {
            0 => false,
            1 => true,
            other => return Err(Error::invalid("options.yielding", "0 or 1", other)),
        },
        untuned: match o.untuned {
            0 => false,
            1 => true,
            other => return Err(Error::invalid("options.untuned", "0 or 1", other)),
        },
        ort_library: library.map(Into::into),
        profile: None,
    };
    Ok((options, (o.log, o.log_user_data, LogLevel::try_from(o.log_level)?)))
}

pub(super) fn engine_handle(engine: Engine, (log, user_data, level): Log) -> Box<softdimo_engine> {
    let label = |name: &str| CString::new(name.replace('\0', " ")).unwrap_or_default();
    let labels = engine.labels().map(label).collect();
    let sink = LogSink { engine: engine.clone(), log, user_data, level, stopped: Arc::default() };
    sink.drain();
    Box::new(softdimo_engine { engine, labels, log: sink, jobs: Arc::default() })
}

/// Shapes of a model. Set struct_size before the call that fills it.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct softdimo_layout {
    /// To be set to `sizeof(softdimo_layout)`.
    pub struct_size: u32,
    /// Width of a picture in pixels.
    pub width: u32,
    /// Height of a picture in pixels.
    pub height: u32,
    /// Tokens of a picture are [positions, splits].
    pub positions: u32,
    /// Tokens at a position.
    pub splits: u32,
    /// Codes per token: ids below this.
    pub codes: u32,
    /// Id of the mask token, not below `codes`; ids between them are no tokens.
    pub mask_token: u32,
    /// Width of a start embedding [positions, embedding].
    pub embedding: u32,
    /// Class ids are below this; this number itself means no label. 0 for models that read prompts.
    pub classes: u32,
    /// Channels of a picture: 3 (red, green, blue), or 4 with straight alpha. Since ABI 1.2; older libraries, whose pictures
    /// have 3, leave 0 here.
    pub channels: u32,
}

/// Picture size, tokens and embedding of the model. Set `layout->struct_size` before the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_engine_layout(
    engine: *const softdimo_engine,
    layout: *mut softdimo_layout,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle and a struct of the caller's.
        let l = unsafe { handle(engine, "engine")? }.engine.layout();
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
            channels: l.channels as u32,
        };
        // SAFETY: as above.
        unsafe { write_struct(layout, "softdimo_layout", value) }
    })
}

/// Free an engine: NULL is fine. Its threads are joined unless jobs of it are still alive, which keep it
/// running until they are freed; a paused one goes on for them. In a forked child this does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_engine_free(engine: *mut softdimo_engine) {
    guard(|| {
        if !engine.is_null() && check_process().is_ok() {
            // SAFETY: made by `engine_handle`, freed once.
            let freed = unsafe { Box::from_raw(engine) };
            // Nobody could resume it any more, and whoever waits for its jobs would wait for ever.
            let _ = freed.engine.resume();
            drop(freed);
        }
    });
}

/// Cancel every job of the engine that has not begun, as `softdimo_job_cancel` does; the running one goes on. `*count`
/// becomes how many there were; it may be NULL. Returns at once. The jobs are still to be freed. Since ABI 1.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_engine_cancel_pending(
    engine: *const softdimo_engine,
    count: *mut u32,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle, and NULL or a place for the number.
        unsafe {
            let cancelled = handle(engine, "engine")?.engine.cancel_pending()?;
            if !count.is_null() {
                out(count, "count", u32::try_from(cancelled).unwrap_or(u32::MAX))?;
            }
            Ok(())
        }
    })
}

/// Have the engine compute nothing until `softdimo_engine_resume`: the network call that runs (with `options.yielding` the few
/// nodes of it), or the session that is being prepared, is finished first. Idempotent, and returns at once. Meanwhile jobs can
/// be submitted, polled, cancelled and freed, and the engine be freed; a job that has not begun does not. A wait for a job, and
/// calls that have the engine compute, wait until it is resumed. A cancelled optimisation still makes its best picture: that is
/// all that is computed. Deadlines go on. Since ABI 1.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_engine_pause(engine: *const softdimo_engine) -> i32 {
    // SAFETY: a live handle.
    wall(|| unsafe { handle(engine, "engine")? }.engine.pause())
}

/// Go on after `softdimo_engine_pause`. Idempotent. Since ABI 1.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_engine_resume(engine: *const softdimo_engine) -> i32 {
    // SAFETY: a live handle.
    wall(|| unsafe { handle(engine, "engine")? }.engine.resume())
}

/// Have the engine's threads, together, compute for at most `percent` percent of the time of one core: 1 to 100 for each of its
/// threads; 0 (at first) for no limit. After every network call, and after the preparation of a session, the engine computes
/// nothing until its share has come up to what that took: the share holds over times that are longer than a call, with
/// `options.yielding` over those that are longer than some milliseconds. Returns at once, and counts from the next call on.
/// Linux and Windows; no effect elsewhere. Since ABI 1.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_engine_set_cpu_share(engine: *const softdimo_engine, percent: u32) -> i32 {
    // SAFETY: a live handle.
    wall(|| unsafe { handle(engine, "engine")? }.engine.set_cpu_share(percent))
}

/// Where an engine's log messages go.
#[derive(Clone)]
pub(super) struct LogSink {
    engine: Engine,
    log: softdimo_log_fn,
    user_data: *mut c_void,
    level: LogLevel,
    stopped: Arc<AtomicBool>,
}

impl LogSink {
    /// Hand queued messages to the callback, on this thread.
    pub(super) fn drain(&self) {
        self.hand(self.engine.take_log());
    }

    /// The same, later where a thread of the engine is adding one.
    pub(super) fn drain_now(&self) {
        self.hand(self.engine.take_log_now());
    }

    fn hand(&self, messages: Vec<(LogLevel, String)>) {
        for (level, message) in messages {
            let Some(log) = self.log else { continue };
            if level <= self.level && !self.stopped.load(Ordering::SeqCst) {
                let text = CString::new(message.replace('\0', " ")).unwrap_or_default();
                // SAFETY: the caller promised a callback of this signature when it opened the engine.
                if unsafe { log(self.user_data, level as i32, text.as_ptr()) } != SOFTDIMO_CONTINUE {
                    self.stopped.store(true, Ordering::SeqCst);
                }
            }
        }
    }
}

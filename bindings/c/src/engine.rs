//! Engines: open, describe, prepare, verify, free.

use super::*;

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
            let (mapping, armed) = read::foreign(data, length, release, user_data)?;
            let (options, log) = read_options(options)?;
            let opened = Engine::from_mapping(mapping, "(memory)", options)?;
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
        weights: read::weights_mode(o.weights_mode)?,
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

/// The tokens [positions, splits] of a picture of the model's size, by the model's own image tokenizer: what a
/// request's edit_image starts from, and what start_tokens take. Waits for the jobs before it. Array
/// convention: see `softdimo_job_image_f32`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_encode(
    engine: *const softdimo_engine,
    image: *const softdimo_image,
    tokens: *mut u32,
    capacity: u64,
    needed: *mut u64,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle, an image view and a caller-owned array.
        unsafe {
            let engine = &handle(engine, "engine")?.engine;
            let slots = engine.model().architecture().layout().slots();
            if tokens.is_null() || capacity < slots as u64 {
                // Nothing is computed for a call that only asks for the size.
                return read::write_array(&vec![0; slots], tokens, capacity, needed, "tokens");
            }
            let view = read::images(image.cast_mut(), 1)?.remove(0);
            let ids = engine.encode(&image::read_f32_chw(&read::read_view(&view)?)?)?;
            read::write_array(&ids, tokens, capacity, needed, "tokens")
        }
    })
}

/// Replay a golden file (safetensors with `b*/in/..` and `b*/out/..`) and write a JSON report with the
/// largest difference of every tensor: proof that this model file computes what its reference computes. Every
/// call runs the whole replay, so give it room at once (64 KiB is plenty for one file).
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
                softdimo::verify::verify(&handle(engine, "engine")?.engine, cstr(golden, "golden")?, None)?;
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

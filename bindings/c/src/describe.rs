//! What a model is, in JSON and by name, and the proof that its file computes what it should.

use super::*;

/// JSON about the engine: model, architecture, picture size, tokens, labels, defaults, provider, runtime.
/// Text convention.
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

/// Replay a golden file (safetensors with tensors `b0/in/..`, `b0/out/..`, `b1/in/..`) and write a JSON report with the
/// largest difference of every tensor: proof that this model file computes what its reference computes. Every
/// call runs the whole replay, so give it room at once (64 KiB is plenty for one file). Text convention.
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
            let report = handle(engine, "engine")?.engine.verify(cstr(golden, "golden")?, None)?;
            write_text(&report.json(), buffer, capacity, needed)
        }
    })
}

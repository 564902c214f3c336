//! What an engine holds, preparing it ahead, giving memory back, and models that are in memory already.

use super::engine::{engine_handle, read_options};
use super::job::Reported;
use super::request::read_request;
use super::*;

/// Memory of an engine in bytes. Set struct_size before the call that fills it.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct softdimo_memory {
    /// To be set to `sizeof(softdimo_memory)`.
    pub struct_size: u32,
    /// Prepared sessions.
    pub sessions: u32,
    /// Mapped bytes of the model file, and of reward files in use: shared, reclaimable.
    pub mapped: u64,
    /// Weights held as copies (read, packed or on the device).
    pub weights: u64,
    /// What the prepared sessions hold beside weights: their values, where those are kept for the next run, and
    /// themselves; and the features of prompts that were encoded, 32 MiB at most.
    pub activations: u64,
    /// Bytes that a run takes beside these, at most, and gives back after it: the values of large networks in
    /// SOFTDIMO_MEMORY_LEAN, of one network at a time. They count against the memory limit. Since ABI 1.2.
    pub transient: u64,
}

/// Bytes the engine holds, by kind: mapped ones exact, the others as the runtime's allocators tell them, or from tensor
/// sizes where they do not. Waits for the jobs before it. Set `memory->struct_size` before the call.
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
            transient: used.transient,
        };
        // SAFETY: as above.
        unsafe { write_struct(memory, "softdimo_memory", value) }
    })
}

/// Prepare everything a one-step job of `batch` (1 to 256) pictures needs, so that the first job is as fast
/// as the next. Blocks, and waits for the jobs before it.
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

/// Prepare everything that this request needs, of the student or the teacher, of an optimisation, of its prompts, so that
/// the first job like it is as fast as the next. Jobs are alike that differ in their seed and labels, in numbers of
/// sampling and optimising, and in what their rewards are given (targets, colours, weights, classes); the batch, the
/// kinds of rewards and their order, reward files, variables, optimizer and `recompute` make another. Calls the request's
/// progress callback with the sessions prepared and those in all (0 of 0 while jobs before it are waited for), also 20
/// times a second without news; its STOP ends the call at once: SOFTDIMO_ERR_CANCELLED. An engine keeps the eight kinds of
/// optimisations used last. Blocks. Since ABI 1.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_engine_warmup_request(
    engine: *const softdimo_engine,
    request: *const softdimo_request,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle and a request, as documented.
        unsafe {
            let e = handle(engine, "engine")?;
            let (request, raw) = read_request(request, Some(&e.engine.layout()))?;
            let reported = Reported::new(&raw);
            let done = e.engine.warmup_request(&request, |p| reported.call(p.step, p.total));
            e.log.drain();
            done
        }
    })
}

/// Measure which convolutions of a model for int8 arithmetic (`softdimo quantize --dtype int8`) this machine computes faster
/// in f32, with the engine's threads and memory mode, and remember it in the user's cache folder: the environment variable
/// SOFTDIMO_CACHE ("off": none), else `softdimo` in the system's folder for caches (XDG_CACHE_HOME, ~/.cache, LOCALAPPDATA,
/// ~/Library/Caches). This engine computes so from now on, as do those opened later with the same model, processor,
/// runtime, threads and memory mode, unless `options.untuned` is set. Pictures change by what int8 rounds off; the tokens of a
/// seed do not. Nothing else ever measures or writes there: call it when installing, or where a player waits anyway.
///
/// `progress` (may be NULL) is called on this thread with the measurements made and those in all, also 20 times a second
/// without news; SOFTDIMO_STOP ends the call: SOFTDIMO_ERR_CANCELLED, and nothing is remembered. `in_f32` (may be NULL) gets the
/// number of convolutions that are computed in f32. Takes about a second for each kind of convolution, drops
/// prepared sessions, blocks, and waits for the jobs before it. Errors: SOFTDIMO_ERR_UNSUPPORTED where there is nothing to
/// choose, SOFTDIMO_ERR_INVALID_ARGUMENT without a folder that can be written. Since ABI 1.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_engine_tune(
    engine: *const softdimo_engine,
    progress: softdimo_progress_fn,
    progress_user_data: *mut c_void,
    in_f32: *mut u32,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle.
        let e = unsafe { handle(engine, "engine")? };
        let reported = Reported::of(progress, progress_user_data);
        let tuned = e.engine.tune(|p| reported.call(p.step, p.total));
        e.log.drain();
        let count = tuned?.in_f32.len() as u32;
        if !in_f32.is_null() {
            // SAFETY: not NULL, so valid as documented.
            unsafe { in_f32.write(count) };
        }
        Ok(())
    })
}

/// Give back what can be prepared again: sessions, packed weights, prompt features. Waits for the jobs before
/// it, and for the end of what they have begun to prepare.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_engine_trim(engine: *const softdimo_engine) -> i32 {
    // SAFETY: a live handle.
    wall(|| unsafe { handle(engine, "engine")? }.engine.trim())
}

/// Most bytes that all engines of this process may hold together beyond mapped pages; 0, as it is at first, for any number.
/// An engine that needs more drops what it keeps, then has others drop what they keep, each after its running job; where
/// that is not enough within half a second, its job fails with SOFTDIMO_ERR_OUT_OF_MEMORY. A budget below what is held has
/// all engines drop what they keep. Any time; does not wait. Since ABI 1.2.
#[unsafe(no_mangle)]
pub extern "C" fn softdimo_set_memory_budget(bytes: u64) -> i32 {
    wall(|| {
        check_process()?;
        softdimo::set_memory_budget(bytes);
        Ok(())
    })
}

/// Bytes that all engines of this process hold together beyond mapped pages: what counts against the budget. Sessions that
/// have not run yet count with what they are foreseen to take. Does not wait. Since ABI 1.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_memory_in_use(bytes: *mut u64) -> i32 {
    wall(|| {
        check_process()?;
        // SAFETY: NULL or an out pointer.
        unsafe { out(bytes, "bytes", softdimo::memory_in_use()) }
    })
}

/// Called once, when nothing reads the bytes given to `softdimo_engine_open_memory` or
/// `softdimo_reward_open_memory` any more, on the thread that let go of them last.
pub type softdimo_release_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, data: *const c_void, length: u64)>;

/// Open a model whose file is in memory, at any alignment. The bytes must stay unchanged until `release` is
/// called (once, possibly on another thread); a NULL `release` means they outlive the engine and its jobs. On
/// failure `release` is not called and the bytes stay the caller's. Else as `softdimo_engine_open`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_engine_open_memory(
    data: *const c_void,
    length: u64,
    release: softdimo_release_fn,
    user_data: *mut c_void,
    options: *const softdimo_engine_options,
    engine: *mut *mut softdimo_engine,
) -> i32 {
    // SAFETY: pointers are NULL or valid as documented.
    unsafe {
        wall_making(engine, "engine", || {
            let (mapping, release) = read::foreign(data, length, release, user_data)?;
            let (options, log) = read_options(options)?;
            let made = engine_handle(Engine::from_mapping(mapping, "(memory)", options)?, log);
            shortage::check("engine")?;
            release.arm();
            Ok(made)
        })
    }
}

//! Opening an engine without waiting for it: on a thread of its own, which then prepares it for the first request. For a loading
//! screen: open, look at the progress once a frame, take the engine, free the opening.

use super::engine::{Log, engine_handle, read_options};
use super::request::read_request;
use super::*;

/// An engine that is being opened. Thread-safe, except that it must not be freed while another call uses it.
pub struct softdimo_opening {
    opening: Opening,
    log: Log,
}

/// Begin to open the model file at `path` (UTF-8), and then to prepare the engine for `request`, as
/// `softdimo_engine_warmup_request` does without its callbacks; NULL: for one picture, as `softdimo_engine_warmup`. Returns at
/// once. On success `*opening` is to be freed with `softdimo_opening_free`. Errors: NULL, bad options, what of the request is
/// wrong for any model, that no thread can be had; what goes wrong later is the opening's. What the request points to is
/// copied; its edit is not looked at: it needs the model. Since ABI 1.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_engine_open_async(
    path: *const c_char,
    options: *const softdimo_engine_options,
    request: *const softdimo_request,
    opening: *mut *mut softdimo_opening,
) -> i32 {
    // SAFETY: pointers are NULL or valid as documented.
    unsafe {
        wall_making(opening, "opening", || {
            let path = cstr(path, "path")?;
            let (options, log) = read_options(options)?;
            let wanted = if request.is_null() { None } else { Some(read_request(request, None)?.0) };
            let opening = Engine::open_in_background(path, options, wanted)?;
            Ok(Box::new(softdimo_opening { opening, log }))
        })
    }
}

/// State (`SOFTDIMO_JOB_*`: queued, running, done, failed or cancelled) and steps (the file, then a session each; a total of 0
/// before the file is open), without waiting and without callbacks. Set struct_size before the call. Since ABI 1.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_opening_progress(
    opening: *const softdimo_opening,
    progress: *mut softdimo_progress,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle and a struct of the caller's.
        unsafe {
            let opening = &handle(opening, "opening")?.opening;
            let (state, p) = (opening.phase() as u32, opening.progress());
            let value = softdimo_progress { state, step: p.step, total: p.total, ..Default::default() };
            write_struct(progress, "softdimo_progress", value)
        }
    })
}

/// Wait until the engine is prepared, at most `timeout_ms` milliseconds (negative: as long as it takes). Returns SOFTDIMO_OK,
/// SOFTDIMO_ERR_TIMEOUT (opening goes on), SOFTDIMO_ERR_CANCELLED, or what opening failed with. Since ABI 1.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_opening_wait(opening: *const softdimo_opening, timeout_ms: i64) -> i32 {
    wall(|| {
        // SAFETY: a live handle.
        let opening = unsafe { handle(opening, "opening")? };
        opening.opening.wait(u64::try_from(timeout_ms).ok().map(Duration::from_millis))
    })
}

/// Ask for the end; returns at once. Any thread, any number of times. An engine that is open already can still be taken, as it
/// is. Since ABI 1.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_opening_cancel(opening: *const softdimo_opening) -> i32 {
    wall(|| {
        // SAFETY: a live handle.
        unsafe { handle(opening, "opening")? }.opening.cancel();
        Ok(())
    })
}

/// What opening failed with; empty text for one that has not. Text convention. Since ABI 1.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_opening_error(
    opening: *const softdimo_opening,
    buffer: *mut c_char,
    capacity: u64,
    needed: *mut u64,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle and a caller-owned buffer.
        unsafe {
            let error = handle(opening, "opening")?.opening.error();
            write_text(&error.map(|e| e.to_string()).unwrap_or_default(), buffer, capacity, needed)
        }
    })
}

/// Take the engine out, once: `*engine` is to be freed with `softdimo_engine_free`, before or after the opening. It is there as
/// soon as the file is open, and stays so where preparing fails or is cancelled; jobs that are submitted while it is being
/// prepared wait for that. Its log messages so far are sent inside this call. Errors: SOFTDIMO_ERR_NOT_READY before,
/// SOFTDIMO_ERR_INVALID_ARGUMENT for the second time, SOFTDIMO_ERR_CANCELLED, what opening failed with. Since ABI 1.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_opening_engine(
    opening: *const softdimo_opening,
    engine: *mut *mut softdimo_engine,
) -> i32 {
    // SAFETY: a live handle and an out pointer, or NULL.
    unsafe {
        wall_making(engine, "engine", || {
            let opening = handle(opening, "opening")?;
            Ok(engine_handle(opening.opening.take()?, opening.log))
        })
    }
}

/// Free an opening: NULL is fine. What is left of it is cancelled and its thread joined, which waits for the file to be opened
/// (milliseconds, unless SOFTDIMO_WEIGHTS_READ reads all of it). An engine that was not taken goes with it, as by
/// `softdimo_engine_free`; one that was stays. In a forked child this does nothing. Since ABI 1.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_opening_free(opening: *mut softdimo_opening) {
    guard(|| {
        if !opening.is_null() && check_process().is_ok() {
            // SAFETY: made by `softdimo_engine_open_async`, freed once.
            drop(unsafe { Box::from_raw(opening) });
        }
    });
}

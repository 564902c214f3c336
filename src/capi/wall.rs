//! The panic wall and the thread's last error.

use std::cell::RefCell;
use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::engine::check_process;
use crate::error::{Error, Result};
use crate::panic_wall;

thread_local! {
    static LAST_ERROR: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Run a fallible body behind the wall: its error or panic becomes a status and the last error. In a forked
/// child it does not run at all: it could wait for a lock whose owner was not forked.
pub(super) fn wall(body: impl FnOnce() -> Result<()>) -> i32 {
    let body = || check_process().and_then(|()| body());
    let outcome = catch_unwind(AssertUnwindSafe(|| panic_wall::quietly(body)));
    let error = match outcome {
        Ok(Ok(())) => return 0,
        Ok(Err(error)) => error,
        Err(payload) => Error::internal(panic_wall::message(payload.as_ref())),
    };
    let status = error.status() as i32;
    // A thread that is being torn down has no last error any more; the status is still right.
    let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = error.to_string());
    status
}

/// Run a body that cannot fail (the `_free` functions) behind the wall.
pub(super) fn guard(body: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(|| panic_wall::quietly(body)));
}

/// See `softdimo_last_error`.
pub(super) unsafe fn copy_last_error(buffer: *mut c_char, capacity: u64) -> u64 {
    let text = LAST_ERROR.try_with(|last| last.borrow().clone()).unwrap_or_default();
    let room = (capacity as usize).saturating_sub(1);
    if !buffer.is_null() && capacity > 0 {
        // Cut between characters, so that the copy stays UTF-8.
        let mut n = text.len().min(room);
        while !text.is_char_boundary(n) {
            n -= 1;
        }
        // SAFETY: n < capacity bytes plus the NUL fit the caller's buffer.
        unsafe {
            std::ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast(), n);
            *buffer.add(n) = 0;
        }
    }
    text.len() as u64 + 1
}

//! The panic wall and the thread's last error.

use std::cell::RefCell;
use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::cancel::Deferred;
use super::read::{out, required};
use softdimo::panic_wall;
use softdimo::runtime::check_process;
use softdimo::shortage;
use softdimo::{Error, Result};

thread_local! {
    static LAST_ERROR: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Run a fallible body behind the wall: its error or panic becomes a status and the last error. In a forked
/// child it does not run at all: it could wait for a lock whose owner was not forked.
pub(super) fn wall(body: impl FnOnce() -> Result<()>) -> i32 {
    let _deferred = Deferred::new();
    // A call from inside a callback leaves to the outer one what that has noted.
    let outer = shortage::noted();
    shortage::forget();
    let status = behind_wall(body);
    shortage::forget();
    if outer {
        shortage::note();
    }
    status
}

/// [`wall`] for a call that makes a handle and writes it to `place`. One that took from the reserve would keep it from all
/// later calls as long as it lives: it is given back.
///
/// # Safety
/// `place` is NULL or valid for writing.
pub(super) unsafe fn wall_making<T>(
    place: *mut *mut T,
    what: &'static str,
    make: impl FnOnce() -> Result<Box<T>>,
) -> i32 {
    wall(|| {
        required(place, what)?;
        let made = shortage::checked(what, make())?;
        // SAFETY: as the caller promises.
        unsafe { out(place, what, Box::into_raw(made)) }
    })
}

fn behind_wall(body: impl FnOnce() -> Result<()>) -> i32 {
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
    let _deferred = Deferred::new();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What a test of this crate writes to stderr in a process of its own, where nothing captures it.
    fn stderr_of_test(name: &str) -> String {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let output = child.args(["--exact", name, "--nocapture"]).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{name}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn last_error() -> String {
        let mut text = [0; 256];
        // SAFETY: the buffer holds 256 bytes.
        let needed = unsafe { copy_last_error(text.as_mut_ptr().cast(), 256) };
        String::from_utf8(text[..needed as usize - 1].to_vec()).unwrap()
    }

    #[test]
    fn a_panic_becomes_a_status_and_a_message() {
        let internal = |message: &str| {
            let expected = format!("internal error (please report it): {message}, at {}:", file!());
            assert!(last_error().starts_with(&expected), "{}", last_error());
        };
        assert_eq!(wall(|| panic!("a plain message")), 21);
        internal("a plain message");
        assert_eq!(wall(|| panic!("formatted: {}", 7)), 21);
        internal("formatted: 7");
        assert_eq!(wall(|| std::panic::panic_any(5)), 21);
        internal("panic");
        let empty: [u8; 0] = [];
        let out_of_bounds = || {
            assert!(std::hint::black_box(empty.as_slice())[0] == 0);
            Ok(())
        };
        assert_eq!(wall(out_of_bounds), 21);
        internal("index out of bounds: the len is 0 but the index is 0");
        assert_eq!(wall(|| Err(Error::Cancelled)), 17);
        assert_eq!(last_error(), "the job was cancelled");
        // Success leaves the last error alone, and so do the functions that cannot fail.
        assert_eq!(wall(|| Ok(())), 0);
        guard(|| panic!("while freeing"));
        assert_eq!(last_error(), "the job was cancelled");
        // A wall inside a wall, as a callback that calls back into the library makes it.
        assert_eq!(wall(|| if wall(|| panic!("inner")) == 21 { panic!("outer") } else { Ok(()) }), 21);
        internal("outer");
    }

    #[test]
    fn panics_behind_the_wall_print_nothing() {
        assert_eq!(stderr_of_test("wall::tests::a_panic_becomes_a_status_and_a_message"), "");
    }

    #[test]
    fn a_panic_after_the_wall_prints() {
        assert_eq!(wall(|| panic!("behind it")), 21);
        assert!(catch_unwind(|| panic!("in front of it")).is_err());
    }

    #[test]
    fn panics_of_others_still_print() {
        let text = stderr_of_test("wall::tests::a_panic_after_the_wall_prints");
        assert!(text.contains("in front of it") && !text.contains("behind it"), "{text}");
    }
}

//! No panic of this library prints or unwinds into the host: walls catch it, and the hook stays silent
//! for threads that are behind one.

use std::any::Any;
use std::cell::Cell;
use std::sync::Once;

thread_local! {
    static BEHIND_WALL: Cell<u32> = const { Cell::new(0) };
}

/// Run `f` with this thread's panics kept silent; whoever calls this also catches them.
pub fn quietly<T>(f: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if BEHIND_WALL.try_with(Cell::get).unwrap_or(0) == 0 {
                previous(info);
            }
        }));
    });
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            let _ = BEHIND_WALL.try_with(|n| n.set(n.get() - 1));
        }
    }
    BEHIND_WALL.with(|n| n.set(n.get() + 1));
    let _leave = Leave;
    f()
}

/// The text of a caught panic.
pub fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|s| (*s).to_string());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".into())
}

/// What a test of this crate writes to stderr in a process of its own, where nothing captures it.
#[cfg(test)]
pub(crate) fn stderr_of_test(name: &str) -> String {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let output = child.args(["--exact", name, "--nocapture"]).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && stdout.contains("1 passed"), "{name}: {stdout}");
    String::from_utf8(output.stderr).unwrap()
}

//! No panic of this library prints or unwinds into the host: walls catch it, and the hook stays silent
//! for threads that are behind one. It records where the panic was instead: what a user can report.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::panic::{Location, PanicHookInfo};
use std::sync::Once;

use crate::shortage;

thread_local! {
    static BEHIND_WALL: Cell<u32> = const { Cell::new(0) };
    static RECORD: RefCell<Option<Record>> = const { RefCell::new(None) };
}

/// What the hook saw of this thread's last panic behind a wall.
struct Record {
    place: Option<String>,
    trace: Backtrace,
}

fn record(info: &PanicHookInfo) {
    let place = info.location().map(Location::to_string);
    let record = Record { place, trace: Backtrace::force_capture() };
    // A thread that is being torn down, or that panics while this is written, leaves no record.
    let _ = RECORD.try_with(|last| last.try_borrow_mut().map(|mut last| *last = Some(record)));
}

/// Run `f` with this thread's panics kept silent; whoever calls this also catches them.
pub fn quietly<T>(f: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| match BEHIND_WALL.try_with(Cell::get).unwrap_or(0) {
            0 => previous(info),
            _ => record(info),
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

/// The text of a panic that this thread has caught, and where it was.
pub fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|s| (*s).to_string());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".into());
    let place = RECORD.try_with(|last| last.borrow().as_ref().and_then(|record| record.place.clone()));
    match place {
        Ok(Some(place)) => format!("{text}, at {place}"),
        _ => text,
    }
}

/// The calls that led to this thread's last panic behind a wall, a line each; told once. None where memory is short: names are
/// looked up in the debug information, which takes megabytes.
pub fn take_backtrace() -> Option<String> {
    let record = RECORD.try_with(|last| last.borrow_mut().take()).ok().flatten()?;
    (!shortage::noted()).then(|| record.trace.to_string())
}

/// What a test of this crate writes to stderr in a process of its own, where nothing captures it.
#[cfg(test)]
pub(crate) fn stderr_of_test(name: &str) -> String {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let output = child.args(["--exact", name, "--nocapture"]).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && stdout.contains("1 passed"), "{name}: {stdout}");
    support::without_adapters(&String::from_utf8(output.stderr).unwrap())
}

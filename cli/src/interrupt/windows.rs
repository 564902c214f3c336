use windows_sys::Win32::System::Console::{
    CTRL_BREAK_EVENT, CTRL_C_EVENT, CTRL_CLOSE_EVENT, SetConsoleCtrlHandler,
};
use windows_sys::core::BOOL;

use super::caught;

// What each event counts as: the numbers of Unix, so that the program ends with the same status everywhere.
const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// Have events of the console end the program. Where it was started to ignore Ctrl-C, it does.
pub fn watch() {
    // SAFETY: the handler has the signature that is asked for, and stays for good.
    unsafe { SetConsoleCtrlHandler(Some(handle), 1) };
}

/// Windows has no such limits.
pub fn outlive_size_limits() {}

/// Called on a thread of its own for every event.
unsafe extern "system" fn handle(event: u32) -> BOOL {
    match event {
        CTRL_C_EVENT | CTRL_BREAK_EVENT => {
            caught(SIGINT);
            1
        }
        // Returning ends the process at once. Somebody looks, and has the seconds that the system gives. The end of a session
        // comes here from services alone, and never once user32.dll is loaded, as it is with ONNX Runtime: Windows ends the
        // program then, and its temporary file is left for whoever writes that destination next.
        event => {
            caught(if event == CTRL_CLOSE_EVENT { SIGHUP } else { SIGTERM });
            loop {
                std::thread::park();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use windows_sys::Win32::System::Console::CTRL_SHUTDOWN_EVENT;

    use super::super::{exit_code, hand_over, interrupted};
    use super::*;

    const EVENTS: &str = "SOFTDIMO_TEST_EVENTS";

    /// In a process of its own, which an event ends.
    #[test]
    fn events_end_the_program_unless_somebody_looks() {
        if let Ok(events) = std::env::var(EVENTS) {
            watch();
            let looks = events.starts_with("look ").then(hand_over);
            for event in events.trim_start_matches("look ").split(' ') {
                // SAFETY: as the system calls it.
                assert_eq!(unsafe { handle(event.parse().unwrap()) }, 1);
                assert!(interrupted() && looks.is_some());
            }
            assert_eq!(exit_code(), std::process::ExitCode::from(130));
            std::process::exit(99);
        }
        let name = "interrupt::windows::tests::events_end_the_program_unless_somebody_looks";
        let (c, stop, close, down) = (CTRL_C_EVENT, CTRL_BREAK_EVENT, CTRL_CLOSE_EVENT, CTRL_SHUTDOWN_EVENT);
        for (events, status) in [
            (format!("{c}"), 130),
            (format!("{stop}"), 130),
            (format!("{close}"), 129),
            (format!("{down}"), 143),
            (format!("look {c}"), 99),
            (format!("look {c} {c}"), 130),
            (format!("look {c} {close}"), 129),
        ] {
            let mut child = Command::new(std::env::current_exe().unwrap());
            let output = child.args(["--exact", name]).env(EVENTS, &events).output().unwrap();
            assert_eq!(output.status.code(), Some(status), "{events}: {output:?}");
        }
    }
}

//! What of these tests runs on Unix alone, and why: programs, and parts of programs, which say so themselves. Nothing else
//! is left out on another platform.

use std::process::Command;

use support::platform::platform;
use support::root;

/// A program or a test, the part of it ("": all of it), the reason.
const UNIX_ONLY: [(&str, &str, &str); 20] = [
    ("callbacks", "a child that a callback made", NO_FORK),
    ("opening", "fork and exit while an engine opens", NO_FORK),
    ("pace", "an exit while paused", "its process is a fork; `exit_optimize` has a case of it"),
    ("files", "", "no limit of open files can be set"),
    ("fork_exit", "", "fork() is its theme; `exit_optimize` and `ends` have the exits"),
    ("plugin", "", "dlopen(); `plugin_windows` is its counterpart"),
    ("hygiene", "", "signals, limits, /proc; `hygiene_windows` is its counterpart"),
    ("truncation", "", "no file is cut short while it is mapped: the system refuses, and there is no SIGBUS"),
    ("rewards", "a reward file replaced by rename", "rename() does not replace a file there"),
    ("short_memory", "", "no limit of address space can be set"),
    ("faults", "", "a shim between program and C library, by LD_PRELOAD"),
    ("frame_loop", "polls, looks and cancels that never wait", "no count of a thread's voluntary switches"),
    (
        "host_threads",
        "a thread cancelled inside a call, and files that may not become long",
        "neither pthread_cancel() nor limits of a file's size are there",
    ),
    (
        "exit_optimize",
        "a handler of the host's that runs after the library's",
        "a program's handlers run first there",
    ),
    ("exports", "", "nm and readelf of a shared object; the folders of `make dist` have the DLL's"),
    ("install", "", "`make install` installs for Unix; the folders of `make dist` are for Windows"),
    ("cxx_bridge", "", "what is built from source is built on the platform itself"),
    ("nightly_memcheck", "", "Valgrind"),
    ("no_usable_runtime", "a FIFO, and devices", "neither has a name among files"),
    ("no_usable_runtime", "what the system loader finds", "LD_LIBRARY_PATH"),
];
const NO_FORK: &str = "there is no fork()";

/// Programs of Windows alone, each the counterpart of one above.
const WINDOWS_ONLY: [&str; 2] = ["plugin_windows", "hygiene_windows"];

/// Whether a program of Windows alone is run.
pub fn of_windows(name: &str) -> bool {
    assert!(WINDOWS_ONLY.contains(&name), "{name} is not among what is left out elsewhere");
    platform().windows
}

fn say((name, part, reason): &(&str, &str, &str)) {
    println!("left out on Windows: {name}{}{part}: {reason}", if part.is_empty() { "" } else { ": " });
}

/// Whether this part of a test is left out on this platform; the reason is printed.
pub fn part_left_out(name: &str, part: &str) -> bool {
    let row = UNIX_ONLY.iter().find(|row| row.0 == name && row.1 == part);
    let row = row.unwrap_or_else(|| panic!("{name}: '{part}' is not among what may be left out"));
    if platform().windows {
        say(row);
    }
    platform().windows
}

/// Whether all of a program or test is left out on this platform; the reason is printed.
pub fn left_out(name: &str) -> bool {
    part_left_out(name, "")
}

/// The parts that a program leaves out on this platform; the command is its own or that of what runs it.
pub fn parts(command: &Command) -> Vec<&'static str> {
    let mut words = std::iter::once(command.get_program()).chain(command.get_args());
    let is_program = |word: &&std::ffi::OsStr| {
        std::path::Path::new(word).parent().is_some_and(|p| p.ends_with("programs"))
    };
    let program = words.find(is_program).expect("a program of these tests");
    let name = std::path::Path::new(program).file_stem().unwrap().to_str().unwrap().to_string();
    let rows = UNIX_ONLY.iter().filter(|row| platform().windows && row.0 == name && !row.1.is_empty());
    rows.map(|row| row.1).collect()
}

/// What the table names is there, and the run on another platform says all of it in one place.
#[test]
fn what_is_left_out() {
    for (name, part, reason) in UNIX_ONLY {
        let source =
            |folder: &str| std::fs::read_to_string(root().join(folder).join(name).with_extension("c"));
        if !part.is_empty()
            && let Ok(source) = source("tests/capi")
        {
            assert!(source.contains(&format!("left_out(\"{part}\")")), "{name}.c does not leave out {part}");
        }
        assert!(!reason.is_empty());
        if platform().windows {
            say(&(name, part, reason));
        }
    }
}

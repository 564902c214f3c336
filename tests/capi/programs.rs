//! The programs of these tests, and how they are run.

use std::process::{Command, Output};

use super::left_out;

use support::platform::platform;
use support::program::compile;
use support::root;

/// `tests/capi/NAME.c`, compiled as strict C99 without a warning.
pub fn program(name: &str) -> Command {
    compiled(&[], &format!("{name}.c"), name)
}

/// `examples/NAME/NAME.c`, compiled as strictly.
pub fn example(name: &str) -> Command {
    let source = root().join("examples").join(name).join(name).with_extension("c");
    compile("cc", &["-std=c99", "-g", "-O1"], &source, &format!("example_{name}"))
}

/// `tests/bindings/NAME.cpp` over `softdimo.hpp`, as C++17.
pub fn cpp(name: &str) -> Command {
    let source = root().join("tests/bindings").join(name).with_extension("cpp");
    compile("c++", &["-std=c++17", "-O1"], &source, &format!("cpp_{name}"))
}

/// A C program of `tests/capi` from the file `source`, with `more` options and what it needs of the system.
pub fn compiled(more: &[&str], source: &str, program: &str) -> Command {
    let system = if platform().windows { "system_windows.c" } else { "system_unix.c" };
    let system = root().join("tests/capi").join(system).into_os_string().into_string().unwrap();
    let options = [&["-std=c99", "-g", "-O1", &*system], more].concat();
    compile("cc", &options, &root().join("tests/capi").join(source), program)
}

/// Run a program: it exits with 0 and prints its measurements (`# ..`) and `ok`, nothing else. What it leaves out is what
/// `left_out.rs` says.
pub fn run(command: &mut Command) {
    let mut output = command.output().unwrap();
    if wine_itself_failed(&output) {
        println!("# wine itself failed ({}): the program runs once more", output.status);
        output = command.output().unwrap();
    }
    let (stdout, stderr) = (platform().text(&output.stdout), platform().complaints(&output.stderr));
    print!("{stdout}");
    assert!(output.status.success(), "{command:?}: {}\n{stdout}\n{stderr}", output.status);
    assert_eq!(stderr, "", "{command:?} wrote to stderr");
    let rest: Vec<&str> = stdout.lines().filter(|line| !line.starts_with("# ")).collect();
    assert_eq!(rest, ["ok"], "{command:?} wrote to stdout");
    let parts: Vec<&str> = stdout.lines().filter_map(|line| line.strip_prefix("# left out: ")).collect();
    assert_eq!(parts, left_out::parts(command), "{command:?}: parts that are left out");
}

/// Wine 8 seldom, on a busy machine, ends with a signal while a process of several threads ends, or with 1 and not a word before the
/// program starts. A fault of the program, or of a DLL, would be an exception of Windows and its number the status, not a signal to the
/// process that wine is; a check of the program that fails is always written to stderr, where by then ONNX Runtime has written, too.
fn wine_itself_failed(output: &Output) -> bool {
    #[cfg(unix)]
    let signalled = std::os::unix::process::ExitStatusExt::signal(&output.status).is_some();
    #[cfg(not(unix))]
    let signalled = false;
    let ended = signalled && platform().text(&output.stdout).ends_with("ok\n");
    let not_started = output.status.code() == Some(1) && output.stdout.is_empty() && output.stderr.is_empty();
    platform().windows && (ended || not_started)
}

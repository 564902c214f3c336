//! The programs of these tests, and how they are run.

use std::process::Command;

use support::program::compile;
use support::root;

/// `tests/capi/NAME.c`, compiled as strict C99 without a warning.
pub fn program(name: &str) -> Command {
    c("tests/capi", name, name)
}

/// `examples/NAME/NAME.c`, compiled as strictly.
pub fn example(name: &str) -> Command {
    c(&format!("examples/{name}"), name, &format!("example_{name}"))
}

/// `tests/bindings/NAME.cpp` over `softdimo.hpp`, as C++17.
pub fn cpp(name: &str) -> Command {
    let source = root().join("tests/bindings").join(name).with_extension("cpp");
    compile("c++", &["-std=c++17", "-O1"], &source, &format!("cpp_{name}"))
}

fn c(folder: &str, name: &str, program: &str) -> Command {
    let source = root().join(folder).join(name).with_extension("c");
    compile("cc", &["-std=c99", "-g", "-O1"], &source, program)
}

/// Run a program: it exits with 0 and prints its measurements (`# ..`) and `ok`, nothing else.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    print!("{stdout}");
    assert!(output.status.success(), "{command:?}: {}\n{stdout}\n{stderr}", output.status);
    assert_eq!(stderr, "", "{command:?} wrote to stderr");
    let rest: Vec<&str> = stdout.lines().filter(|line| !line.starts_with("# ")).collect();
    assert_eq!(rest, ["ok"], "{command:?} wrote to stdout");
}

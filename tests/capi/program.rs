//! Compile a C or C++ program against the header and the shared library, and run it.

use std::path::{Path, PathBuf};
use std::process::Command;

use support::{process, root};

use super::built::library;

pub const STRICT: [&str; 4] = ["-Wall", "-Wextra", "-pedantic", "-Werror"];

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

fn c(folder: &str, name: &str, executable: &str) -> Command {
    let source = root().join(folder).join(name).with_extension("c");
    compile("cc", &["-std=c99", "-g", "-O1"], &source, executable)
}

/// A compiler, `cc` or `c++` unless $CC or $CXX names another, as strict as it can be.
pub fn compiler(name: &str) -> Command {
    let variable = if name == "c++" { "CXX" } else { "CC" };
    let mut command = Command::new(std::env::var_os(variable).unwrap_or_else(|| name.into()));
    command.args(STRICT);
    command
}

/// Compile one source file against the headers of the repository and the built library; the program, to be run.
pub fn compile(name: &str, options: &[&str], source: &Path, executable: &str) -> Command {
    let programs = library().join("programs");
    std::fs::create_dir_all(&programs).unwrap();
    let executable: PathBuf = programs.join(executable);
    let include = |folder: &str| format!("-I{}", root().join(folder).display());
    process::run(
        compiler(name)
            .args(options)
            .args([include("include"), include("bindings/cpp")])
            .args(["-x", if name == "c++" { "c++" } else { "c" }])
            .arg(source)
            .arg("-o")
            .arg(&executable)
            .arg(format!("-L{}", library().display()))
            .args(["-lsoftdimo", "-pthread", "-lm", "-ldl"]),
    );
    let mut command = Command::new(executable);
    command.env("LD_LIBRARY_PATH", library());
    command
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

//! Programs in C and C++, compiled against the headers and the shared library.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use super::built::library;
use super::platform::platform;
use super::process::run;
use super::root;

pub const STRICT: [&str; 4] = ["-Wall", "-Wextra", "-pedantic", "-Werror"];

/// A compiler for the platform that takes no warning: on this machine `cc` or `c++`, unless $CC or $CXX names another.
pub fn compiler(name: &str) -> Command {
    if let Some(mut command) = platform().compiler(name) {
        command.args(STRICT);
        return command;
    }
    let variable = if name == "c++" { "CXX" } else { "CC" };
    strict(&std::env::var(variable).unwrap_or_default(), name)
}

/// The compiler that a variable's words name, as in "ccache gcc", else `otherwise`.
pub fn strict(words: &str, otherwise: &str) -> Command {
    let mut words = words.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or(otherwise));
    command.args(words).args(STRICT);
    command
}

/// Compile a file against the headers of the repository and the built library, once; the program `name`, to be run.
pub fn compile(compiler: &str, options: &[&str], source: &Path, name: &str) -> Command {
    static COMPILED: Mutex<Option<HashMap<String, Arc<OnceLock<()>>>>> = Mutex::new(None);
    let once = COMPILED.lock().unwrap().get_or_insert_default().entry(name.into()).or_default().clone();
    let program = library().join("programs").join(name.to_string() + platform().program);
    once.get_or_init(|| {
        std::fs::create_dir_all(program.parent().unwrap()).unwrap();
        let mut command = against_headers(compiler, options, source);
        command.args(["-x", "none"]);
        platform().link(&mut command, library());
        run(command.arg("-o").arg(&program));
    });
    platform().run(&program, library())
}

/// Compile a file against the headers of the repository; nothing is linked and nothing kept.
pub fn compiles(compiler: &str, options: &[&str], source: &Path) {
    run(against_headers(compiler, options, source).args(["-c", "-o", "/dev/null"]));
}

fn against_headers(name: &str, options: &[&str], source: &Path) -> Command {
    let mut command = compiler(name);
    command
        .args(options)
        .args(["include", "bindings/cpp"].map(|f| format!("-I{}", root().join(f).display())));
    command.args(["-x", if name == "c++" { "c++" } else { "c" }]).arg(source);
    command
}

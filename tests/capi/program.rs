//! Compile a C program of this folder against the header and the shared library, and run it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The shared library under test. Cargo builds all crate types of the library together before it builds
/// this test, into the folder this test lies in: it is never older than the test.
pub fn library() -> PathBuf {
    let file = std::env::current_exe().unwrap().with_file_name("libsoftdimo.so");
    assert!(file.is_file(), "{} is not there", file.display());
    file
}

/// The ONNX Runtime of the tests (`make runtime`), which `.cargo/config.toml` names.
pub fn runtime() -> PathBuf {
    let file = PathBuf::from(std::env::var_os("SOFTDIMO_ORT_LIBRARY").expect("run by cargo"));
    assert!(file.is_file(), "{} is not there: run `make runtime`", file.display());
    file
}

/// A folder with the library under the names that programs are linked to and load.
fn linked() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(concat!(env!("CARGO_CRATE_NAME"), "_programs"));
        std::fs::create_dir_all(&folder).unwrap();
        place(&folder, |from, to| std::os::unix::fs::symlink(from, to));
        folder
    })
}

/// Put the library into `folder`, under the names that programs are linked to and load.
pub fn place(folder: &Path, put: impl Fn(&Path, &Path) -> std::io::Result<()>) {
    let version = concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));
    for name in ["libsoftdimo.so".to_string(), format!("libsoftdimo.so.{version}")] {
        let file = folder.join(name);
        let _ = std::fs::remove_file(&file);
        put(&library(), &file).unwrap();
    }
}

/// `tests/capi/NAME.c`, compiled as strict C99 without a warning.
pub fn program(name: &str) -> Command {
    compile(&root().join("tests/capi").join(name).with_extension("c"), name)
}

/// `examples/NAME/NAME.c`, compiled as strictly.
pub fn example(name: &str) -> Command {
    let source = root().join("examples").join(name).join(name).with_extension("c");
    compile(&source, &format!("example_{name}"))
}

/// `tests/bindings/NAME.cpp` over `softdimo.hpp`, as C++17.
pub fn cpp(name: &str) -> Command {
    let compiler = Command::new(std::env::var_os("CXX").unwrap_or_else(|| "c++".into()));
    let include = format!("-I{}", root().join("bindings/cpp").display());
    let source = root().join("tests/bindings").join(name).with_extension("cpp");
    compile_with(compiler, &["-std=c++17", &include], &source, &format!("cpp_{name}"))
}

fn compile(source: &Path, name: &str) -> Command {
    let compiler = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    compile_with(compiler, &["-std=c99"], source, name)
}

fn compile_with(mut compiler: Command, options: &[&str], source: &Path, name: &str) -> Command {
    let executable = linked().join(name);
    compiler
        .args(options)
        .args(["-Wall", "-Wextra", "-pedantic", "-Werror", "-g", "-O1", "-pthread"])
        .arg(format!("-I{}", root().join("include").display()))
        .arg(source)
        .arg("-o")
        .arg(&executable)
        .arg(format!("-L{}", linked().display()))
        .args(["-lsoftdimo", "-lm", "-ldl"]);
    let output = compiler.output().expect("a C or C++ compiler ('cc', 'c++', or $CC, $CXX)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut command = Command::new(executable);
    command.env("LD_LIBRARY_PATH", linked());
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

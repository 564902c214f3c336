//! C and C++ programs against the built library: the header, `softdimo.hpp`, an installed tree, the cxx bridge.
//!
//! Each test first runs `cargo build` for this test's own profile and takes the files cargo names, so that what is
//! tested is what the sources say. Needs gcc, g++, pkg-config, binutils and CMake; a missing one fails the test
//! (`SOFTDIMO_SKIP_CMAKE=1` leaves the CMake one out).

#![cfg(target_os = "linux")]

/// Only the CLIP of it is used here.
#[allow(dead_code)]
#[path = "reward_files/official.rs"]
mod official;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const STRICT: [&str; 4] = ["-Wall", "-Wextra", "-pedantic", "-Werror"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn source(name: &str) -> PathBuf {
    root().join("tests/bindings").join(name)
}

fn model() -> PathBuf {
    let path = root().join("models/emoji-32.softdimo.safetensors");
    assert!(path.exists(), "{} is missing", path.display());
    path
}

fn data(name: &str) -> PathBuf {
    root().join("tests/data").join(name)
}

/// A reward file in the folder.
fn reward(folder: &Path) -> PathBuf {
    official::convert(&official::clip_score(&folder.join("official")).source, folder, "clip")
}

/// The ONNX Runtime library of the tests; cargo's configuration names it.
fn runtime() -> PathBuf {
    let path = std::env::var_os("SOFTDIMO_ORT_LIBRARY").expect("cargo sets SOFTDIMO_ORT_LIBRARY");
    let path = root().join(path);
    assert!(path.exists(), "{} is missing: run make runtime", path.display());
    path
}

/// Run a command to success and give back what it printed.
fn run(command: &mut Command) -> String {
    let output = match command.output() {
        Ok(output) => output,
        Err(e) => panic!("{}: {e}: is it installed?", command.get_program().display()),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}\n{}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// A folder of this test's own, empty.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bindings").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// `target/<profile>` of the running test.
fn profile_folder() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_path_buf()
}

/// Run `cargo build` with `arguments` in this test's profile; the files it made or found fresh.
fn cargo_build(arguments: &[&str]) -> Vec<PathBuf> {
    let profile = match profile_folder().file_name().unwrap().to_str().unwrap() {
        "debug" => "dev".to_string(),
        other => other.to_string(),
    };
    let text = run(Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--message-format=json", "--profile", &profile, "--target-dir"])
        .arg(profile_folder().parent().unwrap())
        .args(arguments)
        .current_dir(root()));
    let messages = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    let files = messages.flat_map(|m| {
        let names = m["filenames"].as_array().cloned().unwrap_or_default();
        let program = m["executable"].as_str().map(PathBuf::from);
        names.into_iter().map(|n| PathBuf::from(n.as_str().unwrap())).chain(program).collect::<Vec<_>>()
    });
    files.collect()
}

fn named(files: &[PathBuf], name: &str) -> PathBuf {
    let found = files.iter().find(|f| f.file_name().is_some_and(|n| n == name));
    found.unwrap_or_else(|| panic!("cargo build made no {name}, but {files:?}")).clone()
}

/// The shared library, freshly built, with its SONAME beside it; the folder that holds both.
fn library() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let files = cargo_build(&["--lib", "--bin", "softdimo"]);
        let folder = folder("library");
        std::fs::copy(named(&files, "libsoftdimo.so"), folder.join("libsoftdimo.so")).unwrap();
        std::fs::copy(named(&files, "softdimo"), folder.join("softdimo")).unwrap();
        std::os::unix::fs::symlink("libsoftdimo.so", folder.join("libsoftdimo.so.0.1")).unwrap();
        folder
    })
}

/// Compile one source file against the headers of the repository and the built library.
fn compile(compiler: &str, options: &[&str], from: &str, to: &Path) {
    let library = library();
    run(Command::new(compiler)
        .args(options)
        .args(STRICT)
        .args(["-x", if compiler == "g++" { "c++" } else { "c" }])
        .arg(source(from))
        .arg("-I")
        .arg(root().join("include"))
        .arg("-I")
        .arg(root().join("bindings/cpp"))
        .arg("-o")
        .arg(to)
        .arg("-L")
        .arg(library)
        .args(["-lsoftdimo", "-pthread"])
        .arg(format!("-Wl,-rpath,{}", library.display())));
}

#[test]
fn header_compiles_links_and_runs_as_c_and_cpp() {
    let folder = folder("header");
    for (compiler, standard) in
        [("gcc", "-std=c99"), ("gcc", "-std=c11"), ("g++", "-std=c++17"), ("g++", "-std=c++20")]
    {
        let program = folder.join(&standard[5..]);
        compile(compiler, &[standard], "header.c", &program);
        run(&mut Command::new(program));
    }
}

/// The names declared in the header.
fn declared() -> BTreeSet<String> {
    let header = std::fs::read_to_string(root().join("include/softdimo.h")).unwrap();
    let code = header.lines().filter(|l| !l.trim_start().starts_with(['/', '*']));
    let names = code.filter_map(|line| {
        let (before, _) = line.split_once('(')?;
        let name = before.rsplit([' ', '*']).next()?;
        name.starts_with("softdimo_").then(|| name.to_string())
    });
    names.collect()
}

#[test]
fn library_exports_the_header_and_nothing_else() {
    let library = library().join("libsoftdimo.so");
    let symbols = run(Command::new("nm").args(["-D", "--defined-only"]).arg(&library));
    let exported: BTreeSet<String> =
        symbols.lines().map(|l| l.rsplit(' ').next().unwrap().to_string()).collect();
    assert_eq!(exported, declared());

    let dynamic = run(Command::new("readelf").arg("-dW").arg(&library));
    let of = |tag: &str| dynamic.lines().filter(|l| l.contains(tag)).collect::<Vec<_>>().join("\n");
    assert!(of("(SONAME)").contains("[libsoftdimo.so.0.1]"), "{dynamic}");
    assert!(of("(FLAGS_1)").contains("NODELETE"), "{dynamic}");
    for unwanted in ["libstdc++", "libonnxruntime", "libsoftdimo"] {
        assert!(!of("(NEEDED)").contains(unwanted), "{dynamic}");
    }
}

#[test]
fn header_test_names_every_function() {
    let text = std::fs::read_to_string(source("header.c")).unwrap();
    for name in declared() {
        assert!(text.contains(&format!("FUNCTION({name})")), "tests/bindings/header.c leaves {name} out");
    }
}

fn wrapper(name: &str, options: &[&str]) {
    let folder = folder(name);
    let program = folder.join("program");
    compile("g++", options, "wrapper.cpp", &program);
    reward(&folder);
    let said = run(Command::new(program).arg(model()).arg(&folder).env("SOFTDIMO_ORT_LIBRARY", runtime()));
    assert_eq!(said, "ok\n");
    let png = std::fs::read(folder.join("apple.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"));
}

#[test]
fn wrapper_with_exceptions() {
    wrapper("wrapper", &["-std=c++17", "-Wshadow", "-Wconversion"]);
}

#[test]
fn wrapper_without_exceptions_and_rtti() {
    wrapper("wrapper_bare", &["-std=c++17", "-fno-exceptions", "-fno-rtti"]);
}

#[test]
fn wrapper_as_cpp20() {
    wrapper("wrapper_20", &["-std=c++20", "-O2"]);
}

/// Install into a staging folder, then move the tree somewhere else; where it is then.
fn installed(name: &str, libdir: &str) -> PathBuf {
    let folder = folder(name);
    run(Command::new("make")
        .arg("install")
        .arg(format!("DESTDIR={}/stage", folder.display()))
        .arg("PREFIX=/opt/first")
        .arg(format!("LIBDIR={libdir}"))
        .arg(format!("BUILD={}", library().display()))
        .arg(format!("ORT={}", runtime().display()))
        .current_dir(root()));
    let moved = folder.join("moved/elsewhere");
    std::fs::create_dir_all(moved.parent().unwrap()).unwrap();
    std::fs::rename(folder.join("stage/opt/first"), &moved).unwrap();
    let lib = moved.join(libdir);
    for (link, to) in
        [("libsoftdimo.so", "libsoftdimo.so.0.1"), ("libsoftdimo.so.0.1", "libsoftdimo.so.0.1.0")]
    {
        assert_eq!(std::fs::read_link(lib.join(link)).unwrap(), Path::new(to));
    }
    moved
}

/// Run an installed program's user without help from the environment: the runtime is beside the library.
fn make_picture(program: &Path, folder: &Path) {
    let png = folder.join("picture.png");
    let said = run(Command::new(program)
        .arg(model())
        .arg(&png)
        .env_remove("SOFTDIMO_ORT_LIBRARY")
        .env_remove("LD_LIBRARY_PATH"));
    assert_eq!(said, format!("softdimo {}\n", env!("CARGO_PKG_VERSION")));
    assert!(std::fs::read(png).unwrap().starts_with(b"\x89PNG"));
}

#[test]
fn pkg_config_finds_a_moved_installation() {
    for (name, libdir) in [("pkg_config", "lib"), ("pkg_config_multiarch", "lib/x86_64-linux-gnu")] {
        let prefix = installed(name, libdir);
        let ask = |arguments: &[&str]| {
            let said = run(Command::new("pkg-config")
                .args(arguments)
                .arg("softdimo")
                .env("PKG_CONFIG_PATH", prefix.join(libdir).join("pkgconfig")));
            said.split_whitespace().map(str::to_string).collect::<Vec<_>>()
        };
        assert_eq!(ask(&["--modversion"]), [env!("CARGO_PKG_VERSION")]);
        let program = prefix.join("one_picture");
        run(Command::new("gcc")
            .args(["-std=c99"])
            .args(STRICT)
            .arg(source("one_picture.c"))
            .arg("-o")
            .arg(&program)
            .args(ask(&["--cflags", "--libs"]))
            .arg(format!("-Wl,-rpath,{}", ask(&["--variable=libdir"])[0])));
        let needed = run(Command::new("readelf").arg("-dW").arg(&program));
        assert!(needed.contains("[libsoftdimo.so.0.1]"), "{needed}");
        make_picture(&program, &prefix);
    }
}

/// Found through PATH, in a working directory that has a file of the program's name and a wrong runtime.
#[test]
fn installed_program_finds_its_own_runtime_and_model() {
    let decoy = folder("decoy");
    std::fs::write(decoy.join("softdimo"), "not a program").unwrap();
    std::fs::write(decoy.join("libonnxruntime.so"), "not a library").unwrap();
    for (name, libdir) in [("program", "lib"), ("program_multiarch", "lib/x86_64-linux-gnu")] {
        let prefix = installed(name, libdir);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path =
            std::env::join_paths(std::iter::once(prefix.join("bin")).chain(std::env::split_paths(&path)));
        let png = prefix.join("apple.png");
        run(Command::new("softdimo")
            .args(["generate", "--label", "red apple", "--output"])
            .arg(&png)
            .current_dir(&decoy)
            .env("PATH", path.unwrap())
            .env_remove("SOFTDIMO_MODEL")
            .env_remove("SOFTDIMO_ORT_LIBRARY"));
        assert!(std::fs::read(png).unwrap().starts_with(b"\x89PNG"));
    }
}

#[test]
fn cmake_finds_a_moved_installation() {
    if std::env::var("SOFTDIMO_SKIP_CMAKE").is_ok_and(|v| v == "1") {
        return;
    }
    if Command::new("cmake").arg("--version").output().is_err() {
        panic!("cmake is not installed: install it, or set SOFTDIMO_SKIP_CMAKE=1 to leave this test out");
    }
    let prefix = installed("cmake", "lib");
    let build = folder("cmake_build");
    run(Command::new("cmake")
        .arg("-S")
        .arg(source("find_package"))
        .arg("-B")
        .arg(&build)
        .arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display()))
        .arg(format!("-DCMAKE_C_FLAGS={}", STRICT.join(" ")))
        .arg(format!("-DCMAKE_CXX_FLAGS={}", STRICT.join(" "))));
    run(Command::new("cmake").arg("--build").arg(&build));
    run(&mut Command::new(build.join("version")));
    make_picture(&build.join("one_picture"), &build);
}

#[test]
fn cxx_bridge() {
    let files = cargo_build(&["-p", "softdimo-cxx"]);
    let program = folder("cxx").join("program");
    run(Command::new("g++")
        .arg("-std=c++17")
        .args(STRICT)
        .arg("-isystem")
        .arg(profile_folder().parent().unwrap().join("cxxbridge"))
        .arg(source("bridge.cpp"))
        .arg(named(&files, "libsoftdimo_cxx.a"))
        .args(["-lpthread", "-ldl", "-lm", "-o"])
        .arg(&program));
    let reward = reward(&folder("cxx_reward"));
    let said = run(Command::new(program).arg(model()).arg(reward).env("SOFTDIMO_ORT_LIBRARY", runtime()));
    assert_eq!(said, format!("ok {}\n", env!("CARGO_PKG_VERSION")));
}

//! C and C++ programs against the built library: the header, `softdimo.hpp`, an installed tree, the cxx bridge.
//!
//! Make, a compiler, binutils, and what `make tools` fetches, CMake and pkgconf, are needed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::built::{self, folder, library, soname};
use support::process::run;
use support::program::{STRICT, compile, compiler, strict};
use support::{bundled, rewards, root, runtime};

use super::left_out::left_out;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn source(name: &str) -> PathBuf {
    root().join("tests/bindings").join(name)
}

/// A tool that `make tools` has fetched.
fn tool(name: &str) -> Command {
    let file = root().join("target/tools/bin").join(name);
    assert!(file.exists(), "{} is not there: run `make tools`", file.display());
    Command::new(file)
}

/// A reward file in the folder.
fn reward(folder: &Path) -> PathBuf {
    rewards::convert(&rewards::clip_score(&folder.join("official")).source, folder, "clip")
}

#[test]
fn header_compiles_links_and_runs_as_c_and_cpp() {
    for (compiler, standard) in
        [("cc", "-std=c99"), ("cc", "-std=c11"), ("c++", "-std=c++17"), ("c++", "-std=c++20")]
    {
        let name = format!("header_{}", &standard[5..]);
        run(&mut compile(compiler, &[standard], &source("header.c"), &name));
    }
}

/// $CC and $CXX are lists of words, to make, to `scripts/check-tools` and here.
#[test]
fn a_compiler_may_be_named_by_several_words() {
    for words in ["", "cc", "env LC_ALL=C  cc"] {
        run(strict(words, "cc")
            .args(["-fsyntax-only", "-I"])
            .arg(root().join("include"))
            .arg(source("header.c")));
    }
    let named = strict(" ccache gcc ", "cc");
    assert_eq!((named.get_program(), named.get_args().next()), ("ccache".as_ref(), Some("gcc".as_ref())));
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
    if left_out("exports") {
        return;
    }
    let library = library().join("libsoftdimo.so");
    let symbols = run(Command::new("nm").args(["-D", "--defined-only"]).arg(&library));
    let exported: BTreeSet<String> =
        symbols.lines().map(|l| l.rsplit(' ').next().unwrap().to_string()).collect();
    assert_eq!(exported, declared());

    let dynamic = run(Command::new("readelf").arg("-dW").arg(&library));
    let of = |tag: &str| dynamic.lines().filter(|l| l.contains(tag)).collect::<Vec<_>>().join("\n");
    assert!(of("(SONAME)").contains(&format!("[{}]", soname(VERSION))), "{dynamic}");
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
    reward(&folder);
    let mut program = compile("c++", options, &source("wrapper.cpp"), name);
    let said = run(program.arg(bundled()).arg(&folder));
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

/// Install into a staging folder as this version, then move the tree somewhere else; where it is then.
fn installed(name: &str, libdir: &str, version: &str) -> PathBuf {
    let folder = folder(name);
    run(Command::new("make")
        .arg("install")
        .arg(format!("DESTDIR={}/stage", folder.display()))
        .arg("PREFIX=/opt/first")
        .arg(format!("LIBDIR={libdir}"))
        .arg(format!("VERSION={version}"))
        .arg(format!("BUILD={}", library().display()))
        .arg(format!("ORT={}", runtime().display()))
        .current_dir(root()));
    let moved = folder.join("moved/elsewhere");
    std::fs::create_dir_all(moved.parent().unwrap()).unwrap();
    std::fs::rename(folder.join("stage/opt/first"), &moved).unwrap();
    let (soname, file) = (soname(version), format!("libsoftdimo.so.{version}"));
    for (link, to) in [("libsoftdimo.so", &soname), (&soname, &file)] {
        assert_eq!(std::fs::read_link(moved.join(libdir).join(link)).unwrap(), Path::new(to));
    }
    moved
}

#[test]
fn soname_ends_with_the_minor_version_until_1_0() {
    if left_out("install") {
        return;
    }
    for (version, name) in [
        ("0.1.0", "libsoftdimo.so.0.1"),
        ("0.12.3-rc.1", "libsoftdimo.so.0.12"),
        ("1.0.0", "libsoftdimo.so.1"),
        ("12.3.4", "libsoftdimo.so.12"),
    ] {
        assert_eq!(soname(version), name);
    }
    let found = std::fs::read_to_string(
        installed("first_stable", "lib", "1.2.3").join("lib/cmake/softdimo/softdimo-config.cmake"),
    );
    assert!(found.unwrap().contains(r#"IMPORTED_SONAME "libsoftdimo.so.1""#));
}

/// Run an installed program's user without help from the environment: the runtime is beside the library.
fn make_picture(program: &Path, folder: &Path) {
    let png = folder.join("picture.png");
    let said = run(Command::new(program)
        .arg(bundled())
        .arg(&png)
        .env_remove("SOFTDIMO_ORT_LIBRARY")
        .env_remove("LD_LIBRARY_PATH"));
    assert_eq!(said, format!("softdimo {VERSION}\n"));
    assert!(std::fs::read(png).unwrap().starts_with(b"\x89PNG"));
}

/// The line that the header and the page print builds a program that starts.
#[test]
fn pkg_config_finds_a_moved_installation() {
    if left_out("install") {
        return;
    }
    let read = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
    let page = read("docs/embedding.md");
    let line = page.lines().find(|line| line.contains("$(pkg-config")).unwrap();
    assert!(read("include/softdimo.h").contains(&format!(" *     {line}\n")), "{line}");
    let cc = compiler("cc");
    let words: Vec<_> = std::iter::once(cc.get_program()).chain(cc.get_args()).collect();
    let cc = words.join(" ".as_ref()).into_string().unwrap();
    let pkgconf = tool("pkgconf").get_program().to_str().unwrap().to_string();
    let line = line.replacen("cc", &cc, 1).replace("pkg-config", &pkgconf);

    for (name, libdir) in [("pkg_config", "lib"), ("pkg_config_multiarch", "lib/x86_64-linux-gnu")] {
        let prefix = installed(name, libdir, VERSION);
        let found = ("PKG_CONFIG_PATH", prefix.join(libdir).join("pkgconfig"));
        let version = run(tool("pkgconf").args(["--modversion", "softdimo"]).env(found.0, &found.1));
        assert_eq!(version.trim(), VERSION);
        std::fs::copy(source("one_picture.c"), prefix.join("first.c")).unwrap();
        run(Command::new("sh").args(["-c", &line]).current_dir(&prefix).env(found.0, &found.1));
        let program = prefix.join("first");
        let needed = run(Command::new("readelf").arg("-dW").arg(&program));
        assert!(needed.contains(&format!("[{}]", soname(VERSION))), "{needed}");
        make_picture(&program, &prefix);
    }
}

/// Found through PATH, in a working directory that has a file of the program's name and a wrong runtime.
#[test]
fn installed_program_finds_its_own_runtime_and_model() {
    if left_out("install") {
        return;
    }
    let decoy = folder("decoy");
    std::fs::write(decoy.join("softdimo"), "not a program").unwrap();
    std::fs::write(decoy.join("libonnxruntime.so"), "not a library").unwrap();
    for (name, libdir) in [("program", "lib"), ("program_multiarch", "lib/x86_64-linux-gnu")] {
        let prefix = installed(name, libdir, VERSION);
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
    if left_out("install") {
        return;
    }
    let prefix = installed("cmake", "lib", VERSION);
    let build = folder("cmake_build");
    run(tool("cmake")
        .arg("-S")
        .arg(source("find_package"))
        .arg("-B")
        .arg(&build)
        .arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display()))
        .arg(format!("-DCMAKE_C_FLAGS={}", STRICT.join(" ")))
        .arg(format!("-DCMAKE_CXX_FLAGS={}", STRICT.join(" "))));
    run(tool("cmake").arg("--build").arg(&build));
    run(&mut Command::new(build.join("version")));
    make_picture(&build.join("one_picture"), &build);
}

#[test]
fn cxx_bridge() {
    if left_out("cxx_bridge") {
        return;
    }
    let program = folder("cxx").join("program");
    run(compiler("c++")
        .arg("-std=c++17")
        .arg("-isystem")
        .arg(built::target_folder().join("cxxbridge"))
        .arg(source("bridge.cpp"))
        .arg(built::file("libsoftdimo_cxx.a"))
        .args(["-lpthread", "-ldl", "-lm", "-o"])
        .arg(&program));
    let reward = reward(&folder("cxx_reward"));
    let said = run(Command::new(program).arg(bundled()).arg(reward));
    assert_eq!(said, format!("ok {}\n", env!("CARGO_PKG_VERSION")));
}

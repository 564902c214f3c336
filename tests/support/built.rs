//! What cargo builds of this repository for programs of the tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::platform::platform;
use super::process::run;
use super::root;

/// The name that programs load which were linked to the shared library of this version.
pub fn soname(version: &str) -> String {
    let abi = run(Command::new(root().join("scripts/abi-version")).arg(version));
    format!("libsoftdimo.so.{}", abi.trim())
}

/// `target/PROFILE` of the running test, which is `target/PROFILE/deps/NAME-HASH`.
pub fn profile_folder() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_path_buf()
}

/// The `target` of the running test.
pub fn target_folder() -> PathBuf {
    profile_folder().parent().unwrap().to_path_buf()
}

/// A folder of this test's own, empty: `target/tmp/PROGRAM/NAME`, or `target/tmp/PROGRAM-PLATFORM/NAME` where another one than this
/// machine's is tested.
pub fn folder(name: &str) -> PathBuf {
    let program = std::env::current_exe().unwrap().file_stem().unwrap().to_string_lossy().into_owned();
    let (program, _) = program.rsplit_once('-').unwrap();
    let program = [Some(program), platform().name].into_iter().flatten().collect::<Vec<_>>().join("-");
    let folder = target_folder().join("tmp").join(program).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The profile of the running test.
pub fn profile() -> String {
    match profile_folder().file_name().unwrap().to_str().unwrap() {
        "debug" => "dev".to_string(),
        other => other.to_string(),
    }
}

/// Cargo, in the repository and with the running test's `target` and profile.
pub fn cargo(command: &str) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").expect("cargo sets CARGO"));
    cargo.args([command, "--quiet", "--profile", &profile(), "--target-dir"]).arg(target_folder());
    cargo.current_dir(root());
    cargo
}

/// The file of this name that `cargo build` makes for the platform, or finds fresh: what is tested is what the
/// sources say.
pub fn file(name: &str) -> PathBuf {
    static FILES: OnceLock<Vec<PathBuf>> = OnceLock::new();
    let files = FILES.get_or_init(|| {
        let text = run(platform().build().arg("--message-format=json"));
        let messages = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
        let files = messages.flat_map(|m| {
            let names = m["filenames"].as_array().cloned().unwrap_or_default();
            let program = m["executable"].as_str().map(PathBuf::from);
            names.into_iter().map(|n| PathBuf::from(n.as_str().unwrap())).chain(program).collect::<Vec<_>>()
        });
        files.collect()
    });
    let found = files.iter().find(|f| f.file_name().is_some_and(|n| n == name));
    found.unwrap_or_else(|| panic!("cargo build made no {name}, but {files:?}")).clone()
}

/// A folder with the shared library, under the names that programs are linked to and load, and the command line's
/// program.
pub fn library() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = folder("library");
        place(&folder);
        let program = format!("softdimo{}", platform().program);
        std::fs::copy(file(&program), folder.join(&program)).unwrap();
        folder
    })
}

/// Put the shared library into `folder`, under the names that programs are linked to and load.
pub fn place(folder: &Path) {
    let platform = platform();
    for name in [platform.shared, platform.linked] {
        std::fs::copy(file(name), folder.join(name)).unwrap();
    }
    #[cfg(unix)]
    if !platform.windows {
        std::os::unix::fs::symlink(platform.shared, folder.join(soname(env!("CARGO_PKG_VERSION")))).unwrap();
    }
}

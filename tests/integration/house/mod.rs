//! `ARCHITECTURE.md` holds: which module may use which, what lives where, what names are taken.

mod c_abi;
mod imports;
mod names;
mod places;
mod stable_api;

use std::path::{Path, PathBuf};

use support::root;

/// A Rust file of the library: its path below `src`, its text without the unit tests, and all of it.
struct Source {
    path: PathBuf,
    code: String,
    all: String,
}

fn sources() -> Vec<Source> {
    files(&root().join("src"), &["rs"])
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name != "tests.rs" && name != "guarded_tests.rs"))
        .map(|path| {
            let all = read(&path);
            let code = all.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            let code = code.collect::<Vec<_>>().join("\n");
            let path = path.strip_prefix(root().join("src")).unwrap().to_path_buf();
            Source { path, code, all }
        })
        .collect()
}

/// Files below a folder with one of these extensions, "" being none, sorted; what cargo builds there is left out.
fn files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries {
        let path = entry.unwrap().path();
        let extension = path.extension().unwrap_or_default();
        if path.is_dir() && !path.ends_with("target") {
            found.extend(files(&path, extensions));
        } else if path.is_file() && extensions.iter().any(|e| extension == *e) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

fn architecture() -> String {
    read(&root().join("ARCHITECTURE.md"))
}

#[test]
fn the_page_is_a_page() {
    assert!(architecture().lines().count() <= 80, "ARCHITECTURE.md has more than 80 lines");
}

//! What lives in one place only.

use std::path::Path;

use super::imports::used;
use super::{files, read, sources};
use softdimo::Provider;
use support::root;

fn below_root(file: &Path) -> String {
    file.strip_prefix(root()).unwrap().to_string_lossy().into_owned()
}

/// Files of the library whose code has one of these, not as the end of a longer word.
fn with(words: &[&str]) -> Vec<String> {
    let has = |code: &str, word: &str| {
        let mut places = code.match_indices(word);
        places.any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
    };
    let found = sources().into_iter().filter(|s| words.iter().any(|word| has(&s.code, word)));
    found.map(|s| s.path.to_string_lossy().into_owned()).collect()
}

fn all_in(files: &[String], places: &[&str]) {
    let outside: Vec<&String> =
        files.iter().filter(|file| !places.iter().any(|place| file.starts_with(place))).collect();
    assert!(!files.is_empty() && outside.is_empty(), "outside of {places:?}: {outside:?}");
}

#[test]
fn ort_is_used_by_the_runtime() {
    all_in(&with(&["ort::", "use ort"]), &["runtime/"]);
}

#[test]
fn threads_are_made_by_runtime_and_engine() {
    all_in(
        &with(&["thread::spawn", "thread::Builder", "{Builder, JoinHandle}", "JoinHandle"]),
        &["runtime/", "engine/"],
    );
}

#[test]
fn unsafe_code_has_few_homes() {
    let is_unsafe = ["unsafe {", "unsafe fn", "unsafe impl"];
    all_in(&with(&is_unsafe), &["atomic_file/fixed.rs", "checkpoint/", "file_limit.rs", "runtime/"]);
    let of = |folder| {
        let files = files(&root().join(folder), &["rs"]).into_iter();
        let found = files.filter(|file| is_unsafe.iter().any(|word| read(file).contains(word)));
        found.map(|file| below_root(&file)).collect::<Vec<_>>()
    };
    assert!(of("cli/src").iter().all(|file| file.starts_with("cli/src/interrupt/")));
    assert!(of("bindings/cxx/src").is_empty());
}

/// No C symbol is exported by the library, and none is defined outside of `bindings/c`.
#[test]
fn the_c_abi_is_in_its_package() {
    assert!(with(&["no_mangle", "export_name"]).is_empty());
    let defined = |folder: &str| {
        let files = files(&root().join(folder), &["rs"]).into_iter();
        files.filter(|file| read(file).contains("no_mangle")).count()
    };
    assert!(defined("bindings/c/src") > 5);
    assert_eq!((defined("cli/src"), defined("bindings/cxx/src")), (0, 0));
}

#[test]
fn a_folder_has_its_mod_rs() {
    for source in sources() {
        let folder = root().join("src").join(source.path.with_extension(""));
        assert!(!folder.is_dir(), "{} beside its folder", source.path.display());
    }
}

/// All Rust there is, beside what cargo builds.
#[test]
fn files_have_one_job() {
    let folders = ["src", "bindings", "cli", "examples", "fuzz", "tests"];
    let files: Vec<_> = folders.iter().flat_map(|folder| files(&root().join(folder), &["rs"])).collect();
    assert!(files.len() > 250, "{}", files.len());
    for file in files {
        let lines = read(&file).lines().count();
        assert!(lines <= 600, "{} has {lines} lines", below_root(&file));
    }
}

/// The files, a line each, in which code of the library that does not lie in `own` names something.
fn lines_that_name(name: &str, own: &str) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources().iter().filter(|s| !s.path.starts_with(own)) {
        let lines = source.code.lines().filter(|line| line.to_lowercase().contains(name));
        found.extend(lines.map(|_| source.path.to_string_lossy().into_owned()));
    }
    found
}

/// No code of the packages on top of the library names it.
fn unnamed_on_top(name: &str) {
    for folder in ["cli/src", "bindings/c/src"] {
        for file in files(&root().join(folder), &["rs"]) {
            let text = read(&file).to_lowercase();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            assert!(!code.collect::<String>().contains(name), "{} names {name}", file.display());
        }
    }
}

/// Lines of code outside a family's folder that name it: its module and its row of the table.
#[test]
fn a_family_is_named_by_two_lines() {
    for row in softdimo::families::FAMILIES {
        let name = row.description.name;
        let table = "families/mod.rs";
        assert_eq!(lines_that_name(name, &format!("families/{name}")), [table, table], "{name}");
        unnamed_on_top(name);
    }
}

/// Code outside the folders of rewards names one where it is declared and in its rows of the table. Several rewards may
/// share a folder, and one may build on another's network.
#[test]
fn a_reward_is_named_by_two_lines() {
    let code = |name: &str| sources().into_iter().find(|s| s.path == Path::new(name)).unwrap().code;
    let (declared, table) = (code("rewards/mod.rs"), code("rewards/architecture.rs"));
    let folders: Vec<String> = std::fs::read_dir(root().join("src/rewards"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert!(!folders.is_empty());
    for folder in &folders {
        assert_eq!(declared.matches(&format!("mod {folder};")).count(), 1, "{folder}");
        assert!(table.contains(&format!(" in {folder}(")), "{folder} has no row");
    }
    let in_folder =
        |path: &[String]| matches!(path, [root, folder, ..] if root == "rewards" && folders.contains(folder));
    for source in sources() {
        let own: Vec<String> = source.path.iter().map(|part| part.to_string_lossy().into()).collect();
        let names = !in_folder(&own) && used(&source).iter().any(|path| in_folder(path));
        assert!(!names, "{} names a reward's folder", source.path.display());
    }
}

/// As a family, beside PyTorch's module in its checkpoints; and a feature of `ort`, unless it is a plug-in, which needs none. The
/// CPU is every runtime's.
#[test]
fn a_provider_is_named_by_two_lines() {
    let manifest = read(&root().join("Cargo.toml"));
    let ort = manifest.lines().find(|line| line.starts_with("ort = ")).expect("ort is a dependency");
    let providers = Provider::ALL.iter().filter(|p| **p != Provider::Cpu).map(|p| p.name());
    let providers: Vec<_> = providers.collect();
    assert!(!providers.is_empty());
    for name in providers {
        let (table, own) = ("runtime/provider/mod.rs", format!("runtime/provider/{name}.rs"));
        let mut lines = lines_that_name(name, &own);
        lines.retain(|file| !file.starts_with("checkpoint/torch/"));
        assert_eq!(lines, [table, table], "{name}");
        let plugin = read(&root().join("src").join(&own)).contains("register_ep_library");
        assert!(plugin || ort.contains(&format!("\"{name}\"")), "{ort}");
        unnamed_on_top(name);
    }
}

/// What the repository consists of, beside `.git` and what cargo builds.
const FOLDERS: [&str; 11] =
    [".ci", "bindings", "cli", "docs", "examples", "fuzz", "include", "models", "scripts", "src", "tests"];

/// Where the comments of a text name paths of the repository: all of a page, a script or a makefile; of code the lines
/// that are comments, as what else it names it uses.
fn prose(file: &Path, text: &str) -> String {
    let code = file.extension().is_some_and(|e| ["rs", "c", "h", "cpp", "hpp"].iter().any(|code| e == *code));
    let comment = |line: &&str| ["//", "/*", "*"].iter().any(|start| line.trim_start().starts_with(start));
    text.lines().filter(|line| !code || comment(line)).collect::<Vec<_>>().join("\n")
}

/// Comments and pages send nobody to a file that is not there.
#[test]
fn files_that_are_named_exist() {
    let endings = ["md", "rs", "c", "h", "cpp", "hpp", "toml", "py", "mk", "in", ""];
    let texts = FOLDERS.iter().flat_map(|folder| files(&root().join(folder), &endings));
    let texts = texts.chain(
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "Cargo.toml", "Makefile"].map(|f| root().join(f)),
    );
    let in_path = |c: char| c.is_alphanumeric() || "/._-*~".contains(c);
    let mut named = 0;
    for file in texts {
        let text = prose(&file, &read(&file));
        for (at, folder) in FOLDERS.iter().flat_map(|folder| text.match_indices(folder)) {
            if text[..at].ends_with(in_path) || !text[at + folder.len()..].starts_with('/') {
                continue;
            }
            let path: String = text[at..].chars().take_while(|c| in_path(*c)).collect();
            let path = path.trim_end_matches(['.', '/', '-']);
            // FAMILY, NAME.c and *.c stand for any.
            let any = path.split('/').any(|part| {
                let stem = part.split('.').next().unwrap_or_default();
                stem == "*" || !stem.is_empty() && stem.chars().all(|c| c.is_uppercase())
            });
            // Python in `src/` and `models/` is of official code: this repository has none there.
            let official = path.ends_with(".py") && ["src/", "models/"].iter().any(|f| path.starts_with(f));
            // A manifest names files from its own folder.
            let there = [root(), file.parent().unwrap()].iter().any(|folder| folder.join(path).exists());
            named += 1;
            assert!(any || official || there, "{} names {path}, which is not there", below_root(&file));
        }
    }
    assert!(named > 200, "{named}");
}

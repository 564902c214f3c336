//! What lives in one place only.

use super::{files, sources};
use support::root;

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
    all_in(&with(&["unsafe {", "unsafe fn", "unsafe impl"]), &["checkpoint/", "runtime/"]);
}

/// No C symbol is exported by the library, and none is defined outside of `bindings/c`.
#[test]
fn the_c_abi_is_in_its_package() {
    assert!(with(&["no_mangle", "export_name"]).is_empty());
    let defined = |folder: &str| {
        let files = files(&root().join(folder), "rs").into_iter();
        files.filter(|f| std::fs::read_to_string(f).unwrap().contains("no_mangle")).count()
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

#[test]
fn files_have_one_job() {
    for source in sources() {
        let lines = source.all.lines().count();
        assert!(lines <= 600, "{} has {lines} lines", source.path.display());
    }
}

/// Lines of code outside a family's folder that name it: its module and its row of the table.
#[test]
fn a_family_is_named_by_two_lines() {
    let named = |family: &str, table: &str, own: &str| {
        let lines = sources().into_iter().filter(|s| !s.path.starts_with(own)).flat_map(|s| {
            let lines: Vec<String> = s.code.lines().map(String::from).collect();
            lines
                .into_iter()
                .map(move |line| (s.path.to_string_lossy().into_owned(), line))
                .collect::<Vec<_>>()
        });
        let lines: Vec<_> = lines.filter(|(_, line)| line.to_lowercase().contains(family)).collect();
        assert!(lines.len() == 2 && lines.iter().all(|(file, _)| file == table), "{family}: {lines:#?}");
    };
    for row in softdimo::families::FAMILIES {
        let name = row.description.name;
        named(name, "families/mod.rs", &format!("families/{name}"));
        for folder in ["cli/src", "bindings/c/src"] {
            for file in files(&root().join(folder), "rs") {
                let text = std::fs::read_to_string(&file).unwrap().to_lowercase();
                let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                assert!(!code.collect::<String>().contains(name), "{} names {name}", file.display());
            }
        }
    }
}

/// Comments and pages send nobody to a file that is not there. (`src/` is left out: official code has one too.)
#[test]
fn files_that_are_named_exist() {
    let mut texts: Vec<(String, String)> =
        sources().into_iter().map(|s| (s.path.to_string_lossy().into_owned(), s.all)).collect();
    for page in ["README.md", "ARCHITECTURE.md", "docs/adding-a-family.md"] {
        texts.push((page.into(), std::fs::read_to_string(root().join(page)).unwrap()));
    }
    let mut named = 0;
    for (file, text) in &texts {
        for folder in ["tests/", "docs/", "examples/", "bindings/", "scripts/", "cli/"] {
            for (at, _) in text.match_indices(folder) {
                let in_path = |c: char| c.is_alphanumeric() || "/._-".contains(c);
                if text[..at].ends_with(in_path) {
                    continue;
                }
                let path: String = text[at..].chars().take_while(|c| in_path(*c)).collect();
                let path = path.trim_end_matches(['.', '/', '-']);
                // FAMILY and the like stand for any.
                let any = path.split('/').any(|part| part.chars().all(|c| c.is_uppercase()));
                named += 1;
                assert!(any || root().join(path).exists(), "{file} names {path}, which is not there");
            }
        }
    }
    assert!(named > 20, "{named}");
}

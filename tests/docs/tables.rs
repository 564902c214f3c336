//! Tables of the pages against the sources: statuses, messages, metadata.

use std::collections::BTreeSet;
use std::path::Path;

use support::root;

use super::pages::{prose, read};

/// All Rust below these folders, without tests, line breaks inside literals undone.
fn sources(folders: &[&str]) -> String {
    fn collect(folder: &Path, text: &mut String) {
        let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                collect(&path, text);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let file = std::fs::read_to_string(&path).unwrap();
                text.push_str(file.split("#[cfg(test)]\nmod tests").next().unwrap());
            }
        }
    }
    let mut text = String::new();
    folders.iter().for_each(|folder| collect(&root().join(folder), &mut text));
    let mut joined = String::new();
    for (i, part) in text.split("\\\n").enumerate() {
        joined.push_str(if i == 0 { part } else { part.trim_start() });
    }
    joined
}

#[test]
fn every_status_has_its_section() {
    let (header, page) = (read("include/softdimo.h"), read("docs/troubleshooting.md"));
    let names =
        header.lines().filter_map(|line| line.strip_prefix("#define SOFTDIMO_ERR_")?.split(' ').next());
    let names: Vec<&str> = names.collect();
    assert_eq!(names.len(), 21, "{names:?}");
    for name in names {
        let heading = format!("## SOFTDIMO_ERR_{name}");
        assert!(page.lines().any(|line| line == heading), "{heading}");
        let row = format!("| [SOFTDIMO_ERR_{name}](#softdimo_err_{}) |", name.to_lowercase());
        assert!(page.contains(&row), "{row}");
    }
}

/// The fixed words of every message that the page quotes are in the sources.
#[test]
fn messages_are_those_of_the_sources() {
    let sources = sources(&["src", "cli/src", "bindings/c/src"]);
    let page = prose(&read("docs/troubleshooting.md")).replace('\n', " ");
    // Where messages are put together, and what the system adds.
    let joints = ["…", " is not supported: ", "expected ", "found ", ": config '", " (close: "];
    let foreign = ["cannot open shared object file: No such file or directory"];
    let quotes = page.split('`').skip(1).step_by(2);
    let quoted =
        quotes.filter(|q| q.contains('…') || q.contains(": expected ") || q.matches(' ').count() > 3);
    let (mut checked, mut invented) = (0, Vec::new());
    for message in quoted {
        let mut pieces = vec![message.to_string()];
        for joint in joints {
            pieces = pieces.iter().flat_map(|p| p.split(joint)).map(String::from).collect();
        }
        let pieces = pieces.iter().map(|p| p.trim_matches(|c: char| " .,:;()'=".contains(c)));
        for piece in pieces.filter(|p| p.len() > 3 && !foreign.contains(p)) {
            checked += 1;
            if !sources.contains(piece) {
                invented.push(format!("'{piece}' of `{message}`"));
            }
        }
    }
    assert!(invented.is_empty(), "nowhere in the sources:\n{}", invented.join("\n"));
    assert!(checked > 80, "{checked} pieces");
}

/// Every key of a file's metadata is explained.
#[test]
fn every_metadata_key_is_explained() {
    let sources = sources(&["src"]);
    let page = read("docs/model-file.md");
    let mut keys = BTreeSet::new();
    for start in ["\"softdimo.", "\"modelspec."] {
        let found = sources.match_indices(start).map(|(at, _)| &sources[at + 1..]);
        keys.extend(
            found.filter_map(|rest| {
                rest.split(|c: char| !c.is_ascii_alphanumeric() && !"._".contains(c)).next()
            }),
        );
    }
    assert!(keys.len() >= 14, "{keys:?}");
    for key in keys {
        assert!(page.contains(&format!("`{key}`")), "docs/model-file.md says nothing of {key}");
    }
}

//! Names that are taken.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::sources;

/// Configurations of networks go by their module, as in the official code.
const SHARED: [&str; 3] = ["Config", "TextConfig", "VisionConfig"];

#[test]
fn no_two_types_share_a_name() {
    let mut types: BTreeMap<String, BTreeSet<(PathBuf, usize)>> = BTreeMap::new();
    for source in sources() {
        // Beside each other these declare the same, each for its system.
        let pair = ["unix.rs", "windows.rs"].iter().any(|name| source.path.ends_with(name));
        for (at, line) in source.code.lines().enumerate() {
            // Types of a trait's implementation are indented.
            let line = line.strip_prefix("    ").filter(|line| !line.starts_with("type ")).unwrap_or(line);
            let line = match line.strip_prefix("pub") {
                Some(rest) => rest.trim_start_matches("(crate)").trim_start_matches("(super)").trim_start(),
                None => line,
            };
            let kinds = ["struct ", "enum ", "trait ", "type "];
            let declared = kinds.iter().find_map(|kind| line.strip_prefix(kind));
            let Some(rest) = declared else { continue };
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
            // Of a macro that takes the name.
            if name.is_empty() {
                continue;
            }
            let place =
                if pair { (source.path.with_file_name("unix.rs"), 0) } else { (source.path.clone(), at) };
            types.entry(name).or_default().insert(place);
        }
    }
    assert!(types.len() > 100);
    let twice: Vec<_> =
        types.iter().filter(|(name, files)| files.len() > 1 && !SHARED.contains(&name.as_str())).collect();
    assert!(twice.is_empty(), "{twice:#?}");
}

/// Errors are under one heading.
#[test]
fn errors_have_one_heading() {
    for source in sources() {
        for line in source.all.lines().filter(|l| l.trim_start().starts_with("///")) {
            assert!(!line.contains("Errors:"), "{}: {line}", source.path.display());
        }
    }
}

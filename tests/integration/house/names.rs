//! Names that are taken.

use std::collections::BTreeMap;

use super::sources;

/// Configurations of networks go by their module, as in the official code.
const SHARED: [&str; 3] = ["Config", "TextConfig", "VisionConfig"];

#[test]
fn no_two_types_share_a_name() {
    let mut types: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources() {
        for line in source.code.lines() {
            let line = line.trim_start();
            let line = match line.strip_prefix("pub") {
                Some(rest) => rest.trim_start_matches("(crate)").trim_start_matches("(super)").trim_start(),
                None => line,
            };
            let declared = ["struct ", "enum ", "trait "].iter().find_map(|kind| line.strip_prefix(kind));
            let Some(rest) = declared else { continue };
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
            // Of a macro that takes the name.
            if name.is_empty() {
                continue;
            }
            types.entry(name).or_default().push(source.path.display().to_string());
        }
    }
    assert!(types.len() > 100);
    let twice: Vec<_> =
        types.iter().filter(|(name, files)| files.len() > 1 && !SHARED.contains(&name.as_str())).collect();
    assert!(twice.is_empty(), "{twice:#?}");
}

/// The words of the field stand in the table of names; these are not of it.
#[test]
fn names_are_words_of_the_field() {
    for source in sources() {
        for word in ["Told", "Course", "Scene", "Spread"] {
            let found = source.code.split(|c: char| !c.is_alphanumeric()).any(|w| w == word);
            assert!(!found, "{}: {word}", source.path.display());
        }
    }
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

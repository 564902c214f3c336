//! Modules use what stands above them, files do not use each other in circles.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{Source, architecture, sources};

/// The modules of the library in the order of `ARCHITECTURE.md`.
fn order() -> Vec<String> {
    let text = architecture();
    let section = text.split("## Modules of the library").nth(1).expect("the section is there");
    let block =
        section.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the list");
    block.lines().filter_map(|line| line.split_whitespace().next()).map(String::from).collect()
}

/// The module at the root that a file belongs to.
fn module(source: &Source) -> String {
    let first = source.path.iter().next().unwrap().to_string_lossy();
    first.trim_end_matches(".rs").to_string()
}

/// Paths that a file uses, from the root of the crate: `crate::a::b` and `super::c` as [a, b] and [.., c].
pub fn used(source: &Source) -> BTreeSet<Vec<String>> {
    let mut here: Vec<String> =
        source.path.with_extension("").iter().map(|p| p.to_string_lossy().into()).collect();
    if here.last().is_some_and(|name| name == "mod") {
        here.pop();
    }
    let mut found = BTreeSet::new();
    for (at, keyword) in
        ["crate::", "super::", "self::"].iter().flat_map(|k| source.code.match_indices(k).collect::<Vec<_>>())
    {
        let before = source.code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let mut base = here.clone();
        match keyword {
            "crate::" => base.clear(),
            "super::" => drop(base.pop()),
            _ => {}
        }
        let mut rest = &source.code[at + keyword.len()..];
        while let Some(more) = rest.strip_prefix("super::") {
            base.pop();
            rest = more;
        }
        for tail in expand(rest) {
            found.insert(base.iter().cloned().chain(tail).collect());
        }
    }
    found
}

/// The paths of `a::{b, c::d}` or `a::b`, without renames.
fn expand(text: &str) -> Vec<Vec<String>> {
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if name.is_empty() {
        let Some(group) = text.strip_prefix('{') else { return vec![Vec::new()] };
        let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => {
                    parts.push(&group[start..i]);
                    break;
                }
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    parts.push(&group[start..i]);
                    start = i + 1;
                }
                _ => {}
            }
        }
        return parts.into_iter().map(str::trim).filter(|p| !p.is_empty()).flat_map(expand).collect();
    }
    match text[name.len()..].strip_prefix("::") {
        Some(rest) => {
            expand(rest).into_iter().map(|tail| std::iter::once(name.clone()).chain(tail).collect()).collect()
        }
        None => vec![vec![name]],
    }
}

#[test]
fn a_module_uses_only_what_stands_above_it() {
    let order = order();
    let rank = |name: &str| order.iter().position(|m| m == name);
    let modules: BTreeSet<String> = sources().iter().map(module).filter(|m| m != "lib").collect();
    let listed: BTreeSet<String> = order.iter().cloned().collect();
    assert_eq!(modules, listed, "the modules of src/ and those of ARCHITECTURE.md");
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| module(s) != "lib") {
        let own = module(source);
        for path in used(source) {
            let Some(other) = path.first().filter(|m| **m != own && rank(m).is_some()) else { continue };
            if rank(other) > rank(&own) {
                wrong.push(format!("{} uses {other}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The file that a path leads into.
fn file_of(path: &[String], files: &BTreeSet<PathBuf>) -> Option<PathBuf> {
    (1..=path.len()).rev().find_map(|n| {
        let base: PathBuf = path[..n].iter().collect();
        [base.with_extension("rs"), base.join("mod.rs")].into_iter().find(|file| files.contains(file))
    })
}

/// Within every folder: its files, and its folders each taken as one. `mod.rs` is the folder's face and stands apart; between
/// the modules at the root the order above leaves no circle.
#[test]
fn files_use_each_other_in_no_circle() {
    let sources = sources();
    let files: BTreeSet<PathBuf> = sources.iter().map(|s| s.path.clone()).collect();
    let folders: BTreeSet<&Path> = files.iter().flat_map(|file| file.ancestors().skip(1)).collect();
    for folder in folders.into_iter().filter(|f| !f.as_os_str().is_empty()) {
        let entry = |path: &Path| {
            let first = path.strip_prefix(folder).ok()?.iter().next()?;
            (first != "mod.rs").then(|| PathBuf::from(first))
        };
        let mut uses: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
        for source in &sources {
            let Some(own) = entry(&source.path) else { continue };
            let targets = used(source).into_iter().filter_map(|path| entry(&file_of(&path, &files)?));
            uses.entry(own.clone()).or_default().extend(targets.filter(|target| *target != own));
        }
        // What is left when entries that use nothing of the rest are taken away, again and again, is in circles.
        loop {
            let free: Vec<PathBuf> =
                uses.iter().filter(|(_, t)| t.is_empty()).map(|(e, _)| e.clone()).collect();
            if free.is_empty() {
                break;
            }
            uses.retain(|e, _| !free.contains(e));
            uses.values_mut().for_each(|targets| targets.retain(|t| !free.contains(t)));
        }
        assert!(uses.is_empty(), "in {}, entries in circles or using some: {uses:#?}", folder.display());
    }
}

//! The pages, what stands in them, and that their links lead somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use support::root;

pub fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// README and every page of `docs`, by name.
pub fn all() -> BTreeMap<String, String> {
    let docs = std::fs::read_dir(root().join("docs")).unwrap();
    let names = docs.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|n| n.ends_with(".md")).map(|n| format!("docs/{n}")).collect();
    names.push("README.md".into());
    assert!(names.len() >= 6, "{names:?}");
    names.into_iter().map(|name| (name.clone(), read(&name))).collect()
}

/// The fenced blocks of a language in a page.
pub fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(tag) = line.strip_prefix("```") {
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            if tag == language {
                found.push(body.join("\n"));
            }
        }
    }
    found
}

/// A page without its fenced blocks.
pub fn prose(page: &str) -> String {
    let mut inside = false;
    let outside = page.lines().filter(|line| {
        let fence = line.starts_with("```");
        inside ^= fence;
        !inside && !fence
    });
    outside.collect::<Vec<_>>().join("\n")
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut taken = BTreeSet::new();
    for heading in prose(page).lines().filter(|line| line.starts_with('#')) {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' '));
        let slug = kept.collect::<String>().replace(' ', "-");
        let repeated = (1..).map(|i| format!("{slug}-{i}"));
        let free = std::iter::once(slug.clone()).chain(repeated).find(|s| !taken.contains(s));
        taken.extend(free);
    }
    taken
}

/// The targets of a page's links and pictures.
fn links(page: &str) -> Vec<String> {
    let prose = prose(page);
    let ends = prose.match_indices("](").map(|(at, _)| &prose[at + 2..]);
    ends.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_string()).collect()
}

#[test]
fn links_lead_somewhere() {
    let pages = all();
    let mut count = 0;
    for (name, page) in &pages {
        let folder = Path::new(name).parent().unwrap();
        for link in links(page).iter().filter(|link| !link.starts_with("https://")) {
            let (file, anchor) = link.split_once('#').map_or((link.as_str(), None), |(f, a)| (f, Some(a)));
            let path = if file.is_empty() { PathBuf::from(name) } else { folder.join(file) };
            let path = root().join(path).canonicalize().unwrap_or_else(|e| panic!("{name}: {link}: {e}"));
            if let Some(anchor) = anchor {
                let text = std::fs::read_to_string(path).unwrap();
                assert!(anchors(&text).contains(anchor), "{name}: {link}: {:?}", anchors(&text));
            }
            count += 1;
        }
    }
    assert!(count > 40, "{count} links");
}

/// Marks of figures and names that were to be put in, `@SO@`, are gone.
#[test]
fn nothing_is_left_to_be_put_in() {
    let is_mark = |word: &&str| word.len() > 2 && word.starts_with('@') && word.ends_with('@');
    for (name, page) in all() {
        let left: Vec<&str> = page.split_whitespace().filter(is_mark).collect();
        assert!(left.is_empty(), "{name}: {left:?}");
    }
}

/// Every page is linked from the README.
#[test]
fn every_page_is_found() {
    let pages = all();
    for name in pages.keys().filter(|name| *name != "README.md") {
        assert!(links(&pages["README.md"]).contains(name), "{name}");
    }
}

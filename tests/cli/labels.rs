//! Labels as people write them, and the list of them.

use super::{MODEL, fails, softdimo, works};

#[test]
fn labels_are_matched_suggested_and_asked_about() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let make = |label: &str, name: &str| {
        works(&["generate", "--label", label, "--seed", "3", "-o", &path(name)]);
        std::fs::read(path(name)).unwrap()
    };
    let pixels = |name: &str| softdimo::image::read_png(path(name)).unwrap().0;
    make("red apple", "apple.png");
    for label in ["red_apple", "Red-Apples", "redapple"] {
        make(label, "other.png");
        assert!(pixels("other.png") == pixels("apple.png"), "{label}");
    }
    make("dogs", "dogs.png");
    for (label, meant) in [("rockt", "rocket"), ("piza", "pizza")] {
        let error = fails(1, &["generate", "--label", label, "-o", &path("none.png")]);
        assert!(error.contains(&format!("(close: {meant})")), "{error}");
    }
}

#[test]
fn a_terminal_obeys_no_message() {
    let said = fails(1, &["generate", "--label", "red apple\u{1b}[2J\u{9b}2J", "-o", "none.png"]);
    assert!(said.contains(r"red apple\u{1b}[2J\u{9b}2J") && !said.contains('\u{1b}'), "{said}");
}

#[test]
fn labels_are_listed_for_people_and_scripts() {
    let all = works(&["labels", "--model", MODEL]);
    let lines: Vec<(usize, &str)> =
        all.lines().map(|l| l.split_once('\t').unwrap()).map(|(id, l)| (id.parse().unwrap(), l)).collect();
    assert_eq!(lines.len(), 181);
    assert!(lines.iter().enumerate().all(|(i, (id, _))| i == *id));
    let apples: Vec<_> = lines.iter().filter(|(_, label)| label.contains("apple")).collect();
    let filtered = works(&["labels", "APPLE"]);
    assert_eq!(filtered.lines().count(), apples.len());
    assert!(filtered.contains(&format!("{}\tred apple\n", apples[1].0)), "{filtered}");
    assert!(works(&["labels", "rokcet"]).ends_with("\trocket\n"));
    let nothing = softdimo(&["labels", "xqzwv"]);
    assert_eq!((nothing.status.code(), &nothing.stdout[..]), (Some(1), &b""[..]));
    assert!(fails(1, &["labels", "xqzwv"]).contains("none of 181 labels"));
}

#[test]
fn what_nothing_reads_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a.png").to_string_lossy().into_owned();
    let run = |more: &[&str]| {
        let output = softdimo(&[&["generate", "--json", "-o", &out][..], more].concat());
        assert!(output.status.success());
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (String::from_utf8(output.stderr).unwrap(), report)
    };
    let (stderr, report) = run(&["--label", "dog"]);
    assert!(!stderr.contains("warning"), "{stderr}");
    assert!(report["warnings"].is_null(), "{report}");
    for (arguments, warning) in [
        (&["--guidance-scale", "3", "--label", "dog"][..], "guidance_scale is not used: only the multi-step"),
        (&["--steps", "3", "--sigma", "0.2", "--label", "dog"], "sigma is not used: only a one-step job"),
        (&[], "no label is given"),
    ] {
        let (stderr, report) = run(arguments);
        assert!(stderr.contains(&format!("softdimo: warning: {warning}")), "{stderr}");
        assert!(report["warnings"][0].as_str().unwrap().starts_with(warning), "{report}");
        assert!(report["warnings"][1].is_null(), "{report}");
    }
}

//! `--like`: every kind of picture is made again from its own PNG, byte for byte; hostile text is refused.

use std::io::{BufRead, BufReader};
use std::path::Path;

use softdimo::image::{RgbaImage, read_png, write_png};

use super::{MODEL, fails, softdimo, start, works};

fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_string_lossy().into_owned()
}

/// What `--like` says, having made the pixels of `original` again by `arguments`.
fn remade(command: &str, original: &str, arguments: &[&str]) -> String {
    let again = format!("{original}.again.png");
    let output = softdimo(&[&[command, "--like", original, "-o", &again], arguments].concat());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert!(read_png(original).unwrap().0 == read_png(&again).unwrap().0, "{original}: other pixels");
    // The copy says the same of itself.
    let recipe = |path: &str| saved(path, "softdimo-request")["options"].clone();
    assert_eq!(recipe(original), recipe(&again));
    stderr
}

fn saved(path: &str, keyword: &str) -> serde_json::Value {
    let (_, text) = read_png(path).unwrap();
    serde_json::from_str(&text.iter().find(|(k, _)| k == keyword).unwrap().1).unwrap()
}

#[test]
fn every_kind_of_generated_picture_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| text(folder.path().join(name));
    let (small, mask) = (path("small.png"), path("mask.png"));
    works(&["generate", "--label", "red apple", "--seed", "7", "--enlarge", "1", "-o", &small]);
    let half: Vec<u8> = (0..32 * 32).flat_map(|i| [if i % 32 < 16 { 255 } else { 0 }; 4]).collect();
    write_png(&mask, &RgbaImage::new(32, 32, half).unwrap().view(), &[]).unwrap();
    let colors = path("colors.hex");
    std::fs::write(&colors, "ff0000\n00ff00\n0000ff\nffffff\n").unwrap();
    let kinds: [(&str, &[&str]); 10] = [
        (
            "few",
            &[
                "--label",
                "dog",
                "--palette",
                "5",
                "--dither",
                "--matte",
                "--matte-holes",
                "4",
                "--count",
                "2",
            ],
        ),
        (
            "given",
            &[
                "--label",
                "dog",
                "--palette",
                &colors,
                "--scaling",
                "smooth",
                "--dither=4",
                "--dither-strength=0.5",
            ],
        ),
        ("place", &["--label", "rocket", "--seed", "9", "--place", "-3,12", "--count", "2"]),
        ("one", &["--label", "red apple", "--seed", "7"]),
        ("sheet", &["--label", "rocket", "--class", "3", "--count", "2", "--seed", "18446744073709551615"]),
        (
            "options",
            &["--class", "5", "--temperature", "0.7", "--top-k", "9", "--sigma", "0.2", "--memory", "fast"],
        ),
        ("soft", &["--label", "rocket", "--decode", "soft", "--enlarge", "3"]),
        ("teacher", &["--label", "rocket", "--steps", "3", "--guidance-scale", "2.5"]),
        ("keep", &["--label", "rocket", "--edit", &small, "--keep", "0.4", "--seed", "2"]),
        ("masked", &["--label", "rocket", "--edit", &small, "--mask", &mask]),
    ];
    for (name, arguments) in kinds {
        let original = path(&format!("{name}.png"));
        works(&[&["generate", "-o", &original], arguments].concat());
        let said = remade("generate", &original, &[]);
        assert!(!said.contains("warning"), "{name}: {said}");
    }
    let files = &saved(&path("masked.png"), "softdimo-request")["files"];
    let named: Vec<&str> = files.as_array().unwrap().iter().map(|f| f["option"].as_str().unwrap()).collect();
    assert_eq!(named, ["model", "edit", "mask"]);
    assert_eq!(
        files[0]["path"], "emoji-32.softdimo.safetensors",
        "where nobody named it is nobody's business"
    );

    // A sheet may have more pixels than can be read back: its text is enough.
    let mut bytes = std::fs::read(path("sheet.png")).unwrap();
    bytes[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    std::fs::write(path("huge.png"), bytes).unwrap();
    works(&["generate", "--like", &path("huge.png"), "-o", &path("again.png")]);
    assert!(read_png(path("again.png")).unwrap().0 == read_png(path("sheet.png")).unwrap().0);

    // What is given beside it takes its place: the label that of all labels and classes.
    let (sheet, other, plain) = (path("sheet.png"), path("other.png"), path("plain.png"));
    works(&["generate", "--like", &sheet, "--label", "dog", "--seed", "1", "--count=1", "-o", &other]);
    works(&["generate", "--label", "dog", "--seed", "1", "-o", &plain]);
    assert!(read_png(&other).unwrap().0 == read_png(&plain).unwrap().0);

    // The edited picture has changed since, or is gone.
    works(&["generate", "--label", "dog", "--enlarge", "1", "-o", &small]);
    let keep = path("keep.png");
    let output = softdimo(&["generate", "--like", &keep, "-o", &other]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("warning: --edit '"), "{said}");
    std::fs::remove_file(&small).unwrap();
    let said = fails(1, &["generate", "--like", &keep, "-o", &other]);
    assert!(said.contains("small.png' it was made with; or give --edit beside --like"), "{said}");
}

#[test]
fn separate_files_speak_for_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let out = text(folder.path().join("x.png"));
    let labels = ["--label", "dog", "--class", "0"];
    works(&[&["generate", "--seed", "4", "--count", "2", "--separate", "-o", &out], &labels[..]].concat());
    for (name, seed) in [("dog", 4), ("dog", 5), ("grinning-face", 4), ("grinning-face", 5)] {
        let original = text(folder.path().join(format!("x-{name}-{seed}.png")));
        let report = saved(&original, "softdimo");
        assert_eq!((&report["seed"], &report["batch"]), (&seed.into(), &1.into()));
        assert_eq!(report["labels"].as_array().unwrap().len(), 1);
        assert_eq!(report["mean_max_probability"].as_array().unwrap().len(), 1);
        remade("generate", &original, &[]);
    }
}

#[test]
fn an_optimised_picture_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| text(folder.path().join(name));
    let (target, original, curve) = (path("target.png"), path("optimised.png"), path("curve.png"));
    works(&["generate", "--label", "dog", "--enlarge", "1", "-o", &target]);
    let reward = format!("0.5*target={target}");
    let rewards = ["--reward", "-1*color=-1,-1,1", "--reward", &reward, "--reward", "0.15*prior"];
    let rule = ["--optimizer", "adam", "--lr", "0.03", "--clip", "0.5", "--steps", "3"];
    let subject = ["optimize", "--label", "red apple", "--seed", "1", "--count", "2", "--curve", &curve];
    works(
        &[&subject[..], &rewards, &rule, &["--variable", "noise", "--variable", "class", "-o", &original]]
            .concat(),
    );
    let said = remade("optimize", &original, &[]);
    assert!(!said.contains("warning"), "{said}");

    let recipe = saved(&original, "softdimo-request");
    assert_eq!(recipe["files"][1]["path"], target);
    assert_eq!(recipe["files"][1]["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(recipe, saved(&curve, "softdimo-request"));
    assert_eq!(saved(&original, "softdimo")["optimization"]["weights"][1], 0.5);

    // A loop that its deadline ended is one of the steps it took.
    let brief = path("brief.png");
    let endless = ["--steps", "100000", "--deadline", "1000", "--reward", "color=-1,-1,1", "--label", "dog"];
    works(&[&["optimize", "-o", &brief], &endless[..]].concat());
    let steps = saved(&brief, "softdimo")["optimization"]["iterations"].as_array().unwrap().len() - 1;
    assert!(steps < 100_000);
    let options = saved(&brief, "softdimo-request")["options"].clone();
    assert!(
        options.as_array().unwrap().contains(&serde_json::json!(["steps", steps.to_string()])),
        "{options}"
    );
    remade("optimize", &brief, &[]);

    // What it was like is known once the work has begun, whatever becomes of the picture.
    let again = path("again.png");
    let mut child =
        start(&["optimize", "--like", &brief, "--steps", "100000", "--deadline", "1500", "-o", &again]);
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(told.by_ref().any(|line| line.unwrap().starts_with("optimising: ")));
    std::fs::rename(&brief, path("moved.png")).unwrap();
    for _ in told {}
    assert!(child.wait().unwrap().success());
    assert!(read_png(&again).is_ok());

    let said = fails(1, &["generate", "--like", &original, "-o", &brief]);
    assert!(said.contains("made by `softdimo generate`") && said.contains("`softdimo optimize`"), "{said}");
}

#[test]
fn a_prompted_picture_is_made_again_and_another_model_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| text(folder.path().join(name));
    let model = text(support::meissonic::model(folder.path()));
    for (name, more) in [
        ("one", &["--prompt", "a red apple", "--prompt", "--dashes, \"quotes\" and 北京"][..]),
        ("teacher", &["--prompt", "a red apple", "--steps", "3", "--negative-prompt", "-blue"]),
    ] {
        let original = path(&format!("{name}.png"));
        let values: Vec<String> = more.chunks(2).map(|o| format!("{}={}", o[0], o[1])).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        works(&[&["generate", "--model", &model, "--seed", "5", "-o", &original], &values[..]].concat());
        remade("generate", &original, &[]);
    }
    // The same weights in another file: the pixels are the same, and the other hash is said.
    let (plain, copy) = (path("plain.png"), path("copy.safetensors"));
    works(&["generate", "--label", "dog", "-o", &plain]);
    let mut bytes = std::fs::read(support::root().join(MODEL)).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&copy, bytes).unwrap();
    let output = softdimo(&["generate", "--like", &plain, "--model", &copy, "-o", &path("b.png")]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let then = saved(&plain, "softdimo-request")["files"][0]["sha256"].as_str().unwrap().to_string();
    assert!(said.contains("warning: --model '") && said.contains(&format!("then {then}")), "{said}");
    assert_eq!(then.len(), 64);
}

#[test]
fn hostile_text_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| text(folder.path().join(name));
    let (file, out) = (path("hostile.png"), path("out.png"));
    let picture = RgbaImage::new(1, 1, vec![0; 4]).unwrap();
    let with = |options: &str| format!(r#"{{"command":"generate","options":{options},"files":[]}}"#);
    let many = format!("[{}]", vec![r#"["label","dog"]"#; 5000].join(","));
    let deep = "[".repeat(100_000);
    let evil = path("evil.png");
    let cases: [(&str, &str); 16] = [
        ("", "a JSON object of command, options and files, found EOF"),
        ("[1]", "a JSON object of command, options and files"),
        (&deep, "a JSON object of command, options and files"),
        (r#"{"command":"generate"}"#, "missing field"),
        (r#"{"command":"inspect\u001b[2J","options":[],"files":[]}"#, r"one of `softdimo inspect\u{1b}[2J`"),
        (&with(&format!(r#"[["output","{evil}"]]"#)), "found output"),
        (&with(r#"[["ort-library","/tmp/evil.so"]]"#), "found ort-library"),
        (&with(r#"[["like","x.png"]]"#), "found like"),
        (&with(r#"[["seed\u001b[2J","1"]]"#), r"found seed\u{1b}[2J"),
        (&with(r#"[["seed","\u001b[2J"]]"#), r"options of `softdimo generate`, found invalid value '"),
        (&with(r#"[["edit","/dev/zero"]]"#), "no such file"),
        (&with(r#"[["model","/dev/stdin"]]"#), "no such file"),
        (&with(r#"[["edit","/proc/cpuinfo"]]"#), "found an empty one"),
        (&with(r#"[["keep","0.5"]]"#), "options of `softdimo generate`"),
        (&with(&many), "at most 4096 options and files, found 5000"),
        (&" ".repeat(2 << 20), "at most 1048576 bytes"),
    ];
    for (text, expected) in cases {
        write_png(&file, &picture.view(), &[("softdimo-request".into(), text.into())]).unwrap();
        let said = fails(1, &["generate", "--like", &file, "-o", &out]);
        assert!(said.contains(expected), "{expected}: {said}");
        assert!(said.contains("hostile.png") && !said.contains('\u{1b}') && said.len() < 2000, "{said}");
    }
    let twice: Vec<(String, String)> = vec![("softdimo-request".into(), with("[]")); 2];
    write_png(&file, &picture.view(), &twice).unwrap();
    assert!(fails(1, &["generate", "--like", &file, "-o", &out]).contains("found several"));
    write_png(&file, &picture.view(), &[]).unwrap();
    assert!(fails(1, &["generate", "--like", &file, "-o", &out]).contains("'softdimo-request'"));
    assert!(fails(1, &["generate", "--like", "README.md", "-o", &out]).contains("PNG"));
    assert!(fails(1, &["generate", "--like", "none.png", "-o", &out]).contains("'none.png' not found"));
    assert!(!Path::new(&out).exists() && !Path::new(&evil).exists());
    // `optimize` needs a reward, or a picture that has one.
    assert!(fails(2, &["optimize", "--label", "dog", "-o", &out]).contains("--reward"));
}

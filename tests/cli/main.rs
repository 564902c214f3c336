//! The command line, as scripts use it: exit statuses, outputs, PNG metadata, error texts.

mod bench;
mod checkpoints;
mod families;
mod int8;
mod labels;
mod like;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod openvino;
mod outputs;
mod rewards;
mod signals;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use softdimo::image::read_png;
use support::{data, rewards as official, root};

fn softdimo(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_softdimo")).args(arguments).current_dir(root()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Run, expect this exit status, and return stderr.
fn fails(status: i32, arguments: &[&str]) -> String {
    let output = softdimo(arguments);
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

fn works(arguments: &[&str]) -> String {
    let output = softdimo(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    stdout(&output)
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn start(arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_softdimo"));
    command.args(arguments).current_dir(root()).env("SOFTDIMO_PROGRESS_MS", "1");
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

const MODEL: &str = "models/emoji-32.softdimo.safetensors";

#[test]
fn generate_writes_a_sheet_that_can_be_reproduced() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| -> String { folder.path().join(name).to_string_lossy().into_owned() };
    let (a, b, c) = (path("a.png"), path("b.png"), path("c.png"));
    let labels = ["--label", "red apple", "--label", "ROCKET"];
    let run = |out: &str, seed: &str| {
        let arguments = ["generate", "--seed", seed, "--count", "2", "--enlarge", "2", "--json", "-o", out];
        works(&[&arguments[..], &labels[..]].concat())
    };
    let report = run(&a, "7");
    run(&b, "7");
    run(&c, "8");
    let (sheet, text) = read_png(&a).unwrap();
    assert_eq!((sheet.width(), sheet.height()), (2 * 64 + 2, 2 * 64 + 2));
    assert!(sheet == read_png(&b).unwrap().0, "same seed, other picture");
    assert!(sheet != read_png(&c).unwrap().0, "other seed, same picture");
    let lines: Vec<serde_json::Value> = report.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1]["labels"][0], "rocket");
    assert!(lines[0]["soft_hard_difference"][0].as_f64().unwrap() < 0.1);
    // The PNG carries the reports, so that the pictures can be made again from the file alone.
    let saved = &text.iter().find(|(k, _)| k == "softdimo").unwrap().1;
    let saved: serde_json::Value = serde_json::from_str(saved).unwrap();
    assert_eq!(saved[0]["seed"], 7);
    assert_eq!(saved[1]["classes"][1], lines[1]["classes"][1]);
}

#[test]
fn generate_separate_files_and_teacher() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("x.png").to_string_lossy().into_owned();
    works(&["generate", "--class", "0", "--count", "2", "--seed", "3", "--separate", "-o", &out]);
    for seed in [3, 4] {
        let name: PathBuf = folder.path().join(format!("x-grinning-face-{seed}.png"));
        assert_eq!(read_png(&name).unwrap().0.width(), 256);
    }
    works(&["generate", "--label", "rocket", "--steps", "3", "-o", &out]);
    works(&[
        "generate",
        "--label",
        "rocket",
        "--decode",
        "soft",
        "--memory",
        "fast",
        "--threads",
        "2",
        "-o",
        &out,
    ]);
    assert_eq!(read_png(&out).unwrap().0.height(), 256);
}

/// The pictures of a place are those of its seed, in a sheet and in files that speak for themselves.
#[test]
fn a_place_has_the_pictures_of_its_seed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let seed = softdimo::seed(7, [-3, 12, 0]);
    let common = ["generate", "--label", "dog", "--count", "2", "--enlarge", "1", "-o"];
    works(&[&common[..], &[&path("place.png"), "--seed", "7", "--place", "-3,12"]].concat());
    works(&[&common[..], &[&path("seed.png"), "--seed", &seed.to_string()]].concat());
    assert!(read_png(path("place.png")).unwrap().0 == read_png(path("seed.png")).unwrap().0);
    works(&[&common[..], &[&path("x.png"), "--seed", "7", "--place", "-3,12,0", "--separate"]].concat());
    for b in 0..2 {
        let name = path(&format!("x-dog-{}.png", seed.wrapping_add(b)));
        let again = path("again.png");
        works(&["generate", "--like", &name, "-o", &again]);
        assert!(read_png(&name).unwrap().0 == read_png(&again).unwrap().0, "{b}");
    }
    for bad in ["1", "1,2,3,4", "1,x", "", "1,9223372036854775808"] {
        let said = fails(2, &["generate", "--place", bad, "-o", &path("no.png")]);
        assert!(said.contains("expected two or three whole numbers"), "{bad}: {said}");
    }
}

/// Sizes, palettes and mattes, and that an enlarged picture is edited as the small one it was.
#[test]
fn pictures_are_written_in_a_style() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let make = |name: &str, options: &[&str]| {
        works(&[&["generate", "--label", "red apple", "--seed", "3", "-o", &path(name)], options].concat());
        read_png(path(name)).unwrap().0
    };
    let plain = make("plain.png", &["--enlarge", "1"]);
    assert!(make("large.png", &["--enlarge", "3"]) == plain.enlarge(3).unwrap());
    let smooth = make("smooth.png", &["--enlarge", "5", "--scaling", "smooth"]);
    assert!(smooth.width() == 160 && smooth != plain.enlarge(5).unwrap());
    let cut = make("cut.png", &["--enlarge", "1", "--matte"]);
    assert!(cut.data()[3] == 0 && plain.data().chunks(4).all(|pixel| pixel[3] == 255));

    std::fs::write(path("list.hex"), "; three colours\n\n#ff0000\n102030\r\n00A000\n").unwrap();
    let colors: [&[u8]; 3] = [&[255, 0, 0], &[16, 32, 48], &[0, 160, 0]];
    for dither in [&["--dither"][..], &["--dither", "4", "--dither-strength", "0.5"], &[]] {
        let few = make("few.png", &[&["--palette", &path("list.hex"), "--enlarge", "1"], dither].concat());
        assert!(few.data().chunks(4).all(|pixel| colors.contains(&&pixel[..3])));
        // A picture that has the colours is a palette as well.
        assert!(
            few == make("again.png", &[&["--palette", &path("few.png"), "--enlarge", "1"], dither].concat())
        );
    }
    let two = make("two.png", &["--palette", "2", "--enlarge", "1"]);
    let mut pixels: Vec<&[u8]> = two.data().chunks(4).collect();
    pixels.sort_unstable();
    pixels.dedup();
    assert_eq!(pixels.len(), 2);

    // An edit of each that keeps everything reconstructs the same picture, or nearly.
    let edited = |name: &str| {
        let from = path(name);
        make("edited.png", &["--edit", &from, "--keep", "1", "--enlarge", "1"])
    };
    let reconstructed = edited("plain.png");
    assert!(edited("large.png") == reconstructed);
    let far = |a: &softdimo::image::RgbaImage| {
        let apart = a.data().iter().zip(reconstructed.data()).map(|(a, b)| f64::from(a.abs_diff(*b)));
        apart.sum::<f64>() / a.data().len() as f64
    };
    assert!(far(&edited("smooth.png")) < 6.0, "{}", far(&edited("smooth.png")));
    let said = fails(1, &["generate", "--edit", &path("no.png"), "-o", &path("x.png")]);
    assert!(said.contains("not found"), "{said}");

    for (options, words) in [
        (&["--palette", "1"][..], "--palette: expected 2 to 256 colours, found 1"),
        (&["--palette", "none.hex"], "none.hex' not found"),
        (&["--palette", MODEL], "hexadecimal digits, found more than 65536 bytes"),
        (&["--palette", "/dev/zero"], "hexadecimal digits, found more than 65536 bytes"),
        (&["--palette", "/dev/null"], "expected 2 to 256 colours, found 0"),
        (&["--palette", "Cargo.toml"], "in line 1"),
        (&["--palette", "docs/sample.png"], "expected 2 to 256 colours, found a picture of more"),
        (&["--matte", "1.5"], "--matte: expected 0 to 1, found 1.5"),
        (
            &["--palette", "4", "--dither", "4", "--dither-strength", "NaN"],
            "--dither-strength: expected 0 to 1",
        ),
    ] {
        let said = fails(1, &[&["generate", "-o", &path("x.png")], options].concat());
        assert!(said.contains(words), "{options:?}: {said}");
    }
    for wrong in [&["--dither", "4"][..], &["--palette", "4", "--dither", "5"], &["--matte-holes", "4"]] {
        fails(2, &[&["generate", "-o", &path("x.png")], wrong].concat());
    }
}

#[test]
fn inspect_checks_the_hash() {
    let text = works(&["inspect", MODEL]);
    assert!(text.contains("181 (181 named)") && text.contains("matches the tensors"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&works(&["inspect", "--json", MODEL])).unwrap();
    assert_eq!(json["sha256_matches"], true);
    assert_eq!(json["config"]["family"], "maskbit");
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.softdimo.safetensors");
    let mut bytes = std::fs::read(root().join(MODEL)).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&broken, bytes).unwrap();
    let output = softdimo(&["inspect", broken.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("DOES NOT MATCH"));
}

#[test]
fn verify_prints_a_line_per_tensor_and_judges() {
    let golden = "tests/data/emoji-32.golden.safetensors";
    let text = works(&["verify", MODEL, golden]);
    assert!(text.lines().any(|l| l.starts_with("b0/out/logits ") && l.ends_with("ok")), "{text}");
    let output = softdimo(&["verify", MODEL, golden, "--tolerance", "1e-9"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("FAILED"));
    let other = fails(1, &["verify", MODEL, "tests/data/maskbit/golden.safetensors"]);
    assert!(other.contains("noise") || other.contains("shape") || other.contains("broadcast"), "{other}");
    fails(1, &["verify", MODEL, MODEL]);
}

#[test]
fn convert_names_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("m.softdimo.safetensors").to_string_lossy().into_owned();
    let g = "tests/data/maskbit/generator.safetensors";
    let t = "tests/data/maskbit/tokenizer.safetensors";
    fn convert<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        [&["convert", "maskbit", "-o", out], more].concat()
    }
    assert!(works(&convert(&out, &["--generator", g, "--tokenizer", t])).contains("165 tensors"));
    let cases: [(&[&str], &str); 5] = [
        (
            &["--generator", t, "--tokenizer", g],
            "expected a MaskBit generator's tensors, such as 'class_emb.weight', found 117",
        ),
        (&["--generator", "tests/data/maskbit/generator.bin", "--tokenizer", t], "config 'config'"),
        (&["--generator", "no-such-file", "--tokenizer", t], "file 'no-such-file' not found"),
        (&["--tokenizer", t], "a student (--generator) or a teacher (--teacher)"),
        (&["--generator", "README.md", "--tokenizer", t], "README.md"),
    ];
    for (arguments, expected) in cases {
        let message = fails(1, &convert(&out, arguments));
        assert!(message.contains(expected), "{arguments:?}: {message}");
    }
}

/// A generator's file and a reward's, narrowed; what is int8 already is refused.
#[test]
fn quantize_narrows_model_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| -> String { folder.path().join(name).to_string_lossy().into_owned() };
    let (wide, int8, f16) = (path("wide"), path("int8"), path("f16"));
    let g = "tests/data/maskbit/generator.safetensors";
    let t = "tests/data/maskbit/tokenizer.safetensors";
    works(&["convert", "maskbit", "--generator", g, "--tokenizer", t, "-o", &wide]);
    let inspect = |file: &str| -> serde_json::Value {
        serde_json::from_str(&works(&["inspect", "--json", file])).unwrap()
    };
    let parameters = |v: &serde_json::Value| -> Vec<serde_json::Value> {
        let part = |c: &serde_json::Value| serde_json::json!([c["name"], c["tensors"], c["parameters"]]);
        v["components"].as_array().unwrap().iter().map(part).collect()
    };
    let before = inspect(&wide);
    let int4 = path("int4");
    for (dtype, file, narrow) in [("int8", &int8, "i8"), ("f16", &f16, "f16"), ("int4", &int4, "u8")] {
        works(&["quantize", &wide, "--dtype", dtype, "-o", file]);
        let after = inspect(file);
        assert!(after["dtypes"][narrow].as_u64() > after["dtypes"]["f32"].as_u64(), "{after}");
        assert_eq!(after["sha256_matches"], true);
        assert_eq!(after["metadata"]["softdimo.source"], before["metadata"]["softdimo.source"]);
        // Scales are no parameters.
        assert_eq!(parameters(&after), parameters(&before));
        assert!(works(&["inspect", file]).contains(&format!("quantization  {dtype}")));
    }
    let refused = fails(1, &["quantize", &int8, "--dtype", "f16", "-o", &path("again")]);
    assert!(refused.contains("expected float weights to quantise, found i8["), "{refused}");
    let refused = fails(1, &["quantize", &int4, "--dtype", "int8", "-o", &path("again")]);
    assert!(refused.contains("its weights are int4, which is not widened again"), "{refused}");
    let listed = works(&["inspect", "--tensors", &int4]);
    assert!(listed.contains("student.transformer.layers.0.1.net.0.weight.int4 u8[48, 48]"), "{listed}");
    fails(2, &["quantize", &wide, "-o", &path("again")]);
    fails(1, &["quantize", g, "--dtype", "int8", "-o", &path("again")]);

    let reward = path("reward");
    official::clip_score(&folder.path().join("clip"));
    works(&["convert", "clip-score", "--checkpoint", &path("clip"), "-o", &reward]);
    let refused = fails(1, &["quantize", &reward, "--dtype", "int4", "-o", &path("again")]);
    assert!(
        refused.contains("the dtype of a reward's weights: expected f16, int8 or int8-rows"),
        "{refused}"
    );
    works(&["quantize", &reward, "--dtype", "int8", "-o", &int8]);
    let text = works(&["inspect", &int8]);
    assert!(text.contains("clip_score (a reward)") && text.contains("quantization  int8"), "{text}");
}

/// Convert, inspect and climb a reward file, and what each refuses.
#[test]
fn rewards_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| -> String { folder.path().join(name).to_string_lossy().into_owned() };
    official::clip_score(&folder.path().join("clip"));
    let (file, f16) = (path("clip.softdimo.safetensors"), path("half.softdimo.safetensors"));
    let convert = |out: &str, more: &[&str]| {
        let from = path("clip");
        works(
            &[&["convert", "clip-score", "--checkpoint", &from, "--title", "Tiny", "-o", out], more].concat(),
        )
    };
    assert!(convert(&file, &[]).contains("95 tensors"), "94 of CLIP and its vocabulary");
    convert(&f16, &["--dtype", "f16"]);
    let official = official::hpsv2(folder.path()).source;
    let (weights, vocabulary) = (official.checkpoint.to_string_lossy(), official.vocabulary.unwrap());
    let arguments = ["convert", "hpsv2", "--checkpoint", &weights, "-o"];
    std::fs::create_dir(path("alone")).unwrap();
    let alone = path("alone/hps.safetensors");
    std::fs::copy(&official.checkpoint, &alone).unwrap();
    std::fs::copy(path("open_clip_config.json"), path("alone/open_clip_config.json")).unwrap();
    let why = fails(1, &["convert", "hpsv2", "--checkpoint", &alone, "-o", &path("hps")]);
    assert!(why.contains("--vocabulary: expected CLIP's merges"), "{why}");
    let vocabulary = vocabulary.to_string_lossy();
    works(&[&arguments[..], &[&path("hps.safetensors"), "--vocabulary", &vocabulary]].concat());
    let rewards = |name: &str| data(&format!("rewards/{name}")).to_string_lossy().into_owned();
    let (tower, head) = (rewards("aesthetic.safetensors"), rewards("aesthetic.mlp.safetensors"));
    let aesthetic = path("aesthetic.softdimo.safetensors");
    works(&["convert", "aesthetic", "--checkpoint", &tower, "--head", &head, "-o", &aesthetic]);
    fails(2, &["convert", "aesthetic", "--checkpoint", &tower, "--vocabulary", "x", "-o", &aesthetic]);
    fails(2, &["convert", "clip-score", "-o", &file]);

    let text = works(&["inspect", &file]);
    assert!(text.contains("clip_score (a reward)") && text.contains("reads         a prompt"), "{text}");
    assert!(text.contains("title         Tiny") && text.contains("matches the tensors"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&works(&["inspect", "--json", &f16])).unwrap();
    assert_eq!((&json["config"]["family"], &json["sha256_matches"]), (&"clip_score".into(), &true.into()));
    assert!(json["dtypes"]["f16"].as_u64() > json["dtypes"]["f32"].as_u64());

    let sheet = path("sheet.png");
    let optimize =
        ["optimize", "--label", "red apple", "--steps", "3", "--lr", "0.05", "--clip", "1", "-o", &sheet];
    let climb = |rewards: &[&str], more: &[&str]| -> Vec<String> {
        let rewards = rewards.iter().flat_map(|reward| ["--reward", reward]);
        optimize.iter().copied().chain(rewards).chain(more.iter().copied()).map(String::from).collect()
    };
    let run = |arguments: Vec<String>| works(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let refused =
        |arguments: Vec<String>| fails(1, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let half = format!("0.5*{f16}");
    let report = run(climb(&[&file, &half, &aesthetic], &["--prompt", "red apple", "--json"]));
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let course = &report["optimization"];
    assert_eq!(course["rewards"], serde_json::json!(["clip_score", "clip_score", "aesthetic"]));
    assert_eq!(course["weights"], serde_json::json!([1.0, 0.5, 1.0]));
    assert_eq!(report["prompts"], serde_json::json!(["red apple"]));
    let score = |k: usize, step: usize| course["iterations"][step]["rewards"][k][0].as_f64().unwrap();
    assert!(score(0, 3) > score(0, 0) && (score(0, 0) - score(1, 0)).abs() < 0.05);
    let colours = path("colours.png");
    std::fs::copy(&sheet, &colours).unwrap();
    let histogram = format!("histogram={colours}");
    assert!(run(climb(&[&histogram, "0.1*closeness"], &["--memory", "fast"])).contains("histogram"));

    let named = "which the reward 'clip_score' reads, found none";
    assert!(refused(climb(&[&file], &[])).contains(named));
    assert!(refused(climb(&[&histogram], &["--prompt", "x"])).contains("request.prompt is not supported"));
    let message = refused(climb(&[&format!("{file}=dog")], &["--prompt", "x"]));
    assert!(message.contains("a class for the reward 'clip_score' is not supported"), "{message}");
    assert!(refused(climb(&[MODEL], &[])).contains("a generator is opened as an engine"));
    assert!(refused(climb(&["none.softdimo.safetensors"], &[])).contains("not found"));
    assert!(
        refused(climb(&["brightness"], &[])).contains("closeness or a reward file[=CLASS], found brightness")
    );
    let generate = fails(1, &["generate", "--model", &file, "--label", "x", "-o", &sheet]);
    assert!(generate.contains("found the reward 'clip_score', which is opened as a reward"), "{generate}");
}

/// Table, sparkline, sheet and curve of a climb; the same as JSON; and that nothing is printed beside it.
#[test]
fn optimize_shows_before_after_and_the_course() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| -> String { folder.path().join(name).to_string_lossy().into_owned() };
    let (sheet, again, curve) = (path("sheet.png"), path("again.png"), path("curve.png"));
    let climb = |more: &[&str]| {
        let common = ["optimize", "--label", "red apple", "--seed", "10", "--count", "2", "--steps", "6"];
        let rule =
            ["--optimizer", "adam", "--lr", "0.03", "--reward", "color=-1,-1,1", "--reward", "0.1*prior"];
        works(&[&common[..], &rule[..], more].concat())
    };
    let table = climb(&["-o", &sheet, "--curve", &curve]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 1 + 7 + 2, "{table}");
    assert!(
        lines[0].contains("total") && lines[0].contains("color") && lines[0].contains("prior"),
        "{table}"
    );
    let total = |line: &str| -> f32 { line.split_whitespace().nth(1).unwrap().parse().unwrap() };
    assert!(total(lines[7]) > total(lines[1]), "nothing climbed: {table}");
    let sparks = lines[8].strip_prefix("total  ").unwrap();
    assert!(sparks.chars().count() == 7 && sparks.contains('▁') && sparks.contains('█'), "{table}");
    assert!(lines[9].starts_with("ended: steps; best iterate per picture: ["), "{table}");

    let json = climb(&["-o", &again, "--json"]);
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    let course = &report["optimization"];
    assert_eq!(course["rewards"], serde_json::json!(["color", "prior"]));
    let means = course["iterations"].as_array().unwrap().iter().map(|i| {
        let of = |b: usize| i["total"][b].as_f64().unwrap() as f32;
        (of(0) + of(1)) / 2.0
    });
    let means: Vec<f32> = means.collect();
    assert_eq!(means.len(), 7);
    for (line, mean) in lines[1..8].iter().zip(&means) {
        assert!((total(line) - mean).abs() < 2e-5, "{line}: {mean}");
    }

    // Before above, after below, a column a seed; the first row is what `generate` makes.
    let (picture, text) = read_png(&sheet).unwrap();
    assert_eq!((picture.width(), picture.height()), (2 * 256 + 8, 2 * 256 + 8));
    assert!(picture == read_png(&again).unwrap().0);
    let saved = &text.iter().find(|(k, _)| k == "softdimo").unwrap().1;
    let saved: serde_json::Value = serde_json::from_str(saved).unwrap();
    assert_eq!(saved["optimization"]["best_step"], course["best_step"]);
    let plain = path("plain.png");
    works(&[
        "generate",
        "--label",
        "red apple",
        "--seed",
        "10",
        "--count",
        "2",
        "--enlarge",
        "8",
        "-o",
        &plain,
    ]);
    let (plain, _) = read_png(&plain).unwrap();
    let cell = |of: &softdimo::image::RgbaImage, x: u32, y: u32| -> Vec<u8> {
        let rows = (y..y + 256).map(|y| 4 * (y * of.width() + x) as usize);
        rows.flat_map(|at| of.data()[at..at + 4 * 256].to_vec()).collect()
    };
    for seed in 0..2 {
        assert!(cell(&picture, seed * 264, 0) == cell(&plain, 0, seed * (plain.height() - 256)), "{seed}");
        assert!(cell(&picture, seed * 264, 264) != cell(&picture, seed * 264, 0), "{seed} did not change");
    }

    // Panels for the total and both rewards, with the pictures in grey and the mean in blue.
    let (curve, text) = read_png(&curve).unwrap();
    assert_eq!((curve.width(), curve.height()), (560, 3 * 220 + 2 * 4));
    assert!(text.iter().any(|(k, _)| k == "softdimo"));
    for panel in 0..3 {
        let rows = panel * 224 * 560 * 4..(panel * 224 + 220) * 560 * 4;
        let count = |rgb: [u8; 3]| curve.data()[rows.clone()].chunks(4).filter(|p| p[..3] == rgb).count();
        assert!(count([0, 114, 178]) > 300 && count([211, 211, 211]) > 300, "{panel}");
    }
    let one = path("one.png");
    let target =
        ["optimize", "--class", "3", "--steps", "2", "--reward", "closeness", "-o", &sheet, "--curve", &one];
    works(&target);
    assert_eq!(read_png(&one).unwrap().0.height(), 220);
    fails(
        1,
        &["optimize", "--class", "3", "--reward", "closeness", "-o", &sheet, "--curve", "/nowhere/x.png"],
    );
}

#[test]
fn errors_say_what_was_expected() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("x.png");
    let out = out.to_str().unwrap();
    let message = fails(1, &["generate", "--label", "purple apple", "-o", out]);
    assert!(message.contains("close: red apple, green apple"), "{message}");
    assert!(fails(1, &["generate", "--class", "182", "-o", out]).contains("0 to 181"));
    assert!(
        fails(1, &["generate", "--provider", "tpu", "-o", out]).contains("'cpu' or 'cuda' or 'openvino'")
    );
    let limited = fails(1, &["generate", "--memory-limit", "4096", "-o", out]);
    assert!(limited.contains("expected at most the memory limit of 4096 bytes"), "{limited}");
    let cuda = fails(1, &["generate", "--provider", "cuda", "-o", out]);
    assert!(cuda.contains("libonnxruntime_providers_cuda.so"), "{cuda}");
    let missing = fails(1, &["generate", "--ort-library", "/nowhere/libonnxruntime.so", "-o", out]);
    assert!(missing.contains("/nowhere/libonnxruntime.so") && missing.contains("tried"), "{missing}");
    assert!(fails(1, &["generate", "--model", "README.md", "-o", out]).contains("README.md"));
    let sheet = root().join("docs/sample.png");
    let sheet = sheet.to_str().unwrap();
    let edit = fails(1, &["generate", "--label", "dog", "--edit", sheet, "-o", out]);
    assert!(edit.contains("sample.png: expected the model's 32x32 pixels, found"), "{edit}");
    let target = fails(1, &["optimize", "--label", "dog", "--reward", &format!("target={sheet}"), "-o", out]);
    assert!(target.contains("sample.png: expected the model's 32x32 pixels, found"), "{target}");
    fails(2, &["generate"]);
    fails(2, &["frobnicate"]);
    assert!(fails(1, &["generate", "--mask-ratio", "nan", "-o", out]).contains("mask_ratio"));
}

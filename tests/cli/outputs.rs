//! What the program writes where, and what it leaves behind: names, links, folders, many pictures, signals.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use softdimo::image::read_png;
use support::{maskbit, root};

use super::{fails, softdimo, works};

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

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn two_pictures_never_share_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("p.png");
    works(&["generate", "--label", "rocket", "--label", "ROCKET", "--separate", "-o", out.to_str().unwrap()]);
    assert_eq!(files(folder.path()), ["p-rocket-0-2.png", "p-rocket-0.png"]);
}

/// Also beyond the pictures that are made at once, and at the end of the seeds.
#[test]
fn each_file_says_what_makes_it_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (many, one) = (folder.path().join("many.png"), folder.path().join("one.png"));
    for (first, count) in [(4_u64, 10_u64), (u64::MAX, 2)] {
        let (seed, count_text) = (first.to_string(), count.to_string());
        let arguments: &[&str] = &["generate", "--label", "rocket"];
        let several = ["--seed", &seed, "--count", &count_text, "--separate", "-o", many.to_str().unwrap()];
        works(&[arguments, &several].concat());
        for i in 0..count {
            let seed = first.wrapping_add(i);
            let (picture, text) = read_png(folder.path().join(format!("many-rocket-{seed}.png"))).unwrap();
            let text = &text.iter().find(|(keyword, _)| keyword == "softdimo").unwrap().1;
            let said: serde_json::Value = serde_json::from_str(text).unwrap();
            assert_eq!((&said["seed"], &said["batch"]), (&seed.into(), &1.into()), "{text}");
            assert_eq!(said["classes"].as_array().unwrap().len(), 1, "{text}");
            assert_eq!(said["mean_max_probability"].as_array().unwrap().len(), 1, "{text}");
            let seed = said["seed"].to_string();
            works(&[arguments, &["--seed", &seed, "-o", one.to_str().unwrap()]].concat());
            assert!(read_png(&one).unwrap().0 == picture, "seed {seed}");
        }
    }
}

#[test]
fn a_link_stays_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let (link, target) = (folder.path().join("link.png"), folder.path().join("target.png"));
    std::os::unix::fs::symlink("target.png", &link).unwrap();
    works(&["generate", "--label", "rocket", "-o", link.to_str().unwrap()]);
    assert!(link.is_symlink() && read_png(&target).unwrap().0.width() == 256);
    let stdout = folder.path().join("stdout");
    std::os::unix::fs::symlink("/proc/self/fd/1", &stdout).unwrap();
    let pipe = fails(1, &["generate", "--label", "rocket", "-o", stdout.to_str().unwrap()]);
    assert!(pipe.contains("expected an ordinary file or none"), "{pipe}");
    assert!(stdout.is_symlink());
}

/// Before anything is opened or computed.
#[test]
fn what_cannot_be_written_or_asked_is_refused_first() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (fine, jpeg, nowhere) = (at("a.png"), at("a.jpg"), at("no/a.png"));
    let model = "/nowhere.softdimo.safetensors";
    for command in ["generate", "optimize"] {
        let says = |arguments: &[&str], words: &str| {
            let begin: &[&str] = match command {
                "optimize" => &["optimize", "--reward", "prior", "--model", model],
                _ => &["generate", "--model", model],
            };
            let error = fails(1, &[begin, arguments].concat());
            assert!(error.contains(words), "{arguments:?}: {error}");
        };
        says(&["-o", &jpeg], "expected a name that ends with .png: pictures are PNG, found jpg");
        says(&["-o", &nowhere], "expected an existing folder, found no '");
        says(&["-o", folder.path().to_str().unwrap()], "expected a file name, found a folder");
        says(&["-o", &fine], "file '/nowhere.softdimo.safetensors' not found");
    }
    let quantize = ["quantize", "models/emoji-32.softdimo.safetensors", "--dtype", "f16", "-o", &nowhere];
    assert!(fails(1, &quantize).contains("expected an existing folder"));
    let curve = ["optimize", "--reward", "prior", "--curve", &nowhere, "-o", &fine];
    assert!(fails(1, &curve).contains("--curve"));

    for (option, value, words) in [
        ("--count", "0", "0 is not in 1.."),
        ("--count", "-3", "-3 is not in 1.."),
        ("--seed", "-1", "expected a whole number from 0 to"),
        ("--enlarge", "0", "0 is not in 1..=64"),
        ("--top-k", "-2", "-2 is not in 0..="),
    ] {
        let error = fails(2, &["generate", option, value, "-o", &fine]);
        assert!(error.contains(option) && error.contains(words), "{error}");
    }
    let cold = fails(1, &["generate", "--temperature", "-1", "-o", &fine]);
    assert!(cold.contains("temperature: expected"), "{cold}");
    let many = fails(2, &["optimize", "--reward", "prior", "--count", "300", "-o", &fine]);
    assert!(many.contains("--count") && many.contains("300 is not in 1..=256"), "{many}");
    let prompt = fails(1, &["generate", "--prompt", "a dog", "-o", &fine]);
    assert!(prompt.contains("--prompt: expected --label"), "{prompt}");
    assert_eq!(files(folder.path()), Vec::<String>::new());
}

#[test]
fn an_empty_variable_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_softdimo"));
    command.args(["generate", "--label", "dog", "-o"]).arg(folder.path().join("a.png"));
    let output = command.current_dir(root()).env("SOFTDIMO_MODEL", "").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What the program writes by default, enlarged, it also edits.
#[test]
fn an_enlarged_picture_is_edited_as_the_one_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    for (name, enlarge) in [("small.png", "1"), ("large.png", "8")] {
        works(&["generate", "--label", "rocket", "--enlarge", enlarge, "-o", &at(name)]);
    }
    for (from, to) in [("small.png", "a.png"), ("large.png", "b.png")] {
        works(&["generate", "--edit", &at(from), "--label", "dog", "-o", &at(to)]);
    }
    assert!(read_png(at("a.png")).unwrap().0 == read_png(at("b.png")).unwrap().0);
    let (large, _) = read_png(at("large.png")).unwrap();
    let mut pixels = large.data().to_vec();
    pixels[4 * 256 * 100] ^= 1;
    let changed = softdimo::image::RgbaImage::new(256, 256, pixels).unwrap();
    softdimo::image::write_png(at("changed.png"), &changed.view(), &[]).unwrap();
    let error = fails(1, &["generate", "--edit", &at("changed.png"), "--label", "dog", "-o", &at("c.png")]);
    assert!(error.contains("write it with --enlarge 1"), "{error}");
}

/// Pictures are made some at a time: the same ones, in memory that does not grow with their number.
#[test]
fn many_pictures_take_the_memory_of_few() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let peak = |count: &str, out: &str| {
        let mut child = start(&["generate", "--label", "rocket", "--count", count, "-o", out]);
        let status = format!("/proc/{}/status", child.id());
        let mut peak = 0;
        while child.try_wait().unwrap().is_none() {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let line =
                text.lines().find_map(|l| l.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
            peak = peak.max(line.unwrap_or(0_u64));
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(child.wait().unwrap().success());
        peak
    };
    let (few, many) = (peak("8", &at("8.png")), peak("256", &at("256.png")));
    println!("peak resident: {few} KiB for 8 pictures, {many} KiB for 256");
    assert!(few > 0 && many <= 2 * few, "{few} KiB, {many} KiB");
    // The last row shows what that seed shows alone.
    works(&["generate", "--label", "rocket", "--seed", "255", "-o", &at("last.png")]);
    let (sheet, last) = (read_png(at("256.png")).unwrap().0, read_png(at("last.png")).unwrap().0);
    assert_eq!((sheet.width(), sheet.height()), (256, 256 * 264 - 8));
    assert!(sheet.data()[sheet.data().len() - last.data().len()..] == *last.data());
}

#[test]
fn a_pipe_hears_how_far_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a.png");
    let child = start(&["generate", "--label", "rocket", "--count", "24", "-o", out.to_str().unwrap()]);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.lines().filter(|line| line.starts_with("network runs: ")).count() >= 3, "{text}");
    let quiet = softdimo(&["generate", "--label", "rocket", "-o", out.to_str().unwrap()]);
    assert_eq!(String::from_utf8(quiet.stderr).unwrap().lines().count(), 1);
}

#[test]
fn an_interrupted_optimisation_writes_its_best() {
    for (name, status) in [("INT", 130), ("TERM", 143)] {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("best.png");
        let reward = ["--reward", "color=-1,-1,1", "--steps", "100000"];
        let begin = ["optimize", "--label", "red apple", "-o", out.to_str().unwrap()];
        let mut child = start(&[&begin[..], &reward[..]].concat());
        let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
        let far =
            |line: &str| line.strip_prefix("optimising: ").and_then(|l| l.split(' ').next()?.parse().ok());
        let began = Instant::now();
        while told.next().is_some_and(|line| far(&line.unwrap()).is_none_or(|step: u32| step < 8)) {
            assert!(began.elapsed() < Duration::from_secs(60));
        }
        signal(&child, name);
        for _ in told {}
        assert_eq!(child.wait().unwrap().code(), Some(status), "{name}");
        let (picture, text) = read_png(&out).unwrap();
        assert_eq!((picture.width(), picture.height()), (256, 2 * 256 + 8));
        let report = &text.iter().find(|(k, _)| k == "softdimo").unwrap().1;
        assert!(report.contains("\"ended\":\"cancelled\""), "{report}");
        assert_eq!(files(folder.path()), ["best.png"]);
    }
}

/// Caught while the temporary file is there.
#[test]
fn an_interrupted_conversion_leaves_nothing() {
    let models = tempfile::tempdir().unwrap();
    let model = maskbit::deep(models.path(), 60);
    let mut caught = 0;
    for name in ["INT", "TERM"].iter().cycle().take(60) {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out.softdimo.safetensors");
        let begin = ["quantize", model.to_str().unwrap(), "--dtype", "int8", "-o", out.to_str().unwrap()];
        let mut child = start(&begin);
        while files(folder.path()).is_empty() && child.try_wait().unwrap().is_none() {}
        signal(&child, name);
        let status = child.wait().unwrap();
        match status.code() {
            Some(0) => assert_eq!(files(folder.path()), ["out.softdimo.safetensors"]),
            Some(130 | 143) => {
                assert!(files(folder.path()).iter().all(|file| file == "out.softdimo.safetensors"));
                caught += 1;
            }
            _ => panic!("{status}"),
        }
        if caught == 6 {
            return;
        }
    }
    panic!("caught {caught} of 60");
}

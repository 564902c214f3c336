//! What the program writes where: names, links, folders, many pictures.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::time::Duration;

use softdimo::image::read_png;
use support::root;

use super::{fails, files, softdimo, start, works};

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
    symlink("target.png", &link).unwrap();
    works(&["generate", "--label", "rocket", "-o", link.to_str().unwrap()]);
    assert!(link.is_symlink() && read_png(&target).unwrap().0.width() == 256);
    let stdout = folder.path().join("stdout");
    symlink("/proc/self/fd/1", &stdout).unwrap();
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
    assert!(Command::new("mkfifo").arg(at("pipe.png")).status().unwrap().success());
    symlink("/dev/null", at("device.png")).unwrap();
    std::fs::write(at("kept.png"), "").unwrap();
    std::fs::set_permissions(at("kept.png"), PermissionsExt::from_mode(0o444)).unwrap();
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
        for (name, words) in [
            ("pipe.png", "expected an ordinary file or none, found something else"),
            ("device.png", "expected an ordinary file or none, found something else"),
            ("kept.png", "expected a file that may be written, found a read-only one"),
            ("name.png/", "expected a file name, found a folder's name"),
        ] {
            says(&["-o", &at(name)], &format!("{name}: {words}"));
            match command {
                "optimize" => says(&["-o", &fine, "--curve", &at(name)], &format!("{name}: {words}")),
                _ => says(&["-o", &fine, "--edit", &fine], "--output "),
            }
        }
        says(&["-o", "/dev/null"], "--output /dev/null: expected an ordinary file or none");
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
    assert_eq!(files(folder.path()), ["device.png", "kept.png", "pipe.png"]);
}

/// As another user where the tests run as the one who may do everything.
#[test]
fn what_only_others_may_write_is_refused_first() {
    use std::os::unix::fs::{MetadataExt, chown};
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65534;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mode = |name: &str, mode| {
        std::fs::set_permissions(at(name), PermissionsExt::from_mode(mode)).unwrap();
    };
    for name in ["closed", "shared", "own"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    std::fs::write(at("own/file.png"), "").unwrap();
    std::fs::write(at("shared/file.png"), "").unwrap();
    let (us, is_root) = (folder.path().metadata().unwrap().uid(), at("own").metadata().unwrap().uid() == 0);
    let says = |name: &str, more: &[&str], words: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_softdimo"));
        command.args(["generate", "--model", "/nowhere", "-o"]).arg(at(name)).args(more);
        command.uid(if is_root { NOBODY } else { us });
        match command.output() {
            Err(e) => println!("not tried, as '{NOBODY}' may not run the program: {e}"),
            Ok(output) => {
                let said = String::from_utf8(output.stderr).unwrap();
                assert!(output.status.code() == Some(1) && said.contains(words), "{name}: {said}");
            }
        }
    };
    for (name, bits) in [(".", 0o755), ("own/file.png", 0o644), ("shared/file.png", 0o666), ("closed", 0o555)]
    {
        mode(name, bits);
    }
    mode("shared", 0o1777);
    says("closed/a.png", &[], "closed/a.png: expected a file that can be written, found Permission denied");
    says("closed/a.png", &["--separate"], "closed/a.png: expected a file that can be written");
    if is_root {
        chown(at("own"), Some(NOBODY), None).unwrap();
        says("own/file.png", &[], "expected a file that may be written, found a read-only one");
        says("shared/file.png", &[], "expected a file of your own");
    }
    says("shared/new.png", &[], "file '/nowhere' not found");
    mode("closed", 0o755);
    assert_eq!(files(&at("closed")).len() + files(&at("own")).len() + files(&at("shared")).len(), 2);
}

/// Before the work, by whatever name.
#[test]
fn what_is_read_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let small = at("p-rocket-1.png");
    works(&["generate", "--label", "dog", "--enlarge", "1", "-o", &small]);
    let before = std::fs::read(&small).unwrap();
    symlink("p-rocket-1.png", at("link.png")).unwrap();
    symlink("new.png", at("later.png")).unwrap();
    let refused = |arguments: &[&str], words: &str| {
        let said = fails(1, arguments);
        assert!(said.contains(words) && said.ends_with("found the same\n"), "{arguments:?}: {said}");
        assert!(std::fs::read(&small).unwrap() == before && files(folder.path()).len() == 3, "{arguments:?}");
    };
    let (link, new) = (at("link.png"), at("./new.png"));
    let generate = ["generate", "--label", "rocket", "--edit", &small];
    for out in [&small, &link, &at("./p-rocket-1.png")] {
        refused(&[&generate[..], &["-o", out]].concat(), "expected another file than --edit ");
    }
    let separate = ["--count", "2", "--separate", "-o", &at("p.png")];
    let named = format!("--separate {small}: expected another file than --edit {small}");
    refused(&[&generate[..], &separate].concat(), &named);
    let other = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&other, &before).unwrap();
    let mask = ["--edit", other.path().to_str().unwrap(), "--mask", &link];
    refused(&[&["generate", "--label", "rocket"], &mask[..], &separate].concat(), "than --mask ");
    refused(&["generate", "--like", &small, "-o", &link], "than --like ");
    refused(&["quantize", &small, "--dtype", "f16", "-o", &link], "than MODEL ");
    refused(&["convert", "aesthetic", "--checkpoint", &link, "-o", &small], "than --checkpoint ");

    // What is found in a folder is read too.
    let checkpoint = tempfile::tempdir().unwrap();
    let weights = checkpoint.path().join("model.safetensors");
    std::fs::write(&weights, &before).unwrap();
    let (checkpoint, weights) = (checkpoint.path().to_str().unwrap(), weights.to_str().unwrap());
    let said = fails(1, &["convert", "aesthetic", "--checkpoint", checkpoint, "-o", weights]);
    assert!(said.contains("or one outside of --checkpoint") && said.contains(weights), "{said}");
    assert!(std::fs::read(weights).unwrap() == before);

    let optimize = ["optimize", "--label", "dog", "--steps", "1", "--reward"];
    let target = format!("0.5*target={small}");
    refused(&[&optimize[..], &[&target, "-o", &link]].concat(), "than --reward ");
    refused(&[&optimize[..], &[&target, "-o", &new, "--curve", &small]].concat(), "--curve ");
    for (output, curve) in [(&new, &at("new.png")), (&new, &at("later.png")), (&at("later.png"), &new)] {
        let words = format!("--curve {curve}: expected another file than --output {output}");
        refused(&[&optimize[..], &["prior", "-o", output, "--curve", curve]].concat(), &words);
    }
}

/// Whatever is in the way of one of many.
#[test]
fn every_name_is_tried_before_the_first_picture() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("p.png");
    let separate =
        ["--label", "rocket", "--label", "RED apples", "--class", "181", "--count", "3", "--separate"];
    let arguments = [&["generate", "-o", out.to_str().unwrap()], &separate[..]].concat();
    for name in ["p-rocket-2.png", "p-red-apple-1.png", "p-class-181-0.png"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        let said = fails(1, &arguments);
        assert!(said.contains(&format!("{name}: expected a file name, found a folder")), "{said}");
        assert_eq!(files(folder.path()), [name]);
        std::fs::remove_dir(folder.path().join(name)).unwrap();
    }
    // The name that is only a part of theirs is not written.
    std::fs::write(&out, "").unwrap();
    std::fs::set_permissions(&out, PermissionsExt::from_mode(0o444)).unwrap();
    works(&arguments);
    assert_eq!(files(folder.path()).len(), 10);
}

/// Files come first, and who closed a pipe wants no more.
#[test]
fn nothing_is_lost_where_nobody_reads() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a.png");
    let out = out.to_str().unwrap();
    let optimize = ["optimize", "--label", "dog", "--reward", "prior", "--steps", "1", "-o", out];
    let generate = ["generate", "--label", "dog", "--json", "-o", out];
    let closed = || std::io::pipe().unwrap().1;
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    for arguments in [&optimize[..], &[&optimize[..], &["--json"]].concat(), &generate] {
        let command = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_softdimo"));
            command.args(arguments).current_dir(root()).env("SOFTDIMO_PROGRESS_MS", "0");
            command
        };
        let written = |code: i32, output: std::process::Output| {
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.code() == Some(code), "{arguments:?}: {:?}: {said}", output.status);
            read_png(out).unwrap();
            std::fs::remove_file(out).unwrap();
            said
        };
        let said = written(0, command().stdout(closed()).output().unwrap());
        assert!(!said.contains("stdout"), "{said}");
        let said = written(1, command().stdout(full()).output().unwrap());
        assert!(said.contains("'stdout': No space left"), "{said}");
        written(0, command().stderr(closed()).output().unwrap());
        written(0, command().stderr(full()).output().unwrap());
    }
    let mut verify = Command::new(env!("CARGO_BIN_EXE_softdimo"));
    verify.args(["verify", super::MODEL, "tests/data/emoji-32.golden.safetensors"]).current_dir(root());
    let output = verify.stdout(closed()).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_file_that_may_not_grow_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for out in ["sheet.png", "out.softdimo.safetensors"] {
        let path = folder.path().join(out);
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -f 1; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_softdimo")]);
        match out {
            "sheet.png" => command.args(["generate", "--label", "dog", "--enlarge", "64", "-o"]),
            _ => {
                command.args([
                    "convert",
                    "maskbit",
                    "--generator",
                    "tests/data/maskbit/generator.safetensors",
                ]);
                command.args(["--tokenizer", "tests/data/maskbit/tokenizer.safetensors", "-o"])
            }
        };
        let output = command.arg(&path).current_dir(root()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && said.contains("File too large"), "{out}: {said}");
        assert_eq!(files(folder.path()), Vec::<String>::new());
    }
}

/// A pipe has its bytes once; the picture comes first.
#[test]
fn a_picture_may_come_through_a_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (small, pipe, out) = (at("small.png"), at("pipe"), at("out.png"));
    works(&["generate", "--label", "dog", "--enlarge", "1", "-o", &small]);
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (from, to) = (small.clone(), pipe.clone());
    let writer = std::thread::spawn(move || std::fs::write(to, std::fs::read(from).unwrap()));
    let output = softdimo(&["generate", "--label", "dog", "--edit", &pipe, "-o", &out]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && said.contains("the PNG will not tell the hash of its --edit"),
        "{said}"
    );
    writer.join().unwrap().unwrap();
    let (piped, other) = (read_png(&out).unwrap(), at("other.png"));
    works(&["generate", "--label", "dog", "--edit", &small, "-o", &other]);
    assert!(piped.0 == read_png(&other).unwrap().0);
}

/// Threads have stacks of the library's own choice.
#[test]
fn the_environment_does_not_choose_stacks() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a.png");
    let mut command = Command::new(env!("CARGO_BIN_EXE_softdimo"));
    command.args(["generate", "--label", "dog", "-o"]).arg(&out).current_dir(root());
    assert!(command.env("RUST_MIN_STACK", "1").output().unwrap().status.success());
    assert!(read_png(&out).is_ok());
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

//! Signals: what is written, and what is left behind.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use softdimo::image::read_png;
use support::{maskbit, root};

use super::{files, start};

/// Of the program, ended by each.
const STATUSES: [(&str, i32); 3] = [("INT", 130), ("TERM", 143), ("HUP", 129)];

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap().success());
}

/// The tests may run under `nohup` themselves.
fn is_ignored(name: &str) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    name == "HUP" && u64::from_str_radix(ignored.trim(), 16).unwrap() & 1 != 0
}

#[test]
fn an_interrupted_optimisation_writes_its_best() {
    for (name, status) in STATUSES {
        if is_ignored(name) {
            continue;
        }
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
    let signals = STATUSES.iter().map(|(name, _)| *name).filter(|name| !is_ignored(name));
    for name in signals.collect::<Vec<_>>().iter().cycle().take(60) {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out.softdimo.safetensors");
        let begin = ["quantize", model.to_str().unwrap(), "--dtype", "int8", "-o", out.to_str().unwrap()];
        let mut child = start(&begin);
        // A file that is still empty may only be tried.
        let begun = || {
            let mut files = std::fs::read_dir(folder.path()).unwrap();
            files.any(|file| file.unwrap().metadata().is_ok_and(|file| file.len() > 0))
        };
        while !begun() && child.try_wait().unwrap().is_none() {}
        signal(&child, name);
        let status = child.wait().unwrap();
        match status.code() {
            Some(0) => assert_eq!(files(folder.path()), ["out.softdimo.safetensors"]),
            Some(129 | 130 | 143) => {
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

/// While the picture is being written, which takes longer than the loop did. A signal that comes too late is no
/// trial.
#[test]
fn a_signal_after_the_last_step_loses_nothing() {
    let mut caught = 0;
    for (name, status) in STATUSES[..2].iter().cycle().take(20) {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("best.png");
        let begin = ["optimize", "--label", "red apple", "--count", "64", "-o", out.to_str().unwrap()];
        let mut child = start(&[&begin[..], &["--reward", "closeness", "--steps", "1"]].concat());
        let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(told.by_ref().any(|line| line.unwrap().starts_with("optimising: ")));
        while files(folder.path()).is_empty() && child.try_wait().unwrap().is_none() {}
        signal(&child, name);
        for _ in told {}
        let ended = child.wait().unwrap().code();
        assert_eq!(read_png(&out).unwrap().0.height(), 2 * 256 + 8);
        assert_eq!(files(folder.path()), ["best.png"]);
        if ended != Some(0) {
            assert_eq!(ended, Some(*status), "{name}");
            caught += 1;
            if caught == 2 {
                return;
            }
        }
    }
    panic!("caught {caught} of 20");
}

#[test]
fn signals_that_were_ignored_stay_ignored() {
    for name in ["HUP", "INT", "TERM"] {
        ignored(name);
    }
}

fn ignored(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a.png");
    let mut command = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_softdimo");
    command.args(["-c", &format!("trap '' {name}; exec \"$0\" \"$@\""), program]);
    command.args(["generate", "--label", "rocket", "--count", "64", "-o"]).arg(&out).current_dir(root());
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    while files(folder.path()).is_empty() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    signal(&child, name);
    assert!(child.wait().unwrap().success() && read_png(&out).is_ok());
}

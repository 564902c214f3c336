//! The system says no: one call of the library's into the C library fails, or all from one on. Each fault is met by a process of
//! its own; the table says how they ended.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::left_out::left_out;
use super::programs::{compiled, run};
use support::built::library;
use support::process::run as succeeds;
use support::program::compiler;
use support::{bundled, root};

/// As in `shim.h`, and how many of its faults are tried: on every change, and at night.
const KINDS: [(&str, i32, usize, usize); 7] = [
    ("allocation", 1, 45, 500),
    ("allocation of 16 KiB and more", 2, 20, 100),
    ("mmap", 3, 12, 100),
    ("open", 4, 12, 50),
    ("read", 5, 12, 50),
    ("write", 6, 12, 50),
    ("pthread_create", 7, 8, 30),
];

#[derive(Default)]
struct Outcomes {
    survived: usize,
    told: usize,
    aborted: Vec<String>,
    hung: Vec<String>,
}

struct Bench {
    program: PathBuf,
    shim: PathBuf,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let at = |name: &str| root().join("tests/capi/faults").join(name);
        let shim = library().join("programs/libfaults.so");
        let program = compiled(&[], "faults/faults.c", "faults");
        succeeds(
            compiler("cc")
                .args(["-std=gnu11", "-g", "-O1", "-fPIC", "-shared", "-o"])
                .arg(&shim)
                .arg(at("shim.c"))
                .arg("-ldl"),
        );
        Bench { program: program.get_program().into(), shim, folder: tempfile::tempdir().unwrap() }
    }

    fn command(&self, folder: &Path, kind: i32, number: usize, once: bool) -> Command {
        let mut command = Command::new(&self.program);
        command.env("LD_LIBRARY_PATH", library()).env("LD_PRELOAD", &self.shim).env("RUST_BACKTRACE", "0");
        command.arg(bundled()).arg(folder);
        command.args([kind.to_string(), number.to_string(), i32::from(once).to_string()]);
        command
    }

    /// Calls of a kind in a life without faults.
    fn calls(&self, kind: i32) -> usize {
        let output = self.command(self.folder.path(), kind, 0, true).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let found = text.lines().find_map(|l| l.strip_prefix("# ")?.strip_suffix(" calls")?.parse().ok());
        found.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
    }

    fn fault(&self, (name, kind): (&str, i32), number: usize, once: bool, outcomes: &Mutex<Outcomes>) {
        let folder = tempfile::tempdir().unwrap();
        let output = self.command(folder.path(), kind, number, once).output().unwrap();
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let what = format!(
            "{name} {number}{}: {}: {stdout}{stderr}",
            if once { "" } else { " and on" },
            output.status
        );
        let left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        let ended = output.status.code().is_some_and(|code| code != 1);
        assert!(!ended || left == ["picture.png"], "{what}: left {left:?}");
        let mut outcomes = outcomes.lock().unwrap();
        match (output.status.code(), output.status.signal()) {
            (Some(0 | 78), _) if stderr.is_empty() => outcomes.survived += 1,
            (Some(77), _) if stderr.is_empty() => outcomes.told += 1,
            (_, Some(14)) => outcomes.hung.push(what),
            _ => outcomes.aborted.push(what),
        }
    }
}

/// Faults spread over all calls of each kind, alone and lasting.
fn faults(often: impl Fn(usize, usize) -> usize) {
    let bench = Bench::new();
    println!(
        "# {:<32} {:>6} {:>8} {:>8} {:>6} {:>6} {:>5}",
        "fault", "calls", "injected", "survived", "error", "abort", "hang"
    );
    let mut bad = Vec::new();
    for (name, kind, few, many) in KINDS {
        let (calls, often) = (bench.calls(kind), often(few, many));
        let numbers: Vec<usize> = match often < calls {
            // Not the same in each part.
            true => (0..often).map(|i| 1 + (i * calls + (i * 7919) % calls) / often).collect(),
            false => (1..=calls).collect(),
        };
        let (outcomes, next) = (Mutex::new(Outcomes::default()), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
                scope.spawn(|| {
                    while let Some(&number) = numbers.get(next.fetch_add(1, Ordering::SeqCst)) {
                        bench.fault((name, kind), number, number % 3 > 0, &outcomes);
                    }
                });
            }
        });
        let o = outcomes.into_inner().unwrap();
        println!(
            "# {name:<32} {calls:>6} {:>8} {:>8} {:>6} {:>6} {:>5}",
            numbers.len(),
            o.survived,
            o.told,
            o.aborted.len(),
            o.hung.len()
        );
        bad.extend(o.aborted.into_iter().chain(o.hung));
    }
    assert!(bad.is_empty(), "{} of them:\n{}", bad.len(), bad.join("\n"));
}

#[test]
fn every_kind_of_fault_is_survived_or_told() {
    if left_out("faults") {
        return;
    }
    faults(|few, _| few);
}

/// Pictures, masks and arrays that are larger than the reserve, while memory is short.
#[test]
fn what_callers_bring_is_refused_where_there_is_no_room() {
    if left_out("faults") {
        return;
    }
    let bench = Bench::new();
    let program = compiled(&[], "faults/large.c", "large");
    let mut command = Command::new(program.get_program());
    command.env("LD_LIBRARY_PATH", library()).env("LD_PRELOAD", &bench.shim);
    run(command.arg(bundled()).arg(bench.folder.path()));
}

/// A whole life under Valgrind: no invalid access and nothing definitely lost, outside ONNX Runtime.
#[test]
#[ignore = "minutes, and Valgrind: `make test-nightly` runs it"]
fn nightly_memcheck() {
    if left_out("nightly_memcheck") {
        return;
    }
    let bench = Bench::new();
    let mut command = Command::new("valgrind");
    command.args(["-q", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite"]);
    command.args(["--show-leak-kinds=definite", "--num-callers=30"]);
    command.arg(format!("--suppressions={}", root().join("tests/capi/memcheck.supp").display()));
    command.env("LD_LIBRARY_PATH", library()).arg(&bench.program).arg(bundled()).arg(bench.folder.path());
    let output = command.output().expect("valgrind runs");
    println!("# memcheck: {}", output.status);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "minutes: `make test-nightly` runs it"]
fn nightly_faults() {
    if left_out("faults") {
        return;
    }
    faults(|_, many| many);
}

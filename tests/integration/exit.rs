//! The end of a process of Windows in the middle of a job. (Elsewhere: `exit_while_running` of the C tests.)

use std::fs::File;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use softdimo::{Engine, Job, Options, Phase, Request};
use support::{bundled, without_adapters};

const HOW: &str = "SOFTDIMO_TEST_HOW";
const STATUS: i32 = 7;
const PATIENCE: Duration = Duration::from_secs(10);

/// What a program's own destructor frees: a job, and its engine.
static HELD: Mutex<Option<(Job, Engine)>> = Mutex::new(None);

/// A job of minutes, and the end of the process `how` says.
fn end(how: &str) {
    let engine = Engine::open(bundled(), Options::default()).unwrap();
    let job = engine.submit(&Request { steps: 64, ..Request::label("rocket").with_batch(256) }).unwrap();
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(job.phase(), Phase::Running);
    *HELD.lock().unwrap() = Some((job, engine));
    extern "C" fn free() {
        drop(HELD.lock().map(|mut held| held.take()));
    }
    println!("ENDS");
    match how {
        // SAFETY: plain calls of the C library.
        "exit" => unsafe { libc::exit(STATUS) },
        // SAFETY: as above; `free` does not unwind.
        "exit with an engine to free" => unsafe {
            libc::atexit(free);
            libc::exit(STATUS)
        },
        "ExitProcess" => std::process::exit(STATUS),
        _ => unreachable!("{how}"),
    }
}

#[test]
fn a_process_that_ends_does_not_wait_for_its_jobs() {
    if let Ok(how) = std::env::var(HOW) {
        return end(&how);
    }
    let dir = tempfile::tempdir().unwrap();
    // Files, as the end of a pipe is one more thing that may be late.
    let (stdout, stderr) = (dir.path().join("stdout"), dir.path().join("stderr"));
    let said = |path| std::fs::read_to_string(path).unwrap();
    for how in ["exit", "exit with an engine to free", "ExitProcess"] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "exit::a_process_that_ends_does_not_wait_for_its_jobs", "--nocapture"])
            .env(HOW, how)
            .stdout(File::create(&stdout).unwrap())
            .stderr(File::create(&stderr).unwrap())
            .spawn()
            .unwrap();
        while !said(&stdout).contains("ENDS") && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > PATIENCE {
                child.kill().unwrap();
                panic!("{how}: not over after {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let took = begun.elapsed();
        println!("{how}: {took:?}");
        assert_eq!(status.code(), Some(STATUS), "{how}: {} {}", said(&stdout), said(&stderr));
        assert!(took < Duration::from_secs(1), "{how}: {took:?}");
        assert_eq!(without_adapters(&said(&stderr)), "", "{how}");
    }
}

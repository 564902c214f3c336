//! The end of a process of Windows in the middle of a job. (Elsewhere: `exit_while_running` of the C tests.)

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use softdimo::{Engine, Job, Options, Phase, Request};
use support::{bundled, without_adapters};

const HOW: &str = "SOFTDIMO_TEST_HOW";
const STATUS: i32 = 7;

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
    for how in ["exit", "exit with an engine to free", "ExitProcess"] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "exit::a_process_that_ends_does_not_wait_for_its_jobs", "--nocapture"])
            .env(HOW, how)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut said, mut stdout) = (Vec::new(), child.stdout.take().unwrap());
        let mut byte = [0];
        while !said.ends_with(b"ENDS") && stdout.read(&mut byte).unwrap() == 1 {
            said.push(byte[0]);
        }
        let begun = Instant::now();
        let status = child.wait().unwrap();
        let took = begun.elapsed();
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        println!("{how}: {took:?}");
        assert_eq!(status.code(), Some(STATUS), "{how}: {} {stderr}", String::from_utf8_lossy(&said));
        assert!(took < Duration::from_secs(1), "{how}: {took:?}");
        assert_eq!(without_adapters(&stderr), "", "{how}");
    }
}

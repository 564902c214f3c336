//! Guarded mappings whose file loses pages.
//!
//! A handler is process-wide state and the expected outcome is sometimes a death, so every case runs in a
//! process of its own: the test binary again, with the case's name in the environment.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::mapping::Mapping;
use super::sigbus::SLOTS;

const CASE: &str = "SOFTDIMO_TEST_SIGBUS_CASE";
const LEN: usize = 5 * 65536 + 17;

fn run(case: &str) -> ExitStatus {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "checkpoint::guarded_tests::child", "--nocapture", "--test-threads=1"]);
    child.env(CASE, case).output().unwrap().status
}

fn file() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![9u8; LEN]).unwrap();
    file
}

fn truncate(file: &tempfile::NamedTempFile, len: u64) {
    std::fs::OpenOptions::new().write(true).open(file.path()).unwrap().set_len(len).unwrap();
}

static SEEN: AtomicUsize = AtomicUsize::new(0);

extern "C" fn exit_with_address_flag(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: called by the kernel or by a chaining handler with a valid siginfo.
    unsafe { libc::_exit(if (*info).si_addr().is_null() { 41 } else { 42 }) }
}

extern "C" fn count(_: i32) {
    SEEN.fetch_add(1, Ordering::SeqCst);
}

fn install(handler: usize, flags: i32) {
    // SAFETY: test process; the handler matches the flags.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        assert_eq!(libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()), 0);
    }
}

fn current() -> usize {
    // SAFETY: test process; only asks.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        assert_eq!(libc::sigaction(libc::SIGBUS, std::ptr::null(), &mut action), 0);
        action.sa_sigaction
    }
}

fn last_byte(mapping: &Mapping) -> u8 {
    // SAFETY: in bounds; volatile so that the access is really made.
    unsafe { std::ptr::read_volatile(mapping.bytes().as_ptr().add(LEN - 1)) }
}

/// Does nothing unless [`run`] started this process.
#[test]
fn child() {
    let Ok(case) = std::env::var(CASE) else { return };
    let file = file();
    match case.as_str() {
        "unguarded" => {
            let mapping = Mapping::map(file.path()).unwrap();
            truncate(&file, 0);
            last_byte(&mapping);
        }
        "survives" => {
            install(libc::SIG_DFL, 0);
            let mapping = Mapping::map_guarded(file.path()).unwrap();
            let healthy = Mapping::map_guarded(self::file().path()).unwrap();
            truncate(&file, 65536);
            assert_eq!(mapping.bytes()[65535], 9);
            assert_eq!(last_byte(&mapping), 0);
            assert!(mapping.bytes()[65536..].iter().all(|&b| b == 0));
            assert_eq!(mapping.bytes()[65535], 9);
            assert!(mapping.recheck().is_err());
            // Growing the file again does not bring the pages back.
            truncate(&file, LEN as u64);
            let message = mapping.recheck().unwrap_err().to_string();
            assert!(message.contains("mapped pages: expected bytes that stay readable"), "{message}");
            healthy.recheck().unwrap();
            assert_eq!(last_byte(&healthy), 9);
            drop(mapping);
            drop(healthy);
            assert_eq!(current(), libc::SIG_DFL);
        }
        "many threads" => {
            let mapping = Mapping::map_guarded(file.path()).unwrap();
            truncate(&file, 0);
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| assert!(mapping.bytes().iter().all(|&b| b == 0)));
                }
            });
            assert!(mapping.recheck().is_err());
        }
        "previous handler" => {
            let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = exit_with_address_flag;
            install(handler as *const () as usize, libc::SA_SIGINFO);
            let guarded = Mapping::map_guarded(self::file().path()).unwrap();
            let other = Mapping::map(file.path()).unwrap();
            truncate(&file, 0);
            last_byte(&guarded);
            last_byte(&other);
        }
        "default" => {
            install(libc::SIG_DFL, 0);
            let _guarded = Mapping::map_guarded(self::file().path()).unwrap();
            let other = Mapping::map(file.path()).unwrap();
            truncate(&file, 0);
            last_byte(&other);
        }
        "ignored" => {
            install(libc::SIG_IGN, 0);
            let _guarded = Mapping::map_guarded(self::file().path()).unwrap();
            // SAFETY: no preconditions.
            unsafe { libc::raise(libc::SIGBUS) };
            let other = Mapping::map(file.path()).unwrap();
            truncate(&file, 0);
            last_byte(&other);
        }
        "sent" => {
            install(count as extern "C" fn(i32) as *const () as usize, 0);
            let guarded = Mapping::map_guarded(file.path()).unwrap();
            // SAFETY: no preconditions.
            unsafe { libc::raise(libc::SIGBUS) };
            assert_eq!(SEEN.load(Ordering::SeqCst), 1);
            guarded.recheck().unwrap();
            drop(guarded);
            assert_eq!(current(), count as extern "C" fn(i32) as *const () as usize);
            install(libc::SIG_DFL, 0);
            let _guarded = Mapping::map_guarded(file.path()).unwrap();
            // SAFETY: no preconditions.
            unsafe { libc::raise(libc::SIGBUS) };
        }
        "handler on top" => {
            install(libc::SIG_DFL, 0);
            let guarded = Mapping::map_guarded(file.path()).unwrap();
            let ours = current();
            install(count as extern "C" fn(i32) as *const () as usize, 0);
            drop(guarded);
            assert_eq!(current(), count as extern "C" fn(i32) as *const () as usize);
            // The host takes its own handler away and finds ours as it left it.
            install(ours, libc::SA_SIGINFO | libc::SA_ONSTACK);
            drop(Mapping::map_guarded(file.path()).unwrap());
            assert_eq!(current(), libc::SIG_DFL);
        }
        "rewritten" => {
            let rewrites: [fn(&std::path::Path); 4] = [
                // Never read in between: no page is lost, and the size is right again.
                |path| std::fs::write(path, vec![0; LEN]).unwrap(),
                |path| {
                    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
                    file.set_len(0).unwrap();
                    file.set_len(LEN as u64).unwrap();
                },
                |path| {
                    let file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
                    file.set_len(LEN as u64 + 1).unwrap();
                },
                // With the time put back, as copying tools do.
                |path| {
                    let modified = std::fs::metadata(path).unwrap().modified().unwrap();
                    std::fs::write(path, vec![0; LEN]).unwrap();
                    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
                    file.set_modified(modified).unwrap();
                },
            ];
            let said = ["time of modification", "time of modification", "file size", "time of change"];
            for (rewrite, said) in rewrites.iter().zip(said) {
                let file = self::file();
                let mapping = Mapping::map_guarded(file.path()).unwrap();
                mapping.recheck().unwrap();
                rewrite(file.path());
                let message = mapping.recheck().unwrap_err().to_string();
                assert!(message.contains(&format!(": {said}: expected ")), "{message}");
                assert!(message.ends_with(": the file was written since it was opened"), "{message}");
            }
        }
        "renamed" => {
            use std::os::unix::fs::PermissionsExt;
            let mapping = Mapping::map_guarded(file.path()).unwrap();
            std::fs::set_permissions(file.path(), PermissionsExt::from_mode(0o400)).unwrap();
            mapping.recheck().unwrap();
            let folder = tempfile::tempdir().unwrap();
            let moved = folder.path().join("moved");
            let mapping = Mapping::map_guarded(file.path()).unwrap();
            std::fs::copy(file.path(), folder.path().join("new")).unwrap();
            std::fs::hard_link(file.path(), &moved).unwrap();
            mapping.recheck().unwrap();
            std::fs::rename(folder.path().join("new"), file.path()).unwrap();
            std::fs::write(file.path(), "another").unwrap();
            mapping.recheck().unwrap();
            std::fs::rename(&moved, folder.path().join("again")).unwrap();
            std::fs::remove_file(folder.path().join("again")).unwrap();
            mapping.recheck().unwrap();
            assert_eq!(last_byte(&mapping), 9);
        }
        "table" => {
            let all: Vec<_> = (0..SLOTS).map(|_| Mapping::map_guarded(file.path()).unwrap()).collect();
            let message = Mapping::map_guarded(file.path()).unwrap_err().to_string();
            assert!(message.contains("all 64 places"), "{message}");
            drop(all);
            Mapping::map_guarded(file.path()).unwrap();
        }
        other => panic!("no such case: {other}"),
    }
}

#[test]
fn unguarded_truncation_kills() {
    assert_eq!(run("unguarded").signal(), Some(libc::SIGBUS));
}

#[test]
fn guarded_truncation_survives_and_is_reported() {
    assert_eq!(run("survives").code(), Some(0));
}

#[test]
fn threads_fault_together() {
    assert_eq!(run("many threads").code(), Some(0));
}

#[test]
fn other_faults_reach_the_previous_handler() {
    assert_eq!(run("previous handler").code(), Some(42));
    assert_eq!(run("default").signal(), Some(libc::SIGBUS));
    assert_eq!(run("ignored").signal(), Some(libc::SIGBUS));
}

#[test]
fn sent_signals_reach_the_previous_handler() {
    assert_eq!(run("sent").signal(), Some(libc::SIGBUS));
}

#[test]
fn a_handler_installed_later_is_left_alone() {
    assert_eq!(run("handler on top").code(), Some(0));
}

#[test]
fn a_guarded_file_that_is_written_is_reported() {
    assert_eq!(run("rewritten").code(), Some(0));
}

#[test]
fn names_and_attributes_of_a_guarded_file_may_change() {
    assert_eq!(run("renamed").code(), Some(0));
}

#[test]
fn the_table_is_finite_and_reusable() {
    assert_eq!(run("table").code(), Some(0));
}

//! What the tests share: where things lie, the tiny networks as published and as model files, graphs computed in
//! ONNX Runtime and in the f64 evaluator, numbers compared, programs run.

pub mod alpha;
pub mod built;
pub mod checkpoints;
pub mod compare;
pub mod compute;
pub mod maskbit;
pub mod maskgen;
pub mod maskgit;
pub mod meissonic;
pub mod platform;
pub mod process;
pub mod program;
pub mod rewards;
pub mod safetensors_file;

use std::path::{Path, PathBuf};
use std::time::Duration;

use softdimo::{Engine, Generated, MemoryMode, Options, Request};

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

/// A file of `tests/data`.
pub fn data(name: &str) -> PathBuf {
    root().join("tests/data").join(name)
}

/// The bundled model.
pub fn bundled() -> PathBuf {
    root().join("models/emoji-32.softdimo.safetensors")
}

/// The ONNX Runtime of the tests (`make runtime`), which `.cargo/config.toml` names.
pub fn runtime() -> PathBuf {
    let file =
        root().join(std::env::var_os("SOFTDIMO_ORT_LIBRARY").expect("cargo sets SOFTDIMO_ORT_LIBRARY"));
    assert!(file.is_file(), "{} is not there: run `make runtime`", file.display());
    file
}

/// Who made this processor, unless Intel did: OpenVINO's plug-in has devices of Intel's alone.
pub fn foreign_to_openvino() -> Option<String> {
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let vendor = processors.lines().find_map(|line| line.strip_prefix("vendor_id")?.split_once(": "));
    let (_, vendor) = vendor.expect("its vendor_id");
    (vendor != "GenuineIntel").then(|| vendor.to_string())
}

pub fn open(model: &Path, memory: MemoryMode) -> Engine {
    Engine::open(model, Options { memory, ..Options::default() }).unwrap()
}

/// What the calling thread has computed so far: unlike the clock, it stands still while other programs compute.
#[cfg(unix)]
pub fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is there to be written.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) }, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The same, in steps of the system's clock.
#[cfg(windows)]
pub fn thread_cpu_time() -> Duration {
    use windows_sys::Win32::Foundation::FILETIME;
    use windows_sys::Win32::System::Threading::{GetCurrentThread, GetThreadTimes};
    let mut times = [FILETIME { dwLowDateTime: 0, dwHighDateTime: 0 }; 4];
    let [created, ended, kernel, user] = &mut times;
    // SAFETY: of this thread, into places for the answers.
    assert_ne!(unsafe { GetThreadTimes(GetCurrentThread(), created, ended, kernel, user) }, 0);
    let units = |time: FILETIME| u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime);
    Duration::from_nanos(100 * (units(times[2]) + units(times[3])))
}

/// What a program wrote to stderr, but for the line that ONNX Runtime writes to it on a Windows that shows no graphics adapter,
/// as wine's: it looks for devices when its environment is made, and no option keeps it from that.
pub fn without_adapters(stderr: &str) -> String {
    platform::complaints(cfg!(windows), stderr)
}

/// A request of one picture under a prompt.
pub fn prompt(text: &str) -> Request {
    Request { prompts: vec![text.into()], ..Request::default() }
}

pub fn tokens(done: &Generated) -> Vec<u32> {
    done.tokens.to_i64().into_iter().map(|token| u32::try_from(token).unwrap()).collect()
}

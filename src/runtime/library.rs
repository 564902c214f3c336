//! Find and load the ONNX Runtime shared library. Nothing of it is linked: an embeddable library must
//! start, and say clearly what is missing, on a machine without it.
//!
//! One runtime and one environment exist per process, never dropped: ONNX Runtime's teardown at exit or
//! on unload is the classic way to crash a host.

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ort::environment::Environment;

use super::error::failed;
use super::library_file;
use crate::error::{Error, Result};
use crate::shortage;

/// Minor versions of ONNX Runtime 1.x that are accepted (1.24 and older have int8 bugs on some CPUs).
const ACCEPTED: std::ops::RangeInclusive<u32> = 25..=32;

/// Bytes that must be free before ONNX Runtime is loaded and started, beside its file: where it runs out of memory while its
/// static objects are built, the process ends, or no engine can be opened any more.
const START: u64 = 48 << 20;

/// First minor version that collects telemetry unless told not to before its environment exists.
const TELEMETRY_SINCE: u32 = 29;

/// The environment variable that names the library file.
pub const ENV_LIBRARY: &str = "SOFTDIMO_ORT_LIBRARY";

/// The loaded ONNX Runtime of this process.
#[derive(Clone, Debug)]
pub struct Runtime {
    pub(super) environment: Environment,
    /// Absolute path of the library file.
    pub path: PathBuf,
    /// Its version, e.g. `1.28.0`.
    pub version: String,
}

static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);

/// The runtime of this process, loading it on first use. `library` is the engine option; searched in
/// order: the option, `SOFTDIMO_ORT_LIBRARY`, the folder of libsoftdimo, the system loader. The first two
/// are orders, not hints: when given, nothing else is tried.
///
/// Must be called on an engine thread: ONNX Runtime may change the floating-point mode of its caller.
pub fn load(library: Option<&Path>) -> Result<Runtime> {
    let mut slot = RUNTIME.lock().unwrap_or_else(|e| e.into_inner());
    if let Some(runtime) = slot.as_ref() {
        return match library {
            Some(wanted) if resident(wanted).as_ref() != Some(&runtime.path) => Err(Error::invalid(
                "ort_library",
                format!("the library this process already loaded, {}", runtime.path.display()),
                wanted.display(),
            )),
            _ => Ok(runtime.clone()),
        };
    }
    super::unwinder::warm()?;
    enough_files()?;
    let mut tried = Vec::new();
    for (origin, path) in candidates(library) {
        if let Ok(file) = std::fs::metadata(&path) {
            shortage::room("loading ONNX Runtime", 2 * file.len() + START)?;
        }
        match probe(&path) {
            Ok((path, version)) => {
                shortage::room("starting ONNX Runtime", START)?;
                let runtime = start(path, version)?;
                *slot = Some(runtime.clone());
                return Ok(runtime);
            }
            Err(reason) => tried.push(format!("{origin} '{}': {reason}", path.display())),
        }
    }
    Err(Error::RuntimeNotFound { tried })
}

/// Files that loading the runtime opens at a time, with room to spare.
const FILES: usize = 24;

/// Refuse to load the runtime where the process can open no more files: its library of processors' features would say so
/// on stderr and guess.
#[cfg(unix)]
fn enough_files() -> Result<()> {
    let mut open = Vec::with_capacity(FILES);
    for count in 0..FILES {
        match std::fs::File::open("/") {
            Ok(file) => open.push(file),
            Err(e) if matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                return Err(Error::Runtime {
                    stage: "start-up".into(),
                    message: format!("expected {FILES} files that can be opened, found {count}: {e}"),
                });
            }
            // Not a lack of files.
            Err(_) => break,
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn enough_files() -> Result<()> {
    Ok(())
}

/// The file of a library that the loader takes `path` for, if it is loaded already. A bare name is what the
/// loader finds under it, as in [`probe`].
#[cfg(unix)]
#[allow(unsafe_code)]
fn resident(path: &Path) -> Option<PathBuf> {
    use libloading::os::unix::{Library, RTLD_NOW};
    if path.as_os_str().is_empty() {
        return None;
    }
    let path = if path.components().count() > 1 { canonical(path) } else { path.to_path_buf() };
    // SAFETY: nothing new is loaded, so no initialiser runs.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | libc::RTLD_NOLOAD) }.ok()?;
    loaded_file(&library.into())
}

#[cfg(not(unix))]
fn resident(path: &Path) -> Option<PathBuf> {
    Some(canonical(path))
}

/// The runtime, if some engine has loaded it already.
pub fn loaded() -> Option<Runtime> {
    RUNTIME.lock().unwrap_or_else(|e| e.into_inner()).clone()
}

fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

fn candidates(option: Option<&Path>) -> Vec<(&'static str, PathBuf)> {
    if let Some(path) = option {
        return vec![("option", path.to_path_buf())];
    }
    if let Some(path) = std::env::var_os(ENV_LIBRARY).filter(|v| !v.is_empty()) {
        return vec![(ENV_LIBRARY, PathBuf::from(path))];
    }
    let mut found = Vec::new();
    match own_folder() {
        Some(folder) => found.extend(beside(&folder).into_iter().map(|p| ("beside libsoftdimo", p))),
        None => found.push(("beside libsoftdimo", PathBuf::from("(folder unknown)"))),
    }
    found.extend(names().iter().map(|n| ("system loader", PathBuf::from(n))));
    found
}

/// File names the library goes by.
fn names() -> &'static [&'static str] {
    if cfg!(target_os = "macos") {
        &["libonnxruntime.dylib"]
    } else if cfg!(windows) {
        &["onnxruntime.dll"]
    } else {
        &["libonnxruntime.so", "libonnxruntime.so.1"]
    }
}

/// Library files in `folder`: the known names, then versioned ones; the first known name when none is
/// there, so that the error shows where it was looked for.
fn beside(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = names().iter().map(|n| folder.join(n)).filter(|p| p.exists()).collect();
    if paths.is_empty() && cfg!(target_os = "linux") {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        paths = entries
            .map(|e| e.path())
            .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("libonnxruntime.so.")))
            .collect();
        paths.sort();
    }
    if paths.is_empty() {
        paths.push(folder.join(names()[0]));
    }
    paths
}

/// Folder of the file this code was loaded from: libsoftdimo, or the program it is linked into.
#[cfg(unix)]
#[allow(unsafe_code)]
fn own_folder() -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: the address is of a function of this library and `info` is a valid out pointer; a non-zero
    // result means `dli_fname` points to a NUL-terminated string that lives as long as the library.
    let name = unsafe {
        if libc::dladdr(own_folder as *const libc::c_void, info.as_mut_ptr()) == 0 {
            return None;
        }
        let name = info.assume_init().dli_fname;
        if name.is_null() {
            return None;
        }
        CStr::from_ptr(name)
    };
    let path = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
    // A program started through PATH has a bare name here, which says nothing about folders (a file of that
    // name in the working directory is another one); its real file is what the kernel says.
    let path = match path.canonicalize() {
        Ok(real) if path.components().count() > 1 => real,
        _ => std::env::current_exe().ok()?,
    };
    path.parent().map(Path::to_path_buf)
}

#[cfg(not(unix))]
fn own_folder() -> Option<PathBuf> {
    std::env::current_exe().ok()?.parent().map(Path::to_path_buf)
}

/// Open a candidate and read its version; the reason when it is not usable.
#[allow(unsafe_code)]
fn probe(path: &Path) -> std::result::Result<(PathBuf, String), String> {
    let path = match path.components().count() {
        // The loader searches for a bare name, and takes an empty one for the program.
        0 | 1 => {
            library_file::check_search(path)?;
            path.to_path_buf()
        }
        _ => {
            library_file::check(path)?;
            canonical(path)
        }
    };
    // SAFETY: loading runs the library's initialisers; the caller named it, or it carries ONNX Runtime's name.
    let library = unsafe { libloading::Library::new(&path) }.map_err(|e| {
        let text = std::error::Error::source(&e).map_or_else(|| e.to_string(), |s| s.to_string());
        text.replace('\n', " ")
    })?;
    // SAFETY: `OrtGetApiBase` has this signature in every release of ONNX Runtime.
    let version = unsafe {
        let get: libloading::Symbol<'_, unsafe extern "C" fn() -> *const ort::sys::OrtApiBase> =
            library.get(b"OrtGetApiBase").map_err(|_| "it does not export OrtGetApiBase".to_string())?;
        let base = get();
        if base.is_null() {
            return Err("OrtGetApiBase returned NULL".into());
        }
        CStr::from_ptr(((*base).GetVersionString)()).to_string_lossy().into_owned()
    };
    match minor(&version) {
        Some(m) if ACCEPTED.contains(&m) => {}
        _ => {
            return Err(format!(
                "expected version 1.{} to 1.{}, found {version}",
                ACCEPTED.start(),
                ACCEPTED.end()
            ));
        }
    }
    let path = loaded_file(&library).unwrap_or(path);
    // Keep it mapped: it is about to be used, and ONNX Runtime does not survive being unloaded.
    super::statics::keep(&library);
    super::exit::install();
    std::mem::forget(library);
    Ok((path, version))
}

/// The file a library was really loaded from (the system loader's choice for bare names).
#[cfg(unix)]
#[allow(unsafe_code)]
fn loaded_file(library: &libloading::Library) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: as in `own_folder`, with the address of a symbol of the library.
    unsafe {
        let symbol: libloading::Symbol<'_, unsafe extern "C" fn()> = library.get(b"OrtGetApiBase").ok()?;
        if libc::dladdr(*symbol as *const libc::c_void, info.as_mut_ptr()) == 0 {
            return None;
        }
        let name = info.assume_init().dli_fname;
        if name.is_null() {
            return None;
        }
        Path::new(std::ffi::OsStr::from_bytes(CStr::from_ptr(name).to_bytes())).canonicalize().ok()
    }
}

#[cfg(not(unix))]
fn loaded_file(_: &libloading::Library) -> Option<PathBuf> {
    None
}

fn minor(version: &str) -> Option<u32> {
    let mut parts = version.split('.');
    (parts.next() == Some("1")).then(|| parts.next()?.parse().ok()).flatten()
}

/// Create the one environment: no logger (a second user of the same library would call into ours), no
/// global thread pool, telemetry off.
fn start(path: PathBuf, version: String) -> Result<Runtime> {
    let failed = |message: String| failed("start-up", &message);
    let builder = ort::init_from(&path).map_err(|e| failed(e.to_string()))?;
    let quiet = TelemetryOff::new(minor(&version).is_some_and(|m| m >= TELEMETRY_SINCE));
    let environment = builder
        .with_name("softdimo")
        .with_telemetry(false)
        .build()
        .map_err(|e| failed(e.message().to_string()))?;
    drop(quiet);
    environment.set_log_level(ort::logging::LogLevel::Fatal);
    Ok(Runtime { environment, path, version })
}

/// `ORT_DISABLE_TELEMETRY=1` while the environment is created, for the releases that need it; the host's
/// own value comes back afterwards.
struct TelemetryOff(Option<Option<std::ffi::OsString>>);

const DISABLE_TELEMETRY: &str = "ORT_DISABLE_TELEMETRY";

impl TelemetryOff {
    #[allow(unsafe_code)]
    fn new(needed: bool) -> TelemetryOff {
        if !needed {
            return TelemetryOff(None);
        }
        let before = std::env::var_os(DISABLE_TELEMETRY);
        // SAFETY: a data race only if the host reads or writes its environment at this very moment; the
        // shipped 1.28 does not come here, and the README says what later releases cost.
        unsafe { std::env::set_var(DISABLE_TELEMETRY, "1") };
        TelemetryOff(Some(before))
    }
}

impl Drop for TelemetryOff {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: as in `new`.
        match self.0.take() {
            Some(Some(value)) => unsafe { std::env::set_var(DISABLE_TELEMETRY, value) },
            Some(None) => unsafe { std::env::remove_var(DISABLE_TELEMETRY) },
            None => {}
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// A second engine may name the library as the first one did, or in any other way that leads to the same file.
    #[test]
    fn the_loaded_library_goes_by_every_name_the_loader_knows_it_by() {
        let first = load(None).unwrap();
        let file = first.path.file_name().unwrap();
        let dotted = first.path.with_file_name(".").join(file);
        for name in [Path::new("libonnxruntime.so.1"), &first.path, &dotted] {
            assert_eq!(load(Some(name)).unwrap().path, first.path, "{}", name.display());
        }
        for name in ["", "libm.so.6", "libc.so.6", "/nowhere/libonnxruntime.so.1", "libnowhere.so"] {
            let error = load(Some(Path::new(name))).unwrap_err().to_string();
            let expected =
                format!("expected the library this process already loaded, {}", first.path.display());
            assert!(error.starts_with("ort_library: ") && error.contains(&expected), "{name}: {error}");
        }
    }
}

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
use super::loader;
use crate::error::{Error, Result};
use crate::graph::rewrite::Kernels;
use crate::shortage;

/// Minor versions of ONNX Runtime 1.x that are accepted (1.24 and older have int8 bugs on some CPUs).
const ACCEPTED: std::ops::RangeInclusive<u32> = 25..=32;

/// Bytes that must be free before ONNX Runtime is loaded and started, beside its file: where it runs out of memory while its
/// static objects are built, the process ends, or no engine can be opened any more.
const START: u64 = 48 << 20;

/// First minor version that collects telemetry unless told not to before its environment exists.
const TELEMETRY_SINCE: u32 = 29;

/// First minor version whose LayerNormalization is the faster one: at 257×1024 it takes five times as long as
/// SkipLayerNormalization in 1.28, and a tenth in 1.31.
const LAYER_NORM_SINCE: u32 = 31;

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

impl Runtime {
    /// Which of several forms of a computation its CPU kernels are quick at. Each is right on every version.
    pub(crate) fn kernels(&self) -> Kernels {
        Kernels { skip_layer_normalization: minor(&self.version).is_some_and(|m| m < LAYER_NORM_SINCE) }
    }
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
            Some(wanted) if loader::resident(wanted).as_ref() != Some(&runtime.path) => Err(Error::invalid(
                "ort_library",
                format!("the library this process already loaded, {}", runtime.path.display()),
                wanted.display(),
            )),
            _ => Ok(runtime.clone()),
        };
    }
    super::unwinder::warm()?;
    loader::enough_files()?;
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

/// The runtime, if some engine has loaded it already.
pub fn loaded() -> Option<Runtime> {
    RUNTIME.lock().unwrap_or_else(|e| e.into_inner()).clone()
}

fn candidates(option: Option<&Path>) -> Vec<(&'static str, PathBuf)> {
    if let Some(path) = option {
        return vec![("option", path.to_path_buf())];
    }
    if let Some(path) = std::env::var_os(ENV_LIBRARY).filter(|v| !v.is_empty()) {
        return vec![(ENV_LIBRARY, PathBuf::from(path))];
    }
    let mut found = Vec::new();
    match loader::own_folder() {
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

/// Open a candidate and read its version; the reason when it is not usable.
#[allow(unsafe_code)]
fn probe(path: &Path) -> std::result::Result<(PathBuf, String), String> {
    let path = match loader::is_searched_for(path) {
        true => {
            library_file::check_search(path)?;
            path.to_path_buf()
        }
        false => {
            library_file::check(path)?;
            loader::canonical(path)
        }
    };
    // SAFETY: loading runs the library's initialisers; the caller named it, or it carries ONNX Runtime's name.
    let library = unsafe { loader::open(&path) }?;
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
    let path = loader::file_of(&library).unwrap_or(path);
    // Keep it mapped: it is about to be used, and ONNX Runtime does not survive being unloaded.
    super::statics::keep(&library);
    super::exit::install();
    std::mem::forget(library);
    Ok((path, version))
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

#[cfg(all(test, windows))]
mod tests {
    use windows_sys::Win32::System::ProcessStatus::{K32EnumProcessModules, K32GetModuleBaseNameW};
    use windows_sys::Win32::System::Threading::GetCurrentProcess;

    use super::*;

    /// How many modules of this name are loaded.
    #[allow(unsafe_code)]
    fn loaded_under(name: &str) -> usize {
        let mut modules = [std::ptr::null_mut(); 512];
        let mut bytes = 0;
        // SAFETY: as many places as the call is told of.
        let done = unsafe {
            let room = size_of_val(&modules) as u32;
            K32EnumProcessModules(GetCurrentProcess(), modules.as_mut_ptr(), room, &mut bytes)
        };
        assert!(done != 0 && (bytes as usize) < size_of_val(&modules));
        let count = bytes as usize / size_of_val(&modules[0]);
        let name_of = |module| {
            let mut name = [0_u16; 260];
            // SAFETY: as above.
            let length =
                unsafe { K32GetModuleBaseNameW(GetCurrentProcess(), module, name.as_mut_ptr(), 260) };
            String::from_utf16_lossy(&name[..length as usize])
        };
        modules[..count].iter().filter(|module| name_of(**module).eq_ignore_ascii_case(name)).count()
    }

    /// A second engine may name the library as the first one did, or in any other way that leads to the same file.
    #[test]
    fn the_loaded_library_goes_by_every_name_the_loader_knows_it_by() {
        let first = load(None).unwrap();
        let text = first.path.to_str().unwrap().to_string();
        assert!(first.path.is_absolute() && !text.starts_with(r"\\?\"), "{text}");
        let dotted = first.path.with_file_name(".").join(first.path.file_name().unwrap());
        let names = [
            "onnxruntime.dll".into(),
            "ONNXRuntime".into(),
            text.clone(),
            dotted.to_str().unwrap().into(),
            text.replace('\\', "/"),
            format!(r"\\?\{text}"),
            text.to_uppercase(),
        ];
        for name in names {
            assert_eq!(load(Some(Path::new(&name))).unwrap().path, first.path, "{name}");
        }
        for name in ["", "kernel32.dll", "nowhere.dll", r"C:\nowhere\onnxruntime.dll"] {
            let error = load(Some(Path::new(name))).unwrap_err().to_string();
            let expected =
                format!("expected the library this process already loaded, {}", first.path.display());
            assert!(error.starts_with("ort_library: ") && error.contains(&expected), "{name}: {error}");
        }
        // `ort` has opened it a second time.
        assert_eq!(loaded_under("onnxruntime.dll"), 1);
    }

    #[test]
    fn a_bare_name_is_not_one_of_the_working_directory() {
        const WITHIN: &str = "SOFTDIMO_TEST_WITHIN";
        let name = Path::new("softdimo-test.dll");
        if std::env::var_os(WITHIN).is_some() {
            let reason = probe(name).unwrap_err();
            assert!(reason.contains("126"), "{reason}");
            let (path, _) = probe(&std::env::current_dir().unwrap().join(name)).unwrap();
            assert_eq!(path, loader::canonical(name));
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(std::env::var_os(ENV_LIBRARY).unwrap(), dir.path().join(name)).unwrap();
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "runtime::library::tests::a_bare_name_is_not_one_of_the_working_directory"]);
        // No pipe: wine 8 at times does not tell of its end.
        assert!(child.env(WITHIN, "1").current_dir(dir.path()).status().unwrap().success());
    }

    #[test]
    fn a_library_that_was_cut_short_is_not_loaded() {
        let whole = std::fs::read(std::env::var_os(ENV_LIBRARY).unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("onnxruntime.dll");
        for (length, words) in [
            (0, "an empty file"),
            (63, "a Windows (PE) file"),
            (300, "cut short"),
            (4096, "cut short"),
            (whole.len() / 2, "cut short"),
            (whole.len() * 9 / 10, "cut short"),
        ] {
            std::fs::write(&path, &whole[..length]).unwrap();
            let reason = probe(&path).unwrap_err();
            assert!(reason.contains(words), "{length}: {reason}");
        }
    }

    #[test]
    fn libraries_are_looked_for_beside_the_program() {
        let program = std::env::current_exe().unwrap();
        assert_eq!(loader::own_folder().unwrap(), loader::canonical(program.parent().unwrap()));
    }
}

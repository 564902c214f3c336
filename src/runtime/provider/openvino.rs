//! Intel's OpenVINO on the CPU, through its plug-in for ONNX Runtime (PyPI: onnxruntime-ep-openvino).
//!
//! The plug-in is a library beside OpenVINO's own, found at run time and registered once per process: ONNX Runtime does not
//! survive its being unloaded. It compiles a whole graph into one node, with weights packed for it, and computes on threads
//! of its own (oneTBB's, which stay until the process ends).

use std::path::{Path, PathBuf};

use ort::device::Device;
use ort::environment::Environment;
use ort::memory::{AllocationDevice, DeviceType};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

use super::{Asked, DEVICES, GraphForm, Policy, devices_as_they_are};
use crate::error::{Error, Result};
use crate::runtime::library::Runtime;
use crate::runtime::processor::{bf16_is_fast, vendor};
use crate::runtime::{library_file, loader};
use crate::shortage;

/// The environment variable that names the plug-in's file.
const ENV_LIBRARY: &str = "SOFTDIMO_OPENVINO_LIBRARY";

/// The plug-in's file.
const PLUGIN: &str = "libonnxruntime_providers_openvino_plugin.so";

/// The folder, beside ONNX Runtime, that may have it.
const FOLDER: &str = "openvino";

/// OpenVINO's kernels for CPUs, which it loads by this name from where it lies itself.
const KERNELS: &str = "libopenvino_intel_cpu_plugin.so";

/// Files of the plug-in's folder that may be loaded with it begin so.
const FAMILY: [&str; 4] = ["libonnxruntime_providers_openvino", "libopenvino", "libtbb", "libhwloc"];

/// What the plug-in calls itself.
const PROVIDER: &str = "OpenVINOExecutionProvider";

/// The vendor whose processors the plug-in takes, as they say it.
const INTEL: &str = "GenuineIntel";

/// Numbers of an activation that are rounded to one scale, in products with int8 weights. Of 32, 128, 256 and 512 this was as
/// fast as any on an Intel Xeon with VNNI (model 207, without AMX), and rounds more finely than 256, which was too.
const GROUP: u32 = 128;

/// Bytes that must be free for it to start, beside its files.
const START: u64 = 48 << 20;

pub(super) struct OpenVino;

impl Policy for OpenVino {
    fn name(&self) -> &'static str {
        "openvino"
    }

    fn availability(&self, runtime: &Runtime) -> std::result::Result<(), String> {
        match is_registered(runtime) {
            true => Ok(()),
            false => find(&runtime.path).and_then(|file| is_for(&file, &vendor())),
        }
    }

    #[allow(clippy::result_large_err)] // ort's builder errors carry the builder
    fn register(&self, builder: SessionBuilder, runtime: &Runtime, asked: &Asked) -> Result<SessionBuilder> {
        load(runtime)?;
        let options = [(format!("{PROVIDER}.load_config"), config(asked))];
        // It compiles what the graph says.
        let builder = builder
            .with_optimization_level(GraphOptimizationLevel::Disable)
            // What the plug-in does not take is an error, and not left to ONNX Runtime's own kernels.
            .and_then(|b| b.with_config_entry("session.disable_cpu_ep_fallback", "1"))
            .map_err(|e| unusable(e.message().into()))?;
        let _as_they_are = devices_as_they_are();
        let devices: Vec<Device<'_>> = devices(&runtime.environment).take(1).collect();
        builder.with_devices(devices, Some(&options)).map_err(|e| unusable(e.message().into()))
    }

    fn form(&self) -> GraphForm {
        GraphForm::Rounded
    }

    /// As the plug-in reads them, and packed: 2.66 GiB for the 1.34 GiB of MaskBit-256 in f32.
    fn copies(&self) -> u64 {
        2
    }

    fn has_threads(&self) -> bool {
        true
    }

    fn memory(&self, _: i32) -> (AllocationDevice<'static>, i32) {
        (AllocationDevice::CPU, 0)
    }

    fn weights_in_place(&self) -> bool {
        false
    }

    fn memory_pattern(&self) -> bool {
        false
    }

    fn needs_proof(&self) -> bool {
        true
    }

    fn failure(&self, stage: &str, e: ort::Error) -> Error {
        unusable(format!("{stage}: {}", e.message()))
    }
}

fn unusable(reason: String) -> Error {
    Error::Provider { provider: OpenVino.name().into(), reason }
}

/// OpenVINO's properties of the CPU, as JSON. A run gets its threads and no others, which nothing pins to cores; products with
/// weights laid out for int8 round activations as they come.
fn config(asked: &Asked) -> String {
    let precision = if !asked.exact && bf16_is_fast() { "bf16" } else { "f32" };
    let cpu = serde_json::json!({
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": asked.threads.to_string(),
        "NUM_STREAMS": "1",
        "ENABLE_CPU_PINNING": "NO",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": if asked.rounds { GROUP.to_string() } else { "0".into() },
    });
    serde_json::json!({ "CPU": cpu }).to_string()
}

/// The CPU, as OpenVINO computes on it: none before the plug-in is registered. To be called under [`DEVICES`].
fn devices(environment: &Environment) -> impl Iterator<Item = Device<'_>> {
    environment
        .devices()
        .filter(|d| d.ep().is_ok_and(|name| name == PROVIDER) && d.hardware_device().ty() == DeviceType::CPU)
}

fn is_registered(runtime: &Runtime) -> bool {
    let _as_they_are = devices_as_they_are();
    devices(&runtime.environment).next().is_some()
}

/// Register the plug-in, unless this process has done so.
fn load(runtime: &Runtime) -> Result<()> {
    if is_registered(runtime) {
        return Ok(());
    }
    let _alone = DEVICES.write().unwrap_or_else(|e| e.into_inner());
    // Another thread may have been faster.
    if devices(&runtime.environment).next().is_some() {
        return Ok(());
    }
    let file = find(&runtime.path).map_err(unusable)?;
    is_for(&file, &vendor()).map_err(unusable)?;
    let failed = |reason: String| unusable(format!("'{}': {reason}", file.display()));
    loader::enough_files()?;
    let sizes =
        family(&file).map_err(failed)?.iter().filter_map(|f| Some(f.metadata().ok()?.len())).sum::<u64>();
    shortage::room("loading OpenVINO", sizes + START)?;
    let registered = runtime.environment.register_ep_library(PROVIDER, &file);
    registered.map_err(|e| failed(e.message().trim().replace('\n', " ")))?;
    match devices(&runtime.environment).next() {
        Some(_) => Ok(()),
        None => Err(failed("expected a CPU among its devices, found none".into())),
    }
}

/// The plug-in has no device but Intel's, although OpenVINO itself computes on AMD's processors as well.
fn is_for(file: &Path, vendor: &str) -> std::result::Result<(), String> {
    match vendor {
        INTEL => Ok(()),
        _ => Err(format!("'{}': expected a processor of Intel's ({INTEL}), found {vendor}", file.display())),
    }
}

/// The plug-in's file: what the environment names and nothing else, or else what lies beside ONNX Runtime.
fn find(runtime: &Path) -> std::result::Result<PathBuf, String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        let (system, machine) = (std::env::consts::OS, std::env::consts::ARCH);
        return Err(format!("'{PLUGIN}' not found: expected Linux on x86_64, found {system} on {machine}"));
    }
    let named = std::env::var_os(ENV_LIBRARY).filter(|v| !v.is_empty()).map(PathBuf::from);
    let beside = runtime.with_file_name(FOLDER).join(PLUGIN);
    let candidates = match named {
        Some(file) => vec![file],
        None => vec![runtime.with_file_name(PLUGIN), beside],
    };
    let Some(file) = candidates.iter().find(|file| file.exists()) else {
        let tried = candidates.iter().map(|file| format!("'{}'", file.display())).collect::<Vec<_>>();
        let expected = "expected OpenVINO's plug-in (onnxruntime-ep-openvino) there or named by";
        return Err(format!("{} not found: {expected} {ENV_LIBRARY}", tried.join(", ")));
    };
    let file = loader::canonical(file);
    family(&file)?;
    Ok(file)
}

/// The plug-in and the libraries beside it that are loaded with it, each complete, and OpenVINO's kernels among them.
fn family(plugin: &Path) -> std::result::Result<Vec<PathBuf>, String> {
    let checked =
        |file: &Path| library_file::check(file).map_err(|reason| format!("'{}': {reason}", file.display()));
    checked(plugin)?;
    checked(&plugin.with_file_name(KERNELS))?;
    let folder = plugin.parent().unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder).map_err(|e| format!("'{}': {e}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    files.retain(|file| {
        let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        name.contains(".so") && FAMILY.iter().any(|start| name.starts_with(start))
    });
    files.iter().try_for_each(|file| checked(file))?;
    Ok(files)
}

//! Execution providers: which exist, which was asked for, and the honest report of what is used.

use std::path::Path;

use ort::ep;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::SessionBuilder;

use super::error::{builder_error, runtime_error};
use super::library::Runtime;
use crate::error::{Error, Result};

/// An execution provider this library can be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Provider {
    /// ONNX Runtime's CPU kernels.
    #[default]
    Cpu,
    /// NVIDIA GPUs through the GPU build of ONNX Runtime.
    Cuda,
}

impl Provider {
    /// Every provider, in the order of `softdimo_provider_info`.
    pub const ALL: [Provider; 2] = [Provider::Cpu, Provider::Cuda];

    /// Name in options, reports and the CLI.
    pub fn name(self) -> &'static str {
        match self {
            Provider::Cpu => "cpu",
            Provider::Cuda => "cuda",
        }
    }

    /// Parse a provider's name; the error lists the names there are.
    pub fn parse(name: &str) -> Result<Provider> {
        Provider::ALL
            .into_iter()
            .find(|p| p.name() == name)
            .ok_or_else(|| Error::invalid("provider", "'cpu' or 'cuda'", format!("'{name}'")))
    }

    /// Add the provider to a session, on the CPU with or without an arena. Asked for and not usable is an error that
    /// names what is missing.
    pub(super) fn register(
        self,
        builder: SessionBuilder,
        runtime: &Runtime,
        device_id: i32,
        arena: bool,
    ) -> Result<SessionBuilder> {
        match self {
            Provider::Cpu if arena => Ok(builder),
            Provider::Cpu => builder
                .with_execution_providers([ep::CPU::default().with_arena_allocator(false).build()])
                .map_err(builder_error("a CPU session without an arena")),
            Provider::Cuda => {
                let fail = |reason: String| Error::Provider { provider: "cuda".into(), reason };
                if let Err(missing) = cuda_library(&runtime.path) {
                    return Err(fail(missing));
                }
                let cuda =
                    ep::CUDA::default().with_device_id(device_id).with_tf32(false).build().error_on_failure();
                builder.with_execution_providers([cuda]).map_err(|e| fail(e.message().to_string()))
            }
        }
    }

    /// The memory it computes in.
    pub(super) fn memory(self, device_id: i32) -> Result<MemoryInfo<'static>> {
        let (device, id) = match self {
            Provider::Cpu => (AllocationDevice::CPU, 0),
            Provider::Cuda => (AllocationDevice::CUDA, device_id),
        };
        MemoryInfo::new(device, id, AllocatorType::Device, MemoryType::Default)
            .map_err(runtime_error("naming the provider's memory"))
    }

    /// Whether the provider could be used with the loaded runtime; the reason when not. For `cuda` this
    /// looks for its library file; only opening an engine proves that the GPU works.
    pub fn availability(self, runtime: Option<&Runtime>) -> std::result::Result<(), String> {
        match (self, runtime) {
            (_, None) => Err("ONNX Runtime is not loaded yet: open an engine first".into()),
            (Provider::Cpu, Some(_)) => Ok(()),
            (Provider::Cuda, Some(runtime)) => cuda_library(&runtime.path),
        }
    }
}

/// The CUDA provider's library must lie beside its own ONNX Runtime.
fn cuda_library(runtime: &Path) -> std::result::Result<(), String> {
    let name =
        if cfg!(windows) { "onnxruntime_providers_cuda.dll" } else { "libonnxruntime_providers_cuda.so" };
    let file = runtime.with_file_name(name);
    if file.exists() {
        Ok(())
    } else {
        Err(format!(
            "'{}' not found: expected the GPU build of ONNX Runtime (onnxruntime-gpu), found the CPU build '{}'",
            file.display(),
            runtime.display()
        ))
    }
}

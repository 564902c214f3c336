//! NVIDIA GPUs through the GPU build of ONNX Runtime.

use std::path::Path;

use ort::ep;
use ort::memory::AllocationDevice;
use ort::session::builder::SessionBuilder;

use super::{Asked, GraphForm, Policy};
use crate::error::{Error, Result};
use crate::runtime::library::Runtime;

pub(super) struct Cuda;

impl Policy for Cuda {
    fn name(&self) -> &'static str {
        "cuda"
    }

    fn availability(&self, runtime: &Runtime) -> std::result::Result<(), String> {
        provider_library(&runtime.path)
    }

    fn register(&self, builder: SessionBuilder, runtime: &Runtime, asked: &Asked) -> Result<SessionBuilder> {
        provider_library(&runtime.path).map_err(unusable)?;
        let cuda = ep::CUDA::default().with_device_id(asked.device_id).with_tf32(false);
        let cuda = cuda.build().error_on_failure();
        builder.with_execution_providers([cuda]).map_err(|e| unusable(e.message().to_string()))
    }

    fn form(&self) -> GraphForm {
        GraphForm::Plain
    }

    fn memory(&self, device_id: i32) -> (AllocationDevice<'static>, i32) {
        (AllocationDevice::CUDA, device_id)
    }

    fn weights_in_place(&self) -> bool {
        false
    }

    fn memory_pattern(&self) -> bool {
        true
    }

    fn needs_proof(&self) -> bool {
        true
    }

    fn failure(&self, _: &str, e: ort::Error) -> Error {
        unusable(e.message().into())
    }
}

fn unusable(reason: String) -> Error {
    Error::Provider { provider: Cuda.name().into(), reason }
}

/// The CUDA provider's library must lie beside its own ONNX Runtime.
fn provider_library(runtime: &Path) -> std::result::Result<(), String> {
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

//! ONNX Runtime's CPU kernels, which every build of it has.

use ort::ep;
use ort::memory::AllocationDevice;
use ort::session::builder::SessionBuilder;

use super::{Asked, GraphForm, Policy, devices_as_they_are};
use crate::error::{Error, Result};
use crate::runtime::error::{builder_error, runtime_error};
use crate::runtime::library::Runtime;

/// What ONNX Runtime calls them.
const PROVIDER: &str = "CPUExecutionProvider";

pub(super) struct Cpu;

impl Policy for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn availability(&self, _: &Runtime) -> std::result::Result<(), String> {
        Ok(())
    }

    /// By its device: without one, ONNX Runtime takes any registered provider that has a device of this kind, such as a plug-in for
    /// CPUs, whatever policy of selection it is told.
    fn register(&self, builder: SessionBuilder, runtime: &Runtime, asked: &Asked) -> Result<SessionBuilder> {
        let failed = builder_error("a CPU session");
        let builder = match asked.arena {
            true => builder,
            false => builder
                .with_execution_providers([ep::CPU::default().with_arena_allocator(false).build()])
                .map_err(&failed)?,
        };
        let _as_they_are = devices_as_they_are();
        let own = runtime.environment.devices().filter(|d| d.ep().is_ok_and(|name| name == PROVIDER));
        let own: Vec<_> = own.collect();
        if own.is_empty() {
            return Err(Error::internal("ONNX Runtime names no device of its CPU provider"));
        }
        builder.with_devices(own, None).map_err(failed)
    }

    fn form(&self) -> GraphForm {
        GraphForm::Kernels
    }

    fn memory(&self, _: i32) -> (AllocationDevice<'static>, i32) {
        (AllocationDevice::CPU, 0)
    }

    fn weights_in_place(&self) -> bool {
        true
    }

    /// One block comes on top of the pieces of the first run: twice the memory, and no faster.
    fn memory_pattern(&self) -> bool {
        false
    }

    fn needs_proof(&self) -> bool {
        false
    }

    fn failure(&self, stage: &str, e: ort::Error) -> Error {
        runtime_error(stage)(e)
    }
}

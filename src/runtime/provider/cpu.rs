//! ONNX Runtime's CPU kernels, which every build of it has.

use ort::ep;
use ort::memory::AllocationDevice;
use ort::session::builder::SessionBuilder;

use super::{Form, Policy, Wanted};
use crate::error::{Error, Result};
use crate::runtime::error::{builder_error, runtime_error};
use crate::runtime::library::Runtime;

pub(super) struct Cpu;

impl Policy for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn availability(&self, _: &Runtime) -> std::result::Result<(), String> {
        Ok(())
    }

    fn register(&self, builder: SessionBuilder, _: &Runtime, wanted: &Wanted) -> Result<SessionBuilder> {
        match wanted.arena {
            true => Ok(builder),
            false => builder
                .with_execution_providers([ep::CPU::default().with_arena_allocator(false).build()])
                .map_err(builder_error("a CPU session without an arena")),
        }
    }

    fn form(&self) -> Form {
        Form::Kernels
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

//! Execution providers: which exist, which was asked for, and the honest report of what is used.
//!
//! A provider is a file of this folder that implements [`Policy`], and a row of the table under a name of its own:
//! nothing outside of this folder asks which provider it is.

mod cpu;
mod cuda;
mod openvino;

use std::sync::{RwLock, RwLockReadGuard};

use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::SessionBuilder;

use super::error::runtime_error;
use super::library::Runtime;
use crate::error::{Error, Result};
use crate::graph::{Graph, int8, qdq};

/// ONNX Runtime's list of devices grows when a plug-in is registered, under no lock of its own: it is read, and handed over to
/// sessions, under this one.
static DEVICES: RwLock<()> = RwLock::new(());

/// The list as it is until the guard is dropped.
fn devices_as_they_are() -> RwLockReadGuard<'static, ()> {
    DEVICES.read().unwrap_or_else(|e| e.into_inner())
}

/// What a session asks of its provider.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// Which of several devices.
    pub device_id: i32,
    /// An arena for values, where there is a choice.
    pub arena: bool,
    /// Threads that compute one run, where the provider has its own.
    pub threads: usize,
    /// f32 throughout.
    pub exact: bool,
    /// Products with int8 weights may round what they read to int8.
    pub rounds: bool,
}

/// The form of a graph that a provider is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GraphForm {
    /// As it was built, in f32.
    Plain,
    /// Rewritten for ONNX Runtime's CPU kernels, those for int8 among them.
    Kernels,
    /// ONNX's own operators; int8 as values that are rounded and widened again.
    Rounded,
}

/// What sets a provider apart.
trait Policy {
    /// Name in options, reports and the CLI.
    fn name(&self) -> &'static str;

    /// Why it cannot be used with the loaded runtime.
    fn availability(&self, runtime: &Runtime) -> std::result::Result<(), String>;

    /// Add the provider to a session.
    fn register(&self, builder: SessionBuilder, runtime: &Runtime, asked: &Asked) -> Result<SessionBuilder>;

    fn form(&self) -> GraphForm;

    /// How often a session holds its weights, where they are not in place.
    fn copies(&self) -> u64 {
        1
    }

    /// It computes on threads of its own: sessions need no pool.
    fn has_threads(&self) -> bool {
        false
    }

    /// The memory it computes in, by the runtime's name, and which of it.
    fn memory(&self, device_id: i32) -> (AllocationDevice<'static>, i32);

    /// It computes on the files' own bytes: weights need no copy.
    fn weights_in_place(&self) -> bool;

    /// All activations of a run go into one block, by a plan made in the first run.
    fn memory_pattern(&self) -> bool;

    /// Only a run proves that it works.
    fn needs_proof(&self) -> bool;

    /// A session could not be prepared.
    fn failure(&self, stage: &str, e: ort::Error) -> Error;
}

macro_rules! providers {
    (
        $(#[$outer:meta])*
        pub enum $name:ident { $($(#[$inner:meta])* $provider:ident = $policy:path,)* }
    ) => {
        $(#[$outer])*
        pub enum $name {
            $($(#[$inner])* $provider,)*
        }

        const PROVIDERS: &[$name] = &[$($name::$provider,)*];

        fn policy(provider: $name) -> &'static dyn Policy {
            match provider {
                $($name::$provider => &$policy,)*
            }
        }
    };
}

// The table: a row a provider.
providers! {
    /// An execution provider this library can be asked for.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    #[non_exhaustive]
    pub enum Provider {
        /// ONNX Runtime's CPU kernels.
        #[default]
        Cpu = cpu::Cpu,
        /// NVIDIA GPUs through the GPU build of ONNX Runtime.
        Cuda = cuda::Cuda,
        /// Intel's OpenVINO on the CPU, through its plug-in for ONNX Runtime. Linux on x86-64.
        OpenVino = openvino::OpenVino,
    }
}

impl Provider {
    /// Every provider, in the order of `softdimo_provider_info`.
    pub const ALL: &'static [Provider] = PROVIDERS;

    /// Name in options, reports and the CLI.
    pub fn name(self) -> &'static str {
        policy(self).name()
    }

    /// The provider of this name.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for another name; it lists those there are.
    pub fn parse(name: &str) -> Result<Provider> {
        let mut all = Provider::ALL.iter().copied();
        all.find(|p| p.name() == name).ok_or_else(|| {
            let names: Vec<String> = Provider::ALL.iter().map(|p| format!("'{}'", p.name())).collect();
            Error::invalid("provider", names.join(" or "), format!("'{name}'"))
        })
    }

    /// Whether the provider could be used with the loaded runtime; the reason when not. Of one with a library of its own
    /// this looks for the file; only opening an engine proves that it works.
    pub(crate) fn availability(self, runtime: Option<&Runtime>) -> std::result::Result<(), String> {
        let runtime = runtime.ok_or("ONNX Runtime is not loaded yet: open an engine first")?;
        policy(self).availability(runtime)
    }

    /// Whether weights can be read where they are in their files; otherwise they are copied to the device.
    pub(crate) fn weights_in_place(self) -> bool {
        policy(self).weights_in_place()
    }

    /// Whether an engine must run something before it is handed out.
    pub(crate) fn needs_proof(self) -> bool {
        policy(self).needs_proof()
    }

    /// Whether a run's activations go into one block.
    pub(super) fn memory_pattern(self) -> bool {
        policy(self).memory_pattern()
    }

    /// Add the provider to a session. Asked for and not usable is an error that names what is missing.
    pub(super) fn register(
        self,
        builder: SessionBuilder,
        runtime: &Runtime,
        asked: &Asked,
    ) -> Result<SessionBuilder> {
        policy(self).register(builder, runtime, asked)
    }

    /// The form of graphs for it.
    pub(super) fn form(self) -> GraphForm {
        policy(self).form()
    }

    /// How often a session holds its weights, where they are not in place.
    pub(crate) fn copies(self) -> u64 {
        policy(self).copies()
    }

    /// Whether int8 weights of `graph` stay so without operators of their own for it.
    pub(crate) fn keeps_int8(self, graph: &Graph) -> bool {
        self.form() == GraphForm::Rounded && (int8::multiplies(graph) || qdq::rounds(graph))
    }

    /// Whether it computes on threads of its own.
    pub(crate) fn has_threads(self) -> bool {
        policy(self).has_threads()
    }

    /// The memory it computes in.
    pub(super) fn memory(self, device_id: i32) -> Result<MemoryInfo<'static>> {
        let (device, id) = policy(self).memory(device_id);
        MemoryInfo::new(device, id, AllocatorType::Device, MemoryType::Default)
            .map_err(runtime_error("naming the provider's memory"))
    }

    /// The error of a session that could not be prepared at `stage`.
    pub(super) fn failure(self, stage: &str, e: ort::Error) -> Error {
        policy(self).failure(stage, e)
    }
}

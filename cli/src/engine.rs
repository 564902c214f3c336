//! Options shared by the commands that open an engine, and the search for the default model.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use softdimo::Report;
use softdimo::{
    Arithmetic, Decode, Engine, Error, Generated, MemoryMode, Options, Provider, Request, Result, WeightsMode,
};

use crate::interrupt::{self, HandOver};
use crate::progress::Progress;
use crate::say::tell;

/// How often a wait looks for signals.
const LOOK: Duration = Duration::from_millis(100);

/// File name of the bundled model.
const BUNDLED: &str = "emoji-32.softdimo.safetensors";

#[derive(Args, Clone)]
pub struct EngineArgs {
    /// Model file; default: $SOFTDIMO_MODEL, else the bundled emoji-32
    #[arg(long)]
    pub model: Option<PathBuf>,
    #[command(flatten)]
    pub run: RunArgs,
}

/// How a model is run, whichever it is.
#[derive(Args, Clone)]
pub struct RunArgs {
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Threads that compute; 0 = one per core, at most 8
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Weights straight from the mapped file, or packed for speed
    #[arg(long, value_enum, default_value_t = Memory::Lean)]
    pub memory: Memory,
}

/// On what a model is run, and within which bounds.
#[derive(Args, Clone)]
pub struct PlaceArgs {
    /// Execution provider: cpu, cuda or openvino
    #[arg(long, default_value = "cpu")]
    pub provider: String,
    /// GPU index for cuda
    #[arg(long, default_value_t = 0)]
    pub device: i32,
    /// What weights for int8 arithmetic are computed with: int8 where the provider is fast at it, or always f32
    #[arg(long, value_enum, default_value_t = ArithmeticArg::Auto)]
    pub arithmetic: ArithmeticArg,
    /// Bytes to hold beyond mapped pages; 0 = no limit
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub memory_limit: u64,
    /// Billions of multiply-adds a network may take for a picture; 0 = 40000
    #[arg(long, value_name = "BILLIONS", default_value_t = 0)]
    pub work_limit: u32,
    /// Copy the file into memory instead of mapping it
    #[arg(long)]
    pub read: bool,
    /// ONNX Runtime library file
    #[arg(long)]
    pub ort_library: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Memory {
    Lean,
    Fast,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ArithmeticArg {
    Auto,
    F32,
}

impl From<ArithmeticArg> for Arithmetic {
    fn from(arg: ArithmeticArg) -> Arithmetic {
        match arg {
            ArithmeticArg::Auto => Arithmetic::Auto,
            ArithmeticArg::F32 => Arithmetic::F32,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DecodeArg {
    Hard,
    Soft,
}

impl From<DecodeArg> for Decode {
    fn from(arg: DecodeArg) -> Decode {
        match arg {
            DecodeArg::Hard => Decode::Hard,
            DecodeArg::Soft => Decode::Soft,
        }
    }
}

impl RunArgs {
    pub fn options(&self) -> Result<Options> {
        self.place.options(self.memory, self.threads)
    }
}

impl PlaceArgs {
    pub fn options(&self, memory: Memory, threads: usize) -> Result<Options> {
        Ok(Options {
            provider: Provider::parse(&self.provider)?,
            device_id: self.device,
            memory: if memory == Memory::Lean { MemoryMode::Lean } else { MemoryMode::Fast },
            arithmetic: self.arithmetic.into(),
            weights: if self.read { WeightsMode::Read } else { WeightsMode::MapGuarded },
            threads,
            memory_limit: self.memory_limit,
            work_limit: self.work_limit,
            ort_library: self.ort_library.clone(),
            ..Options::default()
        })
    }
}

impl EngineArgs {
    pub fn open(&self) -> Result<Engine> {
        Engine::open(self.path()?, self.run.options()?)
    }

    pub fn path(&self) -> Result<PathBuf> {
        model_path(self.model.as_ref())
    }
}

/// The model file that is meant: the given one, $SOFTDIMO_MODEL, or the bundled one.
pub fn model_path(given: Option<&PathBuf>) -> Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.clone());
    }
    if let Some(path) = std::env::var_os("SOFTDIMO_MODEL").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let program = std::env::current_exe().unwrap_or_default();
    // target/release/softdimo in a checkout; lib/softdimo/softdimo or lib/TRIPLE/softdimo/softdimo in an
    // installation (bin/softdimo links there).
    let share = "share/softdimo";
    let places: Vec<PathBuf> = [(2, "models"), (1, share), (2, share), (3, share), (3, "models")]
        .iter()
        .filter_map(|(up, folder)| Some(program.ancestors().nth(up + 1)?.join(folder).join(BUNDLED)))
        .collect();
    places.iter().find(|p| p.exists()).cloned().ok_or_else(|| {
        let tried: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
        Error::InvalidArgument {
            what: "--model".into(),
            expected: "a model file, $SOFTDIMO_MODEL, or the bundled model".into(),
            found: format!("none of {}", tried.join(", ")),
        }
    })
}

/// Generate, and say how far it is as `what`. `None` where a signal came before there was anything to show; after one the
/// result is the best so far, which the caller hands over before the guard is dropped.
pub fn run_request(
    engine: &Engine,
    request: &Request,
    what: &str,
    _: &HandOver,
) -> Result<Option<Arc<Generated>>> {
    let job = engine.submit(request)?;
    let mut progress = Progress::new(what);
    loop {
        let waited = job.wait(Some(LOOK), |p| {
            progress.set(p.step.into(), p.total.into());
            if interrupt::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match waited {
            Err(Error::Timeout { .. }) if interrupt::interrupted() => job.cancel(),
            Err(Error::Timeout { .. }) => {}
            Err(Error::Cancelled) if interrupt::interrupted() => {
                progress.finish();
                return Ok(job.result().ok());
            }
            other => {
                progress.finish();
                let done = other?;
                print_warnings(&done.report);
                return Ok(Some(done));
            }
        }
    }
}

/// What the report warns of, to stderr.
pub fn print_warnings(report: &Report) {
    for warning in &report.warnings {
        tell!("softdimo: warning: {warning}");
    }
}

/// For `--seed`.
pub fn seed(text: &str) -> std::result::Result<u64, String> {
    text.parse().map_err(|_| format!("expected a whole number from 0 to {}", u64::MAX))
}

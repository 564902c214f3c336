//! Reward files as their users meet them: converted from official checkpoints, opened, refused, and climbed
//! beside a generator in one session.

#[path = "reward_files/convert.rs"]
mod convert;
#[path = "reward_files/official.rs"]
mod official;
#[path = "reward_files/open.rs"]
mod open;
#[path = "reward_files/optimize.rs"]
mod optimize;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use softdimo::reward::RewardModel;
use softdimo::{Engine, MemoryMode, Options, Reward, WeightsMode};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn data(name: &str) -> PathBuf {
    root().join("tests/data").join(name)
}

/// The bundled model.
fn emoji(memory: MemoryMode) -> Engine {
    let options = Options { memory, ..Options::default() };
    Engine::open(root().join("models/emoji-32.softdimo.safetensors"), options).unwrap()
}

fn open(path: &Path) -> Arc<RewardModel> {
    Arc::new(RewardModel::open(path, WeightsMode::Map).unwrap())
}

/// A reward without a class of its own.
fn network(path: &Path) -> Reward {
    Reward::network(open(path), None).unwrap()
}

//! Reward files as their users meet them: converted from official checkpoints, opened, refused, and climbed
//! beside a generator in one session.

mod convert;
mod open;
mod optimize;

use std::path::Path;
use std::sync::Arc;

use softdimo::rewards::RewardModel;
use softdimo::{Engine, MemoryMode, Options, Reward, WeightsMode};

/// The bundled model.
fn emoji(memory: MemoryMode) -> Engine {
    let options = Options { memory, ..Options::default() };
    Engine::open(support::bundled(), options).unwrap()
}

fn open(path: &Path) -> Arc<RewardModel> {
    Arc::new(RewardModel::open(path, WeightsMode::Map).unwrap())
}

/// A reward without a class of its own.
fn network(path: &Path) -> Reward {
    Reward::network(open(path), None).unwrap()
}

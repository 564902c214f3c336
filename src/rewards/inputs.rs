//! What a reward may look at.

use crate::families::condition::Condition;
use crate::graph::Value;

/// The graph values a reward may read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RewardInputs {
    /// Soft pictures [B, 3, H, W]; those with alpha over the model's background.
    pub image: Value,
    /// Token distribution [B, N, splits, V].
    pub p: Value,
    /// The condition as the request has it, before anything moves.
    pub start: Condition,
    /// Class ids [B], of models that know classes.
    pub class: Option<Value>,
    /// Current and start embedding [B, N, D].
    pub e: Value,
    pub e_start: Value,
}

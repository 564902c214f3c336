//! What an optimisation tells: every iterate, and how it ended.

use serde::Serialize;

/// One iterate of the loop: values at the embedding before the update.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Iteration {
    pub step: u32,
    /// Weighted sum of the rewards, per picture.
    pub total: Vec<f32>,
    /// Each reward, unweighted: `[term][picture]`.
    pub rewards: Vec<Vec<f32>>,
    /// ‖g‖ before clipping, per picture.
    pub gradient_norm: Vec<f32>,
    /// Mean largest token probability, per picture.
    pub mean_max_probability: Vec<f32>,
    /// Mean absolute difference of hard and soft picture, where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft_hard_difference: Option<Vec<f32>>,
    pub milliseconds: f64,
}

/// How an optimisation went.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct OptimizationReport {
    /// Names of the rewards, in order.
    pub rewards: Vec<&'static str>,
    pub weights: Vec<f32>,
    pub iterations: Vec<Iteration>,
    /// The iterate that was kept, per picture: the largest total.
    pub best_step: Vec<u32>,
    /// Why the loop ended: `steps`, `deadline`, `cancelled`, `stopped by the callback` or `not finite`.
    pub ended: &'static str,
}

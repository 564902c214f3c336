//! The prior: does the model's own teacher still believe the label?

use super::inputs::RewardInputs;
use crate::error::Result;
use crate::families::condition::Condition;
use crate::families::family::Layout;
use crate::graph::{Graph, Value};
use crate::model::Model;
use crate::nn;
use crate::rng::{Philox, Stream};
use crate::tensor::{Dtype, Tensor};
use crate::weights::Weights;

/// Which tokens are shown the first time, [1, N, splits, 1]; the others are the second time.
pub(super) fn keep(layout: &Layout, seed: u64) -> Tensor {
    let rng = Philox::new(seed);
    // Sort slots by a random key; the first half is hidden from the first half of the batch.
    let mut order: Vec<usize> = (0..layout.slots()).collect();
    order.sort_by_key(|&s| (rng.u32_at(Stream::StartMask, 0, s as u64), s));
    let mut keep = vec![1f32; layout.slots()];
    order[..layout.slots() / 2].iter().for_each(|&s| keep[s] = 0.0);
    Tensor::from_f32([1, layout.positions, layout.splits, 1], &keep)
}

/// The teacher's own view of the request's condition: a class goes through its class embedding, a prompt's
/// features are the same for both generators.
fn teacher_condition(g: &Graph, model: &Model, w: &Weights, s: &RewardInputs) -> Result<Condition> {
    match s.class {
        Some(class) => Ok(Condition::class(model.architecture().embed_class(g, w, class)?)),
        None => Ok(s.start),
    }
}

/// See `Reward::Prior`.
pub(super) fn build(g: &Graph, model: &Model, keep: &str, s: &RewardInputs) -> Result<Value> {
    let (a, w) = (model.architecture(), model.weights().at("teacher"));
    let l = a.layout();
    let batch = g.shape(s.p)[0];
    let keep = g.input(keep, Dtype::F32, [1, l.positions, l.splits, 1])?;
    let hidden = g.sub(g.scalar(1.0)?, keep)?;
    // Pictures twice: once with each half of the tokens hidden.
    let embeddings = [keep, hidden]
        .map(|shown| a.embed_soft(g, &w, s.p, shown))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let e = g.concat(&embeddings, 0)?; // [2B, N, D]
    let condition = teacher_condition(g, model, &w, s)?.repeat(g, 2)?;
    let z = a.logits(g, &w, e, &condition)?; // [2B, N, splits, V]
    let q = g.log_softmax(z, 3)?;
    let half = |i: usize, scored: Value| {
        let q = g.slice(q, 0, i * batch, (i + 1) * batch)?;
        g.mul(g.mul(s.p, q)?, scored)
    };
    let sum = g.add(half(0, hidden)?, half(1, keep)?)?; // every token is scored where it was hidden
    g.mul_scalar(nn::sum_per_picture(g, sum, batch)?, 1.0 / l.slots() as f32)
}

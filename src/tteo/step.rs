//! The graphs of the loop. What a step hands to the next is an output `next.NAME` for the input `NAME`.

use super::settings::{Optimize, Optimizer, Variables};
use crate::error::Result;
use crate::families::condition::Condition;
use crate::graph::{Graph, Value, grad, grad_recomputing, simplify};
use crate::model::Model;
use crate::nn;
use crate::rewards::composite::composite;
use crate::rewards::inputs::RewardInputs;
use crate::tensor::{Dtype, Shape};

impl Optimize {
    /// Bytes of activations that one step on `batch` pictures of `model` holds at once where its graph is run as it is
    /// written; what rewrites for running spare is not taken off. `recompute` lowers it.
    #[doc(hidden)]
    pub fn activation_bytes(&self, model: &Model, batch: usize) -> Result<u64> {
        Ok(step_graph(model, batch, self)?.peak_activation_bytes())
    }
}

/// What stands before the name of an input in the name of the output that is its next value.
const NEXT: &str = "next.";

/// Variables that are parts of the condition, by the names of both.
pub(super) const MOVED: [(&str, &str); 2] = [("c", Condition::EMBEDDING), ("c.pooled", Condition::POOLED)];

/// Names of the optimiser's state of a variable: momentum, or Adam's two moments.
pub(super) fn states(optimizer: Optimizer, variable: &str) -> Vec<String> {
    let names: &[&str] = match optimizer {
        Optimizer::Sgd { momentum: 0.0 } => &[],
        Optimizer::Sgd { .. } => &["m"],
        Optimizer::Adam { .. } => &["m", "v"],
    };
    names.iter().map(|name| format!("{variable}.{name}")).collect()
}

/// The input that holds the best iterate of a variable so far.
pub(super) fn best_of(variable: &str) -> String {
    format!("best.{variable}")
}

/// The pairs of output and input that a loop over this graph carries from run to run.
pub(super) fn carried(graph: &Graph) -> Vec<(String, String)> {
    let outputs = graph.outputs();
    let names = outputs.iter().filter_map(|(name, _)| Some((name, name.strip_prefix(NEXT)?)));
    names.map(|(output, input)| (output.clone(), input.to_string())).collect()
}

/// The student's soft path from the loop's variables: what the step graph and the callback's forward share.
struct Soft {
    /// By their input names.
    variables: Vec<(&'static str, Value)>,
    inputs: RewardInputs,
    /// The pictures, alpha and all.
    decoded: Value,
    guidance: Option<Value>,
}

fn soft_path(g: &Graph, model: &Model, batch: usize, variables: Variables) -> Result<Soft> {
    let (a, w) = (model.architecture(), model.weights());
    let l = a.layout();
    let embedding = [batch, l.positions, l.embedding];
    let e_start = g.input("e_start", Dtype::F32, embedding)?;
    let mut moved = Vec::new();
    let mut variable = |name, shape| {
        let x = g.input(name, Dtype::F32, shape)?;
        moved.push((name, x));
        Ok::<_, crate::error::Error>(x)
    };
    let e = if variables.embedding {
        variable("e", embedding.into())?
    } else if variables.noise {
        let n = variable("n", embedding.into())?;
        let clean = g.input("clean", Dtype::F32, embedding)?;
        g.add(clean, g.mul(n, g.input("sigma", Dtype::F32, [1])?)?)?
    } else {
        e_start
    };
    let start = Condition::inputs(g, &a.condition_layout(), batch)?;
    let guidance = Condition::guidance_input(g, &a.condition_layout(), batch)?;
    let class = if l.classes > 0 { Some(g.input("class", Dtype::I64, [batch])?) } else { None };
    let mut condition = start;
    if variables.class {
        condition.embedding = variable(MOVED[0].0, g.shape(start.embedding))?;
        condition.pooled = start.pooled.map(|pooled| variable(MOVED[1].0, g.shape(pooled))).transpose()?;
    }
    let p = g.softmax(a.logits(g, &w.at("student"), e, &condition)?, 3)?;
    let decoded = a.decode(g, &w, a.soft_embedding(g, &w, p)?, guidance)?;
    let image = composite(g, decoded, model.background())?;
    let inputs = RewardInputs { image, p, start, class, e, e_start };
    Ok(Soft { variables: moved, inputs, decoded, guidance })
}

/// The soft pictures alone, `image` [B, 3, H, W], for a callback.
pub(super) fn forward_graph(model: &Model, batch: usize, o: &Optimize) -> Result<Graph> {
    let g = Graph::new();
    let soft = soft_path(&g, model, batch, o.variables)?;
    g.output("image", soft.inputs.image);
    simplify(&g)
}

/// The best iterates, under the names of their variables: to copy them to the host.
pub(super) fn best_graph<'a>(variables: impl Iterator<Item = (&'a str, &'a Shape)>) -> Result<Graph> {
    let g = Graph::new();
    for (variable, shape) in variables {
        g.output(variable, g.input(&best_of(variable), Dtype::F32, shape.clone())?);
    }
    Ok(g)
}

/// Forward, rewards, gradient, update, and the choice of the best iterate. Outputs for the host, all [B]: `total`,
/// `reward.<k>`, `norm`, `confidence`, and `gap` where it is asked for. Carried over: every variable, its state and
/// its best iterate; `top` [B], the best total so far; `alive` [B], 1 until a picture's total or gradient is not
/// finite, from where on it stays what it is.
pub(super) fn step_graph(model: &Model, batch: usize, o: &Optimize) -> Result<Graph> {
    let g = Graph::new();
    let soft = soft_path(&g, model, batch, o.variables)?;
    let weights = (0..o.terms.len()).map(|k| g.input(&weight_of(k), Dtype::F32, [1]));
    let weights = weights.collect::<Result<Vec<_>>>()?;
    let total = rewards(&g, model, batch, (o, &weights), &soft)?;
    let s = &soft.inputs;
    let mut loss = g.reduce_sum(total, &[0])?;
    if let Some(k) = o.terms.iter().position(|t| t.reward.is_callback()) {
        let cotangent = g.input("cotangent", Dtype::F32, g.shape(s.image))?;
        let through = g.reduce_sum(g.mul(s.image, cotangent)?, &[0, 1, 2, 3])?;
        loss = g.add(loss, g.mul(g.reshape(through, [1])?, weights[k])?)?;
    }
    let moved: Vec<Value> = soft.variables.iter().map(|(_, x)| *x).collect();
    if o.norm_regularizer > 0.0 {
        let pull = g.mul(prior_norm(&g, moved[0], batch)?, g.input("norm_regularizer", Dtype::F32, [1])?)?;
        loss = g.sub(loss, pull)?;
    }
    let largest = g.reduce_mean(g.reduce_max(s.p, 3)?, &[1, 2, 3])?;
    g.output("confidence", g.reshape(largest, [batch])?);
    if o.report_gap {
        g.output("gap", gap(&g, model, batch, &soft)?);
    }

    let differentiate = if o.recompute { grad_recomputing } else { grad };
    let gradients = differentiate(&g, loss, &moved)?;
    let mut square = g.expand(g.scalar(0.0)?, [batch])?;
    for &d in &gradients {
        square = g.add(square, nn::sum_per_picture(&g, g.mul(d, d)?, batch)?)?;
    }
    let norm = g.sqrt(square)?;
    g.output("norm", norm);

    let (alive, top) = (g.input("alive", Dtype::F32, [batch])?, g.input("top", Dtype::F32, [batch])?);
    let next_alive = if_finite(&g, norm, if_finite(&g, total, alive, 0.0)?, 0.0)?;
    next(&g, "alive", next_alive);
    let score = if_finite(&g, total, total, f32::NEG_INFINITY)?;
    next(&g, "top", g.max(score, top)?);
    let rule = UpdateRule::new(&g, o)?;
    let clip = if o.clip > 0.0 { Some(g.input("clip", Dtype::F32, [1])?) } else { None };
    for (&(name, x), &d) in soft.variables.iter().zip(&gradients) {
        let per_picture = |v: Value| {
            let mut shape = vec![1; g.shape(x).rank()];
            shape[0] = batch;
            g.reshape(v, shape)
        };
        let d = match clip {
            None => d,
            // g·clip/max(‖g‖, clip)
            Some(clip) => {
                let factor = g.div(clip, g.max(norm, g.expand(clip, [batch])?)?)?;
                g.mul(d, per_picture(factor)?)?
            }
        };
        let moves = g.greater(per_picture(next_alive)?, g.scalar(0.5)?)?;
        let better = g.greater(per_picture(score)?, per_picture(top)?)?;
        let best = g.input(&best_of(name), Dtype::F32, g.shape(x))?;
        next(&g, &best_of(name), g.where_(better, x, best)?);
        next(&g, name, g.where_(moves, rule.apply(&g, name, x, d, moves)?, x)?);
    }
    simplify(&g)
}

fn next(g: &Graph, input: &str, value: Value) {
    g.output(format!("{NEXT}{input}"), value);
}

/// `value` where `of` is finite, else `otherwise`; all [B].
fn if_finite(g: &Graph, of: Value, value: Value, otherwise: f32) -> Result<Value> {
    g.where_(g.greater(g.scalar(f32::INFINITY)?, g.abs(of)?)?, value, g.scalar(otherwise)?)
}

/// Σ weight·reward [B].
fn rewards(
    g: &Graph,
    model: &Model,
    batch: usize,
    (o, weights): (&Optimize, &[Value]),
    soft: &Soft,
) -> Result<Value> {
    let mut total = g.expand(g.scalar(0.0)?, [batch])?;
    for (k, (term, &weight)) in o.terms.iter().zip(weights).enumerate() {
        let score = match term.reward.build(g, model, k, &soft.inputs)? {
            Some(score) => score,
            None => g.input(&format!("r{k}.score"), Dtype::F32, [batch])?,
        };
        g.output(format!("reward.{k}"), score);
        total = g.add(total, g.mul(score, weight)?)?;
    }
    g.output("total", total);
    Ok(total)
}

/// The input that holds the weight [1] of term `k`.
pub(super) fn weight_of(k: usize) -> String {
    format!("r{k}.weight")
}

/// Mean absolute difference of the soft pictures and those of the most probable codes, [B].
fn gap(g: &Graph, model: &Model, batch: usize, soft: &Soft) -> Result<Value> {
    let (a, w) = (model.architecture(), model.weights());
    let code = a.hard_embedding(g, &w, g.arg_max(soft.inputs.p, 3)?)?;
    let hard = g.clip(a.decode(g, &w, code, soft.guidance)?, 0.0, 1.0)?;
    let apart = g.abs(g.sub(hard, g.clip(soft.decoded, 0.0, 1.0)?)?)?;
    g.reshape(g.reduce_mean(apart, &[1, 2, 3])?, [batch])
}

/// ReNO's ½‖n‖² − (d − 1)·ln‖n‖, summed over pictures: [1].
fn prior_norm(g: &Graph, n: Value, batch: usize) -> Result<Value> {
    let d = g.shape(n).len() / batch;
    let square = nn::sum_per_picture(g, g.mul(n, n)?, batch)?;
    let pull = g.sub(g.mul_scalar(square, 0.5)?, g.mul_scalar(g.log(square)?, 0.5 * (d as f32 - 1.0))?)?;
    g.reduce_sum(pull, &[0])
}

/// The update rule with the numbers that come in: `lr` [1], and Adam's corrections 1/(1 − βᵗ), `c1` and `c2` [1],
/// which change with the step.
struct UpdateRule {
    optimizer: Optimizer,
    lr: Value,
    corrections: Option<[Value; 2]>,
}

impl UpdateRule {
    fn new(g: &Graph, o: &Optimize) -> Result<UpdateRule> {
        let number = |name| g.input(name, Dtype::F32, [1]);
        let corrections = match o.optimizer {
            Optimizer::Sgd { .. } => None,
            Optimizer::Adam { .. } => Some([number("c1")?, number("c2")?]),
        };
        Ok(UpdateRule { optimizer: o.optimizer, lr: number("lr")?, corrections })
    }

    /// x after a step along the gradient d; the state goes on where the picture moves.
    fn apply(&self, g: &Graph, name: &str, x: Value, d: Value, moves: Value) -> Result<Value> {
        let states = states(self.optimizer, name);
        let state = |k: usize| g.input(&states[k], Dtype::F32, g.shape(x));
        let keep = |k: usize, new: Value, old: Value| -> Result<()> {
            next(g, &states[k], g.where_(moves, new, old)?);
            Ok(())
        };
        let direction = match self.optimizer {
            Optimizer::Sgd { momentum: 0.0 } => d,
            Optimizer::Sgd { momentum } => {
                let m = state(0)?;
                let new = g.add(g.mul_scalar(m, momentum)?, d)?;
                keep(0, new, m)?;
                new
            }
            Optimizer::Adam { beta1, beta2, eps } => {
                let (m, v) = (state(0)?, state(1)?);
                let new_m = g.add(g.mul_scalar(m, beta1)?, g.mul_scalar(d, 1.0 - beta1)?)?;
                let square = g.mul_scalar(g.mul(d, d)?, 1.0 - beta2)?;
                let new_v = g.add(g.mul_scalar(v, beta2)?, square)?;
                keep(0, new_m, m)?;
                keep(1, new_v, v)?;
                let [c1, c2] = self.corrections.expect("Adam has corrections");
                let (m, v) = (g.mul(new_m, c1)?, g.mul(new_v, c2)?);
                g.div(m, g.add_scalar(g.sqrt(v)?, eps)?)?
            }
        };
        g.add(x, g.mul(direction, self.lr)?)
    }
}

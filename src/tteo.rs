//! Test-time embedding optimisation: climb the gradient of rewards through the student and the decoder, with
//! every weight frozen. arXiv 2509.22925 §TTEO: SGD, learning rate 0.2, the best iterate is kept.
//!
//! One step is one session: forward, rewards, gradient and update in a single graph. A host callback joins in
//! through a cotangent: its dScore/dImage enters the same graph as Σ image·cotangent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::condition::Conditioned;
use crate::engine::Sessions;
use crate::error::{Error, Result};
use crate::graph::{Graph, Value, grad, grad_recomputing, simplify};
use crate::job::{Progress, Shared};
use crate::model::Model;
use crate::models::Condition;
use crate::models::program::Program;
use crate::nn;
use crate::reward::{RewardModel, RewardTerm, Scene};
use crate::tensor::{Dtype, Tensor};

/// The update rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// e ← e + lr·g; with momentum μ > 0, m ← μ·m + g and e ← e + lr·m.
    Sgd { momentum: f32 },
    /// Adam (arXiv 1412.6980) without weight decay.
    Adam { beta1: f32, beta2: f32, eps: f32 },
}

impl Default for Optimizer {
    fn default() -> Optimizer {
        Optimizer::Sgd { momentum: 0.0 }
    }
}

impl Optimizer {
    /// Adam with its usual constants.
    pub const ADAM: Optimizer = Optimizer::Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
}

/// What is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variables {
    /// The input embedding e_in [B, N, D].
    pub embedding: bool,
    /// Only its noise part n in e_in = √(1−σ²)·E(x_init) + σ·n. Not together with `embedding`.
    pub noise: bool,
    /// The class embedding [B, D], or the prompt's features.
    pub class: bool,
}

impl Default for Variables {
    fn default() -> Variables {
        Variables { embedding: true, noise: false, class: false }
    }
}

/// An optimisation budget and how to spend it.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimize {
    /// Maximised: Σ weight·reward, per picture.
    pub terms: Vec<RewardTerm>,
    /// Updates, 0 to 100 000. The start counts as iterate 0, so 0 only reports its reward.
    pub steps: u32,
    /// Learning rate.
    pub lr: f32,
    pub optimizer: Optimizer,
    /// Scale each picture's gradient down to this norm; 0 = off. (ReNO uses 0.1.)
    pub clip: f32,
    /// Weight of ReNO's pull of the noise towards the prior, −(½‖n‖² − (d−1)·ln‖n‖); 0 = off. Needs
    /// `variables.noise`.
    pub norm_regularizer: f32,
    /// Wall time for the loop; the iterate under way is finished.
    pub deadline: Option<Duration>,
    pub variables: Variables,
    /// Also decode hard pictures in every iteration and report their distance from the soft ones.
    pub report_gap: bool,
    /// Keep only what the layers of the networks end with and compute the rest again for the gradient: a step
    /// takes less memory and more time, see [`Optimize::activation_bytes`]. The gradient is the same.
    pub recompute: bool,
}

impl Optimize {
    /// The paper's settings for these rewards.
    pub fn new(terms: Vec<RewardTerm>, steps: u32) -> Optimize {
        Optimize {
            terms,
            steps,
            lr: 0.2,
            optimizer: Optimizer::default(),
            clip: 0.0,
            norm_regularizer: 0.0,
            deadline: None,
            variables: Variables::default(),
            report_gap: false,
            recompute: false,
        }
    }

    /// Bytes of activations that one step on `batch` pictures of `model` holds at once, at least: what
    /// `recompute` lowers, and what the memory limit of an engine is held against.
    pub fn activation_bytes(&self, model: &Model, batch: usize) -> Result<u64> {
        Ok(step_graph(model, batch, self)?.peak_activation_bytes())
    }

    /// The files that rewards lie in, one for each reward that has one.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Arc<RewardModel>> {
        self.terms.iter().filter_map(|term| term.reward.file())
    }

    /// Refuse settings that make no sense, and rewards that do not fit the model.
    pub(crate) fn validate(&self, model: &Model, sigma: f32) -> Result<()> {
        let finite = |what: &str, v: f32, low: f32, high: f32| match v {
            v if v.is_finite() && (low..=high).contains(&v) => Ok(()),
            v => Err(Error::invalid(what, format!("{low} to {high}"), v)),
        };
        if self.terms.is_empty() {
            return Err(Error::invalid("optimize.terms", "at least one reward", "none"));
        }
        if self.terms.iter().filter(|t| t.reward.is_callback()).count() > 1 {
            return Err(Error::invalid("optimize.terms", "at most one callback", "several"));
        }
        for term in &self.terms {
            finite("reward weight", term.weight, -1e9, 1e9)?;
            term.reward.validate(model)?;
        }
        if self.steps > 100_000 {
            return Err(Error::invalid("optimize.steps", "0 to 100000", self.steps));
        }
        finite("optimize.lr", self.lr, 0.0, 1e6)?;
        finite("optimize.clip", self.clip, 0.0, 1e9)?;
        finite("optimize.norm_regularizer", self.norm_regularizer, 0.0, 1e9)?;
        match self.optimizer {
            Optimizer::Sgd { momentum } => finite("optimize.momentum", momentum, 0.0, 0.999_999)?,
            Optimizer::Adam { beta1, beta2, eps } => {
                finite("optimize.beta1", beta1, 0.0, 0.999_999)?;
                finite("optimize.beta2", beta2, 0.0, 0.999_999)?;
                finite("optimize.eps", eps, 1e-20, 1.0)?;
            }
        }
        let v = self.variables;
        if !(v.embedding || v.noise || v.class) || (v.embedding && v.noise) {
            return Err(Error::invalid(
                "optimize.variables",
                "embedding or noise, class, or one of the first two with class",
                format!("{v:?}"),
            ));
        }
        if v.noise && sigma == 0.0 {
            return Err(Error::invalid("sigma", "more than 0 when the noise is optimised", sigma));
        }
        if self.norm_regularizer > 0.0 && !v.noise {
            return Err(Error::invalid(
                "optimize.norm_regularizer",
                "0 unless the noise is optimised",
                self.norm_regularizer,
            ));
        }
        Ok(())
    }
}

/// One iterate of the loop: values at the embedding before the update.
#[derive(Clone, Debug, Serialize)]
pub struct Iteration {
    pub step: u32,
    /// Weighted sum of the rewards, per picture.
    pub total: Vec<f32>,
    /// Each reward, unweighted: [term][picture].
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

/// The course of an optimisation.
#[derive(Clone, Debug, Serialize)]
pub struct Course {
    /// Names of the rewards, in order.
    pub rewards: Vec<&'static str>,
    pub weights: Vec<f32>,
    pub iterations: Vec<Iteration>,
    /// The iterate that was kept, per picture: the largest total.
    pub best_step: Vec<u32>,
    /// Why the loop ended: `steps`, `deadline`, `cancelled`, `stopped by the callback` or `not finite`.
    pub ended: &'static str,
}

/// The kept embeddings.
pub(crate) struct Optimized {
    pub e_in: Tensor,
    pub condition: Conditioned,
    pub course: Course,
    /// The owner cancelled, or the callback said stop.
    pub cancelled: bool,
}

/// Where a loop starts.
pub(crate) struct Start {
    /// e_in [B, N, D].
    pub e_in: Tensor,
    /// √(1−σ²)·E(x_init), and n, when the noise is optimised.
    pub clean: Option<Tensor>,
    pub noise: Option<Tensor>,
    pub sigma: f32,
    pub condition: Conditioned,
    /// Class ids [B]; of no meaning for models that read prompts.
    pub classes: Tensor,
    /// One a picture, where a reward reads them.
    pub prompts: Vec<String>,
}

/// A variable of the loop and its optimiser state.
struct Variable {
    name: &'static str,
    value: Tensor,
    /// Momentum, or Adam's two moments; zeros at first.
    state: Vec<Tensor>,
}

/// Number of state tensors the optimiser keeps for a variable.
fn states(optimizer: Optimizer) -> usize {
    match optimizer {
        Optimizer::Sgd { momentum: 0.0 } => 0,
        Optimizer::Sgd { .. } => 1,
        Optimizer::Adam { .. } => 2,
    }
}

/// The student's soft path from the loop's variables: what the step graph and the callback's forward share.
struct Soft {
    variables: Vec<Value>,
    scene: Scene,
}

fn soft_path(g: &Graph, model: &Model, batch: usize, variables: Variables) -> Result<Soft> {
    let (a, w) = (model.architecture(), model.weights());
    let l = a.layout();
    let embedding = [batch, l.positions, l.embedding];
    let e_start = g.input("e_start", Dtype::F32, embedding)?;
    let mut moved = Vec::new();
    let e = if variables.embedding {
        moved.push(g.input("e", Dtype::F32, embedding)?);
        moved[0]
    } else if variables.noise {
        moved.push(g.input("n", Dtype::F32, embedding)?);
        let clean = g.input("clean", Dtype::F32, embedding)?;
        g.add(clean, g.mul(moved[0], g.input("sigma", Dtype::F32, [1])?)?)?
    } else {
        e_start
    };
    let start = Condition::inputs(g, &a.condition_layout(), batch)?;
    let guidance = Condition::guidance_input(g, &a.condition_layout(), batch)?;
    let mut condition = start;
    if variables.class {
        condition.embedding = g.input("c", Dtype::F32, g.shape(start.embedding))?;
        moved.push(condition.embedding);
        if let Some(pooled) = start.pooled {
            let pooled = g.input("c.pooled", Dtype::F32, g.shape(pooled))?;
            condition.pooled = Some(pooled);
            moved.push(pooled);
        }
    }
    let p = g.softmax(a.logits(g, &w.at("student"), e, &condition)?, 3)?;
    let image = a.decode(g, &w, a.soft_embedding(g, &w, p)?, guidance)?;
    Ok(Soft { variables: moved, scene: Scene { image, p, start, e, e_start } })
}

/// Forward, rewards, gradient and update. Outputs: `image`, `total` [B], `reward.<k>` [B], `norm` [B],
/// `confidence` [B], and `next.<i>`, `next.<i>.<s>` for variable i and its state s.
fn step_graph(model: &Model, batch: usize, o: &Optimize) -> Result<Graph> {
    let g = Graph::new();
    let l = model.architecture().layout();
    let soft = soft_path(&g, model, batch, o.variables)?;
    let s = &soft.scene;
    let mut total = g.expand(g.scalar(0.0)?, [batch])?;
    for (k, term) in o.terms.iter().enumerate() {
        let score = match term.reward.build(&g, model, k, s)? {
            Some(score) => score,
            None => g.input(&format!("r{k}.score"), Dtype::F32, [batch])?,
        };
        g.output(format!("reward.{k}"), score);
        total = g.add(total, g.mul_scalar(score, term.weight)?)?;
    }
    let mut loss = g.reduce_sum(total, &[0])?;
    if let Some(term) = o.terms.iter().find(|t| t.reward.is_callback()) {
        let cotangent = g.input("cotangent", Dtype::F32, [batch, 3, l.height, l.width])?;
        let through = g.reduce_sum(g.mul(s.image, cotangent)?, &[0, 1, 2, 3])?;
        loss = g.add(loss, g.reshape(g.mul_scalar(through, term.weight)?, [1])?)?;
    }
    if o.norm_regularizer > 0.0 {
        loss = g.add(loss, g.mul_scalar(prior_norm(&g, soft.variables[0], batch)?, -o.norm_regularizer)?)?;
    }
    g.output("image", s.image);
    g.output("total", total);
    let largest = g.reduce_mean(g.reduce_max(s.p, 3)?, &[1, 2, 3])?;
    g.output("confidence", g.reshape(largest, [batch])?);

    let differentiate = if o.recompute { grad_recomputing } else { grad };
    let gradients = differentiate(&g, loss, &soft.variables)?;
    let mut square = g.expand(g.scalar(0.0)?, [batch])?;
    for &d in &gradients {
        square = g.add(square, nn::sum_per_picture(&g, g.mul(d, d)?, batch)?)?;
    }
    let norm = g.sqrt(square)?;
    g.output("norm", norm);
    let lr = g.input("lr", Dtype::F32, [1])?;
    for (i, (&x, &d)) in soft.variables.iter().zip(&gradients).enumerate() {
        let d = match o.clip {
            0.0 => d,
            // g·clip/max(‖g‖, clip)
            clip => {
                let factor = g.div(g.scalar(clip)?, g.max(norm, g.expand(g.scalar(clip)?, [batch])?)?)?;
                let mut shape = vec![1; g.shape(d).rank()];
                shape[0] = batch;
                g.mul(d, g.reshape(factor, shape)?)?
            }
        };
        let shape = g.shape(x);
        let state = |k: usize| g.input(&format!("s{i}.{k}"), Dtype::F32, shape.clone());
        let direction = match o.optimizer {
            Optimizer::Sgd { momentum: 0.0 } => d,
            Optimizer::Sgd { momentum } => {
                let m = g.add(g.mul_scalar(state(0)?, momentum)?, d)?;
                g.output(format!("next.{i}.0"), m);
                m
            }
            Optimizer::Adam { beta1, beta2, eps } => {
                let m = g.add(g.mul_scalar(state(0)?, beta1)?, g.mul_scalar(d, 1.0 - beta1)?)?;
                let v = g.mul_scalar(g.mul(d, d)?, 1.0 - beta2)?;
                let v = g.add(g.mul_scalar(state(1)?, beta2)?, v)?;
                g.output(format!("next.{i}.0"), m);
                g.output(format!("next.{i}.1"), v);
                // Corrections 1/(1 − βᵗ) come in as numbers: they change with the step.
                let m = g.mul(m, correction(&g, i, "c1")?)?;
                let v = g.mul(v, correction(&g, i, "c2")?)?;
                g.div(m, g.add_scalar(g.sqrt(v)?, eps)?)?
            }
        };
        g.output(format!("next.{i}"), g.add(x, g.mul(direction, lr)?)?);
    }
    simplify(&g)
}

/// Adam's bias correction as an input [1] of variable `i`.
fn correction(g: &Graph, i: usize, name: &str) -> Result<Value> {
    g.input(&format!("s{i}.{name}"), Dtype::F32, [1])
}

/// ReNO's ½‖n‖² − (d − 1)·ln‖n‖, summed over pictures: [1].
fn prior_norm(g: &Graph, n: Value, batch: usize) -> Result<Value> {
    let d = g.shape(n).len() / batch;
    let square = nn::sum_per_picture(g, g.mul(n, n)?, batch)?;
    let pull = g.sub(g.mul_scalar(square, 0.5)?, g.mul_scalar(g.log(square)?, 0.5 * (d as f32 - 1.0))?)?;
    g.reduce_sum(pull, &[0])
}

/// The soft pictures alone, for a callback.
fn forward_graph(model: &Model, batch: usize, o: &Optimize) -> Result<Graph> {
    let g = Graph::new();
    let soft = soft_path(&g, model, batch, o.variables)?;
    g.output("image", soft.scene.image);
    simplify(&g)
}

/// Run the loop. `progress` is told after every iterate; `decode` gives hard pictures for the gap report.
pub(crate) fn optimize(
    sessions: &mut Sessions,
    job: &Shared,
    o: &Optimize,
    start: Start,
    mut progress: Progress,
) -> Result<Optimized> {
    let clock = Instant::now();
    let model = sessions.model().clone();
    let batch = start.classes.shape()[0];
    let callback = o.terms.iter().position(|t| t.reward.is_callback());
    let files: Vec<_> = o.files().map(|file| (file.namespace(), file.checkpoint())).collect();
    let mut step = sessions.compile_over("optimize", &step_graph(&model, batch, o)?, &files)?;
    let mut forward = match callback {
        Some(_) => Some(sessions.compile("forward", &forward_graph(&model, batch, o)?)?),
        None => None,
    };
    let mut variables = variables(o, &start)?;
    let mut fixed: Vec<(String, Tensor)> = vec![
        ("class".into(), start.classes.clone()),
        ("e_start".into(), start.e_in.clone()),
        ("lr".into(), Tensor::from_f32([1], &[o.lr])),
        ("sigma".into(), Tensor::from_f32([1], &[start.sigma])),
    ];
    fixed.extend(start.clean.clone().map(|clean| ("clean".into(), clean)));
    fixed.extend(start.condition.parts().map(|(name, t)| (name.into(), t.clone())));
    for (k, term) in o.terms.iter().enumerate() {
        fixed.extend(term.reward.feeds(sessions, k, &start.prompts, &start.classes, &job.cancel)?);
    }

    let mut best = Best::new(batch);
    let mut course = Course {
        rewards: o.terms.iter().map(|t| t.reward.name()).collect(),
        weights: o.terms.iter().map(|t| t.weight).collect(),
        iterations: Vec::new(),
        best_step: vec![0; batch],
        ended: "steps",
    };
    let mut alive = vec![true; batch];
    for t in 0..=o.steps {
        if job.cancel.is_cancelled() {
            course.ended = "cancelled";
            break;
        }
        let began = Instant::now();
        let mut feeds = fixed.clone();
        for (i, v) in variables.iter().enumerate() {
            feeds.push((v.name.into(), v.value.clone()));
            for (s, state) in v.state.iter().enumerate() {
                feeds.push((format!("s{i}.{s}"), state.clone()));
            }
            if let Optimizer::Adam { beta1, beta2, .. } = o.optimizer {
                let n = t as i32 + 1;
                for (name, beta) in [("c1", beta1), ("c2", beta2)] {
                    let correction = 1.0 / (1.0 - f64::from(beta).powi(n));
                    feeds.push((format!("s{i}.{name}"), Tensor::from_f32([1], &[correction as f32])));
                }
            }
        }
        if let (Some(k), Some(forward)) = (callback, forward.as_mut()) {
            let image = match forward.run_some(&feeds, &job.cancel) {
                Err(Error::Cancelled) => {
                    course.ended = "cancelled";
                    break;
                }
                other => take(&mut other?, "image")?,
            };
            match job.ask(&o.terms[k].reward, image)? {
                Some((scores, gradient)) => {
                    feeds.push((format!("r{k}.score"), scores));
                    feeds.push(("cotangent".into(), gradient));
                }
                None => {
                    course.ended =
                        if job.cancel.is_cancelled() { "cancelled" } else { "stopped by the callback" };
                    break;
                }
            }
        }
        let mut results = match step.run_some(&feeds, &job.cancel) {
            Err(Error::Cancelled) => {
                course.ended = "cancelled";
                break;
            }
            other => other?,
        };
        let image = take(&mut results, "image")?;
        let total = take(&mut results, "total")?.to_f32();
        let norm = take(&mut results, "norm")?.to_f32();
        let rewards = (0..o.terms.len())
            .map(|k| Ok(take(&mut results, &format!("reward.{k}"))?.to_f32()))
            .collect::<Result<Vec<_>>>()?;
        let gap = match o.report_gap {
            false => None,
            true => {
                match gap(sessions, &variables, &start, o, &image, job) {
                    // The iterate counts all the same; the loop ends at its next look.
                    Err(Error::Cancelled) => None,
                    gap => Some(gap?),
                }
            }
        };
        course.iterations.push(Iteration {
            step: t,
            total: total.clone(),
            rewards,
            gradient_norm: norm.clone(),
            mean_max_probability: take(&mut results, "confidence")?.to_f32(),
            soft_hard_difference: gap,
            milliseconds: began.elapsed().as_secs_f64() * 1e3,
        });
        for b in 0..batch {
            // A picture whose reward or gradient is not finite keeps what it had.
            alive[b] &= total[b].is_finite() && norm[b].is_finite();
            if total[b].is_finite() && best.total[b].is_none_or(|have| total[b] > have) {
                best.keep(b, total[b], t, &variables);
            }
        }
        progress.step += 1;
        job.advance(progress);
        if !alive.iter().any(|&a| a) {
            course.ended = "not finite";
            break;
        }
        if o.deadline.is_some_and(|limit| clock.elapsed() >= limit) && t < o.steps {
            course.ended = "deadline";
            break;
        }
        for (i, v) in variables.iter_mut().enumerate() {
            let next = take(&mut results, &format!("next.{i}"))?;
            v.value = select(&alive, &next, &v.value);
            for s in 0..v.state.len() {
                let next = take(&mut results, &format!("next.{i}.{s}"))?;
                v.state[s] = select(&alive, &next, &v.state[s]);
            }
        }
    }
    for (b, step) in best.step.iter().enumerate() {
        course.best_step[b] = *step;
    }
    best.apply(&mut variables);
    let cancelled = matches!(course.ended, "cancelled" | "stopped by the callback");
    let e_in = embedding_of(&variables, &start, o)?;
    let condition = condition_of(&variables, &start);
    Ok(Optimized { e_in, condition, course, cancelled })
}

/// The loop's variables at their start.
fn variables(o: &Optimize, start: &Start) -> Result<Vec<Variable>> {
    let mut values = Vec::new();
    if o.variables.embedding {
        values.push(("e", start.e_in.clone()));
    }
    if o.variables.noise {
        let noise = start.noise.clone().ok_or_else(|| Error::Unsupported {
            what: "optimising the noise of a given start embedding".into(),
            reason: "its noise part is unknown; give start tokens, or optimise the embedding".into(),
        })?;
        values.push(("n", noise));
    }
    if o.variables.class {
        let parts = MOVED.iter().filter_map(|(variable, part)| Some((*variable, start.condition.get(part)?)));
        values.extend(parts.map(|(variable, value)| (variable, value.clone())));
    }
    let zeros = |t: &Tensor| Tensor::from_f32(t.shape().clone(), &vec![0.0; t.shape().len()]);
    let state = |t: &Tensor| (0..states(o.optimizer)).map(|_| zeros(t)).collect();
    Ok(values.into_iter().map(|(name, value)| Variable { name, state: state(&value), value }).collect())
}

/// e_in [B, N, D] of the current variables.
fn embedding_of(variables: &[Variable], start: &Start, o: &Optimize) -> Result<Tensor> {
    if let Some(v) = variables.iter().find(|v| v.name == "e") {
        return Ok(v.value.clone());
    }
    match (variables.iter().find(|v| v.name == "n"), &start.clean) {
        (Some(n), Some(clean)) if o.variables.noise => {
            let e: Vec<f32> =
                clean.to_f32().iter().zip(n.value.to_f32()).map(|(c, n)| c + n * start.sigma).collect();
            Ok(Tensor::from_f32(clean.shape().clone(), &e))
        }
        _ => Ok(start.e_in.clone()),
    }
}

/// Variables that are parts of the condition.
const MOVED: [(&str, &str); 2] = [("c", Condition::EMBEDDING), ("c.pooled", Condition::POOLED)];

/// The condition with the current variables in it.
fn condition_of(variables: &[Variable], start: &Start) -> Conditioned {
    let mut condition = start.condition.clone();
    for (variable, part) in MOVED {
        if let Some(v) = variables.iter().find(|v| v.name == variable) {
            condition.set(part, v.value.clone());
        }
    }
    condition
}

/// Mean absolute difference of the hard picture at the current variables and `soft`.
fn gap(
    sessions: &mut Sessions,
    variables: &[Variable],
    start: &Start,
    o: &Optimize,
    soft: &Tensor,
    job: &Shared,
) -> Result<Vec<f32>> {
    let batch = soft.shape()[0];
    let e = embedding_of(variables, start, o)?;
    let condition = condition_of(variables, start);
    let logits = sessions.run(Program::Student, batch, &condition.with(&[("e_in", &e)]), &job.cancel)?;
    let tokens = sessions.run(Program::ArgMax, batch, &[("logits", &logits)], &job.cancel)?;
    let hard = condition.with(&[("tokens", &tokens)]);
    let hard = sessions.run(Program::DecodeHard, batch, &hard, &job.cancel)?;
    let (hard, soft) = (hard.to_f32(), soft.to_f32());
    let pixel = |(a, b): (&f32, &f32)| (a.clamp(0.0, 1.0) - b.clamp(0.0, 1.0)).abs();
    let all: Vec<f32> = hard.iter().zip(&soft).map(pixel).collect();
    Ok(all.chunks_exact(all.len() / batch).map(|c| c.iter().sum::<f32>() / c.len() as f32).collect())
}

/// Remove a named result.
fn take(results: &mut Vec<(String, Tensor)>, name: &str) -> Result<Tensor> {
    match results.iter().position(|(n, _)| n == name) {
        Some(at) => Ok(results.swap_remove(at).1),
        None => Err(Error::internal(format!("the graph has no output '{name}'"))),
    }
}

/// Rows of `new` where the picture goes on, of `old` where it does not.
fn select(alive: &[bool], new: &Tensor, old: &Tensor) -> Tensor {
    if alive.iter().all(|&a| a) {
        return new.clone();
    }
    let (new, mut kept) = (new.to_f32(), old.to_f32());
    let row = kept.len() / alive.len();
    for (b, _) in alive.iter().enumerate().filter(|(_, a)| **a) {
        kept[b * row..(b + 1) * row].copy_from_slice(&new[b * row..(b + 1) * row]);
    }
    Tensor::from_f32(old.shape().clone(), &kept)
}

/// The best iterate of every picture.
struct Best {
    total: Vec<Option<f32>>,
    step: Vec<u32>,
    /// [picture][variable] rows.
    rows: Vec<Vec<Vec<f32>>>,
}

impl Best {
    fn new(batch: usize) -> Best {
        Best { total: vec![None; batch], step: vec![0; batch], rows: vec![Vec::new(); batch] }
    }

    fn keep(&mut self, b: usize, total: f32, step: u32, variables: &[Variable]) {
        self.total[b] = Some(total);
        self.step[b] = step;
        let row = |v: &Variable| {
            let data = v.value.to_f32();
            let n = data.len() / v.value.shape()[0];
            data[b * n..(b + 1) * n].to_vec()
        };
        self.rows[b] = variables.iter().map(row).collect();
    }

    /// Put the best rows back; a picture without one stays where it is.
    fn apply(&self, variables: &mut [Variable]) {
        for (i, v) in variables.iter_mut().enumerate() {
            let mut data = v.value.to_f32();
            for (b, rows) in self.rows.iter().enumerate() {
                if let Some(row) = rows.get(i) {
                    data[b * row.len()..(b + 1) * row.len()].copy_from_slice(row);
                }
            }
            v.value = Tensor::from_f32(v.value.shape().clone(), &data);
        }
    }
}

//! The loop: feed, run, look at the numbers, go on.

use std::time::Instant;

use super::report::{Iteration, OptimizationReport};
use super::settings::{Optimize, Optimizer};
use super::step::{MOVED, best_graph, best_of, carried, forward_graph, states, step_graph};
use crate::error::{Error, Result};
use crate::host::{Host, Progress};
use crate::runtime::Cancel;
use crate::runtime::bound::Bound;
use crate::sessions::condition::Conditioned;
use crate::sessions::{Other, Sessions};
use crate::shortage;
use crate::tensor::Tensor;

/// The kept embeddings.
pub(crate) struct Optimized {
    pub e_in: Tensor,
    pub condition: Conditioned,
    pub report: OptimizationReport,
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

/// What is moved, by input name, at one iterate.
type Moved = Vec<(&'static str, Tensor)>;

/// Run the loop; `progress` goes to the host after every iterate. What crosses between runtime and host in an iterate
/// is a few numbers a picture, and the picture where a callback judges it.
///
/// # Errors
/// A failed run. A cancelled loop is none: it hands over its best iterate.
pub(crate) fn optimize(
    sessions: &mut Sessions,
    host: &dyn Host,
    o: &Optimize,
    start: Start,
    mut progress: Progress,
) -> Result<Optimized> {
    let clock = Instant::now();
    let batch = start.classes.shape()[0];
    let variables = variables(o, &start)?;
    let callback = o.terms.iter().position(|t| t.reward.is_callback());
    let files: Vec<_> = o.files().map(|file| (file.namespace(), file.checkpoint())).collect();
    let mut report = OptimizationReport {
        rewards: o.terms.iter().map(|t| t.reward.name()).collect(),
        weights: o.terms.iter().map(|t| t.weight).collect(),
        iterations: Vec::new(),
        best_step: vec![0; batch],
        ended: "steps",
    };
    let deadline = o.deadline.and_then(|limit| clock.checked_add(limit));
    host.cancel().prepare_until(deadline);
    let prepared = prepare(sessions, o, (&variables, batch), &files, host.cancel()).and_then(|programs| {
        let mut feeds = feeds(o, &start, &variables, batch)?;
        for (k, term) in o.terms.iter().enumerate() {
            // A network's may be those of a text tower, which is prepared as well.
            feeds.extend(term.reward.feeds(sessions, k, &start.prompts, &start.classes, host.cancel())?);
        }
        Ok((programs, feeds))
    });
    host.cancel().prepare_until(None);
    let (Programs { mut step, mut forward, mut best }, feeds) = match prepared {
        Err(Error::Timeout { .. }) => {
            report.ended = "deadline";
            let Start { e_in, condition, .. } = start;
            return Ok(Optimized { e_in, condition, report, cancelled: false });
        }
        other => other?,
    };
    for session in [Some(&mut step), forward.as_mut(), Some(&mut best)].into_iter().flatten() {
        session.feed(feeds.iter().map(|(name, value)| (name.as_str(), value)))?;
    }
    drop(feeds);

    // The graph makes the same comparisons for the embeddings it keeps.
    let (mut top, mut alive) = (vec![f32::NEG_INFINITY; batch], vec![true; batch]);
    for t in 0..=o.steps {
        // What was lost of a file that is guarded reads as zeros: no iterate of them is worth its time.
        sessions.model().mapping().recheck()?;
        o.files().try_for_each(|file| file.recheck())?;
        if host.cancel().is_cancelled() {
            report.ended = "cancelled";
            break;
        }
        let began = Instant::now();
        if let Optimizer::Adam { beta1, beta2, .. } = o.optimizer {
            for (name, beta) in [("c1", beta1), ("c2", beta2)] {
                let correction = 1.0 / (1.0 - f64::from(beta).powi(t as i32 + 1));
                step.feed([(name, &Tensor::from_f32([1], &[correction as f32]))])?;
            }
        }
        if let (Some(k), Some(forward)) = (callback, forward.as_mut()) {
            forward.follow(&step)?;
            let image = match forward.run(host.cancel()) {
                Err(Error::Cancelled) => {
                    report.ended = "cancelled";
                    break;
                }
                other => take(&mut other?, "image")?,
            };
            match host.ask(&o.terms[k].reward, image)? {
                Some((scores, gradient)) => {
                    let bad = not_finite(&scores, &gradient)?;
                    // With nothing to hand over, it is an error.
                    if let (0, Some(found)) = (t, bad.iter().cloned().collect::<Option<Vec<_>>>()) {
                        return Err(Error::invalid("reward callback", "finite numbers", &found[0]));
                    }
                    let found = bad.iter().enumerate().filter_map(|(b, found)| Some((b, found.as_ref()?)));
                    for (b, found) in found.filter(|(b, _)| alive[*b]) {
                        sessions.warn(format!(
                            "reward callback: expected finite numbers for picture {b}, found {found}; it keeps its best iterate"
                        ));
                    }
                    step.feed([(format!("r{k}.score").as_str(), &scores), ("cotangent", &gradient)])?;
                }
                None => {
                    let cancelled = host.cancel().is_cancelled();
                    report.ended = if cancelled { "cancelled" } else { "stopped by the callback" };
                    break;
                }
            }
        }
        let mut results = match step.run(host.cancel()) {
            Err(Error::Cancelled) => {
                report.ended = "cancelled";
                break;
            }
            other => other?,
        };
        if t == 0 {
            sessions.settle();
        }
        step.advance()?;
        let mut floats = |name: &str| Ok::<_, Error>(take(&mut results, name)?.f32s()?.to_vec());
        let rewards = (0..o.terms.len()).map(|k| floats(&format!("reward.{k}"))).collect::<Result<_>>()?;
        let iteration = Iteration {
            step: t,
            total: floats("total")?,
            rewards,
            gradient_norm: floats("norm")?,
            mean_max_probability: floats("confidence")?,
            soft_hard_difference: if o.report_gap { Some(floats("gap")?) } else { None },
            milliseconds: began.elapsed().as_secs_f64() * 1e3,
        };
        for (b, (&total, norm)) in iteration.total.iter().zip(&iteration.gradient_norm).enumerate() {
            alive[b] &= total.is_finite() && norm.is_finite();
            if total.is_finite() && total > top[b] {
                (top[b], report.best_step[b]) = (total, t);
            }
        }
        report.iterations.push(iteration);
        host.holds_best();
        progress.step += 1;
        host.advance(progress);
        if !alive.iter().any(|&a| a) {
            report.ended = "not finite";
            break;
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) && t < o.steps {
            report.ended = "deadline";
            break;
        }
        if deadline.is_none() {
            host.give_way(sessions)?;
        }
    }
    if report.ended == "cancelled" && report.iterations.is_empty() {
        return Err(Error::Cancelled);
    }
    best.follow(&step)?;
    // A cancelled job still hands over its best iterate.
    let mut results = best.run(&Default::default())?;
    let kept = variables.iter().map(|(name, _)| Ok((*name, take(&mut results, name)?)));
    let kept = kept.collect::<Result<Moved>>()?;
    let cancelled = matches!(report.ended, "cancelled" | "stopped by the callback");
    Ok(Optimized {
        e_in: embedding_of(&kept, &start)?,
        condition: condition_of(&kept, &start),
        report,
        cancelled,
    })
}

/// The sessions of a loop.
struct Programs {
    step: Bound,
    /// The picture that a callback judges.
    forward: Option<Bound>,
    best: Bound,
}

/// # Errors
/// [`Error::Cancelled`]; [`Error::Timeout`] after the deadline of `cancel`; as [`Sessions::compile_loop`].
fn prepare(
    sessions: &mut Sessions,
    o: &Optimize,
    (variables, batch): (&Moved, usize),
    files: &[Other],
    cancel: &Cancel,
) -> Result<Programs> {
    let model = sessions.model().clone();
    let graph = step_graph(&model, batch, o)?;
    let step = sessions.compile_loop("optimize", &graph, files, &carried(&graph), cancel)?;
    let forward = match o.terms.iter().any(|t| t.reward.is_callback()) {
        true => {
            let graph = forward_graph(&model, batch, o)?;
            Some(sessions.compile_loop("forward", &graph, &[], &[], cancel)?)
        }
        false => None,
    };
    let best = best_graph(variables.iter().map(|(name, value)| (*name, value.shape())))?;
    let best = sessions.compile_loop("best", &best, &[], &[], cancel)?;
    Ok(Programs { step, forward, best })
}

/// The variables at their start.
fn variables(o: &Optimize, start: &Start) -> Result<Moved> {
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
    Ok(values)
}

/// What a callback wrote that is nothing to climb, per picture.
fn not_finite(scores: &Tensor, gradient: &Tensor) -> Result<Vec<Option<String>>> {
    let (scores, gradient) = (scores.f32s()?, gradient.f32s()?);
    let bad = |(score, gradient): (&f32, &[f32])| match gradient.iter().find(|g| !g.is_finite()) {
        _ if !score.is_finite() => Some(format!("the score {score}")),
        Some(g) => Some(format!("{g} in the gradient")),
        None => None,
    };
    Ok(scores.iter().zip(gradient.chunks_exact(gradient.len() / scores.len())).map(bad).collect())
}

/// The inputs of the first step, except the rewards' own and those that change with the step.
///
/// # Errors
/// [`Error::Exhausted`].
fn feeds(o: &Optimize, start: &Start, variables: &Moved, batch: usize) -> Result<Vec<(String, Tensor)>> {
    let mut feeds: Vec<(String, Tensor)> = vec![
        ("class".into(), start.classes.clone()),
        ("e_start".into(), start.e_in.clone()),
        ("lr".into(), Tensor::from_f32([1], &[o.lr])),
        ("sigma".into(), Tensor::from_f32([1], &[start.sigma])),
        ("alive".into(), Tensor::from_f32_vec([batch], vec![1.0; batch])),
        ("top".into(), Tensor::from_f32_vec([batch], vec![f32::NEG_INFINITY; batch])),
    ];
    feeds.extend(start.clean.clone().map(|clean| ("clean".into(), clean)));
    feeds.extend(start.condition.parts().map(|(name, value)| (name.into(), value.clone())));
    for (name, value) in variables {
        let shape = value.shape();
        let zeros = shortage::filled("the optimizer's state", shape.len(), 0.0)?;
        let zeros = Tensor::from_f32_vec(shape.clone(), zeros);
        feeds.extend(states(o.optimizer, name).into_iter().map(|state| (state, zeros.clone())));
        feeds.push((best_of(name), value.clone()));
        feeds.push((name.to_string(), value.clone()));
    }
    Ok(feeds)
}

/// e_in [B, N, D] at the variables.
fn embedding_of(variables: &Moved, start: &Start) -> Result<Tensor> {
    let value = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value);
    Ok(match (value("e"), value("n"), &start.clean) {
        (Some(e), _, _) => e.clone(),
        (None, Some(n), Some(clean)) => {
            let sum = |(c, n): (&f32, &f32)| c + n * start.sigma;
            let (clean, n, shape) = (clean.f32s()?, n.f32s()?, clean.shape().clone());
            let e = shortage::collected("the best embedding", clean.len(), clean.iter().zip(n).map(sum))?;
            Tensor::from_f32_vec(shape, e)
        }
        _ => start.e_in.clone(),
    })
}

/// The condition with the variables in it.
fn condition_of(variables: &Moved, start: &Start) -> Conditioned {
    let mut condition = start.condition.clone();
    for (variable, part) in MOVED {
        if let Some((_, value)) = variables.iter().find(|(name, _)| *name == variable) {
            condition.set(part, value.clone());
        }
    }
    condition
}

/// Remove a named result.
fn take(results: &mut Vec<(String, Tensor)>, name: &str) -> Result<Tensor> {
    match results.iter().position(|(n, _)| n == name) {
        Some(at) => Ok(results.swap_remove(at).1),
        None => Err(Error::internal(format!("the graph has no output '{name}'"))),
    }
}

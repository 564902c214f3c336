//! The loop: feed, run, look at the numbers, go on.

use std::time::{Duration, Instant};

use super::programs::{Keys, Programs};
use super::report::{Iteration, OptimizationReport};
use super::settings::{Optimize, Optimizer};
use super::start::{Moved, Start};
use crate::error::{Error, Result};
use crate::host::{Host, Progress};
use crate::runtime::bound::Bound;
use crate::sessions::Sessions;
use crate::sessions::condition::Conditioned;
use crate::tensor::Tensor;

/// The kept embeddings.
pub(crate) struct Optimized {
    pub e_in: Tensor,
    pub condition: Conditioned,
    pub report: OptimizationReport,
    /// The owner cancelled, or the callback said stop.
    pub cancelled: bool,
    /// What went wrong on the way, of pictures that keep their best iterate.
    pub warnings: Vec<String>,
}

/// When a job should be over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    pub began: Instant,
    pub at: Instant,
    /// How long it takes to make the picture of the best iterate, where that is known.
    pub picture: Option<Duration>,
}

impl Deadline {
    /// Whether something that takes so long, and the picture after it, end too late. An iterate holds the networks of the
    /// picture and their gradient: where nothing else is known, the picture takes as long.
    fn is_over(&self, iterate: Duration) -> bool {
        let left = self.at.saturating_duration_since(Instant::now());
        left < iterate.saturating_add(self.picture.unwrap_or(iterate))
    }
}

/// Run the loop; `progress` goes to the host after every iterate. What crosses between runtime and host in an iterate
/// is a few numbers a picture, and the picture where a callback judges it. After the `deadline`, or where it would pass
/// before another iterate and the picture are made, the best iterate is handed over, or the start where there is none.
///
/// # Errors
/// A failed run. A cancelled loop is none: it hands over its best iterate.
pub(crate) fn optimize(
    sessions: &mut Sessions,
    host: &dyn Host,
    o: &Optimize,
    start: Start,
    deadline: Option<Deadline>,
    progress: Progress,
) -> Result<Optimized> {
    let batch = start.batch();
    let variables = start.variables(o)?;
    let keys = Keys::new(o, batch);
    let latest = |d: Deadline| d.at.checked_sub(d.picture.unwrap_or_default()).unwrap_or(d.at);
    host.cancel().prepare_until(deadline.map(latest));
    let prepared = Programs::take(sessions, o, &variables, &keys, host.cancel()).and_then(|programs| {
        let mut feeds = start.feeds(o, &variables)?;
        feeds.extend(start.feeds_of_rewards(sessions, o, host.cancel())?);
        Ok((programs, feeds))
    });
    host.cancel().prepare_until(None);
    let mut climb = Climb::new(o, batch, deadline, progress);
    let (mut programs, feeds) = match prepared {
        Err(Error::Timeout { .. }) => {
            climb.report.ended = "deadline";
            return Ok(climb.start(start));
        }
        other => other?,
    };
    let done =
        climb.run(sessions, host, &mut programs, feeds).and_then(|()| climb.best(&mut programs, &variables));
    // What a failed run leaves behind is not looked at again.
    if matches!(done, Ok(_) | Err(Error::Cancelled | Error::InvalidArgument { .. })) {
        programs.keep(sessions, keys);
    }
    match done? {
        Some(kept) => Ok(Optimized {
            e_in: start.embedding_at(&kept)?,
            condition: start.condition_at(&kept),
            cancelled: climb.is_cancelled(),
            report: climb.report,
            warnings: climb.warnings,
        }),
        None => Ok(climb.start(start)),
    }
}

/// A loop under way.
struct Climb<'a> {
    o: &'a Optimize,
    deadline: Option<Deadline>,
    progress: Progress,
    report: OptimizationReport,
    warnings: Vec<String>,
    /// The graph makes the same comparisons for the embeddings it keeps.
    top: Vec<f32>,
    alive: Vec<bool>,
}

/// What becomes of a loop after an iterate, or a part of one.
enum Go {
    On,
    End(&'static str),
}

impl<'a> Climb<'a> {
    fn new(o: &'a Optimize, batch: usize, deadline: Option<Deadline>, progress: Progress) -> Climb<'a> {
        let report = OptimizationReport {
            rewards: o.terms.iter().map(|t| t.reward.name()).collect(),
            weights: o.terms.iter().map(|t| t.weight).collect(),
            iterations: Vec::new(),
            best_step: vec![0; batch],
            ended: "steps",
        };
        let (top, alive) = (vec![f32::NEG_INFINITY; batch], vec![true; batch]);
        Climb { o, deadline, progress, report, warnings: Vec::new(), top, alive }
    }

    fn is_cancelled(&self) -> bool {
        matches!(self.report.ended, "cancelled" | "stopped by the callback")
    }

    /// The start, unmoved.
    fn start(self, start: Start) -> Optimized {
        let Start { e_in, condition, .. } = start;
        Optimized {
            e_in,
            condition,
            cancelled: self.is_cancelled(),
            report: self.report,
            warnings: self.warnings,
        }
    }

    /// All iterates, or as many as there is time for.
    ///
    /// # Errors
    /// [`Error::Cancelled`] before there is an iterate; a failed run.
    fn run(
        &mut self,
        sessions: &mut Sessions,
        host: &dyn Host,
        programs: &mut Programs,
        feeds: Vec<(String, Tensor)>,
    ) -> Result<()> {
        let Programs { step, forward, best } = programs;
        for session in [Some(&mut *step), forward.as_mut(), Some(best)].into_iter().flatten() {
            session.feed(feeds.iter().map(|(name, value)| (name.as_str(), value)))?;
        }
        drop(feeds);
        // Of a step that never ran, as of the picture, so much is known: it was worth its preparation.
        let unknown = || self.deadline.map_or(Duration::ZERO, |deadline| deadline.began.elapsed() / 2);
        let mut last = step.took().unwrap_or_else(unknown);
        for t in 0..=self.o.steps {
            // What was lost of a file that is guarded reads as zeros: no iterate of them is worth its time.
            sessions.model().mapping().recheck()?;
            self.o.recheck()?;
            if host.cancel().is_cancelled() {
                self.report.ended = "cancelled";
                break;
            }
            let began = Instant::now();
            if self.deadline.is_some_and(|deadline| deadline.is_over(last)) {
                self.report.ended = "deadline";
                break;
            }
            if let Go::End(why) = self.iterate(t, began, sessions, host, (&mut *step, forward.as_mut()))? {
                self.report.ended = why;
                break;
            }
            last = began.elapsed();
            if let (None, Some(fastest)) = (&forward, step.took()) {
                // One that had to share the processor says little of the next.
                last = last.min(fastest + fastest / 4);
            }
            if self.deadline.is_none() {
                host.give_way(sessions)?;
            }
        }
        match self.report.ended == "cancelled" && self.report.iterations.is_empty() {
            true => Err(Error::Cancelled),
            false => Ok(()),
        }
    }

    /// Iterate `t`: a run of the step, after one of the callback where there is one.
    fn iterate(
        &mut self,
        t: u32,
        began: Instant,
        sessions: &mut Sessions,
        host: &dyn Host,
        (step, forward): (&mut Bound, Option<&mut Bound>),
    ) -> Result<Go> {
        if let Optimizer::Adam { beta1, beta2, .. } = self.o.optimizer {
            for (name, beta) in [("c1", beta1), ("c2", beta2)] {
                let correction = 1.0 / (1.0 - f64::from(beta).powi(t as i32 + 1));
                step.feed([(name, &Tensor::from_f32([1], &[correction as f32]))])?;
            }
        }
        if let Some(forward) = forward
            && let Go::End(why) = self.ask(t, sessions, host, step, forward)?
        {
            return Ok(Go::End(why));
        }
        let mut results = match step.run(host.cancel()) {
            Err(Error::Cancelled) => return Ok(Go::End("cancelled")),
            other => other?,
        };
        if t == 0 {
            sessions.settle();
        }
        step.advance()?;
        let mut floats = |name: &str| Ok::<_, Error>(take(&mut results, name)?.f32s()?.to_vec());
        let rewards =
            (0..self.o.terms.len()).map(|k| floats(&format!("reward.{k}"))).collect::<Result<_>>()?;
        let iteration = Iteration {
            step: t,
            total: floats("total")?,
            rewards,
            gradient_norm: floats("norm")?,
            mean_max_probability: floats("confidence")?,
            soft_hard_difference: if self.o.report_gap { Some(floats("gap")?) } else { None },
            milliseconds: began.elapsed().as_secs_f64() * 1e3,
        };
        for (b, (&total, norm)) in iteration.total.iter().zip(&iteration.gradient_norm).enumerate() {
            self.alive[b] &= total.is_finite() && norm.is_finite();
            if total.is_finite() && total > self.top[b] {
                (self.top[b], self.report.best_step[b]) = (total, t);
            }
        }
        self.report.iterations.push(iteration);
        host.holds_best();
        self.progress.step += 1;
        host.advance(self.progress);
        Ok(if self.alive.iter().any(|&a| a) { Go::On } else { Go::End("not finite") })
    }

    /// Have the host's callback judge the picture of this iterate, and feed the step with its answer.
    ///
    /// # Errors
    /// A failed run; what is wrong with the answer, where there is no iterate before it to hand over.
    fn ask(
        &mut self,
        t: u32,
        sessions: &Sessions,
        host: &dyn Host,
        step: &mut Bound,
        forward: &mut Bound,
    ) -> Result<Go> {
        let callback = self.o.terms.iter().position(|t| t.reward.is_callback());
        let k = callback.ok_or_else(|| Error::internal("only callbacks are asked"))?;
        forward.follow(step)?;
        let image = match forward.run(host.cancel()) {
            Err(Error::Cancelled) => return Ok(Go::End("cancelled")),
            other => take(&mut other?, "image")?,
        };
        let (scores, gradient) = match host.ask(&self.o.terms[k].reward, image) {
            Ok(Some(answer)) => answer,
            Ok(None) if host.cancel().is_cancelled() => return Ok(Go::End("cancelled")),
            Ok(None) => return Ok(Go::End("stopped by the callback")),
            Err(e @ Error::InvalidArgument { .. }) if t > 0 => {
                self.warn(sessions, format!("{e}; the pictures keep their best iterate"));
                return Ok(Go::End("an answer of the callback"));
            }
            Err(e) => return Err(e),
        };
        let bad = not_finite(&scores, &gradient)?;
        // With nothing to hand over, it is an error.
        if let (0, Some(found)) = (t, bad.iter().cloned().collect::<Option<Vec<_>>>()) {
            return Err(Error::invalid("reward callback", "finite numbers", &found[0]));
        }
        for (b, found) in bad.iter().enumerate().filter_map(|(b, found)| Some((b, found.as_ref()?))) {
            if self.alive[b] {
                self.warn(sessions, format!(
                    "reward callback: expected finite numbers for picture {b}, found {found}; it keeps its best iterate"
                ));
            }
        }
        step.feed([(format!("r{k}.score").as_str(), &scores), ("cotangent", &gradient)])?;
        Ok(Go::On)
    }

    fn warn(&mut self, sessions: &Sessions, warning: String) {
        sessions.warn(warning.clone());
        self.warnings.push(warning);
    }

    /// The best iterate, also of a cancelled loop; `None` before the first.
    fn best(&self, Programs { step, best, .. }: &mut Programs, variables: &Moved) -> Result<Option<Moved>> {
        if self.report.iterations.is_empty() {
            return Ok(None);
        }
        best.follow(step)?;
        let mut results = best.run(&Default::default())?;
        let kept = variables.iter().map(|(name, _)| Ok((*name, take(&mut results, name)?)));
        kept.collect::<Result<Moved>>().map(Some)
    }
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

/// Remove a named result.
fn take(results: &mut Vec<(String, Tensor)>, name: &str) -> Result<Tensor> {
    match results.iter().position(|(n, _)| n == name) {
        Some(at) => Ok(results.swap_remove(at).1),
        None => Err(Error::internal(format!("the graph has no output '{name}'"))),
    }
}

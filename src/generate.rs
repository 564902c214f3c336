//! The pipelines from request to pictures: the one-step student, and the teacher's multi-step sampler.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::condition::Conditioned;
use crate::edit::Known;
use crate::engine::{Cancel, Engine, Sessions};
use crate::error::{Error, Result};
use crate::families::defaults::TeacherDefaults;
use crate::families::family::Layout;
use crate::job::{Job, Progress, Shared};
use crate::model::Model;
use crate::program::{Program, Role};
use crate::request::{Decode, Request, Resolved};
use crate::rng::{Philox, Stream};
use crate::sample::{Logits, MaskedDiffusion, Rule, sample_tokens, start_tokens};
use crate::tensor::Tensor;
use crate::tteo::{self, Course, Optimize, Optimized, Start};

/// The result of a job.
#[derive(Clone, Debug)]
pub struct Generated {
    /// Decoder output [B, 3, H, W], nominally in [0, 1], not clamped.
    pub images: Tensor,
    /// Codes [B, N, splits] (i64): the picture, bit for bit.
    pub tokens: Tensor,
    /// Largest softmax probability of each token, [B, N, splits], of a one-step job.
    pub max_probability: Option<Tensor>,
    /// Start embedding [B, N, D] of a one-step job.
    pub e_in: Option<Tensor>,
    pub report: Report,
}

impl Generated {
    /// Elements of picture `index` of a [B, ..] tensor.
    fn part(&self, tensor: &Tensor, index: usize) -> Result<Vec<f32>> {
        if index >= self.report.batch {
            return Err(Error::invalid("picture index", format!("below {}", self.report.batch), index));
        }
        let per_picture = tensor.shape().len() / self.report.batch;
        let start = index * per_picture * tensor.dtype().size();
        let bytes = &tensor.bytes()[start..start + per_picture * tensor.dtype().size()];
        Ok(Tensor::new(tensor.dtype(), [per_picture], bytes)?.to_f32())
    }

    /// Decoder output [3, H, W] of one picture.
    pub fn picture(&self, index: usize) -> Result<Vec<f32>> {
        self.part(&self.images, index)
    }

    /// Tokens [N, splits] of one picture.
    pub fn picture_tokens(&self, index: usize) -> Result<Vec<u32>> {
        Ok(self.part(&self.tokens, index)?.into_iter().map(|t| t as u32).collect())
    }

    /// Largest softmax probability of each token [N, splits] of one picture; [`Error::Unsupported`] after
    /// a multi-step job.
    pub fn picture_max_probability(&self, index: usize) -> Result<Vec<f32>> {
        self.part(self.max_probability.as_ref().ok_or_else(only_one_step)?, index)
    }

    /// Start embedding [N, D] of one picture; [`Error::Unsupported`] after a multi-step job.
    pub fn picture_e_in(&self, index: usize) -> Result<Vec<f32>> {
        self.part(self.e_in.as_ref().ok_or_else(only_one_step)?, index)
    }
}

fn only_one_step() -> Error {
    Error::Unsupported {
        what: "this result of a multi-step job".into(),
        reason: "start embedding and token probabilities belong to the one-step student".into(),
    }
}

/// What was done, with every default filled in: enough to make the same pictures again.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub seed: u64,
    pub batch: usize,
    pub classes: Vec<i64>,
    pub labels: Vec<Option<String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prompts: Vec<String>,
    pub steps: u32,
    pub decode: &'static str,
    pub temperature: f32,
    pub top_k: u32,
    pub top_p: f32,
    pub mask_ratio: f32,
    pub sigma: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance_scale: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub randomize_temperature: Option<f32>,
    /// Whether start tokens or a start embedding came from the caller.
    pub custom_start: bool,
    /// Tokens of the edited picture that were kept, per picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_tokens: Option<Vec<usize>>,
    pub width: usize,
    pub height: usize,
    pub model: String,
    pub library: &'static str,
    pub provider: &'static str,
    pub runtime: String,
    /// Mean over tokens of the largest softmax probability, per picture: how sure the student is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_max_probability: Option<Vec<f32>>,
    /// Mean absolute difference of hard and soft picture (0 to 1 scale), where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft_hard_difference: Option<Vec<f32>>,
    /// The course of an optimisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimization: Option<Course>,
    /// Wall time of the job on the worker, preparing sessions included.
    pub milliseconds: f64,
}

impl Report {
    /// One JSON object.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("a report is plain data")
    }
}

/// A running job as the pipelines see it: where they compute, whether to go on, whom to tell.
struct Run<'a> {
    sessions: &'a mut Sessions,
    job: &'a Shared,
    layout: Layout,
    progress: Progress,
    /// An optimisation is over: what remains is making pictures of its best iterate.
    optimized: bool,
    /// It was cancelled, or those pictures were.
    cancelled: bool,
}

impl Run<'_> {
    /// One network call, one step of progress. After an optimisation a cancel does not throw its best iterate
    /// away, unless nobody will look at it.
    fn call(&mut self, program: Program, batch: usize, inputs: &[(&str, &Tensor)]) -> Result<Tensor> {
        let output = match self.sessions.run(program, batch, inputs, &self.job.cancel) {
            Err(Error::Cancelled) if self.optimized && !self.job.is_abandoned() => {
                self.cancelled = true;
                self.sessions.run(program, batch, inputs, &Cancel::default())?
            }
            other => other?,
        };
        self.progress.step += 1;
        self.job.advance(self.progress);
        Ok(output)
    }

    /// A tokens tensor [batch, N, splits].
    fn tokens(&self, batch: usize, tokens: &[u32]) -> Tensor {
        let ids: Vec<i64> = tokens.iter().map(|&t| i64::from(t)).collect();
        Tensor::from_i64([batch, self.layout.positions, self.layout.splits], &ids)
    }
}

/// What a pipeline hands back before the report is written.
struct Pictures {
    images: Tensor,
    tokens: Tensor,
    max_probability: Option<Tensor>,
    e_in: Option<Tensor>,
    other_images: Option<Tensor>,
    course: Option<Course>,
    known: Option<Known>,
}

/// The one-step path: x_init → e_in → (optimised) → student → logits → codes or soft embedding → picture.
fn one_step(run: &mut Run, r: &Resolved) -> Result<Pictures> {
    let (b, layout) = (r.batch, run.layout);
    let condition = condition(run, r, Role::Student, false)?;
    let known = known(run, r)?;
    let start = match &r.e_in {
        Some(e_in) => Tensor::from_f32([b, layout.positions, layout.embedding], e_in),
        None => embed(run, r, known.as_ref())?,
    };
    let (e_in, condition, course) = match &r.optimize {
        None => (start, condition, None),
        Some(o) => {
            let best = climb(run, r, o, start, condition)?;
            (best.e_in, best.condition, Some(best.course))
        }
    };
    let logits = run.call(Program::Student, b, &condition.with(&[("e_in", &e_in)]))?;

    let (mut tokens, mut max_probability) = (Vec::new(), Vec::new());
    let z = logits.to_f32();
    for (i, z) in z.chunks_exact(layout.slots() * layout.codes).enumerate() {
        let sampled = sample_tokens(Logits::new(z, layout.codes)?, &r.sampling, &rng(r, i), 0)?;
        tokens.extend(sampled.tokens);
        max_probability.extend(sampled.max_probability);
    }
    if let Some(known) = &known {
        known.restore(&mut tokens);
    }
    let tokens = run.tokens(b, &tokens);

    let temperature = if r.sampling.temperature > 0.0 { r.sampling.temperature } else { 1.0 };
    let temperature = Tensor::from_f32([1], &[temperature]);
    let mut decode = |how: Decode| match how {
        Decode::Hard => run.call(Program::DecodeHard, b, &condition.with(&[("tokens", &tokens)])),
        Decode::Soft => {
            let inputs = condition.with(&[("logits", &logits), ("temperature", &temperature)]);
            run.call(Program::DecodeSoft, b, &inputs)
        }
    };
    let images = decode(r.decode)?;
    let other = if r.decode == Decode::Hard { Decode::Soft } else { Decode::Hard };
    let other_images = if r.report_gap { Some(decode(other)?) } else { None };
    let max_probability = Some(Tensor::from_f32(tokens.shape().clone(), &max_probability));
    Ok(Pictures { images, tokens, max_probability, e_in: Some(e_in), other_images, course, known })
}

/// The embedded condition of all pictures; `guided`: followed by that of no condition, once a picture.
fn condition(run: &mut Run, r: &Resolved, role: Role, guided: bool) -> Result<Conditioned> {
    let rounds = if guided { 2 * r.batch } else { r.batch };
    if run.sessions.model().architecture().text().is_some() {
        let mut prompts = r.prompts.clone();
        prompts.resize(rounds, r.negative_prompt.clone());
        return Conditioned::prompts(run.sessions, &prompts, &r.micro, &run.job.cancel);
    }
    let mut classes = r.classes.clone();
    classes.resize(rounds, run.layout.classes as i64);
    Conditioned::classes(run.sessions, role, &classes, &run.job.cancel)
}

/// The tokens an edit keeps.
fn known(run: &mut Run, r: &Resolved) -> Result<Option<Known>> {
    let rngs = || (0..r.batch).map(|i| rng(r, i));
    let known = |edit| Known::new(run.sessions, edit, &run.layout, rngs(), &run.job.cancel);
    r.edit.as_ref().map(known).transpose()
}

/// e_in = √(1−σ²)·E(x_init) + σ·n.
fn embed(run: &mut Run, r: &Resolved, known: Option<&Known>) -> Result<Tensor> {
    let start = run.tokens(r.batch, &starts(r, &run.layout, r.mask_ratio, known)?);
    let (noise, sigma) = (perturbation(r, &run.layout), Tensor::from_f32([1], &[r.sigma]));
    run.call(Program::Embed, r.batch, &[("tokens", &start), ("noise", &noise), ("sigma", &sigma)])
}

/// Test-time optimisation from `start`. A cancelled loop hands over its best iterate.
fn climb(
    run: &mut Run,
    r: &Resolved,
    o: &Optimize,
    e_in: Tensor,
    condition: Conditioned,
) -> Result<Optimized> {
    let (mut clean, mut noise) = (None, None);
    if o.variables.noise && r.e_in.is_none() {
        // e_in = clean + σ·n was made from this very n.
        let n = perturbation(r, &run.layout);
        let rest: Vec<f32> = e_in.to_f32().iter().zip(n.to_f32()).map(|(e, n)| e - n * r.sigma).collect();
        clean = Some(Tensor::from_f32(n.shape().clone(), &rest));
        noise = Some(n);
    }
    let classes = Tensor::from_i64([r.batch], &r.classes);
    let prompts = r.prompts.clone();
    let start = Start { e_in, clean, noise, sigma: r.sigma, condition, classes, prompts };
    let best = tteo::optimize(run.sessions, run.job, o, start, run.progress)?;
    run.progress.step += best.course.iterations.len() as u32;
    (run.optimized, run.cancelled) = (true, best.cancelled);
    Ok(best)
}

/// The teacher: `steps` rounds of predict, keep the most confident, mask the rest again.
fn multi_step(run: &mut Run, r: &Resolved) -> Result<Pictures> {
    let (b, layout) = (r.batch, run.layout);
    let rule = teacher_rule(run.sessions.model(), r)?;
    let mask = layout.mask_token as u32;
    let known = known(run, r)?;
    let start = starts(r, &layout, 1.0, known.as_ref())?;
    let pictures =
        start.chunks_exact(layout.slots()).map(|s| MaskedDiffusion::new(rule.clone(), s.to_vec(), mask));
    let mut pictures = pictures.collect::<Result<Vec<_>>>()?;
    let plain = condition(run, r, Role::Teacher, false)?;
    let both = match (0..r.steps).any(|i| rule.needs_unconditional(i)) {
        true => Some(condition(run, r, Role::Teacher, true)?),
        false => None,
    };
    for i in 0..r.steps {
        // With guidance the batch doubles: pictures under their condition, then under none.
        let guided = both.as_ref().filter(|_| rule.needs_unconditional(i));
        let (rounds, condition) = guided.map_or((b, &plain), |both| (2 * b, both));
        let mut masked: Vec<u32> = pictures.iter().flat_map(|p| p.tokens().to_vec()).collect();
        if guided.is_some() {
            masked.extend_from_within(..);
        }
        let (masked, condition) = (run.tokens(rounds, &masked), condition.at_timestep(rule.timestep(i)));
        let logits = run.call(Program::Teacher, rounds, &condition.with(&[("tokens", &masked)]))?.to_f32();
        let z = logits.chunks_exact(layout.slots() * layout.codes).map(|z| Logits::new(z, layout.codes));
        let z = z.collect::<Result<Vec<_>>>()?;
        for (k, picture) in pictures.iter_mut().enumerate() {
            picture.step(i, z[k], z.get(b + k).copied(), &rng(r, k))?;
        }
    }
    let tokens: Vec<u32> = pictures.iter().flat_map(|p| p.predicted().to_vec()).collect();
    let tokens = run.tokens(b, &tokens);
    let images = run.call(Program::DecodeHard, b, &plain.with(&[("tokens", &tokens)]))?;
    Ok(Pictures {
        images,
        tokens,
        max_probability: None,
        e_in: None,
        other_images: None,
        course: None,
        known,
    })
}

/// The model's sampler with the request's settings.
fn teacher_rule(model: &Model, r: &Resolved) -> Result<Arc<dyn Rule>> {
    let teacher = TeacherDefaults {
        steps: r.steps,
        temperature: r.sampling.temperature,
        guidance_scale: r.guidance_scale,
        randomize_temperature: r.randomize_temperature,
        ..model.defaults().teacher.clone()
    };
    model.architecture().rule(&teacher)
}

/// The random numbers of picture `i`.
fn rng(r: &Resolved, i: usize) -> Philox {
    Philox::for_picture(r.seed, i as u32)
}

/// Start tokens of all pictures: the caller's, or seeded, with what is known in its place.
fn starts(r: &Resolved, layout: &Layout, mask_ratio: f32, known: Option<&Known>) -> Result<Vec<u32>> {
    if let Some(tokens) = &r.start_tokens {
        return Ok(tokens.clone());
    }
    let (slots, codes, mask) = (layout.slots(), layout.codes as u32, layout.mask_token as u32);
    let pictures = (0..r.batch).map(|i| start_tokens(&rng(r, i), slots, codes, mask, mask_ratio));
    let mut tokens = pictures.collect::<Result<Vec<_>>>()?.concat();
    if let Some(known) = known {
        known.restore(&mut tokens);
    }
    Ok(tokens)
}

/// Gaussian noise [B, N, D] of the start embedding.
fn perturbation(r: &Resolved, layout: &Layout) -> Tensor {
    let per_picture = layout.positions * layout.embedding;
    let mut noise = vec![0f32; r.batch * per_picture];
    if r.sigma != 0.0 {
        for (i, picture) in noise.chunks_exact_mut(per_picture).enumerate() {
            rng(r, i).fill_gaussian(Stream::Perturbation, 0, picture);
        }
    }
    Tensor::from_f32([r.batch, layout.positions, layout.embedding], &noise)
}

/// Run a resolved request on the worker thread. True: cancelled, and this is the best so far.
fn execute(sessions: &mut Sessions, job: &Shared, r: &Resolved) -> Result<(Generated, bool)> {
    job.cancel.check()?;
    let start = Instant::now();
    let layout = sessions.model().architecture().layout();
    let total = match (r.steps, &r.optimize) {
        (1, None) => 2 + u32::from(r.e_in.is_none()) + u32::from(r.report_gap),
        (1, Some(o)) => 3 + o.steps + u32::from(r.e_in.is_none()) + u32::from(r.report_gap),
        (n, _) => n + 1,
    };
    let mut run = Run {
        sessions,
        job,
        layout,
        progress: Progress { step: 0, total },
        optimized: false,
        cancelled: false,
    };
    job.advance(run.progress);
    let pictures = if r.steps == 1 { one_step(&mut run, r)? } else { multi_step(&mut run, r)? };
    let cancelled = run.cancelled;
    let report = report(sessions, r, &layout, &pictures, start);
    let Pictures { images, tokens, max_probability, e_in, .. } = pictures;
    Ok((Generated { images, tokens, max_probability, e_in, report }, cancelled))
}

fn report(sessions: &Sessions, r: &Resolved, layout: &Layout, p: &Pictures, start: Instant) -> Report {
    let model = sessions.model();
    let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
    let title = model.metadata().get("modelspec.title").cloned();
    let difference = p.other_images.as_ref().map(|other| {
        let (a, b) = (p.images.to_f32(), other.to_f32());
        let pixel = |x: f32, y: f32| (x.clamp(0.0, 1.0) - y.clamp(0.0, 1.0)).abs();
        let all: Vec<f32> = a.iter().zip(&b).map(|(&x, &y)| pixel(x, y)).collect();
        all.chunks_exact(all.len() / r.batch).map(mean).collect()
    });
    let (teacher, labelled) = (r.steps > 1, layout.classes > 0);
    Report {
        seed: r.seed,
        batch: r.batch,
        classes: if labelled { r.classes.clone() } else { Vec::new() },
        labels: r
            .classes
            .iter()
            .filter(|_| labelled)
            .map(|&c| model.labels().get(c as usize).map(|l| l.name.clone()))
            .collect(),
        prompts: r.prompts.clone(),
        steps: r.steps,
        decode: if r.decode == Decode::Hard { "hard" } else { "soft" },
        temperature: r.sampling.temperature,
        top_k: r.sampling.top_k,
        top_p: r.sampling.top_p,
        mask_ratio: r.mask_ratio,
        sigma: r.sigma,
        guidance_scale: teacher.then_some(r.guidance_scale),
        randomize_temperature: teacher.then_some(r.randomize_temperature),
        kept_tokens: p.known.as_ref().map(Known::counts),
        custom_start: r.e_in.is_some() || r.start_tokens.is_some(),
        width: layout.width,
        height: layout.height,
        model: title.unwrap_or_else(|| model.architecture().name().into()),
        library: env!("CARGO_PKG_VERSION"),
        provider: sessions.provider().name(),
        runtime: sessions.runtime().version.clone(),
        mean_max_probability: p
            .max_probability
            .as_ref()
            .map(|p| p.to_f32().chunks_exact(layout.slots()).map(mean).collect()),
        soft_hard_difference: difference,
        optimization: p.course.clone(),
        milliseconds: start.elapsed().as_secs_f64() * 1e3,
    }
}

impl Engine {
    /// Generate and wait. Errors: a bad request ([`crate::Error::InvalidArgument`] and friends, before
    /// anything runs), or what went wrong while running; the engine stays usable after either.
    pub fn generate(&self, request: &Request) -> Result<Arc<Generated>> {
        self.submit(request)?.wait(None, |_| std::ops::ControlFlow::Continue(()))
    }

    /// Queue a request; jobs of one engine run one after the other.
    pub fn submit(&self, request: &Request) -> Result<Job> {
        self.check()?;
        let resolved = request.resolve(self.model())?;
        let job = Job::new(self.clone());
        let (shared, broken) = (job.shared().clone(), job.shared().clone());
        let queued = self.enqueue(
            move |sessions| {
                let result = execute(sessions, &shared, &resolved);
                // A truncated file shows as wrong numbers, not as an error, when the guard is on.
                let mut files = resolved.optimize.iter().flat_map(Optimize::files);
                let intact = sessions.model().mapping().recheck();
                let intact = intact.and_then(|()| files.try_for_each(|file| file.recheck()));
                match intact.and(result) {
                    Ok((best, true)) => shared.finish_cancelled(best),
                    other => shared.finish(other.map(|(done, _)| done)),
                }
            },
            move |e| broken.finish(Err(e)),
        );
        if let Err(e) = queued {
            job.shared().finish(Err(e.clone()));
            return Err(e);
        }
        Ok(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sessions are prepared for what runs: without guidance there is none for the condition of both halves.
    #[test]
    fn no_condition_is_prepared_for_guidance_that_is_off() {
        let model =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/emoji-32.softdimo.safetensors");
        for (guidance_scale, sessions) in [(0.0, 3), (2.0, 4)] {
            let engine = Engine::open(&model, crate::Options::default()).unwrap();
            engine
                .generate(&Request { steps: 2, guidance_scale: Some(guidance_scale), ..Request::class(3) })
                .unwrap();
            assert_eq!(engine.memory().unwrap().sessions, sessions, "guidance {guidance_scale}");
        }
    }
}

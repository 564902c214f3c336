//! The pipelines from request to pictures: the one-step student, and the teacher's multi-step sampler.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::engine::{Engine, Sessions};
use crate::error::{Error, Result};
use crate::job::{Job, Progress, Shared};
use crate::models::Layout;
use crate::models::program::Program;
use crate::request::{Decode, Request, Resolved};
use crate::rng::{Philox, Stream};
use crate::sample::{Guidance, MaskedDiffusion, Schedule, sample_tokens, start_tokens};
use crate::tensor::Tensor;

/// The result of a job.
#[derive(Clone, Debug)]
pub struct Generated {
    /// Decoder output [B, 3, H, W], nominally in [0, 1], not clamped.
    pub images: Tensor,
    /// Codes [B, N, splits] (i64): the picture, bit for bit.
    pub tokens: Tensor,
    /// Largest softmax probability of each token, [B, N, splits].
    pub max_probability: Tensor,
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

    /// Largest softmax probability of each token [N, splits] of one picture.
    pub fn picture_max_probability(&self, index: usize) -> Result<Vec<f32>> {
        self.part(&self.max_probability, index)
    }

    /// Start embedding [N, D] of one picture; [`Error::Unsupported`] after a multi-step job.
    pub fn picture_e_in(&self, index: usize) -> Result<Vec<f32>> {
        match &self.e_in {
            Some(e_in) => self.part(e_in, index),
            None => Err(Error::Unsupported {
                what: "the start embedding of a multi-step job".into(),
                reason: "the teacher starts from mask tokens".into(),
            }),
        }
    }
}

/// What was done, with every default filled in: enough to make the same pictures again.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub seed: u64,
    pub batch: usize,
    pub classes: Vec<i64>,
    pub labels: Vec<Option<String>>,
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
    pub width: usize,
    pub height: usize,
    pub model: String,
    pub library: &'static str,
    pub provider: &'static str,
    pub runtime: String,
    /// Mean over tokens of the largest softmax probability: how sure the student is, per picture.
    pub mean_max_probability: Vec<f32>,
    /// Mean absolute difference of hard and soft picture (0 to 1 scale), where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft_hard_difference: Option<Vec<f32>>,
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
}

impl Run<'_> {
    /// One network call, one step of progress.
    fn call(&mut self, program: Program, batch: usize, inputs: &[(&str, &Tensor)]) -> Result<Tensor> {
        let output = self.sessions.run(program, batch, inputs, &self.job.cancel)?;
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
    max_probability: Tensor,
    e_in: Option<Tensor>,
    other_images: Option<Tensor>,
}

/// The one-step path: x_init → e_in → student → logits → codes or soft embedding → picture.
fn one_step(run: &mut Run, r: &Resolved) -> Result<Pictures> {
    let (b, layout) = (r.batch, run.layout);
    let class = Tensor::from_i64([b], &r.classes);
    let e_in = match &r.e_in {
        Some(e_in) => Tensor::from_f32([b, layout.positions, layout.embedding], e_in),
        None => {
            let start = run.tokens(b, &starts(r, &layout, r.mask_ratio));
            let noise = perturbation(r, &layout);
            let sigma = Tensor::from_f32([1], &[r.sigma]);
            run.call(Program::Embed, b, &[("tokens", &start), ("noise", &noise), ("sigma", &sigma)])?
        }
    };
    let logits = run.call(Program::Student, b, &[("e_in", &e_in), ("class", &class)])?;

    let (mut tokens, mut max_probability) = (Vec::new(), Vec::new());
    let z = logits.to_f32();
    for (i, z) in z.chunks_exact(layout.slots() * layout.codes).enumerate() {
        let sampled = sample_tokens(z, layout.codes, &r.sampling, &rng(r, i), 0)?;
        tokens.extend(sampled.tokens);
        max_probability.extend(sampled.max_probability);
    }
    let tokens = run.tokens(b, &tokens);

    let temperature = if r.sampling.temperature > 0.0 { r.sampling.temperature } else { 1.0 };
    let temperature = Tensor::from_f32([1], &[temperature]);
    let mut decode = |how: Decode| match how {
        Decode::Hard => run.call(Program::DecodeHard, b, &[("tokens", &tokens)]),
        Decode::Soft => {
            run.call(Program::DecodeSoft, b, &[("logits", &logits), ("temperature", &temperature)])
        }
    };
    let images = decode(r.decode)?;
    let other = if r.decode == Decode::Hard { Decode::Soft } else { Decode::Hard };
    let other_images = if r.report_gap { Some(decode(other)?) } else { None };
    let max_probability = Tensor::from_f32(tokens.shape().clone(), &max_probability);
    Ok(Pictures { images, tokens, max_probability, e_in: Some(e_in), other_images })
}

/// The teacher: `steps` rounds of predict, keep the most confident, mask the rest again.
fn multi_step(run: &mut Run, r: &Resolved) -> Result<Pictures> {
    let (b, layout) = (r.batch, run.layout);
    let sampler = teacher_sampler(run.sessions.model().defaults(), r)?;
    let slots = layout.slots();
    let start = starts(r, &layout, 1.0);
    let mut pictures: Vec<_> =
        start.chunks_exact(slots).map(|s| sampler.begin(s.to_vec(), layout.mask_token as u32)).collect();
    let guided = sampler.guidance.scale != 0.0;
    // With guidance the batch doubles: pictures under their label, then under the null class.
    let rounds = if guided { 2 * b } else { b };
    let mut classes = r.classes.clone();
    classes.resize(rounds, layout.classes as i64);
    let class = Tensor::from_i64([rounds], &classes);
    for i in 0..r.steps {
        let mut masked: Vec<u32> = pictures.iter().flat_map(|p| p.masked().to_vec()).collect();
        if guided {
            masked.extend_from_within(..);
        }
        let masked = run.tokens(rounds, &masked);
        let logits = run.call(Program::Teacher, rounds, &[("tokens", &masked), ("class", &class)])?.to_f32();
        let z: Vec<&[f32]> = logits.chunks_exact(slots * layout.codes).collect();
        for (k, picture) in pictures.iter_mut().enumerate() {
            let unconditional = if guided { Some(z[b + k]) } else { None };
            sampler.step(picture, i, z[k], unconditional, layout.codes, &rng(r, k))?;
        }
    }
    let tokens: Vec<u32> = pictures.iter().flat_map(|p| p.predicted().to_vec()).collect();
    let tokens = run.tokens(b, &tokens);
    let max_probability: Vec<f32> = pictures.iter().flat_map(|p| p.max_probability().to_vec()).collect();
    let images = run.call(Program::DecodeHard, b, &[("tokens", &tokens)])?;
    let max_probability = Tensor::from_f32(tokens.shape().clone(), &max_probability);
    Ok(Pictures { images, tokens, max_probability, e_in: None, other_images: None })
}

fn teacher_sampler(defaults: &crate::model::Defaults, r: &Resolved) -> Result<MaskedDiffusion> {
    let t = &defaults.teacher;
    Ok(MaskedDiffusion {
        steps: r.steps,
        schedule: Schedule::parse(&t.schedule)?,
        guidance: Guidance::parse(r.guidance_scale, &t.guidance_annealing, t.guidance_power)?,
        sampling: r.sampling,
        randomize_temperature: r.randomize_temperature,
    })
}

/// The random numbers of picture `i`.
fn rng(r: &Resolved, i: usize) -> Philox {
    Philox::new(r.seed.wrapping_add(i as u64))
}

/// Start tokens of all pictures: the caller's, or seeded.
fn starts(r: &Resolved, layout: &Layout, mask_ratio: f32) -> Vec<u32> {
    if let Some(tokens) = &r.start_tokens {
        return tokens.clone();
    }
    (0..r.batch)
        .flat_map(|i| {
            start_tokens(&rng(r, i), layout.slots(), layout.codes, layout.mask_token as u32, mask_ratio)
        })
        .collect()
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

/// Run a resolved request on the worker thread.
fn execute(sessions: &mut Sessions, job: &Shared, r: &Resolved) -> Result<Generated> {
    job.cancel.check()?;
    let start = Instant::now();
    let layout = sessions.model().architecture().layout();
    let total = match r.steps {
        1 => 2 + u32::from(r.e_in.is_none()) + u32::from(r.report_gap),
        n => n + 1,
    };
    let mut run = Run { sessions, job, layout, progress: Progress { step: 0, total } };
    job.advance(run.progress);
    let pictures = if r.steps == 1 { one_step(&mut run, r)? } else { multi_step(&mut run, r)? };
    let report = report(sessions, r, &layout, &pictures, start);
    let Pictures { images, tokens, max_probability, e_in, .. } = pictures;
    Ok(Generated { images, tokens, max_probability, e_in, report })
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
    let teacher = r.steps > 1;
    Report {
        seed: r.seed,
        batch: r.batch,
        classes: r.classes.clone(),
        labels: r.classes.iter().map(|&c| model.labels().get(c as usize).map(|l| l.name.clone())).collect(),
        steps: r.steps,
        decode: if r.decode == Decode::Hard { "hard" } else { "soft" },
        temperature: r.sampling.temperature,
        top_k: r.sampling.top_k,
        top_p: r.sampling.top_p,
        mask_ratio: r.mask_ratio,
        sigma: r.sigma,
        guidance_scale: teacher.then_some(r.guidance_scale),
        randomize_temperature: teacher.then_some(r.randomize_temperature),
        custom_start: r.e_in.is_some() || r.start_tokens.is_some(),
        width: layout.width,
        height: layout.height,
        model: title.unwrap_or_else(|| model.architecture().family().into()),
        library: env!("CARGO_PKG_VERSION"),
        provider: sessions.provider().name(),
        runtime: sessions.runtime().version.clone(),
        mean_max_probability: p.max_probability.to_f32().chunks_exact(layout.slots()).map(mean).collect(),
        soft_hard_difference: difference,
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
            job.shared().cancel.clone(),
            move |sessions| {
                let result = execute(sessions, &shared, &resolved);
                // A truncated model file shows as wrong numbers, not as an error, when the guard is on.
                let intact = sessions.model().mapping().recheck();
                shared.finish(intact.and(result));
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

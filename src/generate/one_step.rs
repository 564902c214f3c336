//! One forward pass of the student, and test-time optimisation before it where the request says so.

use super::run::{Pictures, Run, condition, known, rng, starts};
use crate::edit::KeptTokens;
use crate::error::Result;
use crate::families::family::Layout;
use crate::program::{Program, Role};
use crate::request::{Decode, Resolved};
use crate::rng::Stream;
use crate::sample::{Logits, sample_tokens};
use crate::sessions::condition::Conditioned;
use crate::shortage;
use crate::tensor::Tensor;
use crate::tteo::{self, Optimize, Optimized, Start};

/// The one-step path: x_init → e_in → (optimised) → student → logits → codes or soft embedding → picture. The
/// sampler and the soft decoder both read the logits [B, N, splits, V] where the runtime wrote them.
///
/// # Errors
/// As [`Sessions::run`](crate::sessions::Sessions::run); [`Error::Runtime`](crate::Error::Runtime) for logits that
/// are not finite.
pub(super) fn one_step(run: &mut Run, r: &Resolved) -> Result<Pictures> {
    let (b, layout) = (r.batch, run.layout);
    let condition = condition(run, r, Role::Student, false)?;
    let known = known(run, r)?;
    let start = match &r.e_in {
        Some(e_in) => Tensor::from_f32([b, layout.positions, layout.embedding], e_in),
        None => embed(run, r, known.as_ref())?,
    };
    let (e_in, condition, optimization) = match &r.optimize {
        None => (start, condition, None),
        Some(o) => {
            let best = climb(run, r, o, start, condition)?;
            (best.e_in, best.condition, Some(best.report))
        }
    };
    let logits = run.call(Program::Student, b, &condition.with(&[("e_in", &e_in)]))?;

    let (mut tokens, mut max_probability) = (Vec::new(), Vec::new());
    for (i, z) in logits.f32s()?.chunks_exact(layout.slots() * layout.codes).enumerate() {
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
    let max_probability = Some(Tensor::from_f32_vec(tokens.shape().clone(), max_probability));
    Ok(Pictures { images, tokens, max_probability, e_in: Some(e_in), other_images, optimization, known })
}

/// e_in = √(1−σ²)·E(x_init) + σ·n.
fn embed(run: &mut Run, r: &Resolved, known: Option<&KeptTokens>) -> Result<Tensor> {
    let start = run.tokens(r.batch, &starts(r, &run.layout, r.mask_ratio, known)?);
    let (noise, sigma) = (perturbation(r, &run.layout)?, Tensor::from_f32([1], &[r.sigma]));
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
        let n = perturbation(r, &run.layout)?;
        let rest: Vec<f32> = e_in.f32s()?.iter().zip(n.f32s()?).map(|(e, n)| e - n * r.sigma).collect();
        clean = Some(Tensor::from_f32_vec(n.shape().clone(), rest));
        noise = Some(n);
    }
    let classes = Tensor::from_i64([r.batch], &r.classes);
    let prompts = r.prompts.clone();
    let start = Start { e_in, clean, noise, sigma: r.sigma, condition, classes, prompts };
    let best = tteo::optimize(run.sessions, run.host, o, start, run.progress)?;
    run.progress.step += best.report.iterations.len() as u32;
    (run.optimized, run.cancelled) = (true, best.cancelled);
    Ok(best)
}

/// Gaussian noise [B, N, D] of the start embedding.
fn perturbation(r: &Resolved, layout: &Layout) -> Result<Tensor> {
    let per_picture = layout.positions * layout.embedding;
    let mut noise = shortage::filled("the noise of the start", r.batch * per_picture, 0f32)?;
    if r.sigma != 0.0 {
        for (i, picture) in noise.chunks_exact_mut(per_picture).enumerate() {
            rng(r, i).fill_gaussian(Stream::Perturbation, 0, picture);
        }
    }
    Ok(Tensor::from_f32_vec([r.batch, layout.positions, layout.embedding], noise))
}

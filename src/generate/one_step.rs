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
use crate::tteo::{self, Deadline, Optimize, Optimized, Start};

/// The one-step path: x_init → e_in → (optimised) → student → logits → codes or soft embedding → picture. The
/// sampler and the soft decoder both read the logits [B, N, splits, V] where the runtime wrote them.
///
/// # Errors
/// As [`Sessions::run`](crate::sessions::Sessions::run); [`Error::Runtime`](crate::Error::Runtime) for logits that
/// are not finite.
pub(super) fn one_step(run: &mut Run, r: &Resolved) -> Result<Pictures> {
    let (b, layout) = (r.batch, run.layout);
    // An optimisation prepares what it needs by its deadline.
    if r.optimize.is_none() {
        run.sessions.prepare_ahead(programs(r).map(|program| (program, b)), run.host.cancel());
    }
    let Beginning { condition, known, e_in } = begin(run, r)?;
    let (e_in, condition, optimization, warnings) = match &r.optimize {
        None => (e_in, condition, None, Vec::new()),
        Some(o) => {
            let best = climb(run, r, o, e_in, condition)?;
            (best.e_in, best.condition, Some(best.report), best.warnings)
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
    Ok(Pictures {
        images,
        tokens,
        max_probability,
        e_in: Some(e_in),
        other_images,
        optimization,
        known,
        warnings,
    })
}

/// What the student starts from.
struct Beginning {
    condition: Conditioned,
    known: Option<KeptTokens>,
    /// [B, N, D].
    e_in: Tensor,
}

fn begin(run: &mut Run, r: &Resolved) -> Result<Beginning> {
    let layout = run.layout;
    let condition = condition(run, r, Role::Student, false)?;
    let known = known(run, r)?;
    let e_in = match &r.e_in {
        Some(e_in) => Tensor::from_f32([r.batch, layout.positions, layout.embedding], e_in),
        None => embed(run, r, known.as_ref())?,
    };
    Ok(Beginning { condition, known, e_in })
}

/// What makes the pictures of an embedding.
fn programs(r: &Resolved) -> impl Iterator<Item = Program> {
    let (hard, soft) = (r.decode == Decode::Hard || r.report_gap, r.decode == Decode::Soft || r.report_gap);
    let decoders = [(hard, Program::DecodeHard), (soft, Program::DecodeSoft)];
    [Program::Student].into_iter().chain(decoders.into_iter().filter_map(|(used, p)| used.then_some(p)))
}

/// Prepare what [`one_step`] runs, and have the features of its prompts computed.
///
/// # Errors
/// As [`one_step`].
pub(super) fn prepare_one_step(run: &mut Run, r: &Resolved) -> Result<()> {
    let Beginning { condition, e_in, .. } = begin(run, r)?;
    for program in programs(r) {
        run.prepare(program, r.batch)?;
    }
    if let Some(o) = &r.optimize {
        let start = start(run, r, o, e_in, condition)?;
        tteo::prepare(run.sessions, o, &start, run.host.cancel())?;
        run.step();
    }
    Ok(())
}

/// How many steps [`prepare_one_step`] takes.
pub(super) fn preparing_one_step(r: &Resolved) -> u32 {
    u32::from(r.e_in.is_none()) + programs(r).count() as u32 + u32::from(r.optimize.is_some())
}

/// e_in = √(1−σ²)·E(x_init) + σ·n.
fn embed(run: &mut Run, r: &Resolved, known: Option<&KeptTokens>) -> Result<Tensor> {
    let start = run.tokens(r.batch, &starts(r, &run.layout, r.mask_ratio, known)?);
    let (noise, sigma) = (perturbation(r, &run.layout)?, Tensor::from_f32([1], &[r.sigma]));
    run.call(Program::Embed, r.batch, &[("tokens", &start), ("noise", &noise), ("sigma", &sigma)])
}

/// Test-time optimisation from `e_in`. A cancelled loop hands over its best iterate.
fn climb(
    run: &mut Run,
    r: &Resolved,
    o: &Optimize,
    e_in: Tensor,
    condition: Conditioned,
) -> Result<Optimized> {
    let start = start(run, r, o, e_in, condition)?;
    let deadline = deadline(run, r, o)?;
    let best = tteo::optimize(run.sessions, run.host, o, start, deadline, run.progress)?;
    run.progress.step += best.report.iterations.len() as u32;
    (run.optimized, run.cancelled) = (true, best.cancelled);
    Ok(best)
}

/// When the job should be over. What makes its picture is prepared first: a loop that is out of time hands that over.
fn deadline(run: &mut Run, r: &Resolved, o: &Optimize) -> Result<Option<Deadline>> {
    let Some(at) = o.deadline.and_then(|limit| run.began.checked_add(limit)) else { return Ok(None) };
    for program in programs(r) {
        run.sessions.prepare(program, r.batch, run.host.cancel())?;
    }
    let picture = programs(r).map(|program| run.sessions.took(program, r.batch)).sum();
    Ok(Some(Deadline { began: run.began, at, picture }))
}

/// Where a loop starts from `e_in`.
fn start(run: &Run, r: &Resolved, o: &Optimize, e_in: Tensor, condition: Conditioned) -> Result<Start> {
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
    Ok(Start { e_in, clean, noise, sigma: r.sigma, condition, classes, prompts })
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

//! The pipelines from request to pictures: the one-step student, and the teacher's multi-step sampler. Functions of a
//! model's sessions, a request and a host; they know no threads.

mod multi_step;
mod one_step;
mod run;

use std::time::Instant;

use self::multi_step::{multi_step, prepare_multi_step, preparing_multi_step};
use self::one_step::{one_step, prepare_one_step, preparing_one_step};
use self::run::{Pictures, Run};
use crate::edit::KeptTokens;
use crate::error::{Error, Result};
use crate::generated::Generated;
use crate::host::{Host, Progress};
use crate::program::{Program, Role};
use crate::report::Report;
use crate::request::{Decode, Resolved};
use crate::runtime::Cancel;
use crate::sessions::Sessions;
use crate::tensor::Tensor;

/// Prepare what a one-step job of `batch` pictures runs; of a file that holds only the teacher, what that runs without
/// guidance. `told` hears how many of how many sessions are there, from 0 on.
///
/// # Errors
/// As [`Sessions::prepare`].
pub(crate) fn prepare(
    sessions: &mut Sessions,
    batch: usize,
    cancel: &Cancel,
    told: &mut dyn FnMut(u32, u32),
) -> Result<()> {
    let model = sessions.model().clone();
    let available = |program: Program| program.available(model.architecture(), &model.weights());
    let generator: &[Program] = match available(Program::Student) {
        true => &[Program::Class(Role::Student), Program::Embed, Program::Student],
        false => &[Program::Class(Role::Teacher), Program::Teacher],
    };
    // Prompts are encoded one by one.
    let text = [(Program::Prompt, 1)].into_iter();
    let programs = text.chain(generator.iter().chain(&[Program::DecodeHard]).map(|&p| (p, batch)));
    let programs: Vec<_> = programs.filter(|(program, _)| available(*program)).collect();
    let total = programs.len() as u32;
    told(0, total);
    // The generator and the decoder.
    sessions.prepare_ahead(programs.iter().rev().take(2).rev().copied(), cancel);
    for (done, (program, batch)) in (1..).zip(programs) {
        if let Err(e) = sessions.prepare(program, batch, cancel) {
            sessions.give_up_ahead();
            return Err(e);
        }
        told(done, total);
    }
    Ok(())
}

/// Prepare what a request runs: nothing of it has to be prepared when it comes. Features of its prompts are computed, and
/// kept; so is the picture of an edit encoded, which is not kept.
///
/// # Errors
/// As [`execute`].
pub(crate) fn prepare_request(sessions: &mut Sessions, host: &dyn Host, r: &Resolved) -> Result<()> {
    host.cancel().check()?;
    let total = match r.steps {
        1 => preparing_one_step(r),
        _ => preparing_multi_step(sessions.model(), r)?,
    };
    on_behalf(sessions, host, r, total, |run| match r.steps {
        1 => prepare_one_step(run, r),
        _ => prepare_multi_step(run, r),
    })
}

/// Do `work` of `total` steps for a job, whose buffers count meanwhile.
fn on_behalf<T>(
    sessions: &mut Sessions,
    host: &dyn Host,
    r: &Resolved,
    total: u32,
    work: impl FnOnce(&mut Run) -> Result<T>,
) -> Result<T> {
    let began = Instant::now();
    let layout = sessions.model().architecture().layout();
    let host_bytes = sessions.begin_job(&layout, r.batch)?;
    let progress = Progress { step: 0, total };
    host.advance(progress);
    let done = work(&mut Run { sessions, host, layout, began, progress, optimized: false, cancelled: false });
    sessions.end_job(host_bytes);
    if matches!(done, Err(Error::Cancelled)) {
        sessions.give_up_ahead();
    }
    done
}

/// Run a resolved request. True: cancelled, and this is the best so far.
///
/// # Errors
/// [`Error::Cancelled`](crate::Error::Cancelled), or what went wrong while running.
pub(crate) fn execute(sessions: &mut Sessions, host: &dyn Host, r: &Resolved) -> Result<(Generated, bool)> {
    host.cancel().check()?;
    for warning in &r.warnings {
        sessions.warn(warning.clone());
    }
    let total = match (r.steps, &r.optimize) {
        (1, None) => 2 + u32::from(r.e_in.is_none()) + u32::from(r.report_gap),
        (1, Some(o)) => 3 + o.steps + u32::from(r.e_in.is_none()) + u32::from(r.report_gap),
        (n, _) => n + 1,
    };
    // Another job may stand inside of one.
    let outer = std::mem::take(&mut sessions.spent);
    let done = on_behalf(sessions, host, r, total, |run| {
        let pictures = if r.steps == 1 { one_step(run, r)? } else { multi_step(run, r)? };
        let report = report(run, r, &pictures)?;
        let Pictures { images, tokens, max_probability, e_in, .. } = pictures;
        Ok((Generated { images, tokens, max_probability, e_in, report }, run.cancelled))
    });
    sessions.spent = outer;
    done
}

fn report(run: &Run, r: &Resolved, p: &Pictures) -> Result<Report> {
    let (sessions, layout) = (&*run.sessions, &run.layout);
    let model = sessions.model();
    let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
    let title = model.metadata().get("modelspec.title").cloned();
    let difference = |other: &Tensor| {
        let (a, b) = (p.images.f32s()?, other.f32s()?);
        let pixel = |x: f32, y: f32| (x.clamp(0.0, 1.0) - y.clamp(0.0, 1.0)).abs();
        let all: Vec<f32> = a.iter().zip(b).map(|(&x, &y)| pixel(x, y)).collect();
        Ok(all.chunks_exact(all.len() / r.batch).map(mean).collect())
    };
    let confidence = |p: &Tensor| Ok(p.f32s()?.chunks_exact(layout.slots()).map(mean).collect());
    let (teacher, labelled) = (r.steps > 1, layout.classes > 0);
    Ok(Report {
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
        kept_tokens: p.known.as_ref().map(KeptTokens::counts),
        custom_start: r.e_in.is_some() || r.start_tokens.is_some(),
        width: layout.width,
        height: layout.height,
        channels: layout.channels,
        model: title.unwrap_or_else(|| model.architecture().name().into()),
        library: env!("CARGO_PKG_VERSION"),
        provider: sessions.provider().name(),
        runtime: sessions.runtime().version.clone(),
        mean_max_probability: p.max_probability.as_ref().map(confidence).transpose()?,
        soft_hard_difference: p.other_images.as_ref().map(difference).transpose()?,
        optimization: p.optimization.clone(),
        warnings: r.warnings.iter().chain(&p.warnings).cloned().collect(),
        milliseconds: run.began.elapsed().as_secs_f64() * 1e3,
        network_milliseconds: sessions.spent.clone(),
    })
}

#[cfg(test)]
pub(crate) mod tests;

//! The teacher's multi-step sampler.

use std::sync::Arc;

use super::run::{Pictures, Run, condition, known, rng, starts};
use crate::error::Result;
use crate::families::defaults::TeacherDefaults;
use crate::model::Model;
use crate::program::{Program, Role};
use crate::request::Resolved;
use crate::sample::{Logits, MaskedDiffusion, Rule};

/// The teacher: `steps` rounds of predict, keep the most confident, mask the rest again. Logits, [B, N, splits, V]
/// or [2B, N, splits, V] of a guided step, are read where the runtime wrote them.
///
/// # Errors
/// As [`Sessions::run`](crate::sessions::Sessions::run); [`Error::Runtime`](crate::Error::Runtime) for logits that
/// are not finite.
pub(super) fn multi_step(run: &mut Run, r: &Resolved) -> Result<Pictures> {
    let (b, layout) = (r.batch, run.layout);
    let rule = teacher_rule(run.sessions.model(), r)?;
    let teachers = rounds(run.sessions.model(), r)?.into_iter().map(|rounds| (Program::Teacher, rounds));
    run.sessions.prepare_ahead(teachers.chain([(Program::DecodeHard, b)]), run.host.cancel());
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
        let logits = run.call(Program::Teacher, rounds, &condition.with(&[("tokens", &masked)]))?;
        let z =
            logits.f32s()?.chunks_exact(layout.slots() * layout.codes).map(|z| Logits::new(z, layout.codes));
        let z = z.collect::<Result<Vec<_>>>()?;
        for (k, picture) in pictures.iter_mut().enumerate() {
            picture.step(i, z[k], z.get(b + k).copied(), &rng(r, k))?;
        }
        run.host.give_way(run.sessions)?;
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
        optimization: None,
        known,
        warnings: Vec::new(),
    })
}

/// Prepare what [`multi_step`] runs, and have the features of its prompts computed.
///
/// # Errors
/// As [`multi_step`].
pub(super) fn prepare_multi_step(run: &mut Run, r: &Resolved) -> Result<()> {
    let rounds = rounds(run.sessions.model(), r)?;
    known(run, r)?;
    for &rounds in &rounds {
        condition(run, r, Role::Teacher, rounds > r.batch)?;
        run.prepare(Program::Teacher, rounds)?;
    }
    run.prepare(Program::DecodeHard, r.batch)
}

/// How many steps [`prepare_multi_step`] takes.
///
/// # Errors
/// As [`multi_step`].
pub(super) fn preparing_multi_step(model: &Model, r: &Resolved) -> Result<u32> {
    Ok(rounds(model, r)?.len() as u32 + 1)
}

/// The batch sizes of the teacher: the request's, twice that where it is guided, or both, one after the other.
fn rounds(model: &Model, r: &Resolved) -> Result<Vec<usize>> {
    let rule = teacher_rule(model, r)?;
    let guided = |guided: bool| (0..r.steps).any(|i| rule.needs_unconditional(i) == guided);
    let rounds = [(false, r.batch), (true, 2 * r.batch)].into_iter();
    Ok(rounds.filter(|(doubled, _)| guided(*doubled)).map(|(_, rounds)| rounds).collect())
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

//! What both pipelines share: the run of a job, its condition, its random numbers, where it starts.

use std::time::Instant;

use crate::edit::KeptTokens;
use crate::error::{Error, Result};
use crate::families::family::Layout;
use crate::host::{Host, Progress};
use crate::program::{Program, Role};
use crate::request::Resolved;
use crate::rng::Philox;
use crate::runtime::Cancel;
use crate::sample::start_tokens;
use crate::sessions::Sessions;
use crate::sessions::condition::Conditioned;
use crate::tensor::Tensor;
use crate::tteo::OptimizationReport;

/// A running job: where it computes, and whom to tell.
pub(super) struct Run<'a> {
    pub sessions: &'a mut Sessions,
    pub host: &'a dyn Host,
    pub layout: Layout,
    /// When the engine began with it.
    pub began: Instant,
    pub progress: Progress,
    /// An optimisation is over: what remains is making pictures of its best iterate.
    pub optimized: bool,
    /// It was cancelled, or those pictures were.
    pub cancelled: bool,
}

impl Run<'_> {
    /// One network call, one step of progress. After an optimisation a cancel does not throw its best iterate
    /// away, unless nobody will look at it.
    ///
    /// # Errors
    /// As [`Sessions::run`].
    pub fn call(&mut self, program: Program, batch: usize, inputs: &[(&str, &Tensor)]) -> Result<Tensor> {
        let output = match self.sessions.run(program, batch, inputs, self.host.cancel()) {
            Err(Error::Cancelled) if self.optimized && !self.host.is_abandoned() => {
                self.cancelled = true;
                self.sessions.run(program, batch, inputs, &Cancel::default())?
            }
            other => other?,
        };
        self.step();
        Ok(output)
    }

    /// One step of progress that prepares what [`Run::call`] runs.
    ///
    /// # Errors
    /// As [`Sessions::prepare`].
    pub fn prepare(&mut self, program: Program, batch: usize) -> Result<()> {
        self.sessions.prepare(program, batch, self.host.cancel())?;
        self.step();
        Ok(())
    }

    pub fn step(&mut self) {
        self.progress.step += 1;
        self.host.advance(self.progress);
    }

    /// A tokens tensor [batch, N, splits].
    pub fn tokens(&self, batch: usize, tokens: &[u32]) -> Tensor {
        let ids: Vec<i64> = tokens.iter().map(|&t| i64::from(t)).collect();
        Tensor::from_i64_vec([batch, self.layout.positions, self.layout.splits], ids)
    }
}

/// What a pipeline hands back before the report is written.
pub(super) struct Pictures {
    pub images: Tensor,
    pub tokens: Tensor,
    pub max_probability: Option<Tensor>,
    pub e_in: Option<Tensor>,
    pub other_images: Option<Tensor>,
    pub optimization: Option<OptimizationReport>,
    pub known: Option<KeptTokens>,
    /// What went wrong on the way.
    pub warnings: Vec<String>,
}

/// The embedded condition of all pictures; `guided`: followed by that of no condition, once a picture.
///
/// # Errors
/// As [`Sessions::run`].
pub(super) fn condition(run: &mut Run, r: &Resolved, role: Role, guided: bool) -> Result<Conditioned> {
    let rounds = if guided { 2 * r.batch } else { r.batch };
    if run.sessions.model().architecture().text().is_some() {
        let mut prompts = r.prompts.clone();
        prompts.resize(rounds, r.negative_prompt.clone());
        return Conditioned::prompts(run.sessions, &prompts, &r.micro, run.host.cancel());
    }
    let mut classes = r.classes.clone();
    classes.resize(rounds, run.layout.classes as i64);
    Conditioned::classes(run.sessions, role, &classes, run.host.cancel())
}

/// The tokens an edit keeps.
///
/// # Errors
/// As [`KeptTokens::new`].
pub(super) fn known(run: &mut Run, r: &Resolved) -> Result<Option<KeptTokens>> {
    let rngs = || (0..r.batch).map(|i| rng(r, i));
    let known = |edit| KeptTokens::new(run.sessions, edit, &run.layout, rngs(), run.host.cancel());
    r.edit.as_ref().map(known).transpose()
}

/// The random numbers of picture `i`.
pub(super) fn rng(r: &Resolved, i: usize) -> Philox {
    Philox::for_picture(r.seed, i as u32)
}

/// Start tokens [B, slots] of all pictures: the caller's, or seeded, with what is known in its place.
///
/// # Errors
/// [`Error::InvalidArgument`] for a mask ratio that is none.
pub(super) fn starts(
    r: &Resolved,
    layout: &Layout,
    mask_ratio: f32,
    known: Option<&KeptTokens>,
) -> Result<Vec<u32>> {
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

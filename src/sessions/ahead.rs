//! Preparing ahead: sessions that a job is about to need, beside what it does until then.

use super::kept::key;
use super::{Runs, Sessions, budget};
use crate::error::Result;
use crate::program::Program;
use crate::runtime::Cancel;
use crate::runtime::compiler::Sharing;
use crate::shortage;
use crate::weights::Sources;

impl Sessions {
    /// Begin to prepare what a job is about to run, each program on a thread of its own: with two cores the first picture
    /// is there sooner. A hint: what cannot be begun is prepared when it is wanted, which says why it cannot be. Where
    /// memory is limited nothing is begun, as two preparations at once may need more than one after the other.
    pub(crate) fn prepare_ahead(
        &mut self,
        programs: impl IntoIterator<Item = (Program, usize)>,
        cancel: &Cancel,
    ) {
        let limited = self.options.memory_limit != 0 || budget::budget() != 0;
        if limited || self.observed.is_some() || self.compiler.threads() < 2 {
            return;
        }
        let mut missing: Vec<(Program, usize)> = programs.into_iter().collect();
        missing.retain(|&(program, batch)| !self.kept.contains(&key(program, batch)));
        // One alone is prepared no sooner.
        if missing.len() < 2 {
            return;
        }
        for (program, batch) in missing {
            let _ = self.begin(program, batch, cancel);
        }
    }

    /// Have what was begun so end: its job was cancelled.
    pub(crate) fn give_up_ahead(&mut self) {
        self.compiler.give_up_ahead();
    }

    fn begin(&mut self, program: Program, batch: usize, cancel: &Cancel) -> Result<()> {
        let (key, model) = (key(program, batch), self.model.clone());
        let is_there = program.available(model.architecture(), &model.weights());
        if !is_there || !self.compiler.may_begin(&key) {
            return Ok(());
        }
        let sources = Sources::of(model.checkpoint());
        let graph = program.graph(model.architecture(), &model.weights(), batch)?;
        self.recall();
        let graph = &self.compiler.for_running(&graph, &sources)?;
        let cost = self.cost(graph, &sources, Runs::Many, Sharing::Model);
        // All at once, and beside them what the job runs meanwhile.
        let needed = cost.preparing().saturating_add(cost.planned).saturating_add(self.compiler.preparing());
        shortage::room("preparing ahead", needed.saturating_mul(2))?;
        let cost = self.admit(key.name, cost, cancel)?;
        self.compiler.begin(&key, graph, &sources, cost, cancel)
    }
}

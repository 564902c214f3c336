//! The sessions of a loop, kept for the next one of their shape.

use super::settings::Optimize;
use super::start::{Moved, Start};
use super::step::{best_graph, carried, forward_graph, step_graph};
use crate::error::Result;
use crate::graph::Graph;
use crate::runtime::Cancel;
use crate::runtime::aside::Key;
use crate::runtime::bound::Bound;
use crate::sessions::Sessions;

/// The keys of a loop's sessions: what shapes their graphs. The numbers that change with a request are inputs.
pub(super) struct Keys {
    pub step: Key,
    pub forward: Key,
    pub best: Key,
}

impl Keys {
    pub fn new(o: &Optimize, batch: usize) -> Keys {
        let key = |name, shape: &dyn std::fmt::Debug| Key { name, batch, shape: format!("{shape:?}") };
        let rewards: Vec<_> = o.terms.iter().map(|term| term.reward.shape()).collect();
        let parts = (o.clip > 0.0, o.norm_regularizer > 0.0, o.report_gap, o.recompute);
        Keys {
            step: key("optimize", &(o.variables, o.optimizer, parts, rewards)),
            forward: key("forward", &o.variables),
            best: key("best", &o.variables),
        }
    }
}

/// The sessions of a loop.
pub(super) struct Programs {
    pub step: Bound,
    /// The picture that a callback judges.
    pub forward: Option<Bound>,
    pub best: Bound,
}

/// Prepare what an optimisation from `start` runs, features of its prompts included.
///
/// # Errors
/// As [`Sessions::take_loop`], and [`Start::feeds_of_rewards`].
pub(crate) fn prepare(sessions: &mut Sessions, o: &Optimize, start: &Start, cancel: &Cancel) -> Result<()> {
    let keys = Keys::new(o, start.batch());
    Programs::take(sessions, o, &start.variables(o)?, &keys, cancel)?.keep(sessions, keys);
    start.feeds_of_rewards(sessions, o, cancel).map(drop)
}

impl Programs {
    /// Those that are kept, and the others new.
    ///
    /// # Errors
    /// As [`Sessions::take_loop`].
    pub fn take(
        sessions: &mut Sessions,
        o: &Optimize,
        variables: &Moved,
        keys: &Keys,
        cancel: &Cancel,
    ) -> Result<Programs> {
        let model = sessions.model().clone();
        let (batch, none) = (keys.step.batch, |_: &Graph| Vec::new());
        let files: Vec<_> = o.files().map(|file| (file.namespace(), file.checkpoint())).collect();
        let shapes = || variables.iter().map(|(name, value)| (*name, value.shape()));
        let best = sessions.take_loop(&keys.best, || best_graph(shapes()), &[], none, cancel)?;
        let forward = || forward_graph(&model, batch, o);
        let judged = o.terms.iter().any(|t| t.reward.is_callback());
        let forward =
            judged.then(|| sessions.take_loop(&keys.forward, forward, &[], none, cancel)).transpose();
        // The step takes longest.
        let made = forward.and_then(|forward| {
            let graph = || step_graph(&model, batch, o);
            match sessions.take_loop(&keys.step, graph, &files, carried, cancel) {
                Ok(step) => Ok((step, forward)),
                Err(e) => {
                    forward.into_iter().for_each(|forward| sessions.keep_loop(keys.forward.clone(), forward));
                    Err(e)
                }
            }
        });
        match made {
            Ok((step, forward)) => Ok(Programs { step, forward, best }),
            Err(e) => {
                // What is there already is there for the next one.
                sessions.keep_loop(keys.best.clone(), best);
                Err(e)
            }
        }
    }

    /// For the next loop of their shape.
    pub fn keep(self, sessions: &mut Sessions, keys: Keys) {
        sessions.keep_loop(keys.best, self.best);
        if let Some(forward) = self.forward {
            sessions.keep_loop(keys.forward, forward);
        }
        sessions.keep_loop(keys.step, self.step);
    }
}

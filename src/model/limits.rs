//! How large a model may be. A file of a few kilobytes can describe a network that no machine finishes, and one with holes
//! can hold its weights; both are refused before anything is built for them.

use crate::error::{Error, Result};
use crate::families::family::Layout;
use crate::graph::Graph;

/// Billions of multiply-adds that one network may take for a picture unless an option says otherwise: more than four
/// times what Meissonic needs at 1024×1024, 8643 for the 4321 nodes of its student. `softdimo generate --work-limit 1` names
/// what a model needs, one network at a time.
pub const DEFAULT_WORK: u32 = 40_000;

const BILLION: u64 = 1_000_000_000;
/// Billions of the limit that a node takes up: preparing a session takes time with every node, whatever it computes.
const PER_NODE: u64 = 2;
/// Attention compares every position with every other, in one published family four positions at a time.
const TOGETHER: u64 = 4;

/// What an engine's options allow a model.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Billions of multiply-adds; 0 = [`DEFAULT_WORK`].
    pub work: u32,
    /// Bytes of weights that opening may unpack into memory; 0 = any number.
    pub memory: u64,
}

impl Limits {
    /// Whether pictures of this layout can be made within the limits at all; asked before a graph is built.
    ///
    /// # Errors
    /// `Unsupported` above the work limit.
    pub fn check_layout(&self, layout: &Layout, file: &str) -> Result<()> {
        let rows = layout.positions as u64 / TOGETHER;
        self.check_work(
            || format!("{file}: a model of {} positions", layout.positions),
            rows.saturating_mul(rows),
        )
    }

    /// Whether a network's graph for one picture is within the limits; asked before a session is prepared.
    ///
    /// # Errors
    /// `Unsupported` above the work limit.
    pub fn check_graph(&self, name: &str, graph: &Graph, file: &str) -> Result<()> {
        self.check_work(|| format!("{file}: the network '{name}'"), graph.work())?;
        let (nodes, most) = (graph.computing_nodes() as u64, self.billions() / PER_NODE);
        if nodes > most {
            return Err(Error::Unsupported {
                what: format!("{file}: the network '{name}'"),
                reason: format!("expected at most {most} nodes (work_limit / {PER_NODE}), found {nodes}"),
            });
        }
        Ok(())
    }

    fn check_work(&self, what: impl FnOnce() -> String, work: u64) -> Result<()> {
        let most = self.billions();
        if work / BILLION < most {
            return Ok(());
        }
        let found = work / BILLION;
        let reason = format!(
            "expected fewer than {most} billion multiply-adds a picture (work_limit), found {found} billion or more"
        );
        Err(Error::Unsupported { what: what(), reason })
    }

    fn billions(&self) -> u64 {
        u64::from(if self.work == 0 { DEFAULT_WORK } else { self.work })
    }
}

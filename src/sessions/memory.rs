//! What the sessions of an engine hold, and what they will once they run.

use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use crate::runtime::cost::{Cost, Packed};

/// Bytes an engine holds, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryUse {
    /// Bytes of the model file, and of other files that sessions read, that are mapped (shared, reclaimable).
    pub mapped: u64,
    /// Weights held as copies: read instead of mapped, packed (FAST), or on the device.
    pub weights: u64,
    /// What the prepared sessions hold beside weights: their values, as their allocators tell it, and themselves; and
    /// the features of prompts that were encoded, 32 MiB at most.
    pub activations: u64,
    /// Bytes that a run takes beside these, at most, and gives back after it: the values of large networks in LEAN, of one
    /// network at a time.
    pub transient: u64,
    /// Sessions prepared.
    pub sessions: u64,
}

impl MemoryUse {
    /// What counts against the memory limit.
    pub fn limited(&self) -> u64 {
        self.weights.saturating_add(self.activations).saturating_add(self.transient)
    }
}

/// The costs of the sessions that live, wherever they are kept.
#[derive(Debug, Default)]
pub(super) struct Ledger(Vec<Weak<Cost>>);

impl Ledger {
    /// Forget sessions that are gone. Whether there were any.
    pub fn forget_dropped(&mut self) -> bool {
        let before = self.0.len();
        self.0.retain(|c| c.strong_count() > 0);
        self.0.len() < before
    }

    pub fn add(&mut self, cost: &Rc<Cost>) {
        self.0.push(Rc::downgrade(cost));
    }

    pub fn living(&self) -> Vec<Rc<Cost>> {
        self.0.iter().filter_map(Weak::upgrade).collect()
    }
}

/// The sum over sessions; a copy that several of them read is held once, and so are the `packed` ones, which are there
/// whether a session reads them or not. `own` is the model file: its bytes, and whether it is mapped.
pub(super) fn sum<'a>(
    costs: impl IntoIterator<Item = &'a Cost>,
    activations: fn(&Cost) -> u64,
    packed: &'a Packed,
    own: (u64, bool),
) -> MemoryUse {
    let mut weights: BTreeMap<_, _> = packed.iter().collect();
    let mut files = BTreeMap::from([("", own)]);
    let mut found = MemoryUse::default();
    for cost in costs {
        found.sessions += 1;
        let (all, itself) = (activations(cost), cost.itself());
        let (kept, run) = if cost.gives_back { (itself, all.saturating_sub(itself)) } else { (all, 0) };
        found.activations = found.activations.saturating_add(kept);
        found.transient = found.transient.max(run);
        found.weights = found.weights.saturating_add(cost.own_weights());
        weights.extend(&cost.shared);
        files.extend(cost.files.iter().map(|(name, file)| (name.as_str(), *file)));
    }
    found.weights += weights.into_values().sum::<u64>();
    for (bytes, mapped) in files.into_values() {
        if mapped {
            found.mapped += bytes;
        } else {
            found.weights += bytes;
        }
    }
    found
}

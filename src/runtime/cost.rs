//! What a session adds to memory.

use std::collections::BTreeMap;

/// What a session adds to memory.
#[derive(Debug, Default)]
pub(crate) struct Cost {
    /// Weights are used where they are.
    pub in_place: bool,
    /// Bytes of the weights, by name, that are copied otherwise. Copies are f32: packed for the CPU, or
    /// uploaded to the device.
    pub weights: BTreeMap<String, u64>,
    /// Bytes of the files beside the model's, by namespace, and whether they are mapped.
    pub files: BTreeMap<String, (u64, bool)>,
    pub activations: u64,
}

/// Activations from which on a session on the CPU allocates each value by itself. Up to there the runtime's arena
/// saves page faults; but it grows by doubling, which a session this large cannot afford.
pub(crate) const ARENA_LIMIT: u64 = 4 << 30;

impl Cost {
    /// Whether the runtime keeps an arena for the session's values.
    pub fn arena(&self) -> bool {
        self.activations < ARENA_LIMIT
    }
}

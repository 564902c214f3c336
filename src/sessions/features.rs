//! Prompt features, kept on the worker: a text encoder runs once per prompt.

use std::collections::VecDeque;

use crate::tensor::Tensor;

/// Most floats kept, 32 MiB; the rows used longest ago go first.
const CAPACITY: usize = 8 << 20;

/// Rows of features by whose they are (a reward file's namespace, a part of the condition) and the prompt, the
/// last used at the end.
#[derive(Debug, Default)]
pub(crate) struct Features {
    rows: VecDeque<((String, String), Tensor)>,
    floats: usize,
}

impl Features {
    /// The features of a prompt, where they are known.
    pub fn get(&mut self, owner: &str, prompt: &str) -> Option<Tensor> {
        let at = self.rows.iter().position(|((o, p), _)| o == owner && p == prompt)?;
        let entry = self.rows.remove(at)?;
        let row = entry.1.clone();
        self.rows.push_back(entry);
        Some(row)
    }

    /// Keep the features of a prompt, in place of those that are there.
    pub fn insert(&mut self, owner: &str, prompt: &str, row: Tensor) {
        self.floats += row.shape().len();
        let before = self.rows.iter().position(|((o, p), _)| o == owner && p == prompt);
        if let Some((_, before)) = before.and_then(|at| self.rows.remove(at)) {
            self.floats -= before.shape().len();
        }
        self.rows.push_back(((owner.into(), prompt.into()), row));
        while self.floats > CAPACITY {
            let Some((_, oldest)) = self.rows.pop_front() else { break };
            self.floats -= oldest.shape().len();
        }
    }

    /// Bytes of the features that are kept.
    pub fn bytes(&self) -> u64 {
        4 * self.floats as u64
    }

    /// Forget what is this owner's.
    pub fn forget(&mut self, owner: &str) {
        self.rows.retain(|((o, _), _)| o != owner);
        self.floats = self.rows.iter().map(|(_, row)| row.shape().len()).sum();
    }

    pub fn clear(&mut self) {
        *self = Features::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut features = Features::default();
        let row = |v: f32| Tensor::from_f32_vec([CAPACITY / 4], vec![v; CAPACITY / 4]);
        for i in 0..4 {
            features.insert("a", &i.to_string(), row(i as f32));
        }
        assert_eq!(features.get("a", "0"), Some(row(0.0)));
        features.insert("b", "0", row(-1.0));
        assert_eq!(features.get("a", "1"), None);
        assert_eq!(features.get("a", "0"), Some(row(0.0)));
        assert_eq!(features.get("b", "0"), Some(row(-1.0)));
        assert_eq!(features.bytes(), 4 * CAPACITY as u64);
        features.insert("b", "0", row(0.5));
        assert_eq!((features.get("b", "0"), features.bytes()), (Some(row(0.5)), 4 * CAPACITY as u64));
        features.forget("b");
        assert_eq!((features.get("b", "0"), features.bytes()), (None, 3 * CAPACITY as u64));
        features.clear();
        assert_eq!(features.bytes(), 0);
        assert_eq!(features.get("b", "0"), None);
    }
}

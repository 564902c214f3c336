//! Prompt features of reward files, kept on the worker: a text encoder runs once per file and prompt.

use std::collections::VecDeque;

/// Most prompts kept; the ones used longest ago go first. A row is some kilobytes.
const CAPACITY: usize = 256;

/// Rows of features by the namespace of their file and the prompt, the last used at the end.
#[derive(Debug, Default)]
pub(crate) struct Features(VecDeque<((String, String), Vec<f32>)>);

impl Features {
    /// The features of a prompt, where they are known.
    pub fn get(&mut self, file: &str, prompt: &str) -> Option<Vec<f32>> {
        let at = self.0.iter().position(|((f, p), _)| f == file && p == prompt)?;
        let entry = self.0.remove(at)?;
        let row = entry.1.clone();
        self.0.push_back(entry);
        Some(row)
    }

    pub fn insert(&mut self, file: &str, prompt: &str, row: Vec<f32>) {
        if self.0.len() == CAPACITY {
            self.0.pop_front();
        }
        self.0.push_back(((file.into(), prompt.into()), row));
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut features = Features::default();
        for i in 0..CAPACITY {
            features.insert("a", &i.to_string(), vec![i as f32]);
        }
        assert_eq!(features.get("a", "0"), Some(vec![0.0]));
        features.insert("b", "0", vec![-1.0]);
        assert_eq!(features.get("a", "1"), None);
        assert_eq!(features.get("a", "0"), Some(vec![0.0]));
        assert_eq!(features.get("b", "0"), Some(vec![-1.0]));
        features.clear();
        assert_eq!(features.get("b", "0"), None);
    }
}

//! The embedded condition of a job: what its generator and decoder read beside tokens and embeddings.

use std::sync::Arc;

use crate::engine::{Cancel, Sessions};
use crate::error::Result;
use crate::models::Condition;
use crate::models::program::{Program, Role};
use crate::tensor::Tensor;

/// An embedded condition of a batch, as tensors under the input names of [`Condition`].
#[derive(Clone, Debug)]
pub(crate) struct Conditioned(Vec<(&'static str, Tensor)>);

impl Conditioned {
    /// Class ids, one a picture, through the class embedding of `role`.
    pub fn classes(
        sessions: &mut Sessions,
        role: Role,
        classes: &[i64],
        cancel: &Arc<Cancel>,
    ) -> Result<Conditioned> {
        let class = Tensor::from_i64([classes.len()], classes);
        let e = sessions.run(Program::Class(role), classes.len(), &[("class", &class)], cancel)?;
        Ok(Conditioned(vec![(Condition::EMBEDDING, e)]))
    }

    /// A part by its input name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, t)| t)
    }

    /// Replace a part.
    pub fn set(&mut self, name: &str, value: Tensor) {
        if let Some((_, part)) = self.0.iter_mut().find(|(n, _)| *n == name) {
            *part = value;
        }
    }

    /// All parts by input name.
    pub fn parts(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(n, t)| (*n, t))
    }

    /// The inputs of a program that reads the condition and `more`.
    pub fn with<'a>(&'a self, more: &[(&'a str, &'a Tensor)]) -> Vec<(&'a str, &'a Tensor)> {
        more.iter().copied().chain(self.parts()).collect()
    }
}

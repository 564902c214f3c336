//! Where a loop starts, and the embeddings it stands for.

use super::settings::Optimize;
use super::step::{MOVED, best_of, states, weight_of};
use crate::error::{Error, Result};
use crate::runtime::Cancel;
use crate::sessions::Sessions;
use crate::sessions::condition::Conditioned;
use crate::shortage;
use crate::tensor::Tensor;

/// Where a loop starts.
pub(crate) struct Start {
    /// e_in [B, N, D].
    pub e_in: Tensor,
    /// √(1−σ²)·E(x_init), and n, when the noise is optimised.
    pub clean: Option<Tensor>,
    pub noise: Option<Tensor>,
    pub sigma: f32,
    pub condition: Conditioned,
    /// Class ids [B]; of no meaning for models that read prompts.
    pub classes: Tensor,
    /// One a picture, where a reward reads them.
    pub prompts: Vec<String>,
}

/// What is moved, by input name, at one iterate.
pub(super) type Moved = Vec<(&'static str, Tensor)>;

impl Start {
    pub fn batch(&self) -> usize {
        self.classes.shape()[0]
    }

    /// The variables at their self.
    pub fn variables(&self, o: &Optimize) -> Result<Moved> {
        let mut values = Vec::new();
        if o.variables.embedding {
            values.push(("e", self.e_in.clone()));
        }
        if o.variables.noise {
            let noise = self.noise.clone().ok_or_else(|| Error::Unsupported {
                what: "optimising the noise of a given start embedding".into(),
                reason: "its noise part is unknown; give start tokens, or optimise the embedding".into(),
            })?;
            values.push(("n", noise));
        }
        if o.variables.class {
            let parts =
                MOVED.iter().filter_map(|(variable, part)| Some((*variable, self.condition.get(part)?)));
            values.extend(parts.map(|(variable, value)| (variable, value.clone())));
        }
        Ok(values)
    }

    /// The inputs of the first step, except the rewards' own and those that change with the step.
    ///
    /// # Errors
    /// [`Error::Exhausted`].
    pub fn feeds(&self, o: &Optimize, variables: &Moved) -> Result<Vec<(String, Tensor)>> {
        let batch = self.batch();
        let number = |x: f32| Tensor::from_f32([1], &[x]);
        let mut feeds: Vec<(String, Tensor)> = vec![
            ("class".into(), self.classes.clone()),
            ("e_start".into(), self.e_in.clone()),
            ("lr".into(), number(o.lr)),
            ("sigma".into(), number(self.sigma)),
            ("alive".into(), Tensor::from_f32_vec([batch], vec![1.0; batch])),
            ("top".into(), Tensor::from_f32_vec([batch], vec![f32::NEG_INFINITY; batch])),
        ];
        feeds.push(("clip".into(), number(o.clip)));
        feeds.push(("norm_regularizer".into(), number(o.norm_regularizer)));
        feeds.extend(o.terms.iter().enumerate().map(|(k, term)| (weight_of(k), number(term.weight))));
        feeds.extend(self.clean.clone().map(|clean| ("clean".into(), clean)));
        feeds.extend(self.condition.parts().map(|(name, value)| (name.into(), value.clone())));
        for (name, value) in variables {
            let shape = value.shape();
            let zeros = shortage::filled("the optimizer's state", shape.len(), 0.0)?;
            let zeros = Tensor::from_f32_vec(shape.clone(), zeros);
            feeds.extend(states(o.optimizer, name).into_iter().map(|state| (state, zeros.clone())));
            feeds.push((best_of(name), value.clone()));
            feeds.push((name.to_string(), value.clone()));
        }
        Ok(feeds)
    }

    /// The inputs that rewards bring: of a network they may be features of its text tower, which is prepared as well.
    ///
    /// # Errors
    /// As [`Reward::feeds`](crate::rewards::Reward::feeds).
    pub fn feeds_of_rewards(
        &self,
        sessions: &mut Sessions,
        o: &Optimize,
        cancel: &Cancel,
    ) -> Result<Vec<(String, Tensor)>> {
        let mut feeds = Vec::new();
        for (k, term) in o.terms.iter().enumerate() {
            feeds.extend(term.reward.feeds(sessions, k, &self.prompts, &self.classes, cancel)?);
        }
        Ok(feeds)
    }

    /// e_in [B, N, D] at the variables.
    pub fn embedding_at(&self, variables: &Moved) -> Result<Tensor> {
        let value = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value);
        Ok(match (value("e"), value("n"), &self.clean) {
            (Some(e), _, _) => e.clone(),
            (None, Some(n), Some(clean)) => {
                let sum = |(c, n): (&f32, &f32)| c + n * self.sigma;
                let (clean, n, shape) = (clean.f32s()?, n.f32s()?, clean.shape().clone());
                let e = shortage::collected("the best embedding", clean.len(), clean.iter().zip(n).map(sum))?;
                Tensor::from_f32_vec(shape, e)
            }
            _ => self.e_in.clone(),
        })
    }

    /// The condition with the variables in it.
    pub fn condition_at(&self, variables: &Moved) -> Conditioned {
        let mut condition = self.condition.clone();
        for (variable, part) in MOVED {
            if let Some((_, value)) = variables.iter().find(|(name, _)| *name == variable) {
                condition.set(part, value.clone());
            }
        }
        condition
    }
}

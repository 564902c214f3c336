//! The embedded condition of a job: what its generator and decoder read beside tokens and embeddings.

use super::Sessions;
use crate::error::Result;
use crate::families::condition::Condition;
use crate::program::{Program, Role};
use crate::runtime::Cancel;
use crate::shortage;
use crate::tensor::Tensor;

/// An embedded condition of a batch, as tensors under the input names of [`Condition`].
#[derive(Clone, Debug)]
pub(crate) struct Conditioned(Vec<(&'static str, Tensor)>);

impl Conditioned {
    /// Class ids, one a picture, through the class embedding of `role`.
    ///
    /// # Errors
    /// As [`Sessions::run`].
    pub fn classes(
        sessions: &mut Sessions,
        role: Role,
        classes: &[i64],
        cancel: &Cancel,
    ) -> Result<Conditioned> {
        let class = Tensor::from_i64([classes.len()], classes);
        let e = sessions.run(Program::Class(role), classes.len(), &[("class", &class)], cancel)?;
        Ok(Conditioned(vec![(Condition::EMBEDDING, e)]))
    }

    /// Prompts, one a picture, through the text encoder, with the micro conditions of all pictures. A prompt's
    /// features are remembered; timesteps start at 0, the student's.
    ///
    /// # Errors
    /// As [`Sessions::run`].
    pub fn prompts(
        sessions: &mut Sessions,
        prompts: &[String],
        micro: &[f32],
        cancel: &Cancel,
    ) -> Result<Conditioned> {
        let model = sessions.model().clone();
        let layout = model.architecture().condition_layout();
        let b = prompts.len();
        let mut shapes = vec![(Condition::EMBEDDING, layout.embedding.clone())];
        shapes.extend(layout.pooled.map(|width| (Condition::POOLED, vec![width])));
        shapes.extend(layout.guidance.map(|shape| (Condition::GUIDANCE, shape.to_vec())));
        let row = |shape: &Vec<usize>| {
            shortage::reserved("the features of the prompts", b * shape.iter().product::<usize>())
        };
        let mut rows = shapes.iter().map(|(_, shape)| row(shape)).collect::<Result<Vec<Vec<f32>>>>()?;
        for prompt in prompts {
            let known: Option<Vec<Tensor>> =
                shapes.iter().map(|(part, _)| sessions.features().get(part, prompt)).collect();
            let found = match known {
                Some(found) => found,
                None => {
                    let ids = model.prompt_ids(prompt)?;
                    let results = sessions.run_all(Program::Prompt, 1, &[("ids", &ids)], cancel)?;
                    let found: Vec<Tensor> = results.into_iter().map(|(_, t)| t).collect();
                    for ((part, _), row) in shapes.iter().zip(&found) {
                        sessions.features().insert(part, prompt, row.clone());
                    }
                    found
                }
            };
            for (all, row) in rows.iter_mut().zip(&found) {
                all.extend_from_slice(row.f32s()?);
            }
        }
        let parts = shapes.into_iter().zip(rows).map(|((part, shape), row)| {
            let shape: Vec<usize> = std::iter::once(b).chain(shape).collect();
            (part, Tensor::from_f32_vec(shape, row))
        });
        let mut parts: Vec<_> = parts.collect();
        if layout.micro > 0 {
            parts.push((Condition::MICRO, Tensor::from_f32_vec([b, layout.micro], micro.repeat(b))));
        }
        if layout.timestep {
            parts.push((Condition::TIMESTEP, Tensor::from_f32_vec([b], vec![0.0; b])));
        }
        Ok(Conditioned(parts))
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

    /// The same condition at another timestep, where the generator reads one.
    pub fn at_timestep(&self, timestep: Option<u32>) -> Conditioned {
        let mut condition = self.clone();
        if let (Some(t), Some(part)) = (timestep, self.get(Condition::TIMESTEP)) {
            let values = vec![t as f32; part.shape().len()];
            condition.set(Condition::TIMESTEP, Tensor::from_f32_vec(part.shape().clone(), values));
        }
        condition
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

//! What a generator and a decoder read beside tokens: a class, or what a text encoder makes of a prompt.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::tensor::Dtype;

/// Shapes, per picture, of what a family's networks read of an embedded condition beside tokens. A field that is
/// `None` or 0 is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionLayout {
    /// The class embedding \[D\], or the prompt's hidden states [L, E].
    pub embedding: Vec<usize>,
    /// Pooled features of the prompt \[P\].
    pub pooled: Option<usize>,
    /// Hidden states of the prompt that the decoder reads [L, E].
    pub guidance: Option<[usize; 2]>,
    /// Number of micro conditions.
    pub micro: usize,
    /// Whether the generator reads a timestep.
    pub timestep: bool,
}

/// An embedded condition of a batch, as graph values.
#[derive(Clone, Copy, Debug)]
pub struct Condition {
    /// The class embedding [B, D], or the prompt's hidden states [B, L, E].
    pub embedding: Value,
    /// Pooled features of the prompt [B, P].
    pub pooled: Option<Value>,
    /// Hidden states of the prompt that the decoder reads [B, L, E].
    pub guidance: Option<Value>,
    /// Micro conditions [B, k], in the family's order.
    pub micro: Option<Value>,
    /// The generator's timestep \[B\].
    pub timestep: Option<Value>,
}

/// Input names of a condition's parts, wherever a graph reads them.
impl Condition {
    pub const EMBEDDING: &str = "condition";
    pub const POOLED: &str = "condition.pooled";
    pub const GUIDANCE: &str = "condition.guidance";
    pub const MICRO: &str = "condition.micro";
    pub const TIMESTEP: &str = "condition.timestep";

    /// The condition of a class model, which has no other part.
    pub fn class(embedding: Value) -> Condition {
        Condition { embedding, pooled: None, guidance: None, micro: None, timestep: None }
    }

    /// The condition of a batch that is this one's, `times` times over.
    pub fn repeat(&self, g: &Graph, times: usize) -> Result<Condition> {
        let repeat = |v: Value| g.concat(&vec![v; times], 0);
        let optional = |v: Option<Value>| v.map(repeat).transpose();
        Ok(Condition {
            embedding: repeat(self.embedding)?,
            pooled: optional(self.pooled)?,
            guidance: optional(self.guidance)?,
            micro: optional(self.micro)?,
            timestep: optional(self.timestep)?,
        })
    }

    /// What a generator reads, as inputs of the graph.
    pub fn inputs(g: &Graph, layout: &ConditionLayout, batch: usize) -> Result<Condition> {
        let embedding = g.input(Condition::EMBEDDING, Dtype::F32, with_batch(batch, &layout.embedding))?;
        let optional = |name: &str, shape: Option<Vec<usize>>| {
            shape.map(|shape| g.input(name, Dtype::F32, with_batch(batch, &shape))).transpose()
        };
        Ok(Condition {
            embedding,
            pooled: optional(Condition::POOLED, layout.pooled.map(|p| vec![p]))?,
            guidance: None,
            micro: optional(Condition::MICRO, (layout.micro > 0).then(|| vec![layout.micro]))?,
            timestep: optional(Condition::TIMESTEP, layout.timestep.then(Vec::new))?,
        })
    }

    /// What a decoder reads, as an input of the graph; `None` for most families.
    pub fn guidance_input(g: &Graph, layout: &ConditionLayout, batch: usize) -> Result<Option<Value>> {
        let input = |shape: [usize; 2]| g.input(Condition::GUIDANCE, Dtype::F32, with_batch(batch, &shape));
        layout.guidance.map(input).transpose()
    }
}

fn with_batch(batch: usize, shape: &[usize]) -> Vec<usize> {
    std::iter::once(batch).chain(shape.iter().copied()).collect()
}

/// Numbers a text-to-image model is conditioned on beside the prompt (SDXL's micro conditions).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MicroConditions {
    /// LAION aesthetic score the picture should have.
    pub aesthetic_score: f32,
    /// Width and height in pixels of the picture as the model was shown it.
    pub original_size: [u32; 2],
    /// Left and top of the crop.
    pub crop: [u32; 2],
}

impl Default for MicroConditions {
    fn default() -> MicroConditions {
        MicroConditions { aesthetic_score: 6.5, original_size: [0, 0], crop: [0, 0] }
    }
}

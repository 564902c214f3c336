//! What the pipelines ask of a model family. One file per family holds its answers, the network files hold the
//! networks; nothing here computes.

mod maskbit;
mod maskgen;
mod maskgit;
mod meissonic;

pub use maskbit::MaskBit;
pub use maskgen::MaskGen;
pub use maskgit::MaskGit;
pub use meissonic::Meissonic;

use serde::{Deserialize, Serialize};

use super::text_encoder::TextEncoder;
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::tensor::Dtype;
use crate::weights::Weights;

/// The shapes a pipeline needs to know about a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Image positions N.
    pub positions: usize,
    /// Tokens per position.
    pub splits: usize,
    /// Codes per token, V.
    pub codes: usize,
    /// Id of the mask token.
    pub mask_token: usize,
    /// Width D of an input embedding.
    pub embedding: usize,
    /// Class labels, without the null class (whose id equals this number); 0 for models that read prompts.
    pub classes: usize,
    /// Picture size in pixels.
    pub width: usize,
    pub height: usize,
    /// Rows and columns of the token grid, whose cells are rectangles of the picture; `None` where a token
    /// stands for the whole picture.
    pub grid: Option<(usize, usize)>,
}

impl Layout {
    /// Tokens of one picture: positions × splits.
    pub fn slots(&self) -> usize {
        self.positions * self.splits
    }
}

/// Shapes, per picture, of what a family's networks read of an embedded condition beside tokens. A field that is
/// `None` or 0 is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionLayout {
    /// The class embedding [D], or the prompt's hidden states [L, E].
    pub embedding: Vec<usize>,
    /// Pooled features of the prompt [P].
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
    /// The generator's timestep [B].
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

/// One model family: a generator (student and teacher alike) and its image tokenizer. `w` is the scope of the
/// component (`student`, `teacher`) for the generator's functions, and the whole file for the tokenizer's.
pub trait Family: std::fmt::Debug {
    /// Family name as used by `softdimo convert` and the model file.
    fn name(&self) -> &'static str;

    /// Refuse sizes that contradict each other. `file` is named in the error.
    fn validate(&self, file: &str) -> Result<()>;

    /// Shapes of the model.
    fn layout(&self) -> Layout;

    /// Shapes of an embedded condition.
    fn condition_layout(&self) -> ConditionLayout;

    /// The text encoder of a family that reads prompts, component `text` of the file.
    fn text(&self) -> Option<&TextEncoder> {
        None
    }

    /// Class ids [B] (i64) → class embedding [B, D]. An error for families that read prompts.
    fn embed_class(&self, g: &Graph, w: &Weights, class: Value) -> Result<Value> {
        let _ = (g, w, class);
        Err(Error::Unsupported {
            what: "a class label".into(),
            reason: format!("{} models are conditioned on a prompt", self.name()),
        })
    }

    /// The micro conditions a generator reads, in the order of [`Condition::micro`].
    fn micro(&self, micro: &MicroConditions) -> Vec<f32> {
        let _ = micro;
        Vec::new()
    }

    /// Tokens [B, N, splits] (i64) → clean input embedding [B, N, D].
    fn embed(&self, g: &Graph, w: &Weights, tokens: Value) -> Result<Value>;

    /// Token distribution p [B, N, splits, V] → input embedding [B, N, D] of the expected tokens, masked where
    /// `shown` [1, N, splits, 1] is 0.
    fn embed_soft(&self, g: &Graph, w: &Weights, p: Value, shown: Value) -> Result<Value>;

    /// Input embedding [B, N, D] and condition → logits [B, N, splits, V] over the codes; the mask token never
    /// has one.
    fn logits(&self, g: &Graph, w: &Weights, e_in: Value, condition: &Condition) -> Result<Value>;

    /// Token distribution p [B, N, splits, V] → soft embedding in the decoder's space, p·E_Dec.
    fn soft_embedding(&self, g: &Graph, w: &Weights, p: Value) -> Result<Value>;

    /// Tokens [B, N, splits] (i64, no mask token) → codes in the decoder's space.
    fn hard_embedding(&self, g: &Graph, w: &Weights, tokens: Value) -> Result<Value>;

    /// Codes in the decoder's space, and the prompt's hidden states where the decoder reads them → image
    /// [B, 3, H, W], nominally in [0, 1], not clamped.
    fn decode(&self, g: &Graph, w: &Weights, code: Value, guidance: Option<Value>) -> Result<Value>;

    /// Image [B, 3, H, W] in [0, 1] → tokens [B, N, splits] (i64).
    fn encode(&self, g: &Graph, w: &Weights, image: Value) -> Result<Value>;

    /// A tokens input [batch, N, splits].
    fn tokens_input(&self, g: &Graph, batch: usize) -> Result<Value> {
        let l = self.layout();
        g.input("tokens", Dtype::I64, [batch, l.positions, l.splits])
    }
}

/// Tokens [B, N, 1], p [B, N, 1, V] or shown [1, N, 1, 1] without the axis of splits, of which there is one.
fn without_splits(g: &Graph, x: Value) -> Result<Value> {
    let mut shape = g.shape(x);
    shape.0.remove(2);
    g.reshape(x, shape)
}

/// The same the other way round: one split for [B, N, ..].
fn with_splits(g: &Graph, x: Value) -> Result<Value> {
    let mut shape = g.shape(x);
    shape.0.insert(2, 1);
    g.reshape(x, shape)
}

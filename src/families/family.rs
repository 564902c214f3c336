//! What the pipelines ask of a model family. A family's folder holds its answers beside its networks; nothing here
//! computes.

use std::sync::Arc;

use super::condition::{Condition, ConditionLayout, MicroConditions};
use super::defaults::TeacherDefaults;
use super::golden::Replay;
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::nn::text_encoder::TextEncoder;
use crate::sample::Rule;
use crate::tensor::Dtype;
use crate::weights::Weights;

/// What a family is, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FamilyDescription {
    /// As `softdimo convert` and the model file name it.
    pub name: &'static str,
    /// One line for a help text.
    pub about: &'static str,
    pub condition: ConditionKind,
}

/// What a family's pictures are conditioned on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionKind {
    ClassLabel,
    Prompt,
}

/// A multi-step sampler of a family's teacher.
#[derive(Clone, Copy, Debug)]
pub struct Sampler {
    /// Name in `request_defaults.teacher.sampler`.
    pub name: &'static str,
    /// Its rule with a teacher's settings.
    pub rule: fn(&TeacherDefaults) -> Result<Arc<dyn Rule>>,
}

/// Sizes of a model's pictures, tokens and embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
    /// Channels of a picture: 3 (red, green, blue), or 4 with straight alpha.
    pub channels: usize,
    /// Rows and columns of the token grid, whose cells are rectangles of the picture; `None` where a token
    /// stands for the whole picture.
    pub grid: Option<(usize, usize)>,
}

impl Layout {
    /// Tokens of one picture: positions × splits.
    pub fn slots(&self) -> usize {
        self.positions * self.splits
    }

    /// Bytes that the buffers of `batch` pictures take on the host: noise and start embedding, logits, tokens and the
    /// pictures themselves.
    pub(crate) fn host_bytes(&self, batch: usize) -> u64 {
        let product = |factors: &[usize]| factors.iter().fold(1, |n: u64, &f| n.saturating_mul(f as u64));
        let slots = [self.positions, self.splits];
        // f32, except for a token: an id of 8 bytes for the networks, one of 4 for callers, and its probability.
        [
            product(&[batch, self.positions, self.embedding, 2 * 4]),
            product(&[batch, slots[0], slots[1], self.codes, 4]),
            product(&[batch, slots[0], slots[1], 16]),
            product(&[batch, self.channels, self.width, self.height, 4]),
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }
}

/// One model family: a generator (student and teacher alike) and its image tokenizer. `w` is the scope of the
/// component (`student`, `teacher`) for the generator's functions, and the whole file for the tokenizer's.
pub trait Family: std::fmt::Debug {
    fn description(&self) -> &'static FamilyDescription;

    /// As `softdimo convert` and the model file name it.
    fn name(&self) -> &'static str {
        self.description().name
    }

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

    /// Class ids \[B\] (i64) → class embedding [B, D]. An error for families that read prompts.
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
    /// [B, channels, H, W], nominally in [0, 1], not clamped.
    fn decode(&self, g: &Graph, w: &Weights, code: Value, guidance: Option<Value>) -> Result<Value>;

    /// Image [B, channels, H, W] in [0, 1] → tokens [B, N, splits] (i64).
    fn encode(&self, g: &Graph, w: &Weights, image: Value) -> Result<Value>;

    /// The teacher's samplers, the one that is meant where a file names none first.
    fn samplers(&self) -> &'static [Sampler];

    /// The teacher's sampler with these settings.
    ///
    /// # Errors
    /// `InvalidArgument` for a sampler that the family does not have, or settings that it refuses.
    fn rule(&self, teacher: &TeacherDefaults) -> Result<Arc<dyn Rule>> {
        let samplers = self.samplers();
        let sampler = match &teacher.sampler {
            None => samplers.first(),
            Some(choice) => samplers.iter().find(|sampler| sampler.name == choice.name()),
        };
        let Some(sampler) = sampler else {
            let names: Vec<&str> = samplers.iter().map(|sampler| sampler.name).collect();
            let found = teacher.sampler.as_ref().map_or("", |choice| choice.name());
            return Err(Error::invalid("sampler", names.join(" or "), found));
        };
        let rule = (sampler.rule)(teacher)?;
        rule.validate()?;
        Ok(rule)
    }

    /// Append every tensor that `softdimo verify` compares: outputs of the golden file's inputs, under its names.
    fn golden_outputs(&self, g: &Graph, replay: &Replay) -> Result<()>;

    /// The soft picture from a start embedding in the golden file's own layout.
    fn golden_soft_image(&self, g: &Graph, replay: &Replay, e: Value) -> Result<Value>;

    /// A tokens input [batch, N, splits].
    fn tokens_input(&self, g: &Graph, batch: usize) -> Result<Value> {
        let l = self.layout();
        g.input("tokens", Dtype::I64, [batch, l.positions, l.splits])
    }
}

/// Tokens [B, N, 1], p [B, N, 1, V] or shown [1, N, 1, 1] without the axis of splits, of which there is one.
pub(super) fn without_splits(g: &Graph, x: Value) -> Result<Value> {
    let mut shape = g.shape(x);
    shape.0.remove(2);
    g.reshape(x, shape)
}

/// The same the other way round: one split for [B, N, ..].
pub(super) fn with_splits(g: &Graph, x: Value) -> Result<Value> {
    let mut shape = g.shape(x);
    shape.0.insert(2, 1);
    g.reshape(x, shape)
}

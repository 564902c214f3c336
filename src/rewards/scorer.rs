//! What test-time optimisation asks of a network that scores pictures. A reward's folder holds its answers beside its
//! networks; nothing here computes.

use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::weights::Weights;

/// What a reward is, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RewardDescription {
    /// As a reward file names it; `softdimo convert` has dashes where it has underscores.
    pub name: &'static str,
    /// One line for a help text.
    pub about: &'static str,
    /// What its conversion takes beside the checkpoint.
    pub takes: Takes,
}

/// What a conversion takes beside a checkpoint and its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// The vocabulary of a text encoder.
    Vocabulary,
    /// Layers over the features of another network.
    Head,
    /// Names of classes.
    Labels,
}

/// What a score depends on beside the picture, and how a graph is given it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    Nothing,
    /// A prompt's features, computed once: [B, width].
    Features {
        width: usize,
    },
    /// A prompt's token ids and their mask, since its text looks at the picture.
    Tokens,
    /// A class id of this many.
    Class {
        classes: usize,
    },
}

/// How a text encoder tokenises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenizerKind {
    /// CLIP's byte-pair encoding.
    ClipBpe,
    /// BERT's WordPiece.
    WordPiece,
}

/// What a text encoder is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextInput {
    pub kind: TokenizerKind,
    /// Rows of the token embedding: every id has one.
    pub rows: usize,
    /// Most tokens.
    pub positions: usize,
}

/// A network that scores pictures. `w` is the scope of its tensors.
pub trait Scorer: std::fmt::Debug {
    fn description(&self) -> &'static RewardDescription;

    /// Refuse sizes that contradict each other. `file` is named in the error.
    fn validate(&self, file: &str) -> Result<()>;

    /// Width and height in pixels of what the network sees.
    fn image_size(&self) -> usize;

    fn reads(&self) -> Reads;

    /// Of rewards that read a prompt.
    fn text(&self) -> Option<TextInput> {
        None
    }

    /// Image [B, 3, H, W] in [0, 1] → what the network reads.
    fn preprocess(&self, g: &Graph, image: Value) -> Result<Value>;

    /// Token ids [B, N] (i64) → the prompts' features [B, P], of length 1. An error for rewards that read no prompt, or
    /// read it together with the picture.
    fn text_features(&self, g: &Graph, w: &Weights, ids: Value) -> Result<Value> {
        let _ = (g, w, ids);
        let reason = match self.reads() {
            Reads::Tokens => "the reward reads the prompt while looking at the picture: score from token ids",
            Reads::Class { .. } => "a classifier reads class ids, not a prompt",
            Reads::Nothing | Reads::Features { .. } => "the reward reads no prompt",
        };
        Err(Error::Unsupported { what: "text features".into(), reason: reason.into() })
    }

    /// A preprocessed image and its condition → score \[B\], higher is better. The condition is the prompts' features,
    /// [B, P] or [1, P] for one prompt of all pictures; of a classifier, class ids (i64), \[B\] or \[1\].
    fn score_pixels(&self, g: &Graph, w: &Weights, pixels: Value, condition: Option<Value>) -> Result<Value>;

    /// A preprocessed image, and token ids with their mask (i64, [B, N] or [1, N] for one prompt of all pictures; 1 =
    /// text, 0 = padding) → score \[B\], for every reward without a class in one graph.
    fn score_pixels_tokens(
        &self,
        g: &Graph,
        w: &Weights,
        pixels: Value,
        ids: Value,
        mask: Value,
    ) -> Result<Value> {
        let _ = mask;
        let features = if self.reads_prompt() { Some(self.text_features(g, w, ids)?) } else { None };
        self.score_pixels(g, w, pixels, features)
    }

    /// [`Scorer::score_pixels`] of an image [B, 3, H, W] in [0, 1].
    fn score(&self, g: &Graph, w: &Weights, image: Value, condition: Option<Value>) -> Result<Value> {
        self.score_pixels(g, w, self.preprocess(g, image)?, condition)
    }

    /// [`Scorer::score_pixels_tokens`] of an image [B, 3, H, W] in [0, 1].
    fn score_tokens(&self, g: &Graph, w: &Weights, image: Value, ids: Value, mask: Value) -> Result<Value> {
        self.score_pixels_tokens(g, w, self.preprocess(g, image)?, ids, mask)
    }

    /// Name in files and reports.
    fn name(&self) -> &'static str {
        self.description().name
    }

    /// Whether a score depends on a prompt.
    fn reads_prompt(&self) -> bool {
        matches!(self.reads(), Reads::Features { .. } | Reads::Tokens)
    }

    /// Number of classes of a classifier, 0 for others.
    fn classes(&self) -> usize {
        match self.reads() {
            Reads::Class { classes } => classes,
            Reads::Nothing | Reads::Features { .. } | Reads::Tokens => 0,
        }
    }
}

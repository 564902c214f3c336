//! What the conversions of all generator families share: where the checkpoints are, and what a family finds in them.

use std::path::{Path, PathBuf};

use super::defaults::Defaults;
use crate::checkpoint::{Checkpoint, Sought, WhichWeights};
use crate::error::{Error, Result};
use crate::model_file::About;
use crate::quant::Storage;
use crate::text::ClipBpe;

/// The checkpoint of a network that is no generator, whatever wraps its names: `what` in words, known by one of the
/// tensors `anchors`.
pub(super) fn open_network(path: &Path, what: &str, anchors: &[&str]) -> Result<Checkpoint> {
    Checkpoint::open_network(path, &Sought { what, anchors, which: WhichWeights::Auto })
}

/// What to convert and what to say about it.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// As the table of families names it.
    pub family: String,
    /// One-step student's generator checkpoint.
    pub generator: Option<PathBuf>,
    /// Multi-step teacher's generator checkpoint.
    pub teacher: Option<PathBuf>,
    /// Image tokenizer checkpoint: decoder, and encoder where present.
    pub tokenizer: PathBuf,
    /// Text-to-image families: the text encoder's checkpoint.
    pub text_encoder: Option<PathBuf>,
    /// Text-to-image families: the tokenizer's vocabulary, where it does not lie with the text encoder.
    pub vocabulary: Option<PathBuf>,
    /// JSON with the official configuration's keys; default: what lies with the checkpoints.
    pub config: Option<PathBuf>,
    /// Attention heads of the generator, where neither tensors nor configuration show them.
    pub heads: Option<usize>,
    /// Which weights of the generators, where a checkpoint has several sets; of all others it is the averaged ones.
    pub weights: WhichWeights,
    /// JSON list of class names, or of objects with `name`.
    pub labels: Option<PathBuf>,
    pub storage: Storage,
    pub about: About,
}

/// What a family found in its checkpoints: everything under official names, and the sizes.
#[derive(Debug)]
pub struct Pieces<F> {
    /// The sizes.
    pub family: F,
    pub request_defaults: Defaults,
    /// The file to blame for the configuration.
    pub config_file: String,
    /// By component, `student` or `teacher`.
    pub generators: Vec<(&'static str, Checkpoint)>,
    pub tokenizer: Checkpoint,
    /// Of families that read prompts.
    pub text: Option<(Checkpoint, ClipBpe)>,
}

impl Source {
    /// Nothing but a family's name.
    pub fn new(family: impl Into<String>) -> Source {
        Source { family: family.into(), ..Source::default() }
    }

    /// The generators of the source: `what` in words, known by the tensor `anchor`.
    ///
    /// # Errors
    /// Neither student nor teacher; those of [`Checkpoint::open_network`].
    pub(super) fn generators(&self, what: &str, anchor: &str) -> Result<Vec<(&'static str, Checkpoint)>> {
        let sought = Sought { what, anchors: &[anchor], which: self.weights.clone() };
        let open = |path: &Path| Checkpoint::open_network(path, &sought);
        let generators = [("student", &self.generator), ("teacher", &self.teacher)];
        let generators = generators.into_iter().filter_map(|(role, path)| Some((role, path.as_ref()?)));
        let generators =
            generators.map(|(role, path)| Ok((role, open(path)?))).collect::<Result<Vec<_>>>()?;
        if generators.is_empty() {
            let expected = "a student (--generator) or a teacher (--teacher)";
            return Err(Error::invalid("--generator", expected, "neither"));
        }
        Ok(generators)
    }
}

impl<F> Pieces<F> {
    /// The same pieces of another type of family.
    pub fn map<G>(self, f: impl FnOnce(F) -> G) -> Pieces<G> {
        let Pieces { family, request_defaults, config_file, generators, tokenizer, text } = self;
        Pieces { family: f(family), request_defaults, config_file, generators, tokenizer, text }
    }
}

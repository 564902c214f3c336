//! What the conversions of all generator families share: where the checkpoints are, and how a checked model
//! file is made of them.

use std::path::{Path, PathBuf};

use super::{About, Metadata, Part, Storage, Summary, collect, read_labels, write};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::model::Config;
use crate::models::{Condition, text_encoder};
use crate::tensor::{Dtype, Tensor, TensorView};
use crate::tokenizer::ClipBpe;

/// A checkpoint. Files saved from a wrapped module carry `module.`.
pub(super) fn open(path: &Path) -> Result<Checkpoint> {
    let mut checkpoint = Checkpoint::open(path)?;
    checkpoint.rename_prefix("module.", "");
    Ok(checkpoint)
}

/// What to convert and what to say about it.
#[derive(Clone, Debug, Default)]
pub struct Source {
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
    /// JSON list of class names, or of objects with `name`.
    pub labels: Option<PathBuf>,
    pub storage: Storage,
    pub about: About,
}

/// What a family found in its checkpoints: everything under official names, and the sizes.
pub(super) struct Pieces {
    pub config: Config,
    /// The file to blame for the configuration.
    pub config_file: String,
    /// By component, `student` or `teacher`.
    pub generators: Vec<(&'static str, Checkpoint)>,
    pub tokenizer: Checkpoint,
    /// Of families that read prompts.
    pub text: Option<(Checkpoint, ClipBpe)>,
}

impl Source {
    /// The generators of the source, opened by `open`. Errors: neither student nor teacher.
    pub(super) fn generators(
        &self,
        open: impl Fn(&Path) -> Result<Checkpoint>,
    ) -> Result<Vec<(&'static str, Checkpoint)>> {
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

impl Pieces {
    /// Check that every tensor is there with the right shape, and write the model file. Memory: one tensor at
    /// a time.
    pub fn write(
        &self,
        source: &Source,
        output: &Path,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Summary> {
        let (a, storage) = (&self.config.architecture, source.storage);
        a.validate(&self.config_file)?;
        self.config.request_defaults.validate(&self.config_file)?;
        let (layout, conditions) = (a.layout(), a.condition_layout());
        let mut parts = Vec::new();
        for (role, checkpoint) in &self.generators {
            collect(&mut parts, checkpoint, &format!("{role}."), storage, |g, w| {
                let e_in = a.embed(g, w, a.tokens_input(g, 1)?)?;
                let mut condition = Condition::inputs(g, &conditions, 1)?;
                if layout.classes > 0 {
                    condition.embedding = a.embed_class(g, w, g.input("class", Dtype::I64, [1])?)?;
                }
                a.logits(g, w, e_in, &condition)
            })?;
        }
        collect(&mut parts, &self.tokenizer, "", storage, |g, w| {
            let code = a.hard_embedding(g, w, a.tokens_input(g, 1)?)?;
            a.decode(g, w, code, Condition::guidance_input(g, &conditions, 1)?)
        })?;
        if self.tokenizer.names().any(|n| n.starts_with("encoder.")) {
            let mut encoder = Vec::new();
            collect(&mut encoder, &self.tokenizer, "", storage, |g, w| {
                a.encode(g, w, g.input("image", Dtype::F32, [1, 3, layout.height, layout.width])?)
            })?;
            // Encoder and decoder may share a codebook.
            encoder.retain(|part| parts.iter().all(|have| have.name != part.name));
            parts.extend(encoder);
        }
        let vocabulary = match &self.text {
            Some((_, bpe)) => Some(text_encoder::vocabulary(bpe)?),
            None => None,
        };
        if let Some((checkpoint, _)) = &self.text {
            let text = a.text().ok_or_else(|| Error::internal("a class model has no text encoder"))?;
            collect(&mut parts, checkpoint, "text.", storage, |g, w| {
                let ids = g.input("ids", Dtype::I64, [1, text.context_length])?;
                let features = text_encoder::encode(g, w, text, ids)?;
                g.output("hidden", features.hidden);
                g.output("last", features.last);
                Ok(features.pooled)
            })?;
        }
        parts.extend(vocabulary.iter().map(vocabulary_part));
        let labels = read_labels(source.labels.as_ref(), layout.classes)?;
        let metadata = Metadata {
            family: a.name(),
            resolution: (layout.width, layout.height),
            config: &self.config,
            labels: &labels,
            about: &source.about,
            storage,
        };
        write(&parts, &metadata.entries(&parts)?, output, &mut progress)
    }
}

fn vocabulary_part(vocabulary: &Tensor) -> Part<'_> {
    let (shape, data) = (vocabulary.shape().clone(), vocabulary.bytes());
    Part {
        name: format!("text.{}", text_encoder::VOCABULARY),
        view: TensorView { dtype: Dtype::U8, shape, data },
        stored: Dtype::U8,
    }
}

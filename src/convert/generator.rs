//! A generator family's checkpoints → one model file.

use std::path::Path;

use crate::error::{Error, Result};
use crate::families::FAMILIES;
use crate::families::condition::Condition;
use crate::families::source::Source;
use crate::model::Config;
use crate::model_file::Summary;
use crate::model_file::write::{Form, Metadata, Part, collect, read_from, read_labels, write};
use crate::nn::text_encoder;
use crate::tensor::{Dtype, Tensor, TensorView};

/// Convert the generator (student, teacher or both), image tokenizer and, where there is one, text encoder of the source's family,
/// a name in [`FAMILIES`], to the model file `output`. `progress` gets (tensors written, tensors in all). Which public
/// layouts are read, the family's `convert` module says. Memory: one tensor at a time.
///
/// # Errors
/// `InvalidArgument` for an unknown family or a source without a needed file; unreadable files; missing or misshapen
/// tensors (all official names); an incomplete configuration, or one of a variant that is not supported.
pub fn generator(source: &Source, output: &Path, mut progress: impl FnMut(usize, usize)) -> Result<Summary> {
    let Some(row) = FAMILIES.iter().find(|row| row.description.name == source.family) else {
        let names: Vec<&str> = FAMILIES.iter().map(|row| row.description.name).collect();
        return Err(Error::invalid("family", names.join(", "), &source.family));
    };
    let pieces = (row.read)(source)?;
    let config =
        Config { architecture: pieces.family.clone(), request_defaults: pieces.request_defaults.clone() };
    let (a, storage) = (&config.architecture, source.storage);
    config.validate(&pieces.config_file)?;
    let (layout, conditions) = (a.layout(), a.condition_layout());
    let mut parts = Vec::new();
    for (role, checkpoint) in &pieces.generators {
        collect(&mut parts, checkpoint, &format!("{role}."), storage, |g, w| {
            let e_in = a.embed(g, w, a.tokens_input(g, 1)?)?;
            let mut condition = Condition::inputs(g, &conditions, 1)?;
            if layout.classes > 0 {
                condition.embedding = a.embed_class(g, w, g.input("class", Dtype::I64, [1])?)?;
            }
            a.logits(g, w, e_in, &condition)
        })?;
    }
    collect(&mut parts, &pieces.tokenizer, "", storage, |g, w| {
        let code = a.hard_embedding(g, w, a.tokens_input(g, 1)?)?;
        a.decode(g, w, code, Condition::guidance_input(g, &conditions, 1)?)
    })?;
    if pieces.tokenizer.names().any(|n| n.starts_with("encoder.")) {
        let mut encoder = Vec::new();
        collect(&mut encoder, &pieces.tokenizer, "", storage, |g, w| {
            a.encode(g, w, g.input("image", Dtype::F32, [1, layout.channels, layout.height, layout.width])?)
        })?;
        // Encoder and decoder may share a codebook.
        encoder.retain(|part| parts.iter().all(|have| have.name != part.name));
        parts.extend(encoder);
    }
    let vocabulary = match &pieces.text {
        Some((_, bpe)) => Some(text_encoder::vocabulary(bpe)?),
        None => None,
    };
    if let Some((checkpoint, _)) = &pieces.text {
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
        config: &config,
        labels: &labels,
        about: &source.about,
        storage,
    };
    let summary = write(&parts, &metadata.entries(&parts)?, output, &mut progress)?;
    let generators = pieces.generators.iter().map(|(_, generator)| generator);
    let text = pieces.text.iter().map(|(text, _)| text);
    let read_from = read_from(generators.chain([&pieces.tokenizer]).chain(text));
    Ok(Summary { read_from, ..summary })
}

fn vocabulary_part(vocabulary: &Tensor) -> Part<'_> {
    let (shape, data) = (vocabulary.shape().clone(), vocabulary.bytes());
    Part {
        name: format!("text.{}", text_encoder::VOCABULARY),
        view: TensorView { dtype: Dtype::U8, shape, data },
        stored: Dtype::U8,
        form: Form::Rows,
        ranges: None,
        file: String::new(),
    }
}

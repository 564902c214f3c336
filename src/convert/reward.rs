//! The networks that score pictures, one reward file each. Directories, sharded indices, safetensors and PyTorch files are
//! read alike; which checkpoints, a reward's `convert` module says.

use std::path::Path;

use crate::error::{Error, Result};
use crate::model_file::write::{Form, Metadata, Part, collect, read_from, read_labels, write};
use crate::model_file::{REWARD_COMPONENT, Summary};
use crate::quant::Storage;
use crate::rewards::architecture::{REWARDS, names};
use crate::rewards::model::{RewardConfig, VOCABULARY};
use crate::rewards::scorer::Takes;
use crate::rewards::source::RewardSource;
use crate::tensor::{Dtype, TensorView};

/// Convert the network of the source's reward, a name in [`REWARDS`], to `output`. `progress` gets (tensors written, tensors in
/// all). Memory: one tensor at a time.
///
/// # Errors
/// `InvalidArgument` for an unknown reward, or a source with a file that the reward does not read; unreadable files;
/// missing or misshapen tensors (all official names); sizes that neither shapes nor a configuration give or that
/// contradict each other; a vocabulary that is absent or does not fit.
pub fn reward(
    source: &RewardSource,
    output: &Path,
    mut progress: impl FnMut(usize, usize),
) -> Result<Summary> {
    let Some(row) = REWARDS.iter().find(|row| row.description.name == source.reward) else {
        return Err(Error::invalid("reward", names().join(", "), &source.reward));
    };
    refuse_unread(source, row.description.takes)?;
    refuse_int4(source.storage)?;
    let pieces = (row.read)(source)?;
    let (tokenizer, vocabulary) = match pieces.tokenizer {
        Some((tokenizer, bytes)) => (Some(tokenizer), bytes),
        None => (None, Vec::new()),
    };
    let config = RewardConfig { architecture: pieces.architecture, tokenizer };
    let file = pieces.networks.first().map(|(checkpoint, _)| checkpoint.file()).unwrap_or_default();
    config.validate(&file)?;

    let prefix = format!("{REWARD_COMPONENT}.");
    let mut parts = Vec::new();
    for (checkpoint, build) in &pieces.networks {
        collect(&mut parts, checkpoint, &prefix, source.storage, build)?;
    }
    if !vocabulary.is_empty() {
        let (shape, data) = ([vocabulary.len()].into(), vocabulary.as_slice());
        let view = TensorView { dtype: Dtype::U8, shape, data };
        parts.push(Part {
            name: VOCABULARY.into(),
            view,
            stored: Dtype::U8,
            form: Form::Rows,
            ranges: None,
            file: String::new(),
        });
    }
    let network = &config.architecture;
    let metadata = Metadata {
        family: network.name(),
        resolution: (network.image_size(), network.image_size()),
        config: &config,
        labels: &read_labels(source.labels.as_ref(), network.classes())?,
        about: &source.about,
        storage: source.storage,
    };
    let summary = write(&parts, &metadata.entries(&parts)?, output, &mut progress)?;
    let read_from = read_from(pieces.networks.iter().map(|(checkpoint, _)| checkpoint.as_ref()));
    Ok(Summary { read_from, ..summary })
}

/// A reward is computed in f32 from what is stored: its score is compared and its gradient followed.
pub(super) fn refuse_int4(storage: Storage) -> Result<()> {
    match storage {
        Storage::Int4 => {
            Err(Error::invalid("the dtype of a reward's weights", "f16, int8 or int8-rows", "int4"))
        }
        _ => Ok(()),
    }
}

/// A file that the conversion would not read is a mistake.
fn refuse_unread(source: &RewardSource, takes: Takes) -> Result<()> {
    if source.head.is_some() && takes != Takes::Head {
        return Err(Error::invalid("--head", "none: only 'aesthetic' has one", "a file"));
    }
    if source.vocabulary.is_some() && takes != Takes::Vocabulary {
        return Err(Error::invalid(
            "--vocabulary",
            format!("none: '{}' reads no prompt", source.reward),
            "a file",
        ));
    }
    Ok(())
}

//! A model file with narrower weights.

use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::{Checkpoint, Mapping, safetensors};
use crate::error::{Error, Result};
use crate::model::{Limits, Model};
use crate::model_file::finite::require_finite;
use crate::model_file::header::ModelHeader;
use crate::model_file::write::{Part, write};
use crate::model_file::{QUANTIZATION, Summary, WeightsMode};
use crate::quant::Storage;
use crate::rewards::model::RewardModel;
use crate::tensor::Dtype;

/// Write the model file `input`, a generator's or a reward's, again with its weights in `storage` and everything
/// else as it is. The weights of `input` must be floats: int8 cannot be widened again, and rounding twice would
/// only lose. `progress` gets (tensors written, tensors in all). Memory: one tensor at a time.
///
/// # Errors
/// Those of opening `input`; weights that are int8 already, or not finite.
pub fn quantize(
    input: &Path,
    storage: Storage,
    output: &Path,
    mut progress: impl FnMut(usize, usize),
) -> Result<Summary> {
    let (file, mapping) = (input.display().to_string(), WeightsMode::Map.open(input)?);
    let checkpoint = Checkpoint::from_safetensors(mapping.clone(), file.as_str())?;
    check(&checkpoint, mapping, &file)?;
    let mut parts = Vec::new();
    for name in checkpoint.names() {
        let Some(view) = checkpoint.get(name) else { continue };
        if view.dtype == Dtype::I8 {
            return Err(Error::TensorMismatch {
                name: name.into(),
                expected: "float weights to quantise".into(),
                found: format!("{}{}", view.dtype, view.shape),
                file,
            });
        }
        let stored = storage.dtype(&view);
        require_finite(name, &view, stored, &file)?;
        parts.push(Part { name: name.into(), view, stored, file: file.clone() });
    }
    let mut metadata = checkpoint.metadata().clone();
    metadata.insert(QUANTIZATION.into(), storage.name().into());
    metadata.insert(safetensors::SHA256_KEY.into(), String::new());
    write(&parts, &metadata, output, &mut progress)
}

/// That the file is one which this library opens.
fn check(checkpoint: &Checkpoint, mapping: Arc<Mapping>, file: &str) -> Result<()> {
    match ModelHeader::read(checkpoint, file)?.is_reward() {
        true => RewardModel::from_mapping(mapping, file).map(drop),
        false => Model::from_mapping(mapping, file, Limits::default()).map(drop),
    }
}

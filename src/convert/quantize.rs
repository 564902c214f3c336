//! A model file with narrower weights.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::reward::refuse_int4;
use crate::checkpoint::{Checkpoint, Mapping, safetensors};
use crate::error::{Error, Result};
use crate::graph::int8;
use crate::model::{Limits, Model};
use crate::model_file::finite::require_finite;
use crate::model_file::header::ModelHeader;
use crate::model_file::packed::is_packed;
use crate::model_file::write::{Part, form_of, format_of, write};
use crate::model_file::{FORMAT, FORMATS, QUANTIZATION, Summary, WeightsMode};
use crate::program::Program;
use crate::quant::{Ranges, Storage, ranges_name};
use crate::rewards::model::RewardModel;
use crate::tensor::Dtype;

/// Write the model file `input`, a generator's or a reward's, again with its weights in `storage` and everything
/// else as it is. The weights of `input` are floats, or, for [`Storage::Int8`], int8 already, of which matrices are then
/// stored for int8 arithmetic and all values stay what they are: int8 cannot be widened again. Those of a file in int4 stay
/// what they are as well, and [`Storage::Int4`] is all that it can be written in. `progress` gets
/// (tensors written, tensors in all). Memory: one tensor at a time; of int4, what opening takes.
///
/// # Errors
/// Those of opening `input`; weights that are not finite, or int8 or int4 where another storage is asked for; int4 of a reward.
pub fn quantize(
    input: &Path,
    storage: Storage,
    output: &Path,
    progress: impl FnMut(usize, usize),
) -> Result<Summary> {
    rewrite(input, storage, None, output, progress)
}

/// [`quantize`], with what convolutions read and write, by the names of their kernels ([`crate::calibrate`]): those
/// that are stored in int8 are then computed in int8 as well, and no others, whatever `input` knows of them.
///
/// # Errors
/// As [`quantize`].
pub fn quantize_calibrated(
    input: &Path,
    storage: Storage,
    ranges: &BTreeMap<String, Ranges>,
    output: &Path,
    progress: impl FnMut(usize, usize),
) -> Result<Summary> {
    rewrite(input, storage, Some(ranges), output, progress)
}

/// Both of them; without `ranges` those of `input` stay.
fn rewrite(
    input: &Path,
    storage: Storage,
    ranges: Option<&BTreeMap<String, Ranges>>,
    output: &Path,
    mut progress: impl FnMut(usize, usize),
) -> Result<Summary> {
    let (file, mapping) = (input.display().to_string(), WeightsMode::Map.open(input)?);
    let checkpoint = Checkpoint::from_safetensors(mapping.clone(), file.as_str())?;
    if ModelHeader::read(&checkpoint, &file)?.is_reward() {
        refuse_int4(storage)?;
    }
    let packed = is_packed(&checkpoint);
    if packed && storage != Storage::Int4 {
        return Err(Error::Unsupported {
            what: format!("{file} in {}", storage.name()),
            reason:
                "its weights are int4, which is not widened again: quantize the file with float weights, or \
                     calibrate this one anew with --dtype int4"
                    .into(),
        });
    }
    let matrices = matrices(&checkpoint, mapping, &file)?;
    let mut parts = Vec::new();
    let old: BTreeSet<String> = checkpoint.names().map(ranges_name).collect();
    for name in checkpoint.names().filter(|name| ranges.is_none() || !old.contains(*name)) {
        let Some(view) = checkpoint.get(name) else { continue };
        let is_int8 = view.dtype == Dtype::I8;
        if is_int8 && !packed && storage != Storage::Int8 {
            return Err(Error::TensorMismatch {
                name: name.into(),
                expected: "float weights to quantise".into(),
                found: format!("{}{}", view.dtype, view.shape),
                file,
            });
        }
        // Of a file in int4 nothing is left to be narrowed, and ranges are no weights.
        let stored = if packed || old.contains(name) { view.dtype } else { storage.dtype(&view) };
        require_finite(name, &view, stored, &file)?;
        let form = form_of(name, &view, storage, !packed && matrices.contains(name));
        let ranges = ranges.and_then(|ranges| ranges.get(name)).filter(|_| stored == Dtype::I8).cloned();
        parts.push(Part { name: name.into(), view, stored, form, ranges, file: file.clone() });
    }
    let mut metadata = checkpoint.metadata().clone();
    let old = metadata.get(FORMAT).filter(|format| FORMATS[1..].contains(&format.as_str()));
    let format = old.map_or("", String::as_str).max(format_of(&parts)).to_string();
    metadata.insert(FORMAT.into(), format);
    metadata.insert(QUANTIZATION.into(), storage.name().into());
    metadata.insert(safetensors::SHA256_KEY.into(), String::new());
    write(&parts, &metadata, output, &mut progress)
}

/// The matrices that the networks of a generator's file read for nothing but products, after it was found to be one which this
/// library opens. A reward is computed in f32: its score is compared and its gradient followed.
fn matrices(checkpoint: &Checkpoint, mapping: Arc<Mapping>, file: &str) -> Result<BTreeSet<String>> {
    if ModelHeader::read(checkpoint, file)?.is_reward() {
        return RewardModel::from_mapping(mapping, file).map(|_| BTreeSet::new());
    }
    let model = Model::from_mapping(mapping, file, Limits::default())?;
    let (a, w) = (model.architecture(), model.weights());
    let programs = Program::ALL.into_iter().filter(|program| program.available(a, &w));
    let graphs = programs.map(|program| program.graph(a, &w, 1)).collect::<Result<Vec<_>>>()?;
    let (mut all, mut others) = (BTreeSet::new(), BTreeSet::new());
    for graph in &graphs {
        let (matrices, rest) = int8::matrices(graph);
        all.extend(matrices);
        others.extend(rest);
    }
    Ok(all.difference(&others).cloned().collect())
}

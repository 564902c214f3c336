//! Files of the third format, whose matrices are in int4 ([`crate::quant`]): opening makes one of the second format of them, in
//! memory. All that reads a model then knows int8 alone, and computes as with a file of int8 that is read instead of mapped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{FORMAT, FORMATS};
use crate::checkpoint::{Checkpoint, Mapping, safetensors};
use crate::error::{Error, Result};
use crate::quant::{BLOCK, int4_name, int4_shapes, scale_name, transposed_name, widen};
use crate::tensor::{Dtype, Shape};

/// Whether the file says that it is of the third format.
pub(crate) fn is_packed(checkpoint: &Checkpoint) -> bool {
    checkpoint.metadata().get(FORMAT).is_some_and(|format| format == FORMATS[2])
}

/// A matrix in int4.
struct Matrix<'a> {
    name: &'a str,
    outputs: usize,
    inputs: usize,
}

/// Bytes that [`unpack`] takes for a file.
///
/// # Errors
/// As [`unpack`], before anything is allocated.
pub(crate) fn unpacked_bytes(packed: &Checkpoint) -> Result<u64> {
    safetensors::size_in_memory(&entries(packed, &matrices(packed)?))
}

/// The same model in the second format, in memory, under the metadata of the file.
///
/// # Errors
/// `TensorMismatch` and `MissingTensor` for matrices or scales of the wrong dtype or shape, scales that are not finite, and
/// matrices that are there in another form too; `Exhausted`.
pub(crate) fn unpack(packed: &Checkpoint, file: &str) -> Result<(Checkpoint, Arc<Mapping>)> {
    let matrices = matrices(packed)?;
    let entries = entries(packed, &matrices);
    let by_name = |of: fn(&str) -> String| -> BTreeMap<String, &Matrix> {
        matrices.iter().map(|matrix| (of(matrix.name), matrix)).collect()
    };
    let (quantized, scaled) = (by_name(transposed_name), by_name(scale_name));
    let data = |name: &str| packed.get(name).map_or(&[][..], |view| view.data);
    // Scales are written before what they belong to, whose elements are smaller.
    let mapping = safetensors::in_memory(file, &entries, |name, bytes| {
        let (matrix, is_scale) = match (quantized.get(name), scaled.get(name)) {
            (None, None) => {
                bytes.copy_from_slice(data(name));
                return Ok(());
            }
            (Some(matrix), _) => (matrix, false),
            (None, Some(matrix)) => (matrix, true),
        };
        let scales = scale_name(matrix.name);
        let (n, s) = (data(&int4_name(matrix.name)), data(&scales));
        let mut rows = vec![0f32; matrix.outputs];
        // Nothing of q is asked for beside the scales.
        let (n, q) = if is_scale { (&[][..], &mut [][..]) } else { (n, &mut *bytes) };
        widen(n, s, q, &mut rows).map_err(|(at, found)| Error::TensorMismatch {
            name: scales.clone(),
            expected: "finite scales".into(),
            found: format!("{found} at [{}, {}]", at / matrix.outputs, at % matrix.outputs),
            file: packed.file(),
        })?;
        if is_scale {
            bytes.as_chunks_mut::<4>().0.iter_mut().zip(rows).for_each(|(b, row)| *b = row.to_le_bytes());
        }
        Ok(())
    })?;
    // What was mapped may have been cut meanwhile.
    packed.recheck()?;
    let mapping = Arc::new(mapping);
    Ok((Checkpoint::from_safetensors(mapping.clone(), file)?.with_metadata_of(packed), mapping))
}

/// The matrices in int4, each with its scales and in no other form.
fn matrices(packed: &Checkpoint) -> Result<Vec<Matrix<'_>>> {
    let suffix = int4_name("");
    let mut all = Vec::new();
    for stored in packed.names().filter(|name| name.ends_with(&suffix)) {
        let Some(view) = packed.get(stored) else { continue };
        let name = &stored[..stored.len() - suffix.len()];
        let wrong = |name: &str, expected: String, found: String| Error::TensorMismatch {
            name: name.into(),
            expected,
            found,
            file: packed.file(),
        };
        let found = format!("{}{}", view.dtype, view.shape);
        // Without inputs or outputs nothing says how long scales may be.
        let is_pairs = view.dtype == Dtype::U8 && view.shape.rank() == 2 && view.shape.iter().all(|&n| n > 0);
        let outputs = if is_pairs { view.shape[1].checked_mul(2) } else { None };
        let Some(outputs) = outputs else {
            return Err(wrong(stored, "u8[inputs, outputs / 2], neither of them 0".into(), found));
        };
        let [_, scales] = int4_shapes(outputs, view.shape[0]);
        let name_of_scale = scale_name(name);
        let scale = packed.get(&name_of_scale).ok_or_else(|| Error::MissingTensor {
            name: name_of_scale.clone(),
            expected: format!("f16{scales} of the scales of int4 '{name}'"),
            file: packed.file(),
        })?;
        if scale.dtype != Dtype::F16 || scale.shape != scales {
            let expected = format!("f16{scales}, one scale for {BLOCK} inputs of each output of '{name}'");
            return Err(wrong(&name_of_scale, expected, format!("{}{}", scale.dtype, scale.shape)));
        }
        for other in [name.to_string(), transposed_name(name)] {
            if packed.get(&other).is_some() {
                return Err(wrong(stored, "one form of a matrix".into(), format!("'{other}' beside it")));
            }
        }
        all.push(Matrix { name, outputs, inputs: view.shape[0] });
    }
    Ok(all)
}

/// The tensors of the second format.
fn entries(packed: &Checkpoint, matrices: &[Matrix]) -> Vec<safetensors::Entry> {
    let of_matrices: BTreeSet<String> =
        matrices.iter().flat_map(|m| [int4_name(m.name), scale_name(m.name)]).collect();
    let others = packed.names().filter(|name| !of_matrices.contains(*name)).filter_map(|name| {
        let view = packed.get(name)?;
        Some(safetensors::Entry { name: name.into(), dtype: view.dtype, shape: view.shape })
    });
    let q = matrices.iter().map(|m| safetensors::Entry {
        name: transposed_name(m.name),
        dtype: Dtype::I8,
        shape: Shape::from([m.inputs, m.outputs]),
    });
    let scales = matrices.iter().map(|m| safetensors::Entry {
        name: scale_name(m.name),
        dtype: Dtype::F32,
        shape: Shape::from([m.outputs]),
    });
    others.chain(q).chain(scales).collect()
}

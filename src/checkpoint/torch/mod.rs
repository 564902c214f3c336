//! Read the tensors of a PyTorch file (`.pt`, `.pth`, `.bin`, `.ckpt`) without executing its pickle.
//!
//! Both forms are read: zip (PyTorch 1.6 and later) and legacy. So are the modules of a TorchScript archive, such
//! as OpenAI's CLIP files: their attributes are the state dict, their code is never looked at. Tensors that are contiguous in their storage
//! are views of the mapping; others are copied into row-major order when first asked for.
//!
//! Which tensors are those of a network that is looked for, `checkpoint::selection` says. Else they are the state dict:
//! descending from the top, the first of [`WRAPPERS`] whose value is a dict that leads to tensors; without one, the dict at
//! hand. Dicts inside it are flattened with `.` between the keys.
//! Values that are neither tensors nor dicts, and keys that are not strings, are left out.

mod globals;
mod legacy;
mod pickle;
mod value;
mod zip;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use self::legacy::Legacy;
use self::pickle::Pickle;
use self::value::{Element, Id, PickleValue, PickledStorage, PickledTensor};
use self::zip::Zip;
use super::mapping::Mapping;
use super::selection::{ReadFrom, Sought, select};
use crate::error::{Error, Result};
use crate::tensor::{Dtype, Shape, TensorView};

/// Keys under which training scripts keep the state dict, in order of preference.
pub const WRAPPERS: [&str; 11] = [
    "model_state_dict",
    "state_dict",
    "model",
    "module",
    "ema",
    "ema_state_dict",
    "model_ema",
    "params_ema",
    "params",
    "net",
    "weights",
];

/// Deepest nesting of dicts.
const MAX_DEPTH: usize = 16;
/// Most dict entries looked at while searching; sharing could make the tree larger than the pickle.
const MAX_VISITS: usize = 1 << 22;
/// Most tensors in one state dict.
const MAX_TENSORS: usize = 1 << 17;
/// Longest flattened name, in bytes.
const MAX_NAME: usize = 1024;
/// Bytes that copies of strided tensors may take whatever the file's size, and per byte of file.
const COPIES_FREE: usize = 16 << 20;
const COPIES_PER_BYTE: usize = 4;

/// An opened PyTorch file. Thread-safe; views borrow the mapping or a copy kept here.
pub struct TorchFile {
    mapping: Arc<Mapping>,
    tensors: BTreeMap<String, Placed>,
}

/// A tensor whose every element is known to lie inside the mapping.
struct Placed {
    dtype: Dtype,
    shape: Shape,
    /// First byte of the first element, from the beginning of the file.
    offset: usize,
    layout: Container,
}

enum Container {
    Contiguous {
        len: usize,
    },
    /// Strides in bytes, and the copy once it is made.
    Strided {
        strides: Vec<usize>,
        copy: OnceLock<Box<[u8]>>,
    },
}

impl TorchFile {
    /// Reads the pickle of `mapping` and checks every tensor of its state dict against the file; tensor bytes
    /// are not touched. `file` is the name for messages.
    ///
    /// # Errors
    /// `Format`; `Unsupported` for compressed or big-endian files.
    pub fn open(mapping: Arc<Mapping>, file: &str) -> Result<TorchFile> {
        let (tensors, _) = read(mapping.bytes(), file, None)?;
        Ok(TorchFile { mapping, tensors })
    }

    /// As [`TorchFile::open`], of one network: its dictionary, wherever in the file it is, under the network's own names.
    /// Where the file has none, no dictionary is named and the tensors are those of the state dict.
    ///
    /// # Errors
    /// As [`TorchFile::open`]; `Format` when the file leaves open which dictionary is meant.
    pub(super) fn open_network(
        mapping: Arc<Mapping>,
        file: &str,
        sought: &Sought,
    ) -> Result<(TorchFile, Option<ReadFrom>)> {
        let (tensors, read_from) = read(mapping.bytes(), file, Some(sought))?;
        Ok((TorchFile { mapping, tensors }, read_from))
    }

    /// True when `bytes` begin like either form.
    pub fn sniff(bytes: &[u8]) -> bool {
        bytes.starts_with(b"PK\x03\x04") || legacy::sniff(bytes)
    }

    /// Tensor names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// True when the file has a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The named tensor, row-major. The first call for a strided tensor copies it.
    pub fn get(&self, name: &str) -> Option<TensorView<'_>> {
        let placed = self.tensors.get(name)?;
        let bytes = self.mapping.bytes();
        let data = match &placed.layout {
            Container::Contiguous { len } => &bytes[placed.offset..placed.offset + len],
            Container::Strided { strides, copy } => copy
                .get_or_init(|| gather(&bytes[placed.offset..], &placed.shape, strides, placed.dtype.size())),
        };
        Some(TensorView { dtype: placed.dtype, shape: placed.shape.clone(), data })
    }

    /// The bytes the file lives in.
    pub fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }
}

impl fmt::Debug for TorchFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TorchFile({:?}, {} tensors)", self.mapping, self.tensors.len())
    }
}

type Tensors = (BTreeMap<String, Placed>, Option<ReadFrom>);

fn read(bytes: &[u8], file: &str, sought: Option<&Sought>) -> Result<Tensors> {
    if legacy::sniff(bytes) {
        let Legacy { object, storages } = Legacy::read(bytes, file)?;
        return Reader { file, file_len: bytes.len(), pickle: &object, storages: Storages::Legacy(storages) }
            .tensors(sought);
    }
    let zip = Zip::read(bytes, file)?;
    if let Some(order) = zip.find("byteorder")?
        && &bytes[order.clone()] != b"little"
    {
        return Err(Error::Unsupported {
            what: "a big-endian checkpoint".into(),
            reason: format!("{file} was written on a big-endian machine; save it again on another"),
        });
    }
    let range = zip.find("data.pkl")?.ok_or_else(|| Error::internal("data.pkl vanished"))?;
    let pickle = Pickle::read(&bytes[range], file, "data.pkl")?;
    Reader { file, file_len: bytes.len(), pickle: &pickle, storages: Storages::Zip(zip) }.tensors(sought)
}

enum Storages {
    Zip(Zip),
    Legacy(HashMap<String, Range<usize>>),
}

struct Reader<'p, 'a> {
    file: &'p str,
    file_len: usize,
    pickle: &'p Pickle<'a>,
    storages: Storages,
}

impl<'a> Reader<'_, 'a> {
    fn broken(
        &self,
        what: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Error {
        Error::Format {
            file: self.file.into(),
            what: what.into(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    fn tensors(&self, sought: Option<&Sought>) -> Result<Tensors> {
        if let Some(sought) = sought {
            let mut all = BTreeMap::new();
            self.flatten(self.pickle.root, "", 0, &mut 0, true, &mut all)?;
            if let Some(found) = select(all.keys().map(String::as_str), sought, self.file)? {
                let tensors =
                    found.names.into_iter().filter_map(|(name, stored)| Some((name, *all.get(&stored)?)));
                return Ok((self.placed(tensors)?, Some(found.read_from)));
            }
        }
        let mut visits = 0;
        let state = self.state_dict(self.pickle.root, 0, &mut visits)?;
        let Some(state) = state else {
            let root = self.pickle.value(self.pickle.root);
            let found = match root {
                PickleValue::Dict(_) => "a dict without tensors".into(),
                other => other.describe(),
            };
            return Err(self.broken("state dict", "a dict of tensors", found));
        };
        let mut found = BTreeMap::new();
        self.flatten(state, "", 0, &mut 0, false, &mut found)?;
        Ok((self.placed(found.into_iter())?, None))
    }

    fn keep<'s>(
        &self,
        name: String,
        tensor: &'s PickledTensor<'a>,
        found: &mut BTreeMap<String, &'s PickledTensor<'a>>,
    ) -> Result<()> {
        if found.len() == MAX_TENSORS {
            return Err(self.broken("state dict", format!("at most {MAX_TENSORS} tensors"), "more"));
        }
        if found.contains_key(&name) {
            return Err(self.broken("state dict", "every name once", format!("'{name}' twice")));
        }
        found.insert(name, tensor);
        Ok(())
    }

    /// Checks tensors against their storages.
    fn placed<'t>(
        &self,
        tensors: impl Iterator<Item = (String, &'t PickledTensor<'a>)>,
    ) -> Result<BTreeMap<String, Placed>>
    where
        'a: 't,
    {
        let mut placed = BTreeMap::new();
        let mut copies = 0usize;
        let limit = self.file_len.saturating_mul(COPIES_PER_BYTE).saturating_add(COPIES_FREE);
        for (name, tensor) in tensors {
            let tensor = self.place(&name, tensor)?;
            if let Container::Strided { .. } = tensor.layout {
                copies = copies.saturating_add(tensor.shape.len() * tensor.dtype.size());
                if copies > limit {
                    let expected = format!("at most {limit} bytes of tensors that need a copy");
                    return Err(self.broken(format!("tensor '{name}'"), expected, format!("{copies} bytes")));
                }
            }
            placed.insert(name, tensor);
        }
        Ok(placed)
    }

    fn visit(&self, visits: &mut usize) -> Result<()> {
        *visits += 1;
        if *visits > MAX_VISITS {
            return Err(self.broken("state dict", format!("at most {MAX_VISITS} entries"), "more"));
        }
        Ok(())
    }

    fn deeper(&self, depth: usize) -> Result<usize> {
        if depth == MAX_DEPTH {
            return Err(self.broken(
                "state dict",
                format!("dicts nested at most {MAX_DEPTH} deep"),
                "deeper ones",
            ));
        }
        Ok(depth + 1)
    }

    fn dict(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.pickle.value(id) {
            PickleValue::Dict(items) => Some(items),
            _ => None,
        }
    }

    /// The state dict in or below `id`; `None` when nothing there leads to a tensor.
    fn state_dict(&self, id: Id, depth: usize, visits: &mut usize) -> Result<Option<Id>> {
        let Some(items) = self.dict(id) else { return Ok(None) };
        let depth = self.deeper(depth)?;
        for wrapper in WRAPPERS {
            for &(key, value) in items {
                self.visit(visits)?;
                if matches!(self.pickle.value(key), PickleValue::Text(text) if *text == wrapper)
                    && let Some(state) = self.state_dict(value, depth, visits)?
                {
                    return Ok(Some(state));
                }
            }
        }
        Ok(self.leads_to_tensor(id, depth, visits)?.then_some(id))
    }

    fn leads_to_tensor(&self, id: Id, depth: usize, visits: &mut usize) -> Result<bool> {
        for &(key, value) in self.dict(id).unwrap_or(&[]) {
            self.visit(visits)?;
            let leads = match self.pickle.value(value) {
                _ if !matches!(self.pickle.value(key), PickleValue::Text(_)) => false,
                PickleValue::Tensor(_) => true,
                PickleValue::Dict(_) => self.leads_to_tensor(value, self.deeper(depth)?, visits)?,
                _ => false,
            };
            if leads {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The tensors below `id` under their path; those in lists, which have numbers for names, only with `lists`.
    fn flatten<'s>(
        &'s self,
        id: Id,
        prefix: &str,
        depth: usize,
        visits: &mut usize,
        lists: bool,
        found: &mut BTreeMap<String, &'s PickledTensor<'a>>,
    ) -> Result<()> {
        for &(key, value) in self.dict(id).unwrap_or(&[]) {
            self.visit(visits)?;
            let PickleValue::Text(key) = self.pickle.value(key) else { continue };
            if prefix.len() + key.len() > MAX_NAME {
                let found = format!("{} bytes", prefix.len() + key.len());
                return Err(self.broken("tensor name", format!("at most {MAX_NAME} bytes"), found));
            }
            let name = format!("{prefix}{key}");
            match self.pickle.value(value) {
                PickleValue::Tensor(tensor) => self.keep(name, tensor, found)?,
                PickleValue::Dict(_) => {
                    self.flatten(value, &format!("{name}."), self.deeper(depth)?, visits, lists, found)?
                }
                PickleValue::List(items) if lists => {
                    for (i, &item) in items.iter().enumerate() {
                        self.visit(visits)?;
                        if let PickleValue::Tensor(tensor) = self.pickle.value(item) {
                            self.keep(format!("{name}.{i}"), tensor, found)?;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Checks one tensor against its storage and the file.
    fn place(&self, name: &str, tensor: &PickledTensor<'_>) -> Result<Placed> {
        let what = || format!("tensor '{name}'");
        let known = "one of bool u8 i8 i16 i32 i64 f16 bf16 f32 f64";
        let dtype = match tensor.element {
            Element::Known(dtype) => dtype,
            Element::Untyped => return Err(self.broken(what(), known, "an untyped storage")),
            Element::Other(other) => return Err(self.broken(what(), known, other)),
        };
        let storage = self.storage(name, &tensor.storage)?;
        let too_large =
            || self.broken(what(), "sizes and strides that fit 64 bits", format!("shape {:?}", tensor.shape));
        let dims: Option<Vec<usize>> = tensor.shape.iter().map(|&d| usize::try_from(d).ok()).collect();
        let shape = Shape(dims.ok_or_else(too_large)?);
        let size = dtype.size();
        if shape.is_empty() {
            // Its strides and offset point nowhere.
            let layout = Container::Contiguous { len: 0 };
            return Ok(Placed { dtype, shape, offset: storage.start, layout });
        }
        let bytes = |elements: u64| usize::try_from(elements).ok()?.checked_mul(size);
        let len = shape.checked_len().and_then(|n| n.checked_mul(size)).ok_or_else(too_large)?;
        let offset = bytes(tensor.offset).ok_or_else(too_large)?;
        let mut strides = Vec::with_capacity(shape.rank());
        let mut end = offset.checked_add(size).ok_or_else(too_large)?;
        for (&dim, &stride) in shape.iter().zip(&tensor.strides) {
            // The stride of a dimension of one element is never taken, and may be anything.
            let stride = if dim == 1 { 0 } else { bytes(stride).ok_or_else(too_large)? };
            end = stride.checked_mul(dim - 1).and_then(|n| n.checked_add(end)).ok_or_else(too_large)?;
            strides.push(stride);
        }
        if end > storage.len() {
            let expected = format!("elements inside its storage of {} bytes", storage.len());
            return Err(self.broken(what(), expected, format!("elements up to byte {end}")));
        }
        let row_major = shape.strides();
        let contiguous =
            shape.iter().zip(&strides).zip(&row_major).all(|((&dim, &s), &r)| dim == 1 || s == r * size);
        let layout = match contiguous {
            true => Container::Contiguous { len },
            false => Container::Strided { strides, copy: OnceLock::new() },
        };
        Ok(Placed { dtype, shape, offset: storage.start + offset, layout })
    }

    /// The bytes of a storage.
    fn storage(&self, tensor: &str, storage: &PickledStorage<'_>) -> Result<Range<usize>> {
        let what = || format!("tensor '{tensor}' storage '{}'", storage.key);
        let range = match &self.storages {
            Storages::Zip(zip) => zip.find(&format!("data/{}", storage.key))?,
            Storages::Legacy(ranges) => ranges.get(storage.key).cloned(),
        };
        let range = range.ok_or_else(|| self.broken(what(), "its bytes in the file", "none"))?;
        let size = storage.element.size().unwrap_or(1);
        let bytes = |elements: u64| usize::try_from(elements).ok()?.checked_mul(size);
        let held = || format!("{} bytes", range.len());
        let whole = bytes(storage.count).filter(|&n| n <= range.len());
        let whole = whole.ok_or_else(|| {
            self.broken(what(), format!("{} elements of {size} bytes", storage.count), held())
        })?;
        let Some((first, count)) = storage.window else {
            return Ok(range.start..range.start + whole);
        };
        let window =
            bytes(first).zip(bytes(count)).and_then(|(first, len)| Some(first..first.checked_add(len)?));
        let window = window.filter(|window| window.end <= whole);
        let window = window.ok_or_else(|| {
            self.broken(
                what(),
                format!("{} elements for a view of {count} from {first}", storage.count),
                held(),
            )
        })?;
        Ok(range.start + window.start..range.start + window.end)
    }
}

/// Copies a strided tensor into row-major order. `bytes` begin at its first element; strides are in bytes.
fn gather(bytes: &[u8], shape: &Shape, strides: &[usize], size: usize) -> Box<[u8]> {
    let mut out = Vec::with_capacity(shape.len() * size);
    let (Some((&inner, outer)), Some((&step, outer_strides))) = (shape.split_last(), strides.split_last())
    else {
        return bytes[..size].into();
    };
    let mut index = vec![0; outer.len()];
    let mut at = 0;
    loop {
        if step == size {
            out.extend_from_slice(&bytes[at..at + inner * size]);
        } else {
            for i in 0..inner {
                out.extend_from_slice(&bytes[at + i * step..][..size]);
            }
        }
        let mut axis = outer.len();
        loop {
            if axis == 0 {
                return out.into();
            }
            axis -= 1;
            index[axis] += 1;
            at += outer_strides[axis];
            if index[axis] < outer[axis] {
                break;
            }
            at -= outer_strides[axis] * outer[axis];
            index[axis] = 0;
        }
    }
}

//! Open a checkpoint (a file, a directory or a sharded index) as one namespace of tensor views.
//!
//! Every file is read as data: nothing in it is executed, no path in it is followed out of its directory, and
//! a broken rule of a format is an error that names the file, the tensor, what was expected and what was found.

mod content;
mod directory;
#[cfg(all(test, unix))]
#[allow(unsafe_code)]
mod guarded_tests;
#[cfg(windows)]
#[allow(unsafe_code)]
mod held;
pub(crate) mod json;
#[allow(unsafe_code)]
mod mapping;
pub mod safetensors;
mod selection;
#[cfg(unix)]
#[allow(unsafe_code)]
pub mod sigbus;
pub(crate) mod sizes;
mod stamp;
pub mod torch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use self::content::{reads_as_safetensors, unknown_format};
use self::directory::find_in_directory;
pub use self::mapping::Mapping;
use self::safetensors::SafeTensors;
pub(crate) use self::selection::Sought;
use self::selection::select;
pub use self::selection::{ReadFrom, WhichWeights};
use self::torch::TorchFile;
use crate::error::{Error, Result};
use crate::tensor::TensorView;

/// Longest JSON file (index, config) that is read, in bytes.
const MAX_JSON: u64 = 100_000_000;
/// Most shards of one checkpoint; each keeps a file open.
const MAX_SHARDS: usize = 1000;

/// An opened checkpoint: named tensors, whatever file format they come from. Thread-safe.
///
/// Views borrow the mapped files; only strided tensors of PyTorch files are copied, when first asked for.
#[derive(Debug)]
pub struct Checkpoint {
    shards: Vec<Shard>,
    /// Tensor name to index in `shards`.
    tensors: BTreeMap<String, usize>,
    /// Tensors known under another name than their file gives them, to that name.
    renamed: BTreeMap<String, String>,
    metadata: BTreeMap<String, String>,
    file: String,
    /// Of a network that was looked for: where it was.
    read_from: Option<ReadFrom>,
    /// Where the files lie; `None` for bytes without a path.
    directory: Option<PathBuf>,
}

#[derive(Debug)]
enum Shard {
    SafeTensors(SafeTensors),
    Torch(TorchFile),
}

impl Checkpoint {
    /// Opens and maps a checkpoint:
    /// - a safetensors or PyTorch file, told apart by content, not by extension;
    /// - a sharded index (`*.index.json`), its shards beside it;
    /// - a directory, by the first that exists of `model.safetensors`, `diffusion_pytorch_model.safetensors`,
    ///   their `.index.json`, `pytorch_model.bin` and its `.index.json`, or a single other `*.safetensors`.
    ///
    /// Tensor bytes are not read. See [`Mapping`] for what a mapped file demands of its owner.
    ///
    /// # Errors
    /// `NotFound`, `Io`; `Format` for a broken rule or a directory with nothing to open; `Unsupported` for compressed
    /// or big-endian PyTorch files.
    pub fn open(path: impl AsRef<Path>) -> Result<Checkpoint> {
        Checkpoint::open_path(path.as_ref(), None)
    }

    /// As [`Checkpoint::open`], of one network: only its tensors, under its own names.
    ///
    /// # Errors
    /// As [`Checkpoint::open`]; `Format` for a checkpoint of something else, and for one that leaves open which dictionary
    /// is meant.
    pub(crate) fn open_network(path: &Path, sought: &Sought) -> Result<Checkpoint> {
        let mut checkpoint = Checkpoint::open_path(path, Some(sought))?;
        if checkpoint.read_from.is_some() {
            return Ok(checkpoint);
        }
        let Some(found) = select(checkpoint.names(), sought, &checkpoint.file)? else {
            return Err(unknown(&checkpoint, &sought.expected()));
        };
        let shard = |stored: &String| checkpoint.tensors.get(stored).copied().unwrap_or_default();
        checkpoint.tensors = found.names.iter().map(|(name, stored)| (name.clone(), shard(stored))).collect();
        checkpoint.renamed = found.names.into_iter().filter(|(name, stored)| name != stored).collect();
        checkpoint.read_from = Some(found.read_from);
        Ok(checkpoint)
    }

    fn open_path(path: &Path, sought: Option<&Sought>) -> Result<Checkpoint> {
        let mut checkpoint = if path.is_dir() {
            Checkpoint::open_file(&find_in_directory(path)?, sought)?
        } else {
            Checkpoint::open_file(path, sought)?
        };
        let directory = if path.is_dir() { Some(path) } else { path.parent() };
        checkpoint.directory = directory.map(Path::to_path_buf);
        Ok(checkpoint)
    }

    /// A checkpoint in bytes that are already there. `file` is the name for messages.
    ///
    /// # Errors
    /// `Format`, `Unsupported`, as [`Checkpoint::open`].
    pub fn from_mapping(mapping: Arc<Mapping>, file: impl Into<String>) -> Result<Checkpoint> {
        let file = file.into();
        Ok(Checkpoint::of(Shard::open(mapping, &file, None)?.0, file))
    }

    /// A safetensors file in bytes that are already there, and nothing else: a model file must never reach the reader of
    /// another format. `file` is the name for messages.
    ///
    /// # Errors
    /// `Config` for a PyTorch file; `Format` for any other, or as [`Checkpoint::open`].
    pub fn from_safetensors(mapping: Arc<Mapping>, file: impl Into<String>) -> Result<Checkpoint> {
        let file = file.into();
        let bytes = mapping.bytes();
        if TorchFile::sniff(bytes) {
            return Err(Error::Config {
                file,
                key: "softdimo.format".into(),
                expected: "a model file made by 'softdimo convert'".into(),
                found: "a PyTorch file".into(),
            });
        }
        if !reads_as_safetensors(bytes, &file) {
            return Err(unknown_format(&file, bytes));
        }
        Ok(Checkpoint::of(Shard::SafeTensors(SafeTensors::open(mapping, &file)?), file))
    }

    /// The same with the metadata of another file, which this one was made of.
    pub(crate) fn with_metadata_of(mut self, other: &Checkpoint) -> Checkpoint {
        self.metadata.clone_from(&other.metadata);
        self
    }

    /// The checkpoint that is one shard.
    fn of(shard: Shard, file: String) -> Checkpoint {
        let tensors = shard.names().map(|name| (name.to_string(), 0)).collect();
        let metadata = shard.metadata().cloned().unwrap_or_default();
        let (shards, renamed) = (vec![shard], BTreeMap::new());
        Checkpoint { shards, tensors, renamed, metadata, file, read_from: None, directory: None }
    }

    fn open_file(path: &Path, sought: Option<&Sought>) -> Result<Checkpoint> {
        if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(".index.json")) {
            return Checkpoint::open_index(path);
        }
        let file = display_name(path);
        let (shard, read_from) = Shard::open(Arc::new(Mapping::map(path)?), &file, sought)?;
        Ok(Checkpoint { read_from, ..Checkpoint::of(shard, file) })
    }

    fn open_index(path: &Path) -> Result<Checkpoint> {
        #[derive(Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let file = display_name(path);
        let broken = |what: String, expected: String, found: String| Error::Format {
            file: file.clone(),
            what,
            expected,
            found,
        };
        let text = read_json(path)?;
        let index: Index = serde_json::from_str(&text)
            .map_err(|e| broken("index".into(), "JSON with a weight_map of strings".into(), e.to_string()))?;

        let mut positions: BTreeMap<&str, usize> = BTreeMap::new();
        let mut shards: Vec<Shard> = Vec::new();
        let mut tensors = BTreeMap::new();
        let mut metadata = BTreeMap::new();
        for (tensor, shard_name) in &index.weight_map {
            let at = match positions.get(shard_name.as_str()) {
                Some(&at) => at,
                None => {
                    if !is_plain_file_name(shard_name) {
                        let expected = "the name of a file beside the index".into();
                        return Err(broken(
                            format!("shard of tensor '{tensor}'"),
                            expected,
                            shard_name.clone(),
                        ));
                    }
                    if shards.len() == MAX_SHARDS {
                        return Err(broken(
                            "index".into(),
                            format!("at most {MAX_SHARDS} shards"),
                            "more".into(),
                        ));
                    }
                    let shard = Arc::new(Mapping::map(path.with_file_name(shard_name))?);
                    let shard = Shard::open(shard, shard_name, None)?.0;
                    for (key, value) in shard.metadata().into_iter().flatten() {
                        metadata.entry(key.clone()).or_insert_with(|| value.clone());
                    }
                    shards.push(shard);
                    positions.insert(shard_name, shards.len() - 1);
                    shards.len() - 1
                }
            };
            if !shards[at].contains(tensor) {
                let found = format!("no such tensor in {shard_name}");
                return Err(broken(format!("tensor '{tensor}'"), format!("it in {shard_name}"), found));
            }
            tensors.insert(tensor.clone(), at);
        }
        let (renamed, read_from, directory) = (BTreeMap::new(), None, None);
        Ok(Checkpoint { shards, tensors, renamed, metadata, file, read_from, directory })
    }

    /// Tensor names, sorted by bytes. Of a sharded checkpoint, those its index lists.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The named tensor, row-major and contiguous; its bytes may be unaligned. `None` when there is none.
    pub fn get(&self, name: &str) -> Option<TensorView<'_>> {
        let shard = self.shard(name)?;
        let name = self.stored_name(name);
        match shard {
            Shard::SafeTensors(file) => file.get(name),
            Shard::Torch(file) => file.get(name),
        }
    }

    /// The `__metadata__` of a safetensors file; of a sharded one, of all shards, the first value of a key
    /// winning. Empty for PyTorch files.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The file's name for messages: without its directory.
    pub fn file(&self) -> String {
        self.file.clone()
    }

    /// Of a network that was looked for: where in the file it was.
    pub(crate) fn read_from(&self) -> Option<&ReadFrom> {
        self.read_from.as_ref()
    }

    /// Where the named tensor lies: offset and length in bytes, in the file that [`Checkpoint::mapping`] gives.
    ///
    /// `None` when there is no such tensor or it is not in a safetensors file.
    pub fn tensor_range(&self, name: &str) -> Option<(usize, usize)> {
        let shard = self.shard(name)?;
        let name = self.stored_name(name);
        match shard {
            Shard::SafeTensors(file) => file.tensors().get(name).map(|info| (info.offset, info.len)),
            Shard::Torch(_) => None,
        }
    }

    /// The bytes of the file that holds the named tensor.
    pub fn mapping(&self, name: &str) -> Option<&Arc<Mapping>> {
        Some(self.shard(name)?.mapping())
    }

    /// The safetensors file, when the checkpoint is a single one.
    pub fn as_safetensors(&self) -> Option<&SafeTensors> {
        match &self.shards[..] {
            [Shard::SafeTensors(file)] => Some(file),
            _ => None,
        }
    }

    /// Checks that no file has lost bytes since it was mapped; see [`Mapping::recheck`].
    pub fn recheck(&self) -> Result<()> {
        self.shards.iter().try_for_each(|shard| shard.mapping().recheck())
    }

    /// The `config.json` in the checkpoint's directory; `None` when there is none, or no directory.
    ///
    /// # Errors
    /// `Io`; `Format` when it is not JSON.
    pub fn config_json(&self) -> Result<Option<serde_json::Value>> {
        let Some(directory) = &self.directory else { return Ok(None) };
        let path = directory.join("config.json");
        let text = match read_json(&path) {
            Err(Error::NotFound { .. }) => return Ok(None),
            other => other?,
        };
        serde_json::from_str(&text).map(Some).map_err(|e| Error::Format {
            file: display_name(&path),
            what: "config".into(),
            expected: "JSON".into(),
            found: e.to_string(),
        })
    }

    /// Knows every tensor whose name starts with `from` under the name that starts with `to` instead, unless
    /// that name is taken: official files differ in such prefixes.
    pub fn rename_prefix(&mut self, from: &str, to: &str) {
        let names: Vec<String> = self.tensors.keys().filter(|n| n.starts_with(from)).cloned().collect();
        for old in names {
            let new = format!("{to}{}", &old[from.len()..]);
            if !self.tensors.contains_key(&new) {
                let shard = self.tensors.remove(&old).unwrap_or_default();
                let stored = self.renamed.remove(&old).unwrap_or(old);
                self.tensors.insert(new.clone(), shard);
                self.renamed.insert(new, stored);
            }
        }
    }

    fn stored_name<'a>(&'a self, name: &'a str) -> &'a str {
        self.renamed.get(name).map_or(name, String::as_str)
    }

    fn shard(&self, name: &str) -> Option<&Shard> {
        self.tensors.get(name).map(|&at| &self.shards[at])
    }
}

impl Shard {
    /// The file, and of a PyTorch file where the network that is looked for was.
    fn open(mapping: Arc<Mapping>, file: &str, sought: Option<&Sought>) -> Result<(Shard, Option<ReadFrom>)> {
        let bytes = mapping.bytes();
        // A safetensors file may have a header length that looks like a PyTorch file's first bytes.
        if TorchFile::sniff(bytes) && !SafeTensors::sniff(bytes) {
            let (file, read_from) = match sought {
                Some(sought) => TorchFile::open_network(mapping, file, sought)?,
                None => (TorchFile::open(mapping, file)?, None),
            };
            return Ok((Shard::Torch(file), read_from));
        }
        if reads_as_safetensors(bytes, file) {
            return Ok((Shard::SafeTensors(SafeTensors::open(mapping, file)?), None));
        }
        Err(unknown_format(file, bytes))
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Shard::SafeTensors(file) => Box::new(file.tensors().keys().map(String::as_str)),
            Shard::Torch(file) => Box::new(file.names()),
        }
    }

    fn contains(&self, name: &str) -> bool {
        match self {
            Shard::SafeTensors(file) => file.tensors().contains_key(name),
            Shard::Torch(file) => file.contains(name),
        }
    }

    fn metadata(&self) -> Option<&BTreeMap<String, String>> {
        match self {
            Shard::SafeTensors(file) => Some(file.metadata()),
            Shard::Torch(_) => None,
        }
    }

    fn mapping(&self) -> &Arc<Mapping> {
        match self {
            Shard::SafeTensors(file) => file.mapping(),
            Shard::Torch(file) => file.mapping(),
        }
    }
}

/// The error for a checkpoint of something else: some of its tensors, from the first to the last, with their shapes.
pub(crate) fn unknown(checkpoint: &Checkpoint, expected: &str) -> Error {
    const SHOWN: usize = 5;
    let names: Vec<&str> = checkpoint.names().collect();
    let shown = names.len().min(SHOWN);
    let tensor = |i: usize| {
        let name = names[i * (names.len() - 1) / (shown - 1).max(1)];
        let shape = checkpoint.get(name).map(|view| format!(" {}{}", view.dtype, view.shape));
        let short: String = name.chars().take(80).collect();
        format!("'{short}'{}", shape.unwrap_or_default())
    };
    let some: Vec<String> = (0..shown).map(tensor).collect();
    let found = match names.len() {
        0 => "none".into(),
        n if n > shown => format!("{n} tensors, among them {}", some.join(", ")),
        _ => some.join(", "),
    };
    let (what, expected) = ("tensors".into(), expected.into());
    Error::Format { file: checkpoint.file(), what, expected, found }
}

fn read_json(path: &Path) -> Result<String> {
    let len = std::fs::metadata(path).map_err(|e| Error::io(path, e))?.len();
    if len > MAX_JSON {
        return Err(Error::Format {
            file: display_name(path),
            what: "file size".into(),
            expected: format!("at most {MAX_JSON} bytes of JSON"),
            found: format!("{len} bytes"),
        });
    }
    std::fs::read_to_string(path).map_err(|e| Error::io(path, e))
}

fn display_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// True for a name that stays in its directory on every platform.
fn is_plain_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', ':', '\0'])
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::tensor::{Dtype, Shape};

    fn data(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(path)
    }

    fn write(path: PathBuf, names: &[&str]) {
        let entry = |name: &&str| safetensors::Entry {
            name: name.to_string(),
            dtype: Dtype::U8,
            shape: Shape::from([1]),
        };
        let entries: Vec<_> = names.iter().map(entry).collect();
        let metadata = [("format".to_string(), "pt".to_string())].into();
        safetensors::write(path, &metadata, &entries, |name| Ok(Cow::Owned(vec![name.len() as u8]))).unwrap();
    }

    #[track_caller]
    fn fails(path: impl AsRef<Path>, message: &str) {
        let e = Checkpoint::open(path).unwrap_err().to_string();
        assert!(e.contains(message), "{e}");
    }

    /// Same names, dtypes, shapes and bytes.
    #[track_caller]
    fn same(a: &Checkpoint, b: &Checkpoint) {
        assert_eq!(a.names().collect::<Vec<_>>(), b.names().collect::<Vec<_>>());
        for name in a.names() {
            let (a, b) = (a.get(name).unwrap(), b.get(name).unwrap());
            assert_eq!((a.dtype, &a.shape), (b.dtype, &b.shape), "{name}");
            assert_eq!(a.data, b.data, "{name}");
        }
    }

    #[test]
    fn both_torch_forms_equal_the_safetensors() {
        let expected = Checkpoint::open(data("maskbit/generator.safetensors")).unwrap();
        assert!(expected.names().count() > 20);
        for form in ["maskbit/generator.bin", "maskbit/generator.legacy.bin"] {
            same(&Checkpoint::open(data(form)).unwrap(), &expected);
        }
    }

    #[test]
    fn strides_offsets_dtypes_and_nesting() {
        let expected = Checkpoint::open(data("torch/small.safetensors")).unwrap();
        assert_eq!(expected.names().count(), 22);
        let mut files = 0;
        for folder in ["torch", "torch/torch-1.13"] {
            for entry in std::fs::read_dir(data(folder)).unwrap() {
                let path = entry.unwrap().path();
                if path.file_name().unwrap().to_str().unwrap().starts_with("small.proto") {
                    same(&Checkpoint::open(&path).unwrap(), &expected);
                    files += 1;
                }
            }
        }
        assert_eq!(files, 8);
        let linear = Checkpoint::open(data("torch/linear.pth")).unwrap();
        same(&linear, &Checkpoint::open(data("torch/linear.safetensors")).unwrap());
    }

    #[test]
    fn contiguous_tensors_are_views_of_the_file() {
        let file = Checkpoint::open(data("torch/small.proto2.pth")).unwrap();
        let inside = |name: &str| {
            let range = file.mapping(name).unwrap().bytes().as_ptr_range();
            range.contains(&file.get(name).unwrap().data.as_ptr())
        };
        assert!(inside("base") && inside("slice") && inside("parameter") && inside("f16"));
        assert!(!inside("transposed") && !inside("expanded"));
        let twice = [file.get("permuted").unwrap().data, file.get("permuted").unwrap().data];
        assert_eq!(twice[0].as_ptr(), twice[1].as_ptr());
        assert_eq!(file.tensor_range("base"), None);
    }

    #[test]
    fn objects_are_not_state_dicts() {
        fails(
            data("torch/module.pth"),
            "state dict: expected a dict of tensors, found an object of 'torch.nn.modules.linear.Linear'",
        );
        fails(data("torch/bare_tensor.pth"), "state dict: expected a dict of tensors, found a tensor");
    }

    #[test]
    fn directories() {
        let dir = tempfile::tempdir().unwrap();
        fails(dir.path(), "expected model.safetensors, diffusion_pytorch_model.safetensors");
        std::fs::write(dir.path().join("config.json"), r#"{"a": 1}"#).unwrap();
        fails(dir.path(), "a single *.safetensors, found config.json");
        write(dir.path().join("one.safetensors"), &["one"]);
        let opened = Checkpoint::open(dir.path()).unwrap();
        assert_eq!(
            (opened.file().as_str(), opened.names().collect::<Vec<_>>()),
            ("one.safetensors", vec!["one"])
        );
        assert_eq!(opened.config_json().unwrap().unwrap()["a"], 1);
        assert_eq!(opened.metadata()["format"], "pt");
        write(dir.path().join("two.safetensors"), &["two"]);
        fails(dir.path(), "found config.json, one.safetensors, two.safetensors");
        write(dir.path().join("model.safetensors"), &["model"]);
        assert_eq!(Checkpoint::open(dir.path()).unwrap().file(), "model.safetensors");
        std::fs::write(dir.path().join("config.json"), "{").unwrap();
        let broken = Checkpoint::open(dir.path()).unwrap().config_json().unwrap_err().to_string();
        assert!(broken.starts_with("config.json: config: expected JSON, found EOF"), "{broken}");
    }

    #[test]
    fn sharded_index() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path().join("m-1.safetensors"), &["a", "hidden"]);
        write(dir.path().join("m-2.safetensors"), &["bb"]);
        let index = dir.path().join("model.safetensors.index.json");
        let map = |text: &str| std::fs::write(&index, format!(r#"{{"weight_map": {text}}}"#)).unwrap();
        map(r#"{"bb": "m-2.safetensors", "a": "m-1.safetensors"}"#);
        for path in [dir.path(), index.as_path()] {
            let opened = Checkpoint::open(path).unwrap();
            assert_eq!(opened.names().collect::<Vec<_>>(), ["a", "bb"]);
            assert_eq!(opened.get("bb").unwrap().data, [2]);
            let (offset, len) = opened.tensor_range("a").unwrap();
            assert_eq!(opened.mapping("a").unwrap().bytes()[offset..offset + len], [1]);
            assert!(opened.get("hidden").is_none());
            opened.recheck().unwrap();
        }
        map(r#"{"c": "m-2.safetensors"}"#);
        fails(&index, "tensor 'c': expected it in m-2.safetensors, found no such tensor");
        for name in ["../m-2.safetensors", "/etc/passwd", "a\\b", "C:x", "..", ""] {
            map(&serde_json::json!({ "c": name }).to_string());
            fails(&index, "shard of tensor 'c': expected the name of a file beside the index");
        }
        map(r#"{"c": "none.safetensors"}"#);
        assert!(matches!(Checkpoint::open(&index), Err(Error::NotFound { .. })));
        map("[1]");
        fails(&index, "index: expected JSON with a weight_map of strings");
    }

    #[test]
    fn formats_are_told_by_content() {
        let open = |bytes: &[u8], name: &str| {
            Checkpoint::from_mapping(Arc::new(Mapping::from_vec(bytes.to_vec())), name)
        };
        let zip = std::fs::read(data("torch/linear.pth")).unwrap();
        assert_eq!(open(&zip, "x.safetensors").unwrap().names().count(), 2);
        let message = |bytes: &[u8], name| open(bytes, name).unwrap_err().to_string();
        assert_eq!(
            message(b"hello, world", "x.bin"),
            "x.bin: file format: expected a safetensors or PyTorch file (zip or legacy), \
             found text, which begins 'hello, world'"
        );
        assert!(message(b"\x01\x02\x03\x04\x05\x06\x07\x08{}", "x.safetensors").contains("header length"));
        assert!(open(&zip, "x").unwrap().config_json().unwrap().is_none());
    }
}

//! Which convolutions of a model for int8 arithmetic are faster in f32 on this machine, as measured here and remembered in
//! the user's cache folder: a file for each model, processor, runtime, number of threads and memory mode.
//!
//! What is read is a hint about speed. A file that is broken, too large, somebody else's or of another version is one that is
//! not there; nothing but names of the model's own convolutions comes out of it.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::atomic_file::{self, AtomicFile};
use crate::error::{Error, Result};
use crate::runtime::process::foreign_owner;

/// The variable with the folder, or with [`OFF`].
pub(crate) const ENV_CACHE: &str = "SOFTDIMO_CACHE";
/// Nothing is read, and nothing is remembered.
const OFF: &str = "off";

/// Of the file's layout, and of what was measured and how.
const VERSION: u32 = 1;

/// Most bytes of a file: ten thousand long names.
const MOST_BYTES: u64 = 1 << 20;

const NO_FILE: &str = "it is no ordinary file";

/// What a measurement holds for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TunedFor {
    /// SHA-256 of the model's tensors, as its file states it.
    pub model: String,
    pub processor: String,
    /// Versions of ONNX Runtime, and of this library, which rewrites graphs.
    pub runtime: String,
    pub library: String,
    pub threads: usize,
    pub memory: String,
}

/// A file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    version: u32,
    #[serde(rename = "for")]
    of: TunedFor,
    /// Names of kernels.
    in_f32: BTreeSet<String>,
}

impl TunedFor {
    /// Where it is remembered in `folder`.
    pub fn path(&self, folder: &Path) -> PathBuf {
        let key = serde_json::json!([VERSION, self]).to_string();
        let hash = Sha256::digest(key.as_bytes());
        let hash: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        folder.join(format!("int8-{hash}.json"))
    }

    /// The kernels of the convolutions that are faster in f32; `None` where nothing was measured. `known` tells the kernels that
    /// the model has.
    ///
    /// # Errors
    /// Why the file is ignored.
    pub fn read(
        &self,
        path: &Path,
        known: impl Fn(&str) -> bool,
    ) -> Result<Option<BTreeSet<String>>, String> {
        // No link, which may lead anywhere, and nothing that opening or reading would wait for.
        let file = match atomic_file::open_as_it_is(path) {
            Ok(file) => file,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            // Windows opens no folder, and says that access is denied.
            Err(_) if path.symlink_metadata().is_ok_and(|found| !found.is_file()) => {
                return Err(NO_FILE.into());
            }
            Err(e) => return Err(e.to_string()),
        };
        let found = file.metadata().map_err(|e| e.to_string())?;
        if !found.is_file() {
            return Err(NO_FILE.into());
        }
        if let Some(owner) = foreign_owner(&found) {
            return Err(format!("it is of the user {owner}"));
        }
        let mut bytes = Vec::new();
        file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(format!("it has more than {MOST_BYTES} bytes"));
        }
        let found: Remembered = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
        if found.version != VERSION || found.of != *self {
            return Err("it is of another model or machine".into());
        }
        match found.in_f32.iter().find(|kernels| !known(kernels)) {
            Some(other) => Err(format!("the model has no convolution {other:?} for int8")),
            None => Ok(Some(found.in_f32)),
        }
    }

    /// Remember the kernels, in a folder that is made where there is none, for this user alone.
    ///
    /// # Errors
    /// `Io`, `NotFound` and `InvalidArgument` naming the file; `Unsupported` for more names than a file may hold.
    pub fn write(&self, path: &Path, in_f32: &BTreeSet<String>) -> Result<()> {
        let all = Remembered { version: VERSION, of: self.clone(), in_f32: in_f32.clone() };
        let json = serde_json::to_string_pretty(&all).map_err(|e| Error::internal(e.to_string()))? + "\n";
        if json.len() as u64 > MOST_BYTES {
            return Err(Error::Unsupported {
                what: format!("remembering {}", path.display()),
                reason: format!("it would have {} bytes, and may have {MOST_BYTES}", json.len()),
            });
        }
        // The name is this library's own: what a link of that name leads to is not.
        if path.is_symlink() {
            std::fs::remove_file(path).map_err(|e| Error::io(path, e))?;
        }
        let file = AtomicFile::create(path)?;
        file.writer().write_all(json.as_bytes()).map_err(|e| Error::io(path, e))?;
        file.commit()
    }
}

/// That a measurement can be remembered at `path`, before it is made.
///
/// # Errors
/// `Io` naming the file or its folder.
pub(crate) fn make_room(path: &Path) -> Result<()> {
    let folder = atomic_file::folder(path);
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|e| Error::io(folder, e))?;
    AtomicFile::create(path).map(drop)
}

/// The cache folder of this library, as the environment has it. `None`: there is to be none.
pub(crate) fn folder() -> Option<PathBuf> {
    folder_of(|name| std::env::var_os(name).map(PathBuf::from), std::env::home_dir())
}

fn folder_of(variable: impl Fn(&str) -> Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    if let Some(given) = variable(ENV_CACHE).filter(|given| !given.as_os_str().is_empty()) {
        return (given.as_os_str() != OFF).then_some(given);
    }
    // Relative ones are invalid (XDG Base Directory Specification).
    let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
    if cfg!(windows) {
        return absolute("LOCALAPPDATA").map(|path| path.join("softdimo").join("cache"));
    }
    if let Some(base) = absolute("XDG_CACHE_HOME") {
        return Some(base.join("softdimo"));
    }
    let home = home.filter(|home| home.is_absolute())?;
    let caches =
        if cfg!(target_vendor = "apple") { home.join("Library/Caches") } else { home.join(".cache") };
    Some(caches.join("softdimo"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(processor: &str) -> TunedFor {
        let words = ["a".repeat(64), processor.to_string(), "1.28.0".into(), "0.1.0".into(), "LEAN".into()];
        let [model, processor, runtime, library, memory] = words;
        TunedFor { model, processor, runtime, library, threads: 2, memory }
    }

    fn kernels() -> BTreeSet<String> {
        ["decoder.a".to_string(), "decoder.b".into()].into()
    }

    #[test]
    fn only_what_was_measured_here_is_recalled() {
        let dir = tempfile::tempdir().unwrap();
        let (here, path) = (machine("x"), machine("x").path(&dir.path().join("new/folder")));
        assert_eq!(here.read(&path, |_| true), Ok(None));
        make_room(&path).unwrap();
        here.write(&path, &kernels()).unwrap();
        assert_eq!(here.read(&path, |_| true), Ok(Some(kernels())));
        #[cfg(unix)]
        assert_eq!(
            std::os::unix::fs::MetadataExt::mode(&path.parent().unwrap().metadata().unwrap()) & 0o777,
            0o700
        );
        assert_ne!(machine("y").path(dir.path()), machine("x").path(dir.path()));

        let ignored = |from: &TunedFor, words: &str| {
            let why = from.read(&path, |name| name.starts_with("decoder.")).unwrap_err();
            assert!(why.contains(words), "{why}");
        };
        ignored(&machine("y"), "another model or machine");
        assert!(here.read(&path, |name| name == "decoder.a").unwrap_err().contains("\"decoder.b\""));
        let whole = std::fs::read(&path).unwrap();
        for end in 0..whole.len() - 2 {
            std::fs::write(&path, &whole[..end]).unwrap();
            here.read(&path, |_| true).unwrap_err();
        }
        let text = String::from_utf8(whole.clone()).unwrap();
        for (broken, words) in [
            (text.replace("\"version\": 1", "\"version\": 2"), "another model or machine"),
            (text.replace("\"in_f32\"", "\"in_f33\""), "unknown field"),
            (text.replace("[", "[".repeat(100_000).as_str()), "expected"),
            (text + &" ".repeat(MOST_BYTES as usize), "more than 1048576 bytes"),
        ] {
            std::fs::write(&path, broken).unwrap();
            ignored(&here, words);
        }
        std::fs::write(&path, [0xff; 64]).unwrap();
        ignored(&here, "expected value");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        ignored(&here, "no ordinary file");
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (here, path, elsewhere) = (machine("x"), machine("x").path(dir.path()), dir.path().join("other"));
        here.write(&elsewhere, &kernels()).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert!(here.read(&path, |_| true).unwrap_err().contains("no ordinary file"));
        let other = BTreeSet::from(["decoder.c".to_string()]);
        here.write(&path, &other).unwrap();
        assert_eq!(here.read(&path, |_| true), Ok(Some(other)));
        assert_eq!(here.read(&elsewhere, |_| true), Ok(Some(kernels())));
    }

    #[test]
    fn what_cannot_be_remembered_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let path = machine("x").path(&file);
        assert!(make_room(&path).unwrap_err().to_string().contains(&file.display().to_string()));
        assert_eq!(machine("x").read(&path, |_| true), Ok(None));
        let many = (0..40_000).map(|i| format!("decoder.some.long.name.{i}")).collect();
        let error = machine("x").write(&dir.path().join("m"), &many).unwrap_err().to_string();
        assert!(error.contains("may have 1048576"), "{error}");
    }

    /// Readers see one of the two files, whole, whoever writes meanwhile.
    #[test]
    fn writers_at_once_leave_a_whole_file() {
        let dir = tempfile::tempdir().unwrap();
        let (here, path) = (machine("x"), machine("x").path(dir.path()));
        here.write(&path, &kernels()).unwrap();
        std::thread::scope(|scope| {
            for i in 0..4 {
                let (here, path) = (&here, &path);
                let mine = BTreeSet::from([format!("decoder.{i}")]);
                scope.spawn(move || {
                    for _ in 0..10 {
                        here.write(path, &mine).unwrap();
                        assert!(!here.read(path, |_| true).unwrap().unwrap().is_empty());
                    }
                });
            }
        });
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_environment_says_where() {
        let root = if cfg!(windows) { "C:\\" } else { "/" };
        let of = |variables: &[(&str, &str)]| {
            let find = |name: &str| variables.iter().find(|v| v.0 == name).map(|v| PathBuf::from(v.1));
            folder_of(find, Some(PathBuf::from(root).join("home")))
        };
        let base = PathBuf::from(root).join("base");
        let base = base.to_str().unwrap();
        assert_eq!(of(&[("SOFTDIMO_CACHE", "here"), ("XDG_CACHE_HOME", base)]), Some("here".into()));
        assert_eq!(of(&[("SOFTDIMO_CACHE", "off"), ("XDG_CACHE_HOME", base)]), None);
        #[cfg(target_os = "linux")]
        {
            let home = Some(PathBuf::from("/home/.cache/softdimo"));
            assert_eq!(
                of(&[("SOFTDIMO_CACHE", ""), ("XDG_CACHE_HOME", base)]),
                Some("/base/softdimo".into())
            );
            assert_eq!((of(&[("XDG_CACHE_HOME", "relative")]), of(&[])), (home.clone(), home));
            assert_eq!(folder_of(|_| None, None), None);
        }
    }
}

//! Where a file may be written, and where not.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::path::{Path, PathBuf};

use super::fixed::is_fixed;
use super::name::not_for_windows;
use crate::error::Error;
use crate::file_id::FileId;

/// Most symbolic links that are followed one after the other.
const LINKS: usize = 40;

/// Times that a link and what it leads to are compared: between two looks, another writer may replace the file.
const LOOKS: usize = 8;

/// Why a file cannot be written.
#[derive(Debug)]
pub enum Refused {
    /// The path has no file name.
    Nameless,
    /// What is there is not to be replaced.
    Kept { expected: &'static str, found: &'static str },
    /// The system's reason.
    System(std::io::Error),
}

impl Refused {
    /// As an error of writing `path`.
    pub fn of_file(self, path: &Path) -> Error {
        match self {
            Refused::Nameless => Error::invalid("output path", "a file name", path.display()),
            Refused::Kept { expected, found } => {
                Error::io(path, std::io::Error::other(format!("expected {expected}, found {found}")))
            }
            Refused::System(error) => Error::io(path, error),
        }
    }

    /// As an error of what somebody asked for, an option and its value.
    pub fn of_option(self, what: &str) -> Error {
        match self {
            Refused::Nameless => Error::invalid(what, "a file name", "a folder's name"),
            Refused::Kept { expected, found } => Error::invalid(what, expected, found),
            Refused::System(error) => Error::invalid(what, "a file that can be written", error),
        }
    }
}

/// What is written, and what it takes the place of.
#[derive(Debug)]
pub struct Place {
    /// Behind all links.
    pub target: PathBuf,
    pub existing: Option<Metadata>,
}

impl Place {
    /// That which `path` leads to.
    pub fn find(path: &Path) -> Result<Place, Refused> {
        let target = behind_links(path)?;
        // A name that ends with '/' or '/.' is a folder's.
        let named = |path: &Path| {
            let end = |name: &OsStr| path.as_os_str().as_encoded_bytes().ends_with(name.as_encoded_bytes());
            path.file_name().is_some_and(end)
        };
        if !named(path) || !named(&target) {
            return Err(Refused::Nameless);
        }
        if cfg!(windows)
            && let Some(found) = target.file_name().and_then(not_for_windows)
        {
            return Err(Refused::Kept { expected: "a file name that Windows takes", found });
        }
        let Ok(found) = std::fs::metadata(path) else { return Ok(Place { target, existing: None }) };
        let kept = |expected, found| Err(Refused::Kept { expected, found });
        if !found.is_file() {
            return kept("an ordinary file or none", "something else");
        }
        if found.permissions().readonly() {
            return kept(WRITABLE, READ_ONLY);
        }
        if let Some(found) = is_fixed(&target) {
            return kept("a file that may be replaced", found);
        }
        // Links such as /proc/self/fd/1 lead to files that may have no name, or another one by now.
        if target != path && !(0..LOOKS).any(|_| same_existing(path, &target) == Some(true)) {
            return kept("a link to a file with a name", "one without");
        }
        Ok(Place { target, existing: Some(found) })
    }

    /// That whoever made `temporary`, beside the target, may write what is there, and the folder lets him replace it.
    #[cfg(unix)]
    pub fn check_owner(&self, temporary: &Metadata) -> Result<(), Refused> {
        use std::os::unix::fs::MetadataExt;
        const OWNER_WRITES: u32 = 0o200;
        const STICKY: u32 = 0o1000;
        let Some(existing) = &self.existing else { return Ok(()) };
        let kept = |expected, found| Err(Refused::Kept { expected, found });
        let us = temporary.uid();
        if existing.uid() == us {
            return if existing.mode() & OWNER_WRITES == 0 { kept(WRITABLE, READ_ONLY) } else { Ok(()) };
        }
        if us == 0 {
            return Ok(());
        }
        let opened = std::fs::File::options().write(true).open(&self.target);
        if opened.is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied) {
            return kept(WRITABLE, READ_ONLY);
        }
        match std::fs::metadata(folder(&self.target)) {
            Ok(folder) if folder.mode() & STICKY != 0 && folder.uid() != us => {
                kept("a file of your own, as only its owner may replace one in this folder", "another user's")
            }
            _ => Ok(()),
        }
    }

    /// That is all there is to say.
    #[cfg(not(unix))]
    pub fn check_owner(&self, _: &Metadata) -> Result<(), Refused> {
        Ok(())
    }
}

const WRITABLE: &str = "a file that may be written";
const READ_ONLY: &str = "a read-only one";

/// Whether both are, or once written would be, one file.
pub fn same_place(a: &Path, b: &Path) -> bool {
    if let Some(same) = same_existing(a, b) {
        return same;
    }
    match (behind_links(a), behind_links(b)) {
        (Ok(a), Ok(b)) => {
            same_name(a.file_name(), b.file_name())
                && same_existing(folder(&a), folder(&b)).unwrap_or_else(|| a == b)
        }
        _ => false,
    }
}

/// Of names in one folder that are not there. Windows makes no difference between capitals and others.
fn same_name(a: Option<&OsStr>, b: Option<&OsStr>) -> bool {
    let folded = |name: Option<&OsStr>| name.map(|name| name.to_string_lossy().to_uppercase());
    a == b || (cfg!(windows) && folded(a) == folded(b))
}

/// Of two files or folders; `None` where neither is there.
fn same_existing(a: &Path, b: &Path) -> Option<bool> {
    match (FileId::at(a), FileId::at(b)) {
        (Ok(a), Ok(b)) => Some(a == b),
        (Err(_), Err(_)) => None,
        _ => Some(false),
    }
}

/// The folder that a file is in.
pub fn folder(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The path that symbolic links lead to, which need not exist.
fn behind_links(path: &Path) -> Result<PathBuf, Refused> {
    let mut target = path.to_path_buf();
    for _ in 0..LINKS {
        match std::fs::read_link(&target) {
            Ok(link) => target = target.parent().unwrap_or(Path::new("")).join(link),
            // Not a link, or not there.
            Err(_) => return Ok(target),
        }
    }
    Err(Refused::Kept { expected: "at most 40 symbolic links", found: "more" })
}

//! Which file a path or a handle leads to, and whether it is an ordinary one.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::io::Result;
use std::path::Path;

/// A file or folder of this machine: two that are equal are one, as long as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    pub device: u64,
    pub number: u64,
}

impl FileId {
    /// That which a path leads to, behind links.
    pub fn at(path: &Path) -> Result<FileId> {
        #[cfg(unix)]
        return unix::id(&std::fs::metadata(path)?);
        #[cfg(windows)]
        return windows::id(&windows::open(path)?);
    }

    /// That of an open file.
    pub fn of(file: &std::fs::File) -> Result<FileId> {
        #[cfg(unix)]
        return unix::id(&file.metadata()?);
        #[cfg(windows)]
        return windows::id(file);
    }
}

/// What a path leads to where that is no ordinary file. Waits for nobody, as opening a pipe would.
///
/// # Errors
/// The system's, above all that nothing is there.
pub(crate) fn other_than_file(path: &Path) -> Result<Option<&'static str>> {
    const DEVICE: &str = "a device, pipe or socket";
    #[cfg(windows)]
    if windows::is_device(&windows::open(path)?)? {
        return Ok(Some(DEVICE));
    }
    let kind = std::fs::metadata(path)?.file_type();
    Ok(match () {
        _ if kind.is_file() => None,
        _ if kind.is_dir() => Some("a directory"),
        _ => Some(DEVICE),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_is_told_from_others() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("a"), "").unwrap();
        std::fs::write(at("b"), "").unwrap();
        std::fs::hard_link(at("a"), at("c")).unwrap();
        let id = |name: &str| FileId::at(&at(name)).unwrap();
        assert_eq!(id("a"), FileId::of(&std::fs::File::open(at("c")).unwrap()).unwrap());
        assert_eq!(id("a"), id("./c"));
        assert!(id("a") != id("b") && id("a") != FileId::at(dir.path()).unwrap());
        std::fs::rename(at("b"), at("d")).unwrap();
        assert!(FileId::at(&at("b")).is_err() && id("d") != id("a"));
    }

    #[test]
    fn what_is_no_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        std::fs::write(&file, "").unwrap();
        assert_eq!(other_than_file(&file).unwrap(), None);
        assert_eq!(other_than_file(dir.path()).unwrap(), Some("a directory"));
        assert_eq!(other_than_file(&dir.path().join("b")).unwrap_err().kind(), std::io::ErrorKind::NotFound);
        let devices: &[&str] = if cfg!(windows) { &["NUL", r"\\.\NUL", "CON"] } else { &["/dev/null"] };
        for device in devices {
            let found = other_than_file(Path::new(device)).map_err(|e| e.kind());
            // A program without a console has no CON.
            let missing = cfg!(windows) && *device == "CON" && found.is_err();
            assert!(missing || found == Ok(Some("a device, pipe or socket")), "{device}: {found:?}");
        }
    }
}

//! Files that appear complete or not at all: written beside their destination, synced, and renamed over it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};

/// A file on its way to `destination`: readers see the old file or the new one, and unless [`AtomicFile::commit`]
/// succeeds the destination is as it was and nothing is left beside it.
#[derive(Debug)]
pub(crate) struct AtomicFile {
    pub file: File,
    /// Empty once renamed.
    temporary: PathBuf,
    destination: PathBuf,
}

impl AtomicFile {
    /// Begin to write `destination`, which is free or an ordinary file: a rename must never take the place of a device,
    /// a pipe or a folder.
    ///
    /// # Errors
    /// `InvalidArgument` for a path without a file name; `NotFound` or `Io` naming the destination.
    pub fn create(destination: &Path) -> Result<AtomicFile> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        if destination.file_name().is_none() {
            return Err(Error::invalid("output path", "a file name", destination.display()));
        }
        check_replaceable(destination)?;
        loop {
            let n = COUNT.fetch_add(1, Ordering::Relaxed);
            // The same folder, so that the rename stays on one file system.
            let temporary = destination.with_file_name(format!(".softdimo-{}-{n}.tmp", std::process::id()));
            match File::options().write(true).create_new(true).open(&temporary) {
                Ok(file) => return Ok(AtomicFile { file, temporary, destination: destination.into() }),
                // Left behind by a process of the same id that was killed.
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::io(destination, e)),
            }
        }
    }

    /// Give the file its name.
    ///
    /// # Errors
    /// `Io` naming the destination; nothing is left behind.
    pub fn commit(mut self) -> Result<()> {
        let failed = |e| Error::io(&self.destination, e);
        // Before the rename, or a crash could leave an empty file under the final name.
        self.file.sync_all().map_err(failed)?;
        std::fs::rename(&self.temporary, &self.destination).map_err(failed)?;
        self.temporary.clear();
        sync_folder(&self.destination);
        Ok(())
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.temporary.as_os_str().is_empty() {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Make the rename itself last. Not every file system can; the file is whole either way.
fn sync_folder(path: &Path) {
    #[cfg(unix)]
    {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if let Ok(folder) = File::open(folder) {
            let _ = folder.sync_all();
        }
    }
    #[cfg(not(unix))]
    let _ = path;
}

fn check_replaceable(path: &Path) -> Result<()> {
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(Error::io(
            path,
            std::io::Error::other("expected an ordinary file or none, found something else"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_appears_complete_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, "old").unwrap();
        let mut dropped = AtomicFile::create(&path).unwrap();
        dropped.file.write_all(b"half").unwrap();
        drop(dropped);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        let mut done = AtomicFile::create(&path).unwrap();
        done.file.write_all(b"new").unwrap();
        done.commit().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_files_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let error = AtomicFile::create(dir.path()).unwrap_err().to_string();
        assert!(error.contains("expected an ordinary file or none"), "{error}");
        assert!(matches!(AtomicFile::create(Path::new("/")), Err(Error::InvalidArgument { .. })));
        let nowhere = dir.path().join("no/folder");
        assert!(matches!(AtomicFile::create(&nowhere), Err(Error::NotFound { .. })));
    }
}

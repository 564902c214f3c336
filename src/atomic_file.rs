//! Files that appear complete or not at all: written beside their destination, synced, and renamed over it.

use std::fs::{File, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::file_limit::Limited;

/// Temporary files under way, for [`abandon_all`].
static UNDER_WAY: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// What nobody has written to for so long and nobody holds was left behind by a process that was killed.
const STALE: Duration = Duration::from_secs(60);

/// Most symbolic links that are followed one after the other.
const LINKS: usize = 40;

/// A file on its way to `destination`: readers see the old file or the new one, and unless [`AtomicFile::commit`]
/// succeeds the destination is as it was and nothing is left beside it. A process that is killed leaves one file
/// `.softdimo-….tmp`, which the next one that writes the same destination a minute later removes.
#[derive(Debug)]
pub(crate) struct AtomicFile {
    pub file: File,
    temporary: PathBuf,
    /// Behind all links.
    destination: PathBuf,
    committed: bool,
}

impl AtomicFile {
    /// Begin to write `destination`, which is free, an ordinary file, or a link to either: the link stays, and what it leads
    /// to is written. A rename must never take the place of a device, a pipe or a folder. An existing file's permissions
    /// stay as they are.
    ///
    /// # Errors
    /// `InvalidArgument` for a path without a file name; `NotFound` or `Io` naming the destination.
    pub fn create(destination: &Path) -> Result<AtomicFile> {
        if destination.file_name().is_none() {
            return Err(Error::invalid("output path", "a file name", destination.display()));
        }
        let target = behind_links(destination)?;
        let existing = check_replaceable(destination, &target)?;
        let mut name = DefaultHasher::new();
        target.file_name().hash(&mut name);
        let name = name.finish();
        for n in 0.. {
            // The same folder, so that the rename stays on one file system.
            let temporary = target.with_file_name(format!(".softdimo-{name:016x}-{n}.tmp"));
            match File::options().write(true).create_new(true).open(&temporary) {
                Ok(file) => {
                    under_way().push(temporary.clone());
                    let made = AtomicFile { file, temporary, destination: target, committed: false };
                    // Some file systems have no locks: there, a file that is a minute old counts as left behind.
                    let _ = made.file.try_lock();
                    if let Some(permissions) = existing {
                        let _ = made.file.set_permissions(permissions);
                    }
                    return Ok(made);
                }
                Err(e) if e.kind() == ErrorKind::AlreadyExists => remove_stale(&temporary),
                Err(e) => return Err(Error::io(destination, e)),
            }
        }
        unreachable!("numbers do not end")
    }

    /// For what the file holds: a limit of its size is an error, and no signal.
    pub(crate) fn writer(&self) -> Limited<'_> {
        Limited(&self.file)
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
        self.committed = true;
        sync_folder(&self.destination);
        Ok(())
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.committed {
            let _ = std::fs::remove_file(&self.temporary);
        }
        under_way().retain(|path| *path != self.temporary);
    }
}

/// Remove the temporary files of this process, which is about to end: their destinations stay as they are.
pub fn abandon_all() {
    for path in under_way().drain(..) {
        let _ = std::fs::remove_file(path);
    }
}

fn under_way() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    UNDER_WAY.lock().unwrap_or_else(|e| e.into_inner())
}

/// Remove a temporary file that nobody writes any more. Another one gets another number.
fn remove_stale(path: &Path) {
    let Ok(file) = File::options().write(true).open(path) else { return };
    let age = file.metadata().and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
    if age.is_some_and(|age| age > STALE) && !matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        let _ = std::fs::remove_file(path);
    }
}

/// The path that symbolic links lead to, which need not exist.
fn behind_links(path: &Path) -> Result<PathBuf> {
    let mut target = path.to_path_buf();
    for _ in 0..LINKS {
        match std::fs::read_link(&target) {
            Ok(link) => target = target.parent().unwrap_or(Path::new("")).join(link),
            // Not a link, or not there.
            Err(_) => return Ok(target),
        }
    }
    Err(Error::io(
        path,
        std::io::Error::other(format!("expected at most {LINKS} symbolic links, found more")),
    ))
}

/// The permissions of the file at `target`, if there is one, which `path` leads to.
fn check_replaceable(path: &Path, target: &Path) -> Result<Option<std::fs::Permissions>> {
    let refused = |found: &str| Error::io(path, std::io::Error::other(found.to_string()));
    let Ok(found) = std::fs::metadata(path) else { return Ok(None) };
    if !found.is_file() {
        return Err(refused("expected an ordinary file or none, found something else"));
    }
    // Links such as /proc/self/fd/1 lead to files that may have no name, or another one by now.
    match std::fs::metadata(target) {
        Ok(named) if same_file(&found, &named) => Ok(Some(found.permissions())),
        _ => Err(refused("expected a link to a file with a name, found one without")),
    }
}

#[cfg(unix)]
fn same_file(a: &std::fs::Metadata, b: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(not(unix))]
fn same_file(_: &std::fs::Metadata, b: &std::fs::Metadata) -> bool {
    b.is_file()
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

    #[cfg(unix)]
    #[test]
    fn links_stay_and_lead_to_what_is_written() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let write = |path: &Path, text: &str| {
            let mut file = AtomicFile::create(path)?;
            file.file.write_all(text.as_bytes()).unwrap();
            file.commit()
        };
        std::fs::create_dir(at("d")).unwrap();
        symlink("../target", at("d/link")).unwrap();
        symlink(at("d/link"), at("again")).unwrap();
        write(&at("again"), "new").unwrap();
        assert_eq!(std::fs::read(at("target")).unwrap(), b"new");
        std::fs::set_permissions(at("target"), PermissionsExt::from_mode(0o640)).unwrap();
        write(&at("d/link"), "newer").unwrap();
        assert_eq!(std::fs::read(at("target")).unwrap(), b"newer");
        assert_eq!(std::fs::metadata(at("target")).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(at("d/link").is_symlink() && at("again").is_symlink());

        // What has no name cannot be replaced: pipes, devices, deleted files, circles.
        symlink("circle", at("circle")).unwrap();
        let (reader, _writer) = std::io::pipe().unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&reader);
        symlink(format!("/proc/self/fd/{number}"), at("pipe")).unwrap();
        symlink("/dev/null", at("null")).unwrap();
        let deleted = File::create(at("deleted")).unwrap();
        std::fs::remove_file(at("deleted")).unwrap();
        symlink(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&deleted)), at("gone")).unwrap();
        for name in ["circle", "pipe", "null", "gone"] {
            let error = write(&at(name), "x").unwrap_err().to_string();
            assert!(error.contains("expected") && error.contains(name), "{name}: {error}");
            assert!(at(name).is_symlink(), "{name}");
        }
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".tmp")), "{left:?}");
    }

    #[test]
    fn what_a_killed_process_left_is_removed_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let killed = AtomicFile::create(&path).unwrap();
        let left = killed.temporary.clone();
        // Held by its writer, however old; then held by nobody, but new; then old.
        let old = std::time::SystemTime::now() - 2 * STALE;
        killed.file.set_modified(old).unwrap();
        let second = AtomicFile::create(&path).unwrap();
        assert!(left.exists() && second.temporary != left);
        drop(second);
        drop(killed);
        let file = File::create(&left).unwrap();
        drop(AtomicFile::create(&path).unwrap());
        assert!(left.exists());
        file.set_modified(old).unwrap();
        drop(file);
        drop(AtomicFile::create(&path).unwrap());
        assert!(!left.exists());
    }
}

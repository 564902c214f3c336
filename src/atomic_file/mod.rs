//! Files that appear complete or not at all: written beside their destination, synced, and renamed over it.

mod fixed;
mod name;
mod place;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, TryLockError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::file_id::FileId;
use crate::file_limit::Limited;

use place::{Place, Refused};
pub use place::{folder, same_place};
#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

/// Temporary files under way, for [`abandon_all`].
static UNDER_WAY: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// What nobody has written to for so long and nobody holds was left behind by a process that was killed.
const STALE: Duration = Duration::from_secs(60);

/// Longest wait for a thread that is opening or renaming such a file.
const PATIENCE: Duration = Duration::from_millis(500);

/// A file on its way to `destination`: readers see the old file or the new one, and unless [`AtomicFile::commit`]
/// succeeds the destination is as it was and nothing is left beside it. A process that is killed leaves one file
/// `.softdimo-….tmp`, which the next one that writes the same destination a minute later removes.
#[derive(Debug)]
pub(crate) struct AtomicFile {
    file: File,
    temporary: PathBuf,
    /// Behind all links.
    destination: PathBuf,
    committed: bool,
}

impl AtomicFile {
    /// Begin to write `destination`, which is free, an ordinary file, or a link to either: the link stays, and what it leads
    /// to is written. A rename must never take the place of a device, a pipe or a folder, nor of a file that may not be
    /// written. An existing file's permissions stay as they are, and its owner and group where this process may set them.
    ///
    /// # Errors
    /// `InvalidArgument` for a path without a file name; `NotFound` or `Io` naming the destination.
    pub fn create(destination: &Path) -> Result<AtomicFile> {
        AtomicFile::begin(destination).map_err(|refused| refused.of_file(destination))
    }

    fn begin(destination: &Path) -> Result<AtomicFile, Refused> {
        let place = Place::find(destination)?;
        let (file, temporary) = beside(&place.target, open_temporary).map_err(Refused::System)?;
        let made = AtomicFile { file, temporary, destination: place.target.clone(), committed: false };
        // Some file systems have no locks: there, a file that is a minute old counts as left behind.
        let _ = made.file.try_lock();
        place.check_owner(&made.file.metadata().map_err(Refused::System)?)?;
        if let Some(existing) = place.existing {
            system::keep_owner(&made.file, &existing);
            let _ = made.file.set_permissions(existing.permissions());
        }
        Ok(made)
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
        // What is there now may not be what was there when this file was begun.
        Place::find(&self.destination).map_err(|refused| refused.of_file(&self.destination))?;
        system::let_go(&self.file);
        let mut paths = under_way();
        let spare = || beside(&self.destination, |path| File::create_new(path)).map(|(_, path)| path);
        system::replace(&self.temporary, &self.destination, spare).map_err(failed)?;
        // From here on the temporary name may be another process's.
        paths.retain(|path| *path != self.temporary);
        drop(paths);
        self.committed = true;
        system::sync_folder(&self.destination);
        Ok(())
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.committed {
            let mut paths = under_way();
            let _ = std::fs::remove_file(&self.temporary);
            paths.retain(|path| *path != self.temporary);
        }
    }
}

/// A temporary file beside a destination, for what is looked at before that is written. It goes with this, and with the process
/// as [`abandon_all`] has it.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// An empty one.
    ///
    /// # Errors
    /// As [`AtomicFile::create`].
    pub fn beside(destination: &Path) -> Result<Scratch> {
        let place = Place::find(destination).map_err(|refused| refused.of_file(destination))?;
        let (_, path) = beside(&place.target, open_temporary).map_err(|e| Error::io(destination, e))?;
        Ok(Scratch(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut paths = under_way();
        let _ = std::fs::remove_file(&self.0);
        paths.retain(|path| *path != self.0);
    }
}

/// That a file can be written as `destination`, by beginning one: before work whose result goes there.
///
/// # Errors
/// `InvalidArgument` naming `what`, the option that gave the destination.
pub fn check(what: &str, destination: &Path) -> Result<()> {
    AtomicFile::begin(destination).map(drop).map_err(|refused| refused.of_option(what))
}

/// That a file may take its place where `destination` says, as far as can be seen without beginning one.
///
/// # Errors
/// As [`check`].
pub fn look(what: &str, destination: &Path) -> Result<()> {
    Place::find(destination).map(drop).map_err(|refused| refused.of_option(what))
}

/// Remove the temporary files of this process, which is about to end: their destinations stay as they are. Threads that
/// write such files stop where they begin or end one, so that none comes after. Where one of them does not come out of
/// the system, as on a server that is gone, its file stays.
pub fn abandon_all() {
    let deadline = Instant::now() + PATIENCE;
    let paths = loop {
        match UNDER_WAY.try_lock() {
            Ok(paths) => break paths,
            Err(TryLockError::Poisoned(e)) => break e.into_inner(),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return,
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    for path in paths.iter() {
        let _ = std::fs::remove_file(path);
    }
    std::mem::forget(paths);
}

fn under_way() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    UNDER_WAY.lock().unwrap_or_else(|e| e.into_inner())
}

/// A new file in the folder of `target`, so that a rename stays on one file system.
fn beside(target: &Path, open: impl Fn(&Path) -> std::io::Result<File>) -> std::io::Result<(File, PathBuf)> {
    let mut name = DefaultHasher::new();
    target.file_name().hash(&mut name);
    let name = name.finish();
    for n in 0.. {
        let path = target.with_file_name(format!(".softdimo-{name:016x}-{n}.tmp"));
        match open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => remove_stale(&path),
            Err(e) => return Err(e),
        }
    }
    unreachable!("numbers do not end")
}

/// A new file, which [`abandon_all`] knows from its first moment.
fn open_temporary(path: &Path) -> std::io::Result<File> {
    let mut paths = under_way();
    let file = File::options().write(true).create_new(true).open(path)?;
    paths.push(path.to_path_buf());
    Ok(file)
}

/// Open a file to read it, unless it is a link; neither waits for a pipe.
pub(crate) fn open_as_it_is(path: &Path) -> std::io::Result<File> {
    system::open_as_it_is(File::options().read(true), path)
}

/// Remove a temporary file that nobody writes any more. Another one gets another number, as does what is no file.
fn remove_stale(path: &Path) {
    if !std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
        return;
    }
    // Some file systems lock only what is open for writing; a read-only one must go too.
    let open = |writing: bool| system::open_as_it_is(File::options().write(writing).read(!writing), path);
    let Ok(file) = open(true).or_else(|_| open(false)) else { return };
    let Ok(opened) = file.metadata() else { return };
    let age = opened.modified().ok().and_then(|at| at.elapsed().ok());
    if age.is_none_or(|age| age <= STALE) || matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock))
    {
        return;
    }
    // Meanwhile somebody else may have removed it, and begun another.
    let is_file = std::fs::symlink_metadata(path).is_ok_and(|now| now.is_file());
    if is_file && matches!((FileId::of(&file), FileId::at(path)), (Ok(opened), Ok(now)) if opened == now) {
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests;

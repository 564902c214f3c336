//! What Unix does while a file takes its place.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Result;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use super::folder;

/// Owner and group of a file stay, or its group, as far as this process may give files away.
pub(super) fn keep_owner(file: &File, existing: &Metadata) {
    let (owner, group) = (Some(existing.uid()), Some(existing.gid()));
    let _ = fchown(file, owner, group).or_else(|_| fchown(file, None, group));
}

/// Opened without waiting for anybody, and not what a link leads to.
pub(super) fn open_as_it_is(options: &mut OpenOptions, path: &Path) -> Result<File> {
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

/// Locks keep nobody from reading: they stay until the file is closed.
pub(super) fn let_go(_: &File) {}

/// Give `temporary` the name of `destination`.
pub(super) fn replace(
    temporary: &Path,
    destination: &Path,
    _spare: impl Fn() -> Result<PathBuf>,
) -> Result<()> {
    std::fs::rename(temporary, destination)
}

/// Make the rename itself last. Not every file system can; the file is whole either way.
pub(super) fn sync_folder(path: &Path) {
    if let Ok(folder) = File::open(folder(path)) {
        let _ = folder.sync_all();
    }
}

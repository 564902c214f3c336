//! The system's loader of libraries: what it opens under a name, which file a library came from, and where this code lies.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::path::{Path, PathBuf};

#[cfg(unix)]
use self::unix as system;
#[cfg(windows)]
use self::windows as system;

pub(super) use self::system::{canonical, enough_files, file_of, open, own_folder, pin, resident};

/// Whether the loader searches its folders for what `path` names: a bare name. It takes an empty one for the program.
pub(super) fn is_searched_for(path: &Path) -> bool {
    path.components().count() <= 1
}

/// The folder of a file that code was loaded from.
fn folder_of(file: &Path) -> Option<PathBuf> {
    file.parent().map(Path::to_path_buf)
}

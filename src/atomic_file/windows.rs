//! What Windows does while a file takes its place.

use std::fs::{File, Metadata, OpenOptions, remove_file, rename};
use std::io::{Error, Result};
use std::os::windows::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::{ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION, ERROR_USER_MAPPED_FILE};
use windows_sys::Win32::Storage::FileSystem::FILE_FLAG_OPEN_REPARSE_POINT;

/// Longest wait for a scanner of viruses or an indexer that looks at a file which was just written, and between two looks.
/// Less than [`super::PATIENCE`], as the wait is one under the lock.
const LOOKED_AT: Duration = Duration::from_millis(300);
const STEP: Duration = Duration::from_millis(10);

/// A new file has the rights that its folder gives.
pub(super) fn keep_owner(_: &File, _: &Metadata) {}

/// Opened, and not what a link leads to.
pub(super) fn open_as_it_is(options: &mut OpenOptions, path: &Path) -> Result<File> {
    options.custom_flags(FILE_FLAG_OPEN_REPARSE_POINT).open(path)
}

/// A locked file cannot be read by others, and is about to be where they look for it.
pub(super) fn let_go(file: &File) {
    let _ = file.unlock();
}

/// Give `temporary` the name of `destination`, which lies beside it; `spare` makes an empty file there under a name of its
/// own.
///
/// Windows lets nothing take the place of a file that is mapped, as a model is that an engine has open, but such a file can
/// be renamed: it makes room under the spare name, and is removed once nobody has it open, at the latest by whoever writes
/// the destination later. Between the two renames the destination is not there; where the second one fails the old file
/// comes back.
pub(super) fn replace(
    temporary: &Path,
    destination: &Path,
    spare: impl Fn() -> Result<PathBuf>,
) -> Result<()> {
    let begun = Instant::now();
    loop {
        let waits = begun.elapsed() < LOOKED_AT;
        let done = match rename(temporary, destination) {
            // Whoever does not share one of the two would not let it be put aside either.
            Err(e) if waits && is(&e, ERROR_SHARING_VIOLATION) => Err(e),
            Err(e) if is_held(&e) && destination.exists() => put_aside(temporary, destination, &spare()?),
            done => done,
        };
        match done {
            Err(e) if waits && is_held(&e) => std::thread::sleep(STEP),
            done => return done,
        }
    }
}

/// Whether a file may be mapped, or open without the right to be removed.
fn is_held(error: &Error) -> bool {
    let held = [ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION, ERROR_USER_MAPPED_FILE];
    held.into_iter().any(|code| is(error, code))
}

fn is(error: &Error, code: u32) -> bool {
    error.raw_os_error() == Some(code as i32)
}

fn put_aside(temporary: &Path, destination: &Path, spare: &Path) -> Result<()> {
    if let Err(e) = rename(destination, spare) {
        let _ = remove_file(spare);
        return Err(e);
    }
    let Err(e) = rename(temporary, destination) else {
        // Mapped files stay until they are closed.
        let _ = remove_file(spare);
        return Ok(());
    };
    match rename(spare, destination) {
        Ok(()) => Err(e),
        Err(_) => Err(Error::other(format!("{e}; what was there is {} now", spare.display()))),
    }
}

/// Windows has nothing to ask for.
pub(super) fn sync_folder(_: &Path) {}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::{AtomicFile, beside};
    use super::*;
    use crate::checkpoint::Mapping;

    #[test]
    fn a_mapped_file_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        for open in [|path: &Path| Mapping::map(path), |path: &Path| Mapping::map_guarded(path)] {
            std::fs::write(&path, "old").unwrap();
            let mapping = open(&path).unwrap();
            let new = AtomicFile::create(&path).unwrap();
            new.writer().write_all(b"new").unwrap();
            new.commit().unwrap();
            assert_eq!((mapping.bytes(), std::fs::read(&path).unwrap()), (&b"old"[..], b"new".to_vec()));
            drop(mapping);
        }
    }

    /// As where a rename over the destination is refused, which not every Windows does.
    #[test]
    fn the_old_file_goes_aside_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let spare = || beside(&at("a"), |path| File::create_new(path)).unwrap().1;
        std::fs::write(at("a"), "old").unwrap();
        let mapping = Mapping::map_guarded(at("a")).unwrap();
        let error = put_aside(&at("nothing"), &at("a"), &spare()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        assert_eq!(std::fs::read(at("a")).unwrap(), b"old");
        std::fs::write(at("b"), "new").unwrap();
        put_aside(&at("b"), &at("a"), &spare()).unwrap();
        assert_eq!((mapping.bytes(), std::fs::read(at("a")).unwrap()), (&b"old"[..], b"new".to_vec()));
        drop(mapping);
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left.len() <= 2 && left.iter().any(|name| name == "a"), "{left:?}");
    }

    #[test]
    fn what_nobody_may_move_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, "old").unwrap();
        let holder = OpenOptions::new().read(true).share_mode(1).open(&path).unwrap();
        let new = AtomicFile::create(&path).unwrap();
        new.writer().write_all(b"new").unwrap();
        let error = new.commit().unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        drop(holder);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    /// As a scanner of viruses has files that were just written.
    #[test]
    fn who_looks_at_a_file_for_a_moment_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        for held in ["old", "new"] {
            std::fs::write(&path, "old").unwrap();
            let new = AtomicFile::create(&path).unwrap();
            new.writer().write_all(b"new").unwrap();
            let looked_at = if held == "old" { &path } else { &new.temporary };
            let looks = OpenOptions::new().read(true).share_mode(3).open(looked_at).unwrap();
            let error = rename(&new.temporary, &path).unwrap_err();
            assert!(is_held(&error), "{held}: {error}");
            let ends = std::thread::spawn(move || {
                std::thread::sleep(LOOKED_AT / 4);
                drop(looks);
            });
            new.commit().unwrap();
            ends.join().unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"new", "{held}");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "{held}");
        }
    }

    #[test]
    fn whole_files_can_be_read_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let new = AtomicFile::create(&path).unwrap();
        new.writer().write_all(b"new").unwrap();
        let handle = new.file.try_clone().unwrap();
        new.commit().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        drop(handle);
    }
}

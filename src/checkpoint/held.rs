//! Guarded mappings of Windows: a mapped file that others change, or whose pages cannot be had, must not harm the host.
//!
//! While a file is mapped, Windows lets nobody make it shorter. A guarded one is also opened so that nobody can open it for
//! writing (renaming it, and putting another in its place, stay possible), and refused where somebody already has. What is
//! left are pages that the disk or a server does not give: reading one raises `EXCEPTION_IN_PAGE_ERROR`, inside ONNX
//! Runtime, and ends the process. No handler could put a page of zeros there, as part of a view cannot be replaced, nor
//! leave the code that reads. So only a file on a drive that Windows calls fixed is mapped; one of a network, of a medium
//! that can be taken out (a stick, a card) or of an unknown drive is read into memory. External disks are called fixed, too:
//! what a disk loses, as it breaks or is pulled out, is lost like the pages of the program itself.

use std::fs::{File, OpenOptions};
use std::os::windows::ffi::OsStrExt;
use std::os::windows::fs::OpenOptionsExt;
use std::path::Path;

use windows_sys::Win32::Foundation::ERROR_SHARING_VIOLATION;
use windows_sys::Win32::Storage::FileSystem::{
    FILE_SHARE_DELETE, FILE_SHARE_READ, GetDriveTypeW, GetVolumePathNameW,
};
use windows_sys::Win32::System::WindowsProgramming::{DRIVE_FIXED, DRIVE_RAMDISK};

use crate::error::{Error, Result};

/// What a guarded mapping holds beside its file: nothing.
#[derive(Debug)]
pub(super) struct Held;

impl Held {
    pub(super) fn register(_: &[u8]) -> Result<Held> {
        Ok(Held)
    }

    /// No page is ever replaced.
    pub(super) fn poisoned(&self) -> bool {
        false
    }
}

/// The file to be mapped, which nobody may write until it is closed; `None` for one that is to be read instead.
///
/// # Errors
/// `Io` also where somebody has the file open for writing.
pub(super) fn open(path: &Path) -> Result<Option<File>> {
    let failed = |e: std::io::Error| match e.raw_os_error() {
        Some(code) if code == ERROR_SHARING_VIOLATION as i32 => {
            let text = format!("expected a file that nobody has open for writing, to guard it: {e}");
            Error::io(path, std::io::Error::other(text))
        }
        _ => Error::io(path, e),
    };
    let file = OpenOptions::new().read(true).share_mode(FILE_SHARE_READ | FILE_SHARE_DELETE).open(path);
    let file = file.map_err(failed)?;
    Ok(is_on_fixed_drive(path).then_some(file))
}

/// Whether the volume of a file, behind links and where volumes lie in folders, is one that Windows calls fixed.
fn is_on_fixed_drive(path: &Path) -> bool {
    // Of what does not know its own name there is nothing to be known.
    let Ok(path) = path.canonicalize() else { return false };
    let path: Vec<u16> = path.as_os_str().encode_wide().chain([0]).collect();
    let mut volume = vec![0_u16; path.len().max(64) + 1];
    // SAFETY: the path ends with 0, and the buffer has as many places as the call is told of.
    let found = unsafe { GetVolumePathNameW(path.as_ptr(), volume.as_mut_ptr(), volume.len() as u32) };
    // SAFETY: the call above has ended its answer with 0.
    found != 0 && matches!(unsafe { GetDriveTypeW(volume.as_ptr()) }, DRIVE_FIXED | DRIVE_RAMDISK)
}

#[cfg(test)]
mod tests {
    use super::super::Mapping;
    use super::*;

    #[test]
    fn a_guarded_file_can_be_renamed_and_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&path, [7; 9000]).unwrap();
        let guarded = Mapping::map_guarded(&path).unwrap();
        assert!(guarded.is_mapped() && format!("{guarded:?}").starts_with("Mapping(guarded "));
        let error = OpenOptions::new().write(true).open(&path).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(ERROR_SHARING_VIOLATION as i32));
        std::fs::rename(&path, &other).unwrap();
        std::fs::write(&path, "x").unwrap();
        guarded.recheck().unwrap();
        assert_eq!(guarded.bytes(), [7; 9000]);
        drop(guarded);
        std::fs::write(&other, "y").unwrap();
    }

    /// Protecting a file and taking that back is no change of its content.
    #[test]
    fn a_guarded_file_may_get_other_rights() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, "a").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(30));
        let guarded = Mapping::map_guarded(&path).unwrap();
        let rights = std::fs::metadata(&path).unwrap().permissions();
        let mut read_only = rights.clone();
        read_only.set_readonly(true);
        for rights in [read_only, rights] {
            std::fs::set_permissions(&path, rights).unwrap();
            guarded.recheck().unwrap();
        }
    }

    #[test]
    fn a_file_that_somebody_writes_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let writer = File::create(&path).unwrap();
        let error = Mapping::map_guarded(&path).unwrap_err().to_string();
        assert!(error.contains("expected a file that nobody has open for writing, to guard it"), "{error}");
        drop(writer);
        Mapping::map_guarded(&path).unwrap();
    }

    #[test]
    fn only_fixed_drives_are_mapped_from() {
        let dir = tempfile::tempdir().unwrap();
        assert!(is_on_fixed_drive(dir.path()));
        assert!(!is_on_fixed_drive(&dir.path().join("nothing")));
    }
}

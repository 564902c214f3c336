use std::fs::{File, OpenOptions};
use std::io::Result;
use std::os::windows::fs::OpenOptionsExt;
use std::path::Path;

use winapi_util::HandleRef;
use winapi_util::file::{information, typ};
use windows_sys::Win32::Storage::FileSystem::FILE_FLAG_BACKUP_SEMANTICS;

use super::FileId;

/// To ask about, which needs no right to read and is in nobody's way; folders too.
pub(super) fn open(path: &Path) -> Result<File> {
    OpenOptions::new().access_mode(0).custom_flags(FILE_FLAG_BACKUP_SEMANTICS).open(path)
}

pub(super) fn id(file: &File) -> Result<FileId> {
    let found = information(HandleRef::from_file(file))?;
    Ok(FileId { device: found.volume_serial_number(), number: found.file_index() })
}

/// Names such as NUL and CON lead to devices wherever they are said.
pub(super) fn is_device(file: &File) -> Result<bool> {
    Ok(!typ(HandleRef::from_file(file))?.is_disk())
}

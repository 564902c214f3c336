use std::fs::File;
use std::os::windows::io::AsRawHandle;

use winapi_util::HandleRef;
use winapi_util::file::information;
use windows_sys::Win32::Storage::FileSystem::{FILE_BASIC_INFO, FileBasicInfo, GetFileInformationByHandleEx};

use super::Seen;
use crate::file_id::FileId;

/// Steps of 100 ns from 1601, where Windows begins to count, to 1970.
const BEFORE_1970: i64 = 116_444_736_000_000_000;

/// Two questions, as no answer has everything.
pub(super) fn seen(file: &File) -> std::io::Result<Seen> {
    let found = information(HandleRef::from_file(file))?;
    let times = times(file)?;
    Ok(Seen {
        id: FileId { device: found.volume_serial_number(), number: found.file_index() },
        size: found.file_size(),
        modified: since_1970(times.LastWriteTime),
        changed: if times.ChangeTime == 0 { (0, 0) } else { since_1970(times.ChangeTime) },
        attributes: [found.number_of_links(), found.file_attributes(), 0, 0],
    })
}

#[allow(unsafe_code)]
fn times(file: &File) -> std::io::Result<FILE_BASIC_INFO> {
    let mut times = FILE_BASIC_INFO::default();
    let size = size_of::<FILE_BASIC_INFO>() as u32;
    // SAFETY: the handle is open, and the answer has the type that the question is about.
    let done = unsafe {
        GetFileInformationByHandleEx(file.as_raw_handle(), FileBasicInfo, (&raw mut times).cast(), size)
    };
    if done == 0 { Err(std::io::Error::last_os_error()) } else { Ok(times) }
}

fn since_1970(time: i64) -> (i64, i64) {
    let time = time - BEFORE_1970;
    (time.div_euclid(10_000_000), time.rem_euclid(10_000_000) * 100)
}

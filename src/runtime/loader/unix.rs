//! The loader of Unix: `dlopen` and `dladdr`.

#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, c_void};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use libloading::Library;
use libloading::os::unix::{Library as Named, RTLD_NOW};

use super::{folder_of, is_searched_for};
use crate::error::{Error, Result};

/// Files that loading the runtime opens at a time, with room to spare.
const FILES: usize = 24;

/// Refuse to load the runtime where the process can open no more files: its library of processors' features would say so
/// on stderr and guess.
pub(in super::super) fn enough_files() -> Result<()> {
    let mut open = Vec::with_capacity(FILES);
    for count in 0..FILES {
        match std::fs::File::open("/") {
            Ok(file) => open.push(file),
            Err(e) if matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                return Err(Error::Runtime {
                    stage: "start-up".into(),
                    message: format!("expected {FILES} files that can be opened, found {count}: {e}"),
                });
            }
            // Not a lack of files.
            Err(_) => break,
        }
    }
    Ok(())
}

/// The path by which a file is told from others, where it is there.
pub(in super::super) fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

/// Load a library; the system's reason where it cannot be.
///
/// # Safety
/// Its initialisers run.
pub(in super::super) unsafe fn open(path: &Path) -> std::result::Result<Library, String> {
    // SAFETY: as the caller promises.
    unsafe { Library::new(path) }.map_err(|e| {
        let text = std::error::Error::source(&e).map_or_else(|| e.to_string(), |s| s.to_string());
        text.replace('\n', " ")
    })
}

/// The file of a library that the loader takes `path` for, if it is loaded already.
pub(in super::super) fn resident(path: &Path) -> Option<PathBuf> {
    if path.as_os_str().is_empty() {
        return None;
    }
    let path = if is_searched_for(path) { path.to_path_buf() } else { canonical(path) };
    // SAFETY: nothing new is loaded, so no initialiser runs.
    let library = unsafe { Named::open(Some(path), RTLD_NOW | libc::RTLD_NOLOAD) }.ok()?;
    file_of(&library.into())
}

/// The file a library was really loaded from (the loader's choice for bare names).
pub(in super::super) fn file_of(library: &Library) -> Option<PathBuf> {
    // SAFETY: only the symbol's address is used.
    let symbol = unsafe { library.get::<unsafe extern "C" fn()>(b"OrtGetApiBase") }.ok()?;
    name_at(*symbol as *const c_void)?.canonicalize().ok()
}

/// Folder of the file this code was loaded from: libsoftdimo, or the program it is linked into.
pub(in super::super) fn own_folder() -> Option<PathBuf> {
    let path = name_at(own_folder as *const c_void)?;
    // A program started through PATH has a bare name here, which says nothing about folders (a file of that
    // name in the working directory is another one); its real file is what the kernel says.
    let path = match path.canonicalize() {
        Ok(real) if path.components().count() > 1 => real,
        _ => std::env::current_exe().ok()?,
    };
    folder_of(&path)
}

/// The name under which the loader has what lies at an address.
fn name_at(address: *const c_void) -> Option<PathBuf> {
    let mut info = MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: `info` is a valid out pointer; a non-zero result means that `dli_fname` is NULL or points to a
    // NUL-terminated string that lives as long as the library.
    let name = unsafe {
        if libc::dladdr(address, info.as_mut_ptr()) == 0 {
            return None;
        }
        let name = info.assume_init().dli_fname;
        if name.is_null() {
            return None;
        }
        CStr::from_ptr(name)
    };
    Some(Path::new(OsStr::from_bytes(name.to_bytes())).to_path_buf())
}

/// Keep this code mapped whatever its host unloads. Linux: it is linked with `-z nodelete`.
pub(in super::super) fn pin() -> Result<()> {
    // A program, whose name here is no library's, is never unloaded.
    #[cfg(target_vendor = "apple")]
    if let Some(path) = name_at(pin as *const c_void) {
        // SAFETY: nothing new is loaded, so no initialiser runs. The handle's count is never taken back.
        unsafe {
            if let Ok(own) = Named::open(Some(path), RTLD_NOW | libc::RTLD_NOLOAD | libc::RTLD_NODELETE) {
                std::mem::forget(own);
            }
        }
    }
    Ok(())
}

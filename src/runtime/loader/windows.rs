//! The loader of Windows.
//!
//! A path is loaded with its own folder searched for what it needs, and never the working directory or PATH, where anybody
//! may put a file: a bare name is looked for beside the program, in System32 and where the host said (`AddDllDirectory`).
//! System32 may have an `onnxruntime.dll` that came with Windows; one that is too old is refused by its version.

#![allow(unsafe_code)]

use std::ffi::{OsString, c_void};
use std::os::windows::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;

use libloading::Library;
use libloading::os::windows::{
    LOAD_LIBRARY_SEARCH_DEFAULT_DIRS, LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR, Library as Module,
};
use windows_sys::Win32::Foundation::{ERROR_MOD_NOT_FOUND, HMODULE};
use windows_sys::Win32::System::LibraryLoader::{
    GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS, GET_MODULE_HANDLE_EX_FLAG_PIN,
    GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT, GetModuleFileNameW, GetModuleHandleExW,
};

use super::{folder_of, is_searched_for};
use crate::error::{Error, Result};

/// Most UTF-16 units of a path, with its end.
const LONGEST: usize = 1 << 15;

/// Windows has no limit that a process comes near.
pub(in super::super) fn enough_files() -> Result<()> {
    Ok(())
}

/// The path by which a file is told from others, where it is there: of drives, and without `\\?\` where it is short enough
/// to go without. With slashes the loader would not know that it has loaded the file.
pub(in super::super) fn canonical(path: &Path) -> PathBuf {
    // Some drives of RAM and of archives do not know what they are a part of.
    let found = dunce::canonicalize(path).or_else(|_| std::path::absolute(path));
    found.unwrap_or_else(|_| path.to_path_buf())
}

/// Load a library; the system's reason where it cannot be.
///
/// # Safety
/// Its initialisers run.
pub(in super::super) unsafe fn open(path: &Path) -> std::result::Result<Library, String> {
    let searched = is_searched_for(path);
    let folders = match searched {
        true => LOAD_LIBRARY_SEARCH_DEFAULT_DIRS,
        false => LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR | LOAD_LIBRARY_SEARCH_DEFAULT_DIRS,
    };
    // SAFETY: as the caller promises.
    let opened = unsafe { Module::load_with_flags(path, folders) };
    opened.map(Library::from).map_err(|e| {
        let cause = std::error::Error::source(&e).and_then(|s| s.downcast_ref::<std::io::Error>());
        match cause {
            // The file is there: it was looked at.
            Some(cause) if !searched && cause.raw_os_error() == Some(ERROR_MOD_NOT_FOUND as i32) => {
                format!("{cause}: of what it needs; is the Visual C++ runtime (2019 or newer) installed?")
            }
            Some(cause) => cause.to_string(),
            None => std::error::Error::source(&e).map_or_else(|| e.to_string(), |s| s.to_string()),
        }
    })
}

/// The file of a library that the loader takes `path` for. A bare name is one that is loaded already; a path is compared
/// with what is loaded by its file.
pub(in super::super) fn resident(path: &Path) -> Option<PathBuf> {
    if path.as_os_str().is_empty() {
        return None;
    }
    if !is_searched_for(path) {
        return Some(canonical(path));
    }
    file_of(&Module::open_already_loaded(path).ok()?.into())
}

/// The file a library was really loaded from (the loader's choice for bare names).
pub(in super::super) fn file_of(library: &Library) -> Option<PathBuf> {
    // SAFETY: only the symbol's address is used.
    let symbol = unsafe { library.get::<unsafe extern "C" fn()>(b"OrtGetApiBase") }.ok()?;
    Some(canonical(&file_at(*symbol as *const c_void)?))
}

/// Folder of the file this code was loaded from: softdimo.dll, or the program it is linked into.
pub(in super::super) fn own_folder() -> Option<PathBuf> {
    folder_of(&canonical(&file_at(own_folder as *const c_void)?))
}

/// Keep this code mapped whatever its host unloads (`FreeLibrary`): threads are about to run in it.
pub(in super::super) fn pin() -> Result<()> {
    match module_at(pin as *const c_void, GET_MODULE_HANDLE_EX_FLAG_PIN) {
        Some(_) => Ok(()),
        None => Err(Error::Runtime {
            stage: "start-up".into(),
            message: format!("keeping the library loaded: {}", std::io::Error::last_os_error()),
        }),
    }
}

fn module_at(address: *const c_void, flag: u32) -> Option<HMODULE> {
    let mut module = null_mut();
    // SAFETY: with this flag the name is an address, of code that is running.
    let found = unsafe {
        GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | flag, address.cast(), &mut module)
    };
    (found != 0).then_some(module)
}

/// The file of the module that holds an address.
fn file_at(address: *const c_void) -> Option<PathBuf> {
    let module = module_at(address, GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT)?;
    // A path that does not fit is cut.
    let mut name = vec![0_u16; 260];
    loop {
        // SAFETY: the buffer has as many places as it says.
        let length = unsafe { GetModuleFileNameW(module, name.as_mut_ptr(), name.len() as u32) } as usize;
        if length == 0 || (length >= name.len() && name.len() >= LONGEST) {
            return None;
        }
        if length < name.len() {
            return Some(PathBuf::from(OsString::from_wide(&name[..length])));
        }
        name.resize(2 * name.len(), 0);
    }
}

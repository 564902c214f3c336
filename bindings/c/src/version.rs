//! Which library was loaded, and what it can compute on.

use super::*;

/// ABI of this header: major << 16 | minor. A library with another major number must be refused; one with
/// a larger minor number only adds to what is declared here.
pub const SOFTDIMO_ABI_VERSION: u32 = 0x0001_0002;

/// `SOFTDIMO_ABI_VERSION` of the loaded library.
#[unsafe(no_mangle)]
pub extern "C" fn softdimo_abi_version() -> u32 {
    SOFTDIMO_ABI_VERSION
}

/// Version of the loaded library, e.g. "0.1.0". Static string.
#[unsafe(no_mangle)]
pub extern "C" fn softdimo_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(v) => v,
            Err(_) => panic!("version has a NUL"),
        };
    VERSION.as_ptr()
}

/// Number of execution providers this library knows.
#[unsafe(no_mangle)]
pub extern "C" fn softdimo_provider_count() -> u32 {
    Provider::ALL.len() as u32
}

/// JSON about provider `index`: `{"name", "available", "reason"}`. Availability is known once an engine was
/// opened. Text convention.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_provider_info(
    index: u32,
    buffer: *mut c_char,
    capacity: u64,
    needed: *mut u64,
) -> i32 {
    wall(|| {
        let provider = Provider::ALL.get(index as usize).ok_or_else(|| {
            Error::invalid("provider index", format!("below {}", Provider::ALL.len()), index)
        })?;
        // SAFETY: caller-owned buffer, as documented.
        unsafe { write_text(&provider.info_json(), buffer, capacity, needed) }
    })
}

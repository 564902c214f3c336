//! Files that nothing can take the place of.

use std::path::Path;

/// Why nothing can take the place of the file, which opening it does not show.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
pub(super) fn is_fixed(path: &Path) -> Option<&'static str> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: plain data, which the call fills; the path ends with NUL.
    let attributes = unsafe {
        let mut found: libc::statx = std::mem::zeroed();
        let done = libc::statx(libc::AT_FDCWD, path.as_ptr(), 0, libc::STATX_BASIC_STATS, &mut found);
        if done == 0 { found.stx_attributes } else { 0 }
    };
    let has = |attribute: libc::c_int| attributes & attribute as u64 != 0;
    match () {
        _ if has(libc::STATX_ATTR_MOUNT_ROOT) => Some("one that is mounted there"),
        _ if has(libc::STATX_ATTR_IMMUTABLE) => Some("an immutable one"),
        _ if has(libc::STATX_ATTR_APPEND) => Some("one that may only grow"),
        _ => None,
    }
}

/// Elsewhere nobody knows.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn is_fixed(_: &Path) -> Option<&'static str> {
    None
}

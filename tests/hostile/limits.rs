//! How much private memory this process may have, and had.

/// Bytes.
const MEMORY: u64 = 1 << 30;

/// Allocations beyond it fail from here on.
#[cfg(unix)]
pub fn limit_memory() {
    let limit = libc::rlimit { rlim_cur: MEMORY, rlim_max: MEMORY };
    // SAFETY: the limit of this process alone. RLIMIT_DATA counts private memory, and no mapped file.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_DATA, &limit) }, 0);
}

/// The most so far, as text.
#[cfg(unix)]
pub fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("?").trim().to_string()
}

/// Windows limits memory by jobs, which wine does not enforce: [`peak`] looks instead.
#[cfg(windows)]
pub fn limit_memory() {}

/// The most so far, as text; never more than allowed.
#[cfg(windows)]
pub fn peak() -> String {
    use windows_sys::Win32::System::ProcessStatus::{K32GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS};
    use windows_sys::Win32::System::Threading::GetCurrentProcess;
    let mut found = PROCESS_MEMORY_COUNTERS::default();
    let size = size_of_val(&found) as u32;
    // SAFETY: of this process, into a place of that size.
    assert_ne!(unsafe { K32GetProcessMemoryInfo(GetCurrentProcess(), &mut found, size) }, 0);
    let bytes = found.PeakPagefileUsage.max(found.PeakWorkingSetSize) as u64;
    assert!(bytes <= MEMORY, "{bytes} bytes");
    format!("{} kB", bytes >> 10)
}

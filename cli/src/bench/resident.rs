//! What this process holds of the machine's memory.

use std::ops::Sub;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// KiB, from /proc; zeros elsewhere.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Resident {
    /// RssAnon: its own pages.
    pub anon: i64,
    /// RssFile: mapped pages of files.
    pub file: i64,
    /// VmHWM: the most that ever was resident.
    pub peak: i64,
    /// Pss: resident pages, each divided by the processes that share it.
    pub pss: i64,
}

impl Resident {
    pub fn now() -> Resident {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
        Resident {
            anon: field(&status, "RssAnon:"),
            file: field(&status, "RssFile:"),
            peak: field(&status, "VmHWM:"),
            pss: field(&rollup, "Pss:"),
        }
    }
}

/// The most of RssAnon that is seen while `work` is done, looked at every millisecond, in KiB.
pub fn most_anon<T>(work: impl FnOnce() -> T) -> (T, i64) {
    let done = AtomicBool::new(false);
    let anon = || field(&std::fs::read_to_string("/proc/self/status").unwrap_or_default(), "RssAnon:");
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = anon();
            while !done.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
                most = most.max(anon());
            }
            most
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        (result, watch.join().unwrap_or_default())
    })
}

fn field(text: &str, name: &str) -> i64 {
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

/// By how much pages have grown; the peak is the process's.
impl Sub for Resident {
    type Output = Resident;

    fn sub(self, before: Resident) -> Resident {
        Resident {
            anon: self.anon - before.anon,
            file: self.file - before.file,
            peak: self.peak,
            pss: self.pss - before.pss,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn pages_that_are_written_are_counted() {
        let before = Resident::now();
        let pages = vec![1u8; 64 << 20];
        let grown = Resident::now() - before;
        assert_eq!(pages.iter().map(|&x| x as usize).sum::<usize>(), 64 << 20);
        for kib in [grown.anon, grown.pss] {
            assert!((60 << 10..80 << 10).contains(&kib), "{kib} KiB");
        }
        assert!(grown.peak >= 64 << 10);
        drop(pages);

        // Also what is gone again when the work is done.
        let before = Resident::now();
        let (sum, most) = most_anon(|| {
            let pages = vec![1u8; 64 << 20];
            std::thread::sleep(Duration::from_millis(100));
            pages.iter().map(|&x| x as usize).sum::<usize>()
        });
        assert_eq!(sum, 64 << 20);
        assert!(most - before.anon >= 60 << 10, "{most} KiB after {before:?}");
    }
}

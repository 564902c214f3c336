//! What tells whether an open file still is what it was: its identity, size and times, as the system tells them of an open file.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[cfg(unix)]
use self::unix as system;
#[cfg(windows)]
use self::windows as system;
use crate::error::{Error, Result};
use crate::file_id::FileId;

/// Times of files advance in steps of the kernel's clock, of 10 ms at most. A file that was written within one such step
/// before it was opened could be written again with no trace.
const CLOCK_STEP: Duration = Duration::from_millis(20);

/// A file as it was when it was opened.
#[derive(Debug)]
pub(super) struct Stamp {
    /// Absolute: the working directory may change.
    path: PathBuf,
    seen: Seen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    id: FileId,
    size: u64,
    /// Seconds since 1970 and nanoseconds.
    modified: (i64, i64),
    /// Of the last change of content or attributes, which no ordinary call can set. Windows: always 0.
    changed: (i64, i64),
    /// Links, and mode, owner and group or the attributes of Windows: changing them moves `changed` as well.
    attributes: [u64; 4],
}

impl Stamp {
    /// Of a file that is about to be mapped. Waits until the clock has left the step in which the file was last changed.
    ///
    /// # Errors
    /// `Io` when the file cannot be examined.
    pub fn of(file: &File, path: &Path) -> Result<Stamp> {
        let mut seen = system::seen(file).map_err(|e| Error::io(path, e))?;
        if seen.is_fresh() {
            std::thread::sleep(CLOCK_STEP);
            seen = system::seen(file).map_err(|e| Error::io(path, e))?;
        }
        let path = std::path::absolute(path).map_err(|e| Error::io(path, e))?;
        Ok(Stamp { path, seen })
    }

    /// What differs from the file as it was opened: what, expected, found. `None` also where only attributes or the name
    /// changed, which leave the content alone.
    ///
    /// # Errors
    /// `Io` when the file cannot be examined.
    pub fn difference(&self, file: &File) -> Result<Option<[String; 3]>> {
        let (before, now) = (self.seen, system::seen(file).map_err(|e| Error::io(&self.path, e))?);
        let differs = |what: &str, before: String, now: String| Ok(Some([what.to_string(), before, now]));
        let time = |(seconds, nanoseconds): (i64, i64)| format!("{seconds}.{nanoseconds:09}");
        if now.id != before.id {
            let id = |s: Seen| format!("{} on device {}", s.id.number, s.id.device);
            return differs("inode", id(before), id(now));
        }
        if before.size != now.size {
            return differs("file size", format!("{} bytes", before.size), format!("{} bytes", now.size));
        }
        if before.modified != now.modified {
            let expected = format!("{} as when it was opened", time(before.modified));
            return differs("time of modification", expected, time(now.modified));
        }
        // Replaced by rename, moved or given other rights: the change is explained, and not one of content.
        let explained = before.attributes != now.attributes || !self.is_at_its_path();
        if before.changed != now.changed && !explained {
            let expected = format!("{} as when it was opened", time(before.changed));
            return differs("time of change", expected, time(now.changed));
        }
        Ok(None)
    }

    fn is_at_its_path(&self) -> bool {
        // By name only: whatever lies there now may be a pipe, which is not to be opened.
        FileId::at(&self.path).is_ok_and(|id| id == self.seen.id)
    }
}

impl Seen {
    fn is_fresh(&self) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let changed =
            Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanoseconds).unwrap_or(0));
        // A time in the future is the clock of another machine.
        std::time::UNIX_EPOCH.elapsed().is_ok_and(|now| now.saturating_sub(changed) < CLOCK_STEP)
    }
}

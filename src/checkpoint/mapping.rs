//! The bytes of a checkpoint file, wherever they live: mapped pages, a private copy, or a host's memory.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Mutex;

use memmap2::{Mmap, MmapMut};

#[cfg(windows)]
use super::held::{Held as Pages, open as open_guarded};
#[cfg(unix)]
use super::sigbus::{Guard as Pages, open as open_guarded};
use super::stamp::Stamp;
use crate::error::{Error, Result};
use crate::file_id::other_than_file;

/// Read-only bytes of one file, shared behind an `Arc` by every view into them.
///
/// Thread-safe: the bytes never change through this type. A *mapped* file still belongs to whoever can
/// write it: replacing it by rename is always safe, rewriting it in place changes what is read here, and
/// truncating it makes reads past the new end fault (`SIGBUS`; Windows does not let it happen) unless it was opened with
/// [`Mapping::map_guarded`]. Call [`Mapping::recheck`] before work that must not read a shrunken file.
pub struct Mapping {
    source: Backing,
    name: String,
}

enum Backing {
    // The guard is declared, and so dropped, before the map: the range must leave the table before
    // its addresses can be handed out again.
    Mapped { guard: Option<Guarded>, map: Mmap, file: File },
    Read(Mmap),
    Owned(Vec<u8>),
    Foreign(Foreign),
}

/// What a guarded mapping has beside its pages.
struct Guarded {
    pages: Pages,
    stamp: Stamp,
}

impl Mapping {
    /// Maps a file read-only and shared. The file stays open, so [`Mapping::recheck`] sees truncation
    /// even after a rename.
    ///
    /// # Errors
    /// `NotFound` or `Io` when the file cannot be opened or mapped, `Format` when it is not a regular file.
    pub fn map(path: impl AsRef<Path>) -> Result<Mapping> {
        let path = path.as_ref();
        Mapping::map_open(open_regular(path)?.0, path)
    }

    fn map_open(file: File, path: &Path) -> Result<Mapping> {
        // SAFETY: the map is only ever read. Others may write or truncate the file meanwhile; the type's
        // documentation says what that means, and no reader below trusts a value it read twice.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
        Ok(Mapping { source: Backing::Mapped { guard: None, map, file }, name: path.display().to_string() })
    }

    /// Like [`Mapping::map`], with the process-wide `SIGBUS` guard on this range: when the file is truncated
    /// or its disk fails, reads give zeros and [`Mapping::recheck`] reports it, instead of the process dying. It also
    /// reports a file whose content may be another one since: written, or truncated and grown again.
    ///
    /// The guard installs a `SIGBUS` handler that chains to the previous one; see `checkpoint/sigbus.rs`. On Windows
    /// nobody can write the file as long as it is mapped, and one of a network or of a medium that can be taken out is
    /// copied as by [`Mapping::read`]; see `checkpoint/held.rs`.
    ///
    /// # Errors
    /// As [`Mapping::map`]; `Unsupported` when every slot of the guard is taken; on Windows `Io` while somebody has the
    /// file open for writing.
    pub fn map_guarded(path: impl AsRef<Path>) -> Result<Mapping> {
        let path = path.as_ref();
        check_regular(path)?;
        let Some(file) = open_guarded(path)? else { return Mapping::read(path) };
        // Before the file is mapped: no byte is read that the stamp does not cover.
        let stamp = Stamp::of(&file, path)?;
        let mut mapping = Mapping::map_open(file, path)?;
        if let Backing::Mapped { guard, map, .. } = &mut mapping.source {
            *guard = Some(Guarded { pages: Pages::register(map)?, stamp });
        }
        Ok(mapping)
    }

    /// Copies a file into page-aligned private memory and closes it: nothing done to the file later matters.
    ///
    /// # Errors
    /// As [`Mapping::map`]; `Io` also when there is not enough memory (it never aborts).
    pub fn read(path: impl AsRef<Path>) -> Result<Mapping> {
        let path = path.as_ref();
        let (mut file, len) = open_regular(path)?;
        let name = path.display().to_string();
        let len = usize::try_from(len)
            .map_err(|_| broken(&name, "file size", "a size that fits the address space", len))?;
        let mut copy = MmapMut::map_anon(len).map_err(|e| Error::io(path, e))?;
        let mut filled = 0;
        while filled < len {
            match file.read(&mut copy[filled..]) {
                Ok(0) => return Err(broken(&name, "file size", format!("{len} bytes"), filled)),
                Ok(n) => filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io(path, e)),
            }
        }
        let copy = copy.make_read_only().map_err(|e| Error::io(path, e))?;
        Ok(Mapping { source: Backing::Read(copy), name })
    }

    /// `len` bytes of page-aligned private memory that `fill` writes, which finds zeros there. `name` is that of messages.
    ///
    /// # Errors
    /// `Exhausted` when there is not enough memory (it never aborts); those of `fill`.
    pub(crate) fn filled(
        name: &str,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<Mapping> {
        let exhausted = |_| Error::Exhausted { what: format!("unpacking {name}"), bytes: len as u64 };
        let mut bytes = MmapMut::map_anon(len).map_err(exhausted)?;
        fill(&mut bytes)?;
        let bytes = bytes.make_read_only().map_err(exhausted)?;
        Ok(Mapping { source: Backing::Read(bytes), name: name.into() })
    }

    /// Bytes already in memory. Their alignment is the allocator's (16 bytes on common platforms).
    pub fn from_vec(bytes: Vec<u8>) -> Mapping {
        Mapping { source: Backing::Owned(bytes), name: "memory".into() }
    }

    /// Bytes that belong to the host. `release`, if any, runs exactly once, when the mapping is dropped,
    /// on the thread that drops it.
    ///
    /// # Safety
    /// `ptr` must point to `len` readable bytes (`len` at most `isize::MAX`; NULL only with `len` 0) that
    /// nobody changes or frees before `release` runs.
    pub unsafe fn foreign(ptr: *const u8, len: usize, release: Option<Box<dyn FnOnce() + Send>>) -> Mapping {
        let foreign = Foreign { ptr, len, release: Mutex::new(release) };
        Mapping { source: Backing::Foreign(foreign), name: "memory".into() }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.source {
            Backing::Mapped { map, .. } | Backing::Read(map) => map,
            Backing::Owned(bytes) => bytes,
            Backing::Foreign(foreign) => foreign.bytes(),
        }
    }

    /// The path it was opened from, or "memory"; used in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// True when the bytes are the pages of a file, that is, cost no private memory.
    pub fn is_mapped(&self) -> bool {
        matches!(self.source, Backing::Mapped { .. })
    }

    /// Checks that a mapped file still has every byte that was mapped, and a guarded one that nobody has written to it:
    /// its size and times are those it was opened with. An `fstat` or two; other kinds always pass.
    ///
    /// # Errors
    /// `Format` when the file has shrunk or, guarded, was written or lost pages; the latter is permanent for this mapping.
    /// `Io` when the file cannot be examined.
    pub fn recheck(&self) -> Result<()> {
        let Backing::Mapped { guard, map, file } = &self.source else { return Ok(()) };
        let found = file.metadata().map_err(|e| Error::io(&self.name, e))?.len();
        if found < map.len() as u64 {
            return Err(broken(&self.name, "file size", format!("{} bytes", map.len()), found));
        }
        let Some(guarded) = guard else { return Ok(()) };
        if guarded.pages.poisoned() {
            return Err(Error::Format {
                file: self.name.clone(),
                what: "mapped pages".into(),
                expected: "bytes that stay readable".into(),
                found: "pages lost since the file was opened, now read as zeros".into(),
            });
        }
        match guarded.stamp.difference(file)? {
            None => Ok(()),
            Some([what, expected, found]) => {
                let found = format!("{found}: the file was written since it was opened");
                Err(Error::Format { file: self.name.clone(), what, expected, found })
            }
        }
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.source {
            Backing::Mapped { guard: None, .. } => "mapped",
            Backing::Mapped { guard: Some(_), .. } => "guarded",
            Backing::Read(_) => "read",
            Backing::Owned(_) => "owned",
            Backing::Foreign(_) => "foreign",
        };
        write!(f, "Mapping({kind} {}, {} bytes)", self.name, self.bytes().len())
    }
}

struct Foreign {
    ptr: *const u8,
    len: usize,
    // A Mutex only to be Sync; it is locked by nobody but drop.
    release: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

// SAFETY: the pointed-to bytes are immutable until `release` (the contract of `Mapping::foreign`), and the
// release function is Send and called once, by the last owner.
unsafe impl Send for Foreign {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Foreign {}

impl Foreign {
    fn bytes(&self) -> &[u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: the contract of `Mapping::foreign`; the borrow ends before drop runs `release`.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let release = self.release.get_mut().unwrap_or_else(|e| e.into_inner());
        if let Some(release) = release.take() {
            release();
        }
    }
}

/// Opens a regular file. The kind is asked for first: opening a FIFO would wait for a writer.
fn open_regular(path: &Path) -> Result<(File, u64)> {
    check_regular(path)?;
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let len = file.metadata().map_err(|e| Error::io(path, e))?.len();
    Ok((file, len))
}

fn check_regular(path: &Path) -> Result<()> {
    match other_than_file(path).map_err(|e| Error::io(path, e))? {
        None => Ok(()),
        Some(found) => Err(Error::Format {
            file: path.display().to_string(),
            what: "file type".into(),
            expected: "a regular file".into(),
            found: found.into(),
        }),
    }
}

fn broken(file: &str, what: &str, expected: impl Into<String>, bytes: impl fmt::Display) -> Error {
    Error::Format {
        file: file.into(),
        what: what.into(),
        expected: expected.into(),
        found: format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crate::atomic_file::AtomicFile;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    #[test]
    fn every_mode_gives_the_same_bytes() {
        let content: Vec<u8> = (0..10_000u32).map(|x| x as u8).collect();
        let file = file(&content);
        let modes = [
            Mapping::map(file.path()).unwrap(),
            Mapping::read(file.path()).unwrap(),
            Mapping::from_vec(content.clone()),
            // SAFETY: `content` outlives the mapping.
            unsafe { Mapping::foreign(content.as_ptr(), content.len(), None) },
        ];
        for mapping in modes {
            assert_eq!(mapping.bytes(), content, "{mapping:?}");
            mapping.recheck().unwrap();
        }
        assert_eq!(Mapping::read(file.path()).unwrap().bytes().as_ptr().align_offset(64), 0);
    }

    #[test]
    fn empty_files_are_empty() {
        let file = file(&[]);
        assert!(Mapping::map(file.path()).unwrap().bytes().is_empty());
        assert!(Mapping::read(file.path()).unwrap().bytes().is_empty());
        // SAFETY: NULL with length 0 is allowed.
        assert!(unsafe { Mapping::foreign(std::ptr::null(), 0, None) }.bytes().is_empty());
    }

    #[test]
    fn replacing_is_not_reported() {
        let file = file(&[7; 9000]);
        let mapping = Mapping::map(file.path()).unwrap();
        let replacement = AtomicFile::create(file.path()).unwrap();
        replacement.writer().write_all(b"x").unwrap();
        replacement.commit().unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), b"x");
        mapping.recheck().unwrap();
        assert_eq!(mapping.bytes()[8999], 7);
    }

    #[test]
    fn shrinking_is_reported_where_it_is_possible() {
        let file = file(&[7; 9000]);
        let mapping = Mapping::map(file.path()).unwrap();
        let other = std::fs::OpenOptions::new().write(true).open(file.path()).unwrap();
        if cfg!(windows) {
            const ERROR_USER_MAPPED_FILE: i32 = 1224;
            assert_eq!(other.set_len(100).unwrap_err().raw_os_error(), Some(ERROR_USER_MAPPED_FILE));
            return mapping.recheck().unwrap();
        }
        other.set_len(100).unwrap();
        let message = mapping.recheck().unwrap_err().to_string();
        assert!(message.ends_with("file size: expected 9000 bytes, found 100 bytes"), "{message}");
    }

    #[test]
    fn only_regular_files() {
        let dir = tempfile::tempdir().unwrap();
        let message = Mapping::map(dir.path()).unwrap_err().to_string();
        assert!(message.ends_with("file type: expected a regular file, found a directory"), "{message}");
        assert!(matches!(Mapping::read(dir.path().join("none")), Err(Error::NotFound { .. })));
    }

    #[test]
    fn release_runs_once() {
        let count = Arc::new(AtomicUsize::new(0));
        let (bytes, seen) = (vec![1u8, 2, 3], count.clone());
        let (ptr, len) = (bytes.as_ptr(), bytes.len());
        let release = Box::new(move || {
            drop(bytes);
            seen.fetch_add(1, Ordering::SeqCst);
        });
        // SAFETY: the vector is owned by `release`.
        let mapping = Arc::new(unsafe { Mapping::foreign(ptr, len, Some(release)) });
        let other = mapping.clone();
        std::thread::spawn(move || assert_eq!(other.bytes(), [1, 2, 3])).join().unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 0);
        drop(mapping);
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }
}

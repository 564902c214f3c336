use std::fs::File;
use std::os::unix::fs::MetadataExt;

use super::Seen;
use crate::file_id::FileId;

/// One `fstat`.
pub(super) fn seen(file: &File) -> std::io::Result<Seen> {
    let m = file.metadata()?;
    Ok(Seen {
        id: FileId { device: m.dev(), number: m.ino() },
        size: m.len(),
        modified: (m.mtime(), m.mtime_nsec()),
        changed: (m.ctime(), m.ctime_nsec()),
        attributes: [m.nlink(), m.mode().into(), m.uid().into(), m.gid().into()],
    })
}

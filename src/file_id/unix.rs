use std::fs::Metadata;
use std::io::Result;
use std::os::unix::fs::MetadataExt;

use super::FileId;

pub(super) fn id(found: &Metadata) -> Result<FileId> {
    Ok(FileId { device: found.dev(), number: found.ino() })
}

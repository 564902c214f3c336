use std::fs::File;

use winapi_util::HandleRef;
use winapi_util::file::information;

use super::Seen;
use crate::file_id::FileId;

/// Steps of 100 ns from 1601, where Windows begins to count, to 1970.
const BEFORE_1970: i64 = 116_444_736_000_000_000;

/// There is a time of change, too. But nobody can open a guarded file for writing (`checkpoint/held.rs`), so that it would
/// only tell of new rights, of streams beside the content, and of what scanners note down.
pub(super) fn seen(file: &File) -> std::io::Result<Seen> {
    let found = information(HandleRef::from_file(file))?;
    Ok(Seen {
        id: FileId { device: found.volume_serial_number(), number: found.file_index() },
        size: found.file_size(),
        modified: found.last_write_time().map_or((0, 0), since_1970),
        changed: (0, 0),
        attributes: [found.number_of_links(), found.file_attributes(), 0, 0],
    })
}

fn since_1970(time: u64) -> (i64, i64) {
    let time = time as i64 - BEFORE_1970;
    (time.div_euclid(10_000_000), time.rem_euclid(10_000_000) * 100)
}

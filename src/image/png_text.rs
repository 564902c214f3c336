//! The text of a PNG, whatever its size: pixels are passed over, not decoded.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek};
use std::path::Path;

use super::RgbaImage;
use super::png_chunks::SIGNATURE;
use super::png_file::MAX_METADATA;
use crate::error::{Error, Result};
use crate::shortage;

/// Most chunks that are walked over.
const MOST: u32 = 1 << 24;

/// Reads the text chunks of a PNG as [`read_png`](super::read_png) does, of a picture of any size.
///
/// # Errors
/// `NotFound` or `Io` naming the path; `Format` for a file that is no PNG, ends before its chunk `IEND`, or whose text
/// is broken or expands beyond 1 MiB a chunk or 8 MiB in all. What else is in the file is not looked at.
pub fn read_png_text(path: impl AsRef<Path>) -> Result<Vec<(String, String)>> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    RgbaImage::text_of_png(&mut BufReader::new(file), path)
}

impl RgbaImage {
    /// [`read_png_text`] of a file that is open, or of bytes; `path` is its name in messages.
    #[doc(hidden)]
    pub fn text_of_png(file: &mut (impl Read + Seek), path: &Path) -> Result<Vec<(String, String)>> {
        let chunks = chunks(file).map_err(|e| match e.kind() {
            ErrorKind::UnexpectedEof => broken(path, "a chunk IEND at the end", "the file's end"),
            ErrorKind::InvalidData => broken(path, "a PNG with at most 64 MiB of text", &e.to_string()),
            _ => Error::io(path, e),
        })?;
        // What decodes text decodes a picture: it gets one of a pixel with the text of this one.
        let pixel = pixel().map_err(|e| Error::internal(format!("writing a PNG of a pixel: {e}")))?;
        let (before, end) = pixel.split_at(pixel.len() - END);
        RgbaImage::from_png(&[before, &chunks, end].concat(), path).map(|(_, text)| text)
    }
}

fn broken(path: &Path, expected: &str, found: &str) -> Error {
    Error::Format {
        file: path.display().to_string(),
        what: "PNG".into(),
        expected: expected.into(),
        found: found.into(),
    }
}

/// The text chunks, whole, one behind the other.
fn chunks(file: &mut (impl Read + Seek)) -> std::io::Result<Vec<u8>> {
    let invalid = |found: String| Err(std::io::Error::new(ErrorKind::InvalidData, found));
    let mut signature = [0; SIGNATURE.len()];
    file.read_exact(&mut signature)?;
    if signature != SIGNATURE {
        return invalid(format!("a file that starts with {signature:?}"));
    }
    let mut found = Vec::new();
    for _ in 0..MOST {
        let mut head = [0; 8];
        file.read_exact(&mut head)?;
        let [l0, l1, l2, l3, name @ ..] = head;
        // With the checksum behind it.
        let rest = u64::from(u32::from_be_bytes([l0, l1, l2, l3])) + 4;
        match &name {
            b"IEND" => return Ok(found),
            b"tEXt" | b"zTXt" | b"iTXt" => {
                if found.len() as u64 + rest > MAX_METADATA as u64 {
                    return invalid("more".into());
                }
                found.extend_from_slice(&head);
                let read = shortage::fallibly(|| file.by_ref().take(rest).read_to_end(&mut found))?;
                if read as u64 != rest {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
            }
            _ => file.seek_relative(rest as i64)?,
        }
    }
    invalid(format!("more than {MOST} chunks"))
}

/// Bytes of the chunk IEND.
const END: usize = 12;

/// A PNG of one black pixel.
fn pixel() -> std::result::Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut writer = png::Encoder::new(&mut bytes, 1, 1).write_header()?;
    writer.write_image_data(&[0])?;
    writer.finish()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::{read_png, write_png, write_png_bands};
    use super::*;

    #[test]
    fn the_text_is_that_of_the_whole_picture() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let pairs: Vec<(String, String)> =
            [("a", "é"), ("b", ""), ("c", "猫")].map(|(k, t)| (k.into(), t.into())).into();
        let picture = RgbaImage::filled(5, 3, [1, 2, 3, 4]).unwrap();
        write_png(at("before"), &picture.view(), &pairs).unwrap();
        write_png_bands(at("behind"), (5, 3), |band| {
            band(&picture)?;
            Ok(pairs.clone())
        })
        .unwrap();
        for name in ["before", "behind"] {
            assert_eq!(read_png_text(at(name)).unwrap(), pairs, "{name}");
            assert_eq!(read_png(at(name)).unwrap().1, pairs, "{name}");
        }

        // Pixels are neither decoded nor held to their limit.
        let mut large = std::fs::read(at("before")).unwrap();
        large[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
        std::fs::write(at("large"), &large).unwrap();
        assert!(read_png(at("large")).is_err());
        assert_eq!(read_png_text(at("large")).unwrap(), pairs);

        let says = |bytes: &[u8], words: &str| {
            std::fs::write(at("bad"), bytes).unwrap();
            let error = read_png_text(at("bad")).unwrap_err().to_string();
            assert!(error.contains("bad") && error.contains(words), "{error}");
        };
        let text = large.windows(4).position(|name| name == b"tEXt").unwrap();
        for cut in [3, 8, 15, 40, text + 2, text + 5, large.len() - 13] {
            says(&large[..cut], "found the file's end");
        }
        says(b"GIF89a, and more", "found a file that starts with [71, ");
        let mut huge = large.clone();
        huge[text - 4..text].copy_from_slice(&[5, 0, 0, 0]);
        says(&huge, "at most 64 MiB of text, found more");
        assert!(matches!(read_png_text(at("none")), Err(Error::NotFound { .. })));
    }
}

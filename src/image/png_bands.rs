//! A PNG that is never in memory as a whole.

use std::io::{BufWriter, Write};
use std::path::Path;

use super::RgbaImage;
use super::png_file::{check_text, encoding_error, is_latin1};
use crate::atomic_file::AtomicFile;
use crate::error::{Error, Result};

/// Writes an RGBA PNG of `width` × `height` pixels from bands as they come: `make` hands each to its argument, from the top
/// down, and returns the text, one chunk per (keyword, text) as in [`write_png`](super::write_png), which follows the pixels.
/// The file appears complete or not at all.
///
/// # Errors
/// What `make` returns; `InvalidArgument` for a size that is zero, a band of another width, or too many or too few rows;
/// those of [`write_png`](super::write_png).
pub fn write_png_bands(
    path: impl AsRef<Path>,
    (width, height): (u32, u32),
    make: impl FnOnce(&mut dyn FnMut(&RgbaImage) -> Result<()>) -> Result<Vec<(String, String)>>,
) -> Result<()> {
    let path = path.as_ref();
    let error = |e| encoding_error(path, e);
    if width == 0 || height == 0 {
        return Err(Error::invalid("image size", "at least 1x1", format!("{width}x{height}")));
    }
    let target = AtomicFile::create(path)?;
    let mut out = BufWriter::new(target.writer());
    let mut encoder = png::Encoder::new(&mut out, width, height);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_source_srgb(png::SrgbRenderingIntent::Perceptual);
    let mut writer = encoder.write_header().map_err(error)?;
    let mut pixels = writer.stream_writer().map_err(error)?;
    let mut rows = 0;
    let text = make(&mut |band: &RgbaImage| {
        rows += u64::from(band.height());
        if band.width() != width || rows > u64::from(height) {
            let expected = format!("{width}x{height} pixels in bands of that width");
            return Err(Error::invalid("band", expected, format!("{}x{rows}", band.width())));
        }
        pixels.write_all(band.data()).map_err(|e| Error::io(path, e))
    })?;
    if rows < u64::from(height) {
        return Err(Error::invalid("bands", format!("{height} rows"), rows));
    }
    pixels.finish().map_err(error)?;
    for (keyword, value) in &text {
        check_text(&(keyword.clone(), value.clone()))?;
        match value.chars().all(is_latin1) {
            true => {
                let chunk = png::text_metadata::TEXtChunk::new(keyword, value);
                writer.write_text_chunk(&chunk).map_err(error)?;
            }
            false => {
                let chunk = png::text_metadata::ITXtChunk::new(keyword, value);
                writer.write_text_chunk(&chunk).map_err(error)?;
            }
        }
    }
    writer.finish().map_err(error)?;
    out.flush().map_err(|e| Error::io(path, e))?;
    drop(out);
    target.commit()
}

#[cfg(test)]
mod tests {
    use super::super::{read_png, write_png};
    use super::*;

    #[test]
    fn bands_make_the_picture_that_they_are_cut_from() {
        let dir = tempfile::tempdir().unwrap();
        let (whole, banded) = (dir.path().join("whole.png"), dir.path().join("banded.png"));
        let picture = RgbaImage::new(5, 7, (0..140).collect()).unwrap();
        let text = vec![("a".to_string(), "b".to_string()), ("c".to_string(), "猫".to_string())];
        let band = |from: usize, to: usize| {
            RgbaImage::new(5, (to - from) as u32, picture.data()[from * 20..to * 20].to_vec()).unwrap()
        };
        write_png(&whole, &picture.view(), &text).unwrap();
        write_png_bands(&banded, (5, 7), |write| {
            write(&band(0, 4))?;
            write(&band(4, 5))?;
            write(&band(5, 7))?;
            Ok(text.clone())
        })
        .unwrap();
        assert!(read_png(&banded).unwrap() == read_png(&whole).unwrap());

        let refused = |to: usize, size| {
            let error =
                write_png_bands(&banded, size, |write| write(&band(0, to)).map(|()| Vec::new())).unwrap_err();
            assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
        };
        refused(7, (5, 6));
        refused(3, (5, 6));
        refused(7, (4, 7));
        refused(7, (0, 7));
        assert!(read_png(&banded).unwrap() == read_png(&whole).unwrap(), "a failed one changes nothing");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}

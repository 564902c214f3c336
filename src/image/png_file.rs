//! PNG files with text chunks, which carry what is needed to reproduce a picture.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use super::rgba::checked_bytes;
use super::{ImageView, PixelFormat, RgbaImage};
use crate::atomic_file::AtomicFile;
use crate::error::{Error, Result};

/// Bytes of compressed text a file may expand to, per chunk.
const MAX_TEXT: usize = 1 << 20;
/// Bytes the PNG reader may allocate besides the pixels.
const MAX_METADATA: usize = 64 << 20;

/// Writes an 8-bit sRGB PNG: RGB for an RGB8 view, RGBA for all others.
///
/// `text` becomes one chunk per (keyword, text), in this order: `tEXt` where the text is Latin-1, else
/// UTF-8 `iTXt`. The file appears under its name complete or not at all: it is written beside it,
/// synced and renamed. It replaces an existing file, and nothing but a file.
///
/// # Errors
/// As [`ImageView::validate`]; `InvalidArgument` for a keyword or text PNG cannot hold;
/// `NotFound` or `Io` naming the path.
pub fn write_png(path: impl AsRef<Path>, image: &ImageView<'_>, text: &[(String, String)]) -> Result<()> {
    let path = path.as_ref();
    image.validate()?;
    text.iter().try_for_each(check_text)?;
    let target = AtomicFile::create(path)?;
    encode(&target.file, image, text, path)?;
    target.commit()
}

/// Reads a PNG of any kind as RGBA8, with its text chunks.
///
/// 16-bit samples lose their low byte; palettes, gray and transparency keys are expanded; of an
/// animation the first frame is read. Text comes in the order `tEXt`, `zTXt`, `iTXt`. Color profiles
/// are ignored: the values are taken as sRGB.
///
/// # Errors
/// `NotFound` or `Io` naming the path; `Format` for a file that is broken, truncated, larger than
/// [`MAX_PIXELS`](super::MAX_PIXELS), or whose text expands beyond 1 MiB.
pub fn read_png(path: impl AsRef<Path>) -> Result<(RgbaImage, Vec<(String, String)>)> {
    let path = path.as_ref();
    let error = |e| decoding_error(path, e);
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let mut decoder =
        png::Decoder::new_with_limits(BufReader::new(file), png::Limits { bytes: MAX_METADATA });
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(
        png::Transformations::EXPAND | png::Transformations::ALPHA | png::Transformations::STRIP_16,
    );
    let header = decoder.read_header_info().map_err(error)?;
    let (width, height) = (header.width, header.height);
    let bytes = checked_bytes(u64::from(width), u64::from(height)).map_err(|_| Error::Format {
        file: path.display().to_string(),
        what: "PNG size".into(),
        expected: format!("1 to {} pixels", super::MAX_PIXELS),
        found: format!("{width}x{height}"),
    })?;

    let mut reader = decoder.read_info().map_err(error)?;
    let mut data = vec![0; bytes];
    let frame = reader.next_frame(&mut data).map_err(error)?;
    if frame.color_type == png::ColorType::GrayscaleAlpha {
        data = data[..bytes / 2].chunks_exact(2).flat_map(|p| [p[0], p[0], p[0], p[1]]).collect();
    }
    reader.finish().map_err(error)?;

    let mut text = Vec::new();
    let info = reader.info();
    text.extend(
        info.uncompressed_latin1_text.iter().map(|chunk| (chunk.keyword.clone(), chunk.text.clone())),
    );
    for mut chunk in info.compressed_latin1_text.iter().cloned() {
        chunk.decompress_text_with_limit(MAX_TEXT).map_err(error)?;
        text.push((chunk.keyword.clone(), chunk.get_text().map_err(error)?));
    }
    for mut chunk in info.utf8_text.iter().cloned() {
        chunk.decompress_text_with_limit(MAX_TEXT).map_err(error)?;
        text.push((chunk.keyword.clone(), chunk.get_text().map_err(error)?));
    }
    Ok((RgbaImage::new(width, height, data)?, text))
}

fn encode(file: &File, image: &ImageView<'_>, text: &[(String, String)], path: &Path) -> Result<()> {
    let error = |e| encoding_error(path, e);
    let mut out = BufWriter::new(file);
    let mut encoder = png::Encoder::new(&mut out, image.width, image.height);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_source_srgb(png::SrgbRenderingIntent::Perceptual);
    for (keyword, text) in text {
        if text.chars().all(is_latin1) {
            encoder.add_text_chunk(keyword.clone(), text.clone()).map_err(error)?;
        } else {
            encoder.add_itxt_chunk(keyword.clone(), text.clone()).map_err(error)?;
        }
    }
    let data = match image.format {
        PixelFormat::Rgb8 => {
            encoder.set_color(png::ColorType::Rgb);
            image.rows()?.flatten().copied().collect()
        }
        PixelFormat::Rgba8 | PixelFormat::Bgra8 | PixelFormat::Rgba32F => {
            encoder.set_color(png::ColorType::Rgba);
            RgbaImage::from_view(image)?.into_data()
        }
    };
    let mut writer = encoder.write_header().map_err(error)?;
    writer.write_image_data(&data).map_err(error)?;
    writer.finish().map_err(error)?;
    out.flush().map_err(|e| Error::io(path, e))
}

/// Characters PNG allows in Latin-1 text: line feed and the printable ones.
pub(super) fn is_latin1(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a1}'..='\u{ff}')
}

pub(super) fn check_text((keyword, text): &(String, String)) -> Result<()> {
    let length = keyword.chars().count();
    let spaces = keyword.starts_with(' ') || keyword.ends_with(' ') || keyword.contains("  ");
    if !(1..=79).contains(&length) || spaces || !keyword.chars().all(|c| is_latin1(c) && c != '\n') {
        return Err(Error::invalid(
            "PNG text keyword",
            "1 to 79 printable Latin-1 characters, single spaces only inside",
            format!("{keyword:?}"),
        ));
    }
    if text.contains('\0') {
        return Err(Error::invalid(format!("PNG text '{keyword}'"), "no NUL character", "one"));
    }
    Ok(())
}

pub(super) fn encoding_error(path: &Path, error: png::EncodingError) -> Error {
    match error {
        png::EncodingError::IoError(e) => Error::io(path, e),
        e => Error::internal(format!("writing PNG '{}': {e}", path.display())),
    }
}

fn decoding_error(path: &Path, error: png::DecodingError) -> Error {
    match error {
        png::DecodingError::IoError(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => Error::io(path, e),
        e => Error::Format {
            file: path.display().to_string(),
            what: "PNG".into(),
            expected: "a complete, well-formed file".into(),
            found: e.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::Origin;
    use super::*;

    fn picture() -> RgbaImage {
        RgbaImage::new(5, 3, (0..60).collect()).unwrap()
    }

    fn pairs(text: &[(&str, &str)]) -> Vec<(String, String)> {
        text.iter().map(|&(k, v)| (k.into(), v.into())).collect()
    }

    #[test]
    fn pixels_and_text_survive_a_round_trip() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        let text = pairs(&[
            ("Software", "libsoftdimo"),
            ("Comment", "café, two\nlines"),
            ("parameters", "北京 🐈, tab\there"),
            ("empty", ""),
        ]);
        write_png(&path, &picture().view(), &text).unwrap();
        let (image, mut found) = read_png(&path).unwrap();
        assert_eq!(image, picture());
        let mut expected = text;
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file was left behind");

        let bytes = fs::read(&path).unwrap();
        let count = |name: &[u8]| bytes.windows(4).filter(|w| *w == name).count();
        assert_eq!((count(b"sRGB"), count(b"tEXt"), count(b"iTXt")), (1, 3, 1));
        assert!(bytes.windows(4).any(|w| w == b"caf\xe9"), "tEXt is Latin-1");
    }

    #[test]
    fn views_are_written_as_they_look() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        // Two rows of one RGB pixel each, padded to 5 bytes, bottom row first.
        let data = [1, 2, 3, 0, 0, 4, 5, 6];
        let view = ImageView {
            width: 1,
            height: 2,
            stride: 5,
            format: PixelFormat::Rgb8,
            origin: Origin::BottomLeft,
            data: &data,
        };
        write_png(&path, &view, &[]).unwrap();
        assert_eq!(read_png(&path).unwrap().0.data(), [4, 5, 6, 255, 1, 2, 3, 255]);
        assert_eq!(fs::read(&path).unwrap()[25], 2, "IHDR color type RGB");

        let view = ImageView { format: PixelFormat::Bgra8, stride: 4, ..view };
        write_png(&path, &view, &[]).unwrap();
        assert_eq!(read_png(&path).unwrap().0.data(), [5, 4, 0, 6, 3, 2, 1, 0]);
    }

    #[test]
    fn other_kinds_of_png_become_rgba() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        for (color, depth, data, expected) in [
            (png::ColorType::Grayscale, png::BitDepth::One, &[0x40][..], [0, 0, 0, 255, 255, 255, 255, 255]),
            (png::ColorType::GrayscaleAlpha, png::BitDepth::Eight, &[1, 2, 3, 4], [1, 1, 1, 2, 3, 3, 3, 4]),
            (
                png::ColorType::Rgb,
                png::BitDepth::Sixteen,
                &[1, 9, 2, 9, 3, 9, 4, 9, 5, 9, 6, 9],
                [1, 2, 3, 255, 4, 5, 6, 255],
            ),
            (png::ColorType::Indexed, png::BitDepth::Eight, &[1, 0], [4, 5, 6, 255, 1, 2, 3, 255]),
        ] {
            let mut encoder = png::Encoder::new(File::create(&path).unwrap(), 2, 1);
            encoder.set_color(color);
            encoder.set_depth(depth);
            if color == png::ColorType::Indexed {
                encoder.set_palette(vec![1, 2, 3, 4, 5, 6]);
            }
            encoder.write_header().unwrap().write_image_data(data).unwrap();
            assert_eq!(read_png(&path).unwrap().0.data(), expected, "{color:?} {depth:?}");
        }
    }

    #[test]
    fn faults_are_named_and_leave_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        let fault = |keyword: &str, text: &str| {
            write_png(&path, &picture().view(), &pairs(&[(keyword, text)])).unwrap_err().to_string()
        };
        for keyword in ["", " a", "a ", "a  b", "北", "a\nb", &"x".repeat(80)] {
            assert!(fault(keyword, "").starts_with("PNG text keyword: expected 1 to 79"), "{keyword:?}");
        }
        assert_eq!(fault("a", "x\0y"), "PNG text 'a': expected no NUL character, found one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

        let missing = dir.path().join("no/such/dir/a.png");
        let error = write_png(&missing, &picture().view(), &[]).unwrap_err();
        assert_eq!(error.to_string(), format!("file '{}' not found", missing.display()));
        #[cfg(unix)]
        {
            // A name that leads to a device stays what it is.
            let device = dir.path().join("device.png");
            std::os::unix::fs::symlink("/dev/null", &device).unwrap();
            let error = write_png(&device, &picture().view(), &[]).unwrap_err();
            assert!(error.to_string().contains("expected an ordinary file"), "{error}");
            assert!(fs::symlink_metadata(&device).unwrap().is_symlink());
            fs::remove_file(&device).unwrap();
        }
        // The target is a directory: refused, and no temporary file stays.
        fs::create_dir(&path).unwrap();
        assert!(write_png(&path, &picture().view(), &[]).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(write_png("/", &picture().view(), &[]).unwrap_err().to_string().starts_with("output path"));
    }

    #[test]
    fn hostile_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        write_png(&path, &picture().view(), &pairs(&[("a", "b")])).unwrap();
        let good = fs::read(&path).unwrap();
        let read = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            read_png(&path)
        };
        // Cut inside the checksum of IEND and beyond, nothing is missing.
        for length in 0..good.len() - 12 {
            let error = read(&good[..length]).unwrap_err();
            assert!(matches!(error, Error::Format { .. }), "cut at {length}: {error}");
        }
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x55;
            let _ = read(&bytes); // No panic; some bits are not significant.
        }

        // A header that claims 2^31 - 1 squared pixels, with its checksum repaired by the encoder.
        let mut huge = Vec::new();
        let mut encoder = png::Encoder::new(&mut huge, 0x7fff_ffff, 0x7fff_ffff);
        encoder.set_color(png::ColorType::Rgba);
        drop(encoder.write_header());
        let error = read(&huge).unwrap_err().to_string();
        assert!(
            error.contains("PNG size: expected 1 to 67108864 pixels, found 2147483647x2147483647"),
            "{error}"
        );

        // Text that expands to 2 MiB from a few KiB.
        let mut bomb = Vec::new();
        let mut encoder = png::Encoder::new(&mut bomb, 1, 1);
        encoder.add_ztxt_chunk("bomb".into(), "a".repeat(2 << 20)).unwrap();
        encoder.write_header().unwrap().write_image_data(&[0]).unwrap();
        assert!(matches!(read(&bomb).unwrap_err(), Error::Format { .. }));

        assert!(matches!(read_png(dir.path().join("none.png")).unwrap_err(), Error::NotFound { .. }));
    }
}

//! PNG files with text chunks, which carry what is needed to reproduce a picture.

use std::fs::File;
use std::io::{BufWriter, Cursor, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::png_chunks::{self, SIGNATURE};
use super::rgba::checked_bytes;
use super::{ImageView, MAX_PIXELS, PixelFormat, RgbaImage};
use crate::atomic_file::AtomicFile;
use crate::error::{Error, Result};
use crate::{panic_wall, shortage};

/// Bytes that the text of a chunk may expand to.
const MAX_TEXT: usize = 1 << 20;
/// The same of a file.
const MAX_TEXTS: usize = 8 << 20;
/// Bytes the PNG reader may allocate besides the pixels.
pub(super) const MAX_METADATA: usize = 64 << 20;
/// Bytes of the longest file: the largest picture, at 8 bytes a pixel and not compressed, with room for its text.
const MAX_FILE: u64 = 8 * MAX_PIXELS + (128 << 20);

/// Bytes of the largest picture that is compressed in one piece: the encoder does so in buffers of its own, which grow with
/// the picture, and ends the process where they cannot.
const WHOLE: usize = 1 << 20;

/// Writes an 8-bit sRGB PNG: RGB for an RGB8 view, RGBA for all others.
///
/// `text` becomes one chunk per (keyword, text), in this order: `tEXt` where the text is Latin-1, else
/// UTF-8 `iTXt`. The file appears under its name complete or not at all: it is written beside it,
/// synced and renamed. It replaces an existing file that may be written, and nothing but a file.
///
/// # Errors
/// As [`ImageView::validate`]; `InvalidArgument` for a keyword or text PNG cannot hold;
/// `NotFound` or `Io` naming the path.
pub fn write_png(path: impl AsRef<Path>, image: &ImageView<'_>, text: &[(String, String)]) -> Result<()> {
    let path = path.as_ref();
    image.validate()?;
    text.iter().try_for_each(check_text)?;
    let target = AtomicFile::create(path)?;
    encode(target.writer(), image, text, path)?;
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
/// [`MAX_PIXELS`](super::MAX_PIXELS), or whose text expands beyond 1 MiB a chunk
/// or 8 MiB in all.
pub fn read_png(path: impl AsRef<Path>) -> Result<(RgbaImage, Vec<(String, String)>)> {
    let path = path.as_ref();
    RgbaImage::from_png(&read_file(path)?, path)
}

/// The bytes of a file that may be a PNG; one that is none is not read to its end.
fn read_file(path: &Path) -> Result<Vec<u8>> {
    let error = |e| Error::io(path, e);
    let file = File::open(path).map_err(error)?;
    let mut bytes = Vec::new();
    (&file).take(SIGNATURE.len() as u64).read_to_end(&mut bytes).map_err(error)?;
    if bytes == SIGNATURE {
        shortage::fallibly(|| file.take(MAX_FILE).read_to_end(&mut bytes)).map_err(error)?;
    }
    match bytes.len() as u64 {
        0..=MAX_FILE => Ok(bytes),
        _ => Err(Error::Format {
            file: path.display().to_string(),
            what: "PNG file size".into(),
            expected: format!("at most {MAX_FILE} bytes"),
            found: "more".into(),
        }),
    }
}

impl RgbaImage {
    /// [`read_png`] of bytes that are already there; `path` is their name in messages.
    #[doc(hidden)]
    pub fn from_png(bytes: &[u8], path: &Path) -> Result<(RgbaImage, Vec<(String, String)>)> {
        png_chunks::check(bytes).map_err(|broken| Error::Format {
            file: path.display().to_string(),
            what: broken.what,
            expected: broken.expected,
            found: broken.found,
        })?;
        // The decoder is not this library's: should it panic, the file is at fault and the host is not to hear of it.
        catch_unwind(AssertUnwindSafe(|| panic_wall::quietly(|| decode(bytes, path)))).unwrap_or_else(
            |payload| {
                Err(Error::Format {
                    file: path.display().to_string(),
                    what: "PNG".into(),
                    expected: "a file that the decoder reads".into(),
                    found: format!("one on which it panics: {}", panic_wall::message(payload.as_ref())),
                })
            },
        )
    }
}

fn decode(bytes: &[u8], path: &Path) -> Result<(RgbaImage, Vec<(String, String)>)> {
    let error = |e| decoding_error(path, e);
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: MAX_METADATA });
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(
        png::Transformations::EXPAND | png::Transformations::ALPHA | png::Transformations::STRIP_16,
    );
    let header = decoder.read_header_info().map_err(error)?;
    let (width, height) = (header.width, header.height);
    let bytes = checked_bytes(u64::from(width), u64::from(height)).map_err(|_| Error::Format {
        file: path.display().to_string(),
        what: "PNG size".into(),
        expected: format!("1 to {MAX_PIXELS} pixels"),
        found: format!("{width}x{height}"),
    })?;

    let mut reader = decoder.read_info().map_err(error)?;
    let mut data = shortage::filled("the picture", bytes, 0)?;
    let frame = reader.next_frame(&mut data).map_err(error)?;
    if frame.color_type == png::ColorType::GrayscaleAlpha {
        let pixels = data[..bytes / 2].chunks_exact(2).flat_map(|p| [p[0], p[0], p[0], p[1]]);
        data = shortage::collected("the picture", bytes, pixels)?;
    }
    reader.finish().map_err(error)?;

    Ok((RgbaImage::new(width, height, data)?, texts(reader.info()).map_err(error)?))
}

/// Keywords and texts, `tEXt`, `zTXt`, then `iTXt`.
fn texts(info: &png::Info<'_>) -> std::result::Result<Vec<(String, String)>, png::DecodingError> {
    let latin1 = info.uncompressed_latin1_text.iter();
    let mut texts: Vec<(String, String)> =
        latin1.map(|chunk| (chunk.keyword.clone(), chunk.text.clone())).collect();
    let mut left = MAX_TEXTS.saturating_sub(texts.iter().map(|(_, text)| text.len()).sum());
    let rest = |left: usize, texts: &[(String, String)]| {
        let last = texts.last().map_or(0, |(_, text)| text.len());
        left.checked_sub(last).ok_or(png::DecodingError::LimitsExceeded)
    };
    for mut chunk in info.compressed_latin1_text.iter().cloned() {
        chunk.decompress_text_with_limit(MAX_TEXT.min(left))?;
        texts.push((chunk.keyword.clone(), chunk.get_text()?));
        left = rest(left, &texts)?;
    }
    for mut chunk in info.utf8_text.iter().cloned() {
        chunk.decompress_text_with_limit(MAX_TEXT.min(left))?;
        texts.push((chunk.keyword.clone(), chunk.get_text()?));
        left = rest(left, &texts)?;
    }
    Ok(texts)
}

fn encode(file: impl Write, image: &ImageView<'_>, text: &[(String, String)], path: &Path) -> Result<()> {
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
        shortage::check("the text of a picture")?;
    }
    let data = match image.format {
        PixelFormat::Rgb8 => {
            encoder.set_color(png::ColorType::Rgb);
            let bytes = checked_bytes(u64::from(image.width), u64::from(image.height))? / 4 * 3;
            shortage::collected("the picture", bytes, image.rows()?.flatten().copied())?
        }
        PixelFormat::Rgba8 | PixelFormat::Bgra8 | PixelFormat::Rgba32F => {
            encoder.set_color(png::ColorType::Rgba);
            RgbaImage::from_view(image)?.into_data()
        }
    };
    let mut writer = encoder.write_header().map_err(error)?;
    if data.len() <= WHOLE {
        writer.write_image_data(&data).map_err(error)?;
    } else {
        let mut pixels = writer.stream_writer().map_err(error)?;
        pixels.write_all(&data).map_err(|e| Error::io(path, e))?;
        pixels.finish().map_err(error)?;
    }
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

        // Palettes the decoder panics on, and other lies in chunks whose checksums are right.
        let chunk = |name: &[u8; 4], content: &[u8]| {
            let mut sum = flate2::Crc::new();
            sum.update(name);
            sum.update(content);
            let length = (content.len() as u32).to_be_bytes();
            [&length[..], name, content, &sum.sum().to_be_bytes()].concat()
        };
        let ihdr = |color: u8, depth: u8| chunk(b"IHDR", &[0, 0, 0, 2, 0, 0, 0, 1, depth, color, 0, 0, 0]);
        let png = |chunks: &[Vec<u8>]| [&SIGNATURE[..], &chunks.concat()].concat();
        let idat = |data: &[u8]| {
            let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            zlib.write_all(data).unwrap();
            chunk(b"IDAT", &zlib.finish().unwrap())
        };
        let (pixels, end) = (idat(&[0, 0, 1]), chunk(b"IEND", b""));
        let palette = |length: usize| chunk(b"PLTE", &vec![7; length]);
        let indexed =
            |chunks: &[Vec<u8>]| png(&[&[ihdr(3, 8)], chunks, &[pixels.clone(), end.clone()]].concat());
        read(&indexed(&[palette(6)])).unwrap();
        read(&indexed(&[palette(6), chunk(b"tRNS", &[3])])).unwrap();
        for (file, message) in [
            (indexed(&[palette(4)]), "PNG PLTE: expected 1 to 256 colours of 3 bytes, found 4 bytes"),
            (indexed(&[palette(49), chunk(b"tRNS", &[0; 17])]), "PNG PLTE: expected 1 to 256 colours"),
            (indexed(&[palette(0)]), "PNG PLTE: expected 1 to 256 colours of 3 bytes, found 0 bytes"),
            (indexed(&[palette(771)]), "PNG PLTE: expected 1 to 256 colours of 3 bytes, found 771 bytes"),
            (indexed(&[palette(6), palette(6)]), "PNG PLTE: expected one, before the pixels, found another"),
            (indexed(&[]), "PNG PLTE: expected a palette before the pixels, found none"),
            (
                indexed(&[chunk(b"tRNS", &[3]), palette(6)]),
                "PNG tRNS: expected a palette before it, found none",
            ),
            (indexed(&[palette(6), chunk(b"tRNS", &[3; 257])]), "PNG tRNS: expected at most 256 bytes"),
            (indexed(&[ihdr(3, 8)]), "PNG: expected IHDR once, found IHDR as chunk 1"),
            (png(&[ihdr(0, 8), palette(6)]), "PNG PLTE: expected none in a picture without colours"),
            (png(&[ihdr(0, 8), chunk(b"tRNS", &[1])]), "PNG tRNS: expected 2 bytes, found 1 bytes"),
            (png(&[ihdr(2, 8), chunk(b"tRNS", &[1; 7])]), "PNG tRNS: expected 6 bytes, found 7 bytes"),
            (
                png(&[ihdr(6, 8), chunk(b"tRNS", &[1; 6])]),
                "PNG tRNS: expected none in a picture with an alpha",
            ),
            (png(&[ihdr(3, 16)]), "PNG bit depth: expected one of [1, 2, 4, 8] for colour type 3, found 16"),
            (png(&[ihdr(5, 8)]), "PNG colour type: expected 0, 2, 3, 4 or 6, found 5"),
            (png(&[chunk(b"IHDR", &[0; 12])]), "PNG IHDR: expected 13 bytes, found 12"),
            (png(&[chunk(b"IHDR", &[0; 13])]), "PNG size: expected 1 to 2147483647 pixels a side, found 0x0"),
            (
                png(std::slice::from_ref(&pixels)),
                "PNG: expected IHDR as the first chunk, found IDAT as chunk 0",
            ),
            (
                png(&[ihdr(0, 8), b"\xff\xff\xff\xffIDAT".to_vec()]),
                "PNG IDAT: expected at most 2147483647 bytes",
            ),
            (png(&[ihdr(0, 8), b"\0\0\0\x09a\0bc".to_vec()]), "PNG a\\x00bc: expected 9 bytes, found 0"),
        ] {
            let error = read(&file).unwrap_err().to_string();
            assert!(error.contains(message), "{error}\nexpected {message}");
        }

        // Text that expands to 2 MiB, and to 8 MiB in pieces, from a few KiB.
        let bomb = |chunks: usize, bytes: usize| {
            let mut bomb = Vec::new();
            let mut encoder = png::Encoder::new(&mut bomb, 1, 1);
            for n in 0..chunks {
                let text = "a".repeat(bytes);
                match n % 2 {
                    0 => encoder.add_ztxt_chunk("bomb".into(), text).unwrap(),
                    _ => encoder.add_itxt_chunk("bomb".into(), text).unwrap(),
                }
            }
            encoder.write_header().unwrap().write_image_data(&[0]).unwrap();
            bomb
        };
        for (chunks, bytes) in [(1, 2 << 20), (9, 1 << 20)] {
            assert!(matches!(read(&bomb(chunks, bytes)), Err(Error::Format { .. })));
        }
        assert_eq!(read(&bomb(7, 1 << 20)).unwrap().1.len(), 7);

        assert!(matches!(read_png(dir.path().join("none.png")).unwrap_err(), Error::NotFound { .. }));
    }

    /// Whatever the bytes, an error or a picture, and not a word: what reaches the decoder does not make it panic.
    #[test]
    fn mutations_never_panic() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        write_png(&path, &picture().view(), &pairs(&[("a", "b"), ("c", "北")])).unwrap();
        let mut files = vec![fs::read(&path).unwrap()];
        for (color, depth, interlaced) in [(0, 1, 1), (0, 16, 0), (2, 8, 1), (3, 2, 0), (3, 8, 1), (4, 16, 1)]
        {
            files.push(sample(color, depth, interlaced));
        }
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % below as u64) as usize
        };
        let mut pictures = 0;
        for round in 0..200_000 {
            let mut file = files[round % files.len()].clone();
            for _ in 0..=next(3) {
                if file.is_empty() {
                    break;
                }
                let at = next(file.len());
                match next(6) {
                    0 => file[at] ^= 1 << next(8),
                    1 => file[at] = [0, 1, 0x7f, 0x80, 0xff][next(5)],
                    2 => drop(file.drain(at..(at + 1 + next(8)).min(file.len()))),
                    3 => file.insert(at, next(256) as u8),
                    4 => file.truncate(at.max(1)),
                    _ => {
                        let from = next(file.len());
                        let piece = file[from..(from + 1 + next(24)).min(file.len())].to_vec();
                        file.splice(at..at, piece);
                    }
                }
            }
            repair(&mut file);
            match RgbaImage::from_png(&file, Path::new("mutated")) {
                Ok((image, _)) => pictures += usize::from(image.width() > 0),
                Err(error) => assert!(!error.to_string().contains("panics"), "{error}: {file:?}"),
            }
        }
        assert!(pictures > 1000, "{pictures} of the files were read: the mutations reach no decoder");
    }

    /// A picture of 5 x 3 samples that are all zero.
    fn sample(color: u8, depth: u8, interlaced: u8) -> Vec<u8> {
        let mut file = SIGNATURE.to_vec();
        let mut push = |name: &[u8; 4], content: &[u8]| {
            file.extend((content.len() as u32).to_be_bytes());
            file.extend(name);
            file.extend(content);
            file.extend([0; 4]);
        };
        push(b"IHDR", &[0, 0, 0, 5, 0, 0, 0, 3, depth, color, 0, 0, interlaced]);
        if color == 3 {
            push(b"PLTE", &[9; 9]);
            push(b"tRNS", &[5; 2]);
        }
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(&[0; 300]).unwrap();
        push(b"IDAT", &zlib.finish().unwrap());
        push(b"IEND", &[]);
        repair(&mut file);
        file
    }

    /// Sets the checksums right, as far as the chunks can be followed.
    fn repair(file: &mut [u8]) {
        let mut at = SIGNATURE.len();
        while let Some(head) = file.get(at..at + 8) {
            let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
            let Some(body) = file.get(at + 4..at + 8 + length) else { return };
            let mut sum = flate2::Crc::new();
            sum.update(body);
            at += 8 + length;
            let Some(checksum) = file.get_mut(at..at + 4) else { return };
            checksum.copy_from_slice(&sum.sum().to_be_bytes());
            at += 4;
        }
    }
}

//! Pixels: caller-owned views of several formats, an owned RGBA8 image, PNG files.
//!
//! Values are sRGB-encoded everywhere, as the decoders produce them; nothing converts to linear light.

mod matte;
mod oklab;
mod palette;
mod png_bands;
mod png_chunks;
mod png_file;
mod png_text;
mod rgba;
mod style;

pub use matte::Matte;
pub use palette::{Dither, MAX_COLORS, Palette};
pub use png_bands::write_png_bands;
pub use png_file::{read_png, write_png};
pub use png_text::read_png_text;
pub use rgba::RgbaImage;
pub use style::{PictureStyle, Scaling, StyledPicture};

use self::rgba::checked_bytes;
use crate::error::{Error, Result};
use crate::shortage;

/// The most pixels an image this library allocates may have (8192 × 8192).
pub const MAX_PIXELS: u64 = 1 << 26;

/// Layout of one pixel; the values are those of the C ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[non_exhaustive]
pub enum PixelFormat {
    /// 4 bytes: red, green, blue, alpha.
    Rgba8 = 0,
    /// 3 bytes: red, green, blue.
    Rgb8 = 1,
    /// 4 bytes: blue, green, red, alpha.
    Bgra8 = 2,
    /// 4 native-endian f32 in \[0, 1\]: red, green, blue, alpha. sRGB-encoded, not linear.
    Rgba32F = 3,
}

impl PixelFormat {
    /// Size of a pixel in bytes.
    pub const fn bytes_per_pixel(self) -> usize {
        match self {
            PixelFormat::Rgba8 | PixelFormat::Bgra8 => 4,
            PixelFormat::Rgb8 => 3,
            PixelFormat::Rgba32F => 16,
        }
    }
}

impl TryFrom<u32> for PixelFormat {
    type Error = Error;

    fn try_from(value: u32) -> Result<PixelFormat> {
        match value {
            0 => Ok(PixelFormat::Rgba8),
            1 => Ok(PixelFormat::Rgb8),
            2 => Ok(PixelFormat::Bgra8),
            3 => Ok(PixelFormat::Rgba32F),
            _ => Err(Error::invalid("image.format", "0 (RGBA8), 1 (RGB8), 2 (BGRA8) or 3 (RGBA32F)", value)),
        }
    }
}

/// Which row of the picture comes first in memory; the values are those of the C ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[non_exhaustive]
pub enum Origin {
    /// The top row first, as in image files.
    TopLeft = 0,
    /// The bottom row first, as OpenGL and Unity expect textures.
    BottomLeft = 1,
}

impl TryFrom<u32> for Origin {
    type Error = Error;

    fn try_from(value: u32) -> Result<Origin> {
        match value {
            0 => Ok(Origin::TopLeft),
            1 => Ok(Origin::BottomLeft),
            _ => Err(Error::invalid("image.origin", "0 (top left) or 1 (bottom left)", value)),
        }
    }
}

/// Pixels in memory somebody else owns, to be read.
#[derive(Clone, Copy, Debug)]
pub struct ImageView<'a> {
    /// Pixels per row.
    pub width: u32,
    /// Number of rows.
    pub height: u32,
    /// Bytes from one row to the next in memory; 0 means tight.
    pub stride: usize,
    pub format: PixelFormat,
    pub origin: Origin,
    /// At least `(height - 1) · stride + width · bytes per pixel` bytes.
    pub data: &'a [u8],
}

/// Pixels in memory somebody else owns, to be written.
#[derive(Debug)]
pub struct ImageViewMut<'a> {
    /// Pixels per row.
    pub width: u32,
    /// Number of rows.
    pub height: u32,
    /// Bytes from one row to the next in memory; 0 means tight. Padding is never written.
    pub stride: usize,
    pub format: PixelFormat,
    pub origin: Origin,
    /// At least `(height - 1) · stride + width · bytes per pixel` bytes.
    pub data: &'a mut [u8],
}

impl<'a> ImageView<'a> {
    /// Checks that the view has pixels and that its memory holds them.
    ///
    /// # Errors
    /// `InvalidArgument` naming the field (zero size, stride shorter than a row, size that overflows);
    /// `BufferTooSmall` when `data` is too short.
    pub fn validate(&self) -> Result<()> {
        layout(self.width, self.height, self.stride, self.format, self.data.len()).map(|_| ())
    }

    /// The rows from the top of the picture down, without padding.
    fn rows(&self) -> Result<impl Iterator<Item = &'a [u8]> + use<'a>> {
        let ImageView { height, origin, data, .. } = *self;
        let RowLayout { row, stride } = layout(self.width, height, self.stride, self.format, data.len())?;
        Ok((0..height).map(move |y| &data[memory_row(y, height, origin) * stride..][..row]))
    }
}

impl ImageViewMut<'_> {
    /// Checks that the view is of the expected size and that its memory holds it.
    ///
    /// # Errors
    /// As [`ImageView::validate`], and `InvalidArgument` when width or height differ from what is expected.
    pub fn validate(&self, expected_width: u32, expected_height: u32) -> Result<()> {
        for (what, expected, found) in
            [("image.width", expected_width, self.width), ("image.height", expected_height, self.height)]
        {
            if expected != found {
                return Err(Error::invalid(what, expected.to_string(), found));
            }
        }
        self.as_view().validate()
    }

    /// Checks that width and height of the view are whole multiples of these, and that its memory holds it; the factors.
    ///
    /// # Errors
    /// As [`ImageView::validate`], and `InvalidArgument` for another size, with the nearest that will do.
    pub fn validate_multiple(&self, width: u32, height: u32) -> Result<(u32, u32)> {
        let factor = |what: &str, of: u32, size: u32| {
            let (of, factor) = (of.max(1), size / of.max(1));
            if factor > 0 && size.is_multiple_of(of) {
                return Ok(factor);
            }
            let next = u64::from(of) * (u64::from(factor) + 1);
            let nearest = match factor {
                0 => format!("{next}"),
                _ => format!("{} or {next}", of * factor),
            };
            Err(Error::invalid(what, format!("{of} or a multiple of it (nearest: {nearest})"), size))
        };
        let factors =
            (factor("image.width", width, self.width)?, factor("image.height", height, self.height)?);
        self.as_view().validate()?;
        Ok(factors)
    }

    /// The same pixels, to be read.
    pub fn as_view(&self) -> ImageView<'_> {
        let ImageViewMut { width, height, stride, format, origin, .. } = *self;
        ImageView { width, height, stride, format, origin, data: self.data }
    }
}

/// Reads pixels as floats `[3, height, width]` in \[0, 1\], alpha dropped; the inverse of [`write_f32_chw`].
///
/// # Errors
/// As [`ImageView::validate`], and `InvalidArgument` above [`MAX_PIXELS`].
pub fn read_f32_chw(view: &ImageView<'_>) -> Result<Vec<f32>> {
    read_planes(view, 3)
}

/// Reads pixels as floats `[channels, height, width]` in \[0, 1\], of 3 channels or of 4 with straight alpha, which is 1 where
/// the format has none.
///
/// # Errors
/// As [`read_f32_chw`], and `InvalidArgument` for other channels.
pub fn read_planes(view: &ImageView<'_>, channels: usize) -> Result<Vec<f32>> {
    if !(3..=4).contains(&channels) {
        return Err(Error::invalid("channels", "3 or 4", channels));
    }
    let pixels = checked_bytes(u64::from(view.width), u64::from(view.height))? / 4;
    let mut image = shortage::reserved("the picture", channels * pixels)?;
    let bytes = view.format.bytes_per_pixel();
    for channel in 0..channels {
        for row in view.rows()? {
            let pixels = row.chunks_exact(bytes);
            match view.format {
                PixelFormat::Rgb8 if channel == 3 => image.extend(pixels.map(|_| 1.0)),
                PixelFormat::Rgba8 | PixelFormat::Rgb8 => {
                    image.extend(pixels.map(|p| f32::from(p[channel]) / 255.0));
                }
                PixelFormat::Bgra8 => {
                    let channel = [2, 1, 0, 3][channel];
                    image.extend(pixels.map(|p| f32::from(p[channel]) / 255.0));
                }
                PixelFormat::Rgba32F => {
                    let value = |p: &[u8]| p.as_chunks::<4>().0[channel];
                    image.extend(pixels.map(|p| f32::from_ne_bytes(value(p))));
                }
            }
        }
    }
    Ok(image)
}

/// Writes a decoder's picture, `[3 or 4, height, width]` with values in \[0, 1\], into a view of its size.
///
/// x is clamped to \[0, 1\] (NaN becomes 0); 8-bit formats get ⌊255·x + 0.5⌋, the f32 format the clamped
/// value as it is, still sRGB-encoded. Alpha is the fourth plane, or opaque; without it, transparent pixels are seen against
/// white. Bytes between rows are not touched.
///
/// # Errors
/// As [`ImageViewMut::validate`], before anything is written.
pub fn write_f32_chw(image: &[f32], view: &mut ImageViewMut<'_>) -> Result<()> {
    view.as_view().validate()?;
    StyledPicture::new(image, view.width, view.height, &PictureStyle::default())?.write(view)
}

/// To \[0, 1\]; unlike `f32::clamp`, NaN becomes 0.
fn clamp(x: f32) -> f32 {
    if x > 0.0 { x.min(1.0) } else { 0.0 }
}

/// ⌊255·x + 0.5⌋ of the clamped value.
fn to_u8(x: f32) -> u8 {
    (clamp(x) * 255.0 + 0.5) as u8
}

struct RowLayout {
    /// Bytes of a row's pixels.
    row: usize,
    /// Bytes from row to row; never 0.
    stride: usize,
}

fn layout(width: u32, height: u32, stride: usize, format: PixelFormat, capacity: usize) -> Result<RowLayout> {
    for (what, size) in [("image.width", width), ("image.height", height)] {
        if size == 0 {
            return Err(Error::invalid(what, "at least 1", size));
        }
    }
    let overflow =
        || Error::invalid("image size", "one that fits the address space", format!("{width}x{height}"));
    let row = (width as usize).checked_mul(format.bytes_per_pixel()).ok_or_else(overflow)?;
    let stride = match stride {
        0 => row,
        stride if stride < row => {
            return Err(Error::invalid("image.stride", format!("0 or at least {row} bytes"), stride));
        }
        stride => stride,
    };
    let needed =
        (height as usize - 1).checked_mul(stride).and_then(|n| n.checked_add(row)).ok_or_else(overflow)?;
    if capacity < needed {
        return Err(Error::BufferTooSmall { what: "image.data".into(), expected: needed, found: capacity });
    }
    Ok(RowLayout { row, stride })
}

/// Index in memory of the picture's row y, counted from the top.
fn memory_row(y: u32, height: u32, origin: Origin) -> usize {
    match origin {
        Origin::TopLeft => y as usize,
        Origin::BottomLeft => (height - 1 - y) as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2 x 2, planes red, green, blue; out-of-range values on purpose.
    const IMAGE: [f32; 12] = [0.0, 1.0, 0.5, 2.0, 0.25, -1.0, f32::NAN, 1.0, 0.1, 0.2, 0.3, 0.4];
    /// The same as RGB8, top row first.
    const RGB: [[u8; 3]; 4] = [[0, 64, 26], [255, 0, 51], [128, 0, 77], [255, 255, 102]];

    fn view(format: PixelFormat, origin: Origin, stride: usize, data: &mut [u8]) -> ImageViewMut<'_> {
        ImageViewMut { width: 2, height: 2, stride, format, origin, data }
    }

    #[test]
    fn every_format_origin_and_stride() {
        for origin in [Origin::TopLeft, Origin::BottomLeft] {
            for (format, pixel) in [
                (PixelFormat::Rgba8, [0, 1, 2, 3].as_slice()),
                (PixelFormat::Rgb8, &[0, 1, 2]),
                (PixelFormat::Bgra8, &[2, 1, 0, 3]),
            ] {
                for padding in [0, 5] {
                    let row = 2 * pixel.len();
                    let mut data = vec![0xEE; 2 * (row + padding)];
                    let stride = if padding == 0 { 0 } else { row + padding };
                    write_f32_chw(&IMAGE, &mut view(format, origin, stride, &mut data)).unwrap();
                    for (memory_row, bytes) in data.chunks(row + padding).enumerate() {
                        let y = if origin == Origin::TopLeft { memory_row } else { 1 - memory_row };
                        let expected: Vec<u8> = (0..2)
                            .flat_map(|x| {
                                let [r, g, b] = RGB[y * 2 + x];
                                pixel.iter().map(move |&channel| [r, g, b, 255][channel])
                            })
                            .collect();
                        assert_eq!(bytes[..row], expected, "{format:?} {origin:?} row {memory_row}");
                        assert!(bytes[row..].iter().all(|&b| b == 0xEE), "padding was written");
                    }
                }
            }
        }
    }

    #[test]
    fn float_format_is_clamped_and_opaque() {
        let mut data = vec![0; 64];
        write_f32_chw(&IMAGE, &mut view(PixelFormat::Rgba32F, Origin::TopLeft, 0, &mut data)).unwrap();
        let floats: Vec<f32> = data.chunks(4).map(|b| f32::from_ne_bytes(b.try_into().unwrap())).collect();
        assert_eq!(floats[..8], [0.0, 0.25, 0.1, 1.0, 1.0, 0.0, 0.2, 1.0]);
        assert_eq!(floats[8..], [0.5, 0.0, 0.3, 1.0, 1.0, 1.0, 0.4, 1.0]);
    }

    #[test]
    fn eight_bit_values_survive_a_round_trip_through_float() {
        for byte in 0..=255 {
            assert_eq!(to_u8(f32::from(byte) / 255.0), byte);
        }
        assert_eq!([0.49 / 255.0, 0.5 / 255.0, 254.5 / 255.0].map(to_u8), [0, 1, 255]);
    }

    #[test]
    fn bad_views_are_named() {
        let message = |width, height, stride, bytes: usize| {
            let mut data = vec![0; bytes];
            let view = ImageViewMut {
                width,
                height,
                stride,
                format: PixelFormat::Rgba8,
                origin: Origin::TopLeft,
                data: &mut data,
            };
            view.validate(width, height).unwrap_err().to_string()
        };
        assert_eq!(message(0, 2, 0, 16), "image.width: expected at least 1, found 0");
        assert_eq!(message(2, 0, 0, 16), "image.height: expected at least 1, found 0");
        assert_eq!(message(2, 2, 7, 16), "image.stride: expected 0 or at least 8 bytes, found 7");
        assert_eq!(message(2, 2, 0, 15), "image.data: expected at least 16 bytes, found 15");
        assert_eq!(message(2, 2, 12, 19), "image.data: expected at least 20 bytes, found 19");
        assert!(message(2, 3, usize::MAX, 16).starts_with("image size: expected one that fits"));
        let mut data = [0; 20];
        let view = view(PixelFormat::Rgba8, Origin::TopLeft, 12, &mut data);
        view.validate(2, 2).unwrap();
        assert_eq!(view.validate(4, 2).unwrap_err().to_string(), "image.width: expected 4, found 2");
        assert_eq!(view.validate(2, 4).unwrap_err().to_string(), "image.height: expected 4, found 2");
    }

    #[test]
    fn a_tensor_of_another_size_is_refused() {
        let mut data = vec![7; 16];
        let mut view = view(PixelFormat::Rgba8, Origin::TopLeft, 0, &mut data);
        let error = write_f32_chw(&IMAGE[1..], &mut view).unwrap_err();
        assert_eq!(error.to_string(), "image tensor: expected 3 or 4 planes of 2x2, found 11");
        assert_eq!(data, [7; 16]);
    }

    #[test]
    fn codes_of_the_c_abi() {
        for code in 0..4 {
            assert_eq!(PixelFormat::try_from(code).unwrap() as u32, code);
        }
        for code in 0..2 {
            assert_eq!(Origin::try_from(code).unwrap() as u32, code);
        }
        assert!(PixelFormat::try_from(4).is_err() && Origin::try_from(2).is_err());
    }
}

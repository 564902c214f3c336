//! How a decoder's picture becomes pixels of a caller's: background taken away, colours chosen, size multiplied, in this
//! order. The first two are done at the model's size, the last while rows are written: nothing of the larger size is held.

use super::matte::Matte;
use super::palette::{Dither, Palette};
use super::{ImageViewMut, Origin, PixelFormat, RowLayout, clamp, memory_row, to_u8};
use crate::error::{Error, Result};
use crate::shortage;

/// What lies between the pixels of a picture that is enlarged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
#[non_exhaustive]
pub enum Scaling {
    /// Nothing: every pixel becomes a rectangle.
    #[default]
    Nearest = 0,
    /// Catmull-Rom splines of the encoded values, alpha weighted in.
    Smooth = 1,
}

impl TryFrom<u32> for Scaling {
    type Error = Error;

    fn try_from(value: u32) -> Result<Scaling> {
        match value {
            0 => Ok(Scaling::Nearest),
            1 => Ok(Scaling::Smooth),
            _ => Err(Error::invalid("style.scaling", "0 (nearest) or 1 (smooth)", value)),
        }
    }
}

/// How pictures are written.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PictureStyle {
    /// Of pictures larger than the model's.
    pub scaling: Scaling,
    /// The colours that a picture may have; `None` for all.
    pub palette: Option<Palette>,
    /// Needs a palette.
    pub dither: Option<Dither>,
    /// What background is made transparent; not with [`PixelFormat::Rgb8`], which has no alpha, and not of pictures that
    /// have alpha already.
    pub matte: Option<Matte>,
    /// What pictures with alpha are seen against in [`PixelFormat::Rgb8`].
    pub background: [u8; 3],
}

impl Default for PictureStyle {
    /// Nothing is done but enlarging by repeating pixels; the background is white.
    fn default() -> PictureStyle {
        let (scaling, background) = (Scaling::Nearest, [255; 3]);
        PictureStyle { scaling, palette: None, dither: None, matte: None, background }
    }
}

impl PictureStyle {
    /// Refuse what is out of range, contradicts itself, or is not for pictures of so many channels in this format.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn validate(&self, format: PixelFormat, channels: usize) -> Result<()> {
        if let Some(palette) = &self.palette {
            palette.validate()?;
        }
        if let Some(dither) = self.dither {
            dither.validate()?;
            if self.palette.is_none() {
                return Err(Error::invalid("dither", "a palette with it", "none"));
            }
        }
        if let Some(matte) = self.matte {
            matte.validate()?;
            if channels == 4 {
                return Err(Error::invalid("matte", "none for a model whose pictures have alpha", "one"));
            }
            if format == PixelFormat::Rgb8 {
                return Err(Error::invalid("image.format", "one with alpha for a matte", "1 (RGB8)"));
            }
        }
        Ok(())
    }
}

/// A picture of the model's size with its style, to be written at a multiple of its size.
#[derive(Debug)]
pub struct StyledPicture<'a> {
    width: usize,
    height: usize,
    pixels: Pixels<'a>,
    scaling: Scaling,
    background: [f32; 3],
    /// A row of the picture's width between those that are read.
    row: Vec<[f32; 4]>,
}

#[derive(Debug)]
enum Pixels<'a> {
    /// [channels, height, width].
    Decoded { image: &'a [f32], channels: usize },
    /// [height, width].
    Styled(Vec<[f32; 4]>),
}

impl Pixels<'_> {
    /// Straight alpha, all in \[0, 1\].
    fn at(&self, at: usize) -> [f32; 4] {
        match self {
            Pixels::Styled(pixels) => pixels[at],
            Pixels::Decoded { image, channels } => {
                let plane = image.len() / channels;
                let [r, g, b] = [0, 1, 2].map(|c| clamp(image[c * plane + at]));
                [r, g, b, if *channels == 4 { clamp(image[3 * plane + at]) } else { 1.0 }]
            }
        }
    }
}

impl<'a> StyledPicture<'a> {
    /// From a decoder's picture, `[3 or 4, height, width]` with values in \[0, 1\]; others are clamped, NaN is 0.
    ///
    /// # Errors
    /// `InvalidArgument` for a picture of another size or a style that makes no sense, [`Error::Exhausted`].
    pub fn new(image: &'a [f32], width: u32, height: u32, style: &PictureStyle) -> Result<StyledPicture<'a>> {
        let (width, height) = (width as usize, height as usize);
        let plane = width.checked_mul(height).filter(|&plane| plane > 0);
        let channels =
            [3, 4].into_iter().find(|c| plane.and_then(|p| p.checked_mul(*c)) == Some(image.len()));
        let (Some(plane), Some(channels)) = (plane, channels) else {
            let expected = format!("3 or 4 planes of {width}x{height}");
            return Err(Error::invalid("image tensor", expected, image.len()));
        };
        style.validate(PixelFormat::Rgba8, channels)?;
        let mut pixels = Pixels::Decoded { image, channels };
        if style.matte.is_some() || style.palette.is_some() {
            let all = (0..plane).map(|at| pixels.at(at));
            let mut all = shortage::collected("the styled picture", plane, all)?;
            if let Some(matte) = style.matte {
                matte.cut(&mut all, width)?;
            }
            if let Some(palette) = &style.palette {
                palette.quantize(&mut all, width, style.dither)?;
            }
            pixels = Pixels::Styled(all);
        }
        let row = match style.scaling {
            Scaling::Nearest => Vec::new(),
            Scaling::Smooth => shortage::filled("a row of the picture", width, [0.0; 4])?,
        };
        let background = style.background.map(|byte| f32::from(byte) / 255.0);
        Ok(StyledPicture { width, height, pixels, scaling: style.scaling, background, row })
    }

    /// Write it into a view of a whole multiple of its width and height, each axis its own.
    ///
    /// 8-bit formats get ⌊255·x + 0.5⌋, the f32 format the value as it is, still sRGB-encoded. Alpha is straight; without
    /// it, transparent pixels are seen against the style's background. Bytes between rows are not touched.
    ///
    /// # Errors
    /// As [`ImageViewMut::validate_multiple`], before anything is written.
    pub fn write(&mut self, view: &mut ImageViewMut<'_>) -> Result<()> {
        let (columns, rows) = view.validate_multiple(self.width as u32, self.height as u32)?;
        let target = Target::new(view)?;
        match self.scaling {
            Scaling::Smooth if columns > 1 || rows > 1 => self.write_smooth(target, columns, rows),
            _ => self.write_nearest(target, columns as usize, rows as usize),
        }
        Ok(())
    }

    /// A pixel as a format shows it.
    fn seen(&self, pixel: [f32; 4], format: PixelFormat) -> [f32; 4] {
        let [r, g, b, a] = pixel;
        if format != PixelFormat::Rgb8 || a == 1.0 {
            return pixel;
        }
        let over = |c: usize, x: f32| x * a + self.background[c] * (1.0 - a);
        [over(0, r), over(1, g), over(2, b), 1.0]
    }

    fn write_nearest(&self, mut target: Target<'_>, columns: usize, rows: usize) {
        let format = target.format;
        for y in 0..self.height {
            let first = y * rows;
            let line = target.line(first);
            let mut places = line.chunks_exact_mut(format.bytes_per_pixel());
            for at in y * self.width..(y + 1) * self.width {
                let pixel = self.seen(self.pixels.at(at), format);
                places.by_ref().take(columns).for_each(|place| put(place, format, pixel));
            }
            (first + 1..first + rows).for_each(|other| target.repeat(first, other));
        }
    }

    fn write_smooth(&mut self, mut target: Target<'_>, columns: u32, rows: u32) {
        let (width, height, format) = (self.width, self.height, target.format);
        for y in 0..height * rows as usize {
            let taps = taps(y, rows, height);
            for (x, sum) in self.row.iter_mut().enumerate() {
                *sum = mixed(taps, |row| {
                    let [r, g, b, a] = self.pixels.at(row * width + x);
                    [r * a, g * a, b * a, a]
                });
            }
            let line = target.line(y);
            for (x, place) in line.chunks_exact_mut(format.bytes_per_pixel()).enumerate() {
                let [r, g, b, a] = mixed(self::taps(x, columns, width), |x| self.row[x]);
                let color = |c: f32| if a > 0.0 { clamp(c / a) } else { 0.0 };
                put(place, format, self.seen([color(r), color(g), color(b), clamp(a)], format));
            }
        }
    }
}

/// The four pixels that pixel `at` of an axis enlarged by `factor` lies between, at its ends repeated, with their weights.
fn taps(at: usize, factor: u32, size: usize) -> [(usize, f32); 4] {
    let place = (at as f64 + 0.5) / f64::from(factor) - 0.5;
    let before = place.floor();
    let t = (place - before) as f32;
    let weights = [
        ((-0.5 * t + 1.0) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1.0,
        ((-1.5 * t + 2.0) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    ];
    [0, 1, 2, 3].map(|i| {
        let pixel = (before as i64 + i as i64 - 1).clamp(0, size as i64 - 1);
        (pixel as usize, weights[i])
    })
}

fn mixed(taps: [(usize, f32); 4], pixel: impl Fn(usize) -> [f32; 4]) -> [f32; 4] {
    let mut sum = [0.0; 4];
    for (at, weight) in taps {
        let pixel = pixel(at);
        (0..4).for_each(|c| sum[c] += weight * pixel[c]);
    }
    sum
}

/// One pixel in its format.
fn put(place: &mut [u8], format: PixelFormat, [r, g, b, a]: [f32; 4]) {
    match format {
        PixelFormat::Rgba8 => place.copy_from_slice(&[to_u8(r), to_u8(g), to_u8(b), to_u8(a)]),
        PixelFormat::Rgb8 => place.copy_from_slice(&[to_u8(r), to_u8(g), to_u8(b)]),
        PixelFormat::Bgra8 => place.copy_from_slice(&[to_u8(b), to_u8(g), to_u8(r), to_u8(a)]),
        PixelFormat::Rgba32F => {
            for (bytes, value) in place.chunks_exact_mut(4).zip([r, g, b, a]) {
                bytes.copy_from_slice(&value.to_ne_bytes());
            }
        }
    }
}

/// The rows of a view that holds them.
struct Target<'a> {
    data: &'a mut [u8],
    layout: RowLayout,
    height: u32,
    format: PixelFormat,
    origin: Origin,
}

impl<'a> Target<'a> {
    fn new(view: &'a mut ImageViewMut<'_>) -> Result<Target<'a>> {
        let ImageViewMut { width, height, stride, format, origin, .. } = *view;
        let layout = super::layout(width, height, stride, format, view.data.len())?;
        Ok(Target { data: view.data, layout, height, format, origin })
    }

    /// Where row y of the picture, counted from the top, lies.
    fn start(&self, y: usize) -> usize {
        memory_row(y as u32, self.height, self.origin) * self.layout.stride
    }

    fn line(&mut self, y: usize) -> &mut [u8] {
        let start = self.start(y);
        &mut self.data[start..start + self.layout.row]
    }

    /// Row `to` is row `from` again.
    fn repeat(&mut self, from: usize, to: usize) {
        let (from, to) = (self.start(from), self.start(to));
        self.data.copy_within(from..from + self.layout.row, to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::RgbaImage;

    /// Three planes of one function of the place.
    fn planes(width: usize, height: usize, value: impl Fn(usize, usize, usize) -> f32) -> Vec<f32> {
        let all = (0..3).flat_map(|c| (0..height).flat_map(move |y| (0..width).map(move |x| (c, x, y))));
        all.map(|(c, x, y)| value(c, x, y)).collect()
    }

    fn styled(image: &[f32], size: (u32, u32), style: &PictureStyle, factors: (u32, u32)) -> Vec<u8> {
        let (width, height) = (size.0 * factors.0, size.1 * factors.1);
        let mut data = vec![0; (width * height * 4) as usize];
        let (format, origin) = (PixelFormat::Rgba8, Origin::TopLeft);
        let mut view = ImageViewMut { width, height, stride: 0, format, origin, data: &mut data };
        StyledPicture::new(image, size.0, size.1, style).unwrap().write(&mut view).unwrap();
        data
    }

    fn smooth() -> PictureStyle {
        PictureStyle { scaling: Scaling::Smooth, ..PictureStyle::default() }
    }

    #[test]
    fn nearest_repeats_pixels_along_each_axis() {
        let image = planes(3, 2, |c, x, y| (c * 6 + y * 3 + x) as f32 / 17.0);
        let small = RgbaImage::from_f32_chw(&image, 3, 2).unwrap();
        let plain = PictureStyle::default();
        assert_eq!(styled(&image, (3, 2), &plain, (5, 5)), small.enlarge(5).unwrap().data());
        let found = styled(&image, (3, 2), &plain, (2, 3));
        for (i, pixel) in found.chunks(4).enumerate() {
            let (x, y) = (i % 6 / 2, i / 6 / 3);
            assert_eq!(pixel, &small.data()[(y * 3 + x) * 4..][..4], "pixel {i}");
        }
    }

    /// Every format, origin and stride, at an address of any alignment, holds the same picture; what lies between rows stays.
    #[test]
    fn every_view_holds_the_same_enlarged_picture() {
        let image = planes(4, 3, |c, x, y| ((c + 2) * (x + 1) * (y + 3) % 11) as f32 / 10.0);
        for style in [PictureStyle::default(), smooth()] {
            let expected = styled(&image, (4, 3), &style, (3, 2));
            for (format, order) in [
                (PixelFormat::Rgba8, [0, 1, 2, 3].as_slice()),
                (PixelFormat::Rgb8, &[0, 1, 2]),
                (PixelFormat::Bgra8, &[2, 1, 0, 3]),
                (PixelFormat::Rgba32F, &[]),
            ] {
                for (origin, padding) in [(Origin::TopLeft, 0), (Origin::BottomLeft, 7)] {
                    let row = 12 * format.bytes_per_pixel();
                    let mut memory = vec![0xEE; 6 * (row + padding) + 1];
                    let (stride, data) = (row + padding, &mut memory[1..]);
                    let mut view = ImageViewMut { width: 12, height: 6, stride, format, origin, data };
                    StyledPicture::new(&image, 4, 3, &style).unwrap().write(&mut view).unwrap();
                    for (i, line) in memory[1..].chunks(stride).enumerate() {
                        let y = if origin == Origin::TopLeft { i } else { 5 - i };
                        let of = |x: usize| &expected[(y * 12 + x) * 4..][..4];
                        for (x, pixel) in line[..row].chunks(format.bytes_per_pixel()).enumerate() {
                            let found: Vec<u8> = match format {
                                PixelFormat::Rgba32F => pixel
                                    .as_chunks::<4>()
                                    .0
                                    .iter()
                                    .map(|v| to_u8(f32::from_ne_bytes(*v)))
                                    .collect(),
                                _ => pixel.to_vec(),
                            };
                            let wanted: Vec<u8> = match order {
                                [] => of(x).to_vec(),
                                order => order.iter().map(|&c| of(x)[c]).collect(),
                            };
                            assert_eq!(found, wanted, "{format:?} {origin:?} ({x}, {y})");
                        }
                        assert!(line[row..].iter().all(|&b| b == 0xEE), "padding was written");
                    }
                }
            }
        }
    }

    #[test]
    fn smooth_keeps_flat_pictures_flat_and_ramps_even() {
        let flat = styled(&planes(5, 4, |_, _, _| 0.4), (5, 4), &smooth(), (7, 3));
        assert!(flat.chunks(4).all(|pixel| pixel == [102, 102, 102, 255]));
        // Between its ends, where pixels are repeated, a ramp stays a ramp.
        let ramp = styled(&planes(8, 1, |_, x, _| x as f32 / 8.0), (8, 1), &smooth(), (4, 2));
        for x in 6..26 {
            let expected = ((x as f32 + 0.5) / 4.0 - 0.5) / 8.0 * 255.0;
            assert!((f32::from(ramp[x * 4]) - expected).abs() <= 0.51, "{x}: {} {expected}", ramp[x * 4]);
        }
        // Its two rows are one; it passes through the pixels where the factor is odd.
        assert_eq!(ramp[..32 * 4], ramp[32 * 4..]);
        let dots = planes(6, 6, |c, x, y| ((x * 7 + y * 3 + c) % 5) as f32 / 4.0);
        let small = RgbaImage::from_f32_chw(&dots, 6, 6).unwrap();
        let large = styled(&dots, (6, 6), &smooth(), (5, 5));
        for (i, pixel) in small.data().chunks(4).enumerate() {
            let (x, y) = (i % 6 * 5 + 2, i / 6 * 5 + 2);
            assert_eq!(&large[(y * 30 + x) * 4..][..4], pixel, "pixel {i}");
        }
    }

    /// Transparent pixels lend no colour to those beside them.
    #[test]
    fn smooth_weights_alpha_in() {
        let image = planes(8, 8, |c, x, y| match (2..6).contains(&x) && (2..6).contains(&y) {
            true => [1.0, 0.0, 0.0][c],
            false => 1.0,
        });
        let style = PictureStyle { matte: Some(Matte::default()), ..smooth() };
        let found = styled(&image, (8, 8), &style, (4, 4));
        assert_eq!(found[..4], [0; 4]);
        for pixel in found.chunks(4).filter(|pixel| pixel[3] > 8) {
            assert!(pixel[0] > 245 && pixel[1] < 10 && pixel[2] < 10, "{pixel:?}");
        }
        assert!(
            found.chunks(4).any(|pixel| pixel[3] == 255)
                && found.chunks(4).any(|p| (40..200).contains(&p[3]))
        );
    }

    #[test]
    fn sizes_that_are_no_multiples_are_refused_with_the_nearest() {
        let mut data = vec![0; 1 << 16];
        let mut says = |width, height| {
            let (format, origin) = (PixelFormat::Rgba8, Origin::TopLeft);
            let view = ImageViewMut { width, height, stride: 0, format, origin, data: &mut data };
            view.validate_multiple(32, 16).map_err(|e| e.to_string())
        };
        assert_eq!(says(96, 16), Ok((3, 1)));
        let expected = "image.width: expected 32 or a multiple of it (nearest: 32 or 64), found 33";
        assert_eq!(says(33, 16).unwrap_err(), expected);
        let expected = "image.height: expected 16 or a multiple of it (nearest: 16), found 15";
        assert_eq!(says(32, 15).unwrap_err(), expected);
        assert!(says(0, 16).unwrap_err().contains("(nearest: 32), found 0"));
        let expected = "(nearest: 4294967264 or 4294967296), found 4294967295";
        assert!(says(u32::MAX, 16).unwrap_err().ends_with(expected));
        assert!(says(1 << 31, 1 << 31).unwrap_err().starts_with("image"));
        assert!(says(32 * 64, 16).unwrap_err().contains("expected at least 131072 bytes"));
    }

    #[test]
    fn styles_that_make_no_sense_are_refused() {
        let says = |style: PictureStyle, format| style.validate(format, 3).unwrap_err().to_string();
        let style = PictureStyle::default;
        let rgba = PixelFormat::Rgba8;
        let palette = |count| PictureStyle { palette: Some(Palette::Found(count)), ..style() };
        assert_eq!(says(palette(1), rgba), "palette_count: expected 2 to 256 colours, found 1");
        assert_eq!(says(palette(257), rgba), "palette_count: expected 2 to 256 colours, found 257");
        let given = PictureStyle { palette: Some(Palette::Colors(vec![[0; 3]; 257])), ..style() };
        assert_eq!(says(given, rgba), "palette: expected 2 to 256 colours, found 257");
        let dithered =
            |side, strength| PictureStyle { dither: Some(Dither::new(side, strength)), ..palette(4) };
        assert_eq!(says(dithered(5, 1.0), rgba), "dither: expected a pattern of 4 or 8 pixels, found 5");
        for strength in [-0.1, 1.1, f32::NAN, f32::INFINITY] {
            assert!(
                says(dithered(4, strength), rgba).starts_with("dither_strength: expected 0 to 1, found ")
            );
        }
        let alone = PictureStyle { dither: Some(Dither::new(4, 1.0)), ..style() };
        assert_eq!(says(alone, rgba), "dither: expected a palette with it, found none");
        for tolerance in [-0.1, 1.1, f32::NAN, f32::NEG_INFINITY] {
            let matte = Some(Matte { tolerance, hole_area: 0 });
            let found = says(PictureStyle { matte, ..style() }, rgba);
            assert!(found.starts_with("matte_tolerance: expected 0 to 1, found "), "{found}");
        }
        let matte = PictureStyle { matte: Some(Matte::default()), ..style() };
        assert!(says(matte, PixelFormat::Rgb8).starts_with("image.format: expected one with alpha"));
        let matte = PictureStyle { matte: Some(Matte::default()), ..style() };
        assert!(matte.validate(rgba, 4).unwrap_err().to_string().starts_with("matte: expected none"));
        assert_eq!(Scaling::try_from(1).unwrap(), Scaling::Smooth);
        assert!(Scaling::try_from(2).is_err());
    }

    /// Four planes: the last is alpha, straight, in every format that has one; what has none shows the background.
    #[test]
    fn a_fourth_plane_is_alpha() {
        let image: Vec<f32> = [[1.0, 0.5], [0.0, 0.5], [0.25, 0.5], [0.5, 2.0]].concat();
        let style = PictureStyle { background: [0, 0, 255], ..PictureStyle::default() };
        for (format, expected) in [
            (PixelFormat::Rgba8, &[255, 0, 64, 128, 128, 128, 128, 255][..]),
            (PixelFormat::Bgra8, &[64, 0, 255, 128, 128, 128, 128, 255]),
            (PixelFormat::Rgb8, &[128, 0, 159, 128, 128, 128]),
        ] {
            let mut data = vec![0; expected.len()];
            let origin = Origin::TopLeft;
            let mut view = ImageViewMut { width: 2, height: 1, stride: 0, format, origin, data: &mut data };
            StyledPicture::new(&image, 2, 1, &style).unwrap().write(&mut view).unwrap();
            // And back, but for what an opaque format has lost.
            let planes = crate::image::read_planes(&view.as_view(), 4).unwrap();
            assert_eq!(data, expected, "{format:?}");
            let alpha = if format == PixelFormat::Rgb8 { 1.0 } else { 128.0 / 255.0 };
            assert_eq!((planes.len(), planes[6]), (8, alpha), "{format:?}");
        }
        let mut data = vec![0; 32];
        let (format, origin) = (PixelFormat::Rgba32F, Origin::TopLeft);
        let mut view = ImageViewMut { width: 2, height: 1, stride: 0, format, origin, data: &mut data };
        StyledPicture::new(&image, 2, 1, &style).unwrap().write(&mut view).unwrap();
        let planes = crate::image::read_planes(&view.as_view(), 4).unwrap();
        assert_eq!(planes, [1.0, 0.5, 0.0, 0.5, 0.25, 0.5, 0.5, 1.0]);
    }
}

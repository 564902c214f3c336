//! An owned picture, and composing several into one.

use super::{ImageView, ImageViewMut, MAX_PIXELS, Origin, PictureStyle, PixelFormat, StyledPicture};
use crate::error::{Error, Result};
use crate::shortage;

/// A tight RGBA8 image, top row first.
#[derive(Clone, PartialEq, Eq)]
pub struct RgbaImage {
    width: u32,
    height: u32,
    data: Vec<u8>,
}

impl std::fmt::Debug for RgbaImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RgbaImage({}x{})", self.width, self.height)
    }
}

impl RgbaImage {
    /// An image over `data`, `[height, width, 4]`.
    ///
    /// # Errors
    /// `InvalidArgument` when the size is zero, above [`MAX_PIXELS`], or not that of `data`.
    pub fn new(width: u32, height: u32, data: Vec<u8>) -> Result<RgbaImage> {
        let bytes = checked_bytes(u64::from(width), u64::from(height))?;
        if data.len() != bytes {
            return Err(Error::invalid("image data", format!("{bytes} bytes"), data.len()));
        }
        Ok(RgbaImage { width, height, data })
    }

    /// An image of one color.
    ///
    /// # Errors
    /// `InvalidArgument` when the size is zero or above [`MAX_PIXELS`].
    pub fn filled(width: u32, height: u32, color: [u8; 4]) -> Result<RgbaImage> {
        let bytes = checked_bytes(u64::from(width), u64::from(height))?;
        let data = shortage::collected("the picture", bytes, color.into_iter().cycle())?;
        Ok(RgbaImage { width, height, data })
    }

    /// A copy of any view; f32 values become ⌊255·x + 0.5⌋.
    ///
    /// # Errors
    /// As [`ImageView::validate`], and `InvalidArgument` above [`MAX_PIXELS`].
    pub fn from_view(view: &ImageView<'_>) -> Result<RgbaImage> {
        let mut data =
            shortage::reserved("the picture", checked_bytes(u64::from(view.width), u64::from(view.height))?)?;
        for row in view.rows()? {
            for pixel in row.chunks_exact(view.format.bytes_per_pixel()) {
                data.extend(match view.format {
                    PixelFormat::Rgba8 => [pixel[0], pixel[1], pixel[2], pixel[3]],
                    PixelFormat::Rgb8 => [pixel[0], pixel[1], pixel[2], 255],
                    PixelFormat::Bgra8 => [pixel[2], pixel[1], pixel[0], pixel[3]],
                    PixelFormat::Rgba32F => [0, 4, 8, 12].map(|i| {
                        super::to_u8(f32::from_ne_bytes(pixel[i..i + 4].try_into().expect("four bytes")))
                    }),
                });
            }
        }
        RgbaImage::new(view.width, view.height, data)
    }

    /// Pixels per row.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Number of rows.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// A picture from the decoder's floats `[3 or 4, height, width]` in \[0, 1\]; rounding as [`super::write_f32_chw`].
    ///
    /// # Errors
    /// `InvalidArgument` when `image` does not have the size, or the size has no pixels or too many.
    pub fn from_f32_chw(image: &[f32], width: u32, height: u32) -> Result<RgbaImage> {
        RgbaImage::from_decoded(image, (width, height), &PictureStyle::default(), 1)
    }

    /// A picture from the decoder's floats `[3 or 4, height, width]` of a size (width, height), in a style and enlarged by
    /// `factor`.
    ///
    /// # Errors
    /// As [`RgbaImage::enlarge`] and [`StyledPicture::new`].
    pub fn from_decoded(
        image: &[f32],
        (width, height): (u32, u32),
        style: &PictureStyle,
        factor: u32,
    ) -> Result<RgbaImage> {
        if factor == 0 {
            return Err(Error::invalid("factor", "at least 1", factor));
        }
        let enlarged = |size: u32| u64::from(size) * u64::from(factor);
        checked_bytes(enlarged(width), enlarged(height))?;
        let mut styled = StyledPicture::new(image, width, height, style)?;
        let mut picture = RgbaImage::filled(width * factor, height * factor, [0; 4])?;
        let (width, height, data) = (picture.width, picture.height, &mut picture.data);
        let (format, origin) = (PixelFormat::Rgba8, Origin::TopLeft);
        styled.write(&mut ImageViewMut { width, height, stride: 0, format, origin, data })?;
        Ok(picture)
    }

    /// `[height, width, 4]`, top row first.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The bytes of [`RgbaImage::data`], without a copy.
    pub fn into_data(self) -> Vec<u8> {
        self.data
    }

    /// The pixels, for functions that take any format.
    pub fn view(&self) -> ImageView<'_> {
        ImageView {
            width: self.width,
            height: self.height,
            stride: 0,
            format: PixelFormat::Rgba8,
            origin: Origin::TopLeft,
            data: &self.data,
        }
    }

    /// Copies `source` with its top left corner at (x, y); what does not fit is cut off. No blending.
    pub fn blit(&mut self, source: &RgbaImage, x: u32, y: u32) {
        let columns = source.width.min(self.width.saturating_sub(x)) as usize;
        let rows = source.height.min(self.height.saturating_sub(y)) as usize;
        let (from_row, to_row) = (source.width as usize * 4, self.width as usize * 4);
        for row in 0..if columns == 0 { 0 } else { rows } {
            let to = (y as usize + row) * to_row + x as usize * 4;
            self.data[to..to + columns * 4].copy_from_slice(&source.data[row * from_row..][..columns * 4]);
        }
    }

    /// Every pixel as a square of `factor` × `factor` (nearest neighbour).
    ///
    /// # Errors
    /// `InvalidArgument` when `factor` is 0 or the result would exceed [`MAX_PIXELS`].
    pub fn enlarge(&self, factor: u32) -> Result<RgbaImage> {
        if factor == 0 {
            return Err(Error::invalid("factor", "at least 1", factor));
        }
        let (width, height) =
            (u64::from(self.width) * u64::from(factor), u64::from(self.height) * u64::from(factor));
        let mut data = shortage::reserved("the enlarged picture", checked_bytes(width, height)?)?;
        for row in self.data.chunks_exact(self.width as usize * 4) {
            let start = data.len();
            row.chunks_exact(4).for_each(|pixel| (0..factor).for_each(|_| data.extend_from_slice(pixel)));
            let end = data.len();
            (1..factor).for_each(|_| data.extend_from_within(start..end));
        }
        RgbaImage::new(width as u32, height as u32, data)
    }

    /// The images row by row on a grid of `columns`, `gap` pixels apart, over `background`.
    ///
    /// A cell is as large as the largest image; each sits at the top left of its cell. There is no
    /// border around the grid, and fewer images than columns make it narrower.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no image or no column, or the result would exceed [`MAX_PIXELS`].
    pub fn sheet(images: &[RgbaImage], columns: u32, gap: u32, background: [u8; 4]) -> Result<RgbaImage> {
        if columns == 0 {
            return Err(Error::invalid("columns", "at least 1", columns));
        }
        let (Some(cell_width), Some(cell_height)) =
            (images.iter().map(|image| image.width).max(), images.iter().map(|image| image.height).max())
        else {
            return Err(Error::invalid("images", "at least 1", 0));
        };
        let columns = (columns as usize).min(images.len());
        let extent = |cells: usize, cell: u32| {
            (cells as u64).saturating_mul(u64::from(cell) + u64::from(gap)) - u64::from(gap)
        };
        let (width, height) =
            (extent(columns, cell_width), extent(images.len().div_ceil(columns), cell_height));
        checked_bytes(width, height)?;
        let mut sheet = RgbaImage::filled(width as u32, height as u32, background)?;
        // Only saturates where there is a single column or row, hence no multiple of it.
        let pitch = [cell_width, cell_height].map(|cell| cell.saturating_add(gap));
        for (i, image) in images.iter().enumerate() {
            let (column, row) = ((i % columns) as u32, (i / columns) as u32);
            sheet.blit(image, column * pitch[0], row * pitch[1]);
        }
        Ok(sheet)
    }
}

/// Bytes of an RGBA8 image; an error for a size that is zero or above [`MAX_PIXELS`].
pub(super) fn checked_bytes(width: u64, height: u64) -> Result<usize> {
    match width.checked_mul(height) {
        Some(pixels @ 1..=MAX_PIXELS) => Ok(pixels as usize * 4),
        _ => Err(Error::invalid(
            "image size",
            format!("1 to {MAX_PIXELS} pixels"),
            format!("{width}x{height}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One row of gray pixels per inner array.
    fn gray<const W: usize>(rows: &[[u8; W]]) -> RgbaImage {
        let data = rows.iter().flatten().flat_map(|&v| [v; 4]).collect();
        RgbaImage::new(W as u32, rows.len() as u32, data).unwrap()
    }

    #[test]
    fn blit_cuts_what_does_not_fit() {
        let source = gray(&[[1, 2], [3, 4]]);
        let blitted = |x, y| {
            let mut target = gray(&[[0, 0, 0], [0, 0, 0], [0, 0, 0]]);
            target.blit(&source, x, y);
            target
        };
        assert_eq!(blitted(1, 0), gray(&[[0, 1, 2], [0, 3, 4], [0, 0, 0]]));
        assert_eq!(blitted(2, 2), gray(&[[0, 0, 0], [0, 0, 0], [0, 0, 1]]));
        for (x, y) in [(3, 0), (0, 3), (u32::MAX, u32::MAX), (u32::MAX, 0)] {
            assert_eq!(blitted(x, y), gray(&[[0; 3]; 3]));
        }
    }

    #[test]
    fn enlarge_repeats_pixels() {
        let image = gray(&[[1, 2], [3, 4]]);
        assert_eq!(
            image.enlarge(2).unwrap(),
            gray(&[[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]])
        );
        assert_eq!(image.enlarge(1).unwrap(), image);
        assert!(image.enlarge(0).is_err());
        let error = image.enlarge(u32::MAX).unwrap_err().to_string();
        assert_eq!(error, "image size: expected 1 to 67108864 pixels, found 8589934590x8589934590");
    }

    #[test]
    fn sheet_lays_out_a_grid() {
        let cell = |v| gray(&[[v, v]]);
        let sheet = RgbaImage::sheet(&[cell(1), cell(2), cell(3)], 2, 1, [9; 4]).unwrap();
        assert_eq!(sheet, gray(&[[1, 1, 9, 2, 2], [9, 9, 9, 9, 9], [3, 3, 9, 9, 9]]));
        let narrow = RgbaImage::sheet(&[cell(1), gray(&[[2], [2]])], 7, 0, [0; 4]).unwrap();
        assert_eq!(narrow, gray(&[[1, 1, 2, 0], [0, 0, 2, 0]]));
        assert!(RgbaImage::sheet(&[], 2, 0, [0; 4]).is_err());
        assert!(RgbaImage::sheet(&[cell(1)], 0, 0, [0; 4]).is_err());
        assert!(RgbaImage::sheet(&[cell(1), cell(2)], 2, u32::MAX, [0; 4]).is_err());
        assert_eq!(RgbaImage::sheet(&[cell(1)], 1, u32::MAX, [0; 4]).unwrap(), cell(1));
    }

    #[test]
    fn from_view_reads_every_format() {
        let floats: Vec<u8> = [1.0_f32, 0.5, -1.0, 1.0].iter().flat_map(|x| x.to_ne_bytes()).collect();
        for (format, data, expected) in [
            (PixelFormat::Rgba8, &[1, 2, 3, 4][..], [1, 2, 3, 4]),
            (PixelFormat::Rgb8, &[1, 2, 3], [1, 2, 3, 255]),
            (PixelFormat::Bgra8, &[1, 2, 3, 4], [3, 2, 1, 4]),
            (PixelFormat::Rgba32F, &floats, [255, 128, 0, 255]),
        ] {
            let view = ImageView { width: 1, height: 1, stride: 0, format, origin: Origin::TopLeft, data };
            assert_eq!(RgbaImage::from_view(&view).unwrap().data(), expected, "{format:?}");
        }
        let image = gray(&[[1, 2], [3, 4]]);
        let flipped = ImageView { origin: Origin::BottomLeft, ..image.view() };
        assert_eq!(RgbaImage::from_view(&flipped).unwrap(), gray(&[[3, 4], [1, 2]]));
    }

    #[test]
    fn sizes_are_checked() {
        assert!(RgbaImage::new(2, 2, vec![0; 15]).is_err());
        assert!(RgbaImage::filled(0, 1, [0; 4]).is_err());
        assert!(RgbaImage::filled(u32::MAX, u32::MAX, [0; 4]).is_err());
    }
}

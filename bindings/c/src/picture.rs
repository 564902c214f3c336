//! Pictures are buffers of the caller's: the library writes into them and keeps none.

use super::*;

/// 8 bits a channel, R G B A, sRGB (default).
pub const SOFTDIMO_FORMAT_RGBA8: u32 = 0;
/// 8 bits a channel, R G B, sRGB.
pub const SOFTDIMO_FORMAT_RGB8: u32 = 1;
/// 8 bits a channel, B G R A, sRGB.
pub const SOFTDIMO_FORMAT_BGRA8: u32 = 2;
/// 32-bit float a channel, R G B A, sRGB-encoded values in [0, 1].
pub const SOFTDIMO_FORMAT_RGBA32F: u32 = 3;

/// The first row in memory is the top of the picture (default).
pub const SOFTDIMO_ORIGIN_TOP_LEFT: u32 = 0;
/// The first row in memory is the bottom of the picture (OpenGL, Unity).
pub const SOFTDIMO_ORIGIN_BOTTOM_LEFT: u32 = 1;

/// A pixel of a larger picture has the colour of the model's pixel that it lies in: pixel art (default). Since ABI 1.2.
pub const SOFTDIMO_SCALING_NEAREST: u32 = 0;
/// It has one between those of the model's pixels around it (Catmull-Rom). Since ABI 1.2.
pub const SOFTDIMO_SCALING_SMOOTH: u32 = 1;

/// Every pixel has the nearest colour of the palette (default). Since ABI 1.2.
pub const SOFTDIMO_DITHER_NONE: u32 = 0;
/// Colours are mixed in an ordered pattern of 4 x 4 pixels. Since ABI 1.2.
pub const SOFTDIMO_DITHER_BAYER4: u32 = 1;
/// The same of 8 x 8 pixels. Since ABI 1.2.
pub const SOFTDIMO_DITHER_BAYER8: u32 = 2;

/// How pictures are written: first the background is taken away, then colours are chosen, both at the model's size, then the
/// picture is enlarged. The calling thread does it, in about a millisecond for 32 x 32 pixels. Call
/// `softdimo_picture_style_init` first. Since ABI 1.2.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct softdimo_picture_style {
    /// Set by `softdimo_picture_style_init`.
    pub struct_size: u32,
    /// `SOFTDIMO_SCALING_*`, of images that are larger than the model's pictures.
    pub scaling: u32,
    /// The colours a picture may have, those nearest in OKLab: `palette_count` times 3 or 4 bytes, sRGB. NULL: as many colours
    /// as palette_count says, found from the picture's own, without random numbers; or all colours, where that is 0.
    pub palette: *const u8,
    /// 2 to 256, or 0.
    pub palette_count: u32,
    /// SOFTDIMO_FORMAT_RGBA8 (default) or SOFTDIMO_FORMAT_RGB8: what lies at `palette`. Of RGBA8, colours of alpha 0 are left
    /// out. Pixels keep their alpha.
    pub palette_format: u32,
    /// `SOFTDIMO_DITHER_*`; with a palette only.
    pub dither: u32,
    /// How much of the way to the right mixture, 0 to 1 (default).
    pub dither_strength: f32,
    /// 1: the background becomes transparent, edges partly so. It is what is like the most common colour of the picture's
    /// border and is connected with the border. Needs a format with alpha, and a model without. 0
    /// (default): it stays.
    pub matte: u32,
    /// How far from that colour background may be, as a distance in OKLab, where black and white are 1 apart: 0 to 1; -1
    /// = 0.04.
    pub matte_tolerance: f32,
    /// Background that something encloses becomes transparent too from this many of the model's pixels on; 0 (default):
    /// holes stay opaque.
    pub matte_hole_area: u32,
    /// Must be zero.
    pub reserved: [u32; 9],
}

/// Fill `style` with defaults: nothing is done but enlarging by repeating pixels; `struct_size` is
/// `sizeof(softdimo_picture_style)`. Errors: NULL, unknown size. Since ABI 1.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_picture_style_init(
    style: *mut softdimo_picture_style,
    struct_size: u32,
) -> i32 {
    wall(|| {
        let value = softdimo_picture_style {
            struct_size: 0,
            scaling: SOFTDIMO_SCALING_NEAREST,
            palette: std::ptr::null(),
            palette_count: 0,
            palette_format: SOFTDIMO_FORMAT_RGBA8,
            dither: SOFTDIMO_DITHER_NONE,
            dither_strength: 1.0,
            matte: 0,
            matte_tolerance: -1.0,
            matte_hole_area: 0,
            reserved: [0; 9],
        };
        // SAFETY: NULL, or the caller's struct of `struct_size` bytes.
        unsafe { init_struct(style, struct_size, "style", value) }
    })
}

/// The style of an image that is written; NULL is the default one.
pub(super) unsafe fn read_style(
    style: *const softdimo_picture_style,
    background: [u8; 3],
) -> Result<PictureStyle> {
    let mut value = PictureStyle::default();
    value.background = background;
    if style.is_null() {
        return Ok(value);
    }
    // SAFETY: non-NULL, so a struct that starts with struct_size.
    let s = unsafe { read_struct(style, "softdimo_picture_style")? };
    read::zero(&s.reserved, "style.reserved")?;
    value.scaling = Scaling::try_from(s.scaling)?;
    // SAFETY: NULL, or as many bytes as palette_count and palette_format say.
    value.palette = unsafe { read_palette(&s)? };
    value.dither = match s.dither {
        SOFTDIMO_DITHER_NONE => None,
        SOFTDIMO_DITHER_BAYER4 => Some(Dither::new(4, s.dither_strength)),
        SOFTDIMO_DITHER_BAYER8 => Some(Dither::new(8, s.dither_strength)),
        other => return Err(Error::invalid("style.dither", "0 (none), 1 (4x4) or 2 (8x8)", other)),
    };
    let unread = |name: &str, expected: i32, found: &dyn std::fmt::Display| {
        Err(Error::invalid(name, format!("{expected} without a matte"), found))
    };
    match s.matte {
        0 if s.matte_tolerance != -1.0 => {
            return unread("style.matte_tolerance", -1, &s.matte_tolerance);
        }
        0 if s.matte_hole_area != 0 => return unread("style.matte_hole_area", 0, &s.matte_hole_area),
        0 => {}
        1 => {
            let mut matte = Matte::default();
            matte.tolerance = read::or_default(s.matte_tolerance).unwrap_or(matte.tolerance);
            matte.hole_area = s.matte_hole_area;
            value.matte = Some(matte);
        }
        other => return Err(Error::invalid("style.matte", "0 or 1", other)),
    }
    Ok(value)
}

unsafe fn read_palette(s: &softdimo_picture_style) -> Result<Option<Palette>> {
    let bytes = match s.palette_format {
        SOFTDIMO_FORMAT_RGBA8 => 4,
        SOFTDIMO_FORMAT_RGB8 => 3,
        other => return Err(Error::invalid("style.palette_format", "0 (RGBA8) or 1 (RGB8)", other)),
    };
    match s.palette_count as usize {
        0 if s.palette.is_null() => return Ok(None),
        2..=MAX_COLORS => {}
        other => {
            let expected = format!("0 for no palette, or 2 to {MAX_COLORS} colours");
            let beside = if other == 0 { " with a palette" } else { "" };
            return Err(Error::invalid("style.palette_count", expected, format!("{other}{beside}")));
        }
    }
    if s.palette.is_null() {
        return Ok(Some(Palette::Found(s.palette_count as usize)));
    }
    // SAFETY: non-NULL, so `palette_count` colours.
    let colors = unsafe { array(s.palette, u64::from(s.palette_count) * bytes, "style.palette")? };
    let colors = colors.unwrap_or_default().chunks_exact(bytes as usize);
    let seen = colors.filter(|color| color.get(3) != Some(&0));
    let colors: Vec<[u8; 3]> = seen.map(|color| [color[0], color[1], color[2]]).collect();
    match colors.len() {
        0 | 1 => Err(Error::invalid("style.palette", "2 colours of an alpha above 0", colors.len())),
        _ => Ok(Some(Palette::Colors(colors))),
    }
}

/// A caller-owned picture buffer. Call `softdimo_image_init` first.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct softdimo_image {
    /// Set by `softdimo_image_init`. In an array, also the distance of its elements.
    pub struct_size: u32,
    /// Width in pixels: the model's (`softdimo_engine_layout`), unless a function says any size. Where generated pictures
    /// are written (`softdimo_generate`, `softdimo_job_image`), a multiple of it will do: the picture is enlarged while it is
    /// copied.
    pub width: u32,
    /// Height in pixels, likewise; by a factor of its own.
    pub height: u32,
    /// Bytes from one row to the next; 0 = tightly packed. What lies between rows is never written.
    pub stride: u32,
    /// `SOFTDIMO_FORMAT_*`.
    pub format: u32,
    /// `SOFTDIMO_ORIGIN_*`.
    pub origin: u32,
    /// The pixels, at any alignment; used during the call only. Pictures are written with an opaque alpha, unless `style`
    /// has a matte or the model makes alpha, which then is straight; formats without alpha show the model's background behind
    /// it. Where a picture is only read, nothing is written.
    pub data: *mut c_void,
    /// Bytes at `data`: at least (height - 1) * stride + width * bytes per pixel.
    pub capacity: u64,
    /// How a generated picture is written; used during the call only, and not where the picture is only read. NULL: as it
    /// is. One style may serve many images. Since ABI 1.2.
    pub style: *const softdimo_picture_style,
}

/// Fill `image` with defaults: RGBA8, top-left origin, no buffer; `struct_size` is `sizeof(softdimo_image)`.
/// Errors: NULL, unknown size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_image_init(image: *mut softdimo_image, struct_size: u32) -> i32 {
    wall(|| {
        let value = softdimo_image {
            struct_size: 0,
            width: 0,
            height: 0,
            stride: 0,
            format: SOFTDIMO_FORMAT_RGBA8,
            origin: SOFTDIMO_ORIGIN_TOP_LEFT,
            data: std::ptr::null_mut(),
            capacity: 0,
            style: std::ptr::null(),
        };
        // SAFETY: NULL, or the caller's struct of `struct_size` bytes.
        unsafe { init_struct(image, struct_size, "image", value) }
    })
}

/// Write a picture of any size as PNG (RGB8 becomes RGB, all else RGBA with 8 bits a channel). `text` holds
/// `pair_count` pairs of keyword and value for `tEXt`/`iTXt` chunks (NULL and 0 for none): put
/// `softdimo_job_report` there to be able to make the picture again. The file appears complete or not at all,
/// and replaces one of its name, unless that is read-only.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_image_write_png(
    image: *const softdimo_image,
    path: *const c_char,
    text: *const *const c_char,
    pair_count: u32,
) -> i32 {
    wall(|| {
        // SAFETY: an image view, a string, and 2 × pair_count strings.
        unsafe {
            let view = read::images(image.cast_mut(), 1)?.remove(0);
            let path = cstr(path, "path")?;
            let strings = array(text, 2 * u64::from(pair_count), "text")?.unwrap_or_default();
            let mut pairs = shortage::reserved("text", strings.len() / 2)?;
            for pair in strings.chunks_exact(2) {
                pairs.push((
                    cstr(pair[0], "text keyword")?.to_string(),
                    cstr(pair[1], "text value")?.to_string(),
                ));
                // The reserve has room for one text, not for all.
                shortage::check("text")?;
            }
            image::write_png(path, &read::read_view(&view)?, &pairs)
        }
    })
}

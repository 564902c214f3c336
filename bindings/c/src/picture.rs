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

/// A caller-owned picture buffer. Call `softdimo_image_init` first.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct softdimo_image {
    /// Set by `softdimo_image_init`. In an array, also the distance of its elements.
    pub struct_size: u32,
    /// Width in pixels: the model's (`softdimo_engine_layout`), unless a function says any size.
    pub width: u32,
    /// Height in pixels, likewise.
    pub height: u32,
    /// Bytes from one row to the next; 0 = tightly packed. What lies between rows is never written.
    pub stride: u32,
    /// `SOFTDIMO_FORMAT_*`.
    pub format: u32,
    /// `SOFTDIMO_ORIGIN_*`.
    pub origin: u32,
    /// The pixels, at any alignment; used during the call only. Pictures are written with an opaque alpha;
    /// where a picture is only read, nothing is written.
    pub data: *mut c_void,
    /// Bytes at `data`: at least (height - 1) * stride + width * bytes per pixel.
    pub capacity: u64,
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

//! Caller-owned pictures.

use super::*;

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

/// Write a picture as PNG (RGB8 becomes RGB, all else RGBA). `text` holds `pair_count` pairs of keyword and
/// value for `tEXt`/`iTXt` chunks (NULL for none): put `softdimo_job_report` there to reproduce the picture.
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
            let mut pairs = Vec::new();
            for pair in strings.chunks_exact(2) {
                pairs.push((
                    cstr(pair[0], "text keyword")?.to_string(),
                    cstr(pair[1], "text value")?.to_string(),
                ));
            }
            image::write_png(path, &read::read_view(&view)?, &pairs)
        }
    })
}

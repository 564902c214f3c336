//! The whole thing in one call. Jobs do the same without blocking.

use super::picture::read_style;
use super::request::submit;
use super::*;

/// Generate `image_count` (= request.batch) pictures into caller-owned buffers of the model's size, or of multiples of it,
/// and wait. Nothing is written unless all succeed. `images` is an array whose elements are `images[0].struct_size` bytes
/// apart.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_generate(
    engine: *const softdimo_engine,
    request: *const softdimo_request,
    images: *mut softdimo_image,
    image_count: u32,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle, a request and image views, as documented.
        unsafe {
            let e = handle(engine, "engine")?;
            let batch = read_struct(request, "softdimo_request")?.batch;
            if image_count != batch {
                return Err(Error::invalid("image_count", format!("request.batch = {batch}"), image_count));
            }
            if batch as usize > BATCH_LIMIT {
                return Err(Error::invalid("batch", format!("1 to {BATCH_LIMIT}"), batch));
            }
            let views = read::images(images, image_count)?;
            let layout = e.engine.layout();
            let (width, height) = (layout.width as u32, layout.height as u32);
            let mut styles = shortage::reserved("images", views.len())?;
            for image in &views {
                let view = read::view(image)?;
                view.validate_multiple(width, height)?;
                let style = read_style(image.style, e.engine.background())?;
                style.validate(view.format, layout.channels)?;
                styles.push(style);
            }
            let job = submit(engine, request)?;
            let done = job.wait(None)?;
            // What may fail comes before the first is written.
            let mut pictures = shortage::reserved("images", views.len())?;
            for (i, style) in styles.iter().enumerate() {
                pictures.push(StyledPicture::new(done.picture(i)?, width, height, style)?);
            }
            for (picture, image) in pictures.iter_mut().zip(&views) {
                picture.write(&mut read::view(image)?)?;
            }
            Ok(())
        }
    })
}

/// The seed of a place in a world, for `request.seed`: the same for the same numbers on every machine, in every version.
/// Other places and other worlds get other seeds; give 0 for coordinates you do not have. Picture b of a batch has seed + b,
/// and batches of up to 256 pictures at neighbouring places do not share seeds. Cannot fail. Others can compute it: all
/// arithmetic wraps at 2^64, coordinates are two's complement,
///
///     mix(h): h ^= h >> 30; h *= 0xBF58476D1CE4E5B9; h ^= h >> 27; h *= 0x94D049BB133111EB; h ^= h >> 31
///     h = mix(world_seed + 0x9E3779B97F4A7C15), then h = mix(h + c + 0x9E3779B97F4A7C15) for c = x, y, z
///
/// Since ABI 1.2.
#[unsafe(no_mangle)]
pub extern "C" fn softdimo_seed(world_seed: u64, x: i64, y: i64, z: i64) -> u64 {
    softdimo::seed(world_seed, [x, y, z])
}

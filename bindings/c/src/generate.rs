//! The whole thing in one call. Jobs do the same without blocking.

use super::request::submit;
use super::*;

/// Generate `image_count` (= request.batch) pictures into caller-owned buffers and wait. Nothing is written
/// unless all succeed. `images` is an array whose elements are `images[0].struct_size` bytes apart.
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
            for view in &views {
                read::view(view)?.validate(layout.width as u32, layout.height as u32)?;
            }
            let job = submit(engine, request)?;
            let done = job.wait(None)?;
            for (i, view) in views.iter().enumerate() {
                image::write_f32_chw(done.picture(i)?, &mut read::view(view)?)?;
            }
            Ok(())
        }
    })
}

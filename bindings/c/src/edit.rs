//! Starting from a picture: the edit_* fields of a request do it in one go; this is their first step by itself.

use super::*;

/// The tokens [positions, splits] of a picture of the model's size, with its alpha where the model's have one, by the
/// model's own image tokenizer: what a request's edit_image starts from, and what start_tokens take. Waits for the jobs
/// before it. Needs a model file with an encoder. Array convention.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_encode(
    engine: *const softdimo_engine,
    image: *const softdimo_image,
    tokens: *mut u32,
    capacity: u64,
    needed: *mut u64,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle, an image view and a caller-owned array.
        unsafe {
            let engine = &handle(engine, "engine")?.engine;
            let slots = engine.layout().slots();
            if tokens.is_null() || capacity < slots as u64 {
                // Nothing is computed for a call that only asks for the size.
                return read::write_array(&vec![0; slots], tokens, capacity, needed, "tokens");
            }
            let layout = engine.layout();
            let planes = read::picture(image, layout.channels, |i| {
                read::model_size("image", [i.width, i.height], &layout)
            })?;
            let ids = engine.encode(&planes)?;
            read::write_array(&ids, tokens, capacity, needed, "tokens")
        }
    })
}

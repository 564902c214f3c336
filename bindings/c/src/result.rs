//! What a job has made: one that is done, or an optimisation that was cancelled, which has the best pictures
//! so far. Before the end these calls return SOFTDIMO_ERR_NOT_READY, after a failure that failure.

use super::picture::read_style;
use super::*;

/// Copy picture `index` (below the request's batch) into a caller-owned buffer of the model's size, or of multiples of it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_image(
    job: *const softdimo_job,
    index: u32,
    image: *mut softdimo_image,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle and an image view.
        unsafe {
            let j = &handle(job, "job")?.job;
            let image = read::images(image, 1)?.remove(0);
            let layout = j.engine().layout();
            let (width, height) = (layout.width as u32, layout.height as u32);
            let mut view = read::view(&image)?;
            view.validate_multiple(width, height)?;
            let style = read_style(image.style, j.engine().background())?;
            style.validate(view.format, layout.channels)?;
            let done = j.result()?;
            StyledPicture::new(done.picture(index as usize)?, width, height, &style)?.write(&mut view)
        }
    })
}

/// Copy floats of a job's result. Array convention.
unsafe fn copy_floats(
    job: *const softdimo_job,
    floats: impl FnOnce(&Generated) -> Result<&[f32]>,
    buffer: *mut f32,
    capacity: u64,
    needed: *mut u64,
) -> i32 {
    wall(|| {
        // SAFETY: as the callers promise.
        unsafe {
            let done = handle(job, "job")?.job.result()?;
            read::write_array(floats(&done)?, buffer, capacity, needed, "buffer")
        }
    })
}

/// Copy picture `index` as the decoder's floats [channels, height, width], nominally in [0, 1], not clamped; channels as
/// softdimo_layout says. Array convention.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_image_f32(
    job: *const softdimo_job,
    index: u32,
    pixels: *mut f32,
    capacity: u64,
    needed: *mut u64,
) -> i32 {
    // SAFETY: a live handle and a caller-owned array.
    unsafe { copy_floats(job, |done| done.picture(index as usize), pixels, capacity, needed) }
}

/// Copy the tokens [positions, splits] of picture `index`: the picture, bit for bit. Array convention.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_tokens(
    job: *const softdimo_job,
    index: u32,
    tokens: *mut u32,
    capacity: u64,
    needed: *mut u64,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle and a caller-owned array.
        unsafe {
            let ids = handle(job, "job")?.job.result()?.picture_tokens(index as usize)?;
            read::write_array(&ids, tokens, capacity, needed, "tokens")
        }
    })
}

/// Copy the largest softmax probability of each token [positions, splits] of picture `index` of a one-step
/// job. Array convention.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_max_probability(
    job: *const softdimo_job,
    index: u32,
    probabilities: *mut f32,
    capacity: u64,
    needed: *mut u64,
) -> i32 {
    // SAFETY: a live handle and a caller-owned array.
    unsafe {
        copy_floats(job, |done| done.picture_max_probability(index as usize), probabilities, capacity, needed)
    }
}

/// Copy the start embedding [positions, embedding] of picture `index` of a one-step job, after an
/// optimisation its best one; give it back in `request.e_in` to start from the same point. Array convention.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_embedding(
    job: *const softdimo_job,
    index: u32,
    e_in: *mut f32,
    capacity: u64,
    needed: *mut u64,
) -> i32 {
    // SAFETY: a live handle and a caller-owned array.
    unsafe { copy_floats(job, |done| done.picture_e_in(index as usize), e_in, capacity, needed) }
}

/// JSON about the job: the request with every default filled in, model, runtime, confidence, the course of an
/// optimisation, what of the request nothing read (`warnings`), time. Text convention.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_report(
    job: *const softdimo_job,
    buffer: *mut c_char,
    capacity: u64,
    needed: *mut u64,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle and a caller-owned buffer.
        unsafe { write_text(&handle(job, "job")?.job.result()?.report.json(), buffer, capacity, needed) }
    })
}

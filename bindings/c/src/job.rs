//! Generating: blocking, and as jobs.

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
            let views = read::images(images, image_count)?;
            let batch = read_struct(request, "softdimo_request")?.batch;
            if image_count != batch {
                return Err(Error::invalid("image_count", format!("request.batch = {batch}"), image_count));
            }
            let layout = e.engine.model().architecture().layout();
            for view in &views {
                read::view(view)?.validate(layout.width as u32, layout.height as u32)?;
            }
            let job = submit(engine, request)?;
            let done = job.wait(None)?;
            for (i, view) in views.iter().enumerate() {
                image::write_f32_chw(&done.picture(i)?, &mut read::view(view)?)?;
            }
            Ok(())
        }
    })
}

/// Queue a request and return at once. On success `*job` is to be freed with `softdimo_job_free`. Jobs of
/// one engine run one after the other, in order.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_submit(
    engine: *const softdimo_engine,
    request: *const softdimo_request,
    job: *mut *mut softdimo_job,
) -> i32 {
    wall(|| {
        // SAFETY: as documented.
        unsafe {
            read::required(job, "job")?;
            let submitted = submit(engine, request)?;
            out(job, "job", Box::into_raw(Box::new(submitted)))
        }
    })
}

impl softdimo_job {
    /// Call the progress callback if there is news; its STOP cancels.
    fn report(&self, step: u32, total: u32) -> std::ops::ControlFlow<()> {
        let Some(progress) = self.progress else { return std::ops::ControlFlow::Continue(()) };
        {
            let mut reported = self.reported.lock().unwrap_or_else(|e| e.into_inner());
            if *reported == (step, total) {
                return std::ops::ControlFlow::Continue(());
            }
            *reported = (step, total);
        }
        // SAFETY: the caller promised a callback of this signature in its request.
        match unsafe { progress(self.progress_user_data, step, total) } {
            SOFTDIMO_CONTINUE => std::ops::ControlFlow::Continue(()),
            _ => std::ops::ControlFlow::Break(()),
        }
    }

    fn wait(&self, timeout: Option<Duration>) -> Result<Arc<Generated>> {
        let done = self.job.wait(timeout, |p| self.report(p.step, p.total));
        self.log.drain();
        done
    }
}

fn state_code(phase: Phase) -> u32 {
    match phase {
        Phase::Queued => SOFTDIMO_JOB_QUEUED,
        Phase::Running => SOFTDIMO_JOB_RUNNING,
        Phase::Done => SOFTDIMO_JOB_DONE,
        Phase::Failed => SOFTDIMO_JOB_FAILED,
        Phase::Cancelled => SOFTDIMO_JOB_CANCELLED,
    }
}

/// State of the job (`SOFTDIMO_JOB_*`), without waiting; calls the progress callback if there is news.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_poll(job: *const softdimo_job, state: *mut u32) -> i32 {
    wall(|| {
        // SAFETY: a live handle and an out pointer.
        unsafe {
            let j = handle(job, "job")?;
            read::required(state, "state")?;
            let p = j.job.progress();
            if p.total > 0 && j.report(p.step, p.total).is_break() {
                j.job.cancel();
            }
            j.log.drain();
            out(state, "state", state_code(j.job.phase()))
        }
    })
}

/// Wait for the end of the job, at most `timeout_ms` milliseconds (negative: as long as it takes). Returns
/// SOFTDIMO_OK, SOFTDIMO_ERR_TIMEOUT (the job goes on), SOFTDIMO_ERR_CANCELLED, or the job's failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_wait(job: *const softdimo_job, timeout_ms: i64) -> i32 {
    wall(|| {
        // SAFETY: a live handle.
        let j = unsafe { handle(job, "job")? };
        let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
        j.wait(timeout).map(drop)
    })
}

/// Ask the job to end; returns at once. Any thread, any number of times; counts even before the job starts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_cancel(job: *const softdimo_job) -> i32 {
    wall(|| {
        // SAFETY: a live handle.
        let j = unsafe { handle(job, "job")? };
        j.job.cancel();
        Ok(())
    })
}

/// State and steps of the job, without waiting.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_progress(
    job: *const softdimo_job,
    progress: *mut softdimo_progress,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle and a struct of the caller's.
        unsafe {
            let j = &handle(job, "job")?.job;
            let p = j.progress();
            let value = softdimo_progress {
                struct_size: 0,
                state: state_code(j.phase()),
                step: p.step,
                total: p.total,
            };
            write_struct(progress, "softdimo_progress", value)
        }
    })
}

/// Copy picture `index` of a finished job into a caller-owned buffer.
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
            let view = read::images(image, 1)?.remove(0);
            let layout = j.engine().model().architecture().layout();
            read::view(&view)?.validate(layout.width as u32, layout.height as u32)?;
            let picture = j.result()?.picture(index as usize)?;
            image::write_f32_chw(&picture, &mut read::view(&view)?)
        }
    })
}

/// Copy picture `index` of a finished job as the decoder's floats [3, height, width], not clamped.
/// Array convention: as the text convention of `softdimo_engine_info`, counted in elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_image_f32(
    job: *const softdimo_job,
    index: u32,
    pixels: *mut f32,
    capacity: u64,
    needed: *mut u64,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle and a caller-owned array.
        unsafe {
            let picture = handle(job, "job")?.job.result()?.picture(index as usize)?;
            write_floats(&picture, pixels, capacity, needed)
        }
    })
}

/// Copy the tokens [positions, splits] of picture `index` of a finished job: the picture, bit for bit.
/// Array convention: see `softdimo_job_image_f32`.
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

/// Copy the largest softmax probability of each token [positions, splits] of picture `index`.
/// Array convention: see `softdimo_job_image_f32`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_max_probability(
    job: *const softdimo_job,
    index: u32,
    probabilities: *mut f32,
    capacity: u64,
    needed: *mut u64,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle and a caller-owned array.
        unsafe {
            let p = handle(job, "job")?.job.result()?.picture_max_probability(index as usize)?;
            write_floats(&p, probabilities, capacity, needed)
        }
    })
}

/// Copy the start embedding [positions, dim] of picture `index` of a finished one-step job; give it back in
/// `request.e_in` to start from the same point. Array convention: see `softdimo_job_image_f32`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_embedding(
    job: *const softdimo_job,
    index: u32,
    e_in: *mut f32,
    capacity: u64,
    needed: *mut u64,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle and a caller-owned array.
        unsafe {
            let e = handle(job, "job")?.job.result()?.picture_e_in(index as usize)?;
            write_floats(&e, e_in, capacity, needed)
        }
    })
}

/// JSON about a finished job: the request with every default filled in, model, runtime, confidence, time.
/// Text convention: see `softdimo_engine_info`.
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

/// Why a job failed; empty text for a job that did not. Text convention: see `softdimo_engine_info`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_error(
    job: *const softdimo_job,
    buffer: *mut c_char,
    capacity: u64,
    needed: *mut u64,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle and a caller-owned buffer.
        unsafe {
            let text = match handle(job, "job")?.job.result() {
                Ok(_) | Err(Error::NotReady { .. }) => String::new(),
                Err(e) => e.to_string(),
            };
            write_text(&text, buffer, capacity, needed)
        }
    })
}

/// Free a job: NULL is fine. A running job is cancelled and waited for. In a forked child this does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_free(job: *mut softdimo_job) {
    guard(|| {
        if !job.is_null() && check_process().is_ok() {
            // SAFETY: made by `softdimo_submit`, freed once.
            drop(unsafe { Box::from_raw(job) });
        }
    });
}

//! A job is a request under way. It advances on its own, on the engine's threads; its callbacks run only
//! inside a wait or poll of it. For a frame loop: submit, poll once a frame, read the result, free.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};

use super::request::submit;
use super::*;

/// A submitted request. Thread-safe, except that it must not be freed while another call uses it.
pub struct softdimo_job {
    pub(super) job: Job,
    pub(super) log: LogSink,
    pub(super) reported: Reported,
    pub(super) jobs: Arc<JobHandles>,
}

/// A progress callback, and the last step and total that were handed to it.
pub(super) struct Reported {
    progress: softdimo_progress_fn,
    user_data: *mut c_void,
    last: AtomicU64,
}

/// The handles of an engine's jobs, by their addresses.
#[derive(Default)]
pub(super) struct JobHandles(Mutex<BTreeSet<usize>>);

impl JobHandles {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Drop for softdimo_job {
    fn drop(&mut self) {
        self.jobs.lock().remove(&(&raw const *self as usize));
    }
}

/// Queue a request and return at once. On success `*job` is to be freed with `softdimo_job_free`. Jobs of one
/// engine run one after the other, those of higher `request.priority` first, and else in order; queued jobs with its
/// `request.queue_key` end. Errors of the request show here; what goes wrong later is the job's.
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
            let made = Box::new(submit(engine, request)?);
            let jobs = made.jobs.clone();
            let made = Box::into_raw(made);
            jobs.lock().insert(made as usize);
            if let Err(e) = shortage::check("job") {
                // Unless `softdimo_job_free_all` has taken it meanwhile, which then frees it.
                let is_ours = jobs.lock().remove(&(made as usize));
                is_ours.then(|| drop(Box::from_raw(made)));
                return Err(e);
            }
            out(job, "job", made)
        }
    })
}

/// State of a job: others of its engine come first.
pub const SOFTDIMO_JOB_QUEUED: u32 = 0;
/// The engine works on it.
pub const SOFTDIMO_JOB_RUNNING: u32 = 1;
/// Final: the result can be read.
pub const SOFTDIMO_JOB_DONE: u32 = 2;
/// Final: `softdimo_job_error` says why.
pub const SOFTDIMO_JOB_FAILED: u32 = 3;
/// Final. An optimisation that was cancelled still has its best pictures to read.
pub const SOFTDIMO_JOB_CANCELLED: u32 = 4;
/// The job stands still until a wait or poll of it calls its reward callback. Told by `softdimo_job_progress` alone, and only
/// to a struct that has `waiting_ms`; everything else says SOFTDIMO_JOB_RUNNING. Since ABI 1.2.
pub const SOFTDIMO_JOB_WAITING: u32 = 5;

impl Reported {
    /// The callback of a request.
    pub(super) fn new(request: &softdimo_request) -> Reported {
        Reported::of(request.progress, request.progress_user_data)
    }

    /// A callback and what it is given.
    pub(super) fn of(progress: softdimo_progress_fn, user_data: *mut c_void) -> Reported {
        Reported { progress, user_data, last: Default::default() }
    }

    /// Call it if there is news; its STOP is a break.
    pub(super) fn report(&self, step: u32, total: u32) -> std::ops::ControlFlow<()> {
        let now = u64::from(step) << 32 | u64::from(total);
        if self.last.swap(now, Ordering::SeqCst) == now {
            return std::ops::ControlFlow::Continue(());
        }
        self.call(step, total)
    }

    /// Call it; its STOP is a break.
    pub(super) fn call(&self, step: u32, total: u32) -> std::ops::ControlFlow<()> {
        let Some(progress) = self.progress else { return std::ops::ControlFlow::Continue(()) };
        // SAFETY: the caller promised a callback of this signature in its request.
        match unsafe { progress(self.user_data, step, total) } {
            SOFTDIMO_CONTINUE => std::ops::ControlFlow::Continue(()),
            _ => std::ops::ControlFlow::Break(()),
        }
    }
}

impl softdimo_job {
    pub(super) fn wait(&self, timeout: Option<Duration>) -> Result<Arc<Generated>> {
        let done = self.job.wait(timeout, |p| self.reported.report(p.step, p.total));
        self.log.drain();
        done
    }
}

const _: () = {
    assert!(Phase::Queued as u32 == SOFTDIMO_JOB_QUEUED);
    assert!(Phase::Running as u32 == SOFTDIMO_JOB_RUNNING);
    assert!(Phase::Done as u32 == SOFTDIMO_JOB_DONE);
    assert!(Phase::Failed as u32 == SOFTDIMO_JOB_FAILED);
    assert!(Phase::Cancelled as u32 == SOFTDIMO_JOB_CANCELLED);
    assert!(Phase::Waiting as u32 == SOFTDIMO_JOB_WAITING);
};

/// State of the job (`SOFTDIMO_JOB_*`), without waiting for it, nor for any lock that a thread of the engine may hold; calls
/// the progress callback if there is news, and the reward callback the job waits for. Where another thread is inside that
/// callback, or this one, it is not called, and the state is SOFTDIMO_JOB_RUNNING: the next poll tries again. SOFTDIMO_OK also
/// for a job that failed: that is its state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_poll(job: *const softdimo_job, state: *mut u32) -> i32 {
    wall(|| {
        // SAFETY: a live handle and an out pointer.
        unsafe {
            let j = handle(job, "job")?;
            read::required(state, "state")?;
            let phase = j.job.poll(|p| j.reported.report(p.step, p.total));
            j.log.drain_now();
            out(state, "state", state_of(phase, false))
        }
    })
}

/// `SOFTDIMO_JOB_*`, of a program that knows of SOFTDIMO_JOB_WAITING or does not.
fn state_of(phase: Phase, knows_waiting: bool) -> u32 {
    match phase {
        Phase::Waiting if !knows_waiting => SOFTDIMO_JOB_RUNNING,
        phase => phase as u32,
    }
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

/// Ask the job to end; returns at once, and waits for no lock that a thread of the engine may hold. Any thread, any number of
/// times; counts even before the job starts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_cancel(job: *const softdimo_job) -> i32 {
    wall(|| {
        // SAFETY: a live handle.
        let j = unsafe { handle(job, "job")? };
        j.job.cancel();
        Ok(())
    })
}

/// Progress of a job. Set struct_size before the call that fills it.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct softdimo_progress {
    /// To be set to `sizeof(softdimo_progress)`.
    pub struct_size: u32,
    /// `SOFTDIMO_JOB_*`.
    pub state: u32,
    /// Steps done (one network call each).
    pub step: u32,
    /// Steps in all; 0 before the job has started.
    pub total: u32,
    /// With SOFTDIMO_JOB_WAITING: for how many milliseconds the reward callback has been due; else 0. Since ABI 1.2.
    pub waiting_ms: u32,
    /// Zero. Since ABI 1.2.
    pub reserved: u32,
}

/// State and steps of the job, without waiting and without callbacks, and without any lock that a thread of the engine may
/// hold. A job whose reward callback is due is SOFTDIMO_JOB_WAITING where `progress` has `waiting_ms` (a struct of ABI 1.1
/// or older hears SOFTDIMO_JOB_RUNNING), until a thread is inside the callback for it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_progress(
    job: *const softdimo_job,
    progress: *mut softdimo_progress,
) -> i32 {
    wall(|| {
        // SAFETY: a live handle and a struct of the caller's.
        unsafe {
            let j = &handle(job, "job")?.job;
            let size = read::declared_size(progress, "softdimo_progress")?;
            let knows_waiting = size >= size_of::<softdimo_progress>();
            let (p, waiting) = (j.progress(), j.waiting());
            let value = softdimo_progress {
                struct_size: 0,
                state: match waiting {
                    Some(_) => state_of(Phase::Waiting, knows_waiting),
                    // It may have begun to wait meanwhile: the next call says so, and for how long.
                    None => state_of(j.phase(), false),
                },
                step: p.step,
                total: p.total,
                waiting_ms: waiting.map_or(0, |due| u32::try_from(due.as_millis()).unwrap_or(u32::MAX)),
                reserved: 0,
            };
            write_struct(progress, "softdimo_progress", value)
        }
    })
}

/// Why a job failed or was cancelled, by a newer one with its `queue_key` say; empty text for one that has a result or has
/// not ended. Text convention.
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

/// Free every job that was submitted to this engine and not freed yet, for hosts that have lost their handles (a script that
/// was reloaded): all are cancelled, then freed as by `softdimo_job_free`. Their handles must not be used any more, and must not
/// be in use; what their callbacks use can be freed afterwards. Safe beside `softdimo_submit`: a job that another thread submits
/// meanwhile is among them or is not, so that that thread must not use it either. Not inside callbacks. Since ABI 1.2.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_free_all(engine: *const softdimo_engine) -> i32 {
    wall(|| {
        // SAFETY: a live handle, and jobs made by `softdimo_submit` that nobody else frees.
        unsafe {
            let lost = std::mem::take(&mut *handle(engine, "engine")?.jobs.lock());
            // All end at the same time.
            lost.iter().for_each(|&job| (*(job as *const softdimo_job)).job.cancel());
            lost.iter().for_each(|&job| drop(Box::from_raw(job as *mut softdimo_job)));
        }
        Ok(())
    })
}

/// Free a job: NULL is fine. A job that has not ended is cancelled and waited for. In a forked child this
/// does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_job_free(job: *mut softdimo_job) {
    guard(|| {
        if !job.is_null() && check_process().is_ok() {
            // SAFETY: made by `softdimo_submit`, freed once.
            drop(unsafe { Box::from_raw(job) });
        }
    });
}

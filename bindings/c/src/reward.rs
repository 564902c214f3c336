//! Rewards for test-time optimisation: what a request's terms are made of. Pictures, masks and strings are
//! copied by the call that takes them. A reward that does not fit the model shows when a request uses it.

use super::*;

/// Write a handle of the reward that `make` makes, if there is a place for it.
unsafe fn hand_out<T: Into<softdimo_reward>>(
    reward: *mut *mut softdimo_reward,
    make: impl FnOnce() -> Result<T>,
) -> i32 {
    let make = || Ok(Box::new(make()?.into()));
    // SAFETY: an out pointer, as the callers promise.
    unsafe { wall_making(reward, "reward", make) }
}

/// A mask over pixels, row-major from the top: `count` = width·height weights of 0 or more, or NULL for all.
unsafe fn read_mask(mask: *const f32, count: u64) -> Result<Option<Vec<f32>>> {
    // SAFETY: NULL with 0, or `count` floats.
    unsafe { array(mask, count, "mask")? }.map(|mask| shortage::copied("mask", mask)).transpose()
}

/// A reward for looking like `target` (the model's picture size): −mean squared difference over the mask.
/// `mask` holds `mask_count` = width·height weights of 0 or more, top row first, or is NULL for all pixels.
/// Free with `softdimo_reward_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_reward_target(
    target: *const softdimo_image,
    mask: *const f32,
    mask_count: u64,
    reward: *mut *mut softdimo_reward,
) -> i32 {
    // SAFETY: an image view, an array and an out pointer, as documented.
    unsafe {
        hand_out(reward, || {
            let mut size = None;
            let target = read::picture(target, 3, |image| {
                size = Some([image.width, image.height]);
                Ok(())
            })?;
            let reward = Reward::Target { target, mask: read_mask(mask, mask_count)? };
            Ok(softdimo_reward { size, ..reward.into() })
        })
    }
}

/// A reward for a direction in colour space: mean over the mask of r·R + g·G + b·B. Mask: see
/// `softdimo_reward_target`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_reward_color(
    r: f32,
    g: f32,
    b: f32,
    mask: *const f32,
    mask_count: u64,
    reward: *mut *mut softdimo_reward,
) -> i32 {
    // SAFETY: an array and an out pointer, as documented.
    unsafe { hand_out(reward, || Ok(Reward::Color { rgb: [r, g, b], mask: read_mask(mask, mask_count)? })) }
}

/// A reward for the colours of `target`, wherever in the picture they are: minus the mean squared difference
/// of the running sums of both histograms, per channel; 0 when they agree, at least -1. `target` is a picture
/// of any size, or NULL when `histogram` gives its shares [3, bins] of `histogram_count` = 3·bins values, 2
/// to 256 bins evenly from 0 to 1; each channel is scaled to add up to 1. Mask: see `softdimo_reward_target`;
/// it selects pixels of the generated picture.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_reward_histogram(
    target: *const softdimo_image,
    histogram: *const f32,
    histogram_count: u64,
    mask: *const f32,
    mask_count: u64,
    reward: *mut *mut softdimo_reward,
) -> i32 {
    // SAFETY: an image view or NULL, arrays and an out pointer, as documented.
    unsafe {
        hand_out(reward, || {
            let shares = match (target.is_null(), array(histogram, histogram_count, "histogram")?) {
                (true, Some(shares)) => shortage::copied("histogram", shares)?,
                (false, None) => softdimo::histogram(&read::picture(target, 3, |_| Ok(()))?, BINS)?,
                (true, None) => return Err(Error::NullArgument { what: "target" }),
                (false, Some(_)) => {
                    return Err(Error::invalid("histogram", "NULL when target is given", "an array"));
                }
            };
            Ok(Reward::Histogram { histogram: shares, mask: read_mask(mask, mask_count)? })
        })
    }
}

/// A reward for staying what the label or prompt says, by the model's own teacher: its log-likelihood of the
/// tokens under two complementary seeded masks, in nats per token. Add it to any simple reward.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_reward_prior(seed: u64, reward: *mut *mut softdimo_reward) -> i32 {
    // SAFETY: an out pointer.
    unsafe { hand_out(reward, || Ok(Reward::Prior { seed })) }
}

/// A reward for staying near the start embedding: −mean squared distance.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_reward_closeness(reward: *mut *mut softdimo_reward) -> i32 {
    // SAFETY: an out pointer.
    unsafe { hand_out(reward, || Ok(Reward::Closeness)) }
}

/// Scores `batch` soft pictures [batch, 3, height, width] (nominally in [0, 1], not clamped; those with alpha over the
/// model's background): fill scores
/// [batch] and gradient = dscore/dpixels, of the pictures' shape, both zeros at first, of either sign. A number that is not
/// finite ends the climb of its picture, with a warning in the log; the job fails where no picture has had a finite score,
/// and where both arrays are as they were. The arrays are valid during the call. Called only on the thread that is inside
/// `softdimo_generate`, `softdimo_job_wait` or `softdimo_job_poll` for the job; without such a thread the job
/// stands still. SOFTDIMO_STOP ends the optimisation like a cancel. Must not throw, and must not free the job.
/// Calls of this library that would wait for the callback itself return SOFTDIMO_ERR_UNSUPPORTED: those that wait for its
/// engine, for an engine whose job waits for the same reward, or for one whose job waits for a callback that waits, without
/// a timeout, for either. It must not wait in another way for a thread that waits for its job: nobody can tell, and both
/// wait for ever.
pub type softdimo_reward_fn = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        pixels: *const f32,
        batch: u32,
        width: u32,
        height: u32,
        scores: *mut f32,
        gradient: *mut f32,
    ) -> i32,
>;

/// The host's own reward. `callback` and `user_data` must stay valid until the reward is freed and every job
/// that uses it has ended. Its calls come one at a time, even where several jobs use it: meanwhile a wait or poll of
/// another such job keeps to its time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_reward_from_callback(
    callback: softdimo_reward_fn,
    user_data: *mut c_void,
    reward: *mut *mut softdimo_reward,
) -> i32 {
    let make = || {
        let callback = callback.ok_or(Error::NullArgument { what: "callback" })?;
        let host = read::HostReward { callback, user_data };
        Ok(Reward::callback(move |image, answer| host.call(image, answer)))
    };
    // SAFETY: an out pointer.
    unsafe { hand_out(reward, make) }
}

/// How the network of a reward file is opened. Call `softdimo_reward_options_init` first.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct softdimo_reward_options {
    /// Set by `softdimo_reward_options_init`.
    pub struct_size: u32,
    /// `SOFTDIMO_WEIGHTS_*`; not read for a file in memory.
    pub weights_mode: u32,
    /// Of a classifier: what pictures should show. -1: class_label, or what the request's label says, by its
    /// name where both files name their classes, else by its id where both have as many.
    pub class_id: i32,
    /// Must be zero.
    pub reserved0: u32,
    /// The same by its name, UTF-8, case ignored; NULL when class_id is used, or for neither.
    pub class_label: *const c_char,
    /// Must be zero.
    pub reserved: [u32; 10],
}

/// Fill `options` with defaults: mapped, no class; `struct_size` is `sizeof(softdimo_reward_options)`. Errors:
/// NULL, unknown size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_reward_options_init(
    options: *mut softdimo_reward_options,
    struct_size: u32,
) -> i32 {
    wall(|| {
        // SAFETY: NULL, or the caller's struct of `struct_size` bytes.
        unsafe { init_struct(options, struct_size, "options", default_options()) }
    })
}

/// Open the reward file at `path` (UTF-8), made by `softdimo convert`: a network that scores pictures, some
/// of them against the request's prompt. It runs in the same session as the generator, on whatever engine a
/// request goes to. `options` may be NULL for defaults. Blocks for milliseconds: weights are mapped, not
/// read, and stay mapped until the reward is freed and the last job that uses it has ended. A generator's
/// file is SOFTDIMO_ERR_CONFIG; a missing prompt, or a class that cannot be told, shows when a request uses
/// the reward.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_reward_open(
    path: *const c_char,
    options: *const softdimo_reward_options,
    reward: *mut *mut softdimo_reward,
) -> i32 {
    // SAFETY: a string, options or NULL, and an out pointer, as documented.
    unsafe {
        hand_out(reward, || {
            let path = cstr(path, "path")?;
            let options = read_options(options)?;
            let model = RewardModel::open(path, read::weights_mode(options.weights_mode)?)?;
            network(model, &options)
        })
    }
}

/// The same for a reward whose file is in memory; bytes and `release` as in `softdimo_engine_open_memory`. They are in use
/// until `release` is called, which may be after the reward and its jobs are gone: what a cancelled job had begun to prepare
/// is finished first. With a NULL `release` they must outlive every engine that was given a job with this reward.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_reward_open_memory(
    data: *const c_void,
    length: u64,
    release: softdimo_release_fn,
    user_data: *mut c_void,
    options: *const softdimo_reward_options,
    reward: *mut *mut softdimo_reward,
) -> i32 {
    // SAFETY: bytes, options or NULL, and an out pointer, as documented.
    unsafe {
        wall_making(reward, "reward", || {
            let (mapping, release) = read::foreign(data, length, release, user_data)?;
            let options = read_options(options)?;
            read::weights_mode(options.weights_mode)?;
            let opened = network(RewardModel::from_mapping(mapping, "(memory)")?, &options)?;
            let made = Box::new(opened.into());
            shortage::check("reward")?;
            release.arm();
            Ok(made)
        })
    }
}

fn default_options() -> softdimo_reward_options {
    softdimo_reward_options {
        struct_size: 0,
        weights_mode: SOFTDIMO_WEIGHTS_MAP,
        class_id: -1,
        reserved0: 0,
        class_label: std::ptr::null(),
        reserved: [0; 10],
    }
}

unsafe fn read_options(options: *const softdimo_reward_options) -> Result<softdimo_reward_options> {
    if options.is_null() {
        return Ok(default_options());
    }
    // SAFETY: non-NULL, so a struct that starts with struct_size.
    let o = unsafe { read_struct(options, "softdimo_reward_options")? };
    read::zero(&[o.reserved0], "options.reserved0")?;
    read::zero(&o.reserved, "options.reserved")?;
    Ok(o)
}

/// The network with the class that the options choose.
unsafe fn network(model: RewardModel, options: &softdimo_reward_options) -> Result<Reward> {
    // SAFETY: NULL or a NUL-terminated string, as documented.
    let label = unsafe { optional_cstr(options.class_label, "options.class_label")? };
    let class = match (options.class_id, label) {
        (-1, None) => None,
        (-1, Some(label)) => Some(Label::Name(label.into())),
        (id, None) => {
            let id = u32::try_from(id).map_err(|_| Error::invalid("options.class_id", "-1 or more", id))?;
            Some(Label::Class(id))
        }
        (id, Some(_)) => {
            return Err(Error::invalid("options.class_id", "-1 when class_label is set", id));
        }
    };
    Reward::network(Arc::new(model), class.as_ref())
}

/// JSON about a reward: its name, whether it reads a prompt, and of an opened file its family, title, licence,
/// configuration, classes and size. Text convention.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_reward_info(
    reward: *const softdimo_reward,
    buffer: *mut c_char,
    capacity: u64,
    needed: *mut u64,
) -> i32 {
    // SAFETY: a live handle and a caller-owned buffer.
    wall(|| unsafe { write_text(&handle(reward, "reward")?.reward.info_json(), buffer, capacity, needed) })
}

/// Free a reward: NULL is fine. Jobs that use it keep what they need. In a forked child this does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_reward_free(reward: *mut softdimo_reward) {
    guard(|| {
        if !reward.is_null() && check_process().is_ok() {
            // SAFETY: made by a softdimo_reward_* function, freed once.
            drop(unsafe { Box::from_raw(reward) });
        }
    });
}

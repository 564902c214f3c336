//! Rewards for test-time optimisation.

use super::*;

unsafe fn new_reward(reward: Reward, out_reward: *mut *mut softdimo_reward) -> Result<()> {
    let handle = Box::into_raw(Box::new(softdimo_reward { reward: Arc::new(reward) }));
    // SAFETY: an out pointer, checked by the callers before anything is made.
    unsafe { out(out_reward, "reward", handle) }
}

/// A mask over pixels, row-major from the top: `count` = width·height weights of 0 or more, or NULL for all.
unsafe fn read_mask(mask: *const f32, count: u64) -> Result<Option<Vec<f32>>> {
    // SAFETY: NULL with 0, or `count` floats.
    Ok(unsafe { array(mask, count, "mask")? }.map(<[_]>::to_vec))
}

/// A reward for looking like `target` (the model's picture size): −mean squared difference over the mask.
/// `mask` holds `mask_count` = width·height weights of 0 or more, top row first, or is NULL for all pixels.
/// Free with `softdimo_reward_free`; a size that does not fit shows when a request uses it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_reward_target(
    target: *const softdimo_image,
    mask: *const f32,
    mask_count: u64,
    reward: *mut *mut softdimo_reward,
) -> i32 {
    wall(|| {
        // SAFETY: an image view, an array and an out pointer, as documented.
        unsafe {
            read::required(reward, "reward")?;
            let view = read::images(target.cast_mut(), 1)?.remove(0);
            let target = image::read_f32_chw(&read::read_view(&view)?)?;
            new_reward(Reward::Target { target, mask: read_mask(mask, mask_count)? }, reward)
        }
    })
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
    wall(|| {
        // SAFETY: an array and an out pointer, as documented.
        unsafe {
            read::required(reward, "reward")?;
            new_reward(Reward::Color { rgb: [r, g, b], mask: read_mask(mask, mask_count)? }, reward)
        }
    })
}

/// A reward for staying what the label says, by the model's own teacher: its log-likelihood of the tokens
/// under two complementary seeded masks, in nats per token. Add it to any simple reward.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_reward_prior(seed: u64, reward: *mut *mut softdimo_reward) -> i32 {
    wall(|| {
        // SAFETY: an out pointer.
        unsafe {
            read::required(reward, "reward")?;
            new_reward(Reward::Prior { seed }, reward)
        }
    })
}

/// A reward for staying near the start embedding: −mean squared distance.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_reward_closeness(reward: *mut *mut softdimo_reward) -> i32 {
    wall(|| {
        // SAFETY: an out pointer.
        unsafe {
            read::required(reward, "reward")?;
            new_reward(Reward::Closeness, reward)
        }
    })
}

/// The host's own reward. `callback` and `user_data` must stay valid until the reward is freed and every job
/// that uses it has ended.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_reward_from_callback(
    callback: softdimo_reward_fn,
    user_data: *mut c_void,
    reward: *mut *mut softdimo_reward,
) -> i32 {
    wall(|| {
        read::required(reward, "reward")?;
        let callback = callback.ok_or(Error::NullArgument { what: "callback" })?;
        let host = read::HostReward { callback, user_data };
        // SAFETY: an out pointer, checked above.
        unsafe { new_reward(Reward::callback(move |image, answer| host.call(image, answer)), reward) }
    })
}

/// Free a reward: NULL is fine. Jobs that use it keep what they need.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_reward_free(reward: *mut softdimo_reward) {
    guard(|| {
        if !reward.is_null() {
            // SAFETY: made by a softdimo_reward_* function, freed once.
            drop(unsafe { Box::from_raw(reward) });
        }
    });
}

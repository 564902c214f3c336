//! A request says what to generate. What is left at its default takes the model's own, stored in its file.

use super::job::Reported;
use super::*;

/// Sample codes and decode those (default).
pub const SOFTDIMO_DECODE_HARD: u32 = 0;
/// Decode the expected code, the soft embedding. One-step jobs only.
pub const SOFTDIMO_DECODE_SOFT: u32 = 1;

/// Called with the steps done and the steps in all (one network call each), on the thread that is inside
/// `softdimo_generate`, `softdimo_job_wait` or `softdimo_job_poll`; with the sessions that are prepared and those in all inside
/// `softdimo_engine_warmup_request`, with what is measured and is to be inside `softdimo_engine_tune`. Must not throw, and must not free the job.
pub type softdimo_progress_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, step: u32, total: u32) -> i32>;

/// Gradient ascent, with momentum where set (default; the paper's choice).
pub const SOFTDIMO_OPTIMIZER_SGD: u32 = 0;
/// Adam with its usual constants.
pub const SOFTDIMO_OPTIMIZER_ADAM: u32 = 1;

/// What an optimisation moves: the start embedding (default).
pub const SOFTDIMO_VARIABLE_EMBEDDING: u32 = 1;
/// Only the noise part of the start embedding. Not with SOFTDIMO_VARIABLE_EMBEDDING.
pub const SOFTDIMO_VARIABLE_NOISE: u32 = 2;
/// The class embedding, or the prompt's features.
pub const SOFTDIMO_VARIABLE_CLASS: u32 = 4;

/// A reward that optimisation climbs; see the functions that make one. Immutable; may be used by several
/// jobs; must outlive the call that takes it, not the job.
pub struct softdimo_reward {
    pub(super) reward: Arc<Reward>,
    /// Width and height of the picture that it wants; the numbers behind it would fit another shape, too.
    pub(super) size: Option<[u32; 2]>,
}

impl From<Reward> for softdimo_reward {
    fn from(reward: Reward) -> softdimo_reward {
        softdimo_reward { reward: Arc::new(reward), size: None }
    }
}

/// A reward with its weight in the sum that is maximised.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct softdimo_reward_term {
    /// Must not be NULL.
    pub reward: *const softdimo_reward,
    /// Finite; negative to move away from it.
    pub weight: f32,
    /// Must be zero.
    pub reserved: u32,
}

/// A request. Call `softdimo_request_init` first. Pointers need to live only during the call that takes
/// the request, except `progress_user_data`. A float or top_k of -1 takes the model's default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct softdimo_request {
    /// Set by `softdimo_request_init`.
    pub struct_size: u32,
    /// Pictures to make, 1 to 256. Picture b uses seed + b and equals the one picture of that seed.
    pub batch: u32,
    /// Seed of the first picture.
    pub seed: u64,
    /// Class name for all pictures or a synonym of one, UTF-8; case, spaces, hyphens, underscores and an English plural do
    /// not matter. NULL when class_labels is used, or for no label.
    pub label: *const c_char,
    /// Class ids, one for all pictures or one each; the number of classes means no label. NULL for none.
    pub class_labels: *const i32,
    /// Ids at `class_labels`: 0, 1 or `batch`.
    pub class_label_count: u32,
    /// 0: the model's own way (one step where it has a student). 1: one step. 2 to 10000: the multi-step
    /// teacher.
    pub steps: u32,
    /// Text prompt for all pictures, UTF-8: for text-to-image models and for rewards that read one; an error
    /// where nothing does. NULL for none.
    pub prompt: *const c_char,
    /// Text-to-image models, with steps > 1: what guidance leads away from. NULL: the model's default.
    pub negative_prompt: *const c_char,
    /// Sampling temperature, 0 to 10000; 0 = arg-max, for one step only.
    pub temperature: f32,
    /// Keep the most probable codes up to this probability, above 0 to 1; 1 = all. One step only.
    pub top_p: f32,
    /// Keep the k most probable codes; 0 = all. One step only.
    pub top_k: i32,
    /// Share of start tokens that are masked, 0 to 1. One step only.
    pub mask_ratio: f32,
    /// Standard deviation of the start embedding's perturbation, 0 to 1. One step only.
    pub sigma: f32,
    /// Teacher: classifier-free guidance scale, 0 (none) to 10000.
    pub guidance_scale: f32,
    /// Teacher: temperature of the confidence noise, 0 to 10000.
    pub randomize_temperature: f32,
    /// `SOFTDIMO_DECODE_*`.
    pub decode: u32,
    /// 1: also decode the other way and report how much hard and soft picture differ. 0: do not.
    pub report_gap: u32,
    /// Must be zero.
    pub reserved0: u32,
    /// Start tokens [batch, positions, splits], the mask token allowed; NULL: seeded.
    pub start_tokens: *const u32,
    /// Tokens at `start_tokens`.
    pub start_token_count: u64,
    /// Start embedding [batch, positions, embedding]; NULL: made from the start tokens. One step only; not with
    /// start_tokens.
    pub e_in: *const f32,
    /// Floats at `e_in`.
    pub e_in_count: u64,
    /// Called after each step; NULL for none.
    pub progress: softdimo_progress_fn,
    /// Given to `progress`; both must stay valid until the job is freed.
    pub progress_user_data: *mut c_void,
    /// Test-time embedding optimisation: what to maximise, Σ weight·reward per picture; NULL for none, and then the fields
    /// of an optimisation below must be as softdimo_request_init leaves them.
    pub rewards: *const softdimo_reward_term,
    /// Terms at `rewards`, at most 64, and at most one of them a callback.
    pub reward_count: u32,
    /// Updates, 0 to 100000; the start counts as iterate 0, and the best iterate is kept.
    pub optimize_steps: u32,
    /// Learning rate; -1 = 0.2.
    pub lr: f32,
    /// `SOFTDIMO_OPTIMIZER_*`.
    pub optimizer: u32,
    /// Of SGD, 0 to below 1.
    pub momentum: f32,
    /// Scale each picture's gradient down to this norm; 0 = off.
    pub clip: f32,
    /// Weight of the pull of the noise's norm towards its prior; 0 = off; needs SOFTDIMO_VARIABLE_NOISE.
    pub norm_regularizer: f32,
    /// `SOFTDIMO_VARIABLE_*`, added up; 0 = the embedding.
    pub variables: u32,
    /// Milliseconds for the whole job, from when the engine begins with it: preparing, optimising, making the picture. The
    /// optimisation ends where another iterate and the picture would take longer than is left; out of time before the
    /// first iterate, the job has the picture of its start. What a late job had begun to prepare is finished beside the
    /// next ones. -1 = no deadline.
    pub deadline_ms: i64,
    /// Start from this picture (the model's size) instead of from nothing; NULL for none. Its kept tokens are
    /// known at the start and, with SOFTDIMO_DECODE_HARD, in the result. Not with start_tokens.
    pub edit_image: *const softdimo_image,
    /// Inpainting: weights [height, width] from the top; tokens whose cell has no pixel above 0 are kept. NULL:
    /// edit_keep says what is kept. Only for models whose tokens stand for places.
    pub edit_mask: *const f32,
    /// Floats at `edit_mask`: width * height.
    pub edit_mask_count: u64,
    /// Variation: share of the picture's tokens that are kept, chosen by seed, 0 to 1; -1 with a mask or
    /// without a picture.
    pub edit_keep: f32,
    /// Text-to-image models: aesthetic score the picture should have, 0 to 100; -1 = the model's default.
    pub aesthetic_score: f32,
    /// Text-to-image models: width in pixels the picture is said to have had, 0 to 65536; -1, here and in
    /// original_height, = the model's default.
    pub original_width: i32,
    /// The same, its height.
    pub original_height: i32,
    /// Text-to-image models: left of the crop it is said to be, in pixels, 0 to 65536; -1, here and in
    /// crop_top, = the model's default.
    pub crop_left: i32,
    /// The same, its top.
    pub crop_top: i32,
    /// 1: a step of the optimisation takes less memory and more time; the result is the same. 0: it does not.
    pub recompute: u32,
    /// Jobs of higher priority go first, those of equal priority in the order of their submission; default 0, which is also
    /// that of calls such as softdimo_engine_memory. A running job of several steps, or an optimisation without a deadline,
    /// lets jobs of higher priority go before its next step, where memory_limit has room for both. Since ABI 1.2.
    pub priority: i32,
    /// The latest wins: jobs of the same engine with this key that have not begun end as SOFTDIMO_JOB_CANCELLED when this one
    /// is submitted. 0 (default) for none. Since ABI 1.2.
    pub queue_key: u64,
    /// Must be zero.
    pub reserved: [u32; 6],
}

/// Fill `request` with defaults: one picture, seed 0, no label; `struct_size` is `sizeof(softdimo_request)`.
/// Errors: NULL, unknown size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn softdimo_request_init(request: *mut softdimo_request, struct_size: u32) -> i32 {
    wall(|| {
        let value = softdimo_request {
            struct_size: 0,
            batch: 1,
            seed: 0,
            label: std::ptr::null(),
            class_labels: std::ptr::null(),
            class_label_count: 0,
            steps: 0,
            prompt: std::ptr::null(),
            negative_prompt: std::ptr::null(),
            temperature: -1.0,
            top_p: -1.0,
            top_k: -1,
            mask_ratio: -1.0,
            sigma: -1.0,
            guidance_scale: -1.0,
            randomize_temperature: -1.0,
            decode: SOFTDIMO_DECODE_HARD,
            report_gap: 0,
            reserved0: 0,
            start_tokens: std::ptr::null(),
            start_token_count: 0,
            e_in: std::ptr::null(),
            e_in_count: 0,
            progress: None,
            progress_user_data: std::ptr::null_mut(),
            rewards: std::ptr::null(),
            reward_count: 0,
            optimize_steps: 0,
            lr: -1.0,
            optimizer: SOFTDIMO_OPTIMIZER_SGD,
            momentum: 0.0,
            clip: 0.0,
            norm_regularizer: 0.0,
            variables: 0,
            deadline_ms: -1,
            edit_image: std::ptr::null(),
            edit_mask: std::ptr::null(),
            edit_mask_count: 0,
            edit_keep: -1.0,
            aesthetic_score: -1.0,
            original_width: -1,
            original_height: -1,
            crop_left: -1,
            crop_top: -1,
            recompute: 0,
            priority: 0,
            queue_key: 0,
            reserved: [0; 6],
        };
        // SAFETY: NULL, or the caller's struct of `struct_size` bytes.
        unsafe { init_struct(request, struct_size, "request", value) }
    })
}

/// The request, for a model of this layout: what it brings is copied only where there is as much of it as the model reads;
/// where the layout is not known yet, all is but the picture of an edit.
pub(super) unsafe fn read_request(
    request: *const softdimo_request,
    layout: Option<&Layout>,
) -> Result<(Request, softdimo_request)> {
    // SAFETY: NULL or a struct that starts with struct_size; its pointers are as documented.
    unsafe {
        let r = read_struct(request, "softdimo_request")?;
        read::zero(&r.reserved, "request.reserved")?;
        read::zero(&[r.reserved0], "request.reserved0")?;
        let prompt = optional_cstr(r.prompt, "request.prompt")?;
        let negative_prompt = optional_cstr(r.negative_prompt, "request.negative_prompt")?;
        let batch = match r.batch as usize {
            batch @ 1..=BATCH_LIMIT => batch,
            other => return Err(Error::invalid("request.batch", format!("1 to {BATCH_LIMIT}"), other)),
        };
        let ids = array(r.class_labels, u64::from(r.class_label_count), "request.class_labels")?;
        let ids = ids.unwrap_or_default();
        if ids.len() > 1 && ids.len() != batch {
            let expected = match batch {
                1 => "1".into(),
                _ => format!("1 or {batch} (one per picture)"),
            };
            return Err(Error::invalid("request.class_labels", expected, ids.len()));
        }
        let mut labels = shortage::reserved("request.class_labels", ids.len().max(1))?;
        for &id in ids {
            let id = u32::try_from(id)
                .map_err(|_| Error::invalid("request.class_labels", "ids of 0 or more", id))?;
            labels.push(Label::Class(id));
        }
        if let Some(name) = optional_cstr(r.label, "request.label")? {
            if !labels.is_empty() {
                return Err(Error::invalid(
                    "request.label",
                    "NULL when class_labels is set",
                    format!("'{name}'"),
                ));
            }
            labels.push(Label::Name(name.into()));
        }
        let start_tokens = array(r.start_tokens, r.start_token_count, "request.start_tokens")?;
        let e_in = array(r.e_in, r.e_in_count, "request.e_in")?;
        let counts = (start_tokens.map(<[_]>::len), e_in.map(<[_]>::len));
        layout.map_or(Ok(()), |layout| Request::check_counts(layout, batch, counts))?;
        let value = Request {
            labels,
            prompts: prompt.into_iter().map(String::from).collect(),
            negative_prompt: negative_prompt.map(String::from),
            aesthetic_score: read::or_default(r.aesthetic_score),
            original_size: pair([r.original_width, r.original_height], "request.original_width, _height")?,
            crop: pair([r.crop_left, r.crop_top], "request.crop_left, _top")?,
            batch,
            seed: r.seed,
            steps: r.steps,
            decode: match r.decode {
                SOFTDIMO_DECODE_HARD => Decode::Hard,
                SOFTDIMO_DECODE_SOFT => Decode::Soft,
                other => return Err(Error::invalid("request.decode", "0 (hard) or 1 (soft)", other)),
            },
            temperature: read::or_default(r.temperature),
            top_k: match r.top_k {
                -1 => None,
                k => Some(u32::try_from(k).map_err(|_| Error::invalid("request.top_k", "-1 or more", k))?),
            },
            top_p: read::or_default(r.top_p),
            mask_ratio: read::or_default(r.mask_ratio),
            sigma: read::or_default(r.sigma),
            guidance_scale: read::or_default(r.guidance_scale),
            randomize_temperature: read::or_default(r.randomize_temperature),
            start_tokens: start_tokens
                .map(|ids| shortage::copied("request.start_tokens", ids))
                .transpose()?,
            edit: layout.map(|layout| read_edit(&r, layout)).transpose()?.flatten(),
            e_in: e_in.map(|e| shortage::copied("request.e_in", e)).transpose()?,
            report_gap: match r.report_gap {
                0 => false,
                1 => true,
                other => return Err(Error::invalid("request.report_gap", "0 or 1", other)),
            },
            optimize: read_optimize(&r, layout)?,
            priority: r.priority,
            queue_key: r.queue_key,
        };
        Ok((value, r))
    }
}

/// Two numbers of pixels, or −1 twice for the model's default.
fn pair(values: [i32; 2], what: &str) -> Result<Option<[u32; 2]>> {
    match values.map(u32::try_from) {
        [Ok(a), Ok(b)] => Ok(Some([a, b])),
        _ if values == [-1, -1] => Ok(None),
        _ => Err(Error::invalid(what, "two numbers of 0 or more, or -1 and -1", format!("{values:?}"))),
    }
}

/// The picture a request starts from, if any.
unsafe fn read_edit(r: &softdimo_request, layout: &Layout) -> Result<Option<Edit>> {
    // SAFETY: NULL with 0, or `edit_mask_count` floats.
    let mask = unsafe { array(r.edit_mask, r.edit_mask_count, "request.edit_mask")? };
    if r.edit_image.is_null() {
        if mask.is_some() || r.edit_keep != -1.0 {
            let found = if mask.is_some() { "edit_mask" } else { "edit_keep" };
            return Err(Error::invalid("request.edit_image", format!("a picture with {found}"), "NULL"));
        }
        return Ok(None);
    }
    // SAFETY: an image view, as documented.
    let image = unsafe {
        read::picture(r.edit_image, layout.channels, |image| {
            read::model_size("request.edit_image", [image.width, image.height], layout)?;
            let floats = layout.channels * layout.width * layout.height;
            Edit::check_counts(layout, floats, mask.map(<[_]>::len))
        })?
    };
    let keep = match (mask, r.edit_keep) {
        (Some(mask), -1.0) => Keep::Outside(shortage::copied("request.edit_mask", mask)?),
        (Some(_), keep) => return Err(Error::invalid("request.edit_keep", "-1 with edit_mask", keep)),
        (None, -1.0) => {
            return Err(Error::invalid("request.edit_keep", "0 to 1 with edit_image, or edit_mask", -1));
        }
        (None, keep) => Keep::Share(keep),
    };
    Ok(Some(Edit { image, keep }))
}

/// Settings of an optimisation that is none are a mistake.
fn refuse_unread(r: &softdimo_request) -> Result<()> {
    let settings = [
        ("lr", f64::from(r.lr), -1.0),
        ("optimizer", f64::from(r.optimizer), f64::from(SOFTDIMO_OPTIMIZER_SGD)),
        ("momentum", f64::from(r.momentum), 0.0),
        ("clip", f64::from(r.clip), 0.0),
        ("norm_regularizer", f64::from(r.norm_regularizer), 0.0),
        ("variables", f64::from(r.variables), 0.0),
        ("deadline_ms", r.deadline_ms as f64, -1.0),
        ("recompute", f64::from(r.recompute), 0.0),
    ];
    match settings.into_iter().find(|(_, found, unset)| found != unset) {
        Some((name, found, unset)) => Err(Error::invalid(
            format!("request.{name}"),
            format!("{unset} without rewards, which alone read it"),
            found,
        )),
        None => Ok(()),
    }
}

/// The optimisation a request asks for, if any.
pub(super) unsafe fn read_optimize(
    r: &softdimo_request,
    layout: Option<&Layout>,
) -> Result<Option<Optimize>> {
    // SAFETY: NULL with 0, or `reward_count` terms with live rewards, as documented.
    let terms = unsafe { array(r.rewards, u64::from(r.reward_count), "request.rewards")? };
    let Some(terms) = terms else {
        if r.optimize_steps > 0 {
            return Err(Error::invalid("request.rewards", "at least one with optimize_steps", "NULL"));
        }
        return refuse_unread(r).map(|()| None);
    };
    Optimize::check_counts("request.rewards", terms.len())?;
    let mut list = shortage::reserved("request.rewards", terms.len())?;
    for term in terms {
        read::zero(&[term.reserved], "request.rewards[..].reserved")?;
        // SAFETY: a live handle, or NULL.
        let softdimo_reward { reward, size } = unsafe { handle(term.reward, "request.rewards[..].reward")? };
        if let (Some(size), Some(layout)) = (*size, layout) {
            read::model_size("reward target", size, layout)?;
        }
        list.push(RewardTerm { reward: reward.clone(), weight: term.weight });
    }
    let known = SOFTDIMO_VARIABLE_EMBEDDING | SOFTDIMO_VARIABLE_NOISE | SOFTDIMO_VARIABLE_CLASS;
    if r.variables & !known != 0 {
        return Err(Error::invalid("request.variables", "a sum of SOFTDIMO_VARIABLE_*", r.variables));
    }
    let has = |bit: u32| r.variables & bit != 0;
    let mut optimize = Optimize::new(list, r.optimize_steps);
    if r.lr != -1.0 {
        optimize.lr = r.lr;
    }
    optimize.optimizer = match r.optimizer {
        SOFTDIMO_OPTIMIZER_SGD => Optimizer::Sgd { momentum: r.momentum },
        SOFTDIMO_OPTIMIZER_ADAM if r.momentum == 0.0 => Optimizer::ADAM,
        SOFTDIMO_OPTIMIZER_ADAM => return Err(Error::invalid("request.momentum", "0 with Adam", r.momentum)),
        other => return Err(Error::invalid("request.optimizer", "0 (SGD) or 1 (Adam)", other)),
    };
    optimize.clip = r.clip;
    optimize.norm_regularizer = r.norm_regularizer;
    optimize.report_gap = r.report_gap == 1;
    optimize.recompute = match r.recompute {
        0 => false,
        1 => true,
        other => return Err(Error::invalid("request.recompute", "0 or 1", other)),
    };
    optimize.deadline = match r.deadline_ms {
        -1 => None,
        ms => Some(Duration::from_millis(
            u64::try_from(ms).map_err(|_| Error::invalid("request.deadline_ms", "-1 or more", ms))?,
        )),
    };
    if r.variables != 0 {
        optimize.variables = Variables {
            embedding: has(SOFTDIMO_VARIABLE_EMBEDDING),
            noise: has(SOFTDIMO_VARIABLE_NOISE),
            class: has(SOFTDIMO_VARIABLE_CLASS),
        };
    }
    Ok(Some(optimize))
}

pub(super) unsafe fn submit(
    engine: *const softdimo_engine,
    request: *const softdimo_request,
) -> Result<softdimo_job> {
    // SAFETY: a live handle and a request, as documented.
    unsafe {
        let e = handle(engine, "engine")?;
        let (request, raw) = read_request(request, Some(&e.engine.layout()))?;
        Ok(softdimo_job {
            job: e.engine.submit(&request)?,
            log: e.log.clone(),
            reported: Reported::new(&raw),
            jobs: e.jobs.clone(),
        })
    }
}

//! Requests: defaults, reading, submitting.

use super::*;

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
            reserved: [0; 9],
        };
        // SAFETY: NULL, or the caller's struct of `struct_size` bytes.
        unsafe { init_struct(request, struct_size, "request", value) }
    })
}

pub(super) unsafe fn read_request(request: *const softdimo_request) -> Result<(Request, softdimo_request)> {
    // SAFETY: NULL or a struct that starts with struct_size; its pointers are as documented.
    unsafe {
        let r = read_struct(request, "softdimo_request")?;
        read::zero(&r.reserved, "request.reserved")?;
        read::zero(&[r.reserved0], "request.reserved0")?;
        let prompt = optional_cstr(r.prompt, "request.prompt")?;
        let negative_prompt = optional_cstr(r.negative_prompt, "request.negative_prompt")?;
        let ids = array(r.class_labels, u64::from(r.class_label_count), "request.class_labels")?;
        let mut labels: Vec<Label> = Vec::new();
        for &id in ids.unwrap_or_default() {
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
        let value = Request {
            labels,
            prompts: prompt.into_iter().map(String::from).collect(),
            negative_prompt: negative_prompt.map(String::from),
            aesthetic_score: read::or_default(r.aesthetic_score),
            original_size: pair([r.original_width, r.original_height], "request.original_width, _height")?,
            crop: pair([r.crop_left, r.crop_top], "request.crop_left, _top")?,
            batch: match r.batch {
                0 => return Err(Error::invalid("request.batch", "1 to 256", 0)),
                n => n as usize,
            },
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
            start_tokens: array(r.start_tokens, r.start_token_count, "request.start_tokens")?
                .map(<[_]>::to_vec),
            edit: read_edit(&r)?,
            e_in: array(r.e_in, r.e_in_count, "request.e_in")?.map(<[_]>::to_vec),
            report_gap: match r.report_gap {
                0 => false,
                1 => true,
                other => return Err(Error::invalid("request.report_gap", "0 or 1", other)),
            },
            optimize: read_optimize(&r)?,
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
unsafe fn read_edit(r: &softdimo_request) -> Result<Option<Edit>> {
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
        let view = read::images(r.edit_image.cast_mut(), 1)?.remove(0);
        image::read_f32_chw(&read::read_view(&view)?)?
    };
    let keep = match (mask, r.edit_keep) {
        (Some(mask), -1.0) => Keep::Outside(mask.to_vec()),
        (Some(_), keep) => return Err(Error::invalid("request.edit_keep", "-1 with edit_mask", keep)),
        (None, -1.0) => {
            return Err(Error::invalid("request.edit_keep", "0 to 1 with edit_image, or edit_mask", -1));
        }
        (None, keep) => Keep::Share(keep),
    };
    Ok(Some(Edit { image, keep }))
}

/// The optimisation a request asks for, if any.
pub(super) unsafe fn read_optimize(r: &softdimo_request) -> Result<Option<Optimize>> {
    // SAFETY: NULL with 0, or `reward_count` terms with live rewards, as documented.
    let terms = unsafe { array(r.rewards, u64::from(r.reward_count), "request.rewards")? };
    let Some(terms) = terms else {
        if r.optimize_steps > 0 {
            return Err(Error::invalid("request.rewards", "at least one with optimize_steps", "NULL"));
        }
        return Ok(None);
    };
    let mut list = Vec::new();
    for term in terms {
        read::zero(&[term.reserved], "request.rewards[..].reserved")?;
        // SAFETY: a live handle, or NULL.
        let reward = unsafe { handle(term.reward, "request.rewards[..].reward")? }.reward.clone();
        list.push(RewardTerm { reward, weight: term.weight });
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
        let (request, raw) = read_request(request)?;
        Ok(softdimo_job {
            job: e.engine.submit(&request)?,
            log: e.log.clone(),
            progress: raw.progress,
            progress_user_data: raw.progress_user_data,
            reported: Default::default(),
        })
    }
}

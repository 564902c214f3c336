//! Options and requests: the defaults that C++ starts from, and what the library reads out of them.

use softdimo::image::{RgbaImage, read_f32_chw};
use softdimo::{Arithmetic, Error, Label, MemoryMode, Provider, WeightsMode};

use super::ffi;
use super::wall::{Result, wall};

pub fn default_options() -> Result<ffi::Options> {
    wall(|| {
        Ok(ffi::Options {
            provider: "cpu".into(),
            device_id: 0,
            memory_mode: ffi::MemoryMode::Lean,
            weights_mode: ffi::WeightsMode::Map,
            threads: 0,
            niceness: 0,
            memory_limit: 0,
            work_limit: 0,
            yielding: false,
            arithmetic: ffi::Arithmetic::Auto,
            untuned: false,
            ort_library: String::new(),
        })
    })
}

pub fn default_request() -> Result<ffi::Request> {
    wall(|| {
        Ok(ffi::Request {
            label: String::new(),
            class_labels: Vec::new(),
            prompt: String::new(),
            negative_prompt: String::new(),
            aesthetic_score: -1.0,
            batch: 1,
            seed: 0,
            steps: 0,
            decode: ffi::Decode::Hard,
            temperature: -1.0,
            top_k: -1,
            top_p: -1.0,
            mask_ratio: -1.0,
            sigma: -1.0,
            guidance_scale: -1.0,
            randomize_temperature: -1.0,
            start_tokens: Vec::new(),
            edit_image: ffi::Image { width: 0, height: 0, pixels: Vec::new() },
            edit_keep: -1.0,
            edit_mask: Vec::new(),
            e_in: Vec::new(),
            report_gap: false,
            priority: 0,
            queue_key: 0,
        })
    })
}

fn invalid(what: &str, expected: &str, found: impl ToString) -> Error {
    Error::InvalidArgument { what: what.into(), expected: expected.into(), found: found.to_string() }
}

pub fn read_options(o: &ffi::Options) -> softdimo::Result<softdimo::Options> {
    Ok(softdimo::Options {
        provider: Provider::parse(&o.provider)?,
        device_id: o.device_id,
        arithmetic: match o.arithmetic {
            ffi::Arithmetic::Auto => Arithmetic::Auto,
            ffi::Arithmetic::F32 => Arithmetic::F32,
            other => return Err(invalid("options.arithmetic", "Auto or F32", other.repr)),
        },
        memory: match o.memory_mode {
            ffi::MemoryMode::Lean => MemoryMode::Lean,
            ffi::MemoryMode::Fast => MemoryMode::Fast,
            other => return Err(invalid("options.memory_mode", "Lean or Fast", other.repr)),
        },
        weights: match o.weights_mode {
            ffi::WeightsMode::Map => WeightsMode::Map,
            ffi::WeightsMode::Read => WeightsMode::Read,
            ffi::WeightsMode::MapGuarded => WeightsMode::MapGuarded,
            other => return Err(invalid("options.weights_mode", "Map, Read or MapGuarded", other.repr)),
        },
        threads: o.threads as usize,
        niceness: o.niceness,
        memory_limit: o.memory_limit,
        work_limit: o.work_limit,
        yielding: o.yielding,
        untuned: o.untuned,
        ort_library: (!o.ort_library.is_empty()).then(|| (&o.ort_library).into()),
        profile: None,
    })
}

pub fn read_request(r: &ffi::Request) -> softdimo::Result<softdimo::Request> {
    let or_default = |value: f32| (value != -1.0).then_some(value);
    let mut labels: Vec<_> = r.class_labels.iter().map(|&id| Label::Class(id)).collect();
    if !r.label.is_empty() {
        if !labels.is_empty() {
            return Err(invalid("request.label", "empty when class_labels is used", &r.label));
        }
        labels.push(Label::Name(r.label.clone()));
    }
    if r.batch == 0 {
        return Err(invalid("request.batch", "1 to 256", 0));
    }
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    Ok(softdimo::Request {
        labels,
        prompts: text(&r.prompt).into_iter().collect(),
        negative_prompt: text(&r.negative_prompt),
        aesthetic_score: or_default(r.aesthetic_score),
        edit: read_edit(r)?,
        batch: r.batch as usize,
        seed: r.seed,
        steps: r.steps,
        decode: match r.decode {
            ffi::Decode::Hard => softdimo::Decode::Hard,
            ffi::Decode::Soft => softdimo::Decode::Soft,
            other => return Err(invalid("request.decode", "Hard or Soft", other.repr)),
        },
        temperature: or_default(r.temperature),
        top_k: match r.top_k {
            -1 => None,
            k => Some(u32::try_from(k).map_err(|_| invalid("request.top_k", "-1 or more", k))?),
        },
        top_p: or_default(r.top_p),
        mask_ratio: or_default(r.mask_ratio),
        sigma: or_default(r.sigma),
        guidance_scale: or_default(r.guidance_scale),
        randomize_temperature: or_default(r.randomize_temperature),
        start_tokens: (!r.start_tokens.is_empty()).then(|| r.start_tokens.clone()),
        e_in: (!r.e_in.is_empty()).then(|| r.e_in.clone()),
        report_gap: r.report_gap,
        priority: r.priority,
        queue_key: r.queue_key,
        ..softdimo::Request::default()
    })
}

fn read_edit(r: &ffi::Request) -> softdimo::Result<Option<softdimo::Edit>> {
    let (image, keep) = (&r.edit_image, r.edit_keep);
    if image.pixels.is_empty() {
        return match r.edit_mask.is_empty() && keep == -1.0 {
            true => Ok(None),
            false => Err(invalid("request.edit_image", "a picture with edit_keep or edit_mask", "none")),
        };
    }
    let keep = match (r.edit_mask.is_empty(), keep) {
        (false, -1.0) => softdimo::Keep::Outside(r.edit_mask.clone()),
        (false, keep) => return Err(invalid("request.edit_keep", "-1 with edit_mask", keep)),
        (true, keep) => softdimo::Keep::Share(keep),
    };
    let picture = RgbaImage::new(image.width, image.height, image.pixels.clone())?;
    Ok(Some(softdimo::Edit { image: read_f32_chw(&picture.view())?, keep }))
}

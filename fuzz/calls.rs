//! Fuzz targets that go through the C ABI, whose source is a module here: models that are opened from memory and run, and
//! sequences of calls as a careless host might make them. Pointers are valid, as the header asks; everything else is what the
//! bytes say.

#[allow(dead_code, unused_imports, non_camel_case_types, missing_debug_implementations)]
#[path = "../bindings/c/src/lib.rs"]
mod capi;

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::{null, null_mut};

use capi::*;

/// Statuses that no argument may lead to.
fn checked(what: &str, status: i32) -> i32 {
    let mut text = [0_u8; 512];
    // SAFETY: the buffer has as many bytes.
    unsafe { softdimo_last_error(text.as_mut_ptr().cast(), 512) };
    let text = CStr::from_bytes_until_nul(&text).unwrap().to_string_lossy();
    assert!(status != 21, "{what}: {text}");
    assert!(status == 0 || text.len() > 7, "{what}: status {status} without a text");
    status
}

fn default_options() -> softdimo_engine_options {
    // SAFETY: a struct of plain data, which init fills.
    unsafe {
        let mut options = std::mem::zeroed();
        softdimo_engine_options_init(&mut options, size_of::<softdimo_engine_options>() as u32);
        options
    }
}

fn default_request() -> softdimo_request {
    // SAFETY: as above.
    unsafe {
        let mut request = std::mem::zeroed();
        softdimo_request_init(&mut request, size_of::<softdimo_request>() as u32);
        request
    }
}

/// A model file in memory: opened, and where that works a picture is made and the engine freed.
pub fn open(bytes: &[u8]) {
    let mut options = default_options();
    (options.threads, options.memory_limit) = (1, 256 << 20);
    let mut engine = null_mut();
    // SAFETY: the bytes outlive the engine; every pointer is to a live variable.
    unsafe {
        let (data, length) = (bytes.as_ptr().cast(), bytes.len() as u64);
        let opened = softdimo_engine_open_memory(data, length, None, null_mut(), &options, &mut engine);
        if checked("open", opened) == 0 {
            let mut job = null_mut();
            if checked("submit", softdimo_submit(engine, &default_request(), &mut job)) == 0 {
                checked("wait", softdimo_job_wait(job, 2000));
                softdimo_job_free(job);
            }
        }
        softdimo_engine_free(engine);
    }
}

/// Bytes as numbers; zeros at the end.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn number(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    /// Often a sensible value, else any.
    fn float(&mut self) -> f32 {
        match self.byte() {
            choice @ 0..200 => [-1.0, 0.0, 0.5, 1.0][usize::from(choice) % 4],
            _ => f32::from_bits(self.number()),
        }
    }

    fn small(&mut self, below: u32) -> u32 {
        match self.byte() {
            250.. => self.number(),
            small => u32::from(small) % below,
        }
    }
}

extern "C" fn likes(
    data: *mut c_void,
    _: *const f32,
    batch: u32,
    width: u32,
    height: u32,
    scores: *mut f32,
    gradient: *mut f32,
) -> i32 {
    let kind = data as usize;
    // SAFETY: arrays of these sizes, as the header says.
    unsafe {
        for b in 0..batch as usize {
            *scores.add(b) = if kind % 3 == 1 { f32::NAN } else { 1.0 };
        }
        for i in 0..(3 * batch * width * height) as usize {
            *gradient.add(i) = if kind % 3 == 2 { f32::INFINITY } else { 1e-3 };
        }
    }
    i32::from(kind % 5 == 4)
}

extern "C" fn hears(data: *mut c_void, step: u32, _: u32) -> i32 {
    i32::from(data as usize == step as usize + 1)
}

const SLOTS: usize = 3;
const SIDE: u32 = 32;

/// Handles, freed at the end: engines first where the bytes say so, jobs first otherwise.
struct Host {
    engines: [*mut softdimo_engine; SLOTS],
    jobs: [*mut softdimo_job; SLOTS],
    rewards: [*mut softdimo_reward; SLOTS],
    model: CString,
    picture: Vec<u8>,
    mask: Vec<f32>,
    style: softdimo_picture_style,
}

pub fn calls(bytes: &[u8]) {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/emoji-32.softdimo.safetensors");
    let mut bytes = Bytes(bytes);
    let mut host = Host {
        engines: [null_mut(); SLOTS],
        jobs: [null_mut(); SLOTS],
        rewards: [null_mut(); SLOTS],
        model: CString::new(model).unwrap(),
        picture: vec![0; 64 * 64 * 16],
        mask: vec![1.0; 64 * 64],
        // SAFETY: plain data, which every image that has a style fills.
        style: unsafe { std::mem::zeroed() },
    };
    host.open(0, &mut bytes);
    for _ in 0..40 {
        if bytes.0.is_empty() {
            break;
        }
        host.step(&mut bytes);
    }
    host.free();
}

impl Host {
    fn open(&mut self, slot: usize, bytes: &mut Bytes) {
        let mut options = default_options();
        options.threads = bytes.small(4);
        options.memory_mode = bytes.small(3);
        options.weights_mode = bytes.small(4);
        options.niceness = bytes.byte() as i8 as i32 / 8;
        if bytes.byte() > 200 {
            options.memory_limit = u64::from(bytes.number());
        }
        // SAFETY: pointers to live variables; the old engine is used by nobody else.
        unsafe {
            softdimo_engine_free(self.engines[slot]);
            self.engines[slot] = null_mut();
            checked("open", softdimo_engine_open(self.model.as_ptr(), &options, &mut self.engines[slot]));
        }
    }

    fn image(&mut self, bytes: &mut Bytes) -> softdimo_image {
        // SAFETY: plain data, which init fills.
        let mut image: softdimo_image = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        unsafe { softdimo_image_init(&mut image, size_of::<softdimo_image>() as u32) };
        (image.width, image.height) = (SIDE, SIDE);
        if bytes.byte() > 230 {
            (image.width, image.height) = (bytes.small(66), bytes.small(66));
        }
        image.format = bytes.small(5);
        if bytes.byte() > 200 {
            // SAFETY: as above; the palette has more bytes than any palette is read of.
            unsafe { softdimo_picture_style_init(&mut self.style, size_of::<softdimo_picture_style>() as u32) };
            self.style.scaling = bytes.small(3);
            if bytes.byte() % 2 == 0 {
                self.style.palette = self.mask.as_ptr().cast();
            }
            self.style.palette_count = bytes.small(32);
            self.style.palette_format = bytes.small(3);
            self.style.dither = bytes.small(4);
            self.style.dither_strength = bytes.float();
            self.style.matte = bytes.small(3);
            self.style.matte_tolerance = bytes.float();
            self.style.matte_hole_area = bytes.small(64);
            image.style = &self.style;
        }
        image.data = self.picture.as_mut_ptr().cast();
        image.capacity = self.picture.len() as u64;
        image
    }

    fn submit(&mut self, bytes: &mut Bytes) {
        let (engine, slot) = (self.engines[bytes.byte() as usize % SLOTS], bytes.byte() as usize % SLOTS);
        let labels = [c"rocket", c"RED  apple", c"rockt", c""];
        let mut request = default_request();
        request.seed = bytes.number().into();
        request.batch = bytes.small(3).wrapping_add(1);
        if request.batch > 8 {
            request.batch |= 1 << 20;
        }
        request.label = labels[bytes.byte() as usize % 4].as_ptr();
        request.steps = bytes.small(4).min(1 << 20);
        if request.steps > 8 {
            request.steps |= 1 << 16;
        }
        request.decode = bytes.small(3);
        request.temperature = bytes.float();
        request.top_p = bytes.float();
        request.top_k = bytes.byte() as i8 as i32;
        request.mask_ratio = bytes.float();
        request.sigma = bytes.float();
        request.report_gap = bytes.small(2);
        let edit = self.image(bytes);
        if bytes.byte() % 4 == 0 {
            request.edit_image = &edit;
            if bytes.byte() % 2 == 0 {
                request.edit_mask = self.mask.as_ptr();
                request.edit_mask_count = if bytes.byte() > 230 { bytes.small(4096).min(4096).into() } else { 1024 };
            } else {
                request.edit_keep = bytes.float();
            }
        }
        request.progress = Some(hears);
        request.progress_user_data = bytes.byte() as usize as *mut c_void;
        // SAFETY: plain data.
        let mut terms: [softdimo_reward_term; 2] = unsafe { std::mem::zeroed() };
        for term in &mut terms {
            term.reward = self.rewards[bytes.byte() as usize % SLOTS];
            term.weight = bytes.float();
        }
        if bytes.byte() % 2 == 0 {
            request.rewards = terms.as_ptr();
            request.reward_count = bytes.small(3).min(2);
            request.optimize_steps = bytes.small(3);
            if request.optimize_steps > 8 {
                request.optimize_steps = u32::MAX;
            }
            request.lr = bytes.float();
            request.optimizer = bytes.small(3);
            request.momentum = bytes.float();
            request.variables = bytes.small(8);
            request.recompute = bytes.small(2);
            request.deadline_ms = i64::from(bytes.byte()) - 1;
        }
        // SAFETY: pointers to live variables and handles; the old job is used by nobody else.
        unsafe {
            softdimo_job_free(self.jobs[slot]);
            self.jobs[slot] = null_mut();
            checked("submit", softdimo_submit(engine, &request, &mut self.jobs[slot]));
        }
    }

    fn reward(&mut self, bytes: &mut Bytes) {
        let slot = bytes.byte() as usize % SLOTS;
        let mut reward = null_mut();
        let image = self.image(bytes);
        let mask = if bytes.byte() % 2 == 0 { self.mask.as_ptr() } else { null() };
        let count = if mask.is_null() { 0 } else { u64::from(bytes.small(2048)).min(4096) };
        // SAFETY: pointers to live variables; arrays have at least as many values.
        unsafe {
            checked("reward", match bytes.byte() % 5 {
                0 => softdimo_reward_color(bytes.float(), bytes.float(), bytes.float(), mask, count, &mut reward),
                1 => softdimo_reward_target(&image, mask, count, &mut reward),
                2 => softdimo_reward_prior(bytes.number().into(), &mut reward),
                3 => softdimo_reward_closeness(&mut reward),
                _ => {
                    let kind = bytes.byte() as usize as *mut c_void;
                    softdimo_reward_from_callback(Some(likes), kind, &mut reward)
                }
            });
            softdimo_reward_free(self.rewards[slot]);
        }
        self.rewards[slot] = reward;
    }

    fn step(&mut self, bytes: &mut Bytes) {
        let (kind, slot) = (bytes.byte() % 16, bytes.byte() as usize % SLOTS);
        let (engine, job) = (self.engines[slot], self.jobs[slot]);
        let (mut needed, mut state) = (0, 0);
        let mut text = [0 as c_char; 64];
        let mut numbers = [0_u32; 128];
        // SAFETY: pointers to live variables and handles (or NULL, which is an error); buffers have as many elements.
        unsafe {
            let status = match kind {
                0 => return self.open(slot, bytes),
                1..=4 => return self.submit(bytes),
                5 | 6 => return self.reward(bytes),
                7 => softdimo_job_wait(job, i64::from(bytes.byte())),
                8 => softdimo_job_cancel(job),
                9 => softdimo_job_poll(job, &mut state),
                10 => softdimo_job_report(job, text.as_mut_ptr(), 64, &mut needed),
                11 => {
                    let mut image = self.image(bytes);
                    softdimo_job_image(job, bytes.small(3), &mut image)
                }
                12 => softdimo_job_tokens(job, bytes.small(3), numbers.as_mut_ptr(), 128, &mut needed),
                13 => {
                    let image = self.image(bytes);
                    softdimo_encode(engine, &image, numbers.as_mut_ptr(), 128, &mut needed)
                }
                14 => softdimo_engine_trim(engine),
                _ => {
                    let mut memory: softdimo_memory = std::mem::zeroed();
                    memory.struct_size = size_of::<softdimo_memory>() as u32;
                    match bytes.byte() % 4 {
                        0 => softdimo_engine_memory(engine, &mut memory),
                        1 => softdimo_engine_info(engine, text.as_mut_ptr(), 64, &mut needed),
                        2 => softdimo_engine_warmup(engine, bytes.small(4)),
                        _ => {
                            softdimo_engine_free(engine);
                            self.engines[slot] = null_mut();
                            0
                        }
                    }
                }
            };
            checked("a call", status);
        }
    }

    fn free(self) {
        // SAFETY: handles or NULL, each freed once.
        unsafe {
            self.engines.into_iter().for_each(|engine| softdimo_engine_free(engine));
            self.jobs.into_iter().for_each(|job| softdimo_job_free(job));
            self.rewards.into_iter().for_each(|reward| softdimo_reward_free(reward));
        }
    }
}

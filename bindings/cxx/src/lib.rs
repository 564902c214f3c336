//! The library as C++ sees it through [cxx](https://cxx.rs), for programs that build it from source. There is
//! no stable ABI here: `bindings/cpp/softdimo.hpp` is for everybody else.
//!
//! Every function returns a `Result`, which C++ gets as an exception `rust::Error` whose text starts with the
//! status name of `softdimo.h`. A panic is caught inside and becomes `SOFTDIMO_ERR_INTERNAL`: cxx itself would
//! abort the process.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use softdimo::image::{ImageView, Origin, PixelFormat, RgbaImage, read_f32_chw};
use softdimo::{
    BINS, Error, Generated, Label, MemoryMode, Provider, RewardModel, RewardTerm, WeightsMode, histogram,
};

#[cxx::bridge(namespace = "softdimo::bridge")]
mod ffi {
    /// `SOFTDIMO_MEMORY_*`.
    #[repr(u32)]
    enum MemoryMode {
        Lean = 0,
        Fast = 1,
    }

    /// `SOFTDIMO_WEIGHTS_*`.
    #[repr(u32)]
    enum WeightsMode {
        Map = 0,
        Read = 1,
        MapGuarded = 2,
    }

    /// `SOFTDIMO_DECODE_*`.
    #[repr(u32)]
    enum Decode {
        Hard = 0,
        Soft = 1,
    }

    /// `SOFTDIMO_JOB_*`; the last three are final.
    #[repr(u32)]
    enum JobState {
        Queued = 0,
        Running = 1,
        Done = 2,
        Failed = 3,
        Cancelled = 4,
    }

    /// How to open an engine. Start from `default_options()`.
    struct Options {
        /// `cpu` or `cuda`.
        provider: String,
        device_id: i32,
        memory_mode: MemoryMode,
        weights_mode: WeightsMode,
        /// 0 = one per core, at most 8.
        threads: u32,
        /// 0 to 19.
        niceness: i32,
        /// Bytes beyond mapped pages; 0 = no limit.
        memory_limit: u64,
        /// Path of the ONNX Runtime library; empty: the environment variable SOFTDIMO_ORT_LIBRARY, then the
        /// folder of the program, then the system loader.
        ort_library: String,
    }

    /// What to generate. Start from `default_request()`. A float or `top_k` of -1 takes the model's default.
    struct Request {
        /// Class name for all pictures; empty when `class_labels` is used, or for no label.
        label: String,
        /// Class ids, one for all pictures or one each.
        class_labels: Vec<u32>,
        /// Prompt for all pictures: for text-to-image models, and for rewards that score against text; empty for
        /// none.
        prompt: String,
        /// With steps > 1: what guidance leads away from.
        negative_prompt: String,
        /// Text-to-image models: aesthetic score the picture should have.
        aesthetic_score: f32,
        /// Pictures, 1 to 256; picture b uses seed + b.
        batch: u32,
        seed: u64,
        /// 0: the model's own way; 1: one step; more: the multi-step teacher.
        steps: u32,
        decode: Decode,
        /// 0 = arg-max.
        temperature: f32,
        /// 0 = all.
        top_k: i32,
        top_p: f32,
        mask_ratio: f32,
        sigma: f32,
        guidance_scale: f32,
        randomize_temperature: f32,
        /// Start tokens [batch, positions, splits]; empty: seeded.
        start_tokens: Vec<u32>,
        /// Start from this picture, of the model's size; one without pixels: from nothing.
        edit_image: Image,
        /// Share of its tokens that stay, 0 to 1; -1 with edit_mask or without a picture.
        edit_keep: f32,
        /// Paint anew where this is above 0, [height, width]; empty: edit_keep says what stays.
        edit_mask: Vec<f32>,
        /// Start embedding [batch, positions, embedding]; empty: made from the start tokens.
        e_in: Vec<f32>,
        report_gap: bool,
    }

    /// A picture: RGBA, 8 bits a channel, sRGB, rows tightly packed from the top.
    struct Image {
        width: u32,
        height: u32,
        /// 4 * width * height bytes.
        pixels: Vec<u8>,
    }

    /// Sizes of a model.
    struct Layout {
        width: u32,
        height: u32,
        positions: u32,
        splits: u32,
        codes: u32,
        mask_token: u32,
        embedding: u32,
        classes: u32,
    }

    /// State and steps (network calls) of a job.
    struct Progress {
        state: JobState,
        step: u32,
        total: u32,
    }

    extern "Rust" {
        /// An opened model. Thread-safe.
        type Engine;
        /// The network of a reward file, or a built-in reward. Thread-safe.
        type Reward;
        /// What to maximise, and how. Not to be changed by two threads at once.
        type Optimization;
        /// A submitted request. Thread-safe; destroying it cancels and waits. Keeps its engine running.
        type Job;

        /// Version of the library.
        fn version() -> Result<String>;
        fn default_options() -> Result<Options>;
        fn default_request() -> Result<Request>;

        /// Open the model file at `path`.
        fn open(path: &str, options: &Options) -> Result<Box<Engine>>;

        /// Open the reward file at `path`. `class_label` is a classifier's class, by name or id; empty: what
        /// the request's label says.
        fn open_reward(path: &str, class_label: &str) -> Result<Box<Reward>>;
        /// A direction in colour space, over all pixels.
        fn color_reward(r: f32, g: f32, b: f32) -> Result<Box<Reward>>;
        /// The colours of a picture of any size, wherever they are.
        fn histogram_reward(palette: &Image) -> Result<Box<Reward>>;
        /// Stay what the label says, by the model's own teacher.
        fn prior_reward(seed: u64) -> Result<Box<Reward>>;
        /// JSON: name, whether it reads a prompt, and what an opened file says about itself.
        fn info(self: &Reward) -> Result<String>;
        /// An optimisation of nothing yet, `steps` updates long, with the paper's settings.
        fn new_optimization(steps: u32) -> Result<Box<Optimization>>;
        /// Add weight * reward to what is maximised.
        fn add(self: &mut Optimization, reward: &Reward, weight: f32) -> Result<()>;
        /// Learning rate, and the norm that gradients are scaled down to (0 = off).
        fn set_rate(self: &mut Optimization, lr: f32, clip: f32) -> Result<()>;
        /// A step takes less memory and more time; the result is the same.
        fn set_recompute(self: &mut Optimization, again: bool) -> Result<()>;

        /// JSON: model, architecture, sizes, defaults, provider, runtime.
        fn info(self: &Engine) -> Result<String>;
        fn layout(self: &Engine) -> Result<Layout>;
        /// Class names; the index is the class id.
        fn labels(self: &Engine) -> Result<Vec<String>>;
        /// Prepare all that a one-step job of `batch` pictures needs. Blocks.
        fn warmup(self: &Engine, batch: u32) -> Result<()>;
        /// Give back what can be prepared again.
        fn trim(self: &Engine) -> Result<()>;
        /// Generate and wait: `request.batch` pictures.
        fn generate(self: &Engine, request: &Request) -> Result<Vec<Image>>;
        /// Queue a request and return at once.
        fn submit(self: &Engine, request: &Request) -> Result<Box<Job>>;
        /// The same with test-time optimisation of the one-step picture.
        fn submit_optimizing(
            self: &Engine,
            request: &Request,
            optimization: &Optimization,
        ) -> Result<Box<Job>>;

        /// Wait for the end, at most `timeout_ms` milliseconds (negative: as long as it takes); false when that
        /// was not enough and the job goes on. Throws what the job failed with.
        fn wait(self: &Job, timeout_ms: i64) -> Result<bool>;
        /// Ask for the end; returns at once. Any thread, any number of times.
        fn cancel(self: &Job) -> Result<()>;
        fn progress(self: &Job) -> Result<Progress>;
        /// Picture `index` of a finished job.
        fn image(self: &Job, index: u32) -> Result<Image>;
        /// Tokens [positions, splits] of picture `index` of a finished job: the picture, bit for bit.
        fn tokens(self: &Job, index: u32) -> Result<Vec<u32>>;
        /// Largest softmax probability of each token [positions, splits] of picture `index`.
        fn max_probability(self: &Job, index: u32) -> Result<Vec<f32>>;
        /// Start embedding [positions, embedding] of picture `index` of a finished one-step job.
        fn embedding(self: &Job, index: u32) -> Result<Vec<f32>>;
        /// JSON about a finished job: all that is needed to make its pictures again.
        fn report(self: &Job) -> Result<String>;
    }
}

/// An error with its status name in front.
struct Failure(Error);

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.0.status().name().to_string_lossy(), self.0)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure(error)
    }
}

type Result<T> = std::result::Result<T, Failure>;

/// Run `body`; a panic becomes an error, since cxx would abort on it.
fn wall<T>(body: impl FnOnce() -> softdimo::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => Ok(result?),
        Err(payload) => {
            let text = payload.downcast_ref::<&str>().map(|s| (*s).to_string());
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
            Err(Failure(Error::Internal { message: text.unwrap_or_else(|| "panic".into()) }))
        }
    }
}

/// A value whose drop cannot panic into C++.
struct Quiet<T>(Option<T>);

impl<T> Quiet<T> {
    fn get(&self) -> softdimo::Result<&T> {
        self.0.as_ref().ok_or_else(|| Error::Internal { message: "used after its end".into() })
    }
}

impl<T> Drop for Quiet<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
    }
}

/// See `softdimo.h`: `softdimo_engine`.
pub struct Engine(Quiet<softdimo::Engine>);

/// See `softdimo.h`: `softdimo_job`.
pub struct Job(Quiet<softdimo::Job>);

/// See `softdimo.h`: `softdimo_reward`.
pub struct Reward(Quiet<Arc<softdimo::Reward>>);

/// See `softdimo.h`: the optimisation fields of `softdimo_request`.
pub struct Optimization(softdimo::Optimize);

fn version() -> Result<String> {
    wall(|| Ok(env!("CARGO_PKG_VERSION").into()))
}

fn default_options() -> Result<ffi::Options> {
    wall(|| {
        Ok(ffi::Options {
            provider: "cpu".into(),
            device_id: 0,
            memory_mode: ffi::MemoryMode::Lean,
            weights_mode: ffi::WeightsMode::Map,
            threads: 0,
            niceness: 0,
            memory_limit: 0,
            ort_library: String::new(),
        })
    })
}

fn default_request() -> Result<ffi::Request> {
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
        })
    })
}

fn open(path: &str, options: &ffi::Options) -> Result<Box<Engine>> {
    wall(|| {
        let engine = softdimo::Engine::open(Path::new(path), read_options(options)?)?;
        Ok(Box::new(Engine(Quiet(Some(engine)))))
    })
}

fn reward(make: impl FnOnce() -> softdimo::Result<softdimo::Reward>) -> Result<Box<Reward>> {
    wall(|| Ok(Box::new(Reward(Quiet(Some(Arc::new(make()?)))))))
}

fn open_reward(path: &str, class_label: &str) -> Result<Box<Reward>> {
    reward(|| {
        let model = Arc::new(RewardModel::open(path, WeightsMode::Map)?);
        let class = match class_label.parse() {
            Ok(id) => Label::Class(id),
            Err(_) => Label::Name(class_label.into()),
        };
        softdimo::Reward::network(model, (!class_label.is_empty()).then_some(&class))
    })
}

fn color_reward(r: f32, g: f32, b: f32) -> Result<Box<Reward>> {
    reward(|| Ok(softdimo::Reward::Color { rgb: [r, g, b], mask: None }))
}

fn histogram_reward(palette: &ffi::Image) -> Result<Box<Reward>> {
    reward(|| {
        let view = ImageView {
            width: palette.width,
            height: palette.height,
            stride: 0,
            format: PixelFormat::Rgba8,
            origin: Origin::TopLeft,
            data: &palette.pixels,
        };
        let histogram = histogram(&read_f32_chw(&view)?, BINS)?;
        Ok(softdimo::Reward::Histogram { histogram, mask: None })
    })
}

fn prior_reward(seed: u64) -> Result<Box<Reward>> {
    reward(|| Ok(softdimo::Reward::Prior { seed }))
}

fn new_optimization(steps: u32) -> Result<Box<Optimization>> {
    wall(|| Ok(Box::new(Optimization(softdimo::Optimize::new(Vec::new(), steps)))))
}

fn invalid(what: &str, expected: &str, found: impl ToString) -> Error {
    Error::InvalidArgument { what: what.into(), expected: expected.into(), found: found.to_string() }
}

fn read_options(o: &ffi::Options) -> softdimo::Result<softdimo::Options> {
    Ok(softdimo::Options {
        provider: Provider::parse(&o.provider)?,
        device_id: o.device_id,
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
        ort_library: (!o.ort_library.is_empty()).then(|| (&o.ort_library).into()),
    })
}

fn read_request(r: &ffi::Request) -> softdimo::Result<softdimo::Request> {
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

fn rgba8(done: &Generated, index: usize) -> softdimo::Result<ffi::Image> {
    let (width, height) = (done.report.width as u32, done.report.height as u32);
    let image = RgbaImage::from_f32_chw(done.picture(index)?, width, height)?;
    Ok(ffi::Image { width, height, pixels: image.into_data() })
}

impl Engine {
    fn info(&self) -> Result<String> {
        wall(|| Ok(self.0.get()?.info_json()))
    }

    fn layout(&self) -> Result<ffi::Layout> {
        wall(|| {
            let layout = self.0.get()?.layout();
            Ok(ffi::Layout {
                width: layout.width as u32,
                height: layout.height as u32,
                positions: layout.positions as u32,
                splits: layout.splits as u32,
                codes: layout.codes as u32,
                mask_token: layout.mask_token as u32,
                embedding: layout.embedding as u32,
                classes: layout.classes as u32,
            })
        })
    }

    fn labels(&self) -> Result<Vec<String>> {
        wall(|| Ok(self.0.get()?.labels().map(str::to_string).collect()))
    }

    fn warmup(&self, batch: u32) -> Result<()> {
        wall(|| self.0.get()?.warmup(batch as usize))
    }

    fn trim(&self) -> Result<()> {
        wall(|| self.0.get()?.trim())
    }

    fn generate(&self, request: &ffi::Request) -> Result<Vec<ffi::Image>> {
        wall(|| {
            let done = self.0.get()?.generate(&read_request(request)?)?;
            (0..done.report.batch).map(|i| rgba8(&done, i)).collect()
        })
    }

    fn submit(&self, request: &ffi::Request) -> Result<Box<Job>> {
        wall(|| {
            let job = self.0.get()?.submit(&read_request(request)?)?;
            Ok(Box::new(Job(Quiet(Some(job)))))
        })
    }

    fn submit_optimizing(&self, request: &ffi::Request, o: &Optimization) -> Result<Box<Job>> {
        wall(|| {
            let request = softdimo::Request { optimize: Some(o.0.clone()), ..read_request(request)? };
            let job = self.0.get()?.submit(&request)?;
            Ok(Box::new(Job(Quiet(Some(job)))))
        })
    }
}

impl Reward {
    fn info(&self) -> Result<String> {
        wall(|| Ok(self.0.get()?.info_json()))
    }
}

impl Optimization {
    fn add(&mut self, reward: &Reward, weight: f32) -> Result<()> {
        wall(|| {
            let reward = reward.0.get()?.clone();
            self.0.terms.push(RewardTerm { reward, weight });
            Ok(())
        })
    }

    fn set_rate(&mut self, lr: f32, clip: f32) -> Result<()> {
        wall(|| {
            (self.0.lr, self.0.clip) = (lr, clip);
            Ok(())
        })
    }

    fn set_recompute(&mut self, again: bool) -> Result<()> {
        wall(|| {
            self.0.recompute = again;
            Ok(())
        })
    }
}

impl Job {
    fn result(&self) -> softdimo::Result<Arc<Generated>> {
        self.0.get()?.result()
    }

    fn wait(&self, timeout_ms: i64) -> Result<bool> {
        wall(|| {
            let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
            match self.0.get()?.wait(timeout, |_| ControlFlow::Continue(())) {
                Ok(_) => Ok(true),
                Err(Error::Timeout { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        })
    }

    fn cancel(&self) -> Result<()> {
        wall(|| {
            self.0.get()?.cancel();
            Ok(())
        })
    }

    fn progress(&self) -> Result<ffi::Progress> {
        wall(|| {
            let job = self.0.get()?;
            let progress = job.progress();
            let state = ffi::JobState { repr: job.phase() as u32 };
            Ok(ffi::Progress { state, step: progress.step, total: progress.total })
        })
    }

    fn image(&self, index: u32) -> Result<ffi::Image> {
        wall(|| rgba8(&*self.result()?, index as usize))
    }

    fn tokens(&self, index: u32) -> Result<Vec<u32>> {
        wall(|| self.result()?.picture_tokens(index as usize))
    }

    fn max_probability(&self, index: u32) -> Result<Vec<f32>> {
        wall(|| Ok(self.result()?.picture_max_probability(index as usize)?.to_vec()))
    }

    fn embedding(&self, index: u32) -> Result<Vec<f32>> {
        wall(|| Ok(self.result()?.picture_e_in(index as usize)?.to_vec()))
    }

    fn report(&self) -> Result<String> {
        wall(|| Ok(self.result()?.report.json()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_become_errors() {
        let text = |r: Result<()>| r.unwrap_err().to_string();
        let internal = "SOFTDIMO_ERR_INTERNAL: internal error (please report it): ";
        assert_eq!(text(wall(|| panic!("a bug"))), format!("{internal}a bug"));
        assert_eq!(text(wall(|| panic!("bug {}", 7))), format!("{internal}bug 7"));
        assert_eq!(text(wall(|| std::panic::panic_any(7))), format!("{internal}panic"));
    }

    #[test]
    fn a_panic_in_drop_stays_inside() {
        struct Bad;
        impl Drop for Bad {
            fn drop(&mut self) {
                panic!("in drop");
            }
        }
        drop(Quiet(Some(Bad)));
    }
}

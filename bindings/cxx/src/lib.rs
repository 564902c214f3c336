//! The library as C++ sees it through [cxx](https://cxx.rs), for programs that build it from source. There is
//! no stable ABI here: `bindings/cpp/softdimo.hpp` is for everybody else.
//!
//! Every function returns a `Result`, which C++ gets as an exception `rust::Error` whose text starts with the
//! status name of `softdimo.h`. A panic is caught inside and becomes `SOFTDIMO_ERR_INTERNAL`: cxx itself would
//! abort the process.

mod request;
mod wall;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use softdimo::image::{ImageView, Origin, PixelFormat, RgbaImage, read_f32_chw};
use softdimo::{BINS, Error, Generated, Label, RewardModel, RewardTerm, WeightsMode, histogram};

use self::request::{default_options, default_request, read_options, read_request};
use self::wall::{Quiet, Result, wall};

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

    /// `SOFTDIMO_ARITHMETIC_*`.
    #[repr(u32)]
    enum Arithmetic {
        Auto = 0,
        F32 = 1,
    }

    /// `SOFTDIMO_DECODE_*`.
    #[repr(u32)]
    enum Decode {
        Hard = 0,
        Soft = 1,
    }

    /// `SOFTDIMO_JOB_*`; done, failed and cancelled are final.
    #[repr(u32)]
    enum JobState {
        Queued = 0,
        Running = 1,
        Done = 2,
        Failed = 3,
        Cancelled = 4,
        Waiting = 5,
    }

    /// How to open an engine. Start from `default_options()`.
    struct Options {
        /// `cpu`, `cuda` or `openvino`.
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
        /// Billions of multiply-adds that one network may take for a picture; 0 = 40000.
        work_limit: u32,
        /// Networks look every millisecond or so whether the engine is paused or has used up its share of the processor.
        yielding: bool,
        /// What weights that are laid out for int8 arithmetic are computed with.
        arithmetic: Arithmetic,
        /// What `tune` remembered of this model and machine is not read.
        untuned: bool,
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
        /// Jobs of higher priority go first.
        priority: i32,
        /// Jobs with the same key that have not begun are cancelled; 0 for none.
        queue_key: u64,
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
        fn set_recompute(self: &mut Optimization, recompute: bool) -> Result<()>;

        /// JSON: model, architecture, sizes, defaults, provider, runtime.
        fn info(self: &Engine) -> Result<String>;
        fn layout(self: &Engine) -> Result<Layout>;
        /// Class names; the index is the class id.
        fn labels(self: &Engine) -> Result<Vec<String>>;
        /// Prepare all that a one-step job of `batch` pictures needs. Blocks.
        fn warmup(self: &Engine, batch: u32) -> Result<()>;
        /// Measure which convolutions this machine computes faster in f32 than in int8, and remember it in the user's cache folder:
        /// see `softdimo_engine_tune`. Returns how many. Blocks, for seconds.
        fn tune(self: &Engine) -> Result<u64>;
        /// Give back what can be prepared again.
        fn trim(self: &Engine) -> Result<()>;
        /// Cancel every job that has not begun; how many there were.
        fn cancel_pending(self: &Engine) -> Result<u64>;
        /// Compute nothing until `resume`.
        fn pause(self: &Engine) -> Result<()>;
        /// Go on after `pause`.
        fn resume(self: &Engine) -> Result<()>;
        /// Compute for at most so many percent of the time of one core; 0 for no limit.
        fn set_cpu_share(self: &Engine, percent: u32) -> Result<()>;
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

fn open(path: &str, options: &ffi::Options) -> Result<Box<Engine>> {
    wall(|| {
        let engine = softdimo::Engine::open(Path::new(path), read_options(options)?)?;
        Ok(Box::new(Engine(Quiet::new(engine))))
    })
}

fn reward(make: impl FnOnce() -> softdimo::Result<softdimo::Reward>) -> Result<Box<Reward>> {
    wall(|| Ok(Box::new(Reward(Quiet::new(Arc::new(make()?))))))
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

    fn tune(&self) -> Result<u64> {
        wall(|| Ok(self.0.get()?.tune(|_| ControlFlow::Continue(()))?.in_f32.len() as u64))
    }

    fn cancel_pending(&self) -> Result<u64> {
        wall(|| Ok(self.0.get()?.cancel_pending()? as u64))
    }

    fn pause(&self) -> Result<()> {
        wall(|| self.0.get()?.pause())
    }

    fn resume(&self) -> Result<()> {
        wall(|| self.0.get()?.resume())
    }

    fn set_cpu_share(&self, percent: u32) -> Result<()> {
        wall(|| self.0.get()?.set_cpu_share(percent))
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
            Ok(Box::new(Job(Quiet::new(job))))
        })
    }

    fn submit_optimizing(&self, request: &ffi::Request, o: &Optimization) -> Result<Box<Job>> {
        wall(|| {
            let request = softdimo::Request { optimize: Some(o.0.clone()), ..read_request(request)? };
            let job = self.0.get()?.submit(&request)?;
            Ok(Box::new(Job(Quiet::new(job))))
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

    fn set_recompute(&mut self, recompute: bool) -> Result<()> {
        wall(|| {
            self.0.recompute = recompute;
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

//! Calibration: what the convolutions of a model read and write while it makes pictures, so that [`crate::convert`] can write a
//! file of which they are computed in int8; and which of them may be, so that pictures stay what they are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub use crate::convert::quantize::quantize_calibrated;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::graph::int8;
use crate::label::Label;
use crate::model_file::WeightsMode;
use crate::program::Program;
use crate::quant::Ranges;
use crate::request::Request;
use crate::runtime::{Arithmetic, MemoryMode, Options, Provider};
use crate::sessions::observe::{Observed, ProgramCall};
use crate::tensor::Tensor;

/// What models that read prompts are shown, in turn: subjects, styles and compositions apart from each other.
const PROMPTS: [&str; 8] = [
    "a photo of a red fox in the snow",
    "an oil painting of a city street at night in the rain",
    "a close-up of a green leaf with water drops",
    "a portrait of an old man with a white beard",
    "a bowl of fruit on a wooden table",
    "a pixel art castle under a blue sky",
    "a black and white drawing of a bird",
    "a wide view of mountains and a lake at sunset",
];

/// Values that were not seen may lie beyond those that were, by this factor.
const MARGIN: f32 = 1.1;

/// Pictures by which it is judged what int8 does to them.
const JUDGED: usize = 3;

/// What was seen of a model that computes in f32.
#[derive(Debug)]
pub struct Calibration {
    ranges: BTreeMap<String, Ranges>,
    /// Tokens that were decoded, and the pictures of them.
    decoded: Vec<ProgramCall>,
}

/// Have the generator in `model` make `pictures` pictures, each decoded from tokens and from their distribution and encoded again
/// where the model can. `options` says where it is computed; the arithmetic is f32. `progress` gets (pictures made, pictures
/// in all).
///
/// # Errors
/// Those of [`Engine::open`] and [`Engine::generate`].
pub fn calibrate(
    model: &Path,
    options: &Options,
    pictures: u32,
    mut progress: impl FnMut(usize, usize),
) -> Result<Calibration> {
    let kept = Observed::keeping(vec![Program::DecodeHard], JUDGED);
    let observed = observe(model, options, pictures, kept, &mut progress)?;
    let mut ranges = observed.ranges();
    ranges.values_mut().for_each(|ranges| ranges.widen(MARGIN));
    ranges.retain(|_, ranges| ranges.are_sound());
    Ok(Calibration { ranges, decoded: observed.calls })
}

/// What the programs of `model` do in f32 while they make so many pictures, and encode them where they can.
pub(crate) fn observe(
    model: &Path,
    options: &Options,
    pictures: u32,
    kept: Observed,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Observed> {
    let engine = open(model, options, Arithmetic::F32)?;
    let (layout, components) = (engine.layout(), engine.model().components());
    let has = |component| components.contains(&component);
    engine.observe(Some(kept))?;
    for i in 0..pictures as usize {
        let mut request = Request::default().with_seed(i as u64);
        request.report_gap = has("student");
        match layout.classes {
            0 => request.prompts = vec![PROMPTS[i % PROMPTS.len()].into()],
            // Spread over the classes.
            n => request.labels = vec![Label::Class((i * n / pictures as usize) as u32)],
        }
        let made = engine.generate(&request)?;
        if has("encoder") {
            engine.encode(made.images.f32s()?)?;
        }
        progress(i + 1, pictures as usize);
    }
    engine.observe(None)
}

pub(crate) fn open(model: &Path, options: &Options, arithmetic: Arithmetic) -> Result<Engine> {
    let (memory, weights) = (MemoryMode::Lean, WeightsMode::Map);
    // What is judged is the file, not how this machine is best at it.
    Engine::open(model, Options { arithmetic, memory, weights, untuned: true, ..options.clone() })
}

impl Calibration {
    /// What every convolution reads and writes, by the names of their kernels.
    pub fn ranges(&self) -> &BTreeMap<String, Ranges> {
        &self.ranges
    }

    /// Those convolutions that may be computed in int8 so that every picture that was judged is as near to that of f32 as `psnr` dB,
    /// for the same tokens, on a processor like this one; `model` is a file with all of [`Calibration::ranges`]. As many of the
    /// multiplications as can be: by what a convolution adds to the error, against what it computes. What no picture of tokens
    /// shows, such as the encoder, cannot be judged, and stays in f32; with a `psnr` of 0 all are chosen. `progress` gets
    /// (convolutions looked at, all of them).
    ///
    /// # Errors
    /// Those of [`Engine::open`] and of running the model.
    pub fn near(
        &self,
        psnr: f64,
        model: &Path,
        options: &Options,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Near> {
        let options = Options { provider: Provider::Cpu, ..options.clone() };
        let judge = Judge { engine: open(model, &options, Arithmetic::Auto)?, decoded: &self.decoded };
        let db = |error: f64| (-10.0 * error.log10()).min(MOST_DB);
        if psnr == 0.0 {
            let error = judge.error(BTreeSet::new(), judge.decoded)?;
            return Ok(Near { ranges: self.ranges.clone(), psnr: db(error) });
        }
        let most = 10f64.powf(-psnr / 10.0);
        let work = judge.work()?;
        let all: BTreeSet<String> = work.keys().cloned().collect();
        let of = |chosen: &[&String]| -> BTreeMap<String, Ranges> {
            let range = |kernels: &&String| Some(((*kernels).clone(), self.ranges.get(*kernels)?.clone()));
            chosen.iter().filter_map(range).collect()
        };
        let whole = judge.error(BTreeSet::new(), judge.decoded)?;
        if whole <= most {
            return Ok(Near { ranges: of(&all.iter().collect::<Vec<_>>()), psnr: db(whole) });
        }
        // Errors of convolutions add up: they hardly know of each other.
        let one = &judge.decoded[..1.min(judge.decoded.len())];
        let weights = judge.error(all.clone(), one)?;
        let mut costs = Vec::new();
        for (i, (kernels, multiplied)) in work.iter().enumerate() {
            let others = all.iter().filter(|other| *other != kernels).cloned().collect();
            let added = (judge.error(others, one)? - weights).max(0.0);
            costs.push((added / *multiplied as f64, added, kernels));
            progress(i + 1, work.len());
        }
        costs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut sum = weights;
        let near = costs.iter().take_while(|(_, added, _)| {
            sum += added;
            sum <= most
        });
        let mut chosen: Vec<&String> = near.map(|(_, _, kernels)| *kernels).collect();
        loop {
            let floats = all.iter().filter(|kernels| !chosen.contains(kernels)).cloned().collect();
            let error = judge.error(floats, judge.decoded)?;
            if error <= most || chosen.pop().is_none() {
                return Ok(Near { ranges: of(&chosen), psnr: db(error) });
            }
        }
    }
}

/// What is said of pictures that are the same.
pub(crate) const MOST_DB: f64 = 200.0;

/// Convolutions that may be computed in int8.
#[derive(Clone, Debug)]
pub struct Near {
    /// What they read and write, by the names of their kernels.
    pub ranges: BTreeMap<String, Ranges>,
    /// How near the picture is that is least near to its like in f32, in dB: less than was asked for where rounding the weights
    /// alone leaves less.
    pub psnr: f64,
}

/// An engine that computes in int8, and pictures of f32 to compare with.
struct Judge<'a> {
    engine: Engine,
    decoded: &'a [ProgramCall],
}

impl Judge<'_> {
    /// Largest mean square difference of the pictures of `calls`, with the convolutions of these kernels in f32.
    fn error(&self, in_floats: BTreeSet<String>, calls: &[ProgramCall]) -> Result<f64> {
        self.engine.compute_in_floats(in_floats)?;
        let mut worst = 0.0_f64;
        for call in calls {
            let found = self.engine.replay(call)?;
            worst = worst.max(mean_square(first(&call.results)?, first(&found)?));
        }
        Ok(worst)
    }

    /// Multiply-adds of the decoder's convolutions by the names of their kernels.
    fn work(&self) -> Result<BTreeMap<String, u64>> {
        let (model, mut work) = (self.engine.model(), BTreeMap::new());
        let graph = Program::DecodeHard.graph(model.architecture(), &model.weights(), 1)?;
        for (kernels, [_, writes]) in int8::convolutions(&graph) {
            let view = model.checkpoint().get(&kernels);
            let row = view.map_or(1, |view| view.shape[1..].iter().product::<usize>());
            *work.entry(kernels).or_default() += (graph.shape(writes).len() * row) as u64;
        }
        Ok(work)
    }
}

/// The first result of a program.
pub(crate) fn first(results: &[(String, Tensor)]) -> Result<&[f32]> {
    let (_, value) = results.first().ok_or_else(|| Error::internal("a program without a result"))?;
    value.f32s()
}

/// Mean square difference of two pictures of values within [0, 1].
pub(crate) fn mean_square(a: &[f32], b: &[f32]) -> f64 {
    let square = |(a, b): (&f32, &f32)| f64::from(a.clamp(0.0, 1.0) - b.clamp(0.0, 1.0)).powi(2);
    let mean = a.iter().zip(b).map(square).sum::<f64>() / a.len().max(1) as f64;
    // What is not a number is as far as can be.
    if mean.is_finite() && a.len() == b.len() { mean } else { f64::INFINITY }
}

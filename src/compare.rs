//! Comparison: what another form of a model, such as int8, does to its pictures, tokens and gradients.

use std::path::Path;

use crate::calibrate::{MOST_DB, first, mean_square, observe, open};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::families::condition::Condition;
use crate::families::family::Layout;
use crate::graph::{Graph, grad_recomputing, simplify};
use crate::model::{Limits, Model};
use crate::model_file::WeightsMode;
use crate::program::Program;
use crate::rng::{Philox, Stream};
use crate::runtime::{Arithmetic, Options};
use crate::sessions::observe::{Observed, ProgramCall};
use crate::tensor::{Dtype, Tensor};

/// What is compared.
#[derive(Clone, Copy, Debug)]
pub struct CompareOptions {
    /// Pictures to make, 1 or more.
    pub pictures: u32,
    /// Whether gradients are compared as well: of one-step models. Takes the time of preparing and of some steps of an optimisation for
    /// each picture and model, and the memory of one with `recompute`.
    pub gradients: bool,
}

/// What another form of a model does to its pictures.
#[derive(Clone, Debug, Default, serde::Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// 10·log₁₀(1/mean square difference) of each picture's channels in [0, 1], for the same tokens, in dB.
    pub psnr: Vec<f64>,
    /// Share of the slots whose most probable token is the same, for the same start; of one-step models.
    pub tokens: Option<f64>,
    /// Mean over slots of KL(p‖q), p of the model and q of the other one, in nats; of one-step models.
    pub divergence: Option<f64>,
    /// Where they were asked for.
    pub gradients: Option<Gradients>,
}

/// Cosines, one for each picture, of the angle between the gradients of a reward by the start embedding, the model's in f32 and the
/// other one's, through the soft picture x [channels, H, W]: what test-time embedding optimisation climbs.
#[derive(Clone, Debug, Default, serde::Serialize)]
#[non_exhaustive]
pub struct Gradients {
    /// Of −Σ (x − ½)²: a picture nearer to grey.
    pub grey: Vec<f64>,
    /// Of Σ x·n, n standard normal: what no picture has, so that nothing averages out.
    pub noise: Vec<f64>,
}

/// Have the generator in `model` make pictures in f32, and `other`, the same model in another form, see the same embeddings and
/// tokens, in the arithmetic of `options`. `progress` gets (pictures made or compared, pictures in all).
///
/// # Errors
/// Those of [`Engine::open`] and [`Engine::generate`]; [`Error::InvalidArgument`] for models of other sizes, and for gradients of a
/// model, or another one, without a student and a decoder; of programs that `other` does not have.
pub fn compare(
    model: &Path,
    other: &Path,
    options: &Options,
    asked: CompareOptions,
    mut progress: impl FnMut(usize, usize),
) -> Result<Comparison> {
    let kept = Observed::keeping(vec![Program::DecodeHard, Program::Student], usize::MAX);
    let engine = open(other, options, options.arithmetic)?;
    // Before the pictures, not after them.
    let first = Model::open(model, WeightsMode::Map, Limits::default())?;
    require_same_sizes(&first.architecture().layout(), &engine.layout())?;
    if asked.gradients {
        require_one_step(&first)?;
        require_one_step(engine.model())?;
    }
    drop(first);
    let pictures = asked.pictures as usize;
    let total = pictures * (1 + usize::from(asked.gradients));
    let observed = observe(model, options, asked.pictures, kept, &mut |done, _| progress(done, total))?;
    let mut found = forward(&engine, &observed.calls)?;
    if asked.gradients {
        let slopes = Slopes { engines: [&open(model, options, Arithmetic::F32)?, &engine] };
        found.gradients = Some(slopes.compare(&observed.calls, |done| progress(pictures + done, total))?);
    }
    Ok(found)
}

/// What one model was shown another one of the same sizes can be shown.
fn require_same_sizes(expected: &Layout, found: &Layout) -> Result<()> {
    let words = |l: &Layout| {
        format!("{}x{} pictures of {}x{} tokens of {}", l.width, l.height, l.positions, l.splits, l.codes)
    };
    match expected == found {
        true => Ok(()),
        false => Err(Error::invalid("the other model", words(expected), words(found))),
    }
}

fn require_one_step(model: &Model) -> Result<()> {
    let (expected, found) = (["student", "decoder"], model.components());
    match expected.iter().all(|component| found.contains(component)) {
        true => Ok(()),
        false => Err(Error::invalid("gradients", "a model with a student and a decoder", found.join(", "))),
    }
}

/// What `engine` makes of what was given to programs of the model, against what these gave.
fn forward(engine: &Engine, calls: &[ProgramCall]) -> Result<Comparison> {
    let codes = engine.layout().codes;
    let (mut found, mut slots, mut same, mut divergence) = (Comparison::default(), 0_u32, 0_u32, 0.0);
    for call in calls {
        let results = engine.replay(call)?;
        let (expected, results) = (first(&call.results)?, first(&results)?);
        if call.program == Program::DecodeHard {
            found.psnr.push((-10.0 * mean_square(expected, results).log10()).min(MOST_DB));
            continue;
        }
        for (p, q) in expected.chunks_exact(codes).zip(results.chunks_exact(codes)) {
            slots += 1;
            same += u32::from(largest(p) == largest(q));
            let (p, q) = (log_softmax(p), log_softmax(q));
            divergence += p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
        }
    }
    if slots > 0 {
        found.tokens = Some(f64::from(same) / f64::from(slots));
        found.divergence = Some(divergence / f64::from(slots));
    }
    Ok(found)
}

/// The index of the largest logit, the first of several.
fn largest(logits: &[f32]) -> usize {
    (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best })
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shifted: Vec<f64> = logits.iter().map(|z| f64::from(z - most)).collect();
    let sum = shifted.iter().map(|z| z.exp()).sum::<f64>().ln();
    shifted.into_iter().map(|z| z - sum).collect()
}

/// The model's engine, in f32, and the other one's.
struct Slopes<'a> {
    engines: [&'a Engine; 2],
}

impl Slopes<'_> {
    fn compare(&self, calls: &[ProgramCall], mut progress: impl FnMut(usize)) -> Result<Gradients> {
        let mut found = Gradients::default();
        for (i, pair) in calls.chunks_exact(2).enumerate() {
            let inputs = self.inputs(pair, i as u32)?;
            let [expected, others] = self.engines.map(|engine| {
                let graph = gradients(engine.model(), pair[0].batch)?;
                engine.run_graph(graph, inputs.clone())
            });
            for ((name, expected), (_, other)) in expected?.iter().zip(&others?) {
                let cosines = if name == GREY { &mut found.grey } else { &mut found.noise };
                cosines.push(cosine(expected.f32s()?, other.f32s()?));
            }
            progress(i + 1);
        }
        Ok(found)
    }

    /// Those of the student, of the decoder what it reads beside tokens, and `n` [B, channels, H, W].
    fn inputs(&self, pair: &[ProgramCall], step: u32) -> Result<Vec<(String, Tensor)>> {
        let [student, decode] = pair else { return Err(Error::internal("a call without its like")) };
        if (student.program, decode.program) != (Program::Student, Program::DecodeHard) {
            return Err(Error::internal("calls in another order"));
        }
        let guidance = decode.inputs.iter().filter(|(name, _)| name == Condition::GUIDANCE);
        let mut inputs: Vec<_> = student.inputs.iter().chain(guidance).cloned().collect();
        let l = self.engines[0].layout();
        let shape = [student.batch, l.channels, l.height, l.width];
        let random = Philox::new(0);
        let noise = (0..shape.iter().product::<usize>() as u64)
            .map(|k| random.gaussian_at(Stream::Perturbation, step, k))
            .collect();
        inputs.push((DIRECTION.into(), Tensor::from_f32_vec(shape, noise)));
        Ok(inputs)
    }
}

const GREY: &str = "grey";
const NOISE: &str = "noise";
const DIRECTION: &str = "n";

/// `grey` and `noise`, both like `e_in` [B, N, D]: gradients of the rewards of [`Gradients`].
fn gradients(model: &Model, batch: usize) -> Result<Graph> {
    let (a, w, g) = (model.architecture(), model.weights(), Graph::new());
    let (l, conditions) = (a.layout(), a.condition_layout());
    let e_in = g.input("e_in", Dtype::F32, [batch, l.positions, l.embedding])?;
    let condition = Condition::inputs(&g, &conditions, batch)?;
    let guidance = Condition::guidance_input(&g, &conditions, batch)?;
    let p = g.softmax(a.logits(&g, &w.at("student"), e_in, &condition)?, 3)?;
    let x = a.decode(&g, &w, a.soft_embedding(&g, &w, p)?, guidance)?;
    let off = g.add_scalar(x, -0.5)?;
    let rewards = [
        (GREY, g.neg(g.mul(off, off)?)?),
        (NOISE, g.mul(x, g.input(DIRECTION, Dtype::F32, [batch, l.channels, l.height, l.width])?)?),
    ];
    for (name, reward) in rewards {
        g.output(name, grad_recomputing(&g, reward, &[e_in])?[0]);
    }
    simplify(&g)
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    // Of no direction, or of what is not a number.
    if lengths > 0.0 && lengths.is_finite() { dot(a, b) / lengths } else { 0.0 }
}

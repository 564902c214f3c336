//! Rewards: what test-time optimisation climbs. A reward is a differentiable function of the soft picture, of
//! the token distribution, or of the embeddings, written as graph nodes; a network in a file of its own; or
//! the host's own callback.

mod histogram;
mod model;
mod network;
mod prompt;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

pub use histogram::{BINS, histogram};
pub use model::{COMPONENT, RewardConfig, RewardModel, VOCABULARY};
pub use network::Network;
pub use prompt::{TokenizerConfig, Tokens};

use crate::engine::{Cancel, Sessions};
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::model::Model;
use crate::models::Condition;
use crate::nn;
use crate::request::Label;
use crate::rng::{Philox, Stream};
use crate::tensor::{Dtype, Tensor};
use crate::weights::Weights;

/// A reward with its weight in the sum that is maximised.
#[derive(Clone, Debug)]
pub struct RewardTerm {
    pub reward: Arc<Reward>,
    pub weight: f32,
}

impl PartialEq for RewardTerm {
    fn eq(&self, other: &RewardTerm) -> bool {
        Arc::ptr_eq(&self.reward, &other.reward) && self.weight == other.weight
    }
}

impl RewardTerm {
    pub fn new(reward: Reward, weight: f32) -> RewardTerm {
        RewardTerm { reward: Arc::new(reward), weight }
    }
}

/// What a callback is shown.
#[derive(Debug)]
pub struct RewardImage<'a> {
    /// Soft pictures [B, 3, H, W], nominally in [0, 1], not clamped.
    pub pixels: &'a [f32],
    pub batch: usize,
    pub width: usize,
    pub height: usize,
}

/// What a callback answers.
#[derive(Debug)]
pub struct RewardAnswer<'a> {
    /// One score per picture, [B].
    pub scores: &'a mut [f32],
    /// ∂score_b/∂pixels_b, [B, 3, H, W].
    pub gradient: &'a mut [f32],
}

type Callback = dyn FnMut(&RewardImage, &mut RewardAnswer) -> ControlFlow<()> + Send;

/// A differentiable reward, one score per picture, maximised.
pub enum Reward {
    /// −mean of (x − target)² over the mask: 0 when the picture is the target there.
    Target { target: Vec<f32>, mask: Option<Vec<f32>> },
    /// Mean over the mask of Σ_c rgb_c·x_c: a direction in colour space, e.g. (−1, −1, 1) for bluer.
    Color { rgb: [f32; 3], mask: Option<Vec<f32>> },
    /// How far the colours of the picture, or of a region, are from those of a histogram [3, bins]; see
    /// [`histogram()`]. 0 when they agree, at least −1. Values outside [0, 1] count as the nearest inside, where
    /// they have no slope.
    Histogram { histogram: Vec<f32>, mask: Option<Vec<f32>> },
    /// Does the teacher still believe the label? Mean over tokens of Σ_v p_v·ln q_v, where p is the student's
    /// distribution and q the teacher's prediction of that token from the others: two complementary seeded
    /// masks hide half of the soft tokens each. In nats per token, at most 0.
    Prior { seed: u64 },
    /// −mean of (e − e_start)²: stay near the start embedding.
    Closeness,
    /// A network in a file of its own.
    Network(Network),
    /// The host's own function; runs only on the thread that waits for the job.
    Callback(Mutex<Box<Callback>>),
}

impl std::fmt::Debug for Reward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The graph values a reward may read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene {
    /// Soft pictures [B, 3, H, W].
    pub image: Value,
    /// Token distribution [B, N, splits, V].
    pub p: Value,
    /// The condition as the request has it, before anything moves.
    pub start: Condition,
    /// Class ids [B], of models that know classes.
    pub class: Option<Value>,
    /// Current and start embedding [B, N, D].
    pub e: Value,
    pub e_start: Value,
}

impl Reward {
    /// A callback reward.
    pub fn callback(
        f: impl FnMut(&RewardImage, &mut RewardAnswer) -> ControlFlow<()> + Send + 'static,
    ) -> Reward {
        Reward::Callback(Mutex::new(Box::new(f)))
    }

    /// The network of a reward file; see [`Network::new`] for the class.
    pub fn network(model: Arc<RewardModel>, class: Option<&Label>) -> Result<Reward> {
        Network::new(model, class).map(Reward::Network)
    }

    /// Name in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Reward::Target { .. } => "target",
            Reward::Color { .. } => "color",
            Reward::Histogram { .. } => "histogram",
            Reward::Network(network) => network.model().architecture().family(),
            Reward::Prior { .. } => "prior",
            Reward::Closeness => "closeness",
            Reward::Callback(_) => "callback",
        }
    }

    /// Whether the host computes it.
    pub fn is_callback(&self) -> bool {
        matches!(self, Reward::Callback(_))
    }

    /// Whether its score depends on the request's prompt.
    pub fn reads_prompt(&self) -> bool {
        self.file().is_some_and(|file| file.architecture().reads_prompt())
    }

    /// Name, whether it reads a prompt, and what an opened file says about itself, as one JSON object.
    pub fn info_json(&self) -> String {
        let (class, file) = match self {
            Reward::Network(network) => (network.class(), Some(network.model().info())),
            Reward::Target { .. }
            | Reward::Color { .. }
            | Reward::Histogram { .. }
            | Reward::Prior { .. }
            | Reward::Closeness
            | Reward::Callback(_) => (None, None),
        };
        let reads_prompt = self.reads_prompt();
        serde_json::json!({ "name": self.name(), "reads_prompt": reads_prompt, "class": class, "file": file })
            .to_string()
    }

    /// The file its network lies in.
    pub fn file(&self) -> Option<&Arc<RewardModel>> {
        match self {
            Reward::Network(network) => Some(network.model()),
            Reward::Target { .. }
            | Reward::Color { .. }
            | Reward::Histogram { .. }
            | Reward::Prior { .. }
            | Reward::Closeness
            | Reward::Callback(_) => None,
        }
    }

    /// Refuse pictures of these class ids of `model` that a classifier has no class for.
    pub(crate) fn validate_classes(&self, model: &Model, ids: &[i64]) -> Result<()> {
        match self {
            Reward::Network(network) => network.classes(model, ids).map(drop),
            Reward::Target { .. }
            | Reward::Color { .. }
            | Reward::Histogram { .. }
            | Reward::Prior { .. }
            | Reward::Closeness
            | Reward::Callback(_) => Ok(()),
        }
    }

    /// Refuse a reward that does not fit the model.
    pub(crate) fn validate(&self, model: &Model) -> Result<()> {
        let layout = model.architecture().layout();
        let pixels = layout.width * layout.height;
        let sized = |what: &str, data: &[f32], expected: usize| match data.iter().position(|v| !v.is_finite())
        {
            _ if data.len() != expected => Err(Error::invalid(
                what,
                format!("{expected} floats for {}x{}", layout.width, layout.height),
                data.len(),
            )),
            Some(at) => Err(Error::invalid(what, "finite floats", format!("{} at index {at}", data[at]))),
            None => Ok(()),
        };
        let masked = |mask: &Option<Vec<f32>>| match mask {
            None => Ok(()),
            Some(mask) => {
                sized("reward mask", mask, pixels)?;
                let sum = mask.iter().sum::<f32>();
                if mask.iter().any(|&m| m < 0.0) || sum <= 0.0 || sum.is_infinite() {
                    let expected = "weights of 0 or more with a finite sum above 0";
                    return Err(Error::invalid("reward mask", expected, format!("a sum of {sum}")));
                }
                Ok(())
            }
        };
        match self {
            Reward::Target { target, mask } => {
                sized("reward target", target, 3 * pixels)?;
                masked(mask)
            }
            Reward::Color { rgb, mask } => {
                if rgb.iter().any(|v| !v.is_finite()) {
                    return Err(Error::invalid("reward color", "finite floats", format!("{rgb:?}")));
                }
                masked(mask)
            }
            Reward::Histogram { histogram, mask } => {
                histogram::validate(histogram)?;
                masked(mask)
            }
            Reward::Network(network) => network.model().recheck(),
            Reward::Prior { .. } if !model.has_component("teacher") => Err(Error::Unsupported {
                what: "the prior reward on this model".into(),
                reason: format!("it needs a teacher; the file holds only: {}", model.components().join(", ")),
            }),
            Reward::Prior { .. } | Reward::Closeness | Reward::Callback(_) => Ok(()),
        }
    }

    /// Append the score [B] to the graph. Tensors the reward brings become inputs named `r<k>.*`.
    pub(crate) fn build(&self, g: &Graph, model: &Model, k: usize, s: &Scene) -> Result<Option<Value>> {
        let layout = model.architecture().layout();
        let (h, w) = (layout.height, layout.width);
        let batch = g.shape(s.image)[0];
        let name = |part: &str| format!("r{k}.{part}");
        Ok(Some(match self {
            Reward::Target { .. } => {
                let target = g.input(&name("target"), Dtype::F32, [1, 3, h, w])?;
                let weights = g.input(&name("weights"), Dtype::F32, [1, 1, h, w])?;
                let d = g.sub(s.image, target)?;
                let square = g.mul(g.mul(d, d)?, weights)?;
                g.mul_scalar(nn::sum_per_picture(g, square, batch)?, -1.0 / 3.0)?
            }
            Reward::Color { .. } => {
                let rgb = g.input(&name("rgb"), Dtype::F32, [1, 3, 1, 1])?;
                let weights = g.input(&name("weights"), Dtype::F32, [1, 1, h, w])?;
                nn::sum_per_picture(g, g.mul(g.mul(s.image, rgb)?, weights)?, batch)?
            }
            Reward::Histogram { histogram, .. } => {
                let steps = histogram.len() / 3 - 1;
                let weights = g.input(&name("weights"), Dtype::F32, [h * w, 1])?;
                let target = g.input(&name("running_sums"), Dtype::F32, [1, 3, steps, 1])?;
                histogram::build(g, s.image, weights, target)?
            }
            Reward::Network(network) => network.build(g, s.image, name)?,
            Reward::Prior { .. } => prior(g, model, &name("keep"), s)?,
            Reward::Closeness => {
                let d = g.sub(s.e, s.e_start)?;
                let n = (layout.positions * layout.embedding) as f32;
                g.mul_scalar(nn::sum_per_picture(g, g.mul(d, d)?, batch)?, -1.0 / n)?
            }
            Reward::Callback(_) => return Ok(None),
        }))
    }

    /// The tensors for the inputs that [`Reward::build`] declared. `prompts` are one a picture where a reward
    /// reads them, `classes` the pictures' class ids [B].
    pub(crate) fn feeds(
        &self,
        sessions: &mut Sessions,
        k: usize,
        prompts: &[String],
        classes: &Tensor,
        cancel: &Cancel,
    ) -> Result<Vec<(String, Tensor)>> {
        let layout = sessions.model().architecture().layout();
        let (h, w) = (layout.height, layout.width);
        let name = |part: &str| format!("r{k}.{part}");
        // Normalised so that the weighted sum over pixels is a mean over the mask.
        let weights = |mask: &Option<Vec<f32>>, shape: &[usize]| {
            let mask = mask.clone().unwrap_or_else(|| vec![1.0; h * w]);
            let sum: f32 = mask.iter().sum();
            let weights: Vec<f32> = mask.iter().map(|m| m / sum).collect();
            (name("weights"), Tensor::from_f32(shape, &weights))
        };
        let map = [1, 1, h, w];
        Ok(match self {
            Reward::Target { target, mask } => {
                vec![(name("target"), Tensor::from_f32([1, 3, h, w], target)), weights(mask, &map)]
            }
            Reward::Color { rgb, mask } => {
                vec![(name("rgb"), Tensor::from_f32([1, 3, 1, 1], rgb)), weights(mask, &map)]
            }
            Reward::Histogram { histogram, mask } => {
                let sums = histogram::running_sums(histogram);
                vec![(name("running_sums"), sums), weights(mask, &[h * w, 1])]
            }
            Reward::Network(network) => {
                let feeds = network.feeds(sessions, prompts, &classes.to_i64(), cancel)?;
                feeds.into_iter().map(|(part, tensor)| (name(part), tensor)).collect()
            }
            Reward::Prior { seed } => {
                let rng = Philox::new(*seed);
                // Sort slots by a random key; the first half is hidden from the first half of the batch.
                let mut order: Vec<usize> = (0..layout.slots()).collect();
                order.sort_by_key(|&s| (rng.u32_at(Stream::StartMask, 0, s as u64), s));
                let mut keep = vec![1f32; layout.slots()];
                order[..layout.slots() / 2].iter().for_each(|&s| keep[s] = 0.0);
                vec![(name("keep"), Tensor::from_f32([1, layout.positions, layout.splits, 1], &keep))]
            }
            Reward::Closeness | Reward::Callback(_) => Vec::new(),
        })
    }
}

/// The teacher's own view of the request's condition: a class goes through its class embedding, a prompt's
/// features are the same for both generators.
fn teacher_condition(g: &Graph, model: &Model, w: &Weights, s: &Scene) -> Result<Condition> {
    match s.class {
        Some(class) => Ok(Condition::class(model.architecture().embed_class(g, w, class)?)),
        None => Ok(s.start),
    }
}

/// See [`Reward::Prior`].
fn prior(g: &Graph, model: &Model, keep: &str, s: &Scene) -> Result<Value> {
    let (a, w) = (model.architecture(), model.weights().at("teacher"));
    let l = a.layout();
    let batch = g.shape(s.p)[0];
    let keep = g.input(keep, Dtype::F32, [1, l.positions, l.splits, 1])?;
    let hidden = g.sub(g.scalar(1.0)?, keep)?;
    // Pictures twice: once with each half of the tokens hidden.
    let embeddings = [keep, hidden]
        .map(|shown| a.embed_soft(g, &w, s.p, shown))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let e = g.concat(&embeddings, 0)?; // [2B, N, D]
    let condition = teacher_condition(g, model, &w, s)?.repeat(g, 2)?;
    let z = a.logits(g, &w, e, &condition)?; // [2B, N, splits, V]
    let q = g.log_softmax(z, 3)?;
    let half = |i: usize, scored: Value| {
        let q = g.slice(q, 0, i * batch, (i + 1) * batch)?;
        g.mul(g.mul(s.p, q)?, scored)
    };
    let sum = g.add(half(0, hidden)?, half(1, keep)?)?; // every token is scored where it was hidden
    g.mul_scalar(nn::sum_per_picture(g, sum, batch)?, 1.0 / l.slots() as f32)
}

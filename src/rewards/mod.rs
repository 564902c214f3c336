//! Rewards: what test-time optimisation climbs. A reward is a differentiable function of the soft picture, of
//! the token distribution, or of the embeddings, written as graph nodes; a network in a file of its own; or
//! the host's own callback.

pub mod aesthetic;
pub mod architecture;
pub mod callback;
pub mod classifier;
pub mod clip;
pub(crate) mod composite;
mod histogram;
pub mod image_reward;
pub(crate) mod inputs;
mod mark;
pub mod model;
mod network;
pub mod preprocess;
mod prior;
mod prompt;
pub mod scorer;
pub mod source;

use std::ops::ControlFlow;
use std::sync::Arc;

use self::callback::Callback;
use self::inputs::RewardInputs;
pub use histogram::{BINS, histogram};
pub use model::{RewardConfig, RewardModel};
pub use network::Network;
pub use prompt::{TokenizerConfig, Tokens};

use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::label::Label;
use crate::model::Model;
use crate::nn;
use crate::runtime::Cancel;
use crate::sessions::Sessions;
use crate::shortage;
use crate::tensor::{Dtype, Tensor};

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
#[non_exhaustive]
pub struct RewardImage<'a> {
    /// Soft pictures [B, 3, H, W], nominally in [0, 1], not clamped; those with alpha over the model's background.
    pub pixels: &'a [f32],
    pub batch: usize,
    pub width: usize,
    pub height: usize,
}

/// What a callback answers.
#[derive(Debug)]
#[non_exhaustive]
pub struct RewardAnswer<'a> {
    /// One score per picture, \[B\].
    pub scores: &'a mut [f32],
    /// ∂score_b/∂pixels_b, [B, 3, H, W].
    pub gradient: &'a mut [f32],
}

/// A differentiable reward, one score per picture, maximised.
#[non_exhaustive]
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
    /// A network in a file of its own: [`Reward::network`].
    #[doc(hidden)]
    Network(Network),
    /// The host's own function, which runs only on the thread that waits for the job: [`Reward::callback`].
    #[doc(hidden)]
    Callback(Callback),
}

impl std::fmt::Debug for Reward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Reward {
    /// A callback reward.
    pub fn callback(
        f: impl FnMut(&RewardImage, &mut RewardAnswer) -> ControlFlow<()> + Send + 'static,
    ) -> Reward {
        Reward::Callback(Callback::new(f))
    }

    /// The network of a reward file. `class` is a classifier's, for all pictures; without one a picture should show
    /// what its label says: the class of the same name where both files name their classes, else of the same id where
    /// both have as many.
    ///
    /// # Errors
    /// [`Error::UnknownLabel`] or [`Error::InvalidArgument`] for a class that the file does not have,
    /// [`Error::Unsupported`] for a class of a reward that reads none.
    pub fn network(model: Arc<RewardModel>, class: Option<&Label>) -> Result<Reward> {
        Network::new(model, class).map(Reward::Network)
    }

    /// Name in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Reward::Target { .. } => "target",
            Reward::Color { .. } => "color",
            Reward::Histogram { .. } => "histogram",
            Reward::Network(network) => network.model().architecture().name(),
            Reward::Prior { .. } => "prior",
            Reward::Closeness => "closeness",
            Reward::Callback(_) => "callback",
        }
    }

    /// Whether the host computes it.
    pub fn is_callback(&self) -> bool {
        matches!(self, Reward::Callback(_))
    }

    /// The host's function.
    ///
    /// # Errors
    /// [`Error::Internal`] for any other reward.
    pub(crate) fn as_callback(&self) -> Result<&Callback> {
        match self {
            Reward::Callback(callback) => Ok(callback),
            _ => Err(Error::internal("only callbacks are asked")),
        }
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

    /// What of the reward shapes the graph it is built into; all else are inputs, see [`Reward::feeds`].
    pub(crate) fn shape(&self) -> String {
        match self {
            Reward::Histogram { histogram, .. } => format!("{} of {}", self.name(), histogram.len()),
            Reward::Network(network) => network.model().namespace().into(),
            Reward::Target { .. }
            | Reward::Color { .. }
            | Reward::Prior { .. }
            | Reward::Closeness
            | Reward::Callback(_) => self.name().into(),
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
    pub(crate) fn build(
        &self,
        g: &Graph,
        model: &Model,
        k: usize,
        s: &RewardInputs,
    ) -> Result<Option<Value>> {
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
            Reward::Prior { .. } => prior::build(g, model, &name("keep"), s)?,
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
            let what = "the weights of a reward";
            let mut weights = match mask {
                Some(mask) => shortage::copied(what, mask)?,
                None => shortage::filled(what, h * w, 1.0)?,
            };
            let sum: f32 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= sum);
            Ok::<_, Error>((name("weights"), Tensor::from_f32_vec(shape, weights)))
        };
        let map = [1, 1, h, w];
        Ok(match self {
            Reward::Target { target, mask } => {
                let target = shortage::copied("the target of a reward", target)?;
                vec![(name("target"), Tensor::from_f32_vec([1, 3, h, w], target)), weights(mask, &map)?]
            }
            Reward::Color { rgb, mask } => {
                vec![(name("rgb"), Tensor::from_f32([1, 3, 1, 1], rgb)), weights(mask, &map)?]
            }
            Reward::Histogram { histogram, mask } => {
                let sums = histogram::running_sums(histogram);
                vec![(name("running_sums"), sums), weights(mask, &[h * w, 1])?]
            }
            Reward::Network(network) => {
                let feeds = network.feeds(sessions, prompts, classes.i64s()?, cancel)?;
                feeds.into_iter().map(|(part, tensor)| (name(part), tensor)).collect()
            }
            Reward::Prior { seed } => {
                vec![(name("keep"), prior::keep(&layout, *seed))]
            }
            Reward::Closeness | Reward::Callback(_) => Vec::new(),
        })
    }
}

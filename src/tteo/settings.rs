//! The settings of an optimisation: rewards, budget, update rule, and what is moved.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::model::Model;
use crate::rewards::{RewardModel, RewardTerm};

/// The update rule.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Optimizer {
    /// e ← e + lr·g; with momentum μ > 0, m ← μ·m + g and e ← e + lr·m.
    Sgd { momentum: f32 },
    /// Adam (arXiv 1412.6980) without weight decay.
    Adam { beta1: f32, beta2: f32, eps: f32 },
}

impl Default for Optimizer {
    fn default() -> Optimizer {
        Optimizer::Sgd { momentum: 0.0 }
    }
}

impl Optimizer {
    /// Adam with its usual constants.
    pub const ADAM: Optimizer = Optimizer::Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
}

/// What is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variables {
    /// The input embedding e_in [B, N, D].
    pub embedding: bool,
    /// Only its noise part n in e_in = √(1−σ²)·E(x_init) + σ·n. Not together with `embedding`.
    pub noise: bool,
    /// The class embedding [B, D], or the prompt's features.
    pub class: bool,
}

impl Default for Variables {
    fn default() -> Variables {
        Variables { embedding: true, noise: false, class: false }
    }
}

/// Most rewards of one optimisation.
const TERM_LIMIT: usize = 64;

/// An optimisation budget and how to spend it. Later versions may add fields: end a literal with `..Optimize::new(…)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimize {
    /// Maximised: Σ weight·reward, per picture; 1 to 64 of them.
    pub terms: Vec<RewardTerm>,
    /// Updates, 0 to 100 000. The start counts as iterate 0, so 0 only reports its reward.
    pub steps: u32,
    /// Learning rate.
    pub lr: f32,
    pub optimizer: Optimizer,
    /// Scale each picture's gradient down to this norm; 0 = off. (ReNO uses 0.1.)
    pub clip: f32,
    /// Weight of ReNO's pull of the noise towards the prior, −(½‖n‖² − (d−1)·ln‖n‖); 0 = off. Needs
    /// `variables.noise`.
    pub norm_regularizer: f32,
    /// Wall time of the whole job, from when the engine begins with it: preparing, optimising, making the picture. The loop
    /// ends where another iterate and the picture would take longer than is left; out of time before the first iterate, the
    /// job has the picture of its start. What a late job had begun to prepare is finished beside the next ones.
    pub deadline: Option<Duration>,
    pub variables: Variables,
    /// Also decode hard pictures in every iteration and report their distance from the soft ones.
    pub report_gap: bool,
    /// Keep only what the layers of the networks end with and compute the rest again for the gradient: a step
    /// takes less memory and more time. The gradient is the same.
    pub recompute: bool,
}

impl Optimize {
    /// The paper's settings for these rewards.
    pub fn new(terms: Vec<RewardTerm>, steps: u32) -> Optimize {
        Optimize {
            terms,
            steps,
            lr: 0.2,
            optimizer: Optimizer::default(),
            clip: 0.0,
            norm_regularizer: 0.0,
            deadline: None,
            variables: Variables::default(),
            report_gap: false,
            recompute: false,
        }
    }

    /// The files that rewards lie in, one for each reward that has one.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Arc<RewardModel>> {
        self.terms.iter().filter_map(|term| term.reward.file())
    }

    /// That no file of its rewards has lost bytes.
    ///
    /// # Errors
    /// [`Error::Format`].
    pub(crate) fn recheck(&self) -> Result<()> {
        self.files().try_for_each(|file| file.recheck())
    }

    /// Refuse so many rewards.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`].
    #[doc(hidden)]
    pub fn check_counts(what: &str, terms: usize) -> Result<()> {
        match terms {
            0 => Err(Error::invalid(what, "at least one reward", "none")),
            1..=TERM_LIMIT => Ok(()),
            many => Err(Error::invalid(what, format!("at most {TERM_LIMIT} rewards"), many)),
        }
    }

    /// Refuse settings that make no sense, and rewards that do not fit the model.
    pub(crate) fn validate(&self, model: &Model, sigma: f32) -> Result<()> {
        let finite = |what: &str, v: f32, low: f32, high: f32| match v {
            v if v.is_finite() && (low..=high).contains(&v) => Ok(()),
            v => Err(Error::invalid(what, format!("{low} to {high}"), v)),
        };
        Optimize::check_counts("optimize.terms", self.terms.len())?;
        if self.terms.iter().filter(|t| t.reward.is_callback()).count() > 1 {
            return Err(Error::invalid("optimize.terms", "at most one callback", "several"));
        }
        for term in &self.terms {
            finite("reward weight", term.weight, -1e9, 1e9)?;
            term.reward.validate(model)?;
        }
        if self.steps > 100_000 {
            return Err(Error::invalid("optimize.steps", "0 to 100000", self.steps));
        }
        finite("optimize.lr", self.lr, 0.0, 1e6)?;
        finite("optimize.clip", self.clip, 0.0, 1e9)?;
        finite("optimize.norm_regularizer", self.norm_regularizer, 0.0, 1e9)?;
        match self.optimizer {
            Optimizer::Sgd { momentum } => finite("optimize.momentum", momentum, 0.0, 0.999_999)?,
            Optimizer::Adam { beta1, beta2, eps } => {
                finite("optimize.beta1", beta1, 0.0, 0.999_999)?;
                finite("optimize.beta2", beta2, 0.0, 0.999_999)?;
                finite("optimize.eps", eps, 1e-20, 1.0)?;
            }
        }
        let v = self.variables;
        if !(v.embedding || v.noise || v.class) || (v.embedding && v.noise) {
            return Err(Error::invalid(
                "optimize.variables",
                "embedding or noise, class, or one of the first two with class",
                format!("{v:?}"),
            ));
        }
        if v.noise && sigma == 0.0 {
            return Err(Error::invalid("sigma", "more than 0 when the noise is optimised", sigma));
        }
        if self.norm_regularizer > 0.0 && !v.noise {
            return Err(Error::invalid(
                "optimize.norm_regularizer",
                "0 unless the noise is optimised",
                self.norm_regularizer,
            ));
        }
        Ok(())
    }
}

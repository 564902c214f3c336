//! A reward file as a term of an optimisation: its network joins the step's graph, its text encoder runs once
//! for every prompt.

use std::sync::Arc;

use super::model::RewardModel;
use super::prompt::Tokens;
use super::scorer::Reads;
use crate::error::{Error, Result};
use crate::graph::{Graph, Value, simplify};
use crate::label::Label;
use crate::model::Model;
use crate::runtime::Cancel;
use crate::sessions::Sessions;
use crate::tensor::{Dtype, Tensor};

/// An opened reward file and, of a classifier, what its pictures should show.
#[derive(Clone, Debug)]
pub struct Network {
    pub(super) model: Arc<RewardModel>,
    pub(super) class: Option<usize>,
}

impl Network {
    /// See [`Reward::network`](super::Reward::network).
    pub fn new(model: Arc<RewardModel>, class: Option<&Label>) -> Result<Network> {
        let (classes, family) = (model.classes(), model.architecture().name());
        let class = match class {
            None => None,
            Some(_) if classes == 0 => {
                return Err(Error::Unsupported {
                    what: format!("a class for the reward '{family}'"),
                    reason: "only classifiers read one".into(),
                });
            }
            Some(Label::Name(name)) => Some(model.class_of(name)?),
            Some(Label::Class(id)) if (*id as usize) < classes => Some(*id as usize),
            Some(Label::Class(id)) => {
                let expected = format!("0 to {}", classes - 1);
                return Err(Error::invalid("class of the classifier reward", expected, id));
            }
        };
        Ok(Network { model, class })
    }

    pub fn model(&self) -> &Arc<RewardModel> {
        &self.model
    }

    /// The class of all pictures, where one was chosen.
    pub fn class(&self) -> Option<usize> {
        self.class
    }

    /// The network's classes for pictures under these class ids of `model`; `None` for rewards that read none.
    pub(super) fn classes(&self, model: &Model, ids: &[i64]) -> Result<Option<Vec<i64>>> {
        if self.model.classes() == 0 {
            return Ok(None);
        }
        let of = |&id: &i64| match self.class {
            Some(class) => Ok(class as i64),
            None => self.class_of_label(model, id),
        };
        ids.iter().map(of).collect::<Result<_>>().map(Some)
    }

    fn class_of_label(&self, model: &Model, id: i64) -> Result<i64> {
        let (own, theirs) = (self.model.classes(), model.architecture().layout().classes);
        let label = usize::try_from(id).ok().filter(|&id| id < theirs);
        let named = label.and_then(|id| model.labels().get(id)).filter(|_| !self.model.labels().is_empty());
        match (named, label) {
            (Some(label), _) => self.model.class_of(&label.name).map(|class| class as i64),
            (None, Some(_)) if own == theirs => Ok(id),
            (None, Some(_)) => Err(Error::invalid(
                "class of the classifier reward",
                "one chosen when it is opened, since its classes are not the model's",
                format!("none, {own} classes and {theirs}"),
            )),
            (None, None) => Err(Error::invalid(
                "class of the classifier reward",
                "one chosen when it is opened, or a label in the request",
                "neither",
            )),
        }
    }

    /// Append the score [B] of `image` [B, 3, H, W]. Inputs are named by `name`: see [`Network::feeds`].
    pub(super) fn build(&self, g: &Graph, image: Value, name: impl Fn(&str) -> String) -> Result<Value> {
        let (a, w, b) = (self.model.architecture(), self.model.weights(), g.shape(image)[0]);
        match a.reads() {
            Reads::Features { width } => {
                a.score(g, &w, image, Some(g.input(&name("features"), Dtype::F32, [b, width])?))
            }
            Reads::Tokens => {
                let shape = [b, self.tokens("")?.ids.len()];
                let ids = g.input(&name("ids"), Dtype::I64, shape)?;
                let mask = g.input(&name("mask"), Dtype::I64, shape)?;
                a.score_tokens(g, &w, image, ids, mask)
            }
            Reads::Nothing => a.score(g, &w, image, None),
            Reads::Class { .. } => a.score(g, &w, image, Some(g.input(&name("class"), Dtype::I64, [b])?)),
        }
    }

    /// The tensors for the inputs of [`Network::build`]: `features` [B, P], `ids` and `mask` [B, N], or
    /// `class` [B]. One prompt and one class id of the generator a picture.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where the classifier's class is not known; a failed run of the text encoder.
    pub(super) fn feeds(
        &self,
        sessions: &mut Sessions,
        prompts: &[String],
        classes: &[i64],
        cancel: &Cancel,
    ) -> Result<Vec<(&'static str, Tensor)>> {
        Ok(match self.model.architecture().reads() {
            Reads::Features { width } => {
                let rows = prompts.iter().map(|prompt| self.features(sessions, prompt, cancel));
                let rows = rows.collect::<Result<Vec<_>>>()?;
                let mut all = Vec::with_capacity(rows.len() * width);
                for row in &rows {
                    all.extend_from_slice(row.f32s()?);
                }
                vec![("features", Tensor::from_f32_vec([rows.len(), width], all))]
            }
            Reads::Tokens => {
                let rows = prompts.iter().map(|prompt| self.tokens(prompt)).collect::<Result<Vec<_>>>()?;
                let shape = [rows.len(), rows.first().map_or(0, |tokens| tokens.ids.len())];
                let all = |part: fn(&Tokens) -> &[i64]| {
                    Tensor::from_i64_vec(shape, rows.iter().flat_map(part).copied().collect())
                };
                vec![("ids", all(|t| &t.ids)), ("mask", all(|t| &t.mask))]
            }
            Reads::Nothing => Vec::new(),
            Reads::Class { .. } => {
                let classes = self.classes(&sessions.model().clone(), classes)?.unwrap_or_default();
                vec![("class", Tensor::from_i64_vec([classes.len()], classes))]
            }
        })
    }

    fn tokens(&self, prompt: &str) -> Result<Tokens> {
        self.model.tokens(prompt).ok_or_else(|| Error::internal("a reward with a prompt has a tokenizer"))
    }

    /// Features [P] of a prompt: from the worker's memory, or by a run of the text encoder.
    fn features(&self, sessions: &mut Sessions, prompt: &str, cancel: &Cancel) -> Result<Tensor> {
        let (a, namespace) = (self.model.architecture(), self.model.namespace());
        if let Some(row) = sessions.features().get(namespace, prompt) {
            return Ok(row);
        }
        let ids = self.tokens(prompt)?.ids;
        let ids = Tensor::from_i64_vec([1, ids.len()], ids);
        let g = Graph::new();
        let input = g.input("ids", Dtype::I64, ids.shape().clone())?;
        g.output("features", a.text_features(&g, &self.model.weights(), input)?);
        let file = [(namespace, self.model.checkpoint())];
        let mut results =
            sessions.run_once("prompt features", &simplify(&g)?, &file, &[("ids", &ids)], cancel)?;
        let row = results.remove(0).1;
        sessions.features().insert(namespace, prompt, row.clone());
        Ok(row)
    }
}

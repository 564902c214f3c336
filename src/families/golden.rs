//! A golden file as a family replays it: a safetensors file made by the reference implementation, `b0/in/*` its inputs,
//! `b0/out/*` what it computed from them, `b1/..` a second batch.

use std::cell::RefCell;

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::nn;
use crate::tensor::Tensor;
use crate::weights::Weights;

/// A golden batch's tensors of one kind, by name.
pub(crate) type Named = Vec<(String, Tensor)>;

/// One batch of a golden file while the graph that recomputes it is built.
#[derive(Debug)]
pub struct Replay<'a> {
    /// All weights of the model file.
    pub(crate) weights: Weights<'a>,
    golden: &'a Checkpoint,
    /// `b0`, `b1`, …
    batch: &'a str,
    /// What the graph under construction reads.
    feeds: RefCell<Named>,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(weights: Weights<'a>, golden: &'a Checkpoint, batch: &'a str) -> Replay<'a> {
        Replay { weights, golden, batch, feeds: RefCell::default() }
    }

    /// What the graph reads, by input name.
    pub(crate) fn feeds(&self) -> Named {
        self.feeds.borrow().clone()
    }

    /// The golden tensor `in/name` or `out/name` of this batch.
    pub(crate) fn get(&self, name: &str) -> Option<Tensor> {
        self.golden.get(&format!("{}/{name}", self.batch)).map(|t| t.to_tensor())
    }

    /// [`Replay::get`] of a tensor without which nothing can be replayed.
    pub(crate) fn need(&self, name: &str) -> Result<Tensor> {
        self.get(name).ok_or_else(|| Error::Format {
            file: self.golden.file(),
            what: format!("golden tensor '{}/{name}'", self.batch),
            expected: "one, as models of this family are replayed from it".into(),
            found: "none".into(),
        })
    }

    /// A golden tensor as an input of the graph, once a name. (Constants would be folded away, and what is
    /// folded is not what runs.)
    pub(crate) fn input(&self, g: &Graph, name: &str) -> Result<Option<Value>> {
        self.get(name).map(|t| self.feed(g, name, t)).transpose()
    }

    /// [`Replay::input`] of a tensor without which nothing can be replayed.
    pub(crate) fn required(&self, g: &Graph, name: &str) -> Result<Value> {
        self.feed(g, name, self.need(name)?)
    }

    /// A tensor as an input of the graph.
    pub(crate) fn feed(&self, g: &Graph, name: &str, tensor: Tensor) -> Result<Value> {
        let value = g.input(name, tensor.dtype(), tensor.shape().clone())?;
        self.feeds.borrow_mut().push((name.into(), tensor));
        Ok(value)
    }

    /// Golden labels with their drop mask → class ids [B], `null` where the label is dropped.
    pub(crate) fn classes(&self, g: &Graph, null: usize) -> Result<Value> {
        let (labels, dropped) = (self.need("in/labels")?, self.need("in/drop_label")?);
        let pairs = labels.to_i64().into_iter().zip(dropped.to_i64());
        let class = pairs.map(|(label, dropped)| if dropped > 0 { null as i64 } else { label });
        let class = Tensor::from_i64(labels.shape().clone(), &class.collect::<Vec<_>>());
        self.feed(g, "class", class)
    }

    /// e_in of the embedding, in the golden file's layout: with the batch's noise, where it has any.
    pub(crate) fn perturbed(&self, g: &Graph, e: Value) -> Result<Value> {
        match (self.input(g, "in/noise")?, self.input(g, "in/sigma")?) {
            (Some(noise), Some(sigma)) => nn::perturb(g, e, noise, sigma),
            _ => Ok(e),
        }
    }

    /// The picture to be encoded, if the batch has one and the model an encoder.
    pub(crate) fn picture(&self, g: &Graph) -> Result<Option<Value>> {
        if self.weights.has_scope("encoder") { self.input(g, "in/enc_image") } else { Ok(None) }
    }

    /// Outputs the pictures of the reference's own tokens, the arg-max and the encoder's, decoded: a near-tie must not
    /// hide behind, or be blamed on, the decoder.
    pub(crate) fn decoded(&self, g: &Graph, decode: impl Fn(Value) -> Result<Value>) -> Result<()> {
        for (tokens, image) in [("out/tokens_argmax", "image_hard"), ("out/enc_indices", "enc_recon")] {
            if let Some(tokens) = self.input(g, tokens)? {
                g.output(image, decode(tokens)?);
            }
        }
        Ok(())
    }

    /// The generator that is checked.
    pub(crate) fn generator(&self) -> Weights<'a> {
        self.weights.at(if self.weights.has_scope("student") { "student" } else { "teacher" })
    }
}

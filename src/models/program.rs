//! The graphs an engine runs: each is built from the model functions for one batch size, lowered once
//! and cached as a session.

use crate::error::Result;
use crate::graph::{Graph, simplify};
use crate::model::Model;
use crate::tensor::Dtype;

/// A graph the pipelines run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Program {
    /// `tokens` [B, N, splits], `noise` [B, N, D], `sigma` [1] → `e_in` [B, N, D].
    Embed,
    /// `e_in` [B, N, D], `class` [B] → `logits` [B, N, splits, V]; the one-step student.
    Student,
    /// `class` [B] → `condition`, the student's class embedding [B, D].
    Condition,
    /// `e_in` [B, N, D], `condition` [B, D] → `logits`: the student under an embedded condition.
    StudentConditioned,
    /// `logits` → `tokens` [B, N, splits], the most probable ones.
    ArgMax,
    /// `tokens` [B, N, splits], `class` [B] → `logits`; one call of the multi-step teacher.
    Teacher,
    /// `tokens` [B, N, splits] → `image` [B, 3, H, W].
    DecodeHard,
    /// `logits` [B, N, splits, V], `temperature` [1] → `image` [B, 3, H, W].
    DecodeSoft,
    /// `image` [B, 3, H, W] → `tokens` [B, N, splits].
    Encode,
}

impl Program {
    pub const ALL: [Program; 9] = [
        Program::Embed,
        Program::Student,
        Program::Condition,
        Program::StudentConditioned,
        Program::ArgMax,
        Program::Teacher,
        Program::DecodeHard,
        Program::DecodeSoft,
        Program::Encode,
    ];

    /// Name for messages and progress.
    pub fn name(self) -> &'static str {
        match self {
            Program::Embed => "embed",
            Program::Student => "student",
            Program::Condition => "condition",
            Program::StudentConditioned => "student (conditioned)",
            Program::ArgMax => "arg-max",
            Program::Teacher => "teacher",
            Program::DecodeHard => "decode (hard)",
            Program::DecodeSoft => "decode (soft)",
            Program::Encode => "encode",
        }
    }

    /// Whether `model` holds the networks this program needs.
    pub fn available(self, model: &Model) -> bool {
        match self {
            Program::Embed | Program::Student | Program::Condition | Program::StudentConditioned => {
                model.has_component("student")
            }
            Program::ArgMax => true,
            Program::Teacher => model.has_component("teacher"),
            Program::DecodeHard | Program::DecodeSoft => model.has_component("decoder"),
            Program::Encode => model.has_component("encoder"),
        }
    }

    /// Build the graph for a batch; fails when a tensor is missing or has the wrong shape.
    pub fn graph(self, model: &Model, batch: usize) -> Result<Graph> {
        let (a, w) = (model.architecture(), model.weights());
        let layout = a.layout();
        let (n, d) = (layout.positions, layout.embedding);
        let image = [batch, 3, layout.height, layout.width];
        let g = Graph::new();
        match self {
            Program::Embed => {
                let tokens = a.tokens_input(&g, batch)?;
                let noise = g.input("noise", Dtype::F32, [batch, n, d])?;
                let sigma = g.input("sigma", Dtype::F32, [1])?;
                let e = a.embed(&g, &w.at("student"), tokens)?;
                g.output("e_in", perturb(&g, e, noise, sigma)?);
            }
            Program::Student => {
                let e_in = g.input("e_in", Dtype::F32, [batch, n, d])?;
                let class = g.input("class", Dtype::I64, [batch])?;
                let w = w.at("student");
                let condition = a.condition(&g, &w, class)?;
                g.output("logits", a.logits(&g, &w, e_in, condition)?);
            }
            Program::Condition => {
                let class = g.input("class", Dtype::I64, [batch])?;
                g.output("condition", a.condition(&g, &w.at("student"), class)?);
            }
            Program::StudentConditioned => {
                let e_in = g.input("e_in", Dtype::F32, [batch, n, d])?;
                let condition = g.input("condition", Dtype::F32, [batch, d])?;
                g.output("logits", a.logits(&g, &w.at("student"), e_in, condition)?);
            }
            Program::ArgMax => {
                let logits = g.input("logits", Dtype::F32, [batch, n, layout.splits, layout.codes])?;
                g.output("tokens", g.arg_max(logits, 3)?);
            }
            Program::Teacher => {
                let tokens = a.tokens_input(&g, batch)?;
                let class = g.input("class", Dtype::I64, [batch])?;
                let w = w.at("teacher");
                let (e_in, condition) = (a.embed(&g, &w, tokens)?, a.condition(&g, &w, class)?);
                g.output("logits", a.logits(&g, &w, e_in, condition)?);
            }
            Program::DecodeHard => {
                let code = a.hard_embedding(&g, a.tokens_input(&g, batch)?)?;
                g.output("image", a.decode(&g, &w, code)?);
            }
            Program::DecodeSoft => {
                let logits = g.input("logits", Dtype::F32, [batch, n, layout.splits, layout.codes])?;
                let temperature = g.input("temperature", Dtype::F32, [1])?;
                let p = g.softmax(g.div(logits, temperature)?, 3)?;
                g.output("image", a.decode(&g, &w, a.soft_embedding(&g, p)?)?);
            }
            Program::Encode => {
                let code = a.encode(&g, &w, g.input("image", Dtype::F32, image)?)?;
                g.output("tokens", a.code_tokens(&g, code)?);
            }
        }
        simplify(&g)
    }
}

/// e_in = √(1−σ²)·E(x_init) + σ·n, on image positions only (arXiv 2503.15457, and the DiMO code).
pub fn perturb(
    g: &Graph,
    e: crate::graph::Value,
    noise: crate::graph::Value,
    sigma: crate::graph::Value,
) -> Result<crate::graph::Value> {
    let keep = g.sqrt(g.sub(g.scalar(1.0)?, g.mul(sigma, sigma)?)?)?;
    g.add(g.mul(e, keep)?, g.mul(noise, sigma)?)
}

//! The graphs an engine runs: each is built from the model functions for one batch size, lowered once
//! and cached as a session.

use crate::error::{Error, Result};
use crate::families::Architecture;
use crate::families::condition::Condition;
use crate::graph::{Graph, simplify};
use crate::nn;
use crate::nn::text_encoder;
use crate::tensor::Dtype;
use crate::weights::Weights;

/// Which generator of a model file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// One step.
    Student,
    /// Many steps.
    Teacher,
}

impl Role {
    /// Component of the model file that holds its weights.
    pub fn component(self) -> &'static str {
        match self {
            Role::Student => "student",
            Role::Teacher => "teacher",
        }
    }
}

/// A graph the pipelines run. `condition*` are the inputs of [`Condition`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Program {
    /// `class` \[B\] → `condition` [B, D], the generator's own class embedding.
    Class(Role),
    /// `ids` [B, L] of prompts → `condition` [B, L, E], and the pooled features and the decoder's guidance where
    /// the family reads them.
    Prompt,
    /// `tokens` [B, N, splits], `noise` [B, N, D], `sigma` \[1\] → `e_in` [B, N, D].
    Embed,
    /// `e_in` [B, N, D], `condition*` → `logits` [B, N, splits, V]; the one-step student.
    Student,
    /// `logits` → `tokens` [B, N, splits], the most probable ones.
    ArgMax,
    /// `tokens` [B, N, splits], `condition*` → `logits`; one call of the multi-step teacher.
    Teacher,
    /// `tokens` [B, N, splits], the decoder's guidance → `image` [B, channels, H, W].
    DecodeHard,
    /// `logits` [B, N, splits, V], `temperature` \[1\], the decoder's guidance → `image` [B, channels, H, W].
    DecodeSoft,
    /// `image` [B, channels, H, W] → `tokens` [B, N, splits].
    Encode,
}

impl Program {
    pub const ALL: [Program; 10] = [
        Program::Class(Role::Student),
        Program::Class(Role::Teacher),
        Program::Prompt,
        Program::Embed,
        Program::Student,
        Program::ArgMax,
        Program::Teacher,
        Program::DecodeHard,
        Program::DecodeSoft,
        Program::Encode,
    ];

    /// Name for messages and progress.
    pub fn name(self) -> &'static str {
        match self {
            Program::Class(Role::Student) => "class (student)",
            Program::Class(Role::Teacher) => "class (teacher)",
            Program::Prompt => "prompt",
            Program::Embed => "embed",
            Program::Student => "student",
            Program::ArgMax => "arg-max",
            Program::Teacher => "teacher",
            Program::DecodeHard => "decode (hard)",
            Program::DecodeSoft => "decode (soft)",
            Program::Encode => "encode",
        }
    }

    /// Whether a model file, all of whose weights are `w`, holds the networks this program needs.
    pub fn available(self, a: &Architecture, w: &Weights) -> bool {
        match self {
            Program::Class(role) => a.layout().classes > 0 && w.has_scope(role.component()),
            Program::Prompt => a.text().is_some(),
            Program::Embed | Program::Student => w.has_scope("student"),
            Program::ArgMax => true,
            Program::Teacher => w.has_scope("teacher"),
            Program::DecodeHard | Program::DecodeSoft => w.has_scope("decoder"),
            Program::Encode => w.has_scope("encoder"),
        }
    }

    /// Build the graph for a batch, over all weights `w` of a model file; fails when a tensor is missing or has the
    /// wrong shape.
    pub fn graph(self, a: &Architecture, w: &Weights, batch: usize) -> Result<Graph> {
        let (layout, conditions) = (a.layout(), a.condition_layout());
        let (n, d) = (layout.positions, layout.embedding);
        let g = Graph::new();
        match self {
            Program::Class(role) => {
                let class = g.input("class", Dtype::I64, [batch])?;
                g.output(Condition::EMBEDDING, a.embed_class(&g, &w.at(role.component()), class)?);
            }
            Program::Prompt => {
                let text = a.text().ok_or_else(|| Error::internal("a class model has no text encoder"))?;
                let ids = g.input("ids", Dtype::I64, [batch, text.context_length])?;
                let features = text_encoder::encode(&g, &w.at("text"), text, ids)?;
                g.output(Condition::EMBEDDING, features.hidden);
                if conditions.pooled.is_some() {
                    g.output(Condition::POOLED, features.pooled);
                }
                if conditions.guidance.is_some() {
                    g.output(Condition::GUIDANCE, features.last);
                }
            }
            Program::Embed => {
                let tokens = a.tokens_input(&g, batch)?;
                let noise = g.input("noise", Dtype::F32, [batch, n, d])?;
                let sigma = g.input("sigma", Dtype::F32, [1])?;
                let e = a.embed(&g, &w.at("student"), tokens)?;
                g.output("e_in", nn::perturb(&g, e, noise, sigma)?);
            }
            Program::Student => {
                let e_in = g.input("e_in", Dtype::F32, [batch, n, d])?;
                let condition = Condition::inputs(&g, &conditions, batch)?;
                g.output("logits", a.logits(&g, &w.at("student"), e_in, &condition)?);
            }
            Program::ArgMax => {
                let logits = g.input("logits", Dtype::F32, [batch, n, layout.splits, layout.codes])?;
                g.output("tokens", g.arg_max(logits, 3)?);
            }
            Program::Teacher => {
                let w = &w.at("teacher");
                let e_in = a.embed(&g, w, a.tokens_input(&g, batch)?)?;
                let condition = Condition::inputs(&g, &conditions, batch)?;
                g.output("logits", a.logits(&g, w, e_in, &condition)?);
            }
            Program::DecodeHard => {
                let code = a.hard_embedding(&g, w, a.tokens_input(&g, batch)?)?;
                let guidance = Condition::guidance_input(&g, &conditions, batch)?;
                g.output("image", a.decode(&g, w, code, guidance)?);
            }
            Program::DecodeSoft => {
                let logits = g.input("logits", Dtype::F32, [batch, n, layout.splits, layout.codes])?;
                let temperature = g.input("temperature", Dtype::F32, [1])?;
                let p = g.softmax(g.div(logits, temperature)?, 3)?;
                let guidance = Condition::guidance_input(&g, &conditions, batch)?;
                g.output("image", a.decode(&g, w, a.soft_embedding(&g, w, p)?, guidance)?);
            }
            Program::Encode => {
                let image =
                    g.input("image", Dtype::F32, [batch, layout.channels, layout.height, layout.width])?;
                g.output("tokens", a.encode(&g, w, image)?);
            }
        }
        simplify(&g)
    }
}

//! What a job did, for people and for doing it again.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::tteo::OptimizationReport;

/// What was done, with every default filled in: enough to make the same pictures again.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    pub seed: u64,
    pub batch: usize,
    pub classes: Vec<i64>,
    pub labels: Vec<Option<String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prompts: Vec<String>,
    pub steps: u32,
    pub decode: &'static str,
    pub temperature: f32,
    pub top_k: u32,
    pub top_p: f32,
    pub mask_ratio: f32,
    pub sigma: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance_scale: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub randomize_temperature: Option<f32>,
    /// Whether start tokens or a start embedding came from the caller.
    pub custom_start: bool,
    /// Tokens of the edited picture that were kept, per picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_tokens: Option<Vec<usize>>,
    pub width: usize,
    pub height: usize,
    /// 3, or 4 with alpha.
    pub channels: usize,
    pub model: String,
    pub library: &'static str,
    pub provider: &'static str,
    pub runtime: String,
    /// Mean over tokens of the largest softmax probability, per picture: how sure the student is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_max_probability: Option<Vec<f32>>,
    /// Mean absolute difference of hard and soft picture (0 to 1 scale), where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft_hard_difference: Option<Vec<f32>>,
    /// Of an optimisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimization: Option<OptimizationReport>,
    /// What the request holds and nothing read: words of a prompt that is too long, settings of another kind of job. And
    /// what went wrong on the way to a result: answers of a reward callback that are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Wall time of the job on the worker, preparing sessions included.
    pub milliseconds: f64,
    /// Wall time of all runs of each network, by its name, without preparing it.
    pub network_milliseconds: BTreeMap<&'static str, f64>,
}

impl Report {
    /// One JSON object.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("a report is plain data")
    }
}

//! Replay a golden file: recompute every tensor it holds from its inputs and compare.
//!
//! A golden file is a safetensors file made by the reference implementation: `b0/in/*` are inputs, `b0/out/*`
//! what it computed from them, `b1/..` a second batch. This is how a user proves a conversion.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::checkpoint::Checkpoint;
use crate::engine::{Cancel, Engine};
use crate::error::{Error, Result};
use crate::graph::{Graph, simplify};
use crate::model::Model;
use crate::models::{Architecture, conv_vqgan, maskbit, program::perturb};
use crate::tensor::{Dtype, Tensor};

/// Largest absolute difference accepted for models stored in f32: the float noise of another order of
/// summation is 2e-5 on images.
const TOLERANCE_F32: f64 = 1e-4;

/// For weights stored in f16 (relative rounding 5e-4 per weight): accepted absolute difference of values,
/// and share of integer tensors' elements (near-ties) that may differ.
const TOLERANCE_F16: f64 = 0.02;
const INTEGER_SHARE_F16: f64 = 0.005;

/// Comparison of one tensor.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Name in the golden file, e.g. `b0/out/logits`.
    pub name: String,
    pub shape: Vec<usize>,
    /// Largest absolute difference; for integer tensors, the share of elements that differ.
    pub max_abs: f64,
    /// ‖found − expected‖₂ / ‖expected‖₂.
    pub relative: f64,
    pub tolerance: f64,
    pub passed: bool,
}

/// Result of [`verify`].
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    pub rows: Vec<Row>,
    /// Tensors of the golden file this library does not recompute.
    pub not_checked: Vec<String>,
    pub passed: bool,
}

impl Verification {
    /// One JSON object.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("a verification is plain data")
    }
}

/// Replay the golden file at `path` on `engine`. `tolerance` replaces the default bound for float tensors
/// (1e-4 for f32 models, looser for narrower storage). Errors: the file's, or that nothing in it is known.
pub fn verify(engine: &Engine, path: impl AsRef<Path>, tolerance: Option<f64>) -> Result<Verification> {
    let golden = Arc::new(Checkpoint::open(path.as_ref())?);
    let narrow = engine.model().checkpoint().names().any(|n| {
        let dtype = engine.model().checkpoint().get(n).map(|v| v.dtype);
        dtype.is_some_and(|d| d != Dtype::F32)
    });
    let bounds = Bounds {
        float: tolerance.unwrap_or(if narrow { TOLERANCE_F16 } else { TOLERANCE_F32 }),
        integer: if narrow { INTEGER_SHARE_F16 } else { 0.0 },
    };
    let cancel = Arc::new(Cancel::default());
    let file = golden.clone();
    let rows = engine.call(cancel.clone(), move |sessions| {
        let model = sessions.model().clone();
        let mut rows = Vec::new();
        for batch in
            (0..).map(|i| format!("b{i}")).take_while(|b| file.get(&format!("{b}/in/tokens")).is_some())
        {
            let inputs = inputs(&file, &batch)?;
            let graph = graph(&model, &inputs)?;
            let feeds: Vec<(&str, &Tensor)> = inputs.iter().map(|(n, t)| (n.as_str(), t)).collect();
            for (name, found) in sessions.run_graph("verify", &graph, &feeds, &cancel)? {
                let name = format!("{batch}/out/{name}");
                if let Some(expected) = file.get(&name) {
                    rows.push(compare(&name, &found, &expected.to_tensor(), &bounds)?);
                }
            }
        }
        Ok(rows)
    })?;
    if rows.is_empty() {
        return Err(Error::Format {
            file: golden.file(),
            what: "golden file".into(),
            expected: "tensors 'b0/in/tokens', 'b0/out/..'".into(),
            found: golden.names().take(3).collect::<Vec<_>>().join(", "),
        });
    }
    let checked: Vec<&String> = rows.iter().map(|r| &r.name).collect();
    let outputs = golden.names().filter(|n| n.contains("/out/"));
    let not_checked = outputs.filter(|n| !checked.iter().any(|c| c == n)).map(String::from).collect();
    let passed = rows.iter().all(|r| r.passed);
    Ok(Verification { rows, not_checked, passed })
}

struct Bounds {
    float: f64,
    integer: f64,
}

/// Inputs of one golden batch under the graph's names; labels with their drop mask become class ids later.
fn inputs(golden: &Checkpoint, batch: &str) -> Result<Vec<(String, Tensor)>> {
    let prefix = format!("{batch}/in/");
    let mut inputs = Vec::new();
    for name in ["tokens", "labels", "drop_label", "noise", "sigma", "enc_image"] {
        if let Some(view) = golden.get(&format!("{prefix}{name}")) {
            inputs.push((name.to_string(), view.to_tensor()));
        }
    }
    // The hard picture is checked on the reference's own tokens: a near-tie in the logits must not hide
    // behind, or be blamed on, the decoder.
    for (from, to) in [("tokens_argmax", "hard_tokens"), ("enc_indices_split", "enc_tokens")] {
        if let Some(view) = golden.get(&format!("{batch}/out/{from}")) {
            inputs.push((to.to_string(), view.to_tensor()));
        }
    }
    Ok(inputs)
}

/// One graph that computes every tensor this library knows from the inputs present.
fn graph(model: &Model, inputs: &[(String, Tensor)]) -> Result<Graph> {
    let Architecture::MaskBit { generator: cfg, tokenizer } = model.architecture();
    let g = Graph::new();
    let root = model.weights();
    let w = root.at(if model.has_component("student") { "student" } else { "teacher" });
    let input = |name: &str| match inputs.iter().find(|(n, _)| n == name) {
        Some((_, t)) => g.input(name, t.dtype(), t.shape().clone()).map(Some),
        None => Ok(None),
    };
    let missing = |name: &str| Error::MissingTensor {
        name: format!("in/{name}"),
        expected: "a golden input".into(),
        file: "the golden file".into(),
    };
    let tokens = input("tokens")?.ok_or_else(|| missing("tokens"))?;
    let labels = input("labels")?.ok_or_else(|| missing("labels"))?;
    let dropped = input("drop_label")?.ok_or_else(|| missing("drop_label"))?;

    let null = g.constant(Tensor::from_i64([1], &[cfg.nclass as i64]))?;
    let zero = g.constant(Tensor::from_i64([1], &[0]))?;
    let class = g.where_(g.greater(dropped, zero)?, null, labels)?;
    let class_embedding = maskbit::embed_class(&g, &w, cfg, class)?;
    g.output("class_embedding", class_embedding);

    g.output("bits_table", g.constant(maskbit::bits_table(cfg, false))?);
    let bits = maskbit::input_bits(&g, cfg, tokens)?;
    g.output("input_bits", bits);
    let e_clean = maskbit::embed_bits(&g, &w, cfg, bits)?;
    g.output("e_clean", e_clean);
    g.output("logits_clean", maskbit::logits(&g, &w, cfg, e_clean, class_embedding)?);
    let e_in = match (input("noise")?, input("sigma")?) {
        (Some(noise), Some(sigma)) => perturb(&g, e_clean, noise, sigma)?,
        _ => e_clean,
    };
    g.output("e_in", e_in);
    let null_classes = g.expand(null, g.shape(labels))?;
    let unconditional = maskbit::embed_class(&g, &w, cfg, null_classes)?;
    g.output("logits_uncond", maskbit::logits(&g, &w, cfg, e_in, unconditional)?);
    let logits = maskbit::logits(&g, &w, cfg, e_in, class_embedding)?;
    g.output("logits", logits);
    let tokens = g.arg_max(logits, 3)?;
    g.output("tokens_argmax", tokens);
    g.output("tokens_combined", combined(&g, cfg, tokens)?);

    let soft_bits = maskbit::soft_bits(&g, cfg, g.softmax(logits, 3)?)?;
    g.output("soft_bits", soft_bits);
    let soft = maskbit::decoder_embedding(&g, cfg, soft_bits)?;
    g.output("soft_emb_decoder", soft);
    g.output("image_soft", conv_vqgan::decode(&g, &root, tokenizer, soft)?);
    let soft_generator = maskbit::embed_bits(&g, &w, cfg, soft_bits)?;
    g.output("soft_emb_generator", soft_generator);
    let again = maskbit::logits(&g, &w, cfg, soft_generator, class_embedding)?;
    g.output("logits_from_soft_emb_generator", again);

    if let Some(tokens) = input("hard_tokens")? {
        let code = maskbit::decoder_embedding(&g, cfg, maskbit::input_bits(&g, cfg, tokens)?)?;
        g.output("hard_code", code);
        g.output("image_hard", conv_vqgan::decode(&g, &root, tokenizer, code)?);
    }
    if let (Some(image), true) = (input("enc_image")?, model.has_component("encoder")) {
        let z = conv_vqgan::encode(&g, &root, tokenizer, image)?;
        g.output("enc_z", z);
        let code = conv_vqgan::quantize(&g, z)?;
        g.output("enc_code", code);
        let tokens = maskbit::code_tokens(&g, cfg, code)?;
        g.output("enc_indices_split", tokens);
        let (b, grid) = (g.shape(image)[0], cfg.grid());
        g.output("enc_indices", g.reshape(combined(&g, cfg, tokens)?, [b, grid, grid])?);
    }
    if let Some(tokens) = input("enc_tokens")? {
        let code = maskbit::decoder_embedding(&g, cfg, maskbit::input_bits(&g, cfg, tokens)?)?;
        g.output("enc_recon", conv_vqgan::decode(&g, &root, tokenizer, code)?);
    }
    simplify(&g)
}

/// Split token ids [B, N, splits] → ids of the whole codebook [B, N]: Σ_s tok_s · 2^(s·bits).
fn combined(g: &Graph, cfg: &maskbit::Config, tokens: crate::graph::Value) -> Result<crate::graph::Value> {
    let place: Vec<i64> = (0..cfg.codebook_splits).map(|s| 1 << (s * cfg.split_bits())).collect();
    let place = g.constant(Tensor::from_i64([1, 1, place.len()], &place))?;
    let shape = g.shape(tokens);
    g.reshape(g.reduce_sum(g.mul(tokens, place)?, &[2])?, [shape[0], shape[1]])
}

fn compare(name: &str, found: &Tensor, expected: &Tensor, bounds: &Bounds) -> Result<Row> {
    if found.shape() != expected.shape() {
        return Err(Error::TensorMismatch {
            name: name.into(),
            expected: expected.shape().to_string(),
            found: found.shape().to_string(),
            file: "the golden file".into(),
        });
    }
    let (a, b) = (found.to_f64(), expected.to_f64());
    // NaN counts as an infinite difference, never as agreement.
    let difference = |(x, y): (&f64, &f64)| if (x - y).is_nan() { f64::INFINITY } else { (x - y).abs() };
    let square = |v: f64| v * v;
    let norm = b.iter().copied().map(square).sum::<f64>().sqrt();
    let relative = a.iter().zip(&b).map(difference).map(square).sum::<f64>().sqrt() / norm.max(1e-30);
    // Codes are ±1 decisions: like integers, they agree or they do not.
    let discrete = expected.dtype() == Dtype::I64 || name.ends_with("_code");
    let (max_abs, tolerance) = if discrete {
        let wrong = a.iter().zip(&b).filter(|(x, y)| x != y).count();
        (wrong as f64 / a.len().max(1) as f64, bounds.integer)
    } else {
        (a.iter().zip(&b).map(difference).fold(0.0, f64::max), bounds.float)
    };
    let passed = max_abs <= tolerance;
    Ok(Row { name: name.into(), shape: expected.shape().to_vec(), max_abs, relative, tolerance, passed })
}

//! Replay a golden file: recompute every tensor it holds from its inputs and compare.
//!
//! A golden file is a safetensors file made by the reference implementation: `b0/in/*` are inputs, `b0/out/*`
//! what it computed from them, `b1/..` a second batch. This is how a user proves a conversion.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::checkpoint::Checkpoint;
use crate::engine::{Cancel, Engine, Sessions};
use crate::error::{Error, Result};
use crate::graph::{Graph, grad, simplify};
use crate::model::Model;
use crate::models::{Architecture, conv_vqgan, maskbit, program::perturb};
use crate::tensor::{Dtype, Tensor};

/// What is accepted of a model, by the narrowest storage of its weights.
struct Bounds {
    float: Float,
    /// Relative L2 distance of gradients and of what was moved along them.
    gradient: f64,
    /// Share of an integer tensor's elements that may differ: near-ties fall the other way.
    integer: f64,
}

/// How far a float tensor may be off.
#[derive(Clone, Copy)]
enum Float {
    /// By the largest absolute difference.
    Absolute(f64),
    /// By the relative L2 distance; pictures, whose decoder averages the noise of many weights, by their own.
    Relative { value: f64, image: f64 },
}

/// f32: the float noise of another order of summation is 2e-5 on images and 1e-5 of a gradient.
const F32: Bounds = Bounds { float: Float::Absolute(1e-4), gradient: 1e-4, integer: 0.0 };

/// f16 rounds a weight by up to 5e-4 of itself, which moves gradients by some percent.
const F16: Bounds = Bounds { float: Float::Absolute(0.02), gradient: 0.1, integer: 0.005 };

/// int8 rounds the weights of a row by up to 1/254 of its largest, 7e-3 of a matrix in the mean. Measured on
/// emoji-32: logits 1.6e-2, pictures 3e-3, gradients 5e-2 to 8e-2, 1 to 2 % of the tokens.
const INT8: Bounds =
    Bounds { float: Float::Relative { value: 0.03, image: 0.01 }, gradient: 0.15, integer: 0.03 };

impl Bounds {
    fn of(model: &Model) -> Bounds {
        let checkpoint = model.checkpoint();
        let stored: Vec<Dtype> = checkpoint.names().filter_map(|n| Some(checkpoint.get(n)?.dtype)).collect();
        if stored.contains(&Dtype::I8) {
            INT8
        } else if stored.iter().any(|&d| d != Dtype::F32) {
            F16
        } else {
            F32
        }
    }
}

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
    /// Bound of `relative` for gradients, what was moved along them, and every float of int8 models; else of
    /// `max_abs`.
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
/// (1e-4 for f32 models, looser for narrower storage) by an absolute one. Errors: the file's, or that nothing
/// in it is known.
pub fn verify(engine: &Engine, path: impl AsRef<Path>, tolerance: Option<f64>) -> Result<Verification> {
    let golden = Arc::new(Checkpoint::open(path.as_ref())?);
    let mut bounds = Bounds::of(engine.model());
    if let Some(tolerance) = tolerance {
        bounds.float = Float::Absolute(tolerance);
    }
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
            let mut results = sessions.run_graph("verify", &graph, &feeds, &cancel)?;
            results.extend(climb(sessions, &model, &file, &batch, &inputs, &cancel)?);
            for (name, found) in results {
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

/// The golden reward R = mean(image_soft · target), its gradient, and three steps e ← e + 0.2·∂R/∂e, from the
/// golden e_in. (Its mean over the batch puts a factor 1/B into every picture's gradient.)
fn climb(
    sessions: &mut Sessions,
    model: &Model,
    golden: &Checkpoint,
    batch: &str,
    inputs: &[(String, Tensor)],
    cancel: &Cancel,
) -> Result<Vec<(String, Tensor)>> {
    let find = |name: &str| inputs.iter().find(|(n, _)| n == name).map(|(_, t)| t.clone());
    let (Some(labels), Some(dropped), Some(target), Some(e_in)) = (
        find("labels"),
        find("drop_label"),
        golden.get(&format!("{batch}/in/target")).map(|t| t.to_tensor()),
        golden.get(&format!("{batch}/out/e_in")).map(|t| t.to_tensor()),
    ) else {
        return Ok(Vec::new());
    };
    let Architecture::MaskBit { generator: cfg, tokenizer } = model.architecture();
    let g = Graph::new();
    let (root, student) =
        (model.weights(), if model.has_component("student") { "student" } else { "teacher" });
    let w = root.at(student);
    let pairs = labels.to_i64().into_iter().zip(dropped.to_i64());
    let class = pairs.map(|(label, dropped)| if dropped > 0 { cfg.nclass as i64 } else { label });
    let class = g.constant(Tensor::from_i64(labels.shape().clone(), &class.collect::<Vec<_>>()))?;
    let condition = maskbit::embed_class(&g, &w, cfg, class)?;
    let e = g.input("e", Dtype::F32, e_in.shape().clone())?;
    let p = g.softmax(maskbit::logits(&g, &w, cfg, e, condition)?, 3)?;
    let soft = maskbit::decoder_embedding(&g, cfg, maskbit::soft_bits(&g, cfg, p)?)?;
    let image = conv_vqgan::decode(&g, &root, tokenizer, soft)?;
    let reward = g.reduce_mean(g.mul(image, g.constant(target)?)?, &[0, 1, 2, 3])?;
    let gradient = grad(&g, reward, &[e])?[0];
    g.output("image", image);
    g.output("reward", g.reshape(reward, [1])?);
    g.output("gradient", gradient);
    g.output("next", g.add(e, g.mul_scalar(gradient, 0.2)?)?);
    let mut session = sessions.compile("verify (gradient)", &simplify(&g)?)?;

    let (mut e, mut found, mut rewards) = (e_in, Vec::new(), Vec::new());
    for k in 0..=3 {
        let mut out = session.run(&[("e", &e)], cancel)?.into_iter().map(|(_, t)| t);
        let mut next = || out.next().ok_or_else(|| Error::internal("the gradient graph lost an output"));
        let (image, reward, gradient, stepped) = (next()?, next()?, next()?, next()?);
        rewards.extend(reward.to_f32());
        found.push((format!("tteo/e_in_{k}"), e));
        if k == 0 {
            found.push(("reward".into(), reward));
            found.push(("grad_e_in".into(), gradient.clone()));
        }
        if k == 3 {
            found.push(("tteo/image_final".into(), image));
        }
        found.push((format!("tteo/grad_{k}"), gradient));
        e = stepped;
    }
    found.push(("tteo/reward".into(), Tensor::from_f32([4], &rewards)));
    Ok(found)
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
    let worst = a.iter().zip(&b).map(difference).fold(0.0, f64::max);
    let (max_abs, tolerance, passed) = if discrete {
        let wrong = a.iter().zip(&b).filter(|(x, y)| x != y).count();
        let share = wrong as f64 / a.len().max(1) as f64;
        (share, bounds.integer, share <= bounds.integer)
    } else if name.contains("grad_") {
        (worst, bounds.gradient, relative <= bounds.gradient)
    } else if name.contains("tteo/e_in") {
        (worst, 2.0 * bounds.gradient, relative <= 2.0 * bounds.gradient)
    } else {
        match bounds.float {
            Float::Absolute(bound) => {
                let bound = match name {
                    _ if name.ends_with("reward") => 20.0 * bound,
                    // Three steps carry the gradient's noise into the picture.
                    _ if name.ends_with("image_final") => 10.0 * bound,
                    _ => bound,
                };
                (worst, bound, worst <= bound)
            }
            Float::Relative { value, image } => {
                let picture = name.contains("/image_") || name.ends_with("recon");
                let bound = if picture { image } else { value };
                (worst, bound, relative <= bound)
            }
        }
    };
    Ok(Row { name: name.into(), shape: expected.shape().to_vec(), max_abs, relative, tolerance, passed })
}

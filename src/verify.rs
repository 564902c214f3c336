//! Replay a golden file: recompute every tensor it holds from its inputs and compare.
//!
//! A golden file is a safetensors file made by the reference implementation: `b0/in/*` are inputs, `b0/out/*`
//! what it computed from them, `b1/..` a second batch. This is how a user proves a conversion.

use serde::Serialize;

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::families::golden::{Named, Replay};
use crate::graph::{Graph, grad, simplify};
use crate::model::Model;
use crate::model_file::packed::is_packed;
use crate::model_file::{FORMAT, FORMATS};
use crate::runtime::{Arithmetic, Cancel};
use crate::sessions::Sessions;
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

/// Computing in int8 rounds activations as well, those of a row by up to 1/254 of its largest. Measured on emoji-32: logits 3.7e-2,
/// 7.8 % of the tokens that the teacher takes under guidance.
const INT8_ARITHMETIC: Bounds =
    Bounds { float: Float::Relative { value: 0.06, image: 0.02 }, gradient: 0.15, integer: 0.12 };

/// int4 rounds the weights of a block by up to 1/14 of its largest, 8e-2 of a matrix in the mean. Measured on emoji-32: logits
/// 0.16 to 0.20, pictures 1.6e-2, gradients 0.60, 5 to 11 % of the tokens.
const INT4: Bounds =
    Bounds { float: Float::Relative { value: 0.3, image: 0.03 }, gradient: 0.8, integer: 0.15 };

/// By how much the bound of gradients grows with a step. A step adds the error of its gradient to what it moves, and the
/// next gradient is taken there: on the tiny networks a gradient is 2.2 to 4.1 times as far off as the one before.
const GROWTH: f64 = 2.0;

impl Bounds {
    fn of(model: &Model, arithmetic: Arithmetic) -> Bounds {
        let checkpoint = model.checkpoint();
        let for_products =
            checkpoint.metadata().get(FORMAT).is_some_and(|format| FORMATS[1..].contains(&format.as_str()));
        let stored: Vec<Dtype> = checkpoint.names().filter_map(|n| Some(checkpoint.get(n)?.dtype)).collect();
        if is_packed(checkpoint) {
            INT4
        } else if stored.contains(&Dtype::I8) && for_products && arithmetic == Arithmetic::Auto {
            INT8_ARITHMETIC
        } else if stored.contains(&Dtype::I8) {
            INT8
        } else if stored.iter().any(|&d| d.is_float() && d != Dtype::F32) {
            F16
        } else {
            F32
        }
    }
}

/// Comparison of one tensor.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
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

/// Result of [`Engine::verify`](crate::Engine::verify).
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Verification {
    pub rows: Vec<Row>,
    /// Tensors of the golden file this library does not recompute.
    pub not_checked: Vec<String>,
    /// By how much the tolerance of gradients, and so of the embeddings they move, grows with a step of the optimisation.
    pub growth: f64,
    pub passed: bool,
}

impl Verification {
    /// One JSON object.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("a verification is plain data")
    }
}

/// Replay the golden file; see [`Engine::verify`](crate::Engine::verify).
///
/// # Errors
/// [`Error::Format`] for a file in which nothing is known or that lacks what it is replayed from,
/// [`Error::TensorMismatch`] for another shape than this library's result, or a failed run.
pub(crate) fn verify(
    sessions: &mut Sessions,
    golden: &Checkpoint,
    tolerance: Option<f64>,
) -> Result<Verification> {
    let model = sessions.model().clone();
    let mut bounds = Bounds::of(&model, sessions.arithmetic());
    if let Some(tolerance) = tolerance {
        bounds.float = Float::Absolute(tolerance);
    }
    let cancel = Cancel::default();
    let mut rows = Vec::new();
    for batch in
        (0..).map(|i| format!("b{i}")).take_while(|b| golden.get(&format!("{b}/in/tokens")).is_some())
    {
        let replay = || Replay::new(model.weights(), golden, &batch);
        let mut results = forward(sessions, &replay(), &cancel)?;
        results.extend(climb(sessions, &replay(), &cancel)?);
        for (name, found) in results {
            let name = format!("{batch}/out/{name}");
            if let Some(expected) = golden.get(&name) {
                rows.push(compare(&name, &found, &expected.to_tensor(), &bounds)?);
            }
        }
    }
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
    Ok(Verification { rows, not_checked, growth: GROWTH, passed })
}

impl Model {
    /// Build, and do not run, the graphs that replay a golden file on this model: what of its bytes is believed before anything
    /// is computed.
    ///
    /// # Errors
    /// The file's.
    #[doc(hidden)]
    pub fn replay_graphs(&self, golden: &Checkpoint) -> Result<()> {
        for batch in
            (0..).map(|i| format!("b{i}")).take_while(|b| golden.get(&format!("{b}/in/tokens")).is_some())
        {
            let g = Graph::new();
            self.architecture().golden_outputs(&g, &Replay::new(self.weights(), golden, &batch))?;
            simplify(&g)?;
        }
        Ok(())
    }
}

/// Every tensor this library recomputes, under its golden name.
fn forward(sessions: &mut Sessions, replay: &Replay, cancel: &Cancel) -> Result<Named> {
    let g = Graph::new();
    sessions.model().clone().architecture().golden_outputs(&g, replay)?;
    let feeds = replay.feeds();
    let feeds: Vec<(&str, &Tensor)> = feeds.iter().map(|(n, t)| (n.as_str(), t)).collect();
    sessions.run_graph("verify", &simplify(&g)?, &feeds, cancel)
}

/// The golden reward R = mean(image_soft · target), its gradient, and three steps e ← e + 0.2·∂R/∂e, from
/// the golden e_in. (Its mean over the batch puts a factor 1/B into every picture's gradient.)
fn climb(sessions: &mut Sessions, replay: &Replay, cancel: &Cancel) -> Result<Named> {
    let (Some(target), Some(e_in)) = (replay.get("in/target"), replay.get("out/e_in")) else {
        return Ok(Vec::new());
    };
    let g = Graph::new();
    let e = g.input("e", Dtype::F32, e_in.shape().clone())?;
    let image = sessions.model().clone().architecture().golden_soft_image(&g, replay, e)?;
    let target = replay.feed(&g, "target", target)?;
    let reward = g.reduce_mean(g.mul(image, target)?, &[0, 1, 2, 3])?;
    let gradient = grad(&g, reward, &[e])?[0];
    g.output("image", image);
    g.output("reward", g.reshape(reward, [1])?);
    g.output("gradient", gradient);
    g.output("next", g.add(e, g.mul_scalar(gradient, 0.2)?)?);
    let mut session = sessions.compile("verify (gradient)", &simplify(&g)?, cancel)?;

    let (mut e, mut found, mut rewards) = (e_in, Vec::new(), Vec::new());
    for k in 0..=3 {
        let mut feeds = replay.feeds();
        feeds.push(("e".into(), e.clone()));
        let mut out = session.run_some(&feeds, cancel)?.into_iter().map(|(_, t)| t);
        let mut next = || out.next().ok_or_else(|| Error::internal("the gradient graph lost an output"));
        let (image, reward, gradient, stepped) = (next()?, next()?, next()?, next()?);
        rewards.extend_from_slice(reward.f32s()?);
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
    found.push(("tteo/reward".into(), Tensor::from_f32_vec([4], rewards)));
    Ok(found)
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
        let wrong = match (found.i64s(), expected.i64s()) {
            (Ok(a), Ok(b)) => different(a, b),
            _ => different(&a, &b),
        };
        let share = wrong as f64 / a.len().max(1) as f64;
        (share, bounds.integer, share <= bounds.integer)
    } else if name.contains("grad_") || name.contains("tteo/e_in") {
        let bound = bounds.gradient * growth(name);
        (worst, bound, relative <= bound)
    } else {
        match bounds.float {
            Float::Absolute(bound) => {
                let bound = match name {
                    _ if name.ends_with("reward") => 20.0 * bound,
                    // Two logits apart, times the guidance scale: 12 in published models.
                    _ if name.contains("logits_cfg") => 25.0 * bound,
                    // Three steps carry the gradient's noise into the picture.
                    _ if name.ends_with("image_final") => 10.0 * bound,
                    _ => bound,
                };
                (worst, bound, worst <= bound)
            }
            Float::Relative { value, image } => {
                let bound = match name {
                    _ if name.contains("/image_") || name.ends_with("recon") => image,
                    // 13·a − 12·b of logits that are off independently: √(13² + 12²).
                    _ if name.contains("logits_cfg") => 17.7 * value,
                    _ => value,
                };
                (worst, bound, relative <= bound)
            }
        }
    };
    Ok(Row { name: name.into(), shape: expected.shape().to_vec(), max_abs, relative, tolerance, passed })
}

/// What the bound of the first gradient is multiplied by for a value of an optimisation: `tteo/grad_2` comes after two
/// steps, and `tteo/e_in_2` was last moved along the gradient before, whose bound it has.
fn growth(name: &str) -> f64 {
    let step = name.rsplit_once('_').and_then(|(_, step)| step.parse::<i32>().ok()).unwrap_or(0);
    GROWTH.powi(if name.contains("e_in_") { (step - 1).max(0) } else { step })
}

fn different<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    a.iter().zip(b).filter(|(x, y)| x != y).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_what_is_moved_grow_with_the_steps() {
        let bound = |name: &str, off: f32| {
            let [a, b] = [1.0, 1.0 + off].map(|v| Tensor::from_f32_vec([2], vec![v; 2]));
            let row = compare(&format!("b0/out/{name}"), &b, &a, &F32).unwrap();
            (row.tolerance, row.passed)
        };
        for name in ["grad_e_in", "tteo/grad_0", "tteo/e_in_0"] {
            assert_eq!(bound(name, 0.9e-4), (1e-4, true), "{name}");
            assert_eq!(bound(name, 1.1e-4), (1e-4, false), "{name}");
        }
        assert_eq!(bound("tteo/grad_2", 3.9e-4), (4e-4, true));
        assert_eq!(bound("tteo/grad_2", 4.1e-4), (4e-4, false));
        assert_eq!(bound("tteo/e_in_1", 1.1e-4), (1e-4, false));
        assert_eq!(bound("tteo/e_in_3", 3.9e-4), (4e-4, true));
        assert_eq!(bound("tteo/e_in_3", 4.1e-4), (4e-4, false));
    }

    /// Neighbours that no float of 53 bits tells apart.
    #[test]
    fn integers_are_compared_as_integers() {
        let large = (1i64 << 53) + 1;
        let [a, b] = [large, large - 1].map(|id| Tensor::from_i64([2], &[7, id]));
        let share = |found| compare("b0/out/tokens", found, &a, &F32).unwrap().max_abs;
        assert_eq!([share(&a), share(&b)], [0.0, 0.5]);
    }
}

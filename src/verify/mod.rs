//! Replay a golden file: recompute every tensor it holds from its inputs and compare.
//!
//! A golden file is a safetensors file made by the reference implementation: `b0/in/*` are inputs, `b0/out/*`
//! what it computed from them, `b1/..` a second batch. This is how a user proves a conversion.

mod maskbit;
mod maskgen;
mod maskgit;

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::checkpoint::Checkpoint;
use crate::engine::{Cancel, Engine, Sessions};
use crate::error::{Error, Result};
use crate::graph::{Graph, Value, grad, simplify};
use crate::model::Model;
use crate::models::Architecture;
use crate::tensor::{Dtype, Tensor};
use crate::weights::Weights;

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
        dtype.is_some_and(|d| d.is_float() && d != Dtype::F32)
    });
    let bounds = Bounds {
        float: tolerance.unwrap_or(if narrow { TOLERANCE_F16 } else { TOLERANCE_F32 }),
        gradient: if narrow { GRADIENT_F16 } else { GRADIENT_F32 },
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
            let replay = || Replay { model: &model, golden: &file, batch: &batch, feeds: RefCell::default() };
            let mut results = replay().forward(sessions, &cancel)?;
            results.extend(replay().climb(sessions, &cancel)?);
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

/// Relative L2 bound of gradients: f32 noise is 1e-5; weights rounded to f16 move them by some percent.
const GRADIENT_F32: f64 = 1e-4;
const GRADIENT_F16: f64 = 0.1;

struct Bounds {
    float: f64,
    /// Relative L2 distance of gradients and of what was moved along them.
    gradient: f64,
    integer: f64,
}

/// A golden batch's tensors of one kind, by name.
type Named = Vec<(String, Tensor)>;

/// A family's part: which golden tensors it reads, the graph of everything it recomputes, and the soft picture
/// from a start embedding in the golden file's own layout.
struct Replay<'a> {
    model: &'a Model,
    golden: &'a Checkpoint,
    /// `b0`, `b1`, …
    batch: &'a str,
    /// What the graph under construction reads.
    feeds: RefCell<Named>,
}

impl Replay<'_> {
    /// The golden tensor `in/name` or `out/name` of this batch.
    fn get(&self, name: &str) -> Option<Tensor> {
        self.golden.get(&format!("{}/{name}", self.batch)).map(|t| t.to_tensor())
    }

    /// [`Replay::get`] of a tensor without which nothing can be replayed.
    fn need(&self, name: &str) -> Result<Tensor> {
        self.get(name).ok_or_else(|| Error::MissingTensor {
            name: format!("{}/{name}", self.batch),
            expected: "a golden tensor".into(),
            file: self.golden.file(),
        })
    }

    /// A golden tensor as an input of the graph, once a name. (Constants would be folded away, and what is
    /// folded is not what runs.)
    fn input(&self, g: &Graph, name: &str) -> Result<Option<Value>> {
        self.get(name).map(|t| self.feed(g, name, t)).transpose()
    }

    /// A tensor as an input of the graph.
    fn feed(&self, g: &Graph, name: &str, tensor: Tensor) -> Result<Value> {
        let value = g.input(name, tensor.dtype(), tensor.shape().clone())?;
        self.feeds.borrow_mut().push((name.into(), tensor));
        Ok(value)
    }

    /// Golden labels with their drop mask → class ids [B], `null` where the label is dropped.
    fn classes(&self, null: usize) -> Result<Tensor> {
        let (labels, dropped) = (self.need("in/labels")?, self.need("in/drop_label")?);
        let pairs = labels.to_i64().into_iter().zip(dropped.to_i64());
        let class = pairs.map(|(label, dropped)| if dropped > 0 { null as i64 } else { label });
        Ok(Tensor::from_i64(labels.shape().clone(), &class.collect::<Vec<_>>()))
    }

    /// The generator that is checked.
    fn generator(&self) -> Weights<'_> {
        self.model.weights().at(if self.model.has_component("student") { "student" } else { "teacher" })
    }

    /// Every tensor this library recomputes, under its golden name.
    fn forward(&self, sessions: &mut Sessions, cancel: &Cancel) -> Result<Named> {
        let g = Graph::new();
        match self.model.architecture() {
            Architecture::MaskBit(family) => maskbit::outputs(&g, self, family)?,
            Architecture::MaskGen(family) => maskgen::outputs(&g, self, family)?,
            Architecture::MaskGit(family) => maskgit::outputs(&g, self, family)?,
        }
        let feeds = self.feeds.borrow();
        let feeds: Vec<(&str, &Tensor)> = feeds.iter().map(|(n, t)| (n.as_str(), t)).collect();
        sessions.run_graph("verify", &simplify(&g)?, &feeds, cancel)
    }

    /// The soft picture from the start embedding `e`, in the golden file's layout.
    fn soft_image(&self, g: &Graph, e: Value) -> Result<Value> {
        match self.model.architecture() {
            Architecture::MaskBit(family) => maskbit::soft_image(g, self, family, e),
            Architecture::MaskGen(family) => maskgen::soft_image(g, self, family, e),
            Architecture::MaskGit(family) => maskgit::soft_image(g, self, family, e),
        }
    }

    /// The golden reward R = mean(image_soft · target), its gradient, and three steps e ← e + 0.2·∂R/∂e, from
    /// the golden e_in. (Its mean over the batch puts a factor 1/B into every picture's gradient.)
    fn climb(&self, sessions: &mut Sessions, cancel: &Cancel) -> Result<Named> {
        let (Some(target), Some(e_in)) = (self.get("in/target"), self.get("out/e_in")) else {
            return Ok(Vec::new());
        };
        let g = Graph::new();
        let e = g.input("e", Dtype::F32, e_in.shape().clone())?;
        let image = self.soft_image(&g, e)?;
        let target = self.feed(&g, "target", target)?;
        let reward = g.reduce_mean(g.mul(image, target)?, &[0, 1, 2, 3])?;
        let gradient = grad(&g, reward, &[e])?[0];
        g.output("image", image);
        g.output("reward", g.reshape(reward, [1])?);
        g.output("gradient", gradient);
        g.output("next", g.add(e, g.mul_scalar(gradient, 0.2)?)?);
        let mut session = sessions.compile("verify (gradient)", &simplify(&g)?)?;

        let (mut e, mut found, mut rewards) = (e_in, Vec::new(), Vec::new());
        for k in 0..=3 {
            let mut feeds = self.feeds.borrow().clone();
            feeds.push(("e".into(), e.clone()));
            let mut out = session.run_some(&feeds, cancel)?.into_iter().map(|(_, t)| t);
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
    } else if name.ends_with("reward") {
        (worst, 20.0 * bounds.float, worst <= 20.0 * bounds.float)
    } else if name.contains("logits_cfg") {
        // Two logits apart, times the guidance scale: 12 in published models.
        (worst, 25.0 * bounds.float, worst <= 25.0 * bounds.float)
    } else if name.ends_with("image_final") {
        // Three steps carry the gradient's noise into the picture.
        (worst, 10.0 * bounds.float, worst <= 10.0 * bounds.float)
    } else {
        (worst, bounds.float, worst <= bounds.float)
    };
    Ok(Row { name: name.into(), shape: expected.shape().to_vec(), max_abs, relative, tolerance, passed })
}

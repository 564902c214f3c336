//! Reverse mode against central differences: every op's rule on every case of the op table, in f64, and the
//! gradient graphs through ONNX Runtime against the evaluator.

use std::collections::BTreeMap;

use super::case::{close, evaluate, floats, random};
use super::{op_cases, runtime};
use softdimo::graph::{Graph, Op, Value, grad};
use softdimo::rng::{Philox, Stream};
use softdimo::tensor::{Dtype, Tensor};

/// Ops whose result is constant almost everywhere, or not a float: they pass no gradient, and say so.
const WITHOUT_GRADIENT: [&str; 9] =
    ["ArgMax", "Constant", "Equal", "Greater", "OneHot", "QLinearConv", "QuantizeLinear", "Sign", "Weight"];

/// Chosen after the gradient.
const IN_INTEGERS: [&str; 2] = ["MatMulIntegerToFloat", "SumNormalization"];

/// Ops whose rule is a definition and not a derivative: StopGradient passes nothing, Cast ignores rounding.
const BY_DEFINITION: [&str; 2] = ["Cast", "StopGradient"];

/// Step of the central difference.
const H: f64 = 1e-4;

/// The loss Σ y·c with fixed random c, and the gradient with respect to every float input.
fn with_gradient(graph: &Graph) -> (Graph, Vec<String>) {
    let g = graph.clone();
    let y = g.outputs()[0].1;
    let shape = g.shape(y);
    let rng = Philox::new(99);
    let c: Vec<f32> = (0..shape.len()).map(|i| rng.gaussian_at(Stream::Perturbation, 0, i as u64)).collect();
    let c = g.constant(Tensor::from_f32(shape, &c)).unwrap();
    let all: Vec<usize> = (0..g.shape(y).rank()).collect();
    let loss = g.reduce_sum(g.mul(y, c).unwrap(), &all).unwrap();
    let inputs: Vec<(String, Value)> = {
        let nodes = g.nodes();
        let values = nodes.iter().enumerate().filter_map(|(i, n)| match &n.op {
            Op::Input { name, dtype: Dtype::F32, .. } => Some((name.clone(), i)),
            _ => None,
        });
        let handles: Vec<(String, usize)> = values.collect();
        drop(nodes);
        handles.into_iter().map(|(name, i)| (name, value_at(&g, i))).collect()
    };
    let wrt: Vec<Value> = inputs.iter().map(|(_, v)| *v).collect();
    let gradients = grad(&g, loss, &wrt).unwrap();
    g.output("loss", loss);
    for ((name, _), dx) in inputs.iter().zip(gradients) {
        g.output(format!("d{name}"), dx);
    }
    (g, inputs.into_iter().map(|(name, _)| name).collect())
}

/// The handle of node `i`: a fresh reshape-free way is to look it up among some node's inputs or outputs.
pub fn value_at(g: &Graph, i: usize) -> Value {
    let nodes = g.nodes();
    let used = nodes.iter().flat_map(|n| n.inputs.iter().copied());
    let named: Vec<Value> = g.outputs().into_iter().map(|(_, v)| v).collect();
    used.chain(named).find(|v| v.index() == i).expect("every input of a case is used")
}

#[test]
fn every_rule_matches_central_differences() {
    let mut checked = BTreeMap::<&str, usize>::new();
    let mut failures = Vec::new();
    for case in op_cases() {
        let graph = case.graph();
        if graph.dtype(graph.outputs()[0].1) != Dtype::F32 || BY_DEFINITION.contains(&case.op) {
            continue;
        }
        if IN_INTEGERS.contains(&case.op) {
            let g = graph.clone();
            // No gradient comes through what is made of levels.
            if g.nodes().iter().any(|n| n.op.name() == case.op && n.dtype != Dtype::F32) {
                continue;
            }
            let y = g.outputs()[0].1;
            let all: Vec<usize> = (0..g.shape(y).rank()).collect();
            let float = g.nodes().iter().position(|n| n.op.is_source() && n.dtype == Dtype::F32).unwrap();
            let x = value_at(&g, float);
            let error = grad(&g, g.reduce_sum(y, &all).unwrap(), &[x]).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("a gradient through {}: expected an op of floats, found one of int8", case.op)
            );
            continue;
        }
        let (g, inputs) = with_gradient(&graph);
        let feeds = case.feeds();
        let results = evaluate(&g, &feeds);
        let loss = |feeds: &[(String, softdimo::graph::eval::Array)]| {
            let map = feeds.iter().cloned().collect();
            let all = softdimo::graph::eval::eval(&g, &map).unwrap();
            all[1].1.data[0]
        };
        let mut arrays: Vec<(String, softdimo::graph::eval::Array)> = feeds
            .iter()
            .map(|(n, t)| (n.clone(), softdimo::graph::eval::Array::new(t.shape().clone(), t.to_f64())))
            .collect();
        for (k, name) in inputs.iter().enumerate() {
            let slot = arrays.iter().position(|(n, _)| n == name).unwrap();
            let found = &results[2 + k].data;
            // A sample of elements keeps the naive evaluator quick on the larger cases.
            let n = arrays[slot].1.data.len();
            let stride = n.div_ceil(24).max(1);
            for i in (0..n).step_by(stride) {
                let x = arrays[slot].1.data[i];
                let mut at = |x: f64| {
                    arrays[slot].1.data[i] = x;
                    loss(&arrays)
                };
                let (up, here, down) = (at(x + H), at(x), at(x - H));
                let (right, left) = ((up - here) / H, (here - down) / H);
                let slope = (right + left) / 2.0;
                let scale = slope.abs().max(found[i].abs()).max(1.0);
                // One-sided slopes that differ mean a kink, slopes that grow with a smaller step a jump: there
                // is no derivative to match.
                let narrow = (at(x + H / 4.0) - at(x - H / 4.0)) / (H / 2.0);
                at(x);
                let smooth = |d: f64| d.is_finite() && d.abs() <= 1e-2 * scale;
                if !slope.is_finite() || !smooth(right - left) || !smooth(narrow - slope) {
                    continue;
                }
                if (slope - found[i]).abs() > 2e-4 * scale {
                    failures
                        .push(format!("{} d{name}[{i}]: expected {slope}, found {}\n{g}", case.op, found[i]));
                }
                *checked.entry(case.op).or_default() += 1;
            }
        }
    }
    println!("elements: {checked:?}");
    assert!(failures.is_empty(), "{} failures, first:\n{}", failures.len(), failures[0]);
    let smooth = <Op as strum::VariantNames>::VARIANTS
        .iter()
        .filter(|op| !WITHOUT_GRADIENT.contains(op) && !BY_DEFINITION.contains(op))
        .filter(|op| !IN_INTEGERS.contains(op));
    for op in smooth {
        assert!(checked.get(op).is_some_and(|&n| n > 0), "{op}: no gradient was checked");
    }
}

#[test]
fn gradients_run_on_onnx_runtime() {
    let engine = runtime::engine(runtime::LEAN);
    let mut failures = Vec::new();
    for case in op_cases() {
        let graph = case.graph();
        let shape = graph.shape(graph.outputs()[0].1);
        let empty = case.feeds().iter().any(|(_, t)| t.shape().is_empty());
        let skipped = IN_INTEGERS.contains(&case.op) || shape.is_empty() || empty;
        if graph.dtype(graph.outputs()[0].1) != Dtype::F32 || skipped {
            continue;
        }
        let (g, inputs) = with_gradient(&graph);
        if inputs.is_empty() {
            continue;
        }
        let expected = evaluate(&g, &case.feeds());
        match engine.run_graph(g.clone(), case.feeds()) {
            Ok(results) => {
                for ((name, found), expected) in results.iter().zip(&expected).skip(2) {
                    // Saturated and nearly constant lanes leave gradients that f32 cannot resolve: those pass
                    // by their absolute size (cotangents are of order 1).
                    let found = found.to_f64();
                    let distance = |a: f64, (x, y): (&f64, &f64)| a.max((x - y).abs());
                    let worst = found.iter().zip(&expected.data).fold(0.0, distance);
                    if let (Err(e), true) = (close(&found, &expected.data, 1e-4), worst > 2e-4) {
                        failures.push(format!("{} {name}: {e}\n{g}", case.op));
                    }
                }
            }
            Err(e) => failures.push(format!("{}: {e}\n{g}", case.op)),
        }
    }
    assert!(failures.is_empty(), "{} failures, first:\n{}", failures.len(), failures[0]);
}

/// A value used twice gets both contributions; what the loss does not reach gets zeros; a stopped branch
/// counts as a constant.
#[test]
fn the_driver_sums_stops_and_fills() {
    let g = Graph::new();
    let x = g.input("x", Dtype::F32, [2]).unwrap();
    let unused = g.input("u", Dtype::F32, [2]).unwrap();
    let square = g.mul(x, x).unwrap();
    let y = g.add(square, g.stop_gradient(square).unwrap()).unwrap();
    let d = grad(&g, y, &[x, unused]).unwrap();
    g.output("dx", d[0]);
    g.output("du", d[1]);
    let feeds = [("x", [3.0f32, -1.0]), ("u", [5.0, 5.0])];
    let feeds: Vec<(String, Tensor)> = feeds.map(|(n, v)| (n.to_string(), Tensor::from_f32([2], &v))).into();
    let found = evaluate(&g, &feeds);
    assert_eq!(found[0].data, [6.0, -2.0]);
    assert_eq!(found[1].data, [0.0, 0.0]);
}

/// A cast's cotangent is the result's, in the operand's dtype.
#[test]
fn casts_pass_the_cotangent() {
    let g = Graph::new();
    let x = g.input("x", Dtype::F32, [2]).unwrap();
    let narrow = g.cast(g.cast(x, Dtype::F16).unwrap(), Dtype::F32).unwrap();
    g.output("dx", grad(&g, g.mul_scalar(narrow, 3.0).unwrap(), &[x]).unwrap()[0]);
    let found = evaluate(&g, &[("x".to_string(), Tensor::from_f32([2], &[0.1, 7.0]))]);
    assert_eq!(found[0].data, [3.0, 3.0]);
}

/// Kernels are reversed in their own dtype.
#[test]
fn narrow_convolutions_have_a_gradient() {
    for dtype in [Dtype::F16, Dtype::BF16] {
        let build = |dtype: Dtype| {
            let g = Graph::new();
            let x = g.input("x", Dtype::F32, [1, 2, 5, 4]).unwrap();
            let w = g.input("w", Dtype::F32, [3, 2, 3, 3]).unwrap();
            let [x16, w16] = [x, w].map(|v| g.cast(v, dtype).unwrap());
            let y = g.cast(g.conv(x16, w16, None, [1, 1], [1; 4], 1).unwrap(), Dtype::F32).unwrap();
            g.output("dx", grad(&g, y, &[x]).unwrap()[0]);
            // Numbers that both dtypes have.
            let w: Vec<f32> = (0..54).map(|i| (i % 9) as f32 - 4.0).collect();
            let feeds = [("x".to_string(), random(71, [1, 2, 5, 4])), ("w".into(), floats([3, 2, 3, 3], &w))];
            evaluate(&g, &feeds).remove(0).data
        };
        assert_eq!(build(dtype), build(Dtype::F32), "{dtype:?}");
    }
}

/// Straight-through: hard forward, soft backward, as a graph expression.
#[test]
fn straight_through_is_an_expression() {
    let g = Graph::new();
    let x = g.input("x", Dtype::F32, [1, 3]).unwrap();
    let soft = g.softmax(x, 1).unwrap();
    let hard = g.one_hot(g.arg_max(x, 1).unwrap(), 3).unwrap();
    let ste = g.add(soft, g.stop_gradient(g.sub(hard, soft).unwrap()).unwrap()).unwrap();
    let w = g.constant(Tensor::from_f32([1, 3], &[1.0, 2.0, 4.0])).unwrap();
    let through = grad(&g, g.mul(ste, w).unwrap(), &[x]).unwrap()[0];
    let plain = grad(&g, g.mul(soft, w).unwrap(), &[x]).unwrap()[0];
    g.output("ste", ste);
    g.output("through", through);
    g.output("plain", plain);
    let found = evaluate(&g, &[("x".to_string(), Tensor::from_f32([1, 3], &[0.1, 0.7, -0.4]))]);
    close(&found[0].data, &[0.0, 1.0, 0.0], 1e-12).unwrap();
    assert_eq!(found[1].data, found[2].data);
}

/// x·σ(x) has a rule of its own for x; what is asked of σ itself, or reads it beside, is not lost.
#[test]
fn gated_by_its_own_sigmoid() {
    let at = random(51, [3, 4]);
    let of = |build: &dyn Fn(&Graph, Value, Value) -> Vec<Value>| {
        let g = Graph::new();
        let x = g.input("x", Dtype::F32, [3, 4]).unwrap();
        let s = g.sigmoid(x).unwrap();
        for (i, d) in build(&g, x, s).into_iter().enumerate() {
            g.output(format!("d{i}"), d);
        }
        let results = evaluate(&g, &[("x".to_string(), at.clone())]);
        results.into_iter().map(|a| a.data).collect::<Vec<_>>()
    };
    let sigma = |x: f64| 1.0 / (1.0 + (-x).exp());
    let each = |f: &dyn Fn(f64, f64) -> f64| -> Vec<f64> {
        at.to_f64().into_iter().map(|x| f(x, sigma(x))).collect()
    };
    let near = |found: &[f64], expected: Vec<f64>| {
        found.iter().zip(expected).for_each(|(f, e)| assert!((f - e).abs() < 1e-12, "{f} for {e}"));
    };
    let slope = each(&|x, s| s + x * s * (1.0 - s));
    let alone = of(&|g, x, s| grad(g, g.mul(x, s).unwrap(), &[x]).unwrap());
    near(&alone[0], slope.clone());
    let both = of(&|g, x, s| grad(g, g.mul(x, s).unwrap(), &[x, s]).unwrap());
    near(&both[0], slope);
    near(&both[1], each(&|x, _| x));
    let gate = of(&|g, x, s| grad(g, g.mul(x, s).unwrap(), &[s]).unwrap());
    near(&gate[0], each(&|x, _| x));
    // x·σ + σ²
    let beside =
        of(&|g, x, s| grad(g, g.add(g.mul(x, s).unwrap(), g.mul(s, s).unwrap()).unwrap(), &[x]).unwrap());
    near(&beside[0], each(&|x, s| s + x * s * (1.0 - s) + 2.0 * s * s * (1.0 - s)));
}

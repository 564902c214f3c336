//! The gradient of a GroupNormalization as one operator of our own: its kernel, and the rewrite that makes it.

use super::case::{Case, case, close, evaluate, floats, positive, random, uniform};
use super::runtime;
use softdimo::graph::rewrite::{Kernels, for_running};
use softdimo::graph::{Graph, Op, Value, grad};
use softdimo::tensor::{Dtype, Tensor};

fn push(g: &Graph, groups: usize, silu: bool, operands: [Value; 4]) -> softdimo::Result<Value> {
    g.push(Op::GroupNormalizationGradient { groups, eps: 1e-5, silu }, &operands)
}

pub fn cases() -> Vec<Case> {
    // Of mean 2 and variance 1; eps 3 makes the divisor 2.
    let inputs = [
        floats([1, 1, 1, 2], &[1.0, 3.0]),
        floats([1], &[4.0]),
        floats([1], &[9.0]),
        floats([1, 1, 1, 2], &[1.0, 0.0]),
    ];
    let example = case("GroupNormalizationGradient", inputs, |g, operands| {
        g.push(Op::GroupNormalizationGradient { groups: 1, eps: 3.0, silu: false }, &operands)
    });
    let mut cases = vec![example.gives([0.75, -0.75])];
    // A tile is 1024 elements, sums are of 64 side by side.
    let shapes =
        [([1, 4, 3, 5], 2), ([2, 6, 1, 3], 3), ([2, 8, 1, 1], 2), ([1, 2, 40, 31], 1), ([1, 2, 8, 8], 2)];
    for (i, (shape, groups)) in shapes.into_iter().enumerate() {
        for silu in [false, true] {
            let seed = 1200 + 10 * i as u64;
            let c = [shape[1]];
            let inputs =
                [random(seed, shape), positive(seed + 1, c), random(seed + 2, c), random(seed + 3, shape)];
            cases.push(case("GroupNormalizationGradient", inputs, move |g, operands| {
                push(g, groups, silu, operands)
            }));
        }
    }
    cases
}

/// How x [2, 8, H, W] is normalised.
struct Network {
    g: Graph,
    x: Value,
    scale: Value,
    bias: Value,
    y: Value,
}

fn network(silu: bool) -> (Network, Vec<(String, Tensor)>) {
    let g = Graph::new();
    let shape = [2, 8, 5, 6];
    let x = g.input("x", Dtype::F32, shape).unwrap();
    let [scale, bias] = ["scale", "bias"].map(|name| g.input(name, Dtype::F32, [8]).unwrap());
    let normal = g.group_normalization(x, scale, bias, 4, 1e-6).unwrap();
    let y = if silu { g.silu(normal).unwrap() } else { normal };
    g.output("y", y);
    let feeds = vec![
        ("x".to_string(), random(41, shape)),
        ("scale".into(), random(42, [8])),
        ("bias".into(), random(43, [8])),
    ];
    (Network { g, x, scale, bias, y }, feeds)
}

/// The graph as it is run, of the same values; how often it has each of `ops`.
fn fused(g: &Graph, feeds: &[(String, Tensor)], ops: &[&str]) -> Vec<usize> {
    let fused = for_running(g, Kernels::default()).unwrap();
    let expected = evaluate(g, feeds);
    for (found, expected) in evaluate(&fused, feeds).iter().zip(&expected) {
        close(&found.data, &expected.data, 1e-9).unwrap_or_else(|e| panic!("{e}\n{g}\n{fused}"));
    }
    let found = runtime::engine(runtime::LEAN).run_graph(g.clone(), feeds.to_vec()).unwrap();
    for ((name, found), expected) in found.iter().zip(&expected) {
        close(&found.to_f64(), &expected.data, 1e-5).unwrap_or_else(|e| panic!("{name}: {e}\n{fused}"));
    }
    assert_eq!(for_running(&fused, Kernels::default()).unwrap().to_string(), fused.to_string());
    ops.iter().map(|op| fused.nodes().iter().filter(|n| n.op.name() == *op).count()).collect()
}

const OPS: [&str; 3] = ["GroupNormalizationGradient", "Reciprocal", "Sub"];

#[test]
fn gradients_of_a_normalisation_are_one_operator() {
    for silu in [false, true] {
        let (n, feeds) = network(silu);
        let loss = n.g.exp(n.y).unwrap();
        n.g.output("dx", grad(&n.g, loss, &[n.x]).unwrap()[0]);
        assert_eq!(fused(&n.g, &feeds, &OPS), [1, 0, 0], "{silu}\n{}", n.g);

        // What the gradients by scale and bias read is computed beside it.
        let all = grad(&n.g, loss, &[n.x, n.scale, n.bias]).unwrap();
        for (name, v) in ["again", "dscale", "dbias"].into_iter().zip(all) {
            n.g.output(name, v);
        }
        assert_eq!(fused(&n.g, &feeds, &OPS)[0], 1, "{silu}");
    }
}

/// Slopes of other functions, or of another value, are none of x·σ(x).
#[test]
fn what_is_nearly_such_a_gradient_stays() {
    for kind in 0..4 {
        let (n, mut feeds) = network(false);
        let g = &n.g;
        feeds.push(("other".into(), random(44, [2, 8, 5, 6])));
        let other = g.input("other", Dtype::F32, [2, 8, 5, 6]).unwrap();
        let y = match kind {
            0 => g.mul(n.y, g.sigmoid(other).unwrap()),
            1 => g.sigmoid(n.y),
            2 => g.silu(g.group_normalization(n.y, n.bias, n.scale, 2, 1e-6).unwrap()),
            _ => g.mul(g.silu(n.y).unwrap(), n.y),
        };
        let loss = g.mul(y.unwrap(), other).unwrap();
        g.output("dx", grad(g, loss, &[n.x]).unwrap()[0]);
        // Those of the normalisations are.
        assert_eq!(fused(g, &feeds, &OPS)[..2], [if kind == 2 { 2 } else { 1 }, 0], "{kind}\n{g}");
    }
    // Of three axes.
    let g = Graph::new();
    let x = g.input("x", Dtype::F32, [1, 4, 6]).unwrap();
    let scale = g.input("scale", Dtype::F32, [4]).unwrap();
    let y = g.group_normalization(x, scale, scale, 2, 1e-6).unwrap();
    let loss = g.exp(y).unwrap();
    g.output("dx", grad(&g, loss, &[x]).unwrap()[0]);
    let feeds = [("x".into(), random(45, [1, 4, 6])), ("scale".into(), random(46, [4]))];
    assert_eq!(fused(&g, &feeds, &OPS)[0], 0);
}

/// x̄ of x [2, 4, 3, 4] in the shape `grouped`, where what is normalised is scaled by `scale` [4] in the shape `channel`.
fn formula(dtype: Dtype, grouped: [usize; 3], channel: [usize; 4]) -> Graph {
    let g = Graph::new();
    let shape = [2, 4, 3, 4];
    let [x, dy] = ["x", "dy"].map(|name| g.input(name, Dtype::F32, shape).unwrap());
    let scale = g.input("scale", Dtype::F32, [4]).unwrap();
    let [x, dy, scale] = [x, dy, scale].map(|v| g.cast(v, dtype).unwrap());
    let mean = |v: Value| g.reduce_mean(v, &[2]);
    let build = || {
        let d = g.reshape(g.mul(dy, g.reshape(scale, channel)?)?, grouped)?;
        let x = g.reshape(x, grouped)?;
        let centred = g.sub(x, mean(x)?)?;
        let eps = g.cast(g.constant(Tensor::from_f32([1, 1, 1], &[1e-5]))?, dtype)?;
        let r = g.reciprocal(g.sqrt(g.add(mean(g.mul(centred, centred)?)?, eps)?)?)?;
        let normal = g.mul(centred, r)?;
        let inner = g.sub(g.sub(d, mean(d)?)?, g.mul(normal, mean(g.mul(d, normal)?)?)?)?;
        g.cast(g.reshape(g.mul(r, inner)?, shape)?, Dtype::F32)
    };
    g.output("dx", build().unwrap());
    g
}

/// One scale for every channel, groups of whole channels of one picture, and numbers of the kernel's width.
#[test]
fn what_is_scaled_or_grouped_otherwise_stays() {
    let feeds = [
        ("x".to_string(), random(47, [2, 4, 3, 4])),
        ("dy".into(), random(48, [2, 4, 3, 4])),
        ("scale".into(), random(49, [4])),
    ];
    let (grouped, channel) = ([2, 2, 24], [1, 4, 1, 1]);
    assert_eq!(fused(&formula(Dtype::F32, grouped, channel), &feeds, &OPS)[0], 1);
    assert_eq!(fused(&formula(Dtype::F32, grouped, [1, 1, 1, 4]), &feeds, &OPS)[0], 0);
    for grouped in [[1, 4, 24], [4, 2, 12]] {
        assert_eq!(fused(&formula(Dtype::F32, grouped, channel), &feeds, &OPS)[0], 0, "{grouped:?}");
    }
    let half = formula(Dtype::F16, grouped, channel);
    assert_eq!(for_running(&half, Kernels::default()).unwrap().to_string(), half.to_string());
}

/// Bit for bit, and near a mean that is large beside the deviation; of a group with a value that is no number, or without end, no value is finite.
#[test]
fn gradients_do_not_depend_on_the_number_of_threads() {
    let shape = [2, 64, 48, 48];
    let far = uniform(8, shape, 1000.0, 1001.0);
    let mut feeds = vec![
        ("x".to_string(), far),
        ("scale".into(), random(2, [64])),
        ("bias".into(), random(3, [64])),
        ("dy".into(), random(4, shape)),
    ];
    let g = Graph::new();
    let [x, dy] = ["x", "dy"].map(|name| g.input(name, Dtype::F32, shape).unwrap());
    let [scale, bias] = ["scale", "bias"].map(|name| g.input(name, Dtype::F32, [64]).unwrap());
    for silu in [false, true] {
        g.output(format!("{silu}"), push(&g, 8, silu, [x, scale, bias, dy]).unwrap());
    }
    let run = |threads, feeds: &Vec<(String, Tensor)>| {
        runtime::engine_of(runtime::LEAN, threads).run_graph(g.clone(), feeds.clone()).unwrap()
    };
    let results = [1, 2, 3].map(|threads| run(threads, &feeds));
    for (i, expected) in evaluate(&g, &feeds).iter().enumerate() {
        assert!(results[1..].iter().all(|r| r[i].1.bytes() == results[0][i].1.bytes()));
        close(&results[0][i].1.to_f64(), &expected.data, 1e-5).unwrap();
    }
    for bad in [f32::NAN, f32::INFINITY] {
        for operand in [0, 3] {
            let good = feeds[operand].1.clone();
            let mut values: Vec<f32> = good.to_f64().iter().map(|&x| x as f32).collect();
            values[7] = bad;
            feeds[operand].1 = Tensor::from_f32(shape, &values);
            for (_, found) in run(1, &feeds) {
                let found = found.to_f64();
                let (of_group, others) = found.split_at(8 * 48 * 48);
                assert!(
                    of_group.iter().all(|x| !x.is_finite()) && others.iter().all(|x| x.is_finite()),
                    "{bad}"
                );
            }
            feeds[operand].1 = good;
        }
    }
}

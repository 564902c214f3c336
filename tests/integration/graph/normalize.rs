//! Reductions and normalisations.

use super::case::{Case, case, evaluate, floats, ints, random, random_ints};
use softdimo::graph::Graph;
use softdimo::tensor::Dtype;

pub fn cases() -> Vec<Case> {
    [reductions(), softmaxes(), normalizations()].into_iter().flatten().collect()
}

fn reductions() -> Vec<Case> {
    let six = || floats([2, 3], &[1.0, 5.0, 3.0, 4.0, 2.0, 6.0]);
    let mut cases = vec![
        case("ArgMax", [six()], |g, [x]| g.arg_max(x, 1)).gives([1.0, 2.0]),
        case("ArgMax", [six()], |g, [x]| g.arg_max(x, 0)).gives([1.0, 0.0, 1.0]),
        // Ties: the lowest index.
        case("ArgMax", [floats([2, 4], &[1.0, 3.0, 3.0, 3.0, 0.0, 0.0, -1.0, 0.0])], |g, [x]| {
            g.arg_max(x, 1)
        })
        .gives([1.0, 0.0]),
        case("ArgMax", [floats([40], &[2.5; 40])], |g, [x]| g.arg_max(x, 0)).gives([0.0]),
        case("ArgMax", [ints([3], &[4, 9, 9])], |g, [x]| g.arg_max(x, 0)).gives([1.0]),
        case("ArgMax", [floats([0, 3], &[])], |g, [x]| g.arg_max(x, 1)).gives([]),
        case("ReduceMax", [six()], |g, [x]| g.reduce_max(x, 1)).gives([5.0, 6.0]),
        case("ReduceMax", [six()], |g, [x]| g.reduce_max(x, 0)).gives([4.0, 5.0, 6.0]),
        case("ReduceMax", [ints([2, 2], &[-5, -4, 1, 0])], |g, [x]| g.reduce_max(x, 1)).gives([-4.0, 1.0]),
        case("ReduceMean", [six()], |g, [x]| g.reduce_mean(x, &[1])).gives([3.0, 4.0]),
        case("ReduceMean", [six()], |g, [x]| g.reduce_mean(x, &[0, 1])).gives([3.5]),
        case("ReduceSum", [six()], |g, [x]| g.reduce_sum(x, &[0])).gives([5.0, 7.0, 9.0]),
        case("ReduceSum", [six()], |g, [x]| g.reduce_sum(x, &[1, 0])).gives([21.0]),
        // No axes: nothing is summed.
        case("ReduceSum", [six()], |g, [x]| g.reduce_sum(x, &[])).gives([1.0, 5.0, 3.0, 4.0, 2.0, 6.0]),
        case("ReduceMean", [six()], |g, [x]| g.reduce_mean(x, &[])).gives([1.0, 5.0, 3.0, 4.0, 2.0, 6.0]),
        case("ReduceSum", [ints([2, 2], &[1, 2, 3, 4])], |g, [x]| g.reduce_sum(x, &[1])).gives([3.0, 7.0]),
        case("ReduceSum", [floats([2, 0], &[])], |g, [x]| g.reduce_sum(x, &[1])).gives([0.0, 0.0]),
    ];
    for axis in 0..3 {
        let x = || random(900, [3, 4, 5]);
        cases.push(case("ArgMax", [x()], move |g, [x]| g.arg_max(x, axis)));
        cases.push(case("ArgMax", [random_ints(901, [3, 4, 5], 0, 2)], move |g, [x]| {
            g.arg_max(g.cast(x, Dtype::F32)?, axis)
        }));
        cases.push(case("ReduceMax", [x()], move |g, [x]| g.reduce_max(x, axis)));
    }
    let axes: [&[usize]; 6] = [&[0], &[1], &[2], &[0, 2], &[2, 1], &[0, 1, 2]];
    for axes in axes {
        let x = || random(902, [3, 4, 5]);
        cases.push(case("ReduceMean", [x()], move |g, [x]| g.reduce_mean(x, axes)));
        cases.push(case("ReduceSum", [x()], move |g, [x]| g.reduce_sum(x, axes)));
    }
    cases
}

fn softmaxes() -> Vec<Case> {
    let ln3 = 3f64.ln();
    // e^0 : e^ln 3 = 1 : 3, and it does not change with a shift that would overflow exp.
    let x = floats([2, 2], &[0.0, ln3 as f32, 1000.0, 1000.0]);
    let mut cases = vec![
        case("Softmax", [floats([1, 2], &[500.0, 500.0])], |g, [x]| g.softmax(x, 1)).gives([0.5, 0.5]),
        case("LogSoftmax", [floats([4], &[9.0; 4])], |g, [x]| g.log_softmax(x, 0)).gives([-(4f64.ln()); 4]),
        case("Softmax", [x.clone()], |g, [x]| g.softmax(x, 1)),
        case("LogSoftmax", [x], |g, [x]| g.log_softmax(x, 1)),
        case("Softmax", [floats([0, 4], &[])], |g, [x]| g.softmax(x, 1)).gives([]),
    ];
    for axis in 0..4 {
        let x = || random(910, [2, 3, 4, 5]);
        cases.push(case("Softmax", [x()], move |g, [x]| g.softmax(x, axis)));
        cases.push(case("LogSoftmax", [x()], move |g, [x]| g.log_softmax(x, axis)));
    }
    cases
}

fn normalizations() -> Vec<Case> {
    let unit = || [floats([2], &[1.0, 1.0]), floats([2], &[0.0, 0.0])];
    let [one, zero] = unit();
    // Mean 2, variance 1; eps 3 makes the divisor √(1 + 3) = 2.
    let pair = || floats([1, 2], &[1.0, 3.0]);
    let mut cases = vec![
        case("LayerNormalization", [pair(), one, zero], |g, [x, s, b]| g.layer_normalization(x, s, b, 3.0))
            .gives([-0.5, 0.5]),
        case(
            "LayerNormalization",
            [pair(), floats([2], &[2.0, 4.0]), floats([2], &[10.0, 20.0])],
            |g, [x, s, b]| g.layer_normalization(x, s, b, 3.0),
        )
        .gives([9.0, 22.0]),
        // Two groups of one channel with elements (1, 3) and (0, 4): mean 2, variances 1 and 4.
        case(
            "GroupNormalization",
            [floats([1, 2, 2], &[1.0, 3.0, 0.0, 4.0]), floats([2], &[2.0, 1.0]), floats([2], &[0.0, 1.0])],
            |g, [x, s, b]| g.group_normalization(x, s, b, 2, 0.0),
        )
        .gives([-2.0, 2.0, 0.0, 2.0]),
        // One group over both channels: mean 2, variance 2.5; eps 1.5 makes the divisor 2.
        case(
            "GroupNormalization",
            [floats([1, 2, 2], &[1.0, 3.0, 0.0, 4.0]), floats([2], &[2.0, 1.0]), floats([2], &[0.0, 1.0])],
            |g, [x, s, b]| g.group_normalization(x, s, b, 1, 1.5),
        )
        .gives([-1.0, 1.0, 0.0, 2.0]),
    ];
    let shapes: [&[usize]; 5] = [&[6], &[4, 6], &[2, 3, 6], &[2, 2, 3, 6], &[0, 6]];
    for (i, shape) in shapes.into_iter().enumerate() {
        let seed = 920 + i as u64;
        for eps in [1e-5, 1e-12] {
            let inputs = [random(seed, shape), random(seed + 10, [6]), random(seed + 20, [6])];
            cases.push(case("LayerNormalization", inputs, move |g, [x, s, b]| {
                g.layer_normalization(x, s, b, eps)
            }));
        }
    }
    let shapes: [&[usize]; 5] = [&[2, 6, 5], &[2, 6, 4, 3], &[1, 6, 1, 1], &[3, 6], &[0, 6, 2]];
    for (i, shape) in shapes.into_iter().enumerate() {
        for groups in [1, 2, 3, 6] {
            // A group of a single element is its own mean.
            let seed = 940 + (4 * i + groups) as u64;
            let inputs = [random(seed, shape), random(seed + 30, [6]), random(seed + 60, [6])];
            cases.push(case("GroupNormalization", inputs, move |g, [x, s, b]| {
                g.group_normalization(x, s, b, groups, 1e-6)
            }));
        }
    }
    cases
}

/// With scale 1, bias 0 and no eps every lane has mean 0 and variance 1.
#[test]
fn normalized_lanes_have_mean_0_and_variance_1() {
    let g = Graph::new();
    let x = g.input("x", Dtype::F32, [3, 8, 4]).unwrap();
    let [one, zero] = [1.0, 0.0].map(|v| move |n: usize| floats([n], &vec![v; n]));
    let [s, b] = [one(4), zero(4)].map(|t| g.constant(t).unwrap());
    g.output("layer", g.layer_normalization(x, s, b, 0.0).unwrap());
    let [s, b] = [one(8), zero(8)].map(|t| g.constant(t).unwrap());
    g.output("group", g.group_normalization(x, s, b, 2, 0.0).unwrap());
    let results = evaluate(&g, &[("x".into(), random(1, [3, 8, 4]))]);
    for (result, lane) in results.iter().zip([4, 16]) {
        for lane in result.data.chunks(lane) {
            let moment = |k: i32| lane.iter().map(|v| v.powi(k)).sum::<f64>() / lane.len() as f64;
            assert!(moment(1).abs() < 1e-12 && (moment(2) - 1.0).abs() < 1e-9, "{lane:?}");
        }
    }
}

/// Σ softmax = 1 and log(softmax) = log-softmax, on every axis.
#[test]
fn softmax_sums_to_1_and_log_softmax_is_its_logarithm() {
    for axis in 0..3 {
        let g = Graph::new();
        let x = g.input("x", Dtype::F32, [2, 3, 4]).unwrap();
        let p = g.softmax(x, axis).unwrap();
        g.output("sum", g.reduce_sum(p, &[axis]).unwrap());
        g.output("log", g.log(p).unwrap());
        g.output("direct", g.log_softmax(x, axis).unwrap());
        let results = evaluate(&g, &[("x".into(), random(2, [2, 3, 4]))]);
        assert!(results[0].data.iter().all(|s| (s - 1.0).abs() < 1e-12));
        super::case::assert_close(&results[1].data, &results[2].data, 1e-12, &g);
    }
}

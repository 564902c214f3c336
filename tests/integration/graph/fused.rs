//! Ops that stand for several others, and the rewrites that make them where a graph is to run.

use super::case::{Case, case, close, evaluate, floats, random};
use super::runtime;
use softdimo::graph::rewrite::{Kernels, for_running};
use softdimo::graph::{Graph, Op, Value, grad};
use softdimo::nn;
use softdimo::tensor::{Dtype, Shape, Tensor};

pub fn cases() -> Vec<Case> {
    let numbers: Vec<f32> = (0..8).map(|i| i as f32).collect();
    let unit = [floats([2], &[2.0, 4.0]), floats([2], &[10.0, 20.0])];
    let mut cases = vec![
        // Scores 1000 and 0 of the first head, −1000 and 0 of the second: each looks at one row.
        case(
            "Attention",
            [
                floats([1, 1, 2], &[1000.0, -1000.0]),
                floats([1, 2, 2], &[1.0, 1.0, 0.0, 0.0]),
                floats([1, 2, 2], &[1.0, 2.0, 3.0, 4.0]),
            ],
            |g, [q, k, v]| g.attention(q, k, v, 2, 1.0),
        )
        .gives([1.0, 4.0]),
        case("DepthToSpace", [floats([1, 4, 1, 2], &numbers)], |g, [x]| g.depth_to_space(x, 2))
            .gives([0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]),
        case("DepthToSpace", [random(950, [2, 18, 2, 3])], |g, [x]| g.depth_to_space(x, 3)),
        case("DepthToSpace", [random(951, [1, 3, 2, 2])], |g, [x]| g.depth_to_space(x, 1)),
        case("RowScales", [floats([2, 3], &[1.0, -4.0, 2.0, 0.0, 0.0, 0.0])], |g, [x]| {
            g.push(Op::RowScales { factor: 0.5 }, &[x])
        })
        .gives([2.0, 0.0]),
        case("RowScales", [random(940, [300, 150])], |g, [x]| g.push(Op::RowScales { factor: 0.01 }, &[x])),
        case(
            "ScaledRows",
            [
                floats([2, 2], &[1.0, 2.0, 3.0, 4.0]),
                floats([2, 1], &[10.0, 100.0]),
                floats([2], &[0.5, -0.5]),
            ],
            |g, [x, rows, bias]| g.push(Op::ScaledRows, &[x, rows, bias]),
        )
        .gives([10.5, 19.5, 300.5, 399.5]),
        case(
            "ScaledRows",
            [random(941, [5, 7]), random(942, [5, 1]), random(943, [7])],
            |g, [x, rows, bias]| g.push(Op::ScaledRows, &[x, rows, bias]),
        ),
        case(
            "ScaledRows",
            [random(944, [200, 130]), random(945, [200, 1]), random(946, [130])],
            |g, [x, rows, bias]| g.push(Op::ScaledRows, &[x, rows, bias]),
        ),
        // The sum is [1, 3], of mean 2 and variance 1; eps 3 makes the divisor 2.
        case(
            "SkipLayerNormalization",
            [floats([1, 2], &[0.5, 2.0]), floats([1, 2], &[0.5, 1.0]), unit[0].clone(), unit[1].clone()],
            |g, [x, y, s, b]| g.skip_layer_normalization(x, y, s, b, 3.0),
        )
        .gives([9.0, 22.0]),
    ];
    for (i, [b, m, n, heads, d]) in
        [[1, 3, 5, 1, 4], [2, 4, 4, 3, 2], [2, 1, 7, 2, 8]].into_iter().enumerate()
    {
        let seed = 960 + 3 * i as u64;
        let inputs = [(0, m), (1, n), (2, n)].map(|(k, rows)| random(seed + k, [b, rows, heads * d]));
        cases.push(case("Attention", inputs, move |g, [q, k, v]| g.attention(q, k, v, heads, 0.4)));
    }
    for (i, shape) in [&[4, 6][..], &[2, 3, 6]].into_iter().enumerate() {
        let seed = 980 + 4 * i as u64;
        let inputs =
            [random(seed, shape), random(seed + 1, shape), random(seed + 2, [6]), random(seed + 3, [6])];
        cases.push(case("SkipLayerNormalization", inputs, |g, [x, y, s, b]| {
            g.skip_layer_normalization(x, y, s, b, 1e-5)
        }));
    }
    cases
}

/// A value of a graph by a short name, with a tensor to feed it.
fn input(g: &Graph, feeds: &mut Vec<(String, Tensor)>, name: &str, shape: impl Into<Shape>) -> Value {
    let shape = shape.into();
    feeds.push((name.into(), random(7 + feeds.len() as u64, shape.clone())));
    g.input(name, Dtype::F32, shape).unwrap()
}

/// The graph as it would run: values of the evaluator before and after, and of ONNX Runtime, are the same; the ops that are
/// there then.
fn check(g: &Graph, feeds: &[(String, Tensor)]) -> Vec<&'static str> {
    let expected = evaluate(g, feeds);
    let mut ops = Vec::new();
    for skip_layer_normalization in [false, true] {
        let fused = for_running(g, Kernels { skip_layer_normalization }).unwrap();
        for (found, expected) in evaluate(&fused, feeds).iter().zip(&expected) {
            assert_eq!(found.shape, expected.shape);
            close(&found.data, &expected.data, 1e-9).unwrap_or_else(|e| panic!("{e}\n{g}\n{fused}"));
        }
        ops = fused.nodes().iter().map(|n| n.op.name()).collect();
    }
    // The engine does the same with what it is given.
    let found = runtime::engine(runtime::LEAN).run_graph(g.clone(), feeds.to_vec()).unwrap();
    for ((name, found), expected) in found.iter().zip(&expected) {
        close(&found.to_f64(), &expected.data, 1e-5).unwrap_or_else(|e| panic!("{name}: {e}\n{g}"));
    }
    ops
}

#[test]
fn attention_is_one_op_unless_its_softmax_is_read() {
    for (b, heads, d, m, n) in [(1, 1, 2, 520, 510), (1, 2, 4, 513, 513), (2, 1, 4, 300, 900)] {
        let (g, mut feeds) = (Graph::new(), Vec::new());
        let width = heads * d;
        let [q, k, v] =
            [("q", m), ("k", n), ("v", n)].map(|(name, rows)| input(&g, &mut feeds, name, [b, rows, width]));
        let y = nn::attention(&g, q, k, v, heads).unwrap();
        g.output("y", y);
        let ops = check(&g, &feeds);
        assert!(ops.contains(&"Attention") && !ops.contains(&"Softmax"), "{ops:?}");

        // Its gradient reads the softmax, and is right either way.
        let dq = grad(&g, g.mul(y, y).unwrap(), &[q]).unwrap()[0];
        g.output("dq", dq);
        assert!(!check(&g, &feeds).contains(&"Attention"));
    }
}

#[test]
fn masked_and_small_attention_stays_what_it_is() {
    let (g, mut feeds) = (Graph::new(), Vec::new());
    let x = input(&g, &mut feeds, "x", [1, 520, 2]);
    let small = input(&g, &mut feeds, "small", [1, 8, 2]);
    let mask = nn::causal_mask(&g, 520).unwrap();
    g.output("masked", nn::masked_attention(&g, x, x, x, 1, Some(mask)).unwrap());
    g.output("few", nn::attention(&g, small, small, small, 1).unwrap());
    assert!(!check(&g, &feeds).contains(&"Attention"));
}

#[test]
fn layer_norms_take_the_sum_before_them() {
    for shape in [&[3, 8][..], &[2, 3, 8], &[1, 2, 2, 8]] {
        let (g, mut feeds) = (Graph::new(), Vec::new());
        let [x, y] = ["x", "y"].map(|name| input(&g, &mut feeds, name, shape));
        let [s, b] = ["s", "b"].map(|name| input(&g, &mut feeds, name, [8]));
        let sum = g.add(x, y).unwrap();
        g.output("sum", g.layer_normalization(sum, s, b, 1e-5).unwrap());
        g.output("one", g.layer_normalization(x, s, b, 1e-5).unwrap());
        let ops = check(&g, &feeds);
        assert!(!ops.contains(&"LayerNormalization") && !ops.contains(&"Add"), "{ops:?}");
    }
}

#[test]
fn enlarging_before_a_convolution_is_done_after_it() {
    for (b, c, o, h, w) in [(1, 32, 32, 3, 4), (2, 33, 40, 1, 2), (1, 32, 35, 5, 1)] {
        let (g, mut feeds) = (Graph::new(), Vec::new());
        let x = input(&g, &mut feeds, "x", [b, c, h, w]);
        let kernel = input(&g, &mut feeds, "w", [o, c, 3, 3]);
        let bias = input(&g, &mut feeds, "bias", [o]);
        let large = g.resize(x, 2).unwrap();
        let convolved = |bias| g.conv(large, kernel, bias, [1, 1], [1; 4], 1).unwrap();
        g.output("with bias", convolved(Some(bias)));
        let ops = check(&g, &feeds);
        assert!(ops.contains(&"DepthToSpace") && !ops.contains(&"Resize"), "{ops:?}");
        // Where something else reads the enlarged picture it is there already.
        g.output("without", convolved(None));
        assert!(check(&g, &feeds).contains(&"Resize"));
    }
}

#[test]
fn the_mean_of_a_convolution_is_one_that_moves_by_two() {
    for (b, c, o, h, w) in [(1, 3, 2, 2, 4), (2, 33, 40, 6, 2), (1, 32, 35, 8, 10)] {
        let (g, mut feeds) = (Graph::new(), Vec::new());
        let x = input(&g, &mut feeds, "x", [b, c, h, w]);
        let kernel = input(&g, &mut feeds, "w", [o, c, 3, 3]);
        let bias = input(&g, &mut feeds, "bias", [o]);
        let convolved = |bias| g.conv(x, kernel, bias, [1, 1], [1; 4], 1).unwrap();
        let large = convolved(None);
        g.output("mean", g.average_pool(large, 2).unwrap());
        g.output("with bias", g.average_pool(convolved(Some(bias)), 2).unwrap());
        assert!(!check(&g, &feeds).contains(&"AveragePool"));
        // Where something else reads what is convolved it is there already.
        g.output("large", large);
        assert!(check(&g, &feeds).contains(&"AveragePool"));
    }
}

/// The gradient of an enlargement before a convolution.
#[test]
fn gradients_of_enlarging_are_taken_on_the_small_picture() {
    let (g, mut feeds) = (Graph::new(), Vec::new());
    let x = input(&g, &mut feeds, "x", [1, 32, 16, 18]);
    let kernel = input(&g, &mut feeds, "w", [32, 32, 3, 3]);
    let y = g.conv(g.resize(x, 2).unwrap(), kernel, None, [1, 1], [1; 4], 1).unwrap();
    g.output("dx", grad(&g, g.mul(y, y).unwrap(), &[x]).unwrap()[0]);
    let ops = check(&g, &feeds);
    assert!(!ops.contains(&"AveragePool") && !ops.contains(&"Resize"), "{ops:?}");
}

#[test]
fn what_stands_around_a_product_in_int8_is_one_operator() {
    let (g, mut feeds) = (Graph::new(), Vec::new());
    let x = input(&g, &mut feeds, "x", [5, 96]);
    let y = input(&g, &mut feeds, "product", [5, 40]);
    let bias = input(&g, &mut feeds, "bias", [40]);
    let max = g.reduce_max(g.abs(x).unwrap(), 1).unwrap();
    let rows = g.mul_scalar(max, 1.0 / 127.0).unwrap();
    g.output("scales", g.reshape(rows, [5]).unwrap());
    let scaled = g.mul(y, rows).unwrap();
    g.output("y", g.add(scaled, bias).unwrap());
    let ops = check(&g, &feeds);
    assert!(ops.contains(&"RowScales") && ops.contains(&"ScaledRows"), "{ops:?}");
    assert!(!["Abs", "ReduceMax", "Mul", "Add"].iter().any(|op| ops.contains(op)), "{ops:?}");
    // What something else reads is kept.
    g.output("max", max);
    g.output("scaled", scaled);
    let ops = check(&g, &feeds);
    assert!(ops.contains(&"ReduceMax") && ops.contains(&"Add"), "{ops:?}");
}

//! int8 arithmetic: the operations, the pass that chooses them, and that the runtime's kernels are exact on this processor.

use super::case::{Case, assert_close, case, evaluate, floats, ints, random, random_ints, uniform};
use super::runtime;
use softdimo::graph::int8::{Resolution, in_integers};
use softdimo::graph::{Graph, Op, Value, grad, grad_recomputing, simplify};
use softdimo::quant::Ranges;
use softdimo::runtime::int8_resolution;
use softdimo::tensor::{Dtype, Tensor};

pub fn cases() -> Vec<Case> {
    let product = |zero_point: u8, a: Tensor, b: Tensor, scale: Tensor| {
        case("MatMulIntegerToFloat", [a, b, scale], move |g, [a, b, scale]| {
            let operands = [g.cast(a, Dtype::U8)?, g.cast(b, Dtype::I8)?, scale];
            g.push(Op::MatMulIntegerToFloat { zero_point }, &operands)
        })
    };
    let conv = |strides, pads, x: Tensor, w: Tensor, scale: Tensor, bias: Tensor| {
        case("QLinearConv", [x, w, scale, bias], move |g, [x, w, scale, bias]| {
            let conv = Op::QLinearConv { strides, pads, x_zero: 100, y_zero: 128, channels_last: false };
            let bias = g.cast(bias, Dtype::I32)?;
            g.push(conv, &[g.cast(x, Dtype::U8)?, g.cast(w, Dtype::I8)?, scale, bias])
        })
    };
    let mut cases = vec![
        // (130 − 128, 126 − 128) · ((1, −3), (2, 5)) = (−2, −16)
        product(128, ints([1, 2], &[130, 126]), ints([2, 2], &[1, -3, 2, 5]), floats([2], &[0.5, 2.0]))
            .gives([-1.0, -32.0]),
        // (3 · 2 + 5) · 0.5 + 128 = 133.5, to the even level; padding counts as 0.
        conv(
            [1, 1],
            [0; 4],
            ints([1, 1, 1, 1], &[103]),
            ints([1, 1, 1, 1], &[2]),
            floats([1], &[0.5]),
            ints([1], &[5]),
        )
        .gives([134.0]),
        conv(
            [1, 1],
            [1; 4],
            ints([1, 1, 1, 1], &[103]),
            ints([1, 1, 3, 3], &[9, 9, 9, 9, 2, 9, 9, 9, 9]),
            floats([1], &[1000.0]),
            ints([1], &[-5]),
        )
        .gives([255.0]),
    ];
    for (i, [m, k, n]) in [[3, 7, 5], [1, 64, 33], [17, 130, 16]].into_iter().enumerate() {
        let seed = 700 + i as u64;
        let (a, b) = (random_ints(seed, [m, k], 1, 128), random_ints(seed + 10, [k, n], -127, 128));
        cases.push(product(64, a, b, random(seed + 20, [n])));
    }
    for (i, strides) in [[1, 1], [2, 2]].into_iter().enumerate() {
        let seed = 730 + i as u64;
        let (x, w) =
            (random_ints(seed, [2, 3, 6, 5], 0, 128), random_ints(seed + 10, [4, 3, 3, 3], -127, 128));
        // Irrational enough that no result lies halfway between two levels.
        let scale = uniform(seed + 20, [4], 1e-3, 2e-3);
        cases.push(conv(strides, [1, 1, 0, 1], x, w, scale, random_ints(seed + 30, [4], -3000, 3000)));
    }
    cases
}

/// W [O, I] as it is stored for int8 arithmetic: `q` [I, O], `scale` [O].
fn stored(g: &Graph, q: Value, scale: Value) -> Value {
    let q = g.cast(q, Dtype::I8).unwrap();
    g.transpose(g.dequantize_along(q, scale, 1).unwrap(), &[1, 0]).unwrap()
}

/// x·Wᵀ + c and its gradient by x, with what they read.
fn product_and_gradient(m: usize, k: usize, n: usize) -> (Graph, Vec<(String, Tensor)>) {
    let (g, x, y) = product(m, k, n);
    let loss = g.reduce_sum(g.mul(y, g.sin(y).unwrap()).unwrap(), &[0, 1]).unwrap();
    g.output("dx", grad(&g, loss, &[x]).unwrap()[0]);
    let inputs = vec![
        ("x".to_string(), random(1, [m, k])),
        ("q".to_string(), random_ints(2, [k, n], -127, 128)),
        ("scale".to_string(), uniform(3, [n], 1e-4, 1e-2)),
        ("c".to_string(), random(4, [n])),
    ];
    (simplify(&g).unwrap(), inputs)
}

/// y = x·Wᵀ + c, an output, and x.
fn product(m: usize, k: usize, n: usize) -> (Graph, Value, Value) {
    let g = Graph::new();
    let x = g.input("x", Dtype::F32, [m, k]).unwrap();
    let q = g.input("q", Dtype::I64, [k, n]).unwrap();
    let scale = g.input("scale", Dtype::F32, [n]).unwrap();
    let c = g.input("c", Dtype::F32, [n]).unwrap();
    let y = g.gemm(x, stored(&g, q, scale), Some(c), false, true).unwrap();
    g.output("y", y);
    (g, x, y)
}

fn count(g: &Graph, name: &str) -> usize {
    g.nodes().iter().filter(|n| n.op.name() == name).count()
}

fn relative(found: &[f64], expected: &[f64]) -> f64 {
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut found.iter().zip(expected).map(|(a, b)| a - b)) / norm(&mut expected.iter().copied())
}

#[test]
fn products_and_their_gradients_are_computed_in_integers() {
    let (g, feeds) = product_and_gradient(6, 96, 40);
    let expected = evaluate(&g, &feeds);
    for resolution in [Resolution::Full, Resolution::Half] {
        let int8 = simplify(&in_integers(&g, resolution, &|_| None).unwrap()).unwrap();
        // Where there is a gradient, each product is computed in two parts.
        assert_eq!((count(&int8, "MatMulIntegerToFloat"), count(&int8, "Gemm")), (4, 0), "\n{int8}");
        let names = [("y", 5e-4), ("dx", 5e-4)];
        for ((found, expected), (name, bound)) in evaluate(&int8, &feeds).iter().zip(&expected).zip(names) {
            let error = relative(&found.data, &expected.data);
            println!("{resolution:?} {name}: {error:.1e}");
            // It is rounded, and not by much.
            assert!(error > 1e-6 && error < bound, "{resolution:?} {name}: {error}");
        }
        if resolution == Resolution::Full && int8_resolution() == Resolution::Half {
            // Kernels may saturate here, which is why this resolution is not chosen.
            continue;
        }
        let engine = runtime::engine(runtime::LEAN);
        let found = engine.run_graph(int8.clone(), feeds.clone()).unwrap();
        for ((_, found), expected) in found.iter().zip(evaluate(&int8, &feeds)) {
            assert_close(&found.to_f64(), &expected.data, 1e-4, &int8);
        }
    }
}

/// Without a gradient one product is one product.
#[test]
fn products_of_a_forward_pass_are_computed_once() {
    let (g, feeds) = product_and_gradient(6, 96, 40);
    let only = simplify(&product(6, 96, 40).0).unwrap();
    let int8 = simplify(&in_integers(&only, Resolution::Full, &|_| None).unwrap()).unwrap();
    assert_eq!(count(&int8, "MatMulIntegerToFloat"), 1);
    let (found, expected) = (evaluate(&int8, &feeds).remove(0), evaluate(&g, &feeds).remove(0));
    let error = relative(&found.data, &expected.data);
    assert!(error > 5e-4 && error < 1e-2, "{error}");
}

/// A row's result is the same whatever the other rows are: a picture does not depend on its batch.
#[test]
fn rows_do_not_depend_on_each_other() {
    let (g, feeds) = product_and_gradient(6, 96, 40);
    let int8 = in_integers(&g, int8_resolution(), &|_| None).unwrap();
    let engine = runtime::engine(runtime::LEAN);
    let mut louder = feeds.clone();
    let mut x = louder[0].1.to_f32();
    x[96..].iter_mut().for_each(|x| *x *= 1000.0);
    louder[0].1 = Tensor::from_f32([6, 96], &x);
    let [a, b] =
        [feeds, louder].map(|feeds| engine.run_graph(int8.clone(), feeds).unwrap().remove(0).1.to_f32());
    assert_eq!(a[..40], b[..40]);
    assert_ne!(a[40..], b[40..]);
}

/// A row of zeros is one of zeros, beside others.
#[test]
fn a_row_of_zeros_stays_one() {
    let (g, mut feeds) = product_and_gradient(3, 96, 40);
    let mut x = feeds[0].1.to_f32();
    x[96..192].fill(0.0);
    feeds[0].1 = Tensor::from_f32([3, 96], &x);
    let int8 = in_integers(&g, int8_resolution(), &|_| None).unwrap();
    let found = runtime::engine(runtime::LEAN).run_graph(int8, feeds.clone()).unwrap().remove(0).1.to_f32();
    assert_eq!(found[40..80], feeds[3].1.to_f32());
}

/// Extreme values, at which kernels that add pairs of products in 16 bits would saturate: every sum is exact, of every
/// length and alignment that the kernels tell apart.
#[test]
fn no_sum_saturates_on_this_processor() {
    let engine = runtime::engine(runtime::LEAN);
    println!("{:?}", int8_resolution());
    for (m, k, n) in [(1, 64, 16), (2, 65, 17), (5, 1024, 48), (64, 256, 64), (33, 67, 31), (257, 4096, 32)] {
        for pattern in 0..4 {
            // All alike; alternating; changing in pairs; drawn: rows of x ±1, so that their levels are the outermost.
            let sign = |i: usize, j: usize| match pattern {
                0 => 1.0,
                1 => [1.0, -1.0][(i + j) % 2],
                2 => [1.0, -1.0][(i + j / 2) % 2],
                _ => [1.0, -1.0][((i * 7919 + j * 104_729) >> 3) % 2],
            };
            let x: Vec<f32> = (0..m * k).map(|i| sign(i / k, i % k)).collect();
            let q: Vec<i64> = (0..k * n).map(|i| 127 * sign(i % n, i / n) as i64).collect();
            let g = Graph::new();
            let a = g.input("x", Dtype::F32, [m, k]).unwrap();
            let b = g.input("q", Dtype::I64, [k, n]).unwrap();
            let ones = g.constant(Tensor::from_f32([n], &vec![1.0; n])).unwrap();
            g.output("y", g.gemm(a, stored(&g, b, ones), None, false, true).unwrap());
            let int8 = simplify(&in_integers(&g, int8_resolution(), &|_| None).unwrap()).unwrap();
            let feeds = vec![
                ("x".to_string(), Tensor::from_f32([m, k], &x)),
                ("q".to_string(), Tensor::from_i64([k, n], &q)),
            ];
            let found = engine.run_graph(int8.clone(), feeds).unwrap().remove(0).1.to_f64();
            for (at, found) in found.iter().enumerate() {
                let (i, j) = (at / n, at % n);
                let sum: i64 = (0..k).map(|l| x[i * k + l] as i64 * q[l * n + j]).sum();
                let error = (found - sum as f64).abs();
                assert!(
                    error <= 1e-6 * (127 * k) as f64,
                    "{m}×{k}×{n} {pattern} [{i}, {j}]: {found} for {sum}"
                );
            }
        }
    }
}

/// A convolution with and without an enlargement before it and a bias, one channel of which has kernels of zeros.
fn convolution(upsampled: bool, bias: bool) -> (Graph, Vec<(String, Tensor)>) {
    let g = Graph::new();
    let x = g.input("x", Dtype::F32, [2, 16, 6, 6]).unwrap();
    let q = g.weight("w", Dtype::I8, [20, 16, 3, 3]).unwrap();
    let scale = g.weight("w.scale", Dtype::F32, [20]).unwrap();
    let w = g.dequantize_linear(q, scale).unwrap();
    let b = g.weight("b", Dtype::F32, [20]).unwrap();
    let read = if upsampled { g.resize(x, 2).unwrap() } else { x };
    g.output("y", g.conv(read, w, bias.then_some(b), [1, 1], [1; 4], 1).unwrap());
    let mut scales = uniform(12, [20], 1e-4, 1e-3).to_f32();
    let mut kernels = random_ints(11, [20, 16, 3, 3], -127, 128).to_i64();
    scales[7] = 0.0;
    kernels[7 * 144..8 * 144].fill(0);
    let inputs = vec![
        ("x".to_string(), random(10, [2, 16, 6, 6])),
        ("w".to_string(), Tensor::from_i64([20, 16, 3, 3], &kernels)),
        ("w.scale".to_string(), Tensor::from_f32([20], &scales)),
        ("b".to_string(), random(13, [20])),
    ];
    (g, inputs)
}

/// Every channel has levels of its own, and what a bias adds is in them; without ranges nothing changes.
#[test]
fn convolutions_of_known_ranges_are_computed_in_integers() {
    for (upsampled, bias) in [(false, false), (false, true), (true, true)] {
        let (g, feeds) = convolution(upsampled, bias);
        let expected = evaluate(&g, &feeds).remove(0);
        let same = in_integers(&g, Resolution::Full, &|_| None).unwrap();
        assert_eq!(same.to_string(), g.to_string());
        let mut writes = vec![[0.0_f32; 2]; 20];
        let size = expected.shape[2] * expected.shape[3];
        for (i, &y) in expected.data.iter().enumerate() {
            let [low, high] = &mut writes[i / size % 20];
            (*low, *high) = (low.min(y as f32), high.max(y as f32));
        }
        let known = Ranges { reads: [-20.0, 20.0], writes };
        for (resolution, bound) in [(Resolution::Full, 0.08), (Resolution::Half, 0.16)] {
            let int8 = in_integers(&g, resolution, &|name| (name == "w").then(|| known.clone())).unwrap();
            assert_eq!((count(&int8, "QLinearConv"), count(&int8, "Conv")), (1, 0));
            let found = evaluate(&int8, &feeds).remove(0);
            let error = relative(&found.data, &expected.data);
            println!("{resolution:?} upsampled {upsampled} bias {bias}: {error:.1e}");
            assert!(error > 1e-4 && error < bound, "{error}");
            // The channel of zeros is its bias.
            let zero = found.data.iter().zip(&expected.data).enumerate().filter(|(i, _)| i / size % 20 == 7);
            zero.for_each(|(_, (f, e))| assert!((f - e).abs() < 0.01, "{f} for {e}"));
        }
    }
}

/// Ranges beside kernels of floats, as a file may claim, change nothing.
#[test]
fn ranges_are_for_int8_kernels() {
    for dtype in [Dtype::F32, Dtype::F16] {
        let g = Graph::new();
        let x = g.input("x", Dtype::F32, [1, 16, 6, 6]).unwrap();
        let w = g.cast(g.weight("w", dtype, [20, 16, 3, 3]).unwrap(), Dtype::F32).unwrap();
        g.output("y", g.conv(x, w, None, [1, 1], [1; 4], 1).unwrap());
        let known = Ranges { reads: [-1.0, 1.0], writes: vec![[-1.0, 1.0]; 20] };
        let same = in_integers(&g, Resolution::Full, &|_| Some(known.clone())).unwrap();
        assert_eq!(same.to_string(), g.to_string());
    }
}

/// ONNX Runtime's kernel leaves out a bias that is computed.
#[test]
fn convolutions_with_a_computed_bias_stay_in_floats() {
    for computed in ["bias", "scale"] {
        let g = Graph::new();
        let x = g.input("x", Dtype::F32, [1, 16, 6, 6]).unwrap();
        let moved = |v: Value| {
            let first = g.reshape(g.slice(g.reshape(x, [576]).unwrap(), 0, 0, 1).unwrap(), [1]).unwrap();
            g.add(v, g.mul(first, first).unwrap()).unwrap()
        };
        let of = |name: &str, v: Value| if name == computed { moved(v) } else { v };
        let scale = of("scale", g.weight("w.scale", Dtype::F32, [20]).unwrap());
        let bias = of("bias", g.weight("b", Dtype::F32, [20]).unwrap());
        let w = g.dequantize_linear(g.weight("w", Dtype::I8, [20, 16, 3, 3]).unwrap(), scale).unwrap();
        g.output("y", g.conv(x, w, Some(bias), [1, 1], [1; 4], 1).unwrap());
        let known = Ranges { reads: [-1.0, 1.0], writes: vec![[-1.0, 1.0]; 20] };
        let same = in_integers(&g, Resolution::Full, &|_| Some(known.clone())).unwrap();
        assert_eq!(same.to_string(), g.to_string(), "{computed}");
    }
}

/// What is computed again, for a gradient, is in integers as well: the same levels, and so the same gradient to the last bits.
#[test]
fn convolutions_are_computed_again_in_integers() {
    let gradient = |recompute: bool| {
        let g = Graph::new();
        let x = g.input("x", Dtype::F32, [1, 16, 6, 6]).unwrap();
        let mut y = x;
        for i in 0..3 {
            let q = g.weight(&format!("w{i}"), Dtype::I8, [16, 16, 3, 3]).unwrap();
            let scale = g.weight(&format!("w{i}.scale"), Dtype::F32, [16]).unwrap();
            let b = g.weight(&format!("b{i}"), Dtype::F32, [16]).unwrap();
            y = g.conv(y, g.dequantize_linear(q, scale).unwrap(), Some(b), [1, 1], [1; 4], 1).unwrap();
            y = g.mul(y, g.sigmoid(y).unwrap()).unwrap();
            y = g.end_block(y);
        }
        let differentiate = if recompute { grad_recomputing } else { grad };
        let dx = differentiate(&g, g.mul(y, y).unwrap(), &[x]).unwrap()[0];
        g.output("dx", dx);
        let known = Ranges { reads: [-2.0, 2.0], writes: vec![[-2.0, 2.0]; 16] };
        let int8 = in_integers(&simplify(&g).unwrap(), Resolution::Full, &|_| Some(known.clone())).unwrap();
        simplify(&int8).unwrap()
    };
    let (kept, again) = (gradient(false), gradient(true));
    assert_eq!((count(&kept, "QLinearConv"), count(&kept, "Conv")), (3, 0));
    assert_eq!((count(&again, "QLinearConv"), count(&again, "Conv")), (6, 0));
    let mut feeds = vec![("x".to_string(), random(20, [1, 16, 6, 6]))];
    for i in 0..3_u64 {
        feeds.push((format!("w{i}"), random_ints(21 + i, [16, 16, 3, 3], -127, 128)));
        feeds.push((format!("w{i}.scale"), uniform(31 + i, [16], 1e-4, 1e-3)));
        feeds.push((format!("b{i}"), random(41 + i, [16])));
    }
    let expected = evaluate(&kept, &feeds).remove(0);
    assert_eq!(evaluate(&again, &feeds).remove(0).data, expected.data);
}

//! Recomputation: the same gradient from less memory, and copies that neither `simplify` nor the runtime merges
//! with what they copy.

use super::case::{close, evaluate, random};
use super::gradients::value_at;
use super::runtime;
use softdimo::graph::{Graph, Op, Value, grad, grad_recomputing, simplify};
use softdimo::tensor::{Dtype, Tensor};

const BLOCKS: usize = 12;
const WIDTH: usize = 16;

/// Residual blocks of [4, WIDTH] → [4, WIDTH] between marks. Later blocks also read what the first one made,
/// its comparison with 0, and the input itself.
fn network(g: &Graph, marked: bool) -> (Value, Value) {
    let e = g.input("e", Dtype::F32, [4, WIDTH]).unwrap();
    let end = |x: Value| if marked { g.end_block(x) } else { x };
    let first = g.tanh(e).unwrap();
    let positive = g.greater(first, g.scalar(0.0).unwrap()).unwrap();
    let mut x = end(g.mul_scalar(first, 0.9).unwrap());
    for i in 0..BLOCKS {
        let w = g.constant(random(100 + i as u64, [WIDTH, WIDTH])).unwrap();
        let h = g.gelu(g.gemm(x, w, None, false, false).unwrap()).unwrap();
        let h = g.mul(g.softmax(h, 1).unwrap(), g.sigmoid(h).unwrap()).unwrap();
        let h = if i % 3 == 1 { g.where_(positive, h, first).unwrap() } else { h };
        let h = if i % 4 == 2 { g.mul(h, e).unwrap() } else { h };
        x = end(g.add(x, h).unwrap());
    }
    (e, g.reduce_mean(g.mul(x, x).unwrap(), &[1]).unwrap())
}

/// The simplified graph of `loss` and `de`.
fn gradient(recompute: bool) -> Graph {
    let g = Graph::new();
    let (e, loss) = network(&g, true);
    let differentiate = if recompute { grad_recomputing } else { grad };
    g.output("loss", loss);
    g.output("de", differentiate(&g, loss, &[e]).unwrap()[0]);
    simplify(&g).unwrap()
}

fn count(g: &Graph, op: &str) -> usize {
    g.nodes().iter().filter(|n| n.op.name() == op).count()
}

#[test]
fn the_gradient_is_the_same() {
    let (plain, again) = (gradient(false), gradient(true));
    let feeds = [("e".to_string(), random(7, [4, WIDTH]))];
    let (expected, found) = (evaluate(&plain, &feeds), evaluate(&again, &feeds));
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.data, expected.data, "the same arithmetic in the same order");
    }
    let engine = runtime::engine(runtime::LEAN);
    let run = |g: &Graph| engine.run_graph(g.clone(), feeds.to_vec()).unwrap();
    for ((name, found), (_, expected)) in run(&again).iter().zip(&run(&plain)) {
        close(&found.to_f64(), &expected.to_f64(), 1e-6).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

/// Without marks, and behind the last one, nothing is computed twice.
#[test]
fn only_marked_blocks_are_computed_again() {
    let text = |marked: bool, recompute: bool| {
        let g = Graph::new();
        let (e, loss) = network(&g, marked);
        let differentiate = if recompute { grad_recomputing } else { grad };
        g.output("de", differentiate(&g, loss, &[e]).unwrap()[0]);
        g.to_string()
    };
    assert_eq!(text(false, true), text(false, false));
    assert_eq!(text(true, false), text(false, false));
    assert_ne!(text(true, true), text(true, false));
    // Every block's product appears twice more: in the copy of the block, and in the backward part of both.
    let (plain, again) = (gradient(false), gradient(true));
    assert_eq!(count(&plain, "Gemm"), 2 * BLOCKS);
    assert_eq!(count(&again, "Gemm"), 3 * BLOCKS);
}

/// A block's activations die before the next block is copied: the peak is far below the sum.
#[test]
fn the_peak_is_that_of_one_block() {
    let [plain, again] = [false, true].map(|recompute| gradient(recompute).peak_activation_bytes());
    println!("{BLOCKS} blocks: {plain} bytes at once, {again} with recomputation");
    assert!(again < plain / 2, "{again} is not half of {plain}");
}

/// int8 weights are expanded again, not held in f32 from the forward part to the backward part.
#[test]
fn expanded_weights_are_not_held() {
    const N: usize = 64;
    let gradient = |recompute: bool| {
        let g = Graph::new();
        let e = g.input("e", Dtype::F32, [1, N]).unwrap();
        let mut x = e;
        for i in 0..BLOCKS {
            let q: Vec<u8> = (0..N * N).map(|j| ((j * 37 + i * 11) % 255) as u8).collect();
            let q = g.constant(Tensor::new(Dtype::I8, [N, N], q).unwrap()).unwrap();
            let scale = g.constant(random(200 + i as u64, [N])).unwrap();
            let w = g.dequantize_linear(q, g.mul_scalar(scale, 1e-3).unwrap()).unwrap();
            x = g.end_block(g.tanh(g.gemm(x, w, None, false, true).unwrap()).unwrap());
        }
        let differentiate = if recompute { grad_recomputing } else { grad };
        let loss = g.reduce_mean(g.mul(x, x).unwrap(), &[0, 1]).unwrap();
        g.output("de", differentiate(&g, loss, &[e]).unwrap()[0]);
        simplify(&g).unwrap()
    };
    let (plain, again) = (gradient(false), gradient(true));
    let weight = (N * N * 4) as u64;
    let [all, few] = [&plain, &again].map(Graph::peak_activation_bytes);
    println!("{BLOCKS} weights of {weight} bytes: {all} bytes at once, {few} with recomputation");
    assert!(all > BLOCKS as u64 * weight && few < 3 * weight);
    let feeds = [("e".to_string(), random(7, [1, N]))];
    assert_eq!(evaluate(&again, &feeds)[0].data, evaluate(&plain, &feeds)[0].data);
}

/// What a copy reads is its block's input bit for bit, even when the cotangent it waits for is not a number.
#[test]
fn copies_are_exact_whatever_the_cotangent() {
    for cotangent in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0] {
        let g = Graph::new();
        let x = g.input("x", Dtype::F32, [3]).unwrap();
        let by = g.input("by", Dtype::F32, [1]).unwrap();
        let y = g.end_block(g.exp(x).unwrap());
        let loss = g.mul(g.mul(y, y).unwrap(), by).unwrap();
        g.output("dx", grad_recomputing(&g, loss, &[x]).unwrap()[0]);
        let s = simplify(&g).unwrap();
        let copies = s.nodes().iter().filter(|n| matches!(n.op, Op::Exp)).count();
        assert_eq!(copies, 2, "{s}");
        let late = s.nodes().iter().position(|n| matches!(n.op, Op::Where)).unwrap();
        s.output("late", value_at(&s, late));
        let values = [-2.5f32, f32::NAN, 0.25];
        let feeds = vec![
            ("x".to_string(), Tensor::from_f32([3], &values)),
            ("by".to_string(), Tensor::from_f32([1], &[cotangent])),
        ];
        let found = runtime::engine(runtime::LEAN).run_graph(s, feeds).unwrap().pop().unwrap().1;
        assert_eq!(found.bytes(), Tensor::from_f32([3], &values).bytes(), "{cotangent}");
    }
}

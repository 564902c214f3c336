//! Whole graphs: printing, outputs, the activation estimate, and the cost of simplification.

use super::case::{evaluate, floats, ints, random};
use super::runtime;
use softdimo::graph::{Graph, simplify};
use softdimo::tensor::{Dtype, Tensor};

#[test]
fn a_graph_prints_as_ssa_text() {
    let g = Graph::new();
    let x = g.input("tokens", Dtype::I64, [2, 4]).unwrap();
    let w = g.weight("emb.weight", Dtype::F16, [16, 8]).unwrap();
    let e = g.gather(g.cast(w, Dtype::F32).unwrap(), x).unwrap();
    let c = g.clip(e, -1.0, 0.5).unwrap();
    let t = g.transpose(c, &[0, 2, 1]).unwrap();
    let r = g.reshape(t, [16, 4]).unwrap();
    let k = g.constant(floats([2, 2], &[1.0, -0.5, 0.0, 2.0])).unwrap();
    let big = g.constant(floats([4, 4], &[0.0; 16])).unwrap();
    let y = g.gemm(r, big, None, false, true).unwrap();
    g.output("y", y);
    g.output("k", k);
    g.output("s", g.slice(y, 1, 1, 3).unwrap());
    let expected = "\
%0: i64[2, 4] = Input() {name=tokens}
%1: f16[16, 8] = Weight() {name=emb.weight}
%2: f32[16, 8] = Cast(%1) {to=F32}
%3: f32[2, 4, 8] = Gather(%2, %0)
%4: f32[2, 4, 8] = Clip(%3) {min=-1.0, max=0.5}
%5: f32[2, 8, 4] = Transpose(%4) {perm=[0, 2, 1]}
%6: f32[16, 4] = Reshape(%5) {shape=[16, 4]}
%7: f32[2, 2] = Constant() {value=[1.0, -0.5, 0.0, 2.0]}
%8: f32[4, 4] = Constant() {value=...}
%9: f32[16, 4] = Gemm(%6, %8) {trans_a=false, trans_b=true}
%10: f32[16, 2] = Slice(%9) {axis=1, start=1, end=3, step=1}
output y = %9
output k = %7
output s = %10
";
    assert_eq!(g.to_string(), expected);
}

/// Inputs, constants and shared values as outputs; an input that nothing uses; names that lowering would
/// choose itself.
#[test]
fn outputs_may_be_anything_and_inputs_stay() {
    let g = Graph::new();
    let x = g.input("v1", Dtype::F32, [2]).unwrap();
    g.input("unused", Dtype::I64, [3]).unwrap();
    let c = g.constant(floats([2], &[5.0, 6.0])).unwrap();
    let folded = g.mul_scalar(g.add(c, c).unwrap(), 0.5).unwrap();
    let y = g.clip(g.add(x, c).unwrap(), 0.0, 7.0).unwrap();
    for (name, v) in [("x", x), ("h1", y), ("v3", c), ("h2", y), ("folded", folded), ("x again", x)] {
        g.output(name, v);
    }
    let s = simplify(&g).unwrap();
    assert_eq!(s.nodes()[1].op, g.nodes()[1].op);
    let feeds = vec![("v1".to_string(), floats([2], &[-9.0, 0.5])), ("unused".into(), ints([3], &[0; 3]))];
    let expected: [&[f64]; 6] =
        [&[-9.0, 0.5], &[0.0, 6.5], &[5.0, 6.0], &[0.0, 6.5], &[5.0, 6.0], &[-9.0, 0.5]];
    let engine = runtime::engine(runtime::LEAN);
    for graph in [g, s] {
        let evaluated = evaluate(&graph, &feeds);
        let run = engine.run_graph(graph.clone(), feeds.clone()).unwrap();
        assert_eq!(
            run.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(),
            ["x", "h1", "v3", "h2", "folded", "x again"]
        );
        for ((expected, evaluated), (_, run)) in expected.iter().zip(&evaluated).zip(&run) {
            assert_eq!(&evaluated.data, expected);
            assert_eq!(&run.to_f64(), expected);
        }
    }
}

#[test]
fn output_names_are_free() {
    for name in ["y", "x", "w"] {
        let g = Graph::new();
        let x = g.input("x", Dtype::F32, [2]).unwrap();
        let w = g.weight("w", Dtype::F32, [2]).unwrap();
        let y = g.add(x, w).unwrap();
        g.output("y", y);
        g.output(name, y);
        let e = simplify(&g).unwrap_err().to_string();
        let expected = "expected a name that no other result, input or weight has, found a taken name";
        assert_eq!(e, format!("output '{name}': {expected}"));
    }
    // Past simplification, the runtime itself refuses.
    let g = Graph::new();
    let x = g.input("x", Dtype::F32, [2]).unwrap();
    g.output("y", x);
    g.output("y", x);
    let e = runtime::engine(runtime::LEAN).run_graph(g, vec![("x".into(), random(1, [2]))]);
    assert!(e.is_err());
}

#[test]
fn a_gather_out_of_range_fails_the_run() {
    let engine = runtime::engine(runtime::LEAN);
    for index in [3, -4] {
        let g = Graph::new();
        let x = g.input("x", Dtype::F32, [3, 2]).unwrap();
        let i = g.input("i", Dtype::I64, [1]).unwrap();
        g.output("y", g.gather(x, i).unwrap());
        let feeds = vec![("x".to_string(), random(1, [3, 2])), ("i".into(), ints([1], &[index]))];
        assert!(engine.run_graph(g.clone(), feeds.clone()).is_err());
        let arrays = feeds.iter().map(|(n, t)| {
            let array = softdimo::graph::eval::Array::new(t.shape().clone(), t.to_f64());
            (n.clone(), array)
        });
        let e = softdimo::graph::eval::eval(&g, &arrays.collect()).unwrap_err().to_string();
        assert_eq!(e, format!("gather index: expected an index into 3 rows, found {index}"));
    }
}

#[test]
fn peak_activations_of_a_small_graph() {
    let peak = |build: &dyn Fn(&Graph)| {
        let g = Graph::new();
        build(&g);
        g.peak_activation_bytes()
    };
    let input = |g: &Graph| g.input("x", Dtype::F32, [10, 10]).unwrap();
    // A chain holds an operand and its result: 400 + 400. Inputs belong to the caller.
    assert_eq!(peak(&|g| g.output("y", g.tanh(g.exp(g.neg(input(g)).unwrap()).unwrap()).unwrap())), 800);
    assert_eq!(peak(&|g| g.output("y", input(g))), 0);
    // a = neg x and b = exp a live on until the sum: 3 · 400.
    let diamond = |g: &Graph| {
        let a = g.neg(input(g)).unwrap();
        let b = g.exp(a).unwrap();
        g.output("y", g.add(a, b).unwrap());
    };
    assert_eq!(peak(&diamond), 1200);
    // A view keeps its operand alive: a (400, seen through the reshape), b, then b's image, then the sum;
    // b is dead by then: 3 · 400.
    let view = |g: &Graph| {
        let a = g.neg(input(g)).unwrap();
        let flat = g.reshape(a, [100]).unwrap();
        let b = g.exp(g.input("z", Dtype::F32, [100]).unwrap()).unwrap();
        let c = g.tanh(b).unwrap();
        g.output("y", g.add(flat, c).unwrap());
    };
    assert_eq!(peak(&view), 1200);
    // A smaller result: 400 + 40 while reducing, then 40 + 10 · 1 byte of the comparison.
    let reduced = |g: &Graph| {
        let m = g.reduce_max(g.neg(input(g)).unwrap(), 1).unwrap();
        g.output("y", g.greater(m, m).unwrap());
    };
    assert_eq!(peak(&reduced), 440);
}

/// A network's shape of graph: 3000 nodes with repeated subexpressions, layout chains and a large constant
/// beside every tenth.
#[test]
fn simplify_is_linear_in_the_graph() {
    let build = |nodes: usize| {
        let g = Graph::new();
        let table = Tensor::from_f32([256, 1024], &vec![1.5; 256 * 1024]);
        let mut x = g.input("x", Dtype::F32, [256, 1024]).unwrap();
        while g.nodes().len() < nodes {
            let scaled = g.add(g.mul_scalar(x, 0.5).unwrap(), g.mul_scalar(x, 0.5).unwrap()).unwrap();
            let turned = g.transpose(g.reshape(scaled, [1024, 256]).unwrap(), &[1, 0]).unwrap();
            let sum = g.add_scalar(turned, 0.0).unwrap();
            x = if g.nodes().len().is_multiple_of(10) {
                g.add(sum, g.constant(table.clone()).unwrap()).unwrap()
            } else {
                sum
            };
        }
        g.output("y", x);
        g
    };
    let graphs = [3000, 12000].map(build);
    // The clock of Windows goes in steps of 16 ms.
    let runs = if cfg!(windows) { 30 } else { 1 };
    // The least of several times, in turn and of this thread alone, is what the work takes on a busy machine too.
    let mut least = [f64::INFINITY; 2];
    for _ in 0..5 {
        for (g, least) in graphs.iter().zip(&mut least) {
            let start = support::thread_cpu_time().as_secs_f64();
            (0..runs).for_each(|_| drop(simplify(g).unwrap()));
            *least = least.min(support::thread_cpu_time().as_secs_f64() - start);
        }
    }
    let per_node = [0, 1].map(|i| least[i] / (runs * graphs[i].nodes().len()) as f64);
    println!("simplify: {:.2} and {:.2} µs a node", per_node[0] * 1e6, per_node[1] * 1e6);
    // Quadratic time would show as a factor of 4.
    assert!(per_node[1] < 2.5 * per_node[0], "{per_node:?}");
}

//! What lies between convolutions in int8 as one operator of our own: its kernel, and the rewrite that makes it.

use std::collections::HashMap;

use super::case::{Case, case, close, evaluate, floats, ints, positive, random, random_ints, uniform};
use super::runtime;
use softdimo::graph::int8::{Resolution, in_integers};
use softdimo::graph::rewrite::{Kernels, for_running};
use softdimo::graph::{Graph, Op, Value, simplify};
use softdimo::quant::Ranges;
use softdimo::tensor::{Dtype, Tensor};

/// A sum of terms of levels, then of f32, of pictures of a shape, and what is done to it.
#[derive(Clone, Copy)]
struct Sum {
    levels: usize,
    floats: usize,
    groups: usize,
    silu: bool,
    to: Option<[u8; 2]>,
    factor: usize,
    last: bool,
    /// B, C, H, W.
    shape: [usize; 4],
}

impl Sum {
    fn case(self, seed: u64) -> Case {
        let [b, c, h, w] = self.shape;
        let terms = if self.last { [b, h, w, c] } else { [b, c, h, w] };
        let mut inputs = Vec::new();
        for i in 0..self.levels {
            let seed = seed + 10 * i as u64;
            inputs.push(random_ints(seed, terms, 0, 256));
            inputs.push(uniform(seed + 1, [c], 0.001, 0.02));
            inputs.push(random_ints(seed + 2, [c], 60, 200));
        }
        for i in 0..self.floats {
            inputs.push(random(seed + 100 + i as u64, terms));
        }
        if self.groups > 0 {
            inputs.extend([positive(seed + 201, [c]), random(seed + 202, [c])]);
        }
        if self.to.is_some() {
            inputs.push(floats([], &[0.037]));
        }
        let Sum { levels, groups, silu, to, factor, last: channels_last, .. } = self;
        Case::new("SumNormalization", inputs, move |g, v| {
            let is_level = |i: usize| i < 3 * levels && i % 3 != 1;
            let operands = v.iter().enumerate();
            let operands = operands.map(|(i, &v)| if is_level(i) { g.cast(v, Dtype::U8) } else { Ok(v) });
            let operands = operands.collect::<softdimo::Result<Vec<Value>>>()?;
            let eps = 1e-5;
            g.push(Op::SumNormalization { levels, groups, eps, silu, to, factor, channels_last }, &operands)
        })
    }
}

pub fn cases() -> Vec<Case> {
    let plain = Sum {
        levels: 0,
        floats: 1,
        groups: 0,
        silu: false,
        to: None,
        factor: 1,
        last: false,
        shape: [1, 2, 1, 2],
    };
    let mut cases = vec![
        // (130 − 128)·0.5 + (127 − 128)·0.5 and (10 − 0)·2 + (0 − 1)·3, in units of 0.25 from 100 on, each on four places.
        case(
            "SumNormalization",
            [
                ints([1, 1, 1, 2], &[130, 10]),
                floats([2], &[0.5, 2.0]),
                ints([2], &[128, 0]),
                ints([1, 1, 1, 2], &[127, 0]),
                floats([2], &[0.5, 3.0]),
                ints([2], &[128, 1]),
                floats([], &[0.25]),
            ],
            |g, [a, s, z, b, t, y, unit]| {
                let [a, z, b, y] = [a, z, b, y].map(|v| g.cast(v, Dtype::U8).unwrap());
                let op = Op::SumNormalization {
                    levels: 2,
                    groups: 0,
                    eps: 0.0,
                    silu: false,
                    to: Some([100, 160]),
                    factor: 2,
                    channels_last: true,
                };
                g.push(op, &[a, s, z, b, t, y, unit])
            },
        )
        .gives([102.0, 160.0].repeat(4)),
    ];
    let kinds = [
        plain,
        Sum { silu: true, shape: [2, 3, 5, 7], ..plain },
        Sum { groups: 2, shape: [2, 6, 5, 7], ..plain },
        Sum { groups: 3, silu: true, shape: [1, 6, 41, 33], ..plain },
        Sum { floats: 0, levels: 1, groups: 4, silu: true, last: true, shape: [2, 32, 9, 5], ..plain },
        Sum { floats: 0, levels: 3, groups: 1, last: true, shape: [1, 5, 70, 71], ..plain },
        Sum { levels: 2, groups: 2, silu: true, last: true, shape: [2, 34, 3, 3], ..plain },
        Sum { levels: 2, groups: 2, silu: true, shape: [2, 4, 3, 3], ..plain },
        Sum { floats: 0, levels: 2, last: true, shape: [1, 3000, 1, 2], ..plain },
    ];
    // Large, with parts of chunks.
    cases.push(Sum { groups: 3, silu: true, shape: [1, 6, 140, 130], ..plain }.case(4000));
    for (i, kind) in kinds.into_iter().enumerate() {
        let seed = 5000 + 1000 * i as u64;
        cases.push(kind.case(seed));
        for to in [[3, 255], [120, 127]] {
            cases.push(Sum { to: Some(to), ..kind }.case(seed));
            if kind.last {
                cases.push(Sum { to: Some(to), factor: 2, ..kind }.case(seed));
            }
        }
    }
    cases
}

/// Weights of a convolution as int8 arithmetic reads them, and what it reads and writes: W of `name` and its bias.
fn conv(g: &Graph, name: &str, x: Value, out: usize, kernel: usize) -> Value {
    let c = g.shape(x)[1];
    let q = g.weight(name, Dtype::I8, [out, c, kernel, kernel]).unwrap();
    let scale = g.weight(&format!("{name}.scale"), Dtype::F32, [out]).unwrap();
    let bias = g.weight(&format!("{name}.bias"), Dtype::F32, [out]).unwrap();
    let pad = kernel / 2;
    g.conv(x, g.dequantize_linear(q, scale).unwrap(), Some(bias), [1, 1], [pad; 4], 1).unwrap()
}

/// The decoder of an image tokenizer in small: blocks with and without a change of channels, enlarging, a last convolution in f32.
fn decoder() -> Graph {
    let g = Graph::new();
    let x = g.input("x", Dtype::F32, [2, 32, 4, 6]).unwrap();
    let mut x = conv(&g, "in", x, 32, 3);
    let norm = |name: &str, x: Value| {
        let c = g.shape(x)[1];
        let [scale, bias] =
            ["scale", "shift"].map(|part| g.input(&format!("{name}.{part}"), Dtype::F32, [c]).unwrap());
        g.silu(g.group_normalization(x, scale, bias, 4, 1e-6).unwrap()).unwrap()
    };
    for (i, out) in [32, 32, 48].into_iter().enumerate() {
        let h = conv(&g, &format!("a{i}"), norm(&format!("m{i}"), x), out, 3);
        let h = conv(&g, &format!("b{i}"), norm(&format!("n{i}"), h), out, 3);
        let skip = if g.shape(x)[1] == out { x } else { conv(&g, &format!("s{i}"), x, out, 1) };
        x = g.add(skip, h).unwrap();
    }
    x = conv(&g, "up", g.resize(x, 2).unwrap(), 48, 3);
    x = norm("last", x);
    let w = g.input("rgb", Dtype::F32, [3, 48, 3, 3]).unwrap();
    g.output("picture", g.conv(x, w, None, [1, 1], [1; 4], 1).unwrap());
    g
}

/// Inputs, and weights as inputs.
fn feeds(g: &Graph) -> Vec<(String, Tensor)> {
    let nodes = g.nodes();
    let feeds = nodes.iter().enumerate().filter_map(|(i, n)| match &n.op {
        Op::Weight { name, shape, dtype: Dtype::F32 } if name.ends_with(".scale") => {
            Some((name.clone(), uniform(i as u64, shape.clone(), 0.4e-3, 0.8e-3)))
        }
        Op::Input { name, shape, .. } | Op::Weight { name, shape, dtype: Dtype::F32 } => {
            Some((name.clone(), random(i as u64, shape.clone())))
        }
        Op::Weight { name, shape, .. } => {
            Some((name.clone(), random_ints(i as u64, shape.clone(), -127, 128)))
        }
        _ => None,
    });
    feeds.collect()
}

fn count(g: &Graph, name: &str) -> usize {
    g.nodes().iter().filter(|n| n.op.name() == name).count()
}

/// What a convolution reads and writes when `g` is computed in floats, by the name of its kernels.
fn ranges(g: &Graph, feeds: &[(String, Tensor)]) -> HashMap<String, Ranges> {
    let watched = g.clone();
    let convolutions = softdimo::graph::int8::convolutions(g);
    for (name, values) in &convolutions {
        for (which, v) in ["reads", "writes"].iter().zip(values) {
            watched.output(format!("{name} {which}"), *v);
        }
    }
    let arrays = evaluate(&watched, feeds);
    let bounds = |data: &mut dyn Iterator<Item = f64>| {
        data.fold([0.0f32; 2], |[low, high], x| [low.min(x as f32), high.max(x as f32)])
    };
    let of = |i: usize, (name, _): &(String, _)| {
        let (x, y) = (&arrays[1 + 2 * i], &arrays[2 + 2 * i]);
        let (channels, size) = (y.shape[1], y.shape[2] * y.shape[3]);
        let of_channel = |c: usize| {
            let of = y.data.iter().enumerate().filter(|(i, _)| i / size % channels == c);
            bounds(&mut of.map(|(_, &y)| y))
        };
        let reads = bounds(&mut x.data.iter().copied());
        (name.clone(), Ranges { reads, writes: (0..channels).map(of_channel).collect() })
    };
    convolutions.iter().enumerate().map(|(i, c)| of(i, c)).collect()
}

/// The same graph with inputs in place of weights.
fn without_weights(g: &Graph) -> Graph {
    let new = Graph::new();
    let mut map: Vec<Value> = Vec::new();
    for node in g.nodes().iter() {
        let inputs: Vec<Value> = node.inputs.iter().map(|v| map[v.index()]).collect();
        map.push(match &node.op {
            Op::Weight { name, shape, dtype: Dtype::F32 } => {
                new.input(name, Dtype::F32, shape.clone()).unwrap()
            }
            Op::Weight { name, shape, .. } => {
                let q = new.input(name, Dtype::I64, shape.clone()).unwrap();
                new.cast(q, Dtype::I8).unwrap()
            }
            op => new.push(op.clone(), &inputs).unwrap(),
        });
    }
    g.outputs().into_iter().for_each(|(name, v)| new.output(name, map[v.index()]));
    new
}

fn relative(found: &[f64], expected: &[f64]) -> f64 {
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut found.iter().zip(expected).map(|(a, b)| a - b)) / norm(&mut expected.iter().copied())
}

fn for_running_here(g: &Graph) -> Graph {
    for_running(g, Kernels { skip_layer_normalization: false }).unwrap()
}

#[test]
fn what_lies_between_convolutions_is_one_operator() {
    let g = decoder();
    let feeds = feeds(&g);
    let ranges = ranges(&g, &feeds);
    assert_eq!(ranges.len(), 9);
    for resolution in [Resolution::Full, Resolution::Half] {
        let int8 = in_integers(&g, resolution, &|name| ranges.get(name).cloned()).unwrap();
        let int8 = simplify(&int8).unwrap();
        let fused = for_running_here(&int8);
        // What each convolution but the first one reads, the one in f32 among them.
        assert_eq!((count(&fused, "SumNormalization"), count(&fused, "QLinearConv")), (9, 9), "{fused}");
        assert_eq!(count(&fused, "Sigmoid") + count(&fused, "GroupNormalization"), 0, "{fused}");
        // Of x alone.
        assert_eq!((count(&fused, "Transpose"), count(&fused, "Resize")), (1, 0), "{fused}");
        assert_eq!(for_running_here(&fused).to_string(), fused.to_string());

        let expected = evaluate(&int8, &feeds).remove(0);
        let found = evaluate(&fused, &feeds).remove(0);
        close(&found.data, &expected.data, 1e-9).unwrap_or_else(|e| panic!("{e}\n{int8}\n{fused}"));
        // In f32 a value halfway between two levels may become the other one.
        let engine = runtime::engine(runtime::LEAN);
        let found = engine.run_graph(without_weights(&int8), feeds.clone()).unwrap().remove(0).1;
        let error = relative(&found.to_f64(), &expected.data);
        println!("{resolution:?}: {error:.1e}");
        assert!(error < 2e-3, "{error}");
    }
}

/// Levels beside f32 are summed channels first; in f32 alone, a normalisation of a large picture is one operator, of a small one not.
#[test]
fn sums_of_both_kinds_are_one_operator() {
    for (side, alone) in [(64, false), (64, true), (8, true)] {
        let shape = [1, 8, side, side];
        let g = Graph::new();
        let mut x = g.input("x", Dtype::F32, shape).unwrap();
        let q = g.cast(g.input("q", Dtype::I64, shape).unwrap(), Dtype::U8).unwrap();
        let [scale, bias] = ["scale", "bias"].map(|name| g.input(name, Dtype::F32, [8]).unwrap());
        let zero = g.cast(g.constant(ints([8], &[100; 8])).unwrap(), Dtype::U8).unwrap();
        if !alone {
            let levels = g.push(Op::DequantizeLinear { axis: 1 }, &[q, scale, zero]).unwrap();
            x = g.add(x, levels).unwrap();
        }
        let y = g.silu(g.group_normalization(x, scale, bias, 4, 1e-6).unwrap()).unwrap();
        let y = g.push(Op::QuantizeLinear { zero_point: 9 }, &[y, g.scalar(0.031).unwrap()]).unwrap();
        g.output("y", g.cast(g.resize(y, 2).unwrap(), Dtype::F32).unwrap());
        let g = simplify(&g).unwrap();
        let fused = for_running_here(&g);
        let expected = usize::from(side == 64);
        assert_eq!((count(&fused, "SumNormalization"), count(&fused, "Resize")), (expected, 1), "{fused}");
        assert_eq!(count(&fused, "QuantizeLinear"), 1 - expected, "{fused}");
        let feeds = vec![
            ("x".to_string(), random(31, shape)),
            ("q".to_string(), random_ints(32, shape, 0, 256)),
            ("scale".to_string(), uniform(33, [8], 0.01, 0.02)),
            ("bias".to_string(), random(34, [8])),
        ];
        let expected = evaluate(&g, &feeds).remove(0);
        close(&evaluate(&fused, &feeds)[0].data, &expected.data, 0.0).unwrap();
        let found = runtime::engine(runtime::LEAN).run_graph(g, feeds).unwrap().remove(0).1.to_f64();
        // In f32 a value halfway between two levels may become the other one: of 8·64² at most a few, each four times.
        let off = found.iter().zip(&expected.data).map(|(f, e)| (f - e).abs());
        assert!(off.clone().all(|d| d <= 1.0) && off.sum::<f64>() <= 16.0);
    }
}

#[test]
fn what_others_read_is_kept() {
    let (g, feeds) = (Graph::new(), vec![("x".to_string(), random(3, [1, 4, 64, 64]))]);
    let x = g.input("x", Dtype::F32, [1, 4, 64, 64]).unwrap();
    let one = g.constant(floats([4], &[1.0, 2.0, 3.0, 4.0])).unwrap();
    let y = g.group_normalization(x, one, one, 2, 1e-6).unwrap();
    let s = g.sigmoid(y).unwrap();
    g.output("both", g.mul(y, s).unwrap());
    g.output("sigmoid", s);
    let fused = for_running_here(&g);
    assert_eq!((count(&fused, "Sigmoid"), count(&fused, "SumNormalization")), (1, 1), "{fused}");
    for (found, expected) in evaluate(&fused, &feeds).iter().zip(evaluate(&g, &feeds)) {
        close(&found.data, &expected.data, 1e-12).unwrap();
    }
}

/// Bit for bit, and near a mean that is large beside the deviation.
#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let far = uniform(8, [2, 64, 96, 96], 1000.0, 1001.0);
    let feeds = vec![("x".to_string(), far), ("s".into(), random(2, [64])), ("b".into(), random(3, [64]))];
    for (last, to) in [(false, None), (true, None), (true, Some([100, 255]))] {
        let g = Graph::new();
        let mut x = g.input("x", Dtype::F32, [2, 64, 96, 96]).unwrap();
        let [s, b] = ["s", "b"].map(|name| g.input(name, Dtype::F32, [64]).unwrap());
        if last {
            x = g.transpose(x, &[0, 2, 3, 1]).unwrap();
        }
        let op = Op::SumNormalization {
            levels: 0,
            groups: 8,
            eps: 1e-6,
            silu: true,
            to,
            factor: 1,
            channels_last: last,
        };
        let mut operands = vec![x, s, b];
        operands.extend(to.map(|_| g.scalar(0.05).unwrap()));
        g.output("y", g.cast(g.push(op, &operands).unwrap(), Dtype::F32).unwrap());
        let results: Vec<Tensor> = [1, 2, 3]
            .map(|threads| {
                let engine = runtime::engine_of(runtime::LEAN, threads);
                engine.run_graph(g.clone(), feeds.clone()).unwrap().remove(0).1
            })
            .into();
        assert!(results[1..].iter().all(|r| r.bytes() == results[0].bytes()), "{last} {to:?}");
        if to.is_none() {
            let expected = evaluate(&g, &feeds).remove(0);
            // 6e-8 of 1000 beside a deviation of 0.29.
            close(&results[0].to_f64(), &expected.data, 1e-3).unwrap();
        }
    }
}

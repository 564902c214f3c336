//! What the builder refuses: every error names the op, its rule and the operands, and nothing panics.

use super::random_graphs::Draw;
use softdimo::graph::eval::{Array, eval_values};
use softdimo::graph::{Graph, Op, Value, simplify};
use softdimo::tensor::{Dtype, Shape, Tensor};
use strum::VariantNames;

use Dtype::{Bool, F32, I64};

const MAX: usize = usize::MAX;

const DEQUANTIZED: &str = "i8 or u8 values, f32 scales, and zero points like the values";

/// An op, operand types, and the two ends of the message: the rule and what was found.
type Row = (Op, Vec<(Dtype, Vec<usize>)>, &'static str, &'static str);

fn bad_operands() -> Vec<Row> {
    let f = |shape: &[usize]| (F32, shape.to_vec());
    let i = |shape: &[usize]| (I64, shape.to_vec());
    let b = |shape: &[usize]| (Bool, shape.to_vec());
    let q = |shape: &[usize]| (Dtype::I8, shape.to_vec());
    let u = |shape: &[usize]| (Dtype::U8, shape.to_vec());
    let dequantize = |axis| Op::DequantizeLinear { axis };
    let quantize = || Op::QuantizeLinear { zero_point: 0 };
    let integer_conv =
        Op::QLinearConv { strides: [1, 1], pads: [1; 4], x_zero: 0, y_zero: 0, channels_last: false };
    let conv = |strides, pads, group| Op::Conv { strides, pads, group };
    let transposed = |strides, pads, group| Op::ConvTranspose { strides, pads, group };
    let (image, kernel) = (f(&[1, 4, 5, 5]), f(&[6, 4, 3, 3]));
    let shape = |dims: &[usize]| Shape::from(dims);
    vec![
        (Op::Add, vec![f(&[2]), f(&[3])], "shapes that broadcast", "f32[2], f32[3]"),
        (Op::Sub, vec![f(&[2])], "2 operands", "f32[2]"),
        (Op::Mul, vec![f(&[2]), i(&[2])], "operands of one number dtype", "f32[2], i64[2]"),
        (Op::Max, vec![b(&[2]), b(&[2])], "operands of one number dtype", "bool[2], bool[2]"),
        (Op::Div, vec![i(&[2]), i(&[2])], "operands of one float dtype", "i64[2], i64[2]"),
        (Op::Equal, vec![f(&[2]), i(&[2])], "operands of one dtype", "f32[2], i64[2]"),
        (
            Op::Where,
            vec![f(&[2]), f(&[2]), f(&[2])],
            "a bool condition and two operands of one dtype",
            "f32[2], f32[2], f32[2]",
        ),
        (Op::Where, vec![b(&[2]), f(&[3]), f(&[])], "shapes that broadcast", "bool[2], f32[3], f32[]"),
        (Op::Exp, vec![], "1 operand", "no operands"),
        (Op::Sqrt, vec![i(&[2])], "operands of one float dtype", "i64[2]"),
        (Op::Clip { min: 1.0, max: 0.0 }, vec![f(&[2])], "min <= max", "f32[2]"),
        (Op::Clip { min: f32::NAN, max: 0.0 }, vec![f(&[2])], "min <= max", "f32[2]"),
        (Op::MatMul, vec![f(&[2, 3]), f(&[4, 5])], "[.., M, K] and [.., K, N]", "f32[2, 3], f32[4, 5]"),
        (Op::MatMul, vec![f(&[3]), f(&[3, 5])], "[.., M, K] and [.., K, N]", "f32[3], f32[3, 5]"),
        (
            Op::MatMul,
            vec![f(&[2, 2, 3]), f(&[3, 3, 5])],
            "leading dimensions that broadcast",
            "f32[2, 2, 3], f32[3, 3, 5]",
        ),
        (
            Op::Gemm { trans_a: true, trans_b: false },
            vec![f(&[2, 3]), f(&[3, 4])],
            "matrices with one inner dimension",
            "f32[2, 3], f32[3, 4]",
        ),
        (
            Op::Gemm { trans_a: false, trans_b: false },
            vec![f(&[1, 2, 3]), f(&[3, 4])],
            "two matrices",
            "f32[1, 2, 3], f32[3, 4]",
        ),
        (
            Op::Gemm { trans_a: false, trans_b: false },
            vec![f(&[2, 3]), f(&[3, 4]), f(&[2])],
            "a third operand that broadcasts to [M, N]",
            "f32[2, 3], f32[3, 4], f32[2]",
        ),
        (conv([1, 1], [0; 4], 1), vec![image.clone()], "2 or 3 operands", "f32[1, 4, 5, 5]"),
        (
            conv([0, 1], [0; 4], 1),
            vec![image.clone(), kernel.clone()],
            "strides of 1 or more and a kernel that fits the padded input",
            "f32[1, 4, 5, 5], f32[6, 4, 3, 3]",
        ),
        (
            conv([1, 1], [MAX, 0, 1, 0], 1),
            vec![image.clone(), kernel.clone()],
            "strides of 1 or more and a kernel that fits the padded input",
            "f32[1, 4, 5, 5], f32[6, 4, 3, 3]",
        ),
        (
            conv([1, 1], [0; 4], 1),
            vec![image.clone(), f(&[6, 4, 6, 3])],
            "strides of 1 or more and a kernel that fits the padded input",
            "f32[1, 4, 5, 5], f32[6, 4, 6, 3]",
        ),
        (
            conv([1, 1], [0; 4], 0),
            vec![image.clone(), kernel.clone()],
            "x [B, C, H, W] and w [O, C/group, kh, kw]",
            "f32[1, 4, 5, 5], f32[6, 4, 3, 3]",
        ),
        (
            conv([1, 1], [0; 4], MAX),
            vec![image.clone(), kernel.clone()],
            "x [B, C, H, W] and w [O, C/group, kh, kw]",
            "f32[1, 4, 5, 5], f32[6, 4, 3, 3]",
        ),
        (
            conv([1, 1], [0; 4], 1),
            vec![image.clone(), kernel.clone(), f(&[5])],
            "a bias [O]",
            "f32[1, 4, 5, 5], f32[6, 4, 3, 3], f32[5]",
        ),
        (
            transposed([2, 0], [0; 4], 1),
            vec![image.clone(), f(&[4, 6, 3, 3])],
            "strides of 1 or more and pads smaller than the full result",
            "f32[1, 4, 5, 5], f32[4, 6, 3, 3]",
        ),
        (
            transposed([1, 1], [4, 0, 3, 0], 1),
            vec![image.clone(), f(&[4, 6, 3, 3])],
            "strides of 1 or more and pads smaller than the full result",
            "f32[1, 4, 5, 5], f32[4, 6, 3, 3]",
        ),
        (
            transposed([MAX, 1], [0; 4], 1),
            vec![image.clone(), f(&[4, 6, 3, 3])],
            "strides of 1 or more and pads smaller than the full result",
            "f32[1, 4, 5, 5], f32[4, 6, 3, 3]",
        ),
        (
            transposed([1, 1], [0; 4], 3),
            vec![image, f(&[4, 6, 3, 3])],
            "x [B, C, H, W] and w [C, O/group, kh, kw]",
            "f32[1, 4, 5, 5], f32[4, 6, 3, 3]",
        ),
        (Op::Concat { axis: 0 }, vec![], "1 or more operands", "no operands"),
        (Op::Concat { axis: 0 }, vec![f(&[])], "an axis inside the rank", "f32[]"),
        (Op::Concat { axis: 0 }, vec![f(&[2]), i(&[2])], "operands of one dtype", "f32[2], i64[2]"),
        (
            Op::Concat { axis: 0 },
            vec![f(&[2, 3]), f(&[2, 4])],
            "operands equal outside the axis",
            "f32[2, 3], f32[2, 4]",
        ),
        (Op::Expand { shape: shape(&[3]) }, vec![f(&[2])], "a shape the input broadcasts to", "f32[2]"),
        (Op::Expand { shape: shape(&[]) }, vec![f(&[1])], "a shape the input broadcasts to", "f32[1]"),
        (dequantize(0), vec![f(&[2]), f(&[2])], DEQUANTIZED, "f32[2], f32[2]"),
        (dequantize(0), vec![q(&[2]), i(&[2])], DEQUANTIZED, "i8[2], i64[2]"),
        (dequantize(0), vec![q(&[2]), f(&[2]), f(&[2])], DEQUANTIZED, "i8[2], f32[2], f32[2]"),
        (dequantize(0), vec![q(&[2])], "2 or 3 operands", "i8[2]"),
        (
            dequantize(0),
            vec![q(&[2, 3]), f(&[3])],
            "q and scale [] or [size of the axis]",
            "i8[2, 3], f32[3]",
        ),
        (
            dequantize(2),
            vec![q(&[2, 3]), f(&[3])],
            "q and scale [] or [size of the axis]",
            "i8[2, 3], f32[3]",
        ),
        (dequantize(0), vec![q(&[]), f(&[1])], "q and scale [] or [size of the axis]", "i8[], f32[1]"),
        (
            dequantize(0),
            vec![q(&[2]), f(&[2]), q(&[])],
            "as many zero points as scales",
            "i8[2], f32[2], i8[]",
        ),
        (quantize(), vec![q(&[2]), f(&[2])], "f32 operands", "i8[2], f32[2]"),
        (quantize(), vec![f(&[2])], "2 operands", "f32[2]"),
        (quantize(), vec![f(&[2, 3]), f(&[3])], "x and scale [] or [size of axis 0]", "f32[2, 3], f32[3]"),
        (
            Op::MatMulIntegerToFloat { zero_point: 0 },
            vec![f(&[2, 3]), q(&[3, 4]), f(&[4])],
            "u8 and i8 operands and f32 scales",
            "f32[2, 3], i8[3, 4], f32[4]",
        ),
        (
            Op::MatMulIntegerToFloat { zero_point: 0 },
            vec![u(&[2, 3]), q(&[4, 3]), f(&[4])],
            "a [M, K], b [K, N] and scale [N]",
            "u8[2, 3], i8[4, 3], f32[4]",
        ),
        (
            integer_conv.clone(),
            vec![u(&[1, 4, 5, 5]), u(&[6, 4, 3, 3]), f(&[6])],
            "u8 and i8 operands, f32 scales and an i32 bias",
            "u8[1, 4, 5, 5], u8[6, 4, 3, 3], f32[6]",
        ),
        (
            integer_conv.clone(),
            vec![u(&[1, 4, 5, 5]), q(&[6, 2, 3, 3]), f(&[6])],
            "x [B, C, H, W] and w [O, C/group, kh, kw]",
            "u8[1, 4, 5, 5], i8[6, 2, 3, 3], f32[6]",
        ),
        (
            integer_conv,
            vec![u(&[1, 4, 5, 5]), q(&[6, 4, 3, 3]), f(&[4])],
            "a scale and a bias [O]",
            "u8[1, 4, 5, 5], i8[6, 4, 3, 3], f32[4]",
        ),
        (Op::Gather, vec![f(&[2]), f(&[2])], "i64 or i32 indices", "f32[2], f32[2]"),
        (Op::Gather, vec![f(&[]), i(&[2])], "data of rank 1 or more", "f32[], i64[2]"),
        (Op::OneHot { depth: 3 }, vec![f(&[2])], "i64 or i32 indices", "f32[2]"),
        (
            Op::Pad { before: vec![1], after: vec![1, 1] },
            vec![f(&[2, 2])],
            "one padding per axis",
            "f32[2, 2]",
        ),
        (Op::Pad { before: vec![MAX], after: vec![1] }, vec![f(&[2])], "a size without overflow", "f32[2]"),
        (Op::Reshape { shape: shape(&[7]) }, vec![f(&[2, 3])], "as many elements as the input", "f32[2, 3]"),
        (Op::Reshape { shape: shape(&[MAX, MAX]) }, vec![f(&[1])], "as many elements as the input", "f32[1]"),
        (
            Op::Slice { axis: 2, start: 0, end: 1, step: 1 },
            vec![f(&[2, 3])],
            "an axis inside the rank",
            "f32[2, 3]",
        ),
        (
            Op::Slice { axis: 1, start: 0, end: 4, step: 1 },
            vec![f(&[2, 3])],
            "start <= end <= size and step > 0",
            "f32[2, 3]",
        ),
        (
            Op::Slice { axis: 1, start: 0, end: 3, step: 0 },
            vec![f(&[2, 3])],
            "start <= end <= size and step > 0",
            "f32[2, 3]",
        ),
        (
            Op::Slice { axis: 0, start: 0, end: 1, step: 1 },
            vec![f(&[0])],
            "start <= end <= size and step > 0",
            "f32[0]",
        ),
        (Op::Transpose { perm: vec![0, 0] }, vec![f(&[2, 3])], "a permutation of the axes", "f32[2, 3]"),
        (Op::Transpose { perm: vec![0, 2] }, vec![f(&[2, 3])], "a permutation of the axes", "f32[2, 3]"),
        (Op::ArgMax { axis: 0 }, vec![f(&[])], "an axis inside the rank", "f32[]"),
        (Op::ArgMax { axis: 0 }, vec![f(&[0, 2])], "an axis that is not empty", "f32[0, 2]"),
        (Op::ReduceMax { axis: 1 }, vec![f(&[2, 0])], "an axis that is not empty", "f32[2, 0]"),
        (Op::ReduceMean { axes: vec![1] }, vec![f(&[2, 0])], "axes that are not empty", "f32[2, 0]"),
        (Op::ReduceSum { axes: vec![1, 1] }, vec![f(&[2, 3])], "each axis once", "f32[2, 3]"),
        (Op::ReduceSum { axes: vec![MAX] }, vec![f(&[2, 3])], "an axis inside the rank", "f32[2, 3]"),
        (Op::Softmax { axis: 1 }, vec![f(&[2])], "an axis inside the rank", "f32[2]"),
        (Op::LogSoftmax { axis: 0 }, vec![f(&[])], "an axis inside the rank", "f32[]"),
        (
            Op::GroupNormalization { groups: 3, eps: 0.0 },
            vec![f(&[1, 4, 2]), f(&[4]), f(&[4])],
            "x [B, C, ..] with groups dividing C, scale [C], bias [C]",
            "f32[1, 4, 2], f32[4], f32[4]",
        ),
        (
            Op::LayerNormalization { eps: 0.0 },
            vec![f(&[]), f(&[]), f(&[])],
            "x [.., D], scale [D], bias [D]",
            "f32[], f32[], f32[]",
        ),
        (
            Op::LayerNormalization { eps: 0.0 },
            vec![f(&[2, 3]), f(&[3]), f(&[2])],
            "x [.., D], scale [D], bias [D]",
            "f32[2, 3], f32[3], f32[2]",
        ),
        (
            Op::AveragePool { size: 2 },
            vec![f(&[1, 1, 4, 3])],
            "x [B, C, H, W] with the window dividing H and W",
            "f32[1, 1, 4, 3]",
        ),
        (
            Op::AveragePool { size: 0 },
            vec![f(&[1, 1, 4, 4])],
            "x [B, C, H, W] with the window dividing H and W",
            "f32[1, 1, 4, 4]",
        ),
        (
            Op::Resize { factor: 0 },
            vec![f(&[1, 1, 4, 4])],
            "x [B, C, H, W] and a factor of 1 or more",
            "f32[1, 1, 4, 4]",
        ),
        (Op::Resize { factor: MAX }, vec![f(&[1, 1, 4, 4])], "a size without overflow", "f32[1, 1, 4, 4]"),
        (Op::Cast { to: F32 }, vec![f(&[1]), f(&[1])], "1 operand", "f32[1], f32[1]"),
        (
            Op::Input { name: "a".into(), dtype: F32, shape: shape(&[1]) },
            vec![f(&[1])],
            "0 operands",
            "f32[1]",
        ),
    ]
}

#[test]
fn bad_operands_are_named() {
    for (op, operands, expected, found) in bad_operands() {
        let g = Graph::new();
        let inputs: Vec<Value> = operands
            .into_iter()
            .enumerate()
            .map(|(i, (dtype, shape))| g.input(&format!("x{i}"), dtype, shape).unwrap())
            .collect();
        let before = g.to_string();
        let message = g.push(op.clone(), &inputs).unwrap_err().to_string();
        let name = op.name();
        assert!(message.starts_with(&format!("op {name}")), "{message}");
        assert!(message.ends_with(&format!(": expected {expected}, found {found}")), "{message}");
        assert_eq!(g.to_string(), before, "a refused node must leave no trace");
    }
}

#[test]
fn attributes_are_in_the_message() {
    let g = Graph::new();
    let x = g.input("x", F32, [2, 3]).unwrap();
    let e = g.slice(x, 1, 2, 9).unwrap_err().to_string();
    let expected = "expected start <= end <= size and step > 0, found f32[2, 3]";
    assert_eq!(e, format!("op Slice {{axis=1, start=2, end=9, step=1}}: {expected}"));
    let e = g.add(x, g.input("y", F32, [2]).unwrap()).unwrap_err().to_string();
    assert_eq!(e, "op Add: expected shapes that broadcast, found f32[2, 3], f32[2]");
}

#[test]
fn names_and_handles_are_checked() {
    let g = Graph::new();
    g.input("x", F32, [2]).unwrap();
    g.weight("w", F32, [2]).unwrap();
    g.weight("w", F32, [2]).unwrap();
    let again = g.input("x", F32, [2]).unwrap_err().to_string();
    assert_eq!(again, "op Input f32[2] named 'x': expected a name that is free, found Input f32[2]");
    assert!(g.weight("x", F32, [2]).is_err());
    assert!(g.input("w", F32, [2]).is_err());
    let other = g.weight("w", Dtype::F16, [2]).unwrap_err().to_string();
    assert_eq!(other, "op Weight f16[2] named 'w': expected a name that is free, found Weight f32[2]");

    let foreign = g.scalar(1.0).unwrap();
    let e = Graph::new().exp(foreign).unwrap_err().to_string();
    assert_eq!(e, "op Exp: expected values of this graph, found another graph's");
}

#[test]
fn results_beyond_the_address_space_are_refused() {
    let g = Graph::new();
    assert!(g.input("a", F32, [MAX, 2]).is_err());
    assert!(g.input("b", F32, [1 << 62]).is_err());
    // No element, but strides that overflow.
    assert!(g.input("c", F32, [0, MAX, MAX]).is_err());
    let wide = g.input("d", F32, [1 << 40, 1]).unwrap();
    let tall = g.input("e", F32, [1, 1 << 40]).unwrap();
    assert!(g.matmul(wide, tall).is_err());
    assert!(g.add(wide, tall).is_err());
    let i = g.input("f", I64, [1 << 40]).unwrap();
    assert!(g.one_hot(i, 1 << 40).is_err());
    assert!(g.gather(tall, i).is_err());
    assert!(g.expand(wide, [1 << 40, 1 << 40]).is_err());
}

/// A random op of any variant with random attributes, most of them unfit.
fn random_op(d: &mut Draw) -> Op {
    let mut n = || d.pick(&[0, 1, 1, 2, 2, 3, 4, 7, 1 << 31, 1 << 62, MAX]);
    let [a, b, c, e, f, h] = std::array::from_fn(|_| n());
    let dims = [a, b, c, e][..a.min(4)].to_vec();
    let pads = if b > 4 { [a, b, c, e] } else { [0, b, b, 0] };
    let name = Op::VARIANTS[d.below(Op::VARIANTS.len())];
    let any =
        d.pick(&[F32, I64, Bool, Dtype::F16, Dtype::BF16, Dtype::I8, Dtype::U8, Dtype::I32, Dtype::F64]);
    match name {
        "Input" => Op::Input { name: format!("i{a}"), dtype: any, shape: dims.into() },
        "Weight" => Op::Weight { name: format!("w{a}"), dtype: any, shape: dims.into() },
        "Constant" => Op::Constant { value: Tensor::from_f32([2], &[1.0, 2.0]) },
        "Abs" => Op::Abs,
        "Clip" => Op::Clip { min: a as f32 - 2.0, max: d.pick(&[0.0, 1.0, f32::NAN]) },
        "Cos" => Op::Cos,
        "Erf" => Op::Erf,
        "Exp" => Op::Exp,
        "Gelu" => Op::Gelu { tanh: a % 2 == 0 },
        "Log" => Op::Log,
        "Neg" => Op::Neg,
        "Reciprocal" => Op::Reciprocal,
        "Relu" => Op::Relu,
        "Sigmoid" => Op::Sigmoid,
        "Sign" => Op::Sign,
        "Sin" => Op::Sin,
        "Sqrt" => Op::Sqrt,
        "Tanh" => Op::Tanh,
        "Add" => Op::Add,
        "Div" => Op::Div,
        "Equal" => Op::Equal,
        "Greater" => Op::Greater,
        "Max" => Op::Max,
        "Min" => Op::Min,
        "Mul" => Op::Mul,
        "Sub" => Op::Sub,
        "Where" => Op::Where,
        "MatMul" => Op::MatMul,
        "Attention" => Op::Attention { heads: a, scale: 0.5 },
        "DepthToSpace" => Op::DepthToSpace { factor: a },
        "GroupNormalizationGradient" => {
            Op::GroupNormalizationGradient { groups: a, eps: 1e-5, silu: b % 2 == 0 }
        }
        "SkipLayerNormalization" => Op::SkipLayerNormalization { eps: 1e-5 },
        "Gemm" => Op::Gemm { trans_a: a % 2 == 0, trans_b: b % 2 == 0 },
        "Conv" => Op::Conv { strides: [c, e], pads, group: f },
        "ConvTranspose" => Op::ConvTranspose { strides: [c, e], pads, group: f },
        "Concat" => Op::Concat { axis: a },
        "Expand" => Op::Expand { shape: dims.into() },
        "Gather" => Op::Gather,
        "OneHot" => Op::OneHot { depth: a },
        "Pad" => Op::Pad { before: dims.clone(), after: [b, c, e, f][..a.min(4)].to_vec() },
        "Reshape" => Op::Reshape { shape: dims.into() },
        "Slice" => Op::Slice { axis: a, start: b, end: c, step: e },
        "Transpose" if h % 2 == 0 => Op::Transpose { perm: vec![1, 0] },
        "Transpose" => Op::Transpose { perm: dims.iter().map(|v| v % 5).collect() },
        "ArgMax" => Op::ArgMax { axis: a },
        "ReduceMax" => Op::ReduceMax { axis: a },
        "ReduceMean" => Op::ReduceMean { axes: dims },
        "ReduceSum" => Op::ReduceSum { axes: dims },
        "LogSoftmax" => Op::LogSoftmax { axis: a },
        "Softmax" => Op::Softmax { axis: a },
        "GroupNormalization" => Op::GroupNormalization { groups: h, eps: 1e-5 },
        "LayerNormalization" => Op::LayerNormalization { eps: 1e-5 },
        "AveragePool" => Op::AveragePool { size: h },
        "Resize" => Op::Resize { factor: h },
        "Cast" => Op::Cast { to: any },
        "DequantizeLinear" => Op::DequantizeLinear { axis: a },
        "QuantizeLinear" => Op::QuantizeLinear { zero_point: b as u8 },
        "MatMulIntegerToFloat" => Op::MatMulIntegerToFloat { zero_point: b as u8 },
        "QLinearConv" => {
            let (x_zero, y_zero, channels_last) = (a as u8, f as u8, h == 3);
            Op::QLinearConv { strides: [c, e], pads, x_zero, y_zero, channels_last }
        }
        "RowScales" => Op::RowScales { factor: 0.5 },
        "ScaledRows" => Op::ScaledRows,
        "SumNormalization" => {
            let to = [None, Some([c as u8, 255]), Some([7, c as u8])][f % 3];
            let (silu, channels_last) = (e % 2 == 0, h % 2 == 0);
            Op::SumNormalization { levels: a, groups: b, eps: 1e-5, silu, to, factor: h, channels_last }
        }
        "StopGradient" => Op::StopGradient,
        other => panic!("{other} needs a row here"),
    }
}

/// Random ops on random values: nodes or errors, never a panic; and whatever was accepted evaluates,
/// simplifies, prints and lowers.
#[test]
fn no_operands_make_the_builder_panic() {
    let (mut accepted, mut refused) = (std::collections::BTreeSet::new(), 0);
    for seed in 0..200 {
        let (g, mut d) = (Graph::new(), Draw::new(seed));
        let mut values = Vec::new();
        let shapes: [&[usize]; 10] = [
            &[],
            &[2],
            &[3],
            &[2, 3],
            &[3, 2],
            &[0, 3],
            &[1, 2, 4, 4],
            &[2, 2, 1, 1],
            &[2, 3, 2],
            &[1 << 40],
        ];
        for (i, shape) in shapes.into_iter().enumerate() {
            let dtype = if i < 5 { d.pick(&[F32, F32, I64, Bool]) } else { F32 };
            values.push(g.input(&format!("x{i}"), dtype, shape).unwrap());
        }
        let int8 = g.input("q", Dtype::I8, [2, 3]).unwrap();
        let scale = g.input("scale", F32, [2]).unwrap();
        let levels = g.input("levels", Dtype::U8, [3, 2]).unwrap();
        let picture = g.input("picture", Dtype::U8, [1, 2, 4, 4]).unwrap();
        let rows = g.input("rows", F32, [2, 3]).unwrap();
        let condition = g.input("condition", Bool, [2, 3]).unwrap();
        let column = g.input("column", F32, [2, 1]).unwrap();
        let zeros = g.input("zeros", Dtype::U8, [2]).unwrap();
        let kernels = g.input("kernels", Dtype::I8, [2, 2, 1, 1]).unwrap();
        for _ in 0..300 {
            let op = random_op(&mut d);
            let mut inputs: Vec<Value> = (0..d.below(4)).map(|_| d.pick(&values)).collect();
            // What chance would hardly bring together: an image with a kernel or with scale and bias, int8 with
            // its scale.
            let fitting = match op.name() {
                "Conv" | "ConvTranspose" => Some(vec![values[6], values[7]]),
                "GroupNormalization" => Some(vec![values[6], scale, scale]),
                "DequantizeLinear" => Some(vec![int8, scale]),
                "QuantizeLinear" => Some(vec![values[3], scale]),
                "ScaledRows" => Some(vec![rows, column, values[2]]),
                "Where" => Some(vec![condition, rows, rows]),
                "MatMulIntegerToFloat" => Some(vec![levels, int8, values[2]]),
                "QLinearConv" => Some(vec![picture, kernels, scale]),
                _ => None,
            };
            if let (Some(fitting), 0) = (fitting, d.below(2)) {
                inputs = fitting;
            }
            if op.name() == "Attention" && d.below(2) == 0 {
                inputs = vec![values[8]; 3];
            } else if op.name() == "GroupNormalizationGradient" && d.below(2) == 0 {
                inputs = vec![values[6], scale, scale, values[6]];
            } else if op.name() == "SkipLayerNormalization" && d.below(2) == 0 {
                inputs = vec![values[3], values[3], values[2], values[2]];
            } else if let (Op::SumNormalization { levels: 0..5, groups, to, .. }, 0) = (&op, d.below(2)) {
                inputs = [picture, scale, zeros].repeat(d.below(3));
                inputs.extend(vec![values[6]; d.below(2)]);
                inputs.extend(vec![scale; 2 * (*groups).min(1)]);
                inputs.extend(to.map(|_| values[0]));
            } else if op.name().ends_with("Normalization") && d.below(2) == 0 {
                // Rows, scale and bias, likewise.
                inputs = vec![values[3], values[2], values[2]];
            }
            // Its zero points are written out, one for each of 2⁴⁰ scales.
            if op.name() == "QuantizeLinear" && inputs.iter().any(|&v| g.shape(v).len() > 1 << 20) {
                continue;
            }
            match g.push(op.clone(), &inputs) {
                Ok(v) => {
                    accepted.insert(op.name());
                    values.push(v);
                }
                Err(e) => {
                    refused += 1;
                    assert!(e.to_string().starts_with(&format!("op {}", op.name())), "{e}");
                }
            }
        }
        check_accepted(&g);
    }
    println!("accepted {} of {} ops, refused {refused} nodes", accepted.len(), Op::VARIANTS.len());
    assert_eq!(accepted.len(), Op::VARIANTS.len(), "never accepted: {:?}", {
        Op::VARIANTS.iter().filter(|v| !accepted.contains(**v)).collect::<Vec<_>>()
    });
}

fn check_accepted(g: &Graph) {
    let nodes = g.nodes();
    let mut feeds = std::collections::HashMap::new();
    // Only small values are evaluated, from small values.
    let mut small = vec![false; nodes.len()];
    for (i, node) in nodes.iter().enumerate() {
        small[i] = node.shape.len() <= 500 && node.inputs.iter().all(|v| small[v.index()]);
        if let (true, Op::Input { name, .. } | Op::Weight { name, .. }) = (small[i], &node.op) {
            feeds.insert(name.clone(), Array::new(node.shape.clone(), vec![1.0; node.shape.len()]));
        }
    }
    // An index out of range is the one error that only values show.
    let outcome = |e: softdimo::Error| assert!(e.to_string().starts_with("gather index"), "{e}\n{g}");
    for v in read_values(g) {
        if small[v.index()] {
            match eval_values(g, &[v], &feeds) {
                Ok(a) => assert_eq!(a[0].data.len(), nodes[v.index()].shape.len(), "{g}"),
                Err(e) => outcome(e),
            }
        }
        g.output(format!("y{}", v.index()), v);
    }
    match simplify(g) {
        Ok(s) => assert!(!s.to_string().is_empty()),
        Err(e) => outcome(e),
    }
    g.peak_activation_bytes();
    assert!(!softdimo::graph::onnx::lower(g, softdimo::graph::onnx::Placement::Inputs).is_empty());
}

/// The values that some node reads.
fn read_values(g: &Graph) -> Vec<Value> {
    let mut all: Vec<Value> = g.nodes().iter().flat_map(|n| n.inputs.clone()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

//! Sources, elementwise ops and casts.

use super::case::{Case, case, floats, ints, positive, random, random_ints};
use softdimo::Result;
use softdimo::graph::{Graph, Op, Value};
use softdimo::tensor::{Dtype, Tensor};

type Unary = fn(&Graph, Value) -> Result<Value>;
type Binary = fn(&Graph, Value, Value) -> Result<Value>;

pub fn cases() -> Vec<Case> {
    [sources(), unary(), binary(), mixed(), casts(), int8()].into_iter().flatten().collect()
}

fn sources() -> Vec<Case> {
    let constant = |value: Tensor| {
        let expected = value.to_f64();
        case("Constant", [], move |g, []| g.constant(value.clone())).gives(expected)
    };
    vec![
        case("Input", [floats([2], &[1.5, -2.0])], |_, [x]| Ok(x)).gives([1.5, -2.0]),
        case("Input", [ints([2], &[1 << 40, -2])], |_, [x]| Ok(x)).gives([(1u64 << 40) as f64, -2.0]),
        constant(floats([], &[0.5])),
        constant(floats([2, 2], &[1.0, f32::INFINITY, -0.25, 0.0])),
        constant(ints([3], &[1, -2, 3])),
        constant(floats([0, 3], &[])),
    ]
}

fn unary() -> Vec<Case> {
    let half = std::f64::consts::FRAC_1_SQRT_2;
    // Each with elements and their images; those at 1 are tabulated: Φ(1), erf(1), σ(1), cos 1, sin 1.
    let table: [(&str, Unary, &[f32], &[f64]); 17] = [
        ("Abs", |g, x| g.abs(x), &[-1.5, 0.0, 2.0], &[1.5, 0.0, 2.0]),
        ("Clip", |g, x| g.clip(x, -1.0, 0.5), &[-1.5, 0.25, 2.0], &[-1.0, 0.25, 0.5]),
        ("Cos", |g, x| g.cos(x), &[0.0, 1.0, -1.0], &[1.0, 0.5403023058681398, 0.5403023058681398]),
        ("Erf", |g, x| g.erf(x), &[0.0, 1.0, -1.0], &[0.0, 0.8427007929497149, -0.8427007929497149]),
        ("Exp", |g, x| g.exp(x), &[0.0, 1.0], &[1.0, std::f64::consts::E]),
        ("Gelu", |g, x| g.gelu(x), &[0.0, 1.0, -1.0], &[0.0, 0.8413447460685429, -0.15865525393145707]),
        // 0.5 · (1 + tanh(√(2/π) · 1.044715))
        ("Gelu", |g, x| g.gelu_tanh(x), &[0.0, 1.0], &[0.0, 0.8411919906082768]),
        ("Log", |g, x| g.log(x), &[1.0, 0.5], &[0.0, -std::f64::consts::LN_2]),
        ("Neg", |g, x| g.neg(x), &[1.0, -2.0], &[-1.0, 2.0]),
        ("Reciprocal", |g, x| g.reciprocal(x), &[4.0, -0.5], &[0.25, -2.0]),
        ("Relu", |g, x| g.relu(x), &[-1.0, 0.0, 3.0], &[0.0, 0.0, 3.0]),
        ("Sigmoid", |g, x| g.sigmoid(x), &[0.0, 1.0], &[0.5, 0.7310585786300049]),
        ("Sign", |g, x| g.sign(x), &[-3.0, 0.0, -0.0, 0.1], &[-1.0, 0.0, 0.0, 1.0]),
        ("Sin", |g, x| g.sin(x), &[0.0, 1.0, -1.0], &[0.0, 0.8414709848078965, -0.8414709848078965]),
        ("Sqrt", |g, x| g.sqrt(x), &[4.0, 0.5], &[2.0, half]),
        ("Tanh", |g, x| g.tanh(x), &[0.0, 1.0], &[0.0, 0.7615941559557649]),
        ("StopGradient", |g, x| g.stop_gradient(x), &[1.0, -2.0], &[1.0, -2.0]),
    ];
    let mut cases = Vec::new();
    for (seed, (op, f, x, y)) in table.into_iter().enumerate() {
        let seed = 100 + seed as u64;
        let values = if matches!(op, "Log" | "Sqrt" | "Reciprocal") { positive } else { random };
        cases.push(case(op, [floats([x.len()], x)], move |g, [x]| f(g, x)).gives(y));
        cases.push(case(op, [values(seed, vec![3, 5, 7])], move |g, [x]| f(g, x)));
        cases.push(case(op, [values(seed, vec![])], move |g, [x]| f(g, x)));
        cases.push(case(op, [values(seed, vec![0, 3])], move |g, [x]| f(g, x)).gives([]));
    }
    for (op, f) in [("Abs", Graph::abs as Unary), ("Neg", Graph::neg), ("Sign", Graph::sign)] {
        cases.push(case(op, [random_ints(150, [7], -3, 4)], move |g, [x]| f(g, x)));
    }
    // Saturation: no NaN far from 0.
    let far = floats([4], &[-90.0, -30.0, 30.0, 90.0]);
    for (op, f) in [
        ("Sigmoid", Graph::sigmoid as Unary),
        ("Tanh", Graph::tanh),
        ("Gelu", Graph::gelu),
        ("Gelu", Graph::gelu_tanh),
        ("Erf", Graph::erf),
    ] {
        cases.push(case(op, [far.clone()], move |g, [x]| f(g, x)));
    }
    // Many periods away, as the arguments of sinusoidal encodings are.
    let turns = floats([4], &[-1000.0, -77.25, 650.0, 6000.5]);
    for (op, f) in [("Cos", Graph::cos as Unary), ("Sin", Graph::sin)] {
        cases.push(case(op, [turns.clone()], move |g, [x]| f(g, x)));
    }
    cases.push(case("Log", [floats([1], &[0.0])], |g, [x]| g.log(x)).gives([f64::NEG_INFINITY]));
    let unbounded = [floats([2], &[-5.0, 5.0])];
    cases.push(case("Clip", unbounded, |g, [x]| g.clip(x, 0.0, f32::INFINITY)).gives([0.0, 5.0]));
    cases.push(case("Clip", [floats([2], &[-5.0, 5.0])], |g, [x]| g.clip(x, 1.0, 1.0)).gives([1.0, 1.0]));
    cases
}

fn binary() -> Vec<Case> {
    // On (6, −1.5, 2) and (−2, −1.5, 4).
    let table: [(&str, Binary, [f64; 3]); 8] = [
        ("Add", |g, a, b| g.add(a, b), [4.0, -3.0, 6.0]),
        ("Div", |g, a, b| g.div(a, b), [-3.0, 1.0, 0.5]),
        ("Equal", |g, a, b| g.equal(a, b), [0.0, 1.0, 0.0]),
        ("Greater", |g, a, b| g.greater(a, b), [1.0, 0.0, 0.0]),
        ("Max", |g, a, b| g.max(a, b), [6.0, -1.5, 4.0]),
        ("Min", |g, a, b| g.min(a, b), [-2.0, -1.5, 2.0]),
        ("Mul", |g, a, b| g.mul(a, b), [-12.0, 2.25, 8.0]),
        ("Sub", |g, a, b| g.sub(a, b), [8.0, 0.0, -2.0]),
    ];
    let shapes: [(&[usize], &[usize]); 8] = [
        (&[2, 3], &[2, 3]),
        (&[2, 3, 4], &[4]),
        (&[4], &[2, 3, 4]),
        (&[2, 1, 4], &[3, 1]),
        (&[], &[2, 3]),
        (&[5], &[]),
        (&[], &[]),
        (&[0, 3], &[1]),
    ];
    let mut cases = Vec::new();
    for (k, (op, f, y)) in table.into_iter().enumerate() {
        let [a, b] = [floats([3], &[6.0, -1.5, 2.0]), floats([3], &[-2.0, -1.5, 4.0])];
        cases.push(case(op, [a, b], move |g, [a, b]| f(g, a, b)).gives(y));
        for (i, (a, b)) in shapes.into_iter().enumerate() {
            let seed = 200 + 20 * k as u64 + i as u64;
            cases.push(case(op, [random(seed, a), positive(seed, b)], move |g, [a, b]| f(g, a, b)));
        }
        if op != "Div" {
            let inputs = [random_ints(300, [4, 5], -2, 3), random_ints(301, [5], -2, 3)];
            cases.push(case(op, inputs, move |g, [a, b]| f(g, a, b)));
        }
    }
    // [1, 2] − [[10], [20]] in both orders.
    let [row, column] = [floats([2], &[1.0, 2.0]), floats([2, 1], &[10.0, 20.0])];
    let sub = [row.clone(), column.clone()];
    cases.push(case("Sub", sub, |g, [a, b]| g.sub(a, b)).gives([-9.0, -8.0, -19.0, -18.0]));
    cases.push(case("Sub", [column, row], |g, [a, b]| g.sub(a, b)).gives([9.0, 8.0, 19.0, 18.0]));
    let zero = [floats([2], &[1.0, -1.0]), floats([2], &[0.0, 0.0])];
    cases.push(case("Div", zero, |g, [a, b]| g.div(a, b)).gives([f64::INFINITY, f64::NEG_INFINITY]));
    let big = [ints([1], &[(1 << 53) - 1]), ints([1], &[1])];
    cases.push(case("Add", big, |g, [a, b]| g.add(a, b)).gives([(1u64 << 53) as f64]));
    cases
}

fn mixed() -> Vec<Case> {
    let select = |g: &Graph, c: Value, a: Value, b: Value| g.where_(g.greater(c, g.scalar(0.0)?)?, a, b);
    let [c, a, b] =
        [floats([3], &[1.0, -1.0, 0.0]), floats([3], &[1.0, 2.0, 3.0]), floats([3], &[4.0, 5.0, 6.0])];
    let mut cases =
        vec![case("Where", [c, a, b], move |g, [c, a, b]| select(g, c, a, b)).gives([1.0, 5.0, 6.0])];
    let shapes: [[&[usize]; 3]; 5] = [
        [&[2, 3], &[], &[3]],
        [&[3], &[2, 3], &[2, 1]],
        [&[2, 1, 1], &[3, 1], &[4]],
        [&[], &[2, 2], &[2]],
        [&[0, 2], &[2], &[1]],
    ];
    for (i, [c, a, b]) in shapes.into_iter().enumerate() {
        let seed = 400 + i as u64;
        let inputs = [random(seed, c), random(seed + 50, a), random(seed + 90, b)];
        cases.push(case("Where", inputs, move |g, [c, a, b]| select(g, c, a, b)));
    }
    let labels = [floats([2], &[1.0, 0.0]), ints([2], &[3, 4]), ints([1], &[10])];
    cases.push(case("Where", labels, move |g, [c, a, b]| select(g, c, a, b)).gives([3.0, 10.0]));
    cases
}

fn casts() -> Vec<Case> {
    let through = |input: Tensor, via: Dtype, to: Dtype| {
        case("Cast", [input], move |g, [x]| g.cast(g.cast(x, via)?, to))
    };
    let stored = |dtype: Dtype, bytes: &'static [u8], shape: [usize; 1]| {
        let value = Tensor::new(dtype, shape, bytes).unwrap();
        // Beside an input, so that the runtime casts while running and does not fold.
        case("Cast", [floats([1], &[1.0])], move |g, [x]| {
            g.mul(x, g.cast(g.constant(value.clone())?, Dtype::F32)?)
        })
    };
    use Dtype::*;
    let fractions = || floats([6], &[-2.75, -0.5, 0.0, 0.5, 1.0, 2.75]);
    vec![
        through(fractions(), I64, I64).gives([-2.0, 0.0, 0.0, 0.0, 1.0, 2.0]),
        through(fractions(), I64, F32).gives([-2.0, 0.0, 0.0, 0.0, 1.0, 2.0]),
        through(fractions(), I32, F32).gives([-2.0, 0.0, 0.0, 0.0, 1.0, 2.0]),
        through(fractions(), Bool, F32).gives([1.0, 1.0, 0.0, 1.0, 1.0, 1.0]),
        through(fractions(), Bool, I64).gives([1.0, 1.0, 0.0, 1.0, 1.0, 1.0]),
        through(fractions(), F64, F32).gives([-2.75, -0.5, 0.0, 0.5, 1.0, 2.75]),
        through(ints([3], &[-7, 0, 9]), F32, F32).gives([-7.0, 0.0, 9.0]),
        through(ints([3], &[-7, 0, 9]), Bool, F32).gives([1.0, 0.0, 1.0]),
        through(ints([3], &[-7, 0, 9]), I32, I64).gives([-7.0, 0.0, 9.0]),
        // 1 + 2⁻¹¹ lies halfway between two f16 and goes to the even one; 2¹⁶ is beyond f16.
        through(floats([3], &[1.0 + 1.0 / 2048.0, 65504.0, 65536.0]), F16, F32).gives([
            1.0,
            65504.0,
            f64::INFINITY,
        ]),
        // 1 + 2⁻⁸ lies halfway between two bf16; beside 3·10³⁸ they are 2¹²⁰ apart.
        through(floats([2], &[1.0 + 1.0 / 256.0, 3.0e38]), BF16, F32).gives([1.0, 226.0 * 2f64.powi(120)]),
        through(random(500, [64]), F16, F32),
        through(random(501, [64]), BF16, F32),
        through(floats([0], &[]), I64, F32).gives([]),
        // 1, −2, the smallest subnormal 2⁻²⁴
        stored(F16, &[0x00, 0x3c, 0x00, 0xc0, 0x01, 0x00], [3]).gives([1.0, -2.0, 2f64.powi(-24)]),
        stored(BF16, &[0x80, 0x3f, 0x20, 0xc0], [2]).gives([1.0, -2.5]),
        stored(U8, &[0, 200], [2]).gives([0.0, 200.0]),
        stored(I8, &[0xff, 0x7f], [2]).gives([-1.0, 127.0]),
        stored(I16, &[0xff, 0xff, 0x00, 0x01], [2]).gives([-1.0, 256.0]),
        stored(Bool, &[0, 1], [2]).gives([0.0, 1.0]),
    ]
}

/// One scale for each index of an axis, whatever the shape, or one for all; with and without zero points.
fn int8() -> Vec<Case> {
    let of = |q: Tensor, scale: Tensor| {
        case("DequantizeLinear", [q, scale], |g, [q, scale]| {
            g.dequantize_linear(g.cast(q, Dtype::I8)?, scale)
        })
    };
    let levels = |axis: usize, q: Tensor, scale: Tensor, zero: Tensor| {
        case("DequantizeLinear", [q, scale, zero], move |g, [q, scale, zero]| {
            let [q, zero] = [g.cast(q, Dtype::U8)?, g.cast(zero, Dtype::U8)?];
            g.push(Op::DequantizeLinear { axis }, &[q, scale, zero])
        })
    };
    let rounded = |zero_point: u8, x: Tensor, scale: Tensor| {
        case("QuantizeLinear", [x, scale], move |g, [x, scale]| {
            g.push(Op::QuantizeLinear { zero_point }, &[x, scale])
        })
    };
    let mut cases = vec![
        of(ints([2, 3], &[-127, 0, 127, 1, 2, -128]), floats([2], &[0.5, 2.0]))
            .gives([-63.5, 0.0, 63.5, 2.0, 4.0, -256.0]),
        of(ints([2], &[3, -4]), floats([2], &[0.25, 0.0])).gives([0.75, 0.0]),
        of(ints([1, 2], &[5, 6]), floats([1], &[0.5])).gives([2.5, 3.0]),
        of(ints([0, 2], &[]), floats([0], &[])).gives([]),
        levels(1, ints([2, 2], &[0, 255, 100, 7]), floats([2], &[0.5, 2.0]), ints([2], &[100, 255]))
            .gives([-50.0, 0.0, 0.0, -496.0]),
        levels(0, ints([2], &[0, 255]), floats([], &[0.5]), ints([], &[128])).gives([-64.0, 63.5]),
        // Halfway between two levels: to the even one. Beyond the last: the last.
        rounded(128, floats([6], &[0.25, 0.75, -0.25, -1000.0, 1000.0, 0.0]), floats([], &[0.5]))
            .gives([128.0, 130.0, 128.0, 0.0, 255.0, 128.0]),
        rounded(0, floats([2, 2], &[1.0, -1.0, 1.0, 200.0]), floats([2], &[1.0, 0.25]))
            .gives([1.0, 0.0, 4.0, 255.0]),
    ];
    for (i, shape) in [&[5][..], &[4, 7], &[3, 2, 5], &[6, 4, 3, 3]].into_iter().enumerate() {
        let seed = 520 + i as u64;
        cases.push(of(random_ints(seed, shape, -127, 128), random(seed + 50, [shape[0]])));
        cases.push(rounded(64, random(seed + 70, shape), positive(seed + 80, [shape[0]])));
    }
    for axis in 0..3 {
        let (shape, n) = ([4, 3, 5], [4, 3, 5][axis]);
        let (q, zero) = (random_ints(540, shape, 0, 256), random_ints(541, [n], 0, 256));
        cases.push(levels(axis, q, random(542, [n]), zero));
    }
    cases
}

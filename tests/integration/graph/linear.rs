//! Products and convolutions, pooling and resampling.

use super::case::{Case, case, floats, random};

pub fn cases() -> Vec<Case> {
    [products(), convolutions(), transposed_convolutions(), resampling()].into_iter().flatten().collect()
}

fn products() -> Vec<Case> {
    let a = || floats([2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let b = || floats([2, 2], &[5.0, 6.0, 7.0, 8.0]);
    let mut cases = vec![
        case("MatMul", [a(), b()], |g, [a, b]| g.matmul(a, b)).gives([19.0, 22.0, 43.0, 50.0]),
        // One row times two stacked columns: the leading dimension of b counts.
        case(
            "MatMul",
            [floats([1, 2], &[1.0, 2.0]), floats([2, 2, 1], &[1.0, 1.0, 2.0, 3.0])],
            |g, [a, b]| g.matmul(a, b),
        )
        .gives([3.0, 8.0]),
        case("MatMul", [floats([2, 0], &[]), floats([0, 3], &[])], |g, [a, b]| g.matmul(a, b))
            .gives([0.0; 6]),
    ];
    let shapes: [[&[usize]; 2]; 8] = [
        [&[3, 4], &[4, 5]],
        [&[2, 3, 4], &[4, 5]],
        [&[3, 4], &[2, 4, 5]],
        [&[2, 1, 3, 4], &[3, 4, 5]],
        [&[2, 1, 3, 4], &[1, 3, 4, 5]],
        [&[2, 3, 6, 4], &[2, 3, 4, 6]],
        [&[1, 1], &[1, 1]],
        [&[0, 4], &[4, 5]],
    ];
    for (i, [a, b]) in shapes.into_iter().enumerate() {
        let seed = 600 + i as u64;
        cases.push(case("MatMul", [random(seed, a), random(seed + 50, b)], |g, [a, b]| g.matmul(a, b)));
    }
    // aᵀ = [[1, 3], [2, 4]], bᵀ = [[5, 7], [6, 8]]
    let expected = [
        [19.0, 22.0, 43.0, 50.0],
        [17.0, 23.0, 39.0, 53.0],
        [26.0, 30.0, 38.0, 44.0],
        [23.0, 31.0, 34.0, 46.0],
    ];
    for (i, expected) in expected.into_iter().enumerate() {
        let (ta, tb) = (i / 2 == 1, i % 2 == 1);
        cases.push(case("Gemm", [a(), b()], move |g, [a, b]| g.gemm(a, b, None, ta, tb)).gives(expected));
        let with_bias = [a(), b(), floats([2], &[100.0, 200.0])];
        let sum: Vec<f64> = expected.iter().zip([100.0, 200.0, 100.0, 200.0]).map(|(x, c)| x + c).collect();
        cases.push(case("Gemm", with_bias, move |g, [a, b, c]| g.gemm(a, b, Some(c), ta, tb)).gives(sum));
        let flip = |t: bool, m: usize, n: usize| if t { [n, m] } else { [m, n] };
        let biases: [&[usize]; 5] = [&[], &[4], &[3, 1], &[1, 4], &[3, 4]];
        for (k, bias) in biases.into_iter().enumerate() {
            let seed = 620 + (10 * i + k) as u64;
            let [x, y] = [random(seed, flip(ta, 3, 5)), random(seed + 50, flip(tb, 5, 4))];
            let inputs = [x, y, random(seed + 99, bias)];
            cases.push(case("Gemm", inputs, move |g, [a, b, c]| g.gemm(a, b, Some(c), ta, tb)));
        }
    }
    cases
}

/// y[o, h, w] = bias[o] + Σ x[i, h·s + ky − top, w·s + kx − left] · w[o, i, ky, kx]
fn convolutions() -> Vec<Case> {
    let x = || floats([1, 1, 3, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    let k = || floats([1, 1, 2, 2], &[1.0, 10.0, 100.0, 1000.0]);
    let mut cases = vec![
        // 1·1 + 10·2 + 100·4 + 1000·5, ..: correlation, the kernel is not flipped
        case("Conv", [x(), k()], |g, [x, w]| g.conv(x, w, None, [1, 1], [0; 4], 1))
            .gives([5421.0, 6532.0, 8754.0, 9865.0]),
        case("Conv", [x(), k(), floats([1], &[0.5])], |g, [x, w, b]| {
            g.conv(x, w, Some(b), [2, 2], [0; 4], 1)
        })
        .gives([5421.5]),
        // A row of zeros above, a column to the right.
        case("Conv", [x(), k()], |g, [x, w]| g.conv(x, w, None, [1, 2], [1, 0, 0, 1], 1))
            .gives([2100.0, 300.0, 5421.0, 603.0, 8754.0, 906.0]),
        // Two groups: channel 0 by 2, channel 1 by 3.
        case(
            "Conv",
            [floats([1, 2, 1, 2], &[1.0, 2.0, 3.0, 4.0]), floats([2, 1, 1, 1], &[2.0, 3.0])],
            |g, [x, w]| g.conv(x, w, None, [1, 1], [0; 4], 2),
        )
        .gives([2.0, 4.0, 9.0, 12.0]),
    ];
    // x, w, strides, pads, group
    type Row = ([usize; 4], [usize; 4], [usize; 2], [usize; 4], usize);
    let rows: [Row; 9] = [
        ([2, 3, 6, 5], [4, 3, 3, 3], [1, 1], [1; 4], 1),
        ([1, 3, 7, 8], [4, 3, 3, 3], [2, 2], [0, 0, 1, 1], 1),
        ([1, 3, 7, 8], [4, 3, 3, 2], [1, 3], [2, 0, 1, 1], 1),
        ([2, 4, 5, 5], [6, 2, 3, 3], [1, 1], [1; 4], 2),
        ([1, 4, 6, 6], [4, 1, 3, 3], [2, 1], [1; 4], 4),
        ([1, 4, 6, 6], [8, 1, 3, 3], [1, 1], [0; 4], 4),
        ([2, 8, 4, 4], [5, 8, 1, 1], [1, 1], [0; 4], 1),
        ([1, 3, 8, 8], [6, 3, 4, 4], [4, 4], [0; 4], 1),
        ([0, 3, 4, 4], [2, 3, 3, 3], [1, 1], [1; 4], 1),
    ];
    for (i, (x, w, strides, pads, group)) in rows.into_iter().enumerate() {
        let seed = 700 + i as u64;
        let inputs = [random(seed, x), random(seed + 20, w), random(seed + 40, [w[0]])];
        cases.push(case("Conv", inputs, move |g, [x, w, b]| g.conv(x, w, Some(b), strides, pads, group)));
        let inputs = [random(seed, x), random(seed + 20, w)];
        cases.push(case("Conv", inputs, move |g, [x, w]| g.conv(x, w, None, strides, pads, group)));
    }
    cases
}

/// Each x[i, h, w] adds x · w[i, o, ky, kx] at (h·s + ky − top, w·s + kx − left).
fn transposed_convolutions() -> Vec<Case> {
    let x = || floats([1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let k = || floats([1, 1, 2, 2], &[1.0, 10.0, 100.0, 1000.0]);
    let mut cases = vec![
        // Stride 2, kernel 2: blocks do not overlap.
        case("ConvTranspose", [x(), k()], |g, [x, w]| g.conv_transpose(x, w, None, [2, 2], [0; 4], 1)).gives(
            [
                1.0, 10.0, 2.0, 20.0, //
                100.0, 1000.0, 200.0, 2000.0, //
                3.0, 30.0, 4.0, 40.0, //
                300.0, 3000.0, 400.0, 4000.0,
            ],
        ),
        case("ConvTranspose", [x(), k(), floats([1], &[0.5])], |g, [x, w, b]| {
            g.conv_transpose(x, w, Some(b), [1, 1], [0; 4], 1)
        })
        .gives([1.5, 12.5, 20.5, 103.5, 1234.5, 2040.5, 300.5, 3400.5, 4000.5]),
        // The same cropped to its last two columns and first two rows.
        case("ConvTranspose", [x(), k()], |g, [x, w]| g.conv_transpose(x, w, None, [1, 1], [0, 1, 1, 0], 1))
            .gives([12.0, 20.0, 1234.0, 2040.0]),
        // Two groups of one channel.
        case(
            "ConvTranspose",
            [floats([1, 2, 1, 1], &[1.0, 2.0]), floats([2, 1, 1, 2], &[3.0, 4.0, 5.0, 6.0])],
            |g, [x, w]| g.conv_transpose(x, w, None, [1, 1], [0; 4], 2),
        )
        .gives([3.0, 4.0, 10.0, 12.0]),
    ];
    type Row = ([usize; 4], [usize; 4], [usize; 2], [usize; 4], usize);
    let rows: [Row; 8] = [
        ([2, 3, 4, 5], [3, 4, 2, 2], [2, 2], [0; 4], 1),
        ([1, 3, 4, 5], [3, 4, 4, 4], [2, 2], [1; 4], 1),
        ([1, 4, 4, 3], [4, 3, 4, 4], [2, 2], [1; 4], 2),
        ([1, 4, 4, 3], [4, 2, 3, 3], [2, 2], [1; 4], 4),
        ([1, 4, 4, 3], [4, 1, 3, 3], [1, 1], [1; 4], 4),
        ([1, 2, 3, 4], [2, 3, 3, 4], [3, 1], [2, 0, 1, 3], 1),
        ([1, 2, 3, 3], [2, 3, 2, 2], [3, 3], [0; 4], 1),
        ([2, 5, 4, 4], [5, 2, 1, 1], [1, 1], [0; 4], 1),
    ];
    for (i, (x, w, strides, pads, group)) in rows.into_iter().enumerate() {
        let seed = 800 + i as u64;
        let inputs = [random(seed, x), random(seed + 20, w), random(seed + 40, [w[1] * group])];
        cases.push(case("ConvTranspose", inputs, move |g, [x, w, b]| {
            g.conv_transpose(x, w, Some(b), strides, pads, group)
        }));
        let inputs = [random(seed, x), random(seed + 20, w)];
        cases.push(case("ConvTranspose", inputs, move |g, [x, w]| {
            g.conv_transpose(x, w, None, strides, pads, group)
        }));
    }
    cases
}

fn resampling() -> Vec<Case> {
    let x = || floats([1, 1, 2, 4], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    let mut cases = vec![
        case("AveragePool", [x()], |g, [x]| g.average_pool(x, 2)).gives([3.5, 5.5]),
        case("AveragePool", [x()], |g, [x]| g.average_pool(x, 1))
            .gives([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]),
        case("Resize", [floats([1, 1, 1, 2], &[1.0, 2.0])], |g, [x]| g.resize(x, 2))
            .gives([1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0]),
    ];
    for k in [1, 2, 3] {
        cases.push(case("AveragePool", [random(850, [2, 3, 6, 12])], move |g, [x]| g.average_pool(x, k)));
        cases.push(case("Resize", [random(851, [2, 3, 4, 5])], move |g, [x]| g.resize(x, k)));
    }
    cases
}

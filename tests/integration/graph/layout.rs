//! Ops that move elements without changing them.

use super::case::{Case, case, floats, ints, random, random_ints};
use softdimo::tensor::{Dtype, Shape};

pub fn cases() -> Vec<Case> {
    [joins(), moves(), lookups()].into_iter().flatten().collect()
}

fn joins() -> Vec<Case> {
    let [a, b] = [floats([2, 1], &[1.0, 2.0]), floats([2, 2], &[3.0, 4.0, 5.0, 6.0])];
    let mut cases = vec![
        case("Concat", [a, b], |g, [a, b]| g.concat(&[a, b], 1)).gives([1.0, 3.0, 4.0, 2.0, 5.0, 6.0]),
        case("Concat", [floats([2], &[1.0, 2.0])], |g, [a]| g.concat(&[a, a, a], 0))
            .gives([1.0, 2.0, 1.0, 2.0, 1.0, 2.0]),
        case("Concat", [random(1, [3, 4])], |g, [a]| g.concat(&[a], 0)),
        case("Concat", [ints([1], &[7]), ints([2], &[8, 9])], |g, [a, b]| g.concat(&[b, a], 0))
            .gives([8.0, 9.0, 7.0]),
        case("Concat", [random(2, [0, 3]), random(3, [2, 3])], |g, [a, b]| g.concat(&[a, b, a], 0)),
    ];
    for axis in 0..3 {
        let shape = |n: usize| {
            let mut shape = vec![2, 3, 4];
            shape[axis] = n;
            shape
        };
        let inputs = [random(4, shape(2)), random(5, shape(1)), random(6, shape(5))];
        cases.push(case("Concat", inputs, move |g, [a, b, c]| g.concat(&[a, b, c], axis)));
    }
    let row = || floats([1, 2], &[1.0, 2.0]);
    cases.push(case("Expand", [row()], |g, [x]| g.expand(x, [2, 2])).gives([1.0, 2.0, 1.0, 2.0]));
    cases.push(
        case("Expand", [floats([2, 1], &[1.0, 2.0])], |g, [x]| g.expand(x, [2, 2]))
            .gives([1.0, 1.0, 2.0, 2.0]),
    );
    let shapes: [[&[usize]; 2]; 5] = [
        [&[], &[2, 3]],
        [&[3], &[2, 3]],
        [&[2, 1, 4], &[5, 2, 3, 4]],
        [&[2, 3], &[2, 3]],
        [&[1, 3], &[0, 3]],
    ];
    for [from, to] in shapes {
        cases.push(case("Expand", [random(7, from)], move |g, [x]| g.expand(x, to)));
    }
    cases.push(case("Expand", [ints([1], &[3])], |g, [x]| g.expand(x, [3])).gives([3.0, 3.0, 3.0]));

    cases.push(
        case("Pad", [floats([1, 2], &[1.0, 2.0])], |g, [x]| g.pad(x, &[1, 0], &[0, 2]))
            .gives([0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.0]),
    );
    cases.push(case("Pad", [ints([1], &[5])], |g, [x]| g.pad(x, &[1], &[1])).gives([0.0, 5.0, 0.0]));
    cases.push(case("Pad", [random(8, [2, 3, 4, 5])], |g, [x]| g.pad(x, &[0, 0, 1, 2], &[0, 0, 2, 1])));
    cases.push(case("Pad", [random(9, [2, 3])], |g, [x]| g.pad(x, &[0, 0], &[0, 0])));
    cases.push(case("Pad", [random(9, [0, 2])], |g, [x]| g.pad(x, &[1, 1], &[1, 0])).gives([0.0; 6]));
    cases
}

fn moves() -> Vec<Case> {
    let six = || floats([2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let in_order = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let mut cases = vec![
        case("Reshape", [six()], |g, [x]| g.reshape(x, [3, 2])).gives(in_order),
        case("Reshape", [six()], |g, [x]| g.reshape(x, [1, 6, 1])).gives(in_order),
        case("Reshape", [floats([1, 1], &[7.0])], |g, [x]| g.reshape(x, [])).gives([7.0]),
        case("Reshape", [floats([], &[7.0])], |g, [x]| g.reshape(x, [1, 1])).gives([7.0]),
        case("Reshape", [floats([0, 3], &[])], |g, [x]| g.reshape(x, [5, 0])).gives([]),
        case("Reshape", [random_ints(1, [4], 0, 9)], |g, [x]| g.reshape(x, [2, 2])),
        case("Transpose", [six()], |g, [x]| g.transpose(x, &[1, 0])).gives([1.0, 4.0, 2.0, 5.0, 3.0, 6.0]),
        case("Transpose", [floats([], &[1.0])], |g, [x]| g.transpose(x, &[])).gives([1.0]),
        case("Transpose", [floats([0, 3], &[])], |g, [x]| g.transpose(x, &[1, 0])).gives([]),
        case("Transpose", [random_ints(2, [2, 3, 4], 0, 9)], |g, [x]| g.transpose(x, &[1, 0, 2])),
    ];
    // A rotation: its inverse is another permutation, so swapping them would show.
    let perms: [&[usize]; 5] = [&[1, 2, 0], &[2, 0, 1], &[0, 2, 1], &[2, 1, 0], &[0, 1, 2]];
    for perm in perms {
        cases.push(case("Transpose", [random(3, [2, 3, 4])], move |g, [x]| g.transpose(x, perm)));
    }
    for perm in [[0, 2, 3, 1], [0, 3, 1, 2], [3, 0, 2, 1]] {
        cases.push(case("Transpose", [random(4, [2, 3, 4, 5])], move |g, [x]| g.transpose(x, &perm)));
    }
    cases.extend([
        case("Slice", [six()], |g, [x]| g.slice(x, 1, 1, 3)).gives([2.0, 3.0, 5.0, 6.0]),
        case("Slice", [six()], |g, [x]| g.slice(x, 0, 1, 2)).gives([4.0, 5.0, 6.0]),
        case("Slice", [six()], |g, [x]| g.slice_step(x, 1, 0, 3, 2)).gives([1.0, 3.0, 4.0, 6.0]),
        case("Slice", [six()], |g, [x]| g.slice_step(x, 1, 1, 3, usize::MAX)).gives([2.0, 5.0]),
        case("Slice", [six()], |g, [x]| g.slice(x, 1, 2, 2)).gives([]),
        case("Slice", [six()], |g, [x]| g.slice_step(x, 1, 0, 0, usize::MAX)).gives([]),
        case("Slice", [floats([0, 2], &[])], |g, [x]| g.slice(x, 0, 0, 0)).gives([]),
        case("Slice", [ints([4], &[1, 2, 3, 4])], |g, [x]| g.slice_step(x, 0, 1, 4, 2)).gives([2.0, 4.0]),
    ]);
    for (axis, start, end, step) in [(0, 1, 7, 3), (0, 0, 8, 2), (1, 2, 5, 2), (2, 0, 3, 1), (2, 1, 3, 5)] {
        let build = move |g: &softdimo::graph::Graph, [x]: [softdimo::graph::Value; 1]| {
            g.slice_step(x, axis, start, end, step)
        };
        cases.push(case("Slice", [random(5, [8, 5, 3])], build));
    }
    cases
}

fn lookups() -> Vec<Case> {
    let table = || floats([3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let mut cases = vec![
        case("Gather", [table(), ints([], &[1])], |g, [x, i]| g.gather(x, i)).gives([3.0, 4.0]),
        case("Gather", [table(), ints([3], &[2, 0, 2])], |g, [x, i]| g.gather(x, i))
            .gives([5.0, 6.0, 1.0, 2.0, 5.0, 6.0]),
        // Negative indices count from the end.
        case("Gather", [table(), ints([2], &[-1, -3])], |g, [x, i]| g.gather(x, i))
            .gives([5.0, 6.0, 1.0, 2.0]),
        case("Gather", [floats([3], &[7.0, 8.0, 9.0]), ints([1, 2], &[2, 1])], |g, [x, i]| g.gather(x, i))
            .gives([9.0, 8.0]),
        case("Gather", [ints([2], &[70, 80]), ints([1], &[1])], |g, [x, i]| g.gather(x, i)).gives([80.0]),
        case("Gather", [table(), ints([0], &[])], |g, [x, i]| g.gather(x, i)).gives([]),
        case("Gather", [table(), ints([2], &[0, 2])], |g, [x, i]| g.gather(x, g.cast(i, Dtype::I32)?))
            .gives([1.0, 2.0, 5.0, 6.0]),
        case("OneHot", [ints([3], &[0, 2, 1])], |g, [i]| g.one_hot(i, 3))
            .gives([1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0]),
        case("OneHot", [ints([], &[1])], |g, [i]| g.one_hot(i, 2)).gives([0.0, 1.0]),
        // From the end, and outside.
        case("OneHot", [ints([4], &[-1, -2, 2, -3])], |g, [i]| g.one_hot(i, 2))
            .gives([0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        case("OneHot", [random_ints(1, [2, 3], 0, 5)], |g, [i]| g.one_hot(i, 5)),
        case("OneHot", [random_ints(1, [4], 0, 5)], |g, [i]| g.one_hot(g.cast(i, Dtype::I32)?, 5)),
    ];
    let data: [Shape; 3] = [[7].into(), [7, 3].into(), [7, 2, 3].into()];
    let indices: [Shape; 3] = [[].into(), [4].into(), [2, 1, 3].into()];
    for data in data {
        for indices in &indices {
            let inputs = [random(6, data.clone()), random_ints(7, indices.clone(), 0, 7)];
            cases.push(case("Gather", inputs, |g, [x, i]| g.gather(x, i)));
        }
    }
    cases
}

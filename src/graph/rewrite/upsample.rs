//! Nearest neighbours ×2, then a 3×3 convolution → four 2×2 convolutions of the small picture, one for each corner of a 2×2
//! block of results: 16 products a position of the small picture instead of 36.
//!
//! Row 2i of the results reads rows i − 1, i, i of the small picture with the kernel's rows w₀, w₁, w₂: i − 1 with w₀ and i with
//! w₁ + w₂. Row 2i + 1 reads i with w₀ + w₁ and i + 1 with w₂. Columns likewise.

use super::{Rebuild, rebuild};
use crate::error::Result;
use crate::graph::{Graph, Node, Op, Value};
use crate::tensor::{Dtype, Tensor};

pub(super) fn rewrite(graph: &Graph) -> Result<Graph> {
    rebuild(graph, rule)
}

/// Channels, read and written, from which on the products saved outweigh putting the corners together: with 128 channels, to
/// 64×64, the processor time was 0.62 of that before, with 64 to 128×128 0.67 to 0.73, with 32 0.76 to 0.94; with 16 channels it
/// was 0.94 to 1.2 (weights in place and packed; ONNX Runtime 1.28.0, one core of an AMD EPYC with AVX-512).
const FEWEST_CHANNELS: usize = 32;

/// Which taps of three each of the two taps of a corner stands for.
static TAPS: [[&[usize]; 2]; 2] = [[&[0], &[1, 2]], [&[0, 1], &[2]]];

fn rule(r: &Rebuild<'_>, node: &Node) -> Result<Option<Value>> {
    let Some((x, w, bias)) = matched(r, node) else { return Ok(None) };
    let g = &r.new;
    let s = r.node(w).shape.clone(); // [O, C, 3, 3]
    let taps = g.reshape(r.now(w), [s[0] * s[1], 9])?;
    let mut corners = Vec::new();
    for (p, q) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut sums = vec![0.0; 9 * 4];
        for (at, (rows, columns)) in
            TAPS[p].iter().flat_map(|y| TAPS[q].iter().map(move |x| (y, x))).enumerate()
        {
            for (y, x) in rows.iter().flat_map(|y| columns.iter().map(move |x| (y, x))) {
                sums[(3 * y + x) * 4 + at] = 1.0;
            }
        }
        let kernel = g.matmul(taps, g.constant(Tensor::from_f32([9, 4], &sums))?)?;
        let kernel = g.reshape(kernel, [s[0], s[1], 2, 2])?;
        let pads = [1 - p, 1 - q, p, q];
        corners.push(g.conv(r.now(x), kernel, bias.map(|v| r.now(v)), [1, 1], pads, 1)?); // [B, O, H, W]
    }
    g.depth_to_space(g.concat(&corners, 1)?, 2).map(Some)
}

/// The small picture, the kernel and the bias of a convolution of an enlarged picture.
fn matched(r: &Rebuild<'_>, node: &Node) -> Option<(Value, Value, Option<Value>)> {
    if node.op != (Op::Conv { strides: [1, 1], pads: [1; 4], group: 1 }) || node.dtype != Dtype::F32 {
        return None;
    }
    let (x, w) = (node.inputs[0], node.inputs[1]);
    let resize = r.private(x).filter(|n| n.op == Op::Resize { factor: 2 })?;
    let kernel = &r.node(w).shape;
    let fits =
        kernel[2..] == [3, 3] && kernel[..2].iter().all(|&n| n >= FEWEST_CHANNELS) && !node.shape.is_empty();
    fits.then(|| (resize.inputs[0], w, node.inputs.get(2).copied()))
}

//! A 3×3 convolution, then the mean of every 2×2 block → one 4×4 convolution that moves by 2: 16 products a position of the small
//! picture instead of 36. The gradient of [`super::upsample`]'s pair is one.
//!
//! Row i of the means reads rows 2i − 1 … 2i + 2 of the large picture: of rows 2i and 2i + 1 of the convolution, the kernel's
//! rows w₀, w₁, w₂ and, one further down, the same: ½(w₀, w₀ + w₁, w₁ + w₂, w₂). Columns likewise.

use super::{Rebuild, rebuild};
use crate::error::Result;
use crate::graph::{Graph, Node, Op, Value};
use crate::tensor::{Dtype, Tensor};

pub(super) fn rewrite(graph: &Graph) -> Result<Graph> {
    rebuild(graph, rule)
}

fn rule(r: &Rebuild<'_>, node: &Node) -> Result<Option<Value>> {
    let Some((x, w, bias)) = matched(r, node) else { return Ok(None) };
    let g = &r.new;
    let s = r.node(w).shape.clone(); // [O, C, 3, 3]
    let mut shares = vec![0.0; 9 * 16];
    for (tap, corner) in (0..9).flat_map(|tap| (0..4).map(move |corner| (tap, corner))) {
        let (y, x) = (tap / 3 + corner / 2, tap % 3 + corner % 2);
        shares[16 * tap + 4 * y + x] = 0.25;
    }
    let taps = g.reshape(r.now(w), [s[0] * s[1], 9])?;
    let kernel = g.matmul(taps, g.constant(Tensor::from_f32([9, 16], &shares))?)?;
    let kernel = g.reshape(kernel, [s[0], s[1], 4, 4])?;
    g.conv(r.now(x), kernel, bias.map(|v| r.now(v)), [2, 2], [1; 4], 1).map(Some)
}

/// What the convolution before a mean of 2×2 reads, its kernel and its bias.
fn matched(r: &Rebuild<'_>, node: &Node) -> Option<(Value, Value, Option<Value>)> {
    if node.op != (Op::AveragePool { size: 2 }) || node.dtype != Dtype::F32 || node.shape.is_empty() {
        return None;
    }
    let conv = r.private(node.inputs[0])?;
    let even = conv.shape.rank() == 4 && conv.shape[2] % 2 == 0 && conv.shape[3] % 2 == 0;
    let fits = even && conv.op == Op::Conv { strides: [1, 1], pads: [1; 4], group: 1 };
    let w = *conv.inputs.get(1)?;
    (fits && r.node(w).shape[2..] == [3, 3]).then(|| (conv.inputs[0], w, conv.inputs.get(2).copied()))
}

//! One small session, prepared and run before anything else: ONNX Runtime builds many of its static objects
//! on first use, and what it builds before our exit handler is installed is destroyed after that handler
//! has stopped the workers. See `exit`.

use crate::error::Result;
use crate::graph::Graph;
use crate::tensor::{Dtype, Tensor};

/// A graph with the kinds of nodes that the networks of this library have, a few numbers each.
pub(crate) fn graph() -> Result<Graph> {
    let g = Graph::new();
    let constant = |shape: &[usize]| {
        let n = shape.iter().product::<usize>();
        g.constant(Tensor::from_f32(shape.to_vec(), &vec![0.5; n]))
    };
    let x = g.input("x", Dtype::F32, [1, 4, 2, 2])?;
    let ids = g.input("ids", Dtype::I64, [1, 4])?;

    // The decoder's: normalisation, activation, convolution, enlargement.
    let y = g.group_normalization(x, constant(&[4])?, constant(&[4])?, 2, 1e-6)?;
    let y = g.conv(g.silu(y)?, constant(&[4, 4, 3, 3])?, Some(constant(&[4])?), [1, 1], [1; 4], 1)?;
    let image = g.resize(g.add(x, y)?, 2)?;
    g.output("image", g.clip(image, 0.0, 1.0)?);

    // The transformer's: look-up, projections, attention, logits.
    let tokens = g.add(g.gather(constant(&[3, 4])?, ids)?, g.reshape(x, [1, 4, 4])?)?;
    let tokens = g.layer_normalization(tokens, constant(&[4])?, constant(&[4])?, 1e-12)?;
    let rows = g.gelu(g.gemm(
        g.reshape(tokens, [4, 4])?,
        constant(&[4, 4])?,
        Some(constant(&[4])?),
        false,
        true,
    )?)?;
    let heads = g.transpose(g.reshape(rows, [1, 4, 2, 2])?, &[0, 2, 1, 3])?;
    let scores = g.mul_scalar(g.matmul(heads, g.transpose(heads, &[0, 1, 3, 2])?)?, 0.7)?;
    let mixed = g.transpose(g.matmul(g.softmax(scores, 3)?, heads)?, &[0, 2, 1, 3])?;
    let all = g.concat(&[g.reshape(mixed, [1, 4, 4])?, tokens], 1)?;
    let some = g.slice(all, 1, 0, 4)?;
    g.output("mean", g.reduce_mean(g.tanh(some)?, &[2])?);
    g.output("best", g.arg_max(some, 2)?);
    Ok(g)
}

/// Its inputs.
pub(crate) fn inputs() -> [(&'static str, Tensor); 2] {
    [("x", Tensor::from_f32([1, 4, 2, 2], &[0.25; 16])), ("ids", Tensor::from_i64([1, 4], &[0, 1, 2, 0]))]
}

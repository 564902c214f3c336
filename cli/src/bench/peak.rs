//! What this machine can do at most: the rate of a large f32 matrix product, by the same runtime and threads.

use std::time::Instant;

use softdimo::graph::Graph;
use softdimo::rng::{Philox, Stream};
use softdimo::{Dtype, Engine, Result, Tensor};

/// Rows and columns of the matrices: 4 MiB each.
const SIDE: usize = 1024;
/// Products in a row, so that preparing the graph does not count.
const PRODUCTS: usize = 16;
/// The fastest counts: it had the machine to itself.
const TRIES: usize = 3;

/// GFLOP/s of x·W·W·…, f32.
pub fn rate(engine: &Engine) -> Result<f64> {
    let mut fastest = 0f64;
    for _ in 0..TRIES {
        let g = Graph::new();
        let x = g.input("x", Dtype::F32, [SIDE, SIDE])?;
        let w = g.input("w", Dtype::F32, [SIDE, SIDE])?;
        let mut y = x;
        for _ in 0..PRODUCTS {
            y = g.gemm(y, w, None, false, false)?;
        }
        g.output("y", y);
        let operations = 2.0 * g.work() as f64;
        // Variance 1/SIDE keeps products as large as x.
        let inputs = vec![("x".into(), gaussian(1.0)), ("w".into(), gaussian((SIDE as f32).powf(-0.5)))];
        let clock = Instant::now();
        engine.run_graph(g, inputs)?;
        fastest = fastest.max(operations / clock.elapsed().as_secs_f64() / 1e9);
    }
    Ok(fastest)
}

fn gaussian(scale: f32) -> Tensor {
    let mut values = vec![0f32; SIDE * SIDE];
    Philox::new(1).fill_gaussian(Stream::Perturbation, 0, &mut values);
    values.iter_mut().for_each(|value| *value *= scale);
    Tensor::from_f32_vec([SIDE, SIDE], values)
}

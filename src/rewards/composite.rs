//! What rewards see of pictures with alpha.

use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::tensor::Tensor;

/// Pictures [B, 3, H, W] as they are; [B, 4, H, W], whose last channel is straight alpha, over a colour: rgb·a + background·(1 − a),
/// [B, 3, H, W]. Nothing is clamped, so that gradients reach alpha wherever it is.
pub(crate) fn composite(g: &Graph, image: Value, background: [u8; 3]) -> Result<Value> {
    if g.shape(image)[1] != 4 {
        return Ok(image);
    }
    let (rgb, alpha) = (g.slice(image, 1, 0, 3)?, g.slice(image, 1, 3, 4)?);
    let background = background.map(|byte| f32::from(byte) / 255.0);
    let background = g.constant(Tensor::from_f32([1, 3, 1, 1], &background))?;
    g.add(g.mul(g.sub(rgb, background)?, alpha)?, background)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::graph::eval::{Array, eval};
    use crate::graph::grad;
    use crate::tensor::Dtype;

    /// Score Σ weight·seen of two pictures and its gradient, against the definition and its central differences, in f64.
    #[test]
    fn the_composite_and_its_gradient() {
        let (b, n) = (2, 6);
        let g = Graph::new();
        let image = g.input("image", Dtype::F32, [b, 4, 2, 3]).unwrap();
        let weights = g.input("weights", Dtype::F32, [b, 3, 2, 3]).unwrap();
        let seen = composite(&g, image, [255, 0, 51]).unwrap();
        assert_eq!(*g.shape(seen), [b, 3, 2, 3]);
        let score = g.reduce_sum(g.mul(seen, weights).unwrap(), &[0, 1, 2, 3]).unwrap();
        let score = g.reshape(score, [1]).unwrap();
        g.output("gradient", grad(&g, score, &[image]).unwrap()[0]);
        g.output("seen", seen);

        let value = |i: usize| -0.2 + 1.4 * ((i * 29 % 47) as f64 + 0.37) / 47.0;
        let x: Vec<f64> = (0..b * 4 * n).map(value).collect();
        let w: Vec<f64> = (0..b * 3 * n).map(|i| value(i * 7 + 3) - 0.5).collect();
        let background = [1.0, 0.0, 0.2];
        let of = |x: &[f64]| -> Vec<f64> {
            let at = |b: usize, c: usize, i: usize| x[(b * 4 + c) * n + i];
            let pixel = |b: usize, c: usize, i: usize| {
                at(b, c, i) * at(b, 3, i) + background[c] * (1.0 - at(b, 3, i))
            };
            (0..b * 3 * n).map(|k| pixel(k / (3 * n), k / n % 3, k % n)).collect()
        };
        let feeds = HashMap::from([
            ("image".to_string(), Array::new([b, 4, 2, 3], x.clone())),
            ("weights".to_string(), Array::new([b, 3, 2, 3], w.clone())),
        ]);
        let found: HashMap<String, Array> = eval(&g, &feeds).unwrap().into_iter().collect();
        let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
        assert!(found["seen"].data.iter().zip(of(&x)).all(|(&a, b)| near(a, b)));
        let score = |x: &[f64]| of(x).iter().zip(&w).map(|(x, w)| x * w).sum::<f64>();
        let mut of_alpha = 0.0_f64;
        for (i, &slope) in found["gradient"].data.iter().enumerate() {
            let moved = |by: f64| {
                let mut x = x.clone();
                x[i] += by;
                score(&x)
            };
            let expected = (moved(1e-4) - moved(-1e-4)) / 2e-4;
            assert!(near(slope, expected), "{i}: expected {expected}, found {slope}");
            if i / n % 4 == 3 {
                of_alpha = of_alpha.max(slope.abs());
            }
        }
        assert!(of_alpha > 0.1);
    }

    #[test]
    fn pictures_without_alpha_stay() {
        let g = Graph::new();
        let image = g.input("image", Dtype::F32, [1, 3, 2, 2]).unwrap();
        assert_eq!(composite(&g, image, [0; 3]).unwrap(), image);
    }
}

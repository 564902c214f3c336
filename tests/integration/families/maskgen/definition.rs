//! What no golden tensor shows, against its definition in plain f64: hidden tokens, normalised codebooks, the
//! MM-DiT pieces MaskGen has no use for, and operands of the wrong shape.

use std::collections::HashMap;

use softdimo::checkpoint::Checkpoint;
use softdimo::families::maskgen::generator as maskgen;
use softdimo::families::maskgen::tokenizer as tatitok;
use softdimo::graph::eval::{Array, eval_values};
use softdimo::graph::{Graph, Value};
use softdimo::nn::mmdit;
use softdimo::rng::{Philox, Stream};
use softdimo::tensor::{Dtype, Shape, Tensor};
use softdimo::weights::Weights;

/// Normally distributed.
fn random(seed: u64, shape: impl Into<Shape>) -> Tensor {
    let (shape, rng) = (shape.into(), Philox::new(seed));
    let data: Vec<f32> =
        (0..shape.len()).map(|i| rng.gaussian_at(Stream::Perturbation, 0, i as u64)).collect();
    Tensor::from_f32(shape, &data)
}

fn checkpoint(tensors: &[(&str, Tensor)]) -> Checkpoint {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let named: Vec<_> = tensors.iter().map(|(name, t)| (name.to_string(), t.clone())).collect();
    super::files::safetensors(&path, &named);
    Checkpoint::open(path).unwrap()
}

/// The values of a graph without inputs.
fn evaluate(g: &Graph, checkpoint: &Checkpoint, wanted: &[Value]) -> Vec<Array> {
    let feeds: HashMap<String, Array> = (g.weights().into_iter())
        .map(|name| {
            let view = checkpoint.get(&name).unwrap();
            (name, Array::new(view.shape.clone(), view.to_f64()))
        })
        .collect();
    eval_values(g, wanted, &feeds).unwrap()
}

fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= 1e-6 * e.abs().max(1.0), "expected {e}, found {f}");
    }
}

/// A hidden token is the mask; a certain one is itself.
#[test]
fn soft_embeddings_with_hidden_tokens() {
    let cfg = super::configs().0;
    let weights = Checkpoint::open(super::data("generator.safetensors")).unwrap();
    let (g, w) = (&Graph::new(), &Weights::new(&weights));
    let n = cfg.num_latent_tokens;
    let ids: Vec<i64> = (0..2 * n as i64).map(|i| i * 7 % cfg.codebook_size as i64).collect();
    let shown: Vec<f32> = (0..n).map(|i| if i % 3 == 0 { 0.0 } else { 1.0 }).collect();
    let mask = cfg.codebook_size as i64;
    let masked = ids.iter().enumerate().map(|(i, &id)| if shown[i % n] == 0.0 { mask } else { id });
    let constant = |ids: &[i64]| g.constant(Tensor::from_i64([2, n], ids)).unwrap();
    let hard = maskgen::embed(g, w, &cfg, constant(&masked.collect::<Vec<_>>())).unwrap();
    let p = g.one_hot(constant(&ids), cfg.codebook_size).unwrap();
    let shown = g.constant(Tensor::from_f32([1, n, 1], &shown)).unwrap();
    let soft = maskgen::embed_soft(g, w, &cfg, p, shown).unwrap();
    let found = evaluate(g, &weights, &[hard, soft]);
    assert_eq!(*found[0].shape, [2, n, cfg.decoder_embed_dim]);
    assert_eq!(found[1], found[0]);
}

/// With `use_l2_norm`, tokens go to the code of nearest direction, and codes have length 1, mixed ones too.
#[test]
fn normalised_codebook() {
    let mut cfg = super::configs().1;
    (cfg.codebook_size, cfg.token_size, cfg.num_latent_tokens, cfg.use_l2_norm) = (5, 3, 4, true);
    let book = random(1, [5, 3]);
    let weights = checkpoint(&[("quantize.embedding.weight", book.clone())]);
    let (g, w) = (&Graph::new(), &Weights::new(&weights));
    let (z, p) = (random(2, [2, 3, 1, 4]), random(3, [2, 4, 5]));
    let ids = tatitok::quantize(g, w, &cfg, g.constant(z.clone()).unwrap()).unwrap();
    let codes = tatitok::lookup(g, w, &cfg, ids).unwrap();
    let p = g.softmax(g.constant(p).unwrap(), 2).unwrap();
    let mixed = tatitok::soft_lookup(g, w, &cfg, p).unwrap();
    let found = evaluate(g, &weights, &[ids, codes, mixed, p]);

    let unit = |v: [f64; 3]| v.map(|x| x / v.iter().map(|x| x * x).sum::<f64>().sqrt());
    let (book, z) = (book.to_f64(), z.to_f64());
    let code = |v: usize| [0, 1, 2].map(|c| book[3 * v + c]);
    for (b, n) in (0..2).flat_map(|b| (0..4).map(move |n| (b, n))) {
        let at = |c: usize| (b * 3 + c) * 4 + n;
        let token = unit([0, 1, 2].map(|c| z[at(c)]));
        let distance = |v: usize| unit(code(v)).iter().zip(token).map(|(e, z)| (e - z).powi(2)).sum::<f64>();
        let nearest = (0..5).min_by(|&v, &u| distance(v).total_cmp(&distance(u))).unwrap();
        assert_eq!(found[0].data[4 * b + n], nearest as f64);
        let mix = |c: usize| (0..5).map(|v| found[3].data[(4 * b + n) * 5 + v] * code(v)[c]).sum();
        let (hard, soft) = (unit(code(nearest)), unit([0, 1, 2].map(mix)));
        for c in 0..3 {
            assert_close(&[found[1].data[at(c)], found[2].data[at(c)]], &[hard[c], soft[c]]);
        }
    }
}

/// x of 2 pictures, 3 tokens, width 4 under a condition of width 2: LN(x)·(1 + scale) + shift, and the gate.
#[test]
fn ada_norm_zero_single_is_shift_scale_gate() {
    let (x, c) = (random(10, [2, 3, 4]), random(11, [2, 2]));
    let (matrix, bias) = (random(12, [12, 2]), random(13, [12]));
    let weights = checkpoint(&[("norm.linear.weight", matrix.clone()), ("norm.linear.bias", bias.clone())]);
    let (g, w) = (&Graph::new(), &Weights::new(&weights).at("norm"));
    let [tokens, condition] = [&x, &c].map(|t| g.constant(t.clone()).unwrap());
    let (normal, gate) = mmdit::ada_norm_zero_single(g, w, tokens, condition).unwrap();
    let found = evaluate(g, &weights, &[normal, gate]);

    let (x, c, matrix, bias) = (x.to_f64(), c.to_f64(), matrix.to_f64(), bias.to_f64());
    let silu = |v: f64| v / (1.0 + (-v).exp());
    let modulation =
        |b: usize, i: usize| bias[i] + (0..2).map(|k| matrix[2 * i + k] * silu(c[2 * b + k])).sum::<f64>();
    let mut expected = Vec::new();
    for (row, lane) in x.chunks(4).enumerate() {
        let mean = lane.iter().sum::<f64>() / 4.0;
        let variance = lane.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 4.0;
        for (i, v) in lane.iter().enumerate() {
            let (shift, scale) = (modulation(row / 3, i), modulation(row / 3, 4 + i));
            expected.push((v - mean) / (variance + 1e-6).sqrt() * (1.0 + scale) + shift);
        }
    }
    assert_close(&found[0].data, &expected);
    let gates: Vec<f64> = (0..2).flat_map(|b| (8..12).map(move |i| modulation(b, i))).collect();
    assert_eq!(*found[1].shape, [2, 1, 4]);
    assert_close(&found[1].data, &gates);
}

#[test]
fn rms_norm_divides_by_the_root_mean_square() {
    let (x, scale) = (random(20, [2, 3, 4]), random(21, [4]));
    let weights = checkpoint(&[("weight", scale.clone())]);
    let (g, w) = (&Graph::new(), &Weights::new(&weights));
    let y = mmdit::rms_norm(g, w, g.constant(x.clone()).unwrap(), 1e-3).unwrap();
    let (x, scale) = (x.to_f64(), scale.to_f64());
    let row = |lane: &[f64]| {
        let root = (lane.iter().map(|v| v * v).sum::<f64>() / 4.0 + 1e-3).sqrt();
        lane.iter().zip(&scale).map(|(v, s)| v / root * s).collect::<Vec<f64>>()
    };
    assert_close(&evaluate(g, &weights, &[y])[0].data, &x.chunks(4).flat_map(row).collect::<Vec<_>>());
}

/// Width 4, period 10⁴: frequencies 1 and 1/100, in both orders.
#[test]
fn waves() {
    let g = &Graph::new();
    let t = g.constant(Tensor::from_f32([2], &[0.0, 50.0])).unwrap();
    let cosines = mmdit::sinusoidal(g, t, 4, 10000.0, true).unwrap();
    let sines = mmdit::sinusoidal(g, t, 4, 10000.0, false).unwrap();
    let found = evaluate(g, &checkpoint(&[("unused", random(0, [1]))]), &[cosines, sines]);
    let (s, c) = ([50f64.sin(), 0.5f64.sin()], [50f64.cos(), 0.5f64.cos()]);
    assert_close(&found[0].data, &[1.0, 1.0, 0.0, 0.0, c[0], c[1], s[0], s[1]]);
    assert_close(&found[1].data, &[0.0, 0.0, 1.0, 1.0, s[0], s[1], c[0], c[1]]);
    let message = mmdit::sinusoidal(g, t, 5, 10000.0, true).unwrap_err().to_string();
    assert_eq!(message, "sinusoidal encoding: expected an even width, found 5");
}

#[test]
fn operands_of_the_wrong_shape_are_named() {
    let (cfg, tok) = super::configs();
    let generator = Checkpoint::open(super::data("generator.safetensors")).unwrap();
    let tokenizer = Checkpoint::open(super::data("tokenizer.safetensors")).unwrap();
    let g = &Graph::new();
    let zeros = |shape: &[usize]| g.expand(g.scalar(0.0).unwrap(), shape).unwrap();
    let [e, pooled, aesthetic, code] = [&[2, 24, 64][..], &[2, 40], &[2], &[2, 16, 1, 24]].map(zeros);
    for (text, expected) in [
        (zeros(&[1, 13, 40]), "text hidden states: expected [2, L, 40], found [1, 13, 40]"),
        (zeros(&[2, 13, 41]), "text hidden states: expected [2, L, 40], found [2, 13, 41]"),
        (zeros(&[2, 40]), "text hidden states: expected [B, L, E], found [2, 40]"),
    ] {
        let w = Weights::new(&generator);
        let logits = maskgen::logits(g, &w, &cfg, e, text, pooled, aesthetic);
        assert_eq!(logits.unwrap_err().to_string(), expected);
    }
    let image = tatitok::decode(g, &Weights::new(&tokenizer), &tok, code, zeros(&[2, 12, 40]));
    assert_eq!(image.unwrap_err().to_string(), "text guidance: expected [2, 13, 40], found [2, 12, 40]");
    // A longer prompt is fine for the generator, whose text tokens have no positions.
    let w = Weights::new(&generator);
    let logits = maskgen::logits(g, &w, &cfg, e, zeros(&[2, 30, 40]), pooled, aesthetic).unwrap();
    assert_eq!((g.dtype(logits), &*g.shape(logits)), (Dtype::F32, &[2, 24, 96][..]));
}

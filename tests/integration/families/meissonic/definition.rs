//! What the golden networks leave open: a generator without down and up block, a tokenizer with attention, hidden
//! tokens, rotations by their definition, and operands of the wrong shape.

use softdimo::checkpoint::Checkpoint;
use softdimo::families::meissonic::generator as meissonic;
use softdimo::families::meissonic::tokenizer as vqvae;
use softdimo::graph::Graph;
use softdimo::nn::mmdit::Rotation;
use softdimo::rng::{Philox, Stream};
use softdimo::tensor::Tensor;
use softdimo::weights::Weights;

use support::checkpoints;

use super::{Batch, checkpoint, configs, data, distance, evaluate, from_grid, told};

fn variants() -> Checkpoint {
    Checkpoint::open(data("variants.safetensors")).unwrap()
}

fn variant(name: &str) -> Vec<f64> {
    variants().get(name).unwrap_or_else(|| panic!("no {name}")).to_f64()
}

/// As for 512 pixels: every token is one in the blocks, and the grid is rotated by its own rows and columns.
#[test]
fn without_down_and_up_block() {
    let (weights, batch, (mut cfg, _)) = (checkpoint(Vec::new()), &Batch::open("b1"), configs());
    (cfg.downsample, cfg.upsample) = (false, false);
    let (g, w) = (&Graph::new(), &Weights::new(&weights));
    let e_in = from_grid(g, g.constant(batch.read("out/e_in")).unwrap());
    g.output("logits", meissonic::logits(g, w, &cfg, e_in, told(g, batch)).unwrap());
    assert!(g.weights().iter().all(|name| !name.contains("sample")));
    let worst = distance(&evaluate(g, &weights)["logits"].data, &variant("full_grid/logits"));
    println!("logits {worst:.1e}");
    assert!(worst < 2e-4, "{worst}");
}

#[test]
fn a_tokenizer_with_attention() {
    let more = checkpoints::tensors(&data("variants.safetensors"));
    let weights = checkpoint(more.into_iter().filter(|(name, _)| name.contains("mid_block")).collect());
    let (batch, (_, mut cfg)) = (&Batch::open("b1"), configs());
    cfg.mid_block_add_attention = true;
    let (g, w) = (&Graph::new(), &Weights::new(&weights));
    let fixed = |name: &str| g.constant(batch.read(name)).unwrap();
    g.output("enc_z", vqvae::encode(g, w, &cfg, fixed("in/enc_image")).unwrap());
    let ids = g.reshape(fixed("out/tokens_argmax"), [2, 16]).unwrap();
    let code = vqvae::embed_codes(g, w, &cfg, ids).unwrap();
    g.output("image_hard", vqvae::decode(g, w, &cfg, code).unwrap());
    assert_eq!(g.weights().iter().filter(|name| name.contains("attentions")).count(), 2 * 10);
    for (name, found) in evaluate(g, &weights) {
        let worst = distance(&found.data, &variant(&format!("attention/{name}")));
        println!("{name} {worst:.1e}");
        assert!(worst < 1e-4, "{name}: {worst}");
        // It is not the tokenizer without.
        assert!(distance(&found.data, &batch.read(&format!("out/{name}")).to_f64()) > 0.1, "{name}");
    }
}

/// A hidden token is the mask, the last row of the table; a certain one is itself.
#[test]
fn soft_embeddings_with_hidden_tokens() {
    let (weights, (cfg, _)) = (checkpoint(Vec::new()), configs());
    let (g, w) = (&Graph::new(), &Weights::new(&weights));
    let ids: Vec<i64> = (0..32).map(|i| i * 7 % 48).collect();
    let shown: Vec<f32> = (0..16).map(|i| if i % 3 == 0 { 0.0 } else { 1.0 }).collect();
    let masked = ids.iter().enumerate().map(|(i, &id)| if shown[i % 16] == 0.0 { 55 } else { id });
    let constant = |ids: &[i64]| g.constant(Tensor::from_i64([2, 16], ids)).unwrap();
    g.output("hard", meissonic::embed(g, w, &cfg, constant(&masked.collect::<Vec<_>>())).unwrap());
    let p = g.one_hot(constant(&ids), 48).unwrap();
    let shown = g.constant(Tensor::from_f32([1, 16, 1], &shown)).unwrap();
    g.output("soft", meissonic::embed_soft(g, w, &cfg, p, shown).unwrap());
    let found = evaluate(g, &weights);
    assert_eq!(*found["hard"].shape, [2, 16, 32]);
    assert_eq!(found["soft"], found["hard"]);
}

/// Pair i of an axis a wide is turned by position · 10000^(−2i/a), as a complex number.
#[test]
fn rotations_turn_pairs() {
    let (g, axes) = (&Graph::new(), [2, 4]);
    let positions = [[0, 0], [3, 1], [1, 20]];
    let rng = Philox::new(3);
    let x: Vec<f32> = (0..2 * 3 * 2 * 6).map(|i| rng.gaussian_at(Stream::Perturbation, 0, i)).collect();
    let rotation = Rotation::new(g, &axes, &positions).unwrap();
    let y = rotation.apply(g, g.constant(Tensor::from_f32([2, 3, 2, 6], &x)).unwrap()).unwrap();
    g.output("y", y);
    let found = &evaluate(g, &variants())["y"];
    let mut expected = Vec::new();
    for (i, pair) in x.chunks(2).enumerate() {
        let [a, b] = positions[i / 6 % 3];
        let angle = [a as f64, b as f64, b as f64 * 10000f64.powf(-0.5)][i % 3];
        let (x0, x1) = (f64::from(pair[0]), f64::from(pair[1]));
        expected.extend([x0 * angle.cos() - x1 * angle.sin(), x0 * angle.sin() + x1 * angle.cos()]);
    }
    assert!(distance(&found.data, &expected) < 1e-6);
    // What stays where it is, stays as it is.
    assert!(distance(&found.data[..12], &x[..12].iter().map(|&x| f64::from(x)).collect::<Vec<_>>()) == 0.0);
}

#[test]
fn operands_of_the_wrong_shape_are_named() {
    let (weights, (cfg, _), batch) = (checkpoint(Vec::new()), configs(), Batch::open("b0"));
    let (g, w) = (&Graph::new(), &Weights::new(&weights));
    let zeros = |shape: &[usize]| g.expand(g.scalar(0.0).unwrap(), shape).unwrap();
    let told = told(g, &batch);
    let fails = |e: &[usize], text: &[usize]| {
        let told = meissonic::Conditioning { text: zeros(text), ..told };
        meissonic::logits(g, w, &cfg, zeros(e), told).unwrap_err().to_string()
    };
    let expected = "text hidden states: expected [1, L, 24], found";
    for text in [&[2, 7, 24][..], &[1, 7, 25], &[7, 24]] {
        assert_eq!(fails(&[1, 16, 32], text), format!("{expected} {text:?}"));
    }
    let expected = "tokens: expected a square grid, of even sides where it is halved, found";
    for n in [15, 9] {
        assert_eq!(fails(&[1, n, 32], &[1, 7, 24]), format!("{expected} {n}"));
    }
    // A longer prompt is fine: text tokens are not rotated.
    let told = meissonic::Conditioning { text: zeros(&[1, 30, 24]), ..told };
    assert_eq!(*g.shape(meissonic::logits(g, w, &cfg, zeros(&[1, 16, 32]), told).unwrap()), [1, 16, 48]);
}

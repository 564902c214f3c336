//! Every optimiser against its update written plainly, with gradients from one-step runs; what is moved; the
//! pull of the noise towards its prior.

use softdimo::Variables;
use softdimo::families::condition::Condition;
use softdimo::graph::{Graph, grad};
use softdimo::rng::{Philox, Stream};
use softdimo::tensor::{Dtype, Tensor};
use softdimo::{Optimize, Optimizer, Request, Reward, RewardTerm};

use super::{assert_close, blue, climbing, course, emoji, fixture, ratchet, relative_l2, with};

const STEPS: usize = 3;

fn terms() -> Vec<RewardTerm> {
    vec![RewardTerm::new(blue(), 1.0), ratchet()]
}

fn at(e_in: &[f32]) -> Request {
    Request { e_in: Some(e_in.to_vec()), ..climbing(terms(), 1) }
}

/// The start embedding of the request all of this is about.
fn start() -> Vec<f32> {
    fixture().generate(&climbing(terms(), 0)).unwrap().picture_e_in(0).unwrap().to_vec()
}

/// The gradient at `e`, read off one step that is long enough for the difference to be exact.
pub fn gradient(e: &[f32]) -> Vec<f32> {
    let norm =
        course(&fixture().generate(&with(at(e), |o| o.steps = 0)).unwrap()).iterations[0].gradient_norm[0];
    let lr = 100.0 / norm;
    let next = fixture().generate(&with(at(e), |o| o.lr = lr)).unwrap().picture_e_in(0).unwrap().to_vec();
    let g: Vec<f32> = next.iter().zip(e).map(|(n, e)| (n - e) / lr).collect();
    assert_close(&[length(&g)], &[norm], 1e-4, "reported norm");
    g
}

fn length(v: &[f32]) -> f32 {
    v.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt() as f32
}

/// Follow `step(k, gradient) → direction` by hand from the start, and by the loop with `settings`.
fn compare(
    name: &str,
    lr: f32,
    optimizer: Optimizer,
    clip: f32,
    mut step: impl FnMut(usize, &[f32]) -> Vec<f32>,
) {
    let start = start();
    let request = Request { e_in: Some(start.clone()), ..climbing(terms(), STEPS as u32) };
    let request = with(request, |o| (o.lr, o.optimizer, o.clip) = (lr, optimizer, clip));
    let found = fixture().generate(&request).unwrap();
    assert_eq!(course(&found).best_step, [STEPS as u32]);
    let mut e = start.clone();
    for k in 0..STEPS {
        let direction = step(k, &gradient(&e));
        e = e.iter().zip(direction).map(|(e, d)| e + lr * d).collect();
    }
    // Of the way made, not of the place: the start would hide errors.
    let way = |to: &[f32]| -> Vec<f32> { to.iter().zip(&start).map(|(a, b)| a - b).collect() };
    let error = relative_l2(&way(found.picture_e_in(0).unwrap()), &way(&e));
    println!("{name}: {error:.1e} of the way");
    assert!(error < 2e-3, "{name}: {error}");
}

#[test]
fn gradient_ascent() {
    compare("sgd", 20.0, Optimizer::default(), 0.0, |_, g| g.to_vec());
}

#[test]
fn momentum() {
    let mut m: Vec<f32> = Vec::new();
    compare("momentum", 20.0, Optimizer::Sgd { momentum: 0.9 }, 0.0, |_, g| {
        m.resize(g.len(), 0.0);
        m.iter_mut().zip(g).for_each(|(m, g)| *m = 0.9 * *m + g);
        m.clone()
    });
}

#[test]
fn adam() {
    let (mut m, mut v): (Vec<f64>, Vec<f64>) = Default::default();
    // A large ε keeps entries with gradients near zero from turning rounding into direction.
    let optimizer = Optimizer::Adam { beta1: 0.8, beta2: 0.95, eps: 1e-3 };
    compare("adam", 0.05, optimizer, 0.0, |k, g| {
        m.resize(g.len(), 0.0);
        v.resize(g.len(), 0.0);
        let n = k as i32 + 1;
        let update = |i: usize| {
            let g = f64::from(g[i]);
            m[i] = 0.8 * m[i] + 0.2 * g;
            v[i] = 0.95 * v[i] + 0.05 * g * g;
            let (m, v) = (m[i] / (1.0 - 0.8f64.powi(n)), v[i] / (1.0 - 0.95f64.powi(n)));
            (m / (v.sqrt() + 1e-3)) as f32
        };
        (0..g.len()).map(update).collect()
    });
}

#[test]
fn clipping() {
    let norm = length(&gradient(&start()));
    // Below the norm it scales, above it does nothing.
    for clip in [norm / 3.0, norm * 50.0] {
        compare("clip", 20.0, Optimizer::default(), clip, |_, g| {
            let factor = (clip / length(g)).min(1.0);
            g.iter().map(|g| g * factor).collect()
        });
    }
}

const NOISE: Variables = Variables { embedding: false, noise: true, class: false };

/// e = clean + σ·n, so a step of the noise moves e by σ² times its gradient.
#[test]
fn noise() {
    let (lr, sigma) = (200.0, 0.3);
    let request = Request { sigma: Some(sigma), ..climbing(terms(), STEPS as u32) };
    let request = with(request, |o| (o.lr, o.variables) = (lr, NOISE));
    let found = fixture().generate(&request).unwrap();
    let mut e = fixture()
        .generate(&with(request.clone(), |o| o.steps = 0))
        .unwrap()
        .picture_e_in(0)
        .unwrap()
        .to_vec();
    let start = e.clone();
    for _ in 0..STEPS {
        let g = gradient(&e);
        e = e.iter().zip(g).map(|(e, g)| e + lr * sigma * sigma * g).collect();
    }
    let way = |to: &[f32]| -> Vec<f32> { to.iter().zip(&start).map(|(a, b)| a - b).collect() };
    let error = relative_l2(&way(found.picture_e_in(0).unwrap()), &way(&e));
    println!("noise: {error:.1e} of the way");
    assert!(error < 2e-3, "{error}");
}

/// Recomputation changes memory and time, not the way: the prior's teacher, the student and the decoder are
/// computed twice, in the order of the first time. The runtime fuses the two differently, and every further update
/// makes more of a last bit.
#[test]
fn recomputing_takes_the_same_way() {
    for (engine, steps, bound) in
        [fixture, emoji].into_iter().flat_map(|e| [(e(), 1, 2e-5), (e(), STEPS, 1e-3)])
    {
        let run = |recompute: bool| {
            let terms = vec![
                RewardTerm::new(blue(), 1.0),
                RewardTerm::new(Reward::Prior { seed: 1 }, 0.1),
                ratchet(),
            ];
            let settings = |o: &mut Optimize| (o.lr, o.recompute) = (20.0, recompute);
            let request = with(climbing(terms, steps as u32).with_batch(2), settings);
            let bytes = request.optimize.as_ref().unwrap().activation_bytes(engine.model(), 2).unwrap();
            (engine.generate(&request).unwrap(), bytes)
        };
        let ((plain, all), (again, few)) = (run(false), run(true));
        let start = engine.generate(&climbing(terms(), 0).with_batch(2)).unwrap();
        for b in 0..2 {
            let way = |done: &softdimo::Generated| -> Vec<f32> {
                let (to, from) = (done.picture_e_in(b).unwrap(), start.picture_e_in(b).unwrap());
                to.iter().zip(from).map(|(a, b)| a - b).collect()
            };
            let error = relative_l2(&way(&again), &way(&plain));
            println!("{steps} steps, recomputed: {error:.1e} of the way; {few} bytes instead of {all}");
            assert!(error <= bound, "{steps} steps: {error}");
        }
        assert!(few < all / 2, "{few} is not half of {all}");
    }
}

/// With a reward of weight 0 only the regulariser moves the noise: n ← n − lr·λ·(1 − (d − 1)/‖n‖²)·n.
#[test]
fn norm_regularizer() {
    let (lr, lambda, sigma) = (0.1, 0.5, 0.25);
    let terms = vec![RewardTerm::new(blue(), 0.0), ratchet()];
    let request = Request { sigma: Some(sigma), ..climbing(terms, STEPS as u32) };
    let request = with(request, |o| (o.lr, o.variables, o.norm_regularizer) = (lr, NOISE, lambda));
    let found = fixture().generate(&request).unwrap();
    let start = fixture()
        .generate(&with(request.clone(), |o| o.steps = 0))
        .unwrap()
        .picture_e_in(0)
        .unwrap()
        .to_vec();
    let mut n = vec![0f32; start.len()];
    Philox::for_picture(request.seed, 0).fill_gaussian(Stream::Perturbation, 0, &mut n);
    let clean: Vec<f32> = start.iter().zip(&n).map(|(e, n)| e - sigma * n).collect();
    let (d, first) = (n.len() as f32, length(&n));
    for _ in 0..STEPS {
        let square = length(&n).powi(2);
        n.iter_mut().for_each(|n| *n -= lr * lambda * (1.0 - (d - 1.0) / square) * *n);
    }
    let e: Vec<f32> = clean.iter().zip(&n).map(|(c, n)| c + sigma * n).collect();
    assert_close(found.picture_e_in(0).unwrap(), &e, 1e-5, "the regularised noise");
    // The norm goes to √(d − 1), where the prior has most of its mass.
    assert!((length(&n) - (d - 1.0).sqrt()).abs() < (first - (d - 1.0).sqrt()).abs());
}

/// The class embedding, against a graph of this test's own.
#[test]
fn class() {
    let engine = fixture();
    let (lr, only_class) = (50.0, Variables { embedding: false, noise: false, class: true });
    let e = start();
    let request = Request { e_in: Some(e.clone()), ..climbing(terms(), STEPS as u32) };
    let found = engine.generate(&with(request, |o| (o.lr, o.variables) = (lr, only_class))).unwrap();
    assert_eq!(found.picture_e_in(0).unwrap(), e, "the embedding stays");
    let rewards: Vec<f32> = course(&found).iterations.iter().map(|i| i.rewards[0][0]).collect();

    let model = engine.model().clone();
    let (a, l) = (model.architecture(), model.architecture().layout());
    let (w, student) = (model.weights(), model.weights().at("student"));
    let g = Graph::new();
    let id = g.input("class", Dtype::I64, [1]).unwrap();
    g.output("c", a.embed_class(&g, &student, id).unwrap());
    let inputs = vec![("class".to_string(), Tensor::from_i64([1], &[3]))];
    let mut c = engine.run_graph(g, inputs).unwrap().remove(0).1;
    let mut expected = Vec::new();
    for _ in 0..=STEPS {
        let g = Graph::new();
        let e = g.constant(Tensor::from_f32([1, l.positions, l.embedding], &e)).unwrap();
        let x = g.input("c", Dtype::F32, [1, l.embedding]).unwrap();
        let p = g.softmax(a.logits(&g, &student, e, &Condition::class(x)).unwrap(), 3).unwrap();
        let image = a.decode(&g, &w, a.soft_embedding(&g, &w, p).unwrap(), None).unwrap();
        let rgb = g.constant(Tensor::from_f32([1, 3, 1, 1], &[-1.0, -1.0, 1.0])).unwrap();
        let sum = g.reduce_sum(g.mul(image, rgb).unwrap(), &[0, 1, 2, 3]).unwrap();
        let reward = g.mul_scalar(sum, 1.0 / (l.width * l.height) as f32).unwrap();
        let slope = grad(&g, reward, &[x]).unwrap()[0];
        g.output("reward", g.reshape(reward, [1]).unwrap());
        g.output("next", g.add(x, g.mul_scalar(slope, lr).unwrap()).unwrap());
        let mut out = engine.run_graph(g, vec![("c".to_string(), c)]).unwrap();
        c = out.remove(1).1;
        expected.extend(out.remove(0).1.to_f32());
    }
    println!("class: {rewards:?}");
    assert!(rewards[STEPS] != rewards[0]);
    assert_close(&rewards, &expected, 1e-4, "rewards under a moving class");

    // Class and embedding together move both.
    let both = Variables { embedding: true, noise: false, class: true };
    let joint = engine.generate(&with(climbing(terms(), 1), |o| o.variables = both)).unwrap();
    let one = engine.generate(&climbing(terms(), 1)).unwrap();
    assert_eq!(joint.picture_e_in(0).unwrap(), one.picture_e_in(0).unwrap());
    let after = |done: &softdimo::Generated| course(done).iterations[1].rewards[0][0];
    assert!(after(&joint) != after(&one));
    let norm = |done: &softdimo::Generated| course(done).iterations[0].gradient_norm[0];
    assert!(norm(&joint) > norm(&one), "the norm is that of all that moves");
}

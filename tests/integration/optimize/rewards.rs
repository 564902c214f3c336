//! What the rewards say: gradients against central differences, and whether the prior believes the label.

use softdimo::families::condition::Condition;
use softdimo::graph::Graph;
use softdimo::rng::{Philox, Stream};
use softdimo::tensor::Tensor;
use softdimo::{Generated, Label, Request, Reward, RewardTerm};

use super::{assert_close, blue, climbing, course, emoji, fixture, ratchet, with};

fn rewards() -> Vec<Reward> {
    let target = (0..3 * 1024).map(|i| (i % 31) as f32 / 31.0).collect();
    let mask = (0..1024).map(|i| (i % 5) as f32).collect();
    vec![Reward::Target { target, mask: Some(mask) }, blue(), Reward::Prior { seed: 9 }]
}

/// The slope along the gradient is the gradient's norm, and the largest entries are the slopes along theirs.
#[test]
fn gradients_are_central_differences() {
    let engine = fixture();
    for make in 0..rewards().len() {
        let reward = std::sync::Arc::new(rewards().remove(make));
        let name = reward.name();
        let term = RewardTerm { reward, weight: 1.0 };
        let start = engine.generate(&climbing(vec![term.clone()], 0)).unwrap();
        let (e, norm) =
            (start.picture_e_in(0).unwrap().to_vec(), course(&start).iterations[0].gradient_norm[0]);
        let value = |e: Vec<f32>| -> f64 {
            let request = Request { e_in: Some(e), ..climbing(vec![term.clone()], 0) };
            f64::from(course(&engine.generate(&request).unwrap()).iterations[0].total[0])
        };
        let lr = 100.0 / norm;
        let long = Request { e_in: Some(e.clone()), ..climbing(vec![term.clone(), ratchet()], 1) };
        let next = engine.generate(&with(long, |o| o.lr = lr)).unwrap().picture_e_in(0).unwrap().to_vec();
        let g: Vec<f32> = next.iter().zip(&e).map(|(n, e)| (n - e) / lr).collect();
        let mut order: Vec<usize> = (0..g.len()).collect();
        order.sort_by(|&a, &b| g[b].abs().total_cmp(&g[a].abs()));
        let along = |direction: &dyn Fn(usize) -> f32, h: f32| {
            let moved = |sign: f32| (0..e.len()).map(|i| e[i] + sign * h * direction(i)).collect();
            (value(moved(1.0)) - value(moved(-1.0))) / (2.0 * f64::from(h))
        };
        let slope = along(&|i| g[i] / norm, 0.02);
        println!("{name}: {slope:.5} along the gradient, whose norm is {norm:.5}");
        assert!((slope / f64::from(norm) - 1.0).abs() < 0.02, "{name}: {slope} is not {norm}");
        for &at in &order[..3] {
            let slope = along(&|i| f32::from(i == at), 0.05);
            println!("{name}: {slope:.5} along {at}, where the gradient is {:.5}", g[at]);
            assert!((slope - f64::from(g[at])).abs() < 0.05 * f64::from(norm), "{name} {at}");
        }
    }
}

/// Staying near: −λ·mean (e − e₀)² has no slope at the start, and a known one after a step.
#[test]
fn closeness() {
    let run = |weight: f32, steps: u32| {
        let terms = vec![RewardTerm::new(blue(), 1.0), RewardTerm::new(Reward::Closeness, weight), ratchet()];
        fixture().generate(&with(climbing(terms, steps), |o| o.lr = 20.0)).unwrap()
    };
    let (start, free_1, free_2, held_2) = (run(0.0, 0), run(0.0, 1), run(0.0, 2), run(30.0, 2));
    let [e0, e1, e2, held] =
        [start, free_1, free_2, held_2.clone()].map(|d| d.picture_e_in(0).unwrap().to_vec());
    let n = e0.len() as f32;
    let expected: Vec<f32> = (0..e0.len()).map(|i| e2[i] - 20.0 * 30.0 * 2.0 / n * (e1[i] - e0[i])).collect();
    assert_close(&held, &expected, 1e-4, "the held embedding");
    let distance = |e: &[f32]| e.iter().zip(&e0).map(|(a, b)| (a - b) * (a - b)).sum::<f32>() / n;
    let scores: Vec<f32> = course(&held_2).iterations.iter().map(|i| i.rewards[1][0]).collect();
    assert_close(&scores, &[0.0, -distance(&e1), -distance(&held)], 1e-5, "closeness");
    assert!(distance(&held) < distance(&e2));
}

/// The prior written plainly, under any label: Σ p·ln q of the tokens a seeded half mask hides, then of the rest.
fn plain_prior(done: &Generated, seed: u64, student: &[i64], teacher: &[i64]) -> Vec<f64> {
    let engine = emoji();
    let model = engine.model().clone();
    let (a, l, b) = (model.architecture(), model.architecture().layout(), student.len());
    let rng = Philox::new(seed);
    let mut order: Vec<usize> = (0..l.slots()).collect();
    order.sort_by_key(|&s| (rng.u32_at(Stream::StartMask, 0, s as u64), s));
    let (w, t) = (model.weights().at("student"), model.weights().at("teacher"));
    let g = Graph::new();
    let ids = |ids: &[i64]| g.constant(Tensor::from_i64([b], ids)).unwrap();
    let e = g.constant(done.e_in.clone().unwrap()).unwrap();
    let class = |w, c: &[i64]| Condition::class(a.embed_class(&g, w, ids(c)).unwrap());
    let z = a.logits(&g, &w, e, &class(&w, student)).unwrap();
    let p = g.softmax(z, 3).unwrap();
    g.output("p", p);
    let hidden = [&order[..l.slots() / 2], &order[l.slots() / 2..]];
    for (i, hidden) in hidden.into_iter().enumerate() {
        let keep: Vec<f32> = (0..l.slots()).map(|s| f32::from(!hidden.contains(&s))).collect();
        let keep = g.constant(Tensor::from_f32([1, l.positions, l.splits, 1], &keep)).unwrap();
        let e = a.embed_soft(&g, &t, p, keep).unwrap();
        let z = a.logits(&g, &t, e, &class(&t, teacher)).unwrap();
        g.output(format!("q{i}"), g.log_softmax(z, 3).unwrap());
    }
    let out = engine.run_graph(g, Vec::new()).unwrap();
    let [p, q0, q1] = [0, 1, 2].map(|i| out[i].1.to_f64());
    let one = |b: usize| {
        let slot = |s: usize, q: &[f64]| -> f64 {
            let at = (b * l.slots() + s) * l.codes;
            (at..at + l.codes).map(|i| p[i] * q[i]).sum()
        };
        let half = |i: usize, q: &[f64]| -> f64 { hidden[i].iter().map(|&s| slot(s, q)).sum() };
        (half(0, &q0) + half(1, &q1)) / l.slots() as f64
    };
    (0..b).map(one).collect()
}

#[test]
fn the_prior_believes_the_right_label() {
    const SEEDS: usize = 16;
    let engine = emoji();
    let class = |name: &str| engine.model().class_of(name).unwrap() as i64;
    for (right, wrong) in [("red apple", "rocket"), ("dog", "pizza")] {
        let terms = vec![RewardTerm::new(Reward::Prior { seed: 1 }, 1.0)];
        let labels = vec![Label::Name(right.into())];
        let request = Request { labels, batch: SEEDS, ..climbing(terms, 0) };
        let done = engine.generate(&request).unwrap();
        let (right_ids, wrong_ids) = ([class(right); SEEDS], [class(wrong); SEEDS]);
        let believed = plain_prior(&done, 1, &right_ids, &right_ids);
        let doubted = plain_prior(&done, 1, &right_ids, &wrong_ids);
        let expected: Vec<f32> = believed.iter().map(|&x| x as f32).collect();
        assert_close(&course(&done).iterations[0].total, &expected, 1e-4, "the prior written plainly");
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let wins = believed.iter().zip(&doubted).filter(|(a, b)| a > b).count();
        println!("{right}: {:.3} nats, as {wrong}: {:.3}; {wins}/{SEEDS}", mean(&believed), mean(&doubted));
        assert!(mean(&believed) > mean(&doubted) && wins > SEEDS / 2);
        assert!(believed.iter().all(|&x| x <= 0.0));
    }
}

/// Priors under several masks stand beside each other.
#[test]
fn priors_under_several_masks() {
    let run = |seeds: &[u64]| {
        let terms = seeds.iter().map(|&seed| RewardTerm::new(Reward::Prior { seed }, 1.0)).collect();
        let done = fixture().generate(&climbing(terms, 0).with_batch(2)).unwrap();
        course(&done).iterations[0].rewards.clone()
    };
    let together = run(&[9, 4, 9]);
    assert_eq!(together[0], together[2]);
    for (found, seed) in together.iter().zip([9, 4, 9]) {
        assert_close(found, &run(&[seed])[0], 1e-5, "a prior beside others");
    }
    assert!(together[0] != together[1], "masks of other seeds hide other tokens");
}

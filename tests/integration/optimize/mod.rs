//! Test-time embedding optimisation as a caller meets it: the golden trajectory, built-in rewards against
//! callbacks, the optimisers against plain arithmetic, the best iterate, and every way to end early.
//! `cargo run --release --example reward_study` measures what rewards do to pictures.

mod ends;
mod kept;
mod preparing;
mod rewards;
mod updates;

use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use softdimo::OptimizationReport;
use softdimo::checkpoint::Checkpoint;
use softdimo::{Engine, Generated, Label, Optimize, Options, Request, Reward, RewardTerm};
use support::compare::{assert_near as assert_close, relative as relative_l2};
use support::{data, maskbit};

/// The fixture opened, for all tests together: they queue up on its worker.
fn fixture() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(fresh_fixture)
}

/// The fixture for one test alone. The mapped file outlives its name.
fn fresh_fixture() -> Engine {
    let folder = tempfile::tempdir().unwrap();
    Engine::open(maskbit::model(folder.path()), Options::default()).unwrap()
}

fn emoji() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::open(support::bundled(), Options::default()).unwrap())
}

fn blue() -> Reward {
    Reward::Color { rgb: [-1.0, -1.0, 1.0], mask: None }
}

/// One picture of the fixture's class 3 that climbs `terms`.
fn climbing(terms: Vec<RewardTerm>, steps: u32) -> Request {
    Request { optimize: Some(Optimize::new(terms, steps)), ..Request::class(3).with_seed(5) }
}

/// The same with other settings.
fn with(request: Request, change: impl FnOnce(&mut Optimize)) -> Request {
    let mut optimize = request.optimize.unwrap();
    change(&mut optimize);
    Request { optimize: Some(optimize), ..request }
}

fn course(done: &Generated) -> &OptimizationReport {
    done.report.optimization.as_ref().unwrap()
}

/// Totals of picture `b`, one per iterate.
fn totals(done: &Generated, b: usize) -> Vec<f32> {
    course(done).iterations.iter().map(|i| i.total[b]).collect()
}

/// A callback without a gradient whose score outgrows everything: the last iterate is the one that is kept.
fn ratchet() -> RewardTerm {
    let mut calls = 0.0;
    let reward = Reward::callback(move |_, answer| {
        calls += 1.0;
        answer.scores.fill(1e6 * calls);
        ControlFlow::Continue(())
    });
    RewardTerm::new(reward, 1.0)
}

/// Score and gradient of `f(channel, x) = (value, derivative)`, both averaged over a picture's values.
fn pixelwise(f: impl Fn(usize, usize, f32) -> (f32, f32) + Send + 'static) -> Reward {
    Reward::callback(move |image, answer| {
        let pixels = image.width * image.height;
        for b in 0..image.batch {
            let mut sum = 0f64;
            for i in 0..3 * pixels {
                let at = b * 3 * pixels + i;
                let (value, slope) = f(b, i, image.pixels[at]);
                sum += f64::from(value);
                answer.gradient[at] = slope / (3 * pixels) as f32;
            }
            answer.scores[b] = (sum / (3 * pixels) as f64) as f32;
        }
        ControlFlow::Continue(())
    })
}

/// The official code's three steps, by the loop of the product: the golden reward as a callback. It is a mean
/// over the batch, so every picture's own mean has the weight 1/B.
#[test]
fn golden_trajectory() {
    let golden = Checkpoint::open(data("maskbit/golden.safetensors")).unwrap();
    for batch in ["b0", "b1"] {
        let floats = |name: &str| golden.get(&format!("{batch}/{name}")).unwrap().to_f32();
        let ids = |name: &str| golden.get(&format!("{batch}/{name}")).unwrap().to_i64();
        let labels = ids("in/labels").into_iter().zip(ids("in/drop_label"));
        let labels: Vec<Label> =
            labels.map(|(l, dropped)| Label::Class(if dropped > 0 { 10 } else { l as u32 })).collect();
        let b = labels.len();
        let rewards = floats("out/tteo/reward");
        for steps in 1..=3 {
            let target = floats("in/target");
            let values = target.len() / b;
            let reward = pixelwise(move |b, i, x| (x * target[b * values + i], target[b * values + i]));
            let terms = vec![RewardTerm::new(reward, 1.0 / b as f32)];
            let request = Request {
                labels: labels.clone(),
                batch: b,
                e_in: Some(floats("out/e_in")),
                ..climbing(terms, steps)
            };
            let done = fixture().generate(&request).unwrap();
            for (k, iteration) in course(&done).iterations.iter().enumerate() {
                let found: f32 = iteration.total.iter().sum();
                println!("{batch} step {k}: {found} {}", rewards[k]);
                assert!((found - rewards[k]).abs() <= 2e-3, "{batch} {k}: {found} is not {}", rewards[k]);
            }
            // Pictures whose last iterate is their best show it.
            let expected = floats(&format!("out/tteo/e_in_{steps}"));
            let per_picture = expected.len() / b;
            let mut compared = 0;
            for i in (0..b).filter(|&i| course(&done).best_step[i] == steps) {
                let expected = &expected[i * per_picture..(i + 1) * per_picture];
                let error = relative_l2(done.picture_e_in(i).unwrap(), expected);
                println!("{batch} e_in_{steps} of picture {i}: {error:.1e}");
                assert!(error <= 2e-4, "{batch} {steps} {i}: {error}");
                compared += 1;
            }
            assert!(compared > 0, "{batch} {steps}: {:?}", course(&done).best_step);
        }
    }
}

#[test]
fn built_in_rewards_equal_callbacks() {
    let target: Vec<f32> = (0..3 * 1024).map(|i| (i % 97) as f32 / 97.0).collect();
    let mask: Vec<f32> = (0..1024).map(|i| ((i / 32) % 3) as f32).collect();
    let (t, share) = (target.clone(), mask.clone());
    let mean = mask.iter().sum::<f32>() / 1024.0;
    let weight = move |i: usize| share[i % 1024] / mean;
    let w = weight.clone();
    let by_hand_target = pixelwise(move |_, i, x| {
        let d = x - t[i];
        (-d * d * w(i), -2.0 * d * w(i))
    });
    // The colour reward sums over channels where this averages: a factor of 3.
    let by_hand_color = pixelwise(move |_, i, x| {
        let slope = 3.0 * [-1.0, 0.5, 1.0][i / 1024] * weight(i);
        (slope * x, slope)
    });
    let color = Reward::Color { rgb: [-1.0, 0.5, 1.0], mask: Some(mask.clone()) };
    let target = Reward::Target { target, mask: Some(mask) };
    for (built_in, callback) in [(target, by_hand_target), (color, by_hand_color)] {
        let name = built_in.name();
        let run = |reward| {
            let request = climbing(vec![RewardTerm::new(reward, 1.0)], 4).with_batch(2);
            fixture().generate(&request).unwrap()
        };
        let (a, b) = (run(built_in), run(callback));
        for i in 0..2 {
            assert_close(&totals(&a, i), &totals(&b, i), 1e-5, name);
            assert!(relative_l2(a.picture_e_in(i).unwrap(), b.picture_e_in(i).unwrap()) < 1e-5);
        }
        assert_eq!(course(&a).rewards, [name]);
        assert_eq!(course(&b).rewards, ["callback"]);
    }
}

/// The kept iterate has the largest total, the returned embedding is its embedding, and the returned picture
/// is made from it.
#[test]
fn best_iterate_is_kept() {
    // A rate this large overshoots, so that the best iterate is not the last.
    let request = with(climbing(vec![RewardTerm::new(blue(), 1.0)], 12).with_batch(4), |o| o.lr = 3000.0);
    let done = fixture().generate(&request).unwrap();
    let best = &course(&done).best_step;
    println!("best steps of 12: {best:?}");
    assert!(best.iter().any(|&s| s < 12), "nothing to choose from: {best:?}");
    for i in 0..4 {
        let totals = totals(&done, i);
        assert_eq!(totals.len(), 13);
        let largest = totals.iter().copied().fold(f32::MIN, f32::max);
        assert_eq!(totals[best[i] as usize], largest);
        let again = Request {
            e_in: Some(done.picture_e_in(i).unwrap().to_vec()),
            batch: 1,
            seed: request.seed + i as u64,
            ..with(request.clone(), |o| o.steps = 0)
        };
        let again = fixture().generate(&again).unwrap();
        assert_close(&self::totals(&again, 0), &[largest], 1e-5, "reward of the kept embedding");
        assert_eq!(again.picture_tokens(0).unwrap(), done.picture_tokens(i).unwrap());
    }
}

/// Embeddings that stay where the provider computes take the way of embeddings that pass through the host after
/// every step, bit for bit; also those of a picture that has stopped while the others go on.
#[test]
fn many_steps_equal_single_steps_resumed() {
    const STEPS: u32 = 5;
    for engine in [fixture(), emoji()] {
        // The gradient of picture 0 is not finite from the third call on.
        let terms = |call: usize| {
            let mut calls = call;
            let reward = Reward::callback(move |image, answer| {
                calls += 1;
                answer.scores.fill(1e4 * calls as f32);
                if calls >= 3 {
                    answer.gradient[..3 * image.width * image.height].fill(f32::NAN);
                }
                ControlFlow::Continue(())
            });
            vec![RewardTerm::new(blue(), 1.0), RewardTerm::new(reward, 1.0)]
        };
        let request = |terms, steps| with(climbing(terms, steps).with_batch(2), |o| o.lr = 20.0);
        let whole = engine.generate(&request(terms(0), STEPS)).unwrap();
        let mut e_in: Option<Vec<f32>> = None;
        for k in 0..STEPS as usize {
            let single = engine.generate(&Request { e_in, ..request(terms(k), 1) }).unwrap();
            for (found, expected) in course(&single).iterations.iter().zip(&course(&whole).iterations[k..]) {
                let bits = |v: &[f32]| -> Vec<u32> { v.iter().map(|x| x.to_bits()).collect() };
                assert_eq!(bits(&found.rewards[0]), bits(&expected.rewards[0]), "step {k}");
                assert_eq!(found.gradient_norm[1].to_bits(), expected.gradient_norm[1].to_bits(), "step {k}");
            }
            e_in = single.e_in.as_ref().map(|e| e.to_f32());
        }
        assert_eq!(e_in.unwrap(), whole.e_in.as_ref().unwrap().to_f32());
        assert_eq!(course(&whole).best_step, [STEPS, STEPS]);
        assert_eq!(whole.picture_e_in(0).unwrap(), {
            let early = engine.generate(&request(terms(0), 2)).unwrap();
            early.picture_e_in(0).unwrap().to_vec()
        });
    }
}

/// No steps: the plain one-step picture, and its reward.
#[test]
fn zero_steps_is_the_plain_picture() {
    for engine in [fixture(), emoji()] {
        for seed in 0..4 {
            let plain = Request::class(7).with_seed(seed).with_batch(2);
            let optimize = Optimize::new(vec![RewardTerm::new(blue(), 1.0)], 0);
            let zero = Request { optimize: Some(optimize), ..plain.clone() };
            let (plain, zero) = (engine.generate(&plain).unwrap(), engine.generate(&zero).unwrap());
            assert!(plain.tokens == zero.tokens && plain.images == zero.images);
            assert_eq!(plain.e_in.as_ref().unwrap(), zero.e_in.as_ref().unwrap());
            assert_eq!((course(&zero).iterations.len(), course(&zero).ended), (1, "steps"));
        }
    }
}

/// Pictures of a batch do not know of each other: not their gradients, and not their share of the batch.
#[test]
fn a_batch_equals_single_pictures() {
    let terms = || vec![RewardTerm::new(blue(), 1.0), RewardTerm::new(Reward::Prior { seed: 3 }, 0.1)];
    let labels: Vec<Label> = [1, 4, 10].map(Label::Class).to_vec();
    let together = Request { labels: labels.clone(), batch: 3, ..climbing(terms(), 5) };
    let together = fixture().generate(&with(together, |o| o.clip = 0.5)).unwrap();
    for (i, label) in labels.into_iter().enumerate() {
        let alone =
            Request { labels: vec![label], ..climbing(terms(), 5) }.with_seed(5u64.wrapping_add(i as u64));
        let alone = fixture().generate(&with(alone, |o| o.clip = 0.5)).unwrap();
        assert_close(&totals(&together, i), &totals(&alone, 0), 1e-5, "totals");
        let norms = |done: &Arc<Generated>, b: usize| -> Vec<f32> {
            course(done).iterations.iter().map(|k| k.gradient_norm[b]).collect()
        };
        assert_close(&norms(&together, i), &norms(&alone, 0), 1e-4, "gradient norms");
        assert_eq!(together.picture_tokens(i).unwrap(), alone.picture_tokens(0).unwrap());
    }
}

//! Every way a loop can end before its steps are done, and every setting that is refused.

use std::ops::ControlFlow::{Break, Continue};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use softdimo::Phase;
use softdimo::Variables;
use softdimo::{Decode, Engine, Error, Optimize, Optimizer, Options, Request, Reward, RewardTerm};

use support::maskbit;

use super::{blue, climbing, course, fixture, fresh_fixture, pixelwise, totals, with};

/// "Bluer", by the host: like the colour reward up to its scale.
fn host_blue() -> Reward {
    pixelwise(|_, i, x| if i < 2048 { (-x, -1.0) } else { (x, 1.0) })
}

fn one(reward: Reward) -> Vec<RewardTerm> {
    vec![RewardTerm::new(reward, 1.0)]
}

fn usable(engine: &Engine) {
    assert_eq!(engine.generate(&climbing(one(blue()), 1)).unwrap().images.to_f32().len(), 3 * 1024);
}

#[test]
fn deadlines() {
    let none = with(climbing(one(blue()), 100_000), |o| o.deadline = Some(Duration::ZERO));
    let done = fixture().generate(&none).unwrap();
    assert_eq!((course(&done).iterations.len(), course(&done).ended), (0, "deadline"));
    let plain = fixture().generate(&Request { optimize: None, ..none }).unwrap();
    assert!(plain.tokens == done.tokens);

    // Preparing takes several times as long under an emulated Windows.
    let limit = Duration::from_millis(if cfg!(windows) { 8000 } else { 1500 });
    let request = with(climbing(one(blue()), 100_000), |o| o.deadline = Some(limit));
    let began = Instant::now();
    let done = fresh_fixture().generate(&request).unwrap();
    let n = course(&done).iterations.len();
    println!("{n} iterates in {:?}", began.elapsed());
    assert!((1..=100_000).contains(&n) && course(&done).ended == "deadline");
    // A deadline that comes after the last step did not end anything.
    let request = with(climbing(one(blue()), 1), |o| o.deadline = Some(Duration::from_secs(3600)));
    assert_eq!(course(&fixture().generate(&request).unwrap()).ended, "steps");
}

/// Progress says Break at step k, for every k. With a callback the loop cannot run ahead of the thread that
/// waits, so it ends right there.
#[test]
fn cancelled_at_every_step() {
    let engine = fixture();
    let steps = 4;
    let whole = engine.generate(&climbing(one(host_blue()), steps)).unwrap();
    // Start embedding, five iterates, student, decoder.
    let total = 1 + (steps + 1) + 2;
    for k in 0..=total {
        let job = engine.submit(&climbing(one(host_blue()), steps)).unwrap();
        let waited = job.wait(None, |p| {
            assert_eq!(p.total, total);
            assert!(p.step <= total);
            if p.step >= k { Break(()) } else { Continue(()) }
        });
        let result = job.result();
        println!("{k}: {:?}, {:?}", waited.as_ref().map(|_| ()), result.as_ref().map(|r| course(r).ended));
        match waited {
            // The last step may be over before the word is heard.
            Ok(_) => assert!(k >= total - 1 && job.phase() == Phase::Done),
            Err(Error::Cancelled) => {
                assert_eq!(job.phase(), Phase::Cancelled);
                match result {
                    Ok(best) => {
                        assert_eq!(best.images.to_f32().len(), 3 * 1024);
                        let n = course(&best).iterations.len();
                        if k <= steps + 1 {
                            assert_eq!(n, k.saturating_sub(1) as usize);
                        }
                        assert_eq!(totals(&best, 0), totals(&whole, 0)[..n]);
                        assert_eq!(best.report.batch, 1);
                    }
                    // Before the first iterate there is nothing to show.
                    Err(Error::Cancelled) => assert!(k <= 1),
                    Err(e) => panic!("{k}: {e}"),
                }
            }
            Err(e) => panic!("{k}: {e}"),
        }
        usable(engine);
    }
}

/// The same without a callback and with the gap report: the cancel may come at any point of an iterate.
#[test]
fn cancelled_anywhere() {
    let engine = fixture();
    for k in 2..8 {
        let request = with(climbing(one(blue()), 100_000), |o| o.report_gap = true);
        let job = engine.submit(&request).unwrap();
        let waited = job.wait(None, |p| if p.step >= k { Break(()) } else { Continue(()) });
        assert!(matches!(waited, Err(Error::Cancelled)));
        let best = job.result().unwrap();
        assert_eq!(course(&best).ended, "cancelled");
        assert!(course(&best).iterations.len() + 1 >= k as usize);
        assert_eq!(best.picture(0).unwrap().len(), 3 * 1024);
    }
    usable(engine);
}

/// Dropping a job whose callback nobody will answer returns; waiting for the answer would be for ever.
#[test]
fn dropped_while_a_callback_is_pending() {
    let engine = fixture();
    engine.generate(&climbing(one(host_blue()), 0)).unwrap();
    let job = engine.submit(&climbing(one(host_blue()), 10)).unwrap();
    while job.progress().step < 1 {
        std::thread::yield_now();
    }
    std::thread::sleep(Duration::from_millis(300));
    drop(job);
    usable(engine);
}

#[test]
fn stopped_by_the_callback() {
    let engine = fixture();
    for k in 0..4 {
        let mut calls = 0;
        let stop = Reward::callback(move |_, answer| {
            calls += 1;
            answer.scores.fill(calls as f32);
            if calls > k { Break(()) } else { Continue(()) }
        });
        let job = engine.submit(&climbing(one(stop), 10)).unwrap();
        assert!(matches!(job.wait(None, |_| Continue(())), Err(Error::Cancelled)));
        let best = job.result().unwrap();
        assert_eq!((course(&best).iterations.len(), course(&best).ended), (k, "stopped by the callback"));
        assert_eq!(course(&best).best_step[0] as usize, k.saturating_sub(1));
        assert_eq!(best.picture(0).unwrap().len(), 3 * 1024);
    }
    usable(engine);
}

/// No callback is called after a cancel, and none on another thread than the one that waits.
#[test]
fn callbacks_stay_on_the_waiting_thread() {
    let threads: Arc<Mutex<Vec<ThreadId>>> = Arc::default();
    let seen = threads.clone();
    let reward = Reward::callback(move |_, answer| {
        seen.lock().unwrap().push(std::thread::current().id());
        answer.scores.fill(0.0);
        Continue(())
    });
    let job = fixture().submit(&climbing(one(reward), 3)).unwrap();
    // Nobody waits: the job stands still.
    while job.phase() != Phase::Waiting {
        std::thread::yield_now();
    }
    std::thread::sleep(Duration::from_millis(200));
    assert!(job.waiting().unwrap() >= Duration::from_millis(200));
    assert!(threads.lock().unwrap().is_empty() && job.phase() == Phase::Waiting);
    job.wait(None, |_| Continue(())).unwrap();
    assert_eq!(*threads.lock().unwrap(), vec![std::thread::current().id(); 4]);

    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let reward = Reward::callback(move |_, answer| {
        count.fetch_add(1, Ordering::SeqCst);
        answer.scores.fill(0.0);
        Continue(())
    });
    let job = fixture().submit(&climbing(one(reward), 3)).unwrap();
    while job.progress().step < 1 {
        std::thread::yield_now();
    }
    std::thread::sleep(Duration::from_millis(200));
    job.cancel();
    assert!(matches!(job.wait(None, |_| Continue(())), Err(Error::Cancelled)));
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}

/// A reward or gradient that is not finite ends the climb of that picture; what was reached is kept.
#[test]
fn not_finite() {
    for (bad_score, bad_gradient) in [(f32::NAN, 0.0), (0.0, f32::NAN), (f32::INFINITY, 0.0)] {
        for k in 0..3usize {
            for everywhere in [true, false] {
                let mut calls = 0;
                let reward = Reward::callback(move |image, answer| {
                    let values = 3 * image.width * image.height;
                    answer.scores.fill(calls as f32);
                    answer.gradient.fill(1e-4);
                    if calls >= k {
                        let n = if everywhere { 2 } else { 1 };
                        answer.scores[..n].iter_mut().for_each(|s| *s += bad_score);
                        answer.gradient[..n * values].iter_mut().for_each(|g| *g += bad_gradient);
                    }
                    calls += 1;
                    Continue(())
                });
                let done = fixture().generate(&climbing(one(reward), 4).with_batch(2));
                if everywhere && k == 0 {
                    let error = done.unwrap_err().to_string();
                    assert!(error.starts_with("reward callback: expected finite numbers, found "), "{error}");
                    continue;
                }
                let done = done.unwrap();
                let (best, n) = (&course(&done).best_step, course(&done).iterations.len());
                let ended = if everywhere { "not finite" } else { "steps" };
                assert_eq!(course(&done).ended, ended, "{bad_score} {bad_gradient} {k}");
                assert_eq!(n, if everywhere { k + 1 } else { 5 });
                if !bad_score.is_finite() {
                    assert_eq!(best[0] as usize, k.saturating_sub(1));
                }
                if !everywhere {
                    assert_eq!(best[1], 4, "the other picture goes on");
                }
                assert!(done.images.to_f32().iter().all(|x| x.is_finite()));
                assert!(done.picture_e_in(0).unwrap().iter().all(|x| x.is_finite()));
                assert!(done.report.json().contains("\"ended\":"));
            }
        }
    }
}

#[test]
fn a_panicking_callback_is_an_error() {
    let engine = fresh_fixture();
    for k in [0, 2] {
        let mut calls = 0;
        let reward = Arc::new(Reward::callback(move |_, answer| {
            calls += 1;
            assert!(calls <= k, "a panic of the host's own");
            answer.scores.fill(0.0);
            Continue(())
        }));
        let terms = vec![RewardTerm { reward, weight: 1.0 }];
        let error = engine.generate(&climbing(terms.clone(), 5)).unwrap_err();
        assert!(error.to_string().contains("the reward callback panicked"), "{error}");
        // The reward and the engine survive.
        assert!(engine.generate(&climbing(terms, 5)).is_err());
        usable(&engine);
    }
}

#[test]
fn bad_settings_name_their_field() {
    let bare = {
        let folder = tempfile::tempdir().unwrap();
        Engine::open(
            maskbit::converted(&maskbit::student(), &folder.path().join("student")),
            Options::default(),
        )
        .unwrap()
    };
    let refused = |engine: &Engine, request: Request, words: &str| {
        let error = engine.generate(&request).unwrap_err();
        assert!(error.to_string().contains(words), "expected '{words}', found '{error}'");
        assert!(matches!(error, Error::InvalidArgument { .. } | Error::Unsupported { .. }), "{error:?}");
    };
    let engine = fixture();
    let terms = |terms: Vec<RewardTerm>, words: &str| refused(engine, climbing(terms, 1), words);
    terms(vec![], "optimize.terms");
    terms(vec![one(host_blue()).remove(0), one(host_blue()).remove(0)], "optimize.terms");
    for weight in [f32::NAN, f32::INFINITY, -1e10] {
        terms(vec![RewardTerm::new(blue(), weight)], "reward weight");
    }
    terms(one(Reward::Target { target: vec![0.0; 3 * 1024 - 1], mask: None }), "reward target");
    terms(one(Reward::Target { target: vec![f32::NAN; 3 * 1024], mask: None }), "reward target");
    terms(one(Reward::Color { rgb: [0.0, f32::NAN, 0.0], mask: None }), "reward color");
    for mask in [vec![1.0; 3], vec![0.0; 1024], vec![f32::NAN; 1024], vec![f32::MAX; 1024]] {
        terms(one(Reward::Color { rgb: [1.0; 3], mask: Some(mask) }), "reward mask");
    }
    let mut mask = vec![1.0; 1024];
    mask[77] = -1.0;
    terms(one(Reward::Target { target: vec![0.0; 3 * 1024], mask: Some(mask) }), "reward mask");
    refused(&bare, climbing(one(Reward::Prior { seed: 0 }), 1), "the prior reward");

    let good = || climbing(one(blue()), 1);
    let setting = |words: &str, change: &dyn Fn(&mut Optimize)| refused(engine, with(good(), change), words);
    setting("optimize.steps", &|o| o.steps = 100_001);
    for bad in [f32::NAN, -0.5, f32::INFINITY] {
        setting("optimize.lr", &|o| o.lr = bad);
        setting("optimize.clip", &|o| o.clip = bad);
        setting("optimize.norm_regularizer", &|o| o.norm_regularizer = bad);
        setting("optimize.momentum", &|o| o.optimizer = Optimizer::Sgd { momentum: bad });
    }
    setting("optimize.momentum", &|o| o.optimizer = Optimizer::Sgd { momentum: 1.0 });
    let adam =
        |beta1, beta2, eps| move |o: &mut Optimize| o.optimizer = Optimizer::Adam { beta1, beta2, eps };
    setting("optimize.beta1", &adam(1.0, 0.9, 1e-8));
    setting("optimize.beta2", &adam(0.9, f32::NAN, 1e-8));
    setting("optimize.eps", &adam(0.9, 0.9, 0.0));
    setting("optimize.norm_regularizer", &|o| o.norm_regularizer = 0.1);
    let variables = |embedding, noise, class| {
        move |o: &mut Optimize| {
            o.variables = Variables { embedding, noise, class };
        }
    };
    setting("optimize.variables", &variables(false, false, false));
    setting("optimize.variables", &variables(true, true, false));
    let quiet = Request { sigma: Some(0.0), ..with(good(), variables(false, true, false)) };
    refused(engine, quiet, "sigma");
    let given = Request { e_in: Some(vec![0.0; 64 * 48]), ..with(good(), variables(false, true, false)) };
    refused(engine, given, "the noise of a given start embedding");
    refused(engine, Request { steps: 8, ..good() }, "optimisation with steps > 1");
    usable(engine);
}

/// Soft decoding and the gap report go with optimisation.
#[test]
fn decodings() {
    let request = with(climbing(one(blue()), 3), |o| o.report_gap = true);
    let soft = Request { decode: Decode::Soft, report_gap: true, ..request };
    let done = fixture().generate(&soft).unwrap();
    assert!(done.report.soft_hard_difference.is_some());
    for i in &course(&done).iterations {
        let gap = i.soft_hard_difference.as_ref().unwrap()[0];
        assert!((0.0..1.0).contains(&gap) && (0.0..=1.0).contains(&i.mean_max_probability[0]));
    }
    let best = totals(&done, 0)[course(&done).best_step[0] as usize];
    let (p, mean) = (done.picture(0).unwrap(), |c: &[f32]| c.iter().sum::<f32>() / 1024.0);
    let score = mean(&p[2048..]) - mean(&p[..1024]) - mean(&p[1024..2048]);
    assert!((score - best).abs() < 1e-4, "the soft picture is the one that was scored: {score} {best}");
}

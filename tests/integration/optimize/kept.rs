//! Sessions of an optimisation that are there for the next one.

use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::Arc;
use std::time::Duration;

use softdimo::{
    Decode, Engine, Error, Optimize, Optimizer, Options, Request, Reward, RewardModel, RewardTerm, Variables,
};
use support::rewards as official;

use super::{blue, climbing, course, fresh_fixture, ratchet, with};

/// Names of the sessions that were prepared since the last call.
fn prepared(engine: &Engine) -> Vec<String> {
    let log = engine.take_log().into_iter();
    log.filter_map(|(_, text)| Some(text.strip_prefix("prepared '")?.split_once('\'')?.0.to_string()))
        .collect()
}

fn red() -> Reward {
    Reward::Color { rgb: [1.0, -0.5, -0.5], mask: Some((0..32 * 32).map(|i| (i % 3) as f32).collect()) }
}

fn target(value: f32) -> Reward {
    Reward::Target { target: vec![value; 3 * 32 * 32], mask: None }
}

/// What shapes no graph prepares nothing, and is heeded; what does prepares anew, and both stay.
#[test]
fn requests_of_one_shape_share_their_sessions() {
    // With threads only so many sessions would be kept.
    let folder = tempfile::tempdir().unwrap();
    let path = support::maskbit::model(folder.path());
    let open = || Engine::open(&path, Options { threads: 1, ..Options::default() }).unwrap();
    let engine = open();
    let weighted = |reward: Reward, weight: f32| vec![RewardTerm::new(reward, weight)];
    let first = climbing(weighted(blue(), 1.0), 3);
    let alone = |request: &Request| open().generate(request).unwrap();
    engine.generate(&first).unwrap();
    assert!(prepared(&engine).contains(&"optimize".to_string()));

    let changed = |change: &dyn Fn(&mut Optimize)| with(climbing(weighted(red(), -0.7), 5), change);
    for request in [
        first.clone(),
        changed(&|_| ()),
        changed(&|o| o.lr = 1.5),
        changed(&|o| o.deadline = Some(Duration::from_secs(3600))),
        changed(&|_| ()).with_seed(77),
        Request { labels: vec![softdimo::Label::Class(7)], ..changed(&|_| ()) },
    ] {
        let again = engine.generate(&request).unwrap();
        assert_eq!(prepared(&engine), [""; 0], "{request:?}");
        let (again, alone) = (course(&again).clone(), course(&alone(&request)).clone());
        let numbers = |o: &softdimo::OptimizationReport| {
            o.iterations.iter().map(|i| (i.total.clone(), i.gradient_norm.clone())).collect::<Vec<_>>()
        };
        assert_eq!(numbers(&again), numbers(&alone), "the same as on an engine of its own");
    }
    let before = engine.memory().unwrap().sessions;
    for (request, shaped) in [
        (changed(&|o| o.optimizer = Optimizer::ADAM), vec!["optimize"]),
        (changed(&|o| o.clip = 0.1), vec!["optimize"]),
        (changed(&|o| o.clip = 0.01), vec![]),
        (changed(&|o| o.recompute = true), vec!["optimize"]),
        (changed(&|o| o.report_gap = true), vec!["optimize"]),
        (climbing(vec![RewardTerm::new(target(0.5), 1.0)], 1), vec!["optimize"]),
        (climbing(vec![RewardTerm::new(target(0.1), 3.0)], 1), vec![]),
        (
            with(climbing(weighted(blue(), 1.0), 1), |o| {
                o.variables = Variables { class: true, ..o.variables }
            }),
            vec!["best", "optimize"],
        ),
        (climbing(vec![ratchet()], 1), vec!["forward", "optimize"]),
        (climbing(vec![ratchet()], 2), vec![]),
        (first.clone(), vec![]),
    ] {
        engine.generate(&request).unwrap();
        assert_eq!(prepared(&engine), shaped, "{request:?}");
    }
    assert_eq!(engine.memory().unwrap().sessions, before + 9);

    // Another batch is another shape of everything.
    engine.generate(&first.clone().with_batch(2)).unwrap();
    assert!(prepared(&engine).iter().any(|name| name == "optimize"));
    engine.trim().unwrap();
    let memory = engine.memory().unwrap();
    assert_eq!((memory.sessions, memory.activations, memory.transient), (0, 0, 0));
    engine.generate(&first).unwrap();
    assert!(prepared(&engine).iter().any(|name| name == "optimize"), "trimmed");
}

/// Shapes are any number, and those that are kept are not.
#[test]
fn the_last_shapes_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { threads: 1, ..Options::default() };
    let engine = Engine::open(support::maskbit::model(folder.path()), options).unwrap();
    let request = |bins: usize| {
        let histogram = vec![1.0 / bins as f32; 3 * bins];
        climbing(vec![RewardTerm::new(Reward::Histogram { histogram, mask: None }, 1.0)], 1)
    };
    let mut sessions = Vec::new();
    for bins in 2..16 {
        engine.generate(&request(bins)).unwrap();
        sessions.push(engine.memory().unwrap().sessions);
    }
    assert_eq!(sessions[7], sessions[0] + 7, "{sessions:?}");
    assert!(sessions[8..].iter().all(|n| *n == sessions[7]), "{sessions:?}");
    prepared(&engine);
    for (bins, again) in [(15, vec![]), (8, vec![]), (7, vec!["optimize"])] {
        engine.generate(&request(bins)).unwrap();
        assert_eq!(prepared(&engine), again, "{bins} bins");
    }
}

/// The memory limit counts what is kept, and drops what was used longest ago.
#[test]
fn kept_sessions_count_against_the_limit() {
    let open = |memory_limit| {
        let options = Options { memory_limit, ..Options::default() };
        Engine::open(support::bundled(), options).unwrap()
    };
    let request = climbing(vec![RewardTerm::new(blue(), 1.0)], 1);
    let free = open(0);
    free.generate(&request).unwrap();
    let used = free.memory().unwrap();
    let held = used.weights + used.activations + used.transient;
    assert!(used.sessions >= 6, "{used:?}");

    let tight = open(held + held / 2);
    for batch in [1, 2, 3, 4, 1] {
        tight.generate(&request.clone().with_batch(batch)).map(drop).or_else(refused).unwrap();
        let used = tight.memory().unwrap();
        assert!(
            used.weights + used.activations + used.transient <= held + held / 2,
            "{used:?}, batch {batch}"
        );
    }
    assert!(tight.take_log().iter().any(|(_, text)| text.starts_with("dropped 'optimize'")));
}

fn refused(e: Error) -> Result<(), Error> {
    match e {
        Error::OutOfMemory { .. } | Error::Budget { .. } => Ok(()),
        other => Err(other),
    }
}

/// What a request needs is prepared: its first job prepares nothing. The progress comes to its end, and a break ends it.
#[test]
fn a_warm_up_prepares_all_that_a_request_needs() {
    let callback = vec![ratchet(), RewardTerm::new(Reward::Prior { seed: 3 }, 0.1)];
    let plain = Request::class(3).with_seed(5);
    for request in [
        plain.clone(),
        Request { decode: Decode::Soft, report_gap: true, ..plain.clone() },
        Request { steps: 4, ..plain.clone() },
        Request { steps: 4, guidance_scale: Some(0.0), ..plain.clone().with_batch(3) },
        climbing(callback, 2).with_batch(2),
        with(climbing(vec![RewardTerm::new(red(), 1.0)], 2), |o| {
            o.variables = Variables { embedding: false, noise: true, class: true };
            o.optimizer = Optimizer::ADAM;
        }),
    ] {
        let engine = fresh_fixture();
        let mut told = Vec::new();
        let progress = |p: softdimo::Progress| {
            told.push((p.step, p.total));
            Continue(())
        };
        engine.warmup_request(&request, progress).unwrap();
        assert!(!prepared(&engine).is_empty());
        assert!(told.iter().all(|(step, total)| step <= total), "{told:?}");
        let sessions = engine.memory().unwrap().sessions;
        engine.generate(&request).unwrap();
        assert_eq!(prepared(&engine), [""; 0], "{request:?}");
        assert_eq!(engine.memory().unwrap().sessions, sessions, "nothing more than it needs");

        let engine = fresh_fixture();
        let ended = engine.warmup_request(&request, |_| Break(()));
        assert!(matches!(ended, Err(Error::Cancelled)), "{ended:?}");
        engine.generate(&request).unwrap();
    }
    let engine = fresh_fixture();
    let refused = engine.warmup_request(&Request { steps: 10_001, ..plain }, |_| Continue(()));
    assert!(matches!(refused, Err(Error::InvalidArgument { .. })), "{refused:?}");
}

/// A job without time for an iterate leaves the step under way: the next ones find it.
#[test]
fn what_a_late_job_prepares_is_there_for_the_next() {
    let engine = fresh_fixture();
    let whole = climbing(vec![RewardTerm::new(blue(), 1.0)], 2);
    let late = with(whole.clone(), |o| o.deadline = Some(Duration::from_millis(1)));
    let done = engine.generate(&late).unwrap();
    assert_eq!((course(&done).iterations.len(), course(&done).ended), (0, "deadline"));
    assert_eq!(done.tokens, engine.generate(&Request { optimize: None, ..late.clone() }).unwrap().tokens);
    // No other job prepares it.
    let mut names = prepared(&engine);
    for _ in 0..2000 {
        if names.iter().any(|name| name == "optimize") {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
        engine.memory().unwrap();
        names.extend(prepared(&engine));
    }
    let step = names.iter().filter(|name| *name == "optimize").count();
    assert!(step <= 1, "{names:?}");
    engine.generate(&whole).unwrap();
    names.extend(prepared(&engine));
    assert_eq!(names.iter().filter(|name| *name == "optimize").count(), 1, "{names:?}");
}

/// A reward file is let go of when nobody has it open, whatever was kept, and whoever of two engines did.
#[test]
fn closed_reward_files_are_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = official::convert(&official::aesthetic().source, folder.path(), "aesthetic");
    let engines = [0, 1].map(|_| Engine::open(support::bundled(), Options::default()).unwrap());
    let own = engines[0].model().mapping().bytes().len() as u64;
    let model = Arc::new(RewardModel::open(&path, softdimo::WeightsMode::Map).unwrap());
    let request = |model: &Arc<RewardModel>, steps| {
        climbing(vec![RewardTerm::new(Reward::network(model.clone(), None).unwrap(), 1.0)], steps)
    };
    let sessions = engines.each_ref().map(|engine| {
        engine.generate(&climbing(vec![RewardTerm::new(blue(), 1.0)], 1)).unwrap();
        engine.memory().unwrap().sessions
    });
    for engine in &engines {
        engine.generate(&request(&model, 1)).unwrap();
        prepared(engine);
        engine.generate(&request(&model, 2)).unwrap();
        assert_eq!(prepared(engine), [""; 0]);
        assert!(engine.memory().unwrap().mapped > own);
    }
    let alive = Arc::downgrade(&model);
    drop(model);
    assert!(alive.upgrade().is_none());
    for (engine, sessions) in engines.iter().zip(sessions) {
        let memory = engine.memory().unwrap();
        assert_eq!((memory.mapped, memory.sessions), (own, sessions));
        engine.generate(&climbing(vec![RewardTerm::new(blue(), 1.0)], 1)).unwrap();
    }
}

/// Answers that are none end the climb: with what was found before, and a warning in the report and the log.
#[test]
fn an_answer_that_is_none_keeps_what_was_found() {
    let judged = |bad: fn(&mut softdimo::RewardAnswer), from: u32| {
        let mut calls = 0;
        let reward = Reward::callback(move |_, answer| {
            calls += 1;
            match calls > from {
                true => bad(answer),
                false => {
                    answer.scores.fill(calls as f32);
                    answer.gradient.fill(0.1);
                }
            }
            ControlFlow::Continue(())
        });
        climbing(vec![RewardTerm::new(reward, 1.0)], 9)
    };
    let nan: fn(&mut softdimo::RewardAnswer) = |answer| answer.scores.fill(f32::NAN);
    let nothing: fn(&mut softdimo::RewardAnswer) = |_| ();
    let engine = fresh_fixture();
    for (bad, words) in
        [(nan, "expected finite numbers"), (nothing, "expected a score for each picture, found none written")]
    {
        let failed = engine.generate(&judged(bad, 0)).unwrap_err().to_string();
        assert!(failed.contains(words.split(" for ").next().unwrap()), "{failed}");
        engine.take_log();
        let done = engine.generate(&judged(bad, 3)).unwrap();
        assert_eq!(course(&done).best_step, [2]);
        let told =
            |texts: &[String]| texts.iter().any(|text| text.contains(words) && text.contains("best iterate"));
        assert!(told(&done.report.warnings), "{:?}", done.report.warnings);
        let log: Vec<_> = engine.take_log().into_iter().map(|(_, text)| text).collect();
        assert!(told(&log), "{log:?}");
    }
}

//! What ends while sessions are prepared: a network so deep that this takes seconds.

use std::ops::ControlFlow::Continue;
use std::time::{Duration, Instant};

use softdimo::{Engine, Error, Job, Options, Phase, Request, RewardTerm};
use support::maskbit;

use super::{blue, climbing, course, with};

#[test]
fn preparing_ends_with_its_job() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::open(maskbit::deep(folder.path(), 90), Options::default()).unwrap();
    // The one-step picture alone first: what is measured is the step of an optimisation.
    let plain = engine.generate(&Request::class(3).with_seed(5)).unwrap();
    let request = climbing(vec![RewardTerm::new(blue(), 1.0)], 2);
    let began = Instant::now();
    let whole = engine.generate(&request).unwrap();
    let mut preparing = began.elapsed()
        - Duration::from_secs_f64(
            course(&whole).iterations.iter().map(|i| i.milliseconds).sum::<f64>() / 1e3,
        );
    println!("90 layers: prepared and made in {preparing:?}");

    for share in [0.1, 0.5, 0.9] {
        let job = being_prepared(&engine, &request, share, &mut preparing);
        let began = Instant::now();
        job.cancel();
        assert_eq!(job.phase(), Phase::Cancelled);
        assert!(matches!(job.wait(None, |_| Continue(())), Err(Error::Cancelled)));
        let ended = began.elapsed();
        engine.memory().unwrap();
        println!("cancelled at {share}: ended after {ended:?}, the engine works after {:?}", began.elapsed());
        assert!(ended < Duration::from_millis(50));
        assert!(began.elapsed() < preparing / 2, "{:?}", began.elapsed());
    }

    // Out of time before there is an iterate: the picture of the start. What had begun is finished, and found.
    engine.trim().unwrap();
    engine.warmup(1).unwrap();
    let limit = preparing / 4;
    let began = Instant::now();
    let late = engine.generate(&with(request.clone(), |o| o.deadline = Some(limit))).unwrap();
    println!("deadline {limit:?}: done after {:?}", began.elapsed());
    assert_eq!((course(&late).iterations.len(), course(&late).ended), (0, "deadline"));
    assert_eq!(late.tokens, plain.tokens);
    // What was left behind is over when the engine is gone, and an engine that was not freed works on.
    assert_eq!(engine.generate(&request).unwrap().tokens, whole.tokens);
}

/// A job whose sessions are prepared since `share` of `preparing`. What took `preparing` beside other tests may be
/// over sooner without them: then it is measured anew.
fn being_prepared(engine: &Engine, request: &Request, share: f64, preparing: &mut Duration) -> Job {
    for _ in 0..5 {
        engine.trim().unwrap();
        engine.warmup(1).unwrap();
        let began = Instant::now();
        let job = engine.submit(request).unwrap();
        while began.elapsed() < preparing.mul_f64(share) && job.phase() != Phase::Done {
            std::thread::sleep(Duration::from_millis(1));
        }
        match job.phase() {
            Phase::Done => *preparing = began.elapsed(),
            _ => return job,
        }
    }
    panic!("five times done before {share} of {preparing:?}");
}

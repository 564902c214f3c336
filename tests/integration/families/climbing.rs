//! What optimisation must do on the tiny model of any text-to-image family. Requests carry the prompt and the seed.

use softdimo::{Engine, Generated, Optimize, Request, Reward, RewardTerm};

fn climb(engine: &Engine, request: &Request, reward: Reward, settings: impl Fn(&mut Optimize)) -> Generated {
    let mut optimize = Optimize::new(vec![RewardTerm::new(reward, 1.0)], 0);
    settings(&mut optimize);
    (*engine.generate(&Request { optimize: Some(optimize), ..request.clone() }).unwrap()).clone()
}

fn totals(done: &Generated) -> Vec<f32> {
    done.report.optimization.as_ref().unwrap().iterations.iter().map(|i| i.total[0]).collect()
}

fn blue() -> Reward {
    Reward::Color { rgb: [-1.0, -1.0, 1.0], mask: None }
}

fn best(totals: &[f32]) -> f32 {
    totals.iter().copied().fold(f32::MIN, f32::max)
}

/// The gradient through text-conditioned student and decoder is the slope of the reward along it, for the embedding
/// and for the prompt's features: a step of length h climbs h·‖g‖ to first order.
pub fn the_gradient_is_the_slope(engine: &Engine, request: &Request, h: f32) {
    for class in [false, true] {
        let run = |lr: f32, steps: u32| {
            climb(engine, request, blue(), |o| {
                (o.lr, o.steps) = (lr, steps);
                (o.variables.class, o.variables.embedding) = (class, !class);
            })
        };
        let start = run(1.0, 0);
        let norm = start.report.optimization.as_ref().unwrap().iterations[0].gradient_norm[0];
        let up = totals(&run(h / norm, 1));
        let slope = (up[1] - up[0]) / h;
        println!("class {class}: {slope:.5} along the gradient, whose norm is {norm:.5}");
        assert!(norm > 0.0 && (slope / norm - 1.0).abs() < 0.1, "class {class}: {slope} is not {norm}");
        let course = totals(&run(1.0 / norm, 4));
        assert!(best(&course) > course[0], "class {class}: {course:?}");
    }
}

/// Computing a block's activations again for its gradient changes memory, not the course.
pub fn recomputation_does_not_change_the_course(engine: &Engine, request: &Request, lr: f32) {
    let run = |recompute| {
        totals(&climb(engine, request, blue(), |o| (o.lr, o.steps, o.recompute) = (lr, 3, recompute)))
    };
    for (again, plain) in run(true).iter().zip(run(false)) {
        assert!((again - plain).abs() <= 1e-5, "{again} is not {plain}");
    }
}

/// The prior reads soft tokens, hidden ones masked, with the teacher under the prompt: its gradient is uphill.
pub fn the_prior_climbs(engine: &Engine, request: &Request) {
    let prior = Reward::Prior { seed: 1 };
    let course = totals(&climb(engine, request, prior, |o| (o.lr, o.steps) = (0.5, 6)));
    println!("{course:?}");
    assert!(course.iter().all(|t| *t <= 0.0) && best(&course) > course[0], "{course:?}");
}

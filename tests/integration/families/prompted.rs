//! What the pipelines must do on the tiny model of any text-to-image family.

use softdimo::{Edit, Engine, Generated, Keep, LogLevel, Request};
use support::compare::assert_close;
use support::{prompt, tokens};

fn generate(engine: &Engine, request: &Request) -> Generated {
    (*engine.generate(request).unwrap()).clone()
}

/// `apple` is "a red apple" with seed 7.
pub fn pictures_of_a_batch_are_those_made_alone(engine: &Engine, apple: &Generated) {
    let both = Request {
        prompts: vec!["a blue dog".into(), "a red apple".into()],
        batch: 2,
        ..Request::default().with_seed(6)
    };
    let both = generate(engine, &both);
    assert_eq!(both.picture_tokens(1).unwrap(), tokens(apple));
    assert_close(both.picture(1).unwrap(), &apple.images.to_f32(), 1e-4, "picture of a batch");
}

/// After a warm-up the first pictures prepare nothing, the text encoder included. A fresh engine.
pub fn a_warm_engine_prepares_nothing_more(engine: &Engine) {
    let prepared = || engine.take_log().iter().filter(|(_, text)| text.starts_with("prepared")).count();
    engine.warmup(2).unwrap();
    assert!(prepared() >= 4);
    generate(engine, &Request { batch: 2, ..prompt("a red apple") });
    assert_eq!(prepared(), 0);
}

/// Starts from a picture.
pub fn edit(image: &[f32], keep: Keep) -> Request {
    Request { edit: Some(Edit { image: image.to_vec(), keep }), ..prompt("a red apple").with_seed(8) }
}

/// Keeping all of a picture is the tokenizer's reconstruction, which is given back, keeping nothing is plain generation.
pub fn edits_keep_all_half_or_nothing(engine: &Engine, image: &[f32], known: &[u32]) -> Generated {
    assert_eq!(engine.encode(image).unwrap(), known);
    let none = generate(engine, &edit(image, Keep::Share(0.0)));
    let plain = generate(engine, &prompt("a red apple").with_seed(8));
    assert_eq!((tokens(&none), none.images.to_f32()), (tokens(&plain), plain.images.to_f32()));
    let half = generate(engine, &edit(image, Keep::Share(0.5)));
    assert_eq!(half.report.kept_tokens, Some(vec![known.len() / 2]));
    let all = generate(engine, &edit(image, Keep::Share(1.0)));
    assert_eq!(tokens(&all), known);
    all
}

/// The teacher unmasks everything; prompt, guidance, what it leads away from, and the seed decide. Its request.
pub fn the_teacher_samples(engine: &Engine, codes: u32) -> Request {
    let request = Request { steps: 4, batch: 2, ..prompt("a red apple").with_seed(3) };
    let done = generate(engine, &request);
    assert!(tokens(&done).iter().all(|&t| t < codes));
    assert_eq!(done.report.guidance_scale, Some(9.0));
    assert_eq!(tokens(&done), tokens(&generate(engine, &request)));
    for other in [
        Request { guidance_scale: Some(0.0), ..request.clone() },
        Request { negative_prompt: Some("a blue dog".into()), ..request.clone() },
        Request { prompts: vec!["a blue dog".into()], ..request.clone() },
        request.clone().with_seed(5),
    ] {
        assert_ne!(tokens(&done), tokens(&generate(engine, &other)), "{other:?}");
    }
    request
}

/// What is cut off a prompt, and what a job of one step leaves aside, is in its report and in the log.
pub fn what_is_not_read_is_told(engine: &Engine) {
    let warnings = |request: &Request| {
        engine.take_log();
        let report = generate(engine, request).report;
        let logged = engine.take_log().into_iter().filter(|(level, _)| *level == LogLevel::Warning);
        assert_eq!(logged.map(|(_, text)| text).collect::<Vec<_>>(), report.warnings);
        report.warnings
    };
    let room = engine.model().architecture().text().unwrap().context_length - 2;
    assert!(warnings(&prompt(&"dog ".repeat(room))).is_empty());
    let long = format!("{} dogs in a red barn", "dog ".repeat(room - 1));
    let [warning] = &warnings(&prompt(&long))[..] else { panic!("one warning") };
    let told = format!("tokens, of which {room} are read; not used: \"");
    assert!(warning.starts_with("prompt \"dog dog") && warning.contains(&told), "{warning}");
    assert!(warning.ends_with("in a red barn\"") && warning.len() < 300, "{warning}");
    let negative = Request { negative_prompt: Some("a blue dog".into()), ..prompt("a red apple") };
    assert_eq!(
        warnings(&negative),
        ["negative_prompt is not used: only the multi-step sampler reads it (steps > 1)"]
    );
    assert!(warnings(&Request { steps: 2, ..negative }).is_empty());
}

//! Editing: a picture's tokens, variations and inpainting, on the bundled model. What is kept is kept to the bit,
//! what is not is what plain generation makes.

use softdimo::{Decode, Edit, Engine, Keep, Options, Request};
use support::bundled;

fn engine() -> Engine {
    Engine::open(bundled(), Options::default()).unwrap()
}

/// A picture of the model's own, as one would load it.
fn picture(engine: &Engine) -> Vec<f32> {
    let done = engine.generate(&Request::label("snowman").with_seed(4)).unwrap();
    done.picture(0).unwrap().iter().map(|v| v.clamp(0.0, 1.0)).collect()
}

fn edited(request: Request, image: &[f32], keep: Keep) -> Request {
    Request { edit: Some(Edit { image: image.to_vec(), keep }), ..request }
}

/// A mask [32, 32] over the left half.
fn left_half() -> Vec<f32> {
    (0..32 * 32).map(|i| if i % 32 < 16 { 1.0 } else { 0.0 }).collect()
}

#[test]
fn all_kept_is_the_reconstruction_and_none_kept_is_plain_generation() {
    let engine = engine();
    let image = picture(&engine);
    let tokens = engine.encode(&image).unwrap();
    assert_eq!(tokens.len(), 128);
    // The picture of those tokens: the start tokens of a request whose every token is kept.
    for steps in [1, 4] {
        let plain = Request { steps, ..Request::label("rocket").with_seed(9).with_batch(2) };
        let all = engine.generate(&edited(plain.clone(), &image, Keep::Share(1.0))).unwrap();
        let none = engine.generate(&edited(plain.clone(), &image, Keep::Share(0.0))).unwrap();
        let outside =
            engine.generate(&edited(plain.clone(), &image, Keep::Outside(vec![1.0; 1024]))).unwrap();
        let inside = engine.generate(&edited(plain.clone(), &image, Keep::Outside(vec![0.0; 1024]))).unwrap();
        let plain = engine.generate(&plain).unwrap();
        for picture in 0..2 {
            assert_eq!(all.picture_tokens(picture).unwrap(), tokens, "{steps} steps");
            assert_eq!(inside.picture_tokens(picture).unwrap(), tokens, "{steps} steps");
            assert_eq!(none.picture(picture).unwrap(), plain.picture(picture).unwrap(), "{steps} steps");
            assert_eq!(outside.picture(picture).unwrap(), plain.picture(picture).unwrap(), "{steps} steps");
        }
        assert_eq!(all.report.kept_tokens, Some(vec![128, 128]));
        assert_eq!(none.report.kept_tokens, Some(vec![0, 0]));

        // The reconstruction, decoded by hand.
        let model = engine.model().clone();
        let (g, w) = (softdimo::graph::Graph::new(), model.weights());
        let a = model.architecture();
        let ids: Vec<i64> = tokens.iter().map(|&t| i64::from(t)).collect();
        let ids = g.constant(softdimo::tensor::Tensor::from_i64([1, 64, 2], &ids)).unwrap();
        g.output("image", a.decode(&g, &w, a.hard_embedding(&g, &w, ids).unwrap(), None).unwrap());
        let decoded = engine.run_graph(g, Vec::new()).unwrap().remove(0).1.to_f32();
        let found = all.picture(0).unwrap();
        let worst = found.iter().zip(&decoded).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-5, "{worst}");
        // And it resembles the picture: the tokenizer is at home on its own pictures.
        let error = found.iter().zip(&image).map(|(a, b)| (a - b).abs()).sum::<f32>() / image.len() as f32;
        println!("mean absolute error of the reconstruction: {error}");
        assert!(error < 0.05, "{error}");
    }
}

#[test]
fn inpainting_keeps_what_lies_outside() {
    let engine = engine();
    let image = picture(&engine);
    let tokens = engine.encode(&image).unwrap();
    for steps in [1, 4] {
        let request = Request { steps, ..Request::label("pizza").with_seed(3) };
        let done = engine.generate(&edited(request, &image, Keep::Outside(left_half()))).unwrap();
        let found = done.picture_tokens(0).unwrap();
        let mut changed = 0;
        for slot in 0..128 {
            let column = slot / 2 % 8;
            match column < 4 {
                true => changed += u32::from(found[slot] != tokens[slot]),
                false => assert_eq!(found[slot], tokens[slot], "slot {slot}, {steps} steps"),
            }
        }
        assert!(changed > 16, "{changed} of 64 tokens changed in {steps} steps");
    }
}

#[test]
fn a_variation_keeps_its_share_and_varies_with_the_seed() {
    let engine = engine();
    let image = picture(&engine);
    let tokens = engine.encode(&image).unwrap();
    let request = Request::label("snowman").with_seed(20).with_batch(2);
    let done = engine.generate(&edited(request.clone(), &image, Keep::Share(0.5))).unwrap();
    let same = |i: usize| done.picture_tokens(i).unwrap().iter().zip(&tokens).filter(|(a, b)| a == b).count();
    assert!(same(0) >= 64 && same(1) >= 64);
    assert_ne!(done.picture_tokens(0).unwrap(), done.picture_tokens(1).unwrap());
    // Picture 1 of a batch is picture 0 of the next seed, edits included.
    let next = engine.generate(&edited(request.with_seed(21), &image, Keep::Share(0.5))).unwrap();
    assert_eq!(next.picture_tokens(0).unwrap(), done.picture_tokens(1).unwrap());
    // A soft picture is the student's own expectation everywhere; its report's tokens still are the known ones.
    let soft = Request { decode: Decode::Soft, ..Request::label("snowman").with_seed(20) };
    let soft = engine.generate(&edited(soft, &image, Keep::Share(1.0))).unwrap();
    assert_eq!(soft.picture_tokens(0).unwrap(), tokens);
}

#[test]
fn faults_are_named_and_the_engine_goes_on() {
    let engine = engine();
    let image = picture(&engine);
    let message = |request: &Request| engine.generate(request).unwrap_err().to_string();
    let plain = Request::label("dog");
    let short = Edit { image: vec![0.0; 7], keep: Keep::Share(0.5) };
    let short = Request { edit: Some(short), ..plain.clone() };
    assert_eq!(message(&short), "edit.image: expected 3072 floats for 32x32, found 7");
    let share = edited(plain.clone(), &image, Keep::Share(1.5));
    assert_eq!(message(&share), "edit.keep: expected 0 to 1, found 1.5");
    let mask = edited(plain.clone(), &image, Keep::Outside(vec![0.0; 5]));
    assert_eq!(message(&mask), "edit.mask: expected 1024 floats for 32x32, found 5");
    let both =
        Request { start_tokens: Some(vec![0; 128]), ..edited(plain.clone(), &image, Keep::Share(0.5)) };
    assert!(message(&both).starts_with("start_tokens: expected none with an edit"));
    assert_eq!(
        engine.encode(&[0.5; 3]).unwrap_err().to_string(),
        "image: expected 3072 floats for 32x32, found 3"
    );
    engine.generate(&plain).unwrap();
}

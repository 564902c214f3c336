//! The pipelines under a prompt: one step, edits, the teacher, and optimisation.

use std::sync::OnceLock;

use softdimo::families::condition::Condition;
use softdimo::program::Program;
use softdimo::tensor::Tensor;
use softdimo::{Decode, Engine, Generated, Keep, Options, Request};

use support::compare::assert_close;
use support::{meissonic as files, prompt, tokens};

use super::{Batch, climbing, prompted};

/// The model, for all tests together: they queue up on its worker.
fn model() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        Engine::open(files::model(folder.path()), Options::default()).unwrap()
    })
}

fn generate(request: &Request) -> Generated {
    (*model().generate(request).unwrap()).clone()
}

#[test]
fn a_warm_engine_prepares_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::open(files::model(folder.path()), Options::default()).unwrap();
    prompted::a_warm_engine_prepares_nothing_more(&engine);
    prompted::what_is_not_read_is_told(&engine);
}

fn refused(request: Request) -> String {
    model().generate(&request).unwrap_err().to_string()
}

/// The prompt, its case apart, decides with all micro conditions; pictures of a batch are those made alone.
#[test]
fn prompts_make_pictures() {
    let apple = generate(&prompt("a red apple").with_seed(7));
    assert!(tokens(&apple).iter().all(|&t| t < 48));
    assert_eq!(**apple.images.shape(), [1, 3, 8, 8]);
    assert_eq!(apple.report.prompts, ["a red apple"]);
    let soft = |request: &Request| {
        generate(&Request { decode: Decode::Soft, ..request.clone().with_seed(7) }).images.to_f32()
    };
    let expected = soft(&prompt("a red apple"));
    assert_eq!(expected, soft(&prompt("A  Red Apple")));
    for other in [
        prompt("a blue dog"),
        prompt(""),
        Request { aesthetic_score: Some(2.0), ..prompt("a red apple") },
        Request { original_size: Some([1024, 512]), ..prompt("a red apple") },
        Request { crop: Some([0, 50]), ..prompt("a red apple") },
        Request { crop: Some([50, 0]), ..prompt("a red apple") },
    ] {
        assert_ne!(soft(&other), expected, "{other:?}");
    }
    let defaults = Request {
        aesthetic_score: Some(6.0),
        original_size: Some([8, 8]),
        crop: Some([0, 0]),
        ..prompt("a red apple")
    };
    assert_eq!(soft(&defaults), expected);

    prompted::pictures_of_a_batch_are_those_made_alone(model(), &apple);
    assert!(refused(Request::class(3)).contains("conditioned on a prompt"));
}

/// Ids that are neither a code nor the mask have rows in the embedding and no meaning.
#[test]
fn start_tokens_are_codes_or_the_mask() {
    let start = |id: u32| Request { start_tokens: Some(vec![id; 16]), ..prompt("a red apple") };
    for id in [48, 54, 56, u32::MAX] {
        let expected = format!("start_tokens: expected ids 0 to 47, or 55 (the mask), found {id}");
        assert_eq!(refused(start(id)), expected);
    }
    for id in [0, 47, 55] {
        assert!(tokens(&generate(&start(id))).iter().all(|&t| t < 48));
    }
    // A start without chance: all masked, nothing perturbed.
    let none =
        Request { sigma: Some(0.0), mask_ratio: Some(1.0), temperature: Some(0.0), ..prompt("a red apple") };
    let masked = Request { start_tokens: Some(vec![55; 16]), ..none.clone() };
    assert_eq!(tokens(&generate(&none)), tokens(&generate(&masked)));
}

/// What a generator's program reads in a golden batch beside tokens or a start embedding.
fn condition(batch: &Batch) -> Vec<(String, Tensor)> {
    let b = batch.read("in/tokens").shape()[0];
    let timestep = batch.read("in/timestep").to_f32()[0];
    vec![
        (Condition::EMBEDDING.into(), batch.read("in/encoder_hidden_states")),
        (Condition::POOLED.into(), batch.read("in/pooled")),
        (Condition::MICRO.into(), batch.read("in/micro_conds")),
        (Condition::TIMESTEP.into(), Tensor::from_f32([b], &vec![timestep; b])),
    ]
}

/// The golden batches through the product's own programs: a student's, whose timestep is 0, and a teacher's.
#[test]
fn programs_make_the_golden_logits() {
    let (student, teacher) = (Batch::open("b0"), Batch::open("b1"));
    assert_eq!(["b0", "b1"].map(|b| Batch::open(b).read("in/timestep").to_f32()), [[0.0], [1.0]]);
    let run = |program: Program, b: usize, inputs: Vec<(String, Tensor)>| {
        let logits = model()
            .run_graph(
                program.graph(model().model().architecture(), &model().model().weights(), b).unwrap(),
                inputs,
            )
            .unwrap()
            .remove(0)
            .1;
        assert_eq!(**logits.shape(), [b, 16, 1, 48]);
        logits.to_f32()
    };
    let e_in = student.read("out/e_in").to_f32(); // [1, D, P, P]
    let (d, n) = (32, 16);
    let rows: Vec<f32> = (0..n * d).map(|i| e_in[i % d * n + i / d]).collect();
    let mut inputs = condition(&student);
    inputs.push(("e_in".into(), Tensor::from_f32([1, n, d], &rows)));
    let expected = student.read("out/logits").to_f32();
    assert_close(&run(Program::Student, 1, inputs), &expected, 1e-4, "student");

    let tokens = Tensor::from_i64([2, n, 1], &teacher.read("in/tokens").to_i64());
    let expected = teacher.read("out/logits_clean").to_f32();
    let told = |timestep: f32| {
        let mut inputs = condition(&teacher);
        inputs[3].1 = Tensor::from_f32([2], &[timestep; 2]);
        inputs.push(("tokens".into(), tokens.clone()));
        run(Program::Teacher, 2, inputs)
    };
    assert_close(&told(1.0), &expected, 1e-4, "teacher");
    assert_ne!(told(2.0), told(1.0));
}

/// Keeping all of a picture is the tokenizer's reconstruction, keeping nothing is plain generation, and a mask
/// opens the cells it touches.
#[test]
fn edits_keep_what_they_should() {
    let batch = Batch::open("b1");
    let (pictures, ids) = (batch.read("in/enc_image").to_f32(), batch.read("out/enc_indices").to_i64());
    let recon = batch.read("out/enc_recon").to_f32();
    let (size, n) = (3 * 8 * 8, 16);
    for i in 0..2 {
        let image = pictures[i * size..(i + 1) * size].to_vec();
        let known: Vec<u32> = ids[i * n..(i + 1) * n].iter().map(|&id| id as u32).collect();
        let all = prompted::edits_keep_all_half_or_nothing(model(), &image, &known);
        assert_close(&all.images.to_f32(), &recon[i * size..(i + 1) * size], 1e-4, "reconstruction");
        // The lower half is painted anew: two of the four rows of tokens. So by the teacher.
        let mask: Vec<f32> = (0..64).map(|pixel| if pixel < 32 { 0.0 } else { 1.0 }).collect();
        let half = prompted::edit(&image, Keep::Outside(mask));
        for half in [half.clone(), Request { steps: 3, ..half }].map(|request| tokens(&generate(&request))) {
            assert!(half[..8] == known[..8] && half[8..] != known[8..]);
        }
    }
}

#[test]
fn the_teacher_samples() {
    let request = prompted::the_teacher_samples(model(), 48);
    // u + s·(c − u): at 1 there is nothing left of u, and its network is not asked.
    let alone = |scale: f32| Request { guidance_scale: Some(scale), ..request.clone() };
    assert_eq!(tokens(&generate(&alone(1.0))), tokens(&generate(&alone(0.0))));
}

#[test]
fn the_gradient_is_the_slope() {
    climbing::the_gradient_is_the_slope(model(), &prompt("a red apple").with_seed(1), 0.02);
}

#[test]
fn recomputation_does_not_change_the_course() {
    climbing::recomputation_does_not_change_the_course(model(), &prompt("a red apple").with_seed(1), 2.0);
}

#[test]
fn the_prior_climbs() {
    climbing::the_prior_climbs(model(), &prompt("a red apple").with_seed(2));
}

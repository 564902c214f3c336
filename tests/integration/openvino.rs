//! OpenVINO beside ONNX Runtime's own kernels: the same tokens and pictures in f32, int8 near them, gradients, and engines of
//! both that leave each other alone. The plug-in is that of `make tools`.

use std::ops::ControlFlow::Continue;
use std::path::{Path, PathBuf};

use softdimo::calibrate::{calibrate, quantize_calibrated};
use softdimo::compare::{CompareOptions, compare};
use softdimo::convert::Storage;
use softdimo::families::condition::Condition;
use softdimo::graph::{Graph, grad, simplify};
use softdimo::tensor::{Dtype, Tensor};
use softdimo::{
    Arithmetic, Engine, Error, MemoryMode, Optimize, Options, Provider, Request, Reward, RewardTerm,
};
use support::bundled;

fn plugin() -> PathBuf {
    let file = std::env::var_os("SOFTDIMO_OPENVINO_LIBRARY").expect("cargo sets SOFTDIMO_OPENVINO_LIBRARY");
    let file = support::root().join(file);
    assert!(file.is_file(), "{} is not there: run `make tools`", file.display());
    file
}

/// Whether this processor is not Intel's: the plug-in has no device then, which is what an engine says.
fn refused() -> bool {
    let Some(vendor) = support::foreign_to_openvino() else { return false };
    plugin();
    let options = Options { provider: Provider::OpenVino, ..Options::default() };
    let error = Engine::open(bundled(), options).unwrap_err().to_string();
    assert!(error.contains("expected a processor of Intel's") && error.contains(&vendor), "{error}");
    println!("{error}");
    true
}

fn open(model: &Path, provider: Provider, arithmetic: Arithmetic) -> Engine {
    plugin();
    Engine::open(model, Options { provider, arithmetic, threads: 2, ..Options::default() }).unwrap()
}

/// Tokens and pictures of three seeds.
fn pictures(engine: &Engine) -> Vec<(Vec<i64>, Vec<f64>)> {
    let made = (0..3).map(|seed| engine.generate(&Request::label("rocket").with_seed(seed)).unwrap());
    made.map(|made| (made.tokens.to_i64(), made.images.to_f64())).collect()
}

/// Largest difference.
fn apart(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The providers that run an engine's networks.
fn providers(engine: &Engine) -> Vec<String> {
    let mut names: Vec<String> = engine.assignments().into_values().flat_map(|by| by.into_keys()).collect();
    names.sort();
    names.dedup();
    names
}

const CPU: &str = "CPUExecutionProvider";
const OPENVINO: &str = "OpenVINOExecutionProvider";

/// Before, beside and after engines of the other provider, which has then been registered, the CPU's pictures are what they
/// were, to the bit, and made by its own kernels.
#[test]
fn in_f32_tokens_and_pictures_are_the_cpus() {
    if refused() {
        return;
    }
    let cpu = open(&bundled(), Provider::Cpu, Arithmetic::F32);
    let expected = pictures(&cpu);
    for memory in [MemoryMode::Lean, MemoryMode::Fast] {
        let options = Options {
            provider: Provider::OpenVino,
            arithmetic: Arithmetic::F32,
            memory,
            threads: 1,
            ..Options::default()
        };
        let engine = Engine::open(bundled(), options).unwrap();
        for ((tokens, picture), (expected_tokens, expected)) in pictures(&engine).iter().zip(&expected) {
            let apart = apart(picture, expected);
            println!("{memory:?}: at most {apart:.1e} apart");
            assert_eq!(tokens, expected_tokens);
            assert!(apart < 1e-4, "{apart}");
        }
        assert!(providers(&engine).contains(&OPENVINO.to_string()), "{:?}", engine.assignments());
        assert!(pictures(&cpu) == expected, "an engine that was open before");
    }
    let later = open(&bundled(), Provider::Cpu, Arithmetic::F32);
    assert!(pictures(&later) == expected, "an engine that was opened after");
    // And what they prepare from now on.
    cpu.trim().unwrap();
    assert!(pictures(&cpu) == expected, "an engine that prepares again");
    assert_eq!([providers(&cpu), providers(&later)], [[CPU], [CPU]]);
}

/// Engines of both providers that compute at the same time, and open and close meanwhile.
#[test]
fn engines_of_both_providers_at_once() {
    if refused() {
        return;
    }
    let expected = pictures(&open(&bundled(), Provider::Cpu, Arithmetic::F32));
    std::thread::scope(|scope| {
        for provider in [Provider::OpenVino, Provider::Cpu, Provider::OpenVino] {
            let expected = &expected;
            scope.spawn(move || {
                for _ in 0..2 {
                    let found = pictures(&open(&bundled(), provider, Arithmetic::F32));
                    for ((tokens, picture), (expected_tokens, expected)) in found.iter().zip(expected) {
                        assert_eq!(tokens, expected_tokens, "{provider:?}");
                        assert!(apart(picture, expected) < 1e-4, "{provider:?}");
                    }
                }
            });
        }
    });
}

/// Logits, picture and the gradient of a reward by the embedding.
fn climb(model: &Path, provider: Provider, arithmetic: Arithmetic) -> Vec<(String, Vec<f64>)> {
    let engine = open(model, provider, arithmetic);
    let (a, w) = (engine.model().architecture().clone(), engine.model().weights());
    let start = open(model, Provider::Cpu, Arithmetic::F32).generate(&Request::label("rocket")).unwrap();
    let e_in = start.e_in.clone().unwrap();
    let g = Graph::new();
    let e = g.input("e_in", Dtype::F32, e_in.shape().clone()).unwrap();
    let class = g.constant(Tensor::from_i64([1], &[7])).unwrap();
    let condition = Condition::class(a.embed_class(&g, &w.at("student"), class).unwrap());
    let logits = a.logits(&g, &w.at("student"), e, &condition).unwrap();
    let soft = a.soft_embedding(&g, &w, g.softmax(logits, 3).unwrap()).unwrap();
    let picture = a.decode(&g, &w, soft, None).unwrap();
    let off = g.add_scalar(picture, -0.5).unwrap();
    let nearer = g.reduce_sum(g.mul(off, off).unwrap(), &[0, 1, 2, 3]).unwrap();
    g.output("logits", logits);
    g.output("picture", picture);
    g.output("gradient", grad(&g, nearer, &[e]).unwrap()[0]);
    let results = engine.run_graph(simplify(&g).unwrap(), vec![("e_in".into(), e_in)]).unwrap();
    results.into_iter().map(|(name, t)| (name, t.to_f64())).collect()
}

/// OpenVINO packs square matrices and kernels once for both ways in which a graph with a gradient reads them, and computes
/// one of them with what belongs to the other: of the bundled model, neither the gradient nor the picture were right.
#[test]
fn gradients_are_the_cpus() {
    if refused() {
        return;
    }
    let expected = climb(&bundled(), Provider::Cpu, Arithmetic::F32);
    let found = climb(&bundled(), Provider::OpenVino, Arithmetic::F32);
    for ((name, found), (_, expected)) in found.iter().zip(&expected) {
        let cosine = cosine(found, expected);
        println!("{name}: cosine {cosine:.7}");
        assert!(cosine > 0.9999, "{name}: {cosine}");
    }
}

/// Of a file that is laid out for int8 and calibrated.
#[test]
fn int8_is_near_f32() {
    if refused() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let int8 = folder.path().join("int8.softdimo.safetensors");
    let seen = calibrate(&bundled(), &Options::default(), 4, |_, _| ()).unwrap();
    quantize_calibrated(&bundled(), Storage::Int8, seen.ranges(), &int8, |_, _| ()).unwrap();
    let options = |provider| Options { provider, ..Options::default() };
    let [cpu, found] = [Provider::Cpu, Provider::OpenVino].map(|provider| {
        compare(
            &bundled(),
            &int8,
            &options(provider),
            CompareOptions { pictures: 4, gradients: false },
            |_, _| (),
        )
        .unwrap()
    });
    println!("cpu {cpu:?}\nopenvino {found:?}");
    let least = |psnr: &[f64]| psnr.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(least(&found.psnr) > 38.0 && least(&found.psnr) > least(&cpu.psnr) - 3.0);
    assert!(found.tokens.unwrap() > 0.97);
    // It was rounded.
    assert!(least(&found.psnr) < 80.0);
    let expected = climb(&int8, Provider::OpenVino, Arithmetic::F32);
    for ((name, found), (_, expected)) in
        climb(&int8, Provider::OpenVino, Arithmetic::Auto).iter().zip(&expected)
    {
        let cosine = cosine(found, expected);
        println!("int8 {name}: cosine {cosine:.6}");
        assert!(cosine > 0.98, "{name}: {cosine}");
    }
}

/// Test-time optimisation takes the same way, state and all.
#[test]
fn optimisation_takes_the_cpus_way() {
    if refused() {
        return;
    }
    let totals = |provider| {
        let reward = Reward::Color { rgb: [-1.0, -1.0, 1.0], mask: None };
        let optimize = Optimize::new(vec![RewardTerm::new(reward, 1.0)], 4);
        let request = Request { optimize: Some(optimize), ..Request::label("rocket").with_seed(2) };
        let made = open(&bundled(), provider, Arithmetic::F32).generate(&request).unwrap();
        let course = made.report.optimization.as_ref().unwrap();
        course.iterations.iter().map(|i| f64::from(i.total[0])).collect::<Vec<_>>()
    };
    let (expected, found) = (totals(Provider::Cpu), totals(Provider::OpenVino));
    println!("{expected:?}\n{found:?}");
    assert!(expected.len() == 5 && expected[4] > expected[0], "{expected:?}");
    assert!(apart(&found, &expected) < 1e-3, "{found:?}, expected {expected:?}");
}

/// A cancelled job ends after the network at hand, and the engine makes the next picture.
#[test]
fn a_cancelled_job_ends() {
    if refused() {
        return;
    }
    let engine = open(&bundled(), Provider::OpenVino, Arithmetic::F32);
    let expected = pictures(&engine);
    let request = Request { batch: 64, ..Request::label("rocket") };
    let job = engine.submit(&request).unwrap();
    job.cancel();
    assert!(matches!(job.wait(None, |_| Continue(())), Err(Error::Cancelled)));
    assert!(pictures(&engine) == expected);
}

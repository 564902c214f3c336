//! int8 storage: what conversion writes, that a model computes with exactly its expanded weights (gradients
//! too, LEAN and FAST), and files whose scales are wrong.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use softdimo::calibrate::{calibrate, quantize_calibrated};
use softdimo::checkpoint::{Checkpoint, Mapping, safetensors};
use softdimo::compare::{CompareOptions, compare};
use softdimo::convert::{self, Source, Storage};
use softdimo::families::condition::Condition;
use softdimo::graph::{Graph, grad};
use softdimo::model::Model;
use softdimo::model_file::QUANTIZATION;
use softdimo::quant::{Ranges, transposed_name};
use softdimo::rng::{Philox, Stream};
use softdimo::tensor::{Dtype, Shape, Tensor};
use softdimo::weights::Weights;
use softdimo::{Arithmetic, Engine, MemoryMode, Options, Provider, Request, WeightsMode};
use support::data;
use support::maskbit::stored as model;

const F32: Arithmetic = Arithmetic::F32;

/// A weight of an int8 file, expanded, by its name in a file of floats.
fn expanded(file: &Checkpoint, name: &str) -> Vec<f32> {
    let across = file.get(&transposed_name(name));
    let view = across.clone().or_else(|| file.get(name)).unwrap();
    let mut values = view.to_f32();
    if across.is_some() {
        let [columns, rows] = [view.shape[0], view.shape[1]];
        values = (0..rows * columns).map(|i| values[i % columns * rows + i / columns]).collect();
    }
    if view.dtype == Dtype::I8 {
        let scales = file.get(&format!("{name}.scale")).unwrap().to_f32();
        let row = values.len() / scales.len();
        values.iter_mut().enumerate().for_each(|(i, v)| *v *= scales[i / row]);
    }
    values
}

/// The weights of a file by their names in a file of floats, and their shapes there.
fn weights(file: &Checkpoint) -> Vec<(String, Shape)> {
    let is_scale = |name: &str| {
        let weight = name.strip_suffix(".scale");
        let int8 = |name: &str| file.get(name).is_some_and(|view| view.dtype == Dtype::I8);
        weight.is_some_and(|name| int8(name) || int8(&transposed_name(name)))
    };
    let weight = |name: &str| {
        let shape = file.get(name).unwrap().shape;
        match name.strip_suffix(".transposed") {
            Some(name) => (name.to_string(), Shape::from([shape[1], shape[0]])),
            None => (name.to_string(), shape),
        }
    };
    file.names().filter(|name| !is_scale(name) && !name.ends_with(".ranges")).map(weight).collect()
}

/// The same model with every weight written out in f32.
fn expand(input: &Path, output: &Path) {
    let file = Checkpoint::open(input).unwrap();
    let entry = |(name, shape)| safetensors::Entry { name, dtype: Dtype::F32, shape };
    let entries: Vec<safetensors::Entry> = weights(&file).into_iter().map(entry).collect();
    let bytes = |name: &str| expanded(&file, name).iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    safetensors::write(output, file.metadata(), &entries, |name| Ok(Cow::Owned(bytes(name)))).unwrap();
}

#[test]
fn matrices_and_kernels_are_int8_with_a_scale_a_row() {
    let folder = tempfile::tempdir().unwrap();
    let (wide, narrow) = (model(folder.path(), Storage::Keep), model(folder.path(), Storage::Int8));
    let (wide, narrow) = (Checkpoint::open(wide).unwrap(), Checkpoint::open(narrow).unwrap());
    assert_eq!(narrow.metadata()[QUANTIZATION], "int8");
    assert_eq!(wide.metadata()[QUANTIZATION], "none");
    assert_eq!([&wide, &narrow].map(|file| file.metadata()["softdimo.format"].as_str()), ["1", "2"]);
    let mut counts = [0; 4];
    for (name, shape) in weights(&narrow) {
        let (name, w) = (name.as_str(), wide.get(&name).unwrap());
        assert_eq!(w.shape, shape, "{name}");
        let q = narrow.get(&transposed_name(name)).inspect(|_| counts[3] += 1).or_else(|| narrow.get(name));
        let q = q.unwrap();
        let scale = narrow.get(&format!("{name}.scale"));
        match (w.shape.rank(), q.dtype) {
            (2 | 4, Dtype::I8) => {
                let scale = scale.as_ref().unwrap();
                assert_eq!((scale.dtype, &*scale.shape), (Dtype::F32, &w.shape[..1]), "{name}");
                let row = w.shape.len() / w.shape[0];
                let (w, scale) = (w.to_f32(), scale.to_f32());
                for (i, (w, q)) in w.iter().zip(expanded(&narrow, name)).enumerate() {
                    let half = 0.5001 * scale[i / row];
                    assert!((w - q).abs() <= half, "{name} [{i}]: {w} became {q}, half a step is {half}");
                }
                counts[0] += 1;
            }
            (3, Dtype::F16) => counts[1] += 1,
            (0 | 1, Dtype::F32) => counts[2] += 1,
            (rank, dtype) => panic!("{name}: {dtype} at rank {rank}"),
        }
        assert!(scale.is_some() == (q.dtype == Dtype::I8), "{name}");
    }
    println!("{} int8, {} of them transposed, {} f16, {} f32", counts[0], counts[3], counts[1], counts[2]);
    // Of matrices, those alone are not that are read by their rows.
    assert!(narrow.get("student.class_emb.weight").is_some());
    assert!(counts.iter().all(|&n| n > 0));
    assert_eq!(narrow.names().count(), wide.names().count() + counts[0]);
}

/// Narrowing a model file gives what conversion of its checkpoints gives, byte for byte.
#[test]
fn quantising_a_file_is_converting_its_source() {
    let folder = tempfile::tempdir().unwrap();
    let wide = model(folder.path(), Storage::Keep);
    for storage in [Storage::F16, Storage::Int8] {
        let again = folder.path().join("again.safetensors");
        let mut calls = 0;
        let summary = convert::quantize(&wide, storage, &again, |done, _| calls = done).unwrap();
        let expected = std::fs::read(model(folder.path(), storage)).unwrap();
        assert!(std::fs::read(&again).unwrap() == expected, "{storage:?}");
        assert_eq!((summary.tensors, summary.bytes), (calls, expected.len() as u64));
    }
    let int8 = model(folder.path(), Storage::Int8);
    let error = convert::quantize(&int8, Storage::F16, &folder.path().join("x"), |_, _| ()).unwrap_err();
    let expected = "expected float weights to quantise, found i8[64, 14, 3, 3] in";
    let message = format!("tensor 'decoder.conv_in.weight': {expected} {}", int8.display());
    assert_eq!(error.to_string(), message);
    assert!(!folder.path().join("x").exists());
    // int8 again is the same file.
    let again = folder.path().join("again.safetensors");
    convert::quantize(&int8, Storage::Int8, &again, |_, _| ()).unwrap();
    assert!(std::fs::read(&again).unwrap() == std::fs::read(&int8).unwrap());
}

/// The bundled model is of the first format: its weights move without a change, and are read without one.
#[test]
fn a_file_of_the_first_format_becomes_one_of_the_second() {
    let folder = tempfile::tempdir().unwrap();
    let first = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/emoji-32.softdimo.safetensors");
    let second = folder.path().join("second.softdimo.safetensors");
    convert::quantize(&first, Storage::Int8, &second, |_, _| ()).unwrap();
    let (old, new) = (Checkpoint::open(&first).unwrap(), Checkpoint::open(&second).unwrap());
    assert_eq!([&old, &new].map(|file| file.metadata()["softdimo.format"].as_str()), ["1", "2"]);
    assert_eq!(weights(&old), weights(&new));
    for (name, _) in weights(&old) {
        assert_eq!(expanded(&old, &name), expanded(&new, &name), "{name}");
    }
    let picture = |path: &Path, arithmetic| {
        let engine = Engine::open(path, Options { arithmetic, ..Options::default() }).unwrap();
        let made = engine.generate(&Request::label("rocket").with_seed(3)).unwrap();
        (made.tokens.to_i64(), made.images.to_f64())
    };
    let expected = picture(&first, Arithmetic::Auto);
    let widened = picture(&second, Arithmetic::F32);
    assert_eq!(expected.0, widened.0);
    assert!(distance(&widened.1, &expected.1) < 1e-5);
}

/// Pictures, logits, codes and the gradient of a reward by e_in, of classes 0 and 7 and seeded inputs.
fn compute(model: &Path, memory: MemoryMode, arithmetic: Arithmetic) -> Vec<(String, Vec<f64>)> {
    let options = Options { memory, arithmetic, threads: 1, ..Options::default() };
    let engine = Engine::open(model, options).unwrap();
    let (model, rng) = (engine.model().clone(), Philox::new(3));
    let (a, w) = (model.architecture(), model.weights());
    let layout = a.layout();
    let gaussian = |shape: &[usize], step: u32| {
        let n: usize = shape.iter().product();
        let data: Vec<f32> = (0..n).map(|i| rng.gaussian_at(Stream::Perturbation, step, i as u64)).collect();
        Tensor::from_f32(shape, &data)
    };
    let e_in = gaussian(&[2, layout.positions, layout.embedding], 0);
    let picture = gaussian(&[2, 3, layout.height, layout.width], 1);
    let g = Graph::new();
    let e = g.input("e_in", Dtype::F32, e_in.shape().clone()).unwrap();
    let image = g.input("image", Dtype::F32, picture.shape().clone()).unwrap();
    let class = g.constant(Tensor::from_i64([2], &[0, 7])).unwrap();
    let student = w.at("student");
    let condition = a.embed_class(&g, &student, class).unwrap();
    let logits = a.logits(&g, &student, e, &Condition::class(condition)).unwrap();
    let soft = a.soft_embedding(&g, &w, g.softmax(logits, 3).unwrap()).unwrap();
    let decoded = a.decode(&g, &w, soft, None).unwrap();
    let reward = g.mul(decoded, image).unwrap();
    g.output("condition", condition);
    g.output("logits", logits);
    g.output("picture", decoded);
    g.output("gradient of noise", grad(&g, reward, &[e]).unwrap()[0]);
    // What a reward asks for: pictures nearer to a grey one.
    let off = g.add_scalar(decoded, -0.5).unwrap();
    let nearer = g.reduce_sum(g.mul(off, off).unwrap(), &[0, 1, 2, 3]).unwrap();
    g.output("gradient", grad(&g, nearer, &[e]).unwrap()[0]);
    let inputs = vec![("e_in".to_string(), e_in), ("image".to_string(), picture)];
    let results = engine.run_graph(softdimo::graph::simplify(&g).unwrap(), inputs).unwrap();
    results.into_iter().map(|(name, t)| (name, t.to_f64())).collect()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(x, y)| x - y)) / norm(&mut b.iter().copied())
}

/// In f32 the runtime must not round activations too, nor take other scales: an int8 model computes what the same
/// weights compute when they are written out in f32, and so does its gradient.
#[test]
fn an_int8_model_is_its_expanded_weights() {
    let folder = tempfile::tempdir().unwrap();
    let int8 = model(folder.path(), Storage::Int8);
    let wide = folder.path().join("expanded.safetensors");
    expand(&int8, &wide);
    let expected = compute(&wide, MemoryMode::Lean, F32);
    let source = compute(&model(folder.path(), Storage::Keep), MemoryMode::Lean, F32);
    for memory in [MemoryMode::Lean, MemoryMode::Fast] {
        let found = compute(&int8, memory, F32);
        for (((name, found), (_, expected)), (_, source)) in found.iter().zip(&expected).zip(&source) {
            let (near, rounded) = (distance(found, expected), distance(found, source));
            println!("{memory:?} {name}: {near:.1e} of its own weights, {rounded:.1e} of the source's");
            assert!(near < 1e-4, "{memory:?} {name}: {near}");
            // Rounding to int8 shows: the two files really differ.
            assert!(rounded > 1e-3, "{memory:?} {name}: {rounded}");
        }
    }
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// In int8 rows of activations are rounded too, forward and backward, and as much in LEAN as in FAST: sums are exact.
#[test]
fn int8_arithmetic_is_near_f32() {
    let folder = tempfile::tempdir().unwrap();
    let int8 = model(folder.path(), Storage::Int8);
    let expected = compute(&int8, MemoryMode::Lean, F32);
    let found = [MemoryMode::Lean, MemoryMode::Fast].map(|memory| compute(&int8, memory, Arithmetic::Auto));
    for (i, (name, expected)) in expected.iter().enumerate() {
        let [lean, fast] = [0, 1].map(|memory| &found[memory][i].1);
        let (near, cosine, apart) = (distance(lean, expected), cosine(lean, expected), distance(lean, fast));
        println!("{name}: {near:.1e} of f32, cosine {cosine:.6}; LEAN and FAST {apart:.1e} apart");
        // Of a network of 48 random channels, whose rounding errors do not average out as those of hundreds do.
        assert!(cosine > 0.998, "{name}: {cosine}");
        assert!(name == "condition" || near > 1e-5, "{name} was computed in f32");
        assert!(apart < 2e-2, "{name}: {apart}");
    }
}

/// The gradient of the bundled model, in the layout of int8 arithmetic, with its convolutions in f32 and in int8.
#[test]
fn the_bundled_models_gradient_is_that_of_f32() {
    let folder = tempfile::tempdir().unwrap();
    let first = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/emoji-32.softdimo.safetensors");
    let second = folder.path().join("second.softdimo.safetensors");
    let seen = calibrate(&first, &Options::default(), 8, |_, _| ()).unwrap();
    for (ranges, bounds) in [(&BTreeMap::new(), [0.999_999; 2]), (seen.ranges(), [0.9995, 0.995])] {
        quantize_calibrated(&first, Storage::Int8, ranges, &second, |_, _| ()).unwrap();
        // The same weights: what is seen is the arithmetic's.
        let asked = CompareOptions { pictures: 4, gradients: true };
        let found = compare(&second, &second, &Options::default(), asked, |_, _| ()).unwrap();
        let gradients = found.gradients.unwrap();
        println!("{} convolutions in int8: {gradients:?}", ranges.len());
        for (cosines, bound) in [gradients.grey, gradients.noise].iter().zip(bounds) {
            assert_eq!(cosines.len(), 4);
            // Not 1 either: something was rounded.
            assert!(cosines.iter().all(|&cosine| cosine > bound && cosine < 1.0 - 1e-10), "{cosines:?}");
        }
    }
}

/// Every convolution of the bundled model may be in int8; of which none may, if pictures must be what they are.
#[test]
fn convolutions_stay_in_f32_where_pictures_would_suffer() {
    let folder = tempfile::tempdir().unwrap();
    let first = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/emoji-32.softdimo.safetensors");
    let second = folder.path().join("second.softdimo.safetensors");
    let options = Options::default();
    let seen = calibrate(&first, &options, 4, |_, _| ()).unwrap();
    quantize_calibrated(&first, Storage::Int8, seen.ranges(), &second, |_, _| ()).unwrap();
    let decoder =
        |ranges: &BTreeMap<String, Ranges>| ranges.keys().filter(|k| k.starts_with("decoder.")).count();
    let near = |psnr| {
        let near = seen.near(psnr, &second, &options, |_, _| ()).unwrap();
        assert!(near.psnr >= psnr || near.ranges.is_empty(), "{near:?}");
        near.ranges
    };
    // Of the encoder pictures of tokens say nothing.
    assert_eq!(near(0.0).len(), seen.ranges().len());
    assert_eq!(near(38.0).len(), decoder(seen.ranges()));
    let (some, none) = (near(52.0), near(199.0));
    println!("{} convolutions of the decoder, {} at 52 dB", decoder(seen.ranges()), decoder(&some));
    assert!(decoder(&some) > 0 && decoder(&some) < decoder(seen.ranges()));
    assert_eq!(decoder(&none), 0);
    // What an earlier calibration took stays no longer.
    let third = folder.path().join("third.softdimo.safetensors");
    quantize_calibrated(&second, Storage::Int8, &some, &third, |_, _| ()).unwrap();
    let ranges =
        |path: &Path| Checkpoint::open(path).unwrap().names().filter(|n| n.ends_with(".ranges")).count();
    assert_eq!((ranges(&second), ranges(&third)), (seen.ranges().len(), some.len()));
    quantize_calibrated(&first, Storage::Int8, &some, &second, |_, _| ()).unwrap();
    assert!(std::fs::read(&second).unwrap() == std::fs::read(&third).unwrap());
    // Written again without a calibration, it is the same file.
    convert::quantize(&second, Storage::Int8, &third, |_, _| ()).unwrap();
    assert!(std::fs::read(&second).unwrap() == std::fs::read(&third).unwrap());
    let asked = CompareOptions { pictures: 4, gradients: false };
    let compared = compare(&first, &second, &options, asked, |_, _| ()).unwrap();
    println!("{compared:?}");
    assert!(
        compared.psnr.iter().all(|&db| db > 48.0)
            && compared.tokens > Some(0.95)
            && compared.divergence < Some(0.01)
    );
}

/// A measurement that is ended leaves an engine that computes as before, and nothing behind.
#[test]
fn tuning_can_be_ended() {
    use std::ops::ControlFlow::{Break, Continue};
    let folder = tempfile::tempdir().unwrap();
    let first = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/emoji-32.softdimo.safetensors");
    let model = folder.path().join("int8.softdimo.safetensors");
    let seen = calibrate(&first, &Options::default(), 1, |_, _| ()).unwrap();
    quantize_calibrated(&first, Storage::Int8, seen.ranges(), &model, |_, _| ()).unwrap();
    let engine = Engine::open(&model, Options { untuned: true, ..Options::default() }).unwrap();
    let request = Request::default().with_seed(3);
    let before = engine.generate(&request).unwrap();
    for after in [0, 1, 2] {
        let mut most = 0;
        let ended = engine.tune(|p| {
            most = most.max(p.step);
            if p.step >= after { Break(()) } else { Continue(()) }
        });
        assert!(matches!(ended, Err(softdimo::Error::Cancelled)) && most >= after, "{ended:?}");
        assert!(engine.generate(&request).unwrap().images == before.images);
    }
    let floats = Engine::open(&model, Options { arithmetic: F32, ..Options::default() }).unwrap();
    let error = floats.tune(|_| Continue(())).unwrap_err().to_string();
    assert!(error.contains("on the CPU with the arithmetic AUTO"), "{error}");
}

/// The memory estimate of FAST counts expanded copies: int8 costs what f32 costs there, and nothing in LEAN.
#[test]
fn memory_use_counts_expanded_copies() {
    let folder = tempfile::tempdir().unwrap();
    let held = |storage, memory| {
        let path = model(folder.path(), storage);
        let engine = Engine::open(&path, Options { memory, arithmetic: F32, ..Options::default() }).unwrap();
        engine.warmup(1).unwrap();
        let held = engine.memory().unwrap();
        assert_eq!(held.mapped, std::fs::metadata(path).unwrap().len());
        held
    };
    let (f32, int8) = (held(Storage::Keep, MemoryMode::Fast), held(Storage::Int8, MemoryMode::Fast));
    assert!(int8.mapped * 3 < f32.mapped);
    assert!(int8.weights >= f32.weights && int8.weights < f32.weights + f32.weights / 20, "{int8:?} {f32:?}");
    let lean = held(Storage::Int8, MemoryMode::Lean);
    assert_eq!(lean.weights, 0);
    // An expansion is a node more for each product.
    assert!(lean.activations > held(Storage::Keep, MemoryMode::Lean).activations);
}

/// A checkpoint of one int8 tensor `w` [2, 3] and what else is given.
fn checkpoint(more: &[(&str, Dtype, &[usize], &[u8])]) -> Checkpoint {
    let w: (&str, Dtype, &[usize], &[u8]) = ("w", Dtype::I8, &[2, 3], &[1, 2, 3, 0x81, 0x80, 0]);
    let all: Vec<_> = [w].iter().chain(more).copied().collect();
    let entry = |(name, dtype, shape, _): &(&str, Dtype, &[usize], &[u8])| safetensors::Entry {
        name: name.to_string(),
        dtype: *dtype,
        shape: Shape::from(*shape),
    };
    let entries: Vec<safetensors::Entry> = all.iter().map(entry).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    let bytes = |name: &str| all.iter().find(|t| t.0 == name).unwrap().3;
    safetensors::write(&path, &Default::default(), &entries, |n| Ok(Cow::Borrowed(bytes(n)))).unwrap();
    Checkpoint::from_mapping(Arc::new(Mapping::read(path).unwrap()), "m.safetensors").unwrap()
}

fn f32s(values: [f32; 2]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn wrong_scales_are_named() {
    let get = |file: &Checkpoint| Weights::new(file).get(&Graph::new(), "w", [2, 3]).unwrap_err().to_string();
    let scale = |dtype, shape: &[usize], bytes: &[u8]| get(&checkpoint(&[("w.scale", dtype, shape, bytes)]));
    let cases = [
        (get(&checkpoint(&[])), "expected shape [2] of the scales of int8 'w', found no such tensor"),
        (scale(Dtype::F32, &[1], &[0; 4]), "expected f32[2], one scale a row of 'w', found f32[1]"),
        (scale(Dtype::F32, &[2, 1], &[0; 8]), "expected f32[2], one scale a row of 'w', found f32[2, 1]"),
        (scale(Dtype::F32, &[3], &[0; 12]), "expected f32[2], one scale a row of 'w', found f32[3]"),
        (scale(Dtype::F16, &[2], &[0; 4]), "expected f32[2], one scale a row of 'w', found f16[2]"),
        (scale(Dtype::F32, &[2], &f32s([1.0, f32::NAN])), "expected finite scales, none negative, found NaN"),
        (
            scale(Dtype::F32, &[2], &f32s([f32::INFINITY, 1.0])),
            "expected finite scales, none negative, found inf",
        ),
        (scale(Dtype::F32, &[2], &f32s([1.0, -0.5])), "expected finite scales, none negative, found -0.5"),
    ];
    for (message, expected) in cases {
        assert_eq!(message, format!("tensor 'w.scale': {expected} in m.safetensors"));
    }
}

#[test]
fn int8_is_for_matrices_and_kernels_of_the_right_shape() {
    let good = f32s([1.0, 2.0]);
    let more: [(&str, Dtype, &[usize], &[u8]); 3] = [
        ("w.scale", Dtype::F32, &[2], &good),
        ("vector", Dtype::I8, &[2], &[1, 2]),
        ("vector.scale", Dtype::F32, &[2], &good),
    ];
    let file = checkpoint(&more);
    let w = Weights::new(&file);
    let g = Graph::new();
    let value = w.get(&g, "w", [2, 3]).unwrap();
    assert_eq!((g.dtype(value), g.weights()), (Dtype::F32, vec!["w".to_string(), "w.scale".into()]));
    let error = w.get(&g, "w", [3, 2]).unwrap_err().to_string();
    let place = "in m.safetensors";
    assert_eq!(error, format!("tensor 'w': expected a float tensor of shape [3, 2], found i8[2, 3] {place}"));
    let error = w.get(&g, "vector", [2]).unwrap_err().to_string();
    assert_eq!(error, format!("tensor 'vector': expected a float tensor of shape [2], found i8[2] {place}"));
    // Rows of an embedding obey the same rules.
    let i = g.input("i", Dtype::I64, [4]).unwrap();
    assert_eq!(g.shape(w.rows(&g, "w", [2, 3], i).unwrap()), Shape::from([4, 3]));
    assert!(w.rows(&g, "w", [3, 2], i).is_err());
    let lone = checkpoint(&[]);
    assert!(Weights::new(&lone).rows(&g, "w", [2, 3], i).unwrap_err().to_string().contains("'w.scale'"));
}

/// What is laid out for int8 arithmetic obeys rules of its own.
#[test]
fn wrong_layouts_for_int8_arithmetic_are_named() {
    let scales = f32s([1.0, 2.0]);
    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let with_ranges = |shape: &[usize], values: &[f32]| {
        let file = checkpoint(&[
            ("k", Dtype::I8, &[2, 1, 1, 1], &[1, 2]),
            ("k.scale", Dtype::F32, &[2], &scales),
            ("k.ranges", Dtype::F32, shape, &bytes(values)),
        ]);
        Weights::new(&file).get(&Graph::new(), "k", [2, 1, 1, 1]).map(drop).map_err(|e| e.to_string())
    };
    assert_eq!(with_ranges(&[3, 2], &[0.0, 1.0, -1.0, 0.0, -2.0, 3.0]), Ok(()));
    let expected = "tensor 'k.ranges': expected f32[3, 2], finite ranges (lowest, highest) around 0, found";
    for (shape, values) in [
        (&[2, 2][..], &[0.0, 1.0, -1.0, 0.0][..]),
        (&[6], &[0.0, 1.0, -1.0, 0.0, -2.0, 3.0]),
        (&[3, 2], &[0.0, f32::NAN, -1.0, 0.0, -2.0, 3.0]),
        (&[3, 2], &[0.0, 1.0, f32::NEG_INFINITY, 0.0, -2.0, 3.0]),
        (&[3, 2], &[-3e38, 3e38, -1.0, 0.0, -2.0, 3.0]),
        (&[3, 2], &[1.0, 2.0, -1.0, 0.0, -2.0, 3.0]),
        (&[3, 2], &[-2.0, -1.0, -1.0, 0.0, -2.0, 3.0]),
    ] {
        let error = with_ranges(shape, values).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }

    let transposed = |dtype: Dtype, shape: &[usize]| {
        let zeros = vec![0; shape.iter().product::<usize>() * dtype.size()];
        let file =
            checkpoint(&[("m.transposed", dtype, shape, &zeros), ("m.scale", Dtype::F32, &[2], &scales)]);
        let g = Graph::new();
        let i = g.input("i", Dtype::I64, [1]).unwrap();
        let w = Weights::new(&file);
        assert!(w.has("m"));
        (w.get(&g, "m", [2, 3]).map(drop), w.rows(&g, "m", [2, 3], i).map(drop))
    };
    let (got, rows) = transposed(Dtype::I8, &[3, 2]);
    assert!(got.is_ok());
    let error = rows.unwrap_err().to_string();
    assert!(
        error.contains("'m.transposed': expected a table that is stored by its rows, found i8[3, 2]"),
        "{error}"
    );
    for (dtype, shape) in [(Dtype::I8, [2, 3]), (Dtype::U8, [3, 2]), (Dtype::F32, [3, 2])] {
        let error = transposed(dtype, &shape).0.unwrap_err().to_string();
        assert!(error.contains("'m.transposed': expected i8[3, 2], found"), "{error}");
    }
}

/// A model file with one wrong scale is refused when it is opened, not when it runs.
#[test]
fn a_model_with_a_wrong_scale_does_not_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = model(folder.path(), Storage::Int8);
    let (name, file) = ("decoder.conv_out.weight.scale", Checkpoint::open(&path).unwrap());
    let (offset, _) = file.tensor_range(name).unwrap();
    drop(file);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[offset..offset + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let error = Model::open(&path, WeightsMode::Map, Default::default()).unwrap_err().to_string();
    assert!(error.contains(&format!("tensor '{name}': expected finite scales")), "{error}");
    let options = Options { provider: Provider::Cpu, ..Options::default() };
    assert_eq!(Engine::open(&path, options).unwrap_err().to_string(), error);
}

/// A checkpoint whose weights are not finite has no int8 form; nothing is written.
#[test]
fn conversion_refuses_what_is_not_finite() {
    let folder = tempfile::tempdir().unwrap();
    let generator = folder.path().join("generator.safetensors");
    let file = Checkpoint::open(data("maskbit/generator.safetensors")).unwrap();
    let (offset, _) = file.tensor_range("prediction_layer.weight").unwrap();
    let mut bytes = std::fs::read(data("maskbit/generator.safetensors")).unwrap();
    bytes[offset..offset + 4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    std::fs::write(&generator, bytes).unwrap();
    let output = folder.path().join("m.softdimo.safetensors");
    let source = |storage| Source {
        generator: Some(generator.clone()),
        tokenizer: data("maskbit/tokenizer.safetensors"),
        storage,
        ..Source::new("maskbit")
    };
    for (storage, expected) in [
        (Storage::Int8, "finite values"),
        (Storage::F16, "finite values, for f16 of at most 65504"),
        (Storage::Keep, "finite values"),
    ] {
        let error = convert::generator(&source(storage), &output, |_, _| ()).unwrap_err().to_string();
        let found = "found inf at [0, 0], 1 such in f32[256, 48] in generator.safetensors";
        assert_eq!(error, format!("tensor 'student.prediction_layer.weight': expected {expected}, {found}"));
        assert!(!output.exists());
    }
}

//! int4 storage: what conversion writes, that what opening makes of it computes the same everywhere, what it does to the pictures
//! of every family, and files that are wrong.

use std::path::{Path, PathBuf};

use softdimo::calibrate::{calibrate, quantize_calibrated};
use softdimo::checkpoint::Checkpoint;
use softdimo::compare::{CompareOptions, compare};
use softdimo::convert::{self, Storage};
use softdimo::model::{Limits, Model};
use softdimo::model_file::QUANTIZATION;
use softdimo::quant::{BLOCK, has_int4, int4_name, int4_shapes, scale_name, transposed_name};
use softdimo::tensor::Dtype;
use softdimo::{Arithmetic, Engine, MemoryMode, Options, Request, WeightsMode};
use support::maskbit::stored;
use support::safetensors_file::File;
use support::{maskgen, maskgit, meissonic};

/// A matrix of the student of the tiny MaskBit, [144, 48].
const MATRIX: &str = "student.transformer.layers.0.0.mha.in_proj_weight";

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let square = |v: &mut dyn Iterator<Item = f32>| v.map(|x| f64::from(x).powi(2)).sum::<f64>();
    (square(&mut a.iter().zip(b).map(|(x, y)| x - y)) / square(&mut b.iter().copied())).sqrt()
}

/// The file says what `docs/model-file.md` says, matrix for matrix, and opening gives the same values in int8.
#[test]
fn matrices_that_make_tokens_are_int4_in_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let paths = [Storage::Keep, Storage::Int8, Storage::Int4].map(|storage| stored(folder.path(), storage));
    let [wide, int8, narrow] = paths.clone().map(|path| Checkpoint::open(path).unwrap());
    assert_eq!(
        (narrow.metadata()[QUANTIZATION].as_str(), narrow.metadata()["softdimo.format"].as_str()),
        ("int4", "3")
    );
    let model = Model::open(&paths[2], WeightsMode::Map, Limits::default()).unwrap();
    assert_eq!(model.metadata(), narrow.metadata());
    let (mut packed, mut others) = (0, 0);
    for name in int8.names() {
        let Some(weight) = name.strip_suffix(&transposed_name("")) else { continue };
        let shape = wide.get(weight).unwrap().shape;
        if !(weight.starts_with("student.") && has_int4(&shape)) {
            assert!(narrow.get(name).unwrap().data == int8.get(name).unwrap().data, "{name}");
            others += 1;
            continue;
        }
        packed += 1;
        let (n, scale) = (narrow.get(&int4_name(weight)).unwrap(), narrow.get(&scale_name(weight)).unwrap());
        let (outputs, inputs) = (shape[0], shape[1]);
        assert_eq!([&n.shape, &scale.shape], int4_shapes(outputs, inputs).each_ref(), "{weight}");
        assert_eq!((n.dtype, scale.dtype), (Dtype::U8, Dtype::F16), "{weight}");
        let scale = scale.to_f32();
        let value = |o: usize, i: usize| {
            let level = n.data[i * outputs / 2 + o / 2] >> (4 * (o % 2)) & 15;
            (f32::from(level) - 8.0) * scale[i / BLOCK * outputs + o]
        };
        let values: Vec<f32> = (0..outputs * inputs).map(|at| value(at / inputs, at % inputs)).collect();
        let off = distance(&values, &wide.get(weight).unwrap().to_f32());
        let view = model.checkpoint().get(&transposed_name(weight)).unwrap();
        let rows = model.checkpoint().get(&scale_name(weight)).unwrap().to_f32();
        let q = view.to_f32();
        let opened: Vec<f32> = (0..outputs * inputs)
            .map(|at| q[at % inputs * outputs + at / inputs] * rows[at / inputs])
            .collect();
        let added = distance(&opened, &values);
        println!("{weight}: {off:.4} of the source's, int8 adds {added:.4}");
        assert!(off < 0.11 && added < 0.02, "{weight}: {off} {added}");
    }
    assert!(packed > 5 && others > 0, "{packed} {others}");
    // All else is what it is in int8.
    for name in narrow.names().filter(|name| int8.get(name).is_some_and(|view| view.dtype == Dtype::I8)) {
        assert!(narrow.get(name).unwrap().data == int8.get(name).unwrap().data, "{name}");
    }
}

/// Narrowing a model file gives what conversion of its checkpoints gives; int4 stays what it is, and nothing else.
#[test]
fn quantising_to_int4_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let (wide, int4) = (stored(folder.path(), Storage::Keep), stored(folder.path(), Storage::Int4));
    let again = folder.path().join("again.softdimo.safetensors");
    let bytes = |path: &Path| std::fs::read(path).unwrap();
    for input in [&wide, &int4] {
        convert::quantize(input, Storage::Int4, &again, |_, _| ()).unwrap();
        assert!(bytes(&again) == bytes(&int4), "{}", input.display());
    }
    // Calibrated later, which moves no weight.
    let seen = calibrate(&int4, &Options::default(), 2, |_, _| ()).unwrap();
    quantize_calibrated(&int4, Storage::Int4, seen.ranges(), &again, |_, _| ()).unwrap();
    let (old, new) = (Checkpoint::open(&int4).unwrap(), Checkpoint::open(&again).unwrap());
    assert_eq!(new.metadata()["softdimo.format"], "3");
    assert_eq!(new.names().count(), old.names().count() + seen.ranges().len());
    assert!(!seen.ranges().is_empty());
    for name in old.names() {
        assert!(old.get(name).unwrap().data == new.get(name).unwrap().data, "{name}");
    }
    std::fs::remove_file(&again).unwrap();
    for storage in [Storage::F16, Storage::Int8, Storage::Int8Rows, Storage::Keep] {
        let error = convert::quantize(&int4, storage, &again, |_, _| ()).unwrap_err().to_string();
        let expected =
            "its weights are int4, which is not widened again: quantize the file with float weights";
        assert!(error.contains(expected), "{error}");
    }
    let int8 = stored(folder.path(), Storage::Int8);
    let error = convert::quantize(&int8, Storage::Int4, &again, |_, _| ()).unwrap_err().to_string();
    assert!(error.contains("expected float weights to quantise, found i8["), "{error}");
    assert!(!again.exists());
}

/// The same tokens and pictures from mapped and read files and with more threads; in f32 those of int8 arithmetic but for
/// its rounding. What was unpacked counts as memory, and not as a mapped file.
#[test]
fn int4_is_computed_with_as_int8() {
    let folder = tempfile::tempdir().unwrap();
    let path = stored(folder.path(), Storage::Int4);
    let made = |options: Options| {
        let engine = Engine::open(&path, options).unwrap();
        let made = engine.generate(&Request::default().with_seed(5)).unwrap();
        let memory = engine.memory().unwrap();
        assert_eq!(memory.mapped, 0);
        assert!(memory.weights > std::fs::metadata(&path).unwrap().len(), "{memory:?}");
        (made.tokens.to_i64(), made.images.to_f32())
    };
    let one = Options { threads: 1, ..Options::default() };
    let expected = made(one.clone());
    for weights in [WeightsMode::Read, WeightsMode::MapGuarded] {
        assert!(made(Options { weights, ..one.clone() }) == expected, "{weights:?}");
    }
    assert!(made(Options { threads: 2, ..one.clone() }).0 == expected.0);
    for memory in [MemoryMode::Lean, MemoryMode::Fast] {
        let (_, pictures) = made(Options { memory, arithmetic: Arithmetic::F32, ..one.clone() });
        assert!(pictures.iter().all(|x| x.is_finite()));
    }
    let limit = Options { memory_limit: 100_000, ..one };
    let error = Engine::open(&path, limit).unwrap_err().to_string();
    assert!(error.contains("unpacking") && error.contains("the memory limit of 100000 bytes"), "{error}");
}

/// Every family: int4 beside int8, of the same file in floats. Networks of a few random channels, in which nothing averages out.
#[test]
fn pictures_of_every_family() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let families: [(&str, PathBuf); 4] = [
        ("maskbit", stored(&at("maskbit"), Storage::Keep)),
        ("maskgit", maskgit::model(&at("maskgit"), "pytorch_model.bin")),
        ("maskgen", maskgen::model(&at("maskgen"))),
        ("meissonic", meissonic::model(&at("meissonic"))),
    ];
    for (family, wide) in families {
        let compared = [Storage::Int8, Storage::Int4].map(|storage| {
            let narrow = folder.path().join(family).join("narrow.softdimo.safetensors");
            convert::quantize(&wide, storage, &narrow, |_, _| ()).unwrap();
            let found = compare(
                &wide,
                &narrow,
                &Options::default(),
                CompareOptions { pictures: 4, gradients: false },
                |_, _| (),
            )
            .unwrap();
            let least = found.psnr.iter().copied().fold(f64::INFINITY, f64::min);
            let (tokens, divergence) = (found.tokens.unwrap(), found.divergence.unwrap());
            println!("{family} {storage:?}: {least:.1} dB, tokens {tokens:.3}, KL {divergence:.5}");
            (least, tokens, divergence)
        });
        let [int8, int4] = compared;
        // The image tokenizer is the same.
        assert!((int8.0 - int4.0).abs() < 1e-6, "{family}");
        assert!(int4.1 > 0.3 && int4.2 < 1.0, "{family}: {int4:?}");
        assert!(int4.2 > int8.2, "{family}: int4 changes nothing");
    }
}

/// Every broken rule of the layout is named on opening.
#[test]
fn wrong_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = File::read(&stored(folder.path(), Storage::Int4));
    let (int4, scale) = (int4_name(MATRIX), scale_name(MATRIX));
    let fails = |expected: &str, change: &dyn Fn(&mut File)| {
        let mut file = file.clone();
        change(&mut file);
        let path = folder.path().join("wrong.softdimo.safetensors");
        std::fs::write(&path, file.bytes()).unwrap();
        let error = Model::open(&path, WeightsMode::Map, Limits::default()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let shape = |name: &str, shape: &[usize]| {
        let (name, shape) = (name.to_string(), shape.to_vec());
        move |f: &mut File| f.header[&name]["shape"] = shape.clone().into()
    };
    let dtype = |name: &str, dtype: &'static str| {
        let name = name.to_string();
        move |f: &mut File| f.header[&name]["dtype"] = dtype.into()
    };
    let of_pairs = format!("tensor '{int4}': expected u8[inputs, outputs / 2], neither of them 0, found");
    fails(&format!("{of_pairs} i8[48, 72]"), &dtype(&int4, "I8"));
    fails(&format!("{of_pairs} u8[3456]"), &shape(&int4, &[3456]));
    let of_scales = format!("tensor '{scale}': expected f16[2, 144], one scale for 32 inputs of each output");
    fails(&format!("{of_scales} of '{MATRIX}', found bf16[2, 144]"), &dtype(&scale, "BF16"));
    fails(&format!("{of_scales} of '{MATRIX}', found f16[144, 2]"), &shape(&scale, &[144, 2]));
    // Of other sizes that agree with each other.
    let other = |f: &mut File| {
        shape(&int4, &[24, 144])(f);
        shape(&scale, &[1, 288])(f);
    };
    fails(&format!("tensor '{MATRIX}.transposed': expected i8[48, 144], found i8[24, 288]"), &other);
    fails("expected finite scales, found NaN at [1, 2]", &|f| {
        f.tensor(&scale)[2 * 146..][..2].copy_from_slice(&half::f16::NAN.to_le_bytes());
    });
    fails(&format!("'{scale}'"), &|f| f.rename(&scale, "elsewhere"));
    fails(&format!("'{MATRIX}'"), &|f| f.rename(&int4, "elsewhere"));
    fails(&format!("expected one form of a matrix, found '{MATRIX}' beside it"), &|f| {
        f.rename("student.class_emb.weight", MATRIX);
    });
    fails("softdimo.format", &|f| drop(f.metadata().insert("softdimo.format".into(), "4".into())));
    // As if it were of the second format.
    fails(&format!("'{MATRIX}'"), &|f| drop(f.metadata().insert("softdimo.format".into(), "2".into())));
}

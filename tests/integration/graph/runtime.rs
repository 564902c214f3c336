//! Engines over the small MaskBit checkpoint, and the `Weight` op, which needs a model file.

use std::path::Path;
use std::sync::OnceLock;

use super::case::close;
use softdimo::checkpoint::Checkpoint;
use softdimo::convert::{self, Storage};
use softdimo::graph::{Graph, Value};
use softdimo::tensor::{Dtype, Tensor};
use softdimo::weights::Weights;
use softdimo::{Arithmetic, Engine, MemoryMode, Options, WeightsMode};

pub const LEAN: (Storage, MemoryMode) = (Storage::Keep, MemoryMode::Lean);

const STORAGES: [Storage; 3] = [Storage::Keep, Storage::F16, Storage::Int8];

fn stored_name(name: &str, transposed: bool) -> String {
    if transposed { format!("{name}.transposed") } else { name.into() }
}

/// A weight of the file as an f32 value.
fn weight(g: &Graph, checkpoint: &Checkpoint, name: &str) -> Value {
    let shape = match checkpoint.get(name) {
        Some(view) => view.shape,
        None => {
            let across = checkpoint.get(&stored_name(name, true)).unwrap().shape;
            [across[1], across[0]].into()
        }
    };
    Weights::new(checkpoint).get(g, name, shape).unwrap()
}

/// One model file a storage, for all tests.
fn model(storage: Storage) -> &'static Path {
    static FILES: [OnceLock<tempfile::TempPath>; 3] = [const { OnceLock::new() }; 3];
    FILES[STORAGES.iter().position(|s| *s == storage).unwrap()].get_or_init(|| {
        let source = convert::Source { storage, ..support::maskbit::student() };
        let file = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        convert::generator(&source, &file, |_, _| ()).unwrap();
        file
    })
}

pub fn engine(form: (Storage, MemoryMode)) -> Engine {
    engine_of(form, 1)
}

pub fn engine_of((storage, memory): (Storage, MemoryMode), threads: usize) -> Engine {
    let options = Options {
        memory,
        threads,
        weights: WeightsMode::Map,
        arithmetic: Arithmetic::F32,
        ..Default::default()
    };
    Engine::open(model(storage), options).unwrap()
}

/// A matrix, a kernel and a vector, read directly, expanded to f32 and used in a product.
#[test]
fn weights_come_from_the_model_file() {
    for storage in STORAGES {
        let checkpoint = Checkpoint::open(model(storage)).unwrap();
        for memory in [MemoryMode::Lean, MemoryMode::Fast] {
            let engine = engine((storage, memory));
            for (name, rank) in [
                ("student.input_proj.weight", 2),
                ("student.pos_emb", 3),
                ("decoder.conv_in.weight", 4),
                ("student.input_proj.bias", 1),
            ] {
                // A matrix for int8 arithmetic is stored the other way round.
                let transposed = storage == Storage::Int8 && rank == 2;
                let view = checkpoint.get(&stored_name(name, transposed)).unwrap();
                assert_eq!(view.shape.rank(), rank);
                let dtype = match (storage, rank) {
                    (Storage::Keep, _) | (_, 1) => Dtype::F32,
                    (Storage::Int8, 2 | 4) => Dtype::I8,
                    _ => Dtype::F16,
                };
                assert_eq!(view.dtype, dtype);

                let g = Graph::new();
                let x = g.input("x", Dtype::F32, [1]).unwrap();
                let w = weight(&g, &checkpoint, name);
                let again = weight(&g, &checkpoint, name);
                g.output("w", w);
                g.output("scaled", g.mul(again, x).unwrap());
                let x = Tensor::from_f32([1], &[2.0]);
                let found = engine.run_graph(g, vec![("x".into(), x)]).unwrap();

                let mut stored = view.to_f32();
                if transposed {
                    let (rows, columns) = (view.shape[1], view.shape[0]);
                    stored = (0..rows * columns).map(|i| stored[i % columns * rows + i / columns]).collect();
                }
                if dtype == Dtype::I8 {
                    let scales = checkpoint.get(&format!("{name}.scale")).unwrap().to_f32();
                    let row = stored.len() / scales.len();
                    stored.iter_mut().enumerate().for_each(|(i, v)| *v *= scales[i / row]);
                }
                assert_eq!(found[0].1.to_f32(), stored, "{name} {storage:?} {memory:?}");
                let doubled: Vec<f32> = stored.iter().map(|v| 2.0 * v).collect();
                assert_eq!(found[1].1.to_f32(), doubled, "{name} {storage:?} {memory:?}");
            }
        }
    }
}

/// The weight operands that the runtime packs or transposes: MatMul, Gemm, Conv, Gather.
#[test]
fn weights_are_operands_in_every_storage_and_memory_mode() {
    for storage in STORAGES {
        let checkpoint = Checkpoint::open(model(storage)).unwrap();
        let g = Graph::new();
        let weight = |name: &str| weight(&g, &checkpoint, name);
        let (matrix, bias) = (weight("student.input_proj.weight"), weight("student.input_proj.bias"));
        let kernel = weight("decoder.conv_in.weight");
        let table = weight("student.class_emb.weight");
        let x = g.input("x", Dtype::F32, [5, 14]).unwrap();
        let image = g.input("image", Dtype::F32, [1, 14, 6, 5]).unwrap();
        let class = g.input("class", Dtype::I64, [3]).unwrap();
        g.output("gemm", g.gemm(x, matrix, Some(bias), false, true).unwrap());
        let transposed = g.transpose(matrix, &[1, 0]).unwrap();
        g.output("matmul", g.matmul(x, transposed).unwrap());
        g.output("conv", g.conv(image, kernel, None, [1, 1], [1; 4], 1).unwrap());
        g.output("gather", g.gather(table, class).unwrap());
        let d = g.shape(table)[1];
        let scope = Weights::new(&checkpoint).at("student.class_emb");
        for (name, shape) in [("rows", vec![3]), ("rows of a table of indices", vec![3, 1])] {
            let class = g.reshape(class, shape).unwrap();
            g.output(name, scope.rows(&g, "weight", [11, d], class).unwrap());
        }

        let mut feeds = vec![
            ("x".to_string(), super::case::random(1, [5, 14])),
            ("image".to_string(), super::case::random(2, [1, 14, 6, 5])),
            ("class".to_string(), Tensor::from_i64([3], &[0, 10, 4])),
        ];
        let engines = [MemoryMode::Lean, MemoryMode::Fast].map(|memory| engine((storage, memory)));
        let results = engines.map(|e| e.run_graph(g.clone(), feeds.clone()).unwrap());
        for name in g.weights() {
            feeds.push((name.clone(), checkpoint.get(&name).unwrap().to_tensor()));
        }
        let expected = super::case::evaluate(&g, &feeds);
        for found in results {
            for ((name, found), expected) in found.iter().zip(&expected) {
                close(&found.to_f64(), &expected.data, 1e-5).unwrap_or_else(|e| panic!("{name}: {e}"));
            }
        }
    }
}

/// The runtime pushes the outer transposes through the addition and rewrites the weight for it; FAST must not
/// put the original back. (A square weight, so that a wrong one would not even fail.)
#[test]
fn optimisers_may_rewrite_weights() {
    let checkpoint = Checkpoint::open(model(Storage::Keep)).unwrap();
    let name = "student.last_layer.0.weight";
    let view = checkpoint.get(name).unwrap();
    let n = view.shape[0];
    assert_eq!(*view.shape, [n, n]);
    let g = Graph::new();
    let x = g.input("x", Dtype::F32, [2, n, n]).unwrap();
    let w = g.weight(name, Dtype::F32, [n, n]).unwrap();
    let y = g.exp(g.add(g.transpose(x, &[0, 2, 1]).unwrap(), w).unwrap()).unwrap();
    g.output("y", g.log(g.transpose(y, &[0, 2, 1]).unwrap()).unwrap());
    let x = super::case::random(7, [2, n, n]);
    let run = |memory| {
        let feeds = vec![("x".to_string(), x.clone())];
        engine((Storage::Keep, memory)).run_graph(g.clone(), feeds).unwrap().remove(0).1.to_f64()
    };
    close(&run(MemoryMode::Fast), &run(MemoryMode::Lean), 1e-5).unwrap();
}

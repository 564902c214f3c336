//! Graphs in ONNX Runtime and in the f64 evaluator.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use softdimo::checkpoint::Checkpoint;
use softdimo::graph::Graph;
use softdimo::graph::eval::{Array, eval};
use softdimo::tensor::Tensor;
use softdimo::{Engine, MemoryMode};

pub type Named = Vec<(String, Tensor)>;

/// Where a graph is computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Backend {
    Evaluator,
    Runtime(MemoryMode),
}

pub const BACKENDS: [Backend; 3] =
    [Backend::Evaluator, Backend::Runtime(MemoryMode::Lean), Backend::Runtime(MemoryMode::Fast)];

/// The bundled model opened, for all tests of a binary: they queue up on its worker. Any model will do to run graphs
/// over other weights, as nothing of them is kept.
pub fn engine(memory: MemoryMode) -> &'static Engine {
    static ENGINES: [OnceLock<Engine>; 2] = [const { OnceLock::new() }; 2];
    let engine = &ENGINES[usize::from(memory == MemoryMode::Fast)];
    engine.get_or_init(|| crate::open(&crate::bundled(), memory))
}

/// What a graph reads: weights of the checkpoint, and inputs.
pub fn feeds(checkpoint: &Checkpoint, g: &Graph, inputs: &Named) -> HashMap<String, Array> {
    let stored = g.weights().into_iter().map(|name| {
        let view = checkpoint.get(&name).unwrap();
        (name, Array::new(view.shape.clone(), view.to_f64()))
    });
    stored.chain(inputs.iter().map(|(name, t)| (name.clone(), array(t)))).collect()
}

/// A tensor as the evaluator has it.
pub fn array(t: &Tensor) -> Array {
    Array::new(t.shape().clone(), t.to_f64())
}

/// The outputs of a graph in the f64 evaluator.
pub fn evaluate(checkpoint: &Checkpoint, g: &Graph, inputs: &Named) -> HashMap<String, Array> {
    eval(g, &feeds(checkpoint, g, inputs)).unwrap().into_iter().collect()
}

/// The outputs of a graph in ONNX Runtime.
pub fn run(
    memory: MemoryMode,
    checkpoint: &Arc<Checkpoint>,
    g: &Graph,
    inputs: &Named,
) -> HashMap<String, Tensor> {
    let results = engine(memory).run_graph_over(checkpoint.clone(), g.clone(), inputs.clone());
    results.unwrap().into_iter().collect()
}

pub fn compute(
    backend: Backend,
    checkpoint: &Arc<Checkpoint>,
    g: &Graph,
    inputs: &Named,
) -> HashMap<String, Array> {
    match backend {
        Backend::Evaluator => evaluate(checkpoint, g, inputs),
        Backend::Runtime(memory) => {
            run(memory, checkpoint, g, inputs).iter().map(|(name, t)| (name.clone(), array(t))).collect()
        }
    }
}

//! The graph IR: an arena of single-output nodes in topological order, with typed handles.
//!
//! A model is a plain function that adds nodes through the builder methods in `build.rs`. Its gradient,
//! simplification and lowering to ONNX are passes over the same graph. Shapes are static: a graph is
//! built for one batch size, which costs milliseconds. Printing a graph gives SSA text.

mod alone;
mod build;
pub mod eval;
mod fused;
mod grad;
mod infer;
pub mod int8;
mod layers;
mod memory;
mod normalize;
pub mod onnx;
mod op;
mod print;
mod proto;
pub mod qdq;
mod recompute;
pub mod rewrite;
mod simplify;
mod work;

use std::cell::{Ref, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

pub use grad::{grad, grad_recomputing, grad_with_cotangent};
pub use op::Op;
pub use simplify::simplify;

use crate::error::{Error, Result};
use crate::tensor::{Dtype, Shape};

/// Handle of a node's result. Only meaningful for the graph that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(u32);

impl Value {
    /// Position of the node in [`Graph::nodes`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One operation, its inputs, and the inferred type of its result.
#[derive(Clone, Debug)]
pub struct Node {
    pub op: Op,
    pub inputs: Vec<Value>,
    pub dtype: Dtype,
    pub shape: Shape,
}

/// A static computation. Builder methods take `&self` so that calls nest; nodes are only ever appended,
/// and every input of a node precedes it.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: RefCell<Vec<Node>>,
    outputs: RefCell<Vec<(String, Value)>>,
    /// First node of each input's and weight's name.
    names: RefCell<HashMap<String, Value>>,
    /// Numbers of nodes that there were when a block ended, ascending, see [`Graph::end_block`].
    block_ends: RefCell<Vec<usize>>,
}

impl Graph {
    pub fn new() -> Graph {
        Graph::default()
    }

    /// Append a node after checking its operands; the error names the op, its rule and the operands. An
    /// input's name is its own; a weight may be read more than once, always under one type.
    pub fn push(&self, op: Op, inputs: &[Value]) -> Result<Value> {
        let mut nodes = self.nodes.borrow_mut();
        let value = Value(nodes.len() as u32);
        let (dtype, shape) = {
            let operands: Option<Vec<&Node>> = inputs.iter().map(|v| nodes.get(v.index())).collect();
            let what = || format!("op {}", op.name());
            let operands =
                operands.ok_or_else(|| Error::invalid(what(), "values of this graph", "another graph's"))?;
            let (dtype, shape) = infer::infer(&op, &operands)?;
            // Zero dimensions count as 1, so that products and strides of other axes fit as well.
            let bytes = shape.iter().try_fold(dtype.size(), |n, &d| n.checked_mul(d.max(1)));
            if bytes.is_none_or(|n| n > isize::MAX as usize) {
                return Err(Error::invalid(what(), "a result that fits the address space", &shape));
            }
            (dtype, shape)
        };
        if let Op::Input { name, .. } | Op::Weight { name, .. } = &op {
            match self.names.borrow_mut().entry(name.clone()) {
                Entry::Vacant(free) => drop(free.insert(value)),
                Entry::Occupied(taken) => {
                    let first = &nodes[taken.get().index()];
                    if matches!(op, Op::Input { .. }) || first.op != op {
                        let found = format!("{} {}{}", first.op.name(), first.dtype, first.shape);
                        return Err(Error::invalid(
                            format!("op {} {dtype}{shape} named '{name}'", op.name()),
                            "a name that is free",
                            found,
                        ));
                    }
                }
            }
        }
        nodes.push(Node { op, inputs: inputs.to_vec(), dtype, shape });
        Ok(value)
    }

    /// Name `value` as a result of the graph. Order of calls is order of results; one value may have several
    /// names. [`simplify`] rejects a name that another result, an input or a weight has.
    pub fn output(&self, name: impl Into<String>, value: Value) {
        self.outputs.borrow_mut().push((name.into(), value));
    }

    /// The named results, in order.
    pub fn outputs(&self) -> Vec<(String, Value)> {
        self.outputs.borrow().clone()
    }

    /// Mark the end of a block, such as a layer: every node added since the last mark belongs to it.
    /// [`grad_recomputing`] keeps what later blocks read of a block and computes the rest of it twice; nothing
    /// else looks at the marks, and [`simplify`] drops them. Hands `x` back, so that calls nest.
    pub fn end_block(&self, x: Value) -> Value {
        self.block_ends.borrow_mut().push(self.nodes.borrow().len());
        x
    }

    /// All nodes in topological order.
    pub fn nodes(&self) -> Ref<'_, Vec<Node>> {
        self.nodes.borrow()
    }

    /// Shape of a value.
    pub fn shape(&self, value: Value) -> Shape {
        self.nodes.borrow()[value.index()].shape.clone()
    }

    /// Element type of a value.
    pub fn dtype(&self, value: Value) -> Dtype {
        self.nodes.borrow()[value.index()].dtype
    }

    /// Names of the weights the graph reads, each once, in order of first use.
    pub fn weights(&self) -> Vec<String> {
        let mut seen = std::collections::HashSet::new();
        let nodes = self.nodes.borrow();
        nodes
            .iter()
            .filter_map(|n| match &n.op {
                Op::Weight { name, .. } if seen.insert(name.clone()) => Some(name.clone()),
                _ => None,
            })
            .collect()
    }
}

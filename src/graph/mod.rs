//! The graph IR: an arena of single-output nodes in topological order, with typed handles.
//!
//! A model is a plain function that adds nodes through the builder methods in `build.rs`. Its gradient,
//! simplification and lowering to ONNX are passes over the same graph. Shapes are static: a graph is
//! built for one batch size, which costs milliseconds. Printing a graph gives SSA text.

mod build;
pub mod eval;
pub mod onnx;
mod op;
mod simplify;

use std::cell::{Ref, RefCell};
use std::fmt;

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
}

impl Graph {
    pub fn new() -> Graph {
        Graph::default()
    }

    /// Append a node after checking its operands; the error names the op and both shapes.
    pub fn push(&self, op: Op, inputs: &[Value]) -> Result<Value> {
        let mut nodes = self.nodes.borrow_mut();
        let (dtype, shape) = {
            let operands: Vec<&Node> = inputs.iter().map(|v| &nodes[v.index()]).collect();
            op::infer(&op, &operands)?
        };
        if shape
            .checked_len()
            .and_then(|n| n.checked_mul(dtype.size()))
            .is_none_or(|n| n > isize::MAX as usize)
        {
            return Err(Error::invalid(
                format!("op {}", op.name()),
                "a result that fits the address space",
                &shape,
            ));
        }
        let value = Value(nodes.len() as u32);
        nodes.push(Node { op, inputs: inputs.to_vec(), dtype, shape });
        Ok(value)
    }

    /// Name `value` as a result of the graph. Order of calls is order of results.
    pub fn output(&self, name: impl Into<String>, value: Value) {
        self.outputs.borrow_mut().push((name.into(), value));
    }

    /// The named results, in order.
    pub fn outputs(&self) -> Vec<(String, Value)> {
        self.outputs.borrow().clone()
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

    /// Bytes of activations alive at once if nodes run in order and each result is freed after its last
    /// use: a lower bound of what a session allocates, used for the memory limit.
    pub fn peak_activation_bytes(&self) -> u64 {
        let nodes = self.nodes.borrow();
        let mut last_use = vec![0usize; nodes.len()];
        for (i, node) in nodes.iter().enumerate() {
            last_use[i] = i;
            for v in &node.inputs {
                last_use[v.index()] = i;
            }
        }
        for (_, v) in self.outputs.borrow().iter() {
            last_use[v.index()] = nodes.len();
        }
        let mut dies_at: Vec<Vec<usize>> = vec![Vec::new(); nodes.len() + 1];
        let (mut live, mut peak) = (0u64, 0u64);
        for (i, node) in nodes.iter().enumerate() {
            if !node.op.is_source() && !node.op.is_view() {
                live += (node.shape.len() * node.dtype.size()) as u64;
                peak = peak.max(live);
                dies_at[last_use[i]].push(i);
            }
            for dead in std::mem::take(&mut dies_at[i]) {
                live -= (nodes[dead].shape.len() * nodes[dead].dtype.size()) as u64;
            }
        }
        peak
    }
}

impl fmt::Display for Graph {
    /// SSA text: `%3: f32[2, 64, 48] = Add(%1, %2)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, node) in self.nodes.borrow().iter().enumerate() {
            write!(f, "%{i}: {}{} = {}(", node.dtype, node.shape, node.op.name())?;
            for (k, v) in node.inputs.iter().enumerate() {
                write!(f, "{}%{}", if k > 0 { ", " } else { "" }, v.0)?;
            }
            f.write_str(")")?;
            let attributes = node.op.attributes();
            if !attributes.is_empty() {
                write!(f, " {{{attributes}}}")?;
            }
            writeln!(f)?;
        }
        for (name, v) in self.outputs.borrow().iter() {
            writeln!(f, "output {name} = %{}", v.0)?;
        }
        Ok(())
    }
}

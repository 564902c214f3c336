//! Recomputation: the forward part of a block once more, for the backward part of the same block (gradient
//! checkpointing, arXiv 1604.06174 §4).
//!
//! The copy of a block is an equal computation of equal values, and every optimiser, ours and the runtime's,
//! would merge it with the first one, whose activations would then live until the backward part is through. And
//! a copy that depends on nothing but the block's input may run at any time, such as before all else. Both are
//! settled by what a copy reads: its input from *after* the cotangent that the block is about to use.
//! [`after`] gives that value, which no optimiser can tell from another one.

use std::collections::HashMap;

use super::{Graph, Node, Op, Value};
use crate::error::Result;
use crate::tensor::{Dtype, Shape};

/// The blocks of a graph, as the backward part walks through them from the last to the first.
pub(super) struct Blocks {
    /// The node behind the last one of each block, ascending. From the last of them on, nothing is computed
    /// again.
    ends: Vec<usize>,
    /// The block under way and its values: of a node in it its copy, of a value from outside its late twin.
    block: Option<usize>,
    copies: HashMap<Value, Value>,
}

impl Blocks {
    /// Nothing is computed again.
    pub fn kept() -> Blocks {
        Blocks { ends: Vec::new(), block: None, copies: HashMap::new() }
    }

    /// Every block that `g` has marked.
    pub fn marked(g: &Graph) -> Blocks {
        Blocks { ends: g.block_ends.borrow().clone(), ..Blocks::kept() }
    }

    /// Node `i` and its result as the rule of `i` may read them, in a backward part that has come down to `i`
    /// with the cotangent `dy`: copies, where the node is in a block.
    pub fn again(&mut self, g: &Graph, i: usize, node: &Node, dy: Value) -> Result<(Node, Value)> {
        let block = self.ends.partition_point(|&end| end <= i);
        if block == self.ends.len() {
            return Ok((node.clone(), Value(i as u32)));
        }
        if self.block != Some(block) {
            self.block = Some(block);
            self.copies.clear();
            self.copy(g, block, dy)?;
        }
        Ok((Node { inputs: self.read(&node.inputs), ..node.clone() }, self.read(&[Value(i as u32)])[0]))
    }

    /// Values as the block under way reads them.
    fn read(&self, values: &[Value]) -> Vec<Value> {
        values.iter().map(|v| self.copies.get(v).copied().unwrap_or(*v)).collect()
    }

    /// Append a copy of the block that reads what comes from before it after `dy`. Nodes that no rule reads in
    /// the end are dead code.
    fn copy(&mut self, g: &Graph, block: usize, dy: Value) -> Result<()> {
        let first = block.checked_sub(1).map_or(0, |before| self.ends[before]);
        for i in first..self.ends[block] {
            let node = g.nodes()[i].clone();
            for &v in &node.inputs {
                let op = g.nodes()[v.index()].op.clone();
                let outside = matches!(op, Op::Input { .. }) || (!op.is_source() && v.index() < first);
                if outside && !self.copies.contains_key(&v) {
                    self.copies.insert(v, after(g, v, dy)?);
                }
            }
            let mut inputs = self.read(&node.inputs);
            if let (Op::DequantizeLinear { .. }, &[weight, scale]) = (&node.op, &inputs[..]) {
                // An expanded weight is four times the stored one: again rather than from the forward part.
                inputs = vec![weight, after(g, scale, dy)?];
            }
            // What else reads nothing but weights is handed on: small, or a weight in another dtype.
            if inputs != node.inputs {
                self.copies.insert(Value(i as u32), g.push(node.op, &inputs)?);
            }
        }
        Ok(())
    }
}

/// The value x, not before `late` is there: x where the first element of `late` is not beyond infinity. Bit for
/// bit x, whatever `late` holds. Integers and bools are handed on as they are: indices and masks are small.
fn after(g: &Graph, x: Value, late: Value) -> Result<Value> {
    let n = g.shape(late).len();
    if g.dtype(x) != Dtype::F32 || n == 0 {
        return Ok(x);
    }
    let first = g.reshape(g.slice(g.reshape(late, [n])?, 0, 0, 1)?, Shape::default())?;
    g.where_(g.greater(first, g.scalar(f32::INFINITY)?)?, g.scalar(0.0)?, x)
}

/// x of [`after`], or the value itself.
pub(super) fn at_any_time(nodes: &[Node], value: Value) -> Value {
    let node = |v: Value| &nodes[v.index()];
    let is = |v: Value, number: f64| match &node(v).op {
        Op::Constant { value } => value.shape().rank() == 0 && value.to_f64() == [number],
        _ => false,
    };
    match (&node(value).op, &node(value).inputs[..]) {
        (Op::Where, &[late, zero, x]) if matches!(node(late).op, Op::Greater) => {
            let unbounded = is(node(late).inputs[1], f64::INFINITY);
            let same = node(x).shape == node(value).shape && node(late).shape.rank() == 0;
            if unbounded && is(zero, 0.0) && same { x } else { value }
        }
        _ => value,
    }
}

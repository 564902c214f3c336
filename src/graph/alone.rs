//! One node as a graph of its own.

use std::collections::BTreeSet;

use super::{Graph, Op, Value};
use crate::error::Result;

impl Graph {
    /// The node of `value` as a graph with the result `y`. Weights and constants that it reads, and what is made of nothing
    /// else, come with it, as does the enlargement of an operand; other operands are inputs `x0`, `x1`, …
    ///
    /// # Errors
    /// None but of operands that are no inputs, such as bytes.
    pub fn alone(&self, value: Value) -> Result<Graph> {
        let nodes = self.nodes();
        let mut fixed = Vec::with_capacity(nodes.len());
        for node in nodes.iter() {
            let is_fixed =
                !matches!(node.op, Op::Input { .. }) && node.inputs.iter().all(|v| fixed[v.index()]);
            fixed.push(is_fixed);
        }
        let (mut needed, mut outside) = (BTreeSet::from([value]), BTreeSet::new());
        let mut open = vec![value];
        while let Some(at) = open.pop() {
            for &input in &nodes[at.index()].inputs {
                let enlarges = at == value && matches!(nodes[input.index()].op, Op::Resize { .. });
                if !(fixed[input.index()] || enlarges) {
                    outside.insert(input);
                } else if needed.insert(input) {
                    open.push(input);
                }
            }
        }
        let (new, mut map) = (Graph::new(), vec![Value(0); nodes.len()]);
        for (i, &input) in outside.iter().enumerate() {
            let node = &nodes[input.index()];
            map[input.index()] = new.input(&format!("x{i}"), node.dtype, node.shape.clone())?;
        }
        // Values are numbered in the order of the graph.
        for &at in needed.difference(&outside) {
            let node = &nodes[at.index()];
            let inputs: Vec<Value> = node.inputs.iter().map(|v| map[v.index()]).collect();
            map[at.index()] = new.push(node.op.clone(), &inputs)?;
        }
        new.output("y", map[value.index()]);
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Dtype;

    #[test]
    fn what_is_fixed_comes_along() {
        let g = Graph::new();
        let x = g.input("x", Dtype::F32, [4, 4]).unwrap();
        let w = g.weight("w", Dtype::F32, [4, 4]).unwrap();
        let twice = g.mul_scalar(w, 2.0).unwrap();
        let before = g.mul_scalar(x, 3.0).unwrap();
        let y = g.gemm(before, twice, Some(before), false, false).unwrap();
        g.output("after", g.mul_scalar(y, 3.0).unwrap());
        let alone = g.alone(y).unwrap();
        assert_eq!(alone.weights(), ["w"]);
        let inputs = alone.nodes().iter().filter(|n| matches!(n.op, Op::Input { .. })).count();
        assert_eq!((inputs, alone.computing_nodes(), g.computing_nodes()), (1, 2, 4));
        assert_eq!(alone.shape(alone.outputs()[0].1), g.shape(y));
    }
}

//! How much there is to compute in a graph.

use super::{Graph, Node, Op};

/// Multiply-adds of a node; 0 where nothing is computed, and one a result where it takes none.
pub(super) fn of_node(nodes: &[Node], n: &Node) -> u64 {
    if n.op.is_source() || n.op.is_view() {
        return 0;
    }
    let operand = |at: usize| &nodes[n.inputs[at].index()].shape;
    // Products per result.
    let inner = match &n.op {
        // A product with every key, and one with every value.
        Op::Attention { .. } => 2 * operand(1)[1],
        Op::MatMul => operand(0).last().copied().unwrap_or(1),
        Op::Gemm { trans_a, .. } => operand(0)[usize::from(!trans_a)],
        Op::MatMulIntegerToFloat { .. } => operand(0)[1],
        Op::Conv { .. } | Op::ConvTranspose { .. } | Op::QLinearConv { .. } => {
            operand(1)[1..].iter().product()
        }
        _ => 1,
    };
    (n.shape.len() as u64).saturating_mul(inner as u64)
}

impl Graph {
    /// Multiply-adds of one run; a result that takes none counts as one.
    pub fn work(&self) -> u64 {
        let nodes = self.nodes();
        nodes.iter().map(|n| of_node(&nodes, n)).fold(0, u64::saturating_add)
    }

    /// Nodes that compute something: neither inputs, weights nor constants.
    pub fn computing_nodes(&self) -> usize {
        self.nodes().iter().filter(|n| !n.op.is_source()).count()
    }
}

//! Rewrites for running, which keep values but for last bits: the last pass before a session is made of a graph, after its gradient. What they
//! make is quicker or smaller to run and harder to read; models and gradients are written without them. A file a rule.

mod attention;
mod downsample;
mod layer_norm;
mod normalization_gradient;
mod rows;
mod strips;
mod sum_normalization;
mod upsample;

use std::cell::Ref;

use super::{Graph, Node, Op, Value, simplify};
use crate::error::Result;

/// What the runtime at hand is quick at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernels {
    /// SkipLayerNormalization rather than LayerNormalization.
    pub skip_layer_normalization: bool,
}

/// An equal graph to be run: the same inputs, weights and named outputs.
///
/// # Errors
/// Those of simplification.
pub fn for_running(graph: &Graph, kernels: Kernels) -> Result<Graph> {
    let mut graph = attention::rewrite(graph)?;
    if kernels.skip_layer_normalization {
        graph = layer_norm::rewrite(&graph)?;
    }
    let graph = normalization_gradient::rewrite(&rows::rewrite(&graph)?)?;
    sum_normalization::rewrite(&strips::rewrite(&downsample::rewrite(&upsample::rewrite(&graph)?)?)?)
}

/// A graph that is being made again, node by node.
struct Rebuild<'a> {
    old: Ref<'a, Vec<Node>>,
    /// How often each node of the old graph is read, as an operand or as a result.
    uses: Vec<usize>,
    new: Graph,
    /// What stands for the old nodes so far.
    map: Vec<Value>,
}

impl Rebuild<'_> {
    fn node(&self, old: Value) -> &Node {
        &self.old[old.index()]
    }

    /// The node of an old value that nothing but one other node reads.
    fn private(&self, old: Value) -> Option<&Node> {
        (self.uses[old.index()] == 1).then(|| self.node(old))
    }

    /// What stands for an old value.
    fn now(&self, old: Value) -> Value {
        self.map[old.index()]
    }

    /// The element of a constant that has just one.
    fn number(&self, old: Value) -> Option<f32> {
        match &self.node(old).op {
            Op::Constant { value } if value.shape().len() == 1 => value.to_f64().first().map(|&x| x as f32),
            _ => None,
        }
    }
}

/// `graph` with what `rule` makes instead of some nodes; itself where it makes nothing.
fn rebuild(graph: &Graph, rule: impl Fn(&Rebuild<'_>, &Node) -> Result<Option<Value>>) -> Result<Graph> {
    let old = graph.nodes();
    let mut uses = vec![0; old.len()];
    let outputs = graph.outputs();
    for v in old.iter().flat_map(|n| &n.inputs).chain(outputs.iter().map(|(_, v)| v)) {
        uses[v.index()] += 1;
    }
    let mut r = Rebuild { old, uses, new: Graph::new(), map: Vec::new() };
    let mut replaced = false;
    for i in 0..r.old.len() {
        let node = &r.old[i];
        let value = match rule(&r, node)? {
            Some(value) => {
                replaced = true;
                value
            }
            None => {
                let inputs: Vec<Value> = node.inputs.iter().map(|&v| r.now(v)).collect();
                r.new.push(node.op.clone(), &inputs)?
            }
        };
        r.map.push(value);
    }
    if !replaced {
        return Ok(graph.clone());
    }
    for (name, v) in outputs {
        r.new.output(name, r.now(v));
    }
    simplify(&r.new)
}

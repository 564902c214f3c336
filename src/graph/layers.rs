//! Which layer a node belongs to, for whoever reads a profile.

use super::{Graph, Node, Op};

/// The name of a weight without its last part: `student.first_layer.0` of `student.first_layer.0.weight` and of the scales of its
/// int8 form.
fn layer(weight: &str) -> &str {
    let stored = [".scale", ".transposed"].into_iter().find_map(|suffix| weight.strip_suffix(suffix));
    let weight = stored.filter(|stored| stored.ends_with(".weight")).unwrap_or(weight);
    weight.rsplit_once('.').map_or(weight, |(layer, _)| layer)
}

impl Graph {
    /// A layer's name for each node: that of the weight that it reads, itself or through nodes that compute of weights alone, and
    /// else that of the latest node it reads. Empty for what reads inputs and constants only.
    pub fn layers(&self) -> Vec<String> {
        let nodes = self.nodes();
        let mut layers: Vec<String> = Vec::with_capacity(nodes.len());
        // Whether the value is made of weights and constants alone.
        let mut stored: Vec<bool> = Vec::with_capacity(nodes.len());
        for node in nodes.iter() {
            let Node { op, inputs, .. } = node;
            let is_stored = match op {
                Op::Weight { .. } | Op::Constant { .. } => true,
                Op::Input { .. } => false,
                _ => inputs.iter().all(|v| stored[v.index()]),
            };
            let named = inputs.iter().map(|v| v.index()).filter(|&i| !layers[i].is_empty());
            let own = named.clone().filter(|&i| stored[i]).min();
            let from = own.or_else(|| named.max());
            layers.push(match (op, from) {
                (Op::Weight { name, .. }, _) => layer(name).to_string(),
                (_, Some(i)) => layers[i].clone(),
                (_, None) => String::new(),
            });
            stored.push(is_stored);
        }
        layers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Result;
    use crate::graph::onnx::{LoweringOptions, Placement, lower, lower_with};
    use crate::tensor::Dtype;

    #[test]
    fn a_node_belongs_to_the_weights_it_reads_or_to_what_is_before_it() -> Result<()> {
        let g = Graph::new();
        let x = g.input("x", Dtype::F32, [2, 2])?;
        let early = g.relu(x)?;
        let [a, b] = ["net.0.weight", "net.1.weight"].map(|n| g.weight(n, Dtype::F16, [2, 2]).unwrap());
        let (a, b) = (g.cast(a, Dtype::F32)?, g.cast(b, Dtype::F32)?);
        let first = g.gemm(early, a, None, false, true)?;
        let after = g.relu(first)?;
        let second = g.add(g.gemm(after, b, None, false, true)?, first)?;
        g.output("y", second);
        let layers = g.layers();
        let of = |v: super::super::Value| layers[v.index()].as_str();
        assert_eq!([x, early, a, first, after, second].map(of), ["", "", "net.0", "net.0", "net.0", "net.1"]);
        let holds = |model: &[u8], name: &str| model.windows(name.len()).any(|w| w == name.as_bytes());
        let name = format!("net.0/v{}", first.index());
        let named = LoweringOptions { by_layer: true, ..LoweringOptions::default() };
        assert!(holds(&lower_with(&g, Placement::Inputs, named), &name));
        assert!(!holds(&lower(&g, Placement::Inputs), "net.0/"));
        Ok(())
    }
}

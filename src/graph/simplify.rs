//! Value-preserving rewrites: dead code goes, equal nodes merge, constants fold, layout chains collapse.
//! One walk in topological order rebuilds the graph; each rule is one function.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Graph, Node, Op, Value, eval};
use crate::error::{Error, Result};
use crate::tensor::{Dtype, Tensor, TensorView};

/// Largest constant that folding may create, in elements: folding must never blow up what is stored.
const FOLD_LIMIT: usize = 1 << 16;

/// An equivalent graph with the same inputs and named outputs. Weights are never folded, so they stay file-backed.
///
/// # Errors
/// Two outputs of one name, or an output named like an input or a weight.
pub fn simplify(graph: &Graph) -> Result<Graph> {
    check_output_names(graph)?;
    let mut graph = rewrite(graph)?;
    // Folding and chain skipping leave operands behind that nothing uses any more.
    while !live_nodes(&graph).iter().all(|&l| l) {
        graph = rewrite(&graph)?;
    }
    Ok(graph)
}

fn check_output_names(graph: &Graph) -> Result<()> {
    let nodes = graph.nodes();
    let mut taken: HashSet<&str> = nodes
        .iter()
        .filter_map(|n| match &n.op {
            Op::Input { name, .. } | Op::Weight { name, .. } => Some(name.as_str()),
            _ => None,
        })
        .collect();
    for (name, _) in graph.outputs.borrow().iter() {
        if !taken.insert(name) {
            let expected = "a name that no other result, input or weight has";
            return Err(Error::invalid(format!("output '{name}'"), expected, "a taken name"));
        }
    }
    Ok(())
}

/// One walk over the live nodes of `graph`.
fn rewrite(graph: &Graph) -> Result<Graph> {
    let nodes = graph.nodes();
    let live = live_nodes(graph);
    let new = Graph::new();
    let mut map: Vec<Option<Value>> = vec![None; nodes.len()];
    let mut seen: HashMap<u64, Value> = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        if !live[i] {
            continue;
        }
        let inputs = node.inputs.iter().map(|v| map[v.index()].unwrap()).collect();
        let (op, inputs) = skip_layout_chain(&new, &node.op, inputs);
        let value = match collapse(&new, &op, node, &inputs) {
            Some(kept) => kept,
            None => {
                let (op, inputs) = fold(&new, op, inputs, node)?;
                let key = hash(&op, &inputs);
                let equal = |v: &&Value| {
                    let nodes = new.nodes();
                    nodes[v.index()].op == op && nodes[v.index()].inputs == inputs
                };
                match seen.get(&key).filter(equal) {
                    Some(&same) => same,
                    None => {
                        let value = new.push(op, &inputs)?;
                        seen.insert(key, value);
                        value
                    }
                }
            }
        };
        map[i] = Some(value);
    }
    for (name, v) in graph.outputs() {
        new.output(name, map[v.index()].unwrap());
    }
    Ok(new)
}

/// Which nodes some output (or the graph's signature: its inputs) needs.
fn live_nodes(graph: &Graph) -> Vec<bool> {
    let nodes = graph.nodes();
    let mut live: Vec<bool> = nodes.iter().map(|n| matches!(n.op, Op::Input { .. })).collect();
    for (_, v) in graph.outputs() {
        live[v.index()] = true;
    }
    for i in (0..nodes.len()).rev() {
        if live[i] {
            for v in &nodes[i].inputs {
                live[v.index()] = true;
            }
        }
    }
    live
}

/// Equal nodes have equal hashes. A constant prints without its elements, so its first bytes are hashed too;
/// tables that begin alike are told apart by comparison.
fn hash(op: &Op, inputs: &[Value]) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{op:?}").hash(&mut hasher);
    inputs.hash(&mut hasher);
    if let Op::Constant { value } = op {
        let bytes = value.bytes();
        bytes[..bytes.len().min(256)].hash(&mut hasher);
    }
    hasher.finish()
}

/// Whether every element of a constant is `x`. The first one decides for nearly all.
fn is_filled_with(op: &Op, x: f64) -> bool {
    let Op::Constant { value } = op else { return false };
    let mut elements = value.bytes().chunks_exact(value.dtype().size());
    let Some(data) = elements.next() else { return false };
    let first = TensorView { dtype: value.dtype(), shape: [1].into(), data };
    first.to_f64() == [x] && elements.all(|e| e == data)
}

/// Nodes that are the identity on their input: same-shape Reshape and Expand, identity Transpose, full
/// Slice, same-dtype Cast, x·1, x+0.
fn collapse(g: &Graph, op: &Op, node: &Node, inputs: &[Value]) -> Option<Value> {
    let x = *inputs.first()?;
    let same_type = |v: Value| g.shape(v) == node.shape && g.dtype(v) == node.dtype;
    match op {
        Op::Reshape { .. } | Op::Expand { .. } | Op::Cast { .. } | Op::Slice { .. } | Op::Concat { .. }
            if inputs.len() == 1 && same_type(x) =>
        {
            Some(x)
        }
        Op::Transpose { perm } if perm.iter().enumerate().all(|(i, &p)| i == p) => Some(x),
        Op::Mul | Op::Add => {
            let neutral = if matches!(op, Op::Mul) { 1.0 } else { 0.0 };
            let is_neutral = |v: Value| is_filled_with(&g.nodes()[v.index()].op, neutral);
            match (inputs[0], inputs[1]) {
                (a, b) if is_neutral(b) && same_type(a) => Some(a),
                (a, b) if is_neutral(a) && same_type(b) => Some(b),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Reshape of Reshape and Transpose of Transpose become one node; so does a product of a transposed matrix.
fn skip_layout_chain(g: &Graph, op: &Op, inputs: Vec<Value>) -> (Op, Vec<Value>) {
    let Some(&x) = inputs.first() else { return (op.clone(), inputs) };
    let nodes = g.nodes();
    let producer = &nodes[x.index()];
    match (op, &producer.op) {
        (Op::Reshape { .. }, Op::Reshape { .. }) => (op.clone(), producer.inputs.clone()),
        (Op::Transpose { perm }, Op::Transpose { perm: inner }) => {
            let perm = perm.iter().map(|&p| inner[p]).collect();
            (Op::Transpose { perm }, producer.inputs.clone())
        }
        (Op::Gemm { trans_a, trans_b }, _) => match &nodes[inputs[1].index()] {
            Node { op: Op::Transpose { perm }, inputs: matrix, .. } if perm[..] == [1, 0] => {
                let mut inputs = inputs.clone();
                inputs[1] = matrix[0];
                (Op::Gemm { trans_a: *trans_a, trans_b: !trans_b }, inputs)
            }
            _ => (op.clone(), inputs),
        },
        _ => (op.clone(), inputs),
    }
}

/// Whether the evaluator's f64 holds these integers and all sums of them exactly: their magnitudes add up to less
/// than 2^53 (what is 2^53 there may have been 2^53 + 1).
fn is_exact(dtype: Dtype, array: &eval::Array) -> bool {
    let limit = (1u64 << f64::MANTISSA_DIGITS) as f64;
    // Also false for NaN.
    dtype != Dtype::I64 || array.data.iter().map(|x| x.abs()).sum::<f64>() < limit
}

/// A node whose operands are all constants becomes a constant of its value. Products are left to the
/// runtime: the evaluator's plain loops would cost more than they save; int8 values stay as narrow as they are.
/// So are integers that are not exact in the evaluator: the runtime knows how they round, saturate and wrap.
fn fold(g: &Graph, op: Op, inputs: Vec<Value>, node: &Node) -> Result<(Op, Vec<Value>)> {
    let constant = |v: &Value| matches!(g.nodes()[v.index()].op, Op::Constant { .. });
    let foldable = matches!(node.dtype, Dtype::F32 | Dtype::I64)
        && !op.is_source()
        && !matches!(op, Op::StopGradient | Op::DequantizeLinear { .. } | Op::MatMul | Op::Gemm { .. })
        && !matches!(op, Op::MatMulIntegerToFloat { .. })
        && !matches!(op, Op::Conv { .. } | Op::ConvTranspose { .. })
        && node.shape.len() <= FOLD_LIMIT
        && inputs.iter().all(constant);
    if !foldable {
        return Ok((op, inputs));
    }
    let operands: Vec<eval::Array> = inputs
        .iter()
        .filter_map(|v| match &g.nodes()[v.index()].op {
            Op::Constant { value } => Some(eval::Array::new(value.shape().clone(), value.to_f64())),
            _ => None,
        })
        .collect();
    if !inputs.iter().zip(&operands).all(|(v, array)| is_exact(g.dtype(*v), array)) {
        return Ok((op, inputs));
    }
    let folded = Node { op, inputs: Vec::new(), dtype: node.dtype, shape: node.shape.clone() };
    let array = eval::eval_node(&folded, &operands.iter().collect::<Vec<_>>(), &HashMap::new())?;
    if !is_exact(node.dtype, &array) {
        return Ok((folded.op, inputs));
    }
    let value = match node.dtype {
        Dtype::I64 => {
            Tensor::from_i64(array.shape, &array.data.iter().map(|&x| x as i64).collect::<Vec<_>>())
        }
        _ => Tensor::from_f32(array.shape, &array.data.iter().map(|&x| x as f32).collect::<Vec<_>>()),
    };
    Ok((Op::Constant { value }, Vec::new()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::eval::{Array, eval};

    /// `simplify` must keep the values; returns node counts before and after.
    fn check(build: impl Fn(&Graph) -> Result<Value>) -> (usize, usize) {
        let g = Graph::new();
        let y = build(&g).unwrap();
        g.output("y", y);
        let s = simplify(&g).unwrap();
        let mut feeds = HashMap::new();
        for node in g.nodes().iter() {
            if let Op::Input { name, shape, .. } = &node.op {
                let data = (0..shape.len()).map(|i| (i as f64 * 0.7).sin()).collect();
                feeds.insert(name.clone(), Array::new(shape.clone(), data));
            }
        }
        assert_eq!(eval(&g, &feeds).unwrap(), eval(&s, &feeds).unwrap(), "\n{g}\n{s}");
        (g.nodes().len(), s.nodes().len())
    }

    #[test]
    fn dead_code_goes() {
        let (_, after) = check(|g| {
            let x = g.input("x", Dtype::F32, [2, 3])?;
            g.exp(x)?;
            g.neg(x)
        });
        assert_eq!(after, 2);
    }

    #[test]
    fn equal_nodes_merge() {
        let (_, after) = check(|g| {
            let x = g.input("x", Dtype::F32, [2, 3])?;
            g.add(g.exp(x)?, g.exp(x)?)
        });
        assert_eq!(after, 3);
    }

    #[test]
    fn constants_fold() {
        let (_, after) = check(|g| {
            let x = g.input("x", Dtype::F32, [2, 3])?;
            let c = g.add(g.scalar(2.0)?, g.mul(g.scalar(3.0)?, g.scalar(4.0)?)?)?;
            g.mul(x, c)
        });
        assert_eq!(after, 3);
    }

    #[test]
    fn layout_chains_collapse() {
        let (_, after) = check(|g| {
            let x = g.input("x", Dtype::F32, [2, 3, 4])?;
            let a = g.reshape(g.reshape(x, [6, 4])?, [2, 3, 4])?;
            g.transpose(g.transpose(a, &[1, 2, 0])?, &[2, 0, 1])
        });
        assert_eq!(after, 1);
    }

    #[test]
    fn a_product_reads_a_matrix_either_way() {
        for trans_b in [false, true] {
            let (_, after) = check(|g| {
                let (x, w) = (g.input("x", Dtype::F32, [2, 3])?, g.input("w", Dtype::F32, [3, 3])?);
                g.gemm(x, g.transpose(w, &[1, 0])?, None, false, trans_b)
            });
            assert_eq!(after, 3);
        }
    }

    #[test]
    fn neutral_operands_vanish() {
        let (_, after) = check(|g| {
            let x = g.input("x", Dtype::F32, [2, 3])?;
            g.mul_scalar(g.add_scalar(x, 0.0)?, 1.0)
        });
        assert_eq!(after, 1);
    }

    #[test]
    fn equal_constants_merge_and_others_do_not() {
        let (_, after) = check(|g| {
            let x = g.input("x", Dtype::F32, [2, 3])?;
            let twice = |c: f32| g.add(g.mul_scalar(x, c)?, g.mul_scalar(x, c)?);
            g.add(twice(2.0)?, twice(3.0)?)
        });
        assert_eq!(after, 8); // x, two constants, two products, three sums
    }

    #[test]
    fn a_chain_that_is_the_identity_vanishes_beside_another_use() {
        let (_, after) = check(|g| {
            let x = g.input("x", Dtype::F32, [2, 3])?;
            let t = g.transpose(x, &[1, 0])?;
            g.matmul(t, g.transpose(t, &[1, 0])?)
        });
        assert_eq!(after, 3);
    }

    /// int8 stays int8, in a file and as a constant: expanding it is the runtime's business.
    #[test]
    fn int8_is_never_expanded() {
        let g = Graph::new();
        let w = g.weight("w", Dtype::I8, [2, 3]).unwrap();
        let scale = g.weight("w.scale", Dtype::F32, [2]).unwrap();
        g.output("weight", g.dequantize_linear(w, scale).unwrap());
        let q = g.constant(Tensor::new(Dtype::I8, [2, 3], [1, 2, 3, 4, 5, 6]).unwrap()).unwrap();
        let half = g.constant(Tensor::from_f32([2], &[0.5, 0.5])).unwrap();
        g.output("constant", g.dequantize_linear(q, half).unwrap());
        let s = simplify(&g).unwrap();
        assert_eq!(s.weights(), ["w", "w.scale"]);
        assert_eq!(s.to_string(), g.to_string());
    }

    /// What the evaluator's f64 cannot hold is left to the runtime, which wraps; all else folds.
    #[test]
    fn integers_fold_exactly_or_not_at_all() {
        const EDGE: i64 = 1 << 53;
        let g = Graph::new();
        let ints = |values: &[i64]| g.constant(Tensor::from_i64([values.len()], values)).unwrap();
        let x = ints(&[EDGE + 1, i64::MAX, i64::MIN, -EDGE - 1]);
        let one = ints(&[1]);
        g.output("copy", g.reshape(x, [2, 2]).unwrap());
        g.output("sum", g.add(x, one).unwrap());
        g.output("difference", g.sub(x, one).unwrap());
        g.output("product", g.mul(x, x).unwrap());
        g.output("largest", g.reduce_max(x, 0).unwrap());
        g.output("total", g.reduce_sum(ints(&[EDGE - 1, 2, 1 - EDGE]), &[0]).unwrap());
        g.output("square", g.mul(ints(&[(1 << 30) + 1]), ints(&[(1 << 30) + 1])).unwrap());
        g.output("first", g.arg_max(ints(&[EDGE, EDGE + 1]), 0).unwrap());
        g.output("float", g.cast(ints(&[EDGE + (1 << 29) + 1]), Dtype::F32).unwrap());
        g.output("cast", g.cast(g.scalar(1e18).unwrap(), Dtype::I64).unwrap());
        g.output("small", g.mul(ints(&[-3, 1 << 40]), ints(&[5])).unwrap());
        let s = simplify(&g).unwrap();

        let model =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/emoji-32.softdimo.safetensors");
        let engine = crate::Engine::open(model, crate::Options::default()).unwrap();
        let found: HashMap<String, Tensor> =
            engine.run_graph(s.clone(), Vec::new()).unwrap().into_iter().collect();
        assert_eq!(found, engine.run_graph(g, Vec::new()).unwrap().into_iter().collect());
        let expected: [(&str, &[i64]); 9] = [
            ("copy", &[EDGE + 1, i64::MAX, i64::MIN, -EDGE - 1]),
            ("sum", &[EDGE + 2, i64::MIN, i64::MIN + 1, -EDGE]),
            ("difference", &[EDGE, i64::MAX - 1, i64::MAX, -EDGE - 2]),
            ("product", &[(EDGE + 1).wrapping_mul(EDGE + 1), 1, 0, (EDGE + 1).wrapping_mul(EDGE + 1)]),
            ("largest", &[i64::MAX]),
            ("total", &[2]),
            ("square", &[((1 << 30) + 1) * ((1 << 30) + 1)]),
            ("first", &[1]),
            ("small", &[-15, 5 << 40]),
        ];
        for (name, values) in expected {
            assert_eq!(found[name].to_i64(), values, "{name}");
        }
        assert_eq!(found["float"].to_f32(), [(EDGE + (1 << 29) + 1) as f32]);
        let small = s.outputs().into_iter().find(|(name, _)| name == "small").unwrap().1;
        assert!(matches!(s.nodes()[small.index()].op, Op::Constant { .. }), "{s}");
    }

    #[test]
    fn weights_never_fold() {
        let g = Graph::new();
        let w = g.weight("w", Dtype::F16, [4]).unwrap();
        let y = g.cast(w, Dtype::F32).unwrap();
        g.output("y", y);
        assert_eq!(simplify(&g).unwrap().weights(), ["w"]);
    }
}

//! Lowering: Graph → ONNX ModelProto bytes. Weights are declared by name only, so their bytes are never
//! copied into the proto.
//!
//! Field numbers are those of onnx.proto3.

use std::collections::{BTreeSet, HashSet};

use super::proto::{Message, data_type, external_tensor, tensor_header, value_info};
use super::{Graph, Node, Op, Value, work};
use crate::tensor::{Dtype, Shape, Tensor};

/// ONNX operator set: the first with Gelu and LayerNormalization both as standard ops.
const OPSET: u64 = 20;
const IR_VERSION: u64 = 9;

/// How a graph's weights appear in the ONNX model.
#[derive(Clone, Copy)]
pub enum Placement<'a> {
    /// As graph inputs: the caller binds them for every run, over any memory, and no optimiser of the
    /// runtime can copy or fold them.
    Inputs,
    /// As initializers in external data: of each weight, the file's name and its offset there. The runtime
    /// may fold and pack them. A weight of which there is none is a graph input.
    External(&'a dyn Fn(&str) -> Option<(String, usize)>),
}

impl std::fmt::Debug for Placement<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Placement::Inputs => f.write_str("Inputs"),
            Placement::External(_) => f.write_str("External"),
        }
    }
}

/// The operators that ONNX Runtime adds to ONNX's.
const MICROSOFT: &str = "com.microsoft";

/// Domain and name of the operator that hands on its input, an f32 tensor, and lets others have the processor: see
/// [`LoweringOptions`].
pub const YIELD: (&str, &str) = ("softdimo", "Yield");

/// Names of the operators that compute an [`Op::SumNormalization`], of [`YIELD`]'s domain, one for results of f32 and one for
/// levels, and of their attributes.
pub mod sum_normalization {
    pub const TO_FLOATS: &str = "SumNormalization";
    pub const TO_LEVELS: &str = "SumNormalizationToLevels";
    pub const LEVELS: &str = "levels";
    pub const GROUPS: &str = "groups";
    pub const EPS: &str = "eps";
    pub const SILU: &str = "silu";
    pub const ZERO: &str = "zero_point";
    pub const MOST: &str = "most";
    pub const FACTOR: &str = "factor";
    pub const CHANNELS_LAST: &str = "channels_last";
    /// Whether others may have the processor before it computes.
    pub const YIELDS: &str = "yields";
}

/// Name of the attribute of the operator of [`Op::RowScales`].
pub const ROW_FACTOR: &str = "factor";

/// What an ONNX model may hold beside the graph.
#[derive(Clone, Copy, Debug)]
pub struct LoweringOptions {
    /// A [`YIELD`] after every so many multiply-adds: before the operand of the next convolution or product with weights, where
    /// no optimiser of the runtime looks for nodes to fuse.
    pub yield_every: u64,
    /// Values are called `<layer>/v<index>` and `<layer>/h<count>`, after [`Graph::layers`], and nodes as their results: the
    /// runtime names what it fuses by one or the other.
    pub by_layer: bool,
}

impl Default for LoweringOptions {
    fn default() -> LoweringOptions {
        LoweringOptions { yield_every: u64::MAX, by_layer: false }
    }
}

/// Serialise `graph`. Inputs, outputs and weights keep their names; other values are called `v<index>`, and
/// helpers `h<count>`, where those are free.
pub fn lower(graph: &Graph, placement: Placement<'_>) -> Vec<u8> {
    lower_with(graph, placement, LoweringOptions::default())
}

/// [`lower`], with what `options` ask for.
pub fn lower_with(graph: &Graph, placement: Placement<'_>, options: LoweringOptions) -> Vec<u8> {
    let nodes = graph.nodes();
    let layers = if options.by_layer { graph.layers() } else { Vec::new() };
    let mut taken: HashSet<String> = graph.outputs().into_iter().map(|(name, _)| name).collect();
    for node in nodes.iter() {
        if let Op::Input { name, .. } | Op::Weight { name, .. } = &node.op {
            taken.insert(name.clone());
        }
    }
    let mut out = Lowering {
        names: Vec::new(),
        taken,
        body: Message::default(),
        extra: 0,
        operand: None,
        domains: BTreeSet::new(),
        layer: options.by_layer.then(String::new),
    };
    let mut work = 0_u64;
    let mut declared = HashSet::new();
    for (i, node) in nodes.iter().enumerate() {
        if let Some(layer) = layers.get(i) {
            out.layer = Some(layer.clone());
        }
        let name = match &node.op {
            Op::Input { name, .. } | Op::Weight { name, .. } => name.clone(),
            _ => out.value(format!("v{i}")),
        };
        out.names.push(name.clone());
        match &node.op {
            Op::Input { dtype, shape, .. } => {
                out.body.message(graph_field::INPUT, &value_info(&name, *dtype, shape));
            }
            Op::Weight { dtype, shape, .. } => {
                if declared.insert(name.clone()) {
                    let place = match placement {
                        Placement::Inputs => None,
                        Placement::External(place) => place(&name),
                    };
                    match place {
                        None => out.body.message(graph_field::INPUT, &value_info(&name, *dtype, shape)),
                        Some((file, offset)) => {
                            let tensor = external_tensor(&name, *dtype, shape, &file, offset);
                            out.body.message(graph_field::INITIALIZER, &tensor)
                        }
                    };
                }
            }
            Op::Constant { value } => out.initializer(&name, value),
            _ => {
                let wanted = work >= options.yield_every;
                let itself = wanted && matches!(node.op, Op::SumNormalization { .. });
                if wanted && takes_weights(&nodes, node) {
                    out.yields(node.inputs[0]);
                    work = 0;
                } else if itself {
                    work = 0;
                }
                out.node(&nodes, node, Value(i as u32), itself);
                work = work.saturating_add(work::of_node(&nodes, node));
            }
        }
    }
    for (name, v) in graph.outputs() {
        // A named output is its own value, so that one node can serve several names.
        let from = out.names[v.index()].clone();
        out.emit("Identity", &[&from], &name, &[]);
        let node = &nodes[v.index()];
        out.body.message(graph_field::OUTPUT, &value_info(&name, node.dtype, &node.shape));
    }
    out.body.string(graph_field::NAME, "softdimo");
    let mut opset = Message::default();
    opset.string(1, "").int(2, OPSET);
    let mut model = Message::default();
    model.int(1, IR_VERSION).string(2, "softdimo").message(7, &out.body).message(8, &opset);
    for domain in out.domains {
        let mut other = Message::default();
        other.string(1, domain).int(2, 1);
        model.message(8, &other);
    }
    model.0
}

/// Whether this is a convolution, or a product, of a computed f32 tensor with weights, or rounds one for a product in int8.
fn takes_weights(nodes: &[Node], node: &Node) -> bool {
    let computed = |v: &Value| !nodes[v.index()].op.is_source() && nodes[v.index()].dtype == Dtype::F32;
    matches!(node.op, Op::Gemm { .. } | Op::Conv { .. } | Op::QuantizeLinear { .. })
        && computed(&node.inputs[0])
}

mod graph_field {
    pub const NODE: u32 = 1;
    pub const NAME: u32 = 2;
    pub const INITIALIZER: u32 = 5;
    pub const INPUT: u32 = 11;
    pub const OUTPUT: u32 = 12;
}

/// Attribute of an ONNX node.
enum Attribute<'a> {
    Float(&'a str, f32),
    Int(&'a str, i64),
    Ints(&'a str, Vec<i64>),
    Text(&'a str, &'a str),
}

struct Lowering {
    /// ONNX name of each node's result.
    names: Vec<String>,
    /// Names of the graph's own inputs, weights and outputs.
    taken: HashSet<String>,
    /// GraphProto under construction.
    body: Message,
    /// Counter for helper tensors.
    extra: usize,
    /// The first operand of the node at hand, where it is not the one of the graph.
    operand: Option<String>,
    /// Operator sets beside ONNX's own.
    domains: BTreeSet<&'static str>,
    /// That of the node at hand, where nodes have names.
    layer: Option<String>,
}

fn ints(values: &[usize]) -> Vec<i64> {
    values.iter().map(|&v| v as i64).collect()
}

impl Lowering {
    fn initializer(&mut self, name: &str, value: &Tensor) {
        let mut t = tensor_header(name, value.dtype(), value.shape());
        t.bytes(9, value.bytes());
        self.body.message(graph_field::INITIALIZER, &t);
    }

    /// A helper initializer holding int64s, e.g. a shape; returns its name.
    fn int_tensor(&mut self, values: &[usize]) -> String {
        let name = self.fresh();
        self.initializer(&name, &Tensor::from_i64([values.len()], &ints(values)));
        name
    }

    fn fresh(&mut self) -> String {
        self.extra += 1;
        self.value(format!("h{}", self.extra))
    }

    /// A free name for a value.
    fn value(&self, name: String) -> String {
        self.free(match self.layer.as_deref() {
            None | Some("") => name,
            Some(layer) => format!("{layer}/{name}"),
        })
    }

    /// `name`, made different from the graph's own names.
    fn free(&self, mut name: String) -> String {
        while self.taken.contains(&name) {
            name.push('_');
        }
        name
    }

    /// Have the next node read its first operand, `value`, after others had the processor.
    fn yields(&mut self, value: Value) {
        let operand = self.fresh();
        let mut node = Message::default();
        node.string(1, &self.names[value.index()]).string(2, &operand).string(4, YIELD.1).string(7, YIELD.0);
        self.domains.insert(YIELD.0);
        self.body.message(graph_field::NODE, &node);
        self.operand = Some(operand);
    }

    /// A helper initializer of levels, all the same: zero points, of the shape of the scales that they go with.
    fn levels(&mut self, dtype: Dtype, level: u8, shape: &Shape) -> String {
        let name = self.fresh();
        let mut t = tensor_header(&name, dtype, shape);
        t.bytes(9, &vec![level; shape.len()]);
        self.body.message(graph_field::INITIALIZER, &t);
        name
    }

    /// A helper initializer of one number.
    fn number(&mut self, value: f32) -> String {
        let name = self.fresh();
        self.initializer(&name, &Tensor::from_f32([], &[value]));
        name
    }

    fn emit(&mut self, op_type: &str, inputs: &[&str], output: &str, attributes: &[Attribute<'_>]) {
        self.emit_of("", op_type, inputs, output, attributes);
    }

    fn emit_of(
        &mut self,
        domain: &'static str,
        op_type: &str,
        inputs: &[&str],
        output: &str,
        attributes: &[Attribute<'_>],
    ) {
        let mut node = Message::default();
        for input in inputs {
            node.string(1, input);
        }
        node.string(2, output).string(4, op_type);
        if !domain.is_empty() {
            node.string(7, domain);
            self.domains.insert(domain);
        }
        if self.layer.is_some() {
            node.string(3, output);
        }
        for attribute in attributes {
            let mut a = Message::default();
            match attribute {
                Attribute::Float(name, v) => a.string(1, name).float(2, *v).int(20, 1),
                Attribute::Int(name, v) => a.string(1, name).int(3, *v as u64).int(20, 2),
                Attribute::Text(name, v) => a.string(1, name).string(4, v).int(20, 3),
                Attribute::Ints(name, v) => {
                    a.string(1, name);
                    for x in v {
                        a.int(8, *x as u64);
                    }
                    a.int(20, 7)
                }
            };
            node.message(5, &a);
        }
        self.body.message(graph_field::NODE, &node);
    }

    /// `yields`: whether an operator of our own lets others have the processor.
    fn node(&mut self, nodes: &[Node], node: &Node, value: Value, yields: bool) {
        use Attribute::*;
        let y = self.names[value.index()].clone();
        let mut inputs: Vec<String> = node.inputs.iter().map(|v| self.names[v.index()].clone()).collect();
        if let Some(operand) = self.operand.take() {
            inputs[0] = operand;
        }
        let x: Vec<&str> = inputs.iter().map(String::as_str).collect();
        match &node.op {
            Op::Input { .. } | Op::Weight { .. } | Op::Constant { .. } => {
                unreachable!("sources are declared, not lowered")
            }
            Op::Abs
            | Op::Add
            | Op::Cos
            | Op::Div
            | Op::Equal
            | Op::Erf
            | Op::Exp
            | Op::Greater
            | Op::Log
            | Op::MatMul
            | Op::Max
            | Op::Min
            | Op::Mul
            | Op::Neg
            | Op::Reciprocal
            | Op::Relu
            | Op::Sigmoid
            | Op::Sign
            | Op::Sin
            | Op::Sqrt
            | Op::Sub
            | Op::Tanh
            | Op::Where => self.emit(node.op.name(), &x, &y, &[]),
            Op::StopGradient => self.emit("Identity", &x, &y, &[]),
            Op::Clip { min, max } => {
                let (low, high) = (self.number(*min), self.number(*max));
                self.emit("Clip", &[x[0], &low, &high], &y, &[]);
            }
            Op::Gelu { tanh } => {
                self.emit("Gelu", &x, &y, &[Text("approximate", if *tanh { "tanh" } else { "none" })]);
            }
            Op::Gemm { trans_a, trans_b } => {
                let flags = [Int("transA", (*trans_a).into()), Int("transB", (*trans_b).into())];
                self.emit("Gemm", &x, &y, &flags);
            }
            Op::Conv { strides, pads, group } | Op::ConvTranspose { strides, pads, group } => {
                let attributes =
                    [Ints("strides", ints(strides)), Ints("pads", ints(pads)), Int("group", *group as i64)];
                self.emit(node.op.name(), &x, &y, &attributes);
            }
            Op::Concat { axis } => self.emit("Concat", &x, &y, &[Int("axis", *axis as i64)]),
            Op::Expand { shape } => {
                let shape = self.int_tensor(shape);
                self.emit("Expand", &[x[0], &shape], &y, &[]);
            }
            Op::Gather => self.emit("Gather", &x, &y, &[Int("axis", 0)]),
            Op::OneHot { depth } => {
                // The CPU provider takes i64 indices of rank 1 or more.
                let indices = &nodes[node.inputs[0].index()].shape;
                let at_least_1d = [&[1][..], indices].concat();
                let (from, to) = (self.int_tensor(&at_least_1d), self.int_tensor(&node.shape));
                let [wide, flat, hot, d, values] = std::array::from_fn(|_| self.fresh());
                self.initializer(&d, &Tensor::from_i64([], &[*depth as i64]));
                self.initializer(&values, &Tensor::from_f32([2], &[0.0, 1.0]));
                self.emit("Cast", &x, &wide, &[Int("to", data_type(Dtype::I64) as i64)]);
                self.emit("Reshape", &[&wide, &from], &flat, &[Int("allowzero", 1)]);
                self.emit("OneHot", &[&flat, &d, &values], &hot, &[Int("axis", -1)]);
                self.emit("Reshape", &[&hot, &to], &y, &[Int("allowzero", 1)]);
            }
            Op::Pad { before, after } => {
                let pads = self.int_tensor(&[before.as_slice(), after.as_slice()].concat());
                self.emit("Pad", &[x[0], &pads], &y, &[]);
            }
            Op::Reshape { shape } => {
                let shape = self.int_tensor(shape);
                self.emit("Reshape", &[x[0], &shape], &y, &[Int("allowzero", 1)]);
            }
            Op::Slice { axis, start, end, step } => {
                // A step beyond the end selects the first element, however large it is.
                let step = (*step).min(*end).max(1);
                let [start, end, axis, step] = [*start, *end, *axis, step].map(|v| self.int_tensor(&[v]));
                self.emit("Slice", &[x[0], &start, &end, &axis, &step], &y, &[]);
            }
            Op::Transpose { perm } => self.emit("Transpose", &x, &y, &[Ints("perm", ints(perm))]),
            Op::ArgMax { axis } => {
                self.emit("ArgMax", &x, &y, &[Int("axis", *axis as i64), Int("keepdims", 0)]);
            }
            Op::ReduceMax { axis } => {
                let axes = self.int_tensor(&[*axis]);
                self.emit("ReduceMax", &[x[0], &axes], &y, &[Int("keepdims", 1)]);
            }
            Op::ReduceMean { axes } | Op::ReduceSum { axes } => {
                let axes = self.int_tensor(axes);
                let attributes = [Int("keepdims", 1), Int("noop_with_empty_axes", 1)];
                self.emit(node.op.name(), &[x[0], &axes], &y, &attributes);
            }
            Op::LogSoftmax { axis } | Op::Softmax { axis } => {
                self.emit(node.op.name(), &x, &y, &[Int("axis", *axis as i64)]);
            }
            Op::GroupNormalization { groups, eps } => {
                // Reshape to [B, groups, -1] and InstanceNormalization: the fastest form on the CPU
                // provider; then y·scale + bias per channel.
                let shape = &node.shape;
                let rest: usize = shape[1..].iter().product::<usize>() / groups;
                let grouped = self.int_tensor(&[shape[0], *groups, rest]);
                let full = self.int_tensor(shape);
                let mut affine = vec![shape[1]];
                affine.extend(std::iter::repeat_n(1, shape.rank() - 2));
                let affine = self.int_tensor(&affine);
                let [a, b, c, d, scale, bias, one, zero] = std::array::from_fn(|_| self.fresh());
                self.initializer(&one, &Tensor::from_f32([*groups], &vec![1.0; *groups]));
                self.initializer(&zero, &Tensor::from_f32([*groups], &vec![0.0; *groups]));
                self.emit("Reshape", &[x[0], &grouped], &a, &[]);
                self.emit("InstanceNormalization", &[&a, &one, &zero], &b, &[Float("epsilon", *eps)]);
                self.emit("Reshape", &[&b, &full], &c, &[]);
                self.emit("Reshape", &[x[1], &affine], &scale, &[]);
                self.emit("Reshape", &[x[2], &affine], &bias, &[]);
                self.emit("Mul", &[&c, &scale], &d, &[]);
                self.emit("Add", &[&d, &bias], &y, &[]);
            }
            Op::SkipLayerNormalization { eps } => {
                self.emit_of(MICROSOFT, "SkipLayerNormalization", &x, &y, &[Float("epsilon", *eps)]);
            }
            Op::Attention { heads, scale } => {
                let attributes = [Int("num_heads", *heads as i64), Float("scale", *scale)];
                self.emit_of(MICROSOFT, "MultiHeadAttention", &x, &y, &attributes);
            }
            Op::DepthToSpace { factor } => {
                self.emit("DepthToSpace", &x, &y, &[Int("blocksize", *factor as i64), Text("mode", "DCR")]);
            }
            Op::LayerNormalization { eps } => {
                self.emit("LayerNormalization", &x, &y, &[Int("axis", -1), Float("epsilon", *eps)]);
            }
            Op::AveragePool { size } => {
                let window = vec![*size as i64; 2];
                let attributes = [Ints("kernel_shape", window.clone()), Ints("strides", window)];
                self.emit("AveragePool", &x, &y, &attributes);
            }
            Op::Resize { .. } => {
                let input = &nodes[node.inputs[0].index()].shape;
                debug_assert_eq!(input.rank(), 4);
                let sizes = self.int_tensor(&node.shape);
                let attributes = [
                    Text("mode", "nearest"),
                    Text("coordinate_transformation_mode", "asymmetric"),
                    Text("nearest_mode", "floor"),
                ];
                self.emit("Resize", &[x[0], "", "", &sizes], &y, &attributes);
            }
            Op::GroupNormalizationGradient { groups, eps, silu } => {
                use sum_normalization::{EPS, GROUPS, SILU};
                let attributes = [Int(GROUPS, *groups as i64), Float(EPS, *eps), Int(SILU, (*silu).into())];
                self.emit_of(YIELD.0, node.op.name(), &x, &y, &attributes);
            }
            Op::RowScales { factor } => {
                self.emit_of(YIELD.0, node.op.name(), &x, &y, &[Float(ROW_FACTOR, *factor)]);
            }
            Op::ScaledRows => self.emit_of(YIELD.0, node.op.name(), &x, &y, &[]),
            Op::DequantizeLinear { axis } => {
                let mut inputs = x.clone();
                // Stated: ONNX Runtime 1.27 and older have it quantized again behind a Transpose, to u8 where none is.
                let zero = (x.len() == 2 && nodes[node.inputs[0].index()].dtype == Dtype::I8)
                    .then(|| self.levels(Dtype::I8, 0, &nodes[node.inputs[1].index()].shape));
                inputs.extend(zero.as_deref());
                self.emit("DequantizeLinear", &inputs, &y, &[Int("axis", *axis as i64)]);
            }
            Op::QuantizeLinear { zero_point } => {
                let zero = self.levels(Dtype::U8, *zero_point, &nodes[node.inputs[1].index()].shape);
                self.emit("QuantizeLinear", &[x[0], x[1], &zero], &y, &[Int("axis", 0)]);
            }
            Op::MatMulIntegerToFloat { zero_point } => {
                let (one, zero) = (self.number(1.0), self.levels(Dtype::U8, *zero_point, &Shape::default()));
                let operands = [x[0], x[1], &one, x[2], &zero];
                self.emit_of(MICROSOFT, node.op.name(), &operands, &y, &[]);
            }
            Op::QLinearConv { strides, pads, x_zero, y_zero, channels_last } => {
                let [x_zero, y_zero] =
                    [x_zero, y_zero].map(|&zero| self.levels(Dtype::U8, zero, &Shape::default()));
                // As many as there are scales.
                let w_zero = self.levels(Dtype::I8, 0, &nodes[node.inputs[2].index()].shape);
                let one = self.number(1.0);
                let mut operands = vec![x[0], &one, &x_zero, x[1], x[2], &w_zero, &one, &y_zero];
                operands.extend(x.get(3));
                let mut attributes = vec![Ints("strides", ints(strides)), Ints("pads", ints(pads))];
                if *channels_last {
                    attributes.push(Int("channels_last", 1));
                }
                let domain = if *channels_last { MICROSOFT } else { "" };
                self.emit_of(domain, "QLinearConv", &operands, &y, &attributes);
            }
            Op::SumNormalization { levels, groups, eps, silu, to, factor, channels_last } => {
                use sum_normalization::*;
                let mut attributes = vec![
                    Int(LEVELS, *levels as i64),
                    Int(GROUPS, *groups as i64),
                    Float(EPS, *eps),
                    Int(SILU, (*silu).into()),
                    Int(FACTOR, *factor as i64),
                    Int(CHANNELS_LAST, (*channels_last).into()),
                    Int(YIELDS, yields.into()),
                ];
                if let Some([zero, most]) = *to {
                    attributes.extend([Int(ZERO, zero.into()), Int(MOST, most.into())]);
                }
                let name = if to.is_some() { TO_LEVELS } else { TO_FLOATS };
                self.emit_of(YIELD.0, name, &x, &y, &attributes);
            }
            Op::Cast { to } => self.emit("Cast", &x, &y, &[Int("to", data_type(*to) as i64)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Result;

    #[test]
    fn products_with_weights_yield_where_asked_for() -> Result<()> {
        let g = Graph::new();
        let (x, w) = (g.input("x", Dtype::F32, [4, 4])?, g.weight("w", Dtype::F32, [4, 4])?);
        // Three products of 64 multiply-adds, each after 16 additions.
        let mut y = x;
        for _ in 0..3 {
            y = g.gemm(g.add(y, y)?, w, None, false, false)?;
        }
        g.output("y", y);
        let count =
            |model: Vec<u8>| model.windows(YIELD.1.len()).filter(|w| *w == YIELD.1.as_bytes()).count();
        assert_eq!(count(lower(&g, Placement::Inputs)), 0);
        for (every, yields) in [(1, 3), (17, 2), (80, 2), (81, 1), (176, 1), (177, 0)] {
            let options = LoweringOptions { yield_every: every, ..LoweringOptions::default() };
            assert_eq!(count(lower_with(&g, Placement::Inputs, options)), yields, "every {every}");
        }
        // An operator of our own does it itself.
        let x = g.reshape(y, [1, 4, 2, 2])?;
        let ones = g.constant(Tensor::from_f32([4], &[1.0; 4]))?;
        let op = Op::SumNormalization {
            levels: 0,
            groups: 2,
            eps: 1e-6,
            silu: true,
            to: None,
            factor: 1,
            channels_last: false,
        };
        g.output("normalised", g.push(op, &[x, ones, ones])?);
        let yields = |every| {
            let options = LoweringOptions { yield_every: every, ..LoweringOptions::default() };
            let model = lower_with(&g, Placement::Inputs, options);
            let mut attribute = Message::default();
            attribute.string(1, sum_normalization::YIELDS).int(3, 1);
            model.windows(attribute.0.len()).any(|w| w == attribute.0)
        };
        assert!(yields(64) && !yields(65) && !yields(u64::MAX));
        Ok(())
    }
}

//! A graph as text.

use std::fmt;

use super::{Graph, Op};
use crate::tensor::Tensor;

/// Most elements of a constant that are printed.
const SHOWN: usize = 4;

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

impl Op {
    /// Attributes as `key=value` text, in the order in which they are declared.
    pub fn attributes(&self) -> String {
        match self {
            Op::Input { name, dtype: _, shape: _ } | Op::Weight { name, dtype: _, shape: _ } => {
                format!("name={name}")
            }
            Op::Constant { value } => constant(value),
            Op::Clip { min, max } => format!("min={min:?}, max={max:?}"),
            Op::Attention { heads, scale } => format!("heads={heads}, scale={scale:?}"),
            Op::DepthToSpace { factor } => format!("factor={factor}"),
            Op::Gelu { tanh } => format!("tanh={tanh}"),
            Op::Gemm { trans_a, trans_b } => format!("trans_a={trans_a}, trans_b={trans_b}"),
            Op::Conv { strides, pads, group } | Op::ConvTranspose { strides, pads, group } => {
                format!("strides={strides:?}, pads={pads:?}, group={group}")
            }
            Op::Expand { shape } | Op::Reshape { shape } => format!("shape={shape}"),
            Op::RowScales { factor } => format!("factor={factor:?}"),
            Op::OneHot { depth } => format!("depth={depth}"),
            Op::Pad { before, after } => format!("before={before:?}, after={after:?}"),
            Op::Slice { axis, start, end, step } => {
                format!("axis={axis}, start={start}, end={end}, step={step}")
            }
            Op::Transpose { perm } => format!("perm={perm:?}"),
            Op::ArgMax { axis }
            | Op::Concat { axis }
            | Op::LogSoftmax { axis }
            | Op::ReduceMax { axis }
            | Op::DequantizeLinear { axis }
            | Op::Softmax { axis } => format!("axis={axis}"),
            Op::ReduceMean { axes } | Op::ReduceSum { axes } => format!("axes={axes:?}"),
            Op::GroupNormalization { groups, eps } => format!("groups={groups}, eps={eps:?}"),
            Op::GroupNormalizationGradient { groups, eps, silu } => {
                format!("groups={groups}, eps={eps:?}, silu={silu}")
            }
            Op::LayerNormalization { eps } | Op::SkipLayerNormalization { eps } => format!("eps={eps:?}"),
            Op::AveragePool { size } => format!("size={size}"),
            Op::Resize { factor } => format!("factor={factor}"),
            Op::MatMulIntegerToFloat { zero_point } | Op::QuantizeLinear { zero_point } => {
                format!("zero_point={zero_point}")
            }
            Op::QLinearConv { strides, pads, x_zero, y_zero, channels_last } => format!(
                "strides={strides:?}, pads={pads:?}, x_zero={x_zero}, y_zero={y_zero}, channels_last={channels_last}"
            ),
            Op::SumNormalization { levels, groups, eps, silu, to, factor, channels_last } => format!(
                "levels={levels}, groups={groups}, eps={eps:?}, silu={silu}, to={to:?}, factor={factor}, channels_last={channels_last}"
            ),
            Op::Cast { to } => format!("to={to:?}"),
            Op::Abs
            | Op::Add
            | Op::Cos
            | Op::Div
            | Op::Equal
            | Op::Erf
            | Op::Exp
            | Op::Gather
            | Op::Greater
            | Op::Log
            | Op::MatMul
            | Op::Max
            | Op::Min
            | Op::Mul
            | Op::Neg
            | Op::Reciprocal
            | Op::Relu
            | Op::ScaledRows
            | Op::Sigmoid
            | Op::Sign
            | Op::Sin
            | Op::Sqrt
            | Op::StopGradient
            | Op::Sub
            | Op::Tanh
            | Op::Where => String::new(),
        }
    }
}

fn constant(value: &Tensor) -> String {
    match value.shape().len() {
        n if n <= SHOWN => format!("value={:?}", value.to_f64()),
        _ => "value=...".into(),
    }
}

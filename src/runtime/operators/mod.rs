//! Operators of our own that run inside ONNX Runtime, in a domain of their own: what a graph may hold beside
//! the runtime's operators, and how it is computed on the CPU.

mod normalization_gradient;
mod operands;
mod parallel;
mod rows;
mod simd;
mod sum_normalization;
mod yielding;

use std::sync::Mutex;

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::operator::{
    BoxedKernel, ComputeContext, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput,
    ShapeInferenceContext,
};
use ort::session::builder::{AutoDevicePolicy, SessionBuilder};
use ort::value::{TensorElementType, ValueType};

use self::normalization_gradient::NormalizationGradient;
use self::sum_normalization::SumNormalization;
pub(super) use self::yielding::EVERY;
use super::cancel::hold_in_run;
use super::error::runtime_error;
use crate::error::Result;
use crate::graph::onnx::{self, LoweringOptions, Placement, ROW_FACTOR, YIELD, sum_normalization as names};
use crate::graph::{Graph, Node, Op};
use crate::tensor::Dtype;

/// Whether a session of `graph` has to know them.
pub(super) fn are_in(graph: &Graph) -> bool {
    let ours = |n: &Node| {
        matches!(
            n.op,
            Op::GroupNormalizationGradient { .. }
                | Op::RowScales { .. }
                | Op::ScaledRows
                | Op::SumNormalization { .. }
        )
    };
    graph.nodes().iter().any(ours)
}

/// All of them, for one session.
///
/// # Errors
/// ONNX Runtime's.
pub(super) fn domain() -> ort::Result<OperatorDomain> {
    OperatorDomain::new(YIELD.0)?
        .add(yielding::Yield)?
        .add(Sum { rounds: false })?
        .add(Sum { rounds: true })?
        .add(Rows { scales: true })?
        .add(Rows { scales: false })?
        .add(GradientOperator)
}

/// Have ONNX Runtime know their domain. Its table of domains is the process's, and is looked at and written in two steps: of two
/// sessions that are the first with a domain, and prepared at the same time, one may fail. So the first is a small one, alone.
///
/// # Errors
/// ONNX Runtime's.
#[allow(clippy::result_large_err)] // ort's builder errors carry the builder
pub(super) fn introduce(environment: &Environment) -> Result<()> {
    static KNOWN: Mutex<bool> = Mutex::new(false);
    let mut known = KNOWN.lock().unwrap_or_else(|e| e.into_inner());
    if *known {
        return Ok(());
    }
    let g = Graph::new();
    let x = g.input("x", Dtype::F32, [1])?;
    g.output("y", g.add_scalar(x, 1.0)?);
    let lowering = LoweringOptions { yield_every: u64::MAX, by_layer: false };
    let model = onnx::lower_with(&g, Placement::Inputs, lowering);
    let prepare = || {
        let of = |e: ort::Error<SessionBuilder>| ort::Error::new(e.message().to_string());
        let b =
            SessionBuilder::new(environment)?.with_auto_device(AutoDevicePolicy::PreferCPU).map_err(of)?;
        let b = b.with_log_level(LogLevel::Fatal).and_then(|b| b.with_intra_threads(1)).map_err(of)?;
        b.with_operators(domain()?).map_err(of)?.commit_from_memory(&model)
    };
    prepare().map(drop).map_err(runtime_error("registering operators"))?;
    *known = true;
    Ok(())
}

/// What a kernel computes; no panic crosses the runtime.
fn guarded(compute: impl FnOnce() -> ort::Result<()>) -> ort::Result<()> {
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(compute));
    done.unwrap_or_else(|_| Err(ort::Error::new("an operator of softdimo's panicked")))
}

/// [`Op::RowScales`] or, where it makes no scales, [`Op::ScaledRows`].
struct Rows {
    scales: bool,
}

impl Operator for Rows {
    type Kernel<'attr> = BoxedKernel<'attr>;

    fn name(&self) -> &str {
        if self.scales { Op::RowScales { factor: 1.0 }.name() } else { Op::ScaledRows.name() }
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let operands = if self.scales { 1 } else { 3 };
        (0..operands).map(|_| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<BoxedKernel<'attr>> {
        if !self.scales {
            return Ok(Box::new(|context: &ComputeContext| guarded(|| rows::scale(context))));
        }
        let factor: f32 = context
            .get(ROW_FACTOR)
            .ok_or_else(|| ort::Error::new("RowScales: expected attribute 'factor'"))?;
        Ok(Box::new(move |context: &ComputeContext| guarded(|| rows::scales(context, factor))))
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        let inputs = context.inputs();
        let Some(ValueType::Tensor { ty, shape, dimension_symbols }) = inputs.first() else {
            return Err(ort::Error::new("expected a tensor as the first operand"));
        };
        let mut shape = shape.clone();
        if let ([_, n], true) = (&mut shape[..], self.scales) {
            *n = 1;
        }
        context.set_output(
            0,
            &ValueType::Tensor { ty: *ty, shape, dimension_symbols: dimension_symbols.clone() },
        )
    }
}

/// [`Op::SumNormalization`] with results of f32 or, where it rounds, of u8.
struct Sum {
    rounds: bool,
}

impl Sum {
    fn result(&self) -> TensorElementType {
        if self.rounds { TensorElementType::Uint8 } else { TensorElementType::Float32 }
    }
}

impl Operator for Sum {
    type Kernel<'attr> = BoxedKernel<'attr>;

    fn name(&self) -> &str {
        if self.rounds { names::TO_LEVELS } else { names::TO_FLOATS }
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [OperatorInput::variadic(1)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(self.result())]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<BoxedKernel<'attr>> {
        let kernel = SumNormalization::of(context, self.rounds)?;
        let yields = context.get::<i64>(names::YIELDS) == Some(1);
        Ok(Box::new(move |context: &ComputeContext| {
            guarded(|| {
                if yields {
                    hold_in_run();
                }
                kernel.compute(context)
            })
        }))
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        let inputs = context.inputs();
        let Some(ValueType::Tensor { shape, dimension_symbols, .. }) = inputs.first() else {
            return Err(ort::Error::new("expected a tensor as the first operand"));
        };
        let (factor, last) =
            (context.attr::<i64>(names::FACTOR)?, context.attr::<i64>(names::CHANNELS_LAST)? != 0);
        let (mut shape, ty) = (shape.clone(), self.result());
        if let ([_, m, n, k], true) = (&mut shape[..], last) {
            (*m, *n) = (m.saturating_mul(factor), n.saturating_mul(factor));
            if !self.rounds {
                (*m, *n, *k) = (*k, *m, *n);
            }
        }
        context.set_output(0, &ValueType::Tensor { ty, shape, dimension_symbols: dimension_symbols.clone() })
    }
}

/// [`Op::GroupNormalizationGradient`].
struct GradientOperator;

impl Operator for GradientOperator {
    type Kernel<'attr> = BoxedKernel<'attr>;

    fn name(&self) -> &str {
        Op::GroupNormalizationGradient { groups: 1, eps: 0.0, silu: false }.name()
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        (0..4).map(|_| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<BoxedKernel<'attr>> {
        let kernel = NormalizationGradient::of(context)?;
        Ok(Box::new(move |context: &ComputeContext| guarded(|| kernel.compute(context))))
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        let inputs = context.inputs();
        let first =
            inputs.first().ok_or_else(|| ort::Error::new("expected a tensor as the first operand"))?;
        context.set_output(0, first)
    }
}

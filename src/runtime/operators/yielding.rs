//! The operator that lets others have the processor in the middle of a run: it hands on its input, and asks
//! whether the engine may compute before it does. ONNX Runtime runs it like any other, on the worker's own
//! thread.

use ort::operator::{
    BoxedKernel, ComputeContext, KernelContext, Operator, OperatorInput, OperatorOutput,
    ShapeInferenceContext,
};
use ort::value::TensorElementType;

use super::guarded;
use crate::graph::onnx::YIELD;
use crate::runtime::cancel::hold_in_run;

/// Multiply-adds between two of them: about a millisecond of a core.
pub(in crate::runtime) const EVERY: u64 = 1 << 25;

pub(super) struct Yield;

impl Operator for Yield {
    type Kernel<'attr> = BoxedKernel<'attr>;

    // The output is the input: nothing is copied.
    const ALIASES: &[(u32, u32)] = &[(0, 0)];

    fn name(&self) -> &str {
        YIELD.1
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        [OperatorInput::required(TensorElementType::Float32)]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, _: &KernelContext<'attr>) -> ort::Result<BoxedKernel<'attr>> {
        Ok(Box::new(|context: &ComputeContext| {
            guarded(|| {
                hold_in_run();
                hand_on(context)
            })
        }))
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        match context.inputs().first() {
            Some(input) => context.set_output(0, input),
            None => Err(ort::Error::new("expected one input, found none")),
        }
    }
}

/// The input as the output, where the runtime has not seen to that.
#[allow(unsafe_code)]
fn hand_on(context: &ComputeContext) -> ort::Result<()> {
    let none = || ort::Error::new("expected an input and an output, found none");
    let input = context.input(0)?.ok_or_else(none)?;
    let (shape, from, n) = {
        let (shape, data) = input.try_extract_tensor::<f32>()?;
        (shape.to_vec(), data.as_ptr(), data.len())
    };
    let mut output = context.output(0, shape)?.ok_or_else(none)?;
    let to = output.try_extract_tensor_mut::<f32>()?.1.as_mut_ptr();
    if !std::ptr::eq(from, to) {
        // SAFETY: both are tensors of this shape, and either the same or apart.
        unsafe { std::ptr::copy_nonoverlapping(from, to, n) };
    }
    Ok(())
}

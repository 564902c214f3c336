//! The kernels of [`RowScales`](crate::graph::Op::RowScales) and
//! [`ScaledRows`](crate::graph::Op::ScaledRows): no row depends on another one, nor on how many threads there
//! are.

use ort::operator::ComputeContext;

use super::parallel::{Shared, in_parallel};
use super::simd::{self, Loops};

/// Elements that a thread takes at once, in whole rows.
const CHUNK: usize = 1 << 14;

fn wrong() -> ort::Error {
    ort::Error::new("rows: expected x [M, N] and operands that fit it")
}

/// Rows of a chunk.
fn of_chunk(width: usize) -> usize {
    (CHUNK / width).max(1)
}

/// # Errors
/// Operands do not fit; the runtime's.
pub(super) fn scales(context: &ComputeContext, factor: f32) -> ort::Result<()> {
    let input = context.input(0)?.ok_or_else(wrong)?;
    let (shape, x) = input.try_extract_tensor::<f32>()?;
    let &[m, n] = &shape[..] else { return Err(wrong()) };
    let mut output = context.output(0, [m, 1])?.ok_or_else(wrong)?;
    let (m, n) = (m as usize, n as usize);
    if n == 0 || x.len() != m * n {
        return Err(wrong());
    }
    let to = Shared::new(output.try_extract_tensor_mut::<f32>()?.1, m).ok_or_else(wrong)?;
    let rows = of_chunk(n);
    in_parallel(context, m.div_ceil(rows), |chunk| {
        let first = chunk * rows;
        let x = &x[first * n..(first + rows).min(m) * n];
        let mut found = vec![0.0; x.len() / n];
        simd::run(Largest { x, n, factor, found: &mut found });
        // SAFETY: no other chunk has these rows.
        #[allow(unsafe_code)]
        unsafe {
            to.write(first, &found);
        }
    })
}

struct Largest<'a> {
    x: &'a [f32],
    n: usize,
    factor: f32,
    found: &'a mut [f32],
}

impl Loops for Largest<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (row, found) in self.x.chunks_exact(self.n).zip(self.found) {
            *found = simd::largest(row) * self.factor;
        }
    }
}

/// # Errors
/// Operands do not fit; the runtime's.
pub(super) fn scale(context: &ComputeContext) -> ort::Result<()> {
    let [x, rows, bias] = [0, 1, 2].map(|i| context.input(i));
    let [x, rows, bias] = [x?, rows?, bias?].map(|v| v.ok_or_else(wrong));
    let (x, rows, bias) = (x?, rows?, bias?);
    let (shape, from) = x.try_extract_tensor::<f32>()?;
    let &[m, n] = &shape[..] else { return Err(wrong()) };
    let mut output = context.output(0, [m, n])?.ok_or_else(wrong)?;
    let (m, n) = (m as usize, n as usize);
    let (rows, bias) = (rows.try_extract_tensor::<f32>()?.1, bias.try_extract_tensor::<f32>()?.1);
    if n == 0 || from.len() != m * n || rows.len() != m || bias.len() != n {
        return Err(wrong());
    }
    let to = Shared::new(output.try_extract_tensor_mut::<f32>()?.1, m * n).ok_or_else(wrong)?;
    let at_once = of_chunk(n);
    in_parallel(context, m.div_ceil(at_once), |chunk| {
        let first = chunk * at_once;
        let mut y = vec![0.0; n];
        for row in first..(first + at_once).min(m) {
            simd::run(Scaled { x: &from[row * n..(row + 1) * n], by: rows[row], bias, y: &mut y });
            // SAFETY: no other chunk has this row.
            #[allow(unsafe_code)]
            unsafe {
                to.write(row * n, &y);
            }
        }
    })
}

struct Scaled<'a> {
    x: &'a [f32],
    by: f32,
    bias: &'a [f32],
    y: &'a mut [f32],
}

impl Loops for Scaled<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for ((y, x), b) in self.y.iter_mut().zip(self.x).zip(self.bias) {
            *y = simd::mul_add::<FMA>(*x, self.by, *b);
        }
    }
}

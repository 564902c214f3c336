//! Work of one node on the threads of its session.

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use ort::operator::ComputeContext;

/// Do `work` for every number below `n`, each once, on the threads that the session has.
///
/// # Errors
/// The runtime's; that `work` panicked: no panic crosses the runtime.
pub(super) fn in_parallel(
    context: &ComputeContext,
    n: usize,
    work: impl Fn(usize) + Sync + Send,
) -> ort::Result<()> {
    let panicked = AtomicBool::new(false);
    let guarded = |i| {
        if catch_unwind(AssertUnwindSafe(|| work(i))).is_err() {
            panicked.store(true, Ordering::Relaxed);
        }
    };
    match n {
        1 => guarded(0),
        _ => context.par_for(n, 0, guarded)?,
    }
    match panicked.into_inner() {
        true => Err(ort::Error::new("a node of softdimo's panicked")),
        false => Ok(()),
    }
}

/// A slice of which several threads write different parts.
pub(super) struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    of: PhantomData<&'a mut [T]>,
}

// SAFETY: it is the slice, which threads may hand to each other.
#[allow(unsafe_code)]
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: parts are written, and not read before all are; who writes sees to it that no two threads write one
// element.
#[allow(unsafe_code)]
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T: Copy> Shared<'a, T> {
    /// `None` unless the slice has `len` elements.
    pub fn new(slice: &'a mut [T], len: usize) -> Option<Shared<'a, T>> {
        (slice.len() == len).then_some(Shared { start: slice.as_mut_ptr(), len, of: PhantomData })
    }

    /// Write `elements` from `at` on.
    ///
    /// # Safety
    /// No other thread writes these elements.
    ///
    /// # Panics
    /// Beyond the slice.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub unsafe fn write(&self, at: usize, elements: &[T]) {
        assert!(at <= self.len && elements.len() <= self.len - at, "inside the slice");
        // SAFETY: inside the slice, as asserted, which nobody else reads or writes while this borrows it, but
        // for other threads at other elements, as the caller sees to.
        unsafe { std::ptr::copy_nonoverlapping(elements.as_ptr(), self.start.add(at), elements.len()) };
    }
}

//! The host's own function as a reward: one call at a time, whoever's job asks.

use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::thread::ThreadId;

use super::{RewardAnswer, RewardImage};

type Function = dyn FnMut(&RewardImage, &mut RewardAnswer) -> ControlFlow<()> + Send;

/// A function of the host's, and which thread is inside it.
pub struct Callback {
    function: Mutex<Box<Function>>,
    caller: Mutex<Option<ThreadId>>,
}

/// Why a callback cannot be called now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// This thread is inside it.
    Here,
    /// Another one is.
    Elsewhere,
}

impl Callback {
    pub(super) fn new(
        function: impl FnMut(&RewardImage, &mut RewardAnswer) -> ControlFlow<()> + Send + 'static,
    ) -> Callback {
        Callback { function: Mutex::new(Box::new(function)), caller: Mutex::new(None) }
    }

    fn caller(&self) -> MutexGuard<'_, Option<ThreadId>> {
        self.caller.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The thread that is inside it.
    pub fn inside(&self) -> Option<ThreadId> {
        *self.caller()
    }

    /// The callback for this thread alone. Does not wait.
    ///
    /// # Errors
    /// Who is inside it.
    pub fn enter(&self) -> Result<Admitted<'_>, Busy> {
        let this = std::thread::current().id();
        let function = match self.function.try_lock() {
            Ok(function) => function,
            // A callback that panicked has left nothing behind that this library reads.
            Err(TryLockError::Poisoned(e)) => e.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Err(if self.inside() == Some(this) { Busy::Here } else { Busy::Elsewhere });
            }
        };
        *self.caller() = Some(this);
        Ok(Admitted { callback: self, function })
    }
}

impl std::fmt::Debug for Callback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Callback")
    }
}

/// See [`Callback::enter`].
pub struct Admitted<'a> {
    callback: &'a Callback,
    function: MutexGuard<'a, Box<Function>>,
}

impl Admitted<'_> {
    /// Call it.
    pub fn call(&mut self, image: &RewardImage, answer: &mut RewardAnswer) -> ControlFlow<()> {
        (self.function)(image, answer)
    }
}

impl std::fmt::Debug for Admitted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Admitted")
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        *self.callback.caller() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_is_inside_and_knows_it() {
        let callback = Callback::new(|_, _| ControlFlow::Continue(()));
        assert_eq!(callback.inside(), None);
        let entered = callback.enter().unwrap();
        assert_eq!(callback.inside(), Some(std::thread::current().id()));
        assert_eq!(callback.enter().err(), Some(Busy::Here));
        let elsewhere = || std::thread::scope(|scope| scope.spawn(|| callback.enter().err()).join().unwrap());
        assert_eq!(elsewhere(), Some(Busy::Elsewhere));
        drop(entered);
        assert_eq!(elsewhere(), None);
        assert_eq!(callback.inside(), None);
    }
}

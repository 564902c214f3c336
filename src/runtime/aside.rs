//! Preparing a session aside. ONNX Runtime looks at its cancellation flag while it loads a graph, but not between the
//! passes of its optimisers, which take seconds over thousands of nodes. Such a session is prepared on a thread of its own:
//! the worker leaves when the job is cancelled or late, and what comes of it is dropped there.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ort::session::Session;
use ort::session::builder::SessionBuilder;
use ort::value::DynValue;

use super::cancel::Loading;
use super::cost::Cost;
use super::exit;
use super::threads::Threads;
use crate::checkpoint::Mapping;
use crate::error::Result;
use crate::shortage;

/// Nodes that are prepared within some tens of milliseconds; more are prepared aside.
const FEW_NODES: usize = 1000;

/// The same of bytes of weights that the runtime reads while it prepares.
const FEW_BYTES: u64 = 1 << 26;

/// Most preparations that were left and are still under way: what they hold is bounded.
const MOST_LEFT: usize = 2;

/// How often the worker looks whether it should leave, or what it left is over.
pub(crate) const LOOK: Duration = Duration::from_millis(5);

/// What a session is prepared from. It reads the weights until it is gone.
pub(super) struct Parts {
    pub builder: SessionBuilder,
    pub model: Vec<u8>,
    pub _weights: Vec<(String, Arc<DynValue>)>,
    pub _files: Vec<Arc<Mapping>>,
}

// SAFETY: session options know no thread; these are used by one at a time. What else holds them (the cancellers of a job, of a
// deadline and of exit) sets a flag that may be set from any thread.
#[allow(unsafe_code)]
unsafe impl Send for Parts {}

impl Parts {
    fn commit(&mut self) -> ort::Result<Session> {
        self.builder.commit_from_memory(&self.model)
    }
}

/// The preparations of one engine.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// Threads that were left, the one in use last, and what each adds to memory until it is gone.
    threads: Vec<(JoinHandle<()>, Rc<Cost>)>,
}

impl Aside {
    /// Prepare a session of a graph of `nodes` nodes.
    ///
    /// # Errors
    /// As [`Loading::check`]: at once. That no thread can be had. The inner result is the runtime's.
    pub fn commit(
        &mut self,
        mut parts: Parts,
        nodes: usize,
        cost: &Rc<Cost>,
        threads: &Threads,
        loading: &Loading,
    ) -> Result<ort::Result<Session>> {
        while self.left() >= MOST_LEFT {
            loading.check()?;
            std::thread::sleep(LOOK);
        }
        if nodes <= FEW_NODES && cost.expanded() <= FEW_BYTES {
            return Ok(parts.commit());
        }
        let (reply, result) = channel();
        let thread = threads.spawn("softdimo-prepare", move || {
            let Some(_entered) = exit::enter() else {
                // The runtime's objects are being destroyed: nothing of it may be called, not even to free.
                return std::mem::forget(parts);
            };
            let prepared = parts.commit();
            // Wherever this is dropped, what was prepared goes before what it reads.
            drop(reply.send((prepared, shortage::noted(), parts)));
        })?;
        self.threads.push((thread, cost.clone()));
        let prepared = loop {
            match result.recv_timeout(LOOK) {
                Ok((prepared, short, _parts)) => {
                    if short {
                        shortage::note();
                    }
                    break prepared;
                }
                Err(RecvTimeoutError::Timeout) => loading.check().inspect_err(|_| loading.leave())?,
                Err(RecvTimeoutError::Disconnected) => {
                    loading.check()?;
                    break Err(ort::Error::new("the thread that prepared the session died"));
                }
            }
        };
        let _ = self.threads.pop().map(|(thread, _)| thread.join());
        Ok(prepared)
    }

    /// Whether this is the cost of one that was left.
    pub fn is_left(&self, cost: &Rc<Cost>) -> bool {
        self.threads.iter().any(|(_, left)| Rc::ptr_eq(left, cost))
    }

    /// How many are still under way.
    pub fn left(&mut self) -> usize {
        for (ended, _) in self.threads.extract_if(.., |(thread, _)| thread.is_finished()) {
            let _ = ended.join();
        }
        self.threads.len()
    }
}

/// No thread outlives its engine.
impl Drop for Aside {
    fn drop(&mut self) {
        self.threads.drain(..).for_each(|(thread, _)| drop(thread.join()));
    }
}

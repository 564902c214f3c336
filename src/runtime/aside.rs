//! Preparing a session aside. ONNX Runtime looks at its cancellation flag while it loads a graph, but not between the
//! passes of its optimisers, which take seconds over thousands of nodes. Such a session is prepared on a thread of its own:
//! the worker leaves when the job is cancelled or late. What a cancelled job left ends as soon as it can and is dropped;
//! what a late one left is finished, and found by its key when it is wanted again.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::time::Duration;

use ort::session::Session;
use ort::session::builder::{LoadCanceler, SessionBuilder};
use ort::value::DynValue;

use super::cancel::{Cancel, Loading};
use super::cost::Cost;
use super::exit;
use super::session::Input;
use super::threads::{Thread, Threads};
use crate::checkpoint::Mapping;
use crate::error::{Error, Result};
use crate::shortage;

/// Nodes that are prepared within some tens of milliseconds; more are prepared aside.
const FEW_NODES: usize = 300;

/// The same of bytes of weights that the runtime reads while it prepares.
const FEW_BYTES: u64 = 1 << 26;

/// Most preparations that were left and are still under way: what they hold is bounded.
const MOST_LEFT: usize = 2;

/// How often the worker looks whether it should leave, or what it left is over.
pub(crate) const LOOK: Duration = Duration::from_millis(5);

/// What tells a session that is kept from the others of its engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub name: &'static str,
    pub batch: usize,
    /// What shapes its graph beside the batch size, as text.
    pub shape: String,
}

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

/// A session but for what the runtime prepares.
#[derive(Debug)]
pub(super) struct Draft {
    pub stage: String,
    pub inputs: Vec<Input>,
    pub weights: Vec<(String, Arc<DynValue>)>,
    pub cost: Rc<Cost>,
    pub files: Vec<Arc<Mapping>>,
}

/// Whether a session is prepared aside.
pub(super) fn takes_long(nodes: usize, cost: &Cost) -> bool {
    nodes > FEW_NODES || cost.expanded() > FEW_BYTES
}

/// What the thread hands over. Wherever it is dropped, what was prepared goes before what it reads.
struct Prepared {
    session: ort::Result<Session>,
    /// It was served from the reserve.
    short: bool,
    _parts: Option<Parts>,
}

impl Prepared {
    /// The session of a job, which is told where memory was short.
    fn session(self) -> ort::Result<Session> {
        if self.short {
            shortage::note();
        }
        self.session
    }
}

/// A preparation on a thread of its own.
struct Preparation {
    thread: Thread,
    prepared: Receiver<Prepared>,
    /// What it adds to memory until it is gone.
    cost: Rc<Cost>,
    cancel: Arc<LoadCanceler>,
}

impl std::fmt::Debug for Preparation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Preparation({:?})", self.thread)
    }
}

impl Preparation {
    fn begin(mut parts: Parts, cost: Rc<Cost>, threads: &Threads) -> Result<Preparation> {
        let (reply, prepared) = channel();
        let cancel = Arc::new(parts.builder.canceler());
        let thread = threads.spawn("softdimo-prepare", move || {
            let Some(_entered) = exit::enter() else {
                // The runtime's objects are being destroyed: nothing of it may be called, not even to free.
                return std::mem::forget(parts);
            };
            let session = parts.commit();
            drop(reply.send(Prepared { session, short: shortage::noted(), _parts: Some(parts) }));
        })?;
        Ok(Preparation { thread, prepared, cost, cancel })
    }

    /// Wait for its end, as long as `stay` says so.
    ///
    /// # Errors
    /// Those of `stay`: it is still under way.
    fn wait(&self, stay: impl Fn() -> Result<()>) -> Result<Prepared> {
        loop {
            match self.prepared.recv_timeout(LOOK) {
                Ok(prepared) => return Ok(prepared),
                Err(RecvTimeoutError::Timeout) => stay()?,
                Err(RecvTimeoutError::Disconnected) => {
                    let session = Err(ort::Error::new("the thread that prepared the session died"));
                    return Ok(Prepared { session, short: false, _parts: None });
                }
            }
        }
    }

    /// After its end.
    fn join(self) {
        self.thread.join();
    }
}

/// A preparation to be found again: one that a late job has left, or that was begun ahead of being wanted.
struct Late {
    key: Key,
    /// It was begun ahead.
    ahead: bool,
    preparation: Preparation,
    draft: Draft,
    _at_exit: exit::Call,
}

impl std::fmt::Debug for Late {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Late({:?})", self.key)
    }
}

/// The preparations of one engine.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// Left for good.
    left: Vec<Preparation>,
    late: Vec<Late>,
}

impl Aside {
    /// Prepare a session. Where it takes long and has a key, a late job leaves it under way: see [`Aside::resume`].
    ///
    /// # Errors
    /// As [`Loading::check`]: at once. That no thread can be had. The inner result is the runtime's.
    pub fn commit(
        &mut self,
        mut parts: Parts,
        draft: Draft,
        (aside, key): (bool, Option<&Key>),
        threads: &Threads,
        loading: &Loading,
    ) -> Result<(ort::Result<Session>, Draft)> {
        if !aside {
            return Ok((parts.commit(), draft));
        }
        // Those of this very job, begun ahead, hold nobody up.
        while self.left() - self.ahead() >= MOST_LEFT {
            loading.check()?;
            std::thread::sleep(LOOK);
        }
        let preparation = Preparation::begin(parts, draft.cost.clone(), threads)?;
        let error = match preparation.wait(|| loading.check()) {
            Ok(prepared) => {
                preparation.join();
                return Ok((prepared.session(), draft));
            }
            Err(error) => error,
        };
        if let (Error::Timeout { .. }, Some(key)) = (&error, key) {
            let cancel = preparation.cancel.clone();
            if let Ok(at_exit) = exit::ended_by(move || drop(cancel.cancel())) {
                let (key, ahead) = (key.clone(), false);
                self.late.push(Late { key, ahead, preparation, draft, _at_exit: at_exit });
                return Err(error);
            }
        }
        let _ = preparation.cancel.cancel();
        self.left.push(preparation);
        Err(error)
    }

    /// Begin a preparation that somebody will want: [`Aside::resume`].
    ///
    /// # Errors
    /// That as many are under way as may be, that no thread can be had, or that the process exits.
    pub fn begin(&mut self, parts: Parts, draft: Draft, key: &Key, threads: &Threads) -> Result<()> {
        if self.left() >= MOST_LEFT {
            return Err(Error::Unsupported {
                what: format!("preparing '{}' ahead", key.name),
                reason: format!("{MOST_LEFT} preparations are under way"),
            });
        }
        let cancel = Arc::new(parts.builder.canceler());
        let at_exit = exit::ended_by(move || drop(cancel.cancel()))?;
        let preparation = Preparation::begin(parts, draft.cost.clone(), threads)?;
        self.late.push(Late { key: key.clone(), ahead: true, preparation, draft, _at_exit: at_exit });
        Ok(())
    }

    /// How many are under way that were begun ahead.
    fn ahead(&self) -> usize {
        self.late.iter().filter(|late| late.ahead && !late.preparation.thread.is_finished()).count()
    }

    /// Have those end as soon as they can that were begun ahead: the job that would have wanted them was cancelled.
    pub fn give_up_ahead(&mut self) {
        for late in self.late.extract_if(.., |late| late.ahead) {
            let _ = late.preparation.cancel.cancel();
            self.left.push(late.preparation);
        }
    }

    /// Whether one more may be begun.
    pub fn has_room(&mut self) -> bool {
        self.left() < MOST_LEFT
    }

    /// Bytes that those under way need while they are prepared.
    pub fn preparing(&self) -> u64 {
        let late = self.late.iter().map(|late| &late.preparation);
        self.left.iter().chain(late).map(|p| p.cost.preparing().saturating_add(p.cost.planned)).sum()
    }

    /// Whether the session of this key is under way.
    pub fn is_under_way(&self, key: &Key) -> bool {
        self.late.iter().any(|late| late.key == *key)
    }

    /// The session of this key that is under way, once it is there. `None`: there is none, or it was begun ahead and
    /// failed, perhaps for what else was under way.
    ///
    /// # Errors
    /// As [`Cancel::check_preparing`]; it stays under way.
    pub fn resume(&mut self, key: &Key, cancel: &Cancel) -> Result<Option<(ort::Result<Session>, Draft)>> {
        let Some(at) = self.late.iter().position(|late| late.key == *key) else { return Ok(None) };
        let Late { preparation, ahead, .. } = &self.late[at];
        let (prepared, ahead) = (preparation.wait(|| cancel.check_preparing())?, *ahead);
        let Late { preparation, draft, .. } = self.late.swap_remove(at);
        preparation.join();
        let failed = prepared.short || prepared.session.is_err();
        Ok(if ahead && failed { None } else { Some((prepared.session(), draft)) })
    }

    /// Sessions that late jobs have left and that are ready now.
    pub fn ready(&mut self) -> Vec<(Key, ort::Result<Session>, Draft)> {
        let mut ready = Vec::new();
        let mut at = 0;
        while let Some(late) = self.late.get(at) {
            match late.preparation.prepared.try_recv() {
                Err(TryRecvError::Empty) => at += 1,
                Err(TryRecvError::Disconnected) => self.late.swap_remove(at).preparation.join(),
                Ok(prepared) => {
                    let late = self.late.swap_remove(at);
                    late.preparation.join();
                    if !(late.ahead && prepared.short) {
                        ready.push((late.key, prepared.session(), late.draft));
                    }
                }
            }
        }
        ready
    }

    /// Have everything that is under way end as soon as it can: nobody will want it.
    pub fn give_up(&mut self) {
        let late = self.late.drain(..).map(|late| late.preparation);
        late.for_each(|preparation| {
            let _ = preparation.cancel.cancel();
            self.left.push(preparation);
        });
    }

    /// The same, and wait for it.
    pub fn end(&mut self) {
        self.give_up();
        for left in self.left.drain(..) {
            left.thread.join();
        }
    }

    /// As [`Aside::give_up`], of those that read this file.
    pub fn give_up_of(&mut self, file: &str) {
        for late in self.late.extract_if(.., |late| late.draft.cost.files.contains_key(file)) {
            let _ = late.preparation.cancel.cancel();
            self.left.push(late.preparation);
        }
    }

    /// Whether this is the cost of a preparation that was left.
    pub fn is_left(&self, cost: &Rc<Cost>) -> bool {
        let late = self.late.iter().map(|late| &late.preparation);
        self.left.iter().chain(late).any(|left| Rc::ptr_eq(&left.cost, cost))
    }

    /// How many preparations are under way that nobody waits for.
    pub fn left(&mut self) -> usize {
        for ended in self.left.extract_if(.., |left| left.thread.is_finished()) {
            ended.thread.join();
        }
        self.left.len() + self.late.iter().filter(|late| !late.preparation.thread.is_finished()).count()
    }
}

/// No thread outlives its engine.
impl Drop for Aside {
    fn drop(&mut self) {
        self.end();
    }
}

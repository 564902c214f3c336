//! Memory of all engines of the process together: what each holds, at most how much all may, and how one asks the others for
//! what they only keep.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

/// Bytes that all engines may hold; 0 for any number.
static BUDGET: AtomicU64 = AtomicU64::new(0);

static SHARES: Mutex<Vec<Weak<Share>>> = Mutex::new(Vec::new());

/// Has an engine answer what is demanded of it, soon and on its own thread.
type Demand = Box<dyn Fn() + Send + Sync>;

/// What one engine holds.
#[derive(Default)]
pub(crate) struct Share {
    held: AtomicU64,
    /// Bytes that others lack, and that it has not answered yet.
    demanded: AtomicU64,
    demand: OnceLock<Demand>,
}

impl std::fmt::Debug for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Share({:?})", self.held)
    }
}

fn shares() -> MutexGuard<'static, Vec<Weak<Share>>> {
    SHARES.lock().unwrap_or_else(|e| e.into_inner())
}

fn living(shares: &[Weak<Share>]) -> impl Iterator<Item = Arc<Share>> {
    shares.iter().filter_map(Weak::upgrade)
}

fn sum(shares: impl Iterator<Item = Arc<Share>>) -> u64 {
    shares.fold(0, |sum, share| sum.saturating_add(share.held.load(SeqCst)))
}

/// Most bytes that all engines of this process may hold together beyond mapped pages, as [`MemoryUse`](super::MemoryUse) and
/// the memory limit of an engine count them; 0, as it is at first, for any number. An engine that needs more drops what it
/// keeps, then has others drop what they keep, each after its running job; where that is not enough within half a second,
/// its job fails with [`Error::Budget`](crate::Error::Budget). A lower budget than what is held has all engines drop what
/// they keep. Any thread, any time; process-wide.
pub fn set_memory_budget(bytes: u64) {
    BUDGET.store(bytes, SeqCst);
    let over = memory_in_use().saturating_sub(limit());
    if over > 0 {
        let all: Vec<_> = living(&shares()).collect();
        all.iter().for_each(|share| share.give_back(over));
    }
}

/// Bytes that all engines of this process hold together beyond mapped pages: what counts against the budget. Sessions that
/// have not run yet count with what they are foreseen to take.
pub fn memory_in_use() -> u64 {
    sum(living(&shares()))
}

pub(super) fn budget() -> u64 {
    BUDGET.load(SeqCst)
}

fn limit() -> u64 {
    match budget() {
        0 => u64::MAX,
        bytes => bytes,
    }
}

impl Share {
    /// Of a new engine.
    pub fn new() -> Arc<Share> {
        let share = Arc::new(Share::default());
        let mut shares = shares();
        shares.retain(|other| other.strong_count() > 0);
        shares.push(Arc::downgrade(&share));
        share
    }

    /// How to ask the engine for memory. The first one counts.
    pub fn on_demand(&self, demand: impl Fn() + Send + Sync + 'static) {
        let _ = self.demand.set(Box::new(demand));
    }

    /// Have the engine give back so many bytes. What it has not answered yet is the same memory.
    fn give_back(&self, bytes: u64) {
        if let (0, Some(demand)) = (self.demanded.fetch_max(bytes, SeqCst), self.demand.get()) {
            demand();
        }
    }

    /// The bytes that are demanded of this engine, which answers now.
    pub fn demanded(&self) -> u64 {
        self.demanded.swap(0, SeqCst)
    }

    fn others_of(self: &Arc<Share>, shares: &[Weak<Share>]) -> impl Iterator<Item = Arc<Share>> {
        living(shares).filter(|other| !Arc::ptr_eq(self, other))
    }

    /// Bytes that other engines hold.
    pub fn others(self: &Arc<Share>) -> u64 {
        sum(self.others_of(&shares()))
    }

    /// Bytes that this engine may hold.
    pub fn available(self: &Arc<Share>) -> u64 {
        limit().saturating_sub(self.others())
    }

    /// Hold so many bytes, if the budget has room for them.
    pub fn claim(self: &Arc<Share>, bytes: u64) -> bool {
        let shares = shares();
        let fits = sum(self.others_of(&shares)).saturating_add(bytes) <= limit();
        if fits {
            self.held.store(bytes, SeqCst);
        }
        fits
    }

    /// Hold so many bytes, as is the case.
    pub fn hold(&self, bytes: u64) {
        self.held.store(bytes, SeqCst);
    }

    /// Ask the others for what this engine lacks to hold so many bytes.
    pub fn ask(self: &Arc<Share>, bytes: u64) {
        let lacking = bytes.saturating_sub(self.available());
        // Whoever is told may need the lock.
        let others: Vec<_> = self.others_of(&shares()).filter(|other| other.held.load(SeqCst) > 0).collect();
        others.iter().filter(|_| lacking > 0).for_each(|other| other.give_back(lacking));
    }
}

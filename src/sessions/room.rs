//! Room for what an engine holds: its memory limit, the process's budget, and thread pools.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Sessions;
use super::budget;
use super::kept::Kept;
use super::memory::{MemoryUse, sum};
use crate::error::{Error, Result};
use crate::families::family::Layout;
use crate::runtime::Cancel;
use crate::runtime::aside::{Key, LOOK};
use crate::runtime::cost::{Cost, Packed};
use crate::runtime::heap::release_heap;
use crate::runtime::threads::MOST_POOLS;

/// How long other engines are waited for to give back what they keep: one that computes does so after its job.
const PATIENCE: Duration = Duration::from_millis(500);

impl Sessions {
    /// Have the buffers of `batch` pictures on the host count against the memory limit, until [`Sessions::end_job`] is told
    /// their bytes. Refuses those that exceed it, with the weights that are read instead of mapped and the buffers of the jobs
    /// that this one stands inside, before any of them is allocated.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub(crate) fn begin_job(&mut self, layout: &Layout, batch: usize) -> Result<u64> {
        let bytes = layout.host_bytes(batch);
        let own = sum([], Cost::held, &Packed::new(), self.own_file()).limited();
        let needed = own.saturating_add(self.host).saturating_add(bytes);
        let limit = self.options.memory_limit;
        if limit != 0 && needed > limit {
            return Err(Error::OutOfMemory {
                what: format!("the buffers of {batch} pictures"),
                needed,
                limit,
            });
        }
        self.host = self.host.saturating_add(bytes);
        self.settle();
        Ok(bytes)
    }

    pub(crate) fn end_job(&mut self, bytes: u64) {
        self.host = self.host.saturating_sub(bytes);
        // Where networks give back what they take, so do the buffers between them.
        if std::mem::take(&mut self.gave_back) {
            release_heap();
        }
    }

    /// Drop kept sessions, those used longest ago first, until one more fits into the memory limit and the process's budget,
    /// and has a thread pool to spare; refuse it, and drop none, when it cannot fit. Preparations that were left and still
    /// hold what it needs are waited for, and other engines are asked for what they only keep.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; as [`Cancel::check_preparing`].
    pub(super) fn make_room(&mut self, name: &str, cost: &Cost, cancel: &Cancel) -> Result<()> {
        let mut left = self.adopt();
        self.forget_unused();
        let what = || format!("preparing '{name}'");
        let limit = match self.options.memory_limit {
            0 => u64::MAX,
            limit => limit,
        };
        let least = self.needed(cost, true);
        if least > limit {
            return Err(Error::OutOfMemory { what: what(), needed: least, limit });
        }
        while left > 0 && self.needed(cost, false) > limit {
            cancel.check_preparing()?;
            std::thread::sleep(LOOK);
            left = self.adopt();
        }
        let (began, mut asked) = (Instant::now(), None);
        loop {
            let available = self.share.available();
            if least <= available {
                let limit = limit.min(available);
                while self.reserved_with(Some(cost)) > limit {
                    if !self.drop_something(|| format!("for '{name}', memory limit of {limit} bytes")) {
                        break;
                    }
                }
                // Another engine may have been faster.
                if self.share.claim(self.reserved_with(Some(cost))) {
                    break;
                }
            }
            // Preparations that were left let go of what they hold by themselves; what is larger than the budget never fits.
            let comes = least <= available && left > 0;
            let never = budget::budget() != 0 && least > budget::budget();
            if never || (began.elapsed() > PATIENCE && !comes) {
                let (others, budget) = (self.share.others(), budget::budget());
                return Err(Error::Budget { what: what(), others, needed: least, budget });
            }
            // What was asked for before may still come.
            if asked.is_none_or(|asked: Instant| asked.elapsed() > PATIENCE / 4) {
                self.share.ask(least);
                asked = Some(Instant::now());
            }
            cancel.check_preparing()?;
            std::thread::sleep(LOOK);
            left = self.adopt();
        }
        let pools = |s: &Sessions| s.ledger.living().iter().filter(|c| c.pooled).count();
        while cost.pooled && pools(self) >= MOST_POOLS {
            let why = || format!("at most {MOST_POOLS} have threads of their own");
            if !self.drop_oldest(|_, kept| kept.cost().pooled, why) {
                break;
            }
        }
        Ok(())
    }

    /// Bytes that count against the limit where everything that is only kept has gone, and one more session of this cost
    /// has come.
    fn needed(&self, cost: &Cost, without_left: bool) -> u64 {
        let mut living = self.ledger.living();
        living.retain(|c| !(without_left && self.compiler.is_left(c)));
        let kept = |c: &Rc<Cost>| self.kept.values().any(|kept| Rc::ptr_eq(kept.cost(), c));
        let staying: Vec<&Cost> = living.iter().filter(|c| !kept(c)).map(Rc::as_ref).collect();
        // Where nothing that stays reads packed copies, all can be let go of.
        let none = Packed::new();
        let packed =
            if staying.iter().any(|c| !c.shared.is_empty()) { self.compiler.packed() } else { &none };
        let sum = sum(staying.into_iter().chain([cost]), Cost::reserved, packed, self.own_file());
        sum.limited().saturating_add(self.host)
    }

    /// The same with everything that is kept, at its most.
    pub(super) fn reserved_with(&self, cost: Option<&Cost>) -> u64 {
        let living = self.ledger.living();
        let all = living.iter().map(Rc::as_ref).chain(cost);
        let sum = sum(all, Cost::reserved, self.compiler.packed(), self.own_file());
        sum.limited().saturating_add(self.features.bytes()).saturating_add(self.host)
    }

    /// Drop what was used longest ago until so many bytes are free as other engines of the process lack.
    pub(crate) fn give_back(&mut self) {
        let bytes = self.share.demanded();
        let enough = self.reserved_with(None).saturating_sub(bytes);
        while self.reserved_with(None) > enough {
            if !self.drop_something(|| "another engine needs its memory".into()) {
                break;
            }
        }
        self.settle();
    }

    /// To be called when something was run or dropped. Drops kept sessions while more is held than the memory limit: what a
    /// run took may be more than was foreseen. What sessions that are gone held goes back to the system, packed
    /// weights and free pages of the heap.
    pub(crate) fn settle(&mut self) {
        self.adopt();
        let limit = self.options.memory_limit;
        while limit != 0 && self.memory().limited().saturating_add(self.host) > limit {
            if !self.drop_something(|| format!("memory limit of {limit} bytes")) {
                break;
            }
        }
        if self.ledger.forget_dropped() {
            self.forget_unused();
            release_heap();
        }
        self.share.hold(self.reserved_with(None));
    }

    /// The session used longest ago; prompt features when there is none. Whether there was something to drop.
    fn drop_something(&mut self, why: impl Fn() -> String) -> bool {
        if self.drop_oldest(|_, _| true, why) {
            return true;
        }
        let any = self.features.bytes() > 0;
        self.features.clear();
        any
    }

    /// Whether there was one to drop.
    pub(super) fn drop_oldest(
        &mut self,
        wanted: impl Fn(&Key, &Kept) -> bool,
        why: impl Fn() -> String,
    ) -> bool {
        let Some((key, kept)) = self.kept.take_oldest(wanted) else { return false };
        drop(kept);
        self.log.dropped(&key, &why());
        self.forget_unused();
        true
    }

    /// Let go of packed weights once no session reads any. The runtime keeps all of them until then.
    fn forget_unused(&mut self) {
        if !self.compiler.packed().is_empty() && self.ledger.living().iter().all(|c| c.shared.is_empty()) {
            self.compiler.clear();
        }
    }

    /// Bytes of the model's file, and whether they are mapped.
    pub(super) fn own_file(&self) -> (u64, bool) {
        let own = self.model.mapping();
        (own.bytes().len() as u64, own.is_mapped())
    }

    /// Bytes held now.
    pub fn memory(&mut self) -> MemoryUse {
        self.adopt();
        let living = self.ledger.living();
        let costs = living.iter().map(Rc::as_ref);
        let mut held = sum(costs, Cost::held, self.compiler.packed(), self.own_file());
        held.activations = held.activations.saturating_add(self.features.bytes());
        held
    }
}

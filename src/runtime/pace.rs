//! The pace of an engine: it computes nothing while it is paused, and no more than its share of the processor.
//!
//! The worker asks before everything that computes (`hold`), so a call into the runtime that is under way is finished first.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::exit;
use super::threads::Threads;

/// How often a thread that is held looks whether its job was cancelled.
const LOOK: Duration = Duration::from_millis(20);

/// When the threads of an engine may compute.
#[derive(Debug)]
pub(crate) struct Pace {
    threads: Arc<Threads>,
    /// There is a reason to look at `orders`.
    limited: AtomicBool,
    orders: Mutex<Orders>,
    changed: Condvar,
}

#[derive(Debug)]
struct Orders {
    paused: bool,
    /// The engine goes: nothing is held any more.
    closed: bool,
    /// Of one core; 0 for no limit.
    share: f64,
    /// CPU seconds that were taken beyond the share, when it was last looked.
    debt: f64,
    looked: Instant,
    /// CPU time of the engine's threads then.
    used: Duration,
}

impl Orders {
    /// How long to compute nothing for what was computed.
    fn rest(&mut self, used: Duration) -> Duration {
        if self.share == 0.0 {
            return Duration::ZERO;
        }
        let now = Instant::now();
        let earned = self.share * now.duration_since(self.looked).as_secs_f64();
        let taken = used.saturating_sub(self.used).as_secs_f64();
        // What was not taken is not saved up: the share holds in every moment that is longer than a call.
        self.debt = (self.debt + taken - earned).max(0.0);
        (self.looked, self.used) = (now, used);
        Duration::from_secs_f64((self.debt / self.share).min(3600.0))
    }
}

impl Pace {
    pub fn new(threads: Arc<Threads>) -> Pace {
        let orders = Orders {
            paused: false,
            closed: false,
            share: 0.0,
            debt: 0.0,
            looked: Instant::now(),
            used: Duration::ZERO,
        };
        let (limited, changed) = Default::default();
        Pace { threads, limited, orders: Mutex::new(orders), changed }
    }

    fn set(&self, change: impl FnOnce(&mut Orders)) {
        let mut orders = self.lock();
        change(&mut orders);
        self.limited.store((orders.paused || orders.share > 0.0) && !orders.closed, SeqCst);
        drop(orders);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Compute nothing from now on, or go on.
    pub fn pause(&self, paused: bool) {
        self.set(|orders| orders.paused = paused);
    }

    /// Compute for so many percent of the time of one core; 0 for no limit.
    pub fn set_share(&self, percent: u32) {
        let used = self.threads.cpu_time();
        self.set(|orders| {
            (orders.share, orders.debt) = (f64::from(percent) / 100.0, 0.0);
            (orders.looked, orders.used) = (Instant::now(), used);
        });
    }

    /// Hold nobody any more.
    pub fn close(&self) {
        self.set(|orders| orders.closed = true);
    }

    /// On a thread of the engine: wait until it may compute, or `ends` says that it need not, or the process exits.
    pub fn hold(self: &Arc<Pace>, ends: impl Fn() -> bool) {
        if !self.limited.load(SeqCst) {
            return;
        }
        let held = self.clone();
        let Ok(_call) = exit::ended_by(move || held.changed.notify_all()) else { return };
        let mut orders = self.lock();
        loop {
            let rest = orders.rest(self.threads.cpu_time());
            if orders.closed || ends() || (!orders.paused && rest.is_zero()) {
                return;
            }
            let time = if orders.paused { LOOK } else { rest.min(LOOK) };
            orders = self.changed.wait_timeout(orders, time).unwrap_or_else(|e| e.into_inner()).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_paid_for_and_not_saved_up() {
        let pace = Pace::new(Arc::new(Threads::new(1, 0)));
        let mut orders = pace.lock();
        orders.share = 0.5;
        // A second that was not used earns nothing.
        orders.looked -= Duration::from_secs(1);
        assert_eq!(orders.rest(Duration::ZERO), Duration::ZERO);
        // 10 ms of CPU at half of a core: 20 ms, less what has gone by.
        let rest = orders.rest(Duration::from_millis(10));
        assert!(rest > Duration::from_millis(10) && rest <= Duration::from_millis(20), "{rest:?}");
        orders.looked -= Duration::from_millis(20);
        assert_eq!(orders.rest(Duration::from_millis(10)), Duration::ZERO);
        orders.share = 0.0;
        assert_eq!(orders.rest(Duration::from_secs(9)), Duration::ZERO);
    }

    #[test]
    fn held_threads_are_let_go_of() {
        let pace = Arc::new(Pace::new(Arc::new(Threads::new(1, 0))));
        pace.hold(|| false);
        pace.pause(true);
        // By the end of what they do.
        pace.hold(|| true);
        let held = |open: &dyn Fn(&Pace)| {
            std::thread::scope(|scope| {
                let thread = scope.spawn(|| pace.hold(|| false));
                std::thread::sleep(3 * LOOK);
                assert!(!thread.is_finished());
                open(&pace);
            });
        };
        held(&|pace| pace.pause(false));
        pace.pause(true);
        held(&|pace| pace.close());
        pace.hold(|| false);
    }
}

//! What waits for the worker: by priority, then in the order of its coming.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::state::JobState;
use crate::sessions::Sessions;

/// Work for the worker thread.
pub(super) type Task = Box<dyn FnOnce(&mut Sessions) + Send>;

/// Where a task stands in the queue.
#[derive(Debug, Default)]
pub(super) struct Rank {
    /// Higher ones go first.
    pub priority: i32,
    /// Takes the place of jobs with the same key; 0 for none.
    pub key: u64,
    /// The job that the task does; none for a call that somebody waits for.
    pub job: Option<Arc<JobState>>,
    /// Not before the next step of another job.
    pub alone: bool,
}

/// The tasks of one engine.
#[derive(Debug, Default)]
pub(super) struct Queue {
    tasks: Mutex<Tasks>,
    changed: Condvar,
}

#[derive(Default)]
struct Tasks {
    waiting: BTreeMap<(Reverse<i32>, u64), (Rank, Task)>,
    /// How many have come.
    count: u64,
    /// Jobs stay, calls do not.
    paused: bool,
    /// None will come any more.
    closed: bool,
}

impl std::fmt::Debug for Tasks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tasks({})", self.waiting.len())
    }
}

impl Tasks {
    fn take(&mut self, wanted: impl Fn(&Rank) -> bool) -> Option<Task> {
        let paused = self.paused && !self.closed;
        let found = self.waiting.iter().find(|(_, (rank, _))| {
            wanted(rank) && !(paused && rank.job.as_ref().is_some_and(|job| !job.is_final()))
        });
        let at = *found?.0;
        self.waiting.remove(&at).map(|(_, task)| task)
    }

    /// Jobs that are `wanted`, out of the queue.
    fn remove(&mut self, wanted: impl Fn(&Rank) -> bool) -> Vec<(Rank, Task)> {
        let jobs = self.waiting.extract_if(.., |_, (rank, _)| rank.job.is_some() && wanted(rank));
        jobs.map(|(_, removed)| removed).collect()
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Queue a task; of jobs with its key, those that have not begun end.
    pub fn push(&self, rank: Rank, task: Task) {
        let mut tasks = self.lock();
        // Nobody would take it out any more, and what it holds may hold the queue.
        if tasks.closed {
            return drop(tasks);
        }
        let key = rank.key;
        let replaced = if key == 0 { Vec::new() } else { tasks.remove(|other| other.key == key) };
        let at = (Reverse(rank.priority), tasks.count);
        tasks.count += 1;
        tasks.waiting.insert(at, (rank, task));
        drop(tasks);
        self.changed.notify_one();
        // What a task holds is dropped outside of the lock.
        let jobs = replaced.iter().filter_map(|(rank, _)| rank.job.as_ref());
        // One that has ended by itself was not replaced.
        jobs.filter(|job| !job.is_final()).for_each(|job| job.replace(key));
    }

    /// The next task; waits for one. `None` once the queue is closed and empty.
    pub fn pop(&self) -> Option<Task> {
        let mut tasks = self.lock();
        loop {
            if let Some(task) = tasks.take(|_| true) {
                return Some(task);
            }
            if tasks.closed {
                return None;
            }
            tasks = self.changed.wait(tasks).unwrap_or_else(|e| e.into_inner());
        }
    }

    /// The next job of a priority above this one, if there is any.
    pub fn pop_above(&self, priority: i32) -> Option<Task> {
        self.lock().take(|rank| rank.job.is_some() && !rank.alone && rank.priority > priority)
    }

    /// End every job that has not begun. How many had not ended yet.
    pub fn cancel_jobs(&self) -> usize {
        let removed = self.lock().remove(|_| true);
        let jobs = removed.iter().filter_map(|(rank, _)| rank.job.as_ref());
        jobs.filter(|job| !job.is_final()).inspect(|job| job.cancel()).count()
    }

    /// Hold jobs back, or let them go.
    pub fn pause(&self, paused: bool) {
        self.lock().paused = paused;
        self.changed.notify_one();
    }

    /// No task will come any more.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }
}

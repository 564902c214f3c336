//! Messages of one engine, kept until the host asks for them: the library itself never prints. And what its
//! prepared sessions run on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::LogLevel;
use crate::runtime::aside::Key;

/// Most messages kept; older ones go first.
const CAPACITY: usize = 256;

/// Session name → execution provider → nodes.
pub(crate) type Assignments = BTreeMap<String, BTreeMap<String, usize>>;

#[derive(Debug, Default)]
pub(crate) struct LogQueue {
    messages: Mutex<VecDeque<(LogLevel, String)>>,
    /// Whether there may be messages.
    any: AtomicBool,
    assignments: Mutex<Assignments>,
}

impl LogQueue {
    pub fn info(&self, message: String) {
        self.push(LogLevel::Info, message);
    }

    pub fn error(&self, message: String) {
        self.push(LogLevel::Error, message);
    }

    pub fn warn(&self, message: String) {
        self.push(LogLevel::Warning, message);
    }

    fn push(&self, level: LogLevel, message: String) {
        let mut queue = self.messages.lock().unwrap_or_else(|e| e.into_inner());
        if queue.len() == CAPACITY {
            queue.pop_front();
        }
        queue.push_back((level, message));
        self.any.store(true, Ordering::SeqCst);
    }

    /// A session was prepared.
    pub fn prepared(&self, key: &Key, milliseconds: u128, nodes: &BTreeMap<String, usize>) {
        let on: Vec<String> = nodes.iter().map(|(provider, n)| format!("{n} nodes on {provider}")).collect();
        let Key { name, batch, .. } = key;
        self.info(format!("prepared '{name}' for {batch} pictures in {milliseconds} ms: {}", on.join(", ")));
        self.assign(key, nodes);
    }

    /// A session was prepared that a late job had left, or that was begun ahead.
    pub fn prepared_aside(&self, key: &Key, nodes: &BTreeMap<String, usize>) {
        self.info(format!("prepared '{}' for {} pictures beside what was computed", key.name, key.batch));
        self.assign(key, nodes);
    }

    fn assign(&self, Key { name, batch, .. }: &Key, nodes: &BTreeMap<String, usize>) {
        let mut assignments = self.assignments.lock().unwrap_or_else(|e| e.into_inner());
        assignments.insert(format!("{name} x{batch}"), nodes.clone());
    }

    /// A session was dropped.
    pub fn dropped(&self, Key { name, batch, .. }: &Key, why: &str) {
        self.info(format!("dropped '{name}' for {batch} pictures: {why}"));
        let mut assignments = self.assignments.lock().unwrap_or_else(|e| e.into_inner());
        assignments.remove(&format!("{name} x{batch}"));
    }

    /// All sessions were dropped.
    pub fn trimmed(&self) {
        self.assignments.lock().unwrap_or_else(|e| e.into_inner()).clear();
    }

    /// What the prepared sessions run on.
    pub fn assignments(&self) -> Assignments {
        self.assignments.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    pub fn take(&self) -> Vec<(LogLevel, String)> {
        let mut messages = self.messages.lock().unwrap_or_else(|e| e.into_inner());
        self.any.store(false, Ordering::SeqCst);
        messages.drain(..).collect()
    }

    /// [`LogQueue::take`], or none where that would have to wait for a thread that is adding one.
    pub fn take_now(&self) -> Vec<(LogLevel, String)> {
        if !self.any.load(Ordering::SeqCst) {
            return Vec::new();
        }
        let Ok(mut messages) = self.messages.try_lock() else { return Vec::new() };
        self.any.store(false, Ordering::SeqCst);
        messages.drain(..).collect()
    }
}

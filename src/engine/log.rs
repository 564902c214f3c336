//! Messages of one engine, kept until the host asks for them: the library itself never prints.

use std::collections::VecDeque;
use std::sync::Mutex;

/// Most messages kept; older ones go first.
const CAPACITY: usize = 256;

/// Severity of an informational message (`SOFTDIMO_LOG_INFO`).
const INFO: i32 = 3;

#[derive(Debug, Default)]
pub(super) struct LogQueue(Mutex<VecDeque<(i32, String)>>);

impl LogQueue {
    pub fn info(&self, message: String) {
        let mut queue = self.0.lock().unwrap_or_else(|e| e.into_inner());
        if queue.len() == CAPACITY {
            queue.pop_front();
        }
        queue.push_back((INFO, message));
    }

    pub fn take(&self) -> Vec<(i32, String)> {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).drain(..).collect()
    }
}

//! How many bytes the results of a graph's nodes take while it runs.

use std::collections::HashMap;

use super::Graph;

impl Graph {
    /// Bytes of activations alive at once if nodes run in order and each result is freed after its last
    /// use: a lower bound of what a session allocates.
    pub fn peak_activation_bytes(&self) -> u64 {
        let nodes = self.nodes.borrow();
        let (mut live, mut peak) = (0, 0);
        self.lifetimes(|event| match event {
            Event::Computed(i) => {
                live += nodes[i].bytes();
                peak = peak.max(live);
            }
            Event::Freed(i) => live -= nodes[i].bytes(),
        });
        peak.try_into().unwrap_or(u64::MAX)
    }

    /// Bytes of activations if memory, once allocated, is used again only for results of the same dtype and shape:
    /// an estimate of what ONNX Runtime allocates, whose planner has that rule. The networks of the bundled model
    /// take 0.5 to 1.1 times as much (`the_first_run_takes_what_was_foreseen`).
    pub fn planned_activation_bytes(&self) -> u64 {
        let nodes = self.nodes.borrow();
        // By dtype and shape: bytes alive, and the most there were.
        let mut kinds = HashMap::<_, (u128, u128)>::new();
        self.lifetimes(|event| {
            let (Event::Computed(i) | Event::Freed(i)) = event;
            let (live, peak) = kinds.entry((nodes[i].dtype, &nodes[i].shape)).or_default();
            match event {
                Event::Computed(_) => {
                    *live += nodes[i].bytes();
                    *peak = *live.max(peak);
                }
                Event::Freed(_) => *live -= nodes[i].bytes(),
            }
        });
        kinds.into_values().map(|(_, peak)| peak).sum::<u128>().try_into().unwrap_or(u64::MAX)
    }

    /// Where results that take memory come and go, if nodes run in order and each is freed after its last use.
    fn lifetimes(&self, mut visit: impl FnMut(Event)) {
        let nodes = self.nodes.borrow();
        let mut last_use: Vec<usize> = (0..nodes.len()).collect();
        for (_, v) in self.outputs.borrow().iter() {
            last_use[v.index()] = nodes.len();
        }
        for (i, node) in nodes.iter().enumerate().rev() {
            // A view's operand lives as long as the view itself.
            let until = if node.op.is_view() { last_use[i] } else { i };
            for v in &node.inputs {
                last_use[v.index()] = last_use[v.index()].max(until);
            }
        }
        let mut dies_at: Vec<Vec<usize>> = vec![Vec::new(); nodes.len() + 1];
        for (i, node) in nodes.iter().enumerate() {
            if !node.op.is_source() && !node.op.is_view() {
                visit(Event::Computed(i));
                dies_at[last_use[i]].push(i);
            }
            std::mem::take(&mut dies_at[i]).into_iter().for_each(|dead| visit(Event::Freed(dead)));
        }
    }
}

/// The life of a node's result.
#[derive(Clone, Copy)]
enum Event {
    Computed(usize),
    /// Nothing reads it any more.
    Freed(usize),
}

impl super::Node {
    fn bytes(&self) -> u128 {
        self.shape.len() as u128 * self.dtype.size() as u128
    }
}

//! Where a run spends its time: ONNX Runtime's own profile, by operation and by layer.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use softdimo::{Engine, Error, Options, Request, Result};

use super::table::table;
use crate::say::say;

/// What ONNX Runtime adds to the name of a node.
const KERNEL: &str = "_kernel_time";

/// The networks that ran, by name.
#[derive(Debug, Serialize, Deserialize)]
pub struct Profile(pub BTreeMap<String, Vec<Share>>);

/// Nodes of one kind in one layer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Share {
    /// Empty where the runtime added them, or they belong to no weights.
    pub layer: String,
    /// Type of operation after the runtime's optimisers.
    pub op: String,
    /// Per job.
    pub nodes: f64,
    /// Per job.
    pub milliseconds: f64,
}

/// An event of the trace.
#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    cat: String,
    name: String,
    /// Microseconds.
    #[serde(default)]
    ts: u64,
    #[serde(default)]
    dur: u64,
    #[serde(default)]
    args: BTreeMap<String, serde_json::Value>,
}

/// Profile `runs` jobs after one that prepares the sessions and does not count.
pub fn take(path: &Path, options: Options, request: &Request, runs: usize) -> Result<Profile> {
    let folder = tempfile::tempdir().map_err(|e| Error::io("a temporary folder", e))?;
    let engine = Engine::open(path, Options { profile: Some(folder.path().into()), ..options })?;
    for seed in 0..=runs {
        engine.generate(&request.clone().with_seed(seed as u64))?;
    }
    // Sessions write their profiles when they are dropped.
    drop(engine);
    let mut networks = BTreeMap::new();
    let entries = std::fs::read_dir(folder.path()).map_err(|e| Error::io(folder.path(), e))?;
    for entry in entries {
        let file = entry.map_err(|e| Error::io(folder.path(), e))?.path();
        let text = std::fs::read_to_string(&file).map_err(|e| Error::io(&file, e))?;
        let events: Vec<Event> = serde_json::from_str(&text)
            .map_err(|e| Error::io(&file, std::io::Error::other(format!("no profile: {e}"))))?;
        let shares = shares(&events, runs);
        if !shares.is_empty() {
            networks.insert(network(&file), shares);
        }
    }
    Ok(Profile(networks))
}

/// The runtime appends `_<date>_<time>_<count>.json` to the name of a session's profile.
fn network(file: &Path) -> String {
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    name.split_once('_').map_or(name.clone(), |(network, _)| network.to_string())
}

/// Sums over all jobs but the first, by layer and operation. A job may run a network more than once.
fn shares(events: &[Event], runs: usize) -> Vec<Share> {
    let mut starts: Vec<&Event> = events.iter().filter(|event| event.name == "model_run").collect();
    starts.sort_by_key(|event| event.ts);
    // What only the first job runs, such as the encoder of a prompt that is kept, is no part of the others.
    let warm = starts.len() - starts.len() / (runs + 1) * runs;
    let Some(from) = starts.get(warm).map(|event| event.ts) else { return Vec::new() };
    let mut sums: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for event in events.iter().filter(|event| event.cat == "Node" && event.ts >= from) {
        let Some(name) = event.name.strip_suffix(KERNEL) else { continue };
        let op = event.args.get("op_name").and_then(|op| op.as_str()).unwrap_or_default();
        let sum = sums.entry((layer(name).to_string(), op.to_string())).or_default();
        *sum = (sum.0 + 1, sum.1 + event.dur);
    }
    let per_job = |n: u64| n as f64 / runs as f64;
    let share = |((layer, op), (nodes, microseconds))| Share {
        layer,
        op,
        nodes: per_job(nodes),
        milliseconds: per_job(microseconds) / 1e3,
    };
    sums.into_iter().map(share).collect()
}

/// The layer in a node's name: it stands before `/v<index>` or `/h<count>`, see [`softdimo::graph::Graph::layers`].
fn layer(node: &str) -> &str {
    let is_value = |at: &usize| {
        let mut rest = node[at + 1..].chars();
        matches!(rest.next(), Some('v' | 'h')) && rest.next().is_some_and(|c| c.is_ascii_digit())
    };
    node.match_indices('/').map(|(at, _)| at).find(is_value).map_or("", |at| &node[..at])
}

/// A layer's path up to its first number: `student.transformer.layers.3`.
fn block(layer: &str) -> String {
    let parts: Vec<&str> = layer.split('.').collect();
    let numbered = parts.iter().position(|part| is_number(part));
    parts[..numbered.map_or(parts.len(), |at| at + 1)].join(".")
}

/// A layer's path whose first number is any: `student.transformer.layers.*.1.net.0`.
fn part(layer: &str) -> String {
    let mut parts: Vec<&str> = layer.split('.').collect();
    if let Some(at) = parts.iter().position(|part| is_number(part)) {
        parts[at] = "*";
    }
    parts.join(".")
}

fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())
}

/// What shares are summed by.
type Key = fn(&Share) -> String;

impl Profile {
    pub fn print(&self) -> Result<()> {
        let by: [(&str, Key); 3] = [
            ("operation", |share| share.op.clone()),
            ("block", |share| block(&share.layer)),
            ("layer", |share| part(&share.layer)),
        ];
        for (network, shares) in &self.0 {
            let total: f64 = shares.iter().map(|share| share.milliseconds).sum();
            for (what, key) in by {
                say!("")?;
                say!("{network}, by {what}: {total:.2} ms in kernels")?;
                say!("")?;
                for line in table(&rows(what, shares, key, total)) {
                    say!("{line}")?;
                }
            }
        }
        Ok(())
    }
}

/// Sums by `key`, the largest first.
fn rows(what: &str, shares: &[Share], key: Key, total: f64) -> Vec<Vec<String>> {
    let mut sums: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for share in shares {
        let sum = sums.entry(key(share)).or_default();
        *sum = (sum.0 + share.nodes, sum.1 + share.milliseconds);
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by(|(_, (_, a)), (_, (_, b))| b.total_cmp(a));
    let heading = [what, "ms", "%", "nodes"].map(str::to_string).to_vec();
    let row = |(name, (nodes, milliseconds)): (String, (f64, f64))| {
        let name = if name.is_empty() { "(no weights)".to_string() } else { name };
        let percent = 100.0 * milliseconds / total.max(f64::MIN_POSITIVE);
        vec![name, format!("{milliseconds:.2}"), format!("{percent:.1}"), format!("{nodes:.0}")]
    };
    std::iter::once(heading).chain(sums.into_iter().map(row)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_give_layers() {
        assert_eq!(layer("student.layers.3.net.0/v57"), "student.layers.3.net.0");
        assert_eq!(layer("decoder.up.0.conv1/v7_nchwc"), "decoder.up.0.conv1");
        assert_eq!(layer("decoder.norm/h12"), "decoder.norm");
        assert_eq!(layer("ReorderInput"), "");
        assert_eq!(layer("v12"), "");
        assert_eq!(block("student.layers.3.net.0"), "student.layers.3");
        assert_eq!(block("student.input_proj"), "student.input_proj");
        assert_eq!(part("student.layers.3.net.0"), "student.layers.*.net.0");
        let named = network(Path::new("/tmp/x/decode (hard)_2026-11-29_20-00-01_123.json"));
        assert_eq!(named, "decode (hard)");
    }

    #[test]
    fn the_first_job_does_not_count() {
        let event = |cat: &str, name: &str, ts, dur| Event {
            cat: cat.into(),
            name: name.into(),
            ts,
            dur,
            args: [("op_name".to_string(), "Gemm".into())].into(),
        };
        let node = |ts, dur| event("Node", "a.0/v1_kernel_time", ts, dur);
        let run = |ts| event("Session", "model_run", ts, 90);
        let events = [node(110, 5000), run(100), node(210, 1000), run(200), node(310, 3000), run(300)];
        let found = shares(&events, 2);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].layer.as_str(), found[0].op.as_str()), ("a.0", "Gemm"));
        assert_eq!((found[0].nodes, found[0].milliseconds), (1.0, 2.0));
        // Twice a job.
        let events = [
            node(110, 4000),
            run(100),
            node(210, 4000),
            run(200),
            node(310, 1000),
            run(300),
            node(410, 1000),
            run(400),
        ];
        let found = shares(&events, 1);
        assert_eq!((found[0].nodes, found[0].milliseconds), (2.0, 2.0));
        // Only in the first job.
        assert!(shares(&[node(110, 5000), run(100)], 2).is_empty());
    }
}

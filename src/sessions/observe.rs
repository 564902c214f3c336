//! What goes on while pictures are made: what convolutions read and write, which says how finely int8 arithmetic can round it,
//! and what programs are given and give, so that another engine can be given the same.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::graph::{Graph, Value, int8};
use crate::program::Program;
use crate::quant::Ranges;
use crate::tensor::Tensor;

/// What stands before the name of kernels in those of the outputs that tell their ranges. No program has an output of such a name.
const PREFIX: &str = "ranges of ";

/// What was seen until now.
#[derive(Debug, Default)]
pub struct Observed {
    /// By the names of kernels.
    ranges: BTreeMap<String, Ranges>,
    /// Runs of the programs that are kept, in their order.
    pub calls: Vec<ProgramCall>,
    kept: Vec<Program>,
    most: usize,
}

/// One run of a program.
#[derive(Clone, Debug)]
pub struct ProgramCall {
    pub program: Program,
    pub batch: usize,
    pub inputs: Vec<(String, Tensor)>,
    pub results: Vec<(String, Tensor)>,
}

/// The graph with, of every convolution that may be computed in int8, one more output: the rows of its [`Ranges`].
pub(super) fn with_ranges(graph: &Graph) -> Result<Graph> {
    let g = graph.clone();
    for (i, (kernels, [reads, writes])) in int8::convolutions(graph).into_iter().enumerate() {
        let s = g.shape(writes); // [B, O, H, W]
        let channels = g.reshape(g.transpose(writes, &[1, 0, 2, 3])?, [s[1], s.len() / s[1]])?;
        let all = g.reshape(reads, [1, g.shape(reads).len()])?;
        g.output(format!("{PREFIX}{i} {kernels}"), g.concat(&[bounds(&g, all)?, bounds(&g, channels)?], 0)?);
    }
    Ok(g)
}

/// Lowest and highest of each row of x [N, M]: [N, 2].
fn bounds(g: &Graph, x: Value) -> Result<Value> {
    let lowest = g.neg(g.reduce_max(g.neg(x)?, 1)?)?;
    g.concat(&[lowest, g.reduce_max(x, 1)?], 1)
}

impl Observed {
    /// See ranges, and keep the first `most` runs of these programs.
    pub(crate) fn keeping(kept: Vec<Program>, most: usize) -> Observed {
        Observed { kept, most, ..Observed::default() }
    }

    /// Remember a run, and the ranges among its results; the other results.
    pub(super) fn take(
        &mut self,
        (program, batch): (Program, usize),
        inputs: &[(&str, &Tensor)],
        results: Vec<(String, Tensor)>,
    ) -> Vec<(String, Tensor)> {
        let (ranges, results): (Vec<_>, Vec<_>) =
            results.into_iter().partition(|(name, _)| name.starts_with(PREFIX));
        for (name, value) in ranges {
            // Kernels that are used more than once have an output each.
            let Some((_, kernels)) = name[PREFIX.len()..].split_once(' ') else { continue };
            let rows = value.to_f32();
            let seen = self.ranges.entry(kernels.into());
            seen.or_insert_with(|| Ranges::zeros(rows.len() / 2 - 1)).extend(&rows);
        }
        if self.kept.contains(&program) && self.calls.len() < self.most {
            let inputs = inputs.iter().map(|(name, tensor)| (name.to_string(), (*tensor).clone())).collect();
            self.calls.push(ProgramCall { program, batch, inputs, results: results.clone() });
        }
        results
    }

    /// What convolutions read and write, by the names of their kernels; not where anything was infinite.
    pub fn ranges(&self) -> BTreeMap<String, Ranges> {
        let sound = self.ranges.iter().filter(|(_, ranges)| ranges.are_sound());
        sound.map(|(kernels, ranges)| (kernels.clone(), ranges.clone())).collect()
    }
}

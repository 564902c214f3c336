//! The operations, against their definition. Every `Op` has cases in one table: the reference evaluator
//! (f64) is checked against literal examples, and ONNX Runtime (f32) against the evaluator. Then whole
//! graphs: simplification, printing, the activation estimate, and what the builder refuses.

mod case;
mod elementwise;
mod errors;
mod fused;
mod gradients;
mod graphs;
mod int8;
mod layout;
mod linear;
mod normalization_gradient;
mod normalize;
mod random_graphs;
mod recompute;
mod runtime;
mod sum_normalization;

use std::collections::{BTreeMap, BTreeSet};

use case::Case;
use softdimo::graph::Op;
use softdimo::tensor::Dtype;
use strum::VariantNames;

/// Every op, with several parameters where they matter.
fn op_cases() -> Vec<Case> {
    let tables = [
        elementwise::cases(),
        linear::cases(),
        int8::cases(),
        layout::cases(),
        normalize::cases(),
        fused::cases(),
        normalization_gradient::cases(),
        sum_normalization::cases(),
    ];
    tables.into_iter().flatten().collect()
}

/// Ops whose cases need no literal example: `Weight` is compared with the file's own bytes.
const WITHOUT_EXAMPLE: [&str; 1] = ["Weight"];

#[test]
fn every_op_has_cases_and_an_example() {
    let all: BTreeSet<&str> = Op::VARIANTS.iter().copied().collect();
    let cases = op_cases();
    let covered = cases.iter().map(|c| c.op).chain(["Weight"]).collect::<BTreeSet<_>>();
    assert_eq!(covered, all);
    let examples = cases.iter().filter(|c| c.expected.is_some()).map(|c| c.op);
    assert_eq!(examples.chain(WITHOUT_EXAMPLE).collect::<BTreeSet<_>>(), all);
}

#[test]
fn the_evaluator_gives_the_expected_values() {
    for case in op_cases() {
        let graph = case.graph();
        let Some(expected) = &case.expected else { continue };
        let found = case.evaluate(&graph);
        case::assert_close(&found.data, expected, 1e-12, &graph);
    }
}

#[test]
fn onnx_runtime_agrees_with_the_evaluator() {
    let engine = runtime::engine(runtime::LEAN);
    let mut count = BTreeMap::<&str, usize>::new();
    let mut failures = Vec::new();
    for case in op_cases() {
        let graph = case.graph();
        let expected = case.evaluate(&graph);
        *count.entry(case.op).or_default() += 1;
        match engine.run_graph(graph.clone(), case.feeds()) {
            Ok(results) => {
                let found = &results[0].1;
                let exact = found.dtype() == Dtype::I64;
                assert_eq!(found.shape(), &expected.shape, "\n{graph}");
                if let Err(e) = case::close(&found.to_f64(), &expected.data, if exact { 0.0 } else { 1e-5 }) {
                    failures.push(format!("{e}\n{graph}"));
                }
            }
            Err(e) => failures.push(format!("{e}\n{graph}")),
        }
    }
    println!("cases: {count:?}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

//! Test-time embedding optimisation: climb the gradient of rewards through the student and the decoder, with
//! every weight frozen. arXiv 2509.22925 §TTEO: SGD, learning rate 0.2, the best iterate is kept.
//!
//! One step is one session: forward, rewards, gradient and update in a single graph, which also keeps the best
//! iterate. Embeddings and the optimiser's state stay where the provider computes; what reaches the host in a
//! step are scores, norms and gaps, a number a picture each. A host callback joins in through a cotangent: its
//! dScore/dImage enters the same graph as Σ image·cotangent.

mod climb;
mod programs;
mod report;
mod settings;
mod start;
mod step;

pub(crate) use climb::{Deadline, Optimized, optimize};
pub(crate) use programs::prepare;
pub use report::{Iteration, OptimizationReport};
pub use settings::{Optimize, Optimizer, Variables};
pub(crate) use start::Start;

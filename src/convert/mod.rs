//! Official checkpoints → one model file. The networks' own graph builders say which tensors are needed,
//! so a missing or misshapen one is reported before anything is written, and nothing else is copied.
//! [`quantize`] writes a model file again with narrower weights.

mod generator;
pub(crate) mod quantize;
mod reward;

pub use self::generator::generator;
pub use self::quantize::quantize;
pub use self::reward::reward;
pub use crate::checkpoint::{ReadFrom, WhichWeights};
pub use crate::families::source::Source;
pub use crate::model_file::{About, Summary};
pub use crate::quant::Storage;
pub use crate::rewards::source::RewardSource;

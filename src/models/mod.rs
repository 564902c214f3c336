//! The networks, one file each, and the model families built of them ([`Architecture`]).

pub mod blip;
pub mod clip;
pub mod conv_vqgan;
pub mod efficientnet;
pub mod family;
pub mod maskbit;
pub mod maskgen;
pub mod maskgit;
pub mod meissonic;
pub mod mmdit;
pub mod program;
pub mod rewards;
mod sizes;
pub mod taming_vqgan;
pub mod tatitok;
pub mod text_encoder;
pub mod vqvae;

use serde::{Deserialize, Serialize};

pub use family::{Condition, ConditionLayout, Family, Layout, MicroConditions};

/// Largest value any size in a configuration may have; keeps products far from overflow.
const SIZE_LIMIT: usize = 1 << 20;

/// What a model file holds, with the sizes of its networks (key names of the official configurations).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "lowercase")]
pub enum Architecture {
    /// MaskBit: LFQBert over bit tokens, convolutional tokenizer.
    MaskBit(family::MaskBit),
    /// MaskGen: MM-DiT over one-dimensional tokens and a prompt's, TA-TiTok.
    MaskGen(family::MaskGen),
    /// MaskGIT: MaskTransformer over code tokens, taming VQGAN.
    MaskGit(family::MaskGit),
    /// Meissonic: MM-DiT over code tokens and a prompt's, diffusers' VQModel.
    Meissonic(family::Meissonic),
}

/// An architecture answers as its family does.
impl std::ops::Deref for Architecture {
    type Target = dyn Family;

    fn deref(&self) -> &(dyn Family + 'static) {
        match self {
            Architecture::MaskBit(family) => family,
            Architecture::MaskGen(family) => family,
            Architecture::MaskGit(family) => family,
            Architecture::Meissonic(family) => family,
        }
    }
}

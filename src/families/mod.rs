//! The table of model families: a row each, and a folder each that holds all the rest, from the networks to the
//! conversion. Nothing outside a family's folder tells families apart except through this table;
//! `docs/adding-a-family.md` adds one.

pub mod condition;
pub mod defaults;
pub mod family;
pub mod golden;
pub mod maskbit;
pub mod maskgen;
pub mod maskgit;
pub mod meissonic;
pub mod source;
mod text_encoder;

use serde::{Deserialize, Serialize};

use self::family::{Family, FamilyDescription};
use self::source::{Pieces, Source};
use crate::error::Result;

/// A row of the table.
#[derive(Debug)]
pub struct FamilyRow {
    pub description: &'static FamilyDescription,
    /// Official checkpoints → everything a model file is made of.
    pub read: fn(&Source) -> Result<Pieces<Architecture>>,
}

macro_rules! families {
    ($($family:ident in $folder:ident,)*) => {
        /// What a model file holds, with the sizes of its networks (key names of the official configurations).
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "family", rename_all = "lowercase")]
        pub enum Architecture {
            $($family($folder::$family),)*
        }

        /// An architecture answers as its family does.
        impl std::ops::Deref for Architecture {
            type Target = dyn Family;

            fn deref(&self) -> &(dyn Family + 'static) {
                match self {
                    $(Architecture::$family(family) => family,)*
                }
            }
        }

        /// Every family.
        pub const FAMILIES: &[FamilyRow] = &[
            $(FamilyRow {
                description: &$folder::DESCRIPTION,
                read: |source| Ok($folder::convert::read(source)?.map(Architecture::$family)),
            },)*
        ];
    };
}

families! {
    MaskBit in maskbit,
    MaskGen in maskgen,
    MaskGit in maskgit,
    Meissonic in meissonic,
}

#[cfg(test)]
mod tests;

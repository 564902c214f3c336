//! The table of networks that score pictures: a row each, and a folder each that holds all the rest. Nothing outside a
//! reward's folder tells them apart except through this table.
//!
//! A prompt's features are computed once ([`Scorer::text_features`]) and fed to every scoring ([`Scorer::score`]).
//! ImageReward has none: its text tokens look at the picture, so it scores from token ids ([`Scorer::score_tokens`], which
//! serves every reward that reads no class).

use serde::{Deserialize, Serialize};

use super::scorer::{RewardDescription, Scorer};
use super::source::{RewardPieces, RewardSource};
use crate::error::Result;

/// A row of the table.
#[derive(Debug)]
pub struct RewardRow {
    pub description: &'static RewardDescription,
    /// An official checkpoint → everything a reward file is made of.
    pub read: fn(&RewardSource) -> Result<RewardPieces<RewardArchitecture>>,
}

macro_rules! rewards {
    ($($name:literal $reward:ident in $folder:ident($description:ident, $read:ident),)*) => {
        /// What a reward file holds, with the sizes of its networks.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "family")]
        pub enum RewardArchitecture {
            $(#[serde(rename = $name)] $reward(super::$folder::$reward),)*
        }

        /// An architecture answers as its network does.
        impl std::ops::Deref for RewardArchitecture {
            type Target = dyn Scorer;

            fn deref(&self) -> &(dyn Scorer + 'static) {
                match self {
                    $(RewardArchitecture::$reward(network) => network,)*
                }
            }
        }

        /// Every reward that is a network.
        pub const REWARDS: &[RewardRow] = &[
            $(RewardRow {
                description: &super::$folder::$description,
                read: |source| Ok(super::$folder::convert::$read(source)?.map(RewardArchitecture::$reward)),
            },)*
        ];
    };
}

rewards! {
    "clip_score" ClipScore in clip(CLIP_SCORE, clip_score),
    "pickscore" PickScore in clip(PICK_SCORE, pick_score),
    "hpsv2" HpsV2 in clip(HPS_V2, hps_v2),
    "aesthetic" Aesthetic in aesthetic(DESCRIPTION, read),
    "image_reward" ImageReward in image_reward(DESCRIPTION, read),
    "classifier" Classifier in classifier(DESCRIPTION, read),
}

/// The names of all of them.
pub fn names() -> Vec<&'static str> {
    REWARDS.iter().map(|row| row.description.name).collect()
}

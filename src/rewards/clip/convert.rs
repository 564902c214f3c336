//! CLIP's checkpoints, as the rewards over both towers read them.
//!
//! | reward | checkpoints |
//! |---|---|
//! | `clip_score` | CLIP under Hugging Face's or open_clip's names, e.g. laion/CLIP-ViT-H-14-laion2B-s32B-b79K |
//! | `pickscore` | yuvalkirstain/PickScore_v1 |
//! | `hpsv2` | HPS_v2.1_compressed.pt |
//!
//! The vocabulary is CLIP's merges. Sizes: see [`crate::nn::clip`]'s.

use super::{ClipScore, HpsV2, PickScore, Towers};
use crate::error::Result;
use crate::nn::clip::sizes::{ANCHORS, clip_text, clip_vision, key_layout};
use crate::nn::clip::{Activation, KeyLayout};
use crate::rewards::scorer::Scorer;
use crate::rewards::source::{RewardPieces, RewardSource, whole};
use crate::text::Flavor;

/// Official configurations beside a checkpoint.
pub(crate) const CONFIGS: [&str; 2] = ["config.json", "open_clip_config.json"];

pub fn clip_score(source: &RewardSource) -> Result<RewardPieces<ClipScore>> {
    read(source, ClipScore)
}

pub fn pick_score(source: &RewardSource) -> Result<RewardPieces<PickScore>> {
    read(source, PickScore)
}

pub fn hps_v2(source: &RewardSource) -> Result<RewardPieces<HpsV2>> {
    read(source, HpsV2)
}

fn read<R: Scorer + Clone + 'static>(
    source: &RewardSource,
    reward: impl Fn(Towers) -> R,
) -> Result<RewardPieces<R>> {
    let checkpoint = source.open("CLIP's tensors", &ANCHORS)?;
    let given = source.config(&CONFIGS)?;
    let keys = key_layout(&checkpoint)?;
    let vision = clip_vision(&checkpoint, keys, given.as_ref(), Activation::Gelu)?;
    let text = clip_text(&checkpoint, keys, given.as_ref(), Activation::Gelu)?;
    let towers = Towers { text, vision };
    let flavor = match keys {
        KeyLayout::HuggingFace => Flavor::HuggingFace,
        KeyLayout::OpenClip => Flavor::OpenClip,
    };
    let tokenizer = source.tokenizer(towers.text_input(), flavor, &checkpoint)?;
    let architecture = reward(towers);
    Ok(RewardPieces { networks: whole(architecture.clone(), checkpoint), architecture, tokenizer })
}

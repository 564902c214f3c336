//! The aesthetic predictor: OpenAI's ViT-L/14 under Hugging Face's or open_clip's names, and
//! sac+logos+ava1-l14-linearMSE.pth as the head, or both in one checkpoint.

use std::sync::Arc;

use super::Aesthetic;
use crate::checkpoint::{Checkpoint, Sought};
use crate::error::Result;
use crate::nn::clip::sizes::{ANCHORS, clip_vision, key_layout};
use crate::nn::clip::{self, Activation};
use crate::rewards::clip::convert::CONFIGS;
use crate::rewards::mark;
use crate::rewards::source::{Build, RewardPieces, RewardSource};
use crate::tensor::Dtype;

pub fn read(source: &RewardSource) -> Result<RewardPieces<Aesthetic>> {
    let checkpoint = source.open("CLIP's tensors", &ANCHORS)?;
    let head = match &source.head {
        Some(path) => {
            let (what, anchors) = ("an aesthetic head's tensors", &["layers.7.weight"][..]);
            let sought = Sought { what, anchors, which: source.weights.clone() };
            Arc::new(Checkpoint::open_network(path, &sought)?)
        }
        None => checkpoint.clone(),
    };
    let given = source.config(&CONFIGS)?;
    let keys = key_layout(&checkpoint)?;
    let vision = clip_vision(&checkpoint, keys, given.as_ref(), Activation::QuickGelu)?;
    let (tower, width) = (vision.clone(), vision.projection_dim);
    let features: Build = Box::new(move |g, w| {
        let pixels = g.input("pixels", Dtype::F32, [1, 3, tower.image_size, tower.image_size])?;
        clip::vision(g, w, &tower, pixels)
    });
    let layers: Build = Box::new(move |g, w| mark::mark(g, w, g.input("features", Dtype::F32, [1, width])?));
    let networks = vec![(checkpoint, features), (head, layers)];
    Ok(RewardPieces { architecture: Aesthetic { vision }, networks, tokenizer: None })
}

//! efficientnet-lite0-57934424.pth.

use serde_json::Value as Json;

use super::{Classifier, efficientnet};
use crate::checkpoint::sizes::{Given, wrong};
use crate::checkpoint::{Checkpoint, unknown};
use crate::error::Result;
use crate::rewards::source::{RewardPieces, RewardSource, whole};

pub fn read(source: &RewardSource) -> Result<RewardPieces<Classifier>> {
    let checkpoint = source.open("EfficientNet-Lite0's tensors", &["_fc.weight"])?;
    let given = source.config(&[])?;
    let architecture = Classifier { classifier: classifier(&checkpoint, given.as_ref())? };
    Ok(RewardPieces { networks: whole(architecture.clone(), checkpoint), architecture, tokenizer: None })
}

/// EfficientNet-Lite0; the picture's size is 224 unless `image_size` says otherwise.
fn classifier(checkpoint: &Checkpoint, given: Option<&Given>) -> Result<efficientnet::Config> {
    let Some(view) = checkpoint.get("_fc.weight") else {
        return Err(unknown(checkpoint, "EfficientNet-Lite0's tensors, such as '_fc.weight'"));
    };
    let num_classes = view.shape.first().copied().unwrap_or(0);
    let image_size = match given.map(|given| (given, &given.json["image_size"])) {
        None | Some((_, Json::Null)) => 224,
        Some((given, size)) => {
            let number = size.as_u64().and_then(|n| usize::try_from(n).ok());
            number.ok_or_else(|| wrong(&given.file, "image_size", "a number of pixels", size))?
        }
    };
    Ok(efficientnet::Config { image_size, num_classes })
}

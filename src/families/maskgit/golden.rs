//! MaskGIT's golden tensors: embeddings, logits with the mask's, both readings of it, codes, pictures in [−1, 1],
//! and the encoder's decisions.

use super::{generator, tokenizer};
use crate::error::Result;
use crate::families::golden::Replay;
use crate::graph::{Graph, Value};
use crate::tensor::Tensor;

/// Every tensor of a batch that its inputs determine.
pub(super) fn outputs(
    g: &Graph,
    replay: &Replay,
    cfg: &generator::Config,
    sizes: &tokenizer::Config,
) -> Result<()> {
    let (root, w) = (&replay.weights, replay.generator());
    let (n, v, side) = (cfg.positions(), cfg.codebook_size, cfg.grid());
    let class = class_embedding(g, replay, cfg)?;
    let b = g.shape(class)[0];
    g.output("class_embedding", g.reshape(class, [b, 1, cfg.hidden_dim])?);

    let tokens = replay.required(g, "in/tokens")?;
    let e_clean = generator::embed(g, &w, cfg, g.reshape(tokens, [b, n])?)?;
    g.output("e_clean", e_clean);
    g.output("logits_clean", generator::logits(g, &w, cfg, e_clean, class)?);
    let e_in = replay.perturbed(g, e_clean)?;
    g.output("e_in", e_in);
    let null = g.constant(Tensor::from_i64([b], &vec![cfg.nclass as i64; b]))?;
    let null = generator::embed_class(g, &w, cfg, null)?;
    g.output("logits_uncond", generator::logits(g, &w, cfg, e_in, null)?);
    let logits = generator::logits(g, &w, cfg, e_in, class)?;
    g.output("logits", logits);
    // The reference samples the mask too, and then takes the last code.
    let raw = g.arg_max(logits, 2)?;
    g.output("tokens_argmax_raw", raw);
    let last = g.constant(Tensor::from_i64([1], &[v as i64 - 1]))?;
    g.output("tokens_argmax", g.reshape(g.min(raw, last)?, [b, side, side])?);

    // The softmax over codes, as everywhere in this library.
    let decode = |code: Value| tokenizer::decode(g, root, sizes, code);
    let p = g.softmax(generator::code_logits(g, cfg, logits)?, 2)?;
    let soft = tokenizer::embed_soft(g, root, sizes, p)?;
    g.output("soft_emb_decoder", soft);
    g.output("image_soft", decode(soft)?);
    let one = g.scalar(1.0)?;
    let soft = generator::embed_soft(g, &w, cfg, p, one)?;
    g.output("soft_emb_generator", soft);
    g.output("logits_from_soft_emb_generator", generator::logits(g, &w, cfg, soft, class)?);
    // The other reading: the mask keeps its share.
    let shares = g.softmax(logits, 2)?;
    let soft = tokenizer::embed_soft(g, root, sizes, g.slice(shares, 2, 0, v)?)?;
    g.output("soft_emb_decoder_trunc", soft);
    g.output("image_soft_trunc", decode(soft)?);
    let shown = g.sub(one, g.slice(shares, 2, v, v + 1)?)?; // [B, N, 1]
    g.output("soft_emb_generator_withmask", generator::embed_soft(g, &w, cfg, p, shown)?);

    replay.decoded(g, |tokens| {
        let code = tokenizer::embed_codes(g, root, sizes, g.reshape(tokens, [b, n])?)?;
        decode(code)
    })?;
    if let Some(image) = replay.picture(g)? {
        let z = tokenizer::encode(g, root, sizes, image)?;
        g.output("enc_z", z);
        let ids = tokenizer::nearest_code(g, root, sizes, z)?;
        g.output("enc_indices", g.reshape(ids, [b, side, side])?);
    }
    Ok(())
}

/// The soft picture in [−1, 1] from e_in [B, N, D].
pub(super) fn soft_image(
    g: &Graph,
    replay: &Replay,
    cfg: &generator::Config,
    sizes: &tokenizer::Config,
    e: Value,
) -> Result<Value> {
    let root = &replay.weights;
    let class = class_embedding(g, replay, cfg)?;
    let logits = generator::logits(g, &replay.generator(), cfg, e, class)?;
    let p = g.softmax(generator::code_logits(g, cfg, logits)?, 2)?;
    let soft = tokenizer::embed_soft(g, root, sizes, p)?;
    tokenizer::decode(g, root, sizes, soft)
}

/// Golden labels with their drop mask → class embedding [B, D].
fn class_embedding(g: &Graph, replay: &Replay, cfg: &generator::Config) -> Result<Value> {
    generator::embed_class(g, &replay.generator(), cfg, replay.classes(g, cfg.nclass)?)
}

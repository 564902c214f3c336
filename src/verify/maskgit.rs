//! MaskGIT's golden tensors: embeddings, logits with the mask's, both readings of it, codes, pictures in [−1, 1],
//! and the encoder's decisions.

use super::Replay;
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::models::family::MaskGit;
use crate::models::program::perturb;
use crate::models::{maskgit, taming_vqgan};
use crate::tensor::Tensor;

/// Every tensor of a batch that its inputs determine.
pub(super) fn outputs(g: &Graph, replay: &Replay, family: &MaskGit) -> Result<()> {
    let (cfg, tokenizer) = (&family.generator, &family.tokenizer);
    let (root, w) = (replay.model.weights(), replay.generator());
    let (n, v, side) = (cfg.positions(), cfg.codebook_size, cfg.grid());
    let class = class_embedding(g, replay, cfg)?;
    let b = g.shape(class)[0];
    g.output("class_embedding", g.reshape(class, [b, 1, cfg.hidden_dim])?);

    let tokens = replay.feed(g, "in/tokens", replay.need("in/tokens")?)?;
    let e_clean = maskgit::embed(g, &w, cfg, g.reshape(tokens, [b, n])?)?;
    g.output("e_clean", e_clean);
    g.output("logits_clean", maskgit::logits(g, &w, cfg, e_clean, class)?);
    let e_in = match (replay.input(g, "in/noise")?, replay.input(g, "in/sigma")?) {
        (Some(noise), Some(sigma)) => perturb(g, e_clean, noise, sigma)?,
        _ => e_clean,
    };
    g.output("e_in", e_in);
    let null = g.constant(Tensor::from_i64([b], &vec![cfg.nclass as i64; b]))?;
    let null = maskgit::embed_class(g, &w, cfg, null)?;
    g.output("logits_uncond", maskgit::logits(g, &w, cfg, e_in, null)?);
    let logits = maskgit::logits(g, &w, cfg, e_in, class)?;
    g.output("logits", logits);
    // The reference samples the mask too, and then takes the last code.
    let raw = g.arg_max(logits, 2)?;
    g.output("tokens_argmax_raw", raw);
    let last = g.constant(Tensor::from_i64([1], &[v as i64 - 1]))?;
    g.output("tokens_argmax", g.reshape(g.min(raw, last)?, [b, side, side])?);

    // The softmax over codes, as everywhere in this library.
    let decode = |code: Value| taming_vqgan::decode(g, &root, tokenizer, code);
    let p = g.softmax(maskgit::code_logits(g, cfg, logits)?, 2)?;
    let soft = taming_vqgan::embed_soft(g, &root, tokenizer, p)?;
    g.output("soft_emb_decoder", soft);
    g.output("image_soft", decode(soft)?);
    let one = g.scalar(1.0)?;
    let soft = maskgit::embed_soft(g, &w, cfg, p, one)?;
    g.output("soft_emb_generator", soft);
    g.output("logits_from_soft_emb_generator", maskgit::logits(g, &w, cfg, soft, class)?);
    // The other reading: the mask keeps its share.
    let shares = g.softmax(logits, 2)?;
    let soft = taming_vqgan::embed_soft(g, &root, tokenizer, g.slice(shares, 2, 0, v)?)?;
    g.output("soft_emb_decoder_trunc", soft);
    g.output("image_soft_trunc", decode(soft)?);
    let shown = g.sub(one, g.slice(shares, 2, v, v + 1)?)?; // [B, N, 1]
    g.output("soft_emb_generator_withmask", maskgit::embed_soft(g, &w, cfg, p, shown)?);

    // Pictures are checked on the reference's own tokens: a near-tie must not hide behind, or be blamed on, the
    // decoder.
    for (tokens, image) in [("out/tokens_argmax", "image_hard"), ("out/enc_indices", "enc_recon")] {
        if let Some(tokens) = replay.input(g, tokens)? {
            let code = taming_vqgan::embed_codes(g, &root, tokenizer, g.reshape(tokens, [b, n])?)?;
            g.output(image, decode(code)?);
        }
    }
    let encoder = replay.model.has_component("encoder");
    if let Some(image) = replay.input(g, "in/enc_image")?.filter(|_| encoder) {
        let z = taming_vqgan::encode(g, &root, tokenizer, image)?;
        g.output("enc_z", z);
        let ids = taming_vqgan::nearest_code(g, &root, tokenizer, z)?;
        g.output("enc_indices", g.reshape(ids, [b, side, side])?);
    }
    Ok(())
}

/// The soft picture in [−1, 1] from e_in [B, N, D].
pub(super) fn soft_image(g: &Graph, replay: &Replay, family: &MaskGit, e: Value) -> Result<Value> {
    let (cfg, root) = (&family.generator, replay.model.weights());
    let class = class_embedding(g, replay, cfg)?;
    let logits = maskgit::logits(g, &replay.generator(), cfg, e, class)?;
    let p = g.softmax(maskgit::code_logits(g, cfg, logits)?, 2)?;
    let soft = taming_vqgan::embed_soft(g, &root, &family.tokenizer, p)?;
    taming_vqgan::decode(g, &root, &family.tokenizer, soft)
}

/// Golden labels with their drop mask → class embedding [B, D].
fn class_embedding(g: &Graph, replay: &Replay, cfg: &maskgit::Config) -> Result<Value> {
    let class = replay.feed(g, "class", replay.classes(cfg.nclass)?)?;
    maskgit::embed_class(g, &replay.generator(), cfg, class)
}

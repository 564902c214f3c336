//! MaskBit's golden tensors: bits, embeddings, logits, codes, pictures, and the encoder's decisions.

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
    let class_embedding = class_embedding(g, replay, cfg)?;
    g.output("class_embedding", class_embedding);

    g.output("bits_table", g.constant(generator::bits_table(cfg, false))?);
    let bits = generator::input_bits(g, cfg, replay.required(g, "in/tokens")?)?;
    g.output("input_bits", bits);
    let e_clean = generator::embed_bits(g, &w, cfg, bits)?;
    g.output("e_clean", e_clean);
    g.output("logits_clean", generator::logits(g, &w, cfg, e_clean, class_embedding)?);
    let e_in = replay.perturbed(g, e_clean)?;
    g.output("e_in", e_in);
    let b = g.shape(e_in)[0];
    let null = g.constant(Tensor::from_i64([b], &vec![cfg.nclass as i64; b]))?;
    let unconditional = generator::embed_class(g, &w, cfg, null)?;
    g.output("logits_uncond", generator::logits(g, &w, cfg, e_in, unconditional)?);
    let logits = generator::logits(g, &w, cfg, e_in, class_embedding)?;
    g.output("logits", logits);
    let tokens = g.arg_max(logits, 3)?;
    g.output("tokens_argmax", tokens);
    g.output("tokens_combined", combined(g, cfg, tokens)?);

    let soft_bits = generator::soft_bits(g, cfg, g.softmax(logits, 3)?)?;
    g.output("soft_bits", soft_bits);
    let soft = generator::decoder_embedding(g, cfg, soft_bits)?;
    g.output("soft_emb_decoder", soft);
    g.output("image_soft", tokenizer::decode(g, root, sizes, soft)?);
    let soft_generator = generator::embed_bits(g, &w, cfg, soft_bits)?;
    g.output("soft_emb_generator", soft_generator);
    let again = generator::logits(g, &w, cfg, soft_generator, class_embedding)?;
    g.output("logits_from_soft_emb_generator", again);

    // The hard picture is checked on the reference's own tokens: a near-tie in the logits must not hide
    // behind, or be blamed on, the decoder.
    if let Some(tokens) = replay.input(g, "out/tokens_argmax")? {
        let code = generator::decoder_embedding(g, cfg, generator::input_bits(g, cfg, tokens)?)?;
        g.output("hard_code", code);
        g.output("image_hard", tokenizer::decode(g, root, sizes, code)?);
    }
    if let Some(image) = replay.picture(g)? {
        let z = tokenizer::encode(g, root, sizes, image)?;
        g.output("enc_z", z);
        let code = tokenizer::quantize(g, z)?;
        g.output("enc_code", code);
        let tokens = generator::code_tokens(g, cfg, code)?;
        g.output("enc_indices_split", tokens);
        let (b, grid) = (g.shape(image)[0], cfg.grid());
        g.output("enc_indices", g.reshape(combined(g, cfg, tokens)?, [b, grid, grid])?);
    }
    if let Some(tokens) = replay.input(g, "out/enc_indices_split")? {
        let code = generator::decoder_embedding(g, cfg, generator::input_bits(g, cfg, tokens)?)?;
        g.output("enc_recon", tokenizer::decode(g, root, sizes, code)?);
    }
    Ok(())
}

/// The soft picture from e_in [B, N, D].
pub(super) fn soft_image(
    g: &Graph,
    replay: &Replay,
    cfg: &generator::Config,
    sizes: &tokenizer::Config,
    e: Value,
) -> Result<Value> {
    let class = class_embedding(g, replay, cfg)?;
    let p = g.softmax(generator::logits(g, &replay.generator(), cfg, e, class)?, 3)?;
    let soft = generator::decoder_embedding(g, cfg, generator::soft_bits(g, cfg, p)?)?;
    tokenizer::decode(g, &replay.weights, sizes, soft)
}

/// Golden labels with their drop mask → class embedding [B, D].
fn class_embedding(g: &Graph, replay: &Replay, cfg: &generator::Config) -> Result<Value> {
    generator::embed_class(g, &replay.generator(), cfg, replay.classes(g, cfg.nclass)?)
}

/// Split token ids [B, N, splits] → ids of the whole codebook [B, N]: Σ_s tok_s · 2^(s·bits).
fn combined(g: &Graph, cfg: &generator::Config, tokens: Value) -> Result<Value> {
    let place: Vec<i64> = (0..cfg.codebook_splits).map(|s| 1 << (s * cfg.split_bits())).collect();
    let place = g.constant(Tensor::from_i64([1, 1, place.len()], &place))?;
    let shape = g.shape(tokens);
    g.reshape(g.reduce_sum(g.mul(tokens, place)?, &[2])?, [shape[0], shape[1]])
}

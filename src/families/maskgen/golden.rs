//! MaskGen's golden tensors: the condition, embeddings, logits, codes, pictures, and the encoder's choices. The
//! text's features are among the inputs.

use super::{generator, tokenizer};
use crate::error::{Error, Result};
use crate::families::golden::Replay;
use crate::graph::{Graph, Value};
use crate::tensor::Tensor;

/// What the generator is given: hidden states [B, L, E], pooled features [B, E], aesthetic scores [B].
#[derive(Clone, Copy)]
struct TextConditions {
    text: Value,
    pooled: Value,
    aesthetic: Value,
}

/// Every tensor of a batch that its inputs determine.
pub(super) fn outputs(
    g: &Graph,
    replay: &Replay,
    cfg: &generator::Config,
    sizes: &tokenizer::Config,
) -> Result<()> {
    let (root, w) = (&replay.weights, replay.generator());
    let tokens = replay.required(g, "in/tokens")?;
    let aesthetic = replay.required(g, "in/aesthetic_score")?;
    let guidance = replay.required(g, "in/text_guidance")?;
    let given = given(g, replay, "cond", aesthetic)?;
    let logits =
        |e: Value, t: TextConditions| generator::logits(g, &w, cfg, e, t.text, t.pooled, t.aesthetic);
    let (b, n) = (g.shape(tokens)[0], cfg.num_latent_tokens);

    g.output("micro_cond_encoding", generator::micro_condition(g, cfg, aesthetic)?);
    let pooled = generator::pooled_condition(g, &w, cfg, given.pooled, aesthetic)?;
    g.output("pooled_projected", g.reshape(pooled, [b, 1, cfg.decoder_embed_dim])?);
    let e_clean = generator::embed(g, &w, cfg, tokens)?;
    g.output("e_clean", e_clean);
    g.output("logits_clean", logits(e_clean, given)?);
    let e_in = replay.perturbed(g, e_clean)?;
    g.output("e_in", e_in);
    let conditional = logits(e_in, given)?;
    g.output("logits", conditional);
    if replay.get("in/uncond").is_some() {
        let unconditional = logits(e_in, self::given(g, replay, "uncond", aesthetic)?)?;
        g.output("logits_uncond", unconditional);
        // c + s·(c − u) at the published scale.
        let step = g.mul_scalar(g.sub(conditional, unconditional)?, 12.0)?;
        g.output("logits_cfg_12", g.add(conditional, step)?);
    }
    g.output("tokens_argmax", g.arg_max(conditional, 2)?);

    let p = g.softmax(conditional, 2)?;
    let soft = tokenizer::soft_lookup(g, root, sizes, p)?;
    g.output("soft_emb_decoder", soft);
    g.output("image_soft", tokenizer::decode(g, root, sizes, soft, guidance)?);
    let shown = g.constant(Tensor::from_f32([1, n, 1], &vec![1.0; n]))?;
    let soft_generator = generator::embed_soft(g, &w, cfg, p, shown)?;
    g.output("soft_emb_generator", soft_generator);
    g.output("logits_from_soft_emb_generator", logits(soft_generator, given)?);

    replay.decoded(g, |tokens| {
        let code = tokenizer::lookup(g, root, sizes, g.reshape(tokens, [b, n])?)?;
        tokenizer::decode(g, root, sizes, code, guidance)
    })?;
    if let Some(image) = replay.picture(g)? {
        let z = tokenizer::encode(g, root, sizes, image)?;
        g.output("enc_z", z);
        g.output("enc_indices", g.reshape(tokenizer::quantize(g, root, sizes, z)?, [b, 1, n])?);
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
    let root = &replay.weights;
    let aesthetic = replay.required(g, "in/aesthetic_score")?;
    let guidance = replay.required(g, "in/text_guidance")?;
    let t = given(g, replay, "cond", aesthetic)?;
    let z = generator::logits(g, &replay.generator(), cfg, e, t.text, t.pooled, t.aesthetic)?;
    let soft = tokenizer::soft_lookup(g, root, sizes, g.softmax(z, 2)?)?;
    tokenizer::decode(g, root, sizes, soft, guidance)
}

/// The golden text `cond` or `uncond`, whose pooled features are [B, 1, E] there.
fn given(g: &Graph, replay: &Replay, name: &str, aesthetic: Value) -> Result<TextConditions> {
    let (text, pooled) = (format!("in/{name}"), format!("in/{name}_pooled"));
    let text = replay.required(g, &text)?;
    let pooled = replay.required(g, &pooled)?;
    let shape = g.shape(pooled);
    let [b, _, e] = *shape else {
        return Err(Error::invalid(format!("in/{name}_pooled"), "[B, 1, E]", shape));
    };
    Ok(TextConditions { text, pooled: g.reshape(pooled, [b, e])?, aesthetic })
}

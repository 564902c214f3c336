//! Meissonic's golden tensors: the condition, rotations, embeddings, logits, codes, pictures, and the encoder's
//! decisions. The text's features are among the inputs; embeddings are [B, D, P, P] there.

use super::generator::{self, Conditioning};
use super::tokenizer;
use crate::error::{Error, Result};
use crate::families::golden::Replay;
use crate::graph::{Graph, Value};

/// Every tensor of a batch that its inputs determine.
pub(super) fn outputs(
    g: &Graph,
    replay: &Replay,
    cfg: &generator::Config,
    sizes: &tokenizer::Config,
) -> Result<()> {
    let (root, w) = (&replay.weights, replay.generator());
    let tokens = replay.required(g, "in/tokens")?;
    let shape = g.shape(tokens);
    let [b, side, _] = *shape else {
        return Err(Error::invalid("in/tokens", "[B, P, P]", shape));
    };
    let n = side * side;
    let given = given(g, replay, b)?;

    g.output("micro_cond_embeds", generator::micro_conditions(g, given.micro)?);
    let pooled = generator::pooled_condition(g, &w, cfg, given.pooled, given.micro)?;
    g.output("pooled_after_cond_embed", pooled);
    let waves = generator::time_waves(g, given.timestep)?;
    g.output("time_proj", g.slice(waves, 0, 0, 1)?);
    g.output("temb", generator::time_text_embed(g, &w, cfg, given.timestep, pooled)?);
    let text = g.shape(given.text)[1];
    let inner = if cfg.downsample { side / 2 } else { side };
    let (_, rotation) = generator::rotations(g, cfg, text, inner)?;
    for (name, table) in ["rope_cos", "rope_sin"].into_iter().zip(rotation.tables(g)?) {
        g.output(name, twice(g, table)?);
    }

    let logits = |e: Value, given: Conditioning| generator::logits(g, &w, cfg, e, given);
    let e_clean = generator::embed(g, &w, cfg, g.reshape(tokens, [b, n])?)?;
    let clean = to_grid(g, e_clean)?;
    g.output("e_clean", clean);
    g.output("logits_clean", logits(e_clean, given)?);
    let noisy = replay.perturbed(g, clean)?;
    g.output("e_in", noisy);
    let e_in = from_grid(g, noisy)?;
    let conditional = logits(e_in, given)?;
    g.output("logits", conditional);
    if replay.get("in/uncond_pooled").is_some() {
        let (text, pooled) = features(g, replay, "uncond_")?;
        g.output("logits_uncond", logits(e_in, Conditioning { text, pooled, ..given })?);
    }
    g.output("tokens_argmax", g.reshape(g.arg_max(conditional, 2)?, [b, side, side])?);

    let p = g.softmax(conditional, 2)?;
    let soft = tokenizer::embed_soft(g, root, sizes, p)?;
    g.output("soft_emb_decoder", soft);
    g.output("image_soft", tokenizer::decode(g, root, sizes, soft)?);
    let one = g.scalar(1.0)?;
    let rows = generator::expected_rows(g, &w, cfg, p, one)?;
    g.output("soft_emb_generator", g.reshape(rows, [b, side, side, cfg.width()])?);
    let soft = generator::embed_soft(g, &w, cfg, p, one)?;
    g.output("soft_emb_generator_e_in", to_grid(g, soft)?);
    g.output("logits_from_soft_emb_generator", logits(soft, given)?);

    replay.decoded(g, |tokens| {
        let code = tokenizer::embed_codes(g, root, sizes, g.reshape(tokens, [b, n])?)?;
        tokenizer::decode(g, root, sizes, code)
    })?;
    if let Some(image) = replay.picture(g)? {
        let z = tokenizer::encode(g, root, sizes, image)?;
        g.output("enc_z", z);
        let ids = tokenizer::nearest_code(g, root, sizes, z)?;
        g.output("enc_indices", g.reshape(ids, [b, side, side])?);
    }
    Ok(())
}

/// The soft picture from e_in [B, D, P, P].
pub(super) fn soft_image(
    g: &Graph,
    replay: &Replay,
    cfg: &generator::Config,
    sizes: &tokenizer::Config,
    e: Value,
) -> Result<Value> {
    let root = &replay.weights;
    let given = given(g, replay, g.shape(e)[0])?;
    let z = generator::logits(g, &replay.generator(), cfg, from_grid(g, e)?, given)?;
    let soft = tokenizer::embed_soft(g, root, sizes, g.softmax(z, 2)?)?;
    tokenizer::decode(g, root, sizes, soft)
}

/// What the generator is given of the golden text. There is one timestep for all pictures.
fn given(g: &Graph, replay: &Replay, batch: usize) -> Result<Conditioning> {
    let (text, pooled) = features(g, replay, "")?;
    let micro = replay.required(g, "in/micro_conds")?;
    let timestep = replay.required(g, "in/timestep")?;
    Ok(Conditioning { text, pooled, micro, timestep: g.expand(timestep, [batch])? })
}

/// Hidden states and pooled features of the golden text, or of `uncond_`, none.
fn features(g: &Graph, replay: &Replay, prefix: &str) -> Result<(Value, Value)> {
    let (text, pooled) = (format!("in/{prefix}encoder_hidden_states"), format!("in/{prefix}pooled"));
    Ok((replay.required(g, &text)?, replay.required(g, &pooled)?))
}

/// [B, P·P, D] → [B, D, P, P].
fn to_grid(g: &Graph, x: Value) -> Result<Value> {
    let s = g.shape(x);
    let side = s[1].isqrt();
    g.reshape(g.transpose(x, &[0, 2, 1])?, [s[0], s[2], side, side])
}

/// [B, D, P, P] → [B, P·P, D].
fn from_grid(g: &Graph, x: Value) -> Result<Value> {
    let s = g.shape(x);
    g.transpose(g.reshape(x, [s[0], s[1], s[2] * s[3]])?, &[0, 2, 1])
}

/// Every column [M, C] twice in a row, [M, 2C]: one for each element of a pair.
fn twice(g: &Graph, x: Value) -> Result<Value> {
    let s = g.shape(x);
    let x = g.expand(g.reshape(x, [s[0], s[1], 1])?, [s[0], s[1], 2])?;
    g.reshape(x, [s[0], 2 * s[1]])
}

//! A MaskGIT student, teacher or both, and its VQGAN. The published files hold tensors and nothing else, so the
//! sizes are read off the tensors; a configuration may add what they do not show.

use serde_json::{Map, Value as Json, json};

use super::{MaskGit, generator, sampler, tokenizer};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::json::{parse_json, read_json};
use crate::error::{Error, Result};
use crate::families::defaults::Defaults;
use crate::families::source::{Pieces, Source, open_network};

/// Read a MaskGIT generator (student, teacher or both) and its VQGAN. Every public layout is read: safetensors and
/// PyTorch files, bare state dicts and those that trainers have wrapped, with training's `loss.*`. A configuration, where there is one, has the official keys (`heads`, `ddconfig`, …) or
/// `request_defaults`, and wins over what the tensors say; no tensor shows the heads.
///
/// # Errors
/// Unreadable files, missing or misshapen tensors (all official names), sizes that contradict each other.
pub fn read(source: &Source) -> Result<Pieces<MaskGit>> {
    let generators = source.generators("a MaskGIT transformer's tensors", "tok_emb.weight")?;
    let tokenizer = open_network(&source.tokenizer, "a taming VQGAN's tensors", &["post_quant_conv.weight"])?;
    for (_, generator) in &generators {
        refuse_newer(generator, &tokenizer)?;
    }
    let generator = &generators[0].1;
    let mut json = sizes(generator, &tokenizer)?;
    let (config_file, given) = read_config(source, generator)?;
    for (key, value) in given {
        json[key] = value;
    }
    match source.heads {
        Some(heads) => json["heads"] = heads.into(),
        None if json["heads"].is_null() => {
            return Err(Error::Config {
                file: config_file,
                key: "heads".into(),
                expected: "the number of attention heads, by --heads or --config: no tensor shows it (the published \
                           generators have 16)"
                    .into(),
                found: "none".into(),
            });
        }
        None => {}
    }
    let (family, request_defaults) = config(&config_file, json)?;
    Ok(Pieces { family, request_defaults, config_file, generators, tokenizer, text: None })
}

/// The project of v1.0 has since published a model of other networks under similar names.
fn refuse_newer(generator: &Checkpoint, tokenizer: &Checkpoint) -> Result<()> {
    let has = |checkpoint: &Checkpoint, name: &dyn Fn(&str) -> bool| checkpoint.names().any(name);
    let ada = |name: &str| {
        name.to_lowercase().contains("adaln") || name == "cls_emb.weight" || name == "head.weight"
    };
    let newer = [
        (
            generator,
            "the AdaLN transformer",
            !has(generator, &|n| n == "first_layer.0.weight") && has(generator, &ada),
        ),
        (tokenizer, "the LlamaGen VQ tokenizer", has(tokenizer, &|n| n.starts_with("decoder.conv_blocks."))),
    ];
    match newer.into_iter().find(|(_, _, found)| *found) {
        Some((checkpoint, network, _)) => Err(Error::Unsupported {
            what: format!("{network} in {}", checkpoint.file()),
            reason: "it is of Halton-MaskGIT after v1.0; v1.0's transformer, which is Di[M]O's too, with its taming VQGAN \
                     is what is read"
                .into(),
        }),
        None => Ok(()),
    }
}

/// The configuration, empty where there is none, and the file to blame for the sizes.
fn read_config(source: &Source, generator: &Checkpoint) -> Result<(String, Map<String, Json>)> {
    let (file, json) = match (&source.config, generator.metadata().get("config")) {
        (Some(path), _) => (path.display().to_string(), read_json(path)?),
        (None, Some(text)) => (generator.file(), parse_json(&generator.file(), text)?),
        (None, None) => return Ok((generator.file(), Map::new())),
    };
    match json {
        Json::Object(object) => Ok((file, object)),
        other => {
            let found = other.to_string().chars().take(40).collect();
            let expected = "a JSON object".into();
            Err(Error::Config { file, key: "config".into(), expected, found })
        }
    }
}

/// The official configuration, as the tensors show it. Of a tokenizer without encoder only the products ch ·
/// ch_mult are known, and only they matter.
fn sizes(generator: &Checkpoint, tokenizer: &Checkpoint) -> Result<Json> {
    let (g, t) = (generator, tokenizer);
    let codes = dimension(t, "quantize.embedding.weight", 0, "[n_embed, embed_dim]")?;
    let rows = dimension(g, "tok_emb.weight", 0, "[V + 1 + classes + 1, D]")?;
    let grid = dimension(g, "pos_emb", 1, "[1, N + 1, D]")?.saturating_sub(1).isqrt();

    let width = |level: usize| {
        dimension(t, &format!("decoder.up.{level}.block.0.conv1.weight"), 0, "[out, in, 3, 3]")
    };
    let levels = count(t, |i| format!("decoder.up.{i}.block.0.conv1.weight")).max(1);
    let widths = (0..levels).map(width).collect::<Result<Vec<_>>>()?;
    let ch = match t.get("encoder.conv_in.weight") {
        Some(_) => dimension(t, "encoder.conv_in.weight", 0, "[ch, channels, 3, 3]")?,
        None => widths.iter().copied().fold(0, gcd),
    };
    let channels = dimension(t, "decoder.conv_out.weight", 0, "[channels, ch, 3, 3]")?;
    let resolution = grid << (levels - 1).min(16);
    let attention = |level: &usize| t.get(&format!("decoder.up.{level}.attn.0.norm.weight")).is_some();
    Ok(json!({
        "img_size": generator::PATCH * grid,
        "hidden_dim": dimension(g, "tok_emb.weight", 1, "[V + 1 + classes + 1, D]")?,
        "codebook_size": codes,
        "depth": count(g, |i| format!("transformer.layers.{i}.0.norm.weight")),
        "mlp_dim": dimension(g, "transformer.layers.0.1.fn.net.0.weight", 0, "[mlp_dim, D]")?,
        "nclass": rows.saturating_sub(codes + 2),
        "n_embed": codes,
        "embed_dim": dimension(t, "quantize.embedding.weight", 1, "[n_embed, embed_dim]")?,
        "ddconfig": {
            "z_channels": dimension(t, "post_quant_conv.weight", 0, "[z_channels, embed_dim, 1, 1]")?,
            "resolution": resolution,
            "in_channels": channels,
            "out_ch": channels,
            "ch": ch,
            "ch_mult": widths.iter().map(|width| width / ch.max(1)).collect::<Vec<_>>(),
            "num_res_blocks": count(t, |j| format!("decoder.up.0.block.{j}.conv1.weight")).saturating_sub(1),
            "attn_resolutions":
                (0..levels).filter(attention).map(|i| resolution >> i.min(16)).collect::<Vec<_>>(),
        },
    }))
}

/// A dimension of a tensor that every checkpoint of the family has.
fn dimension(checkpoint: &Checkpoint, name: &str, axis: usize, shape: &str) -> Result<usize> {
    let Some(view) = checkpoint.get(name) else {
        return Err(Error::MissingTensor {
            name: name.into(),
            expected: shape.into(),
            file: checkpoint.file(),
        });
    };
    view.shape.get(axis).copied().ok_or_else(|| Error::TensorMismatch {
        name: name.into(),
        expected: format!("shape {shape}"),
        found: format!("{}{}", view.dtype, view.shape),
        file: checkpoint.file(),
    })
}

/// How many of `name(0)`, `name(1)`, … a checkpoint has in a row.
fn count(checkpoint: &Checkpoint, name: impl Fn(usize) -> String) -> usize {
    (0..).take_while(|&i| checkpoint.get(&name(i)).is_some()).count()
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The official keys → our configuration.
fn config(file: &str, json: Json) -> Result<(MaskGit, Defaults)> {
    let error = |key: &str, e: serde_json::Error| Error::Config {
        file: file.into(),
        key: key.into(),
        expected: "the sizes of the official configuration (heads, ddconfig, ...)".into(),
        found: e.to_string(),
    };
    let request_defaults = match json.get("request_defaults") {
        Some(defaults) => {
            serde_json::from_value(defaults.clone()).map_err(|e| error("request_defaults", e))?
        }
        None => request_defaults(),
    };
    let generator: generator::Config =
        serde_json::from_value(json.clone()).map_err(|e| error("config", e))?;
    let tokenizer: tokenizer::Config = serde_json::from_value(json).map_err(|e| error("config", e))?;
    Ok((MaskGit { generator, tokenizer }, request_defaults))
}

/// MaskGIT's request defaults where the configuration has none: those of the official one-step and multi-step
/// samplers.
fn request_defaults() -> Defaults {
    Defaults {
        mask_ratio: 0.6,
        sigma: 0.1,
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        teacher: sampler::teacher_defaults(),
        micro: None,
    }
}

//! A model file of a published model's size, with random weights: what conversion, opening and running cost can be
//! measured without the weights.
//!
//! ```sh
//! cargo run --release --example full_size -- maskgen-l /tmp/l.softdimo.safetensors [keep|f16|int8]
//! target/release/softdimo bench generate --model /tmp/l.softdimo.safetensors --memory lean
//! ```
//!
//! Models: maskgen-l, maskgen-xl (256×256), meissonic (1024×1024).
//!
//! The official checkpoints are written beside the output and removed again.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use softdimo::checkpoint::safetensors::{Entry, write};
use softdimo::convert::{self, Source, Storage, Summary};
use softdimo::rng::{Philox, Stream};
use softdimo::tensor::{Dtype, Shape};
use softdimo::{Error, Result};

type Tensors = Vec<(String, Vec<usize>)>;

/// Names and shapes while they are listed.
#[derive(Default)]
struct List(Tensors);

impl List {
    fn add(&mut self, name: &str, shape: &[usize]) {
        self.0.push((name.into(), shape.to_vec()));
    }

    fn linear(&mut self, name: &str, out: usize, inner: usize) {
        self.add(&format!("{name}.weight"), &[out, inner]);
        self.add(&format!("{name}.bias"), &[out]);
    }

    fn norm(&mut self, name: &str, d: usize) {
        self.add(&format!("{name}.weight"), &[d]);
        self.add(&format!("{name}.bias"), &[d]);
    }

    /// `add` of a weight only.
    fn weight(&mut self, name: &str, shape: &[usize]) {
        self.add(&format!("{name}.weight"), shape);
    }

    fn conv(&mut self, name: &str, out: usize, inner: usize, k: usize) {
        self.add(&format!("{name}.weight"), &[out, inner, k, k]);
        self.add(&format!("{name}.bias"), &[out]);
    }

    /// diffusers' `ResnetBlock2D`.
    fn resnet(&mut self, name: &str, inner: usize, out: usize) {
        self.norm(&format!("{name}.norm1"), inner);
        self.conv(&format!("{name}.conv1"), out, inner, 3);
        self.norm(&format!("{name}.norm2"), out);
        self.conv(&format!("{name}.conv2"), out, out, 3);
        if inner != out {
            self.conv(&format!("{name}.conv_shortcut"), out, inner, 1);
        }
    }

    /// open_clip's `ResidualAttentionBlock`.
    fn block(&mut self, name: &str, d: usize) {
        self.norm(&format!("{name}.ln_1"), d);
        self.norm(&format!("{name}.ln_2"), d);
        self.add(&format!("{name}.attn.in_proj_weight"), &[3 * d, d]);
        self.add(&format!("{name}.attn.in_proj_bias"), &[3 * d]);
        self.linear(&format!("{name}.attn.out_proj"), d, d);
        self.linear(&format!("{name}.mlp.c_fc"), 4 * d, d);
        self.linear(&format!("{name}.mlp.c_proj"), d, 4 * d);
    }
}

/// Codes, tokens of a picture, text length and width of the published models.
const V: usize = 8192;
const N: usize = 128;
const L: usize = 77;
const E: usize = 768;

/// `MaskGen_VQ` of a width and depth.
fn maskgen(d: usize, depth: usize) -> Tensors {
    let mut t = List::default();
    t.add("embeddings.weight", &[V + 1 + 1000 + 1, d]);
    t.add("pos_embed", &[1, N, d]);
    t.linear("text_embed_proj", d, E);
    t.linear("cond_pooled_proj", d, E + 256);
    t.linear("norm.linear", 2 * d, d);
    for i in 0..depth {
        let block = format!("blocks.{i}");
        let last = i + 1 == depth;
        t.linear(&format!("{block}.norm1.linear"), 6 * d, d);
        t.linear(&format!("{block}.norm1_context.linear"), if last { 2 * d } else { 6 * d }, d);
        for name in ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj"] {
            t.linear(&format!("{block}.attn.{name}"), d, d);
        }
        t.linear(&format!("{block}.ff.net.0.proj"), 4 * d, d);
        t.linear(&format!("{block}.ff.net.2"), d, 4 * d);
        if !last {
            t.linear(&format!("{block}.attn.to_add_out"), d, d);
            t.linear(&format!("{block}.ff_context.net.0.proj"), 4 * d, d);
            t.linear(&format!("{block}.ff_context.net.2"), d, 4 * d);
        }
    }
    t.0
}

/// `TATiTok` with encoder base and decoder large, 256 pixels in patches of 16.
fn tatitok() -> Tensors {
    let (patches, c) = (256, 64);
    let mut t = List::default();
    t.add("latent_tokens", &[N, 768]);
    t.add("quantize.embedding.weight", &[V, c]);
    for (part, d, layers) in [("encoder", 768, 12), ("decoder", 1024, 24)] {
        t.add(&format!("{part}.class_embedding"), &[1, d]);
        t.add(&format!("{part}.positional_embedding"), &[1 + patches, d]);
        t.add(&format!("{part}.latent_token_positional_embedding"), &[N, d]);
        t.norm(&format!("{part}.ln_pre"), d);
        t.norm(&format!("{part}.ln_post"), d);
        (0..layers).for_each(|i| t.block(&format!("{part}.transformer.{i}"), d));
    }
    t.add("encoder.patch_embed.weight", &[768, 3, 16, 16]);
    t.add("encoder.patch_embed.bias", &[768]);
    t.add("encoder.conv_out.weight", &[c, 768, 1, 1]);
    t.add("encoder.conv_out.bias", &[c]);
    t.linear("decoder.decoder_embed", 1024, c);
    t.add("decoder.mask_token", &[1, 1, 1024]);
    t.linear("decoder.text_guidance_proj", 1024, E);
    t.add("decoder.text_guidance_positional_embedding", &[L, 1024]);
    t.add("decoder.ffn.0.weight", &[16 * 16 * 3, 1024, 1, 1]);
    t.add("decoder.ffn.0.bias", &[16 * 16 * 3]);
    t.add("decoder.conv_out.weight", &[3, 3, 3, 3]);
    t.add("decoder.conv_out.bias", &[3]);
    t.0
}

/// A text tower of CLIP: 12 layers 768 wide in ViT-L/14, 24 layers 1024 wide in ViT-H/14.
fn clip_text(width: usize, layers: usize) -> Tensors {
    let mut t = List::default();
    t.add("token_embedding.weight", &[49408, width]);
    t.add("positional_embedding", &[L, width]);
    (0..layers).for_each(|i| t.block(&format!("transformer.resblocks.{i}"), width));
    t.norm("ln_final", width);
    t.add("text_projection", &[width, width]);
    t.0
}

/// Meissonic's `Transformer2DModel`: 8 heads of 128, 14 blocks and 28 single ones.
fn meissonic() -> Tensors {
    let (d, head, vocab) = (1024, 128, V + 64);
    let mut t = List::default();
    t.weight("embed.embeddings", &[vocab, d]);
    t.weight("embed.conv", &[d, d, 1, 1]);
    for norm in ["embed.layer_norm", "mlm_layer.layer_norm", "encoder_proj_layer_norm"] {
        t.weight(norm, &[d]);
    }
    for name in ["project_to_hidden", "project_from_hidden"] {
        t.weight(&format!("{name}_norm"), &[d]);
        t.weight(name, &[d, d]);
    }
    for name in ["down_block.downsample", "up_block.upsample"] {
        t.weight(&format!("{name}.norm"), &[d]);
        t.weight(&format!("{name}.conv"), &[d, d, 2, 2]);
    }
    t.weight("cond_embed.linear_1", &[d, d + 5 * 256]);
    t.weight("cond_embed.linear_2", &[d, d]);
    for (name, inner) in [("timestep_embedder", 256), ("text_embedder", d)] {
        t.linear(&format!("time_text_embed.{name}.linear_1"), d, inner);
        t.linear(&format!("time_text_embed.{name}.linear_2"), d, d);
    }
    t.linear("context_embedder", d, d);
    for i in 0..14 {
        let block = format!("transformer_blocks.{i}");
        for name in ["norm1", "norm1_context"] {
            t.linear(&format!("{block}.{name}.linear"), 6 * d, d);
        }
        for name in
            ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"]
        {
            t.linear(&format!("{block}.attn.{name}"), d, d);
        }
        for name in ["norm_q", "norm_k", "norm_added_q", "norm_added_k"] {
            t.weight(&format!("{block}.attn.{name}"), &[head]);
        }
        for name in ["ff", "ff_context"] {
            t.linear(&format!("{block}.{name}.net.0.proj"), 4 * d, d);
            t.linear(&format!("{block}.{name}.net.2"), d, 4 * d);
        }
    }
    for i in 0..28 {
        let block = format!("single_transformer_blocks.{i}");
        t.linear(&format!("{block}.norm.linear"), 3 * d, d);
        ["to_q", "to_k", "to_v"].iter().for_each(|name| t.linear(&format!("{block}.attn.{name}"), d, d));
        ["norm_q", "norm_k"].iter().for_each(|name| t.weight(&format!("{block}.attn.{name}"), &[head]));
        t.linear(&format!("{block}.proj_mlp"), 4 * d, d);
        t.linear(&format!("{block}.proj_out"), d, 5 * d);
    }
    t.weight("mlm_layer.conv1", &[d, d, 1, 1]);
    t.weight("mlm_layer.conv2", &[V, d, 1, 1]);
    t.0
}

/// Channels of Meissonic's `VQModel`, 16 pixels a code.
const CHANNELS: [usize; 5] = [128, 256, 256, 512, 768];

fn vqvae() -> Tensors {
    let (c, deepest) = (64, CHANNELS[4]);
    let mut t = List::default();
    t.weight("quantize.embedding", &[V, c]);
    t.conv("quant_conv", c, c, 1);
    t.conv("post_quant_conv", c, c, 1);
    t.conv("encoder.conv_in", CHANNELS[0], 3, 3);
    t.conv("decoder.conv_in", deepest, c, 3);
    let (mut of_encoder, mut of_decoder) = (CHANNELS[0], deepest);
    for i in 0..5 {
        let (down, up) = (format!("encoder.down_blocks.{i}"), format!("decoder.up_blocks.{i}"));
        for j in 0..3 {
            if j < 2 {
                t.resnet(&format!("{down}.resnets.{j}"), of_encoder, CHANNELS[i]);
            }
            t.resnet(&format!("{up}.resnets.{j}"), of_decoder, CHANNELS[4 - i]);
            (of_encoder, of_decoder) = (CHANNELS[i], CHANNELS[4 - i]);
        }
        if i < 4 {
            t.conv(&format!("{down}.downsamplers.0.conv"), of_encoder, of_encoder, 3);
            t.conv(&format!("{up}.upsamplers.0.conv"), of_decoder, of_decoder, 3);
        }
    }
    for (part, last, out) in [("encoder", deepest, c), ("decoder", CHANNELS[0], 3)] {
        (0..2).for_each(|j| t.resnet(&format!("{part}.mid_block.resnets.{j}"), deepest, deepest));
        t.norm(&format!("{part}.conv_norm_out"), last);
        t.conv(&format!("{part}.conv_out"), out, last, 3);
    }
    t.0
}

/// Weights that keep activations in range: uniform with variance 1/fan-in; norms 1, biases 0.
fn write_random(path: &Path, tensors: &Tensors) -> Result<()> {
    let entry = |(name, shape): &(String, Vec<usize>)| Entry {
        name: name.clone(),
        dtype: Dtype::F32,
        shape: Shape::from(shape.clone()),
    };
    let entries: Vec<Entry> = tensors.iter().map(entry).collect();
    let shapes: BTreeMap<&str, &Shape> = entries.iter().map(|e| (e.name.as_str(), &e.shape)).collect();
    let rng = Philox::new(568);
    let noise: Vec<f32> =
        (0..1 << 18).map(|i| rng.uniform_at(Stream::StartCodes, 0, i) as f32 * 2.0 - 1.0).collect();
    write(path, &BTreeMap::new(), &entries, |name| {
        let shape = shapes[name];
        let fan_in: usize = shape.iter().skip(1).product();
        let scale = if shape.rank() > 1 { (3.0 / fan_in as f32).sqrt() } else { 0.0 };
        let base = if shape.rank() == 1 && name.ends_with("weight") { 1.0 } else { 0.0 };
        let block: Vec<u8> = noise.iter().flat_map(|v| (base + v * scale).to_le_bytes()).collect();
        let mut bytes = block.repeat((shape.len() * 4).div_ceil(block.len()));
        bytes.truncate(shape.len() * 4);
        Ok(Cow::Owned(bytes))
    })?;
    let parameters: usize = tensors.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    println!(
        "{:<14} {:.1} M parameters",
        path.file_stem().unwrap_or_default().to_string_lossy(),
        parameters as f64 / 1e6
    );
    Ok(())
}

/// Anonymous memory of this process in KiB; 0 where there is no /proc.
fn anonymous() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("RssAnon:"));
    line.and_then(|l| l.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

/// What `f` gives, the seconds it took, and by how much anonymous memory exceeded its start, in KiB.
fn measured<T>(f: impl FnOnce() -> T) -> (T, f64, i64) {
    let (done, peak, start) = (AtomicBool::new(false), AtomicI64::new(0), anonymous());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(anonymous() - start, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let clock = Instant::now();
        let result = f();
        let seconds = clock.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        (result, seconds, peak.load(Ordering::Relaxed))
    })
}

/// A model's networks, the configuration that their official files have, and its conversion.
struct Published {
    generator: Tensors,
    tokenizer: Tensors,
    text_encoder: Tensors,
    config: Json,
    convert: fn(&Source, &Path) -> Result<Summary>,
}

fn published(model: &str) -> Option<Published> {
    let (width, depth) = match model {
        "maskgen-l" => (1024, 16),
        "maskgen-xl" => (1280, 20),
        "meissonic" => {
            return Some(Published {
                generator: meissonic(),
                tokenizer: vqvae(),
                text_encoder: clip_text(1024, 24),
                config: json!({
                    "transformer": {
                        "num_layers": 14, "num_single_layers": 28, "attention_head_dim": 128,
                        "num_attention_heads": 8, "joint_attention_dim": 1024, "pooled_projection_dim": 1024,
                        "downsample": true, "upsample": true,
                    },
                    "vqvae": {
                        "block_out_channels": CHANNELS, "layers_per_block": 2, "latent_channels": 64,
                        "num_vq_embeddings": V, "mid_block_add_attention": false,
                    },
                }),
                convert: |source, output| convert::meissonic(source, output, |_, _| ()),
            });
        }
        _ => return None,
    };
    Some(Published {
        generator: maskgen(width, depth),
        tokenizer: tatitok(),
        text_encoder: clip_text(E, 12),
        config: json!({
            "model": {
                "vq_model": {
                    "quantize_mode": "vq", "codebook_size": V, "token_size": 64, "use_l2_norm": false,
                    "vit_enc_model_size": "base", "vit_dec_model_size": "large", "vit_enc_patch_size": 16,
                    "vit_dec_patch_size": 16, "num_latent_tokens": N, "finetune_decoder": false,
                    "is_legacy": false,
                },
                "maskgen": {
                    "decoder_embed_dim": width, "decoder_depth": depth, "decoder_num_heads": 16,
                    "micro_condition": true, "micro_condition_embed_dim": 256,
                    "condition_num_classes": 1000, "cfg": 12.0, "num_iter": 16, "temperature": 2.0,
                    "sample_aesthetic_score": 6.5,
                },
            },
            "dataset": { "preprocessing": { "crop_size": 256 } },
        }),
        convert: |source, output| convert::maskgen(source, output, |_, _| ()),
    })
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let usage = || {
        let expected = "maskgen-l|maskgen-xl|meissonic OUTPUT [keep|f16|int8]";
        Error::invalid("arguments", expected, arguments.join(" "))
    };
    let (model, output, storage) = match arguments[..] {
        [model, output] | [model, output, "keep"] => (model, Path::new(output), Storage::Keep),
        [model, output, "f16"] => (model, Path::new(output), Storage::F16),
        [model, output, "int8"] => (model, Path::new(output), Storage::Int8),
        _ => return Err(usage()),
    };
    let published = published(model).ok_or_else(usage)?;
    let folder = output.with_extension("checkpoints");
    let io = |e| Error::io(&folder, e);
    std::fs::create_dir_all(&folder).map_err(io)?;
    let write = |name: &str, tensors: &Tensors| {
        let path = folder.join(format!("{name}.safetensors"));
        write_random(&path, tensors).map(|()| path)
    };
    let generator = Some(write("generator", &published.generator)?);
    let tokenizer = write("tokenizer", &published.tokenizer)?;
    let text_encoder = Some(write("text_encoder", &published.text_encoder)?);
    let config = folder.join("sizes.json");
    std::fs::write(&config, published.config.to_string()).map_err(io)?;
    let vocabulary = folder.join("merges.txt");
    let merges = include_str!("../../tests/data/tokenizer/clip-merges.txt");
    std::fs::write(&vocabulary, format!("#version: 0.2\n{merges}")).map_err(io)?;

    let source =
        Source { generator, tokenizer, text_encoder, config: Some(config), storage, ..Source::default() };
    let (summary, seconds, peak) = measured(|| (published.convert)(&source, output));
    let summary = summary?;
    std::fs::remove_dir_all(&folder).map_err(io)?;
    println!("conversion     {seconds:.1} s, at most {peak} KiB of anonymous memory more");
    println!("{}: {} tensors, {} bytes", output.display(), summary.tensors, summary.bytes);
    Ok(())
}

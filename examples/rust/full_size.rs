//! A model file of a published model's size, with random weights: what conversion, opening and running cost can be
//! measured without the weights.
//!
//! ```sh
//! cargo run --release --example full_size -- maskgen-l /tmp/l.softdimo.safetensors [keep|f16]
//! target/release/softdimo bench generate --model /tmp/l.softdimo.safetensors --memory lean
//! ```
//!
//! The official checkpoints are written beside the output and removed again.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use softdimo::checkpoint::safetensors::{Entry, write};
use softdimo::convert::{self, Source, Storage};
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

/// The text tower of CLIP ViT-L/14.
fn clip_text() -> Tensors {
    let mut t = List::default();
    t.add("token_embedding.weight", &[49408, E]);
    t.add("positional_embedding", &[L, E]);
    (0..12).for_each(|i| t.block(&format!("transformer.resblocks.{i}"), E));
    t.norm("ln_final", E);
    t.add("text_projection", &[E, E]);
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

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let usage = || Error::invalid("arguments", "maskgen-l|maskgen-xl OUTPUT [keep|f16]", arguments.join(" "));
    let (model, output, storage) = match arguments[..] {
        [model, output] | [model, output, "keep"] => (model, Path::new(output), Storage::Keep),
        [model, output, "f16"] => (model, Path::new(output), Storage::F16),
        _ => return Err(usage()),
    };
    let (width, depth) = match model {
        "maskgen-l" => (1024, 16),
        "maskgen-xl" => (1280, 20),
        _ => return Err(usage()),
    };
    let folder = output.with_extension("checkpoints");
    let io = |e| Error::io(&folder, e);
    std::fs::create_dir_all(&folder).map_err(io)?;
    let generator = folder.join("generator.safetensors");
    let tokenizer = folder.join("tokenizer.safetensors");
    let text_encoder = folder.join("text_encoder.safetensors");
    write_random(&generator, &maskgen(width, depth))?;
    write_random(&tokenizer, &tatitok())?;
    write_random(&text_encoder, &clip_text())?;
    let config = folder.join("config.json");
    let text = json!({
        "model": {
            "vq_model": {
                "quantize_mode": "vq", "codebook_size": V, "token_size": 64, "use_l2_norm": false,
                "vit_enc_model_size": "base", "vit_dec_model_size": "large", "vit_enc_patch_size": 16,
                "vit_dec_patch_size": 16, "num_latent_tokens": N, "finetune_decoder": false,
                "is_legacy": false,
            },
            "maskgen": {
                "decoder_embed_dim": width, "decoder_depth": depth, "decoder_num_heads": 16,
                "micro_condition": true, "micro_condition_embed_dim": 256, "condition_num_classes": 1000,
                "cfg": 12.0, "num_iter": 16, "temperature": 2.0, "sample_aesthetic_score": 6.5,
            },
        },
        "dataset": { "preprocessing": { "crop_size": 256 } },
    });
    std::fs::write(&config, text.to_string()).map_err(io)?;
    let vocabulary = folder.join("merges.txt");
    let merges = include_str!("../../tests/data/tokenizer/clip-merges.txt");
    std::fs::write(&vocabulary, format!("#version: 0.2\n{merges}")).map_err(io)?;

    let source = Source {
        generator: Some(generator),
        tokenizer,
        text_encoder: Some(text_encoder),
        storage,
        ..Source::default()
    };
    let (summary, seconds, peak) = measured(|| convert::maskgen(&source, output, |_, _| ()));
    let summary = summary?;
    std::fs::remove_dir_all(&folder).map_err(io)?;
    println!("conversion     {seconds:.1} s, at most {peak} KiB of anonymous memory more");
    println!("{}: {} tensors, {} bytes", output.display(), summary.tensors, summary.bytes);
    Ok(())
}

//! MaskGIT at 256×256 as published: a generator of 174 M parameters, the VQGAN of 16 pixels and 1024 codes. The
//! files carry no configuration, as the published ones.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Tensors, figure, one_at_a_time, peak_anonymous, softdimo, write_random};

fn generator() -> Tensors {
    let (d, mlp, rows) = (768, 3072, 1024 + 1 + 1000 + 1);
    let mut t: Tensors = vec![
        ("tok_emb.weight".into(), vec![rows, d]),
        ("pos_emb".into(), vec![1, 257, d]),
        ("bias".into(), vec![257, rows]),
    ];
    let mut norms: Vec<String> =
        ["first_layer.0", "first_layer.4", "last_layer.0", "last_layer.4"].map(String::from).to_vec();
    let mut linears: Vec<(String, usize, usize)> =
        ["first_layer.2", "first_layer.6", "last_layer.2"].map(|name| (name.to_string(), d, d)).to_vec();
    for i in 0..24 {
        let layer = format!("transformer.layers.{i}");
        t.push((format!("{layer}.0.fn.mha.in_proj_weight"), vec![3 * d, d]));
        t.push((format!("{layer}.0.fn.mha.in_proj_bias"), vec![3 * d]));
        linears.push((format!("{layer}.0.fn.mha.out_proj"), d, d));
        linears.push((format!("{layer}.1.fn.net.0"), mlp, d));
        linears.push((format!("{layer}.1.fn.net.3"), d, mlp));
        norms.extend([format!("{layer}.0.norm"), format!("{layer}.1.norm")]);
    }
    for (name, out, inner) in linears {
        t.push((format!("{name}.weight"), vec![out, inner]));
        t.push((format!("{name}.bias"), vec![out]));
    }
    norms.iter().for_each(|name| norm(&mut t, name, d));
    t
}

fn norm(t: &mut Tensors, name: &str, c: usize) {
    t.push((format!("{name}.weight"), vec![c]));
    t.push((format!("{name}.bias"), vec![c]));
}

fn conv(t: &mut Tensors, name: &str, out: usize, inner: usize, k: usize) {
    t.push((format!("{name}.weight"), vec![out, inner, k, k]));
    t.push((format!("{name}.bias"), vec![out]));
}

fn res_block(t: &mut Tensors, name: &str, inner: usize, out: usize) {
    norm(t, &format!("{name}.norm1"), inner);
    conv(t, &format!("{name}.conv1"), out, inner, 3);
    norm(t, &format!("{name}.norm2"), out);
    conv(t, &format!("{name}.conv2"), out, out, 3);
    if inner != out {
        conv(t, &format!("{name}.nin_shortcut"), out, inner, 1);
    }
}

fn attention(t: &mut Tensors, name: &str, c: usize) {
    norm(t, &format!("{name}.norm"), c);
    ["q", "k", "v", "proj_out"].iter().for_each(|map| conv(t, &format!("{name}.{map}"), c, c, 1));
}

/// One level's blocks; the lowest, 16×16, has attention.
fn level(t: &mut Tensors, name: &str, blocks: usize, mut channels: usize, out: usize, lowest: bool) {
    for j in 0..blocks {
        res_block(t, &format!("{name}.block.{j}"), channels, out);
        if lowest {
            attention(t, &format!("{name}.attn.{j}"), out);
        }
        channels = out;
    }
}

fn vqgan() -> Tensors {
    let width = [128, 128, 256, 256, 512];
    let mut t: Tensors = vec![("quantize.embedding.weight".into(), vec![1024, 256])];
    conv(&mut t, "encoder.conv_in", 128, 3, 3);
    for i in 0..5 {
        let down = format!("encoder.down.{i}");
        level(&mut t, &down, 2, width[i.max(1) - 1], width[i], i == 4);
        if i < 4 {
            conv(&mut t, &format!("{down}.downsample.conv"), width[i], width[i], 3);
        }
    }
    conv(&mut t, "decoder.conv_in", 512, 256, 3);
    let mut channels = 512;
    for i in (0..5).rev() {
        let up = format!("decoder.up.{i}");
        level(&mut t, &up, 3, channels, width[i], i == 4);
        channels = width[i];
        if i > 0 {
            conv(&mut t, &format!("{up}.upsample.conv"), channels, channels, 3);
        }
    }
    for (part, channels, out) in [("encoder", 512, 256), ("decoder", 128, 3)] {
        for block in ["block_1", "block_2"] {
            res_block(&mut t, &format!("{part}.mid.{block}"), 512, 512);
        }
        attention(&mut t, &format!("{part}.mid.attn_1"), 512);
        norm(&mut t, &format!("{part}.norm_out"), channels);
        conv(&mut t, &format!("{part}.conv_out"), out, channels, 3);
    }
    conv(&mut t, "quant_conv", 256, 256, 1);
    conv(&mut t, "post_quant_conv", 256, 256, 1);
    t
}

#[test]
fn full_size_maskgit_opens_lean() {
    let _alone = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (student, tokenizer, model) =
        (path("pytorch_model.safetensors"), path("last.safetensors"), path("full.softdimo.safetensors"));
    for (file, tensors, expected) in [(&student, generator(), 174_000_000), (&tokenizer, vqgan(), 72_000_000)]
    {
        let parameters: usize = tensors.iter().map(|(_, s)| s.iter().product::<usize>()).sum();
        println!("{file}: {parameters} parameters");
        assert!((expected..expected + 2_000_000).contains(&parameters), "{file}: {parameters}");
        write_random(Path::new(file), &tensors, BTreeMap::new());
    }
    let peak = peak_anonymous(&[
        "convert",
        "maskgit",
        "--generator",
        &student,
        "--tokenizer",
        &tokenizer,
        "-o",
        &model,
    ]);
    println!("conversion: peak RssAnon {peak} KiB");
    assert!(peak < 300 * 1024, "conversion: expected less than 300 MB of memory, found {peak} KiB");
    std::fs::remove_file(&student).unwrap();
    std::fs::remove_file(&tokenizer).unwrap();

    let report = softdimo(&["bench", "generate", "--model", &model, "--runs", "1"]);
    println!("{report}");
    // No page of a weight is read or copied to open the model.
    for kind in ["RssAnon", "RssFile"] {
        let kilobytes = figure(&report, kind, kind);
        assert!(
            kilobytes < 60.0 * 1024.0,
            "{kind} after open: expected less than 60 MB, found {kilobytes} KiB"
        );
    }
}

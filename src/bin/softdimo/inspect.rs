//! `softdimo inspect`: what a model file holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;
use softdimo::checkpoint::safetensors::SHA256_KEY;
use softdimo::model::{Model, QUANTIZATION};
use softdimo::quant::scale_name;
use softdimo::tensor::Dtype;
use softdimo::{Error, Result, WeightsMode};

#[derive(clap::Args)]
pub struct Args {
    /// Model file
    model: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Also list every tensor
    #[arg(long)]
    tensors: bool,
    /// Do not read the whole file to check its hash
    #[arg(long)]
    no_hash: bool,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let model = Model::open(&args.model, WeightsMode::Map)?;
    let file = model.checkpoint().as_safetensors().ok_or_else(|| Error::Unsupported {
        what: "inspecting this file".into(),
        reason: "it is not a single safetensors file".into(),
    })?;
    let layout = model.architecture().layout();
    let mut components: BTreeMap<&str, (usize, usize, usize)> = BTreeMap::new();
    let mut dtypes: BTreeMap<&str, usize> = BTreeMap::new();
    let int8 = file.tensors().iter().filter(|(_, info)| info.dtype == Dtype::I8);
    let scales: BTreeSet<String> = int8.map(|(name, _)| scale_name(name)).collect();
    for (name, info) in file.tensors() {
        let entry = components.entry(name.split('.').next().unwrap_or_default()).or_default();
        // A scale is part of how a tensor is stored, not a parameter of the network.
        let parameters = if scales.contains(name) { 0 } else { info.shape.len() };
        *entry = (entry.0 + usize::from(parameters > 0), entry.1 + parameters, entry.2 + info.len);
        *dtypes.entry(info.dtype.name()).or_default() += info.len;
    }
    let quantization = model.metadata().get(QUANTIZATION).map_or("not stated", String::as_str);
    let stated = model.metadata().get(SHA256_KEY).cloned().unwrap_or_default();
    let intact = if args.no_hash { None } else { Some(file.sha256() == stated) };

    if args.json {
        let parts: Vec<_> = components
            .iter()
            .map(|(name, (n, params, bytes))| json!({"name": name, "tensors": n, "parameters": params, "bytes": bytes}))
            .collect();
        let value = json!({
            "file": args.model, "metadata": model.metadata(), "config": model.config(), "components": parts,
            "dtypes": dtypes, "labels": model.labels(), "sha256_matches": intact,
        });
        println!("{value}");
    } else {
        println!("file          {}", args.model.display());
        for (key, value) in model.metadata() {
            if let Some(key) = key.strip_prefix("modelspec.") {
                println!("{key:<13} {value}");
            }
        }
        println!("family        {}", model.architecture().name());
        println!("picture       {}x{}", layout.width, layout.height);
        println!("tokens        {} x {} of {} codes", layout.positions, layout.splits, layout.codes);
        match model.architecture().text() {
            Some(text) => {
                println!("prompts       {} tokens, padded with {}", text.context_length, text.pad_id)
            }
            None => println!("classes       {} ({} named)", layout.classes, model.labels().len()),
        }
        match layout.grid {
            Some((rows, columns)) => println!("grid          {rows} x {columns}, a token a place"),
            None => println!("grid          none: every token stands for the whole picture"),
        }
        let has = model.components();
        let missing = ["student", "teacher", "encoder", "decoder"].into_iter().filter(|c| !has.contains(c));
        let missing: Vec<String> = missing.map(|c| format!("{c} ({})", without(c))).collect();
        if !missing.is_empty() {
            println!("missing       {}", missing.join(", "));
        }
        for (name, (n, params, bytes)) in &components {
            println!("{name:<13} {n} tensors, {params} parameters, {bytes} bytes");
        }
        let dtypes: Vec<String> = dtypes.iter().map(|(d, b)| format!("{d} {b} bytes")).collect();
        println!("storage       {}", dtypes.join(", "));
        println!("quantization  {quantization}");
        println!("config        {}", serde_json::to_string(model.config()).unwrap_or_default());
        let verdict = match intact {
            None => "not checked",
            Some(true) => "matches the tensors",
            Some(false) => "DOES NOT MATCH the tensors",
        };
        println!("sha256        {stated}: {verdict}");
        if args.tensors {
            for (name, info) in file.tensors() {
                println!("{name} {}{}", info.dtype, info.shape);
            }
        }
    }
    Ok(if intact == Some(false) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What a model file cannot do without a component.
fn without(component: &str) -> &'static str {
    match component {
        "student" => "no one-step pictures, no optimisation",
        "teacher" => "no multi-step pictures, no prior",
        "encoder" => "no edits",
        _ => "no pictures",
    }
}

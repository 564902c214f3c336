//! `softdimo inspect`: what a model file holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;
use softdimo::checkpoint::Checkpoint;
use softdimo::checkpoint::safetensors::{Info, SHA256_KEY};
use softdimo::model::Model;
use softdimo::model_file::{ClassLabel, QUANTIZATION};
use softdimo::quant::{int4_name, ranges_name, scale_name, transposed_name};
use softdimo::{Dtype, Error, Layout, Result, RewardModel, WeightsMode};

use crate::printed::line;
use crate::say::say;

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

/// A generator's file or a reward's.
enum Opened {
    Generator(Box<Model>),
    Reward(Box<RewardModel>),
}

impl Opened {
    fn open(path: &PathBuf) -> Result<Opened> {
        match Model::open(path, WeightsMode::Map, Default::default()) {
            Err(Error::Config { key, .. }) if key == "family" => {
                RewardModel::open(path, WeightsMode::Map).map(|reward| Opened::Reward(Box::new(reward)))
            }
            model => Ok(Opened::Generator(Box::new(model?))),
        }
    }

    fn config(&self) -> serde_json::Value {
        let config = match self {
            Opened::Generator(model) => serde_json::to_value(model.config()),
            Opened::Reward(reward) => serde_json::to_value(reward.config()),
        };
        config.unwrap_or_default()
    }

    fn labels(&self) -> &[ClassLabel] {
        match self {
            Opened::Generator(model) => model.labels(),
            Opened::Reward(reward) => reward.labels(),
        }
    }

    /// What only such a file has, name and value.
    fn lines(&self) -> Vec<(&'static str, String)> {
        let named = self.labels().len();
        match self {
            Opened::Generator(model) => {
                let (a, l) = (model.architecture(), model.architecture().layout());
                let mut lines = vec![
                    ("family", a.name().into()),
                    ("picture", picture(model, &l)),
                    ("tokens", format!("{} x {} of {} codes", l.positions, l.splits, l.codes)),
                ];
                lines.push(match l.grid {
                    Some((rows, columns)) => ("grid", format!("{rows} x {columns}, a token a place")),
                    None => ("grid", "none: every token stands for the whole picture".into()),
                });
                lines.push(match a.text() {
                    Some(t) => ("prompts", format!("{} tokens, padded with {}", t.context_length, t.pad_id)),
                    None => ("classes", format!("{} ({named} named)", l.classes)),
                });
                let has = model.components();
                let missing = ["student", "teacher", "encoder"].into_iter().filter(|c| !has.contains(c));
                let missing: Vec<String> = missing.map(|c| format!("{c} ({})", without(c))).collect();
                lines.extend((!missing.is_empty()).then(|| ("missing", missing.join(", "))));
                lines
            }
            Opened::Reward(reward) => {
                let a = reward.architecture();
                let mut lines = vec![("family", format!("{} (a reward)", a.name()))];
                lines.extend(a.reads_prompt().then(|| ("reads", "a prompt".into())));
                lines.extend((a.classes() > 0).then(|| ("reads", "a class".into())));
                let classes = reward.classes();
                lines.extend((classes > 0).then(|| ("classes", format!("{classes} ({named} named)"))));
                lines
            }
        }
    }
}

/// What may lie beside an int8 or int4 tensor and belongs to it: scales and ranges.
fn parts_of(tensor: &str) -> [String; 2] {
    let weight = tensor.strip_suffix(&transposed_name("")).or_else(|| tensor.strip_suffix(&int4_name("")));
    let weight = weight.unwrap_or(tensor);
    [scale_name(weight), ranges_name(weight)]
}

/// Whether a tensor holds two values of int4 in a byte.
fn is_int4(name: &str, info: &Info) -> bool {
    info.dtype == Dtype::U8 && info.shape.rank() == 2 && name.ends_with(&int4_name(""))
}

pub fn run(args: Args) -> Result<ExitCode> {
    let model = Opened::open(&args.model)?;
    // The file itself: a model of int4 is unpacked.
    let opened = Checkpoint::open(&args.model)?;
    let metadata = opened.metadata();
    let file = opened.as_safetensors().ok_or_else(|| Error::Unsupported {
        what: "inspecting this file".into(),
        reason: "it is not a single safetensors file".into(),
    })?;
    let mut components: BTreeMap<&str, (usize, usize, usize)> = BTreeMap::new();
    let mut dtypes: BTreeMap<&str, usize> = BTreeMap::new();
    let narrow = file.tensors().iter().filter(|(name, info)| info.dtype == Dtype::I8 || is_int4(name, info));
    let scales: BTreeSet<String> = narrow.flat_map(|(name, _)| parts_of(name)).collect();
    for (name, info) in file.tensors() {
        let entry = components.entry(name.split('.').next().unwrap_or_default()).or_default();
        // A scale is part of how a tensor is stored, not a parameter of the network; so are ranges.
        let parameters = match scales.contains(name) {
            true => 0,
            false => info.shape.len() * if is_int4(name, info) { 2 } else { 1 },
        };
        *entry = (entry.0 + usize::from(parameters > 0), entry.1 + parameters, entry.2 + info.len);
        *dtypes.entry(info.dtype.name()).or_default() += info.len;
    }
    let quantization = metadata.get(QUANTIZATION).map_or("not stated", String::as_str);
    let stated = metadata.get(SHA256_KEY).cloned().unwrap_or_default();
    let intact = if args.no_hash { None } else { Some(file.sha256() == stated) };

    if args.json {
        let parts: Vec<_> = components
            .iter()
            .map(|(name, (n, params, bytes))| json!({"name": name, "tensors": n, "parameters": params, "bytes": bytes}))
            .collect();
        let value = json!({
            "file": args.model.display().to_string(), "metadata": metadata, "config": model.config(), "components": parts,
            "dtypes": dtypes, "labels": model.labels(), "sha256_matches": intact,
        });
        say!("{value}")?;
    } else {
        say!("file          {}", args.model.display())?;
        for (key, value) in metadata {
            if let Some(key) = key.strip_prefix("modelspec.") {
                say!("{:<13} {}", line(key), line(value))?;
            }
        }
        for (name, value) in model.lines() {
            say!("{name:<13} {}", line(&value))?;
        }
        for (name, (n, params, bytes)) in &components {
            say!("{:<13} {n} tensors, {params} parameters, {bytes} bytes", line(name))?;
        }
        let dtypes: Vec<String> = dtypes.iter().map(|(d, b)| format!("{d} {b} bytes")).collect();
        say!("storage       {}", dtypes.join(", "))?;
        say!("quantization  {}", line(quantization))?;
        say!("config        {}", model.config())?;
        let verdict = match intact {
            None => "not checked",
            Some(true) => "matches the tensors",
            Some(false) => "DOES NOT MATCH the tensors",
        };
        say!("sha256        {}: {verdict}", line(&stated))?;
        if args.tensors {
            for (name, info) in file.tensors() {
                say!("{} {}{}", line(name), info.dtype, info.shape)?;
            }
        }
    }
    Ok(if intact == Some(false) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Size and channels of a generator's pictures.
fn picture(model: &Model, layout: &Layout) -> String {
    let [r, g, b] = model.background();
    match layout.channels {
        4 => format!("{}x{} with alpha, seen against #{r:02x}{g:02x}{b:02x}", layout.width, layout.height),
        _ => format!("{}x{}", layout.width, layout.height),
    }
}

/// What a model file cannot do without a component.
fn without(component: &str) -> &'static str {
    match component {
        "student" => "no one-step pictures, no optimisation",
        "teacher" => "no multi-step pictures, no prior",
        _ => "no edits",
    }
}

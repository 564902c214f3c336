//! `softdimo generate`: labels or prompts and seeds to a sheet, or to one PNG each; or a picture changed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use softdimo::Report;
use softdimo::image::{RgbaImage, read_f32_chw, write_png};
use softdimo::{Edit, Generated, Keep, Label, Request, Result};

use crate::engine::{DecodeArg, EngineArgs, run_request};
use crate::like::warn_of_other_files;
use crate::picture::read_of_size;
use crate::provenance::{Hashing, Recipe, RecipeOptions, SourceFile, of_picture, text, value_name};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    engine: EngineArgs,
    /// Class name, e.g. "red apple"; repeat for several
    #[arg(long)]
    label: Vec<String>,
    /// Class id; repeat for several
    #[arg(long)]
    class: Vec<u32>,
    /// Prompt, for text-to-image models; repeat for several
    #[arg(long, conflicts_with_all = ["label", "class"])]
    prompt: Vec<String>,
    /// With steps > 1: what guidance leads away from
    #[arg(long)]
    negative_prompt: Option<String>,
    /// Text-to-image models: aesthetic score the picture should have
    #[arg(long)]
    aesthetic_score: Option<f32>,
    /// Start from this PNG of the model's size instead of from nothing
    #[arg(long)]
    edit: Option<PathBuf>,
    /// Share of the picture's tokens that stay, chosen by seed: a variation; default 0.5
    #[arg(long, requires = "edit")]
    keep: Option<f32>,
    /// PNG of the same size: what is not black in it is painted anew
    #[arg(long = "mask", id = "mask_png", requires = "edit", conflicts_with = "keep")]
    mask: Option<PathBuf>,
    /// Seed of the first picture of every label or prompt; the next ones use seed + 1, + 2, ...
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Pictures per label
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// 1 = one step; more = the multi-step teacher; default: the model's own way
    #[arg(long, default_value_t = 0)]
    steps: u32,
    /// Sample codes, or decode the soft embedding
    #[arg(long, value_enum, default_value_t = DecodeArg::Hard)]
    decode: DecodeArg,
    /// Sampling temperature, 0 = arg-max; these seven: default is the model file's
    #[arg(long)]
    temperature: Option<f32>,
    /// Sample among this many likeliest codes; 0 = all
    #[arg(long)]
    top_k: Option<u32>,
    /// Sample among the likeliest codes of this total probability; 1 = all
    #[arg(long)]
    top_p: Option<f32>,
    /// Share of start tokens that are masked, 0 to 1
    #[arg(long)]
    mask_ratio: Option<f32>,
    /// Share of Gaussian noise in the start embedding, 0 to 1
    #[arg(long)]
    sigma: Option<f32>,
    /// With steps > 1: classifier-free guidance, as the model's own sampler counts it
    #[arg(long)]
    guidance_scale: Option<f32>,
    /// With steps > 1: temperature of the noise on the confidence
    #[arg(long)]
    randomize_temperature: Option<f32>,
    /// Enlarge pixels by this factor (nearest neighbour); default: small pictures to about 256 pixels
    #[arg(long)]
    enlarge: Option<u32>,
    /// One file per picture (OUT-LABEL-SEED.png) instead of a sheet: a row per seed, a column per label
    #[arg(long)]
    separate: bool,
    /// Make this PNG again: its options, except those given beside this one
    #[arg(long, value_name = "FILE.png")]
    like: Option<PathBuf>,
    /// Print a JSON report per label
    #[arg(long)]
    json: bool,
    /// PNG to write
    #[arg(short, long)]
    output: PathBuf,
}

pub fn run(args: Args) -> Result<ExitCode> {
    let engine = args.engine.open()?;
    let hashing = hashing(&args)?;
    let layout = engine.layout();
    let edit = edit(&args, (layout.width, layout.height))?;
    let names = args.label.iter().map(|l| Label::Name(l.clone()));
    let labels = names.chain(args.class.iter().map(|&c| Label::Class(c)));
    let mut subjects: Vec<(Vec<Label>, Vec<String>)> = labels.map(|l| (vec![l], Vec::new())).collect();
    subjects.extend(args.prompt.iter().map(|p| (Vec::new(), vec![p.clone()])));
    if subjects.is_empty() {
        subjects.push(Default::default());
    }
    let mut results: Vec<Arc<Generated>> = Vec::new();
    for (labels, prompts) in subjects {
        let request = Request {
            labels,
            prompts,
            negative_prompt: args.negative_prompt.clone(),
            aesthetic_score: args.aesthetic_score,
            edit: edit.clone(),
            batch: args.count,
            seed: args.seed,
            steps: args.steps,
            decode: args.decode.into(),
            temperature: args.temperature,
            top_k: args.top_k,
            top_p: args.top_p,
            mask_ratio: args.mask_ratio,
            sigma: args.sigma,
            guidance_scale: args.guidance_scale,
            randomize_temperature: args.randomize_temperature,
            report_gap: args.json && args.steps <= 1,
            ..Request::default()
        };
        let done = run_request(&engine, &request, "generating")?;
        if args.json {
            println!("{}", done.report.json());
        }
        results.push(done);
    }
    let files = hashing.finish()?;
    warn_of_other_files(args.like.as_deref(), &files)?;
    write(&args, &results, &files)?;
    Ok(ExitCode::SUCCESS)
}

/// The picture to start from.
fn edit(args: &Args, size: (usize, usize)) -> Result<Option<Edit>> {
    let Some(path) = &args.edit else { return Ok(None) };
    let picture = read_of_size("--edit", path, size)?;
    let keep = match (&args.mask, args.keep) {
        (Some(mask), _) => {
            let mask = read_of_size("--mask", mask, size)?;
            let [r, g, b] = [0, 1, 2].map(|c| mask.data().iter().skip(c).step_by(4));
            Keep::Outside(r.zip(g).zip(b).map(|((r, g), b)| f32::from(*r.max(g).max(b)) / 255.0).collect())
        }
        (None, keep) => Keep::Share(keep.unwrap_or(0.5)),
    };
    Ok(Some(Edit { image: read_f32_chw(&picture.view())?, keep }))
}

/// Hashes of the model and the pictures.
fn hashing(args: &Args) -> Result<Hashing> {
    let mut files: Vec<_> = args.edit.iter().map(|path| ("edit", path.clone())).collect();
    files.extend(args.mask.iter().map(|path| ("mask", path.clone())));
    Hashing::start(&args.engine, files)
}

/// How the pictures are made again: all, or picture `picture` of label or prompt `subject`.
fn recipe(args: &Args, enlarge: u32, one: Option<(usize, usize)>, files: &[SourceFile]) -> Recipe {
    let mut o = RecipeOptions::of_engine(&args.engine);
    let mut subjects = RecipeOptions::default();
    subjects.push("label", &args.label);
    subjects.push("class", &args.class);
    subjects.push("prompt", &args.prompt);
    let (seed, count) = match one {
        None => {
            o.0.extend(subjects.0);
            (args.seed, args.count)
        }
        Some((subject, picture)) => {
            o.0.extend(subjects.0.into_iter().skip(subject).take(1));
            (args.seed.wrapping_add(picture as u64), 1)
        }
    };
    o.push("negative-prompt", &args.negative_prompt);
    o.push("aesthetic-score", args.aesthetic_score);
    if let Some(edit) = &args.edit {
        o.push("edit", [edit.display()]);
        match &args.mask {
            Some(mask) => o.push("mask", [mask.display()]),
            None => o.push("keep", [args.keep.unwrap_or(0.5)]),
        }
    }
    o.push("seed", [seed]);
    o.push("count", [count]);
    o.push("steps", [args.steps]);
    o.push("decode", value_name(args.decode));
    o.push("temperature", args.temperature);
    o.push("top-k", args.top_k);
    o.push("top-p", args.top_p);
    o.push("mask-ratio", args.mask_ratio);
    o.push("sigma", args.sigma);
    o.push("guidance-scale", args.guidance_scale);
    o.push("randomize-temperature", args.randomize_temperature);
    o.push("enlarge", [enlarge]);
    Recipe { command: "generate".into(), options: o.0, files: files.to_vec() }
}

fn write(args: &Args, results: &[Arc<Generated>], files: &[SourceFile]) -> Result<()> {
    let report = &results[0].report;
    let factor = args.enlarge.unwrap_or_else(|| (256 / report.width.max(1)).clamp(1, 16) as u32);
    let mut sheet = Vec::new();
    for seed in 0..args.count.max(1) {
        for (subject, generated) in results.iter().enumerate() {
            let r = &generated.report;
            let picture = RgbaImage::from_f32_chw(generated.picture(seed)?, r.width as u32, r.height as u32)?;
            let picture = picture.enlarge(factor)?;
            if args.separate {
                let label = name(r, seed);
                let label: String =
                    label.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
                let number = args.seed.wrapping_add(seed as u64);
                let path = numbered(&args.output, &label, number);
                let recipe = recipe(args, factor, Some((subject, seed)), files);
                write_png(&path, &picture.view(), &text(&[of_picture(r, seed)], &recipe))?;
                eprintln!("{}", path.display());
            } else {
                sheet.push(picture);
            }
        }
    }
    if !args.separate {
        let gap = if sheet.len() > 1 { factor } else { 0 };
        let sheet = RgbaImage::sheet(&sheet, results.len() as u32, gap, [255; 4])?;
        let reports: Vec<Report> = results.iter().map(|g| g.report.clone()).collect();
        write_png(&args.output, &sheet.view(), &text(&reports, &recipe(args, factor, None, files)))?;
        eprintln!("{} ({}x{})", args.output.display(), sheet.width(), sheet.height());
    }
    Ok(())
}

/// What a picture shows, for its file's name.
fn name(r: &Report, picture: usize) -> String {
    match (r.prompts.get(picture), r.labels.get(picture), r.classes.get(picture)) {
        (Some(prompt), _, _) => prompt.chars().take(40).collect(),
        (None, Some(Some(label)), _) => label.clone(),
        (None, _, Some(class)) => format!("class-{class}"),
        (None, _, None) => "picture".into(),
    }
}

fn numbered(output: &Path, label: &str, seed: u64) -> PathBuf {
    let stem = output.file_stem().unwrap_or_default().to_string_lossy();
    output.with_file_name(format!("{stem}-{label}-{seed}.png"))
}

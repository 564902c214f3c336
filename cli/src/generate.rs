//! `softdimo generate`: labels or prompts and seeds to a sheet, or to one PNG each; or a picture changed.

use std::cell::{Cell, OnceCell};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use softdimo::Report;
use softdimo::image::{PictureStyle, RgbaImage, read_planes, write_png, write_png_bands};
use softdimo::{Edit, Engine, Error, Generated, Keep, Label, Request, Result};

use crate::engine::{DecodeArg, EngineArgs, print_warnings, seed};
use crate::like::Like;
use crate::output::{Names, check_apart, check_folder, check_png, look_at_file};
use crate::picture::{over, read_of_size};
use crate::progress::Progress;
use crate::provenance::{Hashing, Recipe, RecipeOptions, SourceFile, of_picture, text, value_name};
use crate::say::{say, tell};
use crate::style::StyleArgs;

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
    #[arg(long, default_value_t = 0, value_parser = seed)]
    seed: u64,
    /// Of a world whose seed is --seed: the pictures of this place, whose seeds are mixed from both
    #[arg(long, value_name = "X,Y[,Z]", value_parser = place, allow_hyphen_values = true)]
    place: Option<Place>,
    /// Pictures per label
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
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
    /// Enlarge pictures by this factor; default: small ones to about 256 pixels
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    enlarge: Option<u32>,
    #[command(flatten)]
    style: StyleArgs,
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

impl Args {
    /// Seed of the first picture of every subject.
    fn first_seed(&self) -> u64 {
        self.place.as_ref().map_or(self.seed, |place| softdimo::seed(self.seed, place.0))
    }
}

/// Coordinates of a place; those not given are 0.
#[derive(Clone)]
struct Place([i64; 3]);

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [x, y, z] = self.0;
        write!(f, "{x},{y},{z}")
    }
}

/// For `--place`.
fn place(text: &str) -> std::result::Result<Place, String> {
    let numbers: Option<Vec<i64>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
    match numbers.as_deref() {
        Some(&[x, y]) => Ok(Place([x, y, 0])),
        Some(&[x, y, z]) => Ok(Place([x, y, z])),
        _ => Err(format!("expected two or three whole numbers from {} to {}", i64::MIN, i64::MAX)),
    }
}

/// Most pictures of one job: what is in memory at a time.
const AT_ONCE: u32 = 8;

/// Files of every label that are looked at before the first is made: more would keep the first one waiting.
const FIRST: u32 = 10_000;

/// What one column of the sheet shows.
type Subject = (Vec<Label>, Vec<String>);

pub fn run(args: Args, like: Option<Like>) -> Result<ExitCode> {
    let model = args.engine.path()?;
    let inputs = inputs(&args, &model);
    if args.separate {
        check_folder("--output", &args.output)?;
    } else {
        check_png("--output", &args.output)?;
        check_apart(&[("--output", &args.output)], &inputs)?;
    }
    let engine = args.engine.open()?;
    let subjects = subjects(&args, &engine)?;
    let pictures = Pictures::new(&args, &engine, subjects, like)?;
    if args.separate {
        pictures.check_names(&inputs)?;
    }
    let reports = if args.separate { pictures.separate()? } else { pictures.sheet()? };
    if args.json {
        reports.iter().try_for_each(|report| say!("{}", report.json()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The files that are read, with their options.
fn inputs<'a>(args: &'a Args, model: &'a Path) -> Vec<(&'static str, &'a Path)> {
    let given = [
        ("--edit", args.edit.as_ref()),
        ("--mask", args.mask.as_ref()),
        ("--palette", args.style.file()),
        ("--like", args.like.as_ref()),
    ];
    let given = given.into_iter().filter_map(|(option, path)| Some((option, path?.as_path())));
    given.chain([("--model", model)]).collect()
}

/// The labels or prompts, of which the model reads one kind.
fn subjects(args: &Args, engine: &Engine) -> Result<Vec<Subject>> {
    let prompted = engine.model().architecture().text().is_some();
    if !prompted && !args.prompt.is_empty() {
        let expected = "--label: this model knows classes (softdimo inspect lists them) and reads no prompt";
        return Err(Error::invalid("--prompt", expected, &args.prompt[0]));
    }
    if prompted && let Some(label) = args.label.first() {
        return Err(Error::invalid("--label", "--prompt: this model reads prompts and has no labels", label));
    }
    let names = args.label.iter().map(|l| Label::Name(l.clone()));
    let labels = names.chain(args.class.iter().map(|&c| Label::Class(c)));
    let mut subjects: Vec<Subject> = labels.map(|l| (vec![l], Vec::new())).collect();
    subjects.extend(args.prompt.iter().map(|p| (Vec::new(), vec![p.clone()])));
    if subjects.is_empty() {
        subjects.push(Default::default());
    }
    Ok(subjects)
}

/// The pictures of a run: a row a seed, a column a subject, made some rows at a time.
struct Pictures<'a> {
    args: &'a Args,
    engine: &'a Engine,
    subjects: Vec<Subject>,
    /// What each subject is called in a file's name.
    titles: Vec<String>,
    edit: Option<Edit>,
    factor: u32,
    style: PictureStyle,
    like: Option<Like>,
    hashing: Cell<Option<Hashing>>,
    files: OnceCell<Vec<SourceFile>>,
}

impl Pictures<'_> {
    fn new<'a>(
        args: &'a Args,
        engine: &'a Engine,
        subjects: Vec<Subject>,
        like: Option<Like>,
    ) -> Result<Pictures<'a>> {
        let layout = engine.layout();
        let titles = subjects.iter().map(|subject| title(engine, subject)).collect::<Result<_>>()?;
        let edit = edit(args, engine)?;
        let factor = args.enlarge.unwrap_or_else(|| (256 / layout.width.max(1)).clamp(1, 16) as u32);
        let style = args.style.style()?;
        let (hashing, files) = (Cell::new(Some(hashing(args)?)), OnceCell::new());
        Ok(Pictures { args, engine, subjects, titles, edit, factor, style, like, hashing, files })
    }

    /// The files that the pictures come from, with their hashes.
    fn files(&self) -> &[SourceFile] {
        if let Some(hashing) = self.hashing.take() {
            let files = hashing.finish();
            self.like.iter().for_each(|like| like.warn_of_other_files(&files));
            let _ = self.files.set(files);
        }
        self.files.get().map_or(&[], Vec::as_slice)
    }

    fn request(&self, (labels, prompts): &Subject, from: u32, batch: u32) -> Request {
        let args = self.args;
        Request {
            labels: labels.clone(),
            prompts: prompts.clone(),
            negative_prompt: args.negative_prompt.clone(),
            aesthetic_score: args.aesthetic_score,
            edit: self.edit.clone(),
            batch: batch as usize,
            seed: args.first_seed().wrapping_add(from.into()),
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
        }
    }

    /// Make all pictures, and hand each row to `write`. One report a subject.
    fn rows(&self, mut write: impl FnMut(&[&Generated], usize) -> Result<()>) -> Result<Vec<Report>> {
        let mut reports: Vec<Report> = Vec::new();
        let mut progress = Progress::new("network runs");
        let jobs = u64::from(self.args.count.div_ceil(AT_ONCE)) * self.subjects.len() as u64;
        let mut ended = 0;
        for from in (0..self.args.count).step_by(AT_ONCE as usize) {
            let batch = AT_ONCE.min(self.args.count - from);
            let mut made = Vec::new();
            for subject in &self.subjects {
                let job = self.engine.submit(&self.request(subject, from, batch))?;
                made.push(job.wait(None, |p| {
                    let (step, steps) = (u64::from(p.step), u64::from(p.total));
                    progress.set(ended * steps + step, jobs * steps);
                    ControlFlow::Continue(())
                })?);
                ended += 1;
            }
            let row: Vec<&Generated> = made.iter().map(|done| done.as_ref()).collect();
            (0..batch as usize).try_for_each(|i| write(&row, i))?;
            let done = made.iter().map(|done| done.report.clone());
            match from {
                0 => {
                    reports = done.collect();
                    reports.iter().for_each(print_warnings);
                }
                _ => reports.iter_mut().zip(done).for_each(|(all, more)| append(all, more)),
            }
        }
        progress.finish();
        Ok(reports)
    }

    fn picture(&self, done: &Generated, i: usize) -> Result<RgbaImage> {
        let (width, height) = (done.report.width as u32, done.report.height as u32);
        RgbaImage::from_decoded(done.picture(i)?, (width, height), &self.style, self.factor)
    }

    /// That the first files of [`Pictures::separate`] can be written, and none is read.
    fn check_names(&self, inputs: &[(&str, &Path)]) -> Result<()> {
        let mut names = Names::default();
        for i in 0..u64::from(self.args.count.min(FIRST)) {
            for title in &self.titles {
                let path = names.next(&self.args.output, title, self.args.first_seed().wrapping_add(i));
                look_at_file("--separate", &path)?;
                check_apart(&[("--separate", &path)], inputs)?;
            }
        }
        Ok(())
    }

    /// A file a picture.
    fn separate(&self) -> Result<Vec<Report>> {
        let mut names = Names::default();
        self.rows(|row, i| {
            for (subject, done) in row.iter().enumerate() {
                let report = of_picture(&done.report, i);
                let path = names.next(&self.args.output, &self.titles[subject], report.seed);
                let picture = report.seed.wrapping_sub(self.args.first_seed()) as u32;
                let recipe = recipe(self.args, self.factor, Some((subject, picture)), self.files());
                write_png(&path, &self.picture(done, i)?.view(), &text(&[report], &recipe))?;
                tell!("{}", path.display());
            }
            Ok(())
        })
    }

    /// All in one file, which is written row by row.
    fn sheet(&self) -> Result<Vec<Report>> {
        let layout = self.engine.layout();
        let (columns, rows) = (self.subjects.len() as u64, u64::from(self.args.count));
        let gap = if columns * rows > 1 { self.factor } else { 0 };
        let extent = |cells: u64, cell: usize| {
            cells * (cell as u64 * u64::from(self.factor) + u64::from(gap)) - u64::from(gap)
        };
        let (width, height) = (extent(columns, layout.width), extent(rows, layout.height));
        if width.max(height) > i32::MAX as u64 {
            let found = format!("a sheet of {width}x{height}: use --separate");
            return Err(Error::invalid("--count", "at most 2147483647 pixels a side", found));
        }
        let (width, height) = (width as u32, height as u32);
        let transparent = self.args.style.is_transparent() || layout.channels == 4;
        let between = [255, 255, 255, if transparent { 0 } else { 255 }];
        let mut reports = Vec::new();
        write_png_bands(&self.args.output, (width, height), |band| {
            let mut first = true;
            reports = self.rows(|row, i| {
                if !std::mem::take(&mut first) && gap > 0 {
                    band(&RgbaImage::filled(width, gap, between)?)?;
                }
                let row = row.iter().map(|done| self.picture(done, i)).collect::<Result<Vec<_>>>()?;
                band(&RgbaImage::sheet(&row, columns as u32, gap, between)?)
            })?;
            Ok(text(&reports, &recipe(self.args, self.factor, None, self.files())))
        })?;
        tell!("{} ({width}x{height})", self.args.output.display());
        Ok(reports)
    }
}

/// The report of a job and of the one for the pictures after it, as one.
fn append(all: &mut Report, more: Report) {
    fn extend<T>(all: &mut Option<Vec<T>>, more: Option<Vec<T>>) {
        all.get_or_insert_default().extend(more.unwrap_or_default());
    }
    all.batch += more.batch;
    all.classes.extend(more.classes);
    all.labels.extend(more.labels);
    all.prompts.extend(more.prompts);
    all.milliseconds += more.milliseconds;
    for (network, milliseconds) in more.network_milliseconds {
        *all.network_milliseconds.entry(network).or_default() += milliseconds;
    }
    if more.kept_tokens.is_some() {
        extend(&mut all.kept_tokens, more.kept_tokens);
    }
    if more.mean_max_probability.is_some() {
        extend(&mut all.mean_max_probability, more.mean_max_probability);
    }
    if more.soft_hard_difference.is_some() {
        extend(&mut all.soft_hard_difference, more.soft_hard_difference);
    }
}

/// The picture to start from. A model without alpha is shown transparent pixels against its background.
fn edit(args: &Args, engine: &Engine) -> Result<Option<Edit>> {
    let Some(path) = &args.edit else { return Ok(None) };
    let layout = engine.layout();
    let size = (layout.width, layout.height);
    let mut picture = read_of_size("--edit", path, size)?;
    if layout.channels == 3 {
        picture = over(picture, engine.background())?;
    }
    let keep = match (&args.mask, args.keep) {
        (Some(mask), _) => {
            let mask = read_of_size("--mask", mask, size)?;
            let [r, g, b] = [0, 1, 2].map(|c| mask.data().iter().skip(c).step_by(4));
            Keep::Outside(r.zip(g).zip(b).map(|((r, g), b)| f32::from(*r.max(g).max(b)) / 255.0).collect())
        }
        (None, keep) => Keep::Share(keep.unwrap_or(0.5)),
    };
    Ok(Some(Edit { image: read_planes(&picture.view(), layout.channels)?, keep }))
}

/// Hashes of the model and the pictures.
fn hashing(args: &Args) -> Result<Hashing> {
    let mut files: Vec<_> = args.edit.iter().map(|path| ("edit", path.clone())).collect();
    files.extend(args.mask.iter().map(|path| ("mask", path.clone())));
    files.extend(args.style.file().map(|path| ("palette", path.clone())));
    Hashing::start(&args.engine, files)
}

/// How the pictures are made again: all, or picture `picture` of label or prompt `subject`.
fn recipe(args: &Args, enlarge: u32, one: Option<(usize, u32)>, files: &[SourceFile]) -> Recipe {
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
            (args.first_seed().wrapping_add(picture.into()), 1)
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
    o.push("place", args.place.as_ref().filter(|_| one.is_none()));
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
    args.style.push(&mut o);
    Recipe { command: "generate".into(), options: o.0, files: files.to_vec() }
}

/// What a subject's pictures show, for the names of their files.
fn title(engine: &Engine, (labels, prompts): &Subject) -> Result<String> {
    let model = engine.model();
    if model.architecture().text().is_some() {
        return Ok(prompts.iter().flat_map(|prompt| prompt.chars().take(40)).collect());
    }
    let class = match labels.first() {
        Some(Label::Name(name)) => model.class_of(name)?,
        Some(Label::Class(id)) => *id as usize,
        _ => engine.layout().classes,
    };
    Ok(model.labels().get(class).map_or_else(|| format!("class-{class}"), |label| label.name.clone()))
}

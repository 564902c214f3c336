//! `softdimo optimize`: pictures before and after test-time embedding optimisation, and the reward at every step.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use softdimo::Report;
use softdimo::image::{RgbaImage, write_png};
use softdimo::{BATCH_LIMIT, Iteration, OptimizationReport, Variables};
use softdimo::{Generated, Label, Optimize, Optimizer, Request, Result, RewardTerm};

use crate::engine::{DecodeArg, EngineArgs, run_request, seed};
use crate::interrupt::{end_if_interrupted, hand_over};
use crate::like::Like;
use crate::output::{check_apart, check_png};
use crate::plot::{self, Series};
use crate::provenance::{Hashing, Recipe, RecipeOptions, SourceFile, text, value_name};
use crate::reward::{Rewards, file_of};
use crate::say::{say, tell};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    engine: EngineArgs,
    /// Class name
    #[arg(long)]
    label: Option<String>,
    /// Class id
    #[arg(long, conflicts_with = "label")]
    class: Option<u32>,
    /// Seed of the first picture
    #[arg(long, default_value_t = 0, value_parser = seed)]
    seed: u64,
    /// Pictures, with seeds seed, seed + 1, ...
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=BATCH_LIMIT as i64))]
    count: u32,
    /// What to maximise, as [WEIGHT*]NAME: color=R,G,B | target=FILE.png | histogram=FILE.png | prior | closeness |
    /// FILE.softdimo.safetensors (of a classifier, with =CLASS by name or id); repeat to add. Colours and targets
    /// alone wreck the picture: add 0.15*prior to a colour, with --optimizer adam --lr 0.03
    #[arg(long, required_unless_present = "like", allow_hyphen_values = true)]
    reward: Vec<String>,
    /// What a text-to-image model paints, and what a reward that reads a prompt scores pictures against; one for all,
    /// or repeat for one each
    #[arg(long)]
    prompt: Vec<String>,
    #[command(flatten)]
    loop_: LoopArgs,
    /// Which picture to write: sampled codes, or the soft embedding that was optimised
    #[arg(long, value_enum, default_value_t = DecodeArg::Hard)]
    decode: DecodeArg,
    /// Make this PNG again: its options, except those given beside this one
    #[arg(long, value_name = "FILE.png")]
    like: Option<PathBuf>,
    /// Print the report as JSON instead of the table
    #[arg(long)]
    json: bool,
    /// PNG to write: the total and every reward over the steps, means in colour, each picture in grey
    #[arg(long)]
    curve: Option<PathBuf>,
    /// PNG to write: before above, after below, a column a seed
    #[arg(short, long)]
    output: PathBuf,
}

/// The loop's settings.
#[derive(clap::Args, Clone)]
pub struct LoopArgs {
    /// Updates
    #[arg(long, default_value_t = 20)]
    steps: u32,
    /// Learning rate
    #[arg(long, default_value_t = 0.2)]
    lr: f32,
    #[arg(long, value_enum, default_value_t = Rule::Sgd)]
    optimizer: Rule,
    /// Of SGD
    #[arg(long, default_value_t = 0.0)]
    momentum: f32,
    /// Scale gradients down to this norm; 0 = off
    #[arg(long, default_value_t = 0.0)]
    clip: f32,
    /// What to move; repeat for several
    #[arg(long, value_enum)]
    variable: Vec<Moved>,
    /// Weight of the pull of the noise's norm towards its prior
    #[arg(long, default_value_t = 0.0)]
    norm_regularizer: f32,
    /// Milliseconds for the whole job: preparing, optimising, making the picture
    #[arg(long)]
    deadline: Option<u64>,
    /// Report the distance of hard and soft pictures in every iteration
    #[arg(long)]
    gap: bool,
    /// Take less memory and more time for the same result
    #[arg(long)]
    recompute: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Rule {
    Sgd,
    Adam,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Moved {
    Embedding,
    Noise,
    Class,
}

impl LoopArgs {
    fn settings(&self, terms: Vec<RewardTerm>) -> Optimize {
        let has = |v: Moved| self.variable.contains(&v);
        Optimize {
            lr: self.lr,
            optimizer: match self.optimizer {
                Rule::Sgd => Optimizer::Sgd { momentum: self.momentum },
                Rule::Adam => Optimizer::ADAM,
            },
            clip: self.clip,
            norm_regularizer: self.norm_regularizer,
            deadline: self.deadline.map(Duration::from_millis),
            variables: if self.variable.is_empty() {
                Variables::default()
            } else {
                Variables {
                    embedding: has(Moved::Embedding),
                    noise: has(Moved::Noise),
                    class: has(Moved::Class),
                }
            },
            report_gap: self.gap,
            recompute: self.recompute,
            ..Optimize::new(terms, self.steps)
        }
    }
}

pub fn run(args: Args, like: Option<Like>) -> Result<ExitCode> {
    check_outputs(&args)?;
    let engine = args.engine.open()?;
    let files = args.reward.iter().filter_map(|r| file_of(r)).map(|path| ("reward", path.into()));
    let hashing = Hashing::start(&args.engine, files.collect())?;
    let layout = engine.layout();
    let mut rewards = Rewards::new((layout.width, layout.height), engine.options().weights);
    let terms = args.reward.iter().map(|r| rewards.parse(r)).collect::<Result<Vec<_>>>()?;
    let labels = match (&args.label, args.class) {
        (Some(name), _) => vec![Label::Name(name.clone())],
        (None, Some(id)) => vec![Label::Class(id)],
        (None, None) => Vec::new(),
    };
    let decode = args.decode.into();
    // A model of class labels reads no prompt; its rewards may.
    let prompts = match engine.model().architecture().text() {
        Some(_) => args.prompt.clone(),
        None => Vec::new(),
    };
    let (batch, seed) = (args.count as usize, args.seed);
    let plain = Request { labels, prompts, batch, seed, decode, steps: 1, ..Request::default() };
    let before = engine.generate(&plain)?;

    let (prompts, optimize) = (args.prompt.clone(), Some(args.loop_.settings(terms)));
    let request = Request { prompts, optimize, ..plain };
    // Until all files are there, a signal ends the loop and nothing else.
    let guard = hand_over();
    let Some(after) = run_request(&engine, &request, "optimising", &guard)? else {
        tell!("softdimo: interrupted before the first iterate was done; nothing was written");
        end_if_interrupted();
        return Ok(ExitCode::FAILURE);
    };

    let files = hashing.finish();
    like.iter().for_each(|like| like.warn_of_other_files(&files));
    let text = text(std::slice::from_ref(&after.report), &recipe(&args, &after.report, files));
    let written = write(&args, &before, &after, &text);
    let drawn = match (&args.curve, &after.report.optimization) {
        (Some(path), Some(optimization)) => write_curve(path, optimization, &after.report, &text),
        _ => Ok(()),
    };
    drop(guard);
    if args.json {
        say!("{}", after.report.json())?;
    } else if let Some(optimization) = &after.report.optimization {
        print_optimization(optimization)?;
    }
    written.and(drawn)?;
    end_if_interrupted();
    Ok(ExitCode::SUCCESS)
}

/// That both files can be written, and are neither one nor read.
fn check_outputs(args: &Args) -> Result<()> {
    let mut outputs: Vec<(&str, &Path)> = vec![("--output", &args.output)];
    outputs.extend(args.curve.iter().map(|path| ("--curve", path.as_path())));
    outputs.iter().try_for_each(|(option, path)| check_png(option, path))?;
    let model = args.engine.path()?;
    let mut inputs: Vec<(&str, &Path)> = vec![("--model", &model)];
    inputs.extend(
        args.reward.iter().filter_map(|reward| file_of(reward)).map(|file| ("--reward", file.as_ref())),
    );
    inputs.extend(args.like.iter().map(|path| ("--like", path.as_path())));
    check_apart(&outputs, &inputs)
}

fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len().max(1) as f32
}

/// One line an iteration (means over the pictures), then the totals as a curve.
fn print_optimization(optimization: &OptimizationReport) -> Result<()> {
    let names: String = optimization.rewards.iter().map(|n| format!("{n:>12}")).collect();
    say!("{:>5} {:>12} {names} {:>10} {:>10} {:>8}", "step", "total", "gradient", "max prob", "ms")?;
    for i in &optimization.iterations {
        let rewards: String = i.rewards.iter().map(|r| format!("{:>12.5}", mean(r))).collect();
        say!(
            "{:>5} {:>12.5} {rewards} {:>10.3e} {:>10.4} {:>8.1}",
            i.step,
            mean(&i.total),
            mean(&i.gradient_norm),
            mean(&i.mean_max_probability),
            i.milliseconds
        )?;
    }
    let totals: Vec<f32> = optimization.iterations.iter().map(|i| mean(&i.total)).collect();
    say!("total  {}", sparkline(&totals))?;
    say!("ended: {}; best iterate per picture: {:?}", optimization.ended, optimization.best_step)
}

/// Values as eighth blocks from the smallest to the largest; a difference that the table does not show is none.
fn sparkline(values: &[f32]) -> String {
    let values: Vec<f32> = values.iter().map(|v| (v * 1e5).round()).collect();
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let level = |v: f32| ((v - low) / (high - low).max(1e-20) * 7.0).round().clamp(0.0, 7.0) as usize;
    values.iter().map(|&v| BLOCKS[level(v)]).collect()
}

/// A panel for the total, and one a reward where there are several or a weighted one.
fn write_curve(
    path: &Path,
    optimization: &OptimizationReport,
    report: &Report,
    text: &[(String, String)],
) -> Result<()> {
    let panel = |title: &str, of: &dyn Fn(&Iteration) -> Vec<f32>| {
        let steps: Vec<Vec<f32>> = optimization.iterations.iter().map(of).collect();
        let picture = |b: usize| steps.iter().map(|at| at[b]).collect();
        let mut series: Vec<Series> = Vec::new();
        if report.batch > 1 {
            series.extend((0..report.batch).map(|b| Series { name: String::new(), values: picture(b) }));
        }
        let means = steps.iter().map(|at| mean(at)).collect();
        series.push(Series { name: if report.batch > 1 { "mean" } else { "value" }.into(), values: means });
        plot::panel(title, &series, 560, 220)
    };
    let mut panels = vec![panel("total", &|i| i.total.clone())?];
    if optimization.weights != [1.0] {
        for (k, (name, weight)) in optimization.rewards.iter().zip(&optimization.weights).enumerate() {
            panels.push(panel(&format!("{name} (weight {weight})"), &|i| i.rewards[k].clone())?);
        }
    }
    let sheet = RgbaImage::sheet(&panels, 1, 4, [255; 4])?;
    write_png(path, &sheet.view(), text)?;
    tell!("{} ({}x{})", path.display(), sheet.width(), sheet.height());
    Ok(())
}

/// How the pictures are made again. A loop that ended early is one of as many steps as it took.
fn recipe(args: &Args, report: &Report, files: Vec<SourceFile>) -> Recipe {
    let loop_ = &args.loop_;
    let taken = report.optimization.as_ref().filter(|o| o.ended != "steps").map(|o| o.iterations.len());
    let steps = taken.map_or(loop_.steps, |iterations| iterations.saturating_sub(1) as u32);
    let mut o = RecipeOptions::of_engine(&args.engine);
    o.push("label", &args.label);
    o.push("class", args.class);
    o.push("prompt", &args.prompt);
    o.push("seed", [args.seed]);
    o.push("count", [args.count]);
    o.push("reward", &args.reward);
    o.push("steps", [steps]);
    o.push("lr", [loop_.lr]);
    o.push("optimizer", value_name(loop_.optimizer));
    o.push("momentum", [loop_.momentum]);
    o.push("clip", [loop_.clip]);
    o.push("variable", loop_.variable.iter().filter_map(|v| value_name(*v)));
    o.push("norm-regularizer", [loop_.norm_regularizer]);
    o.push("recompute", loop_.recompute.then_some(""));
    o.push("decode", value_name(args.decode));
    Recipe { command: "optimize".into(), options: o.0, files }
}

fn write(args: &Args, before: &Generated, after: &Generated, text: &[(String, String)]) -> Result<()> {
    let (width, height) = (after.report.width as u32, after.report.height as u32);
    let factor = (256 / width.max(1)).clamp(1, 8);
    let mut pictures = Vec::new();
    for generated in [before, after] {
        for i in 0..after.report.batch {
            pictures.push(RgbaImage::from_f32_chw(generated.picture(i)?, width, height)?.enlarge(factor)?);
        }
    }
    let sheet = RgbaImage::sheet(&pictures, after.report.batch as u32, factor, [255; 4])?;
    write_png(&args.output, &sheet.view(), text)?;
    tell!("{} ({}x{})", args.output.display(), sheet.width(), sheet.height());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::sparkline;

    #[test]
    fn a_sparkline_shows_what_the_table_shows() {
        assert_eq!(sparkline(&[-1.0, -0.5, 0.0]), "▁▅█");
        assert_eq!(sparkline(&[-0.005_631, -0.005_630, -0.005_629]), "▁▁▁");
        assert_eq!(sparkline(&[-0.005_63, -0.005_62]), "▁█");
    }
}

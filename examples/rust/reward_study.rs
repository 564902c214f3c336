//! What climbing a reward does to pictures, over 64 seeds: does the reward rise, does the label survive, and what
//! weight of the prior keeps both. Prints tables as Markdown; writes the pictures and the curves.
//!
//! ```sh
//! cargo run --release -p softdimo-cli --example reward_study -- target/reward_study [CLASSIFIER.softdimo.safetensors]
//! ```
//!
//! Every finished run is a JSON file and a row of pictures in that folder; a run that is there is not done again.
//! The classifier (EfficientNet-Lite0, `softdimo convert classifier`) adds its opinion of the red apples.

#[path = "../../cli/src/plot.rs"]
mod plot;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};
use plot::Series;
use serde::{Deserialize, Serialize};
use softdimo::families::condition::Condition;
use softdimo::graph::{Graph, simplify};
use softdimo::image::{RgbaImage, read_png, write_png};
use softdimo::rng::{Philox, Stream};
use softdimo::{
    Dtype, Engine, Error, Generated, Label, MemoryMode, Optimize, Optimizer, Options, Request, Result,
    Reward, RewardModel, RewardTerm, Tensor, WeightsMode,
};

const MODEL: &str = "models/emoji-32.softdimo.safetensors";
const SEEDS: usize = 64;
const STEPS: u32 = 20;
/// Pictures of one job.
const BATCH: usize = 8;
/// Seed of the masks that are climbed, and of those that only judge.
const CLIMBED: u64 = 1;
const JUDGING: [u64; 2] = [101, 102];
/// Every picture is compared with its own label and every n-th other one.
const EVERY_LABEL: usize = 6;
/// Pictures of a row that is kept, and of one in the sheets.
const COLUMNS: usize = 12;
const SHEET_COLUMNS: u32 = 8;
/// ImageNet's only apple: "Granny Smith".
const APPLE: u32 = 948;

/// What is climbed.
#[derive(Clone, Copy, PartialEq)]
enum Goal {
    Bluer,
    Darker,
    /// A picture of another label.
    Target(&'static str),
    Prior,
}

/// One row of the tables.
struct Run {
    label: &'static str,
    goal: Goal,
    rule: (&'static str, Optimizer, f32),
    /// Of the prior beside the goal.
    weight: f32,
}

const ADAM: (&str, Optimizer, f32) = ("Adam 0.03", Optimizer::ADAM, 0.03);
const SGD: (&str, Optimizer, f32) = ("SGD 20", Optimizer::Sgd { momentum: 0.0 }, 20.0);

fn runs() -> Vec<Run> {
    let run = |label, goal, rule, weight| Run { label, goal, rule, weight };
    let mut runs: Vec<Run> = Vec::new();
    let apple = |rule| move |weight| run("red apple", Goal::Bluer, rule, weight);
    runs.extend([0.0, 0.05, 0.1, 0.15, 0.2, 0.3].map(apple(ADAM)));
    runs.extend([0.0, 0.03, 0.1, 0.3].map(apple(SGD)));
    runs.extend([0.0, 0.1, 0.15, 0.2, 0.3].map(|weight| run("dog", Goal::Darker, ADAM, weight)));
    runs.extend([0.0, 0.01].map(|weight| run("red apple", Goal::Target("green apple"), ADAM, weight)));
    runs.push(run("red apple", Goal::Prior, ADAM, 1.0));
    runs
}

impl Run {
    fn name(&self) -> String {
        let weight = if self.weight == 0.0 { "bare".to_string() } else { format!("{}*prior", self.weight) };
        let goal = match self.goal {
            Goal::Bluer => "bluer",
            Goal::Darker => "darker",
            Goal::Target(label) => &format!("target {label}"),
            Goal::Prior => return format!("{}, prior alone, {}", self.label, self.rule.0),
        };
        format!("{}, {goal}, {}, {weight}", self.label, self.rule.0)
    }

    fn terms(&self, engine: &Engine) -> Result<Vec<RewardTerm>> {
        let color = |rgb| Reward::Color { rgb, mask: None };
        let prior = RewardTerm::new(Reward::Prior { seed: CLIMBED }, self.weight);
        let goal = match self.goal {
            Goal::Bluer => color([-1.0, -1.0, 1.0]),
            Goal::Darker => color([-1.0, -1.0, -1.0]),
            Goal::Target(label) => {
                let done = engine.generate(&Request::label(label))?;
                Reward::Target {
                    target: done.picture(0)?.iter().map(|x| x.clamp(0.0, 1.0)).collect(),
                    mask: None,
                }
            }
            Goal::Prior => return Ok(vec![prior]),
        };
        // A weight of 0 costs a step of the teacher as well, and has the prior in the report.
        Ok(vec![RewardTerm::new(goal, 1.0), prior])
    }
}

/// What only judges pictures, one value a seed.
#[derive(Default, Serialize, Deserialize)]
struct Judged {
    /// The prior under masks that were not climbed, nats per token.
    other_masks: Vec<f32>,
    /// Mean absolute difference of sampled and soft picture.
    gap: Vec<f32>,
    /// Whether the teacher gives the sampled codes their own label before all others that are tried.
    own_label: Vec<bool>,
    /// ln p of the apple among ImageNet's classes; empty without a classifier.
    apple: Vec<f32>,
}

/// A finished run.
#[derive(Default, Serialize, Deserialize)]
struct Done {
    /// [iterate][seed]
    reward: Vec<Vec<f32>>,
    prior: Vec<Vec<f32>>,
    /// The iterate that was kept, a seed.
    best: Vec<u32>,
    judged: Judged,
}

struct Study {
    engine: Engine,
    classifier: Option<Arc<RewardModel>>,
    folder: PathBuf,
}

impl Study {
    fn file(&self, name: &str, extension: &str) -> PathBuf {
        let name: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' }).collect();
        self.folder.join(format!("{name}.{extension}"))
    }

    /// A run from its file, or done now.
    fn finished(
        &self,
        name: &str,
        work: impl FnOnce(&ProgressBar) -> Result<(Done, RgbaImage)>,
    ) -> Result<Done> {
        let path = self.file(name, "json");
        if let Ok(text) = std::fs::read(&path) {
            return serde_json::from_slice(&text)
                .map_err(|e| Error::invalid(path.display().to_string(), "a finished run; remove it", e));
        }
        let style = ProgressStyle::with_template("{msg:44} [{bar:30}] {pos}/{len} {elapsed}");
        let bar = ProgressBar::new(SEEDS as u64 * (u64::from(STEPS) + 1));
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(name.to_string());
        let (done, row) = work(&bar)?;
        bar.finish();
        write_png(self.file(name, "png"), &row.view(), &[])?;
        let half = path.with_extension("half");
        let written = std::fs::write(&half, serde_json::to_vec(&done).unwrap_or_default());
        written.and_then(|()| std::fs::rename(&half, &path)).map_err(|e| Error::io(&path, e))?;
        Ok(done)
    }

    /// The one-step pictures of a label.
    fn before(&self, label: &str) -> Result<Done> {
        self.finished(&format!("{label}, before"), |bar| {
            let (mut done, mut pictures) = (Done::default(), Vec::new());
            for first in (0..SEEDS).step_by(BATCH) {
                let request = Request::label(label).with_seed(first as u64).with_batch(BATCH);
                let generated = self.engine.generate(&request)?;
                self.judge(label, &generated, first, &mut done.judged, &mut pictures)?;
                bar.inc(BATCH as u64 * (u64::from(STEPS) + 1));
            }
            Ok((done, row(&pictures)?))
        })
    }

    fn after(&self, run: &Run) -> Result<Done> {
        self.finished(&run.name(), |bar| {
            let iterates = STEPS as usize + 1;
            let rows = || vec![Vec::new(); iterates];
            let mut done = Done { reward: rows(), prior: rows(), ..Done::default() };
            let (mut pictures, terms) = (Vec::new(), run.terms(&self.engine)?);
            for first in (0..SEEDS).step_by(BATCH) {
                let (_, optimizer, lr) = run.rule;
                let optimize = Some(Optimize { optimizer, lr, ..Optimize::new(terms.clone(), STEPS) });
                let request = Request { optimize, ..Request::label(run.label) };
                let job = self.engine.submit(&request.with_seed(first as u64).with_batch(BATCH))?;
                let generated = job.wait(None, |p| {
                    bar.set_position(((first / BATCH * iterates) as u64 + u64::from(p.step)) * BATCH as u64);
                    ControlFlow::Continue(())
                })?;
                let course =
                    generated.report.optimization.as_ref().expect("an optimisation reports its course");
                for (k, i) in course.iterations.iter().enumerate() {
                    done.reward[k].extend(&i.rewards[0]);
                    done.prior[k].extend(i.rewards.last().expect("the prior is the last term"));
                }
                done.best.extend(&course.best_step);
                self.judge(run.label, &generated, first, &mut done.judged, &mut pictures)?;
            }
            Ok((done, row(&pictures)?))
        })
    }

    /// Judge a batch by what was not climbed.
    fn judge(
        &self,
        label: &str,
        of: &Generated,
        first: usize,
        to: &mut Judged,
        pictures: &mut Vec<RgbaImage>,
    ) -> Result<()> {
        let mut terms: Vec<RewardTerm> =
            JUDGING.iter().map(|&seed| RewardTerm::new(Reward::Prior { seed }, 1.0)).collect();
        if let Some(classifier) = &self.classifier {
            let class = Label::Class(APPLE);
            terms.push(RewardTerm::new(Reward::network(classifier.clone(), Some(&class))?, 1.0));
        }
        let request = Request {
            e_in: of.e_in.as_ref().map(Tensor::to_f32),
            optimize: Some(Optimize::new(terms, 0)),
            report_gap: true,
            ..Request::label(label)
        };
        let report = self.engine.generate(&request.with_seed(first as u64).with_batch(BATCH))?.report.clone();
        let scores =
            &report.optimization.as_ref().expect("an optimisation reports its course").iterations[0].rewards;
        let mean = |b: usize| {
            JUDGING.iter().enumerate().map(|(k, _)| scores[k][b]).sum::<f32>() / JUDGING.len() as f32
        };
        to.other_masks.extend((0..BATCH).map(mean));
        to.apple.extend(scores.get(JUDGING.len()).into_iter().flatten());
        to.gap.extend(report.soft_hard_difference.iter().flatten());
        to.own_label.extend(self.own_label_wins(label, &of.tokens)?);
        let size = (report.width as u32, report.height as u32);
        for b in 0..BATCH {
            pictures.push(RgbaImage::from_f32_chw(of.picture(b)?, size.0, size.1)?);
        }
        Ok(())
    }

    /// Whether ln p(codes | label) is largest for their own label: the codes of each half under the teacher that
    /// sees the other half.
    fn own_label_wins(&self, label: &str, tokens: &Tensor) -> Result<Vec<bool>> {
        let model = self.engine.model().clone();
        let (a, w) = (model.architecture(), model.weights().at("teacher"));
        let (l, own) = (a.layout(), model.class_of(label)?);
        let mut classes = vec![own];
        classes.extend((0..l.classes).step_by(EVERY_LABEL).filter(|&c| c != own));
        let keep = half_mask(JUDGING[0], l.slots());

        let g = Graph::new();
        let ids = g.input("tokens", Dtype::I64, [BATCH, l.positions, l.splits])?;
        let class = g.input("class", Dtype::I64, [BATCH])?;
        let condition = Condition::class(a.embed_class(&g, &w, class)?);
        let p = g.one_hot(ids, l.codes)?;
        let mut sum = g.scalar(0.0)?;
        for shown in [keep.clone(), keep.iter().map(|k| 1.0 - k).collect()] {
            let shown = g.constant(Tensor::from_f32([1, l.positions, l.splits, 1], &shown))?;
            let hidden = g.sub(g.scalar(1.0)?, shown)?;
            let q = g.log_softmax(a.logits(&g, &w, a.embed_soft(&g, &w, p, shown)?, &condition)?, 3)?;
            sum = g.add(sum, g.mul(g.mul(p, q)?, hidden)?)?;
        }
        let each = g.reduce_sum(sum, &[1, 2, 3])?;
        g.output("ln p", g.reshape(each, [BATCH])?);
        let g = simplify(&g)?;
        let mut best = [f32::NEG_INFINITY; BATCH];
        let mut wins = vec![true; BATCH];
        for class in classes {
            let ids = Tensor::from_i64([BATCH], &[class as i64; BATCH]);
            let inputs = vec![("tokens".to_string(), tokens.clone()), ("class".to_string(), ids)];
            let found = self.engine.run_graph(g.clone(), inputs)?.remove(0).1.to_f32();
            for (b, &x) in found.iter().enumerate() {
                wins[b] &= class == own || x < best[b];
                best[b] = best[b].max(x);
            }
        }
        Ok(wins)
    }
}

/// 0 for a random half of the slots, which is hidden; 1 for the rest.
fn half_mask(seed: u64, slots: usize) -> Vec<f32> {
    let rng = Philox::new(seed);
    let mut order: Vec<usize> = (0..slots).collect();
    order.sort_by_key(|&s| (rng.u32_at(Stream::StartMask, 0, s as u64), s));
    let mut keep = vec![1.0; slots];
    order[..slots / 2].iter().for_each(|&s| keep[s] = 0.0);
    keep
}

fn row(pictures: &[RgbaImage]) -> Result<RgbaImage> {
    RgbaImage::sheet(&pictures[..COLUMNS], COLUMNS as u32, 1, [255; 4])
}

fn mean(values: impl IntoIterator<Item = f32>) -> f32 {
    let values: Vec<f32> = values.into_iter().collect();
    values.iter().sum::<f32>() / values.len().max(1) as f32
}

/// A line of the table: before → after, means over the seeds.
fn line(run: &Run, before: &Judged, done: &Done) -> String {
    let kept = |of: &[Vec<f32>]| -> Vec<f32> { (0..SEEDS).map(|b| of[done.best[b] as usize][b]).collect() };
    let (reward, prior) = (kept(&done.reward), kept(&done.prior));
    let risen = (0..SEEDS).filter(|&b| reward[b] > done.reward[0][b]).count();
    let weight = if run.goal == Goal::Prior { 0.0 } else { run.weight };
    let gain = |b: usize| reward[b] - done.reward[0][b] + weight * (prior[b] - done.prior[0][b]);
    let climbed = (0..SEEDS).filter(|&b| gain(b) > 0.0).count();
    let share = |n: usize| format!("{:.0} %", 100.0 * n as f32 / SEEDS as f32);
    let count = |wins: &[bool]| wins.iter().filter(|&&w| w).count();
    let pair = |a: f32, b: f32| format!("{a:.3} → {b:.3}");
    let of = |first: &[f32], last: &[f32]| pair(mean(first.iter().copied()), mean(last.iter().copied()));
    let after = &done.judged;
    let mut cells = vec![
        run.name(),
        of(&done.reward[0], &reward),
        share(risen),
        share(climbed),
        of(&done.prior[0], &prior),
        of(&before.other_masks, &after.other_masks),
        of(&before.gap, &after.gap),
        format!("{} → {}", count(&before.own_label), count(&after.own_label)),
    ];
    if !before.apple.is_empty() {
        cells.push(of(&before.apple, &after.apple));
    }
    format!("| {} |", cells.join(" | "))
}

/// The mean course of a reward, one curve a weight of the prior.
fn panel(title: &str, runs: &[(Run, Done)], of: fn(&Done) -> &Vec<Vec<f32>>) -> Result<RgbaImage> {
    let series = |(run, done): &(Run, Done)| Series {
        name: if run.weight == 0.0 { "bare".into() } else { format!("{}", run.weight) },
        values: of(done).iter().map(|at| mean(at.iter().copied())).collect(),
    };
    plot::panel(title, &runs.iter().map(series).collect::<Vec<_>>(), 560, 260)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, classifier @ ..] = &arguments[..] else {
        return Err(Error::invalid("arguments", "FOLDER [CLASSIFIER.softdimo.safetensors]", "none"));
    };
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let options = Options { memory: MemoryMode::Fast, ..Options::default() };
    let open = |path: &String| RewardModel::open(path, WeightsMode::Map).map(Arc::new);
    let classifier = classifier.first().map(open).transpose()?;
    let study =
        Study { engine: Engine::open(root.join(MODEL), options)?, classifier, folder: PathBuf::from(folder) };
    std::fs::create_dir_all(&study.folder).map_err(|e| Error::io(&study.folder, e))?;

    let mut apples: Vec<(Run, Done)> = Vec::new();
    let mut lines = Vec::new();
    for run in runs() {
        let (before, done) = (study.before(run.label)?, study.after(&run)?);
        lines.push(line(&run, &before.judged, &done));
        if run.goal == Goal::Bluer && run.rule.0 == ADAM.0 {
            apples.push((run, done));
        }
    }
    let apple = if study.classifier.is_some() { " ln p(apple), classifier |" } else { "" };
    println!(
        "| run | reward | risen | sum risen | prior | other masks | gap | own label, of {SEEDS} |{apple}"
    );
    println!("|---|---|---|---|---|---|---|---|{}", if apple.is_empty() { "" } else { "---|" });
    lines.iter().for_each(|line| println!("{line}"));
    println!("\n| step | {} |", apples.iter().map(|(run, _)| run.name()).collect::<Vec<_>>().join(" | "));
    println!("|---|{}", "---|".repeat(apples.len()));
    for k in 0..=STEPS as usize {
        let cell = |(_, d): &(Run, Done)| {
            format!("{:.3} / {:.3}", mean(d.reward[k].iter().copied()), mean(d.prior[k].iter().copied()))
        };
        println!("| {k} | {} |", apples.iter().map(cell).collect::<Vec<_>>().join(" | "));
    }

    // Every label and rule: before, then the weights in their order.
    for (label, what) in
        [("red apple", "bluer, Adam 0.03"), ("red apple", "bluer, SGD 20"), ("dog", "darker")]
    {
        let mut names = vec![format!("{label}, before")];
        names.extend(
            runs().iter().map(Run::name).filter(|name| name.starts_with(&format!("{label}, {what}"))),
        );
        let rows = names.iter().map(|name| {
            let row = read_png(study.file(name, "png"))?.0;
            let (side, gap) = (row.height(), 1);
            let mut shown = RgbaImage::filled(SHEET_COLUMNS * (side + gap) - gap, side, [255; 4])?;
            shown.blit(&row, 0, 0);
            Ok(shown)
        });
        let sheet = RgbaImage::sheet(&rows.collect::<Result<Vec<_>>>()?, 1, 1, [255; 4])?.enlarge(3)?;
        let path =
            study.folder.join(format!("{}.png", format!("sheet {label} {what}").replace([' ', ','], "-")));
        write_png(&path, &sheet.view(), &[])?;
        eprintln!("{}: from above {}", path.display(), names.join("; "));
    }
    let panels =
        [panel("bluer, mean", &apples, |d| &d.reward)?, panel("prior, nats", &apples, |d| &d.prior)?];
    let path = study.folder.join("curve.png");
    write_png(&path, &RgbaImage::sheet(&panels, 1, 4, [255; 4])?.view(), &[])?;
    eprintln!("{}", path.display());
    Ok(())
}

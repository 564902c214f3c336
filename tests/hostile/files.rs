//! Hostile files of every kind, each opened and used in a process of its own with little memory and little time: an error that
//! names the file, or a picture. `cargo test --test hostile hostile_files -- --nocapture` prints the table.

use std::io::Seek;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use softdimo::checkpoint::Checkpoint;
use softdimo::text::{ClipBpe, Flavor, WordPiece};
use softdimo::{Engine, Options, Request, RewardModel, WeightsMode};
use support::{bundled, without_adapters};

use super::{broken_files, limits};

const FILE: &str = "SOFTDIMO_TEST_HOSTILE_FILE";
const KIND: &str = "SOFTDIMO_TEST_HOSTILE_KIND";

/// Time that it may take, on a machine that is busy.
const TIME: Duration = Duration::from_secs(30);

/// How a file is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Model,
    /// With a memory limit of 100 MB, and none of work.
    LimitedModel,
    Checkpoint,
    Reward,
    Golden,
    Png,
    Clip,
    Bert,
}

const KINDS: [Kind; 8] = [
    Kind::Model,
    Kind::LimitedModel,
    Kind::Checkpoint,
    Kind::Reward,
    Kind::Golden,
    Kind::Png,
    Kind::Clip,
    Kind::Bert,
];

/// A file, and words of the error; without words it is one that can be used.
pub struct Case {
    pub name: &'static str,
    pub kind: Kind,
    pub words: &'static str,
    pub path: PathBuf,
}

fn use_file(kind: Kind, path: &Path) -> softdimo::Result<String> {
    match kind {
        Kind::Model | Kind::LimitedModel => {
            let (memory_limit, work_limit) =
                if kind == Kind::LimitedModel { (100_000_000, u32::MAX) } else { (0, 0) };
            let engine =
                Engine::open(path, Options { threads: 1, memory_limit, work_limit, ..Options::default() })?;
            let done = engine.generate(&Request::default())?;
            Ok(format!("a picture {}", done.images.shape()))
        }
        Kind::Checkpoint => {
            let checkpoint = Checkpoint::open(path)?;
            let bytes = checkpoint
                .names()
                .filter_map(|name| checkpoint.get(name))
                .map(|view| view.data.len())
                .sum::<usize>();
            Ok(format!("{bytes} bytes of tensors"))
        }
        Kind::Reward => {
            let model = RewardModel::open(path, WeightsMode::Map)?;
            Ok(format!("a reward, {} tokens", model.tokens("a red apple").map_or(0, |t| t.ids.len())))
        }
        Kind::Golden => {
            let found =
                Engine::open(bundled(), Options { threads: 1, ..Options::default() })?.verify(path, None)?;
            Ok(format!("{} rows", found.rows.len()))
        }
        Kind::Png => {
            let (image, text) = softdimo::image::read_png(path)?;
            Ok(format!("{}x{}, {} texts", image.width(), image.height(), text.len()))
        }
        Kind::Clip => {
            let bytes = std::fs::read(path).unwrap();
            let clip = ClipBpe::from_vocabulary_bytes(&bytes).or_else(|_| ClipBpe::from_merges(&bytes))?;
            Ok(format!("{} tokens", clip.encode(&"red apple ".repeat(1000), Flavor::OpenClip).len()))
        }
        Kind::Bert => {
            let bert = WordPiece::from_vocabulary(&std::fs::read(path).unwrap())?;
            Ok(format!("{} tokens", bert.encode(&"redapple".repeat(10_000)).len()))
        }
    }
}

/// Does nothing unless [`run`] started this process.
#[test]
fn child() {
    let Ok(path) = std::env::var(FILE) else { return };
    let kind = std::env::var(KIND).unwrap();
    let kind = *KINDS.iter().find(|k| format!("{k:?}") == kind).unwrap();
    limits::limit_memory();
    let said = match use_file(kind, Path::new(&path)) {
        Ok(what) => format!("ok: {what}"),
        Err(error) => format!("error: {error}"),
    };
    println!("\nSAID {said}");
    println!("PEAK {}", limits::peak());
}

struct Outcome {
    said: String,
    peak: String,
    time: Duration,
    fault: Option<String>,
}

fn run(case: &Case) -> Outcome {
    let start = Instant::now();
    // Not pipes: wine 8 at times does not tell of their end.
    let [stdout, stderr] = [(); 2].map(|()| tempfile::tempfile().unwrap());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "files::child", "--nocapture", "--test-threads=1"])
        .env(FILE, &case.path)
        .env(KIND, format!("{:?}", case.kind))
        .stdout(Stdio::from(stdout.try_clone().unwrap()))
        .stderr(Stdio::from(stderr.try_clone().unwrap()))
        .spawn()
        .unwrap();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if start.elapsed() > TIME {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let time = start.elapsed();
    let [stdout, stderr] = [stdout, stderr].map(|mut file| {
        file.rewind().unwrap();
        std::io::read_to_string(file).unwrap()
    });
    let line = |start: &str| stdout.lines().find_map(|l| l.strip_prefix(start)).unwrap_or("").to_string();
    let (said, peak) = (line("SAID "), line("PEAK "));
    let fault = match status {
        None => Some(format!("takes longer than {TIME:?}")),
        Some(status) if !status.success() => Some(format!("{status}")),
        _ if !without_adapters(&stderr).is_empty() => Some(format!("prints {stderr:?}")),
        _ if case.words.is_empty() && said.starts_with("ok") => None,
        _ if !case.words.is_empty() && said.starts_with("error") && said.contains(case.words) => None,
        _ => Some(format!("says {said:?}, not {:?}", case.words)),
    };
    Outcome { said, peak, time, fault }
}

#[test]
fn hostile_files_get_an_error_or_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let cases = broken_files::all(folder.path());
    assert!(cases.len() >= 60, "{}", cases.len());
    let mut faults = Vec::new();
    println!("{:<34} {:<12} {:>8} {:>12}  what is said", "file", "used as", "ms", "peak");
    for case in &cases {
        let Outcome { said, peak, time, fault } = run(case);
        let short: String = said.replace(folder.path().to_str().unwrap(), "").chars().take(160).collect();
        println!(
            "{:<34} {:<12} {:>8} {peak:>12}  {short}",
            case.name,
            format!("{:?}", case.kind),
            time.as_millis()
        );
        faults.extend(fault.map(|fault| format!("{}: {fault}", case.name)));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

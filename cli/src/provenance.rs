//! What a PNG says of how to make it again: the report of its job, and the command with the files it read.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::thread::{Builder, JoinHandle};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use softdimo::{Error, Report, Result};

use crate::engine::{ArithmeticArg, EngineArgs};
use crate::say::tell;

/// Keyword of the PNG text that holds a [`Recipe`].
pub const KEYWORD: &str = "softdimo-request";

/// A command that makes a picture again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// `generate` or `optimize`.
    pub command: String,
    /// Long options without their dashes, each with its value; a flag's is empty.
    pub options: Vec<(String, String)>,
    /// The files that were read.
    pub files: Vec<SourceFile>,
}

/// A file that an option named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceFile {
    pub option: String,
    pub path: String,
    /// In lower-case hexadecimal, as `sha256sum` prints it.
    pub sha256: String,
}

/// Files being hashed while the pictures are made.
pub enum Hashing {
    UnderWay(JoinHandle<Vec<SourceFile>>),
    /// Where no thread can be had.
    Later(Vec<Source>),
}

/// The option that names a file, where it lies, and how that is told.
type Source = (&'static str, PathBuf, PathBuf);

impl Hashing {
    /// Start with the model and these files, each with the option that names it. A model that nobody named is told by
    /// its file's name: where it lies is not for those who get the picture.
    ///
    /// # Errors
    /// As [`EngineArgs::path`].
    pub fn start(engine: &EngineArgs, more: Vec<(&'static str, PathBuf)>) -> Result<Hashing> {
        let model = engine.path()?;
        let name = match is_named(engine) {
            true => model.clone(),
            false => model.file_name().unwrap_or_default().into(),
        };
        let mut files: Vec<Source> = vec![("model", model, name)];
        files.extend(more.into_iter().map(|(option, path)| (option, path.clone(), path)));
        let later = files.clone();
        let thread = Builder::new().name("hashing".into()).spawn(move || hashes(files));
        Ok(thread.map_or(Hashing::Later(later), Hashing::UnderWay))
    }

    /// Wait for the hashes: of the files that could be read to their ends.
    pub fn finish(self) -> Vec<SourceFile> {
        match self {
            Hashing::UnderWay(thread) => thread.join().unwrap_or_default(),
            Hashing::Later(files) => hashes(files),
        }
    }
}

fn hashes(files: Vec<Source>) -> Vec<SourceFile> {
    let hashed = |(option, path, name): Source| match sha256(&path) {
        Ok(sha256) => Some(SourceFile { option: option.into(), path: name.display().to_string(), sha256 }),
        // The picture is made; what it was made with cannot be told any more.
        Err(error) => {
            tell!("softdimo: warning: {error}: the PNG will not tell the hash of its --{option}");
            None
        }
    };
    files.into_iter().filter_map(hashed).collect()
}

/// Whether the model is one that somebody named, not the bundled one.
fn is_named(engine: &EngineArgs) -> bool {
    engine.model.is_some() || std::env::var_os("SOFTDIMO_MODEL").is_some_and(|path| !path.is_empty())
}

fn sha256(path: &Path) -> Result<String> {
    // A pipe gives what it has to one reader, who is another.
    if !std::fs::metadata(path).map_err(|e| Error::io(path, e))?.is_file() {
        return Err(Error::invalid(path.display().to_string(), "an ordinary file", "something else"));
    }
    let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(|e| Error::io(path, e))? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The options of a command, in the making.
#[derive(Clone, Default)]
pub struct RecipeOptions(pub Vec<(String, String)>);

impl RecipeOptions {
    /// Those of how the model is run that may change a picture's last bits, and the model where one was named.
    pub fn of_engine(engine: &EngineArgs) -> RecipeOptions {
        let mut options = RecipeOptions::default();
        if is_named(engine) {
            options.push("model", engine.path().ok().map(|path| path.display().to_string()));
        }
        options.push("provider", Some(&engine.run.place.provider));
        options.push("memory", value_name(engine.run.memory));
        let arithmetic = engine.run.place.arithmetic;
        options
            .push("arithmetic", Some(arithmetic).filter(|a| *a != ArithmeticArg::Auto).and_then(value_name));
        options
    }

    /// One for each value.
    pub fn push<T: ToString>(&mut self, name: &str, values: impl IntoIterator<Item = T>) {
        self.0.extend(values.into_iter().map(|value| (name.to_string(), value.to_string())));
    }
}

/// How a value is written on the command line.
pub fn value_name(value: impl ValueEnum) -> Option<String> {
    value.to_possible_value().map(|value| value.get_name().to_string())
}

/// What is said of one picture of a job.
pub fn of_picture(report: &Report, picture: usize) -> Report {
    fn one<T: Clone>(all: &[T], picture: usize) -> Vec<T> {
        all.get(picture).cloned().into_iter().collect()
    }
    let mut report = report.clone();
    report.seed = report.seed.wrapping_add(picture as u64);
    report.batch = 1;
    report.classes = one(&report.classes, picture);
    report.labels = one(&report.labels, picture);
    report.prompts = one(&report.prompts, picture);
    report.kept_tokens = report.kept_tokens.map(|all| one(&all, picture));
    report.mean_max_probability = report.mean_max_probability.map(|all| one(&all, picture));
    report.soft_hard_difference = report.soft_hard_difference.map(|all| one(&all, picture));
    report
}

/// The PNG's text: what was done, and how it is done again.
pub fn text(reports: &[Report], recipe: &Recipe) -> Vec<(String, String)> {
    let json: Vec<String> = reports.iter().map(Report::json).collect();
    let done = if json.len() == 1 { json[0].clone() } else { format!("[{}]", json.join(",")) };
    let again = serde_json::to_string(recipe).unwrap_or_default();
    let version = format!("softdimo {}", env!("CARGO_PKG_VERSION"));
    vec![("Software".into(), version), ("softdimo".into(), done), (KEYWORD.into(), again)]
}

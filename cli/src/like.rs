//! `--like FILE.png`: the options a picture was made with, put before those that are given beside it.
//!
//! The text of a PNG is anybody's: only options that say what a picture is like are taken from it, none that names a
//! file to write or a library to load, and the files it names are read only where they are ordinary files.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use clap::parser::ValueSource;
use softdimo::image::read_png_text;
use softdimo::{Error, Result};

use crate::printed::printed;
use crate::provenance::{KEYWORD, Recipe, SourceFile};
use crate::reward;
use crate::say::tell;
use crate::style;

/// Bytes of a recipe.
const MAX_RECIPE: usize = 1 << 20;
/// Options of a recipe.
const MAX_OPTIONS: usize = 4096;

/// Options that a picture may bring, per command.
const ALLOWED: [(&str, &[&str]); 2] = [
    (
        "generate",
        &[
            "model",
            "provider",
            "memory",
            "arithmetic",
            "label",
            "class",
            "prompt",
            "negative-prompt",
            "aesthetic-score",
            "edit",
            "keep",
            "mask",
            "seed",
            "place",
            "count",
            "steps",
            "decode",
            "temperature",
            "top-k",
            "top-p",
            "mask-ratio",
            "sigma",
            "guidance-scale",
            "randomize-temperature",
            "enlarge",
            "scaling",
            "palette",
            "dither",
            "dither-strength",
            "matte",
            "matte-holes",
        ],
    ),
    (
        "optimize",
        &[
            "model",
            "provider",
            "memory",
            "arithmetic",
            "label",
            "class",
            "prompt",
            "seed",
            "count",
            "reward",
            "steps",
            "lr",
            "optimizer",
            "momentum",
            "clip",
            "variable",
            "norm-regularizer",
            "recompute",
            "decode",
        ],
    ),
];

/// Options of which one takes the others' place.
const TOGETHER: [&[&str]; 2] = [&["label", "class", "prompt"], &["keep", "mask"]];

/// The picture of `--like`, as it was when the program began: it may be gone when the work is done.
pub struct Like {
    path: PathBuf,
    files: Vec<SourceFile>,
}

/// The arguments of the program with `--like` filled in, and its picture if it was given.
///
/// # Errors
/// As [`read`]; `InvalidArgument` for a picture of another command, or a file of it that is gone.
pub fn expand(command: &clap::Command, arguments: Vec<OsString>) -> Result<(Vec<OsString>, Option<Like>)> {
    // What cannot be read is told by whoever reads the result.
    let matches = command.clone().try_get_matches_from(&arguments);
    let Ok(matches) = matches else { return Ok((arguments, None)) };
    let Some((name, given)) = matches.subcommand() else { return Ok((arguments, None)) };
    let Some((_, allowed)) = ALLOWED.iter().find(|(command, _)| *command == name) else {
        return Ok((arguments, None));
    };
    let Some(path) = given.get_one::<PathBuf>("like") else { return Ok((arguments, None)) };
    let subcommand = command.find_subcommand(name).ok_or_else(|| Error::internal("a command has no name"))?;
    let recipe = read(path)?;
    if recipe.command != name {
        let found = format!("one of `softdimo {}`", printable(&recipe.command));
        let expected =
            format!("a picture made by `softdimo {name}`; use --like with the command that made it");
        return Err(Error::invalid(format!("--like {}", path.display()), expected, found));
    }

    let place = 1 + arguments.iter().skip(1).position(|a| a.as_os_str() == name).unwrap_or(0);
    let mut all: Vec<OsString> = arguments[..=place].to_vec();
    for (option, value) in &recipe.options {
        if !allowed.contains(&option.as_str()) {
            let expected = format!("options of a picture: {}", allowed.join(", "));
            return Err(broken(path, &expected, option));
        }
        if is_replaced(subcommand, given, name, option) {
            continue;
        }
        check_file(path, option, value)?;
        let flag = subcommand
            .get_arguments()
            .any(|a| a.get_long() == Some(option.as_str()) && !a.get_action().takes_values());
        all.push(if flag { format!("--{option}") } else { format!("--{option}={value}") }.into());
    }
    all.extend_from_slice(&arguments[place + 1..]);
    if let Err(error) = command.clone().try_get_matches_from(&all) {
        let text = error.to_string();
        let found = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        return Err(broken(path, &format!("options of `softdimo {name}`"), found));
    }
    Ok((all, Some(Like { path: path.clone(), files: recipe.files })))
}

/// Whether the option, or one that takes its place, was given beside `--like`.
fn is_replaced(command: &clap::Command, given: &ArgMatches, name: &str, option: &str) -> bool {
    // What `optimize` makes of a prompt, a reward may read beside the label.
    let group = TOGETHER.iter().find(|group| group.contains(&option)).copied();
    let same = |other: &str| match group {
        Some(group) if !(name == "optimize" && (other == "prompt" || option == "prompt")) => {
            group.contains(&other)
        }
        _ => other == option,
    };
    command
        .get_arguments()
        .filter(|argument| argument.get_long().is_some_and(same))
        .any(|argument| given.value_source(argument.get_id().as_str()) == Some(ValueSource::CommandLine))
}

/// Refuse a file of a picture that is none.
fn check_file(picture: &Path, option: &str, value: &str) -> Result<()> {
    let file = match option {
        "model" | "edit" | "mask" => Some(value),
        "reward" => reward::file_of(value),
        "palette" => style::palette_file(value),
        _ => None,
    };
    let Some(file) = file else { return Ok(()) };
    // Files of /proc and /sys say that they are empty, and reading some of them never ends or does something.
    let found = match std::fs::metadata(file) {
        Ok(found) if found.is_file() && found.len() > 0 => return Ok(()),
        Ok(found) if found.is_file() => "an empty one",
        _ => "no such file",
    };
    Err(Error::invalid(
        format!("--like {}", picture.display()),
        format!("the file '{}' it was made with; or give --{option} beside --like", printable(file)),
        found,
    ))
}

/// The recipe of a picture.
///
/// # Errors
/// As [`read_png_text`]; `Format` where it holds none that can be read.
fn read(path: &Path) -> Result<Recipe> {
    let text = read_png_text(path)?;
    let mut recipes = text.iter().filter(|(keyword, _)| keyword == KEYWORD).map(|(_, text)| text);
    let Some(text) = recipes.next() else {
        let expected = "PNG text 'softdimo-request', as `softdimo generate` and `softdimo optimize` write it";
        return Err(broken(path, expected, "none"));
    };
    if recipes.next().is_some() {
        return Err(broken(path, "one text of this keyword", "several"));
    }
    if text.len() > MAX_RECIPE {
        return Err(broken(path, &format!("at most {MAX_RECIPE} bytes"), &text.len().to_string()));
    }
    let recipe: Recipe = serde_json::from_str(text)
        .map_err(|e| broken(path, "a JSON object of command, options and files", &e.to_string()))?;
    if recipe.options.len() > MAX_OPTIONS || recipe.files.len() > MAX_OPTIONS {
        let found = recipe.options.len().max(recipe.files.len()).to_string();
        return Err(broken(path, &format!("at most {MAX_OPTIONS} options and files"), &found));
    }
    Ok(recipe)
}

/// Bad text of a picture.
fn broken(path: &Path, expected: &str, found: &str) -> Error {
    Error::Format {
        file: path.display().to_string(),
        what: format!("PNG text '{KEYWORD}'"),
        expected: expected.into(),
        found: printable(found),
    }
}

/// Text that may hold anything, cut short.
fn printable(text: &str) -> String {
    printed(&text.chars().take(200).collect::<String>()).replace('\n', "\\n")
}

impl Like {
    /// Say which files are not those that the picture was made with.
    pub fn warn_of_other_files(&self, files: &[SourceFile]) {
        for then in &self.files {
            let same = |now: &&SourceFile| {
                now.option == then.option && (now.option == "model" || now.path == then.path)
            };
            if let Some(now) = files.iter().find(same).filter(|now| now.sha256 != then.sha256) {
                tell!(
                    "softdimo: warning: --{} '{}' is not the file that '{}' was made with (sha256 {}, then {}): \
                     the pictures may differ",
                    now.option,
                    now.path,
                    self.path.display(),
                    now.sha256,
                    printable(&then.sha256),
                );
            }
        }
    }
}

//! The `--reward` argument: `[WEIGHT*]NAME[=ARGUMENT]`, or the file of a network in the name's place.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use softdimo::image::{read_f32_chw, read_png};
use softdimo::{BINS, Error, Label, Result, Reward, RewardModel, RewardTerm, WeightsMode, histogram};

use crate::picture::read_of_size;

/// What may stand there, for messages.
const FORMS: &str = "color=R,G,B, target=FILE.png, histogram=FILE.png, prior, closeness or \
                     a reward file[=CLASS]";
/// How the file of a network ends.
const FILE: &str = ".safetensors";

/// Parses rewards for pictures of one size; a file that several name is opened once.
pub struct Rewards {
    /// Width and height.
    size: (usize, usize),
    weights: WeightsMode,
    opened: HashMap<String, Arc<RewardModel>>,
}

impl Rewards {
    pub fn new(size: (usize, usize), weights: WeightsMode) -> Rewards {
        Rewards { size, weights, opened: HashMap::new() }
    }

    /// One `--reward`.
    pub fn parse(&mut self, text: &str) -> Result<RewardTerm> {
        let bad = |expected: &str, found: &str| Error::InvalidArgument {
            what: format!("--reward {text}"),
            expected: expected.into(),
            found: found.into(),
        };
        // Paths may hold both signs: what is no number before '*' is the beginning of one.
        let (weight, rest) = match text.split_once('*') {
            Some((weight, rest)) => match weight.trim().parse() {
                Ok(weight) => (weight, rest),
                Err(_) if names_a_file(text) => (1.0, text),
                Err(_) => return Err(bad("a number before '*'", weight)),
            },
            None => (1.0, text),
        };
        if let Some((path, class)) = split_file(rest) {
            return Ok(RewardTerm::new(self.network(path, class)?, weight));
        }
        let (name, argument) = rest.split_once('=').unwrap_or((rest, ""));
        let reward = match name {
            "color" => {
                let values: Option<Vec<f32>> = argument.split(',').map(|v| v.trim().parse().ok()).collect();
                let rgb = values.and_then(|values| <[f32; 3]>::try_from(values).ok());
                let rgb = rgb.ok_or_else(|| bad("color=R,G,B, three numbers", argument))?;
                Reward::Color { rgb, mask: None }
            }
            "target" => {
                let picture = read_of_size("--reward target", argument, self.size)?;
                Reward::Target { target: read_f32_chw(&picture.view())?, mask: None }
            }
            "histogram" => {
                let pixels = read_f32_chw(&read_png(argument)?.0.view())?;
                Reward::Histogram { histogram: histogram(&pixels, BINS)?, mask: None }
            }
            "prior" => Reward::Prior { seed: 0 },
            "closeness" => Reward::Closeness,
            other => return Err(bad(FORMS, other)),
        };
        Ok(RewardTerm::new(reward, weight))
    }

    /// A network, with the class by name or id where one is given.
    fn network(&mut self, path: &str, class: Option<&str>) -> Result<Reward> {
        let model = match self.opened.get(path) {
            Some(model) => model.clone(),
            None => Arc::new(RewardModel::open(path, self.weights)?),
        };
        self.opened.insert(path.into(), model.clone());
        let class = class.map(|class| match class.parse() {
            Ok(id) => Label::Class(id),
            Err(_) => Label::Name(class.into()),
        });
        Reward::network(model, class.as_ref())
    }
}

/// The file that a `--reward` reads, if any.
pub fn file_of(text: &str) -> Option<&str> {
    let rest = match text.split_once('*') {
        Some((weight, rest)) if weight.trim().parse::<f32>().is_ok() => rest,
        _ => text,
    };
    let picture = || rest.strip_prefix("target=").or_else(|| rest.strip_prefix("histogram="));
    split_file(rest).map(|(file, _)| file).or_else(picture)
}

/// Names of rewards that are no files.
const BUILT_IN: [&str; 5] = ["color", "target", "histogram", "prior", "closeness"];

/// Whether all of `text` is a file, or a file and a class.
fn names_a_file(text: &str) -> bool {
    split_file(text).is_some_and(|(path, _)| Path::new(path).is_file())
}

/// `FILE[=CLASS]` as file and class. A file is what ends like one, or whatever is one and has no reward's name; both
/// its name and a class may hold '='.
fn split_file(text: &str) -> Option<(&str, Option<&str>)> {
    let (name, _) = text.split_once('=').unwrap_or((text, ""));
    if BUILT_IN.contains(&name) {
        return None;
    }
    if Path::new(text).is_file() {
        return Some((text, None));
    }
    let splits = text.rmatch_indices('=').map(|(at, _)| (&text[..at], &text[at + 1..]));
    if let Some((path, class)) = splits.clone().find(|(path, _)| Path::new(path).is_file()) {
        return Some((path, Some(class)));
    }
    // No such file: the error names the one that was meant.
    if let Some((path, class)) = splits.clone().find(|(path, _)| path.ends_with(FILE)) {
        return Some((path, Some(class)));
    }
    (text.ends_with(FILE) || name.contains(['/', '\\'])).then(|| match text.ends_with(FILE) {
        true => (text, None),
        false => text.split_once('=').map_or((text, None), |(path, class)| (path, Some(class))),
    })
}

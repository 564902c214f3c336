//! The `--reward` argument: `[WEIGHT*]NAME[=ARGUMENT]`, or the file of a network in the name's place.

use std::collections::HashMap;
use std::sync::Arc;

use softdimo::image::{read_f32_chw, read_png};
use softdimo::{BINS, Error, Label, Result, Reward, RewardModel, RewardTerm, WeightsMode, histogram};

use crate::picture::read_of_size;

/// What may stand there, for messages.
const FORMS: &str = "color=R,G,B, target=FILE.png, histogram=FILE.png, prior, closeness or \
                     FILE.softdimo.safetensors[=CLASS]";
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
        let (weight, rest) = match text.split_once('*') {
            Some((weight, rest)) => (weight.parse().map_err(|_| bad("a number before '*'", weight))?, rest),
            None => (1.0, text),
        };
        if let Some((path, class)) = split_file(rest) {
            return Ok(RewardTerm::new(self.network(path, class)?, weight));
        }
        let (name, argument) = rest.split_once('=').unwrap_or((rest, ""));
        let reward = match name {
            "color" => {
                let values: Vec<f32> = argument.split(',').filter_map(|v| v.trim().parse().ok()).collect();
                let rgb = <[f32; 3]>::try_from(values).map_err(|_| bad("color=R,G,B", argument))?;
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
    let rest = text.split_once('*').map_or(text, |(_, rest)| rest);
    let picture = || rest.strip_prefix("target=").or_else(|| rest.strip_prefix("histogram="));
    split_file(rest).map(|(file, _)| file).or_else(picture)
}

/// `FILE.safetensors[=CLASS]` as file and class.
fn split_file(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(at) = text.rfind(&format!("{FILE}=")) {
        let end = at + FILE.len();
        return Some((&text[..end], Some(&text[end + 1..])));
    }
    text.ends_with(FILE).then_some((text, None))
}

//! Which of a checkpoint's tensors are the network: what wraps its names is taken off, and of several dictionaries one is
//! chosen.
//!
//! A network is known by a tensor that every checkpoint of it has, its anchor. Whatever stands before the anchor's name is
//! the dictionary: a training script's (`model`, `ema`), a trainer's (`state_dict.model`), a wrapper's (`module`), in any
//! order and depth. Segments like `_orig_mod`, which wrapped modules have anywhere in a name, are left out first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// Which weights are read of a checkpoint that holds several sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhichWeights {
    /// The averaged ones where there are any.
    #[default]
    Auto,
    /// Those of the last training step.
    Raw,
    /// Their average over training steps (EMA, SWA), which samplers use.
    Averaged,
    /// Those in the dictionary of this name, with `.` between the names of nested ones.
    Dictionary(String),
}

/// Which dictionary of a file was read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadFrom {
    pub file: String,
    /// Names of nested ones with `.` between them; empty where the tensors have no wrapper.
    pub dictionary: String,
    /// Whether it is called an average.
    pub averaged: bool,
    /// Other dictionaries with the same network, which were not read.
    pub others: Vec<String>,
}

/// A network that is looked for in a checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Sought<'a> {
    /// For messages: whose tensors these are.
    pub what: &'a str,
    /// Names of which each checkpoint has one, and only once; the first that is there counts.
    pub anchors: &'a [&'a str],
    pub which: WhichWeights,
}

/// What was chosen: the network's names, each with that in the file.
#[derive(Debug)]
pub(super) struct Selection {
    pub names: BTreeMap<String, String>,
    pub read_from: ReadFrom,
}

impl FromStr for WhichWeights {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> std::result::Result<WhichWeights, Self::Err> {
        Ok(match text {
            "auto" => WhichWeights::Auto,
            "raw" => WhichWeights::Raw,
            "averaged" => WhichWeights::Averaged,
            name => WhichWeights::Dictionary(name.into()),
        })
    }
}

impl fmt::Display for WhichWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WhichWeights::Auto => f.write_str("auto"),
            WhichWeights::Raw => f.write_str("raw"),
            WhichWeights::Averaged => f.write_str("averaged"),
            WhichWeights::Dictionary(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for ReadFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.averaged { "averaged weights" } else { "weights" };
        write!(f, "{}: read the {kind} {}", self.file, quoted(&self.dictionary))?;
        match &self.others[..] {
            [] => Ok(()),
            others => write!(f, ", not {}", list(others)),
        }
    }
}

impl Sought<'_> {
    /// The tensors that are looked for, in words.
    pub fn expected(&self) -> String {
        let names: Vec<String> = self.anchors.iter().map(|name| format!("'{name}'")).collect();
        format!("{}, such as {}", self.what, names.join(" or "))
    }
}

fn quoted(dictionary: &str) -> String {
    if dictionary.is_empty() { "at the top".into() } else { format!("'{dictionary}'") }
}

fn list(dictionaries: &[String]) -> String {
    dictionaries.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

/// A segment that a wrapped module puts into the names of its tensors: `_orig_mod` (torch.compile),
/// `_fsdp_wrapped_module`, `_checkpoint_wrapped_module`, `_forward_module`.
fn is_wrapper(segment: &str) -> bool {
    segment.starts_with('_') && (segment.ends_with("_mod") || segment.ends_with("_module"))
}

/// Whether a segment says that what is below it is an average.
fn is_average(segment: &str) -> bool {
    let segment = segment.to_lowercase();
    let mut words = segment.split(|c: char| !c.is_alphanumeric());
    words.any(|word| {
        matches!(word, "ema" | "average" | "averaged" | "avg" | "swa" | "polyak" | "shadow")
            || word.starts_with("ema") && word[3..].chars().all(|c| c.is_ascii_digit())
    })
}

/// Choose the network's tensors among these names; `None` when it is not there.
///
/// # Errors
/// `Format` when none or several of the dictionaries are those which are asked for, and for averages without names.
pub(super) fn select<'n>(
    names: impl Iterator<Item = &'n str>,
    sought: &Sought,
    file: &str,
) -> Result<Option<Selection>> {
    let plain: Vec<(String, &str)> = names
        .map(|name| (name.split('.').filter(|s| !is_wrapper(s)).collect::<Vec<_>>().join("."), name))
        .collect();
    let before = |anchor: &str| -> BTreeSet<&str> {
        let prefixes = plain.iter().filter_map(|(name, _)| name.strip_suffix(anchor));
        prefixes.filter(|prefix| prefix.is_empty() || prefix.ends_with('.')).collect()
    };
    let Some(prefixes) = sought.anchors.iter().map(|anchor| before(anchor)).find(|p| !p.is_empty()) else {
        return Ok(None);
    };
    let dictionary = |prefix: &&str| prefix.strip_suffix('.').unwrap_or(prefix).to_string();
    let (averaged, raw): (Vec<&str>, Vec<&str>) =
        prefixes.iter().partition(|prefix| prefix.split('.').any(is_average));
    let (wanted, candidates) = match &sought.which {
        WhichWeights::Auto if averaged.is_empty() => ("one set of weights", raw.clone()),
        WhichWeights::Auto => ("one set of averaged weights", averaged.clone()),
        WhichWeights::Raw => ("one set of raw weights", raw.clone()),
        WhichWeights::Averaged => ("one set of averaged weights", averaged.clone()),
        WhichWeights::Dictionary(name) => {
            let named = prefixes.iter().filter(|prefix| dictionary(prefix) == *name);
            ("the dictionary that is asked for", named.copied().collect())
        }
    };
    let all: Vec<String> = prefixes.iter().map(dictionary).collect();
    let wrong = |expected: String, found: String| Error::Format {
        file: file.into(),
        what: format!("weights ({})", sought.which),
        expected,
        found,
    };
    let &[prefix] = &candidates[..] else {
        let choose = "--weights raw, averaged or the name of a dictionary chooses";
        return Err(wrong(format!("{wanted} of {}; {choose}", sought.what), list(&all)));
    };
    let mut names = BTreeMap::new();
    for (name, stored) in &plain {
        let Some(name) = name.strip_prefix(prefix) else { continue };
        if names.insert(name.to_string(), stored.to_string()).is_some() {
            return Err(wrong(
                "every name once, what wraps it left out".into(),
                format!("{name} twice, as {stored}"),
            ));
        }
    }
    if sought.which == WhichWeights::Auto && averaged.is_empty() {
        refuse_nameless(&plain, prefix, names.len()).map_err(|nameless| {
            let expected = "averaged weights under the network's names; --weights raw reads those that are not \
                            averaged";
            wrong(expected.into(), format!("'{nameless}' without the names"))
        })?;
    }
    let chosen = dictionary(&prefix);
    let read_from = ReadFrom {
        file: file.into(),
        averaged: averaged.contains(&prefix),
        others: all.into_iter().filter(|name| *name != chosen).collect(),
        dictionary: chosen,
    };
    Ok(Some(Selection { names, read_from }))
}

/// An average of most of the network's tensors under other names than the network's, as a list or with the dots left
/// out, is what should be read and cannot be.
fn refuse_nameless(
    plain: &[(String, &str)],
    chosen: &str,
    tensors: usize,
) -> std::result::Result<(), String> {
    let mut averages: BTreeMap<String, usize> = BTreeMap::new();
    for (name, _) in plain.iter().filter(|(name, _)| chosen.is_empty() || !name.starts_with(chosen)) {
        let segments: Vec<&str> = name.split('.').collect();
        let folders = segments.len() - 1;
        if let Some(at) = segments[..folders].iter().position(|segment| is_average(segment)) {
            *averages.entry(segments[..=at].join(".")).or_default() += 1;
        }
    }
    match averages.into_iter().find(|(_, count)| 2 * count > tensors) {
        Some((dictionary, _)) => Err(dictionary),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A network of the tensors `anchor` and `body.weight`, wrapped in each of these prefixes.
    fn chosen(prefixes: &[&str], which: &str) -> Result<Option<Selection>> {
        let names: Vec<String> = prefixes
            .iter()
            .flat_map(|p| ["anchor", "body.weight"].map(|name| format!("{p}{name}")))
            .collect();
        let sought = Sought { what: "a network", anchors: &["anchor"], which: which.parse().unwrap() };
        select(names.iter().map(String::as_str), &sought, "x.pth")
    }

    fn dictionary(prefixes: &[&str], which: &str) -> String {
        let selection = chosen(prefixes, which).unwrap().unwrap();
        assert_eq!(selection.names.keys().collect::<Vec<_>>(), ["anchor", "body.weight"]);
        selection.read_from.dictionary
    }

    #[test]
    fn any_wrapper_comes_off() {
        for (wrapper, name) in [
            ("", ""),
            ("_orig_mod.", ""),
            ("module._orig_mod.", "module"),
            ("_orig_mod.module.", "module"),
            ("state_dict.model._fsdp_wrapped_module.", "state_dict.model"),
            ("whatever.", "whatever"),
            ("ema_model.", "ema_model"),
        ] {
            assert_eq!(dictionary(&[wrapper], "auto"), name);
        }
        let inside = ["anchor", "_orig_mod.body._orig_mod.weight"];
        let sought = Sought { what: "", anchors: &["anchor"], which: WhichWeights::Auto };
        let found = select(inside.into_iter(), &sought, "x").unwrap().unwrap();
        assert_eq!(found.names["body.weight"], inside[1]);
    }

    #[test]
    fn averages_go_first_and_are_chosen() {
        for average in [
            "ema.",
            "ema_model.",
            "model_ema.",
            "state_dict_ema.",
            "params_ema.",
            "EMA.",
            "G_ema.",
            "swa_model.module.",
            "generator.averaged.",
        ] {
            let both = ["model.", average];
            assert_eq!(dictionary(&both, "auto"), average.trim_end_matches('.'));
            assert_eq!(dictionary(&both, "averaged"), average.trim_end_matches('.'));
            assert_eq!(dictionary(&both, "raw"), "model");
            assert_eq!(dictionary(&both, "model"), "model");
        }
        let read = chosen(&["model.", "ema."], "auto").unwrap().unwrap().read_from;
        assert_eq!(read.to_string(), "x.pth: read the averaged weights 'ema', not 'model'");
        // Words that only look like it.
        assert_eq!(dictionary(&["schema."], "raw"), "schema");
    }

    #[test]
    fn no_choice_is_made_for_the_user() {
        let message = |prefixes: &[&str], which: &str| chosen(prefixes, which).unwrap_err().to_string();
        let choose = "of a network; --weights raw, averaged or the name of a dictionary chooses, found";
        assert_eq!(
            message(&["student.", "teacher."], "auto"),
            format!("x.pth: weights (auto): expected one set of weights {choose} 'student', 'teacher'")
        );
        let averages = format!("one set of averaged weights {choose} 'ema_1', 'ema_2', 'model'");
        assert!(message(&["ema_1.", "ema_2.", "model."], "auto").ends_with(&averages));
        assert!(message(&["ema."], "raw").contains("expected one set of raw weights"));
        assert!(message(&[""], "averaged").ends_with("found at the top"));
        assert!(message(&["model."], "mdoel").contains("weights (mdoel): expected the dictionary that"));
        assert!(chosen(&[], "auto").unwrap().is_none());
    }

    #[test]
    fn averages_without_names_are_not_passed_over() {
        let names = ["model.anchor", "model.body.weight", "ema.shadow_params.0", "ema.shadow_params.1"];
        let of = |which: &str| {
            let sought = Sought { what: "", anchors: &["anchor"], which: which.parse().unwrap() };
            select(names.into_iter(), &sought, "x")
        };
        let message = of("auto").unwrap_err().to_string();
        assert!(
            message.contains("--weights raw reads") && message.ends_with("'ema' without the names"),
            "{message}"
        );
        assert_eq!(of("raw").unwrap().unwrap().read_from.dictionary, "model");
        // A single number about an average is none.
        let names = ["model.anchor", "model.body.weight", "model_ema.decay"];
        let sought = Sought { what: "", anchors: &["anchor"], which: WhichWeights::Auto };
        assert!(select(names.into_iter(), &sought, "x").is_ok());
    }
}

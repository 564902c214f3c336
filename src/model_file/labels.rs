//! Which class a written label means: the label itself, one of its synonyms, or, spelt a little differently, either.

use super::ClassLabel;
use crate::error::{Error, Result};

/// Characters of a label that are compared and shown; comparing takes time as their square.
const LONGEST: usize = 200;

/// Most labels that an error suggests or lists.
const SUGGESTIONS: usize = 5;
/// Least similarity (1 = equal) of a name that is taken for a slip of the pen.
const SIMILAR: f64 = 0.7;

/// The letters and digits of a name in lower case: `Red_Apple` and `red apple` are one. A name of other characters only
/// stands for itself.
fn key(name: &str) -> String {
    let letters = name.chars().filter(|c| c.is_alphanumeric());
    let key: String = letters.flat_map(char::to_lowercase).collect();
    if key.is_empty() { name.trim().to_lowercase() } else { key }
}

/// The key without the ending of an English plural.
fn singular(key: &str) -> String {
    let stem = |end: &str| key.strip_suffix(end).filter(|stem| stem.len() > 1);
    match (stem("ies"), stem("es"), stem("s")) {
        (Some(stem), _, _) => format!("{stem}y"),
        (_, Some(stem), _) if stem.ends_with("ss") || stem.ends_with("sh") => stem.into(),
        (_, Some(stem), _) if stem.ends_with("ch") || stem.ends_with('x') => stem.into(),
        (_, _, Some(stem)) if !stem.ends_with('s') => stem.into(),
        _ => key.into(),
    }
}

/// The names that a label gives its class: `tench, Tinca tinca` gives two.
fn synonyms(label: &ClassLabel) -> impl Iterator<Item = &str> {
    label.name.split(',').map(str::trim).filter(|name| !name.is_empty())
}

/// The class that a label names. What the whole label is comes before what one of its synonyms is, and both before
/// plurals; case, spaces, hyphens and underscores do not matter.
///
/// # Errors
/// [`Error::UnknownLabel`] with close names; [`Error::InvalidArgument`] with the classes that share the name.
pub(crate) fn find_label(labels: &[ClassLabel], label: &str) -> Result<usize> {
    let (exact, wanted) = (label.trim().to_lowercase(), key(label));
    if wanted.is_empty() {
        return Err(unknown(labels, label));
    }
    let plain = singular(&wanted);
    let ways: [&dyn Fn(&ClassLabel) -> bool; 4] = [
        &|l| l.name.trim().to_lowercase() == exact,
        &|l| key(&l.name) == wanted,
        &|l| synonyms(l).any(|name| key(name) == wanted),
        &|l| synonyms(l).any(|name| singular(&key(name)) == plain),
    ];
    for way in ways {
        let found: Vec<usize> = (0..labels.len()).filter(|&i| way(&labels[i])).collect();
        match found[..] {
            [] => continue,
            [class] => return Ok(class),
            _ => return Err(ambiguous(labels, label, &found)),
        }
    }
    Err(unknown(labels, label))
}

/// The classes whose label holds `filter`, in order of their id; where none does, those of a similar label, the most
/// similar first.
pub(crate) fn labels_like(labels: &[ClassLabel], filter: &str) -> Vec<usize> {
    let wanted = key(filter);
    let held: Vec<usize> = (0..labels.len()).filter(|&i| key(&labels[i].name).contains(&wanted)).collect();
    if !held.is_empty() {
        return held;
    }
    similar(labels, &wanted)
}

/// Classes by how similar one of their names, or a word of it, is to `wanted`.
fn similar(labels: &[ClassLabel], wanted: &str) -> Vec<usize> {
    if wanted.len() > LONGEST {
        return Vec::new();
    }
    let likeness = |name: &str| strsim::normalized_damerau_levenshtein(&key(name), wanted);
    let best = |label: &ClassLabel| {
        let words = label.name.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() > 2);
        // A name that is like it as a whole comes before one that has such a word.
        let word = words.map(|word| 0.95 * likeness(word)).fold(0.0, f64::max);
        synonyms(label).map(likeness).fold(word, f64::max)
    };
    let scored = labels.iter().map(best).enumerate().filter(|(_, score)| *score >= SIMILAR);
    let mut scored: Vec<(usize, f64)> = scored.collect();
    scored.sort_by(|a, b| b.1.total_cmp(&a.1));
    scored.into_iter().map(|(class, _)| class).collect()
}

/// What is said of a label that may be of any length.
fn shown(label: &str) -> String {
    match label.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &label[..end]),
        None => label.into(),
    }
}

fn unknown(labels: &[ClassLabel], label: &str) -> Error {
    let wanted = key(label);
    let mut near = similar(labels, &wanted);
    let words: Vec<String> = label.split_whitespace().map(key).collect();
    let shares = |i: &usize| {
        let name = &labels[*i].name;
        name.split(|c: char| !c.is_alphanumeric()).any(|word| words.contains(&key(word)))
            || (!wanted.is_empty() && key(name).contains(&wanted))
    };
    let more: Vec<usize> = (0..labels.len()).filter(shares).filter(|i| !near.contains(i)).collect();
    near.extend(more);
    let near: Vec<&str> = near.iter().take(SUGGESTIONS).map(|&i| labels[i].name.as_str()).collect();
    let hint = if near.is_empty() { String::new() } else { format!(" (close: {})", near.join(", ")) };
    Error::UnknownLabel { label: shown(label), count: labels.len(), hint }
}

fn ambiguous(labels: &[ClassLabel], label: &str, found: &[usize]) -> Error {
    let mut classes: Vec<String> =
        found.iter().take(SUGGESTIONS).map(|&i| format!("class {i} ({})", labels[i].name)).collect();
    if found.len() > SUGGESTIONS {
        classes.push(format!("{} more", found.len() - SUGGESTIONS));
    }
    let expected = "the name of one class, or its id in its place";
    Error::invalid(format!("label '{}'", shown(label)), expected, classes.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(names: &[&str]) -> Vec<ClassLabel> {
        names.iter().map(|name| ClassLabel { name: name.to_string(), group: None }).collect()
    }

    #[test]
    fn a_label_of_any_length_is_told_at_once() {
        let error = find_label(&imagenet(), &"red apple ".repeat(100_000)).unwrap_err().to_string();
        assert!(error.starts_with("label 'red apple red apple") && error.len() < 400, "{error}");
        assert!(error.contains("…'") && error.contains("expected one of the model's 12 labels"), "{error}");
    }

    fn imagenet() -> Vec<ClassLabel> {
        labels(&[
            "tench, Tinca tinca",
            "crane",
            "Cardigan, Cardigan Welsh corgi",
            "crane",
            "cardigan",
            "sunglass",
            "sunglasses, dark glasses, shades",
            "red apple",
            "fox squirrel, eastern fox squirrel, Sciurus niger",
            "\u{2764}",
            "bus",
            "pencil box, pencil case",
        ])
    }

    #[test]
    fn spelling_synonyms_and_plurals() {
        let labels = imagenet();
        let cases = [
            ("tench", 0),
            ("TINCA tinca", 0),
            ("tench, Tinca tinca", 0),
            ("Tench,tinca tinca", 0),
            ("cardigan", 4),
            ("cardigan welsh corgi", 2),
            ("sunglass", 5),
            ("sunglasses", 6),
            ("red_apple", 7),
            ("Red-Apples", 7),
            ("redapple", 7),
            ("fox squirrels", 8),
            ("\u{2764}", 9),
            ("bus", 10),
            ("pencil boxes", 11),
        ];
        for (text, class) in cases {
            assert_eq!(find_label(&labels, text).unwrap(), class, "{text}");
        }
    }

    #[test]
    fn what_several_classes_are_called_is_asked_about() {
        assert_eq!(
            find_label(&imagenet(), "Crane").unwrap_err().to_string(),
            "label 'Crane': expected the name of one class, or its id in its place, found class 1 (crane), class 3 (crane)"
        );
        let many = labels(&["one, it", "two, it", "3, it", "4, it", "5, it", "6, it", "7, it"]);
        let error = find_label(&many, "it").unwrap_err().to_string();
        assert!(error.ends_with("class 4 (5, it), 2 more"), "{error}");
    }

    #[test]
    fn slips_of_the_pen_are_suggestions() {
        let labels = labels(&["rocket", "pizza", "dog", "hot dog", "dog face", "banana"]);
        let hint = |text: &str| match find_label(&labels, text) {
            Err(Error::UnknownLabel { hint, .. }) => hint,
            other => panic!("{other:?}"),
        };
        assert_eq!(hint("rockt"), " (close: rocket)");
        assert_eq!(hint("piza"), " (close: pizza)");
        assert_eq!(hint("bnaana"), " (close: banana)");
        assert_eq!(hint("green dog"), " (close: dog, hot dog, dog face)");
        assert_eq!(hint("zebra"), "");
        assert_eq!(hint(""), "");
        assert_eq!(find_label(&labels, "dogs").unwrap(), 2);
    }

    #[test]
    fn filters_hold_or_resemble() {
        let labels = imagenet();
        assert_eq!(labels_like(&labels, "car"), [2, 4]);
        assert_eq!(labels_like(&labels, "TENHC"), [0]);
        assert_eq!(labels_like(&labels, "").len(), labels.len());
        assert!(labels_like(&labels, "xylophone").is_empty());
    }
}

//! What is written, and where: tried before the work begins, so that no work is lost.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

pub use softdimo::atomic_file::folder;
use softdimo::atomic_file::{check, look, same_place};
use softdimo::{Error, Result};

/// Longest file name of common file systems, bytes.
const NAME: usize = 255;

/// Of a folder, for [`check_folder`]: nobody's.
const PROBE: &str = ".softdimo-probe";

/// That a file can be written there.
pub fn check_file(option: &str, path: &Path) -> Result<()> {
    check_name(option, path)?;
    check(&format!("{option} {}", path.display()), path)
}

/// The same of a file in a folder that was tried, without trying it again.
pub fn look_at_file(option: &str, path: &Path) -> Result<()> {
    check_name(option, path)?;
    look(&format!("{option} {}", path.display()), path)
}

/// That no output is another one, or an input. Each is with its option.
pub fn check_apart(outputs: &[(&str, &Path)], inputs: &[(&str, &Path)]) -> Result<()> {
    for (i, (option, path)) in outputs.iter().enumerate() {
        let mut others = outputs[..i].iter().chain(inputs);
        if let Some((other, taken)) = others.find(|(_, taken)| same_place(path, taken)) {
            let expected = format!("another file than {other} {}", taken.display());
            return Err(Error::invalid(format!("{option} {}", path.display()), expected, "the same"));
        }
    }
    Ok(())
}

/// That it is a file's name in a folder.
fn check_name(option: &str, path: &Path) -> Result<()> {
    let refused = |expected: &str, found: String| {
        Err(Error::invalid(format!("{option} {}", path.display()), expected, found))
    };
    let folder = folder(path);
    match path.file_name() {
        None => refused("a file name", "none".into()),
        Some(name) if name.len() > NAME => {
            refused("a name of at most 255 bytes", format!("{} bytes", name.len()))
        }
        _ if path.is_dir() => refused("a file name", "a folder".into()),
        _ if !folder.exists() => refused("an existing folder", format!("no '{}'", folder.display())),
        _ if !folder.is_dir() => {
            refused("a folder before the name", format!("'{}' is a file", folder.display()))
        }
        _ => Ok(()),
    }
}

/// The same of a picture, which is a PNG.
pub fn check_png(option: &str, path: &Path) -> Result<()> {
    check_suffix(option, path)?;
    check_file(option, path)
}

/// That pictures can be written beside `path`, under names made of it.
pub fn check_folder(option: &str, path: &Path) -> Result<()> {
    check_suffix(option, path)?;
    check_name(option, path)?;
    check(&format!("{option} {}", path.display()), &path.with_file_name(PROBE))
}

fn check_suffix(option: &str, path: &Path) -> Result<()> {
    let suffix = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    if suffix.as_deref().is_some_and(|suffix| suffix != "png") {
        let what = format!("{option} {}", path.display());
        return Err(Error::invalid(
            what,
            "a name that ends with .png: pictures are PNG",
            suffix.unwrap_or_default(),
        ));
    }
    Ok(())
}

/// Names of one run's pictures, no two alike, whatever the file system makes of capitals.
#[derive(Default)]
pub struct Names {
    taken: HashSet<String>,
}

impl Names {
    /// OUT-LABEL-SEED.png beside `output`; with a number behind it where that is taken.
    pub fn next(&mut self, output: &Path, label: &str, seed: u64) -> PathBuf {
        let stem = output.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let dashes = |text: &str| -> String {
            let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
            words.collect::<Vec<_>>().join("-")
        };
        let label = match dashes(label) {
            label if label.is_empty() => "picture".into(),
            label => label,
        };
        for n in 1_u32.. {
            let end = if n == 1 { format!("-{seed}.png") } else { format!("-{seed}-{n}.png") };
            let label = cut(&label, NAME.saturating_sub(stem.len() + 1 + end.len()).max(1));
            let stem = cut(&stem, NAME - 1 - label.len() - end.len());
            let name = format!("{stem}-{label}{end}");
            if self.taken.insert(name.to_lowercase()) {
                return output.with_file_name(name);
            }
        }
        unreachable!("numbers do not end")
    }
}

/// At most `bytes` of `text`, whole characters.
fn cut(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_never_alike() {
        let mut names = Names::default();
        let mut next = |label: &str| {
            let path = names.next(Path::new("d/a.png"), label, 7);
            path.file_name().unwrap().to_string_lossy().into_owned()
        };
        assert_eq!(next("red apple"), "a-red-apple-7.png");
        assert_eq!(next("Red  Apple!"), "a-Red-Apple-7-2.png");
        assert_eq!(next("🐈"), "a-picture-7.png");
        assert_eq!(next("../.."), "a-picture-7-2.png");
        assert_eq!(next("Ärger/猫"), "a-Ärger-猫-7.png");
        let long = "猫".repeat(300);
        let (one, two) = (next(&long), next(&long));
        assert!(one.len() <= NAME && two.len() <= NAME && one != two, "{one} {two}");
        assert!(names.next(Path::new(&format!("{}.png", "x".repeat(250))), "y", 7).as_os_str().len() <= NAME);
    }

    #[test]
    fn what_cannot_be_written_is_said_first() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "").unwrap();
        let says = |path: PathBuf, words: &str| {
            let error = check_png("--output", &path).unwrap_err().to_string();
            assert!(error.starts_with("--output ") && error.contains(words), "{error}");
        };
        says(at("no/a.png"), "expected an existing folder, found no '");
        says(at("file/a.png"), "is a file");
        says(at("a.jpg"), "expected a name that ends with .png");
        says(folder.path().into(), "expected a file name, found a folder");
        says(at(&"x".repeat(300)), "at most 255 bytes");
        check_png("--output", &at("a.PNG")).unwrap();
        check_png("--output", &at("a")).unwrap();
        check_png("--output", Path::new("a.png")).unwrap();
    }
}

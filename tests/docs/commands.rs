//! The command lines of the pages, run.

use std::path::Path;
use std::process::Command;

use support::{built, root};

use super::pages::{all, blocks};

/// Files that the commands name, out of the tiny checkpoints of `tests/data`.
const CHECKPOINTS: [(&str, &str); 7] = [
    ("maskbit_generator.bin", "maskbit/generator.bin"),
    ("maskbit_tokenizer.bin", "maskbit/tokenizer.safetensors"),
    ("MaskGIT_ImageNet_256.pth", "maskgit/MaskGIT.pth"),
    ("pytorch_model.bin", "maskgit/pytorch_model.bin"),
    ("last.ckpt", "maskgit/last.ckpt"),
    ("clip-vit-l-14", "rewards/aesthetic.safetensors"),
    ("sac+logos+ava1-l14-linearMSE.pth", "rewards/aesthetic.mlp.safetensors"),
];

/// A checkout as the commands see it, with checkpoints under the names that they use.
fn workplace(folder: &Path) {
    use std::os::unix::fs::symlink;
    symlink(root().join("models"), folder.join("models")).unwrap();
    std::fs::create_dir(folder.join("tests")).unwrap();
    symlink(root().join("tests/data"), folder.join("tests/data")).unwrap();
    for (name, file) in CHECKPOINTS {
        symlink(root().join("tests/data").join(file), folder.join(name)).unwrap();
    }
    let generator =
        softdimo::checkpoint::Checkpoint::open(root().join("tests/data/maskbit/generator.safetensors"));
    std::fs::write(folder.join("maskbit.json"), &generator.unwrap().metadata()["config"]).unwrap();
}

/// The words of a shell's command line, without its comment.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            '#' if !quoted && word.is_empty() => break,
            ' ' if !quoted => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
            c => word.push(c),
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

/// Every command runs here, or fails for want of a file that is to be had elsewhere, which its message names.
#[test]
fn commands_run() {
    let folder = tempfile::tempdir().unwrap();
    workplace(folder.path());
    let program = built::file("softdimo");
    let (mut ran, mut wanting) = (0, 0);
    for (page, text) in all() {
        let blocks = blocks(&text, "sh").join("\n").replace("\\\n", " ");
        for line in blocks.lines().filter(|line| line.starts_with("softdimo ")) {
            let mut words = words(line);
            // The tiny checkpoints have fewer classes than ImageNet.
            if let Some(at) = words.iter().position(|word| word == "--labels") {
                words.drain(at..at + 2);
            }
            let output = Command::new(&program).args(&words[1..]).current_dir(&folder).output().unwrap();
            let message = String::from_utf8_lossy(&output.stderr);
            if output.status.success() {
                ran += 1;
                continue;
            }
            assert_eq!(output.status.code(), Some(1), "{page}: {line}\n{message}");
            let missing =
                message.strip_prefix("softdimo: file '").and_then(|m| m.strip_suffix("' not found\n"));
            let missing = missing.unwrap_or_else(|| panic!("{page}: {line}\n{message}"));
            assert!(words.iter().any(|word| missing.starts_with(word.as_str())), "{page}: {line}\n{message}");
            wanting += 1;
        }
    }
    println!("# {ran} commands ran, {wanting} want a checkpoint");
    assert!(ran >= 15, "{ran} commands ran, {wanting} want a checkpoint");
}

/// JSON in the pages is JSON.
#[test]
fn configurations_are_json() {
    let pages = all();
    let found: Vec<String> = pages.values().flat_map(|page| blocks(page, "json")).collect();
    assert!(found.len() >= 2);
    for block in found {
        serde_json::from_str::<serde_json::Value>(&block).unwrap_or_else(|e| panic!("{block}\n{e}"));
    }
}

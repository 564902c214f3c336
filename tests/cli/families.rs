//! Each family of generators by the command line: converted, verified, inspected, and a picture made.

use std::path::Path;

use softdimo::families::FAMILIES;
use softdimo::rewards::architecture::REWARDS;
use support::data;

use super::works as run;

fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_string_lossy().into_owned()
}

/// Every row of the tables is a subcommand that says of itself what its row says.
#[test]
fn conversion_tells_what_each_row_is() {
    let families = FAMILIES.iter().map(|row| (row.description.name, row.description.about));
    let rewards = REWARDS.iter().map(|row| (row.description.name, row.description.about));
    for (name, about) in families.chain(rewards) {
        let help = run(&["convert", &name.replace('_', "-"), "--help"]);
        assert!(help.starts_with(about), "{help}");
    }
}

#[test]
fn maskgit_converts_inspects_and_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let output = text(folder.path().join("cli.softdimo.safetensors"));
    let generator = text(data("maskgit/generator.safetensors"));
    let tokenizer = text(data("maskgit/last.ckpt"));
    run(&["convert", "maskgit", "--generator", &generator, "--tokenizer", &tokenizer, "-o", &output]);
    let report = run(&["verify", &output, &text(data("maskgit/golden.safetensors"))]);
    assert!(report.ends_with("60 checked, 0 failed, 0 not checked\n"), "{report}");
    let report = run(&["inspect", &output]);
    assert!(report.contains("maskgit"), "{report}");
}

#[test]
fn maskgen_converts_and_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let source = support::maskgen::source(folder.path());
    let output = text(folder.path().join("cli.softdimo.safetensors"));
    let generator = text(source.generator.as_ref().unwrap());
    let tokenizer = text(&source.tokenizer);
    let text_encoder = text(source.text_encoder.as_ref().unwrap());
    let config = text(source.config.as_ref().unwrap());
    run(&[
        "convert",
        "maskgen",
        "--generator",
        &generator,
        "--tokenizer",
        &tokenizer,
        "--text-encoder",
        &text_encoder,
        "--config",
        &config,
        "-o",
        &output,
    ]);
    let report = run(&["verify", &output, &text(data("maskgen/golden.safetensors"))]);
    assert!(report.contains(" 0 failed, 0 not checked"), "{report}");
    let picture = text(folder.path().join("apple.png"));
    run(&["generate", "--model", &output, "--prompt", "a red apple", "-o", &picture]);
    let png = std::fs::read(&picture).unwrap();
    assert!(png.starts_with(b"\x89PNG"));
}

#[test]
fn meissonic_converts_inspects_and_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let source = support::meissonic::source(folder.path());
    let output = text(folder.path().join("cli.softdimo.safetensors"));
    let (pipeline, config) = (text(&source.tokenizer), text(source.config.as_ref().unwrap()));
    let pieces = ["--generator", &pipeline, "--teacher", &pipeline, "--tokenizer", &pipeline];
    run(&[&["convert", "meissonic", "--config", &config, "-o", &output][..], &pieces].concat());
    let report = run(&["verify", &output, &text(data("meissonic/golden.safetensors"))]);
    assert!(report.contains(" 0 failed, 0 not checked"), "{report}");
    let lines = run(&["inspect", &output]);
    for line in [
        "family        meissonic",
        "tokens        16 x 1 of 48 codes",
        "prompts       7 tokens, padded with 0",
    ] {
        assert!(lines.contains(line), "{line}: {lines}");
    }
    for steps in ["1", "3"] {
        let picture = text(folder.path().join("apple.png"));
        run(&["generate", "--model", &output, "--prompt", "a red apple", "--steps", steps, "-o", &picture]);
        assert!(std::fs::read(&picture).unwrap().starts_with(b"\x89PNG"));
        std::fs::remove_file(&picture).unwrap();
    }
}

/// A tokenizer of four channels: pictures with alpha, seen against a colour of the file.
#[test]
fn pictures_with_alpha() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| text(folder.path().join(name));
    support::alpha::maskgit_model(folder.path());
    let (tokenizer, output) = (path("maskgit-tokenizer.safetensors"), path("alpha.softdimo.safetensors"));
    let generator = text(data("maskgit/pytorch_model.bin"));
    let convert = [
        "convert",
        "maskgit",
        "--generator",
        &generator,
        "--tokenizer",
        &tokenizer,
        "--heads",
        "4",
        "-o",
        &output,
    ];
    let said = super::fails(1, &[&convert[..], &["--background", "green"]].concat());
    assert!(said.contains("background: expected a colour, #rrggbb, found green"), "{said}");
    run(&[&convert[..], &["--background", "#00ff00"]].concat());
    let lines = run(&["inspect", &output]);
    assert!(lines.contains(" with alpha, seen against #00ff00\n"), "{lines}");

    let make = |name: &str, options: &[&str]| {
        let picture = path(name);
        run(&[&["generate", "--model", &output, "--class", "1", "-o", &picture], options].concat());
        softdimo::image::read_png(picture).unwrap().0
    };
    let picture = make("picture.png", &["--enlarge", "1"]);
    let alpha: std::collections::BTreeSet<u8> = picture.data().chunks(4).map(|pixel| pixel[3]).collect();
    assert!(alpha.len() > 8, "{alpha:?}");
    // What is edited keeps its alpha; between the pictures of a sheet there is nothing.
    let edited = make("edited.png", &["--edit", &path("picture.png"), "--keep", "1", "--enlarge", "1"]);
    assert!(edited.data().chunks(4).any(|pixel| pixel[3] < 255));
    let sheet = make("sheet.png", &["--count", "2", "--enlarge", "1"]);
    assert_eq!(sheet.data()[(picture.height() * picture.width() * 4) as usize + 3], 0);
    let said = super::fails(1, &["generate", "--model", &output, "--matte", "-o", &path("no.png")]);
    assert!(said.contains("matte: expected none for a model whose pictures have alpha"), "{said}");
}

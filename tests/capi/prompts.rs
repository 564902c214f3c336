//! A prompt through the C ABI and through C++: `cli_sample --prompt`, and `softdimo.hpp`. Both make the picture
//! that the library makes in Rust.

use std::path::Path;

use softdimo::image::{RgbaImage, read_png};
use softdimo::{Engine, Options};

use support::maskgen::model as fixture;
use support::process::run;
use support::prompt;

use super::programs;

const PROMPT: &str = "A red apple &amp; a dog";

/// The picture of [`PROMPT`] and seed 5, as Rust makes it.
fn expected(model: &Path) -> RgbaImage {
    let engine = Engine::open(model, Options::default()).unwrap();
    let done = engine.generate(&prompt(PROMPT).with_seed(5)).unwrap();
    let (w, h) = (done.report.width as u32, done.report.height as u32);
    RgbaImage::from_f32_chw(done.picture(0).unwrap(), w, h).unwrap()
}

#[test]
fn cli_sample_reads_prompts() {
    let folder = tempfile::tempdir().unwrap();
    let (model, sheet) = (fixture(folder.path()), folder.path().join("sheet.png"));
    let mut command = programs::example("cli_sample");
    let arguments = ["--seed", "5", "--scale", "1", "--prompt", PROMPT, "--prompt", "a blue dog"];
    let said = run(command.args([&model, &sheet]).args(arguments));
    assert!(said.contains("2 prompts x 4 seeds"), "{said}");
    let (sheet, _) = read_png(&sheet).unwrap();
    let expected = expected(&model);
    let (w, h) = (expected.width() as usize, expected.height() as usize);
    let row = |x: usize, y: usize| {
        let start = ((1 + y) * sheet.width() as usize + x) * 4;
        &sheet.data()[start..start + 4 * w]
    };
    for y in 0..h {
        assert_eq!(row(1, y), &expected.data()[y * w * 4..(y + 1) * w * 4], "row {y}");
    }
    assert!((0..h).any(|y| row(1, y) != row(2 + w, y)), "the other prompt makes another picture");
    // A label means nothing to such a model, and the program says so.
    let refused =
        programs::example("cli_sample").args([&model, &folder.path().join("x.png")]).arg("dog").output();
    let refused = refused.unwrap();
    assert!(!refused.status.success());
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(message.contains("conditioned on a prompt"), "{message}");
}

#[test]
fn the_cpp_wrapper_reads_prompts() {
    let folder = tempfile::tempdir().unwrap();
    let (model, pixels) = (fixture(folder.path()), folder.path().join("pixels"));
    run(programs::cpp("prompt").args([&model, &pixels]).arg(PROMPT));
    let pixels = std::fs::read(pixels).unwrap();
    assert!(pixels == expected(&model).data(), "C++ and Rust differ");
}

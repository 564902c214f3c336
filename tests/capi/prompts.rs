//! Labels and prompts through the C ABI and through C++: `cli_sample`, and `softdimo.hpp`. They make the pictures that the
//! library makes in Rust on this machine, also where they run on another platform.

use std::path::Path;

use softdimo::image::{RgbaImage, read_png};
use softdimo::{Engine, Options, Request};

use support::maskgen::model as fixture;
use support::platform::platform;
use support::process::run;
use support::{bundled, prompt};

use super::programs;

const PROMPT: &str = "A red apple &amp; a dog";

/// The picture of [`PROMPT`] and seed 5, as Rust makes it.
fn expected(model: &Path) -> RgbaImage {
    let engine = Engine::open(model, Options::default()).unwrap();
    let done = engine.generate(&prompt(PROMPT).with_seed(5)).unwrap();
    let (w, h) = (done.report.width as u32, done.report.height as u32);
    RgbaImage::from_f32_chw(done.picture(0).unwrap(), w, h).unwrap()
}

/// The bytes that differ, and by how much at most: not at all on this machine, by a level in a thousandth of them elsewhere,
/// where floats are rounded in another order.
fn compare(found: &[u8], expected: &[u8]) {
    let differences = found.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).filter(|d| *d > 0);
    let (count, largest) = differences.fold((0, 0), |(count, largest), d| (count + 1, largest.max(d)));
    println!("# {count} of {} bytes differ, by {largest} at most", found.len());
    let (most, levels) = if platform().name.is_none() { (0, 0) } else { (found.len() / 1000, 1) };
    assert!(found.len() == expected.len() && count <= most && largest <= levels);
}

/// The picture of `size` pixels at column `x` and row `y` of a sheet of `cli_sample` with scale 1.
fn cell(sheet: &RgbaImage, [w, h]: [usize; 2], x: usize, y: usize) -> Vec<u8> {
    let start = |row: usize| ((1 + y * (h + 1) + row) * sheet.width() as usize + 1 + x * (w + 1)) * 4;
    (0..h).flat_map(|row| sheet.data()[start(row)..start(row) + 4 * w].to_vec()).collect()
}

#[test]
fn cli_sample_makes_the_pictures_of_this_machine() {
    const LABELS: [&str; 3] = ["red apple", "dog", "rocket"];
    let folder = support::built::folder("cli_sample");
    let sheet = folder.join("sheet.png");
    let mut command = programs::example("cli_sample");
    run(command.arg(bundled()).arg(&sheet).args(["--seed", "7", "--scale", "1"]).args(LABELS));
    let (sheet, _) = read_png(&sheet).unwrap();
    let engine = Engine::open(bundled(), Options::default()).unwrap();
    let (mut found, mut expected) = (Vec::new(), Vec::new());
    for (x, label) in LABELS.into_iter().enumerate() {
        let done = engine.generate(&Request::label(label).with_seed(7).with_batch(4)).unwrap();
        for y in 0..4 {
            found.extend(cell(&sheet, [32, 32], x, y));
            let picture = RgbaImage::from_f32_chw(done.picture(y).unwrap(), 32, 32).unwrap();
            expected.extend_from_slice(picture.data());
        }
    }
    compare(&found, &expected);
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
    compare(&cell(&sheet, [w, h], 0, 0), expected.data());
    assert!(
        cell(&sheet, [w, h], 0, 0) != cell(&sheet, [w, h], 1, 0),
        "the other prompt makes another picture"
    );
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
    compare(&pixels, expected(&model).data());
}

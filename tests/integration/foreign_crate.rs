//! A crate of somebody else's that depends on the library, as `cargo add --path` would make it.

use std::path::Path;
use std::process::Command;

use softdimo::image::read_png;
use support::built::target_folder;
use support::process::run;
use support::{bundled, root};

/// Its dependencies are those that the workspace has built, as their profiles are put behind it; the library is built
/// once more.
const MANIFEST: &str = r#"[package]
name = "foreign"
version = "0.1.0"
edition = "2024"

[dependencies]
softdimo = { path = "ROOT" }

[profile.dev.package.softdimo]
opt-level = 0
debug = false
"#;

/// MODEL OUT.png
const PROGRAM: &str = r#"use softdimo::image::{RgbaImage, write_png};
use softdimo::{Engine, Options, Request, Result};

fn main() -> Result<()> {
    let [model, output] = std::env::args().skip(1).collect::<Vec<_>>().try_into().expect("MODEL OUT.png");
    let engine = Engine::open(model, Options::default())?;
    let done = engine.generate(&Request::label("red apple").with_seed(7))?;
    let (width, height) = (done.report.width as u32, done.report.height as u32);
    let picture = RgbaImage::from_f32_chw(&done.picture(0)?, width, height)?;
    write_png(&output, &picture.view(), &[])
}
"#;

/// Cargo in the folder of the crate.
fn cargo(folder: &Path, command: &str) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").expect("cargo sets CARGO"));
    cargo.args([command, "--offline", "--quiet"]).current_dir(folder);
    cargo
}

#[test]
fn it_builds_draws_and_takes_nothing_it_does_not_need() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("src")).unwrap();
    let workspace = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, profiles) = workspace.split_once("\n[profile.dev]\n").unwrap();
    let (profiles, _) = profiles.split_once("\n[profile.release]\n").unwrap();
    let manifest = MANIFEST.replace("ROOT", root().to_str().unwrap());
    std::fs::write(at("Cargo.toml"), format!("{manifest}\n[profile.dev]\n{profiles}")).unwrap();
    std::fs::write(at("src/main.rs"), PROGRAM).unwrap();
    std::fs::copy(root().join("Cargo.lock"), at("Cargo.lock")).unwrap();
    run(cargo(folder.path(), "build").arg("--target-dir").arg(target_folder()));
    let program = target_folder().join("debug/foreign");

    run(Command::new(&program).arg(bundled()).arg(at("apple.png")));
    let (picture, _) = read_png(at("apple.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (32, 32));
    let (first, rest) = picture.data().split_first_chunk::<4>().unwrap();
    assert!(rest.chunks(4).filter(|pixel| pixel != first).count() > 100, "a uniform picture");

    // Rust's own names are mangled: what begins with softdimo_ would be a function of the C ABI.
    let symbols = run(Command::new("nm").arg("--defined-only").arg(&program));
    let names: Vec<&str> = symbols.lines().filter_map(|line| line.rsplit(' ').next()).collect();
    assert!(names.iter().any(|name| name.contains("softdimo")), "{symbols}");
    let of_c: Vec<&&str> = names.iter().filter(|name| name.starts_with("softdimo_")).collect();
    assert!(of_c.is_empty(), "{of_c:?}");

    let tree = run(cargo(folder.path(), "tree").args(["--edges", "normal,build", "--prefix", "none"]));
    let packages: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(packages.contains(&"softdimo") && packages.contains(&"ort"), "{tree}");
    for unwanted in ["clap", "indicatif", "embedded-graphics", "cxx", "cxx-build", "cbindgen"] {
        assert!(!packages.contains(&unwanted), "{unwanted}: {tree}");
    }
}

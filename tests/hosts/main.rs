//! What is made for other languages and engines, in these: the generated declarations against the C compiler's sizes and
//! places, and the folders of `bindings/` in LÖVE, LuaJIT and the rest, put together as their READMEs say.
//! `cargo test -p libsoftdimo --test hosts -- --nocapture` shows what they print, the times of frames among it.

#![cfg(target_os = "linux")]

mod cross;
mod dist;
mod frames;
mod generated;
mod godot;
#[path = "../../bindings/c/languages/mod.rs"]
mod languages;
mod love;
mod mono;
mod python;
mod triton;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use softdimo::image::RgbaImage;
use softdimo::{Engine, Options, Request};
use support::built::{folder, library};
use support::process::run;
use support::{bundled, root, runtime};

static MACHINE: RwLock<()> = RwLock::new(());

/// Held by a test that others may run beside.
fn shared() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(|e| e.into_inner())
}

/// Held by a test that measures: no other of this program runs meanwhile.
fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(|e| e.into_inner())
}

/// A program of a host: `scripts/check-tools` says how to get it. It takes the library and the runtime that lie in its
/// folder, and no others. One that shows its error on a screen and waits is ended.
fn host(name: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-k", "10", "300", name]);
    command.env_remove("SOFTDIMO_LIBRARY").env_remove("SOFTDIMO_ORT_LIBRARY").env_remove("LD_LIBRARY_PATH");
    command.env("LC_ALL", "C.UTF-8");
    command
}

/// A program that shows a window: on a screen of its own, drawn by the CPU, on one thread.
fn on_screen(name: &str) -> Command {
    let mut command = host("xvfb-run");
    command.args(["-a", "-s", "-screen 0 640x480x24", name]);
    command.env("LP_NUM_THREADS", "1").env("SDL_AUDIODRIVER", "dummy");
    command
}

/// The folder that `make plugin-NAME` puts together, in a folder `test` of this test's own.
fn plugin(name: &str, test: &str) -> PathBuf {
    let folder = folder(test);
    run(Command::new("make")
        .arg(format!("plugin-{name}"))
        .arg(format!("PLUGINS={}", folder.display()))
        .arg(format!("BUILD={}", library().display()))
        .arg(format!("ORT={}", runtime().display()))
        .current_dir(root()));
    let folder = folder.join(name);
    // Whoever hands it on hands the licences on.
    let files = run(Command::new("find").arg(&folder).args(["-path", "*icences*", "-name", "crates.txt"]));
    assert_eq!(files.lines().count(), 1, "{files}");
    // Its README is there, and what that speaks of.
    let pages = run(Command::new("find").arg(&folder).args(["-name", "*.md", "-not", "-path", "*icences*"]));
    assert!(pages.lines().any(|page| page.ends_with("/README.md")), "{pages}");
    for page in pages.lines().map(Path::new) {
        let text = std::fs::read_to_string(page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            assert!(page.with_file_name(link).exists(), "{}: {link}", page.display());
        }
    }
    folder
}

/// Pictures of the bundled model by label and seed, as the library itself makes them.
struct Expected(Engine);

impl Expected {
    fn new() -> Expected {
        Expected(Engine::open(bundled(), Options::default()).unwrap())
    }

    fn picture(&self, label: &str, seed: u64) -> RgbaImage {
        let done = self.0.generate(&Request::label(label).with_seed(seed)).unwrap();
        RgbaImage::from_f32_chw(done.picture(0).unwrap(), 32, 32).unwrap()
    }
}

/// Whether pixels are the same, each channel within 1: a screen rounds.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.abs_diff(*b) <= 1)
}

/// The part of a picture.
fn part(of: &RgbaImage, x: usize, y: usize, width: usize, height: usize) -> Vec<u8> {
    let rows = of.data().chunks_exact(of.width() as usize * 4).skip(y).take(height);
    rows.flat_map(|row| &row[x * 4..(x + width) * 4]).copied().collect()
}

fn source(name: &str) -> PathBuf {
    root().join("tests/hosts").join(name)
}

/// The table of sizes and places that the C compiler has filled in.
fn abi() -> PathBuf {
    root().join("tests/capi/abi.txt")
}

/// Different colours of a picture.
fn colours(of: &RgbaImage) -> usize {
    of.data().chunks(4).collect::<std::collections::HashSet<_>>().len()
}

//! Paths that programs get wrong: of every script, longer than old limits, and names that are no files.

use std::path::{Path, PathBuf};

use softdimo::image::{ImageView, Origin, PixelFormat, read_png, write_png};
use softdimo::{Engine, Options, Request, WeightsMode};
use support::bundled;

/// A folder of this name below another, and the bundled model in it.
fn model_in(folder: PathBuf) -> PathBuf {
    std::fs::create_dir_all(&folder).unwrap();
    let model = folder.join("мо́дель-模型-🍎.safetensors");
    std::fs::copy(bundled(), &model).unwrap();
    model
}

/// Opens the model in every way, makes a picture and writes it beside the model.
fn is_used(model: &Path) {
    for weights in [WeightsMode::Map, WeightsMode::MapGuarded, WeightsMode::Read] {
        let engine = Engine::open(model, Options { weights, threads: 1, ..Options::default() }).unwrap();
        engine.generate(&Request::label("rocket").with_seed(1)).unwrap();
        let picture = model.with_file_name("картина.png");
        let (format, origin, data) = (PixelFormat::Rgb8, Origin::TopLeft, &[7; 12][..]);
        let view = ImageView { width: 2, height: 2, stride: 0, format, origin, data };
        write_png(&picture, &view, &[]).unwrap();
        assert_eq!(read_png(&picture).unwrap().0.width(), 2);
        drop(engine);
        let missing = model.with_extension("нет");
        let error = Engine::open(&missing, Options::default()).unwrap_err().to_string();
        assert!(error.contains(&format!("'{}'", missing.display())), "{error}");
    }
}

#[test]
fn paths_may_be_of_every_script_and_long() {
    let dir = tempfile::tempdir().unwrap();
    is_used(&model_in(dir.path().join("Папка с пробелом")));
    let mut long = dir.path().to_path_buf();
    (0..4).for_each(|_| long.push("длинное".repeat(15)));
    assert!(long.to_str().unwrap().chars().count() > 400);
    is_used(&model_in(long));
}

#[test]
fn what_is_no_file_is_named_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let devices: &[&str] = if cfg!(windows) { &["NUL", "nul", r"\\.\NUL"] } else { &["/dev/null"] };
    let found = |path: &Path| Engine::open(path, Options::default()).unwrap_err().to_string();
    for device in devices {
        let error = found(Path::new(device));
        assert!(error.contains("expected a regular file, found a device, pipe or socket"), "{error}");
    }
    assert!(found(dir.path()).contains("expected a "), "{}", found(dir.path()));
}

/// Names that Windows keeps for something else.
#[cfg(windows)]
#[test]
fn outputs_have_names_that_windows_takes() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["CON", "aux.png", "nul.png", "COM1", "a.png:b", "a?.png", "a.png.", "a.png "] {
        let error =
            softdimo::atomic_file::check("--output x", &dir.path().join(name)).unwrap_err().to_string();
        assert!(error.starts_with("--output x: expected a file name that Windows takes, found "), "{error}");
        let error = Engine::open(dir.path().join(name), Options::default()).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    softdimo::atomic_file::check("--output x", &dir.path().join("a.png")).unwrap();
}

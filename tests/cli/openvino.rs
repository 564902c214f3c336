//! OpenVINO's plug-in: where it is looked for, and what is said of one that is missing or broken. Programs of their own: what a
//! process has registered stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::root;

const PLUGIN: &str = "libonnxruntime_providers_openvino_plugin.so";
const KERNELS: &str = "libopenvino_intel_cpu_plugin.so";

/// The plug-in of `make tools`.
fn folder() -> PathBuf {
    let file = std::env::var_os("SOFTDIMO_OPENVINO_LIBRARY").expect("cargo sets SOFTDIMO_OPENVINO_LIBRARY");
    let file = root().join(file);
    assert!(file.is_file(), "{} is not there: run `make tools`", file.display());
    file.parent().unwrap().to_path_buf()
}

/// `softdimo generate` with a plug-in that the environment names, or none, and ONNX Runtime from there.
fn generate(plugin: Option<&Path>, runtime: &Path, out: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_softdimo"));
    command.args(["generate", "--label", "rocket", "--provider", "openvino", "-o"]).arg(out);
    command.env_remove("SOFTDIMO_OPENVINO_LIBRARY").env("SOFTDIMO_ORT_LIBRARY", runtime);
    plugin.map(|plugin| command.env("SOFTDIMO_OPENVINO_LIBRARY", plugin));
    command.current_dir(root()).output().unwrap()
}

#[test]
fn the_plug_in_is_named_or_beside_onnx_runtime() {
    let work = tempfile::tempdir().unwrap();
    let (out, runtime) = (work.path().join("x.png"), work.path().join("libonnxruntime.so"));
    fs::copy(support::runtime(), &runtime).unwrap();
    let makes_a_picture = |plugin: Option<&Path>| {
        let output = generate(plugin, &runtime, &out);
        // Nothing is printed but the program's one line about the file.
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        if let Some(vendor) = support::foreign_to_openvino() {
            assert!(text.contains("expected a processor of Intel's") && text.contains(&vendor), "{text}");
            return;
        }
        let lines: Vec<&str> = text.lines().collect();
        assert!(output.status.success() && output.stdout.is_empty(), "{text}");
        assert!(matches!(lines[..], [line] if line.ends_with("x.png (256x256)")), "{text}");
        fs::remove_file(&out).unwrap();
    };
    makes_a_picture(Some(&folder().join(PLUGIN)));
    let beside = work.path().join("openvino");
    std::os::unix::fs::symlink(folder(), &beside).unwrap();
    makes_a_picture(None);
    fs::remove_file(&beside).unwrap();
    std::os::unix::fs::symlink(folder().join(PLUGIN), work.path().join(PLUGIN)).unwrap();
    makes_a_picture(None);
}

#[test]
fn a_plug_in_that_is_missing_or_broken_is_named() {
    let work = tempfile::tempdir().unwrap();
    let out = work.path().join("x.png");
    let says = |plugin: Option<&Path>| {
        let output = generate(plugin, &support::runtime(), &out);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains("execution provider 'openvino' is not usable") && text.lines().count() == 1,
            "{text}"
        );
        assert!(!out.exists());
        text
    };
    let contains = |text: String, words: &[&str]| {
        words.iter().for_each(|word| assert!(text.contains(word), "no '{word}' in: {text}"));
    };
    contains(says(None), &[PLUGIN, "openvino/lib", "onnxruntime-ep-openvino", "SOFTDIMO_OPENVINO_LIBRARY"]);
    let nowhere = Path::new("/nowhere/plugin.so");
    contains(says(Some(nowhere)), &["'/nowhere/plugin.so' not found: expected OpenVINO's plug-in"]);
    contains(says(Some(work.path())), &["expected a regular file, found a directory"]);

    // A folder of links to all of it, of which some are replaced.
    let link = |name: &str| {
        let path = work.path().join(name);
        let _ = fs::remove_file(&path);
        std::os::unix::fs::symlink(folder().join(name), &path).unwrap();
        path
    };
    let replace = |name: &str, bytes: &[u8]| {
        let _ = fs::remove_file(work.path().join(name));
        fs::write(work.path().join(name), bytes).unwrap();
    };
    let names: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains(".so"))
        .collect();
    assert!(names.len() >= 5, "{names:?}");
    // The plug-in is a copy: of a link, what lies beside the file counts.
    let whole = fs::read(folder().join(PLUGIN)).unwrap();
    names.iter().for_each(|name| drop(link(name)));
    let plugin = work.path().join(PLUGIN);
    replace(PLUGIN, &whole[..whole.len() / 2]);
    contains(says(Some(&plugin)), &[PLUGIN, "cut short"]);
    replace(PLUGIN, b"a text");
    contains(says(Some(&plugin)), &[PLUGIN, "expected an ELF"]);
    replace(PLUGIN, &whole);
    fs::remove_file(work.path().join(KERNELS)).unwrap();
    contains(says(Some(&plugin)), &[KERNELS, "No such file"]);
    link(KERNELS);
    for name in names.iter().filter(|name| *name != PLUGIN) {
        let bytes = fs::read(folder().join(name)).unwrap();
        replace(name, &bytes[..bytes.len() / 3]);
        contains(says(Some(&plugin)), &[name, "cut short"]);
        link(name);
    }
    // Another library under the plug-in's name.
    replace(PLUGIN, &fs::read(folder().join("libtbb.so.12")).unwrap());
    contains(says(Some(&plugin)), &[PLUGIN]);
    // And as it was it works.
    replace(PLUGIN, &whole);
    let works = generate(Some(&plugin), &support::runtime(), &out).status.success();
    assert_eq!(works, support::foreign_to_openvino().is_none());
}

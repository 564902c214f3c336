//! `bindings/python` in Python.

use softdimo::image::read_png;
use support::bundled;
use support::process::run;

use super::*;

#[test]
fn python() {
    let _machine = shared();
    let package = plugin("python", "python");
    let (pixels, png) = (package.join("pixels"), package.join("apple.png"));
    let said = run(host("python3")
        .args(["-B", "-X", "dev"])
        .arg(source("python/api.py"))
        .arg(bundled())
        .arg(&pixels)
        .arg(&png)
        .env("PYTHONPATH", &package));
    assert_eq!(said, "ok\n");
    let expected = Expected::new().picture("red apple", 7);
    assert_eq!(std::fs::read(pixels).unwrap(), expected.data());
    let (picture, text) = read_png(png).unwrap();
    assert_eq!(picture.data(), expected.data());
    assert_eq!(text, [("Title".to_string(), "an apple".to_string())]);
}

#[test]
fn python_finds_no_library() {
    let output = host("python3")
        .args(["-B", "-c", "import softdimo"])
        .env("PYTHONPATH", root().join("bindings/python"))
        .env("SOFTDIMO_LIBRARY", "/nowhere/libsoftdimo.so")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("ImportError: expected libsoftdimo.so at") && said.contains("/nowhere/libsoftdimo.so"),
        "{said}"
    );
}

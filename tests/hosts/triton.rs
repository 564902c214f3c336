//! `bindings/triton` in Triton Inference Server: `make test-triton`.

use support::alpha;

use super::*;

/// Downloads the server once, 55 MB; `tests/triton` says what is tested.
#[test]
#[ignore = "needs PyPI: make test-triton"]
fn triton() {
    let _machine = shared();
    let folder = folder("triton");
    run(Command::new("make")
        .arg("triton")
        .arg(format!("TRITON={}", folder.display()))
        .arg(format!("BUILD={}", library().display()))
        .arg(format!("ORT={}", runtime().display()))
        .current_dir(root()));
    let models = folder.join("fixtures");
    std::fs::create_dir(&models).unwrap();
    let prompts = alpha::maskgen_model(&models);
    let status = Command::new(root().join("tests/triton/run"))
        .arg(&folder)
        .arg(library().join("softdimo"))
        .arg(prompts)
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

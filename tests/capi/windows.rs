//! What only Windows has: DLLs that come and go, and what a host there may have changed.

use support::built::{folder, place};
use support::maskbit;
use support::platform::platform;

use super::left_out::of_windows;
use super::programs::{program, run};

/// ONNX Runtime lies beside the DLL, and neither beside the program nor where the system looks.
#[test]
fn plugin_windows() {
    if !of_windows("plugin_windows") {
        return;
    }
    let folder = folder("plugin_windows");
    place(&folder);
    std::fs::copy(platform().runtime(), folder.join(platform().runtime)).unwrap();
    let dll = format!("Z:{}", folder.join(platform().shared).display()).replace('/', "\\");
    let mut command = program("plugin_windows");
    run(command
        .arg(maskbit::labelled(&folder))
        .arg(dll)
        .env_remove("SOFTDIMO_ORT_LIBRARY")
        .env_remove("WINEPATH"));
}

#[test]
fn hygiene_windows() {
    if !of_windows("hygiene_windows") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    run(program("hygiene_windows").arg(maskbit::labelled(folder.path())));
}

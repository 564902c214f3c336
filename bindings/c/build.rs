//! Link options of the shared library: a SONAME (Cargo sets none) and `-z nodelete`, since a Rust library
//! with thread-locals must not be unmapped.

use std::process::Command;

const ABI_VERSION: &str = "../../scripts/abi-version";

/// The version of the ABI, which the SONAME ends with.
fn abi() -> String {
    let version = std::env::var("CARGO_PKG_VERSION").expect("cargo sets CARGO_PKG_VERSION");
    let output = Command::new("sh").args([ABI_VERSION, &version]).output().expect("sh runs");
    assert!(output.status.success(), "{ABI_VERSION}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a version").trim().to_string()
}

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={ABI_VERSION}");
    let os = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    match os.as_str() {
        "linux" | "android" | "freebsd" => {
            let abi = abi();
            println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libsoftdimo.so.{abi}");
            println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
        }
        "macos" | "ios" => {
            let abi = abi();
            println!("cargo:rustc-cdylib-link-arg=-Wl,-install_name,@rpath/libsoftdimo.{abi}.dylib");
        }
        _ => {}
    }
}

//! Link options of the shared library: a SONAME (Cargo sets none) and `-z nodelete`, since a Rust library
//! with thread-locals must not be unmapped.

mod abi;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=abi.rs");
    let version = std::env::var("CARGO_PKG_VERSION").expect("cargo sets CARGO_PKG_VERSION");
    let abi = abi::abi(&version).expect("cargo's versions are MAJOR.MINOR.PATCH");
    match std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default().as_str() {
        "linux" | "android" | "freebsd" => {
            println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libsoftdimo.so.{abi}");
            println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
        }
        "macos" | "ios" => {
            println!("cargo:rustc-cdylib-link-arg=-Wl,-install_name,@rpath/libsoftdimo.{abi}.dylib");
        }
        _ => {}
    }
}

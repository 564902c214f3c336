//! Link options of the shared library: a SONAME (Cargo sets none) and `-z nodelete`, since a Rust library
//! with thread-locals must not be unmapped. A DLL has no version in its name, and gets it as a resource.

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
        "windows" => {
            // The version is told by `softdimo_abi_version` too: without the compiler of resources a library can be built.
            if let Err(e) = version_resource() {
                println!("cargo:warning=softdimo.dll gets no version resource: {e}");
            }
        }
        _ => {}
    }
}

/// `winver.h`'s number of a DLL among the types of files.
const VFT_DLL: u64 = 2;

/// What the Properties of the DLL show on Windows, and what installers compare.
fn version_resource() -> std::io::Result<()> {
    let mut resource = winresource::WindowsResource::new();
    resource.set("FileDescription", "Pictures in process").set("ProductName", "libsoftdimo");
    resource.set("OriginalFilename", "softdimo.dll").set("InternalName", "softdimo");
    resource.set("LegalCopyright", "MIT OR Apache-2.0");
    resource.set_version_info(winresource::VersionInfo::FILETYPE, VFT_DLL);
    resource.compile()
}

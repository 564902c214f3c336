//! Generate the bridge with the `cxx` release this crate depends on and compile its C++ side into the static
//! library. The headers are then under `<target folder>/cxxbridge`.

fn main() {
    println!("cargo:rerun-if-changed=src/lib.rs");
    cxx_build::bridge("src/lib.rs").std("c++17").compile("softdimo-cxx-bridge");
}

//! `include/softdimo.h` is what `bindings/c/header.rs` makes of the sources of the C ABI;
//! `BLESS=1 cargo test -p libsoftdimo header_is_up_to_date` rewrites it.

use std::path::Path;

#[path = "../../bindings/c/header.rs"]
mod generate;

#[test]
fn header_is_up_to_date() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(support::root().join("README.md")).unwrap();
    let text = generate::header(package, &readme);
    let path = support::root().join("include/softdimo.h");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == checked_in,
        "include/softdimo.h is not what bindings/c/src says: run BLESS=1 cargo test -p libsoftdimo header_is_up_to_date"
    );
}

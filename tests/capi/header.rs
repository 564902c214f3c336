//! `include/softdimo.h` is what cbindgen makes of `bindings/c/src` says; `BLESS=1 cargo test --test capi header` rewrites it.

use std::path::Path;

#[test]
fn header_is_up_to_date() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(package.join("cbindgen.toml")).unwrap();
    let files = ["lib.rs", "engine.rs", "request.rs", "picture.rs", "job.rs", "reward.rs"];
    let sources = files.iter().fold(cbindgen::Builder::new().with_config(config), |builder, file| {
        builder.with_src(package.join("src").join(file))
    });
    let bindings = sources.generate().expect("cbindgen reads bindings/c/src");
    let mut text = Vec::new();
    bindings.write(&mut text);
    let text = String::from_utf8(text).unwrap();
    let path = support::root().join("include/softdimo.h");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == checked_in,
        "include/softdimo.h is not what bindings/c/src says: run BLESS=1 cargo test --test capi header"
    );
}

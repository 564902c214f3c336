//! `include/softdimo.h` is what cbindgen makes of `src/capi.rs` and `src/capi/`; `BLESS=1 cargo test --test header` rewrites it.

use std::path::Path;

#[test]
fn header_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    let files =
        ["capi.rs", "capi/engine.rs", "capi/request.rs", "capi/picture.rs", "capi/job.rs", "capi/reward.rs"];
    let sources = files.iter().fold(cbindgen::Builder::new().with_config(config), |builder, file| {
        builder.with_src(root.join("src").join(file))
    });
    let bindings = sources.generate().expect("cbindgen reads src/capi.rs");
    let mut text = Vec::new();
    bindings.write(&mut text);
    let text = String::from_utf8(text).unwrap();
    let path = root.join("include/softdimo.h");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        text == checked_in,
        "include/softdimo.h is not what src/capi.rs says: run BLESS=1 cargo test --test header"
    );
}

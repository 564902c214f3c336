//! cargo and make name the shared library by one rule.

use std::process::Command;

use support::root;

#[path = "../../bindings/c/abi.rs"]
mod rule;

#[test]
fn build_script_and_make_agree_on_the_abi() {
    let script = |version: &str| {
        let output = Command::new(root().join("scripts/abi-version")).arg(version).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_string())
    };
    for (version, expected) in [
        ("0.1.0", Some("0.1")),
        ("0.12.3", Some("0.12")),
        ("0.0.0", Some("0.0")),
        ("1.2.3", Some("1")),
        ("10.0.0", Some("10")),
        ("1.0.0-rc.1", Some("1")),
        ("0.3.0-alpha+build.7", Some("0.3")),
        ("2.0.0+build-7.x", Some("2")),
        ("", None),
        ("1", None),
        ("1.2", None),
        ("1.2.3.4", None),
        ("1foo.2.3", None),
        ("0.x.1", None),
        ("0.1.y", None),
        ("01.2.3", None),
        ("0.01.3", None),
        ("0.1.03", None),
        ("1..3", None),
        (".1.2", None),
        ("1.2.", None),
        ("v1.2.3", None),
        ("-1.2.3", None),
    ] {
        assert_eq!(rule::abi(version).as_deref(), expected, "bindings/c/abi.rs of '{version}'");
        assert_eq!(script(version).as_deref(), expected, "scripts/abi-version of '{version}'");
    }
}

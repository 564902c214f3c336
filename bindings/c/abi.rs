//! The rule of the ABI's version, shared by `build.rs` and the test that holds `scripts/abi-version` to it.

/// The version of the ABI, with which the SONAME ends: of 0.x.y it is 0.x, from 1.0.0 on the major version alone. `None`
/// where `version` is not MAJOR.MINOR.PATCH; what follows a hyphen or a plus there is not looked at.
pub fn abi(version: &str) -> Option<String> {
    let core = version.split(['-', '+']).next()?;
    let numbers: Vec<&str> = core.split('.').collect();
    let is_number = |n: &&str| {
        n.bytes().all(|b| b.is_ascii_digit()) && (*n == "0" || !n.starts_with('0')) && !n.is_empty()
    };
    match numbers[..] {
        [major, minor, _] if numbers.iter().all(is_number) => Some(match major {
            "0" => format!("0.{minor}"),
            _ => major.into(),
        }),
        _ => None,
    }
}

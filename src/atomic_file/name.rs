//! Names that Windows takes for something else than a file.

use std::ffi::OsStr;

/// Names of devices, in every folder, with any ending.
const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];

/// What Windows would take a file's name for, or not take at all. Those of devices are files in Windows 11 where they have
/// an ending, and are refused there as well: a file of such a name could not be handed on.
pub(super) fn not_for_windows(name: &OsStr) -> Option<&'static str> {
    let name = name.to_string_lossy();
    let stem = name.split(['.', ':']).next().unwrap_or("").trim_end().to_uppercase();
    let numbered = ["COM", "LPT"].iter().find_map(|device| stem.strip_prefix(device));
    let is_number =
        |n: &str| matches!(n, "¹" | "²" | "³") || (n.len() == 1 && n.as_bytes()[0].is_ascii_digit());
    match () {
        _ if DEVICES.contains(&stem.as_str()) || numbered.is_some_and(is_number) => Some("a device's"),
        _ if name.contains(':') => Some("a stream's, with a colon"),
        _ if name.contains(['<', '>', '"', '|', '?', '*']) || name.chars().any(|c| c < ' ') => {
            Some("one with <, >, \", |, ?, * or a control character")
        }
        _ if name.ends_with(['.', ' ']) => Some("one that ends with a dot or a space"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices_and_streams_are_known() {
        let found = |name: &str| not_for_windows(OsStr::new(name)).unwrap_or("");
        for name in ["CON", "nul", "aux.png", "Com1.safetensors", "LPT³", "con .x", "NUL:stream", "CONOUT$"]
        {
            assert_eq!(found(name), "a device's", "{name}");
        }
        assert_eq!(found("a.png:b"), "a stream's, with a colon");
        for name in ["a?", "a*b", "\"a\"", "a|b", "<a>", "a\u{7}b"] {
            assert!(found(name).starts_with("one with <"), "{name}");
        }
        for name in ["a.", "a ", "a. ."] {
            assert_eq!(found(name), "one that ends with a dot or a space", "{name}");
        }
        for name in
            ["a", "a.png", "console.png", "COM", "COM12", "com.png", "мо́дель-模型.safetensors", ".a b.c"]
        {
            assert_eq!(found(name), "", "{name}");
        }
    }
}

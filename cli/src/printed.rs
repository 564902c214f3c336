//! Text of files on a terminal.

use std::borrow::Cow;

/// `text` with escapes for what a terminal would obey: control characters, but for line feeds and tabs, and those that
/// turn the direction of writing round.
pub fn printed(text: &str) -> Cow<'_, str> {
    let obeyed = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(obeyed) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match obeyed(c) {
            true => escaped.extend(c.escape_default()),
            false => escaped.push(c),
        }
    }
    escaped.into()
}

/// The same of what stands on a line of its own, and may not begin another.
pub fn line(text: &str) -> Cow<'_, str> {
    match text.contains(['\n', '\t']) {
        true => printed(text).replace('\n', "\\n").replace('\t', "\\t").into(),
        false => printed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::{line, printed};

    #[test]
    fn terminals_are_not_told_what_to_do() {
        assert_eq!(printed("red \"apple\"\n\té 猫 🐈"), "red \"apple\"\n\té 猫 🐈");
        assert_eq!(line("a\nsha256\tb\u{1b}"), "a\\nsha256\\tb\\u{1b}");
        assert_eq!(printed("a\u{1b}[2J\r\u{9b}2J\u{202e}b"), "a\\u{1b}[2J\\r\\u{9b}2J\\u{202e}b");
    }
}

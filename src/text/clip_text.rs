//! What CLIP's tokenizers do before the byte-pair encoding: cleaning, and splitting into words.

use std::collections::HashMap;
use std::sync::LazyLock;

use entities::ENTITIES;
use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

use super::Flavor;

/// ftfy repeats its fixes until none applies; text escaped more often than this stays escaped.
const MAX_PASSES: usize = 16;

/// Named references with their `&`, most with `;`, some of old also without.
static NAMED: LazyLock<HashMap<&str, &str>> =
    LazyLock::new(|| ENTITIES.iter().map(|entity| (entity.entity, entity.characters)).collect());

/// What bytes 0x80 to 0x9F are in Windows-1252; the five it leaves out stay control characters.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8D}', 'Ž', '\u{8F}', '\u{90}',
    '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9D}', 'ž', 'Ÿ',
];

/// `NFC → lower case`; white space is left to [`pieces`], which skips it.
pub(super) fn clean_hugging_face(text: &str) -> String {
    text.nfc().flat_map(char::to_lowercase).collect()
}

/// `ftfy.fix_text → html.unescape twice → strip → collapse white space → lower case`.
pub(super) fn clean_open_clip(text: &str) -> String {
    let text = unescape_html(&unescape_html(&fix_text(text)));
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// `ftfy.fix_text` 6.3 without its repair of mojibake.
///
/// From the first line with a `<` on the text may be HTML source, whose escapes mean what they say.
fn fix_text(text: &str) -> String {
    let source = text.find('<').map(|at| text[..at].rfind('\n').map_or(0, |end| end + 1));
    let (plain, source) = text.split_at(source.unwrap_or(text.len()));
    fix_lines(plain, true) + &fix_lines(source, false)
}

fn fix_lines(text: &str, entities: bool) -> String {
    let mut text = text.to_string();
    for _ in 0..MAX_PASSES {
        let mut fixed = if entities { unescape_entities(&text) } else { text.clone() };
        fixed = fixed.chars().fold(String::with_capacity(fixed.len()), |mut out, c| {
            push_fixed(c, &mut out);
            out
        });
        fixed = remove_controls(&fixed).nfc().collect();
        if fixed == text {
            break;
        }
        text = fixed;
    }
    text
}

/// C1 controls, Latin ligatures, full-width and half-width forms, curly quotes, line breaks.
fn push_fixed(c: char, out: &mut String) {
    match c {
        '\u{80}'..='\u{9F}' => out.push(WINDOWS_1252[c as usize - 0x80]),
        'Ĳ' => out.push_str("IJ"),
        'ĳ' => out.push_str("ij"),
        'ŉ' => out.push_str("'n"),
        'Ǳ' => out.push_str("DZ"),
        'ǲ' => out.push_str("Dz"),
        'ǳ' => out.push_str("dz"),
        'Ǆ' => out.push_str("DŽ"),
        'ǅ' => out.push_str("Dž"),
        'ǆ' => out.push_str("dž"),
        'Ǉ' => out.push_str("LJ"),
        'ǈ' => out.push_str("Lj"),
        'ǉ' => out.push_str("lj"),
        'Ǌ' => out.push_str("NJ"),
        'ǋ' => out.push_str("Nj"),
        'ǌ' => out.push_str("nj"),
        'ﬀ' => out.push_str("ff"),
        'ﬁ' => out.push_str("fi"),
        'ﬂ' => out.push_str("fl"),
        'ﬃ' => out.push_str("ffi"),
        'ﬄ' => out.push_str("ffl"),
        'ﬅ' => out.push_str("ſt"),
        'ﬆ' => out.push_str("st"),
        '\u{3000}' => out.push(' '),
        '\u{FF01}'..='\u{FFEF}' => out.extend([c].into_iter().nfkc()),
        '\u{2BC}' | '\u{2018}'..='\u{201B}' => out.push('\''),
        '\u{201C}'..='\u{201F}' => out.push('"'),
        '\r' | '\u{2028}' | '\u{2029}' => out.push('\n'),
        _ => out.push(c),
    }
}

/// Removes terminal escapes (`ESC [ digits and semicolons, letter`) and the control characters ftfy removes.
fn remove_controls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            '\u{1B}' => strip_escape(after).unwrap_or(after),
            '\0'..='\u{8}' | '\u{B}' | '\u{E}'..='\u{1F}' | '\u{7F}' => after,
            '\u{206A}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFC}' => after,
            _ => {
                out.push(c);
                after
            }
        };
    }
    out
}

/// What follows the terminal escape whose ESC stands before `text`.
fn strip_escape(text: &str) -> Option<&str> {
    let parameters = text.strip_prefix('[')?;
    let command = parameters.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
    command.strip_prefix(|c: char| c.is_ascii_alphabetic())
}

/// Replaces what `reference` reads after an `&`: the replacement and the bytes it stands for, `&` included.
fn replace_references(text: &str, reference: impl Fn(&str) -> Option<(String, usize)>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (replacement, len) = reference(rest).unwrap_or_else(|| ("&".to_string(), 1));
        out.push_str(&replacement);
        rest = &rest[len..];
    }
    out + rest
}

/// `ftfy.fixes.unescape_html`: only references that end in `;`, and all-capitals names of letters.
fn unescape_entities(text: &str) -> String {
    replace_references(text, |text| {
        let body = text[1..].strip_prefix('#').unwrap_or(&text[1..]);
        let len = body.bytes().take(25).take_while(u8::is_ascii_alphanumeric).count();
        if !(1..=24).contains(&len) || !body[len..].starts_with(';') {
            return None;
        }
        let len = text.len() - body.len() + len + 1;
        let name = &text[..len];
        if let Some(&characters) = NAMED.get(name) {
            return Some((characters.to_string(), len));
        }
        let value = unescape_html(name);
        let value = match name.as_bytes()[1] {
            b'#' => Some(value).filter(|value| !value.contains(';')),
            _ if value == name && name == name.to_ascii_uppercase() => {
                NAMED.get(&*name.to_ascii_lowercase()).map(|characters| characters.to_uppercase())
            }
            _ => None,
        };
        value.map(|value| (value, len))
    })
}

/// Python's `html.unescape`: HTML 5's rules, so that `&ampx` is `&x`.
fn unescape_html(text: &str) -> String {
    replace_references(text, |text| match text[1..].strip_prefix('#') {
        Some(number) => numeric_reference(number).map(|(value, len)| (value, len + 2)),
        None => named_reference(text),
    })
}

/// The reference at the start of `text`, `&` included; the longest name that is known.
fn named_reference(text: &str) -> Option<(String, usize)> {
    let stop = |&(_, c): &(usize, char)| !matches!(c, '\t' | '\n' | '\x0C' | ' ' | '<' | '&' | '#' | ';');
    let ends = || text.char_indices().skip(1).take(32).take_while(stop).map(|(at, c)| at + c.len_utf8());
    let end = ends().last()?;
    let whole = if text[end..].starts_with(';') { end + 1 } else { end };
    if let Some(characters) = NAMED.get(&text[..whole]) {
        return Some((characters.to_string(), whole));
    }
    let mut known = ends().filter_map(|end| Some((NAMED.get(&text[..end])?.to_string(), end)));
    let first = known.next()?;
    Some(known.last().unwrap_or(first))
}

/// The reference whose `&#` stands before `text`.
fn numeric_reference(text: &str) -> Option<(String, usize)> {
    let (radix, digits) = match text.strip_prefix(['x', 'X']) {
        Some(digits) => (16, digits),
        None => (10, text),
    };
    let count = digits.bytes().take_while(|byte| char::from(*byte).is_digit(radix)).count();
    if count == 0 {
        return None;
    }
    let value = digits.bytes().take(count).filter_map(|byte| char::from(byte).to_digit(radix));
    let value = value.fold(0u32, |n, digit| n.saturating_mul(radix).saturating_add(digit));
    let mut len = text.len() - digits.len() + count;
    if digits[count..].starts_with(';') {
        len += 1;
    }
    let text = match value {
        0 => "\u{FFFD}".to_string(),
        0x80..=0x9F => WINDOWS_1252[value as usize - 0x80].to_string(),
        // Control characters and non-characters vanish, a carriage return does not.
        0x1..=0x8 | 0xB | 0xE..=0x1F | 0x7F | 0xFDD0..=0xFDEF => String::new(),
        _ if value <= 0x10FFFF && value & 0xFFFE == 0xFFFE => String::new(),
        _ => char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER).to_string(),
    };
    Some((text, len))
}

/// What the byte-pair encoding works on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    Start,
    End,
    Word(&'a str),
}

/// Splits a cleaned text: specials, `'s 't 're 've 'm 'll 'd`, runs of letters, single digits, runs of others.
///
/// open_clip looks for specials where a piece may begin, so one behind other punctuation is not found; Hugging
/// Face looks everywhere first.
pub(super) fn pieces(text: &str, flavor: Flavor) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        let (piece, len) = match special(rest, flavor) {
            Some(found) => found,
            None => {
                let len = word_len(rest, flavor)?;
                (Piece::Word(&rest[..len]), len)
            }
        };
        rest = &rest[len..];
        Some(piece)
    })
}

fn special(text: &str, flavor: Flavor) -> Option<(Piece<'_>, usize)> {
    let (start, end) = match flavor {
        Flavor::OpenClip => ("<start_of_text>", "<end_of_text>"),
        Flavor::HuggingFace => ("<|startoftext|>", "<|endoftext|>"),
    };
    if text.starts_with(start) {
        return Some((Piece::Start, start.len()));
    }
    if text.starts_with(end) {
        return Some((Piece::End, end.len()));
    }
    if flavor == Flavor::OpenClip {
        // The pattern ignores case, and 'ſ' is an 's' to it; but then it is not the special's text.
        let len = prefix_len(text, start, flavor)?;
        return Some((Piece::Word(&text[..len]), len));
    }
    None
}

/// Length of the word at the start of `text`, which does not start with white space; `None` at the end.
fn word_len(text: &str, flavor: Flavor) -> Option<usize> {
    let contraction = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];
    if let Some(len) = contraction.iter().find_map(|word| prefix_len(text, word, flavor)) {
        return Some(len);
    }
    let first = text.chars().next()?;
    let run = |class: Class| {
        let end = text.char_indices().find(|&(at, c)| {
            Class::of(c) != class
                || (flavor == Flavor::HuggingFace && at > 0 && special(&text[at..], flavor).is_some())
        });
        end.map_or(text.len(), |(at, _)| at)
    };
    Some(match Class::of(first) {
        Class::Number => first.len_utf8(),
        class => run(class),
    })
}

/// Bytes of `text` that `pattern` (ASCII, lower case) matches.
fn prefix_len(text: &str, pattern: &str, flavor: Flavor) -> Option<usize> {
    let mut chars = text.chars();
    for expected in pattern.chars() {
        let c = chars.next()?;
        if c != expected && !(flavor == Flavor::OpenClip && expected == 's' && c == 'ſ') {
            return None;
        }
    }
    Some(text.len() - chars.as_str().len())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Number,
    Space,
    Other,
}

impl Class {
    fn of(c: char) -> Class {
        match c.general_category_group() {
            GeneralCategoryGroup::Letter => Class::Letter,
            GeneralCategoryGroup::Number => Class::Number,
            _ if c.is_whitespace() => Class::Space,
            _ => Class::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_references_follow_python() {
        for (text, expected) in [
            ("&amp;amp; &ampx &notit; &notin; &nosuch; & &;", "&amp; &x ¬it; ∉ &nosuch; & &;"),
            ("&#39;&#x41 &#X1F600;&#; &#x;&#0;&#128;&#xD800;", "'A 😀&#; &#x;\u{FFFD}€\u{FFFD}"),
            ("&#1;&#xFFFE;&#99999999999999999999;&#13;", "\u{FFFD}\r"),
        ] {
            assert_eq!(unescape_html(text), expected);
        }
    }

    #[test]
    fn fixes_follow_ftfy() {
        for (text, expected) in [
            ("&amp;amp;amp;quot; &EACUTE; &nTILDE; &#59; &ampx", "\" É &nTILDE; &#59; &ampx"),
            ("a &lt;\nb <i> &lt;", "a <\nb <i> &lt;"),
            ("“ﬁ” ŉ Ａｶﾞ\u{3000}\u{85}", "\"fi\" 'n Aガ …"),
            ("\u{1B}[31mred\u{1B}[0m \u{1B}x\0\u{FEFF}", "red x"),
        ] {
            assert_eq!(fix_text(text), expected, "{text:?}");
        }
    }

    #[test]
    fn words_split_as_the_patterns_do() {
        let words = |text, flavor| {
            let name = |piece| match piece {
                Piece::Start => "START",
                Piece::End => "END",
                Piece::Word(word) => word,
            };
            pieces(text, flavor).map(name).collect::<Vec<_>>()
        };
        let text = "it's 12 'ſ !'s <end_of_text>! !<end_of_text> <|endoftext|>!<|startoftext|>";
        assert_eq!(
            words(text, Flavor::OpenClip).join(" "),
            "it 's 1 2 'ſ !' s END ! !< end _ of _ text > <| endoftext |>!<| startoftext |>"
        );
        assert_eq!(
            words(text, Flavor::HuggingFace).join(" "),
            "it 's 1 2 ' ſ !' s < end _ of _ text >! !< end _ of _ text > END ! START"
        );
        assert_eq!(words("<ſtart_of_text>", Flavor::OpenClip), ["<ſtart_of_text>"]);
    }
}

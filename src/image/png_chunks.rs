//! The chunks of a PNG, walked before a decoder sees them: what it takes for granted about them is checked here.

use std::fmt::Display;

/// What every PNG starts with.
pub(super) const SIGNATURE: [u8; 8] = [137, 80, 78, 71, 13, 10, 26, 10];
/// Longest chunk that PNG allows.
const LONGEST: u32 = (1 << 31) - 1;
/// Most chunks of a file: a picture of [`super::MAX_PIXELS`] in pieces of 8 KiB has half as many.
const MOST: usize = 1 << 16;

/// A broken rule: of what, expected, found.
pub(super) struct Broken {
    pub what: String,
    pub expected: String,
    pub found: String,
}

fn broken(what: impl Display, expected: impl Display, found: impl Display) -> Broken {
    Broken {
        what: format!("PNG {what}").trim_end().into(),
        expected: expected.to_string(),
        found: found.to_string(),
    }
}

/// IHDR's field that says how samples are coloured.
const GRAY: u8 = 0;
const RGB: u8 = 2;
const INDEXED: u8 = 3;
const GRAY_ALPHA: u8 = 4;
const RGBA: u8 = 6;

/// Checks the signature, the lengths and the order of the chunks, the header's values, and the lengths of palettes and
/// transparency. Checksums and what is inside of the rest are the decoder's.
pub(super) fn check(bytes: &[u8]) -> Result<(), Broken> {
    let Some(mut rest) = bytes.strip_prefix(&SIGNATURE) else {
        let start = &bytes[..bytes.len().min(8)];
        return Err(broken("signature", format!("{SIGNATURE:?}"), format!("{start:?}")));
    };
    let (mut color, mut palette, mut data) = (None, false, false);
    for at in 0..MOST {
        let Some((head, tail)) = rest.split_first_chunk::<8>() else {
            return Err(broken("", "a chunk IEND at the end", format!("the file's end after {at} chunks")));
        };
        let [l0, l1, l2, l3, name @ ..] = *head;
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        let name = Name(name);
        if length > LONGEST {
            return Err(broken(name, format!("at most {LONGEST} bytes"), length));
        }
        if (at == 0) != (name.0 == *b"IHDR") {
            let expected = if at == 0 { "IHDR as the first chunk" } else { "IHDR once" };
            return Err(broken("", expected, format!("{name} as chunk {at}")));
        }
        let Some(content) = tail.get(..length as usize) else {
            return Err(broken(name, format!("{length} bytes"), tail.len()));
        };
        match &name.0 {
            b"IHDR" => color = Some(header(content)?),
            b"PLTE" => {
                if palette || data {
                    return Err(broken(name, "one, before the pixels", "another"));
                }
                if content.is_empty() || content.len() > 768 || !content.len().is_multiple_of(3) {
                    return Err(broken(name, "1 to 256 colours of 3 bytes", format!("{length} bytes")));
                }
                if matches!(color, Some(GRAY | GRAY_ALPHA)) {
                    return Err(broken(name, "none in a picture without colours", format!("{length} bytes")));
                }
                palette = true;
            }
            b"tRNS" => transparency(color, palette, content)?,
            b"IDAT" if color == Some(INDEXED) && !palette => {
                return Err(broken("PLTE", "a palette before the pixels", "none"));
            }
            b"IDAT" => data = true,
            b"IEND" => return Ok(()),
            _ => {}
        }
        // The last four bytes are the checksum.
        rest = tail.get(length as usize + 4..).unwrap_or_default();
    }
    Err(broken("", format!("at most {MOST} chunks"), "more"))
}

/// The colour type of a header whose values PNG allows.
fn header(content: &[u8]) -> Result<u8, Broken> {
    let [w0, w1, w2, w3, h0, h1, h2, h3, depth, color, compression, filter, interlace] = *content else {
        return Err(broken("IHDR", "13 bytes", content.len()));
    };
    let (width, height) = (u32::from_be_bytes([w0, w1, w2, w3]), u32::from_be_bytes([h0, h1, h2, h3]));
    if [width, height].iter().any(|n| !(1..=LONGEST).contains(n)) {
        return Err(broken("size", format!("1 to {LONGEST} pixels a side"), format!("{width}x{height}")));
    }
    let depths: &[u8] = match color {
        GRAY => &[1, 2, 4, 8, 16],
        INDEXED => &[1, 2, 4, 8],
        RGB | GRAY_ALPHA | RGBA => &[8, 16],
        _ => return Err(broken("colour type", "0, 2, 3, 4 or 6", color)),
    };
    if !depths.contains(&depth) {
        return Err(broken("bit depth", format!("one of {depths:?} for colour type {color}"), depth));
    }
    for (what, value, most) in [
        ("compression method", compression, 0),
        ("filter method", filter, 0),
        ("interlace method", interlace, 1),
    ] {
        if value > most {
            return Err(broken(what, if most == 0 { "0" } else { "0 or 1" }, value));
        }
    }
    Ok(color)
}

fn transparency(color: Option<u8>, palette: bool, content: &[u8]) -> Result<(), Broken> {
    let found = format!("{} bytes", content.len());
    match color {
        Some(GRAY) if content.len() == 2 => Ok(()),
        Some(GRAY) => Err(broken("tRNS", "2 bytes", found)),
        Some(RGB) if content.len() == 6 => Ok(()),
        Some(RGB) => Err(broken("tRNS", "6 bytes", found)),
        Some(INDEXED) if !palette => Err(broken("tRNS", "a palette before it", "none")),
        Some(INDEXED) if content.len() <= 256 => Ok(()),
        Some(INDEXED) => Err(broken("tRNS", "at most 256 bytes", found)),
        _ => Err(broken("tRNS", "none in a picture with an alpha channel", found)),
    }
}

/// Four letters, or whatever stands there.
#[derive(Clone, Copy)]
struct Name([u8; 4]);

impl Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

//! Pictures that an option names.

use std::path::Path;

use softdimo::image::{RgbaImage, read_png};
use softdimo::{Error, Result};

use crate::provenance::{KEYWORD, Recipe};

/// The PNG of an option, which must have the model's width and height, or be such a picture enlarged by `--enlarge`: every
/// pixel a square of equal ones, or, where the PNG's text says so, smoothly.
pub fn read_of_size(
    option: &str,
    path: impl AsRef<Path>,
    (width, height): (usize, usize),
) -> Result<RgbaImage> {
    let (picture, text) = read_png(&path)?;
    let (w, h) = (picture.width() as usize, picture.height() as usize);
    if (w, h) == (width, height) {
        return Ok(picture);
    }
    let what = format!("{option} {}", path.as_ref().display());
    let factor = w / width;
    if factor > 1 && (w, h) == (width * factor, height * factor) {
        if let Some(small) = reduced(&picture, factor)? {
            return Ok(small);
        }
        if made_smoothly(&text, factor) {
            return averaged(&picture, factor);
        }
        let found = format!("{w}x{h}, which is no enlarged picture; write it with --enlarge 1");
        return Err(Error::invalid(what, format!("the model's {width}x{height} pixels"), found));
    }
    Err(Error::invalid(what, format!("the model's {width}x{height} pixels"), format!("{w}x{h}")))
}

/// A picture as it is seen against a colour: opaque.
pub fn over(picture: RgbaImage, background: [u8; 3]) -> Result<RgbaImage> {
    let (width, height) = (picture.width(), picture.height());
    let mut data = picture.into_data();
    for pixel in data.chunks_exact_mut(4) {
        let alpha = u32::from(pixel[3]);
        for (value, behind) in pixel.iter_mut().zip(background) {
            *value = ((u32::from(*value) * alpha + u32::from(behind) * (255 - alpha) + 127) / 255) as u8;
        }
        pixel[3] = 255;
    }
    RgbaImage::new(width, height, data)
}

/// The picture that was enlarged by `factor`, if one was.
fn reduced(picture: &RgbaImage, factor: usize) -> Result<Option<RgbaImage>> {
    let row = picture.width() as usize * 4;
    let mut small = Vec::new();
    for line in picture.data().chunks_exact(row).step_by(factor) {
        small.extend(line.chunks_exact(4).step_by(factor).flatten());
    }
    let (width, height) = (picture.width() / factor as u32, picture.height() / factor as u32);
    let small = RgbaImage::new(width, height, small)?;
    Ok((small.enlarge(factor as u32)? == *picture).then_some(small))
}

/// Whether the text of a PNG says that it was enlarged by `factor`, and smoothly.
fn made_smoothly(text: &[(String, String)], factor: usize) -> bool {
    let recipe = text.iter().find(|(keyword, _)| keyword == KEYWORD);
    let recipe = recipe.and_then(|(_, text)| serde_json::from_str::<Recipe>(text).ok()).unwrap_or_default();
    let says = |name: &str, value: &str| recipe.options.iter().any(|(n, v)| n == name && v == value);
    says("scaling", "smooth") && says("enlarge", &factor.to_string())
}

/// Every square of `factor` × `factor` pixels as one of its mean colour.
fn averaged(picture: &RgbaImage, factor: usize) -> Result<RgbaImage> {
    let row = picture.width() as usize * 4;
    let (width, height) = (picture.width() as usize / factor, picture.height() as usize / factor);
    let mut small = Vec::new();
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        for channel in 0..4 {
            let line = |y: usize| picture.data()[y * row + x * factor * 4 + channel..].iter().step_by(4);
            let sum: usize = (y * factor..(y + 1) * factor)
                .flat_map(|y| line(y).take(factor))
                .map(|&byte| usize::from(byte))
                .sum();
            small.push(((sum + factor * factor / 2) / (factor * factor)) as u8);
        }
    }
    RgbaImage::new(width as u32, height as u32, small)
}

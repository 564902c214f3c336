//! Pictures that an option names.

use std::path::Path;

use softdimo::image::{RgbaImage, read_png};
use softdimo::{Error, Result};

/// The PNG of an option, which must have the model's width and height, or be such a picture enlarged: every pixel a square of
/// equal ones, as `--enlarge` makes them.
pub fn read_of_size(
    option: &str,
    path: impl AsRef<Path>,
    (width, height): (usize, usize),
) -> Result<RgbaImage> {
    let (picture, _) = read_png(&path)?;
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
        let found = format!("{w}x{h}, which is no enlarged picture; write it with --enlarge 1");
        return Err(Error::invalid(what, format!("the model's {width}x{height} pixels"), found));
    }
    Err(Error::invalid(what, format!("the model's {width}x{height} pixels"), format!("{w}x{h}")))
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

//! Pictures that an option names.

use std::path::Path;

use softdimo::image::{RgbaImage, read_png};
use softdimo::{Error, Result};

/// The PNG of an option, which must have the model's width and height.
pub fn read_of_size(
    option: &str,
    path: impl AsRef<Path>,
    (width, height): (usize, usize),
) -> Result<RgbaImage> {
    let (picture, _) = read_png(&path)?;
    let (w, h) = (picture.width() as usize, picture.height() as usize);
    match (w, h) == (width, height) {
        true => Ok(picture),
        false => {
            let what = format!("{option} {}", path.as_ref().display());
            Err(Error::invalid(what, format!("the model's {width}x{height} pixels"), format!("{w}x{h}")))
        }
    }
}

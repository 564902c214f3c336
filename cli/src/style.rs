//! How pictures are written: enlarged, in few colours, without their background.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use softdimo::image::{Dither, MAX_COLORS, Matte, Palette, PictureStyle, Scaling, read_png};
use softdimo::{Error, Result};

use crate::provenance::{RecipeOptions, value_name};

#[derive(Args, Clone)]
pub struct StyleArgs {
    /// Between the pixels of an enlarged picture
    #[arg(long, value_enum, default_value_t = ScalingArg::Nearest)]
    scaling: ScalingArg,
    /// Colours the pictures may have: a number found for each, or a PNG or a list of rrggbb lines that has them
    #[arg(long, value_name = "N|FILE")]
    palette: Option<PaletteArg>,
    /// With --palette: mix colours in a pattern of 4 or 8 pixels; default 8
    #[arg(long, value_name = "PIXELS", requires = "palette", num_args = 0..=1, default_missing_value = "8", value_parser = side)]
    dither: Option<u32>,
    /// With --dither: how much of the way to the right mixture, 0 to 1; default 1
    #[arg(long, requires = "dither")]
    dither_strength: Option<f32>,
    /// Make the background transparent: what is at most this far from the border's colour, 0 to 1; default 0.04
    #[arg(long, value_name = "TOLERANCE", num_args = 0..=1, default_missing_value = "0.04")]
    matte: Option<f32>,
    /// With --matte: holes of as many of the model's pixels become transparent too; default: none
    #[arg(long, value_name = "PIXELS", requires = "matte")]
    matte_holes: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ScalingArg {
    Nearest,
    Smooth,
}

/// A number is a number of colours, all else a file.
#[derive(Clone)]
enum PaletteArg {
    Found(usize),
    File(PathBuf),
}

impl From<&str> for PaletteArg {
    fn from(text: &str) -> PaletteArg {
        text.parse().map_or_else(|_| PaletteArg::File(text.into()), PaletteArg::Found)
    }
}

impl std::fmt::Display for PaletteArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PaletteArg::Found(count) => write!(f, "{count}"),
            PaletteArg::File(file) => write!(f, "{}", file.display()),
        }
    }
}

/// For `--dither`.
fn side(text: &str) -> std::result::Result<u32, &'static str> {
    match text {
        "4" => Ok(4),
        "8" => Ok(8),
        _ => Err("expected 4 or 8"),
    }
}

/// Largest list of colours that is read, bytes.
const LIST: u64 = 1 << 16;

impl StyleArgs {
    /// The file of `--palette`.
    pub fn file(&self) -> Option<&PathBuf> {
        match &self.palette {
            Some(PaletteArg::File(file)) => Some(file),
            _ => None,
        }
    }

    /// Whether pictures have an alpha channel.
    pub fn is_transparent(&self) -> bool {
        self.matte.is_some()
    }

    pub fn style(&self) -> Result<PictureStyle> {
        let mut style = PictureStyle::default();
        style.scaling = match self.scaling {
            ScalingArg::Nearest => Scaling::Nearest,
            ScalingArg::Smooth => Scaling::Smooth,
        };
        style.palette = match &self.palette {
            None => None,
            Some(PaletteArg::Found(count)) => Some(Palette::Found(*count)),
            Some(PaletteArg::File(file)) => Some(Palette::Colors(colors(file)?)),
        };
        style.dither = self.dither.map(|side| Dither::new(side, self.dither_strength.unwrap_or(1.0)));
        style.matte = self.matte.map(|tolerance| {
            let mut matte = Matte::default();
            (matte.tolerance, matte.hole_area) = (tolerance, self.matte_holes.unwrap_or(0));
            matte
        });
        style.validate(softdimo::image::PixelFormat::Rgba8, 3).map_err(by_option)?;
        Ok(style)
    }

    /// What makes the same style again.
    pub fn push(&self, options: &mut RecipeOptions) {
        if self.scaling != ScalingArg::Nearest {
            options.push("scaling", value_name(self.scaling));
        }
        options.push("palette", &self.palette);
        options.push("dither", self.dither);
        options.push("dither-strength", self.dither_strength);
        options.push("matte", self.matte);
        options.push("matte-holes", self.matte_holes);
    }
}

/// What is wrong with a style, by the names of the options.
fn by_option(error: Error) -> Error {
    let Error::InvalidArgument { what, expected, found } = error else { return error };
    let what = match what.as_str() {
        "palette_count" => "--palette".into(),
        "dither_strength" => "--dither-strength".into(),
        "matte_tolerance" => "--matte".into(),
        _ => what,
    };
    Error::InvalidArgument { what, expected, found }
}

/// Whether the file of `--palette` with this value is one.
pub fn palette_file(value: &str) -> Option<&str> {
    matches!(PaletteArg::from(value), PaletteArg::File(_)).then_some(value)
}

/// The colours of a PNG, those that are not wholly transparent, in order, or of a list.
fn colors(file: &Path) -> Result<Vec<[u8; 3]>> {
    let bad = |expected: &str, found: String| {
        Err(Error::invalid(format!("--palette {}", file.display()), expected, found))
    };
    let suffix = file.extension().map(|e| e.to_string_lossy().to_lowercase());
    let mut colors: Vec<[u8; 3]> = Vec::new();
    if suffix.as_deref() == Some("png") {
        let (picture, _) = read_png(file)?;
        for pixel in picture.data().chunks_exact(4).filter(|pixel| pixel[3] > 0) {
            let color = [pixel[0], pixel[1], pixel[2]];
            if !colors.contains(&color) {
                if colors.len() == MAX_COLORS {
                    return bad("2 to 256 colours", "a picture of more".into());
                }
                colors.push(color);
            }
        }
    } else {
        // Files without an end say nothing of their size.
        let mut text = Vec::new();
        let list = File::open(file).map_err(|e| Error::io(file, e))?;
        list.take(LIST + 1).read_to_end(&mut text).map_err(|e| Error::io(file, e))?;
        if text.len() as u64 > LIST {
            return bad("a PNG, or lines of six hexadecimal digits", format!("more than {LIST} bytes"));
        }
        let text = String::from_utf8_lossy(&text);
        for (line, color) in text.lines().map(str::trim).enumerate() {
            // Lists may have empty lines, and comments as in other lists of colours.
            if color.is_empty() || color.starts_with(';') {
                continue;
            }
            let digits = color.strip_prefix('#').unwrap_or(color);
            let number = u32::from_str_radix(digits, 16).ok();
            match number.filter(|_| digits.len() == 6 && !digits.starts_with('+')) {
                Some(number) => colors.push([(number >> 16) as u8, (number >> 8) as u8, number as u8]),
                None => {
                    let found: String = color.chars().take(40).collect();
                    let found = format!("'{}' in line {}", crate::printed::printed(&found), line + 1);
                    return bad("a PNG, or lines of six hexadecimal digits", found);
                }
            }
        }
    }
    match colors.len() {
        2..=MAX_COLORS => Ok(colors),
        found => bad("2 to 256 colours", format!("{found}")),
    }
}

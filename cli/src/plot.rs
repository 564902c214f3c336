//! Curves as a picture: values over their index, one panel a quantity.

use std::convert::Infallible;

use embedded_graphics::mono_font::{MonoTextStyle, ascii::FONT_7X13};
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::prelude::{
    DrawTarget, Drawable, OriginDimensions, Pixel, Point, Primitive, Size, WebColors,
};
use embedded_graphics::primitives::{Line, Polyline, PrimitiveStyle};
use embedded_graphics::text::{Alignment, Text};
use softdimo::Result;
use softdimo::image::RgbaImage;

/// Colours that are told apart without seeing red or green (Okabe and Ito).
const COLORS: [Rgb888; 6] = [
    Rgb888::new(0, 114, 178),
    Rgb888::new(213, 94, 0),
    Rgb888::new(0, 158, 115),
    Rgb888::new(204, 121, 167),
    Rgb888::new(230, 159, 0),
    Rgb888::new(86, 180, 233),
];

/// Room for the title above, the numbers at the left and below, in pixels.
const TOP: i32 = 22;
const LEFT: i32 = 64;
const BOTTOM: i32 = 22;
const RIGHT: i32 = 10;
/// Height of a line of text, and from its baseline to the middle of a digit.
const LINE: i32 = 15;
const HALF_DIGIT: i32 = 4;

/// One curve.
pub struct Series {
    /// Stands in the legend; a curve without a name is thin, grey and not listed.
    pub name: String,
    /// One value an iterate; gaps where they are not finite.
    pub values: Vec<f32>,
}

/// A panel of `width` × `height` pixels: every series over the iterates 0, 1, …
///
/// # Errors
/// `InvalidArgument` for a size without pixels or with too many.
pub fn panel(title: &str, series: &[Series], width: u32, height: u32) -> Result<RgbaImage> {
    let mut canvas = Canvas { width, data: RgbaImage::filled(width, height, [255; 4])?.into_data() };
    let Ok(()) = draw(&mut canvas, title, series, width as i32, height as i32);
    RgbaImage::new(width, height, canvas.data)
}

fn draw(
    c: &mut Canvas,
    title: &str,
    series: &[Series],
    w: i32,
    h: i32,
) -> std::result::Result<(), Infallible> {
    let text = MonoTextStyle::new(&FONT_7X13, Rgb888::BLACK);
    let frame = PrimitiveStyle::with_stroke(Rgb888::CSS_GRAY, 1);
    let grid = PrimitiveStyle::with_stroke(Rgb888::CSS_GAINSBORO, 1);
    let count = series.iter().map(|s| s.values.len()).max().unwrap_or(0);
    let (low, high) = range(series);
    let last = count.saturating_sub(1).max(1) as f32;
    let x = |i: f32| LEFT + (i / last * (w - LEFT - RIGHT) as f32).round() as i32;
    let y = |v: f32| h - BOTTOM - ((v - low) / (high - low) * (h - TOP - BOTTOM) as f32).round() as i32;

    for v in ticks(low, high, 5) {
        Line::new(Point::new(LEFT, y(v)), Point::new(w - RIGHT, y(v))).into_styled(grid).draw(c)?;
        let at = Point::new(LEFT - 6, y(v) + HALF_DIGIT);
        Text::with_alignment(&number(v, high - low), at, text, Alignment::Right).draw(c)?;
    }
    for i in ticks(0.0, last, 10).filter(|i| i.fract() == 0.0) {
        let at = Point::new(x(i), h - BOTTOM + LINE);
        Text::with_alignment(&i.to_string(), at, text, Alignment::Center).draw(c)?;
    }
    for s in series.iter().filter(|s| s.name.is_empty()) {
        curve(c, s, PrimitiveStyle::with_stroke(Rgb888::CSS_LIGHT_GRAY, 1), &x, &y)?;
    }
    let named = || series.iter().filter(|s| !s.name.is_empty()).zip(COLORS.iter().cycle());
    for (s, &color) in named() {
        curve(c, s, PrimitiveStyle::with_stroke(color, 2), &x, &y)?;
    }
    Line::new(Point::new(LEFT, TOP), Point::new(LEFT, h - BOTTOM)).into_styled(frame).draw(c)?;
    Line::new(Point::new(LEFT, h - BOTTOM), Point::new(w - RIGHT, h - BOTTOM)).into_styled(frame).draw(c)?;

    let mut at = Text::new(title, Point::new(LEFT, LINE), text).draw(c)?;
    for (s, &color) in named() {
        at.x += 14;
        let swatch = Point::new(at.x, at.y - HALF_DIGIT);
        Line::new(swatch, swatch + Point::new(12, 0))
            .into_styled(PrimitiveStyle::with_stroke(color, 3))
            .draw(c)?;
        at = Text::new(&s.name, at + Point::new(16, 0), text).draw(c)?;
    }
    Ok(())
}

/// The finite stretches of a series.
fn curve(
    c: &mut Canvas,
    s: &Series,
    style: PrimitiveStyle<Rgb888>,
    x: &dyn Fn(f32) -> i32,
    y: &dyn Fn(f32) -> i32,
) -> std::result::Result<(), Infallible> {
    let points: Vec<(usize, f32)> = s.values.iter().copied().enumerate().collect();
    for stretch in points.split(|(_, v)| !v.is_finite()) {
        let points: Vec<Point> = stretch.iter().map(|&(i, v)| Point::new(x(i as f32), y(v))).collect();
        Polyline::new(&points).into_styled(style).draw(c)?;
    }
    Ok(())
}

/// The smallest and largest finite value, a little apart when they are one.
fn range(series: &[Series]) -> (f32, f32) {
    let finite = || series.iter().flat_map(|s| &s.values).copied().filter(|v| v.is_finite());
    let (low, high) = (finite().fold(f32::INFINITY, f32::min), finite().fold(f32::NEG_INFINITY, f32::max));
    match (low, high) {
        (low, high) if low > high => (0.0, 1.0),
        (low, high) if high - low <= 1e-6 * high.abs().max(1e-6) => {
            let room = 0.5 * high.abs().max(1e-3);
            (low - room, high + room)
        }
        range => range,
    }
}

/// Round numbers within a range, at most `most` of them: multiples of 1, 2 or 5 times a power of ten.
fn ticks(low: f32, high: f32, most: usize) -> impl Iterator<Item = f32> {
    let (low, high) = (f64::from(low), f64::from(high));
    let rough = (high - low) / most as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|&s| s >= rough).unwrap_or(rough);
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    (first..=last).map(move |i| (i as f64 * step) as f32)
}

/// With as many digits as the range calls for, and no more than fit at the left.
fn number(v: f32, range: f32) -> String {
    let digits = (1.0 - range.log10().floor()).clamp(0.0, 5.0) as usize;
    let plain = format!("{v:.digits$}");
    if plain.len() <= 8 { plain } else { format!("{v:.1e}") }
}

/// Pixels [height, width, 4].
struct Canvas {
    width: u32,
    data: Vec<u8>,
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(self.width, self.data.len() as u32 / 4 / self.width)
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(
        &mut self,
        pixels: I,
    ) -> std::result::Result<(), Infallible> {
        let size = self.size();
        for Pixel(at, color) in pixels {
            if (0..size.width as i32).contains(&at.x) && (0..size.height as i32).contains(&at.y) {
                let i = 4 * (at.y as usize * self.width as usize + at.x as usize);
                self.data[i..i + 3].copy_from_slice(&[color.r(), color.g(), color.b()]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_ticks() {
        assert_eq!(ticks(-0.97, 0.31, 5).collect::<Vec<_>>(), [-0.5, 0.0]);
        assert_eq!(ticks(0.0, 20.0, 10).collect::<Vec<_>>().len(), 11);
        assert_eq!((number(-0.5, 1.28), number(1234567.0, 1e6)), ("-0.5".to_string(), "1234567".to_string()));
    }

    /// Values at both ends of the range reach both ends of the frame; what is not finite draws nothing.
    #[test]
    fn a_curve_spans_the_frame() {
        let rising = Series { name: "x".into(), values: vec![-3.0, f32::NAN, -1.0, 2.0] };
        let picture = panel("t", &[rising], 200, 100).unwrap();
        let blue = |x: u32, y: u32| {
            let at = 4 * (y * 200 + x) as usize;
            picture.data()[at..at + 3] == [0, 114, 178]
        };
        let rows: Vec<u32> = (TOP as u32..100).filter(|&y| (0..200).any(|x| blue(x, y))).collect();
        let columns: Vec<u32> = (0..200).filter(|&x| (TOP as u32..100).any(|y| blue(x, y))).collect();
        assert!(rows[0].abs_diff(TOP as u32) <= 1, "{rows:?}");
        assert!(columns[columns.len() - 1].abs_diff(200 - RIGHT as u32) <= 1, "{columns:?}");
        let third = (LEFT + (200 - LEFT - RIGHT) / 3) as u32;
        assert!(columns.iter().all(|x| *x > third), "the gap was drawn: {columns:?}");
        panel("empty", &[], 80, 60).unwrap();
        panel("flat", &[Series { name: String::new(), values: vec![1.0; 3] }], 80, 60).unwrap();
    }
}

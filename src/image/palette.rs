//! Pictures of few colours: given ones, or those that suit the picture best. Everything is counted in OKLab, a fixed number
//! of times, without random numbers: the same picture gives the same colours everywhere.

use std::ops::Range;

use super::oklab::{self, Lab, apart};
use super::to_u8;
use crate::error::{Error, Result};
use crate::shortage;

/// Most colours of a palette.
pub const MAX_COLORS: usize = 256;

/// The colours that a picture may have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Palette {
    /// These, 2 to [`MAX_COLORS`]: red, green, blue.
    Colors(Vec<[u8; 3]>),
    /// As many, 2 to [`MAX_COLORS`], found from the pixels that are more opaque than not. There are fewer where the picture
    /// has fewer.
    Found(usize),
}

/// Two colours side by side for one between them, in an ordered pattern (Bayer's).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Dither {
    /// Pixels of the pattern's side: 4 or 8.
    pub side: u32,
    /// How much of the way to the right mixture, 0 (none) to 1.
    pub strength: f32,
}

impl Dither {
    /// A pattern of 4 or 8 pixels, at a strength of 0 to 1.
    pub fn new(side: u32, strength: f32) -> Dither {
        Dither { side, strength }
    }

    /// The share of a second colour from which on it is seen at (x, y), at this strength.
    fn seen_from(&self, x: usize, y: usize) -> f32 {
        // A strength of -0 is 0 as well.
        self.threshold(x, y) / self.strength.abs()
    }

    /// # Errors
    /// `InvalidArgument` for another pattern or strength.
    pub(super) fn validate(&self) -> Result<()> {
        match (self.side, self.strength) {
            (4 | 8, 0.0..=1.0) => Ok(()),
            (4 | 8, found) => Err(Error::invalid("dither_strength", "0 to 1", found)),
            (found, _) => Err(Error::invalid("dither", "a pattern of 4 or 8 pixels", found)),
        }
    }

    /// The share of a second colour from which on it is seen at (x, y): all of side² even steps between 0 and 1.
    fn threshold(&self, x: usize, y: usize) -> f32 {
        // The bits of x ^ y and y, the lowest first, are the number's, the highest first.
        let (mut rank, mut bit) = (0, 1);
        while bit < self.side as usize {
            rank = rank << 2 | usize::from((x ^ y) & bit > 0) << 1 | usize::from(y & bit > 0);
            bit <<= 1;
        }
        (rank as f32 + 0.5) / (self.side * self.side) as f32
    }
}

/// Pixels that colours are found from: more would change little and take long.
const SAMPLE: usize = 1 << 16;
/// Times that every colour moves to the middle of its pixels.
const ROUNDS: usize = 8;

impl Palette {
    /// # Errors
    /// `InvalidArgument` for too few or too many colours.
    pub(super) fn validate(&self) -> Result<()> {
        let (what, count) = match self {
            Palette::Colors(colors) => ("palette", colors.len()),
            Palette::Found(count) => ("palette_count", *count),
        };
        match count {
            2..=MAX_COLORS => Ok(()),
            found => Err(Error::invalid(what, format!("2 to {MAX_COLORS} colours"), found)),
        }
    }

    /// Give pixels [height, width] colours of the palette. Alpha stays.
    ///
    /// # Errors
    /// [`Error::Exhausted`].
    pub(super) fn quantize(
        &self,
        pixels: &mut [[f32; 4]],
        width: usize,
        dither: Option<Dither>,
    ) -> Result<()> {
        let colors = match self {
            Palette::Colors(colors) => shortage::copied("the palette", colors)?,
            Palette::Found(count) => find(pixels, *count)?,
        };
        let colors = shortage::collected("the palette", colors.len(), colors.iter().map(Color::new))?;
        for (at, pixel) in pixels.iter_mut().enumerate() {
            let [r, g, b, _] = *pixel;
            let linear = [r, g, b].map(oklab::to_linear);
            let chosen = choose(&colors, linear, dither.map(|d| d.seen_from(at % width, at / width)));
            pixel[..3].copy_from_slice(&chosen.rgb);
        }
        Ok(())
    }
}

/// A colour of a palette in every space it is needed in.
#[derive(Clone, Copy)]
struct Color {
    /// Encoded.
    rgb: [f32; 3],
    linear: [f32; 3],
    lab: Lab,
}

impl Color {
    fn new(bytes: &[u8; 3]) -> Color {
        let rgb = bytes.map(|byte| f32::from(byte) / 255.0);
        let linear = rgb.map(oklab::to_linear);
        Color { rgb, linear, lab: oklab::of_linear(linear) }
    }
}

/// The nearest colour, or the one that makes the best mixture with it if its share is above `threshold`. Shares are those
/// of light: from afar, the mixture is as bright as the pixel.
fn choose(colors: &[Color], linear: [f32; 3], threshold: Option<f32>) -> &Color {
    let lab = oklab::of_linear(linear);
    let first = colors.iter().min_by(|a, b| apart(a.lab, lab).total_cmp(&apart(b.lab, lab)));
    let first = first.expect("a palette has colours");
    let Some(threshold) = threshold else { return first };
    let (mut best, mut second) = (f32::INFINITY, first);
    for color in colors {
        let (line, way) = (difference(color.lab, first.lab), difference(lab, first.lab));
        let squared = dot(line, line);
        if squared == 0.0 {
            continue;
        }
        let t = (dot(way, line) / squared).clamp(0.0, 1.0);
        let off = difference(way, line.map(|x| t * x));
        // Of two mixtures as good, the less speckled.
        let error = dot(off, off) + SPECKLE * t * squared;
        if error < best {
            (best, second) = (error, color);
        }
    }
    let line = difference(second.linear, first.linear);
    let share = dot(difference(linear, first.linear), line) / dot(line, line);
    if share > threshold { second } else { first }
}

/// What two colours that lie far apart cost a mixture of them, as a share of their squared distance.
const SPECKLE: f32 = 0.05;

fn difference(a: [f32; 3], b: [f32; 3]) -> [f32; 3] {
    [0, 1, 2].map(|c| a[c] - b[c])
}

fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// Up to `count` colours that suit the pixels.
fn find(pixels: &[[f32; 4]], count: usize) -> Result<Vec<[u8; 3]>> {
    let what = "the palette";
    let opaque = |pixel: &&[f32; 4]| pixel[3] >= 0.5;
    let some_opaque = pixels.iter().any(|pixel| opaque(&pixel));
    let seen = || pixels.iter().filter(|pixel| !some_opaque || opaque(pixel));
    let step = seen().count().div_ceil(SAMPLE).max(1);
    let sample = seen().step_by(step).map(|&[r, g, b, _]| oklab::of_encoded([r, g, b]));
    let mut points: Vec<Lab> = shortage::collected(what, SAMPLE.min(pixels.len()), sample)?;

    let mut boxes: Vec<Spread> = shortage::reserved(what, count)?;
    boxes.push(Spread::of(&points, 0..points.len()));
    while boxes.len() < count {
        let widest = (0..boxes.len()).max_by(|&a, &b| boxes[a].deviation.total_cmp(&boxes[b].deviation));
        let widest = &mut boxes[widest.expect("one box at least")];
        if widest.deviation <= 1e-6 {
            break;
        }
        let (axis, mean, range) = (widest.axis, widest.mean[widest.axis], widest.range.clone());
        let half = &mut points[range.clone()];
        half.sort_unstable_by(|a, b| a[axis].total_cmp(&b[axis]));
        let middle = range.start + half.partition_point(|point| point[axis] <= mean);
        if middle == range.end {
            // Points so near to one another that their mean is the last of them.
            widest.deviation = 0.0;
            continue;
        }
        *widest = Spread::of(&points, range.start..middle);
        boxes.push(Spread::of(&points, middle..range.end));
    }

    let mut centres: Vec<Lab> = shortage::collected(what, boxes.len(), boxes.iter().map(|b| b.mean))?;
    for _ in 0..ROUNDS {
        let mut sums = shortage::filled(what, centres.len(), [0.0_f64; 4])?;
        for &point in &points {
            let sum = &mut sums[nearest(&centres, point)];
            (0..3).for_each(|c| sum[c] += f64::from(point[c]));
            sum[3] += 1.0;
        }
        for (centre, sum) in centres.iter_mut().zip(&sums).filter(|(_, sum)| sum[3] > 0.0) {
            (0..3).for_each(|c| centre[c] = (sum[c] / sum[3]) as f32);
        }
    }
    shortage::collected(what, centres.len(), centres.iter().map(|&centre| oklab::to_rgb(centre).map(to_u8)))
}

fn nearest(centres: &[Lab], point: Lab) -> usize {
    let (mut best, mut least) = (0, f32::INFINITY);
    for (i, &centre) in centres.iter().enumerate() {
        let distance = apart(centre, point);
        if distance < least {
            (best, least) = (i, distance);
        }
    }
    best
}

/// Points that become one colour.
struct Spread {
    range: Range<usize>,
    mean: Lab,
    /// Along which they lie the farthest apart.
    axis: usize,
    /// Sum of squared distances from the mean along the axis.
    deviation: f64,
}

impl Spread {
    fn of(points: &[Lab], range: Range<usize>) -> Spread {
        let n = range.len().max(1) as f64;
        let points = &points[range.clone()];
        let mean = [0, 1, 2].map(|c| points.iter().map(|p| f64::from(p[c])).sum::<f64>() / n);
        let deviation = |c: usize| points.iter().map(|p| (f64::from(p[c]) - mean[c]).powi(2)).sum::<f64>();
        let deviations = [0, 1, 2].map(deviation);
        let axis = (0..3).fold(0, |best, c| if deviations[c] > deviations[best] { c } else { best });
        Spread { range, mean: mean.map(|x| x as f32), axis, deviation: deviations[axis] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gray(value: f32) -> [f32; 4] {
        [value, value, value, 1.0]
    }

    fn bytes(pixels: &[[f32; 4]]) -> Vec<[u8; 3]> {
        pixels.iter().map(|&[r, g, b, _]| [r, g, b].map(to_u8)).collect()
    }

    /// Colours and how many pixels have them.
    fn counted(pixels: &[[f32; 4]]) -> Vec<([u8; 3], usize)> {
        let mut all = bytes(pixels);
        all.sort_unstable();
        all.chunk_by(|a, b| a == b).map(|same| (same[0], same.len())).collect()
    }

    #[test]
    fn pixels_get_the_nearest_given_color() {
        let palette = Palette::Colors(vec![[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 0, 255]]);
        let mut pixels = [
            gray(0.1),
            gray(0.9),
            [0.9, 0.2, 0.1, 0.5],
            [0.1, 0.1, 0.7, 0.0],
            [f32::MIN_POSITIVE, 0.0, 0.0, 1.0],
        ];
        palette.quantize(&mut pixels, 5, None).unwrap();
        assert_eq!(bytes(&pixels), [[0; 3], [255; 3], [255, 0, 0], [0, 0, 255], [0; 3]]);
        assert_eq!(pixels.map(|pixel| pixel[3]), [1.0, 1.0, 0.5, 0.0, 1.0], "alpha stays");
    }

    #[test]
    fn colors_of_a_picture_of_few_are_found_as_they_are() {
        let colors = [[255, 204, 77], [102, 69, 0], [255, 255, 255], [221, 46, 68], [49, 115, 222]];
        let mut pixels: Vec<[f32; 4]> = Vec::new();
        for (i, color) in colors.iter().enumerate() {
            let [r, g, b] = color.map(|byte| f32::from(byte) / 255.0);
            pixels.extend(vec![[r, g, b, 1.0]; 3 + 50 * i]);
        }
        let before = pixels.clone();
        for count in [5, 6, 256] {
            let mut found = find(&pixels, count).unwrap();
            found.sort_unstable();
            found.dedup();
            let mut expected = colors;
            expected.sort_unstable();
            assert_eq!(found, expected, "{count}");
        }
        Palette::Found(16).quantize(&mut pixels, 1, None).unwrap();
        assert_eq!(bytes(&pixels), bytes(&before));
    }

    /// No more colours than asked for, each used, and more colours come nearer; the same every time.
    #[test]
    fn more_colors_come_nearer() {
        let ramp =
            |i: usize| [(i % 64) as f32 / 63.0, (i / 64) as f32 / 63.0, (i * 7 % 64) as f32 / 63.0, 1.0];
        let pixels: Vec<[f32; 4]> = (0..4096).map(ramp).collect();
        let mut last = f32::INFINITY;
        for count in [2, 4, 16, 64, 256] {
            let quantized = || {
                let mut found = pixels.clone();
                Palette::Found(count).quantize(&mut found, 64, None).unwrap();
                found
            };
            let found = quantized();
            assert_eq!(found, quantized());
            let colors = counted(&found).len();
            assert!(colors <= count && colors > count * 9 / 10, "{colors} of {count}");
            let lab = |p: &[f32; 4]| oklab::of_encoded([p[0], p[1], p[2]]);
            let error: f32 =
                found.iter().zip(&pixels).map(|(a, b)| apart(lab(a), lab(b))).sum::<f32>() / 4096.0;
            println!("{count} colours: root mean squared distance {}", error.sqrt());
            assert!(error < last * 0.7, "{count}: {error} after {last}");
            last = error;
        }
        assert!(last.sqrt() < 0.04);
    }

    #[test]
    fn transparent_pixels_lend_no_color() {
        let mut pixels = vec![[0.0, 1.0, 0.0, 0.2]; 500];
        pixels.extend([gray(0.0), gray(1.0), gray(0.2)]);
        let found = find(&pixels, 256).unwrap();
        assert!(found.iter().all(|[r, g, b]| r == g && g == b), "{found:?}");
        assert!(find(&[[0.5, 0.5, 0.5, 0.0]; 9], 4).unwrap().len() == 1, "of nothing opaque, of all");
    }

    #[test]
    fn patterns_have_every_step_once() {
        for side in [4, 8] {
            let dither = Dither::new(side, 1.0);
            let n = (side * side) as usize;
            let of = |i: usize| dither.threshold(i % side as usize, i / side as usize);
            let mut steps: Vec<f32> = (0..n).map(of).collect();
            assert_eq!(dither.threshold(3, 1), dither.threshold(3 + side as usize, 1 + 2 * side as usize));
            steps.sort_by(f32::total_cmp);
            assert!(steps.iter().enumerate().all(|(i, &step)| step == (i as f32 + 0.5) / n as f32));
        }
        // The first quarter of the steps lies on every second pixel of every second row.
        let low: Vec<_> = (0..16).filter(|&i| Dither::new(4, 1.0).threshold(i % 4, i / 4) < 0.25).collect();
        assert_eq!(low, [0, 2, 8, 10]);
    }

    /// From afar a dithered grey is as bright as it was: shares are of light.
    #[test]
    fn dithering_keeps_the_light() {
        let palette = Palette::Colors(vec![[0; 3], [255; 3]]);
        for value in [0.1_f32, 0.3, 0.5, 0.7, 0.9] {
            let dithered = |strength| {
                let mut pixels = vec![gray(value); 64 * 64];
                palette.quantize(&mut pixels, 64, Some(Dither::new(8, strength))).unwrap();
                pixels.iter().map(|pixel| pixel[0]).sum::<f32>() / 4096.0
            };
            let light = oklab::to_linear(value);
            assert!((dithered(1.0) - light).abs() < 0.01, "{value}: {} for {light}", dithered(1.0));
            assert_eq!(dithered(0.0), value.round(), "none at strength 0, at {value}");
            assert_eq!(dithered(-0.0), value.round(), "nor at -0, at {value}");
            let nearest = value.round();
            assert!(
                (dithered(0.5) - nearest).abs() <= (light - nearest).abs(),
                "less at half of it, at {value}"
            );
        }
        // A colour of the palette stays what it is.
        let mut pixels = vec![gray(1.0); 64];
        palette.quantize(&mut pixels, 8, Some(Dither::new(4, 1.0))).unwrap();
        assert_eq!(counted(&pixels), [([255; 3], 64)]);
    }
}

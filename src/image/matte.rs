//! A background taken away: an alpha channel for pictures that have none.

use super::oklab::{self, Lab, apart};
use crate::error::{Error, Result};
use crate::shortage;

/// What is taken for background, and becomes transparent: what is like the most common colour of the picture's border and
/// is connected with the border. What encloses it is cut out with soft edges.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Matte {
    /// How far from the border's colour background may be, as a distance in OKLab, in which black and white are 1 apart;
    /// 0 to 1.
    pub tolerance: f32,
    /// Background that something encloses, a hole, stays opaque; from this many pixels of the model's on it does not. 0:
    /// whatever its size.
    pub hole_area: u32,
}

impl Default for Matte {
    /// A tolerance of 0.04, which tells white from nearly white; holes stay opaque.
    fn default() -> Matte {
        Matte { tolerance: 0.04, hole_area: 0 }
    }
}

/// Border pixels whose colour may be the background's: more would not change which is the most common.
const CANDIDATES: usize = 512;
/// Alpha below this is noise of the background.
const LEAST_ALPHA: f32 = 1.0 / 16.0;
/// How far an edge's colour may lie off the line from the background to what is in front of it: by itself, and as a share of
/// its way from the background.
const OFF_LINE: (f32, f32) = (0.04, 0.25);

impl Matte {
    /// # Errors
    /// `InvalidArgument` for a tolerance out of its range.
    pub(super) fn validate(&self) -> Result<()> {
        match self.tolerance {
            0.0..=1.0 => Ok(()),
            found => Err(Error::invalid("matte_tolerance", "0 to 1", found)),
        }
    }

    /// Give pixels [height, width] their alpha. Colours of edges are those without the background in them; pixels that are
    /// transparent have the colour of the edge beside them, or are black.
    ///
    /// # Errors
    /// [`Error::Exhausted`].
    pub(super) fn cut(&self, pixels: &mut [[f32; 4]], width: usize) -> Result<()> {
        let what = "the matte";
        let lab = pixels.iter().map(|&[r, g, b, _]| oklab::of_encoded([r, g, b]));
        let lab: Vec<Lab> = shortage::collected(what, pixels.len(), lab)?;
        let plane = Plane { width, height: pixels.len() / width };
        let background = self.background(pixels, &lab, plane)?;
        let alike = |at: usize| apart(lab[at], background.lab) <= self.tolerance * self.tolerance;
        let outside = self.outside(pixels.len(), plane, alike)?;

        let before: Vec<[f32; 4]> = shortage::copied(what, pixels)?;
        let color = |at: usize| [before[at][0], before[at][1], before[at][2]];
        for at in 0..pixels.len() {
            let is_edge = plane.around(at, 1).any(|other| outside[other] != outside[at]);
            pixels[at] = match (is_edge, outside[at]) {
                (false, true) => [0.0; 4],
                (false, false) => before[at],
                (true, _) => {
                    let own = (!outside[at]).then_some(at);
                    let inside = plane.around(at, 2).filter(|&other| !outside[other]).chain(own);
                    background.without(color(at), inside.map(color))
                }
            };
        }
        // What samples a texture between its pixels mixes the colours of transparent ones in.
        for at in 0..pixels.len() {
            if pixels[at][3] == 0.0 {
                let mut sum = [0.0; 4];
                for other in plane.around(at, 1).filter(|&other| pixels[other][3] > 0.0) {
                    (0..3).for_each(|c| sum[c] += pixels[other][c]);
                    sum[3] += 1.0;
                }
                if sum[3] > 0.0 {
                    (0..3).for_each(|c| pixels[at][c] = sum[c] / sum[3]);
                }
            }
        }
        Ok(())
    }

    /// The most common colour of the border.
    fn background(&self, pixels: &[[f32; 4]], lab: &[Lab], plane: Plane) -> Result<Background> {
        let border = || (0..lab.len()).filter(|&at| plane.is_border(at));
        let border: Vec<usize> = shortage::collected("the matte", border().count(), border())?;
        let near = |a: usize, b: usize| apart(lab[a], lab[b]) <= self.tolerance * self.tolerance;
        let alike = |at: usize| border.iter().filter(|&&other| near(at, other)).count();
        let candidates = border.iter().step_by(border.len().div_ceil(CANDIDATES));
        let mut most = (border[0], 0);
        for &at in candidates {
            let count = alike(at);
            if count > most.1 {
                most = (at, count);
            }
        }
        let mut sum = Background { lab: [0.0; 3], rgb: [0.0; 3] };
        for &at in border.iter().filter(|&&other| near(most.0, other)) {
            (0..3).for_each(|c| sum.lab[c] += lab[at][c]);
            (0..3).for_each(|c| sum.rgb[c] += pixels[at][c]);
        }
        let mean = |sum: [f32; 3]| sum.map(|x| x / most.1 as f32);
        Ok(Background { lab: mean(sum.lab), rgb: mean(sum.rgb) })
    }

    /// What is background: pixels that are alike and connected, by their sides, with the border or with enough others.
    fn outside(&self, count: usize, plane: Plane, alike: impl Fn(usize) -> bool) -> Result<Vec<bool>> {
        let what = "the matte";
        let mut outside = shortage::filled(what, count, false)?;
        let mut seen = shortage::filled(what, count, false)?;
        let mut region: Vec<usize> = shortage::reserved(what, count)?;
        let starts = (0..count).filter(|&at| plane.is_border(at)).chain(0..count);
        for start in starts {
            if seen[start] || !alike(start) {
                continue;
            }
            region.clear();
            region.push(start);
            seen[start] = true;
            let mut next = 0;
            while let Some(&at) = region.get(next) {
                next += 1;
                for other in plane.beside(at) {
                    if !seen[other] && alike(other) {
                        seen[other] = true;
                        region.push(other);
                    }
                }
            }
            // Regions at the border come first, so that one with a border pixel begins with one.
            if plane.is_border(start) || (self.hole_area > 0 && region.len() >= self.hole_area as usize) {
                region.iter().for_each(|&at| outside[at] = true);
            }
        }
        Ok(outside)
    }
}

struct Background {
    lab: Lab,
    /// sRGB-encoded.
    rgb: [f32; 3],
}

impl Background {
    /// A pixel of an edge: `color` is a mixture of the background and of one of the colours `inside`, the farthest from
    /// the background on whose line it lies. That one's share is alpha; pictures are composed of encoded values, so it is
    /// counted in them.
    fn without(&self, color: [f32; 3], inside: impl Iterator<Item = [f32; 3]>) -> [f32; 4] {
        let from = |rgb: [f32; 3]| [0, 1, 2].map(|c| rgb[c] - self.rgb[c]);
        let dot = |a: [f32; 3], b: [f32; 3]| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
        let way = from(color);
        let way_squared = dot(way, way);
        let near = OFF_LINE.0 + OFF_LINE.1 * way_squared.sqrt();
        let (mut longest, mut alpha) = (0.0, 0.0);
        for front in inside {
            let line = from(front);
            let squared = dot(line, line);
            if squared <= longest {
                continue;
            }
            let share = (dot(way, line) / squared).clamp(0.0, 1.0);
            let off = [0, 1, 2].map(|c| way[c] - share * line[c]);
            if dot(off, off) <= near * near {
                (longest, alpha) = (squared, share);
            }
        }
        if alpha < LEAST_ALPHA {
            return [0.0; 4];
        }
        let [r, g, b] = match alpha {
            1.0 => color,
            _ => [0, 1, 2].map(|c| (self.rgb[c] + way[c] / alpha).clamp(0.0, 1.0)),
        };
        [r, g, b, alpha]
    }
}

/// Pixels by their number, a row after the other.
#[derive(Clone, Copy)]
struct Plane {
    width: usize,
    height: usize,
}

impl Plane {
    fn is_border(self, at: usize) -> bool {
        let (x, y) = (at % self.width, at / self.width);
        x == 0 || y == 0 || x + 1 == self.width || y + 1 == self.height
    }

    /// Pixels that share a side.
    fn beside(self, at: usize) -> impl Iterator<Item = usize> {
        let (x, y) = (at % self.width, at / self.width);
        let sides = [
            (x > 0, at.wrapping_sub(1)),
            (x + 1 < self.width, at + 1),
            (y > 0, at.wrapping_sub(self.width)),
            (y + 1 < self.height, at + self.width),
        ];
        sides.into_iter().filter(|(there, _)| *there).map(|(_, at)| at)
    }

    /// Pixels up to `far` columns and rows away, without itself.
    fn around(self, at: usize, far: usize) -> impl Iterator<Item = usize> {
        let (x, y) = (at % self.width, at / self.width);
        let span = move |v: usize, end: usize| v.saturating_sub(far)..(v + far + 1).min(end);
        let rows = span(y, self.height);
        rows.flat_map(move |y| span(x, self.width).map(move |x| y * self.width + x))
            .filter(move |&other| other != at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The share of pixel (x, y) that a disc covers, of 8 × 8 samples.
    fn coverage(x: usize, y: usize, centre: f32, radius: f32) -> f32 {
        let inside = |i: usize| {
            let (dx, dy) = (
                x as f32 + (i % 8) as f32 / 8.0 + 0.0625 - centre,
                y as f32 + (i / 8) as f32 / 8.0 + 0.0625 - centre,
            );
            dx * dx + dy * dy <= radius * radius
        };
        (0..64).filter(|&i| inside(i)).count() as f32 / 64.0
    }

    /// A picture [32, 32] of shares of `front` over `back`.
    fn picture(front: [f32; 3], back: [f32; 3], share: impl Fn(usize, usize) -> f32) -> Vec<[f32; 4]> {
        let pixel = |at: usize| {
            let share = share(at % 32, at / 32);
            let [r, g, b] = [0, 1, 2].map(|c| back[c] + share * (front[c] - back[c]));
            [r, g, b, 1.0]
        };
        (0..1024).map(pixel).collect()
    }

    fn cut(mut pixels: Vec<[f32; 4]>, matte: Matte) -> Vec<[f32; 4]> {
        matte.cut(&mut pixels, 32).unwrap();
        pixels
    }

    fn area(pixels: &[[f32; 4]]) -> f32 {
        pixels.iter().map(|pixel| pixel[3]).sum()
    }

    const WHITE: [f32; 3] = [1.0; 3];

    /// A disc that touches no border, of several colours on several backgrounds: alpha is its coverage, and its colour is
    /// without the background.
    #[test]
    fn a_disc_is_cut_out_with_soft_edges() {
        for (front, back) in [
            ([0.9, 0.1, 0.1], WHITE),
            ([0.0; 3], WHITE),
            ([1.0, 0.8, 0.2], [0.1, 0.2, 0.5]),
            ([0.2, 0.5, 0.2], [1.0, 0.0, 1.0]),
        ] {
            let share = |x, y| coverage(x, y, 16.3, 9.4);
            let found = cut(picture(front, back, share), Matte::default());
            let expected = std::f32::consts::PI * 9.4 * 9.4;
            println!("{front:?} on {back:?}: {} for {expected}", area(&found));
            assert!((area(&found) / expected - 1.0).abs() < 0.01, "{} for {expected}", area(&found));
            for (at, pixel) in found.iter().enumerate() {
                let covered = share(at % 32, at / 32);
                assert!((pixel[3] - covered).abs() < 0.07, "{at}: {pixel:?} for {covered}");
                // The colour under a wholly transparent pixel counts where textures are sampled between pixels.
                let bled = pixel[3] > 0.0 || pixel[..3] != [0.0; 3];
                assert!(!bled || (0..3).all(|c| (pixel[c] - front[c]).abs() < 0.02), "{at}: {pixel:?}");
            }
        }
    }

    /// Noise of the background, and a corner of another colour, change little.
    #[test]
    fn the_most_common_color_of_the_border_is_the_background() {
        let mut pixels = picture([0.2, 0.3, 0.8], WHITE, |x, y| coverage(x, y, 16.0, 8.0));
        for (at, pixel) in pixels.iter_mut().enumerate() {
            let noise = (at * 2_654_435_761 % 101) as f32 / 101.0 * 0.04;
            (0..3).for_each(|c| pixel[c] = (pixel[c] - noise).max(0.0));
            if at / 32 < 6 && at % 32 < 6 {
                *pixel = [0.1, 0.6, 0.1, 1.0];
            }
        }
        let found = cut(pixels, Matte::default());
        let expected = std::f32::consts::PI * 64.0 + 36.0;
        assert!((area(&found) / expected - 1.0).abs() < 0.02, "{} for {expected}", area(&found));
        assert_eq!(found[0], [0.1, 0.6, 0.1, 1.0]);
        assert_eq!(found[31][3], 0.0);
    }

    #[test]
    fn holes_stay_unless_they_are_large_enough() {
        let ring = |x, y| coverage(x, y, 16.0, 12.0) - coverage(x, y, 16.0, 5.0);
        let pixels = picture([0.8, 0.2, 0.2], WHITE, ring);
        let of = |hole_area| area(&cut(pixels.clone(), Matte { hole_area, ..Matte::default() }));
        let (disc, hole) = (std::f32::consts::PI * 144.0, std::f32::consts::PI * 25.0);
        for (hole_area, expected) in [(0, disc), (200, disc), (20, disc - hole)] {
            assert!(
                (of(hole_area) / expected - 1.0).abs() < 0.02,
                "{hole_area}: {} for {expected}",
                of(hole_area)
            );
        }
        let found = cut(pixels, Matte::default());
        assert_eq!(found[16 * 32 + 16], [1.0; 4], "the hole's own colour");
    }

    #[test]
    fn a_picture_of_one_color_is_all_background() {
        let found = cut(picture(WHITE, [0.3, 0.4, 0.5], |_, _| 0.0), Matte::default());
        assert!(found.iter().all(|pixel| *pixel == [0.0; 4]));
        // Nothing of a picture whose border has every colour but once is background, except there.
        let found = cut(
            picture(WHITE, [0.0; 3], |x, y| ((x * 31 + y * 17) % 97) as f32 / 97.0),
            Matte { tolerance: 0.0, hole_area: 0 },
        );
        assert!(area(&found) > 1000.0, "{}", area(&found));
    }

    /// What touches the border is in front of the background all the same, and small pictures have borders only.
    #[test]
    fn what_touches_the_border_stays() {
        let half = picture([0.1; 3], WHITE, |_, y| if y >= 20 { 1.0 } else { 0.0 });
        let found = cut(half, Matte::default());
        assert_eq!(area(&found), 12.0 * 32.0);
        assert!(found[20 * 32..].iter().all(|pixel| pixel.map(super::super::to_u8) == [26, 26, 26, 255]));
        for width in 1..4 {
            let mut tiny = vec![[0.5, 0.5, 0.5, 1.0]; 3 * width];
            tiny[0] = [1.0, 0.0, 0.0, 1.0];
            Matte::default().cut(&mut tiny, width).unwrap();
            assert_eq!(tiny[0], [1.0, 0.0, 0.0, 1.0], "{width} wide");
            assert!(tiny[1..].iter().all(|pixel| pixel[3] == 0.0), "{width} wide");
        }
    }
}

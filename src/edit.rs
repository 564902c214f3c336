//! Start from a picture: its tokens, and which of them stay. Variations keep a random share, inpainting keeps
//! what lies outside a mask. Kept tokens are known in x_init, and in the hard path they are in the result.

use crate::error::{Error, Result};
use crate::families::family::Layout;
use crate::program::Program;
use crate::rng::{Philox, Stream};
use crate::runtime::Cancel;
use crate::sessions::Sessions;
use crate::shortage;
use crate::tensor::{Tensor, to_u32};

/// The picture a request starts from.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// [channels, H, W] in [0, 1], of the model's size and channels.
    pub image: Vec<f32>,
    pub keep: Keep,
}

/// Which tokens of the picture stay.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Keep {
    /// This share of them, round(slots · share), chosen by the picture's seed: a variation. 1 gives the tokenizer's
    /// reconstruction, 0 plain generation.
    Share(f32),
    /// Those whose cell of the picture has no pixel with a mask above 0, [H, W]: the rest is painted anew. Only
    /// where a token stands for a place.
    Outside(Vec<f32>),
}

impl Edit {
    /// Refuse what does not fit the model.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]; [`Error::Unsupported`] for a mask where no token stands for a place.
    pub(crate) fn validate(&self, layout: &Layout) -> Result<()> {
        check_image("edit.image", &self.image, layout)?;
        match &self.keep {
            Keep::Share(share) if !(0.0..=1.0).contains(share) => {
                Err(Error::invalid("edit.keep", "0 to 1", share))
            }
            Keep::Share(_) => Ok(()),
            Keep::Outside(mask) => {
                if layout.grid.is_none() {
                    return Err(Error::Unsupported {
                        what: "an edit mask".into(),
                        reason: "every token of this model stands for the whole picture; keep a share".into(),
                    });
                }
                Edit::check_counts(layout, self.image.len(), Some(mask.len()))?;
                match mask.iter().position(|m| !m.is_finite()) {
                    Some(at) => {
                        Err(Error::invalid("edit.mask", "finite floats", format!("{} at {at}", mask[at])))
                    }
                    None => Ok(()),
                }
            }
        }
    }

    /// Refuse a picture of so many floats, and a mask of so many, that are not of the model's size.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`].
    #[doc(hidden)]
    pub fn check_counts(layout: &Layout, image: usize, mask: Option<usize>) -> Result<()> {
        let (size, pixels) = (format!("{}x{}", layout.width, layout.height), layout.width * layout.height);
        let floats = layout.channels * pixels;
        if image != floats {
            return Err(Error::invalid("edit.image", format!("{floats} floats for {size}"), image));
        }
        match mask {
            Some(found) if found != pixels => {
                Err(Error::invalid("edit.mask", format!("{pixels} floats for {size}"), found))
            }
            _ => Ok(()),
        }
    }

    /// A copy.
    ///
    /// # Errors
    /// [`Error::Exhausted`].
    pub(crate) fn copied(&self) -> Result<Edit> {
        Ok(Edit {
            image: shortage::copied("edit.image", &self.image)?,
            keep: match &self.keep {
                Keep::Share(share) => Keep::Share(*share),
                Keep::Outside(mask) => Keep::Outside(shortage::copied("edit.mask", mask)?),
            },
        })
    }

    /// Per slot, whether the token of picture `i` of a request stays.
    fn kept(&self, layout: &Layout, rng: &Philox) -> Vec<bool> {
        match &self.keep {
            Keep::Share(share) => {
                let slots = layout.slots();
                let mut order: Vec<(u32, usize)> = rng.words(Stream::Keep, 0, 0).zip(0..slots).collect();
                order.sort_unstable();
                let mut kept = vec![false; slots];
                let count = (slots as f64 * f64::from(*share)).round() as usize;
                order[..count].iter().for_each(|&(_, slot)| kept[slot] = true);
                kept
            }
            Keep::Outside(mask) => {
                let (rows, columns) = layout.grid.unwrap_or((1, 1));
                let (h, w) = (layout.height / rows, layout.width / columns);
                let cell = |position: usize| {
                    let (top, left) = (position / columns * h, position % columns * w);
                    (top..top + h).flat_map(move |y| (left..left + w).map(move |x| y * layout.width + x))
                };
                let stays = |position: usize| cell(position).all(|pixel| mask[pixel] <= 0.0);
                (0..layout.slots()).map(|slot| stays(slot / layout.splits)).collect()
            }
        }
    }
}

/// Refuse pixels [channels, H, W] that have another length, or are not finite.
///
/// # Errors
/// [`Error::InvalidArgument`] under the name `what`.
pub(crate) fn check_image(what: &str, image: &[f32], layout: &Layout) -> Result<()> {
    let expected = layout.channels * layout.width * layout.height;
    if image.len() != expected {
        let expected = format!("{expected} floats for {}x{}", layout.width, layout.height);
        return Err(Error::invalid(what, expected, image.len()));
    }
    match image.iter().position(|v| !v.is_finite()) {
        Some(at) => Err(Error::invalid(what, "finite floats", format!("{} at index {at}", image[at]))),
        None => Ok(()),
    }
}

/// The tokens that are kept of the picture, for every picture of a request.
#[derive(Debug)]
pub(crate) struct KeptTokens {
    /// [slots] of the picture, the same for all.
    tokens: Vec<u32>,
    /// [B][slots]
    kept: Vec<Vec<bool>>,
}

impl KeptTokens {
    /// Encode the picture and choose what stays, for pictures with these random numbers.
    ///
    /// # Errors
    /// As [`encode`].
    pub fn new(
        sessions: &mut Sessions,
        edit: &Edit,
        layout: &Layout,
        rngs: impl Iterator<Item = Philox>,
        cancel: &Cancel,
    ) -> Result<KeptTokens> {
        let tokens = encode(sessions, &edit.image, layout, cancel)?;
        Ok(KeptTokens { tokens, kept: rngs.map(|rng| edit.kept(layout, &rng)).collect() })
    }

    /// Put the kept tokens into [B, slots] tokens.
    pub fn restore(&self, tokens: &mut [u32]) {
        for (picture, kept) in tokens.chunks_exact_mut(self.tokens.len()).zip(&self.kept) {
            for ((token, &known), _) in picture.iter_mut().zip(&self.tokens).zip(kept).filter(|(_, k)| **k) {
                *token = known;
            }
        }
    }

    /// Number of tokens that stay, per picture.
    pub fn counts(&self) -> Vec<usize> {
        self.kept.iter().map(|kept| kept.iter().filter(|k| **k).count()).collect()
    }
}

/// Image [channels, H, W] → tokens [N, splits].
///
/// # Errors
/// [`Error::Unsupported`] for a model file without an encoder, [`Error::Cancelled`], or a failed run.
pub(crate) fn encode(
    sessions: &mut Sessions,
    image: &[f32],
    layout: &Layout,
    cancel: &Cancel,
) -> Result<Vec<u32>> {
    let image = shortage::copied("the picture", image)?;
    let image = Tensor::from_f32_vec([1, layout.channels, layout.height, layout.width], image);
    let tokens = sessions.run(Program::Encode, 1, &[("image", &image)], cancel)?;
    to_u32(tokens.i64s()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout {
        positions: 16,
        splits: 2,
        codes: 8,
        mask_token: 8,
        embedding: 4,
        classes: 3,
        width: 16,
        height: 8,
        channels: 3,
        grid: Some((4, 4)),
    };

    fn edit(keep: Keep) -> Edit {
        Edit { image: vec![0.5; 3 * 16 * 8], keep }
    }

    #[test]
    fn a_share_is_exact_and_seeded() {
        for (share, count) in [(0.0, 0), (0.25, 8), (0.5, 16), (1.0, 32)] {
            let kept = edit(Keep::Share(share)).kept(&LAYOUT, &Philox::new(5));
            assert_eq!(kept.iter().filter(|k| **k).count(), count, "share {share}");
        }
        let half = |seed| edit(Keep::Share(0.5)).kept(&LAYOUT, &Philox::new(seed));
        assert_eq!(half(1), half(1));
        assert_ne!(half(1), half(2));
        // A larger share only keeps more.
        let more = edit(Keep::Share(0.75)).kept(&LAYOUT, &Philox::new(1));
        assert!(half(1).iter().zip(&more).all(|(a, b)| !a | b));
    }

    #[test]
    fn a_pixel_opens_its_cell_in_all_splits() {
        // Cells are 2 rows by 4 columns; pixel (row 3, column 9) lies in cell row 1, column 2: position 6.
        let mut mask = vec![0.0; 16 * 8];
        mask[3 * 16 + 9] = 0.2;
        let kept = edit(Keep::Outside(mask)).kept(&LAYOUT, &Philox::new(0));
        let open: Vec<usize> = (0..32).filter(|&s| !kept[s]).collect();
        assert_eq!(open, [12, 13]);
    }

    #[test]
    fn known_tokens_are_restored() {
        let known = KeptTokens { tokens: vec![1, 2, 3], kept: vec![vec![true, false, true], vec![false; 3]] };
        let mut tokens = vec![9; 6];
        known.restore(&mut tokens);
        assert_eq!(tokens, [1, 9, 3, 9, 9, 9]);
        assert_eq!(known.counts(), [2, 0]);
    }

    #[test]
    fn faults_are_named() {
        let message = |e: &Edit, layout: &Layout| e.validate(layout).unwrap_err().to_string();
        let short = Edit { image: vec![0.0; 5], keep: Keep::Share(1.0) };
        assert_eq!(message(&short, &LAYOUT), "edit.image: expected 384 floats for 16x8, found 5");
        assert_eq!(message(&edit(Keep::Share(f32::NAN)), &LAYOUT), "edit.keep: expected 0 to 1, found NaN");
        let mask = edit(Keep::Outside(vec![0.0; 3]));
        assert_eq!(message(&mask, &LAYOUT), "edit.mask: expected 128 floats for 16x8, found 3");
        let whole = Layout { grid: None, ..LAYOUT };
        assert!(message(&mask, &whole).contains("stands for the whole picture"));
    }
}

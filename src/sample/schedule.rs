//! How the masked share and the guidance scale go over the steps of the masked-diffusion sampler.

use std::f32::consts::PI;

/// Share of slots still masked after a progress r in (0, 1].
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// 1 - r
    Linear,
    /// 1 - √r
    Root,
    /// 1 - r²
    Square,
    /// cos(r · π/2)
    Cosine,
    /// acos(r) / (π/2)
    Arccos,
}

impl Schedule {
    /// The masked share, clamped to \[1e-6, 1\].
    ///
    /// In f32 as the reference has it: the count derived from it is a floor, and 1 - 0.9 of f64 lies
    /// on the other side of 0.1.
    pub fn mask_ratio(self, progress: f64) -> f32 {
        self.ratio(progress as f32).clamp(1e-6, 1.0)
    }

    /// The masked share, not clamped; r in \[0, 1\].
    pub(crate) fn ratio(self, r: f32) -> f32 {
        match self {
            Schedule::Linear => 1.0 - r,
            Schedule::Root => 1.0 - r.sqrt(),
            Schedule::Square => 1.0 - r * r,
            Schedule::Cosine => libm::cosf(r * PI * 0.5),
            Schedule::Arccos => libm::acosf(r) / (PI * 0.5),
        }
    }

    /// How many of the `masked` slots stay masked: ⌊mask_ratio · maskable⌋, where `maskable` were masked at
    /// the start. One at least, and one less than before where that leaves one.
    pub(crate) fn mask_len(self, progress: f64, maskable: usize, masked: usize) -> usize {
        let share = self.mask_ratio(progress) * maskable as f32;
        (share.floor() as usize).min(masked.saturating_sub(1)).max(1)
    }
}

/// Element `i` of `steps` numbers from `start` to `end`, both included, in f32 as `torch.linspace` has them;
/// a single one is `start`.
pub(crate) fn linspace(start: f32, end: f32, steps: u32, i: u32) -> f32 {
    if steps < 2 {
        return start;
    }
    let step = (end - start) / (steps - 1) as f32;
    match i < steps / 2 {
        true => start + step * i as f32,
        false => end - step * (steps - 1 - i) as f32,
    }
}

/// How the conditional logits c and the unconditional u combine; s is the guidance scale.
///
/// The families differ: scale s of the first form means what s + 1 means in the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuidanceForm {
    /// c + s·(c - u): MaskBit, MaskGIT, MaskGen. No guidance at s = 0.
    FromConditional,
    /// u + s·(c - u): Meissonic, and Di\[M\]O's training code. No guidance at s = 1.
    FromUnconditional,
}

impl GuidanceForm {
    /// One guided logit.
    pub(crate) fn combine(self, scale: f64, c: f32, u: f32) -> f64 {
        let (c, u) = (f64::from(c), f64::from(u));
        match self {
            GuidanceForm::FromConditional => c + scale * (c - u),
            GuidanceForm::FromUnconditional => u + scale * (c - u),
        }
    }
}

/// Factor f on the strength of guidance at a sampler's time t in \[0, 1\]; f = 0 is no guidance in either form.
///
/// MaskBit's t is i/n at step i of n; MaskGen's is (i + 1)/n.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Annealing {
    /// 1
    None,
    /// t
    Linear,
    /// (1 - cos(π·t^pow)) / 2
    Cosine,
}

impl Annealing {
    /// f at time t.
    pub(crate) fn factor(self, t: f64, pow: f32) -> f64 {
        match self {
            Annealing::None => 1.0,
            Annealing::Linear => t,
            Annealing::Cosine => (1.0 - libm::cos(std::f64::consts::PI * libm::pow(t, f64::from(pow)))) / 2.0,
        }
    }
}

/// Classifier-free guidance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guidance {
    pub form: GuidanceForm,
    /// s before annealing.
    pub scale: f32,
    pub annealing: Annealing,
    /// Exponent of [`Annealing::Cosine`]; ignored by the others.
    pub pow: f32,
}

impl Guidance {
    /// Plain sampling of the conditional logits.
    pub const OFF: Guidance =
        Guidance { form: GuidanceForm::FromConditional, scale: 0.0, annealing: Annealing::None, pow: 1.0 };

    /// s at step `i` of `steps`: s·f, or 1 + (s - 1)·f where 1 is what leaves c alone.
    pub fn scale_at(&self, i: u32, steps: u32) -> f64 {
        let factor = self.annealing.factor(f64::from(i) / f64::from(steps), self.pow);
        self.unguided() + (f64::from(self.scale) - self.unguided()) * factor
    }

    /// Whether step `i` reads the unconditional logits; where not, that half of the network's batch can be
    /// saved (step 0 of the annealed schedules).
    pub fn needs_unconditional(&self, i: u32, steps: u32) -> bool {
        self.scale_at(i, steps) != self.unguided()
    }

    /// The scale that gives back the conditional logits.
    fn unguided(&self) -> f64 {
        match self.form {
            GuidanceForm::FromConditional => 0.0,
            GuidanceForm::FromUnconditional => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mask_ratio_table() {
        for (schedule, expected) in [
            (Schedule::Linear, [0.75, 0.5, 1e-6]),
            (Schedule::Root, [0.5, 0.29289323, 1e-6]),
            (Schedule::Square, [0.9375, 0.75, 1e-6]),
            (Schedule::Cosine, [0.9238795, 0.70710677, 1e-6]),
            (Schedule::Arccos, [0.83913875, 0.6666667, 1e-6]),
        ] {
            for (progress, expected) in [0.25, 0.5, 1.0].into_iter().zip(expected) {
                let found = schedule.mask_ratio(progress);
                assert!((found - expected).abs() <= 1.2e-7, "{schedule:?} at {progress}: {found}");
            }
        }
        // The f32 rounding that the reference's floor sees: f64 has 0.99999… here.
        assert_eq!((Schedule::Linear.mask_ratio(0.9) * 10.0).floor(), 1.0);
    }

    #[test]
    fn guidance_forms() {
        let form = |form| Guidance { form, scale: 3.0, annealing: Annealing::None, pow: 1.0 };
        let (from_c, from_u) = (form(GuidanceForm::FromConditional), form(GuidanceForm::FromUnconditional));
        assert_eq!(from_c.form.combine(3.0, 2.0, 0.5), 6.5);
        assert_eq!(from_u.form.combine(3.0, 2.0, 0.5), 5.0);
        assert_eq!(from_u.form.combine(4.0, 2.0, 0.5), from_c.form.combine(3.0, 2.0, 0.5));
        assert!(!Guidance::OFF.needs_unconditional(1, 2));
        for guidance in [from_c, from_u] {
            let annealed = Guidance { annealing: Annealing::Linear, ..guidance };
            assert!(guidance.needs_unconditional(0, 4));
            assert!(!annealed.needs_unconditional(0, 4) && annealed.needs_unconditional(1, 4));
        }
        let annealed = Guidance { annealing: Annealing::Linear, ..from_u };
        assert_eq!(annealed.scale_at(2, 4), 2.0);
    }

    #[test]
    fn linspace_has_both_ends() {
        let all = |start, end, n| (0..n).map(|i| linspace(start, end, n, i)).collect::<Vec<_>>();
        assert_eq!(all(2.0, 0.0, 5), [2.0, 1.5, 1.0, 0.5, 0.0]);
        assert_eq!(all(0.0, 1.0, 4), [0.0, 0.33333334, 0.6666666, 1.0]);
        assert_eq!(all(1.0, 0.0, 1), [1.0]);
    }
}

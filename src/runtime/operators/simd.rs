//! Loops over slices that the compiler vectorises, compiled for several sets of instructions; which one runs
//! is chosen by what the processor has.

/// Loops to be run with the processor's best instructions. Implementations are `#[inline(always)]`, as are
/// the functions that they call: what is not inlined is compiled for the baseline.
pub(super) trait Loops {
    /// `FMA`: whether a·b + c is one instruction, rounded once.
    fn run<const FMA: bool>(self);
}

/// Run `work` with the best instructions of this processor.
#[allow(unsafe_code)]
pub(super) fn run(work: impl Loops) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512dq") && has!("fma") {
            // SAFETY: the processor has these instructions.
            return unsafe { with_avx512(work) };
        }
        if has!("avx2") && has!("fma") {
            // SAFETY: the processor has these instructions.
            return unsafe { with_avx2(work) };
        }
    }
    work.run::<{ cfg!(target_arch = "aarch64") }>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma")]
fn with_avx512(work: impl Loops) {
    work.run::<true>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn with_avx2(work: impl Loops) {
    work.run::<true>()
}

/// a·b + c.
#[inline(always)]
pub(super) fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// 1.5·2²³: added to a number of magnitude below 2²², it leaves the nearest integer, ties to even, in the low
/// bits.
const TO_INTEGER: f32 = 12_582_912.0;

/// eˣ within 2 units in the last place for x in −87..=88, beyond which it is that of the nearest bound: 2ⁿ·eʳ
/// with x = n·ln 2 + r and the polynomial of Cephes (S. Moshier, expf.c) for eʳ, |r| ≤ ln 2 / 2.
#[inline(always)]
fn exp<const FMA: bool>(x: f32) -> f32 {
    // NaN becomes a bound: callers divide NaN by it.
    let x = if x > -87.0 { x } else { -87.0 };
    let x = if x < 88.0 { x } else { 88.0 };
    let shifted = mul_add::<FMA>(x, std::f32::consts::LOG2_E, TO_INTEGER);
    let n = shifted - TO_INTEGER;
    let r = mul_add::<FMA>(n, -0.693_359_4, x);
    let r = mul_add::<FMA>(n, 2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4;
    for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = mul_add::<FMA>(p, r, c);
    }
    let p = mul_add::<FMA>(p, r * r, r) + 1.0;
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// x where x·σ(x) is a normal number, and beyond that a bound, as [`exp`] has one: its product would grow with x.
#[inline(always)]
fn bounded(x: f32) -> f32 {
    // NaN stays one.
    if x < -88.0 { -88.0 } else { x }
}

/// x·σ(x) of every element.
#[inline(always)]
pub(super) fn silu<const FMA: bool>(x: &mut [f32]) {
    for x in x {
        *x = bounded(*x) / (1.0 + exp::<FMA>(-*x));
    }
}

/// Of every y the slope of y·σ(y) there, σ(y) + y·σ(y)·(1 − σ(y)).
#[inline(always)]
pub(super) fn silu_slope<const FMA: bool>(y: &mut [f32]) {
    for y in y {
        let s = 1.0 / (1.0 + exp::<FMA>(-*y));
        *y = mul_add::<FMA>(bounded(*y) * s, 1.0 - s, s);
    }
}

/// Σ (x − shift) and Σ (x − shift)².
#[inline(always)]
pub(super) fn moments(x: &[f32], shift: f32) -> [f64; 2] {
    sums(x, x, |x, _| x - shift, |x, _| (x - shift) * (x - shift))
}

/// Σ d and Σ d·(x − shift).
#[inline(always)]
pub(super) fn products(d: &[f32], x: &[f32], shift: f32) -> [f64; 2] {
    sums(d, x, |d, _| d, |d, x| d * (x - shift))
}

/// Σ f and Σ g of pairs, side by side, so that sums wait for no other one.
#[inline(always)]
fn sums(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32, g: impl Fn(f32, f32) -> f32) -> [f64; 2] {
    let (mut of_f, mut of_g) = ([0.0f32; 64], [0.0f32; 64]);
    let ((a, rest_of_a), (b, rest_of_b)) = (a.as_chunks::<64>(), b.as_chunks::<64>());
    for (a, b) in a.iter().zip(b) {
        for i in 0..64 {
            of_f[i] += f(a[i], b[i]);
            of_g[i] += g(a[i], b[i]);
        }
    }
    for (i, (a, b)) in rest_of_a.iter().zip(rest_of_b).enumerate() {
        of_f[i] += f(*a, *b);
        of_g[i] += g(*a, *b);
    }
    [of_f, of_g].map(|sums| sums.iter().map(|&s| f64::from(s)).sum())
}

/// Levels over a range: `inverse` is 1 over what a level stands for, `zero` the level of 0 and `most` the
/// largest one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rounding {
    pub inverse: f32,
    pub zero: u8,
    pub most: u8,
}

/// Nearest levels, ties to even; of NaN some level.
#[inline(always)]
pub(super) fn round(x: &[f32], to: Rounding, levels: &mut [u8]) {
    let (low, high) = (-f32::from(to.zero), f32::from(to.most) - f32::from(to.zero));
    for (x, level) in x.iter().zip(levels) {
        let x = x * to.inverse;
        let x = if x > low { x } else { low };
        let x = if x < high { x } else { high };
        *level = ((x + TO_INTEGER).to_bits() as u8).wrapping_add(to.zero);
    }
}

/// y = (x − shift)·factor + summand.
#[inline(always)]
pub(super) fn set<const FMA: bool, T: Number>(y: &mut [f32], x: &[T], map: &Map<'_>, summand: &[f32]) {
    for ((((y, x), shift), factor), summand) in
        y.iter_mut().zip(x).zip(map.shift).zip(map.factor).zip(summand)
    {
        *y = mul_add::<FMA>(x.number() - shift, *factor, *summand);
    }
}

/// y += (x − shift)·factor.
#[inline(always)]
pub(super) fn add<const FMA: bool, T: Number>(y: &mut [f32], x: &[T], map: &Map<'_>) {
    for (((y, x), shift), factor) in y.iter_mut().zip(x).zip(map.shift).zip(map.factor) {
        *y = mul_add::<FMA>(x.number() - shift, *factor, *y);
    }
}

/// A map (x − shift)·factor of every element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Map<'a> {
    pub shift: &'a [f32],
    pub factor: &'a [f32],
}

/// The largest magnitude; NaN where there is one.
#[inline(always)]
pub(super) fn largest(x: &[f32]) -> f32 {
    // Magnitudes are in the order of their bits, NaN the last of them. Side by side, so that maxima wait for
    // no other one.
    let magnitude = |x: &f32| x.abs().to_bits() as i32;
    let mut most = [0; 64];
    let (whole, rest) = x.as_chunks::<64>();
    for x in whole {
        for (most, x) in most.iter_mut().zip(x) {
            *most = magnitude(x).max(*most);
        }
    }
    f32::from_bits(rest.iter().map(magnitude).chain(most).fold(0, i32::max) as u32)
}

/// sums += x, squares += x².
#[inline(always)]
pub(super) fn add_moments<const FMA: bool>(x: &[f32], sums: &mut [f32], squares: &mut [f32]) {
    for ((x, sum), square) in x.iter().zip(sums).zip(squares) {
        *sum += x;
        *square = mul_add::<FMA>(*x, *x, *square);
    }
}

/// What loops read beside f32.
pub(super) trait Number: Copy {
    fn number(self) -> f32;
}

impl Number for f32 {
    #[inline(always)]
    fn number(self) -> f32 {
        self
    }
}

impl Number for u8 {
    #[inline(always)]
    fn number(self) -> f32 {
        f32::from(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Both<'a>(&'a [f32], &'a mut Vec<(f32, f32)>);

    impl Loops for Both<'_> {
        #[inline(always)]
        fn run<const FMA: bool>(self) {
            let mut y = self.0.to_vec();
            silu::<FMA>(&mut y);
            self.1.extend(self.0.iter().map(|&x| exp::<FMA>(x)).zip(y));
        }
    }

    #[test]
    fn exponentials_are_near() {
        let x: Vec<f32> = (-8700..=8700).map(|i| i as f32 * 0.01).collect();
        let mut found = Vec::new();
        run(Both(&x, &mut found));
        let mut without = Vec::new();
        Both(&x, &mut without).run::<false>();
        for (x, (exp, silu)) in x.iter().chain(&x).zip(found.into_iter().chain(without)) {
            let wide = f64::from(*x);
            let (e, s) = (wide.exp(), wide / (1.0 + (-wide).exp()));
            assert!((f64::from(exp) - e).abs() <= 3e-7 * e, "exp({x}) = {exp}");
            assert!((f64::from(silu) - s).abs() <= 5e-7 * s.abs(), "silu({x}) = {silu}");
        }
    }

    #[test]
    fn of_extremes_silu_is_a_number_where_it_is_one() {
        let mut x = [f32::NAN, 1e30, f32::INFINITY, 0.0, -88.5, -200.0, -1e30, f32::MIN, f32::NEG_INFINITY];
        let mut slopes = x;
        silu::<false>(&mut x);
        assert!(x[0].is_nan() && x[1] == 1e30 && x[2] == f32::INFINITY, "{x:?}");
        assert!(x[3..].iter().all(|x| x.abs() < 1e-35), "{x:?}");
        silu_slope::<false>(&mut slopes);
        assert!(slopes[0].is_nan() && slopes[1] == 1.0 && slopes[3] == 0.5, "{slopes:?}");
        assert!(slopes[4..].iter().all(|x| x.abs() < 1e-35), "{slopes:?}");
    }

    #[test]
    fn slopes_are_near() {
        for i in -8700..=8700 {
            let y = [i as f32 * 0.01];
            let wide = f64::from(y[0]);
            let s = 1.0 / (1.0 + (-wide).exp());
            for fma in [false, true] {
                let mut found = y;
                if fma {
                    silu_slope::<true>(&mut found)
                } else {
                    silu_slope::<false>(&mut found)
                }
                let off = f64::from(found[0]) - (s + wide * s * (1.0 - s));
                assert!(off.abs() <= 5e-7 * (1.0 + wide.abs()) * s, "slope at {wide}: {}", found[0]);
            }
        }
    }

    #[test]
    fn levels_are_the_nearest_ones() {
        let to = Rounding { inverse: 2.0, zero: 3, most: 10 };
        let x = [0.0, 0.24, 0.25, 0.26, 0.75, -0.25, -0.75, -1.5, -1.6, -1e30, 3.5, 3.6, 1e30];
        let mut levels = [0; 13];
        round(&x, to, &mut levels);
        assert_eq!(levels, [3, 3, 3, 4, 5, 3, 1, 0, 0, 0, 10, 10, 10]);
    }
}

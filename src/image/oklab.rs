//! OKLab (Björn Ottosson, "A perceptual color space for image processing", 2020): distances in it are about as large as they
//! look. Black and white are 1 apart.
//!
//! Roots and powers come from the `libm` crate, not from the platform's C library: the bits are the same on every platform.

/// L, a, b.
pub(super) type Lab = [f32; 3];

/// sRGB-encoded, in \[0, 1\] → linear light.
pub(super) fn to_linear(x: f32) -> f32 {
    if x <= 0.04045 { x / 12.92 } else { libm::powf((x + 0.055) / 1.055, 2.4) }
}

/// Linear light → sRGB-encoded.
pub(super) fn to_encoded(x: f32) -> f32 {
    if x <= 0.003_130_8 { x * 12.92 } else { 1.055 * libm::powf(x, 1.0 / 2.4) - 0.055 }
}

fn product(matrix: [[f32; 3]; 3], v: [f32; 3]) -> [f32; 3] {
    matrix.map(|row| row[0] * v[0] + row[1] * v[1] + row[2] * v[2])
}

/// Of linear light.
pub(super) fn of_linear(rgb: [f32; 3]) -> Lab {
    let lms = product(
        [
            [0.412_221_46, 0.536_332_55, 0.051_445_995],
            [0.211_903_5, 0.680_699_5, 0.107_396_96],
            [0.088_302_46, 0.281_718_85, 0.629_978_7],
        ],
        rgb,
    );
    product(
        [
            [0.210_454_26, 0.793_617_8, -0.004_072_047],
            [1.977_998_5, -2.428_592_2, 0.450_593_7],
            [0.025_904_037, 0.782_771_77, -0.808_675_77],
        ],
        lms.map(libm::cbrtf),
    )
}

/// Of sRGB-encoded values in \[0, 1\].
pub(super) fn of_encoded(rgb: [f32; 3]) -> Lab {
    of_linear(rgb.map(to_linear))
}

/// To sRGB-encoded values, which may lie outside of \[0, 1\].
pub(super) fn to_rgb(lab: Lab) -> [f32; 3] {
    let lms = product(
        [
            [1.0, 0.396_337_78, 0.215_803_76],
            [1.0, -0.105_561_346, -0.063_854_17],
            [1.0, -0.089_484_18, -1.291_485_5],
        ],
        lab,
    );
    let linear = product(
        [
            [4.076_741_7, -3.307_711_6, 0.230_969_94],
            [-1.268_438, 2.609_757_4, -0.341_319_38],
            [-0.004_196_086_3, -0.703_418_6, 1.707_614_7],
        ],
        lms.map(|x| x * x * x),
    );
    linear.map(to_encoded)
}

/// Squared distance.
pub(super) fn apart(a: Lab, b: Lab) -> f32 {
    let d = [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
    d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of the author's page and of CSS Color 4.
    #[test]
    fn known_colors() {
        for (rgb, expected) in [
            ([1.0, 1.0, 1.0], [1.0, 0.0, 0.0]),
            ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
            ([1.0, 0.0, 0.0], [0.627_96, 0.224_86, 0.125_85]),
            ([0.0, 1.0, 0.0], [0.866_44, -0.233_89, 0.179_5]),
            ([0.0, 0.0, 1.0], [0.452_01, -0.032_46, -0.311_53]),
        ] {
            let found = of_encoded(rgb);
            let worst = (0..3).map(|i| f32::abs(found[i] - expected[i])).fold(0.0, f32::max);
            assert!(worst < 2e-4, "{rgb:?}: expected {expected:?}, found {found:?}");
        }
    }

    #[test]
    fn every_byte_comes_back() {
        for i in 0..=255_u8 {
            let rgb = [i, i.wrapping_mul(7), i.wrapping_mul(31)].map(|v| f32::from(v) / 255.0);
            let back = to_rgb(of_encoded(rgb));
            assert!((0..3).all(|k| (back[k] - rgb[k]).abs() < 1.0 / 512.0), "{rgb:?} became {back:?}");
        }
    }
}

//! Distances between what is found and what is expected.

/// Largest absolute difference, and ‖a − b‖₂ / ‖b‖₂; NaN never passes for agreement.
pub fn difference(a: &[f64], b: &[f64]) -> (f64, f64) {
    assert_eq!(a.len(), b.len());
    let d: Vec<f64> = a.iter().zip(b).map(|(x, y)| (x - y).abs()).collect();
    assert!(d.iter().all(|x| x.is_finite()));
    (d.iter().copied().fold(0.0, f64::max), norm(&d) / norm(b))
}

/// ‖v‖₂
pub fn norm(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

pub fn wide(v: &[f32]) -> Vec<f64> {
    v.iter().map(|&x| f64::from(x)).collect()
}

/// ‖a − b‖₂ / ‖b‖₂
pub fn relative(a: &[f32], b: &[f32]) -> f64 {
    difference(&wide(a), &wide(b)).1
}

/// No value is further than `bound` from what is expected.
#[track_caller]
pub fn assert_close(found: &[f32], expected: &[f32], bound: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let (absolute, _) = difference(&wide(found), &wide(expected));
    assert!(absolute <= bound, "{what}: {absolute}");
}

/// No value is further than `bound` from what is expected, in units of it where it is more than 1.
#[track_caller]
pub fn assert_near(found: &[f32], expected: &[f32], bound: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= bound * b.abs().max(1.0), "{what}: {a} is not {b} at {i}");
    }
}

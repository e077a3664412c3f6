//! A numerical check of every operation on the device in use, against its portable definition.
//!
//! Why at run time: if a browser's compiler refuses a shader, the shader is skipped with a log line, and its output is stale
//! memory. And a driver may be wrong even if the text is right. So a program runs this once, before it trusts a device.
//!
//! Invariants: a mismatch is a result and never a panic.

use burn::tensor::Device;
use serde::Serialize;

use super::case::Case;

/// The largest allowed error of a forward pass, relative to the largest value.
const FORWARD_TOLERANCE: f32 = 1e-5;
/// The same for a gradient, whose sums are longer and cancel.
const GRADIENT_TOLERANCE: f32 = 1e-4;

/// The result of one operation on one case.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// The public function.
    pub kernel: &'static str,
    /// Shape and options.
    pub case: String,
    /// The largest difference of any output from the definition, relative to the largest value. NaN if either contains a NaN.
    pub forward_error: f32,
    /// The same for the gradients of a weighted sum of the outputs; 0 if there are none.
    pub gradient_error: f32,
    /// Whether both errors are within tolerance.
    pub passed: bool,
    /// The reason, if it failed.
    pub detail: String,
}

/// The largest difference, relative to the largest expected value; NaN if a number is NaN.
fn error(found: &[f32], expected: &[f32]) -> f32 {
    if found.len() != expected.len() {
        return f32::NAN;
    }
    let largest = expected.iter().fold(f32::MIN_POSITIVE, |largest, x| largest.max(x.abs()));
    // `max` would ignore a NaN.
    let worse = |worst: f32, x: f32| if x <= worst { worst } else { x };
    found.iter().zip(expected).map(|(x, y)| (x - y).abs() / largest).fold(0.0, worse)
}

/// The largest of the errors of several tensors.
fn errors(found: &[Vec<f32>], expected: &[Vec<f32>]) -> f32 {
    if found.len() != expected.len() {
        return f32::NAN;
    }
    let each = found.iter().zip(expected).map(|(found, expected)| error(found, expected));
    each.fold(0.0, |worst: f32, x| if x <= worst { worst } else { x })
}

impl Check {
    async fn of(case: &Case, device: &Device) -> Self {
        let expected = case.expected();
        let (forward_error, gradient_error, mut detail) = match case.on(device).await {
            Ok(found) => (errors(&found[0], &expected[0]), errors(&found[1], &expected[1]), String::new()),
            Err(reason) => (f32::NAN, f32::NAN, reason),
        };
        let passed = forward_error <= FORWARD_TOLERANCE && gradient_error <= GRADIENT_TOLERANCE;
        if !passed && detail.is_empty() {
            detail = format!(
                "differs from its definition by {forward_error:e} (limit {FORWARD_TOLERANCE:e}), its gradient by \
                 {gradient_error:e} (limit {GRADIENT_TOLERANCE:e})"
            );
        }
        Self { kernel: case.operation, case: case.sizes.clone(), forward_error, gradient_error, passed, detail }
    }
}

/// Runs `cases` on `device`, forward and backward, and compares each with its portable definition.
pub async fn selftest(device: &Device, cases: impl IntoIterator<Item = Case>) -> Vec<Check> {
    let mut checks = Vec::new();
    for case in cases {
        checks.push(Check::of(&case, device).await);
    }
    checks
}

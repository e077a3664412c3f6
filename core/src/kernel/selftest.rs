//! A numerical check of every kernel on the device that is about to be used.
//!
//! Why at run time: in a browser a shader that its compiler refuses is skipped with a log line and its output is stale
//! memory, and a driver may be wrong where the text is right. So a program runs this once, before it trusts a device.
//!
//! Invariants: every read is awaited, as a browser demands; a mismatch is a result and never a panic; inputs come from
//! sines, so two machines check the same numbers.

use burn::tensor::{Device, Tensor, TensorData};
use serde::Serialize;

use super::{attention, attention_map, attention_map_loss, cross_entropy, distillation_loss, linear};

/// Largest error, relative to the largest value, that a forward pass may have.
const FORWARD_TOLERANCE: f32 = 1e-5;
/// The same of a gradient, whose sums are longer and cancel.
const GRADIENT_TOLERANCE: f32 = 1e-4;

/// What one kernel did on one case.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// The public function.
    pub kernel: &'static str,
    /// Shape and options.
    pub case: String,
    /// Largest difference from the CPU path, relative to its largest value. NaN if either is.
    pub forward_error: f32,
    /// The same of the gradient of a weighted sum of the output.
    pub gradient_error: f32,
    /// Whether both errors are within tolerance.
    pub passed: bool,
    /// Why not, where it failed.
    pub detail: String,
}

/// Numbers `amplitude · sin(a i + b)`.
fn wave<const D: usize>(shape: [usize; D], a: f32, b: f32, amplitude: f32) -> TensorData {
    let count = shape.iter().product::<usize>();
    let values: Vec<f32> = (0..count).map(|i| amplitude * libm::sinf(a * i as f32 + b)).collect();
    TensorData::new(values, shape)
}

/// Rows of positive numbers that sum to 1, as mixed targets are.
fn distributions([rows, classes]: [usize; 2]) -> TensorData {
    let mut values: Vec<f32> = (0..rows * classes).map(|i| 1.1 + libm::sinf(1.7 * i as f32)).collect();
    for row in values.chunks_mut(classes.max(1)) {
        let sum: f32 = row.iter().sum();
        row.iter_mut().for_each(|x| *x /= sum);
    }
    TensorData::new(values, [rows, classes])
}

/// Output and gradient of `run` at `input` on `device`, the gradient being that of `Σ output · wave`.
async fn evaluate<const I: usize, const O: usize>(
    device: &Device,
    input: &TensorData,
    run: &impl Fn(Tensor<I>, &Device) -> Tensor<O>,
) -> Result<[Vec<f32>; 2], String> {
    let device = &device.clone().autodiff();
    let input = Tensor::<I>::from_data(input.clone(), device).require_grad();
    let output = run(input.clone(), device);
    let weights = Tensor::<O>::from_data(wave(output.dims(), 0.9, 0.2, 1.0), device);
    let gradients = (output.clone() * weights).sum().backward();
    let gradient = input.grad(&gradients).ok_or("no gradient reached the input")?;
    let mut values = [Vec::new(), Vec::new()];
    for (data, values) in
        [output.into_data_async().await, gradient.into_data_async().await].into_iter().zip(&mut values)
    {
        let data = data.map_err(|error| format!("the device failed: {error:?}"))?;
        *values =
            data.convert::<f32>().try_into_vec::<f32>().map_err(|error| format!("unreadable output: {error:?}"))?;
    }
    Ok(values)
}

/// Largest difference relative to the largest expected value; NaN where a number is NaN.
fn error(found: &[f32], expected: &[f32]) -> f32 {
    if found.len() != expected.len() {
        return f32::NAN;
    }
    let largest = expected.iter().fold(f32::MIN_POSITIVE, |largest, x| largest.max(x.abs()));
    let mut worst = 0.0_f32;
    for (x, y) in found.iter().zip(expected) {
        let difference = (x - y).abs() / largest;
        if difference.is_nan() {
            return f32::NAN;
        }
        worst = worst.max(difference);
    }
    worst
}

async fn check<const I: usize, const O: usize>(
    device: &Device,
    kernel: &'static str,
    case: String,
    input: TensorData,
    run: impl Fn(Tensor<I>, &Device) -> Tensor<O>,
) -> Check {
    let found = evaluate(device, &input, &run).await;
    let expected = evaluate(&Device::flex(), &input, &run).await;
    let (forward_error, gradient_error, detail) = match (found, expected) {
        (Ok(found), Ok(expected)) => (error(&found[0], &expected[0]), error(&found[1], &expected[1]), String::new()),
        (Err(reason), _) => (f32::NAN, f32::NAN, reason),
        (_, Err(reason)) => (f32::NAN, f32::NAN, format!("on the CPU: {reason}")),
    };
    let passed = forward_error <= FORWARD_TOLERANCE && gradient_error <= GRADIENT_TOLERANCE;
    let detail = match passed || !detail.is_empty() {
        true => detail,
        false => format!(
            "differs from the CPU path by {forward_error:e} (limit {FORWARD_TOLERANCE:e}), its gradient by \
             {gradient_error:e} (limit {GRADIENT_TOLERANCE:e})"
        ),
    };
    Check { kernel, case, forward_error, gradient_error, passed, detail }
}

/// Runs each kernel on `device` against its CPU path, forward and backward, over few shapes that reach every tiling: a page
/// waits for their shaders to be compiled. Takes well under a second on a GPU beside that.
pub async fn selftest(device: &Device) -> Vec<Check> {
    let mut checks = Vec::new();
    // Batch, tokens, heads, head size: an odd size, the small models' 17 tokens, 65, the 197 of 224-pixel images.
    for [batch, tokens, heads, head_size] in [[2, 5, 3, 7], [3, 17, 4, 16], [2, 65, 2, 32], [1, 197, 1, 64]] {
        let scale = 1.0 / libm::sqrtf(head_size as f32);
        let input = wave([batch, tokens, 3, heads, head_size], 0.37, 0.1, 1.5);
        let case = format!("B {batch}, N {tokens}, H {heads}, D {head_size}");
        checks.push(check(device, "attention", case, input, |qkv, _| attention(qkv, scale)).await);
    }
    // Rows, inputs, outputs: of both tilings, neither a multiple of one. Once for the gradient of the input, once of the weight.
    for [rows, inputs, outputs] in [[37, 50, 70], [65, 40, 10]] {
        let (x, weight) = (wave([rows, inputs], 0.37, 0.1, 1.5), wave([inputs, outputs], 0.53, 0.4, 1.5));
        let bias = wave([outputs], 0.9, 0.3, 1.0);
        let case = |what: &str| format!("{rows} rows, {inputs} to {outputs}, by {what}");
        let by_x = |x: Tensor<2>, device: &Device| {
            linear(x, Tensor::from_data(weight.clone(), device), Tensor::from_data(bias.clone(), device))
        };
        checks.push(check(device, "linear", case("input"), x.clone(), by_x).await);
        let by_weight = |weight: Tensor<2>, device: &Device| {
            linear(Tensor::<2>::from_data(x.clone(), device), weight, Tensor::from_data(bias.clone(), device))
        };
        checks.push(check(device, "linear", case("weight"), weight.clone(), by_weight).await);
    }
    for [tokens, heads, teacher_heads] in [[5, 2, 3], [15, 3, 2], [63, 2, 1]] {
        let input = wave([2, tokens, 3, heads, 16], 0.37, 0.1, 1.5);
        let teacher = wave([2, tokens, 3, teacher_heads, 8], 0.53, 0.4, 1.5);
        let case = format!("B 2, N {tokens}, H {heads}, teacher's H {teacher_heads}");
        let run = |qkv: Tensor<5>, device: &Device| {
            attention_map_loss(qkv, attention_map(Tensor::<5>::from_data(teacher.clone(), device)))
        };
        checks.push(check(device, "attention_map_loss", case, input, run).await);
    }
    for [rows, classes] in [[5, 10], [17, 100], [3, 1000]] {
        let input = wave([rows, classes], 0.7, 0.3, 2.0);
        let teacher = wave([rows, classes], 1.1, -0.4, 3.0);
        let targets = distributions([rows, classes]);
        let case = format!("B {rows}, C {classes}, temperature 2, smoothing 0.1");
        let run = |student: Tensor<2>, device: &Device| {
            let teacher = Tensor::from_data(teacher.clone(), device);
            distillation_loss(student, teacher, Tensor::from_data(targets.clone(), device), 2.0, 0.1)
        };
        checks.push(check(device, "distillation_loss", case, input, run).await);
    }
    for [rows, classes] in [[9, 10], [2, 600]] {
        let input = wave([rows, classes], 0.7, 0.3, 2.0);
        let targets = distributions([rows, classes]);
        let case = format!("B {rows}, C {classes}, no smoothing");
        let run = |student: Tensor<2>, device: &Device| {
            cross_entropy(student, Tensor::from_data(targets.clone(), device), 0.0)
        };
        checks.push(check(device, "cross_entropy", case, input, run).await);
    }
    checks
}

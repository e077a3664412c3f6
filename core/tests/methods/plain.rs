//! Inputs, plain `f64` models and comparisons.

use burn::tensor::{Device, Tensor, TensorData};
use potstill_core::method::{Aids, Given, Lesson, Loss, Preset};
use potstill_core::model::{NetworkShape, Pool, Trace, VitConfig};

use crate::digits::values;

/// `v_i = amp sin(a i + b)`.
pub fn wave(count: usize, a: f64, b: f64, amp: f64) -> Vec<f64> {
    (0..count).map(|i| amp * (a * i as f64 + b).sin()).collect()
}

pub fn softmax(row: &[f64]) -> Vec<f64> {
    let peak = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = row.iter().map(|z| (z - peak).exp()).collect();
    let total: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(|e| e / total).collect()
}

pub fn log_softmax(row: &[f64]) -> Vec<f64> {
    softmax(row).into_iter().map(f64::ln).collect()
}

pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Rows of length `width`, each divided by its norm.
pub fn unit_rows(values: &[f64], width: usize) -> Vec<Vec<f64>> {
    let unit = |row: &[f64]| row.iter().map(|x| x / dot(row, row).sqrt().max(1e-12)).collect();
    values.chunks(width).map(unit).collect()
}

pub fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) = values.into_iter().fold((0.0, 0.0), |(sum, count), x| (sum + x, count + 1.0));
    sum / count
}

/// The head-averaged attention `[B, N, N]` of packed `[B, N, 3, H, D]`.
pub fn plain_head_mean(qkv: &[f64], [b, n, h, d]: [usize; 4]) -> Vec<f64> {
    let at = |batch: usize, token: usize, part: usize, head: usize| {
        let start = (((batch * n + token) * 3 + part) * h + head) * d;
        &qkv[start..start + d]
    };
    let mut map = Vec::new();
    for batch in 0..b {
        for i in 0..n {
            let mut row = vec![0.0; n];
            for head in 0..h {
                let scores: Vec<f64> =
                    (0..n).map(|j| dot(at(batch, i, 0, head), at(batch, j, 1, head)) / (d as f64).sqrt()).collect();
                for (sum, p) in row.iter_mut().zip(softmax(&scores)) {
                    *sum += p / h as f64;
                }
            }
            map.extend(row);
        }
    }
    map
}

/// Central differences of `f` at `x`.
pub fn differences(x: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let step = 1e-5;
    (0..x.len())
        .map(|i| {
            let moved = |by: f64| {
                let mut x = x.to_vec();
                x[i] += by;
                f(&x)
            };
            (moved(step) - moved(-step)) / (2.0 * step)
        })
        .collect()
}

pub fn tensor<const D: usize>(values: &[f64], shape: [usize; D], device: &Device) -> Tensor<D> {
    let values: Vec<f32> = values.iter().map(|x| *x as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

pub fn plain<const D: usize>(values: &[f64], shape: [usize; D]) -> Tensor<D> {
    tensor(values, shape, &Device::flex())
}

pub fn close_within(name: &str, found: Tensor<1>, expected: f64, tolerance: f64) {
    let found = f64::from(values(found)[0]);
    let error = (found / expected - 1.0).abs();
    assert!(error < tolerance, "{name}: {found}, expected {expected}, relative error {error:e}");
}

pub fn close(name: &str, found: Tensor<1>, expected: f64) {
    close_within(name, found, expected, 1e-6);
}

/// Holds the value and gradient of `loss` at `x` against `model` and its differences.
pub fn same_gradient<const D: usize>(
    name: &str,
    x: &[f64],
    shape: [usize; D],
    loss: impl Fn(Tensor<D>) -> Tensor<1>,
    model: impl Fn(&[f64]) -> f64,
) {
    let input = tensor(x, shape, &Device::flex().autodiff()).require_grad();
    let value = loss(input.clone());
    close_within(name, value.clone().inner(), model(x), 1e-5);
    let gradients = value.backward();
    let found = values(input.grad(&gradients).unwrap_or_else(|| panic!("{name}: no gradient")));
    let expected = differences(x, model);
    let size = expected.iter().fold(0.0_f64, |size, g| size.max(g.abs()));
    assert!(size > 0.0, "{name}: the model has a gradient");
    for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
        let error = (f64::from(*a) - b).abs() / size;
        assert!(error < 1e-4, "{name}, entry {i}: {a}, expected {b}");
    }
}

/// Holds a golden number to 1e-6 on the CPU and to 1e-5 on an adapter.
pub fn close_on_each_device(name: &str, expected: f64, value: impl Fn(&Device) -> Tensor<1>) {
    for (device_name, device) in crate::common::devices() {
        let tolerance = if device_name == "flex" { 1e-6 } else { 1e-5 };
        close_within(&format!("{name} on {device_name}"), value(&device), expected, tolerance);
    }
}

/// Logits of student and teacher, and labels.
pub fn golden_logits() -> (Tensor<2>, Tensor<2>, Tensor<2>) {
    golden_logits_on(&Device::flex())
}

/// The same on a device.
pub fn golden_logits_on(device: &Device) -> (Tensor<2>, Tensor<2>, Tensor<2>) {
    let mut targets = vec![0.0; 20];
    for (row, label) in [0, 2, 1, 4].into_iter().enumerate() {
        targets[5 * row + label] = 1.0;
    }
    let logits = |a, b, amp| tensor(&wave(20, a, b, amp), [4, 5], device);
    (logits(0.7, 0.3, 2.0), logits(1.1, -0.4, 3.0), tensor(&targets, [4, 5], device))
}

/// Student's and teacher's tokens `[2, 5, 3]` and `[2, 5, 5]` of layer `l`.
pub fn golden_tokens(l: usize) -> (Vec<f64>, Vec<f64>) {
    let l = l as f64;
    (wave(30, 0.37 + 0.05 * l, 0.1 * l, 1.0), wave(50, 0.61 + 0.07 * l, 0.2 * l, 1.0))
}

/// The loss of a preset, from traces of logits alone.
pub fn loss_of_logits(preset: &Preset, student: &Trace, teacher: &Trace, targets: Tensor<2>) -> Loss {
    let distillation_token = student.distillation_logits.is_some();
    let shape = NetworkShape { classes: targets.dims()[1], class_token: true, distillation_token, ..tiny().shape() };
    let lesson = Lesson::for_shapes(&preset.objective(), &shape, &shape).expect("networks that fit");
    lesson.loss(student, given(teacher, targets))
}

/// What a batch of the first step gives, without anything that is trained beside the student.
pub fn given(teacher: &Trace, targets: Tensor<2>) -> Given<'_> {
    static NO_AIDS: std::sync::OnceLock<Aids> = std::sync::OnceLock::new();
    let aids = NO_AIDS.get_or_init(Aids::default);
    Given { teacher: Some(teacher), targets, known: None, aids, past: None, step: 0, epoch: 1 }
}

/// A tiny network with both tokens.
pub fn tiny() -> VitConfig {
    VitConfig { pool: Pool::Class, class_token: true, distillation_token: true, ..crate::tiny::tiny() }
}

pub fn tall() -> VitConfig {
    VitConfig { depth: 4, width: 24, heads: 4, ..tiny() }
}

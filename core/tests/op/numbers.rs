//! Inputs, oracles and comparisons.

use burn::tensor::{Device, Tensor, TensorData};

pub fn wave(count: usize, a: f32, b: f32, amplitude: f32) -> Vec<f32> {
    (0..count).map(|i| (f64::from(amplitude) * (f64::from(a) * i as f64 + f64::from(b)).sin()) as f32).collect()
}

pub fn distributions(rows: usize, classes: usize) -> Vec<f32> {
    let mut values: Vec<f32> = (0..rows * classes).map(|i| 1.1 + (1.7 * i as f32).sin()).collect();
    for row in values.chunks_mut(classes) {
        let sum: f32 = row.iter().sum();
        row.iter_mut().for_each(|x| *x /= sum);
    }
    values
}

pub fn one_hot(labels: &[usize], classes: usize) -> Vec<f32> {
    labels.iter().flat_map(|&label| (0..classes).map(move |c| f32::from(u8::from(c == label)))).collect()
}

pub fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Largest difference relative to the largest expected value.
pub fn error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1e-30_f32, |largest, x| largest.max(x.abs()));
    found.iter().zip(expected).fold(0.0, |worst: f32, (x, y)| {
        let difference = (x - y).abs() / largest;
        if difference.is_nan() { f32::INFINITY } else { worst.max(difference) }
    })
}

/// Output of `run` and gradient of `Σ output · wave` at `input`.
pub fn evaluate<const I: usize, const O: usize>(
    device: &Device,
    input: &[f32],
    shape: [usize; I],
    run: impl Fn(Tensor<I>) -> Tensor<O>,
) -> [Vec<f32>; 2] {
    let device = &device.clone().autodiff();
    let input = tensor(input, shape, device).require_grad();
    let output = run(input.clone());
    let dims = output.dims();
    let weights = tensor(&wave(dims.iter().product(), 0.9, 0.2, 1.0), dims, device);
    let gradients = (output.clone() * weights).sum().backward();
    [values(output), values(input.grad(&gradients).expect("a gradient"))]
}

/// Central differences of `scalar`.
pub fn differences(at: &[f32], scalar: impl Fn(&[f64]) -> f64) -> Vec<f32> {
    let mut at: Vec<f64> = at.iter().map(|&x| f64::from(x)).collect();
    let step = 1e-5;
    (0..at.len())
        .map(|i| {
            let x = at[i];
            at[i] = x + step;
            let above = scalar(&at);
            at[i] = x - step;
            let below = scalar(&at);
            at[i] = x;
            ((above - below) / (2.0 * step)) as f32
        })
        .collect()
}

pub fn wide(values: Vec<f32>) -> Vec<f64> {
    values.into_iter().map(f64::from).collect()
}

//! Layer normalisation.

use burn::tensor::{Device, Tensor};
use potstill_core::op::layer_norm;

use crate::devices::devices;
use crate::numbers::{differences, error, tensor, values, wave, wide};

fn composed_layer_norm<const D: usize>(x: Tensor<D>, gamma: Tensor<1>, beta: Tensor<1>, eps: f32) -> Tensor<D> {
    let last = D - 1;
    let centred = x.clone() - x.mean_dim(last);
    let variance = (centred.clone() * centred.clone()).mean_dim(last);
    let normal = centred / (variance + eps).sqrt();
    normal * gamma.unsqueeze() + beta.unsqueeze()
}

/// Output and gradients of `x`, `gamma` and `beta`.
pub fn evaluate_norm(
    device: &Device,
    x: &[f32],
    shape: [usize; 3],
    run: impl Fn(Tensor<3>, Tensor<1>, Tensor<1>) -> Tensor<3>,
) -> [Vec<f32>; 4] {
    let device = &device.clone().autodiff();
    let columns = shape[2];
    let x = tensor(x, shape, device).require_grad();
    let gamma = (tensor(&wave(columns, 1.3, 0.7, 0.5), [columns], device) + 1.0).detach().require_grad();
    let beta = tensor(&wave(columns, 0.6, 0.1, 0.5), [columns], device).require_grad();
    let y = run(x.clone(), gamma.clone(), beta.clone());
    let weights = tensor(&wave(shape.iter().product(), 0.9, 0.2, 1.0), shape, device);
    let gradients = (y.clone() * weights).sum().backward();
    let of = |tensor: Tensor<1>| values(tensor.grad(&gradients).expect("a gradient"));
    [values(y), values(x.grad(&gradients).expect("a gradient")), of(gamma), of(beta)]
}

#[test]
fn layer_norm_matches_its_definition() {
    for (name, device) in devices() {
        for shape in [[1, 1, 2], [2, 3, 7], [3, 17, 64], [2, 65, 192], [1, 5, 1000], [70, 16, 33]] {
            let x = wave(shape.iter().product(), 0.37, 0.1, 1.5);
            let found = evaluate_norm(&device, &x, shape, |x, gamma, beta| layer_norm(x, gamma, beta, 1e-5));
            let expected =
                evaluate_norm(&Device::flex(), &x, shape, |x, gamma, beta| composed_layer_norm(x, gamma, beta, 1e-5));
            for (index, what) in ["output", "dx", "dgamma", "dbeta"].into_iter().enumerate() {
                // Rows of two are ±1 whatever x is: their gradient is rounding.
                if shape[2] == 2 && what == "dx" {
                    continue;
                }
                let error = error(&found[index], &expected[index]);
                assert!(error <= 2e-5, "{name} {shape:?}: {what} differs by {error:e}");
            }
        }
    }
}

#[test]
fn layer_norm_gradient_agrees_with_central_differences() {
    let shape = [1, 3, 11];
    let x = wave(33, 0.37, 0.1, 1.5);
    let weights = wide(wave(33, 0.9, 0.2, 1.0));
    let gamma: Vec<f64> = wide(wave(11, 1.3, 0.7, 0.5)).iter().map(|x| x + 1.0).collect();
    let expected = differences(&x, |x| {
        let mut sum = 0.0;
        for (x, weights) in x.chunks(11).zip(weights.chunks(11)) {
            let mean = x.iter().sum::<f64>() / 11.0;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 11.0;
            for c in 0..11 {
                sum += weights[c] * gamma[c] * (x[c] - mean) / (variance + 1e-5).sqrt();
            }
        }
        sum
    });
    for (name, device) in devices() {
        let found = evaluate_norm(&device, &x, shape, |x, gamma, beta| layer_norm(x, gamma, beta, 1e-5));
        let error = error(&found[1], &expected);
        assert!(error <= 1e-5, "{name}: {error:e}");
    }
}

#[test]
fn layer_norm_keeps_a_fault_in_its_row() {
    let shape = [1, 70, 24];
    let clean = wave(70 * 24, 0.37, 0.1, 1.5);
    for fault in [f32::NAN, f32::INFINITY] {
        let mut faulty = clean.clone();
        faulty[65 * 24 + 3] = fault;
        for (name, device) in devices() {
            let run = |x: &[f32]| evaluate_norm(&device, x, shape, |x, gamma, beta| layer_norm(x, gamma, beta, 1e-5));
            let (found, expected) = (run(&faulty), run(&clean));
            for part in 0..2 {
                for (i, (x, y)) in found[part].iter().zip(&expected[part]).enumerate() {
                    assert!(if i / 24 == 65 { x.is_nan() } else { x == y }, "{name}: {i} of {part} is {x}");
                }
            }
        }
    }
}

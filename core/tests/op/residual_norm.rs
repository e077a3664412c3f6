//! The end of a residual branch: layer, sum and normalisation.

use burn::tensor::{Device, Tensor};
use potstill_core::op::residual_norm;

use crate::devices::devices;
use crate::numbers::{differences, error, tensor, values, wave, wide};

const EPS: f32 = 1e-5;

/// The operation's arguments without epsilon, in their order.
type Run<'a> = &'a dyn Fn(Tensor<3>, Tensor<3>, Tensor<2>, [Tensor<1>; 3]) -> [Tensor<3>; 2];

fn composed(
    x: Tensor<3>,
    h: Tensor<3>,
    weight: Tensor<2>,
    [bias, gamma, beta]: [Tensor<1>; 3],
    eps: f32,
) -> [Tensor<3>; 2] {
    let sum = x + h.matmul(weight.unsqueeze()) + bias.unsqueeze();
    let centred = sum.clone() - sum.clone().mean_dim(2);
    let variance = (centred.clone() * centred.clone()).mean_dim(2);
    [sum, centred / (variance + eps).sqrt() * gamma.unsqueeze() + beta.unsqueeze()]
}

const PARTS: [&str; 8] = ["sum", "normalised", "dx", "dh", "dweight", "dbias", "dgamma", "dbeta"];

/// What of the two outputs the loss reads.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Read {
    Both,
    Sum,
    Normalised,
}

/// Both outputs and six gradients, of inputs drawn for `[batch, tokens, inputs, columns]`.
fn evaluate(device: &Device, [batch, tokens, inputs, columns]: [usize; 4], read: Read, run: Run) -> [Vec<f32>; 8] {
    let device = &device.clone().autodiff();
    let (shape, wide) = ([batch, tokens, columns], [batch, tokens, inputs]);
    let of = |shape: [usize; 3], a: f32| tensor(&wave(shape.iter().product(), a, 0.1, 1.0), shape, device);
    let row = |a: f32, shift: f32| (tensor(&wave(columns, a, 0.7, 0.5), [columns], device) + shift).detach();
    let (x, h) = (of(shape, 0.37).require_grad(), of(wide, 0.53).require_grad());
    let weight = tensor(&wave(inputs * columns, 0.71, 0.4, 0.3), [inputs, columns], device).require_grad();
    let [bias, gamma, beta] = [row(0.9, 0.0), row(1.3, 1.0), row(0.6, 0.0)].map(Tensor::require_grad);
    let [sum, y] = run(x.clone(), h.clone(), weight.clone(), [bias.clone(), gamma.clone(), beta.clone()]);
    let loss = match read {
        Read::Both => (sum.clone() * of(shape, 0.9)).sum() + (y.clone() * of(shape, 1.1)).sum(),
        Read::Sum => (sum.clone() * of(shape, 0.9)).sum(),
        Read::Normalised => (y.clone() * of(shape, 1.1)).sum(),
    };
    let gradients = loss.backward();
    let three = |tensor: &Tensor<3>| values(tensor.grad(&gradients).expect("a gradient"));
    // What a loss does not depend on may have no gradient instead of zeros.
    let one = |tensor: &Tensor<1>| tensor.grad(&gradients).map_or_else(|| vec![0.0; columns], values);
    let d_weight = values(weight.grad(&gradients).expect("a gradient"));
    [values(sum), values(y), three(&x), three(&h), d_weight, one(&bias), one(&gamma), one(&beta)]
}

fn kernel(x: Tensor<3>, h: Tensor<3>, weight: Tensor<2>, rows: [Tensor<1>; 3]) -> [Tensor<3>; 2] {
    residual_norm(x, h, weight, rows, EPS)
}

#[test]
fn residual_norm_matches_its_definition() {
    let definition: Run = &|x, h, weight, rows| composed(x, h, weight, rows, EPS);
    for (name, device) in devices() {
        for sizes in [[1, 1, 3, 5], [2, 17, 64, 64], [1, 65, 48, 192], [70, 1, 5, 33], [1, 3, 9, 1200]] {
            for read in [Read::Both, Read::Sum, Read::Normalised] {
                let found = evaluate(&device, sizes, read, &kernel);
                let expected = evaluate(&Device::flex(), sizes, read, definition);
                for (what, (found, expected)) in PARTS.iter().zip(found.iter().zip(&expected)) {
                    let error = error(found, expected);
                    assert!(error <= 2e-5, "{name} {sizes:?} {read:?}: {what} differs by {error:e}");
                }
            }
        }
    }
}

#[test]
fn residual_norm_gradient_agrees_with_central_differences() {
    // Two rows of four, from three.
    let (inputs, columns) = (3, 4);
    let loss = |x: &[f64], h: &[f64]| {
        let [weight, bias] = [wave(inputs * columns, 0.71, 0.4, 0.3), wave(columns, 0.9, 0.7, 0.5)].map(wide);
        let [gamma, beta] = [wave(columns, 1.3, 0.7, 0.5), wave(columns, 0.6, 0.7, 0.5)].map(wide);
        let [of_sum, of_y] = [0.9, 1.1].map(|a| wide(wave(2 * columns, a, 0.1, 1.0)));
        let mut loss = 0.0;
        for row in 0..2 {
            let at = |c: usize| row * columns + c;
            let product = |c: usize| (0..inputs).map(|k| h[row * inputs + k] * weight[k * columns + c]).sum::<f64>();
            let sum: Vec<f64> = (0..columns).map(|c| x[at(c)] + product(c) + bias[c]).collect();
            let mean = sum.iter().sum::<f64>() / columns as f64;
            let variance = sum.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / columns as f64;
            for c in 0..columns {
                let normal = (sum[c] - mean) / (variance + f64::from(EPS)).sqrt();
                loss += of_sum[at(c)] * sum[c] + of_y[at(c)] * (normal * (gamma[c] + 1.0) + beta[c]);
            }
        }
        loss
    };
    let (x, h) = (wave(2 * columns, 0.37, 0.1, 1.0), wave(2 * inputs, 0.53, 0.1, 1.0));
    let dx = differences(&x, |x| loss(x, &wide(h.clone())));
    let dh = differences(&h, |h| loss(&wide(x.clone()), h));
    for (name, device) in devices() {
        let found = evaluate(&device, [1, 2, inputs, columns], Read::Both, &kernel);
        for (what, found, expected) in [("dx", &found[2], &dx), ("dh", &found[3], &dh)] {
            let error = error(found, expected);
            assert!(error <= 1e-5, "{name}: {what} differs by {error:e}");
        }
    }
}

#[test]
fn residual_norm_keeps_a_fault_in_its_row() {
    let run = |device: &Device, fault: Option<f32>| {
        let mut x = wave(70 * 24, 0.37, 0.1, 1.5);
        x[65 * 24 + 3] = fault.unwrap_or(x[65 * 24 + 3]);
        let device = &device.clone().autodiff();
        let row = |a| tensor(&wave(24, a, 0.7, 0.5), [24], device);
        let x = tensor(&x, [1, 70, 24], device).require_grad();
        let h = tensor(&wave(70 * 8, 0.53, 0.1, 1.0), [1, 70, 8], device);
        let weight = tensor(&wave(8 * 24, 0.71, 0.4, 0.3), [8, 24], device);
        let [sum, y] = residual_norm(x.clone(), h, weight, [row(0.9), row(1.3), row(0.6)], EPS);
        let gradients = (sum.clone() + y.clone()).sum().backward();
        [values(sum), values(y), values(x.grad(&gradients).expect("a gradient"))]
    };
    for (name, device) in devices() {
        for fault in [f32::NAN, f32::INFINITY] {
            let (found, expected) = (run(&device, Some(fault)), run(&device, None));
            for (part, (found, expected)) in found.iter().zip(&expected).enumerate() {
                for (i, (x, y)) in found.iter().zip(expected).enumerate() {
                    let faulty = if part == 0 { i == 65 * 24 + 3 } else { i / 24 == 65 };
                    assert!(if faulty { !x.is_finite() } else { x == y }, "{name}: {i} of {part} is {x}");
                }
            }
        }
    }
}

#[test]
fn residual_norm_runs_without_a_graph_and_with_parts_frozen() {
    let sizes = [2, 5, 7, 24];
    for (name, device) in devices() {
        let expected = evaluate(&device, sizes, Read::Both, &kernel);
        // Everything but `x` a constant: its gradient is the same, and no other is made.
        let found = evaluate(&device, sizes, Read::Both, &|x, h, weight, rows| {
            let rows = rows.map(|row| row.detach());
            let [sum, y] = residual_norm(x, h.clone().detach(), weight.clone().detach(), rows, EPS);
            // The harness asks for these two gradients.
            let none = h.sum().mul_scalar(0.0).reshape([1, 1, 1]) + weight.sum().mul_scalar(0.0).reshape([1, 1, 1]);
            [sum, y + none]
        });
        assert_eq!(found[..3], expected[..3], "{name}");
        assert!(found[3..].iter().flatten().all(|x| *x == 0.0), "{name}");
        // Under gradients with nothing tracked, and on a plain device.
        for device in [device.clone().autodiff(), device] {
            let (shape, row) = ([2, 5, 24], |a, b: f32| tensor(&wave(24, a, 0.7, 0.5), [24], &device) + b);
            let x = tensor(&wave(240, 0.37, 0.1, 1.0), shape, &device);
            let h = tensor(&wave(70, 0.53, 0.1, 1.0), [2, 5, 7], &device);
            let weight = tensor(&wave(7 * 24, 0.71, 0.4, 0.3), [7, 24], &device);
            let rows = [row(0.9, 0.0), row(1.3, 1.0), row(0.6, 0.0)];
            let found = residual_norm(x, h, weight, rows, EPS).map(values);
            assert_eq!(found[..], expected[..2], "{name}");
        }
    }
}

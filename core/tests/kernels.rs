//! The kernels on every device at hand: each test is a parity test over the portable CPU backend and a wgpu adapter.
//!
//! Oracles: the same formulas composed of tensor operations under Burn's own gradients on the CPU; published golden
//! numbers; central differences of plain Rust in `f64`.
#![recursion_limit = "256"]

mod common;

use burn::backend::read_sync;
use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Device, Tensor, TensorData};
use common::devices;
use potstill_core::kernel::{
    AdamWNumbers, adamw, attention, cross_entropy, distillation_loss, gelu, layer_norm, linear, portable, selftest,
};

// ---- Numbers

fn wave(count: usize, a: f32, b: f32, amplitude: f32) -> Vec<f32> {
    (0..count).map(|i| (f64::from(amplitude) * (f64::from(a) * i as f64 + f64::from(b)).sin()) as f32).collect()
}

fn distributions(rows: usize, classes: usize) -> Vec<f32> {
    let mut values: Vec<f32> = (0..rows * classes).map(|i| 1.1 + (1.7 * i as f32).sin()).collect();
    for row in values.chunks_mut(classes) {
        let sum: f32 = row.iter().sum();
        row.iter_mut().for_each(|x| *x /= sum);
    }
    values
}

fn one_hot(labels: &[usize], classes: usize) -> Vec<f32> {
    labels.iter().flat_map(|&label| (0..classes).map(move |c| f32::from(u8::from(c == label)))).collect()
}

fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Largest difference relative to the largest expected value.
fn error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(1e-30_f32, |largest, x| largest.max(x.abs()));
    found.iter().zip(expected).fold(0.0, |worst: f32, (x, y)| {
        let difference = (x - y).abs() / largest;
        if difference.is_nan() { f32::INFINITY } else { worst.max(difference) }
    })
}

/// Output of `run` and gradient of `Σ output · wave` at `input`.
fn evaluate<const I: usize, const O: usize>(
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

// ---- Attention

fn composed_attention(qkv: Tensor<5>, scale: f32) -> Tensor<4> {
    let [batch, tokens, _, heads, head_size] = qkv.dims();
    let [q, k, v] = [0, 1, 2].map(|part| {
        qkv.clone()
            .slice([0..batch, 0..tokens, part..part + 1, 0..heads, 0..head_size])
            .reshape([batch, tokens, heads, head_size])
            .swap_dims(1, 2)
    });
    let probabilities = softmax(q.matmul(k.transpose()) * scale, 3);
    probabilities.matmul(v).swap_dims(1, 2)
}

#[test]
fn adapters_run_the_kernels_as_wgsl() {
    for (name, device) in devices() {
        assert_eq!(read_sync(potstill_core::kernel::runs_wgsl(&device)), name == "wgpu", "{name}");
    }
}

#[test]
fn attention_matches_its_definition() {
    let mut shapes = vec![[2, 17, 2, 1], [2, 17, 2, 48], [1, 37, 2, 128], [1, 9, 1, 130], [3, 1, 5, 3]];
    for tokens in [1, 5, 16, 17, 65, 197] {
        for head_size in [16, 32, 64, 7, 80] {
            let [batch, heads] = if tokens > 100 { [1, 2] } else { [2, 3] };
            shapes.push([batch, tokens, heads, head_size]);
        }
    }
    for (name, device) in devices() {
        let mut worst = [0.0_f32; 2];
        for &[batch, tokens, heads, head_size] in &shapes {
            let shape = [batch, tokens, 3, heads, head_size];
            let input = wave(shape.iter().product(), 0.37, 0.1, 1.5);
            let scale = (head_size as f32).powf(-0.5);
            let found = evaluate(&device, &input, shape, |qkv| attention(qkv, scale));
            let expected = evaluate(&Device::flex(), &input, shape, |qkv| composed_attention(qkv, scale));
            let errors = [error(&found[0], &expected[0]), error(&found[1], &expected[1])];
            assert!(errors[0] <= 1e-5, "{name} {shape:?}: forward differs by {:e}", errors[0]);
            assert!(errors[1] <= 1e-4, "{name} {shape:?}: gradient differs by {:e}", errors[1]);
            worst = [worst[0].max(errors[0]), worst[1].max(errors[1])];
        }
        println!("attention on {name}: forward within {:e}, gradient within {:e}", worst[0], worst[1]);
    }
}

/// `Σ output · weights` in `f64`.
fn plain_attention(qkv: &[f64], [batch, tokens, _, heads, size]: [usize; 5], scale: f64, weights: &[f64]) -> f64 {
    let at = |b: usize, n: usize, part: usize, h: usize| (((b * tokens + n) * 3 + part) * heads + h) * size;
    let dot = |i: usize, j: usize| (0..size).map(|d| qkv[i + d] * qkv[j + d]).sum::<f64>();
    let mut sum = 0.0;
    for b in 0..batch {
        for h in 0..heads {
            for i in 0..tokens {
                let scores: Vec<f64> = (0..tokens).map(|j| scale * dot(at(b, i, 0, h), at(b, j, 1, h))).collect();
                let z: f64 = scores.iter().map(|s| s.exp()).sum();
                for (j, score) in scores.iter().enumerate() {
                    for d in 0..size {
                        let weight = weights[((b * tokens + i) * heads + h) * size + d];
                        sum += weight * score.exp() / z * qkv[at(b, j, 2, h) + d];
                    }
                }
            }
        }
    }
    sum
}

/// Central differences of `scalar`.
fn differences(at: &[f32], scalar: impl Fn(&[f64]) -> f64) -> Vec<f32> {
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

fn wide(values: Vec<f32>) -> Vec<f64> {
    values.into_iter().map(f64::from).collect()
}

#[test]
fn attention_gradient_agrees_with_central_differences() {
    let shape = [2, 11, 3, 2, 5];
    let input = wave(shape.iter().product(), 0.37, 0.1, 1.5);
    let weights = wide(wave(2 * 11 * 2 * 5, 0.9, 0.2, 1.0));
    let scale = 0.4;
    let expected = differences(&input, |qkv| plain_attention(qkv, shape, f64::from(scale), &weights));
    for (name, device) in devices() {
        let [_, gradient] = evaluate(&device, &input, shape, |qkv| attention(qkv, scale));
        let error = error(&gradient, &expected);
        println!("attention on {name}: central differences within {error:e}");
        assert!(error <= 1e-5, "{name}: {error:e}");
    }
}

#[test]
fn attention_folds_a_dispatch_longer_than_one_axis() {
    // One token attends to itself, so the output is v.
    let shape = [1, 1, 3, 70_001, 1];
    let input = wave(3 * 70_001, 0.37, 0.1, 1.5);
    for (name, device) in devices() {
        let [output, gradient] = evaluate(&device, &input, shape, |qkv| attention(qkv, 1.0));
        assert_eq!(output, input[2 * 70_001..], "{name}");
        assert_eq!(gradient[2 * 70_001..], wave(70_001, 0.9, 0.2, 1.0), "{name}");
        assert!(gradient[..2 * 70_001].iter().all(|x| *x == 0.0), "{name}");
    }
}

#[test]
fn attention_keeps_a_fault_in_its_head() {
    let shape = [2, 9, 3, 2, 8];
    let clean = wave(shape.iter().product(), 0.37, 0.1, 1.5);
    for fault in [f32::NAN, f32::INFINITY] {
        for part in 0..3 {
            // Image 0, token 4, head 1, channel 2.
            let mut input = clean.clone();
            input[((4 * 3 + part) * 2 + 1) * 8 + 2] = fault;
            for (name, device) in devices() {
                let [expected, expected_gradient] = evaluate(&device, &clean, shape, |qkv| attention(qkv, 0.3));
                let [output, gradient] = evaluate(&device, &input, shape, |qkv| attention(qkv, 0.3));
                for (i, (x, y)) in output.iter().zip(&expected).enumerate() {
                    let (image, token, head, channel) = (i / (9 * 16), i / 16 % 9, i / 8 % 2, i % 8);
                    let faulty = image == 0
                        && head == 1
                        && match part {
                            0 => token == 4,
                            1 => true,
                            _ => channel == 2,
                        };
                    if !faulty {
                        assert_eq!(x, y, "{name}, part {part}, {fault}: output {i} changed");
                    } else if fault.is_nan() {
                        assert!(x.is_nan(), "{name}, part {part}, {fault}: output {i} is {x}");
                    }
                }
                for (i, (x, y)) in gradient.iter().zip(&expected_gradient).enumerate() {
                    if i / (9 * 48) != 0 || i / 8 % 2 != 1 {
                        assert_eq!(x, y, "{name}, part {part}, {fault}: gradient {i} changed");
                    }
                }
            }
        }
    }
}

#[test]
fn attention_stays_finite_at_large_scores() {
    let shape = [1, 33, 3, 1, 16];
    let input = wave(shape.iter().product(), 0.37, 0.1, 1e4);
    for (name, device) in devices() {
        let found = evaluate(&device, &input, shape, |qkv| attention(qkv, 0.25));
        assert!(found.iter().flatten().all(|x| x.is_finite()), "{name}");
    }
}

#[test]
fn attention_agrees_with_the_portable_definition() {
    // Below, at and above one register, one tile of rows and one block of queries.
    let device = Device::flex();
    for [batch, tokens, heads, head_size] in
        [[1, 1, 1, 1], [2, 5, 3, 7], [3, 16, 4, 16], [2, 33, 2, 24], [5, 65, 2, 9], [2, 197, 3, 64], [1, 50, 1, 130]]
    {
        let shape = [batch, tokens, 3, heads, head_size];
        let qkv = tensor(&wave(shape.iter().product(), 0.37, 0.1, 1.5), shape, &device);
        let scale = (head_size as f32).powf(-0.5);
        let (out, lse) = portable::attention(qkv.clone(), scale);
        let d_out = tensor(&wave(out.shape().num_elements(), 0.9, 0.2, 1.0), out.dims(), &device);
        let expected = values(portable::attention_backward(qkv.clone(), out.clone(), lse, d_out.clone(), scale));
        let tracked = Tensor::from_inner(qkv).require_grad();
        let found = attention(tracked.clone(), scale);
        let forward = error(&values(found.clone()), &values(out));
        let gradients = (found * Tensor::from_inner(d_out)).sum().backward();
        let backward = error(&values(tracked.grad(&gradients).expect("a gradient")), &expected);
        assert!(forward <= 2e-6, "{shape:?}: forward differs by {forward:e}");
        // A single token's scores have no gradient but rounding.
        assert!(tokens == 1 || backward <= 1e-5, "{shape:?}: gradient differs by {backward:e}");
    }
}

// ---- Layer norm

fn composed_layer_norm<const D: usize>(x: Tensor<D>, gamma: Tensor<1>, beta: Tensor<1>, eps: f32) -> Tensor<D> {
    let last = D - 1;
    let centred = x.clone() - x.mean_dim(last);
    let variance = (centred.clone() * centred.clone()).mean_dim(last);
    let normal = centred / (variance + eps).sqrt();
    normal * gamma.unsqueeze() + beta.unsqueeze()
}

/// Output and gradients of `x`, `gamma` and `beta`.
fn evaluate_norm(
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
            let plain = &Device::flex();
            let gamma = tensor(&wave(shape[2], 1.3, 0.7, 0.5), [shape[2]], plain) + 1.0;
            let dy = tensor(&wave(x.len(), 0.9, 0.2, 1.0), shape, plain);
            let (dx, d_gamma, d_beta) = portable::layer_norm_backward(tensor(&x, shape, plain), gamma, dy, 1e-5);
            let portable = [expected[0].clone(), values(dx), values(d_gamma), values(d_beta)];
            for (index, what) in ["output", "dx", "dgamma", "dbeta"].into_iter().enumerate() {
                // Rows of two are ±1 whatever x is: their gradient is rounding.
                if shape[2] == 2 && what == "dx" {
                    continue;
                }
                for oracle in [&expected, &portable] {
                    let error = error(&found[index], &oracle[index]);
                    assert!(error <= 2e-5, "{name} {shape:?}: {what} differs by {error:e}");
                }
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

// ---- Linear

#[test]
fn linear_matches_its_definition() {
    // Products that one thread takes, that are cut in pieces, and that the matrix library shares out; odd sizes.
    for [batch, tokens, inputs, outputs] in
        [[1, 1, 1, 1], [3, 5, 7, 9], [64, 16, 64, 64], [8, 65, 96, 192], [2, 3, 64, 10]]
    {
        let x = wave(batch * tokens * inputs, 0.37, 0.1, 1.0);
        let weight = wave(inputs * outputs, 1.3, 0.7, 0.5);
        let bias = wave(outputs, 0.6, 0.1, 0.5);
        let run = |device: &Device, ours: bool| {
            let device = &device.clone().autodiff();
            let x = tensor(&x, [batch, tokens, inputs], device).require_grad();
            let weight = tensor(&weight, [inputs, outputs], device).require_grad();
            let bias = tensor(&bias, [outputs], device).require_grad();
            let y = match ours {
                true => linear(x.clone(), weight.clone(), bias.clone()),
                false => x.clone().matmul(weight.clone().unsqueeze()) + bias.clone().unsqueeze(),
            };
            let dy = tensor(&wave(batch * tokens * outputs, 0.9, 0.2, 1.0), [batch, tokens, outputs], device);
            let gradients = (y.clone() * dy).sum().backward();
            [
                values(y),
                values(x.grad(&gradients).expect("a gradient")),
                values(weight.grad(&gradients).expect("a gradient")),
                values(bias.grad(&gradients).expect("a gradient")),
            ]
        };
        let expected = run(&Device::flex(), false);
        for (name, device) in devices() {
            let found = run(&device, true);
            assert!(name != "flex" || found == run(&device, true), "{name}: other bits");
            for (index, what) in ["output", "dx", "dW", "db"].into_iter().enumerate() {
                let error = error(&found[index], &expected[index]);
                assert!(error <= 2e-5, "{name} {inputs} to {outputs}: {what} differs by {error:e}");
            }
        }
    }
}

#[test]
fn linear_without_a_tracked_input_gives_gradients_of_its_parameters() {
    let device = &Device::flex().autodiff();
    let x = tensor(&wave(12, 0.37, 0.1, 1.0), [3, 4], device);
    let weight = tensor(&wave(8, 1.3, 0.7, 0.5), [4, 2], device).require_grad();
    let bias = tensor(&[0.5, 0.25], [2], device);
    let gradients = linear(x.clone(), weight.clone(), bias.clone()).sum().backward();
    assert!(weight.grad(&gradients).is_some() && x.grad(&gradients).is_none() && bias.grad(&gradients).is_none());
    let bias = bias.require_grad();
    let gradients = linear(x, weight.detach(), bias.clone()).sum().backward();
    assert_eq!(values(bias.grad(&gradients).expect("a gradient")), [3.0, 3.0]);
}

// ---- AdamW

#[test]
fn adamw_matches_its_definition() {
    let numbers =
        AdamWNumbers { beta_1: 0.9, beta_2: 0.99, epsilon: 1e-8, step_size: 0.01, correction_2: 0.3, decay: 0.02 };
    for length in [1, 7, 70_001] {
        let [p, m, g] = [0.3, 0.7, 1.1].map(|a| wave(length, a, 0.1, 1.0));
        let v: Vec<f32> = wave(length, 0.9, 0.4, 1.0).iter().map(|x| x * x).collect();
        let decayed: Vec<f32> = (0..length).map(|i| (i % 2) as f32).collect();
        for (name, device) in devices() {
            let of = |values: &[f32]| tensor(values, [length], &device);
            let parameters = of(&p);
            // A second holder, whose numbers must stay.
            let view = parameters.clone();
            let found = adamw([parameters, of(&m), of(&v)], of(&g), of(&decayed), numbers).map(values);
            assert_eq!(values(view), p, "{name}");
            for i in 0..length {
                let (g, p) = (f64::from(g[i]), f64::from(p[i]));
                let m = 0.9 * f64::from(m[i]) + 0.1 * g;
                let v = 0.99 * f64::from(v[i]) + 0.01 * g * g;
                let step = 0.01 * m / ((v / 0.3).sqrt() + 1e-8);
                let expected = [p - step - p * f64::from(decayed[i]) * 0.02, m, v];
                for (found, expected) in found.iter().zip(expected) {
                    let difference = (f64::from(found[i]) - expected).abs();
                    assert!(difference <= 2e-6, "{name}, {i} of {length}: {} and not {expected}", found[i]);
                }
            }
        }
    }
}

// ---- GELU

/// `x Φ(x)` and its derivative.
fn plain_gelu(x: f64) -> [f64; 2] {
    let cdf = 0.5 * libm::erfc(-x / 2f64.sqrt());
    let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    [x * cdf, cdf + x * density]
}

#[test]
fn gelu_matches_its_definition() {
    let mut input: Vec<f32> = (-40_000..=40_000).map(|i| i as f32 / 2_000.0).collect();
    input.extend([0.0, -0.0, 1e-30, -1e-30, 1e30, 50.0, -50.0]);
    for (name, device) in devices() {
        // Adapters take the portable definition, whose 1 + erf cancels.
        let limit = if name == "flex" { 2e-7 } else { 5e-6 };
        let device = device.autodiff();
        let x = tensor(&input, [input.len()], &device).require_grad();
        let y = gelu(x.clone());
        let gradients = y.clone().sum().backward();
        let found = [values(y), values(x.grad(&gradients).expect("a gradient"))];
        let mut worst = [0.0_f64; 2];
        for (i, x) in input.iter().enumerate() {
            for (part, expected) in plain_gelu(f64::from(*x)).into_iter().enumerate() {
                let difference = (f64::from(found[part][i]) - expected).abs() / expected.abs().max(1.0);
                assert!(difference <= limit, "{name}, {part}: {} at {x}, not {expected}", found[part][i]);
                worst[part] = worst[part].max(difference);
            }
        }
        println!("gelu on {name}: within {:e}, derivative within {:e}", worst[0], worst[1]);
    }
}

#[test]
fn gelu_of_a_fault_is_a_fault() {
    for (name, device) in devices() {
        let found = evaluate(&device, &[f32::NAN, 1.0, f32::INFINITY], [3], gelu);
        assert!(found[0][0].is_nan() && found[1][0].is_nan(), "{name}: {found:?}");
        assert!(found[0][1].is_finite() && found[0][2] == f32::INFINITY, "{name}: {found:?}");
    }
}

// ---- Losses

fn mean(values: &[f32], column: usize, columns: usize) -> f64 {
    let column: Vec<f64> = values.iter().skip(column).step_by(columns).map(|&x| f64::from(x)).collect();
    column.iter().sum::<f64>() / column.len() as f64
}

#[test]
fn losses_match_the_golden_numbers() {
    let shape = [4, 5];
    let student = wave(20, 0.7, 0.3, 2.0);
    let teacher = wave(20, 1.1, -0.4, 3.0);
    let labels = one_hot(&[0, 2, 1, 4], 5);
    let arguments = one_hot(&[2, 3, 3, 4], 5);
    for (name, device) in devices() {
        let limit = if name == "flex" { 1e-6 } else { 1e-5 };
        let mut worst = 0.0_f64;
        let mut golden = |what: &str, found: f64, expected: f64| {
            let error = ((found - expected) / expected).abs();
            assert!(error <= limit, "{name}, {what}: {found} is {error:e} from {expected}");
            worst = worst.max(error);
        };
        let entropy = |targets: &[f32], smoothing| {
            let rows = cross_entropy(tensor(&student, shape, &device), tensor(targets, shape, &device), smoothing);
            mean(&values(rows), 0, 1)
        };
        let rows = |temperature, smoothing| {
            values(distillation_loss(
                tensor(&student, shape, &device),
                tensor(&teacher, shape, &device),
                tensor(&labels, shape, &device),
                temperature,
                smoothing,
            ))
        };
        golden("cross-entropy", entropy(&labels, 0.0), 1.6302105652);
        golden("smoothed cross-entropy", entropy(&labels, 0.1), 1.6813897527);
        golden("teacher's argmax", entropy(&arguments, 0.0), 1.5096406784);
        golden("teacher's argmax, smoothed", entropy(&arguments, 0.1), 1.5728768545);
        let soft = values(softmax(tensor(&teacher, shape, &device) / 4.0, 1));
        golden("teacher alone at temperature 4", entropy(&soft, 0.0), 2.0179495927);
        golden("column 0", mean(&rows(2.0, 0.0), 0, 2), 1.6302105652);
        golden("column 0, smoothed", mean(&rows(2.0, 0.1), 0, 2), 1.6813897527);
        for (temperature, batch_mean, numel) in
            [(1.0, 0.9739080255, 0.1947816051), (2.0, 1.6223015780, 0.3244603156), (3.0, 1.9186163186, 0.3837232637)]
        {
            let scaled = mean(&rows(temperature, 0.1), 1, 2) * f64::from(temperature * temperature);
            golden("divergence, batchmean", scaled, batch_mean);
            golden("divergence, numel", scaled / 5.0, numel);
        }
        println!("golden losses on {name}: within {worst:e}");
    }
}

fn composed_losses(student: Tensor<2>, teacher: Tensor<2>, targets: Tensor<2>, tau: f32, smoothing: f32) -> Tensor<2> {
    let [_, classes] = student.dims();
    let targets = targets * (1.0 - smoothing) + smoothing / classes as f32;
    let entropy = -(targets * log_softmax(student.clone(), 1)).sum_dim(1);
    let log_p = log_softmax(teacher / tau, 1);
    let divergence = (log_p.clone().exp() * (log_p - log_softmax(student / tau, 1))).sum_dim(1);
    Tensor::cat(vec![entropy, divergence], 1)
}

#[test]
fn losses_match_their_definition() {
    for (name, device) in devices() {
        let mut worst = [0.0_f32; 2];
        for (rows, classes) in
            [(1, 1), (3, 2), (7, 5), (17, 10), (33, 64), (5, 65), (9, 100), (5, 513), (3, 1000), (1, 21843)]
        {
            for (tau, smoothing) in [(1.0, 0.0), (2.0, 0.1), (4.5, 1.0)] {
                let shape = [rows, classes];
                let student = wave(rows * classes, 0.7, 0.3, 2.0);
                let teacher = wave(rows * classes, 1.1, -0.4, 3.0);
                let targets = distributions(rows, classes);
                let expected = evaluate(&Device::flex(), &student, shape, |student| {
                    let device = Device::flex();
                    let (teacher, targets) = (tensor(&teacher, shape, &device), tensor(&targets, shape, &device));
                    composed_losses(student, teacher, targets, tau, smoothing)
                });
                let found = evaluate(&device, &student, shape, |student| {
                    let (teacher, targets) = (tensor(&teacher, shape, &device), tensor(&targets, shape, &device));
                    distillation_loss(student, teacher, targets, tau, smoothing)
                });
                let errors = [error(&found[0], &expected[0]), error(&found[1], &expected[1])];
                assert!(errors[0] <= 1e-5, "{name} {shape:?} {tau} {smoothing}: forward differs by {:e}", errors[0]);
                // With one class the gradient is zero but for rounding.
                let limit = if classes == 1 { f32::INFINITY } else { 1e-4 };
                assert!(errors[1] <= limit, "{name} {shape:?} {tau} {smoothing}: gradient differs by {:e}", errors[1]);
                if classes > 1 {
                    worst = [worst[0].max(errors[0]), worst[1].max(errors[1])];
                }
                let alone = evaluate(&device, &student, shape, |student| {
                    cross_entropy(student, tensor(&targets, shape, &device), smoothing)
                });
                let column: Vec<f32> = found[0].iter().step_by(2).copied().collect();
                assert!(error(&alone[0], &column) <= 1e-6, "{name} {shape:?}: cross-entropy alone differs");
            }
        }
        println!("losses on {name}: forward within {:e}, gradient within {:e}", worst[0], worst[1]);
    }
}

/// `Σ rows · weights` in `f64`.
fn plain_losses(z: &[f64], w: &[f64], t: &[f64], classes: usize, tau: f64, smoothing: f64, weights: &[f64]) -> f64 {
    let log_sum = |row: &[f64], tau: f64| row.iter().map(|x| (x / tau).exp()).sum::<f64>().ln();
    let mut sum = 0.0;
    for (b, ((z, w), t)) in z.chunks(classes).zip(w.chunks(classes)).zip(t.chunks(classes)).enumerate() {
        let [z1, zt, wt] = [log_sum(z, 1.0), log_sum(z, tau), log_sum(w, tau)];
        for c in 0..classes {
            let target = (1.0 - smoothing) * t[c] + smoothing / classes as f64;
            let log_p = w[c] / tau - wt;
            sum -= weights[2 * b] * target * (z[c] - z1);
            sum += weights[2 * b + 1] * log_p.exp() * (log_p - (z[c] / tau - zt));
        }
    }
    sum
}

#[test]
fn loss_gradients_agree_with_central_differences() {
    let (rows, classes, tau, smoothing) = (3, 13, 2.5_f32, 0.1_f32);
    let student = wave(rows * classes, 0.7, 0.3, 2.0);
    let teacher = wave(rows * classes, 1.1, -0.4, 3.0);
    let targets = distributions(rows, classes);
    let [w, t, weights] = [teacher.clone(), targets.clone(), wave(2 * rows, 0.9, 0.2, 1.0)].map(wide);
    let expected =
        differences(&student, |z| plain_losses(z, &w, &t, classes, f64::from(tau), f64::from(smoothing), &weights));
    let shape = [rows, classes];
    for (name, device) in devices() {
        let [_, gradient] = evaluate(&device, &student, shape, |student| {
            let (teacher, targets) = (tensor(&teacher, shape, &device), tensor(&targets, shape, &device));
            distillation_loss(student, teacher, targets, tau, smoothing)
        });
        let error = error(&gradient, &expected);
        println!("losses on {name}: central differences within {error:e}");
        assert!(error <= 1e-5, "{name}: {error:e}");
    }
}

#[test]
fn losses_of_huge_logits_are_finite() {
    for (name, device) in devices() {
        for size in [1e4_f32, 1e30] {
            for classes in [5, 600] {
                let shape = [2, classes];
                let student = wave(2 * classes, 0.7, 0.3, size);
                let teacher = wave(2 * classes, 0.7, 0.3, size);
                // The label is the largest logit, where the losses are finite and known: nearly zero.
                let labels: Vec<usize> = student
                    .chunks(classes)
                    .map(|row| (0..classes).fold(0, |best, c| if row[c] > row[best] { c } else { best }))
                    .collect();
                let targets = one_hot(&labels, classes);
                let found = evaluate(&device, &student, shape, |student| {
                    let (teacher, targets) = (tensor(&teacher, shape, &device), tensor(&targets, shape, &device));
                    distillation_loss(student, teacher, targets, 2.0, 0.0)
                });
                assert!(found.iter().flatten().all(|x| x.is_finite()), "{name}, {size:e}: {found:?}");
            }
        }
    }
}

#[test]
fn losses_keep_a_fault_in_its_row() {
    // What is put where, and which columns of row 1 must then be NaN.
    #[derive(Clone, Copy, Debug)]
    enum Place {
        Student,
        Teacher,
        Targets,
    }
    use Place::{Student, Targets, Teacher};
    for (name, device) in devices() {
        for classes in [1, 6, 70, 700] {
            let shape = [3, classes];
            let clean =
                [wave(3 * classes, 0.7, 0.3, 2.0), wave(3 * classes, 1.1, -0.4, 3.0), distributions(3, classes)];
            let run = |inputs: &[Vec<f32>; 3]| {
                evaluate(&device, &inputs[0], shape, |student| {
                    let (teacher, targets) = (tensor(&inputs[1], shape, &device), tensor(&inputs[2], shape, &device));
                    distillation_loss(student, teacher, targets, 2.0, 0.1)
                })
            };
            let expected = run(&clean);
            for (place, fault, everywhere, nan) in [
                (Student, f32::NAN, false, [true, true]),
                (Student, f32::INFINITY, false, [true, true]),
                (Student, f32::NEG_INFINITY, true, [true, true]),
                (Teacher, f32::NAN, false, [false, true]),
                (Teacher, f32::INFINITY, false, [false, true]),
                (Teacher, f32::NEG_INFINITY, true, [false, true]),
                (Targets, f32::NAN, false, [true, false]),
                (Student, f32::NAN, true, [true, true]),
            ] {
                let mut inputs = clean.clone();
                let row = &mut inputs[place as usize][classes..2 * classes];
                let last = row.len() - 1;
                let places = if everywhere { 0..=last } else { last..=last };
                row[places].fill(fault);
                let found = run(&inputs);
                let case = format!("{name}, {classes} classes, {fault} in {place:?}");
                for row in 0..3 {
                    for column in 0..2 {
                        let (x, y) = (found[0][2 * row + column], expected[0][2 * row + column]);
                        if row == 1 && nan[column] {
                            assert!(x.is_nan(), "{case}: column {column} is {x}");
                        } else {
                            assert_eq!(x, y, "{case}: row {row}, column {column} changed");
                        }
                    }
                    let gradients = row * classes..(row + 1) * classes;
                    if row == 1 {
                        assert!(found[1][gradients].iter().all(|x| x.is_nan()), "{case}: gradient");
                    } else {
                        assert_eq!(found[1][gradients.clone()], expected[1][gradients], "{case}: row {row}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_class_of_no_weight_adds_nothing() {
    // Minus infinity masks a class: with no target and no teacher's weight on it, both losses are those without it.
    for (name, device) in devices() {
        let student = [1.0, f32::NEG_INFINITY, 0.5];
        let teacher = [0.3, f32::NEG_INFINITY, -0.2];
        let found = evaluate(&device, &student, [1, 3], |student| {
            let teacher = tensor(&teacher, [1, 3], &device);
            distillation_loss(student, teacher, tensor(&[0.25, 0.0, 0.75], [1, 3], &device), 2.0, 0.0)
        });
        let expected = evaluate(&device, &[1.0, 0.5], [1, 2], |student| {
            let teacher = tensor(&[0.3, -0.2], [1, 2], &device);
            distillation_loss(student, teacher, tensor(&[0.25, 0.75], [1, 2], &device), 2.0, 0.0)
        });
        assert!(error(&found[0], &expected[0]) <= 1e-6, "{name}: {found:?} {expected:?}");
        assert_eq!(found[1][1], 0.0, "{name}");
        assert!(error(&[found[1][0], found[1][2]], &expected[1]) <= 1e-6, "{name}: {found:?} {expected:?}");
    }
}

#[test]
fn losses_fold_a_dispatch_longer_than_one_axis() {
    let rows = 65_536 * 16 + 3;
    let student = wave(rows * 2, 0.7, 0.3, 2.0);
    let targets = one_hot(&vec![1; rows], 2);
    for (name, device) in devices() {
        let losses =
            values(cross_entropy(tensor(&student, [rows, 2], &device), tensor(&targets, [rows, 2], &device), 0.0));
        for (row, (loss, z)) in losses.iter().zip(student.chunks(2)).enumerate() {
            let expected = (f64::from(z[0]) - f64::from(z[1])).exp().ln_1p() as f32;
            assert!(
                (loss - expected).abs() <= 1e-5 * expected.max(0.1),
                "{name}, row {row}: {loss} and not {expected}"
            );
        }
    }
}

// ---- Graphs

#[test]
fn the_same_inputs_give_the_same_bits() {
    let shape = [2, 65, 3, 2, 16];
    let input = wave(shape.iter().product(), 0.37, 0.1, 1.5);
    let logits = wave(9 * 700, 0.7, 0.3, 2.0);
    for (name, device) in devices() {
        let bits = || {
            let losses = evaluate(&device, &logits, [9, 700], |student| {
                let teacher = tensor(&wave(9 * 700, 1.1, -0.4, 3.0), [9, 700], &device);
                distillation_loss(student, teacher, tensor(&distributions(9, 700), [9, 700], &device), 2.0, 0.1)
            });
            let attended = evaluate(&device, &input, shape, |qkv| attention(qkv, 0.25));
            let normal =
                evaluate_norm(&device, &logits, [3, 3, 700], |x, gamma, beta| layer_norm(x, gamma, beta, 1e-6));
            let activated = evaluate(&device, &logits, [9, 700], gelu);
            losses
                .into_iter()
                .chain(attended)
                .chain(normal)
                .chain(activated)
                .flatten()
                .map(f32::to_bits)
                .collect::<Vec<_>>()
        };
        assert_eq!(bits(), bits(), "{name}");
    }
}

#[test]
fn only_the_student_gets_a_gradient() {
    for (name, device) in devices() {
        let plain = &device;
        let device = &device.clone().autodiff();
        let logits = |a: f32, device: &Device| tensor(&wave(12, a, 0.3, 2.0), [3, 4], device);
        let targets = |device: &Device| tensor(&distributions(3, 4), [3, 4], device);
        // Tracked teacher and targets are constants.
        let (student, teacher) = (logits(0.7, device).require_grad(), logits(1.1, device).require_grad());
        let weights = targets(device).require_grad();
        let loss = distillation_loss(student.clone(), teacher.clone(), weights.clone(), 2.0, 0.1);
        let expected = values(loss.clone());
        let gradients = loss.sum().backward();
        assert!(student.grad(&gradients).is_some(), "{name}");
        assert!(teacher.grad(&gradients).is_none() && weights.grad(&gradients).is_none(), "{name}");
        // An untracked student under gradients, plain tensors, and a plain teacher beside a tracked student.
        let untracked = distillation_loss(logits(0.7, device), logits(1.1, device), targets(device), 2.0, 0.1);
        assert_eq!(values(untracked), expected, "{name}");
        let no_graph = distillation_loss(logits(0.7, plain), logits(1.1, plain), targets(plain), 2.0, 0.1);
        assert_eq!(values(no_graph), expected, "{name}");
        let student = logits(0.7, device).require_grad();
        let mixed = distillation_loss(student.clone(), logits(1.1, plain), targets(plain), 2.0, 0.1);
        assert_eq!(values(mixed.clone()), expected, "{name}");
        assert!(student.grad(&mixed.sum().backward()).is_some(), "{name}");
        // The same of attention without a graph.
        let qkv = tensor(&wave(5 * 3 * 8, 0.37, 0.1, 1.5), [1, 5, 3, 2, 4], plain);
        let tracked = Tensor::<5>::from_data(qkv.clone().into_data(), device).require_grad();
        assert_eq!(values(attention(qkv, 0.5)), values(attention(tracked, 0.5)), "{name}");
    }
}

#[test]
fn kernels_sit_among_other_operations() {
    // Element-wise operations before and after, which a lazy stream merges around the kernel; a transposed input, which
    // is not contiguous; an output used twice.
    let input = wave(2 * 6 * 24, 0.37, 0.1, 1.0);
    let graph = |x: Tensor<3>, attend: &dyn Fn(Tensor<5>) -> Tensor<4>| {
        let qkv = (x.swap_dims(1, 2) * 2.0 + 0.5).tanh().reshape([2, 24, 3, 1, 2]);
        let out = attend(qkv);
        ((out.clone() * 3.0).exp() + out).reshape([2, 48]).mean_dim(1)
    };
    let expected = evaluate(&Device::flex(), &input, [2, 6, 24], |x| graph(x, &|qkv| composed_attention(qkv, 0.7)));
    for (name, device) in devices() {
        let found = evaluate(&device, &input, [2, 6, 24], |x| graph(x, &|qkv| attention(qkv, 0.7)));
        assert!(error(&found[0], &expected[0]) <= 1e-5, "{name}: forward {:e}", error(&found[0], &expected[0]));
        assert!(error(&found[1], &expected[1]) <= 1e-4, "{name}: gradient {:e}", error(&found[1], &expected[1]));
    }
}

#[test]
fn selftest_passes_on_every_device() {
    for (name, device) in devices() {
        let checks = read_sync(selftest(&device));
        assert!(checks.len() >= 12);
        for check in checks {
            println!("{name}: {check:?}");
            assert!(check.passed, "{name}: {check:?}");
        }
    }
}

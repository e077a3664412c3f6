//! Attention of packed queries, keys and values.

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use potstill_core::op::attention;

use crate::devices::devices;
use crate::numbers::{differences, error, evaluate, wave, wide};

pub fn composed_attention(qkv: Tensor<5>, scale: f32) -> Tensor<4> {
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
fn attention_matches_its_definition() {
    // Every size of tile, one token to seven tiles, head sizes below, at and above a slice; 130 takes the definition. Few,
    // since a software adapter compiles three shaders for each.
    let shapes = [
        [3, 1, 5, 3],
        [2, 5, 3, 7],
        [2, 16, 3, 32],
        [2, 17, 3, 16],
        [2, 17, 2, 48],
        [2, 65, 3, 64],
        [1, 37, 2, 128],
        [1, 197, 2, 64],
        [1, 197, 2, 7],
        [1, 9, 1, 130],
    ];
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
    // One token attends to itself, so the output is v. Sixteen tiles share a workgroup.
    const HEADS: usize = 16 * 65_536 + 1;
    let shape = [1, 1, 3, HEADS, 1];
    let input = wave(3 * HEADS, 0.37, 0.1, 1.5);
    for (name, device) in devices() {
        let [output, gradient] = evaluate(&device, &input, shape, |qkv| attention(qkv, 1.0));
        assert_eq!(output, input[2 * HEADS..], "{name}");
        assert_eq!(gradient[2 * HEADS..], wave(HEADS, 0.9, 0.2, 1.0), "{name}");
        assert!(gradient[..2 * HEADS].iter().all(|x| *x == 0.0), "{name}");
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
fn attention_of_a_size_worth_measuring_matches_its_definition() {
    // Three sizes of tile in each pass; and a second time, when all are known.
    let (shape, scale) = ([6, 65, 3, 6, 32], 0.2);
    let input = wave(shape.iter().product(), 0.37, 0.1, 1.5);
    let expected = evaluate(&Device::flex(), &input, shape, |qkv| composed_attention(qkv, scale));
    for (name, device) in devices() {
        for _ in 0..2 {
            let found = evaluate(&device, &input, shape, |qkv| attention(qkv, scale));
            let [forward, gradient] = [0, 1].map(|i| error(&found[i], &expected[i]));
            assert!(forward <= 1e-5 && gradient <= 1e-4, "{name}: {forward:e} and {gradient:e}");
        }
    }
}

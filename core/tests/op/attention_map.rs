//! The squared difference of head-averaged attention maps.

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use potstill_core::op::{QueriesAndKeys, attention_map, attention_map_loss, attention_with_lse};

use crate::devices::devices;
use crate::numbers::{differences, error, evaluate, tensor, values, wave};

/// The definition: the probabilities of every head are kept under Burn's gradients.
fn composed(student: Tensor<5>, teacher: Tensor<5>) -> Tensor<1> {
    let map = |qkv: Tensor<5>| {
        let head_size = qkv.dims()[4];
        let part = |index| qkv.clone().narrow(2, index, 1).squeeze_dim::<4>(2).swap_dims(1, 2);
        let scores = part(0).matmul(part(1).swap_dims(2, 3)) / (head_size as f32).sqrt();
        softmax(scores, 3).mean_dim(1)
    };
    let difference = map(student) - map(teacher);
    (difference.clone() * difference).mean()
}

/// Loss and gradient of the student; the teacher's numbers are others.
fn run(
    device: &Device,
    student: &[f32],
    teacher: &[f32],
    [student_shape, teacher_shape]: [[usize; 5]; 2],
    loss: impl Fn(Tensor<5>, Tensor<5>) -> Tensor<1>,
) -> [Vec<f32>; 2] {
    evaluate(device, student, student_shape, |qkv| loss(qkv, tensor(teacher, teacher_shape, device)))
}

fn inputs([student, teacher]: [[usize; 5]; 2]) -> [Vec<f32>; 2] {
    [wave(student.iter().product(), 0.37, 0.1, 1.5), wave(teacher.iter().product(), 0.53, 0.4, 1.5)]
}

#[test]
fn attention_map_loss_matches_its_definition() {
    // Tokens, images, heads and head size of the student, then of the teacher: below, at and above a tile.
    let cases = [
        (1, 2, [1, 1], [1, 1]),
        (5, 3, [3, 16], [12, 8]),
        (17, 2, [3, 7], [16, 40]),
        (32, 1, [2, 33], [3, 64]),
        (33, 2, [4, 8], [3, 8]),
        (65, 2, [3, 64], [12, 16]),
        (197, 1, [3, 64], [16, 16]),
        (197, 1, [3, 16], [3, 16]),
        (198, 1, [3, 16], [12, 64]),
        // The widest head of the shaders, and one that takes the portable definition.
        (37, 1, [2, 128], [3, 8]),
        (9, 1, [1, 130], [1, 130]),
    ];
    for (name, device) in devices() {
        let mut worst = [0.0_f32; 2];
        for (tokens, batch, [heads, size], [teacher_heads, teacher_size]) in cases {
            let shapes = [[batch, tokens, 3, heads, size], [batch, tokens, 3, teacher_heads, teacher_size]];
            let [student, teacher] = inputs(shapes);
            let found = run(&device, &student, &teacher, shapes, map_loss);
            let expected = run(&Device::flex(), &student, &teacher, shapes, composed);
            if tokens == 1 {
                assert!(found.iter().flatten().all(|x| x.abs() <= 1e-12), "{name}: one token has one map");
                continue;
            }
            let errors = [error(&found[0], &expected[0]), error(&found[1], &expected[1])];
            assert!(errors[0] <= 1e-5, "{name} {shapes:?}: loss differs by {:e}", errors[0]);
            assert!(errors[1] <= 1e-4, "{name} {shapes:?}: gradient differs by {:e}", errors[1]);
            worst = [worst[0].max(errors[0]), worst[1].max(errors[1])];
        }
        println!("attention_map on {name}: loss within {:e}, gradient within {:e}", worst[0], worst[1]);
    }
}

/// The loss of two networks.
fn map_loss(student: Tensor<5>, teacher: Tensor<5>) -> Tensor<1> {
    attention_map_loss(student, attention_map(teacher))
}

/// What a block with attention of the usual scale leaves.
fn attended(packed: Tensor<5>) -> (Tensor<5>, Tensor<3>) {
    let scale = 1.0 / (packed.dims()[4] as f32).sqrt();
    let (_, lse) = attention_with_lse(packed.clone(), scale);
    (packed, lse)
}

#[test]
fn attention_map_is_the_mean_of_what_attention_weighs_by() {
    let shape @ [batch, tokens, _, heads, size] = [2, 37, 3, 5, 8];
    let [numbers, _] = inputs([shape; 2]);
    let part = |index| {
        let qkv = tensor(&numbers, shape, &Device::flex());
        qkv.narrow(2, index, 1).reshape([batch, tokens, heads, size]).swap_dims(1, 2)
    };
    let scores = part(0).matmul(part(1).swap_dims(2, 3)) / (size as f32).sqrt();
    let expected = values(softmax(scores, 3).mean_dim(1).reshape([batch, tokens, tokens]));
    for (name, device) in devices() {
        let found = values(attention_map(tensor(&numbers, shape, &device)));
        assert!(error(&found, &expected) <= 1e-5, "{name}");
        // Nothing flows through it.
        let tracked = tensor::<5>(&numbers, shape, &device.clone().autodiff()).require_grad();
        let map = attention_map(tracked.clone());
        assert!(!map.is_require_grad() && values(map.inner()) == found, "{name}");
    }
}

#[test]
fn what_attention_left_is_what_the_loss_would_compute() {
    let shapes = [[2, 37, 3, 3, 16], [2, 37, 3, 5, 8]];
    let [student, teacher] = inputs(shapes);
    let left = |packed: Tensor<5>, more: f32| {
        let (packed, lse) = attended(packed);
        QueriesAndKeys { packed, lse: Some(lse + more) }
    };
    for (name, device) in devices() {
        let loss = |s: Tensor<5>, t: Tensor<5>| attention_map_loss(left(s, 0.0), attention_map(left(t, 0.0)));
        let found = run(&device, &student, &teacher, shapes, loss);
        let expected = run(&device, &student, &teacher, shapes, map_loss);
        assert_eq!(found, expected, "{name}");
        // Others are another loss: these are read.
        let other = |s: Tensor<5>, t: Tensor<5>| attention_map_loss(left(s, 0.1), attention_map(t));
        let found = run(&device, &student, &teacher, shapes, other);
        assert!(error(&found[0], &expected[0]) > 1e-2, "{name}");
    }
}

#[test]
fn attention_map_gradient_agrees_with_central_differences() {
    let shapes = [[2, 6, 3, 2, 3], [2, 6, 3, 3, 2]];
    let [student, teacher] = inputs(shapes);
    let map = |qkv: &[f64], [_, tokens, _, heads, size]: [usize; 5]| {
        let mut map = vec![0.0; 2 * tokens * tokens];
        let at = |b: usize, i: usize, part: usize, h: usize| (((b * tokens + i) * 3 + part) * heads + h) * size;
        for (row, map) in map.chunks_mut(tokens).enumerate() {
            let (b, i) = (row / tokens, row % tokens);
            for h in 0..heads {
                let score = |j: usize| {
                    let dot: f64 = (0..size).map(|d| qkv[at(b, i, 0, h) + d] * qkv[at(b, j, 1, h) + d]).sum();
                    (dot / (size as f64).sqrt()).exp()
                };
                let sum: f64 = (0..tokens).map(score).sum();
                map.iter_mut().enumerate().for_each(|(j, a)| *a += score(j) / sum / heads as f64);
            }
        }
        map
    };
    let target = map(&teacher.iter().map(|&x| f64::from(x)).collect::<Vec<_>>(), shapes[1]);
    let expected = differences(&student, |qkv| {
        let own = map(qkv, shapes[0]);
        own.iter().zip(&target).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / own.len() as f64
    });
    for (name, device) in devices() {
        // `evaluate` weighs the one number of the output.
        let [_, mut gradient] = run(&device, &student, &teacher, shapes, map_loss);
        let weight = wave(1, 0.9, 0.2, 1.0)[0];
        gradient.iter_mut().for_each(|x| *x /= weight);
        let error = error(&gradient, &expected);
        println!("attention_map on {name}: central differences within {error:e}");
        assert!(error <= 1e-4, "{name}: {error:e}");
        let values_part = gradient.chunks(6).skip(2).step_by(3).flatten();
        assert!(values_part.copied().all(|x| x == 0.0), "{name}: values take no part");
    }
}

#[test]
fn attention_map_of_a_fault_is_a_fault() {
    let shapes = [[2, 9, 3, 2, 8], [2, 9, 3, 3, 8]];
    let clean = inputs(shapes);
    for fault in [f32::NAN, f32::INFINITY] {
        for network in 0..2 {
            let mut faulty = clean.clone();
            // A key of image 0, whose other image must not change.
            let token = 4 * shapes[network][2..].iter().product::<usize>();
            faulty[network][token + shapes[network][3] * 8 + 1] = fault;
            for (name, device) in devices() {
                let found = run(&device, &faulty[0], &faulty[1], shapes, map_loss);
                let expected = run(&device, &clean[0], &clean[1], shapes, map_loss);
                assert!(found[0][0].is_nan(), "{name}: {}", found[0][0]);
                let image = found[1].len() / 2;
                assert_eq!(found[1][image..], expected[1][image..], "{name}");
            }
        }
    }
}

#[test]
fn a_network_of_the_same_maps_has_no_loss() {
    let shapes = [[2, 40, 3, 3, 16]; 2];
    let [student, _] = inputs(shapes);
    for (name, device) in devices() {
        let found = run(&device, &student, &student, shapes, map_loss);
        assert!(found[0][0] <= 1e-12, "{name}: {}", found[0][0]);
        assert!(found[1].iter().all(|x| x.abs() <= 1e-8), "{name}");
    }
}

//! What holds of all kernels: where they run, repeatability, their place among other operations.

use std::collections::BTreeSet;

use burn::backend::read_sync;
use burn::tensor::{Device, Tensor};
use potstill_core::op::{Case, attention, cases, distillation_loss, gelu, layer_norm, selftest};

use crate::attention::composed_attention;
use crate::devices::devices;
use crate::layer_norm::evaluate_norm;
use crate::numbers::{distributions, error, evaluate, tensor, values, wave};

#[test]
fn adapters_run_the_kernels_as_wgsl() {
    for (name, device) in devices() {
        assert_eq!(read_sync(potstill_core::op::runs_wgsl(&device)), name != "flex", "{name}");
    }
}

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
fn every_operation_matches_its_portable_definition() {
    let names = |cases: Vec<Case>| cases.iter().map(|case| case.operation).collect::<BTreeSet<_>>();
    let (all, quick) = (names(cases().collect()), names(cases().filter(|case| case.quick).collect()));
    assert_eq!(all.len(), 12, "{all:?}");
    // These have no shader of their own.
    assert!(all.difference(&quick).eq(&["gram_loss", "residual_norm"]), "{quick:?}");
    for (name, device) in devices() {
        for check in read_sync(selftest(&device, cases())) {
            println!("{name}: {check:?}");
            assert!(check.passed, "{name}: {check:?}");
        }
    }
}

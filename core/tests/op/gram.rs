//! The squared difference of Gram matrices.

use burn::tensor::{Device, Tensor};
use potstill_core::op::gram_loss;

use crate::devices::devices;
use crate::numbers::{differences, error, evaluate, tensor, wave, wide};

fn composed(student: Tensor<3>, teacher: Tensor<3>) -> Tensor<1> {
    let gram = |x: Tensor<3>| x.clone().matmul(x.swap_dims(1, 2));
    let difference = gram(teacher) - gram(student);
    (difference.clone() * difference).mean()
}

#[test]
fn gram_loss_matches_its_definition() {
    for [matrices, rows, width, teacher_width] in [[1, 1, 1, 1], [2, 4, 3, 2], [2, 65, 24, 48], [1, 192, 16, 8]] {
        let (shape, teacher_shape) = ([matrices, rows, width], [matrices, rows, teacher_width]);
        let student = wave(shape.iter().product(), 0.37, 0.1, 0.5);
        let teacher = wave(teacher_shape.iter().product(), 0.53, 0.4, 0.5);
        let run = |device: &Device, loss: &dyn Fn(Tensor<3>, Tensor<3>) -> Tensor<1>| {
            evaluate(device, &student, shape, |x| loss(x, tensor(&teacher, teacher_shape, device)))
        };
        let expected = run(&Device::flex(), &composed);
        // An adapter tries many matrix products for every new shape: one shape will do there.
        for (name, device) in devices().filter(|(name, _)| *name == "flex" || rows == 4) {
            let found = run(&device, &gram_loss);
            let errors = [error(&found[0], &expected[0]), error(&found[1], &expected[1])];
            assert!(errors[0] <= 1e-5 && errors[1] <= 1e-4, "{name} {shape:?}: {errors:?}");
        }
    }
}

#[test]
fn gram_loss_takes_a_view_with_other_strides() {
    // As the loss across images does: batch and tokens exchanged.
    let (student, teacher) = (wave(60, 0.37, 0.1, 0.5), wave(40, 0.53, 0.4, 0.5));
    let run = |device: &Device, loss: &dyn Fn(Tensor<3>, Tensor<3>) -> Tensor<1>| {
        evaluate(device, &student, [3, 5, 4], |x| {
            loss(x.swap_dims(0, 1), tensor(&teacher, [4, 5, 2], device).narrow(0, 1, 3).swap_dims(0, 1))
        })
    };
    let device = &Device::flex();
    let (found, expected) = (run(device, &gram_loss), run(device, &composed));
    assert!(error(&found[0], &expected[0]) <= 1e-5 && error(&found[1], &expected[1]) <= 1e-4);
}

#[test]
fn gram_gradient_agrees_with_central_differences() {
    let (student, teacher) = (wave(2 * 4 * 3, 0.37, 0.1, 0.5), wave(2 * 4 * 2, 0.53, 0.4, 0.5));
    let gram = |x: &[f64], width: usize| {
        let row = |m: usize, i: usize| &x[(m * 4 + i) * width..][..width];
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        (0..32).map(|e| dot(row(e / 16, e / 4 % 4), row(e / 16, e % 4))).collect::<Vec<_>>()
    };
    let target = gram(&wide(teacher.clone()), 2);
    // The factor that `evaluate` gives the one output.
    let weight = f64::from(wave(1, 0.9, 0.2, 1.0)[0]);
    let expected = differences(&student, |x| {
        weight * gram(x, 3).iter().zip(&target).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / 32.0
    });
    for (name, device) in devices() {
        let [_, found] = evaluate(&device, &student, [2, 4, 3], |x| gram_loss(x, tensor(&teacher, [2, 4, 2], &device)));
        let error = error(&found, &expected);
        assert!(error <= 1e-5, "{name}: {error:e}");
    }
}

//! Cross-entropy and distillation losses.

use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Device, Tensor};
use potstill_core::op::{cross_entropy, distillation_loss};

use crate::devices::devices;
use crate::numbers::{differences, distributions, error, evaluate, one_hot, tensor, values, wave, wide};

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

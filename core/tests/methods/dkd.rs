//! DKD: decoupled distillation.

use burn::tensor::Device;
use potstill_core::method::{Dkd, Given, Lesson, Objective, Preset, Sum};
use potstill_core::model::{NetworkShape, Trace};

use crate::digits::values;
use crate::plain::{
    close_on_each_device, given, golden_logits_on, log_softmax, loss_of_logits, same_gradient, tiny, wave,
};

const LABELS: [usize; 4] = [0, 2, 1, 4];

#[test]
fn it_is_the_published_numbers() {
    let preset = Preset::Sum(Sum { dkd: Some(Dkd { warmup_epochs: 0, ..Dkd::default() }), ..Sum::default() });
    for (part, name, expected) in [(1, "target-class", 0.685_944_028_2), (2, "other-classes", 1.673_062_817_6)] {
        close_on_each_device(name, expected, |device| {
            let (student, teacher, targets) = golden_logits_on(device);
            let parts = loss_of_logits(&preset, &Trace::of_logits(student), &Trace::of_logits(teacher), targets).parts;
            assert_eq!(parts[part].name, name);
            assert_eq!(parts[part].weight, [1.0, 8.0][part - 1]);
            parts[part].value.clone()
        });
    }
}

#[test]
fn it_rises_over_its_first_epochs() {
    let objective = Objective::new(vec![Dkd::default().into()]);
    let shape = NetworkShape { classes: 5, ..tiny().shape() };
    let lesson = Lesson::for_shapes(&objective, &shape, &shape).expect("networks that fit");
    let (student, teacher, targets) = golden_logits_on(&Device::flex());
    let (student, teacher) = (Trace::of_logits(student), Trace::of_logits(teacher));
    for (epoch, weights) in [(1, [0.05, 0.4]), (10, [0.5, 4.0]), (20, [1.0, 8.0]), (300, [1.0, 8.0])] {
        let loss = lesson.loss(&student, Given { epoch, ..given(&teacher, targets.clone()) });
        for (part, weight) in loss.parts.iter().zip(weights) {
            assert!((part.weight - weight).abs() < 1e-12, "epoch {epoch}: {}", part.weight);
        }
    }
}

#[test]
fn it_has_the_gradient_of_its_equation() {
    let (student, teacher) = (wave(20, 0.7, 0.3, 2.0), wave(20, 1.1, -0.4, 3.0));
    let terms = vec![Dkd { warmup_epochs: 0, ..Dkd::default() }.into()];
    let preset = Preset::Terms { terms };
    let others = |row: &[f64], label: usize| -> Vec<f64> {
        let kept: Vec<f64> = row.iter().enumerate().filter(|(c, _)| *c != label).map(|(_, z)| *z).collect();
        log_softmax(&kept)
    };
    let kl = |t: &[f64], s: &[f64]| t.iter().zip(s).map(|(t, s)| t.exp() * (t - s)).sum::<f64>();
    same_gradient(
        "DKD",
        &student,
        [4, 5],
        |x| {
            let (_, teacher, targets) = golden_logits_on(&Device::flex());
            loss_of_logits(&preset, &Trace::of_logits(x), &Trace::of_logits(teacher), targets).total
        },
        |x| {
            let soft = |row: &[f64]| row.iter().map(|z| z / 4.0).collect::<Vec<_>>();
            let rows = x.chunks(5).zip(teacher.chunks(5)).zip(LABELS).map(|((s, t), label)| {
                let (s, t) = (soft(s), soft(t));
                let two = |row: &[f64]| {
                    let own = log_softmax(row)[label];
                    [own, (1.0 - own.exp()).ln()]
                };
                kl(&two(&t), &two(&s)) + 8.0 * kl(&others(&t, label), &others(&s, label))
            });
            16.0 * rows.sum::<f64>() / 4.0
        },
    );
}

#[test]
fn a_certain_network_has_finite_losses() {
    let preset = Preset::Terms { terms: vec![Dkd { warmup_epochs: 0, ..Dkd::default() }.into()] };
    let (student, teacher, targets) = golden_logits_on(&Device::flex());
    let loss = |scale: f64| {
        let [student, teacher] = [&student, &teacher].map(|logits| Trace::of_logits(logits.clone().mul_scalar(scale)));
        values(loss_of_logits(&preset, &student, &teacher, targets.clone()).total)[0]
    };
    assert!(loss(100.0).is_finite() && loss(0.0).abs() < 1e-6);
}

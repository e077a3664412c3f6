//! KD-standard: distillation from standardised logits.

use burn::tensor::{Device, Tensor};
use potstill_core::method::kd_standard::standardised;
use potstill_core::method::{KdStandard, Preset, Sum};
use potstill_core::model::Trace;

use crate::digits::values;
use crate::plain::{close_on_each_device, golden_logits_on, log_softmax, loss_of_logits, same_gradient, wave};

#[test]
fn it_is_the_published_number() {
    for (temperature, expected) in [(1.0, 0.491_123_381_5), (2.0, 0.559_305_102_2)] {
        let kd_standard = Some(KdStandard { temperature, ..KdStandard::default() });
        let preset = Preset::Sum(Sum { kd_standard, ..Sum::default() });
        close_on_each_device(&format!("τ {temperature}"), expected, |device| {
            let (student, teacher, targets) = golden_logits_on(device);
            let parts = loss_of_logits(&preset, &Trace::of_logits(student), &Trace::of_logits(teacher), targets).parts;
            parts[1].value.clone()
        });
    }
}

#[test]
fn it_has_the_gradient_of_its_equation() {
    let (student, teacher) = (wave(20, 0.7, 0.3, 2.0), wave(20, 1.1, -0.4, 3.0));
    let plain = |row: &[f64]| {
        let mean = row.iter().sum::<f64>() / row.len() as f64;
        let variance = row.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / (row.len() - 1) as f64;
        let row: Vec<f64> = row.iter().map(|z| (z - mean) / (variance.sqrt() + 1e-7) / 2.0).collect();
        log_softmax(&row)
    };
    let preset = Preset::Terms { terms: vec![KdStandard { weight: 1.0, ..KdStandard::default() }.into()] };
    same_gradient(
        "KD-standard",
        &student,
        [4, 5],
        |x| {
            let (_, teacher, targets) = golden_logits_on(&Device::flex());
            loss_of_logits(&preset, &Trace::of_logits(x), &Trace::of_logits(teacher), targets).total
        },
        |x| {
            let rows = x.chunks(5).zip(teacher.chunks(5));
            let kl = rows.map(|(s, t)| {
                let (s, t) = (plain(s), plain(t));
                t.iter().zip(&s).map(|(t, s)| t.exp() * (t - s)).sum::<f64>()
            });
            4.0 * kl.sum::<f64>() / 4.0
        },
    );
}

#[test]
fn equal_logits_are_zeros_with_a_finite_gradient() {
    let device = Device::flex().autodiff();
    let logits = Tensor::<2>::ones([2, 3], &device).require_grad();
    let found = standardised(logits.clone());
    assert_eq!(values(found.clone()), [0.0; 6]);
    let gradient = logits.grad(&found.sum().backward()).expect("a gradient");
    assert!(values(gradient).iter().all(|g| g.is_finite()));
}

//! DIST: distillation by correlation.

use burn::tensor::{Device, Tensor};
use potstill_core::method::dist::uncorrelated;
use potstill_core::method::{Dist, Preset, Sum};
use potstill_core::model::Trace;

use crate::digits::values;
use crate::plain::{close_on_each_device, dot, golden_logits_on, loss_of_logits, mean, same_gradient, softmax, wave};

#[test]
fn it_is_the_published_numbers() {
    for (temperature, expected) in
        [(1.0, [0.789_593_652_8, 1.061_143_207_6]), (4.0, [12.233_867_244_4, 17.266_240_956_5])]
    {
        let preset = Preset::Sum(Sum { dist: Some(Dist { temperature, ..Dist::default() }), ..Sum::default() });
        for (part, (name, expected)) in ["between-classes", "within-classes"].into_iter().zip(expected).enumerate() {
            close_on_each_device(&format!("{name}, τ {temperature}"), expected, |device| {
                let (student, teacher, targets) = golden_logits_on(device);
                let loss = loss_of_logits(&preset, &Trace::of_logits(student), &Trace::of_logits(teacher), targets);
                assert_eq!(loss.parts[1 + part].name, name);
                loss.parts[1 + part].value.clone()
            });
        }
    }
}

#[test]
fn it_has_the_gradient_of_its_equation() {
    let (student, teacher) = (wave(20, 0.7, 0.3, 2.0), wave(20, 1.1, -0.4, 3.0));
    let preset = Preset::Terms { terms: vec![Dist { temperature: 2.0, ..Dist::default() }.into()] };
    let uncorrelated = |s: Vec<Vec<f64>>, t: Vec<Vec<f64>>| {
        let centred = |row: &[f64]| -> Vec<f64> {
            let middle = mean(row.iter().copied());
            row.iter().map(|x| x - middle).collect()
        };
        1.0 - mean(s.iter().zip(&t).map(|(s, t)| {
            let (s, t) = (centred(s), centred(t));
            dot(&s, &t) / (dot(&s, &s).sqrt() * dot(&t, &t).sqrt() + 1e-8)
        }))
    };
    let rows = |x: &[f64]| -> Vec<Vec<f64>> {
        x.chunks(5).map(|row| softmax(&row.iter().map(|z| z / 2.0).collect::<Vec<_>>())).collect()
    };
    let columns = |rows: &[Vec<f64>]| -> Vec<Vec<f64>> {
        (0..5).map(|class| rows.iter().map(|row| row[class]).collect()).collect()
    };
    same_gradient(
        "DIST",
        &student,
        [4, 5],
        |x| {
            let (_, teacher, targets) = golden_logits_on(&Device::flex());
            loss_of_logits(&preset, &Trace::of_logits(x), &Trace::of_logits(teacher), targets).total
        },
        |x| {
            let (s, t) = (rows(x), rows(&teacher));
            let within = uncorrelated(columns(&s), columns(&t));
            8.0 * (uncorrelated(s, t) + within)
        },
    );
}

#[test]
fn rows_without_spread_have_a_finite_gradient() {
    let device = Device::flex().autodiff();
    let flat = Tensor::<2>::ones([2, 3], &device).require_grad();
    let loss = uncorrelated(flat.clone(), Tensor::<2>::ones([2, 3], &device));
    assert_eq!(values(loss.clone()), [1.0]);
    let gradient = flat.grad(&loss.backward()).expect("a gradient");
    assert!(values(gradient).iter().all(|g| g.is_finite()));
}

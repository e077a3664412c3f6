//! One class, one row, and every number of invocations that a row may have, with and without smoothing.

use super::portable::{self, DistillationNumbers};
use super::{cross_entropy, distillation_loss};
use crate::op::case::{Case, Input, flat};
use burn::backend::Flex;

pub(in crate::op) fn cases() -> Vec<Case> {
    let with_teacher = [
        ([1, 1], 2.0, 0.1, false),
        ([3, 2], 1.0, 0.0, false),
        ([5, 10], 2.0, 0.1, true),
        ([33, 64], 4.5, 1.0, false),
        ([5, 65], 1.0, 0.0, false),
        ([17, 100], 2.0, 0.1, true),
        ([5, 513], 4.5, 0.1, false),
        ([3, 1000], 2.0, 0.1, true),
        ([1, 21_843], 2.0, 0.1, false),
    ];
    let alone = [([9, 10], 0.0, true), ([1, 7], 0.1, false), ([4, 100], 0.1, true), ([2, 600], 0.0, true)];
    let with_teacher =
        with_teacher.map(|(sizes, temperature, smoothing, quick)| case(sizes, temperature, smoothing).quick(quick));
    with_teacher
        .into_iter()
        .chain(alone.map(|(sizes, smoothing, quick)| entropy(sizes, smoothing).quick(quick)))
        .collect()
}

pub(in crate::op) fn case(shape @ [rows, classes]: [usize; 2], temperature: f32, smoothing: f32) -> Case {
    let numbers = DistillationNumbers { temperature, smoothing };
    Case::new(
        "distillation_loss",
        format!("B {rows}, C {classes}, temperature {temperature}, smoothing {smoothing}"),
        [Input::wave(shape, 0.7, 0.3, 2.0).tracked(), Input::wave(shape, 1.1, -0.4, 3.0), Input::distributions(shape)],
        move |given, _| vec![flat(distillation_loss(given.get(0), given.get(1), given.get(2), temperature, smoothing))],
        move |inputs| vec![portable::forward::<Flex>(inputs[0].clone(), inputs[1].clone(), inputs[2].clone(), numbers)],
    )
    .with_gradient(1, move |inputs, _, d_rows| {
        let [student, teacher, targets] = std::array::from_fn(|index| inputs[index].clone());
        vec![portable::backward::<Flex>(student, teacher, targets, d_rows[0].clone(), numbers)]
    })
    .forward_alone(classes == 1)
}

fn entropy(shape @ [rows, classes]: [usize; 2], smoothing: f32) -> Case {
    Case::new(
        "cross_entropy",
        format!("B {rows}, C {classes}, smoothing {smoothing}"),
        [Input::wave(shape, 0.7, 0.3, 2.0).tracked(), Input::distributions(shape)],
        move |given, _| vec![cross_entropy(given.get(0), given.get(1), smoothing)],
        move |inputs| vec![portable::cross_entropy::<Flex>(inputs[0].clone(), inputs[1].clone(), smoothing)],
    )
    .with_gradient(1, move |inputs, _, d_rows| {
        let [student, targets] = [0, 1].map(|index: usize| inputs[index].clone());
        vec![portable::cross_entropy_backward::<Flex>(student, targets, d_rows[0].clone(), smoothing)]
    })
}

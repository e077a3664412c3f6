//! Every size of tile, from one token to seven tiles, and head sizes below, at and above a slice. A head size of 130 uses the
//! portable definition on every device.

use super::{attention_with_lse, portable};
use crate::op::case::{Case, Input, flat};
use burn::backend::Flex;

/// Batch, tokens, heads, head size. The sizes of the small models and of 224-pixel images are among the quick ones.
const QUICK: [[usize; 4]; 4] = [[2, 5, 3, 7], [3, 17, 4, 16], [2, 65, 2, 32], [1, 197, 1, 64]];
const MORE: [[usize; 4]; 9] = [
    [1, 1, 1, 1],
    [3, 1, 5, 3],
    [2, 16, 3, 32],
    [2, 17, 2, 48],
    [5, 65, 2, 9],
    [2, 65, 3, 64],
    [1, 37, 2, 128],
    [1, 197, 2, 7],
    [1, 9, 1, 130],
];

pub(in crate::op) fn cases() -> Vec<Case> {
    QUICK.map(|sizes| case(sizes).quick(true)).into_iter().chain(MORE.map(case)).collect()
}

pub(in crate::op) fn case([batch, tokens, heads, head_size]: [usize; 4]) -> Case {
    let scale = 1.0 / libm::sqrtf(head_size as f32);
    Case::new(
        "attention",
        format!("B {batch}, N {tokens}, H {heads}, D {head_size}"),
        [Input::wave([batch, tokens, 3, heads, head_size], 0.37, 0.1, 1.5).tracked()],
        move |given, _| {
            let (out, lse) = attention_with_lse(given.get(0), scale);
            vec![flat(out), flat(lse)]
        },
        move |inputs| {
            let (out, lse) = portable::forward::<Flex>(inputs[0].clone(), scale);
            vec![out, lse]
        },
    )
    .with_gradient(1, move |inputs, outputs, d_out| {
        let [out, lse] = [0, 1].map(|index: usize| outputs[index].clone());
        vec![portable::backward::<Flex>(inputs[0].clone(), out, lse, d_out[0].clone(), scale)]
    })
}

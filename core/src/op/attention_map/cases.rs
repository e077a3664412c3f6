//! Numbers of tokens below, at and above a tile, the widest head of the shaders, and a head that uses the portable definition on
//! every device. The target is another network's map, and both are compared.

use burn::backend::Dispatch;
use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::Tensor;

use super::portable::{self, scale};
use super::{AttentionMap, QueriesAndKeys, attention_map};
use crate::op::attention::portable::forward as attention;
use crate::op::case::{Case, Input, Plain, flat};

/// Batch, tokens, heads and head size of the student, then of the teacher.
const QUICK: [[usize; 6]; 3] = [[2, 5, 2, 16, 3, 8], [2, 15, 3, 16, 2, 8], [2, 63, 2, 16, 1, 8]];
const MORE: [[usize; 6]; 8] = [
    [2, 1, 1, 1, 1, 1],
    [2, 17, 3, 7, 16, 40],
    [1, 32, 2, 33, 3, 64],
    [2, 33, 4, 8, 3, 8],
    [2, 65, 3, 64, 12, 16],
    [1, 197, 3, 16, 3, 16],
    [1, 37, 2, 128, 3, 8],
    [1, 9, 1, 130, 1, 130],
];

pub(in crate::op) fn cases() -> Vec<Case> {
    QUICK.map(|sizes| case(sizes).quick(true)).into_iter().chain(MORE.map(case)).collect()
}

/// The log-sum-exps that attention returns.
fn lse(qkv: &Plain, head_size: usize) -> Plain {
    attention::<Flex>(qkv.clone(), scale(head_size)).1
}

pub(in crate::op) fn case([batch, tokens, heads, size, teacher_heads, teacher_size]: [usize; 6]) -> Case {
    Case::new(
        "attention_map_loss",
        format!("B {batch}, N {tokens}, H {heads}, D {size}, teacher's H {teacher_heads}, D {teacher_size}"),
        [
            Input::wave([batch, tokens, 3, heads, size], 0.37, 0.1, 1.5).tracked(),
            Input::wave([batch, tokens, 3, teacher_heads, teacher_size], 0.53, 0.4, 1.5),
        ],
        |given, _| {
            let map = attention_map(given.get::<5>(1));
            let (student, lse) = QueriesAndKeys::from(given.get::<5>(0)).with_lse();
            // Half of it, so that there is a difference even with one token.
            let target = map.clone().mul_scalar(0.5).into_dispatch();
            let (rows, difference) =
                Dispatch::map_difference_forward(student.into_dispatch(), lse.into_dispatch(), target);
            let (rows, difference) = (Tensor::<2>::from_dispatch(rows), Tensor::<3>::from_dispatch(difference));
            vec![flat(rows), flat(difference), flat(map)]
        },
        move |inputs| {
            let map = portable::map::<Flex>(inputs[1].clone(), lse(&inputs[1], teacher_size));
            let target = Flex::float_mul_scalar(map.clone(), 0.5.into());
            let (rows, difference) = portable::forward::<Flex>(inputs[0].clone(), lse(&inputs[0], size), target);
            vec![rows, difference, map]
        },
    )
    .with_gradient(1, move |inputs, outputs, d_rows| {
        vec![portable::backward::<Flex>(
            inputs[0].clone(),
            lse(&inputs[0], size),
            outputs[1].clone(),
            d_rows[0].clone(),
        )]
    })
    .forward_alone(tokens == 1)
}

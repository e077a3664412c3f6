//! Single numbers, and only a few sizes, since a device measures Burn's products for each size.

use burn::backend::Dispatch;
use burn::backend::Flex;
use burn::tensor::Tensor;

use super::{Gram, portable};
use crate::op::case::{Case, Input};

pub(in crate::op) fn cases() -> Vec<Case> {
    [[1, 1, 1, 1], [2, 4, 3, 2]].map(case).into()
}

/// Matrices, rows, the student's columns, the teacher's.
pub(in crate::op) fn case([matrices, rows, columns, teacher_columns]: [usize; 4]) -> Case {
    Case::new(
        "gram_loss",
        format!("M {matrices}, R {rows}, D {columns}, teacher's D {teacher_columns}"),
        [
            Input::wave([matrices, rows, columns], 0.37, 0.1, 0.5).tracked(),
            Input::wave([matrices, rows, teacher_columns], 0.53, 0.4, 0.5),
        ],
        |given, _| {
            let (student, teacher) = (given.get::<3>(0).into_dispatch(), given.get::<3>(1).into_dispatch());
            vec![Tensor::from_dispatch(Dispatch::gram_forward(student, teacher))]
        },
        |inputs| vec![portable::forward::<Flex>(inputs[0].clone(), inputs[1].clone())],
    )
    .with_gradient(1, |inputs, _, d| {
        vec![portable::backward::<Flex>(inputs[0].clone(), inputs[1].clone(), d[0].clone())]
    })
}

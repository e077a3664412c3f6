//! One number, and more numbers than a workgroup handles, over the range where the function is curved.

use super::{gelu, portable};
use crate::op::case::{Case, Input};
use burn::backend::Flex;

pub(in crate::op) fn cases() -> Vec<Case> {
    [1, 1025].map(case).into()
}

pub(in crate::op) fn case(count: usize) -> Case {
    Case::new(
        "gelu",
        format!("{count} numbers"),
        [Input::wave([count], 0.37, 0.1, 6.0).tracked()],
        |given, _| vec![gelu(given.get::<1>(0))],
        |inputs| vec![portable::forward::<Flex>(inputs[0].clone())],
    )
    .with_gradient(1, |inputs, _, dy| vec![portable::backward::<Flex>(inputs[0].clone(), dy[0].clone())])
    .quick(count > 1)
}

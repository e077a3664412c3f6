//! One row and one column, and both tilings of the shader with sizes that are not multiples of a tile.

use super::{linear, portable};
use crate::op::case::{Case, Input, flat};
use burn::backend::Flex;

pub(in crate::op) fn cases() -> Vec<Case> {
    // Only a few, since a device measures Burn's products for each.
    let sizes = [[1, 3, 1], [37, 50, 70], [65, 40, 10]];
    sizes.map(|sizes| case(sizes).quick([37, 65].contains(&sizes[0]))).into()
}

/// Rows, inputs, outputs.
pub(in crate::op) fn case([rows, inputs, outputs]: [usize; 3]) -> Case {
    Case::new(
        "linear",
        format!("{rows} rows, {inputs} to {outputs}"),
        [
            Input::wave([rows, inputs], 0.37, 0.1, 1.5).tracked(),
            Input::wave([inputs, outputs], 0.53, 0.4, 1.5).tracked(),
            Input::wave([outputs], 0.9, 0.3, 1.0).tracked(),
        ],
        |given, _| vec![flat(linear(given.get::<2>(0), given.get(1), given.get(2)))],
        |inputs| vec![portable::forward::<Flex>(inputs[0].clone(), inputs[1].clone(), inputs[2].clone())],
    )
    .with_gradient(1, |inputs, _, dy| {
        let dx = portable::backward_x::<Flex>(inputs[1].clone(), dy[0].clone());
        let (d_weight, d_bias) = portable::backward_parameters::<Flex>(inputs[0].clone(), dy[0].clone());
        vec![dx, d_weight, d_bias]
    })
}

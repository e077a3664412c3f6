//! One row, and rows for each of the two numbers of invocations. A page uses only the separate parts. The definition is that of the
//! parts.

use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;

use super::residual_norm;
use crate::op::case::{Case, Input, flat};
use crate::op::{layer_norm, linear};

const EPS: f32 = 1e-5;

pub(in crate::op) fn cases() -> Vec<Case> {
    [[1, 3, 5], [34, 64, 64], [3, 9, 1200]].map(case).into()
}

/// Rows, columns of the branch, columns of the stream.
pub(in crate::op) fn case([rows, inputs, columns]: [usize; 3]) -> Case {
    let gain = (0..columns).map(|i| 1.0 + 0.5 * libm::sinf(1.3 * i as f32 + 0.7)).collect();
    Case::new(
        "residual_norm",
        format!("{rows} rows, {inputs} to {columns}"),
        [
            Input::wave([rows, columns], 0.37, 0.1, 1.0).tracked(),
            Input::wave([rows, inputs], 0.53, 0.1, 1.0).tracked(),
            Input::wave([inputs, columns], 0.71, 0.4, 0.3).tracked(),
            Input::wave([columns], 0.9, 0.7, 0.5).tracked(),
            Input::new([columns], gain).tracked(),
            Input::wave([columns], 0.6, 0.7, 0.5).tracked(),
        ],
        |given, _| {
            let rows = [given.get(3), given.get(4), given.get(5)];
            residual_norm(given.get::<2>(0), given.get(1), given.get(2), rows, EPS).map(flat).into()
        },
        |inputs| {
            let [x, h, weight, bias, gamma, beta] = std::array::from_fn(|index| inputs[index].clone());
            let sum = Flex::float_add(x, linear::portable::forward::<Flex>(h, weight, bias));
            vec![sum.clone(), layer_norm::portable::forward::<Flex>(sum, gamma, beta, EPS)]
        },
    )
    .with_gradient(2, |inputs, outputs, d| {
        let (sum, gamma) = (outputs[0].clone(), inputs[4].clone());
        let (dx, d_gamma, d_beta) = layer_norm::portable::backward::<Flex>(sum, gamma, d[1].clone(), EPS);
        let dx = Flex::float_add(dx, d[0].clone());
        let dh = linear::portable::backward_x::<Flex>(inputs[2].clone(), dx.clone());
        let (d_weight, d_bias) = linear::portable::backward_parameters::<Flex>(inputs[1].clone(), dx.clone());
        vec![dx, dh, d_weight, d_bias, d_gamma, d_beta]
    })
}

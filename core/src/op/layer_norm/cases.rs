//! One row, one column, rows for each of the two numbers of invocations, and more rows than a workgroup has.

use super::{layer_norm, portable};
use crate::op::case::{Case, Input, flat};
use burn::backend::Flex;

const EPS: f32 = 1e-5;

pub(in crate::op) fn cases() -> Vec<Case> {
    let sizes = [[3, 1], [1, 7], [51, 64], [130, 192], [5, 1000], [3, 1200], [1120, 33]];
    sizes.map(|sizes| case(sizes).quick([64, 1200].contains(&sizes[1]))).into()
}

/// Rows and columns.
pub(in crate::op) fn case([rows, columns]: [usize; 2]) -> Case {
    let gain = (0..columns).map(|i| 1.0 + 0.5 * libm::sinf(1.3 * i as f32 + 0.7)).collect();
    Case::new(
        "layer_norm",
        format!("{rows} rows of {columns}"),
        [
            Input::wave([rows, columns], 0.37, 0.1, 1.5).tracked(),
            Input::new([columns], gain).tracked(),
            Input::wave([columns], 0.6, 0.1, 0.5).tracked(),
        ],
        |given, _| vec![flat(layer_norm(given.get::<2>(0), given.get(1), given.get(2), EPS))],
        |inputs| vec![portable::forward::<Flex>(inputs[0].clone(), inputs[1].clone(), inputs[2].clone(), EPS)],
    )
    .with_gradient(1, |inputs, _, dy| {
        let (dx, d_gamma, d_beta) =
            portable::backward::<Flex>(inputs[0].clone(), inputs[1].clone(), dy[0].clone(), EPS);
        vec![dx, d_gamma, d_beta]
    })
}

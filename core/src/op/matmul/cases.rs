//! Single numbers, both tilings of the shader, full and partial tiles and slices, operands in row-major and column-major order.

use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;

use super::{matmul, matmul_by_shader};
use crate::op::case::{Case, Input, flat};

pub(in crate::op) fn cases() -> Vec<Case> {
    // For these sizes a device would measure many of Burn's products, so only the shader runs.
    let products = [[1, 1, 1, 1], [2, 5, 7, 3]].map(|sizes| case(sizes, true).quick(sizes[1] > 1));
    let by_shader = [[3, 33, 16, 40], [1, 64, 48, 64], [2, 130, 65, 100], [1, 200, 192, 10]];
    products.into_iter().chain(by_shader.map(|sizes| case(sizes, false))).collect()
}

/// Matrices, rows, terms, columns.
pub(in crate::op) fn case([matrices, rows, terms, columns]: [usize; 4], gradient: bool) -> Case {
    let case = Case::new(
        "matmul",
        format!("M {matrices}, R {rows}, K {terms}, C {columns}{}", if gradient { "" } else { ", by the shader" }),
        [
            Input::wave([matrices, rows, terms], 0.37, 0.1, 1.0).tracked(),
            Input::wave([matrices, terms, columns], 1.3, 0.7, 0.5).tracked(),
        ],
        move |given, _| {
            let (a, b) = (given.get::<3>(0), given.get::<3>(1));
            vec![flat(if gradient { matmul(a, b) } else { matmul_by_shader(a, b) })]
        },
        |inputs| vec![Flex::float_matmul(inputs[0].clone(), inputs[1].clone())],
    );
    if !gradient {
        return case;
    }
    case.with_gradient(1, |inputs, _, dc| {
        let [da, db] = [Flex::float_transpose(inputs[1].clone()), Flex::float_transpose(inputs[0].clone())];
        vec![Flex::float_matmul(dc[0].clone(), da), Flex::float_matmul(db, dc[0].clone())]
    })
}

//! Gradients without a bound, beyond their bound and within it, and weights that decay through the gradient.

use burn::backend::Flex;
use burn::tensor::Tensor;

use super::adamw;
use super::portable::{self, AdamWNumbers};
use crate::op::case::{Case, Input};

pub(in crate::op) fn cases() -> Vec<Case> {
    let limits =
        [(1, f32::INFINITY, 0.0), (7, 0.5, 0.0), (7, 100.0, 0.3), (4097, f32::INFINITY, 0.0), (4097, 2.0, 0.3)];
    limits.map(|(count, limit, pull)| case(count, limit, pull).quick(count > 7)).into()
}

pub(in crate::op) fn case(count: usize, limit: f32, pull: f32) -> Case {
    let numbers = AdamWNumbers {
        beta_1: 0.9,
        beta_2: 0.99,
        epsilon: 1e-3,
        step_size: 0.01,
        correction_2: 0.3,
        decay: 0.02,
        pull,
        limit,
    };
    let squares = |i: usize| libm::sinf(0.9 * i as f32 + 0.4).powi(2);
    Case::new(
        "adamw",
        format!("{count} numbers, limit {limit}, pull {pull}"),
        [
            Input::wave([count], 0.3, 0.1, 1.0),
            Input::wave([count], 0.7, 0.1, 1.0),
            Input::new([count], (0..count).map(squares).collect()),
            Input::wave([count], 1.1, 0.1, 1.0),
            Input::new([count], (0..count).map(|i| (i % 2) as f32).collect()),
        ],
        move |given, _| {
            let state: [Tensor<1>; 3] = std::array::from_fn(|index| given.get(index));
            adamw(state, given.get(3), given.get(4), numbers).into()
        },
        move |inputs| {
            let [p, m, v, g, decayed] = std::array::from_fn(|index| inputs[index].clone());
            let (p, m, v) = portable::update::<Flex>(p, m, v, g, decayed, numbers);
            vec![p, m, v]
        },
    )
}

//! Fewer and more vectors than one dispatch takes, with gaps between them, and one empty vector.

use super::join;
use super::portable::{self, Places, VECTORS};
use crate::op::case::{Case, Input};
use crate::op::cpu;
use burn::backend::Flex;

pub(in crate::op) fn cases() -> Vec<Case> {
    vec![case(&[5]), case(&[5, 1, 300, 0, 2048, 2049, 7, 900]).quick(true)]
}

/// Two zeros before each vector.
pub(in crate::op) fn case(lengths: &[usize]) -> Case {
    let start = |index: usize| lengths[..index].iter().sum::<usize>() + 2 * (index + 1);
    let starts: Vec<_> = (0..lengths.len()).map(start).collect();
    let length = start(lengths.len());
    let vector = |(index, &length): (usize, &usize)| Input::wave([length], 0.3 + index as f32, 0.1, 1.0);
    let places = starts.clone();
    Case::new(
        "join",
        format!("{} vectors", lengths.len()),
        lengths.iter().enumerate().map(vector).collect::<Vec<_>>(),
        move |given, device| {
            let pieces = starts.iter().enumerate().map(|(index, &start)| (start, given.get(index))).collect();
            vec![join(length, pieces, device)]
        },
        move |inputs| {
            let zeros = cpu::tensor(vec![0.0; length], [length].into());
            let joined = inputs.iter().zip(&places).fold(zeros, |joined, (piece, &start)| {
                let (mut starts, pieces) = ([0; VECTORS], std::array::from_fn(|_| piece.clone()));
                starts[0] = start;
                portable::join::<Flex>(joined, pieces, Places { starts, count: 1 })
            });
            vec![joined]
        },
    )
}
